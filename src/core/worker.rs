//! Whether this node's worker works. It says so once a second; one that is silent for a while stands still:
//! stopped, starved, or waiting for memory. Then nothing that it reported before is known to be so still:
//! nobody watches the trees or sends what changes in them, and nobody would finish them or start services.

use super::Core;
use super::duty::Unsent;
use super::role::GroupState;
use super::time::Time;
use crate::control::event::Kind;
use crate::limits;

/// What is known of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Voice {
    /// When it was last heard; `None`: not yet.
    heard_at: Option<Time>,
    /// This node itself stood still: no word is missed before then.
    not_before: Time,
    /// Its silence was told.
    told: bool,
}

impl Voice {
    /// When its silence means something.
    pub fn silent_at(&self) -> Option<Time> {
        self.heard_at.map(|at| (at + limits::WORKER_SILENT).max(self.not_before))
    }

    /// This node itself stood still until now.
    pub fn overslept(&mut self, now: Time) {
        self.not_before = now + limits::WORKER_SILENT;
    }
}

impl Core {
    /// The worker says that it works.
    pub(super) fn worker_says(&mut self, now: Time) {
        self.worker.heard_at = Some(now);
        if std::mem::take(&mut self.worker.told) {
            self.tell(Kind::Fault, None, "the worker process works again".to_string());
        }
    }

    /// Whether it stands still.
    pub(super) fn worker_is_silent(&self) -> bool {
        self.obeys_worker_silence() && self.worker.silent_at().is_some_and(|at| self.now >= at)
    }

    /// Whether its first word on a group may still come: it has just started, like this node, or it works and
    /// has not got that far, as with a large index.
    pub(super) fn awaits_worker(&self) -> bool {
        let works = self.worker.heard_at.is_some() && !self.worker_is_silent();
        works || self.now.since(self.started_at) < limits::WORKER_SILENT
    }

    /// Whether the group needs it.
    pub(super) fn lacks_worker(&self, group: &GroupState) -> bool {
        let needs = group.duties.has_mirror() || group.duties.has_services();
        needs && self.worker_is_silent()
    }

    /// What the peer lacks at least, if the worker stands still: it may be anything since its last word.
    pub(super) fn at_least_unsent(&self, reported: Unsent) -> Unsent {
        let heard_at = self.worker.heard_at.filter(|_| self.worker_is_silent());
        match (heard_at, reported) {
            (Some(at), Unsent::Nothing) => {
                let age_ms = u64::try_from(self.now.since(at).as_millis()).unwrap_or(u64::MAX);
                Unsent::Since { age_ms, files: 0, bytes: 0 }
            }
            (Some(_) | None, reported) => reported,
        }
    }

    /// Tells it once.
    pub(super) fn note_worker(&mut self, now: Time) {
        if self.worker.told || self.worker.silent_at().is_none_or(|at| now < at) {
            return;
        }
        self.worker.told = true;
        let text = format!("{}; look at the process clusterd-work", silent_text());
        self.tell(Kind::Fault, None, text);
    }
}

/// What is wrong then.
pub(super) fn silent_text() -> String {
    format!(
        "the worker process has not answered for {} s: nothing is mirrored, and no service is watched",
        limits::WORKER_SILENT.as_secs()
    )
}
