//! Bringing single names into place, each by one rename, and taking away what is in the way.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, renameat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::Run;
use super::plan::{Order, above};
use super::victim::{Judge, is_kind_of};
use crate::limits;
use crate::mirror::area::{self, errno, from_index, from_tree};
use crate::mirror::conflict::{Victim, Why};
use crate::mirror::entry::{Entry, Key, Kind, RelPath, Seen};
use crate::mirror::meta::{self, Look, Sort, What};
use crate::mirror::proto::Trouble;
use crate::mirror::stage::{StagedTree, staged_name};
use crate::mirror::tree::TreeError;

/// Names in a series' directory of what is made there and renamed at once.
const NEW_DIRECTORY: &str = "directory";
const NEW_SYMLINK: &str = "symlink";
const NEW_LINK: &str = "link";

impl Run<'_> {
    /// A directory that will be there. Its metadata are set as it is made, and again at the end.
    pub(super) fn put_directory(&mut self, key: &Key, entry: &Entry) -> Result<(), Trouble> {
        let (tree, root) = self.tree(key)?;
        if let Some((_, Sort::Dir)) = meta::quick(root, &key.path).map_err(from_tree)? {
            return Ok(());
        }
        let Some(parent) = self.make_way(key, Some(entry))? else { return Ok(()) };
        let fail = |error| tree.failed(&key.path, "the directory cannot be made", error);
        // A directory does not replace a file.
        self.unlink(key)?;
        let series = tree.series(&self.name)?;
        self.steps.take()?;
        let new = area::made_directory(series.as_fd(), NEW_DIRECTORY).map_err(fail)?;
        meta::set(&new, entry).map_err(|error| fail(errno(&error.source)))?;
        self.steps.take()?;
        renameat(&series, NEW_DIRECTORY, &parent, key.path.name()).map_err(fail)
    }

    /// A file that lies whole in the staging area. If it does not, it is in place already.
    pub(super) fn put_staged(
        &mut self,
        (batch, number): Order,
        key: &Key,
        entry: &Entry,
    ) -> Result<(), Trouble> {
        let (tree, _) = self.tree(key)?;
        let series = tree.series(&self.name)?;
        let name = staged_name(batch, number);
        let fail = |error| tree.failed(&key.path, "cannot be replaced", error);
        if area::stat_at(series.as_fd(), name.as_str()).map_err(fail)?.is_none() {
            return Ok(());
        }
        let Some(parent) = self.make_way(key, Some(entry))? else { return Ok(()) };
        self.steps.take()?;
        renameat(&series, name.as_str(), &parent, key.path.name()).map_err(fail)
    }

    /// A file whose content is there: only metadata change.
    pub(super) fn put_in_place(
        &mut self,
        key: &Key,
        entry: &Entry,
        base: Option<Seen>,
    ) -> Result<(), Trouble> {
        let (tree, root) = self.tree(key)?;
        let look = meta::look(root, &key.path).map_err(from_tree)?;
        let Some(look) = look.filter(|look| look.what == What::File) else {
            self.unfinished.insert(key.clone());
            return Ok(());
        };
        let keep = self.plan.keeps(key);
        let judge = Judge { tree, root, index: self.index, key, look: &look, keep };
        if base != Some(look.seen) && !judge.has_content_of(entry)? {
            self.unfinished.insert(key.clone());
            return Ok(());
        }
        if self.in_place.len() <= limits::SYNC_EACH_MAX {
            self.in_place.push(key.clone());
        }
        if look.has_metadata_of(entry) {
            return Ok(());
        }
        if judge.verdict(Some(entry))?.is_some() {
            self.keep_durably(key, &look, Why::Metadata)?;
        }
        self.steps.take()?;
        let file = root.open_file(&key.path).map_err(from_tree)?;
        meta::set(&file, entry).map_err(|error| {
            tree.failed(&key.path, &format!("{} cannot be set", error.what), errno(&error.source))
        })
    }

    /// A symbolic link.
    pub(super) fn put_symlink(
        &mut self,
        key: &Key,
        entry: &Entry,
        target: &[u8],
    ) -> Result<(), Trouble> {
        let (tree, root) = self.tree(key)?;
        let look = meta::look(root, &key.path).map_err(from_tree)?;
        if look.is_some_and(|look| is_kind_of(&look, entry) && look.has_metadata_of(entry)) {
            return Ok(());
        }
        let Some(parent) = self.make_way(key, Some(entry))? else { return Ok(()) };
        let series = tree.series(&self.name)?;
        let fail = |error| tree.failed(&key.path, "the symbolic link cannot be made", error);
        discard(&series, NEW_SYMLINK).map_err(fail)?;
        self.steps.take()?;
        symlinkat(target, &series, NEW_SYMLINK).map_err(fail)?;
        meta::set_at(&series, NEW_SYMLINK.as_bytes(), entry)
            .map_err(|error| fail(errno(&error.source)))?;
        self.steps.take()?;
        renameat(&series, NEW_SYMLINK, &parent, key.path.name()).map_err(fail)
    }

    /// One more name of the file at `to`, which is in place by now.
    pub(super) fn put_link(
        &mut self,
        key: &Key,
        entry: &Entry,
        to: &RelPath,
    ) -> Result<(), Trouble> {
        let (tree, root) = self.tree(key)?;
        let first = meta::quick(root, to).map_err(from_tree)?;
        let Some((first, Sort::File)) = first else {
            self.unfinished.insert(key.clone());
            return Ok(());
        };
        let here = meta::quick(root, &key.path).map_err(from_tree)?;
        // To rename one name of an inode over another does nothing, and leaves both.
        if here.is_some_and(|(here, _)| here.ino == first.ino) {
            return Ok(());
        }
        let Some(parent) = self.make_way(key, Some(entry))? else { return Ok(()) };
        let series = tree.series(&self.name)?;
        let (of, name) = root.open_parent(to).map_err(from_tree)?;
        let fail = |error| tree.failed(&key.path, "the hard link cannot be made", error);
        discard(&series, NEW_LINK).map_err(fail)?;
        self.steps.take()?;
        linkat(&of, name, &series, NEW_LINK, AtFlags::empty()).map_err(fail)?;
        self.steps.take()?;
        renameat(&series, NEW_LINK, &parent, key.path.name()).map_err(fail)
    }

    /// Opens the directory in which a name comes, made if somebody here took it away. What is at the
    /// name may be replaced afterwards: what had to be kept is kept, a directory is gone. `None`: nothing
    /// is known of the directory; the name is unfinished.
    fn make_way(&mut self, key: &Key, new: Option<&Entry>) -> Result<Option<OwnedFd>, Trouble> {
        let (_, root) = self.tree(key)?;
        let parent = match root.open_parent(&key.path) {
            Err(TreeError::Gone(_)) => {
                if !self.make_parents(key)? {
                    // What was acknowledged must be finished, whatever it is: the owner is asked anew
                    // for what this leaves open.
                    self.unfinished.insert(key.clone());
                    return Ok(None);
                }
                root.open_parent(&key.path)
            }
            opened => opened,
        };
        let (parent, _) = parent.map_err(from_tree)?;
        match meta::look(root, &key.path).map_err(from_tree)? {
            None => (),
            Some(Look { what: What::Dir, .. }) => self.clear(key, None)?,
            Some(look) => self.spare(key, &look, new)?,
        }
        Ok(Some(parent))
    }

    /// Makes the directories above a name that were taken away here, as the index knows them. False: it
    /// does not know one of them.
    fn make_parents(&mut self, key: &Key) -> Result<bool, Trouble> {
        for path in above(&key.path) {
            let key = Key { tree: key.tree, path };
            let (_, root) = self.tree(&key)?;
            if let Some((_, Sort::Dir)) = meta::quick(root, &key.path).map_err(from_tree)? {
                continue;
            }
            let stored = self.index.get(&key).map_err(from_index)?;
            let entry = stored.and_then(|stored| stored.entry);
            let Some(entry) = entry.filter(|entry| entry.kind == Kind::Dir) else {
                return Ok(false);
            };
            self.put_directory(&key, &entry)?;
            self.plan.touched.insert(key.clone());
            if let Some(parent) = key.path.parent() {
                self.plan.touched.insert(Key { tree: key.tree, path: parent });
            }
        }
        Ok(true)
    }

    /// Takes a name away with everything below it, deepest first; what the series puts after `order`
    /// stays, and the directories that it is in.
    pub(super) fn clear(&mut self, key: &Key, order: Option<Order>) -> Result<(), Trouble> {
        let (tree, root) = self.tree(key)?;
        let mut stays_in = BTreeSet::new();
        let mut open = vec![(key.clone(), false)];
        while let Some((key, was_descended)) = open.pop() {
            let fail = |error| tree.failed(&key.path, "cannot be removed", error);
            let mut stays = order.is_some_and(|order| self.plan.is_put_after(&key, order));
            match meta::quick(root, &key.path).map_err(from_tree)? {
                None => continue,
                Some((_, Sort::Dir)) if !was_descended => {
                    let directory = root.open_dir(&key.path).map_err(from_tree)?;
                    open.push((key.clone(), true));
                    for name in area::names(directory.as_fd()).map_err(fail)? {
                        let path = key.path.join(&name).map_err(|_| fail(Errno::ENAMETOOLONG))?;
                        open.push((Key { tree: key.tree, path }, false));
                    }
                    continue;
                }
                Some((_, Sort::Dir)) => {
                    stays |= stays_in.remove(&key.path);
                    if !stays {
                        let (parent, name) = root.open_parent(&key.path).map_err(from_tree)?;
                        self.steps.take()?;
                        unlinkat(&parent, name, UnlinkatFlags::RemoveDir).map_err(fail)?;
                    }
                }
                Some((_, Sort::File | Sort::Symlink | Sort::Other(_))) if stays => (),
                Some((_, Sort::File | Sort::Symlink | Sort::Other(_))) => {
                    let look = meta::look(root, &key.path).map_err(from_tree)?;
                    if let Some(look) = look {
                        self.spare(&key, &look, None)?;
                        self.unlink(&key)?;
                    }
                }
            }
            if stays && let Some(parent) = key.path.parent() {
                stays_in.insert(parent);
            }
        }
        Ok(())
    }

    /// Keeps what is at a name, if somebody here wrote it; not durably yet.
    pub(super) fn keep_victim(&mut self, key: &Key, new: Option<&Entry>) -> Result<(), Trouble> {
        let (tree, root) = self.tree(key)?;
        let look = match meta::look(root, &key.path) {
            Ok(Some(look)) if look.what != What::Dir => look,
            // What is below a directory, or was mounted there, is judged when its turn comes.
            Ok(_) | Err(TreeError::Elsewhere(_)) => return Ok(()),
            Err(error) => return Err(from_tree(error)),
        };
        let keep = self.plan.keeps(key);
        let judge = Judge { tree, root, index: self.index, key, look: &look, keep };
        if let Some(why) = judge.verdict(new)? {
            self.keep(key, &look, why)?;
            self.kept.insert(key.clone());
        }
        Ok(())
    }

    /// Keeps what is at a name durably, if somebody here wrote it.
    fn spare(&mut self, key: &Key, look: &Look, new: Option<&Entry>) -> Result<(), Trouble> {
        let (tree, root) = self.tree(key)?;
        let keep = self.plan.keeps(key);
        let judge = Judge { tree, root, index: self.index, key, look, keep };
        match judge.verdict(new)? {
            None => Ok(()),
            Some(why) => self.keep_durably(key, look, why),
        }
    }

    fn keep_durably(&mut self, key: &Key, look: &Look, why: Why) -> Result<(), Trouble> {
        // What was kept before a crash may not be durable.
        if self.keep(key, look, why)? || !self.kept.contains(key) {
            self.tree(key)?.0.store.sync()?;
        }
        Ok(())
    }

    fn keep(&mut self, key: &Key, look: &Look, why: Why) -> Result<bool, Trouble> {
        let (tree, root) = self.tree(key)?;
        let (parent, _) = root.open_parent(&key.path).map_err(from_tree)?;
        let victim = Victim { parent: parent.as_fd(), path: &key.path, look, why };
        tree.store.keep(&victim, &self.occasion, self.steps)
    }

    /// Removes a name that is no directory, if it is there.
    fn unlink(&mut self, key: &Key) -> Result<(), Trouble> {
        let (tree, root): (&StagedTree, _) = self.tree(key)?;
        let (parent, name) = root.open_parent(&key.path).map_err(from_tree)?;
        let fail = |error| tree.failed(&key.path, "cannot be removed", error);
        if area::stat_at(parent.as_fd(), name).map_err(fail)?.is_none() {
            return Ok(());
        }
        self.steps.take()?;
        unlinkat(&parent, name, UnlinkatFlags::NoRemoveDir).map_err(fail)
    }
}

/// Removes what a crash left half made in a series' directory.
fn discard(series: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(series, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error),
    }
}
