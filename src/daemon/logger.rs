//! The log of guard and worker: one line on standard error, with time, level and process. The journal of systemd adds
//! time and level itself, so it gets the level as a priority in front of the line (sd-daemon(3)). The log does not
//! allocate, and waits for a standard error that nobody reads only as long as it is told to.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::control::wallclock::Stamp;

/// Longest line; what is longer is cut. At most PIPE_BUF (pipe(7)), so that a pipe takes it whole.
const LINE_BYTES: usize = 2048;

/// The logger of one process.
#[derive(Debug)]
struct Logger {
    process: &'static str,
    patience: Duration,
}

static LOST: AtomicU64 = AtomicU64::new(0);
/// Standard error is a stream of the journal.
static IN_JOURNAL: AtomicBool = AtomicBool::new(false);

/// Makes this the logger of the process. A line is dropped, and counted in the next one, if standard
/// error cannot take it within `patience`.
pub fn install(process: &'static str, patience: Duration) {
    let named = std::env::var("JOURNAL_STREAM").ok();
    let is_named = named.is_some_and(|named| is_stream(std::io::stderr().as_fd(), &named));
    IN_JOURNAL.store(is_named, Ordering::Relaxed);
    // A second call can only happen in tests, and changes nothing.
    if log::set_boxed_logger(Box::new(Logger { process, patience })).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}

/// Writes a line that another process logged.
pub fn relay(process: &str, level: log::Level, text: &str, patience: Duration) {
    write_line(process, level, format_args!("{text}"), patience);
}

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        write_line(self.process, record.level(), *record.args(), self.patience);
    }

    fn flush(&self) {}
}

fn write_line(process: &str, level: log::Level, text: std::fmt::Arguments<'_>, patience: Duration) {
    let mut line = Line { bytes: [0; LINE_BYTES], length: 0 };
    // Writing into a `Line` cuts, and never fails.
    let _ = begin(&mut line, IN_JOURNAL.load(Ordering::Relaxed), level);
    let _ = write!(line, "{process}: {text}");
    match LOST.swap(0, Ordering::Relaxed) {
        0 => {}
        lost => _ = write!(line, " ({lost} lines before this were lost)"),
    }
    let stderr = std::io::stderr();
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::ZERO);
    let writable = poll(&mut [PollFd::new(stderr.as_fd(), PollFlags::POLLOUT)], timeout);
    if !matches!(writable, Ok(1..)) || stderr.lock().write_all(line.finish()).is_err() {
        LOST.fetch_add(1, Ordering::Relaxed);
    }
}

fn begin(line: &mut Line, in_journal: bool, level: log::Level) -> std::fmt::Result {
    match in_journal {
        true => write!(line, "<{}>", priority(level)),
        false => write!(line, "{} {level:5} ", Stamp(SystemTime::now())),
    }
}

/// Whether a descriptor is the stream that `JOURNAL_STREAM` names by its device and inode. A program that is started
/// with another standard error keeps the variable (systemd.exec(5)).
fn is_stream(descriptor: BorrowedFd<'_>, named: &str) -> bool {
    let Ok(stat) = nix::sys::stat::fstat(descriptor) else { return false };
    named.split_once(':').is_some_and(|(device, inode)| {
        device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
    })
}

/// The priority of syslog(3).
fn priority(level: log::Level) -> u8 {
    match level {
        log::Level::Error => 3,
        log::Level::Warn => 4,
        log::Level::Info => 6,
        log::Level::Debug | log::Level::Trace => 7,
    }
}

/// A line in memory of fixed size.
struct Line {
    bytes: [u8; LINE_BYTES],
    length: usize,
}

impl Line {
    /// The line with its end.
    fn finish(&mut self) -> &[u8] {
        let end = self.length.min(LINE_BYTES - 1);
        if let Some(last) = self.bytes.get_mut(end) {
            *last = b'\n';
        }
        self.bytes.get(..=end).unwrap_or_default()
    }
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.get_mut(self.length..LINE_BYTES - 1).unwrap_or_default();
        // One event, one line: whatever it carries, nobody can forge a second one.
        let shown = text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte });
        for (to, from) in room.iter_mut().zip(shown) {
            *to = from;
            self.length += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_a_priority_and_others_time_and_level() {
        let begun = |in_journal, level| {
            let mut line = Line { bytes: [0; LINE_BYTES], length: 0 };
            begin(&mut line, in_journal, level).unwrap();
            String::from_utf8(line.finish().to_vec()).unwrap()
        };
        assert_eq!(begun(true, log::Level::Error), "<3>\n");
        assert_eq!(begun(true, log::Level::Warn), "<4>\n");
        assert_eq!(begun(true, log::Level::Info), "<6>\n");
        let elsewhere = begun(false, log::Level::Warn);
        assert!(elsewhere.starts_with("20") && elsewhere.ends_with("Z WARN  \n"), "{elsewhere}");
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap();
        let stat = nix::sys::stat::fstat(&file).unwrap();
        let (device, inode) = (stat.st_dev, stat.st_ino);
        assert!(is_stream(file.as_fd(), &format!("{device}:{inode}")));
        for other in [format!("{device}:{}", inode + 1), format!("{inode}"), "1:".into(), "".into()]
        {
            assert!(!is_stream(file.as_fd(), &other), "{other}");
        }
    }

    #[test]
    fn lines_are_cut_and_stay_one_line() {
        let mut line = Line { bytes: [0; LINE_BYTES], length: 0 };
        write!(line, "one\ntwo").unwrap();
        assert_eq!(line.finish(), b"one two\n");
        write!(line, "{}", "x".repeat(2 * LINE_BYTES)).unwrap();
        assert_eq!(line.finish().len(), LINE_BYTES);
        assert_eq!(line.finish().last(), Some(&b'\n'));
        assert_eq!(line.finish().iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
