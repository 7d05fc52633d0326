//! The worker's side of a holder: starting one, finding one that an earlier worker started, ending one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, PipeReader, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::cancellation::{Cancellation, Cancelled, is_ready, wait};
use super::proc;
use super::run::{Environment, saying, words};
use crate::limits::{
    HOLD_ANSWER_BYTES_MAX, HOLD_RECORD_BYTES_MAX, SERVICE_LOG_BYTES_MAX, SERVICE_WORDS_BYTES,
};
use crate::sys::pidfd::PidFd;

/// Where the records and logs of all services are, in the run directory.
pub(super) fn directory(run_dir: &Path) -> PathBuf {
    run_dir.join("services")
}

/// The record of a service's holder. By the program, not by its place in the config: an edited config
/// must not take one service for another.
pub(super) fn record(run_dir: &Path, group: &str, program: &Path) -> PathBuf {
    let hash = blake3::hash(program.as_os_str().as_encoded_bytes()).to_hex();
    directory(run_dir).join(format!("{group}.{}", hash.get(..12).unwrap_or_default()))
}

/// A holder that runs.
#[derive(Debug)]
pub(super) struct Hold {
    process: PidFd,
    /// Its number, for people.
    pub pid: i32,
}

impl Hold {
    /// The holder that `record` names, if it still runs.
    pub fn find(record: &Path) -> Option<Hold> {
        read_record(record).map(|(hold, _)| hold)
    }

    /// Tells it to kill everything that it holds.
    ///
    /// # Errors
    /// Not allowed.
    pub fn kill(&self) -> io::Result<()> {
        self.process.signal(Signal::SIGTERM)
    }

    /// Waits until it has ended, and with it everything that it held; false: it has not in `patience`,
    /// or it was cancelled.
    pub fn wait(&self, cancel: &Cancellation, patience: Option<Duration>) -> bool {
        let deadline = patience.map(|patience| Instant::now() + patience);
        loop {
            if self.process.has_ended() {
                self.process.reap();
                return true;
            }
            let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if late || cancel.state() != Cancelled::None {
                return false;
            }
            wait(&[self.process.as_fd(), cancel.as_fd()], deadline);
        }
    }
}

impl AsFd for Hold {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }
}

/// A holder and the program that it holds. A record whose process has ended, or is another one (the
/// start differs), is none; nor is one that makes no sense, which only a full disk leaves.
fn read_record(record: &Path) -> Option<(Hold, String)> {
    let mut text = String::new();
    File::open(record).ok()?.take(HOLD_RECORD_BYTES_MAX).read_to_string(&mut text).ok()?;
    let mut fields = text.trim_end().splitn(3, ' ');
    let pid: i32 = fields.next()?.parse().ok()?;
    let started: u64 = fields.next()?.parse().ok()?;
    let program = fields.next()?.to_owned();
    // First the handle, then the look: what is looked at is what the handle means.
    let process = PidFd::open(pid).ok()?;
    let same = proc::stat(pid).is_ok_and(|stat| stat.started == started);
    (same && !process.has_ended()).then_some((Hold { process, pid }, program))
}

/// Shims that run for services which are in no group of the config any more, as sentences. `known`: the
/// programs of each group.
pub fn strays<'a>(run_dir: &Path, known: impl Iterator<Item = (&'a str, &'a Path)>) -> Vec<String> {
    let known: Vec<PathBuf> =
        known.map(|(group, program)| record(run_dir, group, program)).collect();
    let Ok(entries) = fs::read_dir(directory(run_dir)) else { return Vec::new() };
    let strays = entries.filter_map(Result::ok).map(|entry| entry.path());
    let is_stray =
        |path: &PathBuf| !known.contains(path) && path.extension().is_none_or(|end| end != "log");
    let strays = strays.filter(is_stray).filter_map(|path| read_record(&path));
    let sentence = |(hold, program): (Hold, String)| {
        format!(
            "{program} still runs and is in no group of the config: stop it, or end it with \
             `kill {}`",
            hold.pid
        )
    };
    strays.map(sentence).collect()
}

/// What is needed to start a holder.
#[derive(Clone, Copy, Debug)]
pub(super) struct Begin<'a> {
    /// This program's own file.
    pub clusterd: &'a Path,
    pub record: &'a Path,
    pub program: &'a Path,
    pub environment: &'a Environment,
    /// Longer than this and everything is killed.
    pub patience: Duration,
}

/// How `start` ended.
#[derive(Debug)]
pub(super) struct Begun {
    /// The holder; it may be about to end.
    pub hold: Option<Hold>,
    /// True: it is done and has left processes. False: it is done, and nothing is held. Or why not.
    pub held: Result<bool, String>,
}

impl Begin<'_> {
    /// Starts the holder and waits until `start` has ended.
    pub fn begin(&self, cancel: &Cancellation) -> Begun {
        match self.spawn() {
            Ok((hold, answer)) => {
                let held = self.wait(&hold, answer, cancel);
                Begun { hold: Some(hold), held }
            }
            Err(error) => {
                let why = format!("its holder cannot be started: {error}");
                Begun { hold: None, held: Err(why) }
            }
        }
    }

    fn spawn(&self) -> io::Result<(Hold, PipeReader)> {
        if let Some(directory) = self.record.parent() {
            DirBuilder::new().recursive(true).mode(0o750).create(directory)?;
        }
        let mut options = OpenOptions::new();
        let log = options.create(true).append(true).mode(0o640).open(log_of(self.record))?;
        log.set_len(0)?;
        let (reader, writer) = io::pipe()?;
        let child = Command::new(self.clusterd)
            .arg0("clusterd")
            .arg("hold")
            .args([self.record, self.program])
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(log)
            .spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        Ok((Hold { process: PidFd::open(pid)?, pid }, reader))
    }

    fn wait(
        &self,
        hold: &Hold,
        mut answer: PipeReader,
        cancel: &Cancellation,
    ) -> Result<bool, String> {
        let deadline = Instant::now() + self.patience;
        let late = || Instant::now() >= deadline;
        while !is_ready(answer.as_fd()) {
            let why = match cancel.state() {
                Cancelled::None if late() => {
                    let took = format!("`start` took longer than {:?}", self.patience);
                    saying(&took, &last_words(self.record))
                }
                Cancelled::None => {
                    wait(&[answer.as_fd(), cancel.as_fd()], Some(deadline));
                    continue;
                }
                Cancelled::Dropped => return Err("it was left running".to_owned()),
                Cancelled::Pulled => "`start` was interrupted".to_owned(),
            };
            return match hold.kill() {
                Ok(()) => Err(why),
                Err(error) => Err(format!("{why}, and could not be killed: {error}")),
            };
        }
        // Shorter than a pipe's atom: there whole or not at all.
        let mut buffer = [0; HOLD_ANSWER_BYTES_MAX];
        let length = answer.read(&mut buffer).unwrap_or(0);
        let line = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        let fields: Vec<&str> = line.split_whitespace().collect();
        let what = match fields.as_slice() {
            ["started", "0", "held"] => return Ok(true),
            ["started", "0", "empty"] => return Ok(false),
            ["started", "127", _] => {
                "`start` ended with status 127: is the program there, and executable?".to_owned()
            }
            ["started", status, _] => format!("`start` ended with status {status}"),
            _ => "its holder ended without an answer".to_owned(),
        };
        Err(saying(&what, &last_words(self.record)))
    }
}

fn log_of(record: &Path) -> PathBuf {
    let mut path = record.as_os_str().to_owned();
    path.push(".log");
    path.into()
}

/// The end of what a service has said since its start.
pub(super) fn last_words(record: &Path) -> String {
    let read = || {
        let mut file = File::open(log_of(record))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(SERVICE_WORDS_BYTES as u64)))?;
        let mut bytes = Vec::new();
        file.take(SERVICE_WORDS_BYTES as u64).read_to_end(&mut bytes).map(|_| bytes)
    };
    // No log, no words: they only say more about a failure that is told anyway.
    read().map_or(String::new(), |bytes: Vec<u8>| words(&bytes))
}

/// Empties a log that has grown too long; the service goes on writing at its begin (O_APPEND).
///
/// # Errors
/// The run directory refuses.
pub(super) fn bound_log(record: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).open(log_of(record)) {
        Ok(log) if log.metadata()?.len() > SERVICE_LOG_BYTES_MAX => log.set_len(0),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
