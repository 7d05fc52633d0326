//! The last will as bytes: frames and destinations that the guard sends as they are, without knowing
//! what they mean, when the heart is dead.
//!
//! A destination is what sendto(2) takes as an address, built here by hand: `sockaddr_ll` of packet(7),
//! `sockaddr_in` of ip(7), `sockaddr_in6` of ipv6(7).

use std::net::SocketAddr;

use super::message::Path;

/// One frame of a last will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// By which way.
    pub path: Path,
    /// The destination, as sendto(2) takes it; empty on serial.
    pub to: Vec<u8>,
    /// Everything that goes out: on the crossover the Ethernet header too, on serial stuffed and between
    /// two delimiters, the first of which ends what a dead heart may have left there unfinished.
    pub frame: Vec<u8>,
}

/// `sockaddr_ll` for a whole frame of that EtherType on that interface.
pub(super) fn link_destination(interface_index: u32, ethertype: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend((libc::AF_PACKET as u16).to_ne_bytes());
    bytes.extend(ethertype.to_be_bytes());
    bytes.extend(interface_index.to_ne_bytes());
    // Hardware type, packet type, and an address of no bytes: the frame has its own header.
    bytes.resize(size_of::<libc::sockaddr_ll>(), 0);
    bytes
}

/// `sockaddr_in` or `sockaddr_in6`.
pub(super) fn udp_destination(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend((libc::AF_INET as u16).to_ne_bytes());
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            bytes.resize(size_of::<libc::sockaddr_in>(), 0);
        }
        SocketAddr::V6(v6) => {
            bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_be_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}
