//! What a session begins with: whether the peer's trees may be replaced by those of here, and whether the disk of
//! either was set back to an earlier state.
//!
//! An owner notes a commit as under way before its peer can have it, and records it when the peer has it in its trees.
//! So a peer that stands before what is recorded here was set back; one that stands at the commit that is under way has
//! nothing that the trees here did not have, though they may have lost some of it when the machine died; and one that
//! stands at a later commit has more than this node, which was set back.

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
    pub(super) lineage: &'a Lineage,
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
    /// The peer has a commit of this node's that is not on record here.
    pub(super) unrecorded: bool,
    /// What a person is told of a peer that was set back.
    pub(super) set_back: Option<String>,
}

/// Holds what the peer says of its copy against what is here. `commit`: the newest that the peer knows of.
pub(super) fn judge(here: Here<'_>, past: Past, commit: u64) -> Judged {
    let Here { generation, position, lineage, approved, group, node } = here;
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
        let is_before = match there.generation == here.generation {
            true if here.generation.owner == me => there.commit < here.commit,
            // Its own: it records a commit after this node has it, and had begun it before.
            true => commit < here.commit,
            false => there.generation.number < here.generation.number,
        };
        is_before.then(|| {
            format!(
                "the peer's disk was set back: its trees are those of commit {} of generation {}, and had been those of \
                 commit {} of generation {}; it gets what it lacks",
                there.commit, there.generation.number, here.commit, here.generation.number
            )
        })
    });
    let unrecorded = known.is_some_and(|there| {
        there.generation.owner == me
            && position.is_none_or(|here| match there.generation == here.generation {
                true => there.commit > here.commit,
                false => there.generation.number > here.generation.number,
            })
    });
    Judged { verdict, unrecorded, set_back }
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

    /// The lower node owns generation 3; generations 1 and 3 are its own, 2 was the peer's. A commit after the one on
    /// record was under way; `begun`: the newest that the peer knows of.
    fn judged(here: Position, there: Position, begun: u64) -> (Verdict, bool, bool) {
        let generation = at(3, NodeIndex::Lower, 0).generation;
        let mut lineage = Lineage::default();
        let under_way = Position { generation, commit: 51 };
        for position in [at(1, NodeIndex::Lower, 9), at(2, NodeIndex::Upper, 40), under_way, here] {
            lineage.stand_at(position);
        }
        let (group, node, approved) = ("web", "serv1", false);
        let lineage = &lineage;
        let here = Here { generation, position: Some(here), lineage, approved, group, node };
        let judged = judge(here, Past { position: Some(there), empty: false }, begun);
        (judged.verdict, judged.set_back.is_some(), judged.unrecorded)
    }

    #[test]
    fn p3_a_peer_that_stands_before_what_it_had_was_set_back() {
        let (mine, theirs) =
            (|commit| at(3, NodeIndex::Lower, commit), |commit| at(2, NodeIndex::Upper, commit));
        for (here, there, begun, set_back, unrecorded) in [
            (mine(50), mine(50), 50, false, false),
            // The link ended before its word of the newest was heard.
            (mine(50), mine(51), 51, false, true),
            (mine(50), mine(49), 49, true, false),
            (mine(50), theirs(40), 40, true, false),
            // It served, and records a commit after this node has it.
            (theirs(40), theirs(40), 40, false, false),
            (theirs(40), theirs(37), 40, false, false),
            (theirs(40), theirs(37), 41, false, false),
            (theirs(40), theirs(39), 39, true, false),
            (theirs(40), at(1, NodeIndex::Lower, 9), 9, true, false),
            // The first commit of this generation.
            (theirs(40), mine(51), 51, false, true),
        ] {
            let seen = judged(here, there, begun);
            assert_eq!(seen, (Verdict::Follows, set_back, unrecorded), "{here:?} {there:?}");
        }
        assert!(matches!(judged(mine(50), mine(52), 52).0, Verdict::Conflict(_)));
    }
}
