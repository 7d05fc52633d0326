//! What the kernel says about changed names. Events are hints: each means "look at this name again" and
//! nothing more, so it does no harm if one is told twice, late, or for a name that is gone.
//!
//! `fanotify` has one mark for a whole file system; `inotify` needs a watch for each directory and is
//! used where the other is refused (a btrfs subvolume, an overlay, a container).
//!
//! What neither tells, and a walk must find:
//! - stores through a shared mapping: only the unmapping is told;
//! - the other names of a file with several: an event names the one that was used;
//! - what a file system that is mounted below a root does, and changes made on a network file system's
//!   other clients.

mod fanotify;
mod inotify;

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use self::fanotify::Fanotify;
use self::inotify::Inotify;
use super::entry::{Key, TreeId};

/// Why trees cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// A directory cannot be opened or watched.
    #[error("{}: {source}", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The system's limit of watches for directories is reached.
    #[error(
        "the kernel's limit of watched directories was reached after {watched}: raise it, e.g. with \
         `sysctl fs.inotify.max_user_watches=1048576`, and keep it in /etc/sysctl.d"
    )]
    TooManyDirectories {
        /// How many were watched by then.
        watched: usize,
    },
    /// The system's limit of users of inotify is reached.
    #[error(
        "the kernel's limit of inotify instances is reached: raise it, e.g. with \
         `sysctl fs.inotify.max_user_instances=1024`, and keep it in /etc/sysctl.d"
    )]
    TooManyInstances,
    /// The kernel refused something else.
    #[error("{what}: {source}")]
    Kernel {
        /// What was asked of it.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl WatchError {
    fn kernel(what: &'static str) -> impl Fn(Errno) -> WatchError {
        move |errno| WatchError::Kernel { what, source: errno.into() }
    }
}

/// What changed since the last time. Each list of one reading is sorted, without doubles.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Names that came, went, or have another content.
    pub names: Vec<Key>,
    /// Directories that only look different: a name came to them or went, or their attributes were set.
    /// None of them is among the names.
    pub directories: Vec<Key>,
    /// Directories to walk, none below another: they were moved in, or went away, or were filled before
    /// they were watched. One that went may be gone with all that was below, or another may be there by
    /// now: nothing else tells what of the first is missing in the second.
    pub subtrees: Vec<Key>,
    /// Something changed that cannot be named, or too much: walk all trees.
    pub lost: bool,
}

impl Drained {
    /// What changed after that, too; beyond `max` names all trees are to be walked.
    pub fn extend(&mut self, more: Drained, max: usize) {
        self.lost |= more.lost;
        self.names.extend(more.names);
        self.directories.extend(more.directories);
        self.subtrees.extend(more.subtrees);
        if self.names.len() + self.directories.len() + self.subtrees.len() > max {
            *self = Drained { lost: true, ..Drained::default() };
        }
    }
}

/// [`Drained`] in the making: at most `max` keys.
#[derive(Debug)]
struct Hints {
    names: BTreeSet<Key>,
    directories: BTreeSet<Key>,
    subtrees: BTreeSet<Key>,
    lost: bool,
    max: usize,
}

impl Hints {
    fn new(max: usize) -> Hints {
        let (names, directories, subtrees) = Default::default();
        Hints { names, directories, subtrees, lost: false, max }
    }

    fn name(&mut self, key: Key) {
        self.directories.remove(&key);
        self.put(key, |hints| &mut hints.names);
    }

    fn directory(&mut self, key: Key) {
        if !self.names.contains(&key) {
            self.put(key, |hints| &mut hints.directories);
        }
    }

    fn subtree(&mut self, key: Key) {
        self.put(key, |hints| &mut hints.subtrees);
    }

    fn put(&mut self, key: Key, which: fn(&mut Hints) -> &mut BTreeSet<Key>) {
        let has_room = self.names.len() + self.directories.len() + self.subtrees.len() < self.max;
        if has_room {
            which(self).insert(key);
        } else if !which(self).contains(&key) {
            self.lost = true;
        }
    }
}

#[derive(Debug)]
enum Source {
    Fanotify(Fanotify),
    Inotify(Inotify),
}

/// A watch over trees. It belongs to the root directories that it was made with, wherever they are moved,
/// and keeps their file systems from being unmounted: a watch would end with them, and in silence.
#[derive(Debug)]
pub struct Watch {
    source: Source,
}

impl Watch {
    /// Watches these trees. What changed before is not told: walk after this, not before.
    ///
    /// # Errors
    /// A root is not there, a limit is reached, the kernel refuses.
    pub fn new(trees: &[(TreeId, PathBuf)]) -> Result<Watch, WatchError> {
        match Fanotify::new(trees)? {
            Some(fanotify) => Ok(Watch { source: Source::Fanotify(fanotify) }),
            None => Watch::by_directory(trees),
        }
    }

    fn by_directory(trees: &[(TreeId, PathBuf)]) -> Result<Watch, WatchError> {
        Ok(Watch { source: Source::Inotify(Inotify::new(trees)?) })
    }

    /// What this process itself changes from now on is not told, where the kernel says who did it; it is by
    /// fanotify, and not by inotify.
    pub fn ignore_own(&mut self) {
        match &mut self.source {
            Source::Fanotify(fanotify) => fanotify.ignore_own(),
            Source::Inotify(_) => {}
        }
    }

    /// Which of the kernel's ways is used, for `status`: `fanotify` or `inotify`.
    pub fn kind(&self) -> &'static str {
        match &self.source {
            Source::Fanotify(_) => "fanotify",
            Source::Inotify(_) => "inotify",
        }
    }

    /// Whether what one drain tells was done before what a later one tells first, and both names of a rename
    /// are told by the same one: what was done first can be looked at first.
    pub fn keeps_order(&self) -> bool {
        match &self.source {
            Source::Fanotify(fanotify) => fanotify.tells_renames(),
            Source::Inotify(_) => false,
        }
    }

    /// Takes everything that the kernel had to tell when this was called: every call that changed a tree
    /// and returned before is in it. What comes meanwhile may be in it or in the next. Never waits. Of more
    /// than `max` keys the rest is `lost`.
    ///
    /// # Errors
    /// The kernel refuses, or a directory cannot be watched: what was read is lost, and so is what follows
    /// if it fails again. Make a new watch, and walk.
    pub fn drain(&mut self, max: usize) -> Result<Drained, WatchError> {
        let mut hints = Hints::new(max);
        match &mut self.source {
            Source::Fanotify(fanotify) => fanotify.drain(&mut hints)?,
            Source::Inotify(inotify) => inotify.drain(&mut hints)?,
        }
        let subtrees = hints.subtrees.iter().filter(|key| !has_ancestor_in(&hints.subtrees, key));
        Ok(Drained {
            subtrees: subtrees.cloned().collect(),
            directories: hints.directories.into_iter().collect(),
            names: hints.names.into_iter().collect(),
            lost: hints.lost,
        })
    }

    /// Waits until there is something to drain, and says whether there is. It may be about names outside
    /// the trees: then there is nothing in it.
    ///
    /// # Errors
    /// As poll(2).
    pub fn wait(&self, timeout: Duration) -> Result<bool, WatchError> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(errno) => Err(WatchError::kernel("poll")(errno)),
        }
    }
}

impl AsFd for Watch {
    /// Readable when there is something to drain.
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.source {
            Source::Fanotify(fanotify) => fanotify.as_fd(),
            Source::Inotify(inotify) => inotify.as_fd(),
        }
    }
}

/// Opens a root; the descriptor keeps its file system mounted.
fn open_root(path: &Path) -> Result<File, WatchError> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(path)
        .map_err(|source| WatchError::Path { path: path.to_owned(), source })
}

/// Whether a directory above this one is in the set.
fn has_ancestor_in(set: &BTreeSet<Key>, key: &Key) -> bool {
    let mut above = key.path.parent();
    while let Some(path) = above {
        above = path.parent();
        if set.contains(&Key { tree: key.tree, path }) {
            return true;
        }
    }
    false
}

/// The `N` bytes at `at`, if they are there.
fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// A name with its ending zeros cut off.
fn up_to_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
