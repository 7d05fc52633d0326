//! What was replaced or removed lies in the series' directory: whatever of it somebody here wrote goes to
//! the conflict store, before the rest is removed with the record.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::SystemTime;

use nix::fcntl::openat;
use nix::sys::stat::Mode;

use super::place::parents_of;
use super::plan::Order;
use super::victim::{Judge, Place};
use super::{Rest, Run};
use crate::limits;
use crate::mirror::conflict::{Parent, Victim, Why};
use crate::mirror::entry::{Entry, Key, Kind, RelPath, Seen};
use crate::mirror::hash;
use crate::mirror::meta::{self, Look, Sort, What};
use crate::mirror::proto::{Change, Op, Trouble};
use crate::mirror::stage::{How, StagedOp, StagedTree};
use crate::mirror::staging_area::{self, DIRECTORY, errno, failed};

/// The name in the series' directory of what an op took away.
pub(super) fn gone_name((batch, number): Order, again: u32) -> String {
    match again {
        0 => format!("gone-{batch}-{number}"),
        again => format!("gone-{batch}-{number}-{again}"),
    }
}

/// The op that a name in a series' directory belongs to, and whether it took that away.
fn parse(name: &[u8]) -> Option<(Order, bool)> {
    let name = std::str::from_utf8(name).ok()?;
    let (rest, is_gone) = match name.strip_prefix("gone-") {
        Some(rest) => (rest, true),
        None => (name, false),
    };
    let mut numbers = rest.split('-').map(|number| number.parse::<u32>().ok());
    let order = (numbers.next()??, numbers.next()??);
    Some((order, is_gone))
}

/// Something that was taken out of the tree.
struct Aside<'a> {
    tree: &'a StagedTree,
    directory: BorrowedFd<'a>,
    /// Its name, or path, below that.
    name: &'a [u8],
    key: &'a Key,
    look: &'a Look,
    /// What came in its place.
    new: Option<&'a Entry>,
    /// The directories above it, if they were taken out with it.
    parents: Option<&'a [Parent]>,
}

impl Run<'_> {
    /// Judges everything that was replaced or removed.
    pub(super) fn sweep(&mut self) -> Result<(), Rest> {
        let stage = self.stage;
        for (id, tree) in stage.trees() {
            let fail = |error| failed(&tree.area.path().display(), "cannot be read", error);
            let Ok(series) = staging_area::directory(tree.area.incoming(), &self.name) else {
                continue;
            };
            let names = staging_area::names(series.as_fd()).map_err(fail)?;
            let mut found: Vec<(Order, bool, Vec<u8>)> = names
                .into_iter()
                .filter_map(|name| parse(&name).map(|(order, is_gone)| (order, is_gone, name)))
                .collect();
            found.sort_unstable();
            let (mut batch, mut ops): (Option<u32>, Vec<StagedOp>) = (None, Vec::new());
            let (mut kept, mut judged) = (false, Vec::new());
            for (count, (order, is_gone, name)) in found.into_iter().enumerate() {
                // What was judged by then is judged again, and found in the store.
                self.may_go_on(count)?;
                if batch != Some(order.0) {
                    (batch, ops) = (Some(order.0), self.ready.batch(order.0)?);
                }
                let Some(StagedOp { op, how, .. }) = ops.get(order.1 as usize) else { continue };
                if op.key.tree != id {
                    continue;
                }
                let (op, how) = (op.clone(), *how);
                let verdict = self.judge(tree, series.as_fd(), &name, order, is_gone, &op, how)?;
                if let Some(is_kept) = verdict {
                    kept |= is_kept;
                    judged.push(name);
                }
            }
            if kept {
                self.disk(tree.store.sync())?;
                match tree.store.thin(SystemTime::now()) {
                    Ok(0) => {}
                    Ok(removed) => log::info!(
                        "{}: {removed} versions of paths that change often were removed: too many of one day",
                        tree.store.path().display()
                    ),
                    // They are in nobody's way.
                    Err(error) => {
                        log::warn!("{}: {}", tree.store.path().display(), error.desc());
                    }
                }
            }
            // Before the index forgets what they were judged by: they are not judged again.
            for (count, name) in judged.into_iter().enumerate() {
                self.may_go_on(count)?;
                self.crash_points.take()?;
                if let Err(error) = staging_area::remove_all(series.as_fd(), &name) {
                    // In nobody's way there.
                    log::warn!(
                        "{}: cannot be removed: {}",
                        tree.area.path().display(),
                        error.desc()
                    );
                }
            }
        }
        Ok(())
    }

    /// What a whole file system refuses, for too long, is left.
    fn disk(&mut self, done: Result<(), Trouble>) -> Result<(), Trouble> {
        match done {
            Err(trouble @ (Trouble::NoRoom { .. } | Trouble::NoInodes { .. }))
                if self.to_the_end =>
            {
                self.done.broken.get_or_insert(trouble.to_string());
                Ok(())
            }
            done => done,
        }
    }

    /// One thing in the series' directory. Whether something of it was kept; `None`: it is what was staged.
    #[expect(clippy::too_many_arguments, reason = "where it lies, and which op put it there")]
    fn judge(
        &mut self,
        tree: &StagedTree,
        series: BorrowedFd<'_>,
        name: &[u8],
        order: Order,
        is_gone: bool,
        op: &Op,
        how: How,
    ) -> Result<Option<bool>, Rest> {
        let look = meta::look_at(series, name);
        let fail = |error: std::io::Error| {
            failed(&tree.shown(&op.key.path), "cannot be judged", errno(&error))
        };
        let Some(mut look) = look.map_err(fail)? else { return Ok(None) };
        let is_staged = match how {
            How::Staged { ino } | How::Patch { ino, .. } => ino == look.seen.ino,
            How::Plain | How::InPlace { .. } | How::Dropped => false,
        };
        if !is_gone && is_staged {
            // It never came in: another op won, it could not, or it was copied from.
            return Ok(None);
        }
        if let Ok((_, root)) = self.tree(&op.key)
            && let Ok(Some((now, _))) = meta::quick(root, &op.key.path)
            && now.ino == look.seen.ino
        {
            // The same file is at its name.
            return Ok(Some(false));
        }
        if let Some(before) = self.done.replaced.get(&order)
            && same_but_for_the_move(before, &look.seen)
        {
            look.seen = *before;
        }
        let new = match &op.change {
            Change::Put(entry) if self.done.plan.wins(&op.key, order) => Some(entry),
            Change::Put(_) | Change::Delete => None,
        };
        let (directory, key, look) = (series, &op.key, &look);
        let aside = Aside { tree, directory, name, key, look, new, parents: None };
        if look.what != What::Dir {
            return Ok(Some(self.judge_one(&aside)?));
        }
        self.judge_below(&aside).map(Some)
    }

    /// Everything in a directory that was taken out. A path that is too long for a name of the tree was made
    /// here: what is there is kept as a whole.
    fn judge_below(&mut self, top: &Aside<'_>) -> Result<bool, Rest> {
        let fail = |error| failed(&top.tree.shown(&top.key.path), "cannot be judged", error);
        let base = openat(top.directory, top.name, DIRECTORY, Mode::empty()).map_err(fail)?;
        let above = parents_of(self.tree(top.key)?.1, &top.key.path);
        let (mut kept, mut count) = (false, 0_usize);
        let mut left = vec![(RelPath::root(), inside(&above, top.look, top.key))];
        while let Some((path, parents)) = left.pop() {
            let directory = match staging_area::directory_at(base.as_fd(), &path) {
                Ok(directory) => directory,
                // Something is mounted there, or it cannot be read: it cannot be removed either.
                Err(_) => continue,
            };
            for name in staging_area::names(directory.as_fd()).map_err(fail)? {
                self.may_go_on(count)?;
                count = count.wrapping_add(1);
                let Ok(Some(look)) = meta::look_at(&directory, &name) else { continue };
                let whole = join(&top.key.path, &path).and_then(|above| above.join(&name));
                let Ok(whole) = whole else {
                    let place = join(&top.key.path, &path).unwrap_or_else(|_| top.key.path.clone());
                    let (parent, why) = (directory.as_fd(), Why::Created);
                    let (path, look, parents) = (&place, &look, parents.as_slice());
                    let victim = Victim { parent, name: &name, path, look, why, parents };
                    top.tree.store.keep(&victim, &self.occasion, self.crash_points)?;
                    kept = true;
                    continue;
                };
                let key = Key { tree: top.key.tree, path: whole };
                if look.what == What::Dir {
                    if let Ok(below) = path.join(&name) {
                        left.push((below, inside(&parents, &look, &key)));
                    }
                    continue;
                }
                let directory = directory.as_fd();
                let aside = Aside {
                    tree: top.tree,
                    directory,
                    name: &name,
                    key: &key,
                    look: &look,
                    new: None,
                    parents: Some(&parents),
                };
                kept |= self.judge_one(&aside)?;
            }
        }
        Ok(kept)
    }

    fn judge_one(&mut self, aside: &Aside<'_>) -> Result<bool, Trouble> {
        let Aside { tree, directory, name, key, look, new, parents } = *aside;
        let place = Place::Aside { directory, name };
        let keep = self.done.plan.keeps(key);
        let judge = Judge { tree, place, index: self.index, key, look, keep };
        let linked = new.and_then(|entry| self.linked(key, entry, look));
        let Some(why) = judge.verdict(linked.as_ref().or(new))? else { return Ok(false) };
        let parents = match parents {
            Some(parents) => parents.to_vec(),
            None => parents_of(self.tree(key)?.1, &key.path),
        };
        let (parent, path, parents) = (directory, &key.path, parents.as_slice());
        let victim = Victim { parent, name, path, look, why, parents };
        let kept = tree.store.keep(&victim, &self.occasion, self.crash_points).map(drop);
        self.disk(kept)?;
        Ok(true)
    }

    /// Of a further name of a file: with that file's content, which the index does not know yet.
    fn linked(&self, key: &Key, entry: &Entry, look: &Look) -> Option<Entry> {
        let Kind::Link { to } = &entry.kind else { return None };
        let (tree, root) = self.tree(key).ok()?;
        let (seen, _) = meta::quick(root, to)
            .ok()?
            .filter(|(seen, sort)| *sort == Sort::File && seen.size == look.seen.size)?;
        let file = root.open_file(to).ok()?;
        let threads = limits::TAKE_IN_HASH_THREADS;
        let content = hash::content(&file, &seen, tree.hash, threads).ok()?;
        Some(Entry { kind: Kind::File(content), ..entry.clone() })
    }
}

/// The directories above what is in a directory.
fn inside(parents: &[Parent], look: &Look, key: &Key) -> Vec<Parent> {
    let mut parents = parents.to_vec();
    // If one above it is not known, this would be taken for that.
    if parents.len() == key.path.above().len() {
        parents.push(Parent::of(look));
    }
    parents
}

fn join(one: &RelPath, other: &RelPath) -> Result<RelPath, crate::mirror::entry::BadPath> {
    if one.is_root() || other.is_root() {
        return Ok(if one.is_root() { other.clone() } else { one.clone() });
    }
    RelPath::new(&[one.as_bytes(), b"/".as_slice(), other.as_bytes()].concat())
}

/// Whether nothing but the ctime moved between the look before a rename and the one after it.
fn same_but_for_the_move(before: &Seen, after: &Seen) -> bool {
    Seen { ctime: before.ctime, ..*after } == *before
}
