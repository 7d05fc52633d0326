//! Asks and listens on the LAN who has which address: ARP for IPv4, neighbour discovery for IPv6.
//! Lives in the heart's loop and never blocks.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, RawFd};

use super::{arp, nd};
use crate::limits::LAN_FRAME_BYTES;
use crate::sys::packet::PacketSocket;
use crate::sys::packet_options::{attach_filter, ethernet_address};

const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86DD;

/// What a frame of another host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A host at `mac` uses `ip`: it was asked, and answered. (In IPv6 an announcement looks the same.)
    Answer {
        /// The address.
        ip: IpAddr,
        /// The Ethernet address that goes with it.
        mac: [u8; 6],
        /// Whom it answers.
        to: [u8; 6],
    },
    /// A host at `mac` uses `ip`: it announced it, or asked from it. Nobody asked for that.
    Uses {
        /// The address.
        ip: IpAddr,
        /// The Ethernet address that goes with it.
        mac: [u8; 6],
    },
    /// A host at `mac` asks whether anybody has `ip`, because it wants it.
    Probe {
        /// The address.
        ip: IpAddr,
        /// Who asks.
        mac: [u8; 6],
    },
}

impl Seen {
    fn mac(&self) -> [u8; 6] {
        match self {
            Seen::Answer { mac, .. } | Seen::Uses { mac, .. } | Seen::Probe { mac, .. } => *mac,
        }
    }
}

/// Why a frame says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Too short for what it claims to be.
    Short,
    /// Not ARP for IPv4 over Ethernet, not NS or NA.
    OtherProtocol,
    /// Against the rules of its protocol.
    Malformed,
    /// Its checksum is wrong.
    BadChecksum,
    /// From this host's own MAC.
    Own,
}

/// Frames that said nothing, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RefusedCounts {
    /// See [`Refused::Short`].
    pub short: u64,
    /// See [`Refused::OtherProtocol`].
    pub other_protocol: u64,
    /// See [`Refused::Malformed`].
    pub malformed: u64,
    /// See [`Refused::BadChecksum`].
    pub bad_checksum: u64,
    /// See [`Refused::Own`].
    pub own: u64,
}

impl RefusedCounts {
    fn count(&mut self, reason: Refused) {
        let counter = match reason {
            Refused::Short => &mut self.short,
            Refused::OtherProtocol => &mut self.other_protocol,
            Refused::Malformed => &mut self.malformed,
            Refused::BadChecksum => &mut self.bad_checksum,
            Refused::Own => &mut self.own,
        };
        *counter = counter.saturating_add(1);
    }
}

/// The sockets on the LAN interface. When the interface gets a new index or MAC, open it again; after
/// ENETDOWN it works again by itself once the interface is up.
#[derive(Debug)]
pub struct LanWatch {
    arp: PacketSocket,
    nd: Option<PacketSocket>,
    mac: [u8; 6],
    refused: RefusedCounts,
}

impl LanWatch {
    /// Opens the sockets on the interface of that index; one for IPv6 only if `ipv6`: some service address or
    /// reach host is. Waits for nothing; what NICs hold back of multicast, the netlink thread sees to.
    ///
    /// # Errors
    /// The interface does not exist or is no Ethernet; CAP_NET_RAW is missing.
    pub fn open(interface_index: u32, ipv6: bool) -> io::Result<LanWatch> {
        let arp = PacketSocket::open(interface_index, ETHERTYPE_ARP)?;
        let mac = ethernet_address(&arp)?
            .ok_or_else(|| io::Error::other("the interface has no Ethernet address"))?;
        let nd = if ipv6 { Some(open_nd(interface_index)?) } else { None };
        Ok(LanWatch { arp, nd, mac, refused: RefusedCounts::default() })
    }

    /// The descriptors to wait on for reading.
    pub fn fds(&self) -> impl Iterator<Item = RawFd> {
        std::iter::once(&self.arp).chain(&self.nd).map(AsRawFd::as_raw_fd)
    }

    /// The interface's own Ethernet address, as it was when this was opened.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Index of the interface, as it was when this was opened.
    pub fn interface_index(&self) -> u32 {
        self.arp.interface_index()
    }

    /// Frames that said nothing, by reason.
    pub fn refused(&self) -> RefusedCounts {
        self.refused
    }

    /// Reads up to `limit` frames from each socket and calls `each` for what they say. Returns
    /// whether there may be more.
    ///
    /// # Errors
    /// As recvfrom(2), for example ENETDOWN. The other socket has been read anyway.
    pub fn receive(&mut self, limit: usize, each: &mut dyn FnMut(Seen)) -> io::Result<bool> {
        let LanWatch { arp, nd, mac, refused } = self;
        let mut receive =
            |socket: &PacketSocket, read: fn(&[u8]) -> Result<Seen, Refused>| -> io::Result<bool> {
                let mut buffer = [0; LAN_FRAME_BYTES];
                for _ in 0..limit {
                    let Some(length) = socket.receive(&mut buffer)? else { return Ok(false) };
                    let frame = buffer.get(..length).unwrap_or(&buffer);
                    let own = frame.get(6..12) == Some(mac.as_slice());
                    match read(frame) {
                        Ok(seen) if !own && seen.mac() != *mac => each(seen),
                        Ok(_) => refused.count(Refused::Own),
                        Err(reason) => refused.count(reason),
                    }
                }
                Ok(true)
            };
        let arp = receive(arp, arp::read);
        let nd = nd.as_ref().map_or(Ok(false), |nd| receive(nd, nd::read));
        Ok(arp? | nd?)
    }

    /// Asks whether anybody has `ip`, as one who wants it: nobody learns anything from it.
    ///
    /// # Errors
    /// As send(2); `Unsupported` for IPv6 when none was given at [`LanWatch::open`].
    pub fn probe(&self, ip: IpAddr) -> io::Result<()> {
        match ip {
            IpAddr::V4(ip) => self.arp.send(&arp::request(self.mac, Ipv4Addr::UNSPECIFIED, ip)),
            IpAddr::V6(ip) => self.nd()?.send(&nd::probe(self.mac, ip)),
        }
    }

    /// The same question to the holder of a MAC alone. A macvlan gets what is for everybody by a work queue
    /// of its kernel (`macvlan_broadcast_enqueue` in `drivers/net/macvlan.c`), on a busy machine many
    /// milliseconds late; what is for its own MAC it gets at once.
    ///
    /// # Errors
    /// As [`LanWatch::probe`].
    pub fn probe_at(&self, ip: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        let to_mac = |mut frame: Vec<u8>| {
            if let Some(destination) = frame.first_chunk_mut() {
                *destination = mac;
            }
            frame
        };
        match ip {
            IpAddr::V4(ip) => {
                let frame = arp::request(self.mac, Ipv4Addr::UNSPECIFIED, ip);
                self.arp.send(&to_mac(frame.to_vec()))
            }
            IpAddr::V6(ip) => self.nd()?.send(&to_mac(nd::probe(self.mac, ip))),
        }
    }

    /// Asks `ip`, a host on this link, for a sign of life, from this node's own address `from`.
    ///
    /// # Errors
    /// As [`LanWatch::probe`]; `InvalidInput` when one address is IPv4 and the other IPv6.
    pub fn ask(&self, ip: IpAddr, from: IpAddr) -> io::Result<()> {
        match (ip, from) {
            (IpAddr::V4(ip), IpAddr::V4(from)) => self.arp.send(&arp::request(self.mac, from, ip)),
            (IpAddr::V6(ip), IpAddr::V6(from)) => {
                self.nd()?.send(&nd::solicitation(self.mac, from, ip))
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{from} cannot ask {ip}")))
            }
        }
    }

    /// Tells the link that this node has `ip` at `mac`: gratuitous ARP as request and as reply, or an
    /// unasked advertisement.
    ///
    /// # Errors
    /// As [`LanWatch::probe`].
    pub fn announce(&self, ip: IpAddr, mac: [u8; 6]) -> io::Result<()> {
        match ip {
            IpAddr::V4(ip) => {
                self.arp.send(&arp::request(mac, ip, ip))?;
                self.arp.send(&arp::announcing_reply(mac, ip))
            }
            IpAddr::V6(ip) => self.nd()?.send(&nd::announcement(mac, ip)),
        }
    }

    fn nd(&self) -> io::Result<&PacketSocket> {
        self.nd.as_ref().ok_or_else(|| {
            io::Error::new(io::ErrorKind::Unsupported, "no IPv6 address was configured")
        })
    }
}

fn open_nd(interface_index: u32) -> io::Result<PacketSocket> {
    let socket = PacketSocket::open(interface_index, ETHERTYPE_IPV6)?;
    attach_filter(&socket, &nd_filter())?;
    Ok(socket)
}

/// Accepts ICMPv6 of type NS or NA directly behind the IPv6 header, and nothing else: data traffic
/// must not wake the heart. Offsets count from the Ethernet header.
fn nd_filter() -> [libc::sock_filter; 7] {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load_byte = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    let if_equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let end = libc::BPF_RET | libc::BPF_K;
    [
        step(load_byte, 0, 0, 14 + 6),  // next header
        step(if_equal, 0, 4, 58),       // ICMPv6, else refuse
        step(load_byte, 0, 0, 14 + 40), // its type
        step(if_equal, 1, 0, 135),      // NS: accept
        step(if_equal, 0, 1, 136),      // NA: accept, else refuse
        step(end, 0, 0, u32::MAX),      // accept the whole frame
        step(end, 0, 0, 0),             // refuse
    ]
}
