//! A process by a handle that can never come to mean another one: pidfd_open(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, waitid};

/// A process, whether or not it is a child of this one. Readable once it has ended.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// The process of that number, as it is now.
    ///
    /// # Errors
    /// There is none, or there are too many open files.
    pub fn open(pid: i32) -> io::Result<PidFd> {
        // SAFETY: pidfd_open(2) takes no pointers.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        let raw = RawFd::try_from(raw).map_err(io::Error::other)?;
        // SAFETY: `raw` was just opened (close-on-exec, always so for pidfds) and nobody else owns it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// Sends it a signal; does nothing if it has ended.
    ///
    /// # Errors
    /// This process may not (`EPERM`).
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: pidfd_send_signal(2) allows a null pointer for its information.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal as i32, none, 0)
        };
        match io::Error::last_os_error() {
            _ if sent == 0 => Ok(()),
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        }
    }

    /// Whether it has ended, waited for or not.
    pub fn has_ended(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(1..))
    }

    /// If it was a child of this process and has ended: it is waited for, and its number free again.
    pub fn reap(&self) {
        // The errors: not a child, or already waited for.
        let _ = waitid(Id::PIDFd(self.0.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> OwnedFd {
        pidfd.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_seen_and_reaped() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let handle = PidFd::open(pid).unwrap();
        assert!(!handle.has_ended());
        handle.reap();
        handle.signal(Signal::SIGKILL).unwrap();
        let mut fds = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(30_000u16)).unwrap(), 1);
        assert!(handle.has_ended());
        handle.reap();
        handle.reap();
        child.wait().unwrap_err();
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
        handle.signal(Signal::SIGKILL).unwrap();
        PidFd::open(i32::MAX).unwrap_err();
    }
}
