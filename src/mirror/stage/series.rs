//! A series while it is taken in, batch by batch.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};

use super::super::apply::{Halt, not_reached, not_set, refused as refused_to};
use super::super::entry::{ChunkHash, Content, Entry, Key, Kind, TreeId};
use super::super::hash::hash_chunk;
use super::super::index::Index;
use super::super::meta::{self, Sort, What};
use super::super::proto::{Change, Op, Refused, Trouble, Wanted};
use super::super::staging_area::{self, errno, failed};
use super::super::tree::Root;
use super::build;
use super::here::Here;
use super::pack::pack;
use super::record::{self, How, Manifest, StagedOp};
use super::room::{Room, is_room, keeps_reserve, needs};
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
    /// Names that were refused: what is below a directory among them is refused with it.
    refused: BTreeSet<Key>,
    /// Those among them that fit when the deletions have made room.
    later: BTreeSet<Key>,
    /// Directories that are there and go in this series: nothing in them stays in place.
    going: BTreeSet<Key>,
    /// Bytes that will be written into files of the trees: a claim waits for them.
    patched_bytes: u64,
    /// Names that lie beside the trees.
    staged: usize,
}

/// The batch that is being taken in.
#[derive(Debug)]
struct OpenBatch {
    ops: Vec<StagedOp>,
    /// Chunks that are still missing, by op.
    missing: BTreeMap<u32, BTreeSet<u32>>,
    /// The staged file that was written to last.
    file: Option<(u32, File)>,
    /// What may still be taken, by device.
    room: BTreeMap<u64, Room>,
    /// Ops that cannot be done.
    refused: Vec<Refused>,
}

impl Series {
    pub(super) fn new(stage: Arc<Stage>, head: Head) -> Series {
        Series {
            stage,
            head,
            fuzzy: false,
            batches: 0,
            open: None,
            zeros: BTreeMap::new(),
            refused: BTreeSet::new(),
            later: BTreeSet::new(),
            going: BTreeSet::new(),
            patched_bytes: 0,
            staged: 0,
        }
    }

    /// Which series it is.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Takes in the ops of the next batch: makes their staged files with what is here already.
    /// `roots` are the trees' roots in order. Each op is tried as far as it can be without touching the
    /// tree. Returns the chunks that the owner must send, and what cannot be done.
    ///
    /// # Errors
    /// An op that makes no sense, no room, or the system refused: the series is void.
    pub fn add_batch(
        &mut self,
        roots: &[Root],
        index: &Index,
        fuzzy: bool,
        ops: Vec<Op>,
    ) -> Result<(Vec<Wanted>, Vec<Refused>), Trouble> {
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
    ) -> Result<(Vec<Wanted>, Vec<Refused>), Trouble> {
        if self.open.is_some() || ops.len() > limits::BATCH_OPS_MAX {
            return Err(refused("a batch within a batch, or a batch that is too long"));
        }
        self.fuzzy |= fuzzy;
        let mut open = OpenBatch {
            ops: Vec::with_capacity(ops.len()),
            missing: BTreeMap::new(),
            file: None,
            room: BTreeMap::new(),
            refused: Vec::new(),
        };
        let frees = ops.iter().any(|op| op.change == Change::Delete);
        let stage = self.stage.clone();
        for (number, op) in (0u32..).zip(ops) {
            check(&op)?;
            let tree = stage.tree(op.key.tree)?;
            let root = super::root(roots, op.key.tree)?;
            let here = Here { tree, root, index };
            let how = match self.prepare(&mut open, &here, number, &op) {
                Ok(how) => how,
                Err(Halt::One(why)) => {
                    let soon = self.needs_one_that_is_later(&op);
                    self.leave_out(&mut open, number, &op, why, soon);
                    How::Dropped
                }
                Err(Halt::Disk(trouble) | Halt::All(trouble)) if frees && is_room(&trouble) => {
                    // The deletions of this batch make room: what does not fit yet comes after them.
                    self.leave_out(&mut open, number, &op, trouble.to_string(), true);
                    How::Dropped
                }
                Err(Halt::Disk(trouble) | Halt::All(trouble)) => return Err(trouble),
            };
            let patch = match how {
                How::Patch { .. } => open.missing.get(&number).cloned().unwrap_or_default(),
                How::Plain | How::Staged { .. } | How::InPlace { .. } | How::Dropped => {
                    BTreeSet::new()
                }
            };
            open.ops.push(StagedOp { op, how, patch });
        }
        let wanted = open
            .missing
            .iter()
            .map(|(&op, chunks)| Wanted { op, chunks: chunks.iter().copied().collect() })
            .collect();
        let refused = std::mem::take(&mut open.refused);
        self.open = Some(open);
        Ok((wanted, refused))
    }

    /// It cannot be done, alone.
    fn leave_out(&mut self, open: &mut OpenBatch, number: u32, op: &Op, why: String, soon: bool) {
        open.missing.remove(&number);
        self.refused.insert(op.key.clone());
        if soon {
            self.later.insert(op.key.clone());
        }
        open.refused.push(Refused { soon, ..Refused::new(op.key.clone(), why) });
    }

    /// Whether a directory above it, or the file of which it is a name, comes with the next series.
    fn needs_one_that_is_later(&self, op: &Op) -> bool {
        let file = match &op.change {
            Change::Put(Entry { kind: Kind::Link { to }, .. }) => {
                Some(Key { tree: op.key.tree, path: to.clone() })
            }
            Change::Put(_) | Change::Delete => None,
        };
        has_above(&self.later, &op.key) || file.is_some_and(|file| self.later.contains(&file))
    }

    /// Prepares one op: proves what can be proven of it, and stages what comes new.
    fn prepare(
        &mut self,
        open: &mut OpenBatch,
        here: &Here<'_>,
        number: u32,
        op: &Op,
    ) -> Result<How, Halt> {
        let Op { key, change, .. } = op;
        if self.is_refused_above(key) {
            return Err(Halt::One("its directory cannot be mirrored".to_owned()));
        }
        here.may_be_changed(key)?;
        let there = meta::quick(here.root, &key.path);
        let there = there.map_err(|error| not_reached(here.tree, &key.path, error))?;
        let is_dir = there.is_some_and(|(_, sort)| sort == Sort::Dir);
        let entry = match change {
            Change::Put(entry) => entry,
            Change::Delete => {
                if there.is_some() {
                    here.may_come_and_go(key)?;
                }
                if is_dir {
                    self.going.insert(key.clone());
                }
                return Ok(How::Plain);
            }
        };
        let stays = is_dir && !self.is_going(key);
        match &entry.kind {
            Kind::Dir if stays || key.path.is_root() => {
                here.holds(&self.name(), key, entry)?;
                Ok(How::Plain)
            }
            Kind::Link { to } => {
                here.may_come_and_go(key)?;
                let to = Key { tree: key.tree, path: to.clone() };
                if self.refused.contains(&to) {
                    return Err(Halt::One(format!("{} cannot be mirrored", to.path)));
                }
                self.note_going(key, is_dir);
                Ok(How::Plain)
            }
            Kind::File(content) => {
                let how = self.prepare_file(open, here, number, op, entry, content)?;
                self.note_going(key, is_dir);
                Ok(how)
            }
            Kind::Dir | Kind::Symlink { .. } => {
                here.may_come_and_go(key)?;
                open.reserve(here.tree, 0)?;
                let how = self.stage_small(here, number, key, entry)?;
                self.note_going(key, is_dir);
                Ok(how)
            }
        }
    }

    fn name(&self) -> String {
        record::name(self.head.generation, self.head.series)
    }

    fn note_going(&mut self, key: &Key, is_dir: bool) {
        if is_dir {
            self.going.insert(key.clone());
        }
    }

    fn is_refused_above(&self, key: &Key) -> bool {
        !self.refused.is_empty() && has_above(&self.refused, key)
    }

    /// Whether what is there goes, with a directory above it or by itself.
    fn is_going(&self, key: &Key) -> bool {
        !self.going.is_empty() && (self.going.contains(key) || has_above(&self.going, key))
    }

    /// Makes a symlink or an empty directory beside the tree.
    fn stage_small(
        &self,
        here: &Here<'_>,
        number: u32,
        key: &Key,
        entry: &Entry,
    ) -> Result<How, Halt> {
        let series = here.tree.series(&self.name())?;
        let name = staged_name(self.batches, number);
        let fail = |error| refused_to(here.tree, &key.path, "cannot be staged", error);
        match &entry.kind {
            Kind::Symlink { target } => {
                nix::unistd::symlinkat(target.as_slice(), &series, name.as_str()).map_err(fail)?;
            }
            Kind::Dir | Kind::File(_) | Kind::Link { .. } => {
                mkdirat(&series, name.as_str(), Mode::S_IRWXU).map_err(fail)?;
            }
        }
        let set = meta::set_at(&series, name.as_bytes(), entry);
        if let Err(error) = set {
            let _ = staging_area::remove_all(series.as_fd(), name.as_bytes());
            return Err(not_set(here.tree, &key.path, &error));
        }
        let stat = staging_area::stat_at(series.as_fd(), name.as_str()).map_err(fail)?;
        let stat = stat.ok_or_else(|| fail(Errno::ENOENT))?;
        Ok(How::Staged { ino: stat.st_ino })
    }

    /// Prepares one regular file.
    fn prepare_file(
        &mut self,
        open: &mut OpenBatch,
        here: &Here<'_>,
        number: u32,
        op: &Op,
        entry: &Entry,
        content: &Content,
    ) -> Result<How, Halt> {
        let key = &op.key;
        let path = &key.path;
        let look = meta::look(here.root, path);
        let look = look.map_err(|error| not_reached(here.tree, path, error))?;
        let look = look.filter(|look| look.what == What::File);
        let donor = match &look {
            None => None,
            Some(look) => here.donor(key, look)?,
        };
        // Another name of the same inode may have other metadata in the new state: then it is parted.
        if let (Some(look), Some(donor)) = (&look, &donor)
            && look.seen.nlink == 1
            && donor.content == *content
            && !self.is_going(key)
        {
            if look.xattrs != entry.xattrs {
                here.holds(&self.name(), key, entry)?;
            }
            return Ok(How::InPlace { base: look.settled.then_some(look.seen) });
        }
        if let (Some(look), Some(donor)) = (&look, &donor)
            && donor.is_common
            && look.settled
            && look.seen.nlink == 1
            && !op.keep
            && !self.is_going(key)
            && let Some(chunks) = self.patch(&donor.content, content)
        {
            if look.xattrs != entry.xattrs {
                here.holds(&self.name(), key, entry)?;
            }
            open.reserve(here.tree, chunks.len() as u64 * content.chunk_bytes)?;
            let directory = here.tree.series(&self.name())?;
            let name = staged_name(self.batches, number);
            let fail = |error| refused_to(here.tree, path, "cannot be staged", error);
            let file = build::hole(directory.as_fd(), &name, content).map_err(fail)?;
            let stat = file.metadata().map_err(|error| fail(errno(&error)))?;
            open.missing.insert(number, chunks);
            return Ok(How::Patch { base: look.seen, ino: stat.ino() });
        }
        here.may_come_and_go(key)?;
        if content.chunk_bytes > limits::MIRROR_MESSAGE_BYTES_MAX as u64 {
            open.reserve(here.tree, content.size)?;
            return Err(Halt::One("it is too large to be mirrored".to_owned()));
        }
        let zeros = *self.zeros.entry(content.chunk_bytes).or_insert_with_key(|&bytes| {
            hash_chunk(&vec![0; usize::try_from(bytes).unwrap_or_default()])
        });
        let ahead = self.stage.take_ahead(key);
        let came = ahead.as_ref().map_or(0, |ahead| ahead.bytes);
        let ahead = match ahead {
            Some(ahead) if ahead.chunk_bytes == content.chunk_bytes => Some(ahead),
            ahead => {
                self.stage.drop_ahead(here.tree, ahead);
                None
            }
        };
        open.reserve(here.tree, needs(content, &zeros).saturating_sub(came))?;
        let directory = here.tree.series(&self.name())?;
        let name = staged_name(self.batches, number);
        let fail = |error| refused_to(here.tree, path, "cannot be staged", error);
        if let Some(ahead) = &ahead {
            self.stage.use_ahead(here.tree, ahead, directory.as_fd(), &name).map_err(fail)?;
        }
        let (donor, ahead) = (donor.as_ref(), ahead.as_ref());
        let (file, missing) =
            build::start(directory.as_fd(), &name, content, &zeros, donor, ahead).map_err(fail)?;
        // Set again when the content is there: writing takes setuid bits and capabilities away.
        if let Err(error) = meta::set(&file, entry) {
            let _ = staging_area::remove_all(directory.as_fd(), name.as_bytes());
            return Err(not_set(here.tree, path, &error));
        }
        let stat = file.metadata().map_err(|error| fail(errno(&error)))?;
        if !missing.is_empty() {
            open.missing.insert(number, missing.into_iter().collect());
        }
        Ok(How::Staged { ino: stat.ino() })
    }

    /// The chunks in which a large file differs, if they are few: they are written into it when the series is
    /// applied. A copy of it would need the room of all of it, where a file system cannot share.
    fn patch(&mut self, old: &Content, new: &Content) -> Option<BTreeSet<u32>> {
        if old.chunk_bytes != new.chunk_bytes || new.size < limits::PATCH_FILE_BYTES_MIN {
            return None;
        }
        let chunks = (0u32..).zip(&new.chunks);
        let differs =
            |(number, hash): &(u32, &ChunkHash)| old.chunks.get(*number as usize) != Some(*hash);
        let chunks: BTreeSet<u32> = chunks.filter(differs).map(|(number, _)| number).collect();
        let bytes = (chunks.len() as u64).saturating_mul(new.chunk_bytes);
        let patched_bytes = self.patched_bytes.saturating_add(bytes);
        if bytes > new.size / 2 || patched_bytes > limits::PATCH_SERIES_BYTES_MAX {
            return None;
        }
        self.patched_bytes = patched_bytes;
        Some(chunks)
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
        keeps_reserve(tree, bytes.len() as u64)?;
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
                staged.op.key.tree == id
                    && staged.how.is_staged()
                    && matches!(&staged.op.change, Change::Put(entry) if matches!(entry.kind, Kind::File(_)))
            })
        };
        for (id, tree) in self.stage.trees() {
            let count = files(id).count();
            let is_staged = |staged: &StagedOp| staged.op.key.tree == id && staged.how.is_staged();
            if !open.ops.iter().any(is_staged) {
                continue;
            }
            let directory = tree.series(&name)?;
            for (number, staged) in files(id) {
                let path = &staged.op.key.path;
                let fail = |error| tree.failed(path, "cannot be staged", error);
                let file = build::open(directory.as_fd(), &staged_name(self.batches, number))
                    .map_err(fail)?;
                if let (Change::Put(entry), How::Staged { .. }) = (&staged.op.change, staged.how) {
                    // It was possible when it was begun.
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
        self.staged += open.ops.iter().filter(|staged| staged.how.is_staged()).count();
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
        let ready = Ready { manifest, stage: self.stage.clone() };
        if self.staged >= limits::PACK_NAMES_MIN {
            pack(&ready)?;
        }
        record::write(self.stage.home(), record::READY, &ready.manifest)
            .and_then(|()| record::sync(self.stage.home()))
            .map_err(|error| self.not_kept(error))?;
        Ok(ready)
    }

    fn not_kept(&self, error: nix::errno::Errno) -> Trouble {
        failed(&self.stage.home_path.display(), "cannot keep the record of a series", error)
    }
}

impl OpenBatch {
    /// Asks for room for one more file: on its file system there must be room for all of the batch.
    fn reserve(&mut self, tree: &StagedTree, bytes: u64) -> Result<(), Trouble> {
        let room = match self.room.get_mut(&tree.area.device()) {
            Some(room) => room,
            None => {
                let found = Room::of(tree)?;
                self.room.entry(tree.area.device()).or_insert(found)
            }
        };
        let left = Room {
            bytes: room.bytes - i128::from(bytes),
            inodes: room.inodes.map(|inodes| inodes - 1),
            reserve: room.reserve,
        };
        if let Some(trouble) = left.none(tree) {
            return Err(trouble);
        }
        *room = left;
        Ok(())
    }
}

fn has_above(keys: &BTreeSet<Key>, key: &Key) -> bool {
    let above = |key: &Key| Some(Key { tree: key.tree, path: key.path.parent()? });
    std::iter::successors(above(key), above).any(|key| keys.contains(&key))
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
