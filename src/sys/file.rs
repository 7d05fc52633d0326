//! Files by handle: what stat(2) shows of them with the mount that they are on, the path of a handle,
//! and write-back.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;

/// Bits of `stx_attributes`, of linux/stat.h.
const STATX_ATTR_IMMUTABLE: u64 = 0x10;
const STATX_ATTR_APPEND: u64 = 0x20;

/// What statx(2) shows of a file. Times are seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Kind and permission bits, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Inode number.
    pub ino: u64,
    /// Names of the inode.
    pub nlink: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last modification.
    pub mtime: (i64, u32),
    /// Last change of anything.
    pub ctime: (i64, u32),
    /// Device number; a btrfs subvolume has one of its own.
    pub device: u64,
    /// Number of the mount that it was reached by; 0 on kernels before 5.8.
    pub mount: u64,
    /// Blocks that it takes, of 512 bytes each.
    pub blocks: u64,
    /// Nothing of it may be changed (chattr(1) `+i`), as far as the file system says so.
    pub immutable: bool,
    /// It may only grow (chattr(1) `+a`), as far as the file system says so.
    pub append_only: bool,
}

impl Stat {
    /// The kind alone: `S_IFREG` and its like.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
}

/// What is at `name` in the directory `directory`; a symlink is not followed, an automount not
/// triggered.
///
/// # Errors
/// As statx(2).
pub fn stat_at(directory: impl AsFd, name: &CStr) -> io::Result<Stat> {
    statx(&directory, name, 0)
}

/// What is behind a handle, also one opened with `O_PATH`.
///
/// # Errors
/// As statx(2).
pub fn stat(handle: impl AsFd) -> io::Result<Stat> {
    statx(&handle, c"", libc::AT_EMPTY_PATH)
}

fn statx(directory: &impl AsFd, name: &CStr, flags: libc::c_int) -> io::Result<Stat> {
    // SAFETY: all-zero is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    // SAFETY: the name ends with a NUL, `found` is a live statx, and the descriptor is borrowed.
    let result = unsafe {
        libc::statx(
            directory.as_fd().as_raw_fd(),
            name.as_ptr(),
            flags | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT,
            libc::STATX_BASIC_STATS | libc::STATX_MNT_ID,
            &raw mut found,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Stat {
        mode: u32::from(found.stx_mode),
        uid: found.stx_uid,
        gid: found.stx_gid,
        ino: found.stx_ino,
        nlink: u64::from(found.stx_nlink),
        size: found.stx_size,
        mtime: (found.stx_mtime.tv_sec, found.stx_mtime.tv_nsec),
        ctime: (found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec),
        device: u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor),
        mount: found.stx_mnt_id,
        blocks: found.stx_blocks,
        immutable: found.stx_attributes & STATX_ATTR_IMMUTABLE != 0,
        append_only: found.stx_attributes & STATX_ATTR_APPEND != 0,
    })
}

/// A path that leads to exactly the file behind this handle, whatever its names are (proc_pid_fd(5)):
/// for calls that refuse `O_PATH` handles. Valid while the handle is open.
pub fn path_of(handle: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd()))
}

/// Writes a file's dirty pages back and waits for it (sync_file_range(2)). This makes nothing durable:
/// neither the metadata nor the disk's own cache is written.
///
/// # Errors
/// As sync_file_range(2): EIO, ENOSPC.
pub fn write_back(file: &File) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: plain numbers; 0, 0 is the whole file.
    if unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// For tests: nobody else can open this file for now.
#[cfg(test)]
pub fn lease(file: &File) {
    use std::os::fd::AsRawFd;
    /// F_SETSIG of fcntl(2), which libc does not know.
    const F_SETSIG: libc::c_int = 10;
    // Whoever tries makes the kernel send a signal: one that is ignored.
    for (what, value) in [(F_SETSIG, libc::SIGCHLD), (libc::F_SETLEASE, libc::F_WRLCK)] {
        // SAFETY: plain numbers, and a descriptor that is open.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), what, value) };
        assert_eq!(done, 0, "{}", io::Error::last_os_error());
    }
}

/// For tests: stores into the first byte of a file of a page or more, through one shared mapping.
#[cfg(test)]
pub fn mapped_store(file: &File) -> impl Fn(u8) + use<> {
    let map = memmap2::MmapOptions::new().len(4096).map_raw(file).expect("a mapping");
    // SAFETY: the first byte of a live, writable mapping of a file that no test shortens.
    move |byte| unsafe { map.as_mut_ptr().write_volatile(byte) }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    /// A store through a mapping into a page that is dirty does not move the times; after write-back
    /// one does. The temporary directory must not be on tmpfs.
    #[test]
    fn after_write_back_a_mapped_store_shows() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(4096).unwrap();
        let store = mapped_store(&file);
        store(1);
        let dirty = stat(&file).unwrap();
        // Several times, because the clock that stamps files may tick slowly. The kernel's own
        // write-back comes later than this deadline.
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut byte = 2;
        while stat(&file).unwrap().mtime == dirty.mtime {
            assert!(Instant::now() < deadline, "the store did not show");
            write_back(&file).unwrap();
            store(byte);
            byte = byte.wrapping_add(1);
        }
    }

    #[test]
    fn a_handle_is_reached_by_its_path() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(7).unwrap();
        let again = std::fs::metadata(path_of(&file)).unwrap();
        assert_eq!(again.len(), 7);
        assert_eq!(stat(&file).unwrap().size, 7);
    }
}
