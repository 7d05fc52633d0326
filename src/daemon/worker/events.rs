//! The keeper of events: `events.jsonl` in the state directory, and the log on standard error.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::control::event::{Kind, Record, Told};
use crate::daemon::logger;
use crate::limits::{EVENTS_BYTES_MAX, KEEPER_EVENTS_MAX, LOG_PATIENCE};

/// Something for the keeper.
#[derive(Debug)]
pub enum Kept {
    /// Keep it in the file, show it in the log.
    Event(Record),
    /// Show it in the log.
    Log {
        /// How grave.
        level: log::Level,
        /// The line.
        text: String,
    },
}

/// The way to the keeper's thread.
#[derive(Debug)]
pub struct Keeper {
    sender: Sender<Kept>,
    dropped: Arc<AtomicU64>,
}

/// The keeper's end of it.
#[derive(Debug)]
pub struct KeeperEnd {
    receiver: Receiver<Kept>,
    dropped: Arc<AtomicU64>,
}

impl Keeper {
    /// A bounded way.
    pub fn new() -> (Keeper, KeeperEnd) {
        let (sender, receiver) = bounded(KEEPER_EVENTS_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        (Keeper { sender, dropped: Arc::clone(&dropped) }, KeeperEnd { receiver, dropped })
    }

    /// Never waits: if the disk is so slow that the way is full, it is dropped, and counted.
    pub fn push(&self, kept: Kept) {
        if self.sender.try_send(kept).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The keeper's thread, until the other end is gone.
pub fn run(state_dir: &Path, end: &KeeperEnd) {
    let mut journal = Journal::new(state_dir);
    let mut failing = None;
    for kept in &end.receiver {
        match end.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => log::error!("{lost} events or log lines were lost: the disk is too slow"),
        }
        let record = match kept {
            Kept::Event(record) => record,
            Kept::Log { level, text } => {
                logger::relay("heart", level, &text, LOG_PATIENCE);
                continue;
            }
        };
        logger::relay("event", level(&record.told), &sentence(&record), LOG_PATIENCE);
        match journal.append(&record) {
            Ok(()) => failing = None,
            Err(error) => {
                let error = error.to_string();
                if failing.as_ref() != Some(&error) {
                    log::error!("{}: events are not kept: {error}", journal.path.display());
                }
                failing = Some(error);
            }
        }
    }
}

/// A warning is what somebody must look at; the rest is the course of things.
fn level(told: &Told) -> log::Level {
    match told.kind {
        // A start brings them up, and so does a repair.
        Kind::Path | Kind::Carrier if told.evidence.get("now").is_some_and(|now| now == "up") => {
            log::Level::Info
        }
        Kind::PeerDead
        | Kind::Path
        | Kind::Carrier
        | Kind::Refused
        | Kind::Address
        | Kind::Stall
        | Kind::Config
        | Kind::Service
        | Kind::Conflict
        | Kind::Fault => log::Level::Warn,
        Kind::Start
        | Kind::Stop
        | Kind::PeerAlive
        | Kind::PeerState
        | Kind::Late
        | Kind::Reach
        // The death before it is the warning.
        | Kind::Takeover
        | Kind::Switchover
        | Kind::Failback
        | Kind::Release
        | Kind::Mirror
        | Kind::Clients
        | Kind::Standby => log::Level::Info,
    }
}

fn sentence(record: &Record) -> String {
    match &record.told.group {
        Some(group) => format!("{group}: {}", record.told.text),
        None => record.told.text.clone(),
    }
}

/// A file of JSON lines that is exchanged for a new one when it is full; one old one is kept.
#[derive(Debug)]
struct Journal {
    path: PathBuf,
    old: PathBuf,
    open: Option<(File, u64)>,
}

impl Journal {
    fn new(state_dir: &Path) -> Journal {
        Journal {
            path: state_dir.join("events.jsonl"),
            old: state_dir.join("events.jsonl.1"),
            open: None,
        }
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        if size > 0 && size + line.len() as u64 > EVENTS_BYTES_MAX {
            std::fs::rename(&self.path, &self.old)?;
            (file, size) = self.open()?;
        }
        // On failure the file is not kept open: the next event begins by repairing its end.
        file.write_all(&line)?;
        file.sync_data()?;
        self.open = Some((file, size + line.len() as u64));
        Ok(())
    }

    /// Opens the file; a line that a power cut or a full disk left unfinished is ended.
    fn open(&self) -> io::Result<(File, u64)> {
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o640);
        let mut file = options.open(&self.path)?;
        let mut size = file.metadata()?.len();
        let mut last = [b'\n'];
        if size > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n")?;
            size += 1;
        }
        Ok((file, size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::worker::tests::record;

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn events_are_kept_as_json_lines_and_the_file_is_exchanged_when_full() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path());
        let long = "x".repeat(40_000);
        let count = EVENTS_BYTES_MAX / 40_000 + 10;
        for number in 0..count {
            journal.append(&record(&format!("{number} {long}"))).unwrap();
        }
        let (old, new) = (lines(&journal.old), lines(&journal.path));
        assert_eq!(old.len() + new.len(), count as usize);
        assert!(std::fs::metadata(&journal.old).unwrap().len() <= EVENTS_BYTES_MAX);
        for (number, line) in old.iter().chain(&new).enumerate() {
            let read: Record = serde_json::from_str(line).unwrap();
            assert!(read.told.text.starts_with(&format!("{number} ")));
        }
    }

    #[test]
    fn what_comes_up_is_no_warning() {
        let told = |kind, now: &str| Told {
            kind,
            evidence: [("now".to_string(), now.into())].into(),
            ..record("x").told
        };
        for kind in [Kind::Path, Kind::Carrier] {
            assert_eq!(level(&told(kind, "up")), log::Level::Info);
            for now in ["down", "silent", "one-way"] {
                assert_eq!(level(&told(kind, now)), log::Level::Warn, "{now}");
            }
        }
        assert_eq!(level(&told(Kind::PeerDead, "up")), log::Level::Warn);
    }

    #[test]
    fn an_unfinished_line_does_not_spoil_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let mut journal = Journal::new(directory.path());
        std::fs::write(&journal.path, "{\"half").unwrap();
        journal.append(&record("whole")).unwrap();
        let lines = lines(&journal.path);
        assert_eq!(lines[0], "{\"half");
        assert_eq!(serde_json::from_str::<Record>(&lines[1]).unwrap(), record("whole"));
    }

    #[test]
    fn the_way_to_the_keeper_never_blocks() {
        let (keeper, end) = Keeper::new();
        for _ in 0..KEEPER_EVENTS_MAX + 3 {
            keeper.push(Kept::Event(record("again")));
        }
        assert_eq!(end.dropped.load(Ordering::Relaxed), 3);
        drop(keeper);
        assert_eq!(end.receiver.iter().count(), KEEPER_EVENTS_MAX);
    }
}
