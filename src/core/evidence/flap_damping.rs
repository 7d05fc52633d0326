//! Events of something that flaps: the first changes at once, then only the newest state now and then.

use crate::core::io::time::Time;
use crate::limits;

/// What was reported about one thing.
#[derive(Clone, Copy, Debug)]
pub struct StormTold<S> {
    /// Since when `told` is counted.
    since: Option<Time>,
    told: u32,
    /// The newest state, if it was not reported, and how many changes before it were not.
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

    /// Takes a change; returns whether to report it at once.
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

    /// Forgets the changes that were not reported.
    pub fn forget(&mut self) {
        self.waiting = None;
    }

    /// The newest state, if it is to be reported now, and how many changes before it were not.
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

/// The text for a state, with the number of changes before it that were not reported.
pub fn after_untold(text: String, untold: u64) -> String {
    match untold {
        0 => text,
        _ => format!("{text}, after {untold} changes that were not reported"),
    }
}
