//! AF_PACKET sockets: whole Ethernet frames of one EtherType on one interface (packet(7)); and sending to
//! a destination that is only bytes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A non-blocking raw socket bound to one interface and one EtherType.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    interface_index: u32,
}

impl PacketSocket {
    /// Opens a socket for frames of `ethertype` on the interface of that index; 0: for none, it only sends. Needs
    /// CAP_NET_RAW. Waits for nothing; to close it waits for the kernel's RCU, some ten milliseconds (`packet_release`
    /// in net/packet/af_packet.c).
    ///
    /// # Errors
    /// The interface does not exist (ENODEV), or the capability is missing.
    pub fn open(interface_index: u32, ethertype: u16) -> io::Result<PacketSocket> {
        let protocol = ethertype.to_be();
        // SAFETY: socket(2) takes no pointers; protocol 0 receives nothing until bind says what.
        let raw = unsafe {
            libc::socket(
                libc::AF_PACKET,
                libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC,
                0,
            )
        };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` is a descriptor that was just opened and that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        let index = i32::try_from(interface_index).map_err(io::Error::other)?;
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol,
            sll_ifindex: index,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: `address` is a live sockaddr_ll and the length given is its own size.
        let bound = unsafe {
            libc::bind(
                fd.as_raw_fd(),
                (&raw const address).cast::<libc::sockaddr>(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(PacketSocket { fd, interface_index })
    }

    /// Index of the interface that it is bound to.
    pub fn interface_index(&self) -> u32 {
        self.interface_index
    }

    /// Sends one whole Ethernet frame, header included.
    ///
    /// # Errors
    /// As send(2); `WouldBlock` when the interface's queue is full, ENETDOWN when it is down.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        nix::sys::socket::send(self.fd.as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty())?;
        Ok(())
    }

    /// Receives one frame; `None` when there is none now. The number is the frame's real length: one
    /// longer than the buffer was cut to it. Frames that this host sent itself are skipped.
    ///
    /// # Errors
    /// As recvfrom(2), for example ENETDOWN when the interface goes down.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            // SAFETY: all-zero is a valid sockaddr_ll.
            let mut from: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            let mut from_length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
            // SAFETY: buffer and address are live and their true sizes are given.
            let length = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    libc::MSG_TRUNC,
                    (&raw mut from).cast::<libc::sockaddr>(),
                    &raw mut from_length,
                )
            };
            if length < 0 {
                let error = io::Error::last_os_error();
                return match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(None),
                    io::ErrorKind::Interrupted => continue,
                    _ => Err(error),
                };
            }
            if from.sll_pkttype == libc::PACKET_OUTGOING {
                continue;
            }
            return Ok(usize::try_from(length).ok());
        }
    }
}

/// Sends `frame` to `destination`, a socket address of any family as bytes.
///
/// # Errors
/// As sendto(2).
pub fn send_to(socket: BorrowedFd<'_>, frame: &[u8], destination: &[u8]) -> io::Result<()> {
    let length = libc::socklen_t::try_from(destination.len()).map_err(io::Error::other)?;
    // SAFETY: both slices are live and their own lengths are given. The kernel copies the address byte by
    // byte, whatever its alignment, and refuses one that is too short for its family.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            frame.as_ptr().cast(),
            frame.len(),
            libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            destination.as_ptr().cast::<libc::sockaddr>(),
            length,
        )
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

impl AsRawFd for PacketSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
