//! The machine's own stalls, measured beside the pair: how long a short sleep and a request to the kernel that
//! changes nothing take. A heart does no more when it moves an address, so whatever holds this thread up (another
//! program, a hypervisor, the kernel's rtnl lock while somebody's namespace is taken down) may hold the pair up, too.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::BedError;
use crate::limits;
use clusterd::net::RouteSocket;
use clusterd::net::netlink::Change;
use clusterd::sys::ns::Namespace;

/// The loopback interface has this index in every namespace.
const LOOPBACK: u32 = 1;
/// Nobody has it, so that it can be deleted again and again.
const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 255, 0, 1));

/// Which outage is held against a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// As a client sees it.
    Whole,
    /// Without the machine's own stalls: what a test counts on a machine that does other things, too.
    BeyondStalls,
}

/// A meter that runs as long as this value lives.
#[derive(Debug)]
pub struct Stalls {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// From when to when, rising.
    seen: Mutex<VecDeque<(Instant, Instant)>>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, VecDeque<(Instant, Instant)>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stalls {
    /// Measures with requests to the kernel from `namespace`.
    ///
    /// # Errors
    /// No socket or no thread.
    pub fn start(namespace: &Namespace) -> Result<Stalls, BedError> {
        let mut socket = namespace.run(RouteSocket::open)??;
        let shared = Arc::new(Shared::default());
        let in_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("bed-stalls".into()).spawn(move || {
            while !in_thread.stop.load(Ordering::SeqCst) {
                let due = Instant::now() + limits::BED_STALLS_EVERY;
                std::thread::sleep(limits::BED_STALLS_EVERY);
                // Refused or not: what counts is when the answer comes.
                let _ = socket.change(&[Change::Remove { index: LOOPBACK, ip: NOBODY }]);
                let now = Instant::now();
                if now.saturating_duration_since(due) >= limits::BED_STALL_MIN {
                    let mut seen = in_thread.seen();
                    if seen.len() >= limits::BED_STALLS_MAX {
                        seen.pop_front();
                    }
                    seen.push_back((due, now));
                }
            }
        })?;
        Ok(Stalls { shared, thread: Some(thread) })
    }

    /// How much of the time from `from` to `to` the machine was stalled.
    pub fn between(&self, from: Instant, to: Instant) -> Duration {
        total(self.shared.seen().iter().copied(), from, to)
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How much of `from` to `to` lies in `stalls`, which do not overlap.
fn total(stalls: impl Iterator<Item = (Instant, Instant)>, from: Instant, to: Instant) -> Duration {
    stalls.map(|(begun, ended)| ended.min(to).saturating_duration_since(begun.max(from))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_lies_inside_counts() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let stalls = [(at(10), at(20)), (at(30), at(35)), (at(50), at(90))];
        let between = |from, to| total(stalls.into_iter(), at(from), at(to)).as_millis();
        assert_eq!(between(0, 100), 55);
        assert_eq!(between(15, 32), 7, "a part of two");
        assert_eq!(between(60, 70), 10, "the middle of one");
        assert_eq!(between(20, 30), 0, "between two");
        assert_eq!(between(95, 99), 0, "after all");
    }

    /// Otherwise it would excuse everything.
    #[test]
    fn a_machine_that_works_does_not_stand_still() {
        let stalls =
            Stalls::start(&Namespace::new().expect("these tests need root")).expect("started");
        let quiet = |_| {
            let begun = Instant::now();
            std::thread::sleep(limits::BED_STALLS_EVERY * 20);
            let now = Instant::now();
            stalls.between(begun, now) < now.saturating_duration_since(begun) / 2
        };
        assert!((0..500).any(quiet), "it is never quiet");
    }
}
