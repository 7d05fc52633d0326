//! Nobody is called dead who runs, and whose beats arrive unharmed on at least one path.

use super::super::setup::Times;

/// A new heart needs this long until both know each other, in µs.
const INTRODUCTION_US: u64 = 150_000;
/// A frame is under way this long at most on a clean path, in µs: the serial line.
const UNDER_WAY_US: u64 = 30_000;

/// The checker.
pub struct FalseDeath {
    window_us: u64,
    clean_since_us: [Option<u64>; 3],
}

impl FalseDeath {
    /// A checker of that pair.
    pub fn new(times: Times) -> FalseDeath {
        let window = times.dead_after.1 + 2 * times.interval;
        FalseDeath {
            window_us: window.as_micros() as u64 + UNDER_WAY_US,
            clean_since_us: [None; 3],
        }
    }

    /// The paths that are clean from now on.
    pub fn paths(&mut self, now_us: u64, clean: [bool; 3]) {
        for (since_us, clean) in self.clean_since_us.iter_mut().zip(clean) {
            *since_us = if clean { since_us.or(Some(now_us)) } else { None };
        }
    }

    /// The peer is called dead; its heart runs since that time, if it does.
    pub fn called_dead(&self, now_us: u64, runs_since_us: Option<u64>) -> Result<(), String> {
        let Some(runs_us) = runs_since_us else { return Ok(()) };
        let clean_us = self.clean_since_us.iter().flatten().min();
        let known = runs_us + self.window_us + INTRODUCTION_US <= now_us;
        match clean_us {
            Some(clean_us) if known && clean_us + self.window_us <= now_us => Err(format!(
                "calls its peer dead, whose heart runs since {runs_us} µs, and a path is clean \
                 since {clean_us} µs"
            )),
            Some(_) | None => Ok(()),
        }
    }
}
