//! One fault tried on the pair with its site: what the client saw, what nginx served, and what became
//! of the files.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::faults::{self, Fault, Seen};
use crate::limits;
use crate::site::fetcher::Fetcher;
use crate::site::ledger::Ledger;
use crate::site::page::Page;
use crate::site::{self, Site};
use crate::stalls::Counted;
use crate::{Bed, BedError, GROUP};
use clusterd::config::NodeIndex;
use clusterd::control::status::MirrorState;

/// What was seen.
#[derive(Debug)]
pub(super) struct Trial {
    /// Of the pair.
    pub seen: Seen,
    /// Longest time without a whole page from nginx, from the fault until nothing more happened.
    pub nginx_outage: Duration,
    /// Whether the trees of both nodes were equal when the pair was whole again.
    pub equal: bool,
    /// Writes that were acknowledged and not in the tree that served, then or at the end.
    pub lost: usize,
    /// Conflicts that are new in the conflict stores.
    pub kept: usize,
}

impl Trial {
    /// Whatever is not as promised, in words.
    pub fn broken(&self) -> &[String] {
        &self.seen.broken
    }
}

/// Tries faults, and judges the files after each.
#[derive(Debug)]
pub(super) struct Judge {
    site: Site,
    fetcher: Fetcher,
    ledger: Ledger,
    /// Conflicts that were there before.
    kept: usize,
}

/// What the files are like, with the writer at rest.
#[derive(Debug, Default)]
struct Files {
    differences: Vec<String>,
    lost: BTreeSet<Page>,
    missing: BTreeSet<Page>,
    kept: usize,
}

impl Judge {
    /// Begins to fetch from a whole pair.
    pub(super) fn start(bed: &Bed, site: Site) -> Result<Judge, BedError> {
        let fetcher = Fetcher::start(bed, site.known().clone())?;
        Ok(Judge { site, fetcher, ledger: Ledger::default(), kept: 0 })
    }

    /// Whole pages that were fetched until now.
    pub(super) fn fetched(&self) -> u64 {
        self.fetcher.fetched()
    }

    /// Waits until nginx serves whole pages.
    pub(super) fn wait_served(&self, bed: &Bed) -> Result<(), BedError> {
        bed.wait("nginx to answer", limits::BED_WHOLE_WITHIN, || match self.fetched() {
            0 => Err("nobody does".to_owned()),
            _ => Ok(()),
        })
    }

    /// Waits until the first copy is made; what is wrong with it, in words.
    pub(super) fn wait_copied(&mut self, bed: &Bed) -> Result<Option<String>, BedError> {
        bed.wait("the first copy", limits::BED_COPY_WITHIN, || {
            let owner = bed.owner().and_then(|owner| bed.status(owner));
            let mut groups = owner.into_iter().flat_map(|status| status.groups);
            match groups.next().map(|group| group.mirror) {
                Some(mirror) if mirror.state == MirrorState::InSync => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        let files = self.judge(bed)?;
        Ok(summary("differences between the trees after the first copy", &files.differences))
    }

    /// Tries one fault.
    pub(super) fn try_one(
        &mut self,
        bed: &mut Bed,
        fault: Fault,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Trial, BedError> {
        let trial = faults::Trial::begin(bed, fault, Counted::Whole, tell)?;
        let lost_at_once = match bed.owner() {
            Some(serving) => {
                let versions = self.site.versions(bed, serving)?;
                site::take_journals(bed, &mut self.ledger)?;
                self.ledger.lost(&versions)
            }
            // Cut off.
            None => BTreeSet::new(),
        };
        let mut seen = trial.end(bed, tell)?;
        let whole = Instant::now();
        let files = match self.judge(bed) {
            Err(error @ (BedError::Late(_) | BedError::Refused(_))) => {
                seen.broken.push(error.to_string());
                None
            }
            judged => Some(judged?),
        };
        let equal = files.as_ref().is_some_and(|files| files.differences.is_empty());
        let Files { differences, mut lost, missing, kept } = files.unwrap_or_default();
        lost.extend(lost_at_once);

        let times = seen.times;
        let nginx_outage = self.fetcher.outage_between(times.began, times.undone);
        if fault.promise().outage.is_some_and(|most| nginx_outage > most) {
            seen.broken.push(format!("nginx outage of {} ms", nginx_outage.as_millis()));
        }
        let return_outage = self.fetcher.outage_between(times.undone, whole);
        if times.served && return_outage > limits::OUTAGE_MAX {
            let ms = return_outage.as_millis();
            seen.broken.push(format!("nginx outage of {ms} ms when it was undone"));
        }
        seen.broken.extend(summary("pages that were not whole", &self.fetcher.take_broken()));
        seen.broken.extend(summary("differences between the trees", &differences));
        seen.broken.extend(summary("acknowledged writes lost", &shown(&lost)));
        seen.broken.extend(summary("versions lost in silence", &shown(&missing)));
        Ok(Trial { seen, nginx_outage, equal, lost: lost.len(), kept })
    }

    /// Judges the files of a whole pair while the writer rests.
    fn judge(&mut self, bed: &Bed) -> Result<Files, BedError> {
        let owner = bed.wait_whole()?;
        site::pause_writer(bed, owner)?;
        let files = self.look(bed, owner);
        site::resume_writer(bed, owner)?;
        files
    }

    fn look(&mut self, bed: &Bed, owner: NodeIndex) -> Result<Files, BedError> {
        bed.tell(owner, &["sync", GROUP, "--wait"])?;
        let differences = self.site.differences(bed);
        // Ctrl-C ends rsync, too: then it says nothing about the files.
        bed.watch_for(Duration::ZERO)?;
        let differences = differences?;
        let kept = site::kept(bed)?;
        let versions = self.site.versions(bed, owner)?;
        site::take_journals(bed, &mut self.ledger)?;
        let lost = self.ledger.lost(&versions);
        let missing = self.ledger.missing(&versions, &kept.pages);
        self.ledger.settle(&versions);
        let new = kept.count.saturating_sub(self.kept);
        self.kept = kept.count;
        Ok(Files { differences, lost, missing, kept: new })
    }
}

/// How many there are, and the first of them.
fn summary(what: &str, all: &[String]) -> Option<String> {
    let first = all.first()?;
    Some(format!("{} {what}, such as {first}", all.len()))
}

fn shown(pages: &BTreeSet<Page>) -> Vec<String> {
    pages.iter().map(|Page { name, number }| format!("{name} (version {number})")).collect()
}
