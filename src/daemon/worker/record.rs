//! `run --record FILE`: every input of the heart, one line each, for a replay. A restarted heart begins
//! a new recording in the same file with its own first line.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::limits::LINK_LINES_MAX;

/// The way to the recorder's thread.
#[derive(Debug)]
pub struct Recorder {
    sender: Sender<String>,
    dropped: Arc<AtomicU64>,
}

/// The recorder's end of it.
#[derive(Debug)]
pub struct RecorderEnd {
    receiver: Receiver<String>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// A bounded way.
    pub fn new() -> (Recorder, RecorderEnd) {
        let (sender, receiver) = bounded(LINK_LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        (Recorder { sender, dropped: Arc::clone(&dropped) }, RecorderEnd { receiver, dropped })
    }

    /// Never waits: if the disk is so slow that the way is full, the line is dropped, and counted.
    pub fn push(&self, line: String) {
        if self.sender.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The recorder's thread, until the other end is gone.
pub fn run(path: &Path, end: &RecorderEnd) {
    let mut file = match open(path) {
        Ok(file) => file,
        Err(error) => {
            log::error!("nothing is recorded in {}: {error}", path.display());
            return;
        }
    };
    let mut failed = false;
    for mut line in &end.receiver {
        match end.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => log::error!("the recording lacks {lost} lines: the disk is too slow"),
        }
        line.push('\n');
        match file.write_all(line.as_bytes()) {
            Ok(()) => failed = false,
            Err(error) if failed => drop(error),
            Err(error) => {
                log::error!("the recording lacks lines: {}: {error}", path.display());
                failed = true;
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_appended_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("recording");
        for round in 0..2 {
            let (recorder, end) = Recorder::new();
            for number in 0..3 {
                recorder.push(format!("{round} {number}"));
            }
            drop(recorder);
            run(&path, &end);
        }
        let written = std::fs::read_to_string(path).unwrap();
        assert_eq!(written, "0 0\n0 1\n0 2\n1 0\n1 1\n1 2\n");
    }
}
