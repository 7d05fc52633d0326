//! TCP sockets, and waits on them that end. All are non-blocking; who waits, polls.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt,
    socket, sockopt,
};

use crate::limits;
use crate::sys::packet_options::bind_to_interface;

/// Listens on an address, on one interface only if it is a link-local one.
///
/// # Errors
/// As bind(2): EADDRNOTAVAIL while the address is not there, EADDRINUSE if someone else listens.
pub(super) fn open(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = stream_socket(at)?;
    // Connections of a daemon that ended a moment ago must not keep the next one from listening.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
    listen(&socket, Backlog::new(limits::MIRROR_BACKLOG)?)?;
    Ok(socket.into())
}

/// Connects to an address: by one interface only if it is a link-local one, from the address `from`, and from a
/// privileged port if one can be had: the listener has more places for those.
///
/// # Errors
/// As connect(2); `TimedOut` after the deadline.
pub(super) fn reach(to: SocketAddr, from: IpAddr, deadline: Instant) -> io::Result<TcpStream> {
    let socket = stream_socket(to)?;
    bind_privileged(&socket, from)?;
    let begun = connect(socket.as_raw_fd(), &SockaddrStorage::from(to));
    let stream = TcpStream::from(socket);
    match begun {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => {
            wait(&stream, PollFlags::POLLOUT, Some(deadline))?;
            if let Some(error) = stream.take_error()? {
                return Err(error);
            }
        }
        Err(error) => return Err(error.into()),
    }
    prepare(&stream)?;
    Ok(stream)
}

/// Binds to one of [`limits::MIRROR_SOURCE_PORTS`], each time beginning with another one; to any port if
/// none of them may be had.
fn bind_privileged(socket: &OwnedFd, from: IpAddr) -> io::Result<()> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let ports = limits::MIRROR_SOURCE_PORTS;
    let count = ports.end() - ports.start() + 1;
    let first = NEXT.fetch_add(1, Ordering::Relaxed);
    for step in 0..count {
        let port = ports.start() + first.wrapping_add(step) % count;
        let address = SockaddrStorage::from(SocketAddr::new(from, port));
        match bind(socket.as_raw_fd(), &address) {
            Ok(()) => return Ok(()),
            Err(Errno::EADDRINUSE) => {}
            Err(Errno::EACCES | Errno::EPERM) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?)
}

/// For an address, tied to the interface of a link-local one.
fn stream_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None)?;
    if let SocketAddr::V6(address) = address
        && address.scope_id() != 0
    {
        bind_to_interface(&socket, address.scope_id())?;
    }
    Ok(socket)
}

/// Makes a connected stream ours: non-blocking, without Nagle's delay, ended by the kernel if the
/// peer's host is gone (tcp(7)).
///
/// # Errors
/// As setsockopt(2).
pub(super) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let often = limits::MIRROR_KEEPALIVE.as_secs() as u32;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &often)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &often)?;
    // With it the number of unanswered probes counts no more: tcp_keepalive_timer() in net/ipv4/tcp_timer.c.
    let gone = limits::MIRROR_STALL_MAX.as_millis() as u32;
    setsockopt(stream, sockopt::TcpUserTimeout, &gone)?;
    Ok(())
}

/// Reads what is there into `buffer`, which has room; 0 at the end of the stream. Without a deadline it
/// waits as long as the connection lives.
///
/// # Errors
/// As recv(2); `TimedOut` after the deadline.
pub(super) fn read_some(
    stream: &TcpStream,
    buffer: &mut [u8],
    deadline: Option<Instant>,
) -> io::Result<usize> {
    let mut from = stream;
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(stream, PollFlags::POLLIN, deadline)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Fills `buffer`.
///
/// # Errors
/// As [`read_some`]; `UnexpectedEof` if the stream ends before.
pub(super) fn read_whole(
    stream: &TcpStream,
    buffer: &mut [u8],
    deadline: Instant,
) -> io::Result<()> {
    let mut rest = buffer;
    while !rest.is_empty() {
        let read = read_some(stream, rest, Some(deadline))?;
        rest = match read {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ => rest.get_mut(read..).unwrap_or_default(),
        };
    }
    Ok(())
}

/// Writes all of `bytes`.
///
/// # Errors
/// As send(2); `TimedOut` after the deadline.
pub(super) fn write_whole(stream: &TcpStream, bytes: &[u8], deadline: Instant) -> io::Result<()> {
    let mut to = stream;
    let mut rest = bytes;
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(stream, PollFlags::POLLOUT, Some(deadline))?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Waits until the stream is ready, or has failed: the next call on it tells which.
fn wait(stream: &TcpStream, what: PollFlags, deadline: Option<Instant>) -> io::Result<()> {
    loop {
        let timeout =
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                None => PollTimeout::NONE,
                Some(Duration::ZERO) => {
                    let words = "the peer did not take or give a few bytes in time";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, words));
                }
                Some(left) => poll_timeout(left),
            };
        match poll(&mut [PollFd::new(stream.as_fd(), what)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// A wait that is not shorter: poll(2) counts whole milliseconds.
pub(super) fn poll_timeout(wait: Duration) -> PollTimeout {
    PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
}
