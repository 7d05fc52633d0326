//! `notify.exec`: one event as JSON on standard input, one at a time, in order.

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::service_manager::NOTIFY_SOCKET;
use crate::control::event::Record;
use crate::limits::{NOTIFY_EVENTS_MAX, NOTIFY_PATIENCE};
use crate::sys::process::{Child, Exit};

/// The way to the notifier's thread.
#[derive(Debug)]
pub struct Notifier {
    sender: Sender<Record>,
    /// To drop the oldest.
    receiver: Receiver<Record>,
    dropped: Arc<AtomicU64>,
}

/// The notifier's end of it.
#[derive(Debug)]
pub struct NotifierEnd {
    receiver: Receiver<Record>,
    dropped: Arc<AtomicU64>,
}

impl Notifier {
    /// A bounded way.
    pub fn new() -> (Notifier, NotifierEnd) {
        let (sender, receiver) = bounded(NOTIFY_EVENTS_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let end = NotifierEnd { receiver: receiver.clone(), dropped: Arc::clone(&dropped) };
        (Notifier { sender, receiver, dropped }, end)
    }

    /// Never waits: if the way is full, the oldest event is dropped, and counted.
    pub fn push(&self, record: Record) {
        let mut record = record;
        while let Err(TrySendError::Full(back)) = self.sender.try_send(record) {
            record = back;
            if self.receiver.try_recv().is_ok() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The notifier's thread, until the other end is gone.
pub fn run(exec: &Path, end: &NotifierEnd) {
    for record in &end.receiver {
        match end.dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lost => log::error!(
                "notify.exec did not get {lost} events: {} is too slow, and more than {NOTIFY_EVENTS_MAX} were \
                 waiting",
                exec.display()
            ),
        }
        match notify(exec, &record, NOTIFY_PATIENCE) {
            Ok(Some(Exit::Status(0))) => {}
            Ok(Some(exit)) => log::warn!("{} {exit}", exec.display()),
            Ok(None) => log::warn!(
                "{} was killed: it took longer than {} s",
                exec.display(),
                NOTIFY_PATIENCE.as_secs()
            ),
            Err(error) => log::warn!("{} cannot be run: {error}", exec.display()),
        }
    }
}

/// Runs the program once; `None`: it took longer than `patience`, and it and its group were killed.
fn notify(exec: &Path, record: &Record, patience: Duration) -> io::Result<Option<Exit>> {
    // A file that is all there: a program that does not read it blocks nobody.
    let mut input = File::from(memfd_create(c"clusterd-event", MFdFlags::MFD_CLOEXEC)?);
    serde_json::to_writer(&input, record)?;
    input.write_all(b"\n")?;
    input.rewind()?;
    let started = Command::new(exec)
        .stdin(Stdio::from(input))
        .stdout(Stdio::null())
        .env_remove(NOTIFY_SOCKET)
        .process_group(0)
        .spawn()?;
    let group = Pid::from_raw(i32::try_from(started.id()).map_err(io::Error::other)?);
    let mut child = Child::watch(group)?;
    let exit = wait(&mut child, patience)?;
    if exit.is_none() {
        // The group is not yet waited for, so its number is still its own.
        let _ = killpg(group, Signal::SIGKILL);
        wait(&mut child, patience)?;
    }
    Ok(exit)
}

fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<Exit>> {
    let begin = Instant::now();
    loop {
        if let Some(exit) = child.exit() {
            return Ok(Some(exit));
        }
        let Some(left) = patience.checked_sub(begin.elapsed()) else { return Ok(None) };
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(child.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::worker::tests::record;
    use std::os::unix::fs::PermissionsExt;

    fn script(directory: &Path, body: &str) -> std::path::PathBuf {
        let path = directory.join("notify");
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn events_arrive_one_at_a_time_and_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let body = format!("echo begin >>{0}; cat >>{0}; echo end >>{0}", out.display());
        let exec = script(directory.path(), &body);
        let (notifier, end) = Notifier::new();
        for number in 0..5 {
            notifier.push(record(&number.to_string()));
        }
        drop(notifier);
        run(&exec, &end);
        let written = std::fs::read_to_string(out).unwrap();
        let mut expected = String::new();
        for number in 0..5 {
            let event = serde_json::to_string(&record(&number.to_string())).unwrap();
            expected += &format!("begin\n{event}\nend\n");
        }
        assert_eq!(written, expected);
    }

    #[test]
    fn a_program_that_hangs_is_killed_with_its_children() {
        let directory = tempfile::tempdir().unwrap();
        let pids = directory.path().join("pids");
        let body = format!("sleep 1000 & echo $! >{}; wait", pids.display());
        let exec = script(directory.path(), &body);
        assert_eq!(notify(&exec, &record("x"), Duration::from_millis(500)).unwrap(), None);
        let child = std::fs::read_to_string(pids).unwrap();
        let status = format!("/proc/{}/stat", child.trim());
        let begin = Instant::now();
        // Gone, or a zombie that init has not yet collected.
        while std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(begin.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_program_that_reads_nothing_or_fails_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let exec = script(directory.path(), "exit 3");
        let long = record(&"x".repeat(1 << 20));
        let exit = notify(&exec, &long, Duration::from_secs(30)).unwrap();
        assert_eq!(exit, Some(Exit::Status(3)));
        notify(Path::new("/nonexistent"), &long, Duration::from_secs(30)).unwrap_err();
    }

    #[test]
    fn the_oldest_events_are_dropped_and_counted() {
        let (notifier, end) = Notifier::new();
        for number in 0..NOTIFY_EVENTS_MAX + 2 {
            notifier.push(record(&number.to_string()));
        }
        assert_eq!(end.dropped.load(Ordering::Relaxed), 2);
        assert_eq!(end.receiver.recv().unwrap().told.text, "2");
    }
}
