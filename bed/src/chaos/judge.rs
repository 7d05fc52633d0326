//! The judge: what the group's program wrote and what was acknowledged, what readers found with whoever
//! served, what is in the trees and conflict stores in the end; and what must be so.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::mistakes::Mistakes;
use super::{Report, Wrong, page, tree};
use crate::limits;
use crate::site::ledger::{Ledger, Versions};
use crate::site::page::Page;
use crate::{Bed, BedError, GROUP, node, site};
use clusterd::config::NodeIndex;
use clusterd::control::status::MirrorState;
use clusterd::sim::rng::Rng;

/// Whoever judges, and what it knows.
#[derive(Debug)]
pub(super) struct Judge {
    names: Vec<String>,
    ledger: Ledger,
    read: u64,
    kept: u64,
    mistakes: u64,
    spoilt: u64,
}

impl Judge {
    /// Installs the group's program on both nodes of a dark bed.
    pub(super) fn install(bed: &Bed) -> Result<Judge, BedError> {
        let names =
            (0..limits::CHAOS_PAGES).map(|n| format!("{}{:02}/page-{n}.txt", site::PAGES, n % 8));
        let names: Vec<String> = names.collect();
        for node in NodeIndex::BOTH {
            fs::create_dir(tree(bed, node))?;
            let tree = bed.seen_srv().join(super::ROOT);
            let places = site::Places { dir: journal_dir(bed, node), tree };
            let service = bed.srv(node).join("service");
            let run_dir = bed.node(node).run_dir();
            site::install_writer(&places, &names, &service, &bed.options.demo, &run_dir)?;
        }
        Ok(Judge { names, ledger: Ledger::default(), read: 0, kept: 0, mistakes: 0, spoilt: 0 })
    }

    /// The names that the program writes.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Who serves the client now.
    pub(super) fn serves(&self, bed: &Bed) -> Option<NodeIndex> {
        let mark = Instant::now().checked_sub(limits::BED_LOOK_EVERY)?;
        bed.client.answer_since(mark).map(|answer| answer.from)
    }

    /// Reads some files of whoever serves; what must not be.
    pub(super) fn read(
        &mut self,
        bed: &Bed,
        mistakes: &Mistakes,
        rng: &mut Rng,
    ) -> Result<Vec<(Wrong, String)>, BedError> {
        /// At a time.
        const FILES: usize = 10;
        let began = Instant::now();
        // What was acknowledged before the first file is read.
        self.take_journals(bed)?;
        let Some(owner) = self.serves(bed) else { return Ok(Vec::new()) };
        let root = tree(bed, owner);
        let mut found = Vec::new();
        for _ in 0..FILES {
            let Some(name) = rng.one_of(&self.names) else { break };
            found.push((name.clone(), page(&root, name)?));
        }
        let read = Instant::now();
        // It still served when the last one had been read.
        let served = bed.wait("an answer", limits::BED_LOOK_EVERY, || {
            bed.client.answer_since(read).ok_or_else(String::new)
        });
        let is_it = served.is_ok_and(|answer| answer.from == owner);
        if !is_it || bed.watcher.moves_since(began) > 0 {
            return Ok(Vec::new());
        }
        self.read += found.len() as u64;
        let node = owner;
        let owner = node::name(owner);
        let mut wrong = Vec::new();
        for (name, version) in found {
            if mistakes.is_spoilt(bed, node, &name) {
                continue;
            }
            let number = match version {
                Some(Err(bytes)) => {
                    wrong.push((Wrong::NotWhole, format!("{name} on {owner}: {bytes} bytes")));
                    continue;
                }
                Some(Ok(number)) => Some(number),
                None => None,
            };
            if number.is_some_and(|number| mistakes.is_forbidden(number)) {
                wrong.push((Wrong::MistakeServed, format!("{name} on {owner}")));
            } else if let Some(safe) = self.ledger.is_older(&name, number) {
                // Deleted since?
                self.take_journals(bed)?;
                if self.ledger.is_older(&name, number).is_some() {
                    wrong.push(match number {
                        Some(number) => (
                            Wrong::Rollback,
                            format!(
                                "{name} on {owner} is {number}, {} was acknowledged",
                                safe.number
                            ),
                        ),
                        None => (Wrong::Lost, format!("{name} on {owner}: {}", safe.number)),
                    });
                }
            }
        }
        Ok(wrong)
    }

    /// Judges the files of a whole pair, while the program rests.
    pub(super) fn judge(
        &mut self,
        bed: &Bed,
        owner: NodeIndex,
        mistakes: &mut Mistakes,
    ) -> Result<Vec<(Wrong, String)>, BedError> {
        let until = Instant::now() + limits::CHAOS_MISTAKE_SETTLES * 2;
        while mistakes.is_unsettled() && Instant::now() < until {
            bed.watch_for(limits::BED_LOOK_EVERY)?;
            mistakes.settle(bed);
        }
        let until = Instant::now() + limits::CHAOS_SYNC_WITHIN;
        loop {
            let sync = ["sync", GROUP, "--wait"];
            let sync = bed.ask_within(owner, &sync, limits::CHAOS_SYNC_WITHIN)?;
            if sync.status.success() {
                break;
            }
            // On a busy machine the peer is dead for a moment, or a freed disk is not noticed yet.
            if Instant::now() >= until {
                let words = String::from_utf8_lossy(&sync.stderr).trim().to_owned();
                return Ok(vec![(Wrong::NotWholeAgain, format!("sync --wait: {words}"))]);
            }
            bed.watch_for(limits::BED_LOOK_EVERY)?;
        }
        let in_sync = bed.wait("the pair to be in sync", limits::BED_WHOLE_WITHIN, || {
            not_in_sync(bed).map_or(Ok(()), Err)
        });
        let mut wrong = match in_sync {
            Err(BedError::Late(why)) => vec![(Wrong::NotWholeAgain, why)],
            in_sync => in_sync.map(|()| Vec::new())?,
        };
        let differences = bed.differences(super::ROOT);
        // Ctrl-C ends rsync, too: then it says nothing about the files.
        bed.watch_for(Duration::ZERO)?;
        wrong.extend(all(Wrong::TreesDiffer, differences?));
        let kept = site::kept(bed)?;
        let versions = self.versions(bed, owner, &mut wrong)?;
        self.take_journals(bed)?;
        for page in self.ledger.lost(&versions) {
            let is = versions.get(&page.name);
            let text = format!("{} is {is:?}, {} was acknowledged", page.name, page.number);
            if mistakes.was_served_spoilt(bed, &page.name) {
                // Its copy could not be restored before it had to serve (a full disk, an owner that was gone), and it told
                // so: the other node keeps what it has.
                self.spoilt += 1;
                let is_it = |one: &Page| one.name == page.name && one.number >= page.number;
                wrong.extend((!kept.pages.iter().any(is_it)).then_some((Wrong::NotKept, text)));
                continue;
            }
            wrong.push((if is.is_some() { Wrong::Rollback } else { Wrong::Lost }, text));
        }
        let forbidden = versions.iter().filter(|(_, number)| mistakes.is_forbidden(**number));
        let forbidden = forbidden.map(|(name, _)| format!("{name} in the tree of both")).collect();
        wrong.extend(all(Wrong::MistakeServed, forbidden));
        let missing = self.ledger.missing(&versions, &kept.pages);
        let missing = missing.into_iter().filter(|page| !mistakes.has_replaced(page));
        wrong.extend(all(Wrong::NotKept, missing.map(|page| words(&page)).collect()));
        let gone = mistakes.to_be_kept().filter(|page| !kept.pages.contains(page));
        let gone = gone.map(|page| format!("{}, written by mistake", words(page))).collect();
        wrong.extend(all(Wrong::NotKept, gone));
        self.ledger.settle(&versions);
        self.mistakes = mistakes.count();
        mistakes.forget();
        self.kept = kept.pages.len() as u64;
        Ok(wrong)
    }

    fn versions(
        &self,
        bed: &Bed,
        node: NodeIndex,
        wrong: &mut Vec<(Wrong, String)>,
    ) -> Result<Versions, BedError> {
        let root = tree(bed, node);
        let mut versions = Versions::new();
        for name in &self.names {
            match page(&root, name)? {
                Some(Ok(number)) => _ = versions.insert(name.clone(), number),
                Some(Err(bytes)) => wrong.push((Wrong::NotWhole, format!("{name}: {bytes} bytes"))),
                None => {}
            }
        }
        Ok(versions)
    }

    fn take_journals(&mut self, bed: &Bed) -> Result<(), BedError> {
        site::take_journals_in(&mut self.ledger, |node| journal_dir(bed, node))
    }

    /// Adds what was seen on this pair.
    pub(super) fn count(&self, report: &mut Report) {
        let (written, acknowledged) = self.ledger.counts();
        report.written += written;
        report.acknowledged += acknowledged;
        report.read += self.read;
        report.kept += self.kept;
        report.mistakes += self.mistakes;
        report.spoilt += self.spoilt;
    }
}

/// What a node says that is not in sync.
fn not_in_sync(bed: &Bed) -> Option<String> {
    NodeIndex::BOTH.into_iter().find_map(|node| {
        let mirror = bed.status(node)?.groups.into_iter().next()?.mirror;
        let name = node::name(node);
        (mirror.state != MirrorState::InSync)
            .then(|| format!("the mirror of {name} is {:?}: {}", mirror.state, mirror.why))
    })
}

/// Outside the tree, and on a disk that is never full.
fn journal_dir(bed: &Bed, node: NodeIndex) -> PathBuf {
    bed.node(node).dir().join("writer")
}

/// How many there are, and the first of them.
fn all(wrong: Wrong, found: Vec<String>) -> Option<(Wrong, String)> {
    let first = found.first()?;
    Some((wrong, format!("{} such as {first}", found.len())))
}

fn words(page: &Page) -> String {
    format!("{} (version {})", page.name, page.number)
}

/// Nanoseconds of the clock that the versions come from.
pub(super) fn clock() -> io::Result<u64> {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    u64::try_from(time.as_nanos()).map_err(io::Error::other)
}
