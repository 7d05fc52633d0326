//! Bringing a staged series into the trees.
//!
//! Everything here can be done again: after a crash at any point, [`apply`] called again ends in the same
//! trees, index and conflict store. The order:
//!
//! 1. directories, parents first; a new one mostly with all that will be in it;
//! 2. other files and symlinks: each by one rename, of what lies whole in the staging area;
//! 3. further names of files;
//! 4. deletions: each by one rename into the staging area;
//! 5. directories' metadata;
//! 6. what was replaced or removed is judged by the rule of `victim`, and kept in the conflict store if
//!    somebody here wrote it;
//! 7. all of this durable;
//! 8. the index, with the position last;
//! 9. the record goes, and what was replaced or removed with it.
//!
//! What is in the way changes places with what comes (`RENAME_EXCHANGE`), so that nothing is judged, hashed
//! or waited for before the trees are at the commit: a takeover waits for no more than the renames. How a
//! name looked is noted right before its rename, which moves its ctime. A writer that has the file open
//! keeps writing into the kept one. Everything is reached through [`Root`], so nothing outside a tree can
//! be touched.
//!
//! A name that cannot be brought where it should be is *unfinished*: it stays as it was, alone, and the
//! owner is told why.

mod halt;
mod patch;
mod place;
mod plan;
mod sweep;
mod victim;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Instant;

use nix::sys::stat::futimens;
use nix::sys::time::TimeSpec;

use super::conflict::Occasion;
use super::crash_points::CrashPoints;
use super::entry::{Entry, Key, Kind, RelPath, Seen, Stored, TreeId};
use super::index::{Index, Position};
use super::meta::{self, What};
use super::proto::{Change, Refused, Trouble};
use super::stage::{How, Ready, Stage, StagedOp, StagedTree, root};
use super::staging_area::{errno, failed, from_index, from_tree};
use super::tree::{Root, TreeError};
use crate::limits;
pub(super) use halt::{Halt, not_reached, not_set, refused};
pub(super) use plan::{Order, Plan};
use victim::is_kind_of;

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Conflicts in the stores of these trees, in all.
    pub conflicts: u64,
    /// Names that could not become what they should, and why: somebody wrote to them on this node after
    /// the owner was told that their content is here, or the system refuses. They are as they were; the
    /// index says of them that they are in no commit, so that the owner sends them again.
    pub unfinished: Vec<Refused>,
    /// The file system refused everything, for too long: the trees are not the state of a commit.
    pub broken: Option<String>,
}

/// A series whose trees are at its commit, in the kernel: what is left to do is nobody's to wait for.
#[derive(Debug)]
pub struct Brought {
    ready: Ready,
    done: Option<Done>,
}

impl Brought {
    /// Says durably that others may write to the trees from now on.
    ///
    /// # Errors
    /// The system refused: then they must not.
    pub fn set_brought(&self) -> Result<(), Trouble> {
        self.ready.set_brought()
    }

    /// The commit that the trees are at.
    pub fn position(&self) -> Position {
        self.ready.position()
    }
}

/// What is known after the trees are at the commit.
#[derive(Debug, Default)]
struct Done {
    plan: Plan,
    /// How what was replaced or removed looked right before.
    replaced: HashMap<Order, Seen>,
    /// Files whose metadata were set in place: one more than are synced one by one, at most.
    in_place: Vec<Key>,
    /// New directories that came in with what is in them.
    whole: HashSet<Key>,
    unfinished: BTreeMap<Key, String>,
    broken: Option<String>,
}

/// Applies a series, also one that was applied in part before a crash. `roots` are the trees' roots in
/// order; that they are the right ones is known to the caller. `to_the_end`: what a whole file system
/// refuses is left unfinished, too.
///
/// # Errors
/// The system refused: the series stays ready, and is to be applied again.
pub fn apply(
    ready: &Ready,
    roots: &[Root],
    index: &Index,
    crash_points: &mut CrashPoints,
    to_the_end: bool,
) -> Result<Applied, Trouble> {
    let mut brought = bring(ready, roots, index, crash_points, to_the_end, &|| false)?;
    let applied = finish(&mut brought, roots, index, crash_points, &|| false)?;
    applied.ok_or_else(|| Trouble::Failed("it was interrupted".to_owned()))
}

/// Brings the trees to the commit of a series; [`finish`] must follow. Before something else writes to the
/// trees, [`Brought::set_brought`] must be on record: when the rest is done again after a crash, nothing is
/// touched then that is not as the commit before had it. `look_up` is called now and then.
///
/// # Errors
/// As [`apply`].
pub fn bring(
    ready: &Ready,
    roots: &[Root],
    index: &Index,
    crash_points: &mut CrashPoints,
    to_the_end: bool,
    look_up: &dyn Fn() -> bool,
) -> Result<Brought, Trouble> {
    let ready = ready.clone();
    if index.position().map_err(from_index)? == Some(ready.position()) {
        return Ok(Brought { ready, done: None });
    }
    let done = Done { plan: Plan::of(&ready)?, ..Done::default() };
    let careful = ready.is_brought()?;
    let mut run = Run::new(&ready, roots, index, crash_points, done);
    (run.careful, run.to_the_end, run.look_up) = (careful, to_the_end, look_up);
    run.bring()?;
    let done = Some(run.done);
    Ok(Brought { ready, done })
}

/// Judges what was replaced or removed, makes everything durable, and puts it into the index. `look_up` is
/// called now and then, and says whether to pause. `None`: it was interrupted so, and is to be called again
/// with the same.
///
/// # Errors
/// The system refused: the series stays ready, and is to be applied again.
pub fn finish(
    brought: &mut Brought,
    roots: &[Root],
    index: &Index,
    crash_points: &mut CrashPoints,
    look_up: &dyn Fn() -> bool,
) -> Result<Option<Applied>, Trouble> {
    let Brought { ready, done } = brought;
    let (mut unfinished, mut broken) = (BTreeMap::new(), None);
    if let Some(done) = done.take() {
        let to_the_end = done.broken.is_some();
        let mut run = Run::new(ready, roots, index, crash_points, done);
        (run.to_the_end, run.look_up) = (to_the_end, look_up);
        match run.finish() {
            Ok(()) => (unfinished, broken) = (run.done.unfinished, run.done.broken),
            Err(Rest::Interrupted) => {
                brought.done = Some(run.done);
                return Ok(None);
            }
            Err(Rest::Failed(trouble)) => return Err(trouble),
        }
    }
    crash_points.take()?;
    ready.finish()?;
    let unfinished = unfinished.into_iter().map(|(key, why)| Refused::new(key, why)).collect();
    Ok(Some(Applied { conflicts: ready.stage().conflicts()?, unfinished, broken }))
}

/// Why the rest is not done.
enum Rest {
    /// An order waits. It goes on later.
    Interrupted,
    Failed(Trouble),
}

impl From<Trouble> for Rest {
    fn from(trouble: Trouble) -> Rest {
        Rest::Failed(trouble)
    }
}

/// One run through a series.
struct Run<'a> {
    ready: &'a Ready,
    stage: &'a Stage,
    roots: &'a [Root],
    index: &'a Index,
    crash_points: &'a mut CrashPoints,
    /// Called now and then; whether the rest is to wait.
    look_up: &'a dyn Fn() -> bool,
    /// Names that were done alone.
    count: usize,
    done: Done,
    /// The name of the series' directories.
    name: String,
    occasion: Occasion,
    to_the_end: bool,
    /// Others have written to the trees since they were at the commit: what is not as it was before is
    /// theirs.
    careful: bool,
    /// The series' directories.
    series: HashMap<TreeId, Rc<OwnedFd>>,
    /// The directory of the last name, and since when.
    parent: Option<(Instant, Key, Rc<OwnedFd>)>,
    /// Where something is mounted, if that was asked.
    mounts: Option<Vec<std::path::PathBuf>>,
}

impl<'a> Run<'a> {
    fn new(
        ready: &'a Ready,
        roots: &'a [Root],
        index: &'a Index,
        crash_points: &'a mut CrashPoints,
        done: Done,
    ) -> Run<'a> {
        let manifest = ready.manifest();
        Run {
            ready,
            stage: ready.stage(),
            roots,
            index,
            crash_points,
            look_up: &|| false,
            count: 0,
            done,
            name: manifest.name(),
            occasion: Occasion {
                time_ms: manifest.time_ms,
                generation: Some(manifest.generation.number),
            },
            to_the_end: false,
            careful: false,
            series: HashMap::new(),
            parent: None,
            mounts: None,
        }
    }

    fn tree(&self, key: &Key) -> Result<(&'a StagedTree, &'a Root), Trouble> {
        Ok((self.stage.tree(key.tree)?, root(self.roots, key.tree)?))
    }

    /// Does something about one name. What is refused to it alone leaves it unfinished.
    fn alone(
        &mut self,
        key: &Key,
        act: impl FnOnce(&mut Self) -> Result<(), Halt>,
    ) -> Result<(), Trouble> {
        self.count = self.count.wrapping_add(1);
        if self.count.is_multiple_of(limits::FINISH_LOOKS_UP) {
            (self.look_up)();
        }
        match act(self) {
            Ok(()) => Ok(()),
            Err(Halt::One(why)) => {
                self.done.unfinished.insert(key.clone(), why);
                Ok(())
            }
            Err(Halt::Disk(trouble)) if self.to_the_end => {
                self.done.unfinished.insert(key.clone(), trouble.to_string());
                self.done.broken.get_or_insert(trouble.to_string());
                Ok(())
            }
            Err(Halt::Disk(trouble) | Halt::All(trouble)) => Err(trouble),
        }
    }

    /// The puts that decide what their name becomes, with their places, batch by batch.
    fn each_put<E: From<Trouble>>(
        &mut self,
        mut act: impl FnMut(&mut Self, Order, &Key, &Entry, How) -> Result<(), E>,
    ) -> Result<(), E> {
        for batch in 0..self.ready.manifest().batches {
            for (number, staged) in (0u32..).zip(self.ready.batch(batch)?) {
                let StagedOp { op, how, .. } = staged;
                let order = (batch, number);
                match &op.change {
                    Change::Put(entry)
                        if how != How::Dropped && self.done.plan.wins(&op.key, order) =>
                    {
                        act(self, order, &op.key, entry, how)?;
                    }
                    Change::Put(_) | Change::Delete => (),
                }
            }
        }
        Ok(())
    }

    /// The trees become the commit, in the kernel.
    fn bring(&mut self) -> Result<(), Trouble> {
        for (key, directory) in self.done.plan.new_directories() {
            self.alone(&key, |run| run.put_directory(&key, &directory))?;
        }
        let (mut links, mut patches) = (false, false);
        self.each_put(|run, order, key, entry, how| match (&entry.kind, how) {
            (Kind::Dir, _) => Ok(()),
            (Kind::Link { .. }, _) => {
                links = true;
                Ok(())
            }
            (_, How::Staged { ino }) => run.alone(key, |run| run.put_staged(order, key, ino)),
            (Kind::File(_), How::InPlace { base }) => {
                run.alone(key, |run| run.put_in_place(key, entry, base))
            }
            // When all is in place that comes by a rename.
            (Kind::File(_), How::Patch { .. }) => {
                patches = true;
                Ok(())
            }
            (Kind::File(_) | Kind::Symlink { .. }, _) => {
                Err(Trouble::Failed("a staged name without what was staged".to_owned()))
            }
        })?;
        if links {
            self.each_put(|run, order, key, entry, _| match &entry.kind {
                Kind::Link { to } => run.alone(key, |run| run.put_link(order, key, to)),
                Kind::Dir | Kind::File(_) | Kind::Symlink { .. } => Ok(()),
            })?;
        }
        if patches {
            self.patch()?;
        }
        for (key, order) in self.done.plan.deletions() {
            self.alone(&key, |run| run.take_away(order, &key))?;
        }
        let mut keys = self.done.plan.touched.clone();
        keys.extend(self.done.plan.directories.keys().cloned());
        for key in keys.iter().rev() {
            if self.done.whole.contains(key) {
                continue;
            }
            self.alone(key, |run| run.directory_metadata(key))?;
        }
        Ok(())
    }

    /// What nobody waits for.
    fn finish(&mut self) -> Result<(), Rest> {
        self.sweep()?;
        self.make_durable()?;
        self.commit(self.ready.position())
    }

    /// Looked at now and then: `done` so far.
    fn may_go_on(&self, done: usize) -> Result<(), Rest> {
        let looks_up = done.is_multiple_of(limits::FINISH_LOOKS_UP);
        if looks_up && (self.look_up)() { Err(Rest::Interrupted) } else { Ok(()) }
    }

    /// A directory of the series becomes what it says; another one in which a name came or went gets its
    /// time back.
    fn directory_metadata(&mut self, key: &Key) -> Result<(), Halt> {
        let (tree, root) = self.tree(key)?;
        let directory = match root.open_dir(&key.path) {
            Ok(directory) => directory,
            // Deleted by the series, or just now by somebody here.
            Err(TreeError::Gone(_)) => return Ok(()),
            Err(error) => return Err(not_reached(tree, &key.path, error)),
        };
        let coming =
            self.done.plan.directories.get(key).filter(|one| self.done.plan.wins(key, one.order));
        if let Some(entry) = coming.map(|directory| directory.entry.clone()) {
            if self.careful && !self.is_directory_as_before(key)? {
                return Ok(());
            }
            if self.is_changed_directory(key, &entry)? {
                self.keep_directory_metadata(key)?;
            }
            self.crash_points.take()?;
            meta::set(&directory, &entry).map_err(|error| not_set(tree, &key.path, &error))?;
        } else if !self.careful
            && let Some(Stored { entry: Some(entry), .. }) =
                self.index.get(key).map_err(from_index)?
        {
            self.crash_points.take()?;
            let mtime = entry.mtime;
            let mtime = TimeSpec::new(mtime.s, mtime.ns.into());
            futimens(&directory, &TimeSpec::UTIME_OMIT, &mtime)
                .map_err(|error| refused(tree, &key.path, "its time cannot be set", error))?;
        }
        Ok(())
    }

    /// What was renamed, removed and set is on disk, before the index says so.
    fn make_durable(&mut self) -> Result<(), Rest> {
        self.may_go_on(0)?;
        for (id, tree) in self.stage.trees() {
            let in_tree = |key: &&Key| key.tree == id;
            let directories: BTreeSet<&Key> = self
                .done
                .plan
                .touched
                .iter()
                .chain(self.done.plan.directories.keys())
                .filter(in_tree)
                .collect();
            let files: Vec<&Key> = self.done.in_place.iter().filter(in_tree).collect();
            if directories.is_empty() && files.is_empty() {
                continue;
            }
            let root = root(self.roots, id)?;
            self.crash_points.take()?;
            let done = sync_some(tree, root, &directories, &files);
            match done {
                Err(trouble) if self.to_the_end => {
                    self.done.broken.get_or_insert(trouble.to_string());
                }
                done => done?,
            }
        }
        Ok(())
    }

    /// The index becomes what the trees are. In several transactions, so that any series fits into
    /// memory: until the last one the position says that the series is to be applied again.
    fn commit(&mut self, position: Position) -> Result<(), Rest> {
        let deletions: Vec<Key> = self.done.plan.deleted().cloned().collect();
        let gone = |key: &&Key| !self.done.unfinished.contains_key(*key);
        let deletions: Vec<Key> = deletions.iter().filter(gone).cloned().collect();
        for keys in deletions.chunks(limits::APPLY_CHANGES_MAX) {
            self.may_go_on(0)?;
            let changes: Vec<_> = keys.iter().map(|key| (key.clone(), None)).collect();
            self.commit_some(&changes)?;
        }
        let mut changes = Vec::new();
        let mut count = 0_usize;
        self.each_put::<Rest>(|run, _, key, entry, how| {
            run.may_go_on(count)?;
            count = count.wrapping_add(1);
            if run.done.unfinished.contains_key(key) {
                return Ok(());
            }
            let seen = run.seen(key, entry, how)?;
            changes.push((key.clone(), Some(Stored { entry: Some(entry.clone()), seen })));
            if changes.len() >= limits::APPLY_CHANGES_MAX {
                run.commit_some(&changes)?;
                changes.clear();
            }
            Ok(())
        })?;
        self.commit_some(&changes)?;
        // Directories in which names came or went look different now, and are not.
        let mut seen = Vec::new();
        for (count, key) in self.done.plan.touched.iter().enumerate() {
            self.may_go_on(count)?;
            if self.done.plan.directories.contains_key(key) {
                continue;
            }
            if let Some(Stored { entry: Some(entry), .. }) =
                self.index.get(key).map_err(from_index)?
                && let Some(now) = self.seen(key, &entry, How::Plain)?
            {
                seen.push((key.clone(), now));
            }
        }
        if !seen.is_empty() {
            self.index.set_seen(&seen).map_err(from_index)?;
        }
        let unfinished: Vec<Key> = self.done.unfinished.keys().cloned().collect();
        let mut own = Vec::new();
        for key in unfinished {
            if !self.is_as_before(&key)? {
                own.push((key, Some(Stored { entry: None, seen: None })));
            }
        }
        self.crash_points.take()?;
        Ok(self.index.commit(&own, Some(position), &[], true).map_err(from_index)?)
    }

    /// Whether an unfinished name still is what the commit before left there. If not, it is in no commit,
    /// and differs from whatever the owner has.
    fn is_as_before(&self, key: &Key) -> Result<bool, Trouble> {
        let (tree, root) = self.tree(key)?;
        let stored = self.index.get(key).map_err(from_index)?;
        match meta::look(root, &key.path) {
            Ok(None) => Ok(stored.is_none()),
            Ok(Some(look)) if look.what == What::Dir => Ok(stored
                .and_then(|stored| stored.entry)
                .is_some_and(|entry| entry.kind == Kind::Dir)),
            Ok(Some(look)) => {
                let place = victim::Place::InTree { root };
                let index = self.index;
                let judge = victim::Judge { tree, place, index, key, look: &look, keep: false };
                Ok(stored.is_some() && judge.verdict(None)?.is_none())
            }
            // Something is mounted there.
            Err(_) => Ok(true),
        }
    }

    fn commit_some(&mut self, changes: &[(Key, Option<Stored>)]) -> Result<(), Trouble> {
        if changes.is_empty() {
            return Ok(());
        }
        self.crash_points.take()?;
        self.index.commit(changes, None, &[], false).map_err(from_index)
    }

    /// How a name looks now, if that proves that it is this entry.
    fn seen(&self, key: &Key, entry: &Entry, how: How) -> Result<Option<Seen>, Trouble> {
        let (_, root) = self.tree(key)?;
        // What cannot be looked at is not known.
        let Ok(Some(look)) = meta::look(root, &key.path) else { return Ok(None) };
        let is_ours = match (&entry.kind, how) {
            (Kind::Link { to }, _) => {
                let to = meta::quick(root, to).ok().flatten();
                to.is_some_and(|(to, _)| to.ino == look.seen.ino)
            }
            (Kind::Dir | Kind::Symlink { .. }, _) => true,
            (Kind::File(_), How::Staged { ino }) => look.seen.ino == ino,
            (Kind::File(_), How::InPlace { base }) => {
                base.is_some_and(|base| base.ino == look.seen.ino)
            }
            (Kind::File(_), How::Patch { base, .. }) => base.ino == look.seen.ino,
            (Kind::File(_), How::Plain | How::Dropped) => false,
        };
        let proves = is_ours && is_kind_of(&look, entry) && look.has_metadata_of(entry);
        Ok((proves && look.settled).then_some(look.seen))
    }
}

/// Makes a few directories and files durable one by one, many by the whole file system.
fn sync_some(
    tree: &StagedTree,
    root: &Root,
    directories: &BTreeSet<&Key>,
    files: &[&Key],
) -> Result<(), Trouble> {
    if directories.len() + files.len() > limits::SYNC_EACH_MAX {
        let handle = root.open_dir(&RelPath::root()).map_err(from_tree)?;
        return nix::unistd::syncfs(&handle)
            .map_err(|error| failed(&tree.path.display(), "cannot be synced", error));
    }
    let opened = directories.iter().map(|key| (*key, root.open_dir(&key.path)));
    for (key, opened) in opened.chain(files.iter().map(|key| (*key, root.open_file(&key.path)))) {
        match opened {
            Ok(file) => file
                .sync_all()
                .map_err(|error| tree.failed(&key.path, "cannot be synced", errno(&error)))?,
            // Deleted by the series, or just now by somebody here; or nothing of it was touched.
            Err(TreeError::Gone(_) | TreeError::NotAFile(_) | TreeError::Elsewhere(_)) => (),
            Err(error) => return Err(from_tree(error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
