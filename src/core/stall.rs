//! This node's own gaps: how they are noticed, forgiven, and told to the peer.

use std::time::Duration;

use super::time::Time;
use crate::limits;

/// The longest gaps between rounds of the loop.
#[derive(Clone, Debug, Default)]
pub struct Gaps {
    window_began: Time,
    in_window: Duration,
    in_last_window: Duration,
    ever: Duration,
}

impl Gaps {
    /// A round came this long after the one before.
    pub fn saw(&mut self, now: Time, gap: Duration) {
        if now.since(self.window_began) >= limits::GAP_MEMORY {
            self.in_last_window = self.in_window;
            self.in_window = Duration::ZERO;
            self.window_began = now;
        }
        self.in_window = self.in_window.max(gap);
        self.ever = self.ever.max(gap);
    }

    /// The longest recent one: it goes out in every beat.
    pub fn recent(&self) -> Duration {
        self.in_window.max(self.in_last_window)
    }

    /// The longest since the start.
    pub fn ever(&self) -> Duration {
        self.ever
    }
}

/// How much later than planned this round is, if that is a stall. `last` and `planned`: the round
/// before, and the deadline that it armed.
pub fn overslept(now: Time, last: Time, planned: Time) -> Option<Duration> {
    let late = now.since(last.max(planned));
    (late >= limits::STALL_MIN).then_some(late)
}
