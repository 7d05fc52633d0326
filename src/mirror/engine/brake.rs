//! Mass deletion waits for a person: the peer's copy may be the last one.

use std::collections::BTreeMap;

use super::trees::{Fault, Pass};
use crate::limits;
use crate::mirror::entry::TreeId;
use crate::mirror::index::Index;
use crate::mirror::proto::{Change, Op};

/// By how many names a series makes each tree smaller.
#[derive(Debug, Default)]
pub struct Brake {
    shrinks: BTreeMap<TreeId, i64>,
    /// A person has said that the next such series is meant.
    approved: bool,
}

impl Brake {
    /// A series begins.
    pub fn begin(&mut self) {
        self.shrinks.clear();
    }

    /// A person has said that what goes is meant to go.
    pub fn approve(&mut self) {
        self.approved = true;
    }

    /// The series is on the peer: the next one needs its own word.
    pub fn passed(&mut self) {
        if self.shrinks.values().any(|&names| names >= limits::MASS_DELETE_NAMES_MIN) {
            self.approved = false;
        }
    }

    /// One more op of the series; `known`: the index has an entry of its name.
    pub fn count(&mut self, op: &Op, known: bool) {
        let names = match (&op.change, known) {
            (Change::Delete, true) => 1,
            (Change::Put(_), false) => -1,
            (Change::Delete, false) | (Change::Put(_), true) => return,
        };
        let sum = self.shrinks.entry(op.key.tree).or_default();
        *sum = sum.saturating_add(names);
    }

    /// Looked at when the series is whole: what is renamed is as many names as before. `remedy`: how a
    /// person says that it is meant.
    ///
    /// # Errors
    /// Too much of a tree goes.
    pub fn check(&self, pass: &Pass<'_>, index: &Index, remedy: &str) -> Result<(), Fault> {
        if self.approved {
            return Ok(());
        }
        for (tree, _) in pass.iter() {
            let goes = self.shrinks.get(&tree.id).copied().unwrap_or(0);
            if tree.max_delete_percent >= 100 || goes < limits::MASS_DELETE_NAMES_MIN {
                continue;
            }
            let mut names = 0_i64;
            for row in index.iter_tree(tree.id) {
                names = names.saturating_add(i64::from(!row?.0.path.is_root()));
            }
            let max = tree.max_delete_percent;
            if goes.saturating_mul(100) > names.saturating_mul(i64::from(max)) {
                return Err(Fault::Disk(format!(
                    "{goes} of {names} names in {} are gone, more than max_delete = \"{max}%\" allows at \
                     once; nothing is mirrored until they are back, or a person says that it is meant: \
                     {remedy}",
                    tree.path.display()
                )));
            }
        }
        Ok(())
    }
}
