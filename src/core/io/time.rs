//! The core's time: given to it, never read by it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds since this node's incarnation began, by a clock that also counts while the machine
/// sleeps (CLOCK_BOOTTIME). Never wall-clock time.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(pub u64);

impl Time {
    /// Time since `earlier`; zero if that is in the future.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;
    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// The earliest of many times that is still to come. Computed after every event, so without an allocation.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Soonest {
    now: Time,
    first: Option<Time>,
}

impl Soonest {
    /// After `now`.
    pub(in crate::core) fn after(now: Time) -> Soonest {
        Soonest { now, first: None }
    }

    /// The result, if any.
    pub(in crate::core) fn first(self) -> Option<Time> {
        self.first
    }
}

impl Extend<Time> for Soonest {
    fn extend<T: IntoIterator<Item = Time>>(&mut self, times: T) {
        let ahead = times.into_iter().filter(|&at| at > self.now);
        self.first = ahead.chain(self.first).min();
    }
}
