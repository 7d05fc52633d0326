//! The rule for what is in the way (P3): it may go if it is what the last common commit put there, or
//! already what it becomes. Anything else somebody wrote on this node, and it is kept. So is what the
//! owner replaces by nobody's order: there it was lost or changed while that node was the standby side.

use crate::limits;
use crate::mirror::area::from_index;
use crate::mirror::conflict::Why;
use crate::mirror::entry::{Content, Entry, Key, Kind};
use crate::mirror::hash;
use crate::mirror::index::Index;
use crate::mirror::meta::{Look, What};
use crate::mirror::proto::Trouble;
use crate::mirror::stage::StagedTree;
use crate::mirror::tree::Root;

/// One name that is in the way, with what is needed to judge it.
pub(super) struct Judge<'a> {
    pub(super) tree: &'a StagedTree,
    pub(super) root: &'a Root,
    pub(super) index: &'a Index,
    pub(super) key: &'a Key,
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
        let how = self.tree.hash;
        self.look.seen.size == content.size
            && self.root.open_file(&self.key.path).is_ok_and(|file| {
                hash::content(&file, &self.look.seen, how, limits::TAKE_IN_HASH_THREADS)
                    .is_ok_and(|here| here == *content)
            })
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
