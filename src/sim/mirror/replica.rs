//! A group's tree on disk, with what the mirror keeps beside it; and a state of a tree on its way.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::core::Generation;
use crate::mirror::lineage::{Lineage, Position};

/// Files of a tree.
pub const FILES: usize = 4;
/// The version of each file; 0: as it was at the very beginning.
pub type Tree = [u32; FILES];

/// A tree on disk, with what the mirror keeps beside it. It outlives worker and power.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The files as they are.
    pub tree: Tree,
    /// As the last common commit left them: what differs was changed here since.
    pub base: Tree,
    /// The generation that this copy belongs to.
    pub copy_of: Option<Generation>,
    /// The generations in which this node may have begun to serve it.
    pub ready_for: Vec<Generation>,
    /// What it contains, with the commit that is under way to the peer.
    pub lineage: Lineage,
    /// The newest commit in it.
    pub position: Option<Position>,
    /// Not half of a synchronisation.
    pub complete: bool,
    /// Acknowledged to its end, to be applied: a redo if the worker was interrupted.
    pub staged: Option<Rc<Series>>,
    /// The conflict store.
    pub conflicts: BTreeSet<u32>,
}

impl Replica {
    /// A tree that nobody has touched.
    pub fn new() -> Replica {
        Replica {
            tree: [0; FILES],
            base: [0; FILES],
            copy_of: None,
            ready_for: Vec::new(),
            lineage: Lineage::default(),
            position: None,
            complete: true,
            staged: None,
            conflicts: BTreeSet::new(),
        }
    }

    /// A commit is in it.
    pub fn stand_at(&mut self, position: Position) {
        self.position = Some(position);
        self.lineage.stand_at(position);
    }

    /// Puts a file of the owner into its place; what was changed here is kept first.
    pub fn put(&mut self, file: usize, version: u32) {
        if self.tree[file] != self.base[file] && self.tree[file] != version {
            self.conflicts.insert(self.tree[file]);
        }
        (self.tree[file], self.base[file]) = (version, version);
    }

    /// Nothing in it counts as common any more: whatever is here is kept before it is replaced.
    pub fn disown(&mut self) {
        // Versions that nobody wrote.
        self.base = [u32::MAX; FILES];
        (self.copy_of, self.position) = (None, None);
        self.lineage = Lineage::default();
    }
}

/// A state of the owner's tree on its way.
#[derive(Debug)]
pub struct Series {
    /// The generation that sends it.
    pub generation: Generation,
    /// Its number in that generation.
    pub commit: u64,
    /// What the owner's trees contain.
    pub lineage: Lineage,
    /// The whole tree.
    pub snapshot: Tree,
    /// The files that the peer lacks, in parts.
    pub parts: Vec<Vec<usize>>,
    /// Applied part by part, because there is no room to stage it.
    pub in_place: bool,
}
