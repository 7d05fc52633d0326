//! Files with several names: all of them move together, and what happens to many at once is looked at
//! once.

use std::collections::HashMap;
use std::time::Instant;

use super::{Gather, Made, Series, leads_to};
use crate::mirror::engine::links::Inode;
use crate::mirror::engine::trees::Fault;
use crate::mirror::entry::{Key, Kind, RelPath, Seen};
use crate::mirror::index::IndexError;
use crate::mirror::meta::{self, Look};
use crate::mirror::proto::Change;
use crate::mirror::tree::Root;

impl Gather<'_> {
    /// The lowest name of a regular file, if it is another one. `changed`: it is not as in the index, so
    /// its other names are not either.
    pub(super) fn leader(
        &mut self,
        key: &Key,
        root: &Root,
        look: &Look,
        changed: bool,
        series: &mut Series,
        leaders: &mut HashMap<Inode, RelPath>,
    ) -> Result<Option<RelPath>, Fault> {
        if look.seen.nlink < 2 {
            return Ok(None);
        }
        let inode = (key.tree, look.seen.ino);
        if changed && series.settled.get(&inode) != Some(&look.seen) {
            self.hints.links.shake(inode);
        }
        let mut leader = None;
        loop {
            let first = self.hints.links.of(inode).next().cloned();
            let Some(first) = first else { break };
            let is_known = first == *key || leaders.get(&inode) == Some(&first.path);
            let is_there = is_known
                || meta::quick(root, &first.path)?.is_some_and(|(seen, _)| seen.ino == inode.1);
            if is_there {
                leaders.insert(inode, first.path.clone());
                leader = Some(first.path).filter(|leader| *leader != key.path);
                break;
            }
            self.hints.links.gone(&first);
            self.index.mark(std::slice::from_ref(&first))?;
        }
        series.others.extend(leader.clone().map(|path| Key { tree: key.tree, path }));
        series.links.insert(key.clone(), (look.seen, leader.clone()));
        Ok(leader)
    }

    /// Compares all names of the inodes to which something happened, and marks those whose entries have
    /// become others. Returns whether there are any.
    pub(super) fn settle_links(&mut self, series: &mut Series) -> Result<bool, Fault> {
        let mut marks = Vec::new();
        for inode in self.hints.links.take_shaken() {
            let names: Vec<Key> = self.hints.links.of(inode).cloned().collect();
            series.others.extend(names.iter().cloned());
            let Some(first) = names.first() else { continue };
            let Some((_, root)) = self.pass.of(first) else { continue };
            let look = meta::look(root, &first.path).ok().flatten();
            let Some(look) = look.filter(|look| look.seen.ino == inode.1) else {
                // It went, and that is told.
                marks.push(first.clone());
                self.hints.links.gone(first);
                continue;
            };
            series.settled.insert(inode, look.seen);
            if !self.hints.links.is_incomplete(inode) {
                names.iter().for_each(|name| self.rests.go_on(name));
            }
            let mut seen: Vec<(Key, Seen)> = Vec::new();
            for name in &names {
                if self.rests.holds(name, Instant::now()) {
                    continue;
                }
                let leader = Some(&first.path).filter(|_| name != first);
                if let Some((seen, to)) = series.links.get(name) {
                    if (*seen, to.as_ref()) != (look.seen, leader) {
                        marks.push(name.clone());
                    }
                    continue;
                }
                let Some(stored) = self.index.get(name)? else {
                    marks.push(name.clone());
                    continue;
                };
                let as_it_is = |entry| leads_to(entry, leader) && look.has_metadata_of(entry);
                let links_on = leader.is_some() && stored.entry.as_ref().is_some_and(as_it_is);
                if stored.seen == Some(look.seen) && stored.entry.as_ref().is_some_and(as_it_is) {
                    continue;
                }
                if links_on && look.settled {
                    // Only the number of names is another one.
                    seen.push((name.clone(), look.seen));
                } else if !links_on {
                    marks.push(name.clone());
                }
            }
            self.index.set_seen(&seen)?;
        }
        self.index.mark(&marks)?;
        Ok(!marks.is_empty())
    }

    /// A name that was taken, and is left now, may be what others need: their directory, or the file of which
    /// they are names. They are left as well, or the peer would have to refuse them.
    pub(super) fn leave_orphans(
        &self,
        series: &mut Series,
        made: &mut Made,
    ) -> Result<(), IndexError> {
        while series.withdrew {
            series.withdrew = false;
            let mut orphans = Vec::new();
            for (key, change) in &made.ops {
                let Change::Put(entry) = change else { continue };
                let parent = key.path.parent();
                let file = match &entry.kind {
                    Kind::Link { to } => Some(to.clone()),
                    Kind::Dir | Kind::File(_) | Kind::Symlink { .. } => None,
                };
                for path in parent.into_iter().chain(file) {
                    let needed = Key { tree: key.tree, path };
                    let comes = match series.has(&needed) {
                        true => !series.left.contains_key(&needed),
                        false => {
                            self.index.get(&needed)?.is_some_and(|stored| stored.entry.is_some())
                        }
                    };
                    if !comes {
                        orphans.push(key.clone());
                    }
                }
            }
            for key in orphans {
                series.withdraw(&key, made, self.index)?;
            }
        }
        Ok(())
    }

    /// Looks for the other names of these files: one walk for all of them, now or when it is time again.
    /// Returns the names that can be read now.
    pub(super) fn find_others(
        &mut self,
        lonely: Vec<Key>,
        series: &mut Series,
    ) -> Result<Vec<Key>, Fault> {
        if let Some(at) = self.hints.learns_at().filter(|at| *at > Instant::now()) {
            for key in &lonely {
                self.rests.wait(key, at);
                series.leave(key, false);
            }
            return Ok(Vec::new());
        }
        self.hints.learn(self.pass, self.interrupted)?;
        for key in &lonely {
            if let Some((_, root)) = self.pass.of(key)
                && let Ok(Some((seen, _))) = meta::quick(root, &key.path)
            {
                self.hints.links.shake((key.tree, seen.ino));
            }
        }
        Ok(lonely)
    }
}
