//! The conflict store of a tree: what somebody wrote on this node and the owner's changes would have
//! replaced or deleted.
//!
//! ```text
//! <area>/conflicts/<id>/file         the very inode, by one more name; or a copy where no more fit
//! <area>/conflicts/<id>/about.json   where it was, when and why it was kept
//! ```
//! Nothing is copied: keeping a large file takes no room. A file with other names in the tree is kept
//! as it goes on, as its other names show it. The id says when and which path, and is the same for the
//! same name in the same series: to keep a file again after a crash changes nothing.
//!
//! | file | subject |
//! | --- | --- |
//! | `about` | what `about.json` says, and why something was kept |
//! | `bounds` | how much is kept, and for how long |
//! | `carry` | a conflict on its way to the other node |
//! | `id` | the name of a conflict |
//! | `remote` | the other node's stores |
//! | `restore` | what an administrator does with one |

mod about;
mod bounds;
mod carry;
mod id;
pub mod remote;
mod restore;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{fsync, linkat};

use super::crash_points::CrashPoints;
use super::entry::{Entry, Kind, RelPath};
use super::meta::{self, Look, What};
use super::proto::Trouble;
use super::stage::Whose;
use super::staging_area::{self, StagingArea, errno, failed};
use crate::control::wallclock;
use crate::limits;
pub use about::{About, Parent, Why};
pub use bounds::{Tidied, Weight};
use id::Id;
pub use restore::{ConflictError, Restored};

/// What is to be kept.
pub(super) struct Victim<'a> {
    /// The directory that it is in now.
    pub(super) parent: BorrowedFd<'a>,
    /// Its name there.
    pub(super) name: &'a [u8],
    /// Its path in the tree.
    pub(super) path: &'a RelPath,
    /// How it is now.
    pub(super) look: &'a Look,
    /// Why it is kept.
    pub(super) why: Why,
    /// The directories above it, as far as they are known.
    pub(super) parents: &'a [Parent],
}

/// On what occasion.
#[derive(Clone, Debug)]
pub(super) struct Occasion {
    /// Milliseconds since 1970; the same for the same series.
    pub(super) time_ms: u64,
    /// Number of the owner's generation.
    pub(super) generation: Option<u32>,
}

/// What is in a store.
#[derive(Debug, Default)]
pub struct Listing {
    /// In the order in which they were kept.
    pub kept: Vec<About>,
    /// Ids whose `about.json` cannot be read; their files are there.
    pub damaged: Vec<String>,
}

/// The conflict store of one tree.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    directory: OwnedFd,
    whose: Whose,
    tree: PathBuf,
    /// Where this process makes one: no id, which begins with a year.
    new: String,
}

impl Store {
    /// The store in an area, for the daemon.
    pub(super) fn of(area: &StagingArea, whose: &Whose, tree: &Path) -> Result<Store, Errno> {
        Ok(Store {
            path: area.path().join("conflicts"),
            directory: area.conflicts().try_clone_to_owned().map_err(|error| errno(&error))?,
            whose: whose.clone(),
            tree: tree.to_owned(),
            new: NEW.to_owned(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the kept file of a conflict is, for a person to look at.
    pub fn file_of(&self, about: &About) -> Option<PathBuf> {
        about.has_file.then(|| self.path.join(&about.id).join(FILE))
    }

    /// The tree.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// How many are kept.
    ///
    /// # Errors
    /// The system refused.
    pub fn count(&self) -> Result<u64, Errno> {
        Ok(ids(self.directory.as_fd())?.len() as u64)
    }

    /// What is kept.
    ///
    /// # Errors
    /// The system refused.
    pub fn list(&self) -> Result<Listing, Errno> {
        let mut listing = Listing::default();
        for id in ids(self.directory.as_fd())? {
            let id = id.to_string();
            match self.get(&id) {
                Ok(Some(about)) => listing.kept.push(about),
                // It was dropped meanwhile.
                Ok(None) => (),
                Err(Errno::EBADMSG) => listing.damaged.push(id),
                Err(error) => return Err(error),
            }
        }
        Ok(listing)
    }

    /// Whether there is one of this id, damaged or not.
    ///
    /// # Errors
    /// The system refused.
    pub fn has(&self, id: &str) -> Result<bool, Errno> {
        match Id::read(id) {
            Some(_) => Ok(staging_area::stat_at(self.directory.as_fd(), id)?.is_some()),
            None => Ok(false),
        }
    }

    /// One of them.
    ///
    /// # Errors
    /// EBADMSG: its `about.json` is damaged. Else the system refused.
    pub fn get(&self, id: &str) -> Result<Option<About>, Errno> {
        if Id::read(id).is_none() {
            return Ok(None);
        }
        let directory = match staging_area::directory(self.directory.as_fd(), id) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        self.read_about(directory.as_fd()).map(Some)
    }

    fn read_about(&self, directory: BorrowedFd<'_>) -> Result<About, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = match openat(directory, ABOUT, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Err(Errno::EBADMSG),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limits::CONFLICT_ABOUT_BYTES_MAX)
            .read_to_end(&mut bytes)
            .map_err(|error| errno(&error))?;
        serde_json::from_slice(&bytes).map_err(|_| Errno::EBADMSG)
    }

    /// Keeps a victim; durably after [`Store::sync`]. Whether it is new: it may be kept already on the
    /// same occasion.
    pub(super) fn keep(
        &self,
        victim: &Victim<'_>,
        occasion: &Occasion,
        crash_points: &mut CrashPoints,
    ) -> Result<bool, Trouble> {
        let fail = |error| {
            let place = format!("{}/{}", self.tree.display(), victim.path);
            let doing = "was changed here, and cannot be kept in the conflict store";
            failed(&place, doing, error)
        };
        let mut id = Id::new(occasion.time_ms, victim.path);
        while let Some(is_it) = self.holds(&id.to_string(), victim).map_err(fail)? {
            if is_it {
                return Ok(false);
            }
            id = id.next();
        }
        let id = id.to_string();
        self.finish_new().map_err(fail)?;
        crash_points.take()?;
        let new = staging_area::made_directory(self.directory.as_fd(), &self.new).map_err(fail)?;
        crash_points.take()?;
        if victim.look.what == What::Dir && victim.why != Why::Metadata {
            // It moves: what was half made is finished after a crash.
            let about = self.about(id.clone(), victim, occasion, true);
            write_about(new.as_fd(), &about).map_err(fail)?;
            nix::unistd::fsync(&new).map_err(fail)?;
        }
        let has_file = match victim.why {
            Why::Metadata => false,
            Why::Changed | Why::Created | Why::Deleted | Why::Unordered | Why::Replaced => {
                link(victim, new.as_fd()).map_err(fail)?
            }
        };
        crash_points.take()?;
        let about = self.about(id.clone(), victim, occasion, has_file);
        write_about(new.as_fd(), &about).map_err(fail)?;
        crash_points.take()?;
        renameat(&self.directory, self.new.as_str(), &self.directory, id.as_str()).map_err(fail)?;
        Ok(true)
    }

    /// Makes durable what was kept, all of it at once: three fsync(2) for each would take a disk 10 ms.
    pub(super) fn sync(&self) -> Result<(), Trouble> {
        nix::unistd::syncfs(&self.directory)
            .map_err(|error| failed(&self.path.display(), "cannot be made durable", error))
    }

    /// Removes what a crash left half made; but a directory was moved there, and is kept.
    fn finish_new(&self) -> Result<(), Errno> {
        let Ok(new) = staging_area::directory(self.directory.as_fd(), &self.new) else {
            return self.remove(&self.new).map(drop);
        };
        let moved = staging_area::stat_at(new.as_fd(), FILE)?
            .is_some_and(|stat| staging_area::is_directory(&stat));
        match self.read_about(new.as_fd()) {
            Ok(about) if moved && Id::read(&about.id).is_some() => {
                renameat(&self.directory, self.new.as_str(), &self.directory, about.id.as_str())
            }
            Ok(_) | Err(_) => self.remove(&self.new).map(drop),
        }
    }

    /// Whether a conflict is this victim; `None`: there is none of that id.
    fn holds(&self, id: &str, victim: &Victim<'_>) -> Result<Option<bool>, Errno> {
        let directory = match staging_area::directory(self.directory.as_fd(), id) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(file) = staging_area::stat_at(directory.as_fd(), FILE)? {
            return Ok(Some(file.st_ino == victim.look.seen.ino));
        }
        let same = self.get(id)?.is_some_and(|about| {
            let look = victim.look;
            about.why == victim.why
                && (about.mode, about.uid, about.gid) == (look.mode, look.uid, look.gid)
                && about.mtime == look.seen.mtime
                && about.xattrs == about::shown_xattrs(&look.xattrs)
        });
        Ok(Some(same))
    }

    fn about(&self, id: String, victim: &Victim<'_>, on: &Occasion, has_file: bool) -> About {
        let Look { what, mode, uid, gid, seen, .. } = victim.look;
        About {
            id,
            time: wallclock::format(UNIX_EPOCH + Duration::from_millis(on.time_ms)),
            node: self.whose.node.clone(),
            group: self.whose.group.clone(),
            tree: self.tree.display().to_string(),
            path: victim.path.to_string(),
            path_hex: hex(victim.path.as_bytes()),
            why: victim.why,
            kind: kind_word(what).to_owned(),
            size: seen.size,
            mode: *mode,
            uid: *uid,
            gid: *gid,
            mtime: seen.mtime,
            xattrs: about::shown_xattrs(&victim.look.xattrs),
            generation: on.generation,
            has_file,
            parents: victim.parents.to_vec(),
            versions_removed: 0,
        }
    }

    /// Removes a conflict, or what was half made of one, if it is there.
    fn remove(&self, id: &str) -> Result<bool, Errno> {
        let directory = match staging_area::directory(self.directory.as_fd(), id) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(false),
            Err(error) => return Err(error),
        };
        drop(directory);
        staging_area::remove_all(self.directory.as_fd(), id.as_bytes())?;
        fsync(&self.directory)?;
        Ok(true)
    }
}

const FILE: &str = "file";
const ABOUT: &str = "about.json";
/// What the daemon is making. An administrator's command makes its own beside it.
const NEW: &str = "new";

/// Gives the victim's inode one more name. Where no more fit (EMLINK, or EXDEV between projects of a
/// quota) a regular file is copied; of another kind `about.json` says all there is to say.
fn link(victim: &Victim<'_>, into: BorrowedFd<'_>) -> Result<bool, Errno> {
    let name = victim.name;
    if victim.look.what == What::Dir {
        // It has no further name: it is out of the tree already, and moves.
        renameat(victim.parent, name, into, FILE)?;
        return Ok(true);
    }
    match linkat(victim.parent, name, into, FILE, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::EXDEV | Errno::EMLINK) => (),
        Err(error) => return Err(error),
    }
    if victim.look.what != What::File {
        return Ok(false);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut from = File::from(openat(victim.parent, name, flags, Mode::empty())?);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
    let mut to = File::from(openat(into, FILE, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    std::io::copy(&mut from, &mut to).map_err(|error| errno(&error))?;
    meta::set(&to, &entry_of(victim.look)).map_err(|error| errno(&error.source))?;
    Ok(true)
}

/// What it is, in a word.
fn kind_word(what: &What) -> &str {
    match what {
        What::Dir => "directory",
        What::File => "file",
        What::Symlink(_) => "symlink",
        What::Other(word) => word,
    }
}

/// Owner, mode, times and attributes of a file.
fn entry_of(look: &Look) -> Entry {
    let Look { mode, uid, gid, seen, xattrs, .. } = look;
    let (mode, uid, gid, xattrs) = (*mode, *uid, *gid, xattrs.clone());
    Entry { kind: Kind::Dir, mode, uid, gid, mtime: seen.mtime, xattrs }
}

fn write_about(directory: BorrowedFd<'_>, about: &About) -> Result<(), Errno> {
    write_about_as(directory, ABOUT, about).map(drop)
}

fn write_about_as(directory: BorrowedFd<'_>, name: &str, about: &About) -> Result<File, Errno> {
    let mut bytes = serde_json::to_vec_pretty(about).map_err(|_| Errno::EINVAL)?;
    bytes.push(b'\n');
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let mut file = File::from(openat(directory, name, flags, mode)?);
    file.write_all(&bytes).map_err(|error| errno(&error))?;
    Ok(file)
}

/// The ids in a store's directory, in the order in which they were kept.
fn ids(directory: BorrowedFd<'_>) -> Result<Vec<Id>, Errno> {
    let names = staging_area::names(directory)?;
    let read = |name: &Vec<u8>| std::str::from_utf8(name).ok().and_then(Id::read);
    let mut ids: Vec<Id> = names.iter().filter_map(read).collect();
    ids.sort_unstable();
    Ok(ids)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests;
