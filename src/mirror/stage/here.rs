//! What is here at the name of an op, and what can be proven of it before anything is staged.

use std::os::fd::AsFd;

use nix::fcntl::OFlag;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::StagedTree;
use super::build::Donor;
use crate::limits;
use crate::mirror::apply::{Halt, not_reached, not_set, refused as refused_to};
use crate::mirror::entry::{Entry, Key, Kind};
use crate::mirror::hash;
use crate::mirror::index::Index;
use crate::mirror::meta::{self, Look};
use crate::mirror::proto::Trouble;
use crate::mirror::staging_area::{self, from_index};
use crate::mirror::tree::{Root, TreeError};

/// What is here of the tree that an op belongs to.
pub(super) struct Here<'a> {
    pub(super) tree: &'a StagedTree,
    pub(super) root: &'a Root,
    pub(super) index: &'a Index,
}

impl Here<'_> {
    /// Whether something at this name, if there is something, may be changed or replaced.
    pub(super) fn may_be_changed(&self, key: &Key) -> Result<(), Halt> {
        match self.root.find(&key.path, OFlag::empty()) {
            Ok((_, stat)) if stat.immutable || stat.append_only => {
                Err(Halt::One(LOCKED.to_owned()))
            }
            Ok(_) | Err(TreeError::Gone(_)) => Ok(()),
            Err(error) => Err(not_reached(self.tree, &key.path, error)),
        }
    }

    /// Whether a name may come and go in its directory; one that comes with the series has no flags.
    pub(super) fn may_come_and_go(&self, key: &Key) -> Result<(), Halt> {
        if key.path.name().len() > self.tree.area.name_bytes_max() {
            return Err(Halt::One(
                "its name is longer than the file system here allows".to_owned(),
            ));
        }
        let Some(parent) = key.path.parent() else { return Ok(()) };
        match self.root.find(&parent, OFlag::O_DIRECTORY) {
            Ok((_, stat)) if stat.immutable || stat.append_only => {
                Err(Halt::One(format!("in its directory, {LOCKED}")))
            }
            Ok(_) | Err(TreeError::Gone(_)) => Ok(()),
            Err(error) => Err(not_reached(self.tree, &key.path, error)),
        }
    }

    /// Whether the file system here can hold these attributes: tried on something that is made for it.
    pub(super) fn holds(&self, series: &str, key: &Key, entry: &Entry) -> Result<(), Halt> {
        const TRIAL: &str = "trial";
        if entry.xattrs.is_empty() {
            return Ok(());
        }
        let series = self.tree.series(series)?;
        let fail = |error| refused_to(self.tree, &key.path, "cannot be tried", error);
        // A directory holds what a file holds, and default ACLs.
        let trial = staging_area::made_directory(series.as_fd(), TRIAL).map_err(fail)?;
        let set = meta::set(&trial, entry);
        unlinkat(&series, TRIAL, UnlinkatFlags::RemoveDir).map_err(fail)?;
        set.map_err(|error| not_set(self.tree, &key.path, &error))
    }

    /// The file that is at the op's name now, with its content: as the index knows it, else hashed.
    /// `None` if it changes while it is read: its chunks are asked for.
    pub(super) fn donor(&self, key: &Key, look: &Look) -> Result<Option<Donor>, Trouble> {
        let file = match self.root.open_file(&key.path) {
            Ok(file) => file,
            // It went while we looked, or is leased by somebody.
            Err(_) => return Ok(None),
        };
        let stored = self.index.get(key).map_err(from_index)?;
        let (entry, seen) = stored.map_or((None, None), |stored| (stored.entry, stored.seen));
        let same_metadata = entry.as_ref().is_some_and(|entry| look.has_metadata_of(entry));
        let common = match entry.map(|entry| entry.kind) {
            Some(Kind::File(content)) => Some(content),
            Some(Kind::Dir | Kind::Symlink { .. } | Kind::Link { .. }) | None => None,
        };
        if seen == Some(look.seen)
            && let Some(content) = common
        {
            return Ok(Some(Donor { file, content, is_common: true }));
        }
        match hash::content(&file, &look.seen, self.tree.hash, limits::TAKE_IN_HASH_THREADS) {
            Ok(content) => {
                let is_common = same_metadata && common.as_ref() == Some(&content);
                Ok(Some(Donor { file, content, is_common }))
            }
            // Changed meanwhile, or not readable: then it is no help, and the owner has it all.
            Err(_) => Ok(None),
        }
    }
}

/// What an administrator is told of a flag of chattr(1).
const LOCKED: &str = "it is immutable or append-only here: see lsattr(1), and take the flag off";
