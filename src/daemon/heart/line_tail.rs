//! When to look at the serial line though the kernel does not tell of it. It tells when as much as a pulse
//! waits there, so that a pulse wakes the heart once and not with every few bytes; the end of a longer frame may
//! be less than that.

use std::time::Duration;

use crate::core::Time;

/// The end of a frame that is awaited.
///
/// ```text
///   nothing <---- the frame has ended, or a look brought nothing ----+
///      |                                                             |
///      +-- a frame has begun --> look again in a pulse's time -------+
///                                   ^                                |
///                                   +------- a look brought bytes ---+
/// ```
/// Noise that looks like a frame's beginning does not keep the heart awake.
#[derive(Debug)]
pub struct LineTail {
    pulse_time: Duration,
    at: Option<Time>,
}

impl LineTail {
    /// `pulse_time`: what a pulse takes on the line.
    pub fn new(pulse_time: Duration) -> LineTail {
        LineTail { pulse_time, at: None }
    }

    /// The line was looked at. `brought`: there was something; `amid`: a frame has begun and not ended.
    pub fn looked(&mut self, now: Time, brought: bool, amid: bool) {
        self.at = (brought && amid).then(|| now + self.pulse_time);
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
    fn the_end_of_a_frame_is_looked_for_while_bytes_come() {
        let at_ms = |ms: u64| Time(ms * 1000);
        let mut tail = LineTail::new(Duration::from_millis(2));
        tail.looked(at_ms(0), true, true);
        assert_eq!(tail.at(), Some(at_ms(2)));
        assert!(!tail.is_due(at_ms(1)));
        assert!(tail.is_due(at_ms(2)) && !tail.is_due(at_ms(2)));
        tail.looked(at_ms(2), true, true);
        assert!(tail.is_due(at_ms(5)));
        // Nothing more comes: the kernel tells if something does.
        tail.looked(at_ms(5), false, true);
        assert_eq!(tail.at(), None);
        tail.looked(at_ms(6), true, false);
        assert_eq!(tail.at(), None, "all frames are whole");
    }
}
