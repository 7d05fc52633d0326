//! The fetchers: get pages of the site from the service address all the while, note when a whole one
//! came, and keep what was not whole, or of another page.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Known, PAGES};
use crate::client::{longest_gap, whole};
use crate::limits;
use crate::{Bed, BedError};
use clusterd::sim::rng::Rng;
use clusterd::sys::realtime;

/// Clients that fetch as long as this value lives.
#[derive(Debug)]
pub struct Fetcher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    started: Instant,
    stop: AtomicBool,
    known: Known,
    to: SocketAddr,
    fetched: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// When whole answers came, rising.
    answers: VecDeque<Instant>,
    /// What was wrong with bodies that were not whole.
    broken: Vec<String>,
}

impl Shared {
    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fetcher {
    /// Starts to fetch from the client of a bed.
    ///
    /// # Errors
    /// No thread.
    pub fn start(bed: &Bed, known: Known) -> Result<Fetcher, BedError> {
        let shared = Arc::new(Shared {
            started: Instant::now(),
            stop: AtomicBool::new(false),
            known,
            to: SocketAddr::new(bed.address(), limits::BED_WEB_PORT),
            fetched: AtomicU64::new(0),
            log: Mutex::default(),
        });
        let mut fetcher = Fetcher { shared: Arc::clone(&shared), threads: Vec::new() };
        for seed in 0..limits::BED_FETCHERS as u64 {
            let shared = Arc::clone(&shared);
            let body = move || {
                // Without the right to real time the machine's noise is measured too.
                let _ = realtime::set_thread_priority(limits::BED_PRIORITY);
                fetch(&shared, &mut Rng::new(seed));
            };
            // A thread is where the one is that starts it.
            let spawn = || std::thread::Builder::new().name("bed-fetcher".into()).spawn(body);
            fetcher.threads.push(bed.wiring().client.run(spawn)??);
        }
        Ok(fetcher)
    }

    /// The longest time without a whole answer between two moments: from the last answer before the
    /// first on, and until the second.
    pub fn outage_between(&self, from: Instant, to: Instant) -> Duration {
        let log = self.shared.log();
        let answers = log.answers.iter().copied().filter(|&at| at <= to);
        longest_gap(answers, self.shared.started, from, to, whole)
    }

    /// Whole answers until now.
    pub fn fetched(&self) -> u64 {
        self.shared.fetched.load(Ordering::Relaxed)
    }

    /// Takes what was wrong with bodies since the last time.
    pub fn take_broken(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.log().broken)
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn fetch(shared: &Shared, rng: &mut Rng) {
    let mut next = Instant::now();
    while !shared.stop.load(Ordering::SeqCst) {
        if let Some(name) = rng.one_of(shared.known.names()) {
            // No answer, or half of one before the connection was lost: it is not counted.
            if let Ok(answer) = get(shared.to, name) {
                take(shared, name, &answer);
            }
        }
        next = (next + limits::BED_FETCH_EVERY).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn take(shared: &Shared, name: &str, answer: &Answer) {
    let wrong = match answer.status {
        200 => (!shared.known.is_whole(name, &answer.body)).then(|| {
            format!("{name}: {} bytes that are no whole version of it", answer.body.len())
        }),
        // The writer deletes its pages.
        404 if name.starts_with(PAGES) => None,
        status => Some(format!("{name}: status {status}")),
    };
    let at = Instant::now();
    let mut log = shared.log();
    match wrong {
        Some(wrong) => log.broken.push(wrong),
        None => {
            shared.fetched.fetch_add(1, Ordering::Relaxed);
            if log.answers.len() >= limits::BED_ANSWERS_MAX {
                log.answers.pop_front();
            }
            // Under the lock the time may be older than that of the answer before.
            let latest = log.answers.back().copied();
            log.answers.push_back(latest.map_or(at, |latest| at.max(latest)));
        }
    }
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// Asks for one page. An error: no answer, or not as many bytes as it announced.
fn get(to: SocketAddr, name: &str) -> io::Result<Answer> {
    let deadline = Instant::now() + limits::BED_FETCH_WITHIN;
    let left = || match deadline.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(io::Error::from(io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut stream = TcpStream::connect_timeout(&to, left()?)?;
    stream.set_write_timeout(Some(left()?))?;
    let host = match to.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    stream.write_all(format!("GET /{name} HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes())?;
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        stream.set_read_timeout(Some(left()?))?;
        match stream.read(&mut buffer)? {
            0 => break,
            length => bytes.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
    }
    parse(bytes).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Status and body; `None` if it is not as long as it says.
fn parse(mut bytes: Vec<u8>) -> Option<Answer> {
    const BLANK: &[u8] = b"\r\n\r\n";
    let end = bytes.windows(BLANK.len()).position(|part| part == BLANK)?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    let (_, length) = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = length.trim().parse().ok()?;
    let body = bytes.split_off(end + BLANK.len());
    (body.len() == length).then_some(Answer { status, body })
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn an_answer_is_as_long_as_it_says_or_none() {
        let all = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 4\r\n\r\na\r\n\r";
        let answer = parse(all.to_vec()).expect("an answer");
        assert_eq!((answer.status, answer.body.as_slice()), (200, b"a\r\n\r".as_slice()));
        for cut in 0..all.len() {
            assert!(parse(all[..cut].to_vec()).is_none(), "the first {cut} bytes");
        }
        assert!(parse([all.as_slice(), b"x"].concat()).is_none(), "one byte more");
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\nbody".to_vec()).is_none(), "no length");
    }
}
