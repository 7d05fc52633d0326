//! The client: asks the service address, usually every millisecond, and notes who answered when.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::BedError;
use super::stalls::Stalls;
use crate::limits;
use clusterd::config::NodeIndex;
use clusterd::sys::ns::Namespace;
use clusterd::sys::realtime;

/// Bytes of the number at the head of each question and answer.
pub const NUMBER_BYTES: usize = 8;

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it came.
    pub at: Instant,
    /// Who answered.
    pub from: NodeIndex,
}

/// A client that asks as long as this value lives.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    stop: AtomicBool,
    asked: AtomicU64,
    refused: AtomicU64,
    answers: Mutex<VecDeque<Answer>>,
}

impl Shared {
    fn answers(&self) -> MutexGuard<'_, VecDeque<Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    /// Starts to ask `address` from `namespace`, once in `every`. `names` are those of the nodes, lower first.
    ///
    /// # Errors
    /// No socket or no thread.
    pub fn start(
        namespace: &Namespace,
        address: IpAddr,
        names: [String; 2],
        every: Duration,
    ) -> Result<Client, BedError> {
        let any = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = namespace.run(|| UdpSocket::bind((any, 0)))??;
        socket.set_nonblocking(true)?;
        let shared = Arc::new(Shared {
            started: Instant::now(),
            stop: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            answers: Mutex::new(VecDeque::with_capacity(limits::BED_ANSWERS_MAX)),
        });
        let to = SocketAddr::new(address, limits::BED_UDP_PORT);
        let in_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("bed-client".into()).spawn(move || {
            // Without the right to real time the machine's noise is measured too.
            let _ = realtime::set_thread_priority(limits::BED_PRIORITY);
            ask(&socket, to, &names, every, &in_thread);
        })?;
        Ok(Client { shared, thread: Some(thread) })
    }

    /// The longest time without an answer since `mark`: between two answers, from the last answer
    /// before `mark` on, and until now.
    pub fn outage_since(&self, mark: Instant) -> Duration {
        self.longest_since(mark, whole)
    }

    /// The same, where only what lies outside of the machine's own stalls counts.
    pub fn outage_beyond(&self, stalls: &Stalls, mark: Instant) -> Duration {
        let outage =
            |from: Instant, to: Instant| whole(from, to).saturating_sub(stalls.between(from, to));
        self.longest_since(mark, outage)
    }

    fn longest_since(
        &self,
        mark: Instant,
        span: impl Fn(Instant, Instant) -> Duration,
    ) -> Duration {
        let answers: Vec<Instant> = self.shared.answers().iter().map(|answer| answer.at).collect();
        longest_gap(answers.into_iter(), self.shared.started, mark, Instant::now(), span)
    }

    /// The newest answer, if it came after `mark`.
    pub fn answer_since(&self, mark: Instant) -> Option<Answer> {
        self.shared.answers().back().copied().filter(|answer| answer.at > mark)
    }

    /// Questions sent, and questions that the own kernel refused to send (no route, no neighbour).
    pub fn asked(&self) -> (u64, u64) {
        (self.shared.asked.load(Ordering::Relaxed), self.shared.refused.load(Ordering::Relaxed))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The longest gap in `answers` (rising) that ends after `mark`, the one open at `now` included; `span`: how long
/// one counts.
pub(super) fn longest_gap(
    answers: impl DoubleEndedIterator<Item = Instant>,
    started: Instant,
    mark: Instant,
    now: Instant,
    span: impl Fn(Instant, Instant) -> Duration,
) -> Duration {
    let mut longest = Duration::ZERO;
    let mut later = now;
    for at in answers.rev() {
        longest = longest.max(span(at, later));
        if at <= mark {
            return longest;
        }
        later = at;
    }
    longest.max(span(started.max(mark), later))
}

/// How long a gap is.
pub(super) fn whole(from: Instant, to: Instant) -> Duration {
    to.saturating_duration_since(from)
}

fn ask(socket: &UdpSocket, to: SocketAddr, names: &[String; 2], every: Duration, shared: &Shared) {
    let mut number = 0u64;
    let mut next = Instant::now();
    while !shared.stop.load(Ordering::SeqCst) {
        let now = Instant::now();
        if now >= next {
            number += 1;
            shared.asked.store(number, Ordering::Relaxed);
            // Without the address there is no neighbour to send to; the next question tries again.
            if socket.send_to(&number.to_be_bytes(), to).is_err() {
                shared.refused.fetch_add(1, Ordering::Relaxed);
            }
            // No volley for the time that this thread itself was late.
            next = (next + every).max(now);
        }
        let wait = next.saturating_duration_since(Instant::now());
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut fds, Some(TimeSpec::from(wait)), None);
        receive(socket, number, names, shared);
    }
}

fn receive(socket: &UdpSocket, number: u64, names: &[String; 2], shared: &Shared) {
    let mut buffer = [0u8; 128];
    loop {
        let length = match socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            // An ICMP error for an earlier question (no neighbour, no port): not an answer.
            Err(_) => continue,
        };
        let at = Instant::now();
        let Some((head, name)) = buffer.get(..length).and_then(|all| all.split_first_chunk())
        else {
            continue;
        };
        if u64::from_be_bytes(*head) > number {
            continue;
        }
        let from = NodeIndex::BOTH.into_iter().zip(names).find(|(_, own)| own.as_bytes() == name);
        if let Some((from, _)) = from {
            let mut answers = shared.answers();
            if answers.len() >= limits::BED_ANSWERS_MAX {
                answers.pop_front();
            }
            answers.push_back(Answer { at, from });
        }
    }
}

/// Fetches `http://address/` once from `namespace`: the name of the node that answered.
pub fn fetch(namespace: &Namespace, address: IpAddr) -> Option<String> {
    let fetch = || -> std::io::Result<String> {
        let to = SocketAddr::new(address, limits::BED_HTTP_PORT);
        let mut stream = TcpStream::connect_timeout(&to, limits::BED_STATUS_WITHIN)?;
        stream.set_read_timeout(Some(limits::BED_STATUS_WITHIN))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.take(1024).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = namespace.run(fetch).ok()?.ok()?;
    let (_, body) = text.split_once("\r\n\r\n")?;
    Some(body.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_counts_both_ends() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let gap = |answers: &[u64], mark, now| {
            let answers: Vec<Instant> = answers.iter().map(|&ms| at(ms)).collect();
            longest_gap(answers.into_iter(), start, at(mark), at(now), whole).as_millis()
        };
        assert_eq!(gap(&[10, 11, 12, 40, 41], 12, 42), 28, "between two answers");
        assert_eq!(gap(&[10, 11, 12, 40, 41], 20, 42), 28, "a gap that was open at the mark");
        assert_eq!(gap(&[10, 11, 12, 40, 41], 41, 42), 1, "earlier gaps do not count");
        assert_eq!(gap(&[10, 11, 12], 11, 99), 87, "a gap that is still open");
        assert_eq!(gap(&[], 5, 99), 94, "never an answer");
    }
}
