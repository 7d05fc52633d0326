//! The segments that let clients find out: a bare ACK with sequence and acknowledgement 0.
//!
//! They go through raw IP sockets, so the kernel routes them and finds the neighbour. Each socket is bound
//! to its service address: the kernel refuses that, and any later IPv4 segment, on a node which does not
//! hold the address.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6,
    SockaddrLike, bind, sendto, socket,
};
use pnet::packet::Packet;
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::MutableIpv4Packet;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::packet::tcp::{self, MutableTcpPacket, TcpFlags};

use super::Connection;

const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
/// Hops, as most hosts begin with.
const HOPS: u8 = 64;
/// Looks like any other; the receiver does not take it.
const WINDOW: u16 = 1024;

/// Raw sockets, one for each service address.
#[derive(Debug, Default)]
pub struct Tickler {
    sockets: Vec<(IpAddr, OwnedFd)>,
}

impl Tickler {
    /// Sends the client of `connection` one segment. Never waits.
    ///
    /// # Errors
    /// The address is not on this host, there is no route, a queue is full, or CAP_NET_RAW is missing.
    pub fn send(&mut self, connection: &Connection) -> io::Result<()> {
        let ip = connection.service.ip();
        let place = match self.sockets.iter().position(|(of, _)| *of == ip) {
            Some(place) => place,
            None => {
                self.sockets.push((ip, open(ip)?));
                self.sockets.len() - 1
            }
        };
        let Some((_, socket)) = self.sockets.get(place) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let bytes = segment(connection)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "two families"))?;
        // A raw socket's address has no port.
        send(socket, &bytes, connection.client.ip())
    }
}

fn open(ip: IpAddr) -> io::Result<OwnedFd> {
    let family = match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    // IPPROTO_RAW: the header is ours, and nothing is ever received.
    let fd = socket(family, SockType::Raw, flags, SockProtocol::Raw)?;
    with_address(ip, &mut |address| bind(fd.as_raw_fd(), address))?;
    Ok(fd)
}

fn send(socket: &OwnedFd, bytes: &[u8], to: IpAddr) -> io::Result<()> {
    with_address(to, &mut |address| {
        sendto(socket.as_raw_fd(), bytes, address, MsgFlags::MSG_DONTWAIT).map(drop)
    })
}

fn with_address(
    ip: IpAddr,
    work: &mut dyn FnMut(&dyn SockaddrLike) -> nix::Result<()>,
) -> io::Result<()> {
    match ip {
        IpAddr::V4(ip) => work(&SockaddrIn::from(SocketAddrV4::new(ip, 0)))?,
        IpAddr::V6(ip) => work(&SockaddrIn6::from(SocketAddrV6::new(ip, 0, 0, 0)))?,
    }
    Ok(())
}

/// The whole packet from service address to client; `None`: the two are of different families.
pub fn segment(connection: &Connection) -> Option<Vec<u8>> {
    let mut tcp = MutableTcpPacket::owned(vec![0; TCP_BYTES])?;
    tcp.set_source(connection.service.port());
    tcp.set_destination(connection.client.port());
    tcp.set_data_offset((TCP_BYTES / 4) as u8);
    tcp.set_flags(TcpFlags::ACK);
    tcp.set_window(WINDOW);
    match (connection.service, connection.client) {
        (SocketAddr::V4(service), SocketAddr::V4(client)) => {
            let (from, to) = (service.ip(), client.ip());
            tcp.set_checksum(tcp::ipv4_checksum(&tcp.to_immutable(), from, to));
            let mut ip = MutableIpv4Packet::owned(vec![0; IPV4_BYTES + TCP_BYTES])?;
            ip.set_version(4);
            ip.set_header_length((IPV4_BYTES / 4) as u8);
            // The kernel fills in the number and the checksum (raw(7)).
            ip.set_total_length((IPV4_BYTES + TCP_BYTES) as u16);
            ip.set_ttl(HOPS);
            ip.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
            ip.set_source(*from);
            ip.set_destination(*to);
            ip.set_payload(tcp.packet());
            Some(ip.packet().to_vec())
        }
        (SocketAddr::V6(service), SocketAddr::V6(client)) => {
            let (from, to) = (service.ip(), client.ip());
            tcp.set_checksum(tcp::ipv6_checksum(&tcp.to_immutable(), from, to));
            let mut ip = MutableIpv6Packet::owned(vec![0; IPV6_BYTES + TCP_BYTES])?;
            ip.set_version(6);
            ip.set_payload_length(TCP_BYTES as u16);
            ip.set_next_header(IpNextHeaderProtocols::Tcp);
            ip.set_hop_limit(HOPS);
            ip.set_source(*from);
            ip.set_destination(*to);
            ip.set_payload(tcp.packet());
            Some(ip.packet().to_vec())
        }
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => None,
    }
}
