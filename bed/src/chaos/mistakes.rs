//! Somebody works on the wrong machine: edits, truncates, deletes and makes files in the tree of the node
//! that does not serve. None of it may ever be served, and what was written must be kept.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::time::Instant;

use super::judge::{Judge, clock};
use super::{page, tree};
use crate::limits;
use crate::site::page::Page;
use crate::{Bed, BedError, node};
use clusterd::config::NodeIndex;
use clusterd::control::status::GroupState;
use clusterd::sim::rng::Rng;

/// Somebody wrote this on the side that does not serve.
#[derive(Clone, Debug)]
pub(super) struct Mistake {
    page: Page,
    node: NodeIndex,
    at: Instant,
    is_settled: bool,
}

/// What was done by mistake.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    /// Since the files were judged last.
    new: Vec<Mistake>,
    /// Replaced by mistake on a node: page, and the version that was there.
    replaced: HashSet<Page>,
    /// Cut or deleted by mistake on a node, and when.
    spoilt: HashMap<(NodeIndex, String), Instant>,
    /// Versions that must never be served.
    forbidden: HashSet<u64>,
    count: u64,
}

impl Mistakes {
    /// Makes one, if there is a node that surely does not serve; what it was, in words.
    pub(super) fn make(
        &mut self,
        bed: &Bed,
        judge: &Judge,
        rng: &mut Rng,
    ) -> Result<Option<String>, BedError> {
        let Some(wrong) = idle(bed) else { return Ok(None) };
        let root = tree(bed, wrong);
        let Some(name) = rng.one_of(judge.names()).cloned() else { return Ok(None) };
        let number = clock()?;
        let there = page(&root, &name)?;
        let previous = there.and_then(Result::ok).unwrap_or(0);
        let length = usize::try_from(rng.below(limits::BED_PAGE_BYTES_MAX)).unwrap_or_default();
        let path = root.join(&name);
        let (done, written) = match (there, rng.below(4)) {
            (Some(_), 0) => (fs::remove_file(&path).map(|()| "deleted"), None),
            (Some(_), 1) => {
                let cut = fs::File::options().write(true).open(&path);
                (cut.and_then(|file| file.set_len(10)).map(|()| "cut"), None)
            }
            (Some(_), _) => {
                let page = Page { name: name.clone(), number };
                (fs::write(&path, page.bytes(length)).map(|()| "overwritten"), Some(page))
            }
            (None, _) => {
                let page = Page { name: format!("mine-{number}.txt"), number };
                let bytes = page.bytes(length);
                (fs::write(root.join(&page.name), bytes).map(|()| "made"), Some(page))
            }
        };
        let how = match done {
            Ok(how) => how,
            // Its disk is full: half of it may be there, which nobody can know again.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(None),
            // The mirror was quicker.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // If it was made an owner meanwhile, it may have been no mistake.
        if idle(bed) != Some(wrong) {
            self.replaced.insert(Page { name, number: previous });
            return Ok(None);
        }
        self.count += 1;
        if written.is_none() {
            self.spoilt.insert((wrong, name.clone()), Instant::now());
        }
        self.replaced.insert(Page { name: name.clone(), number: previous });
        let name = written.as_ref().map_or(name, |page| page.name.clone());
        if let Some(page) = written {
            self.new.push(Mistake { page, node: wrong, at: Instant::now(), is_settled: false });
        }
        Ok(Some(format!("{name} is {how} on {} by mistake", node::name(wrong))))
    }

    /// What was written by mistake some time ago, on a node that did not begin to serve just then, may
    /// never be served.
    pub(super) fn settle(&mut self, bed: &Bed) {
        let settles = limits::CHAOS_MISTAKE_SETTLES;
        self.new.retain_mut(|one| {
            if one.is_settled || one.at.elapsed() <= settles {
                return true;
            }
            let since = one.at.checked_sub(settles).unwrap_or(one.at);
            let arrivals = bed.watcher.arrivals_since(one.node, since);
            one.is_settled = arrivals.into_iter().all(|arrival| arrival > one.at + settles);
            if one.is_settled {
                self.forbidden.insert(one.page.number);
            }
            one.is_settled
        });
    }

    /// Whether it is not yet known of all whether they were mistakes.
    pub(super) fn is_unsettled(&self) -> bool {
        self.new.iter().any(|one| !one.is_settled)
    }

    /// Whether this version must never be served.
    pub(super) fn is_forbidden(&self, number: u64) -> bool {
        self.forbidden.contains(&number)
    }

    /// Whether a node serves this name as somebody has just cut or deleted it there: it took over before the
    /// mirror could restore it, and told so.
    pub(super) fn is_spoilt(&self, bed: &Bed, node: NodeIndex, name: &str) -> bool {
        self.spoilt.get(&(node, name.to_owned())).is_some_and(|&at| {
            let arrivals = bed.watcher.arrivals_since(node, at);
            arrivals.into_iter().any(|arrival| arrival <= at + limits::CHAOS_MISTAKE_SETTLES)
        })
    }

    /// Whether a node has begun to serve after somebody had cut or deleted this name there.
    pub(super) fn was_served_spoilt(&self, bed: &Bed, name: &str) -> bool {
        NodeIndex::BOTH.into_iter().any(|node| {
            let at = self.spoilt.get(&(node, name.to_owned()));
            at.is_some_and(|&at| !bed.watcher.arrivals_since(node, at).is_empty())
        })
    }

    /// Whether somebody has replaced this version by mistake.
    pub(super) fn has_replaced(&self, page: &Page) -> bool {
        self.replaced.contains(page)
    }

    /// What was written by mistake and not by mistake replaced: it must be kept.
    pub(super) fn to_be_kept(&self) -> impl Iterator<Item = &Page> {
        let pages = self.new.iter().map(|one| &one.page);
        pages.filter(|page| !self.has_replaced(page))
    }

    /// All was judged.
    pub(super) fn forget(&mut self) {
        self.new.clear();
        self.replaced.clear();
        self.spoilt.clear();
    }

    /// How many were made.
    pub(super) fn count(&self) -> u64 {
        self.count
    }
}

/// The node that has power, says that it does not serve, and whose peer answers the client.
fn idle(bed: &Bed) -> Option<NodeIndex> {
    let now = Instant::now();
    let answer = bed.client.answer_since(now.checked_sub(limits::BED_LOOK_EVERY)?)?;
    let other = answer.from.other();
    let is_passive = |node| {
        let status = bed.newest_word(node)?;
        Some(status.groups.first()?.state == GroupState::Passive)
    };
    (bed.plugs().powered(other)
        && bed.watcher.holders(bed.address()) == [answer.from]
        && is_passive(other) == Some(true))
    .then_some(other)
}
