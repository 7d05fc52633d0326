//! The age of a frame by its number. Numbers rise over all paths. A frame with a number not higher than that of a frame
//! that came long ago was sent before it. Whoever held it back can neither revive its sender with it nor have it
//! obeyed. This needs neither the sender's clock nor an echo.

use crate::core::io::time::Time;
use crate::limits;

/// The numbers that came from one incarnation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numbers {
    newest: u64,
    /// The newest at the time `marked_at`.
    marked: u64,
    marked_at: Time,
    /// The newest at the mark before: at least [`limits::OLD_AFTER`] ago.
    aged: u64,
}

impl Numbers {
    /// An authentic frame of that number came.
    pub fn came(&mut self, now: Time, number: u64) {
        self.newest = self.newest.max(number);
        if now.since(self.marked_at) >= limits::OLD_AFTER {
            (self.aged, self.marked, self.marked_at) = (self.marked, self.newest, now);
        }
    }

    /// Whether it was sent before a frame that came long ago.
    pub fn is_old(&self, now: Time, number: u64) -> bool {
        let marked_long_ago = now.since(self.marked_at) >= limits::OLD_AFTER;
        number <= if marked_long_ago { self.marked } else { self.aged }
    }

    /// Whether it was sent before a frame that came already.
    pub fn is_passed(&self, number: u64) -> bool {
        number <= self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_old_between_once_and_twice_the_time_after_a_higher_one_came() {
        let mut numbers = Numbers::default();
        let at = |tenths: u64| Time(0) + limits::OLD_AFTER * tenths as u32 / 10;
        for tenths in 0..100 {
            numbers.came(at(tenths), 1_000 + tenths);
            let is_old = |number| numbers.is_old(at(tenths), number);
            assert!(!is_old(1_001 + tenths.saturating_sub(10)), "{tenths}");
            assert!(tenths < 20 || is_old(1_000 + tenths - 20), "{tenths}");
        }
        assert!(numbers.is_passed(1_099) && !numbers.is_passed(1_100));
        // Nothing came since the last mark.
        assert!(numbers.is_old(at(120), 1_089));
    }
}
