//! What is told of something that comes and goes: the first changes at once, of a storm only how it stands.

use crate::core::io::time::Time;
use crate::limits;

/// What was told of one thing.
#[derive(Clone, Copy, Debug)]
pub struct StormTold<S> {
    /// Since when `told` is counted.
    since: Option<Time>,
    told: u32,
    /// The newest state, if it was not told; and how many changes before it were not.
    waiting: Option<(S, u64)>,
}

impl<S> StormTold<S> {
    /// Nothing told yet.
    pub fn quiet() -> StormTold<S> {
        StormTold { since: None, told: 0, waiting: None }
    }

    fn is_over(&self, now: Time) -> bool {
        self.since.is_none_or(|at| now.since(at) >= limits::CHANGES_TOLD_EVERY)
    }

    /// Takes a change; whether it is to be told at once.
    pub fn changed(&mut self, now: Time, to: S) -> bool {
        if let Some((state, before)) = &mut self.waiting {
            *state = to;
            *before = before.saturating_add(1);
            return false;
        }
        if self.is_over(now) {
            self.since = Some(now);
            self.told = 0;
        }
        let at_once = self.told < limits::CHANGES_TOLD_MAX;
        if at_once {
            self.told += 1;
        } else {
            self.waiting = Some((to, 0));
        }
        at_once
    }

    /// What was not told is no news any more.
    pub fn forget(&mut self) {
        self.waiting = None;
    }

    /// The newest state if it is to be told now, after so many changes that never were.
    pub fn take_due(&mut self, now: Time) -> Option<(S, u64)> {
        if !self.is_over(now) {
            return None;
        }
        let due = self.waiting.take()?;
        self.since = Some(now);
        self.told = 1;
        Some(due)
    }
}

/// The words for a state before which so many changes were not told.
pub fn after_untold(text: String, untold: u64) -> String {
    match untold {
        0 => text,
        _ => format!("{text}, after {untold} changes that were not reported"),
    }
}
