//! How much of the LAN the mirrors may take: one bucket of tokens for all links of this node.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::limits;

/// Shared by all links of a node.
#[derive(Clone, Debug)]
pub struct Pacer(Arc<Mutex<Bucket>>);

impl Pacer {
    /// With a full bucket.
    pub fn new() -> Pacer {
        Pacer(Arc::new(Mutex::new(Bucket::new(Instant::now()))))
    }

    /// Sleeps until so many bytes may be sent.
    pub(super) fn wait(&self, bytes: usize) {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = bucket.take(Instant::now(), bytes);
        drop(bucket);
        std::thread::sleep(wait);
    }
}

impl Default for Pacer {
    fn default() -> Pacer {
        Pacer::new()
    }
}

#[derive(Debug)]
struct Bucket {
    /// When the bucket was or will be full, if nothing more is taken: a burst may run ahead of this by
    /// what the bucket holds.
    full_at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket { full_at: now }
    }

    /// Takes tokens for so many bytes; the time to wait until they are there. Who comes next waits
    /// behind.
    fn take(&mut self, now: Instant, bytes: usize) -> Duration {
        self.full_at = self.full_at.max(now) + time_of(bytes as u64);
        let burst = time_of(limits::LAN_MIRROR_BURST_BYTES);
        self.full_at.saturating_duration_since(now).saturating_sub(burst)
    }
}

fn time_of(bytes: u64) -> Duration {
    Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / limits::LAN_MIRROR_BYTES_PER_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_the_rest_at_its_pace() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let burst = limits::LAN_MIRROR_BURST_BYTES as usize;
        assert_eq!(bucket.take(start, burst), Duration::ZERO);
        // One second's worth, in small pieces, each sent when it may be.
        let (mut now, piece) = (start, 10_000);
        for _ in 0..limits::LAN_MIRROR_BYTES_PER_S as usize / piece {
            now += bucket.take(now, piece);
        }
        let took = now.duration_since(start).as_secs_f64();
        assert!((0.99..1.01).contains(&took), "{took} s");
        // After a rest the next burst goes at once, and only one.
        now += Duration::from_secs(60);
        assert_eq!(bucket.take(now, burst), Duration::ZERO);
        assert!(bucket.take(now, piece) > Duration::ZERO);
    }
}
