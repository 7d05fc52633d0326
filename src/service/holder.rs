//! The holder: `clusterd hold RECORD PROGRAM`, the parent of everything that a service starts.
//!
//! It runs `PROGRAM start`, says on its standard output how that ended (`started STATUS held`, or
//! `empty` if nothing was left behind), and stays as long as anything of it lives. Processes that lose
//! their parent become the holder's children (PR_SET_CHILD_SUBREAPER, prctl(2)), so none can escape it.
//! SIGTERM: it kills its children, then those that become its children by that, until there is none.
//!
//! It is a process of its own, so that a service does not notice when the daemon's worker ends. Its
//! record lets the next worker find it.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, dup2_stdout, setsid};

use super::cancellation::wait;
use super::proc;
use crate::limits::{HOLD_KILL_EVERY, HOLD_LOOK_EVERY};
use crate::sys::process::{Program, keep_from_children, shrug_off};

/// Is the holder, until nothing of the service is left.
///
/// # Errors
/// The program was not started: a system call failed that does not on a working system.
pub fn run(record: &Path, program: &Path) -> io::Result<()> {
    nix::sys::prctl::set_name(c"clusterd-hold")?;
    keep_from_children()?;
    // A worker that has gone must not take the holder with it; the program gets SIGPIPE as usual.
    shrug_off(&[Signal::SIGPIPE])?;
    setsid()?;
    nix::sys::prctl::set_child_subreaper(true)?;
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        wanted.add(signal);
    }
    wanted.thread_block()?;
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
    let answer = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // What the program says goes to the log, which the worker gave as standard error.
    dup2_stdout(io::stderr())?;
    write_record(record, program)?;
    let argv = [program.as_os_str().to_owned(), "start".into()];
    let started = Program::new(program, &argv, &[], Vec::new())?.start();
    let start = started.inspect_err(|_| remove_record(record))?.pid();
    let mut holder = Holder { start, answer: Some(answer), killing: false };
    while holder.tend() {
        let pause = if holder.killing { HOLD_KILL_EVERY } else { HOLD_LOOK_EVERY };
        wait(&[signals.as_fd()], Some(Instant::now() + pause));
        keep_record(record, program);
        while let Ok(Some(signal)) = signals.read_signal() {
            holder.killing |= signal.ssi_signo == Signal::SIGTERM as u32;
        }
    }
    remove_record(record);
    Ok(())
}

struct Holder {
    /// The process of `PROGRAM start`.
    start: i32,
    /// Where the worker waits for the end of that; closed when it was told.
    answer: Option<File>,
    killing: bool,
}

impl Holder {
    /// One round; false: nothing is left.
    fn tend(&mut self) -> bool {
        let (ended, left) = self.reap();
        if let Some(status) = ended
            && let Some(mut answer) = self.answer.take()
        {
            let held = if left { "held" } else { "empty" };
            // In one piece: the worker reads once. Without a worker nobody needs to know.
            let line = format!("started {status} {held}\n");
            let _ = answer.write_all(line.as_bytes());
        }
        if left && self.killing {
            self.kill_children();
        }
        left
    }

    /// Waits for whoever has ended: the exit status of `start`, if it was among them (128 and more: a
    /// signal), and whether any child is left.
    fn reap(&self) -> (Option<i32>, bool) {
        let mut start = None;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, status)) if pid.as_raw() == self.start => {
                    start = start.or(Some(status));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid.as_raw() == self.start => {
                    start = start.or(Some(128 + signal as i32));
                }
                Ok(WaitStatus::StillAlive) => return (start, true),
                Err(Errno::ECHILD) => return (start, false),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Only the direct ones: nobody but this process waits for them, so their numbers are their own.
    /// Those that they leave behind come next. Parents first: nothing that is killed is started again.
    fn kill_children(&self) {
        match proc::children(Pid::this().as_raw()) {
            Ok(children) => {
                for child in children {
                    // The only possible error is that it has ended.
                    let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
                }
            }
            Err(error) => tell(&format!("the processes to kill cannot be found: {error}")),
        }
    }
}

/// By its name and start: see [`super::hold::Hold::find`].
fn write_record(record: &Path, program: &Path) -> io::Result<()> {
    let started = proc::stat(Pid::this().as_raw())?.started;
    let mut new = record.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, format!("{} {started} {}\n", process::id(), program.display()))?;
    fs::rename(&new, record)
}

/// Writes the record again if the run directory was emptied, or another one was mounted over it: without
/// it the next worker would start the service a second time.
fn keep_record(record: &Path, program: &Path) {
    if record.try_exists().is_ok_and(|there| !there) {
        // What cannot be written now is tried again soon; whom it concerns has the run directory itself
        // in trouble, which the daemon tells.
        let _ = make_directory(record).and_then(|()| write_record(record, program));
    }
}

fn make_directory(record: &Path) -> io::Result<()> {
    match record.parent() {
        Some(directory) => DirBuilder::new().recursive(true).mode(0o750).create(directory),
        None => Ok(()),
    }
}

fn remove_record(record: &Path) {
    if let Err(error) = fs::remove_file(record) {
        tell(&format!("{} cannot be removed: {error}", record.display()));
    }
}

/// A line in the service's log.
fn tell(text: &str) {
    let _ = writeln!(io::stderr(), "clusterd hold: {text}");
}
