//! One program run to its end: with a deadline, a cancellation, and its last words.

use std::ffi::OsString;
use std::io::{self, PipeReader, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::cancellation::{Cancellation, Cancelled, wait};
use crate::limits::{SERVICE_KILL_PATIENCE, SERVICE_WORDS_BYTES, SERVICE_WORDS_CHARS};
use crate::sys::process::{Child, Exit};

/// What the programs of a group are given, and nothing else: PATH, LANG and who they are for.
pub(super) type Environment = Vec<(OsString, OsString)>;

/// What is to be run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script<'a> {
    pub program: &'a Path,
    pub argument: Option<&'a str>,
    pub environment: &'a Environment,
    /// Longer than this it is killed, with its process group.
    pub patience: Duration,
}

/// How it ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself, or by somebody else's signal.
    Exit(Exit),
    /// It was killed: it took too long.
    TooLong,
    /// It was killed: the cancellation was pulled.
    Pulled,
    /// It was left alone: the cancellation was dropped.
    Dropped,
    /// It could not be run.
    NotRun(io::Error),
}

/// A run that is over.
#[derive(Debug)]
pub(super) struct Ran {
    pub end: End,
    /// The last of what it said.
    pub words: String,
}

impl Script<'_> {
    /// Runs it: in `/`, with nothing on its standard input, in a process group of its own.
    pub fn run(&self, cancel: &Cancellation) -> Ran {
        let mut tail = Tail::default();
        let end = self.run_with(cancel, &mut tail).unwrap_or_else(End::NotRun);
        Ran { end, words: words(&tail.bytes) }
    }

    fn run_with(&self, cancel: &Cancellation, tail: &mut Tail) -> io::Result<End> {
        let deadline = Instant::now() + self.patience;
        let (reader, writer) = io::pipe()?;
        let flags = OFlag::from_bits_retain(fcntl(&reader, FcntlArg::F_GETFL)?);
        fcntl(&reader, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // The command holds the pipe's other ends: it is gone when the program runs.
        let started = Command::new(self.program)
            .args(self.argument)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_raw(i32::try_from(started.id()).map_err(io::Error::other)?);
        let mut child = Child::watch(pid).inspect_err(|_| {
            // An error: it has ended by itself.
            let _ = killpg(pid, Signal::SIGKILL);
        })?;
        let mut output = Some(reader);
        loop {
            match &output {
                Some(reader) => {
                    wait(&[child.as_fd(), cancel.as_fd(), reader.as_fd()], Some(deadline))
                }
                None => wait(&[child.as_fd(), cancel.as_fd()], Some(deadline)),
            }
            // Looked at before the output is read: then its last words are in the pipe.
            let exit = child.exit();
            if output.as_mut().is_some_and(|reader| tail.read(reader)) {
                output = None;
            }
            if let Some(exit) = exit {
                return Ok(End::Exit(exit));
            }
            let end = match cancel.state() {
                Cancelled::Dropped => return Ok(End::Dropped),
                Cancelled::Pulled => End::Pulled,
                Cancelled::None if Instant::now() >= deadline => End::TooLong,
                Cancelled::None => continue,
            };
            // It is not yet waited for, so the number of the group is still its own.
            // An error: it has ended by itself.
            let _ = killpg(pid, Signal::SIGKILL);
            wait(&[child.as_fd()], Some(Instant::now() + SERVICE_KILL_PATIENCE));
            let _ = child.exit();
            return Ok(end);
        }
    }
}

/// The last bytes of an output.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    /// Takes what is there; true: there will be no more.
    fn read(&mut self, reader: &mut PipeReader) -> bool {
        let mut buffer = [0; SERVICE_WORDS_BYTES];
        // A pipe's worth (64 KiB): one that never stops talking must not keep its own deadline away.
        for _ in 0..32 {
            match reader.read(&mut buffer) {
                Ok(0) => return true,
                Ok(length) => {
                    self.bytes.extend_from_slice(buffer.get(..length).unwrap_or_default());
                    let too_much = self.bytes.len().saturating_sub(SERVICE_WORDS_BYTES);
                    self.bytes.drain(..too_much);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}

/// The end of an output as one line.
pub(super) fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = line.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    let cut = line.chars().count().saturating_sub(SERVICE_WORDS_CHARS);
    shown.skip(cut).collect()
}

/// `what`, with the last words behind it if there are any.
pub(super) fn saying(what: &str, words: &str) -> String {
    if words.is_empty() { what.to_owned() } else { format!("{what}, saying {words:?}") }
}

#[cfg(test)]
pub(super) mod tests;
