//! Mass deletion waits for a person: the peer's copy may be the last one.

use std::collections::BTreeMap;
use std::time::Instant;

use super::trees::{Fault, Pass};
use crate::limits;
use crate::mirror::entry::TreeId;
use crate::mirror::index::Index;
use crate::mirror::proto::{Change, Op};

/// By how many names each tree became smaller, in the series under way and in those shortly before: what is
/// removed at once may come in several.
#[derive(Debug, Default)]
pub struct Brake {
    shrinks: BTreeMap<TreeId, i64>,
    passed: BTreeMap<TreeId, i64>,
    /// When the first of those that passed did.
    since: Option<Instant>,
    /// A person has said that what goes is meant to go.
    approved: bool,
}

impl Brake {
    /// A series begins.
    pub fn begin(&mut self, now: Instant) {
        self.shrinks.clear();
        if self.since.is_some_and(|since| now - since >= limits::MASS_DELETE_FOR) {
            self.forget();
        }
    }

    /// A person has said that what goes is meant to go.
    pub fn approve(&mut self) {
        self.approved = true;
    }

    /// The series is on the peer. `whole`: nothing is left of what was known when a person said that it is
    /// meant; what comes then needs its own word.
    pub fn passed(&mut self, now: Instant, whole: bool) {
        self.since.get_or_insert(now);
        for (tree, names) in std::mem::take(&mut self.shrinks) {
            let sum = self.passed.entry(tree).or_default();
            // A tree that has grown meanwhile is as large as it is.
            *sum = sum.saturating_add(names).max(0);
        }
        let is_mass = |names: &i64| *names >= limits::MASS_DELETE_NAMES_MIN;
        if self.approved && whole && self.passed.values().any(is_mass) {
            self.approved = false;
            self.forget();
        }
    }

    fn forget(&mut self) {
        self.passed.clear();
        self.since = None;
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
            let of = |sums: &BTreeMap<TreeId, i64>| sums.get(&tree.id).copied().unwrap_or(0);
            let went = of(&self.passed);
            let goes = of(&self.shrinks).saturating_add(went);
            if tree.max_delete_percent >= 100 || goes < limits::MASS_DELETE_NAMES_MIN {
                continue;
            }
            let mut names = went;
            for row in index.iter_tree(tree.id) {
                names = names.saturating_add(i64::from(!row?.0.path.is_root()));
            }
            let max = tree.max_delete_percent;
            if goes.saturating_mul(100) > names.saturating_mul(i64::from(max)) {
                return Err(Fault::Brake(format!(
                    "{goes} of {names} names in {} are gone, more than max_delete = \"{max}%\" allows at once; \
                     nothing is mirrored until they are back or you confirm the deletion: {remedy}",
                    tree.path.display()
                )));
            }
        }
        Ok(())
    }
}
