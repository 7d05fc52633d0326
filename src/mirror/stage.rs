//! Taking in a series of batches, whole, before anything of it shows in the trees.
//!
//! A series is staged beside the roots (`area`), each file complete with its metadata, and on record in
//! the group's state directory (`record`). With the manifest it is *ready*: from then on it will be
//! applied, whatever happens. What a crash leaves without a manifest is void and removed.

mod build;
mod record;
mod series;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::area::{self, Area, StageError, failed};
use super::conflict::Store;
use super::entry::{RelPath, TreeId};
use super::proto::Trouble;
use super::tree::Root;
use crate::config;
pub use record::Manifest;
pub(super) use record::{How, StagedOp};
pub use series::{Head, Series};

/// Whose trees these are: the words of areas and of the conflict store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whose {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of the group.
    pub group: String,
    /// Name of this node.
    pub node: String,
}

/// One tree with the place beside it.
#[derive(Debug)]
pub(super) struct StagedTree {
    pub(super) path: PathBuf,
    pub(super) hash: config::Hash,
    pub(super) area: Area,
    pub(super) store: Store,
}

impl StagedTree {
    /// A path in this tree, for a person.
    pub(super) fn shown(&self, path: &RelPath) -> String {
        if path.is_root() {
            return self.path.display().to_string();
        }
        format!("{}/{path}", self.path.display())
    }

    /// What the system refused to do with a path of this tree.
    pub(super) fn failed(&self, path: &RelPath, doing: &str, error: Errno) -> Trouble {
        failed(&self.shown(path), doing, error)
    }

    /// The directory of a series in its area; made if it is not there.
    pub(super) fn series(&self, name: &str) -> Result<OwnedFd, Trouble> {
        area::made_directory(self.area.incoming(), name)
            .map_err(|error| failed(&self.area.path().display(), "cannot stage", error))
    }
}

/// Where a group's series are taken in.
#[derive(Debug)]
pub struct Stage {
    home_path: PathBuf,
    home: OwnedFd,
    trees: Vec<StagedTree>,
}

impl Stage {
    /// Opens the places beside the trees, and makes what is missing. `state` is the group's state
    /// directory, where its index is: the records are kept there, in `incoming/`.
    ///
    /// # Errors
    /// A root is missing or a mount point, a place belongs to somebody else, or the system refused.
    pub fn open(
        state: &Path,
        whose: &Whose,
        trees: &[config::Tree],
    ) -> Result<Arc<Stage>, StageError> {
        let home_path = state.join("incoming");
        let at_home = |source| StageError::Io { path: home_path.clone(), source };
        let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
        let home = nix::fcntl::open(state, flags, nix::sys::stat::Mode::empty())
            .and_then(|state| {
                let home = area::made_directory(state.as_fd(), "incoming")?;
                record::sync(state.as_fd())?;
                Ok(home)
            })
            .map_err(at_home)?;
        let trees = trees
            .iter()
            .map(|tree| {
                let area = Area::open(&whose.cluster, &whose.group, &tree.path)?;
                let io = |source| StageError::Io { path: area.path().to_owned(), source };
                let store = Store::of(&area, whose, &tree.path).map_err(io)?;
                Ok(StagedTree { path: tree.path.clone(), hash: tree.hash, area, store })
            })
            .collect::<Result<Vec<_>, StageError>>()?;
        Ok(Arc::new(Stage { home_path, home, trees }))
    }

    /// The series that must still be applied, if there is one. Anything else that was staged is void,
    /// and removed.
    ///
    /// # Errors
    /// The record is damaged, or belongs to other trees than the config names now; or the system
    /// refused.
    pub fn recover(self: &Arc<Self>) -> Result<Option<Ready>, Trouble> {
        let manifest = record::read::<Manifest>(self.home.as_fd(), record::READY)
            .map_err(|error| self.unreadable(record::READY, error))?;
        let Some(manifest) = manifest else {
            self.clear()?;
            return Ok(None);
        };
        let trees = self.tree_paths();
        if manifest.trees != trees {
            let then: Vec<_> =
                manifest.trees.iter().map(|path| String::from_utf8_lossy(path)).collect();
            return Err(Trouble::Failed(format!(
                "changes that were acknowledged are not applied yet, and are for the trees {}; \
                 name these trees in this order in the config until they are applied",
                then.join(", ")
            )));
        }
        Ok(Some(Ready { manifest, stage: self.clone() }))
    }

    /// Begins to take in a series. What was staged before and is not ready is void.
    ///
    /// # Errors
    /// One is ready and must be applied first; or the system refused.
    pub fn begin(self: &Arc<Self>, head: Head) -> Result<Series, Trouble> {
        if self.recover()?.is_some() {
            return Err(Trouble::Failed("an acknowledged series is not applied yet".to_owned()));
        }
        Ok(Series::new(self.clone(), head))
    }

    /// Files in the conflict stores of these trees.
    ///
    /// # Errors
    /// The system refused.
    pub fn conflicts(&self) -> Result<u64, Trouble> {
        self.trees.iter().try_fold(0, |sum, tree| {
            let count = tree.store.count();
            let count = count
                .map_err(|error| failed(&tree.store.path().display(), "cannot be read", error))?;
            Ok(sum + count)
        })
    }

    pub(super) fn tree(&self, id: TreeId) -> Result<&StagedTree, Trouble> {
        let unknown = || Trouble::Failed(format!("there is no tree number {}", id.0));
        self.trees.get(usize::from(id.0)).ok_or_else(unknown)
    }

    /// The trees in order, with their numbers.
    pub(super) fn trees(&self) -> impl Iterator<Item = (TreeId, &StagedTree)> {
        (0u8..).map(TreeId).zip(&self.trees)
    }

    fn home(&self) -> BorrowedFd<'_> {
        self.home.as_fd()
    }

    fn tree_paths(&self) -> Vec<Vec<u8>> {
        self.trees.iter().map(|tree| tree.path.as_os_str().as_bytes().to_vec()).collect()
    }

    /// Removes everything that was staged; the manifest first, and durably.
    fn clear(&self) -> Result<(), Trouble> {
        let at_home =
            |error| failed(&self.home_path.display(), "cannot remove what was staged", error);
        match unlinkat(self.home(), record::READY, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => record::sync(self.home()).map_err(at_home)?,
            Err(Errno::ENOENT) => (),
            Err(error) => return Err(at_home(error)),
        }
        for name in area::names(self.home()).map_err(at_home)? {
            unlinkat(self.home(), name.as_slice(), UnlinkatFlags::NoRemoveDir).map_err(at_home)?;
        }
        for tree in &self.trees {
            tree.area.clear().map_err(|error| {
                failed(&tree.area.path().display(), "cannot remove what was staged", error)
            })?;
        }
        Ok(())
    }

    fn unreadable(&self, name: &str, error: Errno) -> Trouble {
        let path = self.home_path.join(name);
        if error != Errno::EBADMSG {
            return failed(&path.display(), "cannot be read", error);
        }
        Trouble::Failed(format!(
            "{}: the record of acknowledged changes is damaged; look at the disk, then remove {} \
             and everything is compared with the peer again",
            path.display(),
            self.home_path.display()
        ))
    }
}

/// A series that will be applied: it is whole and durable, and was (or may be) acknowledged.
#[derive(Clone, Debug)]
pub struct Ready {
    manifest: Manifest,
    stage: Arc<Stage>,
}

impl Ready {
    /// What it says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub(super) fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The ops of a batch.
    pub(super) fn batch(&self, batch: u32) -> Result<Vec<StagedOp>, Trouble> {
        let name = record::batch_name(batch);
        record::read(self.stage.home(), &name)
            .and_then(|ops| ops.ok_or(Errno::EBADMSG))
            .map_err(|error| self.stage.unreadable(&name, error))
    }

    /// Removes it: everything of it is in the trees and in the index.
    pub(super) fn finish(&self) -> Result<(), Trouble> {
        self.stage.clear()
    }
}

/// The root of a tree, of the roots in order.
pub(super) fn root(roots: &[Root], id: TreeId) -> Result<&Root, Trouble> {
    let unknown = || Trouble::Failed(format!("there is no tree number {}", id.0));
    roots.get(usize::from(id.0)).ok_or_else(unknown)
}

/// The name of an op's staged file.
pub(super) fn staged_name(batch: u32, op: u32) -> String {
    format!("{batch}-{op}")
}

#[cfg(test)]
mod tests;
