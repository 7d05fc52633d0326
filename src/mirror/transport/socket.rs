//! TCP sockets bound to an interface: what is meant for the crossover never goes out elsewhere.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, listen,
    setsockopt, socket, sockopt,
};

use crate::limits;

/// A socket that listens on an address of an interface. Does not block.
pub(super) fn listen_on(interface: &str, address: IpAddr, port: u16) -> io::Result<TcpListener> {
    let socket = open(interface, address)?;
    // A listener of an earlier life may have left connections in TIME_WAIT.
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let own = SockaddrStorage::from(endpoint(interface, address, port)?);
    bind(socket.as_raw_fd(), &own)?;
    let backlog = i32::try_from(limits::MIRROR_HALF_OPEN_MAX).map_err(io::Error::other)?;
    listen(&socket, Backlog::new(backlog)?)?;
    Ok(socket.into())
}

/// A connection out of an interface, from `own` or else from what address the kernel chooses there.
pub(super) fn connect_to(
    interface: &str,
    own: Option<IpAddr>,
    peer: IpAddr,
    port: u16,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let socket = open(interface, peer)?;
    if let Some(own) = own {
        bind(socket.as_raw_fd(), &SockaddrStorage::from(endpoint(interface, own, 0)?))?;
    }
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(endpoint(interface, peer, port)?)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => await_connection(&socket, timeout)?,
        Err(error) => return Err(error.into()),
    }
    let stream = TcpStream::from(socket);
    tune(&stream)?;
    Ok(stream)
}

fn await_connection(socket: &OwnedFd, timeout: Duration) -> io::Result<()> {
    let timeout = PollTimeout::try_from(timeout).map_err(io::Error::other)?;
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
    loop {
        match poll(&mut ready, timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => break,
            // A signal, which is rare: the wait begins anew.
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match getsockopt(socket, sockopt::SocketError)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// What every connection of the mirror is like: it blocks, sends at once, and notices a peer that is
/// gone.
pub(super) fn tune(stream: &TcpStream) -> io::Result<()> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).map_err(io::Error::other);
    let stall_ms = u32::try_from(limits::MIRROR_STALL_MAX.as_millis()).map_err(io::Error::other)?;
    let keepalive = seconds(limits::MIRROR_KEEPALIVE)?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &stall_ms)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &keepalive)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &keepalive)?;
    Ok(())
}

fn open(interface: &str, address: IpAddr) -> io::Result<OwnedFd> {
    let family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
    Ok(socket)
}

/// The address with the port; a link-local one with the interface it is on.
fn endpoint(interface: &str, address: IpAddr, port: u16) -> io::Result<SocketAddr> {
    Ok(match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            let index = nix::net::if_::if_nametoindex(interface)?;
            SocketAddrV6::new(address, port, 0, index).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(address, port),
    })
}
