//! What a name is, but for a file's content: kind, owner, mode, times, extended attributes. A look reads
//! them, [`set`] makes them so.
//!
//! Which attributes travel: `user.*`, `trusted.*`, the POSIX ACLs (`system.posix_acl_access`,
//! `system.posix_acl_default`) and file capabilities (`security.capability`). Others belong to the
//! host or its file system and are neither sent nor removed: labels and signatures of security modules
//! (`security.selinux`, `security.SMACK64`, `security.ima`, `security.evm`), NFSv4 ACLs, `btrfs.*`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{FchmodatFlags, Mode, UtimensatFlags, fchmodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Gid, Uid, fchownat};

use super::entry::{Entry, Kind, RelPath, Seen, Stamp};
use super::tree::{Root, TreeError, open_below};
use crate::limits;
use crate::sys::file::{self, Stat};
use crate::sys::xattr;

const NS_PER_S: u32 = 1_000_000_000;

/// The sort of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sort {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// What is not mirrored yet, in a word: `fifo`, `socket`, `character device`, `block device`.
    Other(&'static str),
}

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A directory.
    Dir,
    /// A regular file.
    File,
    /// A symbolic link, with its target.
    Symlink(Vec<u8>),
    /// What is not mirrored yet, in a word, as in [`Sort::Other`].
    Other(&'static str),
}

/// A name as it is now, but for the content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it is.
    pub what: What,
    /// The low 12 bits of the mode; 0 for a symlink.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What tells whether it must be looked at again. Taken first: what changed during the look shows
    /// another one afterwards, if `settled`.
    pub seen: Seen,
    /// Whether every later change will show another `seen`. If not, the file changed within the last
    /// tick of the file system's clock, and may change again within it unseen: keep `None` for
    /// `Stored.seen`, so that it is looked at again.
    pub settled: bool,
    /// Extended attributes that travel, sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Look {
    /// Whether all but content and kind is this entry's, as far as the file system can hold it.
    pub fn has_metadata_of(&self, entry: &Entry) -> bool {
        (self.mode, self.uid, self.gid) == (entry.mode, entry.uid, entry.gid)
            && is_held_time(self.seen.mtime, entry.mtime)
            && self.xattrs == entry.xattrs
    }
}

/// Whether a file system may show `meant` as `here`: it may hold whole seconds only, and of a time that is
/// before or after all it can hold it shows the first or the last one.
fn is_held_time(here: Stamp, meant: Stamp) -> bool {
    let is_same = here.s == meant.s && (here.ns == meant.ns || here.ns == 0);
    let is_first = limits::FILE_TIMES_FIRST.contains(&here.s) && meant.s < here.s;
    let is_last = limits::FILE_TIMES_LAST.contains(&here.s) && meant.s > here.s;
    is_same || (here.ns == 0 && (is_first || is_last))
}

/// Looks at a name. `None`: it is not there, or a directory above it is none.
///
/// # Errors
/// `TreeError::Elsewhere` or `Io`.
pub fn look(root: &Root, path: &RelPath) -> Result<Option<Look>, TreeError> {
    let failed = |source| root.io_error(path, source);
    // Before the look: what changes between the two counts as not settled.
    let now = clock_gettime(ClockId::CLOCK_REALTIME).map_err(|errno| failed(errno.into()))?;
    let (handle, stat) = match root.find(path, OFlag::empty()) {
        Err(TreeError::Gone(_)) => return Ok(None),
        found => found?,
    };
    look_of(handle, &stat, now.into()).map(Some).map_err(failed)
}

/// The same for the path `path` below the directory `directory`, which is of no tree.
///
/// # Errors
/// As openat2(2), statx(2) and those of the attributes.
pub fn look_at(directory: impl AsFd, path: &[u8]) -> io::Result<Option<Look>> {
    let now = clock_gettime(ClockId::CLOCK_REALTIME)?;
    let handle = match open_below(directory, path, OFlag::empty()) {
        Ok(handle) => handle,
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let stat = file::stat(&handle)?;
    look_of(handle, &stat, now.into()).map(Some)
}

fn look_of(handle: OwnedFd, stat: &Stat, now: Duration) -> io::Result<Look> {
    let seen = seen(stat);
    let settled = is_settled(&seen, now);
    let what = match sort(stat) {
        Sort::Dir => What::Dir,
        Sort::File => What::File,
        Sort::Other(word) => What::Other(word),
        Sort::Symlink => What::Symlink(readlinkat(&handle, c"")?.into_vec()),
    };
    let xattrs = match what {
        What::Dir | What::File | What::Symlink(_) => xattrs(&handle)?,
        What::Other(_) => Vec::new(),
    };
    let mode = if matches!(what, What::Symlink(_)) { 0 } else { low_bits(stat) };
    Ok(Look { what, mode, uid: stat.uid, gid: stat.gid, seen, settled, xattrs })
}

/// A cheap look, to compare with what was seen before. `None` as for [`look`].
///
/// # Errors
/// `TreeError::Elsewhere` or `Io`.
pub fn quick(root: &Root, path: &RelPath) -> Result<Option<(Seen, Sort)>, TreeError> {
    match root.find(path, OFlag::empty()) {
        Ok((_, stat)) => Ok(Some((seen(&stat), sort(&stat)))),
        Err(TreeError::Gone(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The same for the name `name` in the directory `directory`, which is in use: what is mounted there is
/// looked at, and refused by whoever renames it.
///
/// # Errors
/// As statx(2).
pub fn quick_at(directory: impl AsFd, name: &[u8]) -> io::Result<Option<(Seen, Sort)>> {
    let name = CString::new(name)?;
    match file::stat_at(directory, &name) {
        Ok(stat) => Ok(Some((seen(&stat), sort(&stat)))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Why metadata could not be set. Its `source` tells a full disk from a refusal.
#[derive(Debug, thiserror::Error)]
#[error("{what} could not be set: {source}{}", remedy(.source))]
pub struct SetError {
    /// Owner, mode, times, or the name of an attribute.
    pub what: String,
    /// Why.
    pub source: io::Error,
}

/// Makes owner, mode, extended attributes and modification time of the file behind this handle those of
/// `entry`; the handle may be opened with `O_PATH` (`Root::open_any`), also on a symlink. The access
/// time stays. An owner that is already right is not set: chown(2) would take setuid bits and
/// capabilities away for a moment.
///
/// File systems cut times to what they can hold without saying so (ext4 with 128-byte inodes: whole
/// seconds, until 2038): a look afterwards shows it.
///
/// # Errors
/// Which part could not be set, and why. Parts before it are set.
pub fn set(handle: impl AsFd, entry: &Entry) -> Result<(), SetError> {
    let handle = handle.as_fd();
    let failed = |what: &str| {
        let what = what.to_owned();
        move |source: io::Error| SetError { what, source }
    };
    let now = file::stat(handle).map_err(failed("the owner"))?;
    let is_symlink = matches!(entry.kind, Kind::Symlink { .. });
    let owner_differs = (now.uid, now.gid) != (entry.uid, entry.gid);
    if owner_differs {
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        fchownat(handle, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)
            .map_err(|errno| failed("the owner")(errno.into()))?;
    }
    let path = file::path_of(handle);
    // After the owner: chown(2) takes setuid and setgid away.
    if !is_symlink && (owner_differs || low_bits(&now) != entry.mode) {
        let mode = Mode::from_bits_truncate(entry.mode.into());
        fchmodat(handle, &path, mode, FchmodatFlags::FollowSymlink)
            .map_err(|errno| failed("the mode")(errno.into()))?;
    }
    set_xattrs(handle, &entry.xattrs)?;
    // Last, because some file systems count an attribute as a modification. What a peer sent could also
    // be one of the two special values of utimensat(2).
    if entry.mtime.ns >= NS_PER_S {
        return Err(failed("the time")(io::ErrorKind::InvalidInput.into()));
    }
    let mtime = TimeSpec::new(entry.mtime.s, entry.mtime.ns.into());
    utimensat(handle, &path, &TimeSpec::UTIME_OMIT, &mtime, UtimensatFlags::FollowSymlink)
        .map_err(|errno| failed("the time")(errno.into()))?;
    Ok(())
}

/// As [`set`], for the name `name` in the directory `directory`; a symlink is not followed.
///
/// # Errors
/// As [`set`], or the name is not there.
pub fn set_at(directory: impl AsFd, name: &[u8], entry: &Entry) -> Result<(), SetError> {
    let handle = open_below(directory, name, OFlag::empty())
        .map_err(|errno| SetError { what: "the owner".to_owned(), source: errno.into() })?;
    set(handle, entry)
}

/// What is compared of a file that is open.
///
/// # Errors
/// As statx(2).
pub fn seen_of(handle: impl AsFd) -> io::Result<Seen> {
    Ok(seen(&file::stat(handle)?))
}

pub(super) fn seen(stat: &Stat) -> Seen {
    let stamp = |(s, ns)| Stamp { s, ns };
    Seen {
        ino: stat.ino,
        nlink: stat.nlink,
        size: stat.size,
        mtime: stamp(stat.mtime),
        ctime: stamp(stat.ctime),
    }
}

pub(super) fn sort(stat: &Stat) -> Sort {
    match stat.kind() {
        libc::S_IFDIR => Sort::Dir,
        libc::S_IFREG => Sort::File,
        libc::S_IFLNK => Sort::Symlink,
        libc::S_IFIFO => Sort::Other("fifo"),
        libc::S_IFSOCK => Sort::Other("socket"),
        libc::S_IFCHR => Sort::Other("character device"),
        libc::S_IFBLK => Sort::Other("block device"),
        _ => Sort::Other("unknown kind"),
    }
}

fn low_bits(stat: &Stat) -> u16 {
    (stat.mode & 0o7777) as u16
}

/// Whether the time of the last change lies so far before `now`, since 1970, that every change after
/// `now` gets another one.
pub fn is_settled(seen: &Seen, now: Duration) -> bool {
    let Stamp { s, ns } = seen.ctime;
    let final_after = match ns {
        0 => limits::CTIME_COARSE_FINAL_AFTER,
        _ => limits::CTIME_FINAL_AFTER,
    };
    // Before 1970 a clock was wrong: long ago.
    let changed = Duration::new(u64::try_from(s).unwrap_or(0), ns);
    now.checked_sub(changed).is_some_and(|age| age >= final_after)
}

fn travels(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || name.starts_with(b"trusted.")
        || [
            b"system.posix_acl_access".as_slice(),
            b"system.posix_acl_default",
            b"security.capability",
        ]
        .contains(&name)
}

fn names(handle: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = xattr::list(handle)?;
    names.retain(|name| travels(name.to_bytes()));
    names.sort_unstable();
    Ok(names)
}

fn xattrs(handle: impl AsFd) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let handle = handle.as_fd();
    let mut found = Vec::new();
    let mut bytes = 0;
    for name in names(handle)? {
        // Removed meanwhile: it changed, and is looked at again.
        let Some(value) = xattr::get(handle, &name)? else { continue };
        bytes += name.count_bytes() + value.len();
        if bytes > limits::XATTRS_BYTES_MAX {
            return Err(io::Error::other("its extended attributes are too long to be mirrored"));
        }
        found.push((name.into_bytes(), value));
    }
    Ok(found)
}

/// Removes what is not `wanted`, adds or replaces what differs.
fn set_xattrs(handle: impl AsFd, wanted: &[(Vec<u8>, Vec<u8>)]) -> Result<(), SetError> {
    let handle = handle.as_fd();
    let failed = |name: &[u8]| {
        let what = format!("the attribute {}", name.escape_ascii());
        move |source: io::Error| SetError { what, source }
    };
    for name in names(handle).map_err(failed(b"list"))? {
        if !wanted.iter().any(|(wanted, _)| wanted == name.to_bytes()) {
            xattr::remove(handle, &name).map_err(failed(name.to_bytes()))?;
        }
    }
    for (name, value) in wanted {
        let failed = || failed(name);
        let c_name = CString::new(name.as_slice()).map_err(|error| failed()(error.into()))?;
        if !travels(name) {
            return Err(failed()(io::Error::other("it is not one that is mirrored")));
        }
        if xattr::get(handle, &c_name).map_err(failed())?.as_ref() != Some(value) {
            xattr::set(handle, &c_name, value).map_err(failed())?;
        }
    }
    Ok(())
}

fn remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EOPNOTSUPP) => {
            "; the file system here cannot hold it: use the same kind, with the same mount options, on both nodes"
        }
        Some(libc::EPERM) => "; is it immutable? See lsattr(1)",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
