//! What the owner is told of changes: the watch, and the links that it cannot tell of.

use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::gather::Series;
use super::links::Links;
use super::trees::{Fault, Pass, Trees};
use super::walk::{self, Walked};
use crate::limits;
use crate::mirror::entry::Key;
use crate::mirror::index::Index;
use crate::mirror::meta;
use crate::mirror::scan::Walk;
use crate::mirror::watch::{Drained, Watch, WatchError};

/// The watch over the trees.
#[derive(Debug)]
pub struct Hints {
    watch: Watch,
    /// What the watch has told and is not marked.
    backlog: Backlog,
    /// Something was told that has no name, or that could not be kept.
    lost: bool,
    /// Names of files that have more than one.
    pub links: Links,
    /// The last walk stopped when it had marked enough; what is behind is not marked yet.
    more_to_walk: bool,
    /// When the trees may be walked again for names of files that have several.
    learns_at: Option<Instant>,
    /// When names that may be written to from outside the trees are looked at.
    outer_at: Instant,
}

impl Hints {
    /// Begins to watch. What changed before is found by a walk.
    ///
    /// # Errors
    /// A root is not there, a limit is reached, the kernel refuses.
    pub fn new(trees: &Trees) -> Result<Hints, WatchError> {
        Ok(Hints {
            watch: Watch::new(&trees.places())?,
            backlog: Backlog::default(),
            lost: false,
            links: Links::default(),
            more_to_walk: false,
            learns_at: None,
            outer_at: Instant::now(),
        })
    }

    /// To wait on.
    pub fn watch(&self) -> &Watch {
        &self.watch
    }

    /// Walks all trees and marks what differs from the index; names that `skip` knows have been read
    /// already. So much is marked at a time that the journal has room for it.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn walk(
        &mut self,
        pass: &Pass<'_>,
        index: &Index,
        skip: &dyn Fn(&Key) -> bool,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<Walked, Fault> {
        let walked = walk::mark(pass, index, &mut self.links, skip, interrupted)?;
        self.more_to_walk = walked.stopped;
        Ok(walked)
    }

    /// When [`Hints::learn`] may be called again: it costs a walk.
    pub fn learns_at(&self) -> Option<Instant> {
        self.learns_at
    }

    /// Walks all trees for the names of files that have several, as `ln` tells of the new one only.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn learn(&mut self, pass: &Pass<'_>, interrupted: &dyn Fn() -> bool) -> Result<(), Fault> {
        let begun = Instant::now();
        walk::learn(pass, &mut self.links, interrupted)?;
        self.learns_at = Some(Instant::now() + begun.elapsed() * limits::LINKS_LOOK_FACTOR);
        Ok(())
    }

    /// When to look for what was written through names outside the trees; `None`: there are none.
    pub fn outer_at(&self) -> Option<Instant> {
        self.links.with_outer().next().map(|_| self.outer_at)
    }

    /// They are looked at no sooner than after this.
    pub fn put_off_outer(&mut self, pause: Duration) {
        self.outer_at = Instant::now() + pause;
    }

    /// Looks at the names that may be written to from outside the trees. Those that differ from the index
    /// are marked; returns whether there are any.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn look_outside(&mut self, pass: &Pass<'_>, index: &Index) -> Result<bool, Fault> {
        let begun = Instant::now();
        let mut differ = Vec::new();
        for key in self.links.with_outer() {
            let Some((_, root)) = pass.of(key) else { continue };
            let Ok(Some((seen, _))) = meta::quick(root, &key.path) else { continue };
            if index.get(key)?.is_none_or(|stored| stored.seen != Some(seen)) {
                differ.push(key.clone());
            }
        }
        let pause = begun.elapsed() * limits::LINKS_LOOK_FACTOR;
        self.put_off_outer(pause.max(limits::OUTER_LOOK_EVERY));
        index.mark(&differ)?;
        Ok(!differ.is_empty())
    }

    /// Whether another walk must follow when what is marked is read.
    pub fn has_more_to_walk(&self) -> bool {
        self.more_to_walk
    }

    /// Reads what the watch tells, for later: the more often, the finer is the order that is known.
    ///
    /// # Errors
    /// The watch fails: make new hints, and walk.
    pub fn listen(&mut self) -> Result<(), Fault> {
        let drained = self
            .watch
            .drain(limits::HINTS_MAX)
            .map_err(|error| Fault::Disk(format!("the watch over the trees: {error}")))?;
        self.lost |= drained.lost || self.backlog.len() > limits::HINTS_MAX;
        if self.lost {
            // A walk will find it all.
            self.backlog.clear();
        } else if drained != Drained::default() {
            self.backlog.push(drained, self.watch.keeps_order());
        }
        Ok(())
    }

    /// What was told and is not marked yet.
    pub fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Marks what was told first: about `least` names, and whatever must come with them or with the names that
    /// `series` has read. Returns whether something was marked.
    ///
    /// # Errors
    /// See [`Fault`]. After one of the watch itself, make new hints, and walk.
    pub fn absorb(
        &mut self,
        pass: &Pass<'_>,
        index: &Index,
        series: &Series,
        least: usize,
        interrupted: &dyn Fn() -> bool,
    ) -> Result<bool, Fault> {
        self.listen()?;
        if self.lost || pass.iter().any(|(tree, _)| index.tree_dirty(tree.id)) {
            // Of what was read before, nothing is known any more.
            let lost = self.lost;
            self.walk(pass, index, &|key| !lost && series.has(key), interrupted)?;
            self.lost = false;
            self.mark_told(pass, index, usize::MAX, series)?;
            return Ok(true);
        }
        self.mark_told(pass, index, least, series)
    }

    fn mark_told(
        &mut self,
        pass: &Pass<'_>,
        index: &Index,
        least: usize,
        series: &Series,
    ) -> Result<bool, Fault> {
        let Some(told) = self.backlog.take(least, series.rests_on()) else { return Ok(false) };
        let marked = mark_all(pass, index, told);
        // Nothing tells of it once more.
        self.lost |= marked.is_err();
        marked.map(|()| true)
    }
}

/// Marks what was told.
fn mark_all(pass: &Pass<'_>, index: &Index, told: Drained) -> Result<(), Fault> {
    let Drained { mut names, directories, subtrees, lost: _ } = told;
    for directory in subtrees {
        descend(pass, &directory, &mut names)?;
        // Of what was in it before, nothing may be told, if another one has come in its place.
        for row in index.below(&directory) {
            names.push(row?.0);
        }
    }
    names.extend(directories);
    Ok(index.mark(&names)?)
}

/// All names of a directory that was moved in, was filled before it was watched, or has gone.
fn descend(pass: &Pass<'_>, directory: &Key, names: &mut Vec<Key>) -> Result<(), Fault> {
    let Some((tree, root)) = pass.of(directory) else { return Ok(()) };
    if meta::quick(root, &directory.path)?.is_none() {
        names.push(directory.clone());
        return Ok(());
    }
    let walk = if directory.path.is_root() {
        Walk::new(root, &tree.excludes)?
    } else {
        Walk::below(root, &tree.excludes, &directory.path)?
    };
    for found in walk {
        names.push(Key { tree: tree.id, path: found.path });
    }
    Ok(())
}
