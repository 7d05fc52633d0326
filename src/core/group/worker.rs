//! Whether this node's worker works. It reports once a second. If it is silent for a while, it stands still: stopped,
//! starved, or waiting for memory. Then its earlier reports may be outdated: nobody watches the trees or sends their
//! changes, and nobody would apply commits or start services.

use super::order::Unsent;
use super::role::GroupState;
use crate::beat::CommitBeat;
use crate::control::event::Kind;
use crate::core::Core;
use crate::core::evidence::peer::Life;
use crate::core::io::time::Time;
use crate::limits;

/// The state of a worker: of this node's, or of the peer's by its beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Word {
    /// No report yet: it has just started, like its node.
    Due,
    /// It works. Its first report on a group may still come, as with a large index.
    Works,
    /// It stands still: its earlier reports may be outdated.
    Silent,
    /// It never reported, and had the time for it.
    Never,
}

impl Word {
    /// No report yet from a worker that began then.
    fn none_since(now: Time, began_at: Time) -> Word {
        if now.since(began_at) < limits::WORKER_SILENT { Word::Due } else { Word::Never }
    }

    /// Whether its first report on a group may still come.
    pub fn may_come(self) -> bool {
        match self {
            Word::Due | Word::Works => true,
            Word::Silent | Word::Never => false,
        }
    }
}

/// What is known about this node's worker.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::core) struct Voice {
    /// When it was last heard; `None`: not yet.
    heard_at: Option<Time>,
    /// After a stall of this node: no report is missed before then.
    not_before: Time,
    /// Its silence was reported.
    told: bool,
}

impl Voice {
    /// When it counts as standing still.
    pub fn silent_at(&self) -> Option<Time> {
        self.heard_at.map(|at| (at + limits::WORKER_SILENT).max(self.not_before))
    }

    /// This node was stalled until now.
    pub fn overslept(&mut self, now: Time) {
        self.not_before = now + limits::WORKER_SILENT;
    }
}

impl Core {
    /// The worker reports that it works.
    pub(in crate::core) fn worker_says(&mut self, now: Time) {
        self.worker.heard_at = Some(now);
        if std::mem::take(&mut self.worker.told) {
            self.tell(Kind::Fault, None, "the worker process answers again".to_string());
        }
    }

    /// The state of this node's worker.
    pub(in crate::core) fn worker_word(&self) -> Word {
        match self.worker.silent_at() {
            None => Word::none_since(self.now, self.started_at),
            Some(at) if self.now >= at && self.obeys_worker_silence() => Word::Silent,
            Some(_) => Word::Works,
        }
    }

    /// The state of the peer's worker for this group, by whether its beats describe the copy: its copy may be newer
    /// than this node's, whose disk may have been set back.
    pub(in crate::core) fn peers_worker_word(&self, group: &GroupState) -> Word {
        let copy = self.evidence.peer.group(group.index).map(|part| part.copy);
        let commit = copy.and_then(|copy| copy.detail).map_or(CommitBeat::NotSaid, |it| it.commit);
        match self.evidence.peer.life {
            Life::Alive { .. } if commit != CommitBeat::NotSaid => Word::Works,
            Life::Alive { since } => Word::none_since(self.now, since),
            Life::Dead { .. } | Life::NeverHeard => Word::Never,
        }
    }

    /// Whether the group needs it.
    pub(in crate::core) fn lacks_worker(&self, group: &GroupState) -> bool {
        let needs = group.duties.has_mirror() || group.duties.has_services();
        needs && self.worker_word() == Word::Silent
    }

    /// What the peer lacks at least. If the worker stands still, that may be anything since its last report.
    pub(in crate::core) fn at_least_unsent(&self, reported: Unsent) -> Unsent {
        let heard_at = self.worker.heard_at.filter(|_| self.worker_word() == Word::Silent);
        match (heard_at, reported) {
            (Some(at), Unsent::Nothing) => {
                let age_ms = u64::try_from(self.now.since(at).as_millis()).unwrap_or(u64::MAX);
                Unsent::Since { age_ms, files: 0, bytes: 0 }
            }
            (Some(_) | None, reported) => reported,
        }
    }

    /// Reports once that it stands still.
    pub(in crate::core) fn note_worker(&mut self, now: Time) {
        if self.worker.told || self.worker.silent_at().is_none_or(|at| now < at) {
            return;
        }
        self.worker.told = true;
        let text = format!("{}; check the process clusterd-work", silent_text());
        self.tell(Kind::Fault, None, text);
    }
}

/// The text about it.
pub(in crate::core) fn silent_text() -> String {
    format!(
        "the worker process has not answered for {} s: nothing is mirrored, and no service is checked",
        limits::WORKER_SILENT.as_secs()
    )
}
