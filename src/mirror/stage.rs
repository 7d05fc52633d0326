//! Taking in a series of batches, whole, before anything of it shows in the trees.
//!
//! A series is staged beside the roots (`area`), each file complete with its metadata, and on record in
//! the group's state directory (`record`). With the manifest it is *ready*: from then on it will be
//! applied, whatever happens. What a crash leaves without a manifest is void and removed.

mod ahead;
pub(super) mod build;
mod here;
mod pack;
mod record;
mod room;
mod series;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::conflict::Store;
use super::entry::{RelPath, TreeId};
use super::index::Position;
use super::proto::Trouble;
use super::staging_area::{self, StageError, StagingArea, failed};
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
    pub(super) area: StagingArea,
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
        staging_area::made_directory(self.area.incoming(), name)
            .map_err(|error| failed(&self.area.path().display(), "cannot stage", error))
    }
}

/// Where a group's series are taken in.
#[derive(Debug)]
pub struct Stage {
    home_path: PathBuf,
    home: OwnedFd,
    trees: Vec<StagedTree>,
    /// Why the trees are not the state of any commit, as it is on record.
    broken: Mutex<Option<String>>,
    /// Chunks that came before their series.
    ahead: Mutex<ahead::Pool>,
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
                let home = staging_area::made_directory(state.as_fd(), "incoming")?;
                record::sync(state.as_fd())?;
                Ok(home)
            })
            .map_err(at_home)?;
        let trees = trees
            .iter()
            .map(|tree| {
                let area = StagingArea::open(&whose.cluster, &whose.group, &tree.path)?;
                let io = |source| StageError::Io { path: area.path().to_owned(), source };
                let store = Store::of(&area, whose, &tree.path).map_err(io)?;
                Ok(StagedTree { path: tree.path.clone(), hash: tree.hash, area, store })
            })
            .collect::<Result<Vec<_>, StageError>>()?;
        let broken = record::read::<String>(home.as_fd(), record::BROKEN)
            .unwrap_or_else(|error| Some(format!("{}: {}", home_path.display(), error.desc())));
        let (broken, ahead) = (Mutex::new(broken), Mutex::default());
        Ok(Arc::new(Stage { home_path, home, trees, broken, ahead }))
    }

    /// The series that must still be applied, if there is one. Anything else that was staged is void,
    /// and removed.
    ///
    /// # Errors
    /// The record is damaged, or belongs to other trees than the config names now; or the system
    /// refused.
    pub fn recover(self: &Arc<Self>) -> Result<Option<Ready>, Trouble> {
        let ready = self.acknowledged()?;
        if ready.is_none() {
            self.clear()?;
        }
        Ok(ready)
    }

    /// The series that must still be applied, if there is one.
    ///
    /// # Errors
    /// As [`Stage::recover`].
    pub fn acknowledged(self: &Arc<Self>) -> Result<Option<Ready>, Trouble> {
        let manifest = record::read::<Manifest>(self.home.as_fd(), record::READY)
            .map_err(|error| self.unreadable(record::READY, error))?;
        let Some(manifest) = manifest else { return Ok(None) };
        let trees = self.tree_paths();
        if manifest.trees != trees {
            let then: Vec<_> =
                manifest.trees.iter().map(|path| String::from_utf8_lossy(path)).collect();
            return Err(Trouble::Damaged(format!(
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

    /// Puts aside a series that was acknowledged and cannot be applied: its record is damaged, or is for
    /// other trees. Its files go beside the conflict stores. The copy here is not whole from now on.
    ///
    /// # Errors
    /// The system refused.
    pub fn set_aside(&self, why: &str) -> Result<(), Trouble> {
        self.set_broken(why)?;
        for tree in &self.trees {
            let fail = |error| failed(&tree.area.path().display(), "cannot be put aside", error);
            for name in staging_area::names(tree.area.incoming()).map_err(fail)? {
                let to = [b"damaged-".as_slice(), &name].concat();
                let _ = staging_area::remove_all(tree.area.conflicts(), &to);
                nix::fcntl::renameat(
                    tree.area.incoming(),
                    name.as_slice(),
                    tree.area.conflicts(),
                    to.as_slice(),
                )
                .map_err(fail)?;
            }
        }
        self.clear()
    }

    /// The trees are not the state of any commit: said durably, until they are again.
    ///
    /// # Errors
    /// The system refused.
    pub fn set_broken(&self, why: &str) -> Result<(), Trouble> {
        record::write(self.home(), record::BROKEN, &why.to_owned())
            .and_then(|()| record::sync(self.home()))
            .map_err(|error| failed(&self.home_path.display(), "cannot keep a record", error))?;
        *self.lock_broken() = Some(why.to_owned());
        Ok(())
    }

    /// The trees are the state of a commit again, or an administrator took them as they are.
    ///
    /// # Errors
    /// The system refused.
    pub fn mend(&self) -> Result<(), Trouble> {
        if self.broken().is_none() {
            return Ok(());
        }
        match unlinkat(self.home(), record::BROKEN, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {
                *self.lock_broken() = None;
                Ok(())
            }
            Err(error) => Err(failed(&self.home_path.display(), "cannot remove a record", error)),
        }
    }

    /// Why the trees are not the state of any commit; `None`: they are.
    pub fn broken(&self) -> Option<String> {
        self.lock_broken().clone()
    }

    fn lock_broken(&self) -> MutexGuard<'_, Option<String>> {
        // A panic ends the process: there is no poison.
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Trees whose file system cannot hold what others can, in words.
    pub fn shortcomings(&self) -> Vec<String> {
        let coarse = self.trees.iter().filter(|tree| tree.area.has_coarse_times());
        let words = |tree: &StagedTree| {
            let path = tree.path.display();
            format!("times below a second of {path}: the file system here cannot hold them")
        };
        coarse.map(words).collect()
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
        for name in staging_area::names(self.home()).map_err(at_home)? {
            if name == record::BROKEN.as_bytes() {
                continue;
            }
            unlinkat(self.home(), name.as_slice(), UnlinkatFlags::NoRemoveDir).map_err(at_home)?;
        }
        for tree in &self.trees {
            if let Err(error) = tree.area.clear() {
                // It is in nobody's way, and is tried again with the next series.
                let path = tree.area.path().display();
                log::warn!("{path}: cannot remove what was replaced: {}", error.desc());
            }
        }
        Ok(())
    }

    fn unreadable(&self, name: &str, error: Errno) -> Trouble {
        let path = self.home_path.join(name);
        if error != Errno::EBADMSG {
            return failed(&path.display(), "cannot be read", error);
        }
        Trouble::Damaged(format!(
            "{}: the record of acknowledged changes is damaged; look at the disk. The copy here is not \
             whole until everything was compared with the peer again",
            path.display(),
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

    /// The commit that the trees are at when it is applied.
    pub(super) fn position(&self) -> Position {
        Position { generation: self.manifest.generation, commit: self.manifest.commit }
    }

    /// Says durably that the trees are at its commit, and that others may write to them from now on.
    ///
    /// # Errors
    /// The system refused: then they must not.
    pub(super) fn set_brought(&self) -> Result<(), Trouble> {
        self.say(record::BROUGHT, &())
    }

    /// Whether others may have written to the trees since they were at its commit.
    pub(super) fn is_brought(&self) -> Result<bool, Trouble> {
        match record::read::<()>(self.stage.home(), record::BROUGHT) {
            Ok(found) => Ok(found.is_some()),
            Err(Errno::EBADMSG) => Ok(true),
            Err(error) => Err(self.stage.unreadable(record::BROUGHT, error)),
        }
    }

    /// Says durably that the files of these ops may be patched in part from now on, and that nobody had
    /// changed them.
    ///
    /// # Errors
    /// The system refused: then they must not.
    pub(super) fn set_patched(&self, orders: &BTreeSet<(u32, u32)>) -> Result<(), Trouble> {
        self.say(record::PATCHED, orders)
    }

    /// The ops whose files may be patched in part.
    pub(super) fn patched(&self) -> Result<BTreeSet<(u32, u32)>, Trouble> {
        match record::read(self.stage.home(), record::PATCHED) {
            Ok(found) => Ok(found.unwrap_or_default()),
            Err(error) => Err(self.stage.unreadable(record::PATCHED, error)),
        }
    }

    fn say<T: serde::Serialize>(&self, name: &str, what: &T) -> Result<(), Trouble> {
        let home = self.stage.home();
        record::write(home, name, what)
            .and_then(|()| record::sync(home))
            .map_err(|error| failed(&self.stage.home_path.display(), "cannot keep a record", error))
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
