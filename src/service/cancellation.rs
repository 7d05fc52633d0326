//! How a job on another thread is ended: a pipe that it polls together with what it waits for. Pulled,
//! the job ends what it has begun; dropped, it leaves everything as it is and goes.

use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// The end in the hand.
#[derive(Debug)]
pub(super) struct Canceller(PipeWriter);

/// The end on the job.
#[derive(Debug)]
pub(super) struct Cancellation(PipeReader);

/// What a job feels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancelled {
    /// Go on.
    None,
    /// End what was begun.
    Pulled,
    /// Leave everything as it is, and go.
    Dropped,
}

/// Both ends.
///
/// # Errors
/// Too many open files.
pub(super) fn cancellation() -> io::Result<(Canceller, Cancellation)> {
    let (reader, writer) = io::pipe()?;
    Ok((Canceller(writer), Cancellation(reader)))
}

impl Canceller {
    /// Ends the job.
    pub fn pull(&self) {
        // A job that has gone needs no end.
        let _ = (&self.0).write(&[0]);
    }
}

impl Cancellation {
    /// What is felt now.
    pub fn state(&self) -> Cancelled {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::ZERO) {
            Ok(1..) => match fds.iter().filter_map(PollFd::revents).next() {
                Some(seen) if seen.contains(PollFlags::POLLIN) => Cancelled::Pulled,
                Some(_) | None => Cancelled::Dropped,
            },
            Ok(_) | Err(_) => Cancelled::None,
        }
    }
}

impl AsFd for Cancellation {
    /// Ready once anything is felt.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether `fd` has something to read, or has ended.
pub(super) fn is_ready(fd: BorrowedFd<'_>) -> bool {
    matches!(poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], PollTimeout::ZERO), Ok(1..))
}

/// Waits until one of `fds` has something to read or has ended; at most until `deadline`, if any.
pub(super) fn wait(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) {
    let mut fds: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = deadline.map_or(PollTimeout::NONE, |deadline| {
        let left = deadline.saturating_duration_since(Instant::now());
        // Rounded up: a poll that returns a moment early would be repeated at once.
        PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        // Cannot happen with descriptors that are owned; without poll the caller looks again.
        Err(_) => std::thread::yield_now(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pulled_and_dropped_are_state() {
        let (canceller, cancel) = cancellation().unwrap();
        assert_eq!(cancel.state(), Cancelled::None);
        canceller.pull();
        assert_eq!(cancel.state(), Cancelled::Pulled);
        drop(canceller);
        assert_eq!(cancel.state(), Cancelled::Pulled);
        let (canceller, cancel) = cancellation().unwrap();
        drop(canceller);
        wait(&[cancel.as_fd()], None);
        assert_eq!(cancel.state(), Cancelled::Dropped);
    }
}
