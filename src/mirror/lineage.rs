//! What a copy of the trees contains: commits, and the generations in which they were made (P3).
//!
//! ```text
//!   n1's copy:  (gen. 1, commit 9) ── (gen. 2, commit 40) ── (gen. 3, commit 47)
//!   n2's copy:                        (gen. 2, commit 40)                          contained: n1 may send
//!   n2's copy:                        (gen. 2, commit 55)                          n1 was set back
//!   n2's copy:  (gen. 1, commit 9) ── (gen. 2', commit 13)                         forked
//! ```
//!
//! Generations are meant by their random ids: numbers may come again on a node that lost its disk, or was given
//! an older one.

use serde::{Deserialize, Serialize};

use crate::core::Generation;
use crate::limits;

/// A commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Under which owner it was made.
    pub generation: Generation,
    /// Its number; numbers rise from generation to generation.
    pub commit: u64,
}

/// The newest commit of each generation that a copy contains, the oldest generation first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage(Vec<Position>);

impl Lineage {
    /// Whether a copy that stands at this commit is contained: what differs in it was changed there since.
    pub fn contains(&self, position: Position) -> bool {
        let known = self.0.iter().find(|known| known.generation == position.generation);
        known.is_some_and(|known| position.commit <= known.commit)
    }

    /// The copy stands at this commit now; one of a new generation if that was not known.
    pub fn stand_at(&mut self, position: Position) {
        match self.0.iter_mut().find(|known| known.generation == position.generation) {
            Some(known) => known.commit = known.commit.max(position.commit),
            None => {
                self.0.push(position);
                let surplus = self.0.len().saturating_sub(limits::ANCESTORS_MAX);
                self.0.drain(..surplus);
            }
        }
    }

    /// The index is lost, and with it which commits are in the trees: any of the known generations may be.
    pub fn forget_commits(&mut self) {
        self.0.iter_mut().for_each(|known| known.commit = u64::MAX);
    }

    /// The newest commit of a generation; 0: none; `u64::MAX`: not known.
    pub fn commit_of(&self, generation: Generation) -> u64 {
        let known = self.0.iter().find(|known| known.generation == generation);
        known.map_or(0, |known| known.commit)
    }

    /// Whether it is no longer than it may be: checked on what a peer sent.
    pub fn is_bounded(&self) -> bool {
        self.0.len() <= limits::ANCESTORS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeIndex;

    fn at(number: u32, id: u32, commit: u64) -> Position {
        let generation = Generation { number, owner: NodeIndex::Lower, id };
        Position { generation, commit }
    }

    #[test]
    fn what_a_copy_contains() {
        let mut lineage = Lineage::default();
        for position in [at(1, 11, 9), at(2, 22, 40), at(3, 33, 0), at(3, 33, 7)] {
            lineage.stand_at(position);
        }
        for contained in [at(1, 11, 3), at(1, 11, 9), at(2, 22, 40), at(3, 33, 0), at(3, 33, 7)] {
            assert!(lineage.contains(contained), "{contained:?}");
        }
        for foreign in [at(2, 22, 55), at(2, 23, 3), at(4, 44, 0), at(3, 33, 8)] {
            assert!(!lineage.contains(foreign), "{foreign:?}");
        }
    }

    #[test]
    fn a_lost_index_knows_its_generations_and_no_commit() {
        let mut lineage = Lineage::default();
        lineage.stand_at(at(3, 33, 2));
        lineage.forget_commits();
        assert!(lineage.contains(at(3, 33, 4711)));
        assert!(!lineage.contains(at(3, 34, 1)));
    }

    #[test]
    fn a_lineage_is_bounded() {
        let mut lineage = Lineage::default();
        for number in 1..=3 * limits::ANCESTORS_MAX as u32 {
            lineage.stand_at(at(number, number, 1));
        }
        assert!(lineage.is_bounded());
        assert!(!lineage.contains(at(1, 1, 1)));
        assert!(lineage.contains(at(
            3 * limits::ANCESTORS_MAX as u32,
            3 * limits::ANCESTORS_MAX as u32,
            1
        )));
    }
}
