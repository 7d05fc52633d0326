//! What the last common commit left in a group's trees on this node, and which names are dirty since.
//!
//! `<dir>/index.redb` holds the entries, with digests by which two nodes find what differs without
//! telling everything; `<dir>/dirty` is the journal of dirty names (`journal`). `rows` has rows
//! and ranges of the database, `edit` its changes, `compare` its digests.
//!
//! The database is never made anew in silence: an index is the common base without which a conflict
//! looks like a change. A missing file is an empty index.

mod compare;
mod edit;
mod error;
mod journal;
mod rows;

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable};
use redb::{ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::compare::bucket_of;
use self::edit::Editor;
pub use self::error::IndexError;
use self::error::fault;
use self::journal::Journal;
pub use self::rows::Rows;
use super::entry::{Digest, Key, Seen, Stored, TreeId};
use crate::core::Generation;
use crate::limits;

/// Version of what the tables hold.
const FORMAT: u32 = 1;

/// Row of a key -> postcard of its [`Stored`].
const ENTRIES: TableDefinition<&[u8], &[u8]> = TableDefinition::new("entries");
/// Bucket, then row of a key -> digest of its entry.
const DIGESTS: TableDefinition<&[u8], &Digest> = TableDefinition::new("digests");
/// Bucket -> sum of its digests as little-endian numbers, modulo 2^128.
const SUMS: TableDefinition<u16, u128> = TableDefinition::new("sums");
/// Name -> postcard.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");

const META_FORMAT: &str = "format";
const META_POSITION: &str = "position";
const META_COPY: &str = "copy";

/// The last common commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Under which owner it was made.
    pub generation: Generation,
    /// Counts the commits of that generation.
    pub commit: u64,
}

/// What the trees on this node are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    /// The whole state of one commit, not half of a synchronisation.
    pub complete: bool,
    /// The generation that they belong to; `None`: never synchronised, never owned.
    pub of: Option<Generation>,
}

/// The index of one group. All methods take `&self`; writes wait for each other.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    database: Database,
    journal: Mutex<Journal>,
}

impl Index {
    /// Opens the index in `dir`, which is made if it is missing. Every page is checked first: a damaged
    /// one would end the process later.
    ///
    /// # Errors
    /// In use, damaged, of another format, or the disk refuses.
    pub fn open(dir: &Path) -> Result<Index, IndexError> {
        let path = dir.join("index.redb");
        let at = |source| IndexError::Open { path: path.clone(), source };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(|source| IndexError::Open { path: dir.to_owned(), source })?;
        if !path.try_exists().map_err(at)? {
            // Made beside it and renamed: an `index.redb` of no length is damage, not a beginning.
            let new = dir.join("index.redb.new");
            match std::fs::remove_file(&new) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(at(source)),
                Ok(()) | Err(_) => {}
            }
            create(&new)?;
            std::fs::rename(&new, &path).map_err(at)?;
            std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(at)?;
        }
        let database = builder().open(&path).map_err(|error| fault(&path, error))?;
        let journal_path = dir.join("dirty");
        let journal = Journal::open(&journal_path)
            .map_err(|source| IndexError::Journal { path: journal_path, source })?;
        let index = Index { path, database, journal: Mutex::new(journal) };
        match index.meta::<u32>(META_FORMAT)? {
            Some(FORMAT) => Ok(index),
            Some(found) => Err(IndexError::Format { path: index.path, found }),
            None => Err(index.damaged("it has no format".to_owned())),
        }
    }

    /// What the last common commit put at this name.
    ///
    /// # Errors
    /// The store fails.
    pub fn get(&self, key: &Key) -> Result<Option<Stored>, IndexError> {
        let entries = self.read()?.open_table(ENTRIES).map_err(|error| self.fault(error))?;
        let value = entries.get(rows::row(key).as_slice()).map_err(|error| self.fault(error))?;
        value.map(|value| self.decode(value.value())).transpose()
    }

    /// Names in the index.
    ///
    /// # Errors
    /// The store fails.
    pub fn len(&self) -> Result<u64, IndexError> {
        let entries = self.read()?.open_table(ENTRIES).map_err(|error| self.fault(error))?;
        entries.len().map_err(|error| self.fault(error))
    }

    /// Whether there is no name in it.
    ///
    /// # Errors
    /// The store fails.
    pub fn is_empty(&self) -> Result<bool, IndexError> {
        Ok(self.len()? == 0)
    }

    /// Everything in a tree in the order of keys. Read in pieces: no snapshot, and writes go on meanwhile.
    pub fn iter_tree(&self, tree: TreeId) -> Rows<'_> {
        Rows::new(self, rows::of_tree(tree))
    }

    /// Everything below a directory, without itself; else as [`Index::iter_tree`].
    pub fn below(&self, directory: &Key) -> Rows<'_> {
        Rows::new(self, rows::below(directory))
    }

    /// One transaction: puts and deletes in this order, then the position. A delete removes everything
    /// below its name, and so does a put of anything but a directory. Then the names in `clean` are dirty
    /// no more, but for those that were marked again since [`Index::dirty`] returned them.
    ///
    /// `durable`: it survives a power cut, and all commits before it do, from the moment of the return.
    /// Else it is seen at once but lost if the process ends before the next durable one; what is left is
    /// then the state of an earlier commit, never a part of one.
    ///
    /// # Errors
    /// The store fails: nothing is committed, or after a failed write to the disk, perhaps all of it; the
    /// index then refuses writes until it is opened again. [`IndexError::Journal`]: it is committed.
    pub fn commit(
        &self,
        changes: &[(Key, Option<Stored>)],
        position: Option<Position>,
        clean: &[Key],
        durable: bool,
    ) -> Result<(), IndexError> {
        if durable || position.is_some() || !changes.is_empty() {
            let write = self.write(durable)?;
            let mut editor = Editor::new(self, &write)?;
            for (key, stored) in changes {
                match stored {
                    Some(stored) => editor.put(key, stored)?,
                    None => editor.delete(key)?,
                }
            }
            editor.finish()?;
            if let Some(position) = position {
                self.put_meta(&write, META_POSITION, &position)?;
            }
            write.commit().map_err(|error| self.fault(error))?;
        }
        let mut journal = self.journal();
        journal.clean(clean);
        if durable {
            journal.trim().map_err(|source| self.journal_fault(&journal, source))?;
        }
        Ok(())
    }

    /// How these names look now. Names that are not in the index are left out. Not durable: what a crash
    /// loses is looked at again.
    ///
    /// # Errors
    /// The store fails.
    pub fn set_seen(&self, seen: &[(Key, Seen)]) -> Result<(), IndexError> {
        let write = self.write(false)?;
        {
            let mut entries = write.open_table(ENTRIES).map_err(|error| self.fault(error))?;
            for (key, seen) in seen {
                let row = rows::row(key);
                let old = entries.get(row.as_slice()).map_err(|error| self.fault(error))?;
                let Some(mut stored) =
                    old.map(|old| self.decode::<Stored>(old.value())).transpose()?
                else {
                    continue;
                };
                stored.seen = Some(*seen);
                let value = self.encode(&stored)?;
                entries
                    .insert(row.as_slice(), value.as_slice())
                    .map_err(|error| self.fault(error))?;
            }
        }
        write.commit().map_err(|error| self.fault(error))
    }

    /// The last common commit; `None`: there was none.
    ///
    /// # Errors
    /// The store fails.
    pub fn position(&self) -> Result<Option<Position>, IndexError> {
        self.meta(META_POSITION)
    }

    /// What the trees on this node are.
    ///
    /// # Errors
    /// The store fails.
    pub fn copy(&self) -> Result<CopyState, IndexError> {
        Ok(self.meta(META_COPY)?.unwrap_or_default())
    }

    /// Says what the trees on this node are. Durable when it returns.
    ///
    /// # Errors
    /// The store fails.
    pub fn set_copy(&self, copy: CopyState) -> Result<(), IndexError> {
        self.set_meta(META_COPY, &copy)
    }

    /// The root that this tree had: file system id and inode. `None`: not known yet.
    ///
    /// # Errors
    /// The store fails.
    pub fn root_id(&self, tree: TreeId) -> Result<Option<(u64, u64)>, IndexError> {
        self.meta(&root_name(tree))
    }

    /// Says which root this tree has. Durable when it returns.
    ///
    /// # Errors
    /// The store fails.
    pub fn set_root_id(&self, tree: TreeId, root: (u64, u64)) -> Result<(), IndexError> {
        self.set_meta(&root_name(tree), &root)
    }

    /// Marks names as dirty: to be looked at. Survives a crash of the process when it returns. A power
    /// cut may lose the newest marks: what changed is then found by the walk that follows every start.
    ///
    /// Beyond [`limits::DIRTY_BYTES_MAX`] the tree is dirty as a whole, and its names are forgotten.
    ///
    /// # Errors
    /// The disk refuses: they are marked, but not crash-safe.
    pub fn mark(&self, keys: &[Key]) -> Result<(), IndexError> {
        let mut journal = self.journal();
        let written = journal.mark(keys);
        self.marked(journal, written)
    }

    /// Marks a whole tree as dirty: to be walked.
    ///
    /// # Errors
    /// As [`Index::mark`].
    pub fn mark_tree(&self, tree: TreeId) -> Result<(), IndexError> {
        let mut journal = self.journal();
        let written = journal.mark_tree(tree);
        self.marked(journal, written)
    }

    fn marked(
        &self,
        mut journal: MutexGuard<'_, Journal>,
        written: io::Result<()>,
    ) -> Result<(), IndexError> {
        written.map_err(|source| self.journal_fault(&journal, source))?;
        if journal.is_long() {
            // What is left out of the shorter journal must be clean for good.
            let write = self.write(true)?;
            write.commit().map_err(|error| self.fault(error))?;
            journal.trim().map_err(|source| self.journal_fault(&journal, source))?;
        }
        Ok(())
    }

    /// Up to `max` dirty names, lowest first. They are in work from now on and not returned again until
    /// they are marked again, or [`Index::give_back`]. [`Index::commit`] makes them clean.
    pub fn dirty(&self, max: usize) -> Vec<Key> {
        self.journal().take(max)
    }

    /// The names in work wait again: what was begun with them is void.
    pub fn give_back(&self) {
        self.journal().give_back();
    }

    /// Dirty names, those in work among them.
    pub fn dirty_len(&self) -> usize {
        self.journal().len()
    }

    /// Dirty names that are not in work.
    pub fn waiting(&self) -> usize {
        self.journal().waiting()
    }

    /// Whether many more names can be marked before a tree is dirty as a whole.
    pub fn has_room(&self) -> bool {
        self.journal().has_room()
    }

    /// Whether the tree is dirty as a whole. Its names are not kept singly until [`Index::walk_begins`].
    pub fn tree_dirty(&self, tree: TreeId) -> bool {
        self.journal().tree_dirty(tree)
    }

    /// The tree is about to be walked: from now on its names are marked singly again. If the walk fails,
    /// [`Index::mark_tree`] again.
    pub fn walk_begins(&self, tree: TreeId) {
        self.journal().walk_begins(tree);
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        // A panic ends the process, so there is no poison; and the journal holds only hints.
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Result<ReadTransaction, IndexError> {
        self.database.begin_read().map_err(|error| self.fault(error))
    }

    fn write(&self, durable: bool) -> Result<WriteTransaction, IndexError> {
        let mut write = self.database.begin_write().map_err(|error| self.fault(error))?;
        let durability = if durable { Durability::Immediate } else { Durability::None };
        write.set_durability(durability).map_err(|error| self.fault(error))?;
        Ok(write)
    }

    fn meta<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, IndexError> {
        let meta = self.read()?.open_table(META).map_err(|error| self.fault(error))?;
        let value = meta.get(name).map_err(|error| self.fault(error))?;
        value.map(|value| self.decode(value.value())).transpose()
    }

    fn set_meta<T: Serialize>(&self, name: &str, value: &T) -> Result<(), IndexError> {
        let write = self.write(true)?;
        self.put_meta(&write, name, value)?;
        write.commit().map_err(|error| self.fault(error))
    }

    fn put_meta<T: Serialize>(
        &self,
        write: &WriteTransaction,
        name: &str,
        value: &T,
    ) -> Result<(), IndexError> {
        let value = self.encode(value)?;
        let mut meta = write.open_table(META).map_err(|error| self.fault(error))?;
        meta.insert(name, value.as_slice()).map_err(|error| self.fault(error))?;
        Ok(())
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, IndexError> {
        postcard::to_allocvec(value).map_err(|error| self.damaged(error.to_string()))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, IndexError> {
        postcard::from_bytes(bytes).map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, why: String) -> IndexError {
        IndexError::Damaged { path: self.path.clone(), why }
    }

    fn fault(&self, error: impl Into<redb::Error>) -> IndexError {
        fault(&self.path, error)
    }

    fn journal_fault(&self, journal: &Journal, source: io::Error) -> IndexError {
        IndexError::Journal { path: journal.path().to_owned(), source }
    }
}

fn root_name(tree: TreeId) -> String {
    format!("root {}", tree.0)
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(limits::INDEX_CACHE_BYTES).set_check_integrity_on_open(true);
    builder
}

/// Makes an empty index, complete and durable.
fn create(path: &Path) -> Result<(), IndexError> {
    let damaged = |error: postcard::Error| redb::Error::Corrupted(error.to_string());
    let fill = || -> Result<(), redb::Error> {
        let database = builder().create(path)?;
        let write = database.begin_write()?;
        write.open_table(ENTRIES)?;
        write.open_table(DIGESTS)?;
        write.open_table(SUMS)?;
        let format = postcard::to_allocvec(&FORMAT).map_err(damaged)?;
        write.open_table(META)?.insert(META_FORMAT, format.as_slice())?;
        write.commit()?;
        Ok(())
    };
    fill().map_err(|error| fault(path, error))
}

#[cfg(test)]
mod tests;
