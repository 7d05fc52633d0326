//! rtnetlink messages, built and read (rtnetlink(7)). This file and `link_messages` alone know the
//! crate that describes them, because that crate changes often. Only the few attributes that clusterd
//! needs are read, so an attribute that is new or odd never hides a message.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NetlinkMessage, NlaBuffer, NlasIterator,
    Parseable,
};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage,
    AddressScope, CacheInfo,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::link_messages::{Interface, LinkChange, read_interface};
use crate::limits::LEASE;

/// Header length of `struct ifaddrmsg`, in bytes.
const ADDRESS_HEADER_BYTES: usize = 8;

/// An address on an interface of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address itself.
    pub ip: IpAddr,
    /// What the kernel calls IFA_ADDRESS: the far end on a point-to-point link, else `ip` again.
    pub far: IpAddr,
    /// Index of the interface.
    pub index: u32,
    /// Prefix length, in bits.
    pub prefix: u8,
    /// It has no end: it is not one of our leases.
    pub permanent: bool,
}

/// What one message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A request was done (`None`) or refused with this errno.
    Answer(Option<i32>),
    /// The end of a dump, with its errno if it failed.
    Done(Option<i32>),
    /// The kernel lost messages.
    Overrun,
    /// The address is there: a line of a dump, or news.
    Address(Address),
    /// The address is gone.
    AddressGone(Address),
    /// The interface is there: an answer, or news.
    Interface(Interface),
    /// The interface of this index is gone.
    InterfaceGone(u32),
    /// A message about something else, or one that cannot be read.
    Other,
}

/// One message of a datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sequence number of the request it answers; 0 for news.
    pub sequence: u32,
    /// The dump it belongs to was interrupted by a change and may have missed something.
    pub interrupted: bool,
    /// What it says.
    pub body: Body,
}

/// A change of one address, or of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add the address as /32 or /128 with a lease, or renew its lease.
    Lease {
        /// Index of the interface.
        index: u32,
        /// The address.
        ip: IpAddr,
        /// Whether it may be new. (The kernel adds it in either case.)
        create: bool,
    },
    /// Delete exactly this address.
    Delete(Address),
    /// Delete the address from the interface: IPv4 with any prefix, IPv6 as /128.
    Remove {
        /// Index of the interface.
        index: u32,
        /// The address.
        ip: IpAddr,
    },
    /// Change an interface.
    Link(LinkChange),
}

impl Change {
    /// What it is about, in words.
    pub fn subject(&self) -> String {
        match self {
            Change::Lease { ip, .. } | Change::Remove { ip, .. } => ip.to_string(),
            Change::Delete(address) => address.ip.to_string(),
            Change::Link(change) => change.subject(),
        }
    }

    /// Whether that errno means that there was nothing left to do.
    pub fn is_done_by(&self, errno: i32) -> bool {
        match self {
            Change::Lease { .. } => false,
            Change::Delete(_) | Change::Remove { .. } => is_gone(errno),
            Change::Link(change) => change.is_done_by(errno),
        }
    }

    /// Appends the request, which asks for an answer, to `out`.
    pub fn build(&self, sequence: u32, out: &mut Vec<u8>) {
        match *self {
            Change::Lease { index, ip, create } => {
                let mut message = address_message(index, ip, host_prefix(ip));
                let lease_secs = u32::try_from(LEASE.as_secs()).unwrap_or(1);
                let mut lease = CacheInfo::default();
                lease.ifa_valid = lease_secs;
                // An IPv6 address that is not preferred never becomes a source by itself.
                lease.ifa_preferred = if ip.is_ipv4() { lease_secs } else { 0 };
                let flags = match ip {
                    IpAddr::V4(_) => AddressFlags::Noprefixroute,
                    IpAddr::V6(_) => AddressFlags::Noprefixroute | AddressFlags::Nodad,
                };
                message.attributes.extend([
                    AddressAttribute::Local(ip),
                    AddressAttribute::Address(ip),
                    AddressAttribute::CacheInfo(lease),
                    AddressAttribute::Flags(flags),
                ]);
                let create = if create { NLM_F_CREATE } else { 0 };
                let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE | create;
                append(RouteNetlinkMessage::NewAddress(message), flags, sequence, out);
            }
            Change::Delete(address) => {
                let mut message = address_message(address.index, address.ip, address.prefix);
                message.attributes.push(AddressAttribute::Local(address.ip));
                message.attributes.push(AddressAttribute::Address(address.far));
                let flags = NLM_F_REQUEST | NLM_F_ACK;
                append(RouteNetlinkMessage::DelAddress(message), flags, sequence, out);
            }
            Change::Remove { index, ip } => {
                let mut message = address_message(index, ip, host_prefix(ip));
                // Without IFA_ADDRESS the kernel compares no IPv4 prefix.
                message.attributes.push(AddressAttribute::Local(ip));
                let flags = NLM_F_REQUEST | NLM_F_ACK;
                append(RouteNetlinkMessage::DelAddress(message), flags, sequence, out);
            }
            Change::Link(change) => change.build(sequence, out),
        }
    }
}

/// Whether the errno of a deletion means that the address, or its interface, was not there.
pub fn is_gone(errno: i32) -> bool {
    matches!(errno, libc::EADDRNOTAVAIL | libc::ENODEV)
}

/// The prefix length of a single host, in bits.
pub fn host_prefix(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

/// Appends a request for every address of this host to `out`.
pub fn build_address_dump(sequence: u32, out: &mut Vec<u8>) {
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    append(message, NLM_F_REQUEST | NLM_F_DUMP, sequence, out);
}

fn address_message(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header = AddressHeader {
        family: match ip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        },
        prefix_len: prefix,
        flags: AddressHeaderFlags::empty(),
        scope: AddressScope::Universe,
        index,
    };
    message
}

pub(super) fn append(message: RouteNetlinkMessage, flags: u16, sequence: u32, out: &mut Vec<u8>) {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = out.len().next_multiple_of(4);
    out.resize(start.saturating_add(message.buffer_len()), 0);
    if let Some(room) = out.get_mut(start..) {
        message.serialize(room);
    }
}

/// The sequence number in a request that was built here.
///
/// # Errors
/// `InvalidInput`: this is no netlink message.
pub fn sequence_of(request: &[u8]) -> io::Result<u32> {
    NetlinkBuffer::new_checked(request)
        .map(|buffer| buffer.sequence_number())
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))
}

/// Calls `each` for every message of any family in a datagram of the kernel. Bytes that are no message
/// end it.
pub(super) fn each_message(mut datagram: &[u8], each: &mut dyn FnMut(&NetlinkBuffer<&[u8]>)) {
    while let Ok(buffer) = NetlinkBuffer::new_checked(datagram) {
        each(&buffer);
        let used = usize::try_from(buffer.length()).unwrap_or(usize::MAX);
        let next = used.checked_next_multiple_of(4).unwrap_or(usize::MAX);
        datagram = datagram.get(next..).unwrap_or(&[]);
    }
}

/// Calls `each` for every message of rtnetlink in a datagram of the kernel.
pub fn read(datagram: &[u8], each: &mut dyn FnMut(Message)) {
    each_message(datagram, &mut |buffer| {
        let payload = buffer.payload();
        let interrupted = buffer.flags() & NLM_F_DUMP_INTR != 0;
        let body = match buffer.message_type() {
            NLMSG_NOOP => Body::Other,
            NLMSG_ERROR => errno(payload).map_or(Body::Other, Body::Answer),
            NLMSG_DONE => Body::Done(errno(payload).flatten()),
            NLMSG_OVERRUN => Body::Overrun,
            libc::RTM_NEWADDR => read_address(payload).map_or(Body::Other, Body::Address),
            libc::RTM_DELADDR => read_address(payload).map_or(Body::Other, Body::AddressGone),
            libc::RTM_NEWLINK => read_interface(payload).map_or(Body::Other, Body::Interface),
            libc::RTM_DELLINK => read_interface(payload)
                .map_or(Body::Other, |interface| Body::InterfaceGone(interface.index)),
            _ => Body::Other,
        };
        each(Message { sequence: buffer.sequence_number(), interrupted, body });
    });
}

/// The error number that an answer or the end of a dump starts with; `Some(None)` is success.
pub(super) fn errno(payload: &[u8]) -> Option<Option<i32>> {
    let code = i32::from_ne_bytes(*payload.first_chunk()?);
    Some((code != 0).then(|| code.saturating_neg()))
}

fn read_address(payload: &[u8]) -> Option<Address> {
    let header = AddressHeader::parse(payload).ok()?;
    let (mut local, mut far) = (None, None);
    for nla in NlasIterator::new(payload.get(ADDRESS_HEADER_BYTES..)?) {
        let Ok(nla) = nla else { break };
        match nla.kind() {
            libc::IFA_LOCAL => local = read_ip(&nla),
            libc::IFA_ADDRESS => far = read_ip(&nla),
            _ => {}
        }
    }
    Some(Address {
        ip: local.or(far)?,
        far: far.or(local)?,
        index: header.index,
        prefix: header.prefix_len,
        permanent: header.flags.contains(AddressHeaderFlags::Permanent),
    })
}

fn read_ip(nla: &NlaBuffer<&[u8]>) -> Option<IpAddr> {
    match AddressAttribute::parse(nla) {
        Ok(AddressAttribute::Local(ip) | AddressAttribute::Address(ip)) => Some(ip),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bodies(datagram: &[u8]) -> Vec<Body> {
        let mut bodies = Vec::new();
        read(datagram, &mut |message| bodies.push(message.body));
        bodies
    }

    fn ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 4]>().prop_map(IpAddr::from),
            any::<[u8; 16]>().prop_map(IpAddr::from)
        ]
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            bodies(&bytes);
        }

        #[test]
        fn random_payload_of_known_kinds_never_panics(
            kind in prop_oneof![2u16..5, 16u16..23],
            payload in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = Vec::new();
            bytes.extend((16 + payload.len() as u32).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(&payload);
            prop_assert_eq!(bodies(&bytes).len(), 1);
        }

        #[test]
        fn what_is_built_is_read_again(
            index in any::<u32>(), ip in ip(), sequence in any::<u32>(), create in any::<bool>(),
        ) {
            let here = Address { ip, far: ip, index, prefix: host_prefix(ip), permanent: false };
            let mut bytes = Vec::new();
            Change::Lease { index, ip, create }.build(sequence, &mut bytes);
            Change::Delete(here).build(sequence, &mut bytes);
            Change::Remove { index, ip }.build(sequence, &mut bytes);
            prop_assert_eq!(
                bodies(&bytes),
                vec![Body::Address(here), Body::AddressGone(here), Body::AddressGone(here)]
            );
            prop_assert_eq!(sequence_of(&bytes).unwrap(), sequence);
        }
    }
}
