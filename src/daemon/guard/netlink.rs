//! The little netlink that the guard speaks: it sends messages it does not understand, and looks
//! whether an address is still there. One buffer of fixed size, no allocation.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::limits::{DUMP_BYTES_MAX, GUARD_DUMP_PATIENCE};

/// struct nlmsghdr: length u32, type u16, flags u16, sequence u32, port u32 (netlink(7)).
const HEADER: usize = 16;
/// struct ifaddrmsg: family, prefix, flags, scope (u8 each), interface u32 (rtnetlink(7)).
const IFADDRMSG: usize = 8;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;
const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;

/// A NETLINK_ROUTE socket in the network namespace where it was opened.
#[derive(Debug)]
pub struct GuardNetlink {
    socket: OwnedFd,
    buffer: Box<[u8]>,
    /// Messages found by a dump, turned into deletions.
    found: Box<[u8]>,
    sequence: u32,
}

impl GuardNetlink {
    /// Opens the socket and allocates all that will ever be needed.
    ///
    /// # Errors
    /// Too many open files.
    pub fn open() -> io::Result<GuardNetlink> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        let patience = TimeVal::milliseconds(GUARD_DUMP_PATIENCE.as_millis() as i64);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        let buffer = || vec![0; DUMP_BYTES_MAX].into_boxed_slice();
        Ok(GuardNetlink { socket, buffer: buffer(), found: buffer(), sequence: 0 })
    }

    /// Sends a message as it is. Its acknowledgement is not waited for: a look tells what became of it.
    ///
    /// # Errors
    /// As send(2).
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), message, MsgFlags::empty())?;
        Ok(())
    }

    /// Looks for `wanted` (IPv4 mapped into IPv6) on every interface of this host, and deletes what it
    /// finds where it finds it. Returns how many were there.
    ///
    /// # Errors
    /// The kernel did not answer in time, lost part of its answer, or the addresses changed during the
    /// dump: look again.
    pub fn delete_found(&mut self, wanted: &[[u8; 16]]) -> io::Result<usize> {
        let (count, length) = self.dump(wanted)?;
        let mut rest = self.found.get(..length).unwrap_or_default();
        while let Some((message, after)) = split_message(rest) {
            self.send(message)?;
            rest = after;
        }
        Ok(count)
    }

    fn dump(&mut self, wanted: &[[u8; 16]]) -> io::Result<(usize, usize)> {
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&dump_request(self.sequence))?;
        let (mut count, mut length, mut whole) = (0, 0, true);
        loop {
            let received = match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())
            {
                Ok(received) => received,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            let mut rest = self.buffer.get(..received).unwrap_or_default();
            while let Some((message, after)) = split_message(rest) {
                rest = after;
                let Some(header) = Header::read(message) else { break };
                // Acknowledgements of deletions, or the rest of a dump that was given up.
                if header.sequence != self.sequence || header.is_ack_of_deletion(message) {
                    continue;
                }
                whole &= header.flags & libc::NLM_F_DUMP_INTR as u16 == 0;
                match header.kind {
                    NLMSG_DONE if whole => return Ok((count, length)),
                    NLMSG_DONE => return Err(io::ErrorKind::Interrupted.into()),
                    NLMSG_ERROR => return Err(io::Error::other("the kernel refused a dump")),
                    libc::RTM_NEWADDR
                        if address(message).is_some_and(|ip| wanted.contains(&ip)) =>
                    {
                        count += 1;
                        // No room: the next look finds the rest.
                        if let Some(room) = self.found.get_mut(length..length + message.len()) {
                            room.copy_from_slice(message);
                            as_deletion(room);
                            length += message.len();
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

impl Header {
    fn read(message: &[u8]) -> Option<Header> {
        let kind = u16::from_ne_bytes(*message.get(4..)?.first_chunk()?);
        let flags = u16::from_ne_bytes(*message.get(6..)?.first_chunk()?);
        let sequence = u32::from_ne_bytes(*message.get(8..)?.first_chunk()?);
        Some(Header { kind, flags, sequence })
    }

    /// An error message quotes the header of what it answers.
    fn is_ack_of_deletion(&self, message: &[u8]) -> bool {
        let quoted = message.get(HEADER + 4..).and_then(Header::read);
        self.kind == NLMSG_ERROR && quoted.is_some_and(|quoted| quoted.kind != libc::RTM_GETADDR)
    }
}

/// The first message of a datagram and what follows it; each begins at a multiple of 4 bytes.
fn split_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    if length < HEADER {
        return None;
    }
    let message = bytes.get(..length)?;
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The address of an RTM_NEWADDR: IFA_LOCAL, or else IFA_ADDRESS.
fn address(message: &[u8]) -> Option<[u8; 16]> {
    let family = *message.get(HEADER)?;
    let mut attributes = message.get(HEADER + IFADDRMSG..)?;
    let mut found = None;
    while let Some(length) = attributes.first_chunk().map(|size| u16::from_ne_bytes(*size)) {
        let kind = u16::from_ne_bytes(*attributes.get(2..)?.first_chunk()?);
        let value = attributes.get(4..usize::from(length))?;
        match kind {
            libc::IFA_LOCAL => return mapped(family, value),
            libc::IFA_ADDRESS => found = mapped(family, value),
            _ => {}
        }
        attributes = attributes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn mapped(family: u8, value: &[u8]) -> Option<[u8; 16]> {
    match i32::from(family) {
        libc::AF_INET => {
            let v4: [u8; 4] = value.try_into().ok()?;
            Some(std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets())
        }
        libc::AF_INET6 => value.try_into().ok(),
        _ => None,
    }
}

/// What the kernel says of an address, said back to it with another type, deletes just that address.
fn as_deletion(message: &mut [u8]) {
    let header = [libc::RTM_DELADDR.to_ne_bytes(), (libc::NLM_F_REQUEST as u16).to_ne_bytes()];
    for (to, from) in message.iter_mut().skip(4).zip(header.as_flattened()) {
        *to = *from;
    }
}

fn dump_request(sequence: u32) -> [u8; HEADER + IFADDRMSG] {
    let mut request = [0; HEADER + IFADDRMSG];
    let length = (HEADER + IFADDRMSG) as u32;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let fields = length
        .to_ne_bytes()
        .into_iter()
        .chain(libc::RTM_GETADDR.to_ne_bytes())
        .chain(flags.to_ne_bytes())
        .chain(sequence.to_ne_bytes());
    for (to, from) in request.iter_mut().zip(fields) {
        *to = from;
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::guard::page::address_bytes;
    use proptest::prelude::*;

    fn ip(arguments: &str) -> String {
        let arguments = arguments.split(' ');
        let output = std::process::Command::new("ip").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn finds_and_deletes_wanted_addresses_on_every_interface_and_no_other() {
        let body = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            ip("link add one type veth peer name two");
            ip("link set one up");
            ip("address add 192.0.2.50/32 dev one valid_lft 20 preferred_lft 20");
            ip("address add 192.0.2.51/24 dev two label two:x");
            ip("address add 192.0.2.52/32 dev lo");
            ip("address add 2001:db8::50/128 dev one nodad valid_lft 20 preferred_lft 0");
            let mut netlink = GuardNetlink::open().unwrap();
            let wanted = ["192.0.2.50", "192.0.2.51", "2001:db8::50", "2001:db8::51"]
                .map(|address| address_bytes(address.parse().unwrap()));
            assert_eq!(netlink.delete_found(&[]).unwrap(), 0);
            assert_eq!(netlink.delete_found(&wanted).unwrap(), 3);
            assert_eq!(netlink.delete_found(&wanted).unwrap(), 0);
            let left = ip("-brief address");
            assert!(left.contains("192.0.2.52"), "{left}");
            assert!(!left.contains("192.0.2.50") && !left.contains("2001:db8::50"), "{left}");
        };
        std::thread::spawn(body).join().unwrap();
    }

    #[test]
    fn p1_answers_that_found_no_room_are_an_error_and_a_later_look_is_right() {
        let body = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            ip("address add 192.0.2.50/32 dev lo");
            let wanted = [address_bytes("192.0.2.50".parse().unwrap())];
            let mut netlink = GuardNetlink::open().unwrap();
            // The kernel makes of it the least that it allows.
            setsockopt(&netlink.socket, sockopt::RcvBuf, &1).unwrap();
            let mut refused = dump_request(7);
            as_deletion(&mut refused);
            for _ in 0..100 {
                netlink.send(&refused).unwrap();
            }
            let error = netlink.delete_found(&wanted).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS), "{error}");
            let mut looks = std::iter::repeat_with(|| netlink.delete_found(&wanted)).take(100);
            assert_eq!(looks.find_map(Result::ok), Some(1));
            assert_eq!(netlink.delete_found(&wanted).unwrap(), 0);
        };
        std::thread::spawn(body).join().unwrap();
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Header::read(&bytes);
            let _ = address(&bytes);
            let _ = split_message(&bytes);
            as_deletion(&mut bytes);
        }
    }
}
