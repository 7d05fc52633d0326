//! The LAN path: UDP between the nodes' own addresses.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use super::buffer::FrameBuffer;
use super::message::{DropReason, Path};
use super::will::{Farewell, udp_destination};
use crate::limits::{BEAT_BYTES_MAX, LAN_PORT, LAN_PRIORITY};
use crate::sys::packet_options::bind_to_interface;

/// An open LAN path.
pub(super) struct Lan {
    socket: UdpSocket,
    peer: SocketAddr,
    /// One byte longer than any frame of ours, to notice those that are too long.
    buffer: [u8; BEAT_BYTES_MAX + 1],
}

impl Lan {
    /// Opens the path on the interface of that index between two addresses. Port 694 needs CAP_NET_BIND_SERVICE.
    ///
    /// The socket is not connected: an ICMP error of a dead peer's router would come back as its own.
    pub(super) fn open(interface_index: u32, own: IpAddr, peer: IpAddr) -> io::Result<Lan> {
        let family = match own {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(family, SockType::Datagram, flags, None)?;
        bind_to_interface(&socket, interface_index)?;
        setsockopt(&socket, sockopt::Priority, &LAN_PRIORITY)?;
        bind(socket.as_raw_fd(), &SockaddrStorage::from(endpoint(own, interface_index)))?;
        Ok(Lan { socket: socket.into(), peer: endpoint(peer, interface_index), buffer: [0; _] })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The frame, and where it goes, for somebody else to send.
    pub(super) fn will(&self, frame: &FrameBuffer) -> Farewell {
        let to = udp_destination(self.peer);
        Farewell { path: Path::Lan, to, frame: frame.as_slice().to_vec() }
    }

    /// Sends one frame. If the interface that it was opened on is gone, the kernel says only that the network is
    /// unreachable, and would say so for ever.
    pub(super) fn send(&self, frame: &FrameBuffer) -> io::Result<()> {
        self.socket.send_to(frame.as_slice(), self.peer)?;
        Ok(())
    }

    /// The next frame that is there; `None`: none now.
    pub(super) fn receive(&mut self) -> io::Result<Option<Result<&[u8], DropReason>>> {
        let (length, from) = match self.socket.recv_from(&mut self.buffer) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if from.ip() != self.peer.ip() {
            return Ok(Some(Err(DropReason::NotPeer)));
        }
        Ok(Some(self.buffer.get(..length).ok_or(DropReason::Oversized)))
    }
}

/// The address with the port; a link-local one with the interface it is on.
fn endpoint(ip: IpAddr, interface_index: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if Ipv6Addr::is_unicast_link_local(&ip) => {
            SocketAddrV6::new(ip, LAN_PORT, 0, interface_index).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(ip, LAN_PORT),
    }
}
