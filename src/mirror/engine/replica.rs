//! The copy on the standby side, watched and walked: nobody but the owner is to change it.
//!
//! What this process brings into it is not told by the watch (where the kernel says who did it), so
//! that only what somebody else did is looked at. The watch outlives the session: what it tells last is
//! looked at before this node claims.

use std::collections::BTreeSet;
use std::time::Instant;

use crossbeam_channel::Sender;

use super::Input;
use super::own::{Judge, Own};
use super::owner::{WatchThread, watch_thread};
use super::trees::{Fault, Pass, Trees};
use super::walk::{self, Walked};
use crate::limits;
use crate::mirror::entry::{Key, Kind};
use crate::mirror::index::Index;
use crate::mirror::meta::{self, Sort};
use crate::mirror::proto::Differ;
use crate::mirror::tree::TreeError;
use crate::mirror::watch::{Drained, Watch};

/// The copy on the standby side.
pub(super) struct Replica {
    inbox: Sender<Input>,
    watch: Option<(Watch, Option<WatchThread>)>,
    /// What was told while something else was done.
    sipped: Drained,
    /// The watch was told of every change since the trees were walked.
    sure: bool,
    looked_at: Option<Instant>,
    look_at: Option<Instant>,
    walk_at: Instant,
    /// What somebody changed, and the owner has not compared yet.
    differ: Differ,
    /// What the owner has compared, and not sent yet.
    compared: Differ,
    /// So much was told of when nobody could restore it.
    told: u64,
}

/// What a look works with.
pub(super) struct Around<'a> {
    pub(super) trees: &'a Trees,
    pub(super) index: &'a Index,
    pub(super) interrupted: &'a dyn Fn() -> bool,
}

impl Replica {
    pub(super) fn new(inbox: &Sender<Input>) -> Replica {
        Replica {
            inbox: inbox.clone(),
            watch: None,
            sipped: Drained::default(),
            sure: false,
            looked_at: None,
            look_at: None,
            walk_at: Instant::now() + limits::REPLICA_WALK_AFTER,
            differ: Differ::default(),
            compared: Differ::default(),
            told: 0,
        }
    }

    /// When to look.
    pub(super) fn due(&self) -> Instant {
        self.look_at.map_or(self.walk_at, |at| at.min(self.walk_at))
    }

    /// The watch has something to tell: looked at once, and then now and then.
    pub(super) fn hinted(&mut self, number: u64) {
        let Some((_, Some(thread))) = &mut self.watch else { return };
        if thread.number == number {
            thread.told = true;
            let now = Instant::now();
            let again = self.looked_at.map_or(now, |at| at + limits::RESTORE_PAUSE_MIN);
            self.look_at.get_or_insert(again.max(now));
        }
    }

    /// It failed: to be tried again.
    pub(super) fn again(&mut self) {
        self.sure = false;
        self.walk_at = Instant::now() + limits::MIRROR_RETRY;
    }

    /// Names that are not restored yet.
    pub(super) fn open(&self) -> u64 {
        self.differ.names.saturating_add(self.compared.names)
    }

    /// What differs now that nobody restores it, if more than was told.
    pub(super) fn untold(&mut self) -> Option<Differ> {
        let mut all = self.compared.clone();
        all.extend(&self.differ);
        let before = std::mem::replace(&mut self.told, all.names);
        (all.names > before).then_some(all)
    }

    /// What the owner has not compared yet.
    pub(super) fn differ(&self) -> &Differ {
        &self.differ
    }

    /// The owner compares now.
    pub(super) fn compares(&mut self) {
        let differ = std::mem::take(&mut self.differ);
        self.compared.extend(&differ);
    }

    /// A series is applied: it had what was compared before.
    pub(super) fn applied(&mut self) {
        self.compared = Differ::default();
    }

    /// Walks the trees, whatever the watch told; what differs is in no commit from now on, also what was
    /// found before.
    pub(super) fn walk(
        &mut self,
        pass: &Pass<'_>,
        mut judge: Judge,
        around: &Around<'_>,
    ) -> Result<Walked, Fault> {
        self.sure = false;
        self.begin(around.trees);
        // What is told from here on is looked at after the walk.
        let drained = self.drain();
        let (walked, differ) = walk::own(pass, around.index, &mut judge, around.interrupted)?;
        self.walk_at = Instant::now() + limits::RESCAN_EVERY;
        self.sure = drained.is_some();
        (self.differ, self.compared) = (differ, Differ::default());
        Ok(walked)
    }

    /// Looks at what the watch told, or at all if it does not know. Whether something differs that is to be
    /// told.
    pub(super) fn look(&mut self, around: &Around<'_>) -> Result<bool, Fault> {
        let pass = around.trees.open(around.index)?;
        let before = self.differ.names;
        let drained = if Instant::now() < self.walk_at { self.drain() } else { None };
        match drained {
            Some(Drained { names, directories, subtrees, lost: false }) if self.sure => {
                let names = [names, directories].concat();
                self.sure = false;
                self.examine(&pass, names, subtrees, around)?;
                pass.check()?;
                self.sure = true;
                Ok(self.differ.names > before)
            }
            Some(_) | None => {
                self.walk(&pass, Judge::quick(), around)?;
                Ok(self.differ.names > 0)
            }
        }
    }

    /// Begins to watch, if it is not watched. Without a watch each look is a walk.
    fn begin(&mut self, trees: &Trees) {
        if self.watch.is_some() {
            return;
        }
        match Watch::new(&trees.places()) {
            Ok(mut watch) => {
                watch.ignore_own();
                let thread = watch_thread(&watch, &self.inbox);
                self.watch = Some((watch, thread));
            }
            Err(error) => log::warn!("the copy here is not watched, only scanned: {error}"),
        }
    }

    /// Reads what the watch tells, for later: the kernel compares each event with those that nobody has read
    /// yet, and what this process does to many names makes many of them.
    pub(super) fn sip(&mut self) {
        let Some((watch, _)) = &mut self.watch else { return };
        match watch.drain(limits::HINTS_MAX) {
            Ok(drained) => self.sipped.extend(drained, limits::HINTS_MAX),
            // The next look says why.
            Err(_) => self.sipped.lost = true,
        }
    }

    /// `None`: nothing is known.
    fn drain(&mut self) -> Option<Drained> {
        self.look_at = None;
        self.looked_at = Some(Instant::now());
        let (watch, thread) = self.watch.as_mut()?;
        let drained = watch.drain(limits::HINTS_MAX);
        if let Some(thread) = thread.as_mut().filter(|thread| thread.told) {
            thread.told = false;
            // It waits for this one word.
            let _ = thread.resume.try_send(());
        }
        match drained {
            Ok(drained) => {
                let mut all = std::mem::take(&mut self.sipped);
                all.extend(drained, limits::HINTS_MAX);
                Some(all)
            }
            Err(error) => {
                log::warn!("the watch over the copy here failed: {error}; it is set up again");
                self.watch = None;
                None
            }
        }
    }

    fn examine(
        &mut self,
        pass: &Pass<'_>,
        names: Vec<Key>,
        subtrees: Vec<Key>,
        around: &Around<'_>,
    ) -> Result<(), Fault> {
        let index = around.index;
        let mut waiting = BTreeSet::from_iter(names);
        for directory in subtrees {
            for row in index.below(&directory) {
                waiting.insert(row?.0);
            }
            // What was moved in.
            if let Some((tree, root)) = pass.of(&directory)
                && let Ok(walk) =
                    crate::mirror::scan::Walk::below(root, &tree.excludes, &directory.path)
            {
                waiting.extend(walk.map(|found| Key { tree: directory.tree, path: found.path }));
            }
            waiting.insert(directory);
        }
        let (mut own, mut judge) = (Own::default(), Judge::quick());
        let mut other_names = false;
        for (count, key) in (1u64..).zip(waiting) {
            if count.is_multiple_of(limits::WALK_LOOKS_UP) && (around.interrupted)() {
                return Err(Fault::Interrupted);
            }
            other_names |= examine_one(pass, index, &mut judge, &mut own, key)?;
        }
        let found = own.commit(index)?;
        self.differ.extend(&found);
        if other_names {
            // Nobody tells of the others.
            self.walk(pass, Judge::quick(), around)?;
        }
        Ok(())
    }
}

/// Looks at one name. Whether it is one of several of a file that was changed.
fn examine_one(
    pass: &Pass<'_>,
    index: &Index,
    judge: &mut Judge,
    own: &mut Own,
    key: Key,
) -> Result<bool, Fault> {
    let Some((tree, root)) = pass.of(&key) else { return Ok(false) };
    if own.has(&key) {
        return Ok(false);
    }
    let stored = index.get(&key)?;
    // It is told already.
    if stored.as_ref().is_some_and(|stored| stored.entry.is_none()) {
        return Ok(false);
    }
    let here = match meta::quick(root, &key.path) {
        Ok(here) => here,
        // Of what is mounted there nothing is known.
        Err(TreeError::Elsewhere(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let is_dir = matches!(here, Some((_, Sort::Dir)));
    match (here, stored) {
        (None, None) => Ok(false),
        (_, None) if tree.excludes.matches(&key.path, is_dir) => Ok(false),
        (Some(_), Some(_)) if tree.excludes.matches(&key.path, is_dir) => {
            own.excluded(key);
            Ok(false)
        }
        (None, Some(stored)) => {
            if stored.entry.is_some_and(|entry| entry.kind == Kind::Dir) {
                for row in index.below(&key) {
                    let (below, stored) = row?;
                    if stored.entry.is_some() && !own.has(&below) {
                        own.gone(index, below)?;
                    }
                }
            }
            own.gone(index, key)?;
            Ok(false)
        }
        (Some((_, Sort::Other(_))), None) => Ok(false),
        (Some((seen, _)), Some(stored)) if stored.seen == Some(seen) => Ok(false),
        (Some((seen, sort)), _) => {
            own.differs(judge, pass, index, key.clone())?;
            Ok(own.has(&key) && sort == Sort::File && seen.nlink > 1)
        }
    }
}
