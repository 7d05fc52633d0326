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
//! Of much that was told not all is taken at once (`backlog`): a takeover waits for what was acknowledged
//! and is not in the trees yet. T is then the moment up to which it was taken, and the rule is the same.
//!
//! A round must be quicker than the writers: it waits for no disk. So small files are read before their
//! dirty pages are written back, and a store through a mapping that comes right after may not move their
//! times. When the peer has the series, such files are written back and read again ([`Series::record`]):
//! only then `seen` is worth anything.
//!
//! # What holds nobody up
//! A file that costs much to read is read once in a series, whatever becomes of it meanwhile, and then
//! rests (`rest`). What cannot be read is stuck: it is told, tried again by itself, and everything else
//! goes on. Both stay dirty.

mod content;
mod linked;
mod series;

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::{Duration, Instant, SystemTime};

pub use self::content::Chunks;
use self::content::is_small;
pub use self::series::Series;
use super::ahead::Ahead;
use super::batch::{Batch, Made};
use super::hints::Hints;
use super::links::Inode;
use super::rest::Rests;
use super::trees::{Fault, Pass, Tree};
use crate::limits;
use crate::mirror::entry::{Entry, Key, Kind, RelPath, Stored};
use crate::mirror::hash::{self, HashError};
use crate::mirror::index::Index;
use crate::mirror::meta::{self, Look, What};
use crate::mirror::tree::{Root, TreeError};

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
    /// Names that are left alone for a while.
    pub rests: &'a mut Rests,
    /// Large files that are sent first.
    pub ahead: &'a mut Ahead,
    /// Whether another order waits.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// What has become of a name that was to be read.
enum Outcome {
    /// It is in the series as it is now.
    Taken,
    /// It stays dirty, and rests.
    Left,
    /// Other names of it must be found first.
    Lonely,
}

impl Gather<'_> {
    /// The next batch of the series.
    ///
    /// # Errors
    /// See [`Fault`]: the series is void.
    pub fn batch(&mut self, series: &mut Series) -> Result<Batch, Fault> {
        let mut made = Made::default();
        let begins = series.is_empty();
        self.absorb(series, if begins { limits::SERIES_NAMES } else { 0 })?;
        let mut first_round_at = None;
        loop {
            let names = self.index.dirty(limits::BATCH_OPS_MAX.saturating_sub(made.ops.len()));
            self.read(names, series, &mut made)?;
            let waiting = self.index.waiting() > 0;
            if made.is_full() && (waiting || self.hints.has_more_to_walk()) {
                self.leave_orphans(series, &mut made)?;
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
            let told = self.absorb(series, 0)?;
            let relinked = self.settle_links(series)?;
            // Of their other names, too.
            let retold = !series.others.is_empty() && self.absorb(series, 0)?;
            if !told && !relinked && !retold {
                break;
            }
            series.rounds += 1;
            let since = first_round_at.get_or_insert_with(Instant::now).elapsed();
            if series.rounds >= limits::COMMIT_ROUNDS_MAX || since >= limits::COMMIT_ROUNDS_FOR {
                series.fuzzy = true;
                break;
            }
        }
        self.leave_orphans(series, &mut made)?;
        self.pass.check()?;
        Ok(made.batch(series.fuzzy, false))
    }

    fn absorb(&mut self, series: &Series, least: usize) -> Result<bool, Fault> {
        self.hints.absorb(self.pass, self.index, series, least, self.interrupted)
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
        let mut leaders: HashMap<_, RelPath> = HashMap::new();
        let mut lonely = Vec::new();
        while let Some(key) = queue.pop_front() {
            if done.contains(&key) {
                continue;
            }
            if (self.interrupted)() {
                return Err(Fault::Interrupted);
            }
            if done.len().is_multiple_of(limits::READS_LISTEN_AFTER) {
                self.hints.listen()?;
            }
            // The peer must be able to put it somewhere.
            if let Some(parent) = self.parent_to_come(&key, series)?
                && !done.contains(&parent)
            {
                queue.push_front(key);
                queue.push_front(parent);
                continue;
            }
            done.insert(key.clone());
            if series.is_costly(&key) {
                // As it was read first: what came since is for the next series.
                series.fuzzy = true;
                series.leave(&key, true);
                continue;
            }
            if self.ahead.holds(&key) {
                series.fuzzy = true;
                series.leave(&key, false);
                continue;
            }
            if self.rests.holds(&key, Instant::now()) {
                series.leave(&key, false);
                continue;
            }
            let was_made = made.ops.contains_key(&key);
            let outcome = self.examine(&key, synced_at, series, made, &mut leaders);
            if was_made && !matches!(outcome, Ok(Outcome::Taken)) {
                series.withdraw(&key, made, self.index)?;
            }
            match outcome {
                Ok(Outcome::Taken) => {
                    self.rests.free(&key);
                    series.take(key);
                }
                Ok(Outcome::Left) => series.leave(&key, false),
                Ok(Outcome::Lonely) => lonely.push(key),
                Err(fault) => self.stick(&key, fault, series, made)?,
            }
            if queue.is_empty() && !lonely.is_empty() {
                for key in self.find_others(std::mem::take(&mut lonely), series)? {
                    done.remove(&key);
                    queue.push_back(key);
                }
            }
            if made.is_full() {
                // What was not reached is dirty still, for the next batch.
                let mut left: Vec<Key> =
                    queue.into_iter().filter(|key| !done.contains(key)).collect();
                left.append(&mut lonely);
                self.index.mark(&left)?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// A name that cannot be read is told and tried again by itself; the others go on. What the peer has
    /// of it stays.
    fn stick(
        &mut self,
        key: &Key,
        fault: Fault,
        series: &mut Series,
        made: &mut Made,
    ) -> Result<(), Fault> {
        let why = match &fault {
            Fault::Tree(_) | Fault::Disk(_) if !key.path.is_root() => fault.to_string(),
            Fault::Root(_)
            | Fault::Tree(_)
            | Fault::Disk(_)
            | Fault::Index(_)
            | Fault::Brake(_)
            | Fault::Interrupted => return Err(fault),
        };
        log::warn!("a name cannot be mirrored for now: {why}");
        made.forget(key);
        // Too many: the disk fails, and nothing may be concluded any more.
        if !self.rests.stick(key, why, Instant::now()) {
            return Err(fault);
        }
        series.leave(key, false);
        Ok(())
    }

    /// Finds out what has become of one name.
    fn examine(
        &mut self,
        key: &Key,
        synced_at: Option<Duration>,
        series: &mut Series,
        made: &mut Made,
        leaders: &mut HashMap<Inode, RelPath>,
    ) -> Result<Outcome, Fault> {
        let Some((tree, root)) = self.pass.of(key) else { return Ok(Outcome::Taken) };
        let stored = self.index.get(key)?;
        // If the peer may have it otherwise than the index says, it is told whatever it is now.
        let told = series.touches(key) || self.forced.contains(key);
        for attempt in 1..=limits::FILE_READS_MAX {
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
                return Ok(Outcome::Taken);
            }
            let mirrored = |look: &Look| {
                !matches!(look.what, What::Other(_)) && look.seen.size <= limits::FILE_BYTES_MAX
            };
            let Some(look) = look.filter(mirrored) else {
                if key.path.is_root() {
                    return Err(Fault::Root(format!("{} is gone", tree.path.display())));
                }
                self.hints.links.gone(key);
                if stored.is_some() || told {
                    made.delete(key);
                    series.gone.insert(key.clone());
                    series.changes.push((key.clone(), None));
                }
                return Ok(Outcome::Taken);
            };
            if self.lacks_parent(key)? {
                return Ok(Outcome::Left);
            }
            let known = stored.as_ref().filter(|stored| stored.seen == Some(look.seen));
            let leader = match look.what {
                What::File => {
                    self.hints.links.saw(key, &look.seen);
                    if self.hints.links.is_incomplete((key.tree, look.seen.ino)) {
                        return Ok(Outcome::Lonely);
                    }
                    self.leader(key, root, &look, known.is_none(), series, leaders)?
                }
                What::Dir | What::Symlink(_) | What::Other(_) => {
                    self.hints.links.gone(key);
                    None
                }
            };
            let entry_before = known.and_then(|known| known.entry.as_ref());
            if entry_before.is_some_and(|entry| leads_to(entry, leader.as_ref())) && !told {
                return Ok(Outcome::Taken);
            }
            let before = stored.as_ref().and_then(|stored| stored.entry.as_ref());
            let last = attempt == limits::FILE_READS_MAX;
            let sent = self.ahead.content(key, &look);
            let is_file = look.what == What::File && !series.has(key);
            if leader.is_none() && sent.is_none() && is_file {
                // Before it is read, if its length says enough.
                if self.ahead.puts_off(key, &look.seen, before, None) {
                    return Ok(Outcome::Left);
                }
            }
            let kind = match (leader, sent) {
                (Some(to), _) => Some((Kind::Link { to }, true)),
                (None, Some(content)) => Some((Kind::File(content), true)),
                (None, None) => self.kind(key, tree, root, &look, before, last, series, made)?,
            };
            let Some((kind, steady)) = kind else { continue };
            if let Kind::File(content) = &kind
                && is_file
                && self.ahead.puts_off(key, &look.seen, before, Some(content))
            {
                made.forget(key);
                return Ok(Outcome::Left);
            }
            // Whose pages were clean after the syncfs, and are still.
            let proven = synced_at.is_some_and(|at| meta::is_settled(&look.seen, at));
            let unproven =
                steady && !proven && matches!(&kind, Kind::File(content) if is_small(content.size));
            let entry = entry(kind, &look);
            let seen = (steady && (look.settled || unproven)).then_some(look.seen);
            let same = before == Some(&entry);
            let was_dir = before.is_some_and(|entry| entry.kind == Kind::Dir);
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
            return Ok(Outcome::Taken);
        }
        // It becomes shorter, or another thing, as fast as it is looked at.
        series.leave(key, true);
        series.fuzzy = true;
        Ok(Outcome::Left)
    }

    /// What a name is that is no link to another one, and whether it did not change meanwhile. `None`: it
    /// changed while it was read. The `last` time it is taken as it was read.
    #[expect(clippy::too_many_arguments, reason = "one step of examine")]
    fn kind(
        &mut self,
        key: &Key,
        tree: &Tree,
        root: &Root,
        look: &Look,
        before: Option<&Entry>,
        last: bool,
        series: &mut Series,
        made: &mut Made,
    ) -> Result<Option<(Kind, bool)>, Fault> {
        match &look.what {
            What::Dir => return Ok(Some((Kind::Dir, true))),
            What::Symlink(target) => {
                return Ok(Some((Kind::Symlink { target: target.clone() }, true)));
            }
            What::Other(_) => return Ok(None),
            What::File => {}
        }
        let file = match root.open_file(&key.path) {
            Ok(file) => file,
            Err(TreeError::Gone(_) | TreeError::NotAFile(_) | TreeError::Elsewhere(_)) => {
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let begun = Instant::now();
        let small = is_small(look.seen.size);
        // A file that is written to all the time is never clean, and shows by itself.
        let hot = self.rests.is_hot(key);
        if !small && !hot {
            hash::write_back(&file).map_err(|error| disk(root, &key.path, &error))?;
        }
        let keep = if small { usize::MAX } else { made.room().min(limits::KEPT_BYTES_MAX) };
        let read = match content::read(&file, &look.seen, tree.hash, before, keep) {
            Ok(read) => read,
            Err(HashError::Changed) => return Ok(None),
            Err(HashError::Io(error)) => return Err(disk(root, &key.path, &error)),
        };
        if !read.steady && small && !last {
            return Ok(None);
        }
        series.fuzzy |= !read.whole;
        let took = begun.elapsed();
        if took >= limits::COSTLY_READ {
            series.costly.insert(key.clone(), took);
        }
        if read.kept.len() < read.content.chunks.len() {
            made.hold(key, file);
        }
        made.keep(key, read.kept);
        // Clean pages were not asked for: the next walk reads it once more.
        Ok(Some((Kind::File(read.content), read.steady && (small || !hot))))
    }

    /// The directory of a name that the peer does not have yet, as far as is known.
    fn parent_to_come(&self, key: &Key, series: &Series) -> Result<Option<Key>, Fault> {
        let Some(path) = key.path.parent() else { return Ok(None) };
        let parent = Key { tree: key.tree, path };
        let comes = series.gone.contains(&parent) || self.index.get(&parent)?.is_none();
        Ok(comes.then_some(parent))
    }

    /// Whether the peer lacks its directory, which cannot be read.
    fn lacks_parent(&mut self, key: &Key) -> Result<bool, Fault> {
        let Some(path) = key.path.parent() else { return Ok(false) };
        let parent = Key { tree: key.tree, path };
        let Some(until) = self.rests.until(&parent) else { return Ok(false) };
        if self.index.get(&parent)?.is_some() {
            return Ok(false);
        }
        self.rests.wait(key, until);
        Ok(true)
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

#[cfg(test)]
mod tests;
