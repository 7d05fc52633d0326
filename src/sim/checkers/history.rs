//! Every version of a group's files that was ever written. A version knows the one that its writer saw; it
//! is *kept* where it or one that descends from it is.

use super::super::mirror::replica::{FILES, Replica, Tree};
use crate::config::NodeIndex;

/// A version of a file.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// By whom; nobody: as it was at the very beginning.
    pub by: Option<NodeIndex>,
    /// What its writer saw.
    pub saw: u32,
    /// When it was written.
    pub at_us: u64,
    /// It may be missing from what is served later: both nodes held the group when it was written, or it was
    /// not old enough to be on the node that took over.
    pub excused: bool,
    /// It went with a disk that was lost or set back, and was nowhere else.
    pub gone: bool,
}

/// All versions of one group's files.
#[derive(Clone, Debug)]
pub struct History(Vec<Version>);

impl History {
    /// As it is at the very beginning.
    pub fn new() -> History {
        History(vec![Version { by: None, saw: 0, at_us: 0, excused: false, gone: false }])
    }

    /// One more; its number.
    pub fn add(&mut self, version: Version) -> u32 {
        self.0.push(version);
        self.0.len() as u32 - 1
    }

    /// A version by its number.
    pub fn get(&self, version: u32) -> Version {
        self.0[version as usize]
    }

    /// Whether `version` is `kept` or a descendant of it.
    pub fn keeps(&self, mut version: u32, kept: u32) -> bool {
        while version > kept {
            version = self.get(version).saw;
        }
        version == kept
    }

    /// What a tree lacks of an earlier one, the newest first, by file.
    pub fn lost<'a>(
        &'a self,
        tree: &'a Tree,
        before: &'a Tree,
    ) -> impl Iterator<Item = (usize, u32)> + 'a {
        (0..FILES).flat_map(move |file| {
            let saw = |&version: &u32| Some(self.get(version).saw);
            std::iter::successors(Some(before[file]), saw)
                .take_while(move |&version| !self.keeps(tree[file], version))
                .map(move |version| (file, version))
        })
    }

    /// The versions that these copies keep, in their trees, on the way into them, or in their conflict stores.
    pub fn kept_by(&self, copies: [&Replica; 2]) -> Vec<bool> {
        let mut seen = vec![false; self.0.len()];
        seen[0] = true;
        let trees = copies.iter().flat_map(|copy| {
            let staged = copy.staged.iter().flat_map(|series| series.snapshot);
            copy.tree.into_iter().chain(staged)
        });
        let stored = copies.iter().flat_map(|copy| &copy.conflicts).copied();
        for mut version in trees.chain(stored) {
            while !std::mem::replace(&mut seen[version as usize], true) {
                version = self.get(version).saw;
            }
        }
        seen
    }

    /// What a tree lacks of an earlier one is excused.
    pub fn excuse(&mut self, tree: &Tree, before: &Tree) {
        let lost: Vec<u32> = self.lost(tree, before).map(|(_, version)| version).collect();
        for version in lost {
            self.0[version as usize].excused = true;
        }
    }

    /// A disk was lost or set back: what no copy keeps now is gone.
    pub fn lose(&mut self, copies: [&Replica; 2]) {
        let kept = self.kept_by(copies);
        for (version, kept) in self.0.iter_mut().zip(kept) {
            version.gone |= !kept;
        }
    }
}
