//! Frames taken from and put on the cables of a bed, from outside both nodes.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use clusterd::beat::{Beat, Codec, FrameBuffer, GroupBeats, Path, PathSet};
use clusterd::config::{GroupTags, NodeIndex};
use clusterd::control::status::NodeState;
use clusterd::sys::packet::PacketSocket;
use clusterd_bed::Bed;
use clusterd_bed::limits;
use pnet::packet::ipv4::{self, Ipv4Packet};
use pnet::packet::ipv6::Ipv6Packet;
use pnet::packet::udp::{self, UdpPacket};

use crate::scene::SOON;

/// Every EtherType (linux/if_ether.h).
const ETH_P_ALL: u16 = 0x0003;
const ETHERNET_BYTES: usize = 14;
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const UDP_BYTES: usize = 8;
const UDP: u8 = 17;
/// Where a complete frame says that it is a last will, and how.
pub const MARKS_AT: usize = 10;
const WILL: u8 = 1 << 7;

/// The plug of a node's crossover or LAN cable: hears what the node sends, and sends to the node.
pub struct Plug {
    socket: PacketSocket,
    path: Path,
}

/// A heartbeat as it was on the cable, headers included.
#[derive(Clone)]
pub struct Frame {
    path: Path,
    bytes: Vec<u8>,
}

impl Plug {
    /// At the far end of `node`'s cable.
    pub fn open(bed: &Bed, node: NodeIndex, path: Path) -> Plug {
        Plug::open_for(bed, node, path, ETH_P_ALL)
    }

    /// The same, to send only: no copy of any frame is made for it.
    pub fn open_deaf(bed: &Bed, node: NodeIndex, path: Path) -> Plug {
        Plug::open_for(bed, node, path, 0)
    }

    fn open_for(bed: &Bed, node: NodeIndex, path: Path, ethertype: u16) -> Plug {
        let port = match (path, node) {
            (Path::Crossover, NodeIndex::Lower) => "xa",
            (Path::Crossover, NodeIndex::Upper) => "xb",
            (Path::Lan, NodeIndex::Lower) => "la",
            (Path::Lan, NodeIndex::Upper) => "lb",
            (Path::Serial, _) => panic!("the serial line has no frames of Ethernet"),
        };
        let opened = bed.wiring().switch.run(|| {
            let index = clusterd::net::interface_index(port)?;
            PacketSocket::open(index, ethertype)
        });
        Plug { socket: opened.expect("a namespace").expect("a socket"), path }
    }

    /// The newest heartbeat of the node that is there or comes next.
    pub fn hear(&self) -> Frame {
        let deadline = Instant::now() + SOON;
        let mut newest = None;
        let mut buffer = [0u8; 2048];
        while Instant::now() < deadline {
            match self.socket.receive(&mut buffer).expect("a plugged cable") {
                Some(length) => {
                    let bytes = buffer.get(..length).expect("a whole frame").to_vec();
                    newest = Frame::heartbeat(self.path, bytes).or(newest);
                }
                None if newest.is_some() => break,
                None => std::thread::sleep(limits::BED_ASK_EVERY),
            }
        }
        newest.expect("a heartbeat")
    }

    /// Sends a frame of any kind to the node.
    pub fn send_bytes(&self, frame: &[u8]) -> std::io::Result<()> {
        self.socket.send(frame)
    }

    /// All heartbeats of the node that are there now, oldest first.
    pub fn heard(&self) -> Vec<Frame> {
        let mut heard = Vec::new();
        let mut buffer = [0u8; 2048];
        while let Some(length) = self.socket.receive(&mut buffer).expect("a plugged cable") {
            let bytes = buffer.get(..length).expect("a whole frame").to_vec();
            heard.extend(Frame::heartbeat(self.path, bytes));
        }
        heard
    }

    /// Whether it is a LAN cable's.
    pub fn is_lan(&self) -> bool {
        self.path == Path::Lan
    }

    /// Sends to the node. A cable that is out takes nothing.
    pub fn send(&self, frame: &Frame) -> std::io::Result<()> {
        self.socket.send(&frame.bytes)
    }
}

impl Frame {
    /// Any frame of the LAN, headers included.
    pub fn other(bytes: Vec<u8>) -> Frame {
        Frame { path: Path::Lan, bytes }
    }

    /// `None`: it is something else.
    fn heartbeat(path: Path, mut bytes: Vec<u8>) -> Option<Frame> {
        let at = |index: usize| bytes.get(index).copied();
        let ethertype = [at(12)?, at(13)?];
        match path {
            Path::Crossover => (ethertype == limits::CROSSOVER_ETHERTYPE.to_be_bytes())
                .then_some(Frame { path, bytes }),
            Path::Lan => {
                let (protocol, ip_bytes) = match ethertype {
                    [8, 0] => (at(23)?, IPV4_BYTES),
                    [0x86, 0xdd] => (at(20)?, IPV6_BYTES),
                    _ => return None,
                };
                let port = ETHERNET_BYTES + ip_bytes + 2;
                if protocol != UDP || [at(port)?, at(port + 1)?] != limits::LAN_PORT.to_be_bytes() {
                    return None;
                }
                // Was left to the NIC.
                fix_checksums(&mut bytes);
                Some(Frame { path, bytes })
            }
            Path::Serial => None,
        }
    }

    fn header_bytes(&self) -> usize {
        match self.path {
            Path::Crossover => ETHERNET_BYTES,
            Path::Lan => ETHERNET_BYTES + ip_bytes(&self.bytes) + UDP_BYTES,
            Path::Serial => 0,
        }
    }

    /// The heartbeat itself.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.header_bytes()..]
    }

    /// Whether it is a last will: a bit of a complete frame that no beat has.
    pub fn is_will(&self) -> bool {
        self.payload().get(MARKS_AT).is_some_and(|marks| marks & WILL != 0)
    }

    /// The same sender's and receiver's headers around another payload.
    pub fn with(&self, payload: &[u8]) -> Frame {
        let mut bytes = self.bytes[..self.header_bytes()].to_vec();
        bytes.extend_from_slice(payload);
        if self.path == Path::Lan {
            let udp_at = ETHERNET_BYTES + ip_bytes(&bytes);
            let length = |from: usize| u16::try_from(bytes.len() - from).expect("a length");
            let (whole, udp) = (length(ETHERNET_BYTES).to_be_bytes(), length(udp_at).to_be_bytes());
            match is_ipv6(&bytes) {
                true => bytes[18..20].copy_from_slice(&udp),
                false => bytes[16..18].copy_from_slice(&whole),
            }
            bytes[udp_at + 4..udp_at + 6].copy_from_slice(&udp);
            fix_checksums(&mut bytes);
        }
        Frame { path: self.path, bytes }
    }

    /// The same with one bit of the payload flipped.
    pub fn flipped(&self, byte: usize, bit: u8) -> Frame {
        let mut payload = self.payload().to_vec();
        payload[byte] ^= 1 << bit;
        self.with(&payload)
    }

    /// The same, said to come from another host of the LAN.
    pub fn sent_by_host(&self, last_octet: u8) -> Frame {
        let mut frame = self.clone();
        frame.bytes[if is_ipv6(&self.bytes) { 37 } else { 29 }] = last_octet;
        fix_checksums(&mut frame.bytes);
        frame
    }
}

fn is_ipv6(frame: &[u8]) -> bool {
    frame[12..14] == [0x86, 0xdd]
}

/// Length of the IP header; without options, as the kernel sends it.
fn ip_bytes(frame: &[u8]) -> usize {
    if is_ipv6(frame) { IPV6_BYTES } else { IPV4_BYTES }
}

/// Of IP and UDP. UDP over IPv4 may go without (RFC 768), over IPv6 it may not (RFC 8200).
fn fix_checksums(frame: &mut [u8]) {
    let (ipv6, length) = (is_ipv6(frame), ip_bytes(frame));
    let (ip, udp) = frame[ETHERNET_BYTES..].split_at_mut(length);
    udp[6..8].fill(0);
    if ipv6 {
        let ip = Ipv6Packet::new(ip).expect("a header");
        let packet = UdpPacket::new(udp).expect("a datagram");
        let sum = udp::ipv6_checksum(&packet, &ip.get_source(), &ip.get_destination());
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
    } else {
        let sum = ipv4::checksum(&Ipv4Packet::new(ip).expect("a header"));
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The pair's own key.
pub fn key(bed: &Bed) -> [u8; 32] {
    let file = bed.node(NodeIndex::Lower).config().with_file_name("cluster.key");
    std::fs::read(file).expect("a key").try_into().expect("32 bytes")
}

/// A well-formed heartbeat of `from`, encoded with any key for a cluster of any name.
pub fn forged(path: Path, key: &[u8; 32], cluster: &str, from: NodeIndex) -> Vec<u8> {
    let beat = Beat {
        node: from,
        incarnation: 0x0123_4567_89ab_cdef,
        peer_incarnation: 0,
        sequence: 1,
        sent_us: 1,
        echo_us: 0,
        echo_held_us: 0,
        ask_answer: false,
        farewell: true,
        will: false,
        state: NodeState::Online,
        may_claim: true,
        hears: PathSet::default(),
        lan_carrier: true,
        reach: 2,
        reach_of: 2,
        worst_gap_ms: 0,
        lan_mac: [2, 0, 0, 0, 0, 1],
        sync: [0; 8],
        digest: [0; 8],
        wish: None,
        answer: None,
        groups: GroupBeats::new(),
    };
    let mut frame = FrameBuffer::new();
    Codec::new(key, cluster, GroupTags::default(), from).encode(path, &beat, &mut frame);
    frame.as_slice().to_vec()
}

/// Puts a frame between two delimiters, stuffed as on the line (Cheshire and Baker, 1999).
pub fn stuffed(frame: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    for run in frame.split(|&byte| byte == 0) {
        bytes.push(u8::try_from(run.len() + 1).expect("a short run"));
        bytes.extend_from_slice(run);
    }
    bytes.push(0);
    bytes
}

/// The frames that came out of the line at a node's end, oldest first, each with its delimiters.
fn line_frames(bed: &Bed, node: NodeIndex) -> Vec<Vec<u8>> {
    let heard = bed.line().heard(node);
    let mut pieces: Vec<&[u8]> = heard.split(|&byte| byte == 0).collect();
    // The first and the last may be parts.
    pieces.pop();
    let frames = pieces.into_iter().skip(1).filter(|piece| piece.len() > 30);
    frames.map(|piece| [&[0], piece, &[0]].concat()).collect()
}

/// The next introduction or plain frame that comes to a node. What came before may be a greeting of the
/// start, which names nobody and is no news when it is said again.
pub fn next_line_frame(bed: &Bed, node: NodeIndex, introduction: bool) -> Vec<u8> {
    let before = line_frames(bed, node);
    let next = || {
        let mut frames = line_frames(bed, node).into_iter();
        let wanted = |frame: &Vec<u8>| {
            (frame.len() > INTRODUCTION_OVER) == introduction && !before.contains(frame)
        };
        frames.find(wanted).ok_or_else(|| "none came".to_owned())
    };
    bed.wait("a frame on the serial line", SOON, next).expect("a frame")
}

/// What a node has said on all paths, ready to be said again to its peer.
pub struct Recording {
    crossover: Vec<Frame>,
    lan: Vec<Frame>,
    serial: Vec<Vec<u8>>,
    plugs: [Plug; 2],
    line: File,
}

/// Introductions on serial are longer than this, plain frames shorter.
const INTRODUCTION_OVER: usize = 70;
/// Frames of each path in a recording.
const RECORDED: usize = 8;

impl Recording {
    /// Records some frames of `from` on every path.
    pub fn of(bed: &Bed, from: NodeIndex) -> Recording {
        let mut heard = [Path::Crossover, Path::Lan].map(|path| {
            let plug = Plug::open(bed, from, path);
            (0..RECORDED).map(|_| plug.hear()).collect::<Vec<Frame>>()
        });
        let plugs = [Path::Crossover, Path::Lan].map(|path| Plug::open(bed, from.other(), path));
        // An introduction, which is complete, and a plain one; many would stop the line.
        let serial = [false, true].map(|kind| next_line_frame(bed, from.other(), kind)).to_vec();
        let [crossover, lan] = [heard[0].split_off(0), heard[1].split_off(0)];
        let line = bed.line().mouth(from.other()).expect("a line");
        Recording { crossover, lan, serial, plugs, line }
    }

    /// Says all of it again, once. Cables that are out take nothing.
    pub fn replay(&self) {
        let [crossover, lan] = &self.plugs;
        for frame in &self.crossover {
            let _ = crossover.send(frame);
        }
        for frame in &self.lan {
            let _ = lan.send(frame);
        }
        for frame in &self.serial {
            (&self.line).write_all(frame).expect("a line");
        }
    }
}
