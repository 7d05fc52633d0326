//! Two of a thing, one for each node.

use std::ops::{Index, IndexMut};

use crate::config::NodeIndex;

/// One for each node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair<T> {
    lower: T,
    upper: T,
}

impl<T> Pair<T> {
    /// Makes one for each.
    pub fn of(mut make: impl FnMut(NodeIndex) -> T) -> Pair<T> {
        Pair { lower: make(NodeIndex::Lower), upper: make(NodeIndex::Upper) }
    }

    /// Both.
    pub fn both(&self) -> [&T; 2] {
        [&self.lower, &self.upper]
    }
}

impl<T> Index<NodeIndex> for Pair<T> {
    type Output = T;
    fn index(&self, node: NodeIndex) -> &T {
        match node {
            NodeIndex::Lower => &self.lower,
            NodeIndex::Upper => &self.upper,
        }
    }
}

impl<T> IndexMut<NodeIndex> for Pair<T> {
    fn index_mut(&mut self, node: NodeIndex) -> &mut T {
        match node {
            NodeIndex::Lower => &mut self.lower,
            NodeIndex::Upper => &mut self.upper,
        }
    }
}
