//! What an administrator does with a conflict.
//!
//! One rule for a restore: what stands at its place goes to the store first, and only if that was asked
//! for. Nothing is followed out of the tree: each directory is resolved below the root's handle, and one
//! that is created again is finished in the store and comes by one rename.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, open, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};

use super::{About, FILE, Id, Occasion, Parent, Store, Victim, Why, kind_word};
use crate::mirror::crash_points::CrashPoints;
use crate::mirror::entry::{RelPath, Stamp};
use crate::mirror::meta::{self, Look, Sort, What};
use crate::mirror::stage::Whose;
use crate::mirror::staging_area::{self, StageError, StagingArea};
use crate::mirror::tree::{Root, TreeError};

/// Why an administrator's wish was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConflictError {
    /// There is none of that id.
    #[error("there is no conflict {0} in this group; `list` shows them")]
    Unknown(String),
    /// Its `about.json` says nothing usable.
    #[error(
        "the about.json of conflict {0} is damaged; its file is in {1}: move it where it belongs"
    )]
    Damaged(String, String),
    /// Something is at its path.
    #[error("{0} exists; compare it with {1}; --force puts it into the conflict store first")]
    InTheWay(String, String),
    /// Its metadata are others now.
    #[error(
        "{0} has another owner, mode, time or other attributes now; --force keeps them in the conflict \
         store first"
    )]
    OtherMetadata(String),
    /// A directory is at its path.
    #[error("{0} is a directory now; move it away first")]
    Directory(String),
    /// A directory above it is something else.
    #[error("{0} is no directory now, and {1} was in it; move it away first")]
    NoDirectory(String, String),
    /// Only metadata were kept, and there is nothing that could have them.
    #[error(
        "only owner, mode, times and attributes were kept of it, and {0} is not there, or is something \
         else; `show` has them"
    )]
    NoFile(String),
    /// The system refused.
    #[error("{0}")]
    Failed(String),
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The whole path that is as it was.
    pub place: String,
    /// What stood there before is in the store now.
    pub replaced: bool,
}

impl Store {
    /// The store of a tree, for an administrator's command; `None` if there never was one.
    ///
    /// # Errors
    /// It belongs to somebody else, or the system refused.
    pub fn find(whose: &Whose, tree: &Path) -> Result<Option<Store>, StageError> {
        let there = StagingArea::path_of(&whose.cluster, &whose.group, tree)
            .is_some_and(|path| path.symlink_metadata().is_ok());
        if !there {
            return Ok(None);
        }
        Store::open(whose, tree).map(Some)
    }

    /// The same; made if there never was one.
    ///
    /// # Errors
    /// As [`Store::find`].
    pub fn open(whose: &Whose, tree: &Path) -> Result<Store, StageError> {
        let area = StagingArea::open(&whose.cluster, &whose.group, tree)?;
        let io = |source| StageError::Io { path: area.path().to_owned(), source };
        let store = Store::of(&area, whose, tree).map_err(io)?;
        // Others may be making one at the same time.
        static OPENED: AtomicU64 = AtomicU64::new(0);
        let number = OPENED.fetch_add(1, Ordering::Relaxed);
        Ok(Store { new: format!("{}-{}-{number}", store.new, std::process::id()), ..store })
    }

    /// Conflicts of a tree; looks only: for whoever asks often.
    ///
    /// # Errors
    /// The system refused.
    pub fn count_of(whose: &Whose, tree: &Path) -> Result<u64, Errno> {
        let Some(area) = StagingArea::path_of(&whose.cluster, &whose.group, tree) else {
            return Ok(0);
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match open(&area.join("conflicts"), flags, Mode::empty()) {
            Ok(directory) => Ok(super::ids(directory.as_fd())?.len() as u64),
            Err(Errno::ENOENT) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Removes a conflict for good.
    ///
    /// # Errors
    /// There is none of that id, or the system refused.
    pub fn drop_kept(&self, id: &str) -> Result<(), ConflictError> {
        let is_id = Id::read(id).is_some();
        if is_id && self.remove(id).map_err(|error| self.failed(id, error))? {
            return Ok(());
        }
        Err(ConflictError::Unknown(id.to_owned()))
    }

    /// Brings what was kept back to its place in the tree, and removes the conflict. Directories above it
    /// that are gone are made as they were; what stands there goes to the store first, if `force`.
    ///
    /// # Errors
    /// Something is in the way, or the system refused: the conflict stays, and so does what is there.
    pub fn restore(&self, id: &str, force: bool) -> Result<Restored, ConflictError> {
        let kept = self.path.join(id).join(FILE).display().to_string();
        let damaged = || ConflictError::Damaged(id.to_owned(), kept.clone());
        let about = match self.get(id) {
            Ok(about) => about.ok_or_else(|| ConflictError::Unknown(id.to_owned()))?,
            Err(Errno::EBADMSG) => return Err(damaged()),
            Err(error) => return Err(self.failed(id, error)),
        };
        let path = about.rel_path().ok_or_else(damaged)?;
        let root = Root::open(&self.tree).map_err(in_tree)?;
        let restored = match (about.has_file, about.why) {
            (true, _) if path.is_root() => Err(damaged()),
            (true, _) => self.restore_file(&root, &path, &about, force),
            (false, Why::Metadata) => self.restore_metadata(&root, &path, &about, force),
            (
                false,
                Why::Changed | Why::Created | Why::Deleted | Why::Unordered | Why::Replaced,
            ) => Err(ConflictError::NoFile(root.place(&path))),
        }?;
        self.drop_kept(id)?;
        Ok(restored)
    }

    fn restore_file(
        &self,
        root: &Root,
        path: &RelPath,
        about: &About,
        force: bool,
    ) -> Result<Restored, ConflictError> {
        let id = about.id.as_str();
        let kept = self.path.join(id).join(FILE).display().to_string();
        let failed = |error| self.failed(id, error);
        let place = root.place(path);
        let directory = staging_area::directory(self.directory.as_fd(), id).map_err(failed)?;
        let ino =
            staging_area::stat_at(directory.as_fd(), FILE).map_err(failed)?.map(|stat| stat.st_ino);
        let here = meta::look(root, path).map_err(in_tree)?;
        match &here {
            // The same file has its old name again: to rename one over the other does nothing.
            Some(look) if Some(look.seen.ino) == ino => {
                return Ok(Restored { place, replaced: false });
            }
            Some(look) if look.what == What::Dir => return Err(ConflictError::Directory(place)),
            Some(_) if !force => return Err(ConflictError::InTheWay(place, kept)),
            Some(_) | None => {}
        }
        let parent = self.parent(root, path, about)?;
        if let Some(look) = &here {
            self.keep_here(&parent, path, look, about, Why::Replaced)?;
        }
        let flags = match here {
            None => RenameFlags::RENAME_NOREPLACE,
            Some(_) => RenameFlags::RENAME_EXCHANGE,
        };
        match renameat2(&directory, FILE, &parent, path.name(), flags) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Err(ConflictError::InTheWay(place, kept)),
            // It has just gone, or the file system cannot exchange.
            Err(Errno::ENOENT | Errno::EINVAL) if here.is_some() => {
                renameat2(&directory, FILE, &parent, path.name(), RenameFlags::empty())
                    .map_err(failed)?;
            }
            Err(error) => return Err(failed(error)),
        }
        fsync(&parent).map_err(failed)?;
        self.keep_newer(&directory, path, here.as_ref(), about)?;
        Ok(Restored { place, replaced: here.is_some() })
    }

    /// What the file has changed places with, if somebody has just written another one there.
    fn keep_newer(
        &self,
        directory: &OwnedFd,
        path: &RelPath,
        kept: Option<&Look>,
        about: &About,
    ) -> Result<(), ConflictError> {
        let failed = |error: std::io::Error| self.failed(&about.id, staging_area::errno(&error));
        let there = meta::look_at(directory, FILE.as_bytes()).map_err(failed)?;
        match (there, kept) {
            (Some(there), Some(kept)) if there.seen.ino != kept.seen.ino => {
                let victim = Victim {
                    parent: directory.as_fd(),
                    name: FILE.as_bytes(),
                    path,
                    look: &there,
                    why: Why::Replaced,
                    parents: &about.parents,
                };
                self.keep_now(&victim)
            }
            (Some(_) | None, _) => Ok(()),
        }
    }

    fn restore_metadata(
        &self,
        root: &Root,
        path: &RelPath,
        about: &About,
        force: bool,
    ) -> Result<Restored, ConflictError> {
        let place = root.place(path);
        let wanted = about.metadata();
        let look = meta::look(root, path).map_err(in_tree)?;
        let look = look.filter(|look| kind_word(&look.what) == about.kind);
        let look = look.ok_or_else(|| ConflictError::NoFile(place.clone()))?;
        if look.has_metadata_of(&wanted) {
            return Ok(Restored { place, replaced: false });
        }
        if !force {
            return Err(ConflictError::OtherMetadata(place));
        }
        let handle = root.open_any(path).map_err(in_tree)?;
        if meta::seen_of(&handle).is_ok_and(|seen| seen.ino != look.seen.ino) {
            return Err(ConflictError::Failed(format!("{place}: somebody changes it; try again")));
        }
        self.keep_here(&handle, path, &look, about, Why::Metadata)?;
        meta::set(&handle, &wanted)
            .map_err(|error| ConflictError::Failed(format!("{place}: {error}")))?;
        nix::unistd::syncfs(&self.directory).map_err(|error| self.failed(&about.id, error))?;
        Ok(Restored { place, replaced: true })
    }

    /// Keeps what is in the place of a conflict.
    fn keep_here(
        &self,
        parent: &OwnedFd,
        path: &RelPath,
        look: &Look,
        about: &About,
        why: Why,
    ) -> Result<(), ConflictError> {
        let (parent, parents) = (parent.as_fd(), about.parents.as_slice());
        self.keep_now(&Victim { parent, name: path.name(), path, look, why, parents })
    }

    /// By an administrator's wish.
    fn keep_now(&self, victim: &Victim<'_>) -> Result<(), ConflictError> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(now.as_millis()).unwrap_or_default();
        let occasion = Occasion { time_ms, generation: None };
        self.keep(victim, &occasion, &mut CrashPoints::all())
            .and_then(|_| self.sync())
            .map_err(|trouble| ConflictError::Failed(trouble.to_string()))
    }

    /// The directory of a name; what is missing of it is made.
    fn parent(&self, root: &Root, path: &RelPath, about: &About) -> Result<OwnedFd, ConflictError> {
        for (depth, above) in path.above().into_iter().enumerate() {
            let is_there = || match meta::quick(root, &above).map_err(in_tree)? {
                Some((_, Sort::Dir)) => Ok(true),
                Some((_, Sort::File | Sort::Symlink | Sort::Other(_))) => {
                    let (place, kept) = (root.place(&above), root.place(path));
                    Err(ConflictError::NoDirectory(place, kept))
                }
                None => Ok(false),
            };
            if !is_there()? {
                self.make_directory(root, &above, about.parents.get(depth))?;
                // Somebody else may have made it.
                is_there()?;
            }
        }
        let parent = path.parent().unwrap_or_else(RelPath::root);
        root.open_dir(&parent).map(OwnedFd::from).map_err(in_tree)
    }

    /// Makes a directory as it was; if that is not known, as the one that it is in.
    fn make_directory(
        &self,
        root: &Root,
        path: &RelPath,
        known: Option<&Parent>,
    ) -> Result<(), ConflictError> {
        let place = root.place(path);
        let failed = |error: Errno| ConflictError::Failed(format!("{place}: {}", error.desc()));
        let above = path.parent().unwrap_or_else(RelPath::root);
        let as_it_was = match known {
            Some(known) => known.clone(),
            None => {
                let look = meta::look(root, &above).map_err(in_tree)?;
                Parent::like(&look.ok_or_else(|| failed(Errno::ENOENT))?)
            }
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let s = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let entry = as_it_was.entry(Stamp { s, ns: now.subsec_nanos() });
        let (parent, name) = root.open_parent(path).map_err(in_tree)?;
        let new = format!("{}-directory", self.new);
        let made = staging_area::made_directory(self.directory.as_fd(), &new).map_err(failed)?;
        meta::set(&made, &entry)
            .map_err(|error| ConflictError::Failed(format!("{place}: {error}")))?;
        let free = RenameFlags::RENAME_NOREPLACE;
        match renameat2(&self.directory, new.as_str(), &parent, name, free) {
            Ok(()) => Ok(()),
            Err(error) => {
                let _ = unlinkat(&self.directory, new.as_str(), UnlinkatFlags::RemoveDir);
                if error == Errno::EEXIST { Ok(()) } else { Err(failed(error)) }
            }
        }
    }

    pub(super) fn failed(&self, id: &str, error: Errno) -> ConflictError {
        ConflictError::Failed(format!("{}: {}", self.path.join(id).display(), error.desc()))
    }
}

fn in_tree(error: TreeError) -> ConflictError {
    ConflictError::Failed(error.to_string())
}
