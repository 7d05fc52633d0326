//! What the writer did on both nodes, and what must be left of it.
//!
//! Two questions, with the writer at rest. *Is anything lost that was acknowledged?* A page whose
//! version was written before a call of `sync --wait` that succeeded must be in the tree: that version,
//! or a later one. *Is anything lost in silence?* Each version that was written, acknowledged or not,
//! must be in the tree or in a conflict store, or the writer itself must have replaced it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::page::Page;
use clusterd::config::NodeIndex;

/// A line of a writer's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A writer has started, or goes on after a change that could not be made.
    Start,
    /// It is about to change this.
    Change(Change),
    /// What it did up to this number was acknowledged.
    Safe(u64),
    /// It has ended by itself, after its last change was made.
    End,
}

/// A change of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which page, and the version that it has from now on.
    pub page: Page,
    /// The version that was there; 0: none, or a document.
    pub previous: u64,
    /// It is deleted.
    pub is_delete: bool,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Line::Start => f.write_str("start"),
            Line::Change(Change { page: Page { name, number }, previous, is_delete }) => {
                let verb = if *is_delete { "delete" } else { "write" };
                write!(f, "{verb} {number} {previous} {name}")
            }
            Line::Safe(number) => write!(f, "safe {number}"),
            Line::End => f.write_str("end"),
        }
    }
}

impl Line {
    fn read(text: &str) -> Option<Line> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let change = |is_delete| {
            let mut words = rest.splitn(3, ' ');
            let number = words.next()?.parse().ok()?;
            let previous = words.next()?.parse().ok()?;
            let page = Page { name: words.next()?.to_owned(), number };
            Some(Line::Change(Change { page, previous, is_delete }))
        };
        match verb {
            "start" => Some(Line::Start),
            "write" => change(false),
            "delete" => change(true),
            "safe" => rest.parse().ok().map(Line::Safe),
            "end" => Some(Line::End),
            _ => None,
        }
    }
}

/// The versions in a tree by the names of their pages; 0: a document as it was at first.
pub type Versions = BTreeMap<String, u64>;

/// What is known of the writers of both nodes.
#[derive(Debug, Default)]
pub struct Ledger {
    journals: [Journal; 2],
    /// The newest acknowledged change of each page.
    safe: BTreeMap<String, Change>,
    made: u64,
    acknowledged: u64,
}

#[derive(Debug, Default)]
struct Journal {
    /// Bytes of the file that were taken in.
    read: usize,
    changes: Vec<Made>,
    /// Where the changes of the writer that was started last begin.
    run: usize,
    /// All up to this number was acknowledged.
    safe: u64,
}

#[derive(Clone, Debug)]
struct Made {
    change: Change,
    /// Whether it was made for sure.
    is_sure: bool,
}

impl Ledger {
    /// Takes in what is new in the journal of a node, of which this is all.
    ///
    /// # Errors
    /// The line that makes no sense.
    pub fn take(&mut self, node: NodeIndex, journal: &[u8]) -> Result<(), String> {
        let [lower, upper] = &mut self.journals;
        let own = match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        };
        let new = journal.get(own.read..).unwrap_or_default();
        // The end of a line that is being written comes later.
        let end = new.iter().rposition(|&byte| byte == b'\n').map_or(0, |last| last + 1);
        own.read += end;
        let text = String::from_utf8_lossy(new.get(..end).unwrap_or_default());
        for line in text.lines() {
            match Line::read(line).ok_or_else(|| line.to_owned())? {
                Line::Start => own.run = own.changes.len(),
                Line::Change(change) => {
                    own.last_is_sure();
                    self.made += 1;
                    own.changes.push(Made { change, is_sure: false });
                }
                Line::Safe(number) => {
                    let run = own.changes.get(own.run..).unwrap_or_default().iter();
                    let before = std::mem::replace(&mut own.safe, number);
                    for Made { change, .. } in run.filter(|made| made.change.page.number <= number)
                    {
                        self.acknowledged += u64::from(change.page.number > before);
                        let newest = self.safe.entry(change.page.name.clone());
                        let newest = newest.or_insert_with(|| change.clone());
                        if newest.page.number < change.page.number {
                            *newest = change.clone();
                        }
                    }
                }
                Line::End => own.last_is_sure(),
            }
        }
        Ok(())
    }

    /// Acknowledged changes that this tree has not. A tree that is written to must have been read
    /// before the journals.
    pub fn lost(&self, tree: &Versions) -> BTreeSet<Page> {
        let found = |change: &Change| tree.get(&change.page.name).copied();
        let lost = self.safe.values().filter(|change| self.is_lost(change, found(change)));
        lost.map(|change| change.page.clone()).collect()
    }

    /// What was acknowledged of this page, if `found` is older, or nothing.
    pub fn is_older(&self, name: &str, found: Option<u64>) -> Option<Page> {
        let change = self.safe.get(name).filter(|change| self.is_lost(change, found))?;
        Some(change.page.clone())
    }

    fn is_lost(&self, change: &Change, found: Option<u64>) -> bool {
        match found {
            Some(found) => found < change.page.number,
            None => !change.is_delete && !self.is_deleted_after(&change.page),
        }
    }

    /// How many changes were made, and how many were acknowledged.
    pub fn counts(&self) -> (u64, u64) {
        (self.made, self.acknowledged)
    }

    fn is_deleted_after(&self, page: &Page) -> bool {
        self.changes().any(|Made { change, .. }| {
            change.is_delete && change.page.name == page.name && change.page.number > page.number
        })
    }

    /// Versions that were written and are nowhere: neither in the tree nor among those `kept` in
    /// conflict stores, and that no writer has replaced.
    pub fn missing(&self, tree: &Versions, kept: &BTreeSet<Page>) -> BTreeSet<Page> {
        let mut after: HashMap<(&str, u64), Vec<&Made>> = HashMap::new();
        for made in self.changes() {
            let replaced = (made.change.page.name.as_str(), made.change.previous);
            after.entry(replaced).or_default().push(made);
        }
        let is_there =
            |page: &Page| tree.get(&page.name) == Some(&page.number) || kept.contains(page);
        let written = self.changes().filter(|made| made.is_sure && !made.change.is_delete);
        written
            .map(|made| &made.change.page)
            .filter(|page| !accounted(page, &is_there, &after))
            .cloned()
            .collect()
    }

    /// All was judged, with the writer at rest and everything synchronised: what is in this tree now is
    /// acknowledged, and how it came there no longer matters.
    pub fn settle(&mut self, tree: &Versions) {
        for journal in &mut self.journals {
            let pending = journal.changes.split_off(journal.run).pop();
            journal.changes = pending.filter(|made| !made.is_sure).into_iter().collect();
            journal.run = 0;
        }
        let written = tree.iter().filter(|(_, number)| **number > 0).map(|(name, &number)| {
            let page = Page { name: name.clone(), number };
            (name.clone(), Change { page, previous: 0, is_delete: false })
        });
        self.safe = written.collect();
    }

    fn changes(&self) -> impl Iterator<Item = &Made> {
        self.journals.iter().flat_map(|journal| &journal.changes)
    }
}

impl Journal {
    fn last_is_sure(&mut self) {
        let run = self.changes.get_mut(self.run..).unwrap_or_default();
        if let Some(last) = run.last_mut() {
            last.is_sure = true;
        }
    }
}

/// Whether a version is there, or was replaced by one for which the same holds. A change that may not
/// have been made replaces nothing unless it is found.
fn accounted(
    page: &Page,
    is_there: &impl Fn(&Page) -> bool,
    after: &HashMap<(&str, u64), Vec<&Made>>,
) -> bool {
    let replaced = after.get(&(page.name.as_str(), page.number));
    is_there(page)
        || replaced.is_some_and(|by| {
            by.iter().any(|made| {
                made.is_sure
                    || made.change.is_delete
                    || accounted(&made.change.page, is_there, after)
            })
        })
}

#[cfg(test)]
mod tests;
