//! A series while it is taken in, batch by batch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use nix::sys::statvfs::fstatvfs;

use super::super::area::{errno, failed, from_index, from_tree};
use super::super::entry::{ChunkHash, Content, Entry, Kind, TreeId};
use super::super::hash::{self, hash_chunk};
use super::super::index::Index;
use super::super::meta::{self, Look, What};
use super::super::proto::{Change, Op, Trouble, Wanted};
use super::super::tree::Root;
use super::build::{self, Donor};
use super::record::{self, How, Manifest, StagedOp};
use super::{Ready, Stage, StagedTree, staged_name};
use crate::core::Generation;
use crate::limits;

/// What a series is, before anything of it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The owner's generation.
    pub generation: Generation,
    /// Its number.
    pub series: u64,
    /// The commit that the trees will be at.
    pub commit: u64,
}

/// A series that is being taken in. After an error it is void and removed. Dropped without
/// [`Series::ready`] or [`Series::discard`], as in a crash, it is removed by the next
/// [`Stage::recover`].
#[derive(Debug)]
pub struct Series {
    stage: Arc<Stage>,
    head: Head,
    fuzzy: bool,
    batches: u32,
    open: Option<OpenBatch>,
    zeros: BTreeMap<u64, ChunkHash>,
}

/// The batch that is being taken in.
#[derive(Debug)]
struct OpenBatch {
    ops: Vec<StagedOp>,
    /// Chunks that are still missing, by op.
    missing: BTreeMap<u32, BTreeSet<u32>>,
    /// The staged file that was written to last.
    file: Option<(u32, File)>,
    /// Bytes that may still be taken, by device.
    room: BTreeMap<u64, u64>,
}

impl Series {
    pub(super) fn new(stage: Arc<Stage>, head: Head) -> Series {
        let zeros = BTreeMap::new();
        Series { stage, head, fuzzy: false, batches: 0, open: None, zeros }
    }

    /// Which series it is.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Takes in the ops of the next batch: makes their staged files with what is here already.
    /// `roots` are the trees' roots in order. Returns the chunks that the owner must send.
    ///
    /// # Errors
    /// An op that makes no sense, no room, or the system refused: the series is void.
    pub fn add_batch(
        &mut self,
        roots: &[Root],
        index: &Index,
        fuzzy: bool,
        ops: Vec<Op>,
    ) -> Result<Vec<Wanted>, Trouble> {
        let done = self.try_add_batch(roots, index, fuzzy, ops);
        self.void_if_failed(done)
    }

    /// Takes in a chunk that was wanted.
    ///
    /// # Errors
    /// It was not wanted, is not what was offered, or cannot be written: the series is void.
    pub fn write_chunk(&mut self, op: u32, chunk: u32, bytes: &[u8]) -> Result<(), Trouble> {
        let done = self.try_write_chunk(op, chunk, bytes);
        self.void_if_failed(done)
    }

    /// Nothing happens to the name of this op after all.
    ///
    /// # Errors
    /// There is no such op: the series is void.
    pub fn drop_op(&mut self, op: u32) -> Result<(), Trouble> {
        let done = self.try_drop_op(op);
        self.void_if_failed(done)
    }

    /// All chunks of the batch came: sets the metadata of its files and makes it durable.
    ///
    /// # Errors
    /// Chunks are missing, or the system refused: the series is void.
    pub fn close_batch(&mut self) -> Result<(), Trouble> {
        let done = self.try_close_batch();
        self.void_if_failed(done)
    }

    /// All batches are closed: from now on the series will be applied, whatever happens.
    ///
    /// # Errors
    /// A batch is open, there is none, or the system refused: the series is void, unless its manifest
    /// became durable in spite of that, which [`Stage::recover`] tells.
    pub fn ready(mut self) -> Result<Ready, Trouble> {
        let done = self.try_ready();
        self.void_if_failed(done)
    }

    /// Removes what was staged.
    ///
    /// # Errors
    /// The system refused.
    pub fn discard(self) -> Result<(), Trouble> {
        self.stage.clear()
    }

    fn void_if_failed<T>(&mut self, done: Result<T, Trouble>) -> Result<T, Trouble> {
        done.inspect_err(|_| {
            self.open = None;
            // A failure that matters repeats itself when the next series begins.
            let _ = self.stage.clear();
        })
    }

    fn try_add_batch(
        &mut self,
        roots: &[Root],
        index: &Index,
        fuzzy: bool,
        ops: Vec<Op>,
    ) -> Result<Vec<Wanted>, Trouble> {
        if self.open.is_some() || ops.len() > limits::BATCH_OPS_MAX {
            return Err(refused("a batch within a batch, or a batch that is too long"));
        }
        self.fuzzy |= fuzzy;
        let mut open = OpenBatch {
            ops: Vec::with_capacity(ops.len()),
            missing: BTreeMap::new(),
            file: None,
            room: BTreeMap::new(),
        };
        let stage = self.stage.clone();
        for (number, op) in (0u32..).zip(ops) {
            check(&op)?;
            let tree = stage.tree(op.key.tree)?;
            let how = match &op.change {
                Change::Put(Entry { kind: Kind::File(content), .. }) => {
                    let root = super::root(roots, op.key.tree)?;
                    let here = Here { tree, root, index };
                    self.prepare(&mut open, &here, number, &op, content)?
                }
                Change::Put(_) | Change::Delete => How::Plain,
            };
            open.ops.push(StagedOp { op, how });
        }
        let wanted = open
            .missing
            .iter()
            .map(|(&op, chunks)| Wanted { op, chunks: chunks.iter().copied().collect() })
            .collect();
        self.open = Some(open);
        Ok(wanted)
    }

    /// Prepares one regular file.
    fn prepare(
        &mut self,
        open: &mut OpenBatch,
        here: &Here<'_>,
        number: u32,
        op: &Op,
        content: &Content,
    ) -> Result<How, Trouble> {
        let path = &op.key.path;
        let look = meta::look(here.root, path).map_err(from_tree)?;
        let look = look.filter(|look| look.what == What::File);
        let donor = match &look {
            None => None,
            Some(look) => here.donor(op, look)?,
        };
        // Another name of the same inode may have other metadata in the new state: then it is parted.
        if let (Some(look), Some(donor)) = (&look, &donor)
            && look.seen.nlink == 1
            && donor.content == *content
        {
            return Ok(How::InPlace { base: look.settled.then_some(look.seen) });
        }
        open.reserve(here.tree, content.size)?;
        let zeros = *self.zeros.entry(content.chunk_bytes).or_insert_with_key(|&bytes| {
            hash_chunk(&vec![0; usize::try_from(bytes).unwrap_or_default()])
        });
        let directory = here.tree.series(&record::name(self.head.generation, self.head.series))?;
        let name = staged_name(self.batches, number);
        let fail = |error| here.tree.failed(path, "cannot be staged", error);
        let (file, missing) =
            build::start(directory.as_fd(), &name, content, &zeros, donor.as_ref())
                .map_err(fail)?;
        let stat = file.metadata().map_err(|error| fail(errno(&error)))?;
        if !missing.is_empty() {
            open.missing.insert(number, missing.into_iter().collect());
        }
        Ok(How::Staged { ino: stat.ino() })
    }

    fn try_write_chunk(&mut self, op: u32, chunk: u32, bytes: &[u8]) -> Result<(), Trouble> {
        let open = self.open.as_mut().ok_or_else(|| refused("a chunk without its batch"))?;
        let wanted = open.missing.get_mut(&op).filter(|chunks| chunks.contains(&chunk));
        let wanted = wanted.ok_or_else(|| refused("a chunk that was not wanted"))?;
        let staged = open.ops.get_mut(op as usize).ok_or_else(|| refused("a chunk of no file"))?;
        let Change::Put(Entry { kind: Kind::File(content), .. }) = &mut staged.op.change else {
            return Err(refused("a chunk of no file"));
        };
        let tree = self.stage.tree(staged.op.key.tree)?;
        let fail = |error| tree.failed(&staged.op.key.path, "cannot be staged", error);
        let file = match open.file.take() {
            Some((of, file)) if of == op => file,
            Some(_) | None => {
                let name = record::name(self.head.generation, self.head.series);
                build::open(tree.series(&name)?.as_fd(), &staged_name(self.batches, op))
                    .map_err(fail)?
            }
        };
        if !build::write(&file, content, chunk, bytes).map_err(fail)? {
            return Err(refused("a chunk of another length than was offered"));
        }
        open.file = Some((op, file));
        wanted.remove(&chunk);
        if wanted.is_empty() {
            open.missing.remove(&op);
        }
        Ok(())
    }

    fn try_drop_op(&mut self, op: u32) -> Result<(), Trouble> {
        let open =
            self.open.as_mut().ok_or_else(|| refused("the end of a change without its batch"))?;
        let staged = open.ops.get_mut(op as usize);
        staged.ok_or_else(|| refused("the end of no change"))?.how = How::Dropped;
        open.missing.remove(&op);
        Ok(())
    }

    fn try_close_batch(&mut self) -> Result<(), Trouble> {
        let open = self.open.take().ok_or_else(|| refused("the end of no batch"))?;
        if !open.missing.is_empty() {
            return Err(refused("the end of a batch, with chunks missing"));
        }
        let name = record::name(self.head.generation, self.head.series);
        let files = |id: TreeId| {
            (0u32..).zip(&open.ops).filter(move |(_, staged)| {
                staged.op.key.tree == id && matches!(staged.how, How::Staged { .. })
            })
        };
        for (id, tree) in self.stage.trees() {
            let count = files(id).count();
            if count == 0 {
                continue;
            }
            let directory = tree.series(&name)?;
            for (number, staged) in files(id) {
                let path = &staged.op.key.path;
                let fail = |error| tree.failed(path, "cannot be staged", error);
                let file = build::open(directory.as_fd(), &staged_name(self.batches, number))
                    .map_err(fail)?;
                if let Change::Put(entry) = &staged.op.change {
                    meta::set(&file, entry).map_err(|error| {
                        tree.failed(
                            path,
                            &format!("{} cannot be set", error.what),
                            errno(&error.source),
                        )
                    })?;
                }
                if count <= limits::SYNC_EACH_MAX {
                    file.sync_all().map_err(|error| fail(errno(&error)))?;
                }
            }
            let area = |error| failed(&tree.area.path().display(), "cannot be made durable", error);
            if count > limits::SYNC_EACH_MAX {
                nix::unistd::syncfs(&directory).map_err(area)?;
            }
            record::sync(directory.as_fd()).map_err(area)?;
            record::sync(tree.area.incoming()).map_err(area)?;
        }
        record::write(self.stage.home(), &record::batch_name(self.batches), &open.ops)
            .and_then(|()| record::sync(self.stage.home()))
            .map_err(|error| self.not_kept(error))?;
        self.batches += 1;
        Ok(())
    }

    fn try_ready(&mut self) -> Result<Ready, Trouble> {
        if self.open.is_some() || self.batches == 0 {
            return Err(refused("the end of a series before its last batch"));
        }
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let manifest = Manifest {
            generation: self.head.generation,
            series: self.head.series,
            commit: self.head.commit,
            fuzzy: self.fuzzy,
            batches: self.batches,
            trees: self.stage.tree_paths(),
            time_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        };
        record::write(self.stage.home(), record::READY, &manifest)
            .and_then(|()| record::sync(self.stage.home()))
            .map_err(|error| self.not_kept(error))?;
        Ok(Ready { manifest, stage: self.stage.clone() })
    }

    fn not_kept(&self, error: nix::errno::Errno) -> Trouble {
        failed(&self.stage.home_path.display(), "cannot keep the record of a series", error)
    }
}

/// What is here of the tree that an op belongs to.
struct Here<'a> {
    tree: &'a StagedTree,
    root: &'a Root,
    index: &'a Index,
}

impl Here<'_> {
    /// The file that is at the op's name now, with its content: as the index knows it, else hashed.
    /// `None` if it changes while it is read: its chunks are asked for.
    fn donor(&self, op: &Op, look: &Look) -> Result<Option<Donor>, Trouble> {
        let file = match self.root.open_file(&op.key.path) {
            Ok(file) => file,
            // It went while we looked, or is leased by somebody.
            Err(_) => return Ok(None),
        };
        let stored = self.index.get(&op.key).map_err(from_index)?;
        if let Some(stored) = stored
            && stored.seen == Some(look.seen)
            && let Some(Entry { kind: Kind::File(content), .. }) = stored.entry
        {
            return Ok(Some(Donor { file, content }));
        }
        match hash::content(&file, &look.seen, self.tree.hash, limits::TAKE_IN_HASH_THREADS) {
            Ok(content) => Ok(Some(Donor { file, content })),
            // Changed meanwhile, or not readable: then it is no help, and the owner has it all.
            Err(_) => Ok(None),
        }
    }
}

impl OpenBatch {
    /// Asks for room for one more file: on its file system there must be room for all of the batch.
    fn reserve(&mut self, tree: &StagedTree, bytes: u64) -> Result<(), Trouble> {
        let room = match self.room.get_mut(&tree.area.device()) {
            Some(room) => room,
            None => {
                let stat = fstatvfs(tree.area.incoming()).map_err(|error| {
                    failed(&tree.area.path().display(), "cannot see its room", error)
                })?;
                let free = stat.blocks_available().saturating_mul(stat.fragment_size());
                let free = free.saturating_sub(limits::STAGE_RESERVE_BYTES);
                self.room.entry(tree.area.device()).or_insert(free)
            }
        };
        match room.checked_sub(bytes) {
            Some(left) => *room = left,
            None => {
                let path = tree.path.display().to_string();
                return Err(Trouble::NoRoom { needed: bytes.saturating_sub(*room), path });
            }
        }
        Ok(())
    }
}

/// Refuses what no owner sends: such ops could do harm, or could never be applied.
fn check(op: &Op) -> Result<(), Trouble> {
    let entry = match &op.change {
        Change::Delete if op.key.path.is_root() => {
            return Err(refused("the deletion of a tree's root"));
        }
        Change::Delete => return Ok(()),
        Change::Put(entry) => entry,
    };
    let fits = match &entry.kind {
        Kind::Dir => true,
        Kind::File(content) => content.is_consistent() && i64::try_from(content.size).is_ok(),
        Kind::Symlink { target } => {
            !target.is_empty() && target.len() <= limits::PATH_BYTES_MAX && !target.contains(&0)
        }
        Kind::Link { to } => *to != op.key.path && !to.is_root(),
    };
    let may_be_there = entry.kind == Kind::Dir || !op.key.path.is_root();
    if fits && may_be_there && entry.mode <= 0o7777 && entry.mtime.ns < 1_000_000_000 {
        return Ok(());
    }
    Err(refused("a name that can be no name in a tree"))
}

fn refused(what: &str) -> Trouble {
    Trouble::Failed(format!("the owner sent {what}"))
}
