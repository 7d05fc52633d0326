//! The kernel's rtnl lock, held for as long as one likes: what a driver does that is slow at being configured. Only for
//! tests. Everybody on the machine waits for it meanwhile.
//!
//! An ethtool ioctl writes its answer to the caller's memory under that lock; here a part of this memory is missing, and
//! comes when it is asked for (userfaultfd(2), `dev_ethtool` in net/ethtool/ioctl.c).

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// linux/userfaultfd.h
const UFFD_API: u64 = 0xAA;
const REGISTER_MODE_MISSING: u64 = 1;
nix::ioctl_readwrite!(
    /// UFFDIO_API: version, features, ioctls.
    uffdio_api,
    0xAA,
    0x3F,
    [u64; 3]
);
nix::ioctl_readwrite!(
    /// UFFDIO_REGISTER: start, length, mode, ioctls.
    uffdio_register,
    0xAA,
    0x00,
    [u64; 4]
);
nix::ioctl_readwrite!(
    /// UFFDIO_ZEROPAGE: start, length, mode, bytes done.
    uffdio_zeropage,
    0xAA,
    0x04,
    [u64; 4]
);

/// linux/ethtool.h, linux/sockios.h
const ETHTOOL_GLINK: u32 = 0x0000_000a;
nix::ioctl_readwrite_bad!(
    /// SIOCETHTOOL.
    siocethtool,
    0x8946,
    libc::ifreq
);

const PAGE_BYTES: usize = 4096;
/// The lock is free again a moment after somebody else had it.
const TAKEN_WITHIN_MS: u16 = 20_000;

/// The lock, until it is dropped. A process that touches all of its memory meanwhile (`realtime::set_up`) waits, too.
#[derive(Debug)]
pub struct HeldRtnl {
    faults: OwnedFd,
    /// Address of two pages, the second of which is missing.
    pages: usize,
    asker: Option<JoinHandle<()>>,
}

impl HeldRtnl {
    /// Takes the lock. Needs root.
    ///
    /// # Errors
    /// The kernel has no userfaultfd, or ethtool asks in another way than known here.
    pub fn take() -> io::Result<HeldRtnl> {
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: userfaultfd(2) takes no pointers.
        let raw = unsafe { libc::syscall(libc::SYS_userfaultfd, flags) };
        let raw = i32::try_from(raw).ok().filter(|raw| *raw >= 0);
        let raw = raw.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: `raw` is a descriptor that was just opened and that nobody else owns.
        let faults = unsafe { OwnedFd::from_raw_fd(raw) };
        let length = NonZeroUsize::new(2 * PAGE_BYTES).ok_or(io::ErrorKind::InvalidInput)?;
        let (access, private) =
            (ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_PRIVATE);
        // SAFETY: a new mapping, at an address of the kernel's choice, touches no memory of others.
        let pages = unsafe { mmap_anonymous(None, length, access, private) }?.as_ptr() as usize;
        let mut held = HeldRtnl { faults, pages, asker: None };
        held.make_missing()?;
        // The question is the last of the first page, its answer behind it.
        let question = pages + PAGE_BYTES - size_of::<u32>();
        // SAFETY: four bytes within the first page, which is ours and aligned.
        unsafe { (question as *mut u32).write(ETHTOOL_GLINK) };
        held.asker = Some(std::thread::spawn(move || ask(question)));
        let mut fds = [PollFd::new(held.faults.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(TAKEN_WITHIN_MS))? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(held),
        }
    }

    fn make_missing(&self) -> io::Result<()> {
        let missing = (self.pages + PAGE_BYTES) as u64;
        let fd = self.faults.as_raw_fd();
        // SAFETY: each ioctl reads and writes one structure of that size; the page is ours alone, and nobody has
        // touched it.
        unsafe {
            uffdio_api(fd, &mut [UFFD_API, 0, 0])?;
            uffdio_register(fd, &mut [missing, PAGE_BYTES as u64, REGISTER_MODE_MISSING, 0])?;
        }
        Ok(())
    }
}

/// Waits, under the lock, until its answer has a place.
fn ask(question: usize) {
    let flags = SockFlag::SOCK_CLOEXEC;
    let Ok(socket) = socket(AddressFamily::Inet, SockType::Datagram, flags, None) else { return };
    // SAFETY: all-zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_data = question as *mut libc::c_char;
    // SAFETY: the request is live, and points to eight bytes that stay mapped until this thread has ended.
    let _ = unsafe { siocethtool(socket.as_raw_fd(), &raw mut request) };
}

impl Drop for HeldRtnl {
    fn drop(&mut self) {
        let missing = (self.pages + PAGE_BYTES) as u64;
        // SAFETY: as above. If it fails nobody waits there.
        let _ = unsafe {
            uffdio_zeropage(self.faults.as_raw_fd(), &mut [missing, PAGE_BYTES as u64, 0, 0])
        };
        if let Some(asker) = self.asker.take() {
            let _ = asker.join();
        }
        if let Some(pages) = NonNull::new(self.pages as *mut libc::c_void) {
            // SAFETY: made above, with this length; the thread that knew it has ended.
            let _ = unsafe { munmap(pages, 2 * PAGE_BYTES) };
        }
    }
}
