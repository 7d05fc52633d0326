//! Opening an index: the first time, again after its disk refused something, and as a new one when it is damaged.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use redb::Database;

use super::error::fault;
use super::journal::Journal;
use super::under_way::UnderWay;
use super::worth::{self, Worth};
use super::{
    CopyState, DIGESTS, ENTRIES, FORMAT, Index, IndexError, META, META_COPY, META_FORMAT,
    META_POSITION,
};
use super::{SUMS, lock, root_name};
use crate::control::wallclock;
use crate::core::Generation;
use crate::limits;
use crate::mirror::entry::TreeId;
use crate::mirror::lineage::Lineage;

impl Index {
    /// As [`Index::open`], but a damaged index is set aside and an empty one made, which still knows what
    /// the copy here is. Returns what is to be told of it.
    ///
    /// # Errors
    /// In use, of another format, or the disk refuses.
    pub fn open_or_rebuild(dir: &Path) -> Result<(Index, Option<String>), IndexError> {
        let (opened, damage) = open_or_set_aside(&dir.join("index.redb"))?;
        let (index, found) = Index::with(dir, opened)?;
        Ok((index, damage.or(found)))
    }

    pub(super) fn with(dir: &Path, opened: Opened) -> Result<(Index, Option<String>), IndexError> {
        let journal_path = dir.join("dirty");
        let journal = Journal::open(&journal_path)
            .map_err(|source| IndexError::Journal { path: journal_path, source })?;
        let under_way_path = dir.join("under-way");
        let under_way = UnderWay::open(&under_way_path)
            .map_err(|source| IndexError::Open { path: under_way_path, source })?;
        let index = Index {
            path: dir.join("index.redb"),
            database: RwLock::new(Some(opened.database)),
            broken: Mutex::new(None),
            journal: Mutex::new(journal),
            under_way: Mutex::new(under_way),
            worth: Mutex::new(Worth::default()),
        };
        index.check_format()?;
        let found = index.settle_worth(opened.is_new)?;
        Ok((index, found))
    }

    /// What the store or its disk refused, since it was opened. It takes no more writes until
    /// [`Index::reopen`].
    pub fn broken(&self) -> Option<String> {
        lock(&self.broken).clone()
    }

    /// Opens the store again, and proves that it can be written to. What was read from it before counts no
    /// more: the last commits may be lost, or one that failed may be there. Returns what is to be told.
    ///
    /// # Errors
    /// The disk still refuses; try again later.
    pub fn reopen(&self) -> Result<Option<String>, IndexError> {
        {
            let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
            // Closed first: a process opens it only once.
            drop(database.take());
        }
        let (opened, damage) =
            open_or_set_aside(&self.path).inspect_err(|error| self.note_fault(error))?;
        let Opened { database, is_new } = opened;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        self.check_format()?;
        let found = self.settle_worth(is_new)?;
        self.set_meta(META_FORMAT, &FORMAT)?;
        *lock(&self.broken) = None;
        Ok(damage.or(found))
    }

    fn check_format(&self) -> Result<(), IndexError> {
        match self.meta::<u32>(META_FORMAT)? {
            Some(FORMAT) => Ok(()),
            Some(1) => self.migrate(),
            Some(found) => Err(IndexError::Format { path: self.path.clone(), found }),
            None => Err(self.damaged("it has no format".to_owned())),
        }
    }

    /// Format 1 said of the copy whether it is complete and of which generation.
    fn migrate(&self) -> Result<(), IndexError> {
        let (complete, of) =
            self.meta::<(bool, Option<Generation>)>(META_COPY)?.unwrap_or_default();
        let mut lineage = Lineage::default();
        if let Some(position) = self.position()? {
            lineage.stand_at(position);
        }
        let copy = CopyState { complete, of, ready_for: Vec::new(), lineage };
        let write = self.write(true)?;
        self.put_meta(&write, META_COPY, &copy)?;
        self.put_meta(&write, META_FORMAT, &FORMAT)?;
        write.commit().map_err(|error| self.fault(error))
    }

    /// Brings the database and the file beside it in line: the lesser word counts, but an empty database
    /// has none. Returns what is to be told.
    fn settle_worth(&self, is_new: bool) -> Result<Option<String>, IndexError> {
        let path = self.worth_path();
        let failed = |source| IndexError::Open { path: path.clone(), source };
        let (kept, damage) = match worth::load(&path) {
            Ok(kept) => (kept, None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let aside = set_aside(&path).map_err(failed)?;
                (None, Some(format!("{} was damaged and is now {aside}", path.display())))
            }
            Err(error) => return Err(failed(error)),
        };
        let own = self.own_worth()?;
        let settled = match (is_new, kept.clone()) {
            (true, Some(mut kept)) => {
                kept.copy.lineage.forget_commits();
                kept
            }
            (false, Some(kept)) => own.clone().lesser(kept),
            (_, None) => own.clone(),
        };
        // A position's commit moves on without the file.
        let same = |other: &Worth| {
            settled.generation() == other.generation()
                && (&settled.copy, &settled.roots) == (&other.copy, &other.roots)
        };
        if !same(&own) {
            let write = self.write(true)?;
            self.put_meta(&write, META_COPY, &settled.copy)?;
            if let Some(position) = &settled.position {
                self.put_meta(&write, META_POSITION, position)?;
            } else {
                self.remove_meta(&write, META_POSITION)?;
            }
            for (tree, root) in &settled.roots {
                self.put_meta(&write, &root_name(*tree), root)?;
            }
            write.commit().map_err(|error| self.fault(error))?;
        }
        if !kept.is_some_and(|kept| same(&kept)) {
            worth::save(&path, &settled).map_err(failed)?;
        }
        let was_missing = is_new && settled != Worth::default();
        *lock(&self.worth) = settled;
        let missing = was_missing.then(|| {
            format!(
                "{} was missing; it is made anew by comparing the trees, and what the copy here is worth \
                 is known",
                self.path.display()
            )
        });
        Ok(damage.or(missing))
    }

    /// What the database says.
    fn own_worth(&self) -> Result<Worth, IndexError> {
        let mut roots = BTreeMap::new();
        for tree in (0..=u8::MAX).map(TreeId).take(limits::TREES_MAX) {
            if let Some(root) = self.root_id(tree)? {
                roots.insert(tree, root);
            }
        }
        Ok(Worth { copy: self.copy()?, position: self.position()?, roots })
    }

    /// Changes what the file beside the database says, if that is news.
    pub(super) fn keep_worth(&self, change: impl FnOnce(&mut Worth)) -> Result<(), IndexError> {
        let mut known = lock(&self.worth);
        let mut new = known.clone();
        change(&mut new);
        if new != *known {
            let path = self.worth_path();
            worth::save(&path, &new).map_err(|source| IndexError::Open { path, source })?;
            *known = new;
        }
        Ok(())
    }

    fn worth_path(&self) -> PathBuf {
        self.path.with_file_name("copy")
    }
}

/// An open database.
pub(super) struct Opened {
    database: Database,
    /// There was none.
    is_new: bool,
}

/// Opens the database, or makes an empty one if there is none.
pub(super) fn database(path: &Path) -> Result<Opened, IndexError> {
    let at = |source| IndexError::Open { path: path.to_owned(), source };
    let dir = path.parent().unwrap_or(path);
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| IndexError::Open { path: dir.to_owned(), source })?;
    let is_new = !path.try_exists().map_err(at)?;
    if is_new {
        // Made beside it and renamed: an `index.redb` of no length is damage, not a beginning.
        let new = path.with_extension("redb.new");
        match std::fs::remove_file(&new) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(at(source)),
            Ok(()) | Err(_) => {}
        }
        create(&new)?;
        std::fs::rename(&new, path).map_err(at)?;
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(at)?;
    }
    let database = builder().open(path).map_err(|error| fault(path, error))?;
    Ok(Opened { database, is_new })
}

/// As [`database`]; a damaged one is set aside before. Also returns what is to be told of that.
fn open_or_set_aside(path: &Path) -> Result<(Opened, Option<String>), IndexError> {
    match database(path) {
        Err(IndexError::Damaged { why, .. }) => {
            let at = |source| IndexError::Open { path: path.to_owned(), source };
            let aside = set_aside(path).map_err(at)?;
            let told = format!(
                "{} was damaged ({why}) and is now {aside}; a new one is made by comparing the trees with \
                 the peer's: nothing is deleted for want of a common state, and what is replaced is kept in \
                 the conflict store",
                path.display()
            );
            log::error!("{told}");
            Ok((database(path)?, Some(told)))
        }
        opened => opened.map(|opened| (opened, None)),
    }
}

/// Renames a damaged file to `NAME.damaged-TIME`, for whoever wants to look at it. Only the newest of them
/// stays: they take room. Returns the new name.
fn set_aside(path: &Path) -> io::Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = path.parent().unwrap_or(path);
    let begin = format!("{name}.damaged-");
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&begin) {
            std::fs::remove_file(entry.path())?;
        }
    }
    let aside = format!("{begin}{}", wallclock::format(SystemTime::now()));
    std::fs::rename(path, dir.join(&aside))?;
    std::fs::File::open(dir)?.sync_all()?;
    Ok(aside)
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
