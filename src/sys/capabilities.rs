//! What a process may do beyond its user's rights (capabilities(7)).

use std::io;

/// Bits of the kernel's capabilities that the heart keeps.
const KEPT: [u32; 5] = [
    // UDP 694 is opened again when the LAN interface is another one.
    10, // CAP_NET_BIND_SERVICE
    // Addresses and links.
    12, // CAP_NET_ADMIN
    // Heartbeats on the crossover, ARP and neighbour discovery.
    13, // CAP_NET_RAW
    // Memory that is mapped later is locked, too.
    14, // CAP_IPC_LOCK
    // The netlink thread's real-time priority.
    23, // CAP_SYS_NICE
];

#[repr(C)]
struct Header {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Sets {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// _LINUX_CAPABILITY_VERSION_3: two sets of 32 bits.
const VERSION: u32 = 0x2008_0522;

/// Gives up, in the calling thread and those that it starts, every privilege that the heart does not
/// need, for good. A serial device is opened again by its owner's or group's rights.
///
/// # Errors
/// The kernel refused; then everything is as it was.
pub fn keep_few() -> io::Result<()> {
    // It executes nothing; should it ever be made to, it gains nothing by it.
    nix::sys::prctl::set_no_new_privs()?;
    let header = Header { version: VERSION, pid: 0 };
    let mut sets = [Sets::default(); 2];
    // SAFETY: capget(2) with this version reads the header and writes two sets; both are alive.
    let got = unsafe { libc::syscall(libc::SYS_capget, &raw const header, sets.as_mut_ptr()) };
    if got < 0 {
        return Err(io::Error::last_os_error());
    }
    let kept = KEPT.iter().fold(0u32, |all, bit| all | 1 << bit);
    let [low, _] = sets;
    let permitted = low.permitted & kept;
    // All of them are among the first 32.
    let sets = [Sets { effective: permitted, permitted, inheritable: 0 }, Sets::default()];
    // SAFETY: capset(2) with this version reads the header and two sets; both are alive.
    let set = unsafe { libc::syscall(libc::SYS_capset, &raw const header, sets.as_ptr()) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
