//! Messages of sock_diag(7), as in linux/inet_diag.h, built and read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR};

use super::Connection;
use crate::net::netlink::{each_message, errno};

/// TCPDIAG_GETSOCK (linux/inet_diag.h): the older request, the only one for both families at once. What
/// costs is to walk the kernel's table, which has a place for each connection that there might ever be.
const GET_TCP: u16 = 18;
/// SOCK_DESTROY (linux/sock_diag.h).
const DESTROY: u16 = 21;
/// INET_DIAG_REQ_BYTECODE, and two operations of that code: jump, source address.
const BYTECODE: u16 = 1;
const JUMP: u8 = 1;
const SOURCE: u8 = 7;
/// Lengths of `struct nlmsghdr`, of one operation, of one attribute's header, in bytes.
const HEADER_BYTES: usize = 16;
const OP_BYTES: usize = 4;
const ATTRIBUTE_BYTES: usize = 4;
/// `struct inet_diag_sockid`, in bytes: both ends, interface, cookie.
pub(super) const ID_BYTES: usize = 48;
/// `struct inet_diag_req` and `struct inet_diag_req_v2`, in bytes: the identity, and what stands around it.
const REQUEST_BYTES: usize = 4 + ID_BYTES + 8;
const REQUEST_V2_BYTES: usize = 8 + ID_BYTES;
/// Where the identity stands in an answer (`struct inet_diag_msg`).
const ID_AT: usize = 4;

/// Sets of TCP states (net/tcp_states.h), one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States(pub u32);

impl States {
    /// Established; and those half closed of which the client may still wait for something: it has
    /// closed its side, or the last of the answer is on its way (FIN_WAIT1).
    pub const AWAITED: States = States(1 << 1 | 1 << 4 | 1 << 8);
    /// All that hold a peer: these, SYN_SENT, SYN_RECV, FIN_WAIT2, LAST_ACK, CLOSING.
    pub const OPEN: States = States(Self::AWAITED.0 | 1 << 2 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 11);
}

/// What one message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// A socket: family, identity.
    Socket(u8, [u8; ID_BYTES]),
    /// The end of a dump, or the answer to a request, with its errno.
    End(Option<i32>),
    /// Something else, or not to be read.
    Other,
}

/// Appends a request for all TCP sockets in `states` whose own address is one of `ips`.
pub(super) fn build_dump(states: States, ips: &[IpAddr], sequence: u32, out: &mut Vec<u8>) {
    let code = bytecode(ips);
    let attribute = ATTRIBUTE_BYTES + code.len();
    header(GET_TCP, NLM_F_REQUEST | NLM_F_DUMP, REQUEST_BYTES + attribute, sequence, out);
    // `struct inet_diag_req`: the family means nothing, then no prefix lengths and no extensions.
    out.extend([0; 4]);
    out.extend([0; ID_BYTES]);
    out.extend(states.0.to_ne_bytes());
    out.extend([0; 4]);
    out.extend(u16::try_from(attribute).unwrap_or(u16::MAX).to_ne_bytes());
    out.extend(BYTECODE.to_ne_bytes());
    out.extend(code);
}

/// Appends a request to close one socket: exactly that one, by its cookie.
pub(super) fn build_destroy(family: u8, id: &[u8; ID_BYTES], sequence: u32, out: &mut Vec<u8>) {
    header(DESTROY, NLM_F_REQUEST | NLM_F_ACK, REQUEST_V2_BYTES, sequence, out);
    // `struct inet_diag_req_v2`.
    out.extend([family, libc::IPPROTO_TCP as u8, 0, 0]);
    out.extend(u32::MAX.to_ne_bytes());
    out.extend(id);
}

fn header(kind: u16, flags: u16, payload: usize, sequence: u32, out: &mut Vec<u8>) {
    let length = HEADER_BYTES + payload;
    out.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(sequence.to_ne_bytes());
    out.extend([0; 4]);
}

/// A program for the kernel, so that a server's other connections are not even copied: accepts a socket
/// by jumping to the end, refuses it by jumping four bytes beyond. An IPv4 address also fits where it is
/// mapped into IPv6 (a service that listens on `::`).
fn bytecode(ips: &[IpAddr]) -> Vec<u8> {
    let conditions: Vec<Vec<u8>> = ips.iter().map(condition).collect();
    let mut left: usize = conditions.iter().map(|one| OP_BYTES + one.len() + OP_BYTES).sum();
    // The last needs no jump.
    left = left.saturating_sub(OP_BYTES);
    let short = |length: usize| u16::try_from(length).unwrap_or(u16::MAX).to_ne_bytes();
    let mut code = Vec::with_capacity(left);
    for one in conditions {
        let length = OP_BYTES + one.len();
        code.extend([SOURCE, length as u8]);
        code.extend(short(length + OP_BYTES));
        code.extend(one);
        left -= length;
        if left > 0 {
            code.extend([JUMP, OP_BYTES as u8]);
            code.extend(short(left));
            left -= OP_BYTES;
        }
    }
    code
}

/// `struct inet_diag_hostcond`: this address, any port.
fn condition(ip: &IpAddr) -> Vec<u8> {
    let (family, bytes) = match ip {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let mut condition = vec![family as u8, bytes.len() as u8 * 8, 0, 0];
    condition.extend((-1i32).to_ne_bytes());
    condition.extend(bytes);
    condition
}

/// Calls `each` with the sequence number and content of every message in a datagram of the kernel.
pub(super) fn read(datagram: &[u8], each: &mut dyn FnMut(u32, Body)) {
    each_message(datagram, &mut |buffer| {
        let payload = buffer.payload();
        let body = match buffer.message_type() {
            NLMSG_DONE | NLMSG_ERROR => errno(payload).map_or(Body::Other, Body::End),
            GET_TCP => socket(payload).unwrap_or(Body::Other),
            _ => Body::Other,
        };
        each(buffer.sequence_number(), body);
    });
}

fn socket(payload: &[u8]) -> Option<Body> {
    let id = payload.get(ID_AT..)?.first_chunk()?;
    Some(Body::Socket(*payload.first()?, *id))
}

/// The connection of a socket; `None`: one that no client could be told of.
pub(super) fn connection(family: u8, id: &[u8; ID_BYTES]) -> Option<Connection> {
    let (source_port, rest) = id.split_first_chunk::<2>()?;
    let (client_port, rest) = rest.split_first_chunk::<2>()?;
    let (source, rest) = rest.split_first_chunk::<16>()?;
    let client = rest.first_chunk::<16>()?;
    let end = |ip: &[u8; 16], port: &[u8; 2]| {
        let ip = match i32::from(family) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::from(*ip.first_chunk::<4>()?)),
            libc::AF_INET6 => IpAddr::V6(Ipv6Addr::from(*ip)).to_canonical(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(*port)))
    };
    Connection::new(end(source, source_port)?, end(client, client_port)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn random_bytes_never_panic(
            kind in prop_oneof![2u16..4, 18u16..22],
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            read(&payload, &mut |_, _| {});
            let mut bytes = Vec::new();
            bytes.extend((16 + payload.len() as u32).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(&payload);
            let mut count = 0;
            read(&bytes, &mut |_, body| {
                count += 1;
                if let Body::Socket(family, id) = body {
                    connection(family, &id);
                }
            });
            prop_assert_eq!(count, 1);
        }
    }

    #[test]
    fn a_mapped_connection_is_one_of_ipv4() {
        let mut id = [0; ID_BYTES];
        id[..4].copy_from_slice(&[0, 80, 0x80, 1]);
        id[14..20].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 50]);
        id[30..36].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 7]);
        let found = connection(libc::AF_INET6 as u8, &id).unwrap();
        assert_eq!(found.service, "192.0.2.50:80".parse().unwrap());
        assert_eq!(found.client, "192.0.2.7:32769".parse().unwrap());
        assert_eq!(connection(99, &id), None);
    }
}
