//! A new directory is staged with what will be in it: it comes in by one rename, however much that is.
//!
//! A takeover waits for the renames of what was acknowledged. So what can be done before that is done here:
//! files, symlinks and directories of a new directory are moved into it where it lies beside the tree.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::renameat;

use super::{How, Ready, staged_name};
use crate::mirror::apply::{Order, Plan};
use crate::mirror::entry::{Key, Kind, TreeId};
use crate::mirror::meta;
use crate::mirror::proto::{Change, Trouble};
use crate::mirror::staging_area::{self, errno, failed};

/// Puts what belongs into new directories into them, and makes that durable. What the system refuses to move
/// stays where it is: it comes in by a rename of its own.
///
/// # Errors
/// It cannot be made durable.
pub(super) fn pack(ready: &Ready) -> Result<(), Trouble> {
    let plan = Plan::of(ready)?;
    let directories = plan.new_directories();
    if !directories.iter().any(|(_, directory)| directory.how.is_staged()) {
        return Ok(());
    }
    let stage = ready.stage();
    let mut packer = Packer { ready, plan: &plan, last: None, packed: BTreeSet::new() };
    for batch in 0..ready.manifest().batches {
        for (number, staged) in (0u32..).zip(ready.batch(batch)?) {
            let (key, order) = (&staged.op.key, (batch, number));
            let is_file =
                matches!(&staged.op.change, Change::Put(entry) if entry.kind != Kind::Dir);
            let is_staged = matches!(staged.how, How::Staged { .. });
            if is_file && is_staged && plan.wins(key, order) {
                packer.put(key, order)?;
            }
        }
    }
    // What is in a directory is in it before that goes into another one, and has moved its time.
    for (key, directory) in directories.iter().rev() {
        if packer.packed.contains(key) {
            let series = packer.series(key.tree)?;
            let name = staged_name(directory.order.0, directory.order.1);
            if let Ok(packed) = staging_area::directory(series.as_fd(), &name) {
                meta::set(&packed, &directory.entry).map_err(|error| {
                    let tree = stage.tree(key.tree).map(|tree| tree.shown(&key.path));
                    let place = tree.unwrap_or_default();
                    failed(&place, &format!("{} cannot be set", error.what), errno(&error.source))
                })?;
            }
        }
        if directory.how.is_staged() {
            packer.put(key, directory.order)?;
        }
    }
    packer.make_durable()
}

struct Packer<'a> {
    ready: &'a Ready,
    plan: &'a Plan,
    /// The directory that was put into last.
    last: Option<(Key, OwnedFd)>,
    /// Directories in which something was put.
    packed: BTreeSet<Key>,
}

impl Packer<'_> {
    fn series(&self, id: TreeId) -> Result<OwnedFd, Trouble> {
        self.ready.stage().tree(id)?.series(&self.ready.manifest().name())
    }

    /// Puts what is staged for an op into the directory above it, if that is new.
    fn put(&mut self, key: &Key, order: Order) -> Result<(), Trouble> {
        let Some(path) = key.path.parent() else { return Ok(()) };
        let parent = Key { tree: key.tree, path };
        let Some(above) = self.plan.new_directory(&parent) else { return Ok(()) };
        let series = self.series(key.tree)?;
        if self.last.as_ref().is_none_or(|(of, _)| *of != parent) {
            let name = staged_name(above.0, above.1);
            let Ok(directory) = staging_area::directory(series.as_fd(), &name) else {
                return Ok(());
            };
            self.last = Some((parent.clone(), directory));
        }
        let Some((_, directory)) = &self.last else { return Ok(()) };
        let name = staged_name(order.0, order.1);
        if renameat(&series, name.as_str(), directory, key.path.name()).is_ok() {
            self.packed.insert(parent);
        }
        Ok(())
    }

    fn make_durable(self) -> Result<(), Trouble> {
        let stage = self.ready.stage();
        for (id, tree) in stage.trees() {
            let fail = |error| failed(&tree.area.path().display(), "cannot be made durable", error);
            if self.packed.iter().any(|key| key.tree == id) {
                nix::unistd::syncfs(self.series(id)?).map_err(fail)?;
            }
        }
        Ok(())
    }
}
