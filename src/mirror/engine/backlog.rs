//! What was told of changes and is not marked yet, in the order in which it was told.
//!
//! A series takes the oldest parts, as many as a takeover can bring into the trees at once, and then all up
//! to the last one that has a name of theirs again: such a name is read as it is now, so everything that was
//! done before it was written last must come with it. What is left was done later than everything taken.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use crate::mirror::entry::Key;
use crate::mirror::watch::Drained;

/// Parts of what was told, the oldest first.
#[derive(Debug, Default)]
pub struct Backlog {
    parts: VecDeque<Drained>,
    /// Number of the oldest part; they are counted on for ever.
    first: u64,
    /// Names and subtrees of the parts, with the number of the newest part that has them.
    newest: BTreeMap<Key, u64>,
}

/// Names and subtrees.
fn told(part: &Drained) -> impl Iterator<Item = &Key> {
    part.names.iter().chain(&part.subtrees)
}

impl Backlog {
    /// What was told since the last time. If that is not `in_order` all is one part.
    pub fn push(&mut self, part: Drained, in_order: bool) {
        if in_order || self.is_empty() {
            self.parts.push_back(Drained::default());
        }
        let newest = self.end() - 1;
        for key in told(&part) {
            self.newest.insert(key.clone(), newest);
        }
        if let Some(last) = self.parts.back_mut() {
            last.extend(part, usize::MAX);
        }
    }

    /// Nothing is left.
    pub fn clear(&mut self) {
        self.first = self.end();
        self.parts.clear();
        self.newest.clear();
    }

    /// Names that are left.
    pub fn len(&self) -> usize {
        self.newest.len()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Number of the part that comes next.
    pub fn end(&self) -> u64 {
        self.first + self.parts.len() as u64
    }

    /// Whether a part before this number is left.
    pub fn has_before(&self, number: u64) -> bool {
        !self.is_empty() && self.first < number
    }

    /// Takes the oldest parts until they have `least` names, and all that must come with them or with these
    /// names, which are read already. None: nothing must.
    pub fn take<'k>(
        &mut self,
        least: usize,
        read: impl Iterator<Item = &'k Key>,
    ) -> Option<Drained> {
        let mut count = 0;
        let enough = self.parts.iter().take_while(|part| {
            let takes = count < least;
            count += told(part).count();
            takes
        });
        let mut end = self.first + enough.count() as u64;
        for key in read {
            end = end.max(self.end_of(key));
        }
        let mut looked_at = self.first;
        while looked_at < end {
            let place = usize::try_from(looked_at - self.first).unwrap_or(usize::MAX);
            if let Some(part) = self.parts.get(place) {
                for key in &part.names {
                    end = end.max(self.end_of(key));
                }
                // Walked, as all that is below is then.
                for directory in &part.subtrees {
                    let below = self.within(directory).map(|(_, number)| number + 1);
                    end = below.fold(end, u64::max).max(self.end_of(directory));
                }
            }
            looked_at += 1;
        }
        let mut taken = None;
        while self.first < end {
            let Some(part) = self.parts.pop_front() else { break };
            self.first += 1;
            let all: &mut Drained = taken.get_or_insert_default();
            all.extend(part, usize::MAX);
        }
        for key in taken.iter().flat_map(told) {
            if self.newest.get(key).is_some_and(|&number| number < self.first) {
                self.newest.remove(key);
            }
        }
        taken
    }

    /// Behind the newest part that has this name, or a directory above it.
    fn end_of(&self, key: &Key) -> u64 {
        let above = |key: &Key| Some(Key { tree: key.tree, path: key.path.parent()? });
        let all = std::iter::successors(Some(key.clone()), above);
        all.filter_map(|key| self.newest.get(&key)).max().map_or(0, |number| number + 1)
    }

    /// A name, and those below it.
    fn within(&self, directory: &Key) -> impl Iterator<Item = (&Key, &u64)> {
        let from = (Bound::Included(directory.clone()), Bound::Unbounded);
        // In the order of keys, names such as `a-b` lie between `a` and `a/b`.
        let starts_alike = move |key: &Key| {
            key.tree == directory.tree && key.path.as_bytes().starts_with(directory.path.as_bytes())
        };
        let alike = self.newest.range(from).take_while(move |(key, _)| starts_alike(key));
        alike.filter(|(key, _)| key.path.is_within(&directory.path))
    }
}

#[cfg(test)]
mod tests;
