//! Writing the changed chunks of a large file into it.
//!
//! ```text
//!   as it was staged against ── begun, on record ── chunks, length, metadata ──▶ as the owner has it
//!             └─ somebody changed it: unfinished     └─ a crash: written again, and proven by its hash
//! ```

use std::collections::BTreeSet;
use std::os::fd::AsFd;

use nix::errno::Errno;

use super::plan::Order;
use super::victim::{Judge, Place};
use super::{Halt, Run, not_reached, not_set, refused};
use crate::limits;
use crate::mirror::entry::{Content, Entry, Key, Kind, Seen};
use crate::mirror::meta::{self, Look, What};
use crate::mirror::proto::{Change, Op, Trouble};
use crate::mirror::stage::{How, StagedOp, build, staged_name};
use crate::mirror::staging_area::{self, errno};

/// A patch of the series.
struct Patch {
    order: Order,
    key: Key,
    entry: Entry,
    content: Content,
    base: Seen,
    ino: u64,
    chunks: BTreeSet<u32>,
}

impl Run<'_> {
    /// The large files of which little changed, when all else has come.
    pub(super) fn patch(&mut self) -> Result<(), Trouble> {
        // Others may have written to them since they were whole.
        if self.careful {
            return Ok(());
        }
        let patches = self.patches()?;
        // Only of these it is known then that nobody but a crash has left them half changed.
        let begun = self.ready.patched()?;
        let mut whole = BTreeSet::new();
        for patch in &patches {
            self.alone(&patch.key, |run| {
                if !begun.contains(&patch.order) && run.look_at(patch)?.seen != patch.base {
                    return Err(changed());
                }
                whole.insert(patch.order);
                Ok(())
            })?;
        }
        if whole.is_empty() {
            return Ok(());
        }
        if whole.iter().any(|order| !begun.contains(order)) {
            self.crash_points.take()?;
            self.ready.set_patched(&whole)?;
        }
        for patch in patches.iter().filter(|patch| whole.contains(&patch.order)) {
            let again = begun.contains(&patch.order);
            self.alone(&patch.key, |run| run.put_patch(patch, again))?;
        }
        Ok(())
    }

    fn patches(&self) -> Result<Vec<Patch>, Trouble> {
        let mut patches = Vec::new();
        for batch in 0..self.ready.manifest().batches {
            for (number, staged) in (0u32..).zip(self.ready.batch(batch)?) {
                let StagedOp { op: Op { key, change, .. }, how, patch: chunks } = staged;
                let order = (batch, number);
                if let (How::Patch { base, ino }, Change::Put(entry)) = (how, change)
                    && let Kind::File(content) = entry.kind.clone()
                    && self.done.plan.wins(&key, order)
                {
                    patches.push(Patch { order, key, entry, content, base, ino, chunks });
                }
            }
        }
        Ok(patches)
    }

    /// How the file looks, if it is the one that was staged against, and nothing else is to be kept of it.
    fn look_at(&self, patch: &Patch) -> Result<Look, Halt> {
        let key = &patch.key;
        let (tree, root) = self.tree(key)?;
        let look = meta::look(root, &key.path);
        let look = look.map_err(|error| not_reached(tree, &key.path, error))?;
        let look = look.filter(|look| {
            let Seen { ino, nlink, .. } = look.seen;
            look.what == What::File && nlink == 1 && ino == patch.base.ino
        });
        look.filter(|_| !self.done.plan.keeps(key)).ok_or_else(changed)
    }

    /// `again`: a crash may have left it half changed.
    fn put_patch(&mut self, patch: &Patch, again: bool) -> Result<(), Halt> {
        let Patch { order, key, entry, content, base, ino, chunks } = patch;
        let (tree, root) = self.tree(key)?;
        let look = self.look_at(patch)?;
        if !again && look.seen != *base {
            return Err(changed());
        }
        let fail = |error| refused(tree, &key.path, "cannot be written to", error);
        let series = self.series(key.tree)?;
        let name = staged_name(order.0, order.1);
        let staged = staging_area::stat_at(series.as_fd(), name.as_str()).map_err(fail)?;
        if staged.is_none_or(|staged| staged.st_ino != *ino) {
            return Err(fail(Errno::ENOENT));
        }
        let staged = build::open(series.as_fd(), &name).map_err(fail)?;
        let file = root.open_to_write(&key.path);
        let file = file.map_err(|error| not_reached(tree, &key.path, error))?;
        for &chunk in chunks {
            self.crash_points.take()?;
            let (offset, bytes) = build::place(content, chunk);
            if !build::copy(&staged, &file, offset, bytes).map_err(fail)? {
                return Err(fail(Errno::EIO));
            }
        }
        self.crash_points.take()?;
        file.set_len(content.size).map_err(|error| fail(errno(&error)))?;
        meta::set(&file, entry).map_err(|error| not_set(tree, &key.path, &error))?;
        if self.done.in_place.len() <= limits::SYNC_EACH_MAX {
            self.done.in_place.push(key.clone());
        }
        if !again {
            return Ok(());
        }
        // Somebody may have changed it, too.
        let look = self.look_at(patch)?;
        let place = Place::InTree { root };
        let judge = Judge { tree, place, index: self.index, key, look: &look, keep: false };
        if judge.has_content_of(entry)? { Ok(()) } else { Err(changed()) }
    }
}

fn changed() -> Halt {
    Halt::One("it was changed here in the meantime".to_owned())
}
