//! From dirty names to a batch of changes.
//!
//! # When a series is a state that the trees had
//! Every change of a file is told by the watch before the call that made it returns. A series takes in
//! all names that were told until a moment T, and reads them. If then nothing has been told about any of
//! them, none has changed since T: they were read as they were at T, and no other name had changed
//! between the last commit and T. So a file that is written last, such as a manifest, is never newer on
//! the peer than what was written before it. If something was told, the round is repeated with all that
//! was told until then; after a few rounds the series is *fuzzy*: each file is whole, but the whole may
//! never have existed at one instant.
//!
//! A round must be quicker than the writers: it waits for no disk. So small files are read before their
//! dirty pages are written back, and a store through a mapping that comes right after may not move their
//! times. When the peer has the series, such files are written back and read again ([`Series::record`]):
//! only then `seen` is worth anything.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, SystemTime};

use super::batch::{Batch, Made};
use super::hints::{Hints, Told};
use super::proof::{Proof, prove};
use super::trees::{Fault, Pass, Tree, Trees};
use crate::limits;
use crate::mirror::entry::{Content, Entry, Key, Kind, RelPath, Stored};
use crate::mirror::hash::{self, HashError};
use crate::mirror::index::{Index, IndexError, Position};
use crate::mirror::meta::{self, Look, What};
use crate::mirror::tree::{Root, TreeError};

/// What is sent as one commit.
#[derive(Debug, Default)]
pub struct Series {
    /// All names that it takes in.
    taken: HashSet<Key>,
    /// What the index becomes when the peer has it.
    changes: Vec<(Key, Option<Stored>)>,
    /// Small files that were read before they were written back: their places in `changes`.
    unproven: Vec<usize>,
    /// Names that were found gone, or to be no directory any more: whatever the peer has below them goes,
    /// too.
    gone: HashSet<Key>,
    rounds: u32,
    fuzzy: bool,
}

impl Series {
    /// Whether it takes in this name.
    pub fn has(&self, key: &Key) -> bool {
        self.taken.contains(key)
    }

    /// Whether something may have been offered already that touches this name.
    fn touches(&self, key: &Key) -> bool {
        let above = |key: &Key| Some(Key { tree: key.tree, path: key.path.parent()? });
        self.has(key)
            || !self.gone.is_empty()
                && std::iter::successors(above(key), above).any(|key| self.gone.contains(&key))
    }

    /// Whether names changed while they were read, round after round.
    pub fn is_fuzzy(&self) -> bool {
        self.fuzzy
    }

    /// The peer has it: what it holds becomes the index. Without a position: there was nothing to send.
    ///
    /// # Errors
    /// The store fails.
    pub fn record(
        mut self,
        trees: &Trees,
        index: &Index,
        position: Option<Position>,
        forced: &mut HashSet<Key>,
    ) -> Result<(), IndexError> {
        let changed = self.prove(trees, index);
        let clean: Vec<Key> = self.taken.into_iter().collect();
        for key in &clean {
            forced.remove(key);
        }
        index.commit(&self.changes, position, &clean, position.is_some())?;
        index.mark(&changed)
    }

    /// Writes back what was read before that, and reads it once more. What looks otherwise now was told
    /// of, or is found by the next walk; the names that only have another content are returned.
    fn prove(&mut self, trees: &Trees, index: &Index) -> Vec<Key> {
        let pass = trees.open(index).ok();
        let many = self.unproven.len() > limits::SYNC_EACH_MAX;
        let synced = many && pass.as_ref().is_some_and(|pass| pass.sync().is_ok());
        let mut changed = Vec::new();
        for place in std::mem::take(&mut self.unproven) {
            let Some((key, Some(stored))) = self.changes.get_mut(place) else { continue };
            let proof = pass.as_ref().and_then(|pass| prove(pass, key, stored, synced));
            if proof == Some(Proof::Changed) {
                changed.push(key.clone());
            }
            stored.seen = stored.seen.filter(|_| proof == Some(Proof::Final));
        }
        changed
    }
}

/// What gathering works with.
pub struct Gather<'a> {
    /// The trees, open.
    pub pass: &'a Pass<'a>,
    /// The last common commit.
    pub index: &'a Index,
    /// What is told of changes, and the links.
    pub hints: &'a mut Hints,
    /// Names that the peer has otherwise: offered even if they are as in the index.
    pub forced: &'a HashSet<Key>,
    /// Whether another order waits.
    pub interrupted: &'a dyn Fn() -> bool,
}

impl Gather<'_> {
    /// The next batch of the series.
    ///
    /// # Errors
    /// See [`Fault`]: the series is void.
    pub fn batch(&mut self, series: &mut Series) -> Result<Batch, Fault> {
        let mut made = Made::default();
        self.absorb(series)?;
        loop {
            let names = self.index.dirty(limits::BATCH_OPS_MAX.saturating_sub(made.ops.len()));
            self.read(names, series, &mut made)?;
            let waiting = self.index.waiting() > 0;
            if made.is_full() && (waiting || self.hints.has_more_to_walk()) {
                return Ok(made.batch(false, true));
            }
            if waiting {
                // Some names made no change: there is room for more.
                continue;
            }
            if self.hints.has_more_to_walk() {
                self.hints.walk(self.pass, self.index, &|key| series.has(key), self.interrupted)?;
                continue;
            }
            let quiet = match self.absorb(series)? {
                Told::Names(names) => names.iter().all(|name| !series.has(name)),
                Told::Everything => false,
            };
            if quiet {
                break;
            }
            series.rounds += 1;
            if series.rounds >= limits::COMMIT_ROUNDS_MAX {
                series.fuzzy = true;
                break;
            }
        }
        self.pass.check()?;
        Ok(made.batch(series.fuzzy, false))
    }

    fn absorb(&mut self, series: &Series) -> Result<Told, Fault> {
        self.hints.absorb(self.pass, self.index, &|key| series.has(key), self.interrupted)
    }

    fn read(&mut self, names: Vec<Key>, series: &mut Series, made: &mut Made) -> Result<(), Fault> {
        // Of many the first reading takes long anyhow.
        let mut synced_at = None;
        if names.len() > limits::SYNCFS_ABOVE && series.rounds == 0 {
            // Before a clock went wrong there was nothing.
            synced_at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
            self.pass.sync()?;
        }
        let mut queue = VecDeque::from(names);
        let mut done: HashSet<Key> = HashSet::new();
        while let Some(key) = queue.pop_front() {
            if !done.insert(key.clone()) {
                continue;
            }
            if (self.interrupted)() {
                return Err(Fault::Interrupted);
            }
            self.examine(&key, synced_at, series, made, &mut queue)?;
            series.taken.insert(key);
            if made.is_full() {
                // What was not reached is dirty still, for the next batch.
                let left: Vec<Key> = queue.into_iter().filter(|key| !done.contains(key)).collect();
                self.index.mark(&left)?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// Finds out what has become of one name. Names whose entries depend on it go to the queue.
    fn examine(
        &mut self,
        key: &Key,
        synced_at: Option<Duration>,
        series: &mut Series,
        made: &mut Made,
        queue: &mut VecDeque<Key>,
    ) -> Result<(), Fault> {
        let Some((tree, root)) = self.pass.of(key) else { return Ok(()) };
        let stored = self.index.get(key)?;
        // If the peer may have it otherwise than the index says, it is told whatever it is now.
        let told = series.touches(key) || self.forced.contains(key);
        for _ in 0..limits::FILE_READS_MAX {
            made.forget(key);
            let look = match meta::look(root, &key.path) {
                Ok(look) => look,
                // What is mounted there is not of this tree.
                Err(TreeError::Elsewhere(_)) => None,
                Err(error) => return Err(error.into()),
            };
            let is_dir = matches!(look, Some(Look { what: What::Dir, .. }));
            if tree.excludes.matches(&key.path, is_dir) {
                // Neither side has it to be compared; what is there stays.
                series.changes.extend((stored.is_some() || told).then(|| (key.clone(), None)));
                return Ok(());
            }
            let mirrored = |look: &Look| {
                !matches!(look.what, What::Other(_)) && look.seen.size <= limits::FILE_BYTES_MAX
            };
            let Some(look) = look.filter(mirrored) else {
                if key.path.is_root() {
                    return Err(Fault::Root(format!("{} is gone", tree.path.display())));
                }
                let others = self.hints.links.gone(key);
                self.mark_others(&others)?;
                if stored.is_some() || told {
                    made.delete(key);
                    series.gone.insert(key.clone());
                    series.changes.push((key.clone(), None));
                }
                return Ok(());
            };
            queue.extend(self.parent_to_come(key, series)?);
            let others = self.hints.links.saw(key, &look.seen);
            self.mark_others(&others)?;
            let leader = match look.what {
                What::File if look.seen.nlink > 1 => self.leader(key, root, &look, queue)?,
                What::File | What::Dir | What::Symlink(_) | What::Other(_) => None,
            };
            let known = stored.as_ref().filter(|stored| stored.seen == Some(look.seen));
            let entry_before = known.and_then(|known| known.entry.as_ref());
            if entry_before.is_some_and(|entry| leads_to(entry, leader.as_ref())) && !told {
                return Ok(());
            }
            let kind = match leader {
                Some(to) => Some(Kind::Link { to }),
                None => kind(key, tree, root, &look, made)?,
            };
            let Some(kind) = kind else { continue };
            // Whose pages were clean after the syncfs, and are still.
            let proven = synced_at.is_some_and(|at| meta::is_settled(&look.seen, at));
            let unproven =
                !proven && matches!(&kind, Kind::File(content) if is_small(content.size));
            let entry = entry(kind, &look);
            let seen = (look.settled || unproven).then_some(look.seen);
            let same = stored.as_ref().is_some_and(|stored| stored.entry.as_ref() == Some(&entry));
            let was_dir = stored.as_ref().and_then(|stored| stored.entry.as_ref());
            let was_dir = was_dir.is_some_and(|entry| entry.kind == Kind::Dir);
            if entry.kind != Kind::Dir && (told || was_dir) {
                series.gone.insert(key.clone());
            }
            if !same || told {
                made.put(key, entry.clone());
            }
            if unproven {
                series.unproven.push(series.changes.len());
            }
            series.changes.push((key.clone(), Some(Stored { entry: Some(entry), seen })));
            return Ok(());
        }
        self.examine_hot(key, root, series, made)
    }

    /// Names of a file that has lost one. That they were names of one file is told only once, so they are
    /// dirty by themselves: a void series does not forget them.
    fn mark_others(&self, others: &[Key]) -> Result<(), IndexError> {
        if others.is_empty() { Ok(()) } else { self.index.mark(others) }
    }

    /// A file that is written to all the time: its first bytes as they are now, and the series is fuzzy.
    fn examine_hot(
        &mut self,
        key: &Key,
        root: &Root,
        series: &mut Series,
        made: &mut Made,
    ) -> Result<(), Fault> {
        series.fuzzy = true;
        let Some(look) = meta::look(root, &key.path)?.filter(|look| look.what == What::File) else {
            // It is another thing by now: the next round finds it.
            self.index.mark(std::slice::from_ref(key))?;
            return Ok(());
        };
        let Ok(file) = root.open_file(&key.path) else {
            self.index.mark(std::slice::from_ref(key))?;
            return Ok(());
        };
        let size = look.seen.size;
        let chunk_bytes = Content::chunk_bytes_for(size);
        let mut chunks = Vec::new();
        for chunk in (0..).take_while(|&chunk| u64::from(chunk) * chunk_bytes < size) {
            match hash::chunk(&file, chunk, chunk_bytes, size) {
                Ok(bytes) => chunks.push(hash::hash_chunk(&bytes)),
                Err(HashError::Changed) => {
                    self.index.mark(std::slice::from_ref(key))?;
                    return Ok(());
                }
                Err(HashError::Io(error)) => return Err(disk(root, &key.path, &error)),
            }
        }
        let entry = entry(Kind::File(Content { size, chunk_bytes, chunks }), &look);
        made.put(key, entry.clone());
        series.changes.push((key.clone(), Some(Stored { entry: Some(entry), seen: None })));
        // It has changed since: once more, in the next series.
        Ok(())
    }

    /// The directory of a name that the peer does not have yet, as far as is known.
    fn parent_to_come(&self, key: &Key, series: &Series) -> Result<Option<Key>, Fault> {
        let Some(path) = key.path.parent() else { return Ok(None) };
        let parent = Key { tree: key.tree, path };
        let comes = series.gone.contains(&parent) || self.index.get(&parent)?.is_none();
        Ok(comes.then_some(parent))
    }

    /// The lowest name of the same file, if it is another one. The other names go to the queue where
    /// their entries have become others with this.
    fn leader(
        &mut self,
        key: &Key,
        root: &Root,
        look: &Look,
        queue: &mut VecDeque<Key>,
    ) -> Result<Option<RelPath>, Fault> {
        let names: Vec<Key> = self.hints.links.of(key.tree, look.seen.ino).cloned().collect();
        let mut leader: Option<RelPath> = None;
        for name in names {
            match meta::quick(root, &name.path)? {
                Some((seen, _)) if seen.ino == look.seen.ino => {
                    let as_it_is = self.index.get(&name)?.is_some_and(|stored| {
                        stored.seen == Some(seen)
                            && stored.entry.is_some_and(|entry| leads_to(&entry, leader.as_ref()))
                    });
                    if name != *key && !as_it_is {
                        queue.push_back(name.clone());
                    }
                    leader.get_or_insert(name.path);
                }
                Some(_) | None => {
                    // All of them are looked at here, whatever becomes of the series.
                    let _ = self.hints.links.gone(&name);
                    queue.push_back(name);
                }
            }
        }
        Ok(leader.filter(|leader| *leader != key.path))
    }
}

/// What a name is that is no link to another one. `None`: it changed while it was read.
fn kind(
    key: &Key,
    tree: &Tree,
    root: &Root,
    look: &Look,
    made: &mut Made,
) -> Result<Option<Kind>, Fault> {
    match &look.what {
        What::Dir => Ok(Some(Kind::Dir)),
        What::Symlink(target) => Ok(Some(Kind::Symlink { target: target.clone() })),
        What::Other(_) => Ok(None),
        What::File => {
            let file = match root.open_file(&key.path) {
                Ok(file) => file,
                Err(TreeError::Gone(_) | TreeError::NotAFile(_) | TreeError::Elsewhere(_)) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            match content(key, tree, look, &file, made) {
                Ok(content) => Ok(Some(Kind::File(content))),
                Err(HashError::Changed) => Ok(None),
                Err(HashError::Io(error)) => Err(disk(root, &key.path, &error)),
            }
        }
    }
}

/// Whether an entry is a link to this name, or else to none.
pub(super) fn leads_to(entry: &Entry, leader: Option<&RelPath>) -> bool {
    match &entry.kind {
        Kind::Link { to } => leader == Some(to),
        Kind::Dir | Kind::File(_) | Kind::Symlink { .. } => leader.is_none(),
    }
}

fn disk(root: &Root, path: &RelPath, error: &std::io::Error) -> Fault {
    Fault::Disk(format!("{}: {error}", root.place(path)))
}

fn entry(kind: Kind, look: &Look) -> Entry {
    Entry {
        kind,
        mode: look.mode,
        uid: look.uid,
        gid: look.gid,
        mtime: look.seen.mtime,
        xattrs: look.xattrs.clone(),
    }
}

/// Whether a file is one chunk at most.
fn is_small(size: u64) -> bool {
    size <= limits::CHUNK_BYTES_MIN
}

/// The content of a file; that of a small one is kept, to be sent as it was read.
fn content(
    key: &Key,
    tree: &Tree,
    look: &Look,
    file: &std::fs::File,
    made: &mut Made,
) -> Result<Content, HashError> {
    let size = look.seen.size;
    if !is_small(size) {
        hash::write_back(file)?;
        return hash::content(file, &look.seen, tree.hash, limits::HASH_THREADS);
    }
    let chunk_bytes = Content::chunk_bytes_for(size);
    if size == 0 {
        return Ok(Content { size, chunk_bytes, chunks: Vec::new() });
    }
    let bytes = hash::chunk(file, 0, chunk_bytes, size)?;
    if meta::seen_of(file)? != look.seen {
        return Err(HashError::Changed);
    }
    let chunks = vec![hash::hash_chunk(&bytes)];
    made.keep(key, bytes);
    Ok(Content { size, chunk_bytes, chunks })
}

#[cfg(test)]
mod tests;
