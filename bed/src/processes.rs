//! The processes of a node: all those in its namespace.

use std::collections::BTreeSet;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::BedError;
use super::options::DEMO;
use crate::limits;
use clusterd::sys::ns::Namespace;

/// Which processes of a node a signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The guard.
    Guard,
    /// The heart.
    Heart,
    /// The worker.
    Worker,
    /// All, the responder too.
    All,
}

impl Target {
    /// The process name (`comm`, 15 bytes at most), if it is one process.
    fn comm(self) -> Option<&'static str> {
        match self {
            Target::Guard => Some("clusterd-guard"),
            Target::Heart => Some("clusterd-heart"),
            Target::Worker => Some("clusterd-work"),
            Target::All => None,
        }
    }
}

/// A process as /proc/PID/stat shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its name, 15 bytes at most.
    pub comm: String,
    /// Its state: `S`, `T`, ... (proc(5)).
    pub state: char,
}

/// Whether a process of this name is of the daemon, and not what the bed runs beside it.
pub fn is_of_daemon(comm: &str) -> bool {
    comm.starts_with("clusterd-") && comm != DEMO
}

/// Sends `signal` to the processes of `target` and returns how many there were.
///
/// # Errors
/// A process could not be signalled.
pub fn signal(namespace: &Namespace, target: Target, signal: Signal) -> Result<usize, BedError> {
    let mut count = 0;
    for process in list(namespace)? {
        if target.comm().is_none_or(|comm| comm == process.comm) {
            send(process.pid, signal)?;
            count += 1;
        }
    }
    Ok(count)
}

/// Stops all processes, and returns when none runs any more. One that waits inside the kernel (state `D`: for a disk, or
/// in vfork(2) for a child that was stopped before it) stops before it does anything else.
///
/// # Errors
/// Some still run after [`limits::BED_SOON`].
pub fn freeze(namespace: &Namespace) -> Result<(), BedError> {
    let deadline = Instant::now() + limits::BED_SOON;
    let mut told = BTreeSet::new();
    loop {
        let stops = |process: &Process| {
            process.state == 'T' || (process.state == 'D' && told.contains(&process.pid))
        };
        let running: Vec<Process> =
            list(namespace)?.into_iter().filter(|process| !stops(process)).collect();
        if running.is_empty() {
            return Ok(());
        }
        for process in running {
            send(process.pid, Signal::SIGSTOP)?;
            told.insert(process.pid);
        }
        if Instant::now() > deadline {
            return Err(BedError::Late("the processes of the node to stop".into()));
        }
    }
}

/// Kills all processes and returns when none is left.
///
/// # Errors
/// Some still exist after [`limits::BED_SOON`].
pub fn kill_all(namespace: &Namespace) -> Result<(), BedError> {
    let deadline = Instant::now() + limits::BED_SOON;
    let mut killed = Vec::new();
    loop {
        let processes = list(namespace)?;
        if processes.is_empty() {
            break;
        }
        for process in processes {
            send(process.pid, Signal::SIGKILL)?;
            killed.push(process.pid);
        }
        if Instant::now() > deadline {
            return Err(BedError::Late("the processes of the node to end".into()));
        }
        std::thread::yield_now();
    }
    // A process leaves its namespace before it lets go of its files and locks.
    for pid in killed {
        while !is_buried(pid) {
            if Instant::now() > deadline {
                return Err(BedError::Late("the processes of the node to end".into()));
            }
            std::thread::yield_now();
        }
    }
    Ok(())
}

/// Whether nothing is left of a killed process. It is a child of this one, or becomes so when its
/// parent dies (subreaper).
fn is_buried(pid: i32) -> bool {
    match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)) {
        Ok(WaitStatus::StillAlive) => false,
        Ok(_) => true,
        Err(_) => !std::path::Path::new(&format!("/proc/{pid}")).exists(),
    }
}

/// All living processes in the namespace.
///
/// # Errors
/// /proc can't be read.
pub fn list(namespace: &Namespace) -> Result<Vec<Process>, BedError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        if namespace.holds(pid)
            && let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            && let Some(process) = parse_stat(pid, &stat)
            && process.state != 'Z'
            && process.state != 'X'
        {
            found.push(process);
        }
    }
    Ok(found)
}

/// Reads "PID (COMM) STATE ...". COMM may hold spaces and brackets, so the last bracket counts.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, comm) = head.split_once('(')?;
    let state = tail.trim_start().chars().next()?;
    Some(Process { pid, comm: comm.to_owned(), state })
}

fn send(pid: i32, signal: Signal) -> Result<(), BedError> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(BedError::Io(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_stat;

    #[test]
    fn a_name_with_brackets_is_read_whole() {
        let process = parse_stat(7, "7 (a) b (c) T 1 7 7").expect("a process");
        assert_eq!((process.comm.as_str(), process.state), ("a) b (c", 'T'));
        assert_eq!(parse_stat(7, ""), None);
    }
}
