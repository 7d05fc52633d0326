//! A tree's root, held by a handle, and what is below it. Every path is resolved by the kernel below
//! that handle (openat2(2)): no symlink is followed, no mount is crossed, nothing outside is reached,
//! whatever others rename meanwhile.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::statfs::{
    BTRFS_SUPER_MAGIC, EXT4_SUPER_MAGIC, FsType, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC,
    XFS_SUPER_MAGIC, fstatfs,
};
use nix::sys::statvfs::fstatvfs;
use serde::{Deserialize, Serialize};

use super::entry::RelPath;
use super::progress;
use crate::sys::file::{self, Stat};
use crate::sys::uuid;

/// Why a root or something below it could not be had. Each names the whole path.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The root is not there.
    #[error(
        "{0} is missing: mount its file system or restore it; until then nothing of it is mirrored"
    )]
    Missing(String),
    /// The root is something else.
    #[error("{0} is not a directory, as the root of a mirrored tree must be")]
    NotADirectory(String),
    /// There is no such name now, or what should be a directory above it is none (any more).
    #[error("{0} is not there")]
    Gone(String),
    /// It is a mount point or a subvolume, or below one.
    #[error(
        "{0} is on another file system than the root of its tree: mirror it as a tree of its own, or exclude it"
    )]
    Elsewhere(String),
    /// A regular file was asked for.
    #[error("{0} is not a regular file")]
    NotAFile(String),
    /// The root itself is no name in the tree.
    #[error("{0} is the root of a mirrored tree, which is never replaced or removed")]
    IsRoot(String),
    /// The system refused.
    #[error("{place}: {source}")]
    Io {
        /// The whole path.
        place: String,
        /// Why.
        source: io::Error,
    },
}

/// Which directory a root is: kept in the state directory and compared before and after each pass, so
/// that an unmounted or exchanged root is not taken for an empty tree.
///
/// The inode number stays as long as the directory exists. The file system's number is made of its UUID,
/// on btrfs of that and the subvolume: it survives reboots and other device numbers. On tmpfs it is new
/// with each mount, as is all that was in it. Where there is no UUID (FAT) it is the device number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RootId {
    /// The file system.
    pub fsid: u64,
    /// Inode number.
    pub ino: u64,
}

/// A root's handle. It keeps the file system from being unmounted: hold it no longer than a pass.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    path: PathBuf,
    stat: Stat,
    fsid: u64,
    /// As clusterd knew it before it asked for the UUID: `f_fsid` of statfs(2).
    fsid_before: u64,
    layered: bool,
}

impl Root {
    /// Opens the directory at `path`, which is resolved as usual.
    ///
    /// # Errors
    /// `Missing`, `NotADirectory` or `Io`.
    pub fn open(path: &Path) -> Result<Root, TreeError> {
        progress::at(path);
        let place = || path.display().to_string();
        let failed = |source: io::Error| match Errno::from_raw(source.raw_os_error().unwrap_or(0)) {
            Errno::ENOENT => TreeError::Missing(place()),
            Errno::ENOTDIR => TreeError::NotADirectory(place()),
            _ => TreeError::Io { place: place(), source },
        };
        let flags = libc::O_PATH | libc::O_DIRECTORY;
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(path);
        let fd = OwnedFd::from(directory.map_err(failed)?);
        let stat = file::stat(&fd).map_err(failed)?;
        let kind = fstatfs(&fd).map_err(|errno| failed(errno.into()))?.filesystem_type();
        // statvfs(3) has the number of statfs(2) without hiding it.
        let fsid_before = fstatvfs(&fd).map_err(|errno| failed(errno.into()))?.filesystem_id();
        let fsid = match uuid_of(&fd, kind).map_err(failed)? {
            Some(uuid) => folded(uuid),
            None => fsid_before,
        };
        let layered = kind == OVERLAYFS_SUPER_MAGIC;
        Ok(Root { fd, path: path.into(), stat, fsid, fsid_before, layered })
    }

    /// Its identity as clusterd made it before it asked for the UUID: a root that was stored in that way is
    /// known by it once more.
    pub fn identity_before(&self) -> RootId {
        RootId { fsid: self.fsid_before, ino: self.stat.ino }
    }

    /// Which directory it is.
    pub fn identity(&self) -> RootId {
        RootId { fsid: self.fsid, ino: self.stat.ino }
    }

    /// Whether a file system is mounted on it: there is no room beside it on that file system.
    ///
    /// # Errors
    /// `Io`.
    pub fn is_mount_point(&self) -> Result<bool, TreeError> {
        let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC);
        match openat2(&self.fd, "..", how.resolve(ResolveFlag::RESOLVE_NO_XDEV)) {
            Ok(_) => Ok(false),
            Err(Errno::EXDEV) => Ok(true),
            Err(errno) => Err(self.io_error(&RelPath::root(), errno.into())),
        }
    }

    /// The whole path, for people.
    pub fn place(&self, path: &RelPath) -> String {
        match path.is_root() {
            true => self.path.display().to_string(),
            false => format!("{}/{path}", self.path.display()),
        }
    }

    /// The directory that `path` is in, as an `O_PATH` handle for calls such as renameat(2), and its
    /// name there.
    ///
    /// # Errors
    /// `IsRoot`, `Gone`, `Elsewhere` or `Io`.
    pub fn open_parent<'a>(&self, path: &'a RelPath) -> Result<(OwnedFd, &'a [u8]), TreeError> {
        let Some(parent) = path.parent() else {
            return Err(TreeError::IsRoot(self.place(path)));
        };
        let (fd, _) = self.find(&parent, OFlag::O_DIRECTORY)?;
        Ok((fd, path.name()))
    }

    /// A handle on whatever is there, also on a symlink itself: `O_PATH`, nothing is opened.
    ///
    /// # Errors
    /// `Gone`, `Elsewhere` or `Io`.
    pub fn open_any(&self, path: &RelPath) -> Result<OwnedFd, TreeError> {
        Ok(self.find(path, OFlag::empty())?.0)
    }

    /// Opens a regular file for reading, without touching its access time where that is permitted.
    ///
    /// # Errors
    /// `NotAFile`, `Gone`, `Elsewhere` or `Io`; EWOULDBLOCK if someone holds a lease on it, such as
    /// Samba: ask again later.
    pub fn open_file(&self, path: &RelPath) -> Result<File, TreeError> {
        // Looked at before it is opened: opening a device or a FIFO can have effects.
        let (fd, stat) = self.find(path, OFlag::empty())?;
        if stat.kind() != libc::S_IFREG {
            return Err(TreeError::NotAFile(self.place(path)));
        }
        reopen(&fd, libc::O_NONBLOCK).map_err(|source| self.io_error(path, source))
    }

    /// Opens a regular file, to be written to.
    ///
    /// # Errors
    /// As [`Root::open_file`].
    pub(super) fn open_to_write(&self, path: &RelPath) -> Result<File, TreeError> {
        let (fd, stat) = self.find(path, OFlag::empty())?;
        if stat.kind() != libc::S_IFREG {
            return Err(TreeError::NotAFile(self.place(path)));
        }
        let opened = OpenOptions::new().read(true).write(true).open(file::path_of(&fd));
        opened.map_err(|source| self.io_error(path, source))
    }

    /// Opens a directory, to read the names in it.
    ///
    /// # Errors
    /// `Gone` also if it is something else now; `Elsewhere` or `Io`.
    pub fn open_dir(&self, path: &RelPath) -> Result<File, TreeError> {
        // To open a directory has no effects, so it need not be looked at first.
        let opened = match self.open_at(path, OFlag::O_DIRECTORY | OFlag::O_NOATIME) {
            Err(Errno::EPERM) => self.open_at(path, OFlag::O_DIRECTORY),
            opened => opened,
        };
        let fd = opened.map_err(|errno| self.not_opened(path, errno))?;
        self.stat_of(&fd, path)?;
        Ok(fd.into())
    }

    /// An `O_PATH` handle, and what is behind it.
    pub(super) fn find(&self, path: &RelPath, also: OFlag) -> Result<(OwnedFd, Stat), TreeError> {
        let opened = self.open_at(path, OFlag::O_PATH | also);
        let fd = opened.map_err(|errno| self.not_opened(path, errno))?;
        let stat = self.stat_of(&fd, path)?;
        Ok((fd, stat))
    }

    fn open_at(&self, path: &RelPath, flags: OFlag) -> Result<OwnedFd, Errno> {
        self.is_asked();
        open_beneath(&self.fd, if path.is_root() { b"." } else { path.as_bytes() }, flags)
    }

    fn not_opened(&self, path: &RelPath, errno: Errno) -> TreeError {
        match errno {
            // ELOOP: a symlink where a directory should be.
            Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => TreeError::Gone(self.place(path)),
            Errno::EXDEV => TreeError::Elsewhere(self.place(path)),
            _ => self.io_error(path, errno.into()),
        }
    }

    fn stat_of(&self, fd: &OwnedFd, path: &RelPath) -> Result<Stat, TreeError> {
        let stat = file::stat(fd).map_err(|source| self.io_error(path, source))?;
        match self.is_foreign(&stat) {
            true => Err(TreeError::Elsewhere(self.place(path))),
            false => Ok(stat),
        }
    }

    /// Its file system is asked for something now: whoever looks sees for how long.
    pub(super) fn is_asked(&self) {
        progress::at(&self.path);
    }

    /// Whether this is on another mount or in another subvolume. Files of an overlay may have the
    /// device number of a layer, its directories have the overlay's.
    pub(super) fn is_foreign(&self, stat: &Stat) -> bool {
        let counts = !self.layered || stat.kind() == libc::S_IFDIR;
        stat.mount != self.stat.mount || (counts && stat.device != self.stat.device)
    }

    pub(super) fn io_error(&self, path: &RelPath, source: io::Error) -> TreeError {
        TreeError::Io { place: self.place(path), source }
    }
}

/// An `O_PATH` handle on the path `path` below `directory`, without following any symlink or crossing a
/// mount.
pub(super) fn open_below(directory: impl AsFd, path: &[u8], also: OFlag) -> Result<OwnedFd, Errno> {
    open_beneath(directory, path, OFlag::O_PATH | also)
}

fn open_beneath(directory: impl AsFd, path: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(directory, path, how)
}

/// The UUID of the file system, where statfs(2) does not tell it already.
fn uuid_of(root: &OwnedFd, kind: FsType) -> io::Result<Option<[u8; 16]>> {
    if [EXT4_SUPER_MAGIC, BTRFS_SUPER_MAGIC, TMPFS_MAGIC].contains(&kind) {
        return Ok(None);
    }
    let directory = reopen(root, libc::O_DIRECTORY)?;
    let found = match kind {
        XFS_SUPER_MAGIC => uuid::xfs_uuid(&directory),
        _ => uuid::uuid(&directory),
    };
    // Without one there is nothing better than what statfs(2) tells.
    Ok(found.ok())
}

/// As ext4 makes its `f_fsid` (ext4_statfs() in fs/ext4/super.c).
fn folded(uuid: [u8; 16]) -> u64 {
    let number = u128::from_le_bytes(uuid);
    (number as u64) ^ ((number >> 64) as u64)
}

/// Opens what is behind an `O_PATH` handle for reading. Without leave to keep the access time
/// (`O_NOATIME` is for the owner and CAP_FOWNER) it moves as for any reader.
fn reopen(handle: &OwnedFd, flags: libc::c_int) -> io::Result<File> {
    let open = |flags| {
        let path = file::path_of(handle);
        OpenOptions::new().read(true).custom_flags(flags).open(path)
    };
    match open(flags | libc::O_NOATIME) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => open(flags),
        opened => opened,
    }
}

#[cfg(test)]
mod tests;
