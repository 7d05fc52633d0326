//! How much of the LAN the mirrors take: a bucket of [`limits::LAN_MIRROR_BURST_BYTES`] that fills at
//! [`limits::LAN_MIRROR_BYTES_PER_S`], one for all links of the process.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::limits;

static LAN: Mutex<Pace> = Mutex::new(Pace { due: None });

/// Waits until so many bytes more may go to the LAN. Everybody waits only for those who asked before.
pub(super) fn wait_for_turn(bytes: usize) {
    // A panic ends the process: there is no poison.
    let wait = LAN.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now(), bytes);
    if !wait.is_zero() {
        thread::sleep(wait);
    }
}

struct Pace {
    /// When everything that was taken would have gone out at an even pace.
    due: Option<Instant>,
}

impl Pace {
    /// Takes so many bytes. Returns how long to wait before they are sent.
    fn take(&mut self, now: Instant, bytes: usize) -> Duration {
        let due = self.due.map_or(now, |due| due.max(now)) + lasts(bytes as u64);
        self.due = Some(due);
        due.saturating_duration_since(now + lasts(limits::LAN_MIRROR_BURST_BYTES))
    }
}

/// How long so many bytes take.
fn lasts(bytes: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / limits::LAN_MIRROR_BYTES_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_pace() {
        let mut pace = Pace { due: None };
        let mut now = Instant::now();
        let begin = now;
        let piece = limits::LAN_MIRROR_BURST_BYTES as usize / 4;
        for _ in 0..4 {
            assert_eq!(pace.take(now, piece), Duration::ZERO);
        }
        // Ten seconds' worth, each sent when it may be.
        let pieces = 10 * limits::LAN_MIRROR_BYTES_PER_S as usize / piece;
        for _ in 0..pieces {
            let wait = pace.take(now, piece);
            assert!(wait > Duration::ZERO);
            now += wait;
        }
        let took = now - begin;
        assert!(took.abs_diff(Duration::from_secs(10)) < Duration::from_millis(20), "{took:?}");
        // Rest fills the bucket again, and not above its brim.
        now += Duration::from_secs(3600);
        assert_eq!(pace.take(now, 4 * piece), Duration::ZERO);
        assert!(pace.take(now, piece) > Duration::ZERO);
    }
}
