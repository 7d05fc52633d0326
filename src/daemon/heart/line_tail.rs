//! When to look at the serial line though the kernel does not tell of it. It tells when as much as a pulse
//! waits there, so that a pulse wakes the heart once and not with every few bytes; the end of a longer frame may
//! be less than that.

use std::time::Duration;

use crate::core::Time;
use crate::limits;

/// The end of a frame that is awaited.
///
/// ```text
///   nothing <---- the frame has ended, or looks brought nothing -----+
///      |                                                             |
///      +-- a frame has begun --> look again in a pulse's time -------+
///                                   ^                                |
///                                   +--- a look brought bytes -------+
///                                   +--- nothing: in twice the time -+
/// ```
/// A line may stutter, and a driver be late. What is left unread would be taken for news when the next bytes come.
/// But noise that looks like a frame's beginning does not keep the heart awake.
#[derive(Debug)]
pub struct LineTail {
    pulse_time: Duration,
    at: Option<Time>,
    /// Looks in a row that brought nothing.
    in_vain: u32,
}

impl LineTail {
    /// `pulse_time`: what a pulse takes on the line.
    pub fn new(pulse_time: Duration) -> LineTail {
        LineTail { pulse_time, at: None, in_vain: 0 }
    }

    /// The line was looked at. `brought`: there was something; `amid`: a frame has begun and not ended.
    pub fn looked(&mut self, now: Time, brought: bool, amid: bool) {
        self.in_vain = if brought { 0 } else { self.in_vain.saturating_add(1) };
        let again = amid && self.in_vain < limits::TAIL_LOOKS_IN_VAIN;
        self.at = again.then(|| now + self.pulse_time * (1 << self.in_vain));
    }

    /// Whether the last look brought a part of a frame whose end is still to come.
    pub fn is_busy(&self) -> bool {
        self.in_vain == 0 && self.at.is_some()
    }

    /// When to look again, if nothing is told before.
    pub fn at(&self) -> Option<Time> {
        self.at
    }

    /// Whether that is now; told once.
    pub fn is_due(&mut self, now: Time) -> bool {
        self.at.take_if(|at| now >= *at).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_frame_is_looked_for_while_bytes_come_and_a_while_after() {
        let at_ms = |ms: u64| Time(ms * 1000);
        let mut tail = LineTail::new(Duration::from_millis(2));
        tail.looked(at_ms(0), true, true);
        assert_eq!(tail.at(), Some(at_ms(2)));
        assert!(!tail.is_due(at_ms(1)));
        assert!(tail.is_due(at_ms(2)) && !tail.is_due(at_ms(2)));
        tail.looked(at_ms(2), true, true);
        assert!(tail.is_busy() && tail.is_due(at_ms(5)));
        // It is late: looked for ever more seldom, then no more. The kernel tells if much comes.
        let mut now = at_ms(5);
        for wait_ms in [4, 8, 16, 32, 64] {
            tail.looked(now, false, true);
            now = now + Duration::from_millis(wait_ms);
            assert_eq!(tail.at(), Some(now));
            assert!(!tail.is_busy());
        }
        tail.looked(now, false, true);
        assert_eq!(tail.at(), None);
        tail.looked(now, true, true);
        assert_eq!(tail.at(), Some(now + Duration::from_millis(2)));
        tail.looked(now, true, false);
        assert_eq!(tail.at(), None, "all frames are whole");
        assert!(!tail.is_busy());
    }
}
