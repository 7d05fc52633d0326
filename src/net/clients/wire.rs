//! The worker's own socket on the crossover: raw Ethernet frames of an EtherType of their own, so that
//! neither the heart's socket nor a firewall has anything to do with them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};

use super::Refusal;
use crate::limits::{SHARE_BYTES_MAX, SHARE_ETHERTYPE, SHARE_RECEIVE_BYTES};
use crate::sys::packet::PacketSocket;
use crate::sys::packet_options::ethernet_address;

/// Destination, source, EtherType.
const HEADER_BYTES: usize = 14;
const BROADCAST: [u8; 6] = [0xff; 6];

/// An open socket on the crossover.
pub struct Wire {
    socket: PacketSocket,
    header: [u8; HEADER_BYTES],
    /// One byte longer than any frame of ours, to notice those that are too long.
    buffer: Vec<u8>,
}

impl Wire {
    /// Opens it on `interface`. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// No such interface, no Ethernet, or not permitted.
    pub fn open(interface: &str) -> io::Result<Wire> {
        let index = crate::net::interface_index(interface)?;
        let socket = PacketSocket::open(index, SHARE_ETHERTYPE)?;
        let mac = ethernet_address(&socket)?
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the interface has no MAC"))?;
        // A smaller buffer loses long lists only while this process is busy.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &SHARE_RECEIVE_BYTES);
        let mut header = [0; HEADER_BYTES];
        let fields = BROADCAST.into_iter().chain(mac).chain(SHARE_ETHERTYPE.to_be_bytes());
        for (place, byte) in header.iter_mut().zip(fields) {
            *place = byte;
        }
        Ok(Wire { socket, header, buffer: vec![0; HEADER_BYTES + SHARE_BYTES_MAX + 1] })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// `WouldBlock` when the interface's queue is full, ENETDOWN when it is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(&[&self.header, frame].concat())
    }

    /// The next frame that is there; `None`: none now.
    ///
    /// # Errors
    /// ENETDOWN once when the interface went down; ENXIO when it is gone.
    pub fn receive(&mut self) -> io::Result<Option<Result<&[u8], Refusal>>> {
        let Some(length) = self.socket.receive(&mut self.buffer)? else { return Ok(None) };
        Ok(Some(match self.buffer.get(HEADER_BYTES..length) {
            Some(frame) => Ok(frame),
            None if length < HEADER_BYTES => Err(Refusal::Truncated),
            None => Err(Refusal::Oversized),
        }))
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
