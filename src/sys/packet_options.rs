//! What reaches an AF_PACKET socket, and from where: kernel filters, multicast memberships, the
//! interface's own address (packet(7), and Linux's Documentation/networking/filter.rst).

use std::io;
use std::os::fd::AsRawFd;

use super::packet::PacketSocket;

/// asm-generic/socket.h; `libc` has it for Android only.
const SO_BINDTOIFINDEX: i32 = 62;

/// Lets only what `program`, a classic BPF program, accepts through to a socket. What was queued before
/// stays.
///
/// # Errors
/// As setsockopt(2): EINVAL for a program that the kernel refuses.
pub fn attach_filter(socket: &impl AsRawFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(io::Error::other)?;
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
}

/// Makes the interface accept frames to this multicast MAC for as long as the socket is open. Waits for the
/// kernel's rtnl lock; so does to close the socket.
///
/// # Errors
/// As setsockopt(2).
pub fn join_multicast(socket: &PacketSocket, mac: [u8; 6]) -> io::Result<()> {
    let [a, b, c, d, e, f] = mac;
    let membership = libc::packet_mreq {
        mr_ifindex: i32::try_from(socket.interface_index()).map_err(io::Error::other)?,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: 6,
        mr_address: [a, b, c, d, e, f, 0, 0],
    };
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

/// Ties a socket to one interface, whatever it is called: what SO_BINDTODEVICE does by a name of at most 15
/// characters. That there is such an interface is not looked at.
///
/// # Errors
/// As setsockopt(2).
pub fn bind_to_interface(socket: &impl AsRawFd, index: u32) -> io::Result<()> {
    let index = i32::try_from(index).map_err(io::Error::other)?;
    set(socket, libc::SOL_SOCKET, SO_BINDTOIFINDEX, &index)
}

/// The Ethernet address of the socket's interface; `None` when it is no Ethernet interface.
///
/// # Errors
/// As getsockname(2).
pub fn ethernet_address(socket: &PacketSocket) -> io::Result<Option<[u8; 6]>> {
    // SAFETY: all-zero is a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: address and length are live and the address's true size is given.
    let result = unsafe {
        libc::getsockname(
            socket.as_raw_fd(),
            (&raw mut address).cast::<libc::sockaddr>(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let ethernet = address.sll_hatype == libc::ARPHRD_ETHER && address.sll_halen == 6;
    Ok(address.sll_addr.first_chunk().copied().filter(|_| ethernet))
}

fn set<T>(socket: &impl AsRawFd, level: i32, option: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is live for the call and its own size is given. The kernel only reads it; the
    // program that a `sock_fprog` points to is borrowed by the caller for the call, with its length.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
