//! What a session begins with: whether the peer's trees may be replaced by those of here, and whether the disk of
//! either was set back to an earlier state.
//!
//! An owner records a commit when its peer has it, and the peer when it is in its trees. So a peer that stands
//! before what is recorded here was set back; and of a commit that only the peer knows the trees here have
//! everything, unless the machine died before that was durable, or was set back.

use crate::core::Generation;
use crate::mirror::entry::Stored;
use crate::mirror::index::Position;
use crate::mirror::lineage::Lineage;
use crate::mirror::proto::{Change, Op, Past};
use crate::mirror::session::sender::Verdict;

/// The owner's side.
pub(super) struct Here<'a> {
    /// Its generation.
    pub(super) generation: Generation,
    /// The newest commit on record.
    pub(super) position: Option<Position>,
    /// What the trees contain.
    pub(super) lineage: Lineage,
    /// A person has said that the trees here are the ones to keep.
    pub(super) approved: bool,
    /// For what a person is told.
    pub(super) group: &'a str,
    /// The same.
    pub(super) node: &'a str,
}

/// What is known then.
pub(super) struct Judged {
    /// Whether the peer's trees may be replaced.
    pub(super) verdict: Verdict,
    /// What the trees here contain.
    pub(super) lineage: Lineage,
    /// Number of the next commit.
    pub(super) next_commit: u64,
    /// The peer has a commit of this node's that is not on record here.
    pub(super) unrecorded: bool,
    /// What a person is told of a peer that was set back.
    pub(super) set_back: Option<String>,
}

/// Holds what the peer says of its copy against what is here.
pub(super) fn judge(here: Here<'_>, past: Past) -> Judged {
    let Here { generation, position, mut lineage, approved, group, node } = here;
    let known = past.position.filter(|position| lineage.contains(*position));
    let verdict = match past.position {
        Some(_) if known.is_some() => Verdict::Follows,
        None if past.empty => Verdict::Follows,
        Some(_) | None if approved => Verdict::Approved,
        Some(_) => Verdict::Conflict(format!(
            "the other node's trees contain what the trees here do not; both are left as they are. To \
             keep those of here: `clusterd sync {group} --from {node}`; to serve those of there: \
             `clusterd move {group} NODE --accept-loss` with that node"
        )),
        None => Verdict::Conflict(format!(
            "the other node's trees are not empty and were never synchronised; both are left as they \
             are. To replace them by those of here: `clusterd sync {group} --from {node}`; to serve them \
             instead: `clusterd move {group} NODE --accept-loss` with that node"
        )),
    };
    let me = generation.owner;
    let both = position.zip(known);
    let set_back = both.and_then(|(here, there)| {
        let had = if here.generation.owner == me { here.commit } else { here.commit.saturating_sub(1) };
        let is_before = match there.generation == here.generation {
            true => there.commit < had,
            false => there.generation.number < here.generation.number,
        };
        is_before.then(|| format!(
            "the peer's disk was set back: its trees are those of commit {} of generation {}, and had been \
             those of commit {had} of generation {}; it gets what it lacks",
            there.commit, there.generation.number, here.generation.number
        ))
    });
    let unrecorded = known.is_some_and(|there| {
        there.generation.owner == me
            && position.is_none_or(|here| match there.generation == here.generation {
                true => there.commit > here.commit,
                false => there.generation.number > here.generation.number,
            })
    });
    if let Some(there) = known {
        // It was applied there, and the link ended before that was heard.
        lineage.stand_at(there);
    }
    let newest = [position, past.position].into_iter().flatten().map(|it| it.commit).max();
    let newest = newest.unwrap_or(0);
    // Commits count on from generation to generation: the peer may apply the first one of this generation, and this process
    // end before it knows.
    lineage.stand_at(Position { generation, commit: newest });
    Judged { verdict, lineage, next_commit: newest.saturating_add(1), unrecorded, set_back }
}

/// Whether a change takes the peer back to what the last commit on record left here.
pub(super) fn is_as_recorded(op: &Op, stored: &Option<Stored>) -> bool {
    let recorded = stored.as_ref().and_then(|stored| stored.entry.as_ref());
    match &op.change {
        Change::Put(entry) => recorded == Some(entry),
        Change::Delete => recorded.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeIndex;

    fn at(number: u32, owner: NodeIndex, commit: u64) -> Position {
        Position { generation: Generation { number, owner, id: number }, commit }
    }

    /// The lower node owns generation 3; generations 1 and 3 are its own, 2 was the peer's.
    fn judged(here: Position, there: Position) -> (Verdict, bool, bool) {
        let generation = at(3, NodeIndex::Lower, 0).generation;
        let mut lineage = Lineage::default();
        let begun = Position { generation, commit: 0 };
        for position in [at(1, NodeIndex::Lower, 9), at(2, NodeIndex::Upper, 40), begun, here] {
            lineage.stand_at(position);
        }
        let (group, node, approved) = ("web", "serv1", false);
        let here = Here { generation, position: Some(here), lineage, approved, group, node };
        let judged = judge(here, Past { position: Some(there), empty: false });
        (judged.verdict, judged.set_back.is_some(), judged.unrecorded)
    }

    #[test]
    fn p3_a_peer_that_stands_before_what_it_had_was_set_back() {
        let (mine, theirs) =
            (|commit| at(3, NodeIndex::Lower, commit), |commit| at(2, NodeIndex::Upper, commit));
        for (here, there, set_back, unrecorded) in [
            (mine(50), mine(50), false, false),
            // The link ended before its word of the newest was heard.
            (mine(50), mine(51), false, true),
            (mine(50), mine(49), true, false),
            (mine(50), theirs(40), true, false),
            // It served, and records a commit after this node has it.
            (theirs(40), theirs(40), false, false),
            (theirs(40), theirs(39), false, false),
            (theirs(40), theirs(38), true, false),
            (theirs(40), at(1, NodeIndex::Lower, 9), true, false),
            // The first commit of this generation.
            (theirs(40), mine(1), false, true),
        ] {
            let seen = judged(here, there);
            assert_eq!(seen, (Verdict::Follows, set_back, unrecorded), "{here:?} {there:?}");
        }
        assert!(matches!(judged(mine(50), mine(52)).0, Verdict::Conflict(_)));
    }
}
