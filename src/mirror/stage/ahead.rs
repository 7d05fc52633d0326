//! Chunks of large files that came before their series: small files do not wait behind them. Nothing rests on
//! them: a series proves by their hashes which of them it needs.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::{MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;

use super::room::keeps_reserve;
use super::{Stage, StagedTree};
use crate::limits;
use crate::mirror::entry::{ChunkHash, Key};
use crate::mirror::hash::hash_chunk;
use crate::mirror::proto::Trouble;
use crate::mirror::staging_area::{self, AHEAD, errno, failed};

/// What came of one file.
#[derive(Debug)]
pub(super) struct Ahead {
    name: String,
    pub(super) chunk_bytes: u64,
    pub(super) chunks: BTreeMap<u32, ChunkHash>,
    pub(super) bytes: u64,
}

/// All that came.
#[derive(Debug, Default)]
pub(super) struct Pool {
    files: BTreeMap<Key, Ahead>,
    /// Number of the next file.
    next: u64,
}

impl Stage {
    /// Keeps a chunk.
    ///
    /// # Errors
    /// No room, or the system refused: what came of this file is thrown away.
    pub fn keep_ahead(
        &self,
        key: &Key,
        chunk_bytes: u64,
        chunk: u32,
        bytes: &[u8],
    ) -> Result<(), Trouble> {
        let tree = self.tree(key.tree)?;
        let done = self.try_keep_ahead(tree, key, chunk_bytes, chunk, bytes);
        if done.is_err() {
            self.drop_ahead(tree, self.take_ahead(key));
        }
        done
    }

    fn try_keep_ahead(
        &self,
        tree: &StagedTree,
        key: &Key,
        chunk_bytes: u64,
        chunk: u32,
        bytes: &[u8],
    ) -> Result<(), Trouble> {
        let offset = u64::from(chunk).checked_mul(chunk_bytes);
        let offset = offset.filter(|offset| *offset < limits::FILE_BYTES_MAX);
        let Some(offset) = offset.filter(|_| bytes.len() as u64 <= chunk_bytes) else {
            return Err(Trouble::Failed("the owner sent a chunk of no file".to_owned()));
        };
        keeps_reserve(tree, bytes.len() as u64)?;
        let is_other = |ahead: &Ahead| ahead.chunk_bytes != chunk_bytes;
        if self.pool().files.get(key).is_some_and(is_other) {
            self.drop_ahead(tree, self.take_ahead(key));
        }
        let fail = |error| tree.failed(&key.path, "cannot be staged", error);
        let mut pool = self.pool();
        if !pool.files.contains_key(key) {
            if pool.files.len() >= limits::AHEAD_FILES_MAX
                && let Some((other, ahead)) = pool.files.pop_first()
            {
                self.drop_ahead(self.tree(other.tree)?, Some(ahead));
            }
            pool.next += 1;
            let name = format!("{}", pool.next);
            let ahead = Ahead { name, chunk_bytes, chunks: BTreeMap::new(), bytes: 0 };
            pool.files.insert(key.clone(), ahead);
        }
        let Some(ahead) = pool.files.get_mut(key) else { return Ok(()) };
        let directory = staging_area::made_directory(tree.area.incoming(), AHEAD).map_err(fail)?;
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&directory, ahead.name.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let file = std::fs::File::from(file.map_err(fail)?);
        file.write_all_at(bytes, offset).map_err(|error| fail(errno(&error)))?;
        if ahead.chunks.insert(chunk, hash_chunk(bytes)).is_none() {
            ahead.bytes = ahead.bytes.saturating_add(bytes.len() as u64);
        }
        Ok(())
    }

    /// What came of a file, to be used now or dropped.
    pub(super) fn take_ahead(&self, key: &Key) -> Option<Ahead> {
        self.pool().files.remove(key)
    }

    /// It becomes the staged file of this name.
    pub(super) fn use_ahead(
        &self,
        tree: &StagedTree,
        ahead: &Ahead,
        series: std::os::fd::BorrowedFd<'_>,
        name: &str,
    ) -> Result<(), Errno> {
        let directory = staging_area::directory(tree.area.incoming(), AHEAD)?;
        renameat(&directory, ahead.name.as_str(), series, name)
    }

    pub(super) fn drop_ahead(&self, tree: &StagedTree, ahead: Option<Ahead>) {
        let Some(ahead) = ahead else { return };
        let removed = staging_area::directory(tree.area.incoming(), AHEAD).and_then(|directory| {
            staging_area::remove_all(directory.as_fd(), ahead.name.as_bytes())
        });
        if let Err(error) = removed {
            let path = tree.area.path().display();
            log::warn!(
                "{path}: the received part of a large file cannot be removed: {}",
                error.desc()
            );
        }
    }

    /// Throws away all that came.
    ///
    /// # Errors
    /// The system refused.
    pub fn forget_ahead(&self) -> Result<(), Trouble> {
        self.pool().files.clear();
        for (_, tree) in self.trees() {
            staging_area::remove_all(tree.area.incoming(), AHEAD.as_bytes())
                .map_err(|error| failed(&tree.area.path().display(), "cannot be emptied", error))?;
        }
        Ok(())
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        // A panic ends the process: there is no poison.
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
