//! What watching files needs beyond `nix`: file handles, the id of a file system, and how much waits in
//! a queue of events.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Longest handle, in bytes: MAX_HANDLE_SZ of `linux/exportfs.h`.
const HANDLE_BYTES_MAX: usize = 128;

/// What names an inode on its file system for as long as it lives, whatever its path
/// (open_by_handle_at(2)).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FileHandle {
    kind: i32,
    bytes: Box<[u8]>,
}

/// `struct file_handle` with room for the longest one.
#[repr(C)]
struct RawHandle {
    bytes: libc::c_uint,
    kind: libc::c_int,
    handle: [u8; HANDLE_BYTES_MAX],
}

impl FileHandle {
    /// The handle of that type and content; `None` if it is longer than any.
    pub fn new(kind: i32, bytes: &[u8]) -> Option<FileHandle> {
        (bytes.len() <= HANDLE_BYTES_MAX).then(|| FileHandle { kind, bytes: bytes.into() })
    }

    /// Opens the inode, as a path only (`O_PATH`). `mount` is any descriptor on its mount, not itself
    /// opened with `O_PATH`.
    ///
    /// # Errors
    /// ESTALE: the inode is gone. EPERM: CAP_DAC_READ_SEARCH is missing. EINVAL: no handle of this file
    /// system.
    pub fn open(&self, mount: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let mut raw = RawHandle {
            bytes: self.bytes.len() as libc::c_uint,
            kind: self.kind,
            handle: [0; HANDLE_BYTES_MAX],
        };
        for (to, from) in raw.handle.iter_mut().zip(self.bytes.iter()) {
            *to = *from;
        }
        let flags = libc::O_PATH | libc::O_CLOEXEC;
        // SAFETY: the pointer is to a live `struct file_handle` (same layout, with its bytes behind it);
        // the kernel reads it and keeps nothing of it.
        let fd = unsafe {
            libc::open_by_handle_at(
                mount.as_raw_fd(),
                (&raw mut raw).cast::<libc::file_handle>(),
                flags,
            )
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

/// The id of the file system that a descriptor is on (`f_fsid`), in the bytes in which events carry it.
///
/// # Errors
/// As fstatfs(2).
pub fn file_system_id(fd: BorrowedFd<'_>) -> io::Result<[u8; 8]> {
    let mut status = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the pointer is to memory of the size of a `struct statfs`.
    if unsafe { libc::fstatfs(fd.as_raw_fd(), status.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all bits were zero, which is a `struct statfs`, and the kernel has filled it.
    let id = unsafe { status.assume_init() }.f_fsid;
    // SAFETY: `fsid_t` is two ints without padding: eight bytes, every value of which is valid.
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, [u8; 8]>(id) })
}

nix::ioctl_read_bad!(
    /// What waits to be read.
    fionread,
    libc::FIONREAD,
    libc::c_int
);

/// What waits in a queue of events, by FIONREAD. inotify(7): the bytes. fanotify: 24 bytes for each
/// event, whatever its length (`fanotify_ioctl` in `fs/notify/fanotify/fanotify_user.c`).
///
/// # Errors
/// As ioctl(2).
pub fn waiting_bytes(fd: BorrowedFd<'_>) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: FIONREAD writes one int, to a live one.
    unsafe { fionread(fd.as_raw_fd(), &raw mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}
