//! The heart's time: CLOCK_BOOTTIME since this incarnation began.

use std::time::Duration;

use crate::core::Time;
use crate::daemon::guard::page::boottime;

/// Counts from its own start, also while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    began: Duration,
}

impl Clock {
    /// A new incarnation begins.
    pub fn start() -> Clock {
        Clock { began: boottime() }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        let since = boottime().saturating_sub(self.began);
        Time(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}
