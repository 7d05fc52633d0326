//! The journal of dirty names: a set in memory, and a file to which every mark is appended with one
//! write. A mark needs no wait for the disk, which the database would (its commits are durable or lost
//! with the process); written bytes outlive the process in the kernel's cache.
//!
//! The file only grows by marks, so it holds all dirty names and some that are clean by now: looking at
//! those again does no harm. It is cut when nothing is dirty, and rewritten when most of it is past.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::limits;
use crate::mirror::entry::{Key, TreeId};

/// What is appended.
#[derive(Serialize, Deserialize)]
enum Record {
    Name(Key),
    Tree(TreeId),
}

/// The dirty names.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    /// Length of the file in bytes.
    length: u64,
    waiting: BTreeSet<Key>,
    in_work: BTreeSet<Key>,
    trees: BTreeSet<TreeId>,
    /// What both sets of names cost.
    bytes: usize,
}

/// What a name costs in memory, about.
fn cost(key: &Key) -> usize {
    limits::DIRTY_NAME_BYTES + key.path.as_bytes().len()
}

impl Journal {
    /// Reads the journal. A record that was not written to its end is dropped: its mark had not returned.
    pub(super) fn open(path: &Path) -> io::Result<Journal> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut bytes = Vec::new();
        // Longer is none of ours; the walk that follows finds what is not read.
        (&mut file).take(2 * limits::DIRTY_JOURNAL_BYTES_MAX).read_to_end(&mut bytes)?;
        let mut journal = Journal {
            path: path.to_owned(),
            file,
            length: 0,
            waiting: BTreeSet::new(),
            in_work: BTreeSet::new(),
            trees: BTreeSet::new(),
            bytes: 0,
        };
        let mut rest = bytes.as_slice();
        while let Ok((record, behind)) = postcard::take_from_bytes::<Record>(rest) {
            match record {
                Record::Name(key) => {
                    journal.insert(&key);
                }
                Record::Tree(tree) => journal.collapse(tree),
            }
            rest = behind;
        }
        journal.length = (bytes.len() - rest.len()) as u64;
        journal.file.set_len(journal.length)?;
        Ok(journal)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn mark(&mut self, keys: &[Key]) -> io::Result<()> {
        let mut records = Vec::new();
        for key in keys {
            if let Some(record) = self.insert(key) {
                append(&mut records, &record)?;
            }
        }
        self.write(&records)
    }

    pub(super) fn mark_tree(&mut self, tree: TreeId) -> io::Result<()> {
        if self.trees.contains(&tree) {
            return Ok(());
        }
        self.collapse(tree);
        let mut records = Vec::new();
        append(&mut records, &Record::Tree(tree))?;
        self.write(&records)
    }

    /// Puts a name among those that wait. Returns what the file does not have yet.
    fn insert(&mut self, key: &Key) -> Option<Record> {
        if self.trees.contains(&key.tree) {
            return None;
        }
        let known = self.in_work.remove(key);
        if !self.waiting.insert(key.clone()) || known {
            return None;
        }
        self.bytes += cost(key);
        if self.bytes > limits::DIRTY_BYTES_MAX {
            self.collapse(key.tree);
            return Some(Record::Tree(key.tree));
        }
        Some(Record::Name(key.clone()))
    }

    fn collapse(&mut self, tree: TreeId) {
        self.trees.insert(tree);
        self.waiting.retain(|key| key.tree != tree);
        self.in_work.retain(|key| key.tree != tree);
        self.bytes = self.waiting.iter().chain(&self.in_work).map(cost).sum();
    }

    pub(super) fn take(&mut self, max: usize) -> Vec<Key> {
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(key) = self.waiting.pop_first()
        {
            self.in_work.insert(key.clone());
            taken.push(key);
        }
        taken
    }

    pub(super) fn give_back(&mut self) {
        self.waiting.append(&mut self.in_work);
    }

    /// Forgets those of the names that are in work and were not marked again.
    pub(super) fn clean(&mut self, keys: &[Key]) {
        for key in keys {
            if self.in_work.remove(key) {
                self.bytes = self.bytes.saturating_sub(cost(key));
            }
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.bytes < limits::DIRTY_BYTES_MAX / 2
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.in_work.len()
    }

    pub(super) fn tree_dirty(&self, tree: TreeId) -> bool {
        self.trees.contains(&tree)
    }

    pub(super) fn walk_begins(&mut self, tree: TreeId) {
        self.trees.remove(&tree);
    }

    /// Whether the file is so long that it must be trimmed, even if that takes a durable commit.
    pub(super) fn is_long(&self) -> bool {
        self.length > limits::DIRTY_JOURNAL_BYTES_MAX
    }

    /// Makes the file shorter if most of it is past. Only when what was cleaned is clean for good: after
    /// a durable commit.
    pub(super) fn trim(&mut self) -> io::Result<()> {
        if self.len() == 0 && self.trees.is_empty() {
            if self.length > 0 {
                self.file.set_len(0)?;
                self.length = 0;
            }
            return Ok(());
        }
        // A record takes less than what its name costs.
        let live = self.bytes as u64;
        if self.length > limits::DIRTY_JOURNAL_BYTES_MIN && self.length / 2 > live {
            self.rewrite()?;
        }
        Ok(())
    }

    fn rewrite(&mut self) -> io::Result<()> {
        let mut records = Vec::new();
        for tree in &self.trees {
            append(&mut records, &Record::Tree(*tree))?;
        }
        for key in self.waiting.iter().chain(&self.in_work) {
            append(&mut records, &Record::Name(key.clone()))?;
        }
        let new = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&records)?;
        std::fs::rename(&new, &self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.length = records.len() as u64;
        Ok(())
    }

    fn write(&mut self, records: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(records) {
            // Half a record would hide those behind it.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += records.len() as u64;
        Ok(())
    }
}

fn append(records: &mut Vec<u8>, record: &Record) -> io::Result<()> {
    postcard::to_io(record, records).map_err(io::Error::other)?;
    Ok(())
}
