//! Chaos: a real pair, faults by chance from a seed, writers on both sides, readers; and a judge who wants
//! that nothing is lost, nothing goes back in time, and redundancy is never said in vain.
//!
//! | file | subject |
//! | --- | --- |
//! | here | a run: rounds of faults, each healed and judged |
//! | `blow` | the faults, how they are drawn, dealt and healed |
//! | `mistakes` | what somebody changes by mistake on the side that does not serve |
//! | `judge` | what was written, read, acknowledged and kept; what must be so |
//!
//! A round: one to three blows with short or long gaps, some time to live with them, then everything is
//! healed and the pair must be whole within a bound, and in sync when the program rests. The plan of a round comes from the seed
//! alone, what happens then does not: a real pair runs at its own pace.

mod blow;
mod judge;
mod mistakes;

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::watcher::TwoOwners;
use super::{Bed, BedError, GROUP, Options, site};
use crate::limits;
use blow::Health;
use clusterd::config::NodeIndex;
use clusterd::control::event::Record;
use clusterd::sim::rng::Rng;
use judge::Judge;
use mistakes::Mistakes;

/// Where the tree is, in the directory that each node sees its own content of.
const ROOT: &str = "www";

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The `clusterd` to run.
    pub exe: PathBuf,
    /// Where all chance comes from.
    pub seed: u64,
    /// For this long; a round that has begun is ended.
    pub time: Duration,
    /// It ends earlier after so many failovers.
    pub failovers: Option<u64>,
    /// When this becomes true, it stops.
    pub stop: &'static AtomicBool,
}

/// What must never be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// What was acknowledged is gone.
    Lost,
    /// What was acknowledged is served in an older version.
    Rollback,
    /// What somebody changed by mistake on the other side is served.
    MistakeServed,
    /// A file that is not whole is served.
    NotWhole,
    /// The pair said that it is redundant, and was not.
    RedundancyLie,
    /// Both kernels had the service address.
    TwoOwners,
    /// What was not synchronised is neither in the tree nor in a conflict store.
    NotKept,
    /// The healed pair is not whole, or not in sync, within the bound.
    NotWholeAgain,
    /// The trees differ after `sync --wait`.
    TreesDiffer,
}

/// Something that must never be was seen.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What.
    pub wrong: Wrong,
    /// Which seed and round, what was done when, and what both nodes told.
    pub story: String,
}

/// What a run has seen.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Rounds that were judged.
    pub rounds: u64,
    /// Blows that were dealt.
    pub blows: u64,
    /// How often the address came to the other node.
    pub failovers: u64,
    /// Changes that the group's program made.
    pub written: u64,
    /// Those that were acknowledged by `sync --wait`.
    pub acknowledged: u64,
    /// Files that were read from whoever served.
    pub read: u64,
    /// Changes by mistake on the other side.
    pub mistakes: u64,
    /// Files that were cut or deleted there by mistake, and served so by that node: the other one kept its own.
    pub spoilt: u64,
    /// Versions that were found again in a conflict store.
    pub kept: u64,
    /// Cuts of an owner whose group was said to be redundant, survived.
    pub survived: u64,
    /// What must never be.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |wrong| self.violations.iter().filter(|one| one.wrong == wrong).count();
        write!(
            f,
            "{} rounds, {} faults, {} failovers; {} changes, {} acknowledged, {} reads, {} mistakes \
             on the other side, {} cut or deleted files served so; {} found again in conflict stores; {} cuts of a redundant owner \
             survived\nacknowledged lost {}, rollbacks {}, redundancy lies {}, two owners {}, mistakes \
             served {}, not whole {}, not found again {}, trees differ {}, not whole again {}",
            self.rounds,
            self.blows,
            self.failovers,
            self.written,
            self.acknowledged,
            self.read,
            self.mistakes,
            self.spoilt,
            self.kept,
            self.survived,
            count(Wrong::Lost),
            count(Wrong::Rollback),
            count(Wrong::RedundancyLie),
            count(Wrong::TwoOwners),
            count(Wrong::MistakeServed),
            count(Wrong::NotWhole),
            count(Wrong::NotKept),
            count(Wrong::TreesDiffer),
            count(Wrong::NotWholeAgain),
        )
    }
}

/// Runs it; `tell` hears each step. After a violation it goes on with a new pair: one fault of the daemon
/// must not hide the next.
///
/// # Errors
/// The bed failed, or was asked to stop. What must never be is no error but in the report.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<Report, BedError> {
    let end = Instant::now() + plan.time;
    let mut rng = Rng::new(plan.seed);
    let mut report = Report::default();
    let is_over = |report: &Report| {
        Instant::now() >= end || plan.failovers.is_some_and(|most| report.failovers >= most)
    };
    while !is_over(&report) {
        let mut chaos = Chaos::start(plan, &mut rng, tell)?;
        while !is_over(&report) {
            let found = chaos.round(&mut rng, &mut report, tell)?;
            if !found.is_empty() {
                for violation in &found {
                    tell(&violation.story);
                }
                report.violations.extend(found);
                tell("the pair is given up, another one begins");
                break;
            }
        }
        chaos.judge.count(&mut report);
        report.survived += chaos.bed.survived();
    }
    Ok(report)
}

/// A pair, what was done to it, and what is known of its files.
struct Chaos {
    bed: Bed,
    health: Health,
    mistakes: Mistakes,
    /// Somebody works on the wrong machine now and then.
    is_careless: bool,
    judge: Judge,
    seed: u64,
    round: u64,
    /// Since the round began, in order.
    began: Instant,
    diary: Vec<(Duration, String)>,
    /// How many events of each node there were when the round began.
    events: [usize; 2],
    found: Vec<(Wrong, String)>,
}

impl Chaos {
    /// Makes a whole pair whose program writes.
    fn start(plan: &Plan, rng: &mut Rng, tell: &mut dyn FnMut(&str)) -> Result<Chaos, BedError> {
        let mut options = Options::new(plan.exe.clone());
        options.stop = plan.stop;
        options.disk_bytes = Some(limits::CHAOS_DISK_BYTES);
        let failback =
            if rng.chance(300) { "\nfailback = \"auto\"\nstable_for = \"1s\"" } else { "" };
        options.group = format!(
            "mirror = [\"{{srv}}/{ROOT}\"]{failback}\n\n[[group.{GROUP}.service]]\nexec = \
             \"{{srv}}/service\"\n"
        );
        let mut bed = Bed::new(options)?;
        let judge = Judge::install(&bed)?;
        for node in NodeIndex::BOTH {
            bed.power_on(node)?;
        }
        let mut chaos = Chaos {
            bed,
            health: Health::default(),
            mistakes: Mistakes::default(),
            is_careless: rng.chance(500),
            judge,
            seed: plan.seed,
            round: 0,
            began: Instant::now(),
            diary: Vec::new(),
            events: [0; 2],
            found: Vec::new(),
        };
        if let Err(why) = chaos.converge(&mut Rng::new(0))? {
            return Err(BedError::Late(format!("a whole pair at the very start: {why}")));
        }
        let failback = if failback.is_empty() { "" } else { ", which goes home by itself" };
        let careless = match chaos.is_careless {
            true => ", and somebody who works on the wrong machine",
            false => "",
        };
        tell(&format!("a whole pair{failback}{careless}"));
        Ok(chaos)
    }

    /// One round; what must never be, if it was seen.
    fn round(
        &mut self,
        rng: &mut Rng,
        report: &mut Report,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Vec<Violation>, BedError> {
        self.round += 1;
        self.began = Instant::now();
        self.diary.clear();
        self.events = NodeIndex::BOTH.map(|node| self.all_events(node).len());
        let began = self.began;
        // Some work first, so that there is something to lose.
        self.live(rng.time_us(limits::CHAOS_GAP_MIN, limits::CHAOS_GAP_MAX), rng)?;
        let blows = self.health.draw(rng);
        report.blows += blows.len() as u64;
        for blow in blows {
            let done = self.health.deal(&mut self.bed, &self.judge, blow)?;
            self.note(done);
            self.live(rng.time_us(limits::CHAOS_GAP_MIN, limits::CHAOS_GAP_MAX), rng)?;
        }
        self.live(rng.time_us(limits::CHAOS_GAP_MIN, limits::CHAOS_HOLD_MAX), rng)?;
        self.note("everything is healed".to_owned());
        let upper_first = rng.chance(500);
        let gap = rng.time_us(limits::CHAOS_GAP_MIN, limits::CHAOS_GAP_MAX);
        self.heal(upper_first, gap, rng)?;
        match self.converge(rng)? {
            Ok(()) => self.judge_files()?,
            Err(why) => self.found.push((Wrong::NotWholeAgain, why)),
        }
        let lies = self.bed.take_lies();
        self.found.extend(lies.into_iter().map(|lie| (Wrong::RedundancyLie, lie)));
        let two = self.bed.watcher.two_owners_since(began);
        if two != TwoOwners::default() {
            self.found.push((Wrong::TwoOwners, format!("{two:?}")));
        }
        let moves = self.bed.watcher.moves_since(began) as u64;
        report.failovers += moves;
        report.rounds += 1;
        tell(&self.line(moves));
        let found = std::mem::take(&mut self.found);
        // What led there is told once.
        let mut story = if found.is_empty() { String::new() } else { self.story() };
        let (seed, round) = (self.seed, self.round);
        let violation = |(wrong, what): (Wrong, String)| Violation {
            wrong,
            story: format!("{wrong:?} in round {round} of seed {seed}: {what}")
                + &std::mem::take(&mut story),
        };
        Ok(found.into_iter().map(violation).collect())
    }

    /// Lets the pair live for so many µs, while readers read and somebody makes mistakes.
    fn live(&mut self, time_us: u64, rng: &mut Rng) -> Result<(), BedError> {
        let until = Instant::now() + Duration::from_micros(time_us);
        loop {
            self.mistakes.settle(&self.bed);
            let found = self.judge.read(&self.bed, &self.mistakes, rng)?;
            let found: Vec<_> = found.into_iter().filter(|one| !self.found.contains(one)).collect();
            for (wrong, what) in found {
                self.note(format!("{wrong:?}: {what}"));
                self.found.push((wrong, what));
            }
            if self.is_careless
                && rng.chance(limits::CHAOS_MISTAKES_PER_MILLE)
                && let Some(done) = self.mistakes.make(&self.bed, &self.judge, rng)?
            {
                self.note(done);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            // Ends at once when somebody asks to stop.
            self.bed.watch_for(left.min(limits::BED_LOOK_EVERY))?;
        }
    }

    /// Undoes everything that was done.
    fn heal(&mut self, upper_first: bool, gap_us: u64, rng: &mut Rng) -> Result<(), BedError> {
        self.health.mend_cables(&mut self.bed)?;
        let first = if upper_first { NodeIndex::Upper } else { NodeIndex::Lower };
        for node in [first, first.other()] {
            if let Some(done) = self.health.mend_node(&mut self.bed, node)? {
                self.note(done);
                self.live(gap_us, rng)?;
            }
        }
        self.health.mend_duty(&self.bed)
    }

    /// Waits until the pair is whole; else what is wrong.
    fn converge(&mut self, rng: &mut Rng) -> Result<Result<(), String>, BedError> {
        let began = Instant::now();
        let mut last = String::new();
        loop {
            let Some(wrong) = self.bed.ailment() else {
                if began.elapsed() > limits::BED_EFFECT_WITHIN {
                    let seconds = began.elapsed().as_secs();
                    self.note(format!("whole only after {seconds} s, because {last}"));
                }
                return Ok(Ok(()));
            };
            if began.elapsed() > limits::CHAOS_WHOLE_WITHIN {
                return Ok(Err(wrong));
            }
            last = wrong;
            self.live(0, rng)?;
            self.bed.watch_for(limits::BED_LOOK_EVERY * 5)?;
        }
    }

    /// Judges the files of a whole pair, while its program rests.
    fn judge_files(&mut self) -> Result<(), BedError> {
        let Some(owner) = self.bed.owner() else {
            self.found.push((Wrong::NotWholeAgain, "the owner is gone again".to_owned()));
            return Ok(());
        };
        site::pause_writer(&self.bed, owner)?;
        let found = self.judge.judge(&self.bed, owner, &mut self.mistakes)?;
        self.found.extend(found);
        site::resume_writer(&self.bed, owner)
    }

    fn note(&mut self, what: String) {
        self.diary.push((self.began.elapsed(), what));
    }

    /// The round in one line.
    fn line(&self, moves: u64) -> String {
        let done: Vec<&str> = self.diary.iter().map(|(_, what)| what.as_str()).collect();
        format!("round {}: {}; {moves} moves", self.round, done.join("; "))
    }

    fn all_events(&self, node: NodeIndex) -> Vec<String> {
        let text = std::fs::read_to_string(self.bed.node(node).events()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The story of the round: what was done, and what both nodes told.
    fn story(&self) -> String {
        let mut story = String::new();
        for (at, done) in &self.diary {
            let _ = write!(story, "\n  {:8.3} s  {done}", at.as_secs_f64());
        }
        let mut told: Vec<(String, String)> = Vec::new();
        for (node, known) in NodeIndex::BOTH.into_iter().zip(self.events) {
            for line in self.all_events(node).into_iter().skip(known) {
                if let Ok(Record { time, node, told: event }) = serde_json::from_str(&line) {
                    told.push((time.clone(), format!("\n  {time} {node}: {}", event.text)));
                }
            }
        }
        told.sort();
        story.extend(told.into_iter().map(|(_, line)| line));
        story
    }
}

/// The tree of a node, as it is seen from here.
fn tree(bed: &Bed, node: NodeIndex) -> PathBuf {
    bed.srv(node).join(ROOT)
}

/// Reads a page; `None`: it is not there; `Err`: it is not whole, or of another name.
fn page(tree: &Path, name: &str) -> std::io::Result<Option<Result<u64, usize>>> {
    match std::fs::read(tree.join(name)) {
        Ok(bytes) => Ok(Some(match site::page::Page::read(&bytes) {
            Some(page) if page.name == name => Ok(page.number),
            Some(_) | None => Err(bytes.len()),
        })),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
