//! When a copy that somebody changed on the standby side is compared again.
//!
//! At once, the first time. If it is changed again and again, each pause is twice as long as the one
//! before: a program that writes there must not fill the conflict store, or keep both nodes busy. Whoever
//! waits for a barrier waits for no pause, and for a short one if that did not help.

use std::time::Duration;

use crate::core::Time;
use crate::limits;

/// What somebody changed on the peer, until it is restored.
#[derive(Debug, Default)]
pub(super) struct Restore {
    /// It is not compared yet: told then.
    told_at: Option<Time>,
    /// What was told is not all restored yet.
    open: bool,
    /// When the last comparison began, and the pause after it.
    last: Option<(Time, Duration)>,
    /// The newest barrier for which no pause was made.
    hurried: u64,
}

impl Restore {
    /// The peer tells of changes.
    pub(super) fn told(&mut self, now: Time) {
        self.told_at.get_or_insert(now);
        self.open = true;
    }

    /// When to compare; `barrier`: somebody waits for it.
    pub(super) fn due(&self, barrier: Option<u64>) -> Option<Time> {
        let told_at = self.told_at?;
        let Some((last, pause)) = self.last else { return Some(told_at) };
        let pause = match barrier {
            Some(barrier) if barrier > self.hurried => return Some(told_at),
            Some(_) => limits::RESTORE_PAUSE_MIN,
            None => pause,
        };
        Some(told_at.max(last + pause))
    }

    /// The comparison begins.
    pub(super) fn begins(&mut self, now: Time, barrier: Option<u64>) {
        self.told_at = None;
        self.hurried = self.hurried.max(barrier.unwrap_or(0));
        let pause = match self.last {
            Some((last, pause)) if now.since(last) < pause * 2 + limits::RESTORE_PAUSE_MIN => {
                pause * 2
            }
            Some(_) | None => limits::RESTORE_PAUSE_MIN,
        };
        self.last = Some((now, pause.min(limits::RESTORE_PAUSE_MAX)));
    }

    /// A series is over: if nothing waits to be compared, it had all that differed.
    pub(super) fn series_is_over(&mut self) {
        self.open &= self.told_at.is_some();
    }

    /// Whether something is to be compared yet.
    pub(super) fn waits(&self) -> bool {
        self.told_at.is_some()
    }

    /// Whether something is not restored yet.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// The session is over.
    pub(super) fn forget(&mut self) {
        (self.told_at, self.open) = (None, false);
    }
}
