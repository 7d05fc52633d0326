//! Watching by one watch for each directory (inotify(7)).

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags as Flags, InitFlags, Inotify as Queue, WatchDescriptor};

use super::{Hints, WatchError, bytes_at, up_to_zero};
use crate::limits;
use crate::mirror::entry::{Key, RelPath, TreeId};
use crate::sys::notify;

/// Length of `struct inotify_event` without its name.
const EVENT_BYTES: usize = 16;

/// Events that change the directory too.
const CAME_OR_WENT: Flags =
    Flags::IN_CREATE.union(Flags::IN_DELETE).union(Flags::IN_MOVED_FROM).union(Flags::IN_MOVED_TO);
/// What a watch is for.
const EVENTS: Flags = Flags::IN_MODIFY
    .union(Flags::IN_CLOSE_WRITE)
    .union(Flags::IN_ATTRIB)
    .union(CAME_OR_WENT)
    .union(Flags::IN_ONLYDIR)
    .union(Flags::IN_DONT_FOLLOW);

/// The watches, by what the kernel calls them and by what we do.
#[derive(Debug)]
pub(super) struct Inotify {
    queue: Queue,
    roots: Vec<Root>,
    keys: HashMap<i32, (WatchDescriptor, Key)>,
    watches: BTreeMap<Key, WatchDescriptor>,
    buffer: Vec<u8>,
}

/// A tree's root.
#[derive(Debug)]
struct Root {
    tree: TreeId,
    /// As it was configured, for errors.
    path: PathBuf,
    directory: File,
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
struct Event<'b> {
    watch: i32,
    mask: Flags,
    /// Empty: the directory itself.
    name: &'b [u8],
}

impl Inotify {
    /// Watches every directory of these trees.
    pub(super) fn new(trees: &[(TreeId, PathBuf)]) -> Result<Inotify, WatchError> {
        let queue = match Queue::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC) {
            Err(Errno::EMFILE) => Err(WatchError::TooManyInstances),
            other => other.map_err(WatchError::kernel("inotify_init")),
        }?;
        let mut roots = Vec::with_capacity(trees.len());
        for (tree, path) in trees {
            let directory = super::open_root(path)?;
            roots.push(Root { tree: *tree, path: path.clone(), directory });
        }
        let mut inotify = Inotify {
            queue,
            roots,
            keys: HashMap::new(),
            watches: BTreeMap::new(),
            buffer: vec![0; limits::WATCH_BUFFER_BYTES],
        };
        inotify.cover_roots()?;
        Ok(inotify)
    }

    /// Reads the events that are in the queue now, and no more than a buffer of those that come
    /// meanwhile.
    pub(super) fn drain(&mut self, hints: &mut Hints) -> Result<(), WatchError> {
        let mut left = notify::waiting_bytes(self.queue.as_fd())
            .map_err(|source| WatchError::Kernel { what: "FIONREAD", source })?;
        for root in &self.roots {
            // Deleted: our own descriptor keeps the kernel from telling.
            hints.lost |= !root.directory.metadata().is_ok_and(|root| root.nlink() > 0);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = loop {
            if left == 0 {
                break Ok(());
            }
            match nix::unistd::read(self.queue.as_fd(), &mut buffer) {
                Ok(bytes) => {
                    left = left.saturating_sub(bytes);
                    let read = buffer.get(..bytes).unwrap_or_default();
                    if let Err(error) = self.hint_all(read, hints) {
                        break Err(error);
                    }
                }
                Err(Errno::EAGAIN) => break Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => break Err(WatchError::kernel("read of inotify")(errno)),
            }
        };
        self.buffer = buffer;
        read
    }

    fn hint_all(&mut self, mut bytes: &[u8], hints: &mut Hints) -> Result<(), WatchError> {
        while !bytes.is_empty() {
            let Some((event, rest)) = split(bytes) else {
                hints.lost = true;
                return Ok(());
            };
            self.hint(&event, hints)?;
            bytes = rest;
        }
        Ok(())
    }

    fn hint(&mut self, event: &Event<'_>, hints: &mut Hints) -> Result<(), WatchError> {
        if event.mask.contains(Flags::IN_Q_OVERFLOW) {
            hints.lost = true;
            // Directories that came meanwhile are not watched.
            return self.cover_roots();
        }
        let Some((watch, directory)) = self.keys.get(&event.watch).cloned() else { return Ok(()) };
        if event.mask.contains(Flags::IN_IGNORED) {
            self.forget(watch, &directory);
            return Ok(());
        }
        let path = if event.name.is_empty() {
            Ok(directory.path.clone())
        } else {
            directory.path.join(event.name)
        };
        // Too long for a name of ours: the walk tells of it.
        let Ok(path) = path else { return Ok(()) };
        let key = Key { tree: directory.tree, path };
        if event.mask.contains(Flags::IN_ISDIR) {
            if event.mask.contains(Flags::IN_MOVED_FROM) {
                self.forget_within(&key);
            }
            if event.mask.intersects(Flags::IN_CREATE | Flags::IN_MOVED_TO) {
                self.cover(key.clone())?;
            }
            if event.mask.intersects(CAME_OR_WENT) {
                hints.subtree(key.clone());
            }
        }
        if event.mask.intersects(CAME_OR_WENT) {
            hints.directory(directory);
        }
        hints.name(key);
        Ok(())
    }

    fn cover_roots(&mut self) -> Result<(), WatchError> {
        let roots: Vec<TreeId> = self.roots.iter().map(|root| root.tree).collect();
        for tree in roots {
            self.cover(Key { tree, path: RelPath::root() })?;
        }
        Ok(())
    }

    /// Watches a directory and all below it. Each is read after it is watched: what comes later than the
    /// reading is told by an event. One that is gone by now is told by its parent's.
    fn cover(&mut self, key: Key) -> Result<(), WatchError> {
        let mut ahead = vec![key];
        while let Some(key) = ahead.pop() {
            let Some(root) = self.roots.iter().find(|root| root.tree == key.tree) else { continue };
            let below = OsStr::from_bytes(key.path.as_bytes());
            // By the open root: wherever it is moved.
            let path = PathBuf::from(format!("/proc/self/fd/{}/.", root.directory.as_raw_fd()));
            let path = path.join(below);
            let shown = root.path.join(below);
            match self.queue.add_watch(&path, EVENTS) {
                Ok(watch) => self.remember(watch, key.clone()),
                Err(Errno::ENOSPC) => {
                    return Err(WatchError::TooManyDirectories { watched: self.keys.len() });
                }
                Err(errno) if is_gone(&errno.into()) => continue,
                Err(errno) => return Err(WatchError::Path { path: shown, source: errno.into() }),
            }
            match directories_in(&path) {
                Ok(names) => ahead.extend(names.iter().filter_map(|name| {
                    // Too long for a name of ours: the walk tells of it.
                    Some(Key { tree: key.tree, path: key.path.join(name).ok()? })
                })),
                Err(source) if is_gone(&source) => {}
                Err(source) => return Err(WatchError::Path { path: shown, source }),
            }
        }
        Ok(())
    }

    /// The kernel gives a directory that was moved its old watch again: what is still to come about its
    /// old place must not end it.
    fn remember(&mut self, watch: WatchDescriptor, key: Key) {
        if let Some((_, old)) = self.keys.insert(watch.as_raw(), (watch, key.clone()))
            && old != key
        {
            self.forget_path(watch, &old);
        }
        self.watches.insert(key, watch);
    }

    fn forget(&mut self, watch: WatchDescriptor, key: &Key) {
        self.keys.remove(&watch.as_raw());
        self.forget_path(watch, key);
    }

    fn forget_path(&mut self, watch: WatchDescriptor, key: &Key) {
        if self.watches.get(key) == Some(&watch) {
            self.watches.remove(key);
        }
    }

    /// Ends the watches of a directory that was moved away, and of all below it.
    fn forget_within(&mut self, directory: &Key) {
        let from = (Bound::Included(directory.clone()), Bound::Unbounded);
        // In the order of keys, names such as `a-b` lie between `a` and `a/b`.
        let within: Vec<Key> = self
            .watches
            .range(from)
            .map(|(key, _)| key)
            .take_while(|key| {
                key.tree == directory.tree
                    && key.path.as_bytes().starts_with(directory.path.as_bytes())
            })
            .filter(|key| key.path.is_within(&directory.path))
            .cloned()
            .collect();
        for key in within {
            if let Some(watch) = self.watches.remove(&key) {
                self.keys.remove(&watch.as_raw());
                // It may have ended by itself: the directory was deleted.
                let _ = self.queue.rm_watch(watch);
            }
        }
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// Names of the directories in a directory.
fn directories_in(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for name in std::fs::read_dir(path)? {
        let name = name?;
        match name.file_type() {
            Ok(kind) if kind.is_dir() => names.push(name.file_name().into_vec()),
            Ok(_) => {}
            Err(source) if is_gone(&source) => {}
            Err(source) => return Err(source),
        }
    }
    Ok(names)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP))
}

/// `struct inotify_event` with its name, and what follows it.
fn split(bytes: &[u8]) -> Option<(Event<'_>, &[u8])> {
    let watch = i32::from_ne_bytes(bytes_at(bytes, 0)?);
    let mask = Flags::from_bits_retain(u32::from_ne_bytes(bytes_at(bytes, 4)?));
    let length = u32::from_ne_bytes(bytes_at(bytes, 12)?) as usize;
    let (name, rest) = bytes.get(EVENT_BYTES..)?.split_at_checked(length)?;
    Some((Event { watch, mask, name: up_to_zero(name) }, rest))
}
