//! What becomes of each name when all batches of a series are taken together: a later op wins, and what
//! goes away takes with it what was put below it before.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::mirror::entry::{Entry, Key, Kind, RelPath};
use crate::mirror::proto::{Change, Trouble};
use crate::mirror::stage::{How, Ready, StagedOp};

/// The place of an op in its series: batch, place in the batch.
pub(super) type Order = (u32, u32);

/// What the ops say about one name.
struct Fate {
    last: Order,
    is_put: bool,
    /// The last op after which nothing could be below this name.
    cover: Option<Order>,
}

/// The plan of a series. Of files only a hash of their key is kept: a catch-up may have any number.
pub(super) struct Plan {
    fates: HashMap<[u8; 16], Fate>,
    /// Directories that will be there, parents before what is in them.
    pub(super) directories: BTreeMap<Key, Entry>,
    /// Names below which everything goes that was not put after this.
    pub(super) deletions: BTreeMap<Key, Order>,
    /// Directories in which a name comes or goes.
    pub(super) touched: BTreeSet<Key>,
    /// Names of which is kept what is there, whatever it is, with what is below them.
    keep: HashSet<[u8; 16]>,
}

impl Plan {
    /// Reads all batches.
    pub(super) fn of(ready: &Ready) -> Result<Plan, Trouble> {
        let mut plan = Plan {
            fates: HashMap::new(),
            directories: BTreeMap::new(),
            deletions: BTreeMap::new(),
            touched: BTreeSet::new(),
            keep: HashSet::new(),
        };
        for batch in 0..ready.manifest().batches {
            for (number, staged) in (0u32..).zip(ready.batch(batch)?) {
                if staged.how != How::Dropped {
                    plan.add((batch, number), staged);
                }
            }
        }
        let covered: Vec<Key> = plan
            .directories
            .keys()
            .filter(|key| {
                let last = plan.fates.get(&short(key)).map(|fate| fate.last);
                last.is_none_or(|last| !plan.wins(key, last))
            })
            .cloned()
            .collect();
        for key in covered {
            plan.directories.remove(&key);
        }
        Ok(plan)
    }

    fn add(&mut self, order: Order, staged: StagedOp) {
        let key = staged.op.key;
        if let Some(parent) = key.path.parent() {
            self.touched.insert(Key { tree: key.tree, path: parent });
        }
        let before = self.fates.get(&short(&key)).and_then(|fate| fate.cover);
        if staged.op.keep {
            self.keep.insert(short(&key));
        }
        let mut fate = Fate { last: order, is_put: true, cover: before };
        match staged.op.change {
            Change::Put(entry) if entry.kind == Kind::Dir => {
                if let Some(cover) = before {
                    self.deletions.insert(key.clone(), cover);
                }
                self.directories.insert(key.clone(), entry);
            }
            Change::Put(_) => {
                fate.cover = Some(order);
                self.directories.remove(&key);
            }
            Change::Delete => {
                fate.cover = Some(order);
                fate.is_put = false;
                self.deletions.insert(key.clone(), order);
                self.directories.remove(&key);
            }
        }
        self.fates.insert(short(&key), fate);
    }

    /// Whether this op decides what its name becomes.
    pub(super) fn wins(&self, key: &Key, order: Order) -> bool {
        let is_last = self.fates.get(&short(key)).is_some_and(|fate| fate.last == order);
        is_last && !self.is_covered(key, order)
    }

    /// Whether what is at a name is kept, though it is what the last common commit left.
    pub(super) fn keeps(&self, key: &Key) -> bool {
        if self.keep.is_empty() {
            return false;
        }
        let above = std::iter::successors(key.path.parent(), RelPath::parent);
        let above = above.map(|path| Key { tree: key.tree, path });
        let is_taken =
            |key: &Key| self.keep.contains(&short(key)) && !self.directories.contains_key(key);
        self.keep.contains(&short(key)) || above.into_iter().any(|key| is_taken(&key))
    }

    /// Whether a name is put after this.
    pub(super) fn is_put_after(&self, key: &Key, order: Order) -> bool {
        self.fates.get(&short(key)).is_some_and(|fate| {
            fate.is_put && fate.last > order && !self.is_covered(key, fate.last)
        })
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

/// The directories above a path but for the root, the uppermost first.
pub(super) fn above(path: &RelPath) -> Vec<RelPath> {
    let up = std::iter::successors(path.parent(), RelPath::parent);
    let mut found: Vec<RelPath> = up.filter(|path| !path.is_root()).collect();
    found.reverse();
    found
}

fn short(key: &Key) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[key.tree.0]).update(key.path.as_bytes());
    let mut short = [0; 16];
    hasher.finalize_xof().fill(&mut short);
    short
}
