//! The log of guard and worker: one line on standard error, with time, level and process. It does not
//! allocate, and waits for a standard error that nobody reads only as long as it is told to.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Makes this the logger of the process. A line is dropped, and counted in the next one, if standard
/// error cannot take it within `patience`.
pub fn install(process: &'static str, patience: Duration) {
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
    let stamp = Stamp(SystemTime::now());
    // Writing into a `Line` cuts, and never fails.
    let _ = write!(line, "{stamp} {level:5} {process}: {text}");
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
