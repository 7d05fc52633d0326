//! What the last common commit left in a group's trees on this node, and which names are dirty since.
//!
//! `<dir>/index.redb` holds the entries, with digests by which two nodes find what differs without
//! telling everything; `<dir>/dirty` is the journal of dirty names (`journal`). `rows` has rows
//! and ranges of the database, `edit` its changes, `compare` its digests.
//!
//! The database is never recreated silently: an index is the common base without which a conflict
//! looks like a change. One that is damaged is set aside, and told; what the copy here is, and which
//! directories its roots are, is kept besides (`worth`). A missing file is an empty index.
//!
//! After the disk refused something the store takes no more writes until it is opened again
//! ([`Index::reopen`]).

mod compare;
mod edit;
mod error;
mod journal;
mod open;
mod rows;
mod under_way;
mod worth;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::SystemTime;

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable};
use redb::{ReadableTableMetadata, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use self::compare::bucket_of;
use self::edit::Editor;
pub use self::error::IndexError;
use self::error::fault;
use self::journal::Journal;
pub use self::rows::Rows;
use self::under_way::UnderWay;
use self::worth::Worth;
use super::entry::{Digest, Key, Seen, Stored, TreeId};
use super::lineage::Lineage;
pub use super::lineage::Position;
use crate::core::Generation;
use crate::limits;

/// Version of what the tables hold.
const FORMAT: u32 = 2;

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
const META_TIME: &str = "time";

/// What the trees on this node are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyState {
    /// The whole state of one commit, not half of a synchronisation.
    pub complete: bool,
    /// The generation that they belong to; `None`: never synchronised, never owned.
    pub of: Option<Generation>,
    /// The generations in which this node may have begun to serve them, the newest last: each start has one
    /// of its own, and which of them was served may be known to the peer alone.
    pub ready_for: Vec<Generation>,
    /// What they contain.
    pub lineage: Lineage,
}

/// The index of one group. All methods take `&self`; writes wait for each other.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    /// `None`: it could not be opened again.
    database: RwLock<Option<Database>>,
    /// What the store refused first since it was opened.
    broken: Mutex<Option<String>>,
    journal: Mutex<Journal>,
    under_way: Mutex<UnderWay>,
    /// As the file beside the database has it.
    worth: Mutex<Worth>,
}

impl Index {
    /// Opens the index in `dir`, which is made if it is missing. Every page is checked first: a damaged
    /// one would end the process later.
    ///
    /// # Errors
    /// In use, damaged, of another format, or the disk refuses.
    pub fn open(dir: &Path) -> Result<Index, IndexError> {
        let opened = open::database(&dir.join("index.redb"))?;
        Index::with(dir, opened).map(|(index, _)| index)
    }

    /// The file of its database.
    pub fn path(&self) -> &Path {
        &self.path
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
                self.put_meta(&write, META_TIME, &now_ms())?;
            }
            write.commit().map_err(|error| self.fault(error))?;
        }
        if let Some(position) = position {
            self.keep_worth(|worth| {
                // Not each commit: only its generation says what the copy is.
                let known = worth.position.map(|known| known.generation);
                if known != Some(position.generation) {
                    worth.position = Some(position);
                }
            })?;
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

    /// Number of the newest commit that was recorded or begun here; 0: none. Numbers go on from generation to generation.
    ///
    /// # Errors
    /// The store fails.
    pub fn newest_commit(&self) -> Result<u64, IndexError> {
        let both = [self.position()?, lock(&self.under_way).position()];
        Ok(both.into_iter().flatten().map(|it| it.commit).max().unwrap_or(0))
    }

    /// When the last common commit was made, in ms since 1970 by this node's clock.
    ///
    /// # Errors
    /// The store fails.
    pub fn position_time_ms(&self) -> Result<Option<u64>, IndexError> {
        self.meta(META_TIME)
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
    pub fn set_copy(&self, copy: &CopyState) -> Result<(), IndexError> {
        self.set_meta(META_COPY, copy)?;
        self.keep_worth(|worth| worth.copy = copy.clone())
    }

    /// What the trees contain, with the newest commit on record and the one that is under way.
    ///
    /// # Errors
    /// The store fails.
    pub fn lineage(&self) -> Result<Lineage, IndexError> {
        let mut lineage = self.copy()?.lineage;
        let position = self.position()?;
        let number = |position: Position| position.generation.number;
        // One of before the trees became another owner's says nothing.
        let under_way = lock(&self.under_way).position();
        let under_way =
            under_way.filter(|it| position.is_none_or(|had| number(had) <= number(*it)));
        [position, under_way].into_iter().flatten().for_each(|it| lineage.stand_at(it));
        Ok(lineage)
    }

    /// The trees here have what the peer gets as this commit. Durable when it returns, before the peer can have it.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin_commit(&self, position: Position) -> Result<(), IndexError> {
        self.set_under_way(Some(position))
    }

    fn set_under_way(&self, position: Option<Position>) -> Result<(), IndexError> {
        let mut under_way = lock(&self.under_way);
        let done = under_way.set(position);
        done.map_err(|source| IndexError::Open { path: under_way.path().to_owned(), source })
    }

    /// The trees contain what the owner's contain. Durable when it returns.
    ///
    /// # Errors
    /// The store fails.
    pub fn set_lineage(&self, lineage: Lineage) -> Result<(), IndexError> {
        self.set_copy(&CopyState { lineage, ..self.copy()? })
    }

    /// Nothing in the trees counts as common any more, and there was no commit. Durable when it returns.
    ///
    /// # Errors
    /// The store fails.
    pub fn disown(&self) -> Result<(), IndexError> {
        for tree in (0u8..).take(limits::TREES_MAX).map(TreeId) {
            let mut changes = Vec::new();
            for row in self.iter_tree(tree) {
                changes.push((row?.0, Some(Stored { entry: None, seen: None })));
                if changes.len() >= limits::APPLY_CHANGES_MAX {
                    self.commit(&changes, None, &[], false)?;
                    changes.clear();
                }
            }
            self.commit(&changes, None, &[], false)?;
        }
        self.set_under_way(None)?;
        let write = self.write(true)?;
        {
            let mut meta = write.open_table(META).map_err(|error| self.fault(error))?;
            meta.remove(META_POSITION).map_err(|error| self.fault(error))?;
        }
        self.put_meta(&write, META_COPY, &CopyState::default())?;
        write.commit().map_err(|error| self.fault(error))?;
        self.keep_worth(|worth| (worth.copy, worth.position) = (CopyState::default(), None))
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
        self.set_meta(&root_name(tree), &root)?;
        self.keep_worth(|worth| {
            worth.roots.insert(tree, root);
        })
    }

    /// Marks names as dirty: to be looked at. Survives a crash of the process when it returns. A power
    /// cut may lose the newest marks: what changed is then found by the walk that follows every start.
    ///
    /// Beyond [`crate::limits::DIRTY_BYTES_MAX`] the tree is dirty as a whole, and its names are forgotten.
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
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| self.closed())?;
        database.begin_read().map_err(|error| self.fault(error))
    }

    fn write(&self, durable: bool) -> Result<WriteTransaction, IndexError> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let database = database.as_ref().ok_or_else(|| self.closed())?;
        let mut write = database.begin_write().map_err(|error| self.fault(error))?;
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

    fn remove_meta(&self, write: &WriteTransaction, name: &str) -> Result<(), IndexError> {
        let mut meta = write.open_table(META).map_err(|error| self.fault(error))?;
        meta.remove(name).map_err(|error| self.fault(error))?;
        Ok(())
    }

    fn encode<T: Serialize>(&self, value: &T) -> Result<Vec<u8>, IndexError> {
        postcard::to_allocvec(value).map_err(|error| self.damaged(error.to_string()))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, IndexError> {
        postcard::from_bytes(bytes).map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, why: String) -> IndexError {
        let error = IndexError::Damaged { path: self.path.clone(), why };
        self.note_fault(&error);
        error
    }

    fn fault(&self, error: impl Into<redb::Error>) -> IndexError {
        let error = fault(&self.path, error);
        self.note_fault(&error);
        error
    }

    /// The first one is the cause; what follows only says that there was one.
    fn note_fault(&self, error: &IndexError) {
        lock(&self.broken).get_or_insert_with(|| error.to_string());
    }

    fn closed(&self) -> IndexError {
        let why = self.broken().unwrap_or_else(|| "it is being opened again".to_owned());
        IndexError::Closed { path: self.path.clone(), why }
    }

    fn journal_fault(&self, journal: &Journal, source: io::Error) -> IndexError {
        IndexError::Journal { path: journal.path().to_owned(), source }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the process: there is no poison.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn root_name(tree: TreeId) -> String {
    format!("root {}", tree.0)
}

#[cfg(test)]
mod tests;
