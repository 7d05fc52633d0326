//! What heart and worker say to each other: JSON in the datagrams of a socket pair (SOCK_SEQPACKET).
//!
//! The guard keeps both ends open, so a restarted heart or worker finds the same socket, with what was
//! sent to its predecessor still in it:
//!
//! ```text
//! heart                          worker
//!   | Hello{nonce}                 |   a new heart; everything before the matching answer is old
//!   |----------------------------->|
//!   |           HelloAck{nonce, disk}
//!   |<-----------------------------|
//!   | Persist, Tell, Log, ...      |
//!   |----------------------------->|
//!   |                WorkerStarted |   a new worker: the newest unacknowledged Persist is sent again
//!   |<-----------------------------|
//! ```
//! The heart's side never waits. What does not fit into the socket is kept in bounded queues: the newest
//! `Persist` always, events and lines up to a limit; what is dropped is counted.

mod messages;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv, send, setsockopt, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use messages::{ToHeart, ToWorker};

use crate::config::GroupIndex;
use crate::core::DiskState;
use crate::limits::{LINK_BYTES_MAX, LINK_EVENTS_MAX, LINK_LINES_MAX, LINK_SEND_PATIENCE};

/// Why a message could not be sent or understood.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// Longer than [`LINK_BYTES_MAX`], or empty.
    #[error("a message of {0} bytes, allowed are 1 to {LINK_BYTES_MAX}")]
    Size(usize),
    /// Not one of the messages above.
    #[error("not a message of this program: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// What the heart had to drop because the worker did not read, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Events, the oldest first.
    pub events: u64,
    /// Log and recorder lines, the newest first.
    pub lines: u64,
    /// Messages too long for the channel.
    pub oversized: u64,
    /// Datagrams from the worker that made no sense.
    pub malformed: u64,
}

/// Why a heart could not get its state from disk.
#[derive(Debug, thiserror::Error)]
pub enum HelloError {
    /// The state is there and cannot be read.
    #[error("{0}")]
    Disk(String),
    /// No answer in time.
    #[error("the worker did not answer within {0:?}: is the state directory's file system stuck?")]
    Silent(Duration),
    /// The socket failed.
    #[error("the socket to the worker failed: {0}")]
    Socket(#[from] io::Error),
}

/// Makes the socket pair: the heart's end (non-blocking) and the worker's.
///
/// # Errors
/// Too many open files.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (heart, worker) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let flags = OFlag::from_bits_retain(fcntl(&heart, FcntlArg::F_GETFL)?);
    fcntl(&heart, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    let patience = TimeVal::milliseconds(LINK_SEND_PATIENCE.as_millis() as i64);
    setsockopt(&worker, sockopt::SendTimeout, &patience)?;
    Ok((heart, worker))
}

fn encode(message: &impl Serialize) -> Result<Vec<u8>, ChannelError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LINK_BYTES_MAX {
        return Err(ChannelError::Size(bytes.len()));
    }
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ChannelError> {
    if bytes.is_empty() || bytes.len() > LINK_BYTES_MAX {
        return Err(ChannelError::Size(bytes.len()));
    }
    Ok(serde_json::from_slice(bytes)?)
}

/// What a message is that waits for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queued {
    /// An order for a group's services.
    Services(GroupIndex),
    /// An order for its mirror.
    Mirror(GroupIndex),
    /// An order for its clients.
    Clients(GroupIndex),
    /// Whether the peer has the newest key.
    Keys,
    /// Something asked for once.
    Request,
    /// An event to keep and to tell.
    Event,
}

impl Queued {
    /// Whether the next of its kind says all that it says.
    fn is_order(self) -> bool {
        match self {
            Queued::Services(_) | Queued::Mirror(_) | Queued::Clients(_) | Queued::Keys => true,
            Queued::Request | Queued::Event => false,
        }
    }
}

/// The heart's end.
#[derive(Debug)]
pub struct HeartChannel {
    fd: OwnedFd,
    buffer: Box<[u8]>,
    /// The newest unacknowledged write: its number, its bytes, and whether they are in the socket.
    persist: Option<(u64, Vec<u8>, bool)>,
    events: VecDeque<(Queued, Vec<u8>)>,
    lines: VecDeque<Vec<u8>>,
    log: Option<Receiver<(log::Level, String)>>,
    dropped: Dropped,
}

impl HeartChannel {
    /// Takes over the heart's end of [`pair`].
    pub fn new(fd: OwnedFd) -> HeartChannel {
        HeartChannel {
            fd,
            buffer: vec![0; LINK_BYTES_MAX + 1].into_boxed_slice(),
            persist: None,
            events: VecDeque::with_capacity(LINK_EVENTS_MAX),
            lines: VecDeque::with_capacity(LINK_LINES_MAX),
            log: None,
            dropped: Dropped::default(),
        }
    }

    /// Asks the worker for the state on disk and waits for it; nothing else may be sent before. What
    /// was meant for an earlier heart is thrown away.
    ///
    /// # Errors
    /// The state cannot be read, or no answer came within `patience`.
    pub fn hello(&mut self, nonce: u64, patience: Duration) -> Result<DiskState, HelloError> {
        let begin = Instant::now();
        let hello = serde_json::to_vec(&ToWorker::Hello { nonce }).map_err(io::Error::from)?;
        let mut greeted = false;
        while let Some(left) = patience.checked_sub(begin.elapsed()) {
            greeted = greeted || self.push(&hello)?;
            while let Some(message) = self.read()? {
                match message {
                    ToHeart::HelloAck { nonce: answered, disk } if answered == nonce => {
                        return disk.map_err(HelloError::Disk);
                    }
                    ToHeart::WorkerStarted => greeted = false,
                    ToHeart::HelloAck { .. }
                    | ToHeart::Persisted { .. }
                    | ToHeart::PersistFailed { .. }
                    | ToHeart::Services { .. }
                    | ToHeart::Mirror { .. }
                    | ToHeart::Tickled { .. }
                    | ToHeart::Synced { .. }
                    | ToHeart::Note { .. }
                    | ToHeart::Alive
                    | ToHeart::Offered { .. }
                    | ToHeart::SyncAddress(_) => {}
                }
            }
            let wanted =
                if greeted { PollFlags::POLLIN } else { PollFlags::POLLIN | PollFlags::POLLOUT };
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.fd.as_fd(), wanted)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(HelloError::Socket(error.into())),
            }
        }
        Err(HelloError::Silent(patience))
    }

    /// Makes this channel the destination of the heart's log: lines wait in a bounded queue until the next
    /// [`HeartChannel::flush`]. Logging never blocks.
    ///
    /// # Errors
    /// This process has a logger already.
    pub fn install_logger(&mut self, level: log::LevelFilter) -> Result<(), log::SetLoggerError> {
        let (sender, receiver) = bounded(LINK_LINES_MAX);
        log::set_boxed_logger(Box::new(ChannelLogger { sender }))?;
        log::set_max_level(level);
        self.log = Some(receiver);
        Ok(())
    }

    /// Sends a message, or keeps it until there is room. Never waits.
    pub fn send(&mut self, message: &ToWorker) {
        let bytes = match encode(message) {
            Ok(bytes) => bytes,
            Err(_) => {
                self.dropped.oversized += 1;
                return;
            }
        };
        match message {
            ToWorker::Persist { write, .. } => self.persist = Some((*write, bytes, false)),
            ToWorker::Services { group, .. } => self.queue(Queued::Services(*group), bytes),
            ToWorker::Mirror { group, .. } => self.queue(Queued::Mirror(*group), bytes),
            ToWorker::Clients { group, .. } => self.queue(Queued::Clients(*group), bytes),
            ToWorker::PeerHasNewest(_) => self.queue(Queued::Keys, bytes),
            ToWorker::Tell(_) => self.queue(Queued::Event, bytes),
            ToWorker::Ready
            | ToWorker::Hello { .. }
            | ToWorker::Reread { .. }
            | ToWorker::Configured
            | ToWorker::Tickle { .. }
            | ToWorker::Approve { .. }
            | ToWorker::Sync { .. } => self.queue(Queued::Request, bytes),
            ToWorker::Log { .. } | ToWorker::RecordInput(_) => {
                if self.lines.len() < LINK_LINES_MAX {
                    self.lines.push_back(bytes);
                } else {
                    self.dropped.lines += 1;
                }
            }
        }
        self.flush();
    }

    /// Keeps a message until there is room. A worker that hung and works again must know the newest orders: an
    /// order takes the place of the one before it, and only other messages are dropped, events first.
    fn queue(&mut self, what: Queued, bytes: Vec<u8>) {
        if what.is_order() {
            self.events.retain(|(queued, _)| *queued != what);
        }
        if self.events.len() >= LINK_EVENTS_MAX {
            let oldest = |dropped: fn(Queued) -> bool| {
                self.events.iter().position(|(queued, _)| dropped(*queued))
            };
            let place = oldest(|queued| queued == Queued::Event);
            let place = place.or_else(|| oldest(|queued| !queued.is_order()));
            if place.and_then(|place| self.events.remove(place)).is_some() {
                self.dropped.events += 1;
            }
        }
        self.events.push_back((what, bytes));
    }

    /// Sends what waits, as far as there is room: call it in every round. True: nothing waits.
    pub fn flush(&mut self) -> bool {
        self.collect_log();
        if let Some((_, bytes, sent)) = &mut self.persist
            && !*sent
        {
            *sent = matches!(push(&self.fd, bytes), Ok(true));
            if !*sent {
                return false;
            }
        }
        while let Some((_, bytes)) = self.events.front() {
            if !matches!(push(&self.fd, bytes), Ok(true)) {
                return false;
            }
            self.events.pop_front();
        }
        while let Some(bytes) = self.lines.front() {
            if !matches!(push(&self.fd, bytes), Ok(true)) {
                return false;
            }
            self.lines.pop_front();
        }
        true
    }

    /// The next message of the worker, if one is there. A new worker is sent the newest unacknowledged
    /// write again before this returns.
    ///
    /// # Errors
    /// The socket failed, or both the guard and the worker are gone (`UnexpectedEof`).
    pub fn receive(&mut self) -> io::Result<Option<ToHeart>> {
        let message = self.read()?;
        match &message {
            Some(ToHeart::WorkerStarted) => {
                if let Some((_, _, sent)) = &mut self.persist {
                    *sent = false;
                }
                self.flush();
            }
            Some(ToHeart::Persisted { write }) => {
                self.persist.take_if(|(kept, _, _)| *kept <= *write);
            }
            Some(
                ToHeart::HelloAck { .. }
                | ToHeart::PersistFailed { .. }
                | ToHeart::Services { .. }
                | ToHeart::Mirror { .. }
                | ToHeart::Tickled { .. }
                | ToHeart::Synced { .. }
                | ToHeart::Note { .. }
                | ToHeart::Alive
                | ToHeart::Offered { .. }
                | ToHeart::SyncAddress(_),
            )
            | None => {}
        }
        Ok(message)
    }

    /// What was dropped so far.
    pub fn dropped(&self) -> Dropped {
        let mut dropped = self.dropped;
        dropped.lines += LOG_DROPPED.load(Ordering::Relaxed);
        dropped
    }

    fn collect_log(&mut self) {
        while self.lines.len() < LINK_LINES_MAX {
            let Some((level, text)) = self.log.as_ref().and_then(|log| log.try_recv().ok()) else {
                return;
            };
            match encode(&ToWorker::Log { level, text }) {
                Ok(bytes) => self.lines.push_back(bytes),
                Err(_) => self.dropped.oversized += 1,
            }
        }
    }

    fn push(&self, bytes: &[u8]) -> io::Result<bool> {
        push(&self.fd, bytes)
    }

    fn read(&mut self) -> io::Result<Option<ToHeart>> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_TRUNC) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => match decode(self.buffer.get(..length).unwrap_or_default()) {
                    Ok(message) => return Ok(Some(message)),
                    Err(_) => self.dropped.malformed += 1,
                },
                Err(Errno::EAGAIN) => return Ok(None),
                // The other end closed with unread data in it: ours is still to be read.
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsRawFd for HeartChannel {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for HeartChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// False: no room now.
fn push(fd: &OwnedFd, bytes: &[u8]) -> io::Result<bool> {
    loop {
        match send(fd.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => return Ok(true),
            Err(Errno::EAGAIN | Errno::ENOBUFS) => return Ok(false),
            Err(Errno::EINTR | Errno::ECONNRESET) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

static LOG_DROPPED: AtomicU64 = AtomicU64::new(0);

struct ChannelLogger {
    sender: Sender<(log::Level, String)>,
}

impl log::Log for ChannelLogger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.sender.try_send((record.level(), record.args().to_string())).is_err() {
            LOG_DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The worker's end. Sending is safe from several threads.
#[derive(Debug)]
pub struct WorkerChannel {
    fd: OwnedFd,
}

impl WorkerChannel {
    /// Takes over the worker's end of [`pair`].
    pub fn new(fd: OwnedFd) -> WorkerChannel {
        WorkerChannel { fd }
    }

    /// Waits for the next message; `None`: heart and guard are gone. `malformed` is called with the
    /// reason for every datagram that is dropped.
    ///
    /// # Errors
    /// The socket failed.
    pub fn receive(&self, malformed: &mut dyn FnMut(ChannelError)) -> io::Result<Option<ToWorker>> {
        let mut buffer = vec![0; LINK_BYTES_MAX + 1];
        loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(0) => return Ok(None),
                Ok(length) => match decode(buffer.get(..length).unwrap_or_default()) {
                    Ok(message) => return Ok(Some(message)),
                    Err(error) => malformed(error),
                },
                Err(Errno::EINTR | Errno::ECONNRESET) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends a message; waits at most [`LINK_SEND_PATIENCE`] for room.
    ///
    /// # Errors
    /// No room (`WouldBlock`): the heart does not read, and will be replaced. Or the heart is gone.
    pub fn send(&self, message: &ToHeart) -> io::Result<()> {
        let bytes = encode(message).map_err(io::Error::other)?;
        match push(&self.fd, &bytes)? {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

#[cfg(test)]
#[path = "channel/tests.rs"]
mod tests;
