//! What becomes of each name when all batches of a series are taken together: a later op wins, and what
//! goes away takes with it what was put below it before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::mirror::entry::{Entry, Key, Kind, RelPath};
use crate::mirror::proto::{Change, Trouble};
use crate::mirror::stage::{How, Ready, StagedOp};

/// The place of an op in its series: batch, place in the batch.
pub(in crate::mirror) type Order = (u32, u32);

/// What the ops say about one name.
#[derive(Debug)]
struct Fate {
    last: Order,
    /// The last op after which nothing could be below this name.
    cover: Option<Order>,
}

/// A directory that will be there.
#[derive(Clone, Debug)]
pub(in crate::mirror) struct Directory {
    pub(in crate::mirror) order: Order,
    pub(in crate::mirror) entry: Entry,
    pub(in crate::mirror) how: How,
}

/// The plan of a series. Of files only a hash of their key is kept: a catch-up may have any number.
#[derive(Debug, Default)]
pub(in crate::mirror) struct Plan {
    fates: HashMap<[u8; 16], Fate>,
    /// Directories that will be there, parents before what is in them.
    pub(super) directories: BTreeMap<Key, Directory>,
    /// Names that go, with everything below them; none of them is below another.
    deletions: BTreeMap<Key, Order>,
    /// Directories that will be there, and of which everything goes that was in them before.
    emptied: BTreeSet<Key>,
    /// Directories in which a name comes or goes.
    pub(super) touched: BTreeSet<Key>,
    /// Names of which is kept what is there, whatever it is, with what is below them.
    keep: HashSet<[u8; 16]>,
}

impl Plan {
    /// Reads all batches.
    pub(in crate::mirror) fn of(ready: &Ready) -> Result<Plan, Trouble> {
        let mut plan = Plan::default();
        for batch in 0..ready.manifest().batches {
            for (number, staged) in (0u32..).zip(ready.batch(batch)?) {
                plan.add((batch, number), &staged);
            }
        }
        Ok(plan)
    }

    /// One more op, in their order.
    pub(in crate::mirror) fn add(&mut self, order: Order, staged: &StagedOp) {
        if staged.how == How::Dropped {
            return;
        }
        let key = &staged.op.key;
        if let Some(parent) = key.path.parent() {
            let parent = Key { tree: key.tree, path: parent };
            if !self.touched.contains(&parent) {
                self.touched.insert(parent);
            }
        }
        if staged.op.keep {
            self.keep.insert(short(key));
        }
        let fate = self.fates.entry(short(key)).or_insert(Fate { last: order, cover: None });
        fate.last = order;
        match &staged.op.change {
            Change::Put(entry) if entry.kind == Kind::Dir => {
                let directory = Directory { order, entry: entry.clone(), how: staged.how };
                self.directories.insert(key.clone(), directory);
                self.deletions.remove(key);
                if fate.cover.is_some() {
                    self.emptied.insert(key.clone());
                }
            }
            Change::Put(_) => {
                fate.cover = Some(order);
                self.directories.remove(key);
                self.deletions.remove(key);
            }
            Change::Delete => {
                fate.cover = Some(order);
                self.deletions.insert(key.clone(), order);
                self.directories.remove(key);
            }
        }
    }

    /// Directories that will be there and are in this series, parents first.
    pub(in crate::mirror) fn new_directories(&self) -> Vec<(Key, Directory)> {
        let all = self.directories.iter();
        all.filter(|(key, directory)| !key.path.is_root() && self.wins(key, directory.order))
            .map(|(key, directory)| (key.clone(), directory.clone()))
            .collect()
    }

    /// The place of a directory that will be there and does not lie in the tree yet.
    pub(in crate::mirror) fn new_directory(&self, key: &Key) -> Option<Order> {
        let directory = self.directories.get(key)?;
        let comes = directory.how.is_staged() && self.wins(key, directory.order);
        comes.then_some(directory.order)
    }

    /// Names that go, without those that go with one above them.
    pub(super) fn deletions(&self) -> Vec<(Key, Order)> {
        let mut found: Vec<(Key, Order)> = Vec::new();
        for (key, order) in &self.deletions {
            let with_last = found
                .last()
                .is_some_and(|(last, _)| last.tree == key.tree && key.path.is_within(&last.path));
            // Of paths in order, those below one come right after it, but for names such as `a-b`
            // between `a` and `a/b`: they are looked at one time more.
            if !with_last {
                found.push((key.clone(), *order));
            }
        }
        found
    }

    /// All names that go, and all below which everything goes: for the index.
    pub(super) fn deleted(&self) -> impl Iterator<Item = &Key> {
        self.deletions.keys().chain(&self.emptied)
    }

    /// Whether this op decides what its name becomes.
    pub(in crate::mirror) fn wins(&self, key: &Key, order: Order) -> bool {
        let is_last = self.fates.get(&short(key)).is_some_and(|fate| fate.last == order);
        is_last && !self.is_covered(key, order)
    }

    /// Whether what is at a name is kept, though it is what the last common commit left.
    pub(super) fn keeps(&self, key: &Key) -> bool {
        if self.keep.is_empty() {
            return false;
        }
        let above = std::iter::successors(key.path.parent(), RelPath::parent);
        let mut above = above.map(|path| Key { tree: key.tree, path });
        let is_taken =
            |key: &Key| self.keep.contains(&short(key)) && !self.directories.contains_key(key);
        self.keep.contains(&short(key)) || above.any(|key| is_taken(&key))
    }

    /// Whether something above a name went away after this.
    fn is_covered(&self, key: &Key, order: Order) -> bool {
        let mut above = key.path.parent();
        while let Some(path) = above {
            above = path.parent();
            let key = Key { tree: key.tree, path };
            let cover = self.fates.get(&short(&key)).and_then(|fate| fate.cover);
            if cover.is_some_and(|cover| cover > order) {
                return true;
            }
        }
        false
    }
}

fn short(key: &Key) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[key.tree.0]).update(key.path.as_bytes());
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}
