//! Bringing single names into place, each by one rename, and taking names away by one.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat, renameat2};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use super::plan::{Directory, Order};
use super::sweep::gone_name;
use super::victim::{Judge, Place};
use super::{Halt, Run, not_reached, not_set, refused};
use crate::limits;
use crate::mirror::conflict::{Parent, Victim, Why};
use crate::mirror::entry::{Entry, Key, Kind, RelPath, Seen, TreeId};
use crate::mirror::meta::{self, Look, Sort, What};
use crate::mirror::proto::Trouble;
use crate::mirror::stage::{How, staged_name};
use crate::mirror::staging_area::{self, errno, from_index};
use crate::mirror::tree::{Root, TreeError};

impl Run<'_> {
    /// The series' directory of a tree.
    pub(super) fn series(&mut self, id: TreeId) -> Result<Rc<OwnedFd>, Trouble> {
        if let Some(series) = self.series.get(&id) {
            return Ok(series.clone());
        }
        let series = Rc::new(self.stage.tree(id)?.series(&self.name)?);
        self.series.insert(id, series.clone());
        Ok(series)
    }

    /// The directory in which a name comes, made if somebody here took it away.
    fn parent(&mut self, key: &Key) -> Result<Rc<OwnedFd>, Halt> {
        if let Some(parent) = self.parent_that_is_there(key)? {
            return Ok(parent);
        }
        self.make_parents(key)?;
        let parent = self.parent_that_is_there(key)?;
        parent.ok_or_else(|| Halt::One("its directory is not there".to_owned()))
    }

    fn parent_that_is_there(&mut self, key: &Key) -> Result<Option<Rc<OwnedFd>>, Halt> {
        let (tree, root) = self.tree(key)?;
        let path = key.path.parent().unwrap_or_else(RelPath::root);
        if let Some((since, of, handle)) = &self.parent
            && of.tree == key.tree
            && of.path == path
            && since.elapsed() < limits::PARENT_HANDLE_FOR
        {
            return Ok(Some(handle.clone()));
        }
        let handle = match root.open_parent(&key.path) {
            Ok((handle, _)) => Rc::new(handle),
            Err(TreeError::Gone(_)) => return Ok(None),
            Err(error) => return Err(not_reached(tree, &key.path, error)),
        };
        self.parent = Some((Instant::now(), Key { tree: key.tree, path }, handle.clone()));
        Ok(Some(handle))
    }

    /// Makes the directories above a name that were taken away here, as the index knows them.
    fn make_parents(&mut self, key: &Key) -> Result<(), Halt> {
        for path in key.path.above() {
            let key = Key { tree: key.tree, path };
            let (tree, root) = self.tree(&key)?;
            match meta::quick(root, &key.path) {
                Ok(Some((_, Sort::Dir))) => continue,
                Ok(_) => (),
                Err(error) => return Err(not_reached(tree, &key.path, error)),
            }
            let stored = self.index.get(&key).map_err(from_index)?;
            let entry = stored.and_then(|stored| stored.entry);
            let Some(entry) = entry.filter(|entry| entry.kind == Kind::Dir) else {
                return Err(Halt::One("its directory is not there".to_owned()));
            };
            self.make_directory(&key, &entry)?;
            self.done.plan.touched.insert(key.clone());
            if let Some(parent) = key.path.parent() {
                self.done.plan.touched.insert(Key { tree: key.tree, path: parent });
            }
        }
        Ok(())
    }

    /// A directory that will be there. One that is there stays; its metadata are set at the end.
    pub(super) fn put_directory(&mut self, key: &Key, directory: &Directory) -> Result<(), Halt> {
        if let How::Staged { ino } = directory.how {
            return self.put_staged(directory.order, key, ino);
        }
        let (tree, root) = self.tree(key)?;
        match meta::quick(root, &key.path) {
            Ok(Some((_, Sort::Dir))) => Ok(()),
            // Somebody here took it away after it was staged.
            Ok(_) => self.make_directory(key, &directory.entry),
            Err(error) => Err(not_reached(tree, &key.path, error)),
        }
    }

    /// Makes a directory that somebody here took away.
    fn make_directory(&mut self, key: &Key, entry: &Entry) -> Result<(), Halt> {
        const NEW: &str = "directory";
        let (tree, _) = self.tree(key)?;
        let parent = self.parent(key)?;
        let series = self.series(key.tree)?;
        let fail = |error| refused(tree, &key.path, "the directory cannot be made", error);
        self.crash_points.take()?;
        // What a crash left there was kept before it was put there.
        match unlinkat(&*series, NEW, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT | Errno::EISDIR | Errno::EPERM) => {}
            Err(error) => return Err(fail(error)),
        }
        let new = staging_area::made_directory(series.as_fd(), NEW).map_err(fail)?;
        meta::set(&new, entry).map_err(|error| not_set(tree, &key.path, &error))?;
        self.crash_points.take()?;
        let done =
            renameat2(&*series, NEW, &*parent, key.path.name(), RenameFlags::RENAME_NOREPLACE);
        match done {
            // What is there is no directory, and no op says that it goes: it is judged at once.
            Err(Errno::EEXIST) => {
                self.spare(key)?;
                self.crash_points.take()?;
                let exchange = RenameFlags::RENAME_EXCHANGE;
                renameat2(&*series, NEW, &*parent, key.path.name(), exchange).map_err(fail)?;
                unlinkat(&*series, NEW, UnlinkatFlags::NoRemoveDir).map_err(fail)
            }
            done => done.map_err(fail),
        }
    }

    /// What lies whole in the staging area, by this inode number. If it does not, it is in place already.
    pub(super) fn put_staged(&mut self, order: Order, key: &Key, ino: u64) -> Result<(), Halt> {
        let (tree, _) = self.tree(key)?;
        let series = self.series(key.tree)?;
        let name = staged_name(order.0, order.1);
        let fail = |error| refused(tree, &key.path, "cannot be replaced", error);
        match staging_area::stat_at(series.as_fd(), name.as_str()).map_err(fail)? {
            Some(staged) if staged.st_ino == ino => self.swap(order, key)?,
            // Something else: what it has changed places with.
            Some(_) => return Ok(()),
            None if self.came_with_directory(key) => {}
            None if self.unpack(order, key, ino)? => self.swap(order, key)?,
            None => return Ok(()),
        }
        if self.done.plan.new_directory(key) == Some(order) {
            self.done.whole.insert(key.clone());
        }
        Ok(())
    }

    fn came_with_directory(&self, key: &Key) -> bool {
        let parent = key.path.parent().map(|path| Key { tree: key.tree, path });
        parent.is_some_and(|parent| self.done.whole.contains(&parent))
    }

    /// Takes what is staged for an op out of the new directory in which it was packed, if that could not come
    /// in. Whether it was there.
    fn unpack(&mut self, order: Order, key: &Key, ino: u64) -> Result<bool, Halt> {
        let parent = key.path.parent().map(|path| Key { tree: key.tree, path });
        let above = parent.and_then(|parent| self.done.plan.new_directory(&parent));
        let Some(above) = above else { return Ok(false) };
        let (tree, _) = self.tree(key)?;
        let series = self.series(key.tree)?;
        let fail =
            |error| refused(tree, &key.path, "cannot be taken from where it is staged", error);
        let packed = match staging_area::directory(series.as_fd(), &staged_name(above.0, above.1)) {
            Ok(packed) => packed,
            // It came in, and is what somebody here had there.
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(false),
            Err(error) => return Err(fail(error)),
        };
        let name = key.path.name();
        let there = meta::quick_at(&packed, name).map_err(|error| fail(errno(&error)))?;
        if there.is_none_or(|(seen, _)| seen.ino != ino) {
            return Ok(false);
        }
        self.crash_points.take()?;
        let to = staged_name(order.0, order.1);
        renameat(&packed, name, &*series, to.as_str()).map_err(fail)?;
        Ok(true)
    }

    /// What is staged under the name of this op comes in, by one rename. What was there lies in its place
    /// then.
    fn swap(&mut self, order: Order, key: &Key) -> Result<(), Halt> {
        let (tree, _) = self.tree(key)?;
        let parent = self.parent(key)?;
        let series = self.series(key.tree)?;
        let (staged, name) = (staged_name(order.0, order.1), key.path.name());
        let fail = |error| refused(tree, &key.path, "cannot be replaced", error);
        // Its time moves.
        if let Some(path) = key.path.parent() {
            self.done.whole.remove(&Key { tree: key.tree, path });
        }
        let free = RenameFlags::RENAME_NOREPLACE;
        self.crash_points.take()?;
        match renameat2(&*series, staged.as_str(), &*parent, name, free) {
            Err(Errno::EEXIST) => {}
            done => return done.map_err(fail),
        }
        let there = meta::quick_at(&*parent, name).map_err(|error| fail(errno(&error)))?;
        let (seen, _) = there.ok_or_else(|| fail(Errno::ENOENT))?;
        self.must_be_as_before(key, seen)?;
        self.note(order, seen);
        self.crash_points.take()?;
        let exchange = RenameFlags::RENAME_EXCHANGE;
        match renameat2(&*series, staged.as_str(), &*parent, name, exchange) {
            // A file system that cannot.
            Err(Errno::EINVAL) => {
                self.put_aside(order, key, &parent)?;
                renameat2(&*series, staged.as_str(), &*parent, name, free).map_err(fail)
            }
            done => done.map_err(fail),
        }
    }

    /// When others have written to the trees since they were at the commit: what is at a name must be what
    /// the commit before left there, or it is theirs.
    fn must_be_as_before(&self, key: &Key, seen: Seen) -> Result<(), Halt> {
        if !self.careful {
            return Ok(());
        }
        let changed = || Halt::One("it was changed here in the meantime".to_owned());
        let stored = self.index.get(key).map_err(from_index)?.ok_or_else(changed)?;
        let is_dir = stored.entry.as_ref().is_some_and(|entry| entry.kind == Kind::Dir);
        match stored.seen {
            Some(before) if before == seen => Ok(()),
            // Names came and went in it; it is judged name by name when it is out of the tree.
            Some(before) if is_dir && before.ino == seen.ino => Ok(()),
            Some(_) | None => {
                let (tree, root) = self.tree(key)?;
                let look = meta::look(root, &key.path);
                let look = look.map_err(|error| not_reached(tree, &key.path, error))?;
                let look = look.ok_or_else(changed)?;
                let place = Place::InTree { root };
                let judge = Judge { tree, place, index: self.index, key, look: &look, keep: false };
                match judge.verdict(None)? {
                    None => Ok(()),
                    Some(_) => Err(changed()),
                }
            }
        }
    }

    /// How something looked right before it was replaced or removed.
    fn note(&mut self, order: Order, seen: Seen) {
        if self.done.replaced.len() < limits::REPLACED_SEEN_MAX {
            self.done.replaced.insert(order, seen);
        }
    }

    /// A file whose content is there: only metadata change.
    pub(super) fn put_in_place(
        &mut self,
        key: &Key,
        entry: &Entry,
        base: Option<Seen>,
    ) -> Result<(), Halt> {
        let changed = || Halt::One("it was changed here in the meantime".to_owned());
        let (tree, root) = self.tree(key)?;
        let look = meta::look(root, &key.path);
        let look = look.map_err(|error| not_reached(tree, &key.path, error))?;
        let look = look.filter(|look| look.what == What::File).ok_or_else(changed)?;
        let place = Place::InTree { root };
        let keep = self.done.plan.keeps(key);
        let judge = Judge { tree, place, index: self.index, key, look: &look, keep };
        if base != Some(look.seen) && !judge.has_content_of(entry)? {
            return Err(changed());
        }
        if self.done.in_place.len() <= limits::SYNC_EACH_MAX {
            self.done.in_place.push(key.clone());
        }
        if look.has_metadata_of(entry) {
            return Ok(());
        }
        if judge.verdict(Some(entry))?.is_some() {
            if self.careful {
                return Err(changed());
            }
            self.keep_metadata(key, &look)?;
        }
        self.crash_points.take()?;
        let file = root.open_file(&key.path);
        let file = file.map_err(|error| not_reached(tree, &key.path, error))?;
        meta::set(&file, entry).map_err(|error| not_set(tree, &key.path, &error))
    }

    /// Whether somebody here changed a directory's owner, mode or attributes. Its time moves with the names
    /// in it, and is no news.
    pub(super) fn is_changed_directory(&self, key: &Key, new: &Entry) -> Result<bool, Halt> {
        let (tree, root) = self.tree(key)?;
        let look = meta::look(root, &key.path);
        let look = look.map_err(|error| not_reached(tree, &key.path, error))?;
        let Some(look) = look.filter(|look| look.what == What::Dir) else { return Ok(false) };
        let differs = |entry: &Entry| {
            (look.mode, look.uid, look.gid) != (entry.mode, entry.uid, entry.gid)
                || look.xattrs != entry.xattrs
        };
        let Some(stored) = self.index.get(key).map_err(from_index)? else { return Ok(false) };
        let is_own = match &stored.entry {
            Some(entry) => entry.kind == Kind::Dir && differs(entry),
            // In no commit: somebody here made it so. But the root of a tree that is taken in for the first
            // time was only made for that.
            None => !key.path.is_root() || self.index.position().map_err(from_index)?.is_some(),
        };
        Ok(is_own && differs(new))
    }

    /// Whether a directory still is what the commit before made of it, and nobody else has set anything.
    pub(super) fn is_directory_as_before(&self, key: &Key) -> Result<bool, Halt> {
        let (tree, root) = self.tree(key)?;
        let look = meta::look(root, &key.path);
        let look = look.map_err(|error| not_reached(tree, &key.path, error))?;
        let stored = self.index.get(key).map_err(from_index)?;
        let stored = stored.and_then(|stored| stored.entry);
        Ok(look.zip(stored).is_some_and(|(look, stored)| look.has_metadata_of(&stored)))
    }

    /// Keeps what somebody here made of it, before it becomes what the owner says.
    pub(super) fn keep_directory_metadata(&mut self, key: &Key) -> Result<(), Halt> {
        let (tree, root) = self.tree(key)?;
        let look = meta::look(root, &key.path);
        match look.map_err(|error| not_reached(tree, &key.path, error))? {
            Some(look) => self.keep_metadata(key, &look),
            None => Ok(()),
        }
    }

    /// Keeps what is at a name durably, if somebody here wrote it.
    fn spare(&mut self, key: &Key) -> Result<(), Halt> {
        let (tree, root) = self.tree(key)?;
        let reached = |error| not_reached(tree, &key.path, error);
        let Some(look) = meta::look(root, &key.path).map_err(reached)? else { return Ok(()) };
        let place = Place::InTree { root };
        let keep = self.done.plan.keeps(key);
        let judge = Judge { tree, place, index: self.index, key, look: &look, keep };
        let Some(why) = judge.verdict(None)? else { return Ok(()) };
        let (parent, name) = root.open_parent(&key.path).map_err(reached)?;
        let (parent, path, look) = (parent.as_fd(), &key.path, &look);
        let parents = &parents_of(root, path);
        let victim = Victim { parent, name, path, look, why, parents };
        tree.store.keep(&victim, &self.occasion, self.crash_points)?;
        Ok(tree.store.sync()?)
    }

    /// Keeps metadata durably, before others are set.
    fn keep_metadata(&mut self, key: &Key, look: &Look) -> Result<(), Halt> {
        let (tree, root) = self.tree(key)?;
        let parent = match key.path.is_root() {
            true => root.open_any(&key.path),
            false => root.open_parent(&key.path).map(|(parent, _)| parent),
        };
        let parent = parent.map_err(|error| not_reached(tree, &key.path, error))?;
        let (name, why) = (key.path.name(), Why::Metadata);
        let (parent, path) = (parent.as_fd(), &key.path);
        let victim = Victim { parent, name, path, look, why, parents: &[] };
        tree.store.keep(&victim, &self.occasion, self.crash_points)?;
        Ok(tree.store.sync()?)
    }

    /// One more name of the file at `to`, which is in place by now.
    pub(super) fn put_link(&mut self, order: Order, key: &Key, to: &RelPath) -> Result<(), Halt> {
        let (tree, root) = self.tree(key)?;
        let reached = |error| not_reached(tree, &key.path, error);
        let Some((first, Sort::File)) = meta::quick(root, to).map_err(reached)? else {
            return Err(Halt::One(format!(
                "{} is not there, of which it is a name",
                tree.shown(to)
            )));
        };
        let here = meta::quick(root, &key.path).map_err(reached)?;
        // To rename one name of an inode over another does nothing, and leaves both.
        if here.is_some_and(|(here, _)| here.ino == first.ino) {
            return Ok(());
        }
        let series = self.series(key.tree)?;
        let staged = staged_name(order.0, order.1);
        let fail = |error| refused(tree, &key.path, "the hard link cannot be made", error);
        match staging_area::stat_at(series.as_fd(), staged.as_str()).map_err(fail)? {
            Some(stat) if stat.st_ino == first.ino => {}
            found => {
                if found.is_some() {
                    // It has changed places before, and somebody here wrote there once more.
                    let gone = self.free_gone_name(order, key.tree)?;
                    renameat(&*series, staged.as_str(), &*series, gone.as_str()).map_err(fail)?;
                }
                let (of, name) = root.open_parent(to).map_err(reached)?;
                self.crash_points.take()?;
                linkat(&of, name, &*series, staged.as_str(), AtFlags::empty()).map_err(fail)?;
            }
        }
        self.swap(order, key)
    }

    /// Takes a name away with everything below it, by one rename into the series' directory.
    pub(super) fn take_away(&mut self, order: Order, key: &Key) -> Result<(), Halt> {
        match self.parent_that_is_there(key)? {
            Some(parent) => self.put_aside(order, key, &parent),
            None => Ok(()),
        }
    }

    fn put_aside(&mut self, order: Order, key: &Key, parent: &OwnedFd) -> Result<(), Halt> {
        let (tree, _) = self.tree(key)?;
        let series = self.series(key.tree)?;
        let fail = |error| refused(tree, &key.path, "cannot be removed", error);
        let name = key.path.name();
        let Some((seen, sort)) =
            meta::quick_at(parent, name).map_err(|error| fail(errno(&error)))?
        else {
            return Ok(());
        };
        if sort == Sort::Dir && self.has_mount_below(key)? {
            return Err(Halt::One("something is mounted below it: unmount it".to_owned()));
        }
        self.must_be_as_before(key, seen)?;
        let gone = self.free_gone_name(order, key.tree)?;
        self.note(order, seen);
        self.crash_points.take()?;
        let free = RenameFlags::RENAME_NOREPLACE;
        match renameat2(parent, name, &*series, gone.as_str(), free) {
            Err(Errno::EINVAL) => renameat(parent, name, &*series, gone.as_str()).map_err(fail),
            done => done.map_err(fail),
        }
    }

    /// A name in the series' directory for what this op takes away. It may have done so before a crash, and
    /// somebody here put something there since.
    fn free_gone_name(&mut self, order: Order, id: TreeId) -> Result<String, Halt> {
        let series = self.series(id)?;
        let all = |error| Halt::All(Trouble::Failed(format!("the staging area: {error}")));
        for number in 0u32.. {
            let name = gone_name(order, number);
            if staging_area::stat_at(series.as_fd(), name.as_str()).map_err(all)?.is_none() {
                return Ok(name);
            }
        }
        Ok(gone_name(order, u32::MAX))
    }

    /// Whether something is mounted below a directory: it would be moved out of the tree with it.
    fn has_mount_below(&mut self, key: &Key) -> Result<bool, Halt> {
        let (tree, _) = self.tree(key)?;
        let mounts = self.mounts.get_or_insert_with(mounts);
        let root = tree.path.canonicalize().unwrap_or_else(|_| tree.path.clone());
        let place = root.join(OsStr::from_bytes(key.path.as_bytes()));
        Ok(mounts.iter().any(|mount| mount.starts_with(&place)))
    }
}

/// The directories above a name of the tree, from the uppermost down, as far as they are there.
pub(super) fn parents_of(root: &Root, path: &RelPath) -> Vec<Parent> {
    let looks = path.above().into_iter().map(|above| meta::look(root, &above).ok().flatten());
    let is_dir = |look: &Look| look.what == What::Dir;
    looks.map_while(|look| look.filter(is_dir)).map(|look| Parent::of(&look)).collect()
}

/// Where something is mounted, as proc_pid_mountinfo(5) says; nothing if it cannot be read.
fn mounts() -> Vec<PathBuf> {
    let text = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = text.split(|&byte| byte == b'\n');
    lines.filter_map(|line| line.split(|&byte| byte == b' ').nth(4)).map(unescaped).collect()
}

/// Spaces and their like are written as three octal digits.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).filter(|_| *first == b'\\');
        let value = octal
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { tail.get(3..).unwrap_or_default() } else { tail };
    }
    PathBuf::from(OsStr::from_bytes(&bytes))
}
