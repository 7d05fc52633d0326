//! The guard's means to say a dead heart's last will: it sends frames that it does not understand to
//! destinations that it does not understand. Nothing is read, nothing allocated after the start.
//!
//! The crossover's and the LAN's sockets are opened at the start and bound to no interface: each frame
//! brings its destination. The serial line is opened when it is needed: a heart that lives has it for
//! itself; the kernel keeps the speed that the heart had set.

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};
use nix::sys::stat::Mode;
use nix::sys::termios::{FlushArg, tcflush};

use crate::beat::Path;
use crate::config::{Config, NodeIndex};
use crate::limits::LAN_PRIORITY;
use crate::sys::packet::send_to;

/// Send-only sockets, and the name of the line.
#[derive(Debug)]
pub struct LastWill {
    crossover: Option<OwnedFd>,
    lan: Option<OwnedFd>,
    serial: Option<CString>,
    line: Option<Line>,
}

/// The open line.
#[derive(Debug)]
struct Line(OwnedFd);

impl LastWill {
    /// Opens what can be opened. What cannot is told: its path then stays without a will.
    pub fn open(config: &Config, me: NodeIndex) -> LastWill {
        let node = config.node(me);
        let told = |path: Path, opened: io::Result<OwnedFd>| match opened {
            Ok(fd) => Some(fd),
            Err(error) => {
                log::warn!("{}: no last will on it: {error}", path.name());
                None
            }
        };
        let device = node.serial.as_ref().map(|line| line.device.as_os_str().as_bytes());
        LastWill {
            crossover: told(Path::Crossover, open_crossover()),
            lan: told(Path::Lan, open_lan(&node.lan, node.address)),
            serial: device.and_then(|name| CString::new(name).ok()),
            line: None,
        }
    }

    /// Sends each farewell once; how many went out.
    pub fn say<'a>(&mut self, will: impl Iterator<Item = (Path, &'a [u8], &'a [u8])>) -> usize {
        let mut sent = 0;
        for (path, to, frame) in will {
            match self.send(path, to, frame) {
                Ok(()) => sent += 1,
                Err(error) => log::warn!("{}: the last will was not sent: {error}", path.name()),
            }
        }
        sent
    }

    fn send(&mut self, path: Path, to: &[u8], frame: &[u8]) -> io::Result<()> {
        let not_open = || io::Error::from(io::ErrorKind::NotConnected);
        match path {
            Path::Crossover => {
                send_to(self.crossover.as_ref().ok_or_else(not_open)?.as_fd(), frame, to)
            }
            Path::Lan => send_to(self.lan.as_ref().ok_or_else(not_open)?.as_fd(), frame, to),
            Path::Serial => {
                let device = self.serial.as_deref().ok_or_else(not_open)?;
                let flags =
                    OFlag::O_WRONLY | OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let line = Line(open(device, flags, Mode::empty())?);
                let written = nix::unistd::write(&line.0, frame)?;
                // Closed at once, it would take back what is not yet on the line.
                self.line = Some(line);
                if written < frame.len() {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                Ok(())
            }
        }
    }

    /// Lets go of the serial line: the next heart needs it for itself.
    pub fn let_go(&mut self) {
        self.line = None;
    }
}

impl Drop for Line {
    /// Closing a line waits for its output, up to 30 s; what is still there now comes too late.
    fn drop(&mut self) {
        // If the flush fails the device is gone, and closing it does not wait.
        let _ = tcflush(&self.0, FlushArg::TCOFLUSH);
    }
}

/// Of no protocol: it receives nothing (packet(7)).
fn open_crossover() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socket(AddressFamily::Packet, SockType::Raw, flags, None)?)
}

/// Sends from the node's own address, by which the peer knows it, even if that is not there yet. From a
/// port of its own: the heart's is the heart's.
fn open_lan(interface: &str, own: IpAddr) -> io::Result<OwnedFd> {
    let (family, own) = match own {
        IpAddr::V4(_) => (AddressFamily::Inet, SocketAddr::new(own, 0)),
        IpAddr::V6(v6) if Ipv6Addr::is_unicast_link_local(&v6) => {
            let index = crate::net::interface_index(interface)?;
            (AddressFamily::Inet6, SocketAddrV6::new(v6, 0, 0, index).into())
        }
        IpAddr::V6(_) => (AddressFamily::Inet6, SocketAddr::new(own, 0)),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    setsockopt(&socket, sockopt::Priority, &LAN_PRIORITY)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(own))?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
