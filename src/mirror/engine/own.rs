//! What somebody changed, made or deleted in the copy on the standby side.
//!
//! Its row in the index loses its entry, also if the name is gone: no entry of the owner has the digest of
//! such a row, so that a comparison finds it. A row without an entry outlives a claim. Then the new owner
//! has the name so by nobody's order, and the peer keeps what it has before it follows.

use std::collections::BTreeMap;

use super::trees::{Fault, Pass};
use crate::limits;
use crate::mirror::entry::{Key, Kind, Seen, Stored};
use crate::mirror::hash;
use crate::mirror::index::{Index, IndexError};
use crate::mirror::meta::{self, What};
use crate::mirror::proto::Differ;

/// In no commit.
const UNKNOWN: Stored = Stored { entry: None, seen: None };

/// Whether a name is what the index says, though it looks otherwise.
#[derive(Debug)]
pub struct Judge {
    /// Bytes of content that may be read yet.
    left: u64,
}

enum Verdict {
    Changed,
    /// How it looks, if that proves it from now on.
    Same(Option<Seen>),
}

impl Judge {
    /// Reads what is needed: the peer waits.
    pub fn thorough() -> Judge {
        Judge { left: u64::MAX }
    }

    /// Reads no more than what takes a moment.
    pub fn quick() -> Judge {
        Judge { left: limits::REPLICA_HASH_BYTES_MAX }
    }

    /// It may only look different: touched and set back, or read before its times were final.
    fn verdict(&mut self, pass: &Pass<'_>, stored: &Stored, key: &Key) -> Result<Verdict, Fault> {
        let (Some(entry), Some((tree, root))) = (&stored.entry, pass.of(key)) else {
            return Ok(Verdict::Changed);
        };
        let Some(look) = meta::look(root, &key.path)? else { return Ok(Verdict::Changed) };
        if !look.has_metadata_of(entry) {
            return Ok(Verdict::Changed);
        }
        let proof = Some(look.seen).filter(|_| look.settled);
        let same = match (&entry.kind, &look.what) {
            (Kind::Dir, What::Dir) => true,
            (Kind::Symlink { target }, What::Symlink(here)) => target == here,
            (Kind::Link { to }, What::File) => {
                meta::quick(root, to)?.is_some_and(|(seen, _)| seen.ino == look.seen.ino)
            }
            (Kind::File(content), What::File) if content.size != look.seen.size => false,
            (Kind::File(content), What::File) => {
                let Some(left) = self.left.checked_sub(content.size) else {
                    return Ok(Verdict::Same(None));
                };
                self.left = left;
                root.open_file(&key.path).is_ok_and(|file| {
                    hash::content(&file, &look.seen, tree.hash, limits::HASH_THREADS)
                        .is_ok_and(|here| here == *content)
                })
            }
            (Kind::Dir | Kind::File(_) | Kind::Symlink { .. } | Kind::Link { .. }, _) => false,
        };
        Ok(if same { Verdict::Same(proof) } else { Verdict::Changed })
    }
}

/// What was found, until it is in the index.
#[derive(Debug, Default)]
pub struct Own {
    changes: BTreeMap<Key, Option<Stored>>,
    as_before: Vec<(Key, Seen)>,
    differ: Differ,
}

impl Own {
    /// A name is there, and looks otherwise than the index says, or the index does not know it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn differs(
        &mut self,
        judge: &mut Judge,
        pass: &Pass<'_>,
        index: &Index,
        key: Key,
    ) -> Result<(), Fault> {
        let verdict = match index.get(&key)? {
            Some(stored) if stored.entry.is_none() => {
                self.differ.add(&key);
                return Ok(());
            }
            Some(stored) => judge.verdict(pass, &stored, &key)?,
            None => Verdict::Changed,
        };
        match verdict {
            Verdict::Changed => {
                self.unknown(key);
            }
            Verdict::Same(Some(seen)) => self.as_before.push((key, seen)),
            Verdict::Same(None) => {}
        }
        Ok(())
    }

    /// A name of the index is gone.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn gone(&mut self, index: &Index, key: Key) -> Result<(), Fault> {
        self.differ.add(&key);
        if index.get(&key)?.is_some_and(|stored| stored.entry.is_some()) {
            self.changes.insert(key, Some(UNKNOWN));
        }
        Ok(())
    }

    /// A name is otherwise by nobody's order.
    pub fn unknown(&mut self, key: Key) {
        self.differ.add(&key);
        self.changes.insert(key, Some(UNKNOWN));
    }

    /// A name of the index is no more to be mirrored.
    pub fn excluded(&mut self, key: Key) {
        self.changes.insert(key, None);
    }

    /// Whether a name was found already.
    pub fn has(&self, key: &Key) -> bool {
        self.changes.contains_key(key)
    }

    /// Brings the index in line. Returns what differs.
    ///
    /// # Errors
    /// The store fails.
    pub fn commit(self, index: &Index) -> Result<Differ, IndexError> {
        for some in self.as_before.chunks(limits::WALK_MARKS) {
            index.set_seen(some)?;
        }
        // What is no more mirrored takes what is below with it: that first, then what is there.
        let mut changes: Vec<_> = self.changes.into_iter().collect();
        changes.sort_by_key(|(_, stored)| stored.is_some());
        for some in changes.chunks(limits::WALK_MARKS) {
            index.commit(some, None, &[], true)?;
        }
        Ok(self.differ)
    }
}
