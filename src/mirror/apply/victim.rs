//! The rule for what was in the way (P3): it may go if it is what the last common commit put there, or
//! already what it becomes. Anything else somebody wrote on this node, and it is kept. So is what the
//! owner replaces by nobody's order: there it was lost or changed while that node was the standby side.

use std::fs::File;
use std::os::fd::BorrowedFd;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::limits;
use crate::mirror::conflict::Why;
use crate::mirror::entry::{Content, Entry, Key, Kind};
use crate::mirror::hash;
use crate::mirror::index::Index;
use crate::mirror::meta::{Look, What};
use crate::mirror::proto::Trouble;
use crate::mirror::stage::StagedTree;
use crate::mirror::staging_area::from_index;
use crate::mirror::tree::Root;

/// Where it is.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// At its name in the tree.
    InTree { root: &'a Root },
    /// Out of the tree by now.
    Aside { directory: BorrowedFd<'a>, name: &'a [u8] },
}

/// What is in the way at one name, with what is needed to judge it.
pub(super) struct Judge<'a> {
    pub(super) tree: &'a StagedTree,
    pub(super) place: Place<'a>,
    pub(super) index: &'a Index,
    pub(super) key: &'a Key,
    /// How it is; `seen` as it was before it was moved, if that is known.
    pub(super) look: &'a Look,
    /// The owner has it otherwise by nobody's order.
    pub(super) keep: bool,
}

impl Judge<'_> {
    /// Why it must be kept; `None`: it may go. `new` is what the name becomes.
    pub(super) fn verdict(&self, new: Option<&Entry>) -> Result<Option<Why>, Trouble> {
        if self.keep {
            let same_content = match new {
                Some(entry) => self.has_content_of(entry)?,
                None => false,
            };
            let same = new.is_some_and(|entry| self.look.has_metadata_of(entry));
            return Ok(match (same_content, same) {
                (true, true) => None,
                (true, false) => Some(Why::Metadata),
                (false, _) => Some(Why::Unordered),
            });
        }
        let stored = self.index.get(self.key).map_err(from_index)?;
        if stored.as_ref().is_some_and(|stored| stored.seen == Some(self.look.seen)) {
            return Ok(None);
        }
        let is_stored = stored.is_some();
        let mut same_content = false;
        for entry in stored.iter().filter_map(|stored| stored.entry.as_ref()).chain(new) {
            if self.has_content_of(entry)? {
                same_content = true;
                if self.look.has_metadata_of(entry) {
                    return Ok(None);
                }
            }
        }
        Ok(Some(match (same_content, is_stored, new) {
            (true, _, _) => Why::Metadata,
            (false, false, _) => Why::Created,
            (false, true, None) => Why::Deleted,
            (false, true, Some(_)) => Why::Changed,
        }))
    }

    /// Whether its content is this entry's.
    pub(super) fn has_content_of(&self, entry: &Entry) -> Result<bool, Trouble> {
        Ok(match (&entry.kind, &self.look.what) {
            (Kind::File(content), What::File) => self.hashes_to(content),
            (Kind::Symlink { target }, What::Symlink(here)) => target == here,
            (Kind::Link { to }, What::File) => {
                let to = Key { tree: self.key.tree, path: to.clone() };
                let stored = self.index.get(&to).map_err(from_index)?;
                match stored.and_then(|stored| stored.entry).map(|entry| entry.kind) {
                    Some(Kind::File(content)) => self.hashes_to(&content),
                    Some(Kind::Dir | Kind::Symlink { .. } | Kind::Link { .. }) | None => false,
                }
            }
            (Kind::Dir, _) | (Kind::File(_) | Kind::Symlink { .. } | Kind::Link { .. }, _) => false,
        })
    }

    /// What cannot be read, or changes while it is read, is not known to be the same: it is kept.
    fn hashes_to(&self, content: &Content) -> bool {
        if self.look.seen.size != content.size {
            return false;
        }
        let file = match self.place {
            Place::InTree { root } => root.open_file(&self.key.path).ok(),
            Place::Aside { directory, name } => {
                // It is a regular file, as was seen, and nobody else reaches it here by its name.
                let flags =
                    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                openat(directory, name, flags, Mode::empty()).ok().map(File::from)
            }
        };
        let Some(file) = file else { return false };
        // Its ctime has moved with it, if it was moved.
        let Ok(seen) = crate::mirror::meta::seen_of(&file) else { return false };
        let threads = limits::TAKE_IN_HASH_THREADS;
        hash::content(&file, &seen, self.tree.hash, threads).is_ok_and(|here| here == *content)
    }
}

/// Whether it is of this entry's kind.
pub(super) fn is_kind_of(look: &Look, entry: &Entry) -> bool {
    match (&entry.kind, &look.what) {
        (Kind::Dir, What::Dir) | (Kind::Link { .. }, What::File) => true,
        (Kind::File(content), What::File) => content.size == look.seen.size,
        (Kind::Symlink { target }, What::Symlink(here)) => target == here,
        (Kind::Dir | Kind::File(_) | Kind::Symlink { .. } | Kind::Link { .. }, _) => false,
    }
}
