//! The crossover path: raw Ethernet frames, so that it needs no addresses and no firewall rule stops it.
//!
//! Broadcast, because every NIC passes it up without being asked to; there is nobody else on the cable.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::buffer::FrameBuffer;
use super::message::{DropReason, Path};
use super::will::{Farewell, link_destination};
use crate::limits::{BEAT_BYTES_MAX, CROSSOVER_ETHERTYPE};
use crate::sys::packet::PacketSocket;
use crate::sys::packet_options::ethernet_address;

/// Destination, source, EtherType.
const HEADER_BYTES: usize = 14;
const BROADCAST: [u8; 6] = [0xff; 6];

/// An open crossover path.
pub(super) struct Crossover {
    socket: PacketSocket,
    header: [u8; HEADER_BYTES],
    /// One byte longer than any frame of ours, to notice those that are too long.
    buffer: [u8; HEADER_BYTES + BEAT_BYTES_MAX + 1],
}

impl Crossover {
    /// Opens the path on the interface of that index. Needs CAP_NET_RAW.
    pub(super) fn open(interface_index: u32) -> io::Result<Crossover> {
        let socket = PacketSocket::open(interface_index, CROSSOVER_ETHERTYPE)?;
        // Not by getifaddrs(3), which waits for the kernel's rtnl lock.
        let mac = ethernet_address(&socket)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the interface has no MAC"))?;
        let mut header = [0; HEADER_BYTES];
        let fields = BROADCAST.into_iter().chain(mac).chain(CROSSOVER_ETHERTYPE.to_be_bytes());
        for (place, byte) in header.iter_mut().zip(fields) {
            *place = byte;
        }
        Ok(Crossover { socket, header, buffer: [0; _] })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// The frame with its header, and where it goes, for somebody else to send.
    pub(super) fn will(&self, frame: &FrameBuffer) -> Farewell {
        Farewell {
            path: Path::Crossover,
            to: link_destination(self.socket.interface_index(), CROSSOVER_ETHERTYPE),
            frame: [&self.header, frame.as_slice()].concat(),
        }
    }

    /// Sends one frame.
    pub(super) fn send(&self, frame: &FrameBuffer) -> io::Result<()> {
        let mut bytes = [0; HEADER_BYTES + BEAT_BYTES_MAX];
        let length = HEADER_BYTES + frame.as_slice().len();
        for (place, byte) in bytes.iter_mut().zip(self.header.iter().chain(frame.as_slice())) {
            *place = *byte;
        }
        self.socket.send(bytes.get(..length).unwrap_or_default())
    }

    /// The next frame that is there; `None`: none now.
    pub(super) fn receive(&mut self) -> io::Result<Option<Result<&[u8], DropReason>>> {
        let Some(length) = self.socket.receive(&mut self.buffer)? else { return Ok(None) };
        Ok(Some(match self.buffer.get(HEADER_BYTES..length) {
            Some(frame) => Ok(frame),
            None if length < HEADER_BYTES => Err(DropReason::Truncated),
            None => Err(DropReason::Oversized),
        }))
    }
}
