//! Watching by one mark for a whole file system (fanotify(7)). An event names the directory by its file
//! handle; where that directory is now is asked of the kernel, and remembered.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use nix::errno::Errno;
use nix::sys::fanotify::{EventFFlags, Fanotify as Group, InitFlags, MarkFlags, MaskFlags};

use super::{Hints, WatchError, bytes_at, up_to_zero};
use crate::limits;
use crate::mirror::entry::{Key, RelPath, TreeId};
use crate::sys::notify::{self, FileHandle};

/// Length of `struct fanotify_event_metadata`.
const METADATA_BYTES: usize = 24;
/// Length of `struct fanotify_event_info_fid` with the head of its `struct file_handle`.
const FID_BYTES: usize = 20;

/// What an event must be about.
const EVENTS: MaskFlags = WRITTEN
    .union(MaskFlags::FAN_ATTRIB)
    .union(MaskFlags::FAN_CREATE)
    .union(MaskFlags::FAN_DELETE)
    .union(MaskFlags::FAN_ONDIR);
/// A rename by one event that has both names (Linux 5.17).
const RENAMED: MaskFlags = MaskFlags::FAN_RENAME;
/// A rename by two events, with something else between them perhaps.
const MOVED: MaskFlags = MaskFlags::FAN_MOVED_FROM.union(MaskFlags::FAN_MOVED_TO);
/// Events that change a file's content; FAN_MODIFY tells a write before the file is closed.
const WRITTEN: MaskFlags = MaskFlags::FAN_MODIFY.union(MaskFlags::FAN_CLOSE_WRITE);
/// Events that change the directory too.
const CAME_OR_WENT: MaskFlags =
    MaskFlags::FAN_CREATE.union(MaskFlags::FAN_DELETE).union(RENAMED).union(MOVED);

/// Events after which what is below a directory's name is not what it was. A new directory is not among
/// them: what is made in it is told.
const WENT_OR_MOVED: MaskFlags = CAME_OR_WENT.difference(MaskFlags::FAN_CREATE);

/// A tree's root.
#[derive(Debug)]
struct Root {
    tree: TreeId,
    /// The directory; also the mount by which handles are opened.
    directory: File,
    /// Its file system, as events name it.
    file_system: [u8; 8],
    /// Its path when the last drain began.
    path: Vec<u8>,
    /// Paths of directories of this file system, inside the tree or not.
    paths: HashMap<FileHandle, Vec<u8>>,
}

/// The mark, and what is needed to make names of its events.
#[derive(Debug)]
pub(super) struct Fanotify {
    group: Group,
    roots: Vec<Root>,
    buffer: Vec<u8>,
    /// Renames are told by one event.
    tells_renames: bool,
    /// Whose changes are not told.
    deaf_to: Option<i32>,
}

impl Fanotify {
    /// Watches these trees; `None` if that is refused here: not permitted, not on this file system, or
    /// the kernel is too old.
    pub(super) fn new(trees: &[(TreeId, PathBuf)]) -> Result<Option<Fanotify>, WatchError> {
        let Some(group) = init().or_else(refused("fanotify_init"))? else { return Ok(None) };
        let mut tells_renames = true;
        let mut roots = Vec::with_capacity(trees.len());
        for (tree, path) in trees {
            let at = |source| WatchError::Path { path: path.clone(), source };
            let directory = super::open_root(path)?;
            let file_system = notify::file_system_id(directory.as_fd()).map_err(at)?;
            let add = MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_FILESYSTEM;
            let mark = |renames: MaskFlags| {
                group.mark(add, EVENTS.union(renames), &directory, Some(Path::new(".")))
            };
            let marked = match mark(RENAMED) {
                Err(Errno::EINVAL) => {
                    tells_renames = false;
                    mark(MOVED)
                }
                marked => marked,
            };
            let marked = marked.map(Some).or_else(refused("fanotify_mark"))?;
            if marked.is_none() || !opens_handles(&directory) {
                return Ok(None);
            }
            let path = path_of(&directory).map_err(at)?;
            roots.push(Root { tree: *tree, directory, file_system, path, paths: HashMap::new() });
        }
        let buffer = vec![0; limits::WATCH_BUFFER_BYTES];
        Ok(Some(Fanotify { group, roots, buffer, tells_renames, deaf_to: None }))
    }

    /// Whether one event tells both names of a rename.
    pub(super) fn tells_renames(&self) -> bool {
        self.tells_renames
    }

    /// What this process does from now on is not told.
    pub(super) fn ignore_own(&mut self) {
        self.deaf_to = Some(nix::unistd::getpid().as_raw());
    }

    /// Reads the events that are in the queue now, and no more than a buffer of those that come
    /// meanwhile: whoever writes without end does not keep us here.
    pub(super) fn drain(&mut self, hints: &mut Hints) -> Result<(), WatchError> {
        let waiting = notify::waiting_bytes(self.group.as_fd())
            .map_err(|source| WatchError::Kernel { what: "FIONREAD", source })?;
        let mut left = waiting.div_ceil(METADATA_BYTES);
        self.find_roots(hints);
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = loop {
            if left == 0 {
                break Ok(());
            }
            match nix::unistd::read(&self.group, &mut buffer) {
                Ok(bytes) => {
                    for event in Events(buffer.get(..bytes).unwrap_or_default()) {
                        left = left.saturating_sub(1);
                        match event {
                            Some(event) => self.hint(&event, hints),
                            None => hints.lost = true,
                        }
                    }
                }
                Err(Errno::EAGAIN) => break Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => break Err(WatchError::kernel("read of fanotify")(errno)),
            }
        };
        self.buffer = buffer;
        // A root that moved meanwhile made paths above that seem to be outside.
        self.find_roots(hints);
        read
    }

    /// Asks where the roots are. If one moved, so did everything below it.
    fn find_roots(&mut self, hints: &mut Hints) {
        for root in &mut self.roots {
            match path_of(&root.directory) {
                Ok(path) if path == root.path => {}
                Ok(path) => {
                    root.path = path;
                    root.paths.clear();
                    hints.lost = true;
                }
                Err(_) => hints.lost = true,
            }
        }
    }

    fn hint(&mut self, event: &Event<'_>, hints: &mut Hints) {
        if event.mask.contains(MaskFlags::FAN_Q_OVERFLOW) {
            hints.lost = true;
            return;
        }
        let own = self.deaf_to == Some(event.process);
        if event.places.is_empty() {
            // A file without a known name: opened by its handle, as the kernel's NFS server does. (Of
            // attributes, only the number of names is mostly told so, at every unlinking.)
            hints.lost |= event.mask.intersects(WRITTEN) && !own;
        }
        let of_directory = event.mask.contains(MaskFlags::FAN_ONDIR);
        let is_of = |root: &Root, place: &Place<'_>| root.file_system == place.file_system;
        if of_directory && event.mask.intersects(RENAMED | MOVED) {
            let moved = self
                .roots
                .iter_mut()
                .filter(|root| event.places.iter().any(|place| is_of(root, place)));
            moved.for_each(|root| root.paths.clear());
        }
        if own {
            return;
        }
        let places = event.places.iter();
        let roots = &mut self.roots;
        places.for_each(|place| {
            let roots = roots.iter_mut().filter(|root| is_of(root, place));
            roots.for_each(|root| root.hint(event.mask, place, hints));
        });
    }
}

impl AsFd for Fanotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }
}

impl Root {
    /// Something happened at a place of this file system.
    fn hint(&mut self, mask: MaskFlags, place: &Place<'_>, hints: &mut Hints) {
        // Where all is to be walked anyway, nothing is worth a wait.
        let patience = if hints.lost { Duration::ZERO } else { limits::WATCH_NUMBER_REUSED };
        let directory = match self.find(&place.directory, patience) {
            Ok(path) => path,
            // It is gone, which was told where it was.
            Err(source) if source.raw_os_error() == Some(libc::ESTALE) => return,
            Err(_) => {
                hints.lost = true;
                return;
            }
        };
        let full = match place.name {
            b"." => directory.clone(),
            name if directory.as_slice() == b"/" => [b"/", name].concat(),
            name => [directory.as_slice(), b"/", name].concat(),
        };
        if mask.intersects(CAME_OR_WENT)
            && let Some(key) = self.key(&directory)
        {
            hints.directory(key);
        }
        let Some(key) = self.key(&full) else { return };
        let of_directory = mask.contains(MaskFlags::FAN_ONDIR);
        if of_directory && mask.intersects(WENT_OR_MOVED) {
            hints.subtree(key.clone());
        }
        if of_directory && !mask.intersects(CAME_OR_WENT) {
            hints.directory(key);
        } else {
            hints.name(key);
        }
    }

    /// Where a directory is now. One that was read before a rename is forgotten when the rename's own
    /// event comes; what an earlier event says of the old place is then covered by the new place's walk.
    fn find(&mut self, handle: &FileHandle, patience: Duration) -> io::Result<Vec<u8>> {
        if let Some(path) = self.paths.get(handle) {
            return Ok(path.clone());
        }
        let began = Instant::now();
        let directory = loop {
            match handle.open(self.directory.as_fd()) {
                // So says the kernel (`iget_locked` in `fs/inode.c`) while another file is being made with the
                // inode number of one that is gone; when it is made, the handle is stale.
                Err(source)
                    if source.raw_os_error() == Some(libc::ENOMEM)
                        && began.elapsed() < patience =>
                {
                    std::thread::yield_now();
                }
                opened => break opened?,
            }
        };
        let path = path_of(&directory)?;
        if self.paths.len() >= limits::WATCH_PATHS_MAX {
            self.paths.clear();
        }
        self.paths.insert(handle.clone(), path.clone());
        Ok(path)
    }

    /// The key of an absolute path; `None` if it is outside the tree.
    fn key(&self, full: &[u8]) -> Option<Key> {
        let rest = full.strip_prefix(self.path.as_slice())?;
        let below = match rest {
            [] => rest,
            [b'/', below @ ..] => below,
            _ if self.path.as_slice() == b"/" => rest,
            _ => return None,
        };
        Some(Key { tree: self.tree, path: RelPath::new(below).ok()? })
    }
}

/// Queue without limit: its memory is counted as ours, and a limit is reached by a tenth of a second's
/// writes. FAN_REPORT_DFID_NAME_TARGET (Linux 5.17) tells also of files without a known name.
fn init() -> Result<Option<Group>, Errno> {
    let flags = InitFlags::FAN_CLASS_NOTIF
        | InitFlags::FAN_CLOEXEC
        | InitFlags::FAN_NONBLOCK
        | InitFlags::FAN_UNLIMITED_QUEUE;
    let with = |report| {
        let flags = InitFlags::from_bits_retain(flags.bits() | report);
        Group::init(flags, EventFFlags::O_RDONLY)
    };
    match with(libc::FAN_REPORT_DFID_NAME_TARGET) {
        Err(Errno::EINVAL) => with(libc::FAN_REPORT_DFID_NAME).map(Some),
        other => other.map(Some),
    }
}

/// Takes an error that means "not here" for `None`.
fn refused<T>(what: &'static str) -> impl Fn(Errno) -> Result<Option<T>, WatchError> {
    move |errno| match errno {
        Errno::EPERM
        | Errno::EACCES
        | Errno::ENOSYS
        | Errno::EINVAL
        | Errno::EXDEV
        | Errno::ENODEV
        | Errno::EOPNOTSUPP => Ok(None),
        errno => Err(WatchError::kernel(what)(errno)),
    }
}

/// Whether this process may open handles at all (CAP_DAC_READ_SEARCH): one that names nothing is
/// refused for that alone.
fn opens_handles(mount: &File) -> bool {
    let permitted = |handle: FileHandle| match handle.open(mount.as_fd()) {
        Ok(_) => true,
        Err(error) => error.raw_os_error() != Some(libc::EPERM),
    };
    FileHandle::new(0, &[0; 8]).is_some_and(permitted)
}

/// The path of an open directory, as this process sees it.
fn path_of(directory: &impl AsFd) -> io::Result<Vec<u8>> {
    let link = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    Ok(std::fs::read_link(link)?.into_os_string().into_vec())
}

/// One event.
#[derive(Debug, PartialEq, Eq)]
struct Event<'b> {
    mask: MaskFlags,
    /// Who did it, as this process sees it. What several did is never merged to one event.
    process: i32,
    /// Where; of a rename the old one and the new one.
    places: ArrayVec<Place<'b>, 2>,
}

/// Where it happened.
#[derive(Debug, PartialEq, Eq)]
struct Place<'b> {
    file_system: [u8; 8],
    directory: FileHandle,
    /// In that directory; `.` for itself.
    name: &'b [u8],
}

/// The events in a buffer that was read. `None`, and the end, where one is not understood.
struct Events<'b>(&'b [u8]);

impl<'b> Iterator for Events<'b> {
    type Item = Option<Event<'b>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.0);
        let event = split(bytes).map(|(event, rest)| {
            self.0 = rest;
            event
        });
        Some(event)
    }
}

/// `struct fanotify_event_metadata` and its records, and what follows them.
fn split(bytes: &[u8]) -> Option<(Event<'_>, &[u8])> {
    let length = u32::from_ne_bytes(bytes_at(bytes, 0)?) as usize;
    let [version] = bytes_at(bytes, 4)?;
    let head = usize::from(u16::from_ne_bytes(bytes_at(bytes, 6)?));
    if version != nix::sys::fanotify::FANOTIFY_METADATA_VERSION || head < METADATA_BYTES {
        return None;
    }
    let mask = MaskFlags::from_bits_retain(u64::from_ne_bytes(bytes_at(bytes, 8)?));
    let process = i32::from_ne_bytes(bytes_at(bytes, 20)?);
    let (event, rest) = bytes.split_at_checked(length)?;
    let mut records = event.get(head..)?;
    let mut places = ArrayVec::new();
    while !records.is_empty() {
        let [kind] = bytes_at(records, 0)?;
        let length = usize::from(u16::from_ne_bytes(bytes_at(records, 2)?));
        let (record, behind) = records.split_at_checked(length.max(4))?;
        match kind {
            libc::FAN_EVENT_INFO_TYPE_DFID_NAME
            | libc::FAN_EVENT_INFO_TYPE_OLD_DFID_NAME
            | libc::FAN_EVENT_INFO_TYPE_NEW_DFID_NAME => {
                places.try_push(read_place(record)?).ok()?;
            }
            // A directory itself; every other record repeats or adds what is not needed.
            libc::FAN_EVENT_INFO_TYPE_DFID => {
                places.try_push(Place { name: b".", ..read_place(record)? }).ok()?;
            }
            _ => {}
        }
        records = behind;
    }
    Some((Event { mask, process, places }, rest))
}

/// `struct fanotify_event_info_fid`, with a name behind its handle.
fn read_place(record: &[u8]) -> Option<Place<'_>> {
    let file_system = bytes_at(record, 4)?;
    let length = u32::from_ne_bytes(bytes_at(record, 12)?) as usize;
    let kind = i32::from_ne_bytes(bytes_at(record, 16)?);
    let (handle, name) = record.get(FID_BYTES..)?.split_at_checked(length)?;
    let directory = FileHandle::new(kind, handle)?;
    Some(Place { file_system, directory, name: up_to_zero(name) })
}

#[cfg(test)]
mod tests;
