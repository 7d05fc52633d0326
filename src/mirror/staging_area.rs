//! The place beside a mirrored root: what is taken in, and what was found in the way, lies here until
//! it is moved. Never below the root; always on its file system, so that one rename moves a file.
//!
//! ```text
//! /srv/www                        the root
//! /srv/.clusterd-<16 hex>/        its area: 0700, ours
//!     incoming/<series>/          staged files of the one series that is being taken in
//!     conflicts/<id>/             see `conflict`
//! ```
//! The directory above the root may belong to somebody else, who could put another area there: it is
//! opened without following links, must be ours, and everything in it is reached from its handle.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, renameat2};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::entry::RelPath;
use super::index::IndexError;
use super::proto::Trouble;
use super::tree::TreeError;

/// The directory of what came before its series.
pub(super) const AHEAD: &str = "ahead";

/// Why there is no area.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The root has no outside on its own file system.
    #[error(
        "{0} is a mount point or a subvolume of its own: there is no place beside it on its file \
         system; mirror a directory below it"
    )]
    MountPoint(PathBuf),
    /// Somebody else made it.
    #[error(
        "{0} belongs to another user; remove it or move it away, and clusterd creates it again"
    )]
    NotOurs(PathBuf),
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: Errno,
    },
}

/// What failed in an area or a tree, as the owner is told. A full disk is a trouble of its own.
pub(super) fn failed(what: &dyn std::fmt::Display, doing: &str, error: Errno) -> Trouble {
    match error {
        Errno::ENOSPC | Errno::EDQUOT => {
            Trouble::NoRoom { needed: 1, reserve: 0, path: what.to_string() }
        }
        error => Trouble::Failed(format!("{what}: {doing}: {}", error.desc())),
    }
}

/// The error number of an error of the standard library.
pub(super) fn errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// What failed in a tree, as the owner is told.
pub(super) fn from_tree(error: TreeError) -> Trouble {
    match error {
        error @ (TreeError::Missing(_) | TreeError::NotADirectory(_)) => {
            Trouble::Root(error.to_string())
        }
        TreeError::Io { place, source } => failed(&place, "refused", errno(&source)),
        error @ (TreeError::Gone(_)
        | TreeError::Elsewhere(_)
        | TreeError::NotAFile(_)
        | TreeError::IsRoot(_)) => Trouble::Failed(error.to_string()),
    }
}

/// What failed in the index, as the owner is told.
pub(super) fn from_index(error: IndexError) -> Trouble {
    Trouble::Failed(error.to_string())
}

pub(super) const DIRECTORY: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The directory `name` in `parent`; a symbolic link is none.
pub(super) fn directory(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    openat(parent, name, DIRECTORY, Mode::empty())
}

/// The directory at `path` below `base`, without following a link or crossing a mount.
pub(super) fn directory_at(base: BorrowedFd<'_>, path: &RelPath) -> Result<OwnedFd, Errno> {
    let bytes = if path.is_root() { b"." } else { path.as_bytes() };
    let how = OpenHow::new().flags(DIRECTORY).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(base, bytes, how)
}

/// The same; made, mode 0700, if it is not there.
pub(super) fn made_directory(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(parent, name, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => directory(parent, name),
        Err(error) => Err(error),
    }
}

/// What the kernel says about a name in a directory, not following it; `None` if it is not there.
pub(super) fn stat_at(
    parent: BorrowedFd<'_>,
    name: &(impl nix::NixPath + ?Sized),
) -> Result<Option<FileStat>, Errno> {
    match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a directory.
pub(super) fn names(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut found = Vec::new();
    for entry in nix::dir::Dir::openat(directory, ".", DIRECTORY, Mode::empty())?.iter() {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            found.push(name);
        }
    }
    Ok(found)
}

/// The place beside one root.
#[derive(Debug)]
pub struct StagingArea {
    path: PathBuf,
    device: u64,
    name_bytes_max: usize,
    coarse_times: bool,
    incoming: OwnedFd,
    conflicts: OwnedFd,
}

impl StagingArea {
    /// Where the area of a tree is; `None` for a root that has nothing beside it: `/`.
    pub fn path_of(cluster: &str, group: &str, tree: &Path) -> Option<PathBuf> {
        let mut hasher = blake3::Hasher::new_derive_key("clusterd 2026 mirror area");
        for part in [cluster.as_bytes(), group.as_bytes(), tree.as_os_str().as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
        let digest = hasher.finalize().to_hex();
        Some(tree.parent()?.join(format!(".clusterd-{}", digest.get(..16)?)))
    }

    /// Opens the area of a tree, and makes what is missing of it.
    ///
    /// # Errors
    /// The root is a mount point, the area is somebody else's, or the system refused.
    pub fn open(cluster: &str, group: &str, tree: &Path) -> Result<StagingArea, StageError> {
        let path = StagingArea::path_of(cluster, group, tree)
            .ok_or_else(|| StageError::MountPoint(tree.to_owned()))?;
        StagingArea::make(&path, tree)
            .map_err(|source| StageError::Io { path: path.clone(), source })?
    }

    fn make(path: &Path, tree: &Path) -> Result<Result<StagingArea, StageError>, Errno> {
        let above = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().and_then(|name| name.to_str()).ok_or(Errno::EINVAL)?;
        let follow = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let above = nix::fcntl::open(above, follow, Mode::empty())?;
        let root = tree.file_name().ok_or(Errno::EINVAL)?;
        // No rename crosses a mount, though it be one of the same device.
        let beside = OpenHow::new().flags(follow).resolve(ResolveFlag::RESOLVE_NO_XDEV);
        match openat2(&above, root, beside) {
            Ok(root) if fstat(&above)?.st_dev == fstat(&root)?.st_dev => (),
            Ok(_) | Err(Errno::EXDEV) => {
                return Ok(Err(StageError::MountPoint(tree.to_owned())));
            }
            Err(error) => return Err(error),
        }
        let area = made_directory(above.as_fd(), name)?;
        let found = fstat(&area)?;
        if found.st_uid != nix::unistd::geteuid().as_raw() {
            return Ok(Err(StageError::NotOurs(path.to_owned())));
        }
        fchmod(&area, Mode::S_IRWXU)?;
        let incoming = made_directory(area.as_fd(), "incoming")?;
        let conflicts = made_directory(area.as_fd(), "conflicts")?;
        nix::unistd::fsync(&area)?;
        nix::unistd::fsync(&above)?;
        let longest = nix::sys::statvfs::fstatvfs(&incoming)?.name_max();
        let name_bytes_max = usize::try_from(longest).unwrap_or(usize::MAX);
        let (path, device) = (path.to_owned(), found.st_dev);
        let coarse_times = has_coarse_times(area.as_fd())?;
        Ok(Ok(StagingArea { path, device, name_bytes_max, coarse_times, incoming, conflicts }))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its file system holds times in whole seconds only: ext4 with inodes of 128 bytes.
    pub(super) fn has_coarse_times(&self) -> bool {
        self.coarse_times
    }

    /// Longest name on its file system, in bytes.
    pub(super) fn name_bytes_max(&self) -> usize {
        self.name_bytes_max
    }

    /// Number of the device of its file system.
    pub(super) fn device(&self) -> u64 {
        self.device
    }

    /// Where series are staged.
    pub(super) fn incoming(&self) -> BorrowedFd<'_> {
        self.incoming.as_fd()
    }

    /// The conflict store.
    pub(super) fn conflicts(&self) -> BorrowedFd<'_> {
        self.conflicts.as_fd()
    }

    /// Removes everything that was staged, but for [`AHEAD`]. What cannot be removed, such as an immutable file of a deleted
    /// directory, stays: that hurts nobody, and is tried again the next time. Returns what failed first.
    pub(super) fn clear(&self) -> Result<(), Errno> {
        let mut failed = Ok(());
        for series in names(self.incoming())?.iter().filter(|name| *name != AHEAD.as_bytes()) {
            failed = failed.and(remove_all(self.incoming(), series));
        }
        failed
    }
}

/// Whether a time of this directory loses what is below a second. Its time is nobody's.
fn has_coarse_times(area: BorrowedFd<'_>) -> Result<bool, Errno> {
    let odd = TimeSpec::new(1_000_000_000, 1_000_001);
    // Where it cannot be tried, such as on a disk that is read-only, nothing is told of it.
    if futimens(area, &TimeSpec::UTIME_OMIT, &odd).is_err() {
        return Ok(false);
    }
    Ok(fstat(area)?.st_mtime_nsec == 0)
}

/// Removes a name with everything below it, however deep that is and however long its paths: what is
/// below a directory is moved up beside it before it is removed. Interrupted, it can be done again.
///
/// # Errors
/// What could not be removed first; everything else is.
pub(super) fn remove_all(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let mut failed = Ok(());
    let mut left = vec![name.to_vec()];
    let mut moved = 0u64;
    while let Some(name) = left.pop() {
        let kind = match stat_at(parent, name.as_slice()) {
            Ok(Some(stat)) if is_directory(&stat) => UnlinkatFlags::RemoveDir,
            Ok(Some(_)) => UnlinkatFlags::NoRemoveDir,
            Ok(None) => continue,
            Err(error) => {
                failed = failed.and(Err(error));
                continue;
            }
        };
        match unlinkat(parent, name.as_slice(), kind) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => {
                match empty(parent, &name, &mut moved, &mut left) {
                    Ok(()) => {
                        let done = unlinkat(parent, name.as_slice(), UnlinkatFlags::RemoveDir);
                        failed = failed.and(done);
                    }
                    Err(error) => failed = failed.and(Err(error)),
                }
            }
            Err(error) => failed = failed.and(Err(error)),
        }
    }
    failed
}

/// Removes the files of the directory `name`, and moves its directories up into `parent`: they are added
/// to `left`.
fn empty(
    parent: BorrowedFd<'_>,
    name: &[u8],
    moved: &mut u64,
    left: &mut Vec<Vec<u8>>,
) -> Result<(), Errno> {
    let directory = openat(parent, name, DIRECTORY, Mode::empty())?;
    let mut failed = Ok(());
    for below in names(directory.as_fd())? {
        match unlinkat(&directory, below.as_slice(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => continue,
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(error) => {
                failed = failed.and(Err(error));
                continue;
            }
        }
        if unlinkat(&directory, below.as_slice(), UnlinkatFlags::RemoveDir).is_ok() {
            continue;
        }
        let up = loop {
            *moved += 1;
            let up = format!("left-{moved}").into_bytes();
            let free = RenameFlags::RENAME_NOREPLACE;
            match renameat2(&directory, below.as_slice(), parent, up.as_slice(), free) {
                Ok(()) => break Some(up),
                Err(Errno::EEXIST) => {}
                Err(error) => {
                    failed = failed.and(Err(error));
                    break None;
                }
            }
        };
        left.extend(up);
    }
    failed
}

/// Whether this is a directory.
pub(super) fn is_directory(stat: &FileStat) -> bool {
    stat.st_mode & libc::S_IFMT == libc::S_IFDIR
}
