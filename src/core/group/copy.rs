//! What this node's copy of a group's trees is worth, and whose is newer (P3).
//!
//! A copy belongs to a generation, identified by its id. A node may serve its copy on its own if the copy is of the
//! newest generation that was served, as far as this node knows, and if nothing that the owner had not sent is older
//! than `max_behind`. Two more copies count as being of the newest generation: the trees that this node served in the
//! generation before, if it handed them over for just that one; and the trees that were ready for a generation which
//! this node then began, and which the index does not contain yet. These do not count on a disk that was set back: its
//! trees may be of any time before that generation.
//!
//! Two copies that both were served, and of which neither contains the other, are *forked*: neither replaces the other
//! without an administrator.

use super::order::{MirrorReport, Unsent};
use super::right::{Copy, Refusal};
use super::role::{Active, GroupState, Role};
use super::worker::Word;
use crate::beat::{Approx, GroupBeat};
use crate::beat::{CommitBeat, CopyBeat, CopyDetail, Holds, Stance, UNSENT_UNKNOWN_S};
use crate::config::NodeIndex;
use crate::control::event::Kind;
use crate::core::Core;
use crate::core::evidence::peer::{Death, Life};
use crate::core::io::disk::Generation;
use crate::core::io::time::Time;
use crate::limits;

impl Core {
    /// What this node's copy is worth for a claim.
    pub(in crate::core) fn worth(&self, group: &GroupState) -> Copy {
        if !group.duties.has_mirror() {
            return Copy::NotNeeded;
        }
        let Some(report) = group.duties.mirror_report() else { return Copy::Settling };
        let worth = match self.holds(group) {
            _ if self.disk.is_forked(&group.name) => Copy::Forked,
            Holds::Nothing if !self.may_begin(group) => Copy::Never,
            Holds::Older => Copy::Behind,
            Holds::Nothing | Holds::Newest if !report.complete => Copy::Incomplete,
            Holds::Nothing | Holds::Newest => match self.too_far_behind_s(group) {
                Some(age_s) => Copy::Stale { age_s },
                None => Copy::Whole,
            },
        };
        // The index must list the next generation before it begins: else a crash in its first moments would leave trees
        // that were served in it, and nobody would know.
        let ready = report.ready_for == self.disk.usable_intent(&group.name);
        let has_history = self.disk.served_trees(&group.name).is_some();
        let awaits_peers = has_history && self.peers_worker_word(group) == Word::Due;
        let settled = group.duties.is_still() && ready && !awaits_peers;
        if worth == Copy::Whole && !settled { Copy::Settling } else { worth }
    }

    /// What this node's copy is, compared with the newest generation of these trees.
    pub(in crate::core) fn holds(&self, group: &GroupState) -> Holds {
        if self.peer_has_later_commits(group) {
            return Holds::Older;
        }
        let served = self.disk.served_trees(&group.name);
        let began = self.disk.began_trees(&group.name);
        let Some(report) = known_report(group) else {
            // The last owner has what it served, even while its worker or its file system does not answer; the peer's
            // copy may be older.
            return if began.is_some() { Holds::Newest } else { Holds::Nothing };
        };
        let Some(served) = served else {
            // There was no generation with trees.
            return report.copy_of.map_or(Holds::Nothing, |_| Holds::Newest);
        };
        if began.is_some() && report.ready_for == began {
            return Holds::Newest;
        }
        match report.copy_of {
            None => Holds::Nothing,
            Some(of) if of == served || of.number > served.number => Holds::Newest,
            Some(of) if group.handed == Some((of, served)) => Holds::Newest,
            Some(_) => Holds::Older,
        }
    }

    /// Whether these trees, which have no history, may be the first to be served. First choice are the trees of the
    /// node that served before there were trees, then the preferred node's, unless only the other node's contain
    /// anything.
    fn may_begin(&self, group: &GroupState) -> bool {
        if self.disk.served_trees(&group.name).is_some() {
            return false;
        }
        if let Some(served) = self.disk.served(&group.name) {
            return served.owner == self.me || self.home(group) == self.me;
        }
        let empty = group.duties.mirror_report().is_some_and(|report| report.empty);
        let peer = self.evidence.peer.group(group.index).filter(|_| self.evidence.peer.is_alive());
        let only_there = peer.is_some_and(|part| empty && !part.copy.empty);
        let only_here = peer.is_some_and(|part| !empty && part.copy.empty);
        (self.home(group) == self.me && !only_there) || only_here
    }

    /// Whether this node owned the newest generation, and the peer has commits of it that are unknown here: this node's
    /// disk was set back to an earlier state. While a worker sends, its word of the newest may come later than its peer's.
    fn peer_has_later_commits(&self, group: &GroupState) -> bool {
        if !group.duties.is_still() || known_report(group).is_none() {
            return false;
        }
        let served = self.disk.served_trees(&group.name);
        served.filter(|served| served.owner == self.me).is_some_and(|served| {
            self.peers_commit(group, served)
                .is_some_and(|theirs| theirs.is_after(self.commit(group)))
        })
    }

    /// The peer's newest commit of this generation, if its copy is of it.
    fn peers_commit(&self, group: &GroupState, of: Generation) -> Option<CommitBeat> {
        let part = self.evidence.peer.group(group.index)?;
        let is_of_it = part.copy.holds == Holds::Newest && names(&part, of);
        part.copy.detail.filter(|_| is_of_it).map(|detail| detail.commit)
    }

    /// The age in s of the changes of the peer's generation that this copy lacks, if it is too high.
    fn too_far_behind_s(&self, group: &GroupState) -> Option<u16> {
        let served = self.disk.served_trees(&group.name)?;
        // Before the peer has spoken the disk decides; see `right`.
        if served.owner == self.me || self.evidence.peer.life == Life::NeverHeard {
            return None;
        }
        let part = self.evidence.peer.group(group.index)?;
        let max_s = self.config.groups.get(usize::from(group.index.0)).map(|it| it.max_behind)?;
        // A silent peer that was only cut off may have served on.
        let silent_s = match self.evidence.peer.life {
            Life::Dead { death: Death::Silent { .. }, .. } => {
                self.now.since(self.evidence.peer.spoke_after()).as_secs()
            }
            Life::Dead { death: Death::Goodbye | Death::Will, .. }
            | Life::Alive { .. }
            | Life::NeverHeard => 0,
        };
        let silent_s = u16::try_from(silent_s).unwrap_or(UNSENT_UNKNOWN_S);
        let age_s = match self.told_before_silence(group, served) {
            Some(age_s) => age_s,
            None => part.copy.unsent_s.saturating_add(silent_s),
        };
        let too_far = age_s == UNSENT_UNKNOWN_S || u64::from(age_s) > max_s.as_secs();
        // If the peer's own copy is not newer, nothing is missing here.
        (too_far && part.copy.holds == Holds::Newest).then_some(age_s)
    }

    /// The peer, the last owner, is back and cannot say what it holds: its worker or its file system does not answer.
    /// If this node heard it serve, it knows what was unsent then, and counts as if the peer had been silent since.
    fn told_before_silence(&self, group: &GroupState, served: Generation) -> Option<u16> {
        let (generation, unsent_s, at) = group.told_unsent?;
        if generation != served || self.peers_worker_word(group) != Word::Never {
            return None;
        }
        let since_s = match self.evidence.peer.life {
            Life::Alive { .. } => self.evidence.peer.met_at().since(at).as_secs(),
            Life::Dead { .. } | Life::NeverHeard => return None,
        };
        let since_s = u16::try_from(since_s).unwrap_or(UNSENT_UNKNOWN_S);
        Some(unsent_s.saturating_add(since_s))
    }

    /// Notes what the peer's beats say about its generation.
    pub(super) fn note_unsent(&mut self, group: &mut GroupState) {
        let Some(part) =
            self.evidence.peer.group(group.index).filter(|_| self.evidence.peer.is_alive())
        else {
            return;
        };
        match part.stance {
            Stance::Active | Stance::Offering => {
                let spoke_after = self.evidence.peer.spoke_after();
                let told = self.evidence.peer.generation(group.index);
                group.told_unsent = told.map(|told| (told, part.copy.unsent_s, spoke_after));
            }
            Stance::Passive
            | Stance::Unable
            | Stance::Wanting(_)
            | Stance::Granting(_)
            | Stance::Claiming => {}
        }
    }

    /// The newest commit of the newest generation in this copy; 0 while this node has only begun that generation or
    /// handed its trees over to it.
    fn commit(&self, group: &GroupState) -> CommitBeat {
        let Some(report) = known_report(group) else { return CommitBeat::NotSaid };
        let newest = report.copy_of == self.disk.served_trees(&group.name);
        CommitBeat::of(if newest { report.commit } else { 0 })
    }

    /// Whether this node would know of this generation of its own, of trees, if it died now: its state or its index is
    /// on disk with it. Before, it does not tell its peer (P3): what only the peer knows proves that this disk was set
    /// back.
    pub(in crate::core) fn is_on_record(&self, group: &GroupState, generation: Generation) -> bool {
        let of = known_report(group).and_then(|report| report.copy_of);
        !group.duties.has_mirror()
            || generation.owner != self.me
            || of == Some(generation)
            || self.disk.holds(&group.name, generation)
    }

    /// The newest generation that was served, as this node tells its peer.
    pub(in crate::core) fn newest_on_record(&self, group: &GroupState) -> Option<Generation> {
        let served = self.disk.served(&group.name).filter(|it| self.is_on_record(group, *it));
        served.or_else(|| self.disk.durably_served(&group.name))
    }

    /// What this node's beats say about its copy.
    pub(in crate::core) fn copy_beat(&self, group: &GroupState) -> CopyBeat {
        if !group.duties.has_mirror() {
            return CopyBeat::default();
        }
        let Some(report) = known_report(group) else {
            let detail = Some(CopyDetail::default());
            return CopyBeat { holds: self.holds(group), detail, ..CopyBeat::default() };
        };
        let unsent = self.unsent(group);
        let (files, bytes) = match unsent {
            Unsent::Nothing | Unsent::Unknown => (0, 0),
            Unsent::Since { files, bytes, .. } => (files, bytes),
        };
        let detail = CopyDetail {
            commit: self.commit(group),
            files: Approx::of(files),
            bytes: Approx::of(bytes),
        };
        let unsent_s = unsent.age_s();
        CopyBeat { holds: self.holds(group), empty: report.empty, unsent_s, detail: Some(detail) }
    }

    /// What this node, as the owner, has not sent to the peer.
    pub(in crate::core) fn unsent(&self, group: &GroupState) -> Unsent {
        let generation = match &group.role {
            Role::Active(active) => Some(active.generation),
            Role::Releasing { drain: Some(drain), .. } => Some(drain.generation),
            Role::Draining(draining) => Some(draining.generation),
            // What the peer begins with: all that was sent, unless its disk has been set back since.
            Role::Passive { .. }
            | Role::Wanting { .. }
            | Role::Probing { .. }
            | Role::Releasing { drain: None, .. } => {
                let handing = group.handing.filter(|(handing, peer)| {
                    let theirs = self.peers_commit(group, *handing);
                    *peer == self.evidence.peer.incarnation()
                        || !theirs.is_some_and(|theirs| self.commit(group).is_after(theirs))
                });
                handing.map(|(handing, _)| handing)
            }
        };
        let Some(generation) = generation else { return Unsent::Unknown };
        let reported = self.at_least_unsent(group.duties.unsent(self.now, generation));
        match (&group.role, reported) {
            // The peer has what this generation began with.
            (Role::Active(Active { peer_had_base_at: Some(since), .. }), Unsent::Unknown) => {
                let age_ms = self.now.since(*since).as_millis();
                let age_ms = u64::try_from(age_ms).unwrap_or(u64::MAX);
                Unsent::Since { age_ms, files: 0, bytes: 0 }
            }
            (_, reported) => reported,
        }
    }

    /// Whether the peer, which has just released, has the trees that the new generation begins with.
    pub(in crate::core) fn peer_has_base(&self, group: &GroupState) -> bool {
        let before = self.disk.served_trees(&group.name);
        let part = self.evidence.peer.group(group.index).filter(|_| self.evidence.peer.is_alive());
        before.zip(part).is_some_and(|(before, part)| {
            before.owner == self.me.other()
                && names(&part, before)
                && part.copy.holds == Holds::Newest
        })
    }

    /// The preferred node. Nodes whose config files differ may not agree on it; then the node whose name sorts first
    /// takes its place in everything that both must decide the same way.
    pub(in crate::core) fn home(&self, group: &GroupState) -> NodeIndex {
        let agreed = !(self.configs_differ && self.evidence.peer.is_alive());
        if agreed { group.prefer } else { NodeIndex::Lower }
    }

    /// This node's rank for a group that neither node serves; the higher rank serves it.
    pub(in crate::core) fn standing(&self, group: &GroupState) -> Standing {
        let served = self.disk.served(&group.name);
        let holds = self.holds(group);
        let empty = group.duties.mirror_report().is_none_or(|report| report.empty);
        Standing {
            number: served.map_or(0, |served| served.number),
            newest: holds == Holds::Newest,
            served_last: served.is_some_and(|served| served.owner == self.me)
                && group.duties.has_mirror()
                && holds != Holds::Older,
            content: holds == Holds::Nothing && !empty,
            preferred: self.home(group) == self.me,
        }
    }

    /// The peer's rank.
    pub(in crate::core) fn peer_standing(&self, group: &GroupState) -> Standing {
        let Some(part) = self.evidence.peer.group(group.index) else { return Standing::default() };
        let CopyBeat { holds, empty, detail, .. } = part.copy;
        let mine = self.commit(group);
        let set_back = self.holds(group) == Holds::Newest
            && detail.is_some_and(|detail| mine.is_after(detail.commit));
        Standing {
            number: part.generation,
            newest: holds == Holds::Newest,
            served_last: part.generation > 0
                && part.owner == self.me.other()
                && group.duties.has_mirror()
                && !set_back,
            content: holds == Holds::Nothing && !empty && group.duties.has_mirror(),
            preferred: self.home(group) == self.me.other(),
        }
    }

    /// Finds out whether the two copies are forked, while one of them is served.
    pub(in crate::core) fn note_fork(&mut self, group: &mut GroupState) {
        if !group.duties.has_mirror() {
            return;
        }
        let Some(part) =
            self.evidence.peer.group(group.index).filter(|_| self.evidence.peer.is_alive())
        else {
            return;
        };
        match &mut group.role {
            Role::Active(active) => {
                active.known_to_peer |= names(&part, active.generation);
                let forked = is_fork(active, &part);
                if forked && !active.forked {
                    let text = self.forked_text(group);
                    self.tell(Kind::Mirror, Some(&group.name), text);
                }
                if let Role::Active(active) = &mut group.role {
                    active.forked = forked;
                }
            }
            Role::Passive { .. } => {
                let serves = matches!(part.stance, Stance::Active | Stance::Offering);
                let newest = self.disk.served_trees(&group.name);
                let Some(newest) = newest.filter(|_| serves) else {
                    group.fork_seen_at = None;
                    return;
                };
                if names(&part, newest) || part.generation > newest.number {
                    // The peer's generation is the newest: this copy follows it, or the peer asks the administrator.
                    group.fork_seen_at = None;
                    self.disk.set_forked(&group.name, false);
                } else if self.holds(group) == Holds::Newest {
                    // An owner that has just learned of the other generation begins a newer one at once.
                    let since = *group.fork_seen_at.get_or_insert(self.now);
                    if self.now.since(since) >= limits::FORK_SURE_AFTER {
                        self.disk.set_forked(&group.name, true);
                    }
                }
            }
            Role::Wanting { .. } | Role::Probing { .. } | Role::Releasing { .. } => {}
            Role::Draining(_) => {}
        }
    }

    /// The text about two copies of which neither contains the other.
    pub(in crate::core) fn forked_text(&self, group: &GroupState) -> String {
        let here = matches!(group.role, Role::Active(_));
        let (me, peer) = (&self.config.node(self.me).name, &self.config.node(self.me.other()).name);
        let (owner, other) = if here { (me, peer) } else { (peer, me) };
        let name = &group.name;
        format!(
            "{owner} serves trees that do not contain what {other} served before; both are left as they \
             are. To keep {owner}'s: `clusterd sync {name} --from {owner}`; to serve {other}'s: \
             `clusterd move {name} {other} --accept-loss`"
        )
    }

    /// Whether the copies are known to be forked.
    pub(in crate::core) fn is_forked(&self, group: &GroupState) -> bool {
        match &group.role {
            Role::Active(active) => active.forked,
            Role::Passive { .. }
            | Role::Wanting { .. }
            | Role::Probing { .. }
            | Role::Releasing { .. }
            | Role::Draining(_) => self.disk.is_forked(&group.name),
        }
    }

    /// This node lets the peer claim the group that it served in `generation`: the peer's next generation begins with its
    /// trees.
    pub(in crate::core) fn note_handed(&self, group: &mut GroupState, generation: Generation) {
        let peer = self.evidence.peer.incarnation();
        group.handing = group.duties.has_mirror().then_some((generation, peer));
    }

    /// The peer has begun a generation.
    pub(in crate::core) fn note_begun(&mut self, group: &mut GroupState) {
        let Some(served) = self.disk.served(&group.name) else { return };
        if served.owner == self.me.other()
            && let Some((before, _)) =
                group.handing.filter(|(before, _)| served.number > before.number)
        {
            group.handing = None;
            group.handed = Some((before, served));
        }
    }

    /// Why this node waits for its peer, what it holds, how old that is, and the ways out.
    pub(in crate::core) fn unsure_text(&self, group: &GroupState, refusal: &Refusal) -> String {
        let report = group.duties.mirror_report();
        let held = report.map_or("nothing known", |report| report.held.as_str());
        format!("{refusal}. Held here: {held}")
    }

    /// Reports now and then that a copy waits for its peer.
    pub(in crate::core) fn tell_unsure(&mut self, now: Time, group: &mut GroupState, why: &str) {
        if group.unsure_told_at.is_some_and(|at| now.since(at) < limits::UNSURE_TOLD_EVERY) {
            return;
        }
        group.unsure_told_at = Some(now);
        self.tell(Kind::Mirror, Some(&group.name), format!("not served: {why}"));
    }
}

/// A node's rank for a group that nobody serves, the most important field first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::core) struct Standing {
    /// Number of the newest generation that it knows.
    number: u32,
    /// Its copy is of that generation.
    newest: bool,
    /// It owned that generation: nobody has more than it.
    served_last: bool,
    /// Its trees have no history and are not empty.
    content: bool,
    /// It is the preferred node.
    preferred: bool,
}

/// Whether both nodes served trees and neither copy contains the other, by what the peer's beat says.
pub(in crate::core) fn is_fork(active: &Active, part: &GroupBeat) -> bool {
    part.stance != Stance::Claiming
        && part.generation >= active.generation.number
        && !names(part, active.generation)
        && part.copy.holds == Holds::Newest
        && !active.known_to_peer
}

/// The worker's report about the copy, if it could look at it.
fn known_report(group: &GroupState) -> Option<&MirrorReport> {
    group.duties.mirror_report().filter(|report| report.known)
}

/// Whether a beat names this generation.
fn names(part: &GroupBeat, generation: Generation) -> bool {
    (part.generation, part.id, part.owner) == (generation.number, generation.id, generation.owner)
}
