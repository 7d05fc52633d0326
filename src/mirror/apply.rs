//! Bringing a staged series into the trees.
//!
//! Everything here can be done again: after a crash at any point, [`apply`] called anew ends in the same
//! trees, index and conflict store. The order:
//!
//! 1. what is in the way goes to the conflict store, all of it durable at once; 2. directories, parents
//!    first; 3. files and symlinks, each by one rename of a whole file; 4. further names of files;
//! 5. deletions, deepest first; 6. directories' metadata; 7. all of this durable; 8. the index, with the
//!    position last; 9. the record goes.
//!
//! What is in the way goes by the rule of `victim`, which is asked again before each rename. Between
//! that look and the rename are microseconds in which a write on this node is not noticed; a writer that
//! has the file open keeps writing into the kept one. Everything is reached through [`Root`], so nothing outside a tree can be touched.

mod place;
mod plan;
mod victim;

use std::collections::BTreeSet;

use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use super::area::{errno, failed, from_index, from_tree};
use super::conflict::Occasion;
use super::entry::{Entry, Key, Kind, RelPath, Seen, Stored, TreeId};
use super::index::{Index, Position};
use super::meta;
use super::proto::{Change, Trouble};
use super::stage::{How, Ready, Stage, StagedOp, StagedTree, root};
use super::steps::Steps;
use super::tree::{Root, TreeError};
use crate::limits;
use plan::{Order, Plan};
use victim::is_kind_of;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Conflicts in the stores of these trees, in all.
    pub conflicts: u64,
    /// Files that could not become what they should, because somebody wrote to them on this node after
    /// the owner was told that their content is here. They are as they were, also in the index: the
    /// trees are not at the commit until the owner has sent them again.
    pub unfinished: Vec<Key>,
}

/// Applies a series, also one that was applied in part before a crash. `roots` are the trees' roots in
/// order; that they are the right ones is known to the caller.
///
/// # Errors
/// The system refused: the series stays ready, and is to be applied again.
pub fn apply(
    ready: &Ready,
    roots: &[Root],
    index: &Index,
    steps: &mut Steps,
) -> Result<Applied, Trouble> {
    let manifest = ready.manifest();
    let position = Position { generation: manifest.generation, commit: manifest.commit };
    let mut unfinished = BTreeSet::new();
    if index.position().map_err(from_index)? != Some(position) {
        let mut run = Run {
            ready,
            stage: ready.stage(),
            roots,
            index,
            steps,
            plan: Plan::of(ready)?,
            name: manifest.name(),
            occasion: Occasion {
                time_ms: manifest.time_ms,
                seed: manifest.name(),
                generation: Some(manifest.generation.number),
            },
            in_place: Vec::new(),
            kept: BTreeSet::new(),
            unfinished: BTreeSet::new(),
        };
        run.keep_victims()?;
        run.directories()?;
        run.files()?;
        run.links()?;
        run.deletions()?;
        run.directory_metadata()?;
        run.make_durable()?;
        run.commit(position)?;
        unfinished = run.unfinished;
    }
    steps.take()?;
    ready.finish()?;
    let unfinished = unfinished.into_iter().collect();
    Ok(Applied { conflicts: ready.stage().conflicts()?, unfinished })
}

/// One run through a series.
struct Run<'a> {
    ready: &'a Ready,
    stage: &'a Stage,
    roots: &'a [Root],
    index: &'a Index,
    steps: &'a mut Steps,
    plan: Plan,
    /// The name of the series' directories.
    name: String,
    occasion: Occasion,
    /// Files whose metadata were set in place: one more than are synced one by one, at most.
    in_place: Vec<Key>,
    /// What was in the way at their names is kept durably.
    kept: BTreeSet<Key>,
    unfinished: BTreeSet<Key>,
}

impl<'a> Run<'a> {
    fn tree(&self, key: &Key) -> Result<(&'a StagedTree, &'a Root), Trouble> {
        Ok((self.stage.tree(key.tree)?, root(self.roots, key.tree)?))
    }

    /// The puts that decide what their name becomes, with their places, batch by batch.
    fn each_put(
        &mut self,
        mut act: impl FnMut(&mut Self, Order, &Key, &Entry, How) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        for batch in 0..self.ready.manifest().batches {
            for (number, staged) in (0u32..).zip(self.ready.batch(batch)?) {
                let StagedOp { op, how } = staged;
                let order = (batch, number);
                match &op.change {
                    Change::Put(entry) if self.plan.wins(&op.key, order) => {
                        act(self, order, &op.key, entry, how)?;
                    }
                    Change::Put(_) | Change::Delete => (),
                }
            }
        }
        Ok(())
    }

    /// Keeps what is in the way. What somebody here writes after this is kept when its turn comes.
    fn keep_victims(&mut self) -> Result<(), Trouble> {
        self.each_put(|run, _, key, entry, how| match (&entry.kind, how) {
            (Kind::File(_), How::Staged { .. }) | (Kind::Symlink { .. }, _) => {
                run.keep_victim(key, Some(entry))
            }
            // Nothing is replaced, or seldom.
            (Kind::File(_) | Kind::Dir | Kind::Link { .. }, _) => Ok(()),
        })?;
        let deletions: Vec<Key> = self.plan.deletions.keys().cloned().collect();
        deletions.iter().try_for_each(|key| self.keep_victim(key, None))?;
        let trees: BTreeSet<TreeId> = self.kept.iter().map(|key| key.tree).collect();
        trees.into_iter().try_for_each(|tree| self.stage.tree(tree)?.store.sync())
    }

    fn directories(&mut self) -> Result<(), Trouble> {
        let directories: Vec<(Key, Entry)> = self
            .plan
            .directories
            .iter()
            .filter(|(key, _)| !key.path.is_root())
            .map(|(key, entry)| (key.clone(), entry.clone()))
            .collect();
        directories.iter().try_for_each(|(key, entry)| self.put_directory(key, entry))
    }

    fn files(&mut self) -> Result<(), Trouble> {
        self.each_put(|run, order, key, entry, how| match (&entry.kind, how) {
            (Kind::Dir | Kind::Link { .. }, _) => Ok(()),
            (Kind::Symlink { target }, _) => run.put_symlink(key, entry, target),
            (Kind::File(_), How::Staged { .. }) => run.put_staged(order, key, entry),
            (Kind::File(_), How::InPlace { base }) => run.put_in_place(key, entry, base),
            (Kind::File(_), How::Plain | How::Dropped) => {
                Err(Trouble::Failed("a staged file without its content".to_owned()))
            }
        })
    }

    fn links(&mut self) -> Result<(), Trouble> {
        self.each_put(|run, _, key, entry, _| match &entry.kind {
            Kind::Link { to } => run.put_link(key, entry, to),
            Kind::Dir | Kind::File(_) | Kind::Symlink { .. } => Ok(()),
        })
    }

    fn deletions(&mut self) -> Result<(), Trouble> {
        let deletions: Vec<(Key, Order)> =
            self.plan.deletions.iter().map(|(key, order)| (key.clone(), *order)).collect();
        deletions.iter().rev().try_for_each(|(key, order)| self.clear(key, Some(*order)))
    }

    /// Directories of the series become what it says; others in which a name came or went get their
    /// time back.
    fn directory_metadata(&mut self) -> Result<(), Trouble> {
        let mut keys = self.plan.touched.clone();
        keys.extend(self.plan.directories.keys().cloned());
        for key in keys.iter().rev() {
            let (tree, root) = self.tree(key)?;
            let fail = |doing: &str, error| tree.failed(&key.path, doing, error);
            let directory = match root.open_dir(&key.path) {
                Ok(directory) => directory,
                // Deleted by the series, or just now by somebody here.
                Err(TreeError::Gone(_)) => continue,
                Err(error) => return Err(from_tree(error)),
            };
            if let Some(entry) = self.plan.directories.get(key) {
                self.steps.take()?;
                meta::set(&directory, entry).map_err(|error| {
                    fail(&format!("{} cannot be set", error.what), errno(&error.source))
                })?;
            } else if let Some(Stored { entry: Some(entry), .. }) =
                self.index.get(key).map_err(from_index)?
            {
                self.steps.take()?;
                let mtime = entry.mtime;
                let mtime = TimeSpec::new(mtime.s, mtime.ns.into());
                futimens(&directory, &TimeSpec::UTIME_OMIT, &mtime)
                    .map_err(|error| fail("its time cannot be set", error))?;
            }
        }
        Ok(())
    }

    /// What was renamed, removed and set is on disk, before the index says so.
    fn make_durable(&mut self) -> Result<(), Trouble> {
        for (id, tree) in self.stage.trees() {
            let in_tree = |key: &&Key| key.tree == id;
            let directories: BTreeSet<&Key> = self
                .plan
                .touched
                .iter()
                .chain(self.plan.directories.keys())
                .filter(in_tree)
                .collect();
            let files: Vec<&Key> = self.in_place.iter().filter(in_tree).collect();
            if directories.is_empty() && files.is_empty() {
                continue;
            }
            let root = root(self.roots, id)?;
            self.steps.take()?;
            if directories.len() + files.len() > limits::SYNC_EACH_MAX {
                let handle = root.open_dir(&RelPath::root()).map_err(from_tree)?;
                nix::unistd::syncfs(&handle)
                    .map_err(|error| failed(&tree.path.display(), "cannot be synced", error))?;
                continue;
            }
            let opened = directories.iter().map(|key| (*key, root.open_dir(&key.path)));
            for (key, opened) in
                opened.chain(files.iter().map(|key| (*key, root.open_file(&key.path))))
            {
                match opened {
                    Ok(file) => file.sync_all().map_err(|error| {
                        tree.failed(&key.path, "cannot be synced", errno(&error))
                    })?,
                    // Deleted by the series, or just now by somebody here.
                    Err(TreeError::Gone(_) | TreeError::NotAFile(_)) => (),
                    Err(error) => return Err(from_tree(error)),
                }
            }
        }
        Ok(())
    }

    /// The index becomes what the trees are. In several transactions, so that any series fits into
    /// memory: until the last one the position says that the series is to be applied again.
    fn commit(&mut self, position: Position) -> Result<(), Trouble> {
        let deletions: Vec<Key> = self.plan.deletions.keys().cloned().collect();
        for keys in deletions.chunks(limits::APPLY_CHANGES_MAX) {
            let changes: Vec<_> = keys.iter().map(|key| (key.clone(), None)).collect();
            self.commit_some(&changes)?;
        }
        let mut changes = Vec::new();
        self.each_put(|run, _, key, entry, how| {
            if run.unfinished.contains(key) {
                return Ok(());
            }
            let seen = run.seen(key, entry, how)?;
            changes.push((key.clone(), Some(Stored { entry: Some(entry.clone()), seen })));
            if changes.len() >= limits::APPLY_CHANGES_MAX {
                run.commit_some(&changes)?;
                changes.clear();
            }
            Ok(())
        })?;
        self.commit_some(&changes)?;
        // Directories in which names came or went look different now, and are not.
        let mut seen = Vec::new();
        for key in &self.plan.touched {
            if self.plan.directories.contains_key(key) {
                continue;
            }
            if let Some(Stored { entry: Some(entry), .. }) =
                self.index.get(key).map_err(from_index)?
                && let Some(now) = self.seen(key, &entry, How::Plain)?
            {
                seen.push((key.clone(), now));
            }
        }
        if !seen.is_empty() {
            self.index.set_seen(&seen).map_err(from_index)?;
        }
        self.steps.take()?;
        let position = self.unfinished.is_empty().then_some(position);
        self.index.commit(&[], position, &[], true).map_err(from_index)
    }

    fn commit_some(&mut self, changes: &[(Key, Option<Stored>)]) -> Result<(), Trouble> {
        if changes.is_empty() {
            return Ok(());
        }
        self.steps.take()?;
        self.index.commit(changes, None, &[], false).map_err(from_index)
    }

    /// How a name looks now, if that proves that it is this entry.
    fn seen(&self, key: &Key, entry: &Entry, how: How) -> Result<Option<Seen>, Trouble> {
        let (_, root) = self.tree(key)?;
        let Some(look) = meta::look(root, &key.path).map_err(from_tree)? else { return Ok(None) };
        let is_ours = match (&entry.kind, how) {
            (Kind::File(_), How::Staged { ino }) => look.seen.ino == ino,
            (Kind::File(_), How::InPlace { base }) => {
                base.is_some_and(|base| base.ino == look.seen.ino)
            }
            (Kind::Link { to }, _) => {
                let to = meta::quick(root, to).map_err(from_tree)?;
                to.is_some_and(|(to, _)| to.ino == look.seen.ino)
            }
            (Kind::File(_), How::Plain | How::Dropped) => false,
            (Kind::Dir | Kind::Symlink { .. }, _) => true,
        };
        let proves = is_ours && is_kind_of(&look, entry) && look.has_metadata_of(entry);
        Ok((proves && look.settled).then_some(look.seen))
    }
}

#[cfg(test)]
mod tests;
