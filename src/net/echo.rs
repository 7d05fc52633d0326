//! Asks hosts beyond the LAN for a sign of life: ICMP and ICMPv6 echo (RFC 792, RFC 4443). Lives in the
//! heart's loop and never blocks; which gateway the question takes, the kernel's routes say.
//!
//! An answer counts only for the question that it repeats: the payload names the round and proves that
//! whoever answers has seen *this* question, which nobody who saw earlier ones can guess.
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | ICMP: type, code, checksum, this socket's identifier, the round's lower half |
//! | 4 | the round |
//! | 8 | keyed BLAKE3 of round and host |

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, socket,
};

use crate::limits::ECHO_PACKET_BYTES;
use crate::sys::packet_options::{attach_filter, bind_to_interface};

const HEADER_BYTES: usize = 8;
const ROUND_BYTES: usize = 4;
const PROOF_BYTES: usize = 8;
const MESSAGE_BYTES: usize = HEADER_BYTES + ROUND_BYTES + PROOF_BYTES;

/// ICMP types of question and answer, by IP version.
const V4: (u8, u8) = (8, 0);
const V6: (u8, u8) = (128, 129);

/// Packets that are no answer to a question of this socket's, by reason. The kernel's filter holds back
/// what has another type or identifier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EchoRefused {
    /// Of another length than what was asked.
    pub length: u64,
    /// Of another type or with another identifier, from before the filter was in place.
    pub foreign: u64,
    /// The proof fits neither the round nor the host that it comes from.
    pub forged: u64,
}

/// The sockets; one for each IP version that is asked.
#[derive(Debug)]
pub struct Echo {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    interface_index: u32,
    identifier: u16,
    secret: [u8; 32],
    refused: EchoRefused,
}

impl Echo {
    /// Opens what is needed to ask `hosts` through the interface of that index, from this node's address `own` where the
    /// IP version is the same; else the kernel chooses. Needs CAP_NET_RAW: a socket without privilege
    /// (`ping_group_range`) is given to nobody by default.
    ///
    /// # Errors
    /// The interface does not exist or lacks the address, or the capability is missing.
    pub fn open(interface_index: u32, own: IpAddr, hosts: &[IpAddr]) -> io::Result<Echo> {
        let mut identifier = [0; 2];
        let mut secret = [0; 32];
        getrandom::fill(&mut identifier)?;
        getrandom::fill(&mut secret)?;
        let identifier = u16::from_be_bytes(identifier);
        let wanted = |v4: bool| hosts.iter().any(|host| host.is_ipv4() == v4);
        let from = |v4: bool| Some(own).filter(|own| own.is_ipv4() == v4);
        let open = |v4: bool| -> io::Result<Option<UdpSocket>> {
            if !wanted(v4) {
                return Ok(None);
            }
            raw_socket(interface_index, v4, from(v4), identifier).map(Some)
        };
        let refused = EchoRefused::default();
        Ok(Echo { v4: open(true)?, v6: open(false)?, interface_index, identifier, secret, refused })
    }

    /// The descriptors to wait on for reading.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        self.v4.iter().chain(&self.v6).map(AsRawFd::as_raw_fd)
    }

    /// Index of the interface, as it was when this was opened.
    pub fn interface_index(&self) -> u32 {
        self.interface_index
    }

    /// Packets that were no answer, by reason.
    pub fn refused(&self) -> EchoRefused {
        self.refused
    }

    /// Asks `host` in this round.
    ///
    /// # Errors
    /// As sendto(2): no route, the queue is full, the interface is down or gone.
    pub fn ask(&self, host: IpAddr, round: u32) -> io::Result<()> {
        let socket = if host.is_ipv4() { &self.v4 } else { &self.v6 };
        let socket = socket.as_ref().ok_or(ErrorKind::Unsupported)?;
        let sent = socket.send_to(&self.question(host, round), SocketAddr::new(host, 0))?;
        if sent == MESSAGE_BYTES { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
    }

    /// Reads up to `limit` packets from each socket and calls `each` with host and round of those that
    /// answer a question. Returns whether there may be more.
    ///
    /// # Errors
    /// As recvfrom(2). The other socket has been read anyway.
    pub fn receive(&mut self, limit: usize, each: &mut dyn FnMut(IpAddr, u32)) -> io::Result<bool> {
        let v4 = self.receive_from(true, limit, each);
        let v6 = self.receive_from(false, limit, each);
        Ok(v4? | v6?)
    }

    fn receive_from(
        &mut self,
        v4: bool,
        limit: usize,
        each: &mut dyn FnMut(IpAddr, u32),
    ) -> io::Result<bool> {
        let mut buffer = [0; ECHO_PACKET_BYTES];
        for _ in 0..limit {
            let Some(socket) = (if v4 { &self.v4 } else { &self.v6 }) else { return Ok(false) };
            let (length, from) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let packet = buffer.get(..length).unwrap_or_default();
            let message = if v4 { behind_ipv4(packet) } else { Some(packet) };
            match self.read(message.unwrap_or_default(), from.ip()) {
                Ok(round) => each(from.ip(), round),
                Err(reason) => *reason(&mut self.refused) += 1,
            }
        }
        Ok(true)
    }

    fn question(&self, host: IpAddr, round: u32) -> [u8; MESSAGE_BYTES] {
        let mut message = self.message(if host.is_ipv4() { V4.0 } else { V6.0 }, host, round);
        if host.is_ipv4() {
            // ICMPv6's, which covers the addresses, is the kernel's work.
            let checksum = pnet::util::checksum(&message, 1);
            if let Some(place) = message.get_mut(2..4) {
                place.copy_from_slice(&checksum.to_be_bytes());
            }
        }
        message
    }

    /// A message without its checksum.
    fn message(&self, kind: u8, host: IpAddr, round: u32) -> [u8; MESSAGE_BYTES] {
        let [id_high, id_low] = self.identifier.to_be_bytes();
        let [a, b, c, d] = round.to_be_bytes();
        let mut message = [0; MESSAGE_BYTES];
        let (header, proof) = message.split_at_mut(HEADER_BYTES + ROUND_BYTES);
        header.copy_from_slice(&[kind, 0, 0, 0, id_high, id_low, c, d, a, b, c, d]);
        proof.copy_from_slice(&self.proof(host, round));
        message
    }

    fn proof(&self, host: IpAddr, round: u32) -> [u8; PROOF_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(&round.to_be_bytes());
        match host {
            IpAddr::V4(ip) => hasher.update(&ip.octets()),
            IpAddr::V6(ip) => hasher.update(&ip.octets()),
        };
        let mut proof = [0; PROOF_BYTES];
        hasher.finalize_xof().fill(&mut proof);
        proof
    }

    /// The round whose question to `from` this message answers, or the counter of why it does not.
    fn read(&self, message: &[u8], from: IpAddr) -> Result<u32, fn(&mut EchoRefused) -> &mut u64> {
        let answer = if from.is_ipv4() { V4.1 } else { V6.1 };
        let Ok(message) = <[u8; MESSAGE_BYTES]>::try_from(message) else {
            return Err(|refused| &mut refused.length);
        };
        let [kind, code, _, _, id_high, id_low, _, _, a, b, c, d, ..] = message;
        if (kind, code) != (answer, 0) || [id_high, id_low] != self.identifier.to_be_bytes() {
            return Err(|refused| &mut refused.foreign);
        }
        let round = u32::from_be_bytes([a, b, c, d]);
        let expected = self.message(answer, from, round);
        // All behind the checksum, which the kernel has looked at.
        if message.get(4..) != expected.get(4..) {
            return Err(|refused| &mut refused.forged);
        }
        Ok(round)
    }
}

/// What is behind an IPv4 header, which a raw socket gets too.
fn behind_ipv4(packet: &[u8]) -> Option<&[u8]> {
    let words = packet.first()? & 0x0f;
    packet.get(usize::from(words) * 4..)
}

fn raw_socket(
    interface_index: u32,
    v4: bool,
    from: Option<IpAddr>,
    identifier: u16,
) -> io::Result<UdpSocket> {
    let (family, protocol) = match v4 {
        true => (AddressFamily::Inet, SockProtocol::Icmp),
        false => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(family, SockType::Raw, flags, protocol)?;
    if v4 {
        attach_filter(&socket, &filter_v4(identifier))?;
    } else {
        attach_filter(&socket, &filter_v6(identifier))?;
    }
    bind_to_interface(&socket, interface_index)?;
    if let Some(from) = from {
        bind(socket.as_raw_fd(), &SockaddrStorage::from(endpoint(from, interface_index)))?;
    }
    // The standard library has no type for raw sockets; sending and receiving are the same calls.
    Ok(socket.into())
}

/// The address; a link-local one with the interface it is on.
fn endpoint(ip: IpAddr, interface_index: u32) -> SocketAddr {
    match ip {
        IpAddr::V6(ip) if Ipv6Addr::is_unicast_link_local(&ip) => {
            SocketAddrV6::new(ip, 0, 0, interface_index).into()
        }
        IpAddr::V4(_) | IpAddr::V6(_) => SocketAddr::new(ip, 0),
    }
}

fn step(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const END: u32 = libc::BPF_RET | libc::BPF_K;

/// Accepts echo replies with this identifier: every ping of this host would wake the heart else. A raw
/// IPv4 socket's packets begin with the IP header.
fn filter_v4(identifier: u16) -> [libc::sock_filter; 7] {
    let load = libc::BPF_LD | libc::BPF_IND;
    [
        step(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 0), // length of the IP header
        step(load | libc::BPF_B, 0, 0, 0),                          // type
        step(IF_EQUAL, 0, 3, u32::from(V4.1)),
        step(load | libc::BPF_H, 0, 0, 4), // identifier
        step(IF_EQUAL, 0, 1, u32::from(identifier)),
        step(END, 0, 0, u32::MAX),
        step(END, 0, 0, 0),
    ]
}

/// The same for IPv6, where a raw socket's packets begin with ICMPv6.
fn filter_v6(identifier: u16) -> [libc::sock_filter; 6] {
    let load = libc::BPF_LD | libc::BPF_ABS;
    [
        step(load | libc::BPF_B, 0, 0, 0), // type
        step(IF_EQUAL, 0, 3, u32::from(V6.1)),
        step(load | libc::BPF_H, 0, 0, 4), // identifier
        step(IF_EQUAL, 0, 1, u32::from(identifier)),
        step(END, 0, 0, u32::MAX),
        step(END, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unplugged(secret: u8) -> Echo {
        Echo {
            v4: None,
            v6: None,
            interface_index: 1,
            identifier: 0xABCD,
            secret: [secret; 32],
            refused: EchoRefused::default(),
        }
    }

    fn reason(echo: &Echo, message: &[u8], from: IpAddr) -> Option<EchoRefused> {
        let mut refused = EchoRefused::default();
        echo.read(message, from).err().map(|reason| {
            *reason(&mut refused) += 1;
            refused
        })
    }

    #[test]
    fn only_the_answer_to_its_own_question_counts() {
        let echo = unplugged(7);
        let hosts: [IpAddr; 2] =
            ["198.51.100.1".parse().unwrap(), "2001:db8:f::1".parse().unwrap()];
        for host in hosts {
            let kind = if host.is_ipv4() { V4.1 } else { V6.1 };
            let answer = echo.message(kind, host, 0x0102_0304);
            assert_eq!(echo.read(&answer, host).ok(), Some(0x0102_0304));
            let forged = Some(EchoRefused { forged: 1, ..EchoRefused::default() });
            let foreign = Some(EchoRefused { foreign: 1, ..EchoRefused::default() });
            let length = Some(EchoRefused { length: 1, ..EchoRefused::default() });
            // An answer from before a restart, one to another host, another round's proof.
            assert_eq!(reason(&unplugged(8), &answer, host), forged);
            let other = if host.is_ipv4() { "198.51.100.2" } else { "2001:db8:f::2" };
            assert_eq!(reason(&echo, &answer, other.parse().unwrap()), forged);
            let mut later = answer;
            later[11] += 1;
            later[7] += 1;
            assert_eq!(reason(&echo, &later, host), forged);
            let question = echo.question(host, 0x0102_0304);
            assert_eq!(reason(&echo, &question, host), foreign);
            assert_eq!(reason(&echo, &answer[..19], host), length);
        }
    }

    #[test]
    fn a_question_is_a_valid_icmp_message() {
        let host = "198.51.100.1".parse().unwrap();
        let question = unplugged(7).question(host, 5);
        assert_eq!(question[..2], [8, 0]);
        assert_eq!(question[4..12], [0xAB, 0xCD, 0, 5, 0, 0, 0, 5]);
        // Over the whole, with the checksum in it, the sum is zero (RFC 1071).
        let words = question.chunks_exact(2).map(|two| u32::from(two[0]) << 8 | u32::from(two[1]));
        let sum: u32 = words.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_in_panics_or_counts(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let echo = unplugged(7);
            for from in ["198.51.100.1", "2001:db8:f::1"] {
                prop_assert!(echo.read(&bytes, from.parse().unwrap()).is_err());
            }
            let _ = behind_ipv4(&bytes);
        }
    }
}
