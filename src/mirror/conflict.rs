//! The conflict store of a tree: what somebody wrote on this node and the owner's changes would have
//! replaced or deleted.
//!
//! ```text
//! <area>/conflicts/<id>/file         the very inode, by one more name; or a copy where no more fit
//! <area>/conflicts/<id>/about.json   where it was, when and why it was kept
//! ```
//! Nothing is copied: keeping a large file takes no room. A file with other names in the tree is kept
//! as it goes on, as its other names show it. The id says when, and is the same for the same name in
//! the same series: to keep a file again after a crash changes nothing.

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
use serde::{Deserialize, Serialize};

use super::area::{self, Area, errno, failed};
use super::entry::{RelPath, Stamp};
use super::meta::{Look, What};
use super::proto::Trouble;
use super::stage::Whose;
use super::steps::Steps;
use crate::control::wallclock;
use crate::limits;
pub use restore::ConflictError;

/// Why something was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// It was changed on this node since the last common commit.
    #[serde(rename = "changed here")]
    Changed,
    /// It was made on this node since the last common commit.
    #[serde(rename = "created here")]
    Created,
    /// It was changed or made on this node, and deleted by the owner.
    #[serde(rename = "deleted there")]
    Deleted,
    /// Its content is the common one, but its owner, mode, times or attributes were changed on this
    /// node: they are kept, without the content.
    #[serde(rename = "only owner, mode, times or attributes changed here")]
    Metadata,
    /// It is the common state; the owner lost or changed it by nobody's order, while it was not the owner,
    /// or in a crash.
    #[serde(rename = "lost or changed on the other node by nobody's order")]
    Unordered,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Why::Changed => "changed here",
            Why::Created => "created here",
            Why::Deleted => "deleted there",
            Why::Metadata => "only owner, mode, times or attributes changed here",
            Why::Unordered => "lost or changed on the other node by nobody's order",
        })
    }
}

/// What `about.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its name in the store.
    pub id: String,
    /// When it was kept, RFC 3339.
    pub time: String,
    /// On which node.
    pub node: String,
    /// The group.
    pub group: String,
    /// The tree's path.
    pub tree: String,
    /// The path below it, for people.
    pub path: String,
    /// The same, exactly: its bytes in hexadecimal.
    pub path_hex: String,
    /// Why it was kept.
    pub why: Why,
    /// What it is: `file`, `symlink`, or what else stood there.
    pub kind: String,
    /// Length in bytes.
    pub size: u64,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group of the file.
    pub gid: u32,
    /// Last modification: seconds since 1970, nanoseconds.
    pub mtime: Stamp,
    /// Extended attributes: name, value in hexadecimal.
    pub xattrs: Vec<(String, String)>,
    /// Number of the generation whose owner's change replaced it; `None`: an administrator's `restore`.
    pub generation: Option<u32>,
    /// Whether `file` is there.
    pub has_file: bool,
}

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
}

/// On what occasion.
#[derive(Clone, Debug)]
pub(super) struct Occasion {
    /// Milliseconds since 1970.
    pub(super) time_ms: u64,
    /// The same for the same series.
    pub(super) seed: String,
    /// Number of the owner's generation.
    pub(super) generation: Option<u32>,
}

/// What is in a store.
#[derive(Debug, Default)]
pub struct Listing {
    /// In the order of their ids, so of time.
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
}

impl Store {
    /// The store in an area.
    pub(super) fn of(area: &Area, whose: &Whose, tree: &Path) -> Result<Store, Errno> {
        Ok(Store {
            path: area.path().join("conflicts"),
            directory: area.conflicts().try_clone_to_owned().map_err(|error| errno(&error))?,
            whose: whose.clone(),
            tree: tree.to_owned(),
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

    /// How much is kept.
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

    /// One of them.
    ///
    /// # Errors
    /// EBADMSG: its `about.json` is damaged. Else the system refused.
    pub fn get(&self, id: &str) -> Result<Option<About>, Errno> {
        if !is_id(id) {
            return Ok(None);
        }
        let directory = match area::directory(self.directory.as_fd(), id) {
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
        steps: &mut Steps,
    ) -> Result<bool, Trouble> {
        let fail = |error| {
            let place = format!("{}/{}", self.tree.display(), victim.path);
            let doing = "was changed here, and cannot be kept in the conflict store";
            failed(&place, doing, error)
        };
        let base = id(occasion, victim.path);
        let mut number = 1u32;
        let id = loop {
            let id = if number == 1 { base.clone() } else { format!("{base}-{number}") };
            match self.holds(&id, victim).map_err(fail)? {
                Some(true) => return Ok(false),
                Some(false) => number = number.saturating_add(1),
                None => break id,
            }
        };
        self.finish_new().map_err(fail)?;
        steps.take()?;
        let new = area::made_directory(self.directory.as_fd(), NEW).map_err(fail)?;
        steps.take()?;
        if victim.look.what == What::Dir && victim.why != Why::Metadata {
            // It moves: what was half made is finished after a crash.
            let about = self.about(id.clone(), victim, occasion, true);
            write_about(new.as_fd(), &about).map_err(fail)?;
            nix::unistd::fsync(&new).map_err(fail)?;
        }
        let has_file = match victim.why {
            Why::Metadata => false,
            Why::Changed | Why::Created | Why::Deleted | Why::Unordered => {
                link(victim, new.as_fd()).map_err(fail)?
            }
        };
        steps.take()?;
        let about = self.about(id.clone(), victim, occasion, has_file);
        write_about(new.as_fd(), &about).map_err(fail)?;
        steps.take()?;
        renameat(&self.directory, NEW, &self.directory, id.as_str()).map_err(fail)?;
        Ok(true)
    }

    /// Makes durable what was kept, all of it at once: three fsync(2) for each would take a disk 10 ms.
    pub(super) fn sync(&self) -> Result<(), Trouble> {
        nix::unistd::syncfs(&self.directory)
            .map_err(|error| failed(&self.path.display(), "cannot be made durable", error))
    }

    /// Removes what a crash left half made; but a directory was moved there, and is kept.
    fn finish_new(&self) -> Result<(), Errno> {
        let Ok(new) = area::directory(self.directory.as_fd(), NEW) else {
            return self.remove(NEW).map(drop);
        };
        let moved = area::stat_at(new.as_fd(), FILE)?.is_some_and(|stat| area::is_directory(&stat));
        match self.read_about(new.as_fd()) {
            Ok(about) if moved && is_id(&about.id) => {
                renameat(&self.directory, NEW, &self.directory, about.id.as_str())
            }
            Ok(_) | Err(_) => self.remove(NEW).map(drop),
        }
    }

    /// Whether a conflict is this victim; `None`: there is none of that id.
    fn holds(&self, id: &str, victim: &Victim<'_>) -> Result<Option<bool>, Errno> {
        let directory = match area::directory(self.directory.as_fd(), id) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(error),
        };
        if let Some(file) = area::stat_at(directory.as_fd(), FILE)? {
            return Ok(Some(file.st_ino == victim.look.seen.ino));
        }
        let same = self.get(id)?.is_some_and(|about| {
            let look = victim.look;
            about.why == victim.why
                && (about.mode, about.uid, about.gid) == (look.mode, look.uid, look.gid)
                && about.mtime == look.seen.mtime
                && about.xattrs == shown_xattrs(look)
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
            kind: match what {
                What::Dir => "directory",
                What::File => "file",
                What::Symlink(_) => "symlink",
                What::Other(word) => word,
            }
            .to_owned(),
            size: seen.size,
            mode: *mode,
            uid: *uid,
            gid: *gid,
            mtime: seen.mtime,
            xattrs: shown_xattrs(victim.look),
            generation: on.generation,
            has_file,
        }
    }

    /// Removes a conflict, or what was half made of one, if it is there.
    fn remove(&self, id: &str) -> Result<bool, Errno> {
        let directory = match area::directory(self.directory.as_fd(), id) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(false),
            Err(error) => return Err(error),
        };
        drop(directory);
        area::remove_all(self.directory.as_fd(), id.as_bytes())?;
        fsync(&self.directory)?;
        Ok(true)
    }
}

const FILE: &str = "file";
const ABOUT: &str = "about.json";
/// What is being made: no id, which begins with a year.
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
    Ok(true)
}

fn write_about(directory: BorrowedFd<'_>, about: &About) -> Result<(), Errno> {
    let mut bytes = serde_json::to_vec_pretty(about).map_err(|_| Errno::EINVAL)?;
    bytes.push(b'\n');
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let mut file = File::from(openat(directory, ABOUT, flags, mode)?);
    file.write_all(&bytes).map_err(|error| errno(&error))
}

/// `20261121-203523-` and eight hexadecimal digits of the name and the occasion.
fn id(occasion: &Occasion, path: &RelPath) -> String {
    let time = wallclock::format(UNIX_EPOCH + Duration::from_millis(occasion.time_ms));
    let digits: String = time.chars().filter(char::is_ascii_digit).collect();
    let (day, clock) = digits.split_at_checked(8).unwrap_or_default();
    let mut hasher = blake3::Hasher::new_derive_key("clusterd 2026 conflict id");
    hasher.update(occasion.seed.as_bytes()).update(&[0]).update(path.as_bytes());
    let hash = hasher.finalize().to_hex();
    format!("{day}-{}-{}", clock.get(..6).unwrap_or_default(), hash.get(..8).unwrap_or_default())
}

/// The ids in a store's directory, sorted.
fn ids(directory: BorrowedFd<'_>) -> Result<Vec<String>, Errno> {
    let mut ids: Vec<String> = area::names(directory)?
        .into_iter()
        .filter_map(|name| String::from_utf8(name).ok())
        .filter(|name| is_id(name))
        .collect();
    ids.sort_unstable();
    Ok(ids)
}

/// Whether this can be an id, so that nothing else is ever opened by it.
fn is_id(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn shown_xattrs(look: &Look) -> Vec<(String, String)> {
    let shown = |(name, value): &(Vec<u8>, Vec<u8>)| {
        (String::from_utf8_lossy(name).into_owned(), hex(value))
    };
    look.xattrs.iter().map(shown).collect()
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
