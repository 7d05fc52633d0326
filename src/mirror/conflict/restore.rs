//! What an administrator does with a conflict.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, open, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::fsync;

use super::{FILE, Occasion, Store, Victim, Why, unhex};
use crate::mirror::area::{self, Area, StageError};
use crate::mirror::entry::RelPath;
use crate::mirror::meta::{self, What};
use crate::mirror::stage::Whose;
use crate::mirror::steps::Steps;
use crate::mirror::tree::{Root, TreeError};

/// Why an administrator's wish was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConflictError {
    /// There is none of that id.
    #[error("there is no conflict {0} in this group on this node; `list` shows them")]
    Unknown(String),
    /// Its `about.json` says nothing usable.
    #[error(
        "the about.json of conflict {0} is damaged; its file is in {1}: move it where it belongs"
    )]
    Damaged(String, String),
    /// Something is at its path.
    #[error("{0} exists; compare it with {1}; --force puts it into the conflict store first")]
    InTheWay(String, String),
    /// A directory is at its path.
    #[error("{0} is a directory now; move it away first")]
    Directory(String),
    /// Its directory is gone.
    #[error("the directory of {0} is gone; make it first, or copy {1} elsewhere")]
    NoDirectory(String, String),
    /// Only metadata were kept.
    #[error(
        "only owner, mode, times and attributes were kept of it: `show` has them; set them by hand"
    )]
    NoFile,
    /// The system refused.
    #[error("{0}")]
    Failed(String),
}

impl Store {
    /// The store of a tree, without its daemon; `None` if there never was one.
    ///
    /// # Errors
    /// It belongs to somebody else, or the system refused.
    pub fn find(whose: &Whose, tree: &Path) -> Result<Option<Store>, StageError> {
        let there = Area::path_of(&whose.cluster, &whose.group, tree)
            .is_some_and(|path| path.symlink_metadata().is_ok());
        if !there {
            return Ok(None);
        }
        let area = Area::open(&whose.cluster, &whose.group, tree)?;
        let io = |source| StageError::Io { path: area.path().to_owned(), source };
        Store::of(&area, whose, tree).map(Some).map_err(io)
    }

    /// Conflicts of a tree; looks only: for whoever asks often.
    ///
    /// # Errors
    /// The system refused.
    pub fn count_of(whose: &Whose, tree: &Path) -> Result<u64, Errno> {
        let Some(area) = Area::path_of(&whose.cluster, &whose.group, tree) else { return Ok(0) };
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
        if super::is_id(id) && self.remove(id).map_err(|error| self.failed(id, error))? {
            return Ok(());
        }
        Err(ConflictError::Unknown(id.to_owned()))
    }

    /// Moves a kept file back to its path in the tree, and returns that path. What is there goes to the
    /// store first, if `force`.
    ///
    /// # Errors
    /// Something is in the way, its directory is gone, or the system refused: nothing is changed.
    pub fn restore(&self, id: &str, force: bool) -> Result<String, ConflictError> {
        let kept = self.path.join(id).join(FILE).display().to_string();
        let about = match self.get(id) {
            Ok(about) => about.ok_or_else(|| ConflictError::Unknown(id.to_owned()))?,
            Err(Errno::EBADMSG) => return Err(ConflictError::Damaged(id.to_owned(), kept)),
            Err(error) => return Err(self.failed(id, error)),
        };
        let path = unhex(&about.path_hex).and_then(|bytes| RelPath::new(&bytes).ok());
        let Some(path) = path.filter(|path| !path.is_root()) else {
            return Err(ConflictError::Damaged(id.to_owned(), kept));
        };
        if !about.has_file {
            return Err(ConflictError::NoFile);
        }
        let in_tree = |error: TreeError| ConflictError::Failed(error.to_string());
        let root = Root::open(&self.tree).map_err(in_tree)?;
        let place = root.place(&path);
        let parent = path.parent().unwrap_or_else(RelPath::root);
        let parent = root.open_dir(&parent).map_err(|error| match error {
            TreeError::Gone(_) => ConflictError::NoDirectory(place.clone(), kept.clone()),
            error => in_tree(error),
        })?;
        let here = meta::look(&root, &path).map_err(in_tree)?;
        let flags = match &here {
            None => RenameFlags::RENAME_NOREPLACE,
            Some(look) if look.what == What::Dir => return Err(ConflictError::Directory(place)),
            Some(_) if !force => return Err(ConflictError::InTheWay(place, kept)),
            Some(look) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let time_ms =
                    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or_default();
                let occasion =
                    Occasion { time_ms, seed: format!("restore {id}"), generation: None };
                let victim = Victim {
                    parent: parent.as_fd(),
                    name: path.name(),
                    path: &path,
                    look,
                    why: Why::Changed,
                };
                self.keep(&victim, &occasion, &mut Steps::all())
                    .and_then(|_| self.sync())
                    .map_err(|trouble| ConflictError::Failed(trouble.to_string()))?;
                RenameFlags::empty()
            }
        };
        let directory =
            area::directory(self.directory.as_fd(), id).map_err(|error| self.failed(id, error))?;
        renameat2(&directory, FILE, &parent, path.name(), flags)
            .and_then(|()| fsync(&parent))
            .map_err(|error| match error {
                Errno::EEXIST => ConflictError::InTheWay(place.clone(), kept),
                error => self.failed(id, error),
            })?;
        self.drop_kept(id)?;
        Ok(place)
    }

    fn failed(&self, id: &str, error: Errno) -> ConflictError {
        ConflictError::Failed(format!("{}: {}", self.path.join(id).display(), error.desc()))
    }
}
