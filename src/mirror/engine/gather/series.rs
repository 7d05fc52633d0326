//! What is sent as one commit, and what the index becomes by it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use crate::limits;
use crate::mirror::engine::batch::Made;
use crate::mirror::engine::links::Inode;
use crate::mirror::engine::proof::{Proof, prove};
use crate::mirror::engine::rest::Rests;
use crate::mirror::engine::trees::Trees;
use crate::mirror::entry::{ChunkHash, Key, Kind, RelPath, Seen, Stored};
use crate::mirror::index::{Index, IndexError, Position};

/// What is sent as one commit.
#[derive(Debug, Default)]
pub struct Series {
    /// All names that it takes in.
    taken: HashSet<Key>,
    /// The peer cannot take these.
    left_out: HashSet<Key>,
    /// Names that stay dirty; with `true` they are looked at in the next series.
    pub(super) left: HashMap<Key, bool>,
    /// What the index becomes when the peer has it.
    pub(super) changes: Vec<(Key, Option<Stored>)>,
    /// Small files that were read before they were written back: their places in `changes`.
    pub(super) unproven: Vec<usize>,
    /// Names that were found gone, or to be no directory any more: whatever the peer has below them goes,
    /// too.
    pub(super) gone: HashSet<Key>,
    /// Files that took long to read, and how long.
    pub(super) costly: HashMap<Key, Duration>,
    /// Names of files with several, as they were read: how they looked, and the lowest name.
    pub(super) links: HashMap<Key, (Seen, Option<RelPath>)>,
    /// Names of these files that were looked at, and may be in no series yet.
    pub(super) others: HashSet<Key>,
    /// How inodes with several names looked when all their names were compared.
    pub(super) settled: HashMap<Inode, Seen>,
    /// A name that was taken is left since it was last looked at what needs it.
    pub(super) withdrew: bool,
    pub(super) rounds: u32,
    pub(super) fuzzy: bool,
}

impl Series {
    /// Whether it takes in this name.
    pub fn has(&self, key: &Key) -> bool {
        self.taken.contains(key)
    }

    /// Whether nothing was read for it yet.
    pub(super) fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.left.is_empty()
    }

    /// The names that it rests on: those that it takes in and would read again if they changed, and the other
    /// names of their files.
    pub fn rests_on(&self) -> impl Iterator<Item = &Key> {
        self.taken.iter().filter(|key| !self.is_costly(key)).chain(&self.others)
    }

    /// Whether it was read, and took long.
    pub(super) fn is_costly(&self, key: &Key) -> bool {
        self.costly.contains_key(key) && self.has(key)
    }

    pub(super) fn take(&mut self, key: Key) {
        self.left.remove(&key);
        self.taken.insert(key);
    }

    /// It stays dirty whatever becomes of this series; `again`: it is looked at right after it.
    pub fn leave(&mut self, key: &Key, again: bool) {
        *self.left.entry(key.clone()).or_default() |= again;
    }

    /// The peer cannot take this name: what it has there stays.
    pub fn leave_out(&mut self, key: Key) {
        self.left_out.insert(key);
    }

    /// Whether the peer cannot take it.
    pub fn leaves_out(&self, key: &Key) -> bool {
        self.left_out.contains(key)
    }

    /// Whether something may have been offered already that touches this name.
    pub(super) fn touches(&self, key: &Key) -> bool {
        let above = |key: &Key| Some(Key { tree: key.tree, path: key.path.parent()? });
        self.has(key)
            || !self.gone.is_empty()
                && std::iter::successors(above(key), above).any(|key| self.gone.contains(&key))
    }

    /// Whether names changed while they were read, round after round.
    pub fn is_fuzzy(&self) -> bool {
        self.fuzzy
    }

    /// A chunk was sent that is not what was offered: the peer has this.
    pub fn amend(&mut self, key: &Key, chunk: u32, hash: ChunkHash) {
        self.fuzzy = true;
        self.leave(key, true);
        let stored = self.changes.iter_mut().rev().find(|(name, _)| name == key);
        let Some((_, Some(Stored { entry: Some(entry), seen }))) = stored else { return };
        *seen = None;
        if let Kind::File(content) = &mut entry.kind
            && let Some(place) = content.chunks.get_mut(chunk as usize)
        {
            *place = hash;
        }
    }

    /// A change that was offered is not sent: the peer keeps what it has.
    ///
    /// # Errors
    /// The store fails.
    pub fn drop_change(&mut self, key: &Key, index: &Index) -> Result<(), IndexError> {
        self.fuzzy = true;
        self.leave(key, true);
        if let Some((_, change)) = self.changes.iter_mut().rev().find(|(name, _)| name == key) {
            *change = index.get(key)?.map(|stored| Stored { seen: None, ..stored });
        }
        Ok(())
    }

    /// A name that was read for the batch in the making is left: the peer keeps what it has.
    ///
    /// # Errors
    /// The store fails.
    pub(super) fn withdraw(
        &mut self,
        key: &Key,
        made: &mut Made,
        index: &Index,
    ) -> Result<(), IndexError> {
        made.forget(key);
        self.withdrew = true;
        self.drop_change(key, index)
    }

    /// Sending a file took so long.
    pub fn add_cost(&mut self, key: &Key, took: Duration) {
        if let Some(cost) = self.costly.get_mut(key) {
            *cost += took;
        } else if took >= limits::COSTLY_READ {
            self.costly.insert(key.clone(), took);
        }
    }

    /// The peer has it: what it holds becomes the index. Without a position: there was nothing to send.
    ///
    /// # Errors
    /// The store fails.
    pub fn record(
        mut self,
        trees: &Trees,
        index: &Index,
        position: Option<Position>,
        forced: &mut HashSet<Key>,
        rests: &mut Rests,
    ) -> Result<(), IndexError> {
        let mut again = self.prove(trees, index);
        let (taken, left) = (std::mem::take(&mut self.taken), std::mem::take(&mut self.left));
        let clean: Vec<Key> = taken.into_iter().filter(|key| !left.contains_key(key)).collect();
        for key in &clean {
            forced.remove(key);
        }
        // Of what the peer did not take it is not known what it has.
        self.changes.retain(|(key, _)| !self.left_out.contains(key));
        forced.extend(self.left_out);
        index.commit(&self.changes, position, &clean, position.is_some())?;
        let now = Instant::now();
        for (key, took) in self.costly {
            rests.cost(&key, took, now);
        }
        again.extend(left.into_iter().filter(|(_, again)| *again).map(|(key, _)| key));
        index.mark(&again)
    }

    /// Writes back what was read before that, and reads it once more. What looks otherwise now was told
    /// of, or is found by the next walk; the names that only have another content are returned.
    fn prove(&mut self, trees: &Trees, index: &Index) -> Vec<Key> {
        let pass = trees.open(index).ok();
        let many = self.unproven.len() > limits::SYNC_EACH_MAX;
        let synced = many && pass.as_ref().is_some_and(|pass| pass.sync().is_ok());
        let mut changed = Vec::new();
        for place in std::mem::take(&mut self.unproven) {
            let Some((key, Some(stored))) = self.changes.get_mut(place) else { continue };
            let proof = pass.as_ref().and_then(|pass| prove(pass, key, stored, synced));
            if proof == Some(Proof::Changed) {
                changed.push(key.clone());
            }
            stored.seen = stored.seen.filter(|_| proof == Some(Proof::Final));
        }
        changed
    }
}
