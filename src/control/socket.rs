//! The control socket: `<run-dir>/control.sock`, a stream socket of mode 0660.
//!
//! [`Server`] lives in the heart's loop: never blocks, at most
//! [`limits::CONTROL_CONNECTIONS_MAX`] connections, each with one request of bounded size and one
//! answer. [`ask`] is the other end, for the verbs.
//!
//! The run directory may vanish under it: a cleaner removes it, a file system is mounted over it late in
//! the boot. A thread checks periodically and creates directory and socket again (`door`).
//!
//! A connection:
//! ```text
//!   accept -> Reading --whole line--> Waiting --answer()--> Writing --all written--> closed
//!                |                       |                     |
//!                +-- idle, hang-up ------+--- hang-up ---------+--> dropped, counted by reason
//! ```

mod door;

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use thiserror::Error;

use self::door::Door;
use super::protocol::{self, Answer, BadRequest, Request};
use crate::limits;

/// Where the socket of a daemon with this run directory is.
pub fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// What went wrong with control connections since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests longer than [`limits::CONTROL_REQUEST_BYTES_MAX`].
    pub oversized: u64,
    /// Requests that are no JSON of ours.
    pub malformed: u64,
    /// Connections closed because they neither asked nor read.
    pub idle: u64,
    /// Connections closed at once because there were too many.
    pub too_many: u64,
    /// Connections that ended before they had their answer.
    pub hung_up: u64,
}

enum State {
    Reading,
    Waiting { request: u64 },
    Writing { written: usize },
}

struct Connection {
    stream: UnixStream,
    state: State,
    /// The request while it is read, then the answer.
    buffer: Vec<u8>,
    since: Instant,
}

/// The daemon's end.
pub struct Server {
    listener: UnixListener,
    door: Door,
    connections: Vec<Option<Connection>>,
    first_token: usize,
    last_request: u64,
    counts: Counts,
}

impl Server {
    /// Opens the socket in `run_dir` and registers it. It uses the tokens from `first_token` to
    /// `first_token + CONTROL_CONNECTIONS_MAX`. A socket that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Another daemon answers there, or the directory cannot be written.
    pub fn open(run_dir: &Path, registry: &Registry, first_token: usize) -> io::Result<Server> {
        let (door, listener) = Door::open(run_dir)?;
        let mut listener = UnixListener::from_std(listener);
        registry.register(&mut listener, Token(first_token), Interest::READABLE)?;
        let connections = (0..limits::CONTROL_CONNECTIONS_MAX).map(|_| None).collect();
        let counts = Counts::default();
        Ok(Server { listener, door, connections, first_token, last_request: 0, counts })
    }

    /// Whether an event with this token is for the control socket.
    pub fn owns(&self, token: Token) -> bool {
        (self.first_token..=self.first_token + limits::CONTROL_CONNECTIONS_MAX).contains(&token.0)
    }

    /// What went wrong since the start.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Does what can be done after an event with `token`. A whole request comes back with its number,
    /// under which it must be [answered](Server::answer); one that is refused is answered here.
    pub fn ready(
        &mut self,
        token: Token,
        registry: &Registry,
        now: Instant,
    ) -> Option<(u64, Request)> {
        let Some(slot) = (token.0.checked_sub(self.first_token)?).checked_sub(1) else {
            self.accept(registry, now);
            return None;
        };
        let connection = self.connections.get(slot)?.as_ref()?;
        match connection.state {
            State::Reading => self.read(slot, now),
            State::Waiting { .. } => {
                self.drop_if_gone(slot);
                None
            }
            State::Writing { .. } => {
                self.write(slot);
                None
            }
        }
    }

    /// Answers the request of that number. If its connection is gone, so is the answer.
    pub fn answer(&mut self, request: u64, answer: &Answer, now: Instant) {
        let waits = |connection: &Option<Connection>| {
            connection.as_ref().is_some_and(
                |one| matches!(one.state, State::Waiting { request: waiting } if waiting == request),
            )
        };
        if let Some(slot) = self.connections.iter().position(waits) {
            self.reply(slot, answer, now);
        }
    }

    /// Closes what was idle for too long, takes whom a busy moment left waiting, and listens on a socket
    /// that had to be created again. Call it about once a second.
    pub fn keep_house(&mut self, registry: &Registry, now: Instant) {
        if let Some(listener) = self.door.made_anew() {
            let mut listener = UnixListener::from_std(listener);
            let token = Token(self.first_token);
            match registry.register(&mut listener, token, Interest::READABLE) {
                // The one before is closed by this, and leaves the poll with it.
                Ok(()) => self.listener = listener,
                Err(error) => log::error!("the new control socket cannot be polled: {error}"),
            }
        }
        for slot in &mut self.connections {
            let idle = slot.as_ref().is_some_and(|connection| match connection.state {
                State::Reading | State::Writing { .. } => {
                    now.saturating_duration_since(connection.since) > limits::CONTROL_IDLE
                }
                State::Waiting { .. } => false,
            });
            if idle {
                *slot = None;
                self.counts.idle += 1;
            }
        }
        self.accept(registry, now);
    }

    /// Takes a bounded number of new connections.
    fn accept(&mut self, registry: &Registry, now: Instant) {
        for _ in 0..2 * limits::CONTROL_CONNECTIONS_MAX {
            let Ok((mut stream, _)) = self.listener.accept() else { return };
            let Some(slot) = self.connections.iter().position(Option::is_none) else {
                self.counts.too_many += 1;
                continue;
            };
            let token = Token(self.first_token + 1 + slot);
            let both = Interest::READABLE | Interest::WRITABLE;
            if registry.register(&mut stream, token, both).is_err() {
                continue;
            }
            let buffer = Vec::new();
            let connection = Connection { stream, state: State::Reading, buffer, since: now };
            if let Some(place) = self.connections.get_mut(slot) {
                *place = Some(connection);
            }
        }
    }

    fn read(&mut self, slot: usize, now: Instant) -> Option<(u64, Request)> {
        let connection = self.connections.get_mut(slot)?.as_mut()?;
        let mut chunk = [0; 512];
        loop {
            let parsed = match connection.stream.read(&mut chunk) {
                Ok(0) => {
                    self.close(slot, true);
                    return None;
                }
                Ok(length) => {
                    connection.buffer.extend_from_slice(chunk.get(..length)?);
                    let end = connection.buffer.iter().position(|&byte| byte == b'\n');
                    match end {
                        Some(end) => protocol::parse(connection.buffer.get(..end)?),
                        None if connection.buffer.len() > limits::CONTROL_REQUEST_BYTES_MAX => {
                            Err(BadRequest::Oversized)
                        }
                        None => continue,
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.close(slot, true);
                    return None;
                }
            };
            self.last_request += 1;
            let request = self.last_request;
            connection.state = State::Waiting { request };
            return match parsed {
                Ok(asked) => Some((request, asked)),
                Err(bad) => {
                    match bad {
                        BadRequest::Oversized => self.counts.oversized += 1,
                        BadRequest::Malformed(_) => self.counts.malformed += 1,
                    }
                    self.reply(slot, &Answer::Refused(bad.to_string()), now);
                    None
                }
            };
        }
    }

    fn reply(&mut self, slot: usize, answer: &Answer, now: Instant) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        connection.buffer = protocol::line(answer).unwrap_or_default();
        connection.state = State::Writing { written: 0 };
        connection.since = now;
        self.write(slot);
    }

    fn write(&mut self, slot: usize) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        let State::Writing { written } = &mut connection.state else { return };
        let hung_up = loop {
            let rest = connection.buffer.get(*written..).unwrap_or_default();
            if rest.is_empty() {
                break false;
            }
            match connection.stream.write(rest) {
                Ok(0) => break true,
                Ok(length) => *written += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        self.close(slot, hung_up);
    }

    /// A client that waits says nothing more: whatever can be read is its end.
    fn drop_if_gone(&mut self, slot: usize) {
        let Some(Some(connection)) = self.connections.get_mut(slot) else { return };
        let gone = match connection.stream.read(&mut [0; 64]) {
            Ok(length) => length == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        if gone {
            self.close(slot, true);
        }
    }

    fn close(&mut self, slot: usize, hung_up: bool) {
        if let Some(place) = self.connections.get_mut(slot) {
            *place = None;
        }
        self.counts.hung_up += u64::from(hung_up);
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// Nobody listens, or nobody answers.
    #[error("no daemon answers on {path}: {error}; is `clusterd run` running?")]
    NoDaemon {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Whatever answered does not speak this protocol.
    #[error(
        "the answer on {path} cannot be parsed: {reason}; does the daemon have another version?"
    )]
    NotUnderstood {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Asks the daemon of `run_dir` and waits for its answer until `patience` is over.
///
/// # Errors
/// See [`AskError`].
pub fn ask(run_dir: &Path, request: &Request, patience: Duration) -> Result<Answer, AskError> {
    let path = path(run_dir);
    let answer = exchange(&path, request, patience)
        .map_err(|error| AskError::NoDaemon { path: path.clone(), error })?;
    serde_json::from_slice(&answer)
        .map_err(|error| AskError::NotUnderstood { path, reason: error.to_string() })
}

fn exchange(path: &Path, request: &Request, patience: Duration) -> io::Result<Vec<u8>> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    let end = Instant::now() + patience;
    // Non-blocking while it connects: a frozen daemon's full queue must not hold the caller.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    let mut stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&protocol::line(request)?)?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    while !answer.ends_with(b"\n") {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(length) => answer.extend_from_slice(chunk.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
        if answer.len() > limits::CONTROL_ANSWER_BYTES_MAX {
            return Err(io::Error::new(ErrorKind::InvalidData, "the answer is too long"));
        }
    }
    Ok(answer)
}

#[cfg(test)]
mod tests;
