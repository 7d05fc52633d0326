//! Failover: the bed's pair under clusterd, keepalived and heartbeat; the same faults, the same client, the
//! same watcher of both kernels' addresses.
//!
//! | file | subject |
//! | --- | --- |
//! | `crew` | several beds at a time, their rounds |
//! | `pair` | a pair of the bed under another program |
//! | `keepalived`, `heartbeat` | the other programs |
//! | `plot` | the outages as a picture |

mod crew;
pub mod heartbeat;
pub mod keepalived;
pub mod pair;
mod plot;

use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd_bed::faults::{self, Fault};
use clusterd_bed::limits;
use clusterd_bed::processes;
use clusterd_bed::stalls::Counted;
use clusterd_bed::{Bed, Options};

use crate::table::{Goal, OURS, OURS_FAST, Series, Table};
use crate::{BenchError, Measured, Setting};
use crew::{Crew, Sample};
use heartbeat::Pace;
use keepalived::Advert;
use pair::{Pair, Peer};

/// What is done to each, and the longest outage that is allowed to clusterd, in ms.
const FAULTS: [(Fault, Option<f64>); 12] = [
    (Fault::OwnerPower, Some(25.0)),
    (Fault::OwnerPowerUnseen, Some(60.0)),
    (Fault::OwnerLanCut, Some(20.0)),
    (Fault::PlannedMove, Some(10.0)),
    (Fault::OrderlyStop, None),
    (Fault::HeartKilled, Some(20.0)),
    (Fault::HeartFrozen, Some(500.0)),
    (Fault::AllFrozen, Some(3500.0)),
    (Fault::CrossoverCut, None),
    (Fault::SerialCut, None),
    (Fault::BothCut, None),
    (Fault::SwitchDead, None),
];

/// What is asked with the carrier staying where heartbeats are as fast as they may be, in ms.
const UNSEEN_FAST_MS: f64 = 35.0;

/// The row of what the client misses while nothing happens.
const AT_REST: &str = "none (3 s at rest)";

/// Whether nothing may move.
fn stays(fault: Fault) -> bool {
    fault.promise().moves == faults::Moves::None
}

/// Whether somebody can serve the client at all.
fn can_be_served(fault: Fault) -> bool {
    fault.promise().outage.is_some()
}

/// What was seen of one fault.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the fault began to be caused.
    pub began: Instant,
    /// Longest time without an answer since the fault.
    pub outage: Duration,
    /// Whether the client was served when the watch ended.
    pub served: bool,
    /// Time with two owners.
    pub two_owners: Duration,
    /// Whether there were two when the watch ended.
    pub still_two: bool,
    /// How often the address moved before the fault was undone.
    pub moves: usize,
    /// What is not as promised; of clusterd alone.
    pub broken: Vec<String>,
}

/// A pair that faults are tried on.
pub trait Contestant {
    /// Its bed.
    fn bed(&self) -> &Bed;

    /// Waits until the pair is whole, and returns the owner.
    ///
    /// # Errors
    /// It does not become so, or the bed failed.
    fn make_whole(&mut self) -> Result<NodeIndex, BenchError>;

    /// Tries `fault` on a whole pair, and undoes it.
    ///
    /// # Errors
    /// The pair did not become whole, or the bed failed.
    fn try_one(&mut self, fault: Fault) -> Result<Seen, BenchError>;
}

/// Who is measured, in the order of the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contender {
    /// With its default config.
    Clusterd,
    /// With `interval = "10ms"`.
    Fast,
    /// With that interval of advertisements.
    Keepalived(Advert),
    /// With that pace.
    Heartbeat(Pace),
}

impl Contender {
    /// All of them.
    pub const ALL: [Contender; 7] = [
        Contender::Clusterd,
        Contender::Keepalived(Advert::Second),
        Contender::Keepalived(Advert::Tenth),
        Contender::Keepalived(Advert::Hundredth),
        Contender::Heartbeat(Pace::Default),
        Contender::Heartbeat(Pace::Fast),
        // Last: what is asked is asked of the first beside the next.
        Contender::Fast,
    ];

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Contender::Clusterd => OURS,
            Contender::Fast => OURS_FAST,
            Contender::Keepalived(advert) => advert.name(),
            Contender::Heartbeat(pace) => pace.name(),
        }
    }

    /// Whether a process of this name is its own, and not the bed's.
    pub fn owns(self, comm: &str) -> bool {
        match self {
            Contender::Clusterd | Contender::Fast => processes::is_of_daemon(comm),
            Contender::Keepalived(_) => comm.starts_with("keepalived"),
            Contender::Heartbeat(_) => ["heartbeat", "ipfail"].contains(&comm),
        }
    }

    /// How often the client asks while faults are tried. What takes half a minute is measured in many beds
    /// at once, and a thousand questions a second in each would be what keeps the machine busy.
    fn ask_every(self) -> Duration {
        match self {
            Contender::Heartbeat(Pace::Default) => 10 * limits::BED_ASK_EVERY,
            Contender::Clusterd
            | Contender::Fast
            | Contender::Keepalived(_)
            | Contender::Heartbeat(Pace::Fast) => limits::BED_ASK_EVERY,
        }
    }

    /// A pair in a bed of its own, which is as usual but for `change`.
    ///
    /// # Errors
    /// The bed can't be made.
    pub fn pair(
        self,
        setting: &Setting,
        change: impl FnOnce(&mut Options),
    ) -> Result<Box<dyn Contestant>, BenchError> {
        let mut options = Options::new(setting.exe.clone());
        options.stop = setting.stop;
        options.unchecked = true;
        options.ask_every = self.ask_every();
        if self == Contender::Fast {
            options.heartbeat = "interval = \"10ms\"".to_owned();
        }
        change(&mut options);
        let demo = options.demo.clone();
        let bed = Bed::new(options)?;
        let pair = |bed, peer| Box::new(Pair::new(bed, demo, peer));
        Ok(match self {
            Contender::Clusterd | Contender::Fast => Box::new(Ours::new(bed)?),
            Contender::Keepalived(advert) => pair(bed, Box::new(advert)),
            Contender::Heartbeat(pace) => pair(bed, Box::new(pace)),
        })
    }
}

struct Ours(Bed);

impl Ours {
    fn new(mut bed: Bed) -> Result<Ours, BenchError> {
        for node in NodeIndex::BOTH {
            bed.power_on(node)?;
        }
        Ok(Ours(bed))
    }
}

impl Contestant for Ours {
    fn bed(&self) -> &Bed {
        &self.0
    }

    fn make_whole(&mut self) -> Result<NodeIndex, BenchError> {
        Ok(self.0.wait_whole()?)
    }

    fn try_one(&mut self, fault: Fault) -> Result<Seen, BenchError> {
        let seen = faults::try_one(&mut self.0, fault, Counted::Whole, &mut |_| {})?;
        Ok(Seen {
            began: seen.times.began,
            outage: seen.outage,
            served: seen.times.served,
            two_owners: seen.two_owners.total,
            still_two: false,
            moves: seen.moves,
            broken: seen.broken,
        })
    }
}

/// Who is measured at the same time. What acts within milliseconds is alone; two that act within half a
/// second hardly meet; what takes whole seconds does not mind company.
fn crews() -> [Vec<Crew>; 6] {
    let crew = |contender, beds| Crew { contender, beds };
    [
        vec![crew(Contender::Clusterd, 1)],
        vec![crew(Contender::Fast, 1)],
        vec![crew(Contender::Keepalived(Advert::Hundredth), 1)],
        vec![crew(Contender::Keepalived(Advert::Tenth), 1)],
        vec![crew(Contender::Heartbeat(Pace::Fast), 2)],
        vec![
            crew(Contender::Keepalived(Advert::Second), 3),
            crew(Contender::Heartbeat(Pace::Default), 10),
        ],
    ]
}

/// Outages, times with two owners, moves.
///
/// # Errors
/// None; how it ended is part of what was measured.
pub fn run(setting: &Setting) -> Measured {
    let mut samples = Vec::new();
    let mut failures = Vec::new();
    let mut stopped = Ok(());
    for crews in crews() {
        let wanted = |crew: &Crew| crew.contender.name().contains(&setting.only);
        let crews: Vec<Crew> = crews.into_iter().filter(wanted).collect();
        stopped = crew::measure(setting, &crews, &mut samples, &mut failures);
        if stopped.is_err() {
            break;
        }
    }
    // As the tables show them, whoever was ready first.
    samples.sort_by_key(|sample| {
        let contender = Contender::ALL.iter().position(|known| *known == sample.contender);
        let fault = FAULTS.iter().position(|(known, _)| *known == sample.fault);
        (contender, sample.round, fault)
    });
    let tables = tables(&samples, &failures);
    let plot = tables.first().map(plot::svg).unwrap_or_default();
    let end = match failures.len() {
        0 => stopped,
        failed => stopped.and(Err(BenchError::Failed(failed))),
    };
    Measured { tables, plot: Some(plot), end }
}

fn tables(samples: &[Sample], failures: &[(Contender, Fault, String)]) -> Vec<Table> {
    let mut outages = Table::new("Failover: outage at the client, in ms: median (maximum)");
    let mut owners = Table::new("Failover: time with two owners, in s: median (maximum)");
    let mut moves = Table::new("Failover: moves where nothing should move: median (maximum)");
    for Sample { contender, fault, seen, at_rest, .. } in samples {
        let (row, name) = (fault.name(), contender.name());
        outages.put(AT_REST, name, at_rest.as_secs_f64() * 1000.0, false);
        if can_be_served(*fault) {
            outages.put(row, name, seen.outage.as_secs_f64() * 1000.0, !seen.served);
        }
        owners.put(row, name, seen.two_owners.as_secs_f64(), seen.still_two);
        if stays(*fault) {
            moves.put(row, name, seen.moves as f64, false);
        }
        for broken in &seen.broken {
            outages.note(&format!("{name}, {row}, not as promised: {broken}."));
        }
    }
    for (contender, fault, words) in failures {
        let (row, name) = (fault.name(), contender.name());
        for table in [&mut outages, &mut owners] {
            table.fail(row, name);
        }
        outages.note(&format!("{name}, {row}, given up: {words}"));
    }
    for (fault, most) in FAULTS {
        outages.ask(fault.name(), most.map(Goal::AtMost));
        owners.ask(fault.name(), Some(Goal::Never));
        moves.ask(fault.name(), Some(Goal::Never));
    }
    let unseen = Fault::OwnerPowerUnseen.name();
    if let Some(median) = outages.series(unseen, OURS_FAST).and_then(Series::median) {
        let met = if median <= UNSEEN_FAST_MS { "met" } else { "missed" };
        outages.note(&format!(
            "{OURS_FAST} is clusterd with `heartbeat.interval = \"10ms\"`. Asked of it for \"{unseen}\": <= \
             {UNSEEN_FAST_MS} ms: {met}."
        ));
    }
    outages.note(
        "What is missed at rest is the machine's noise, and in each other figure too. Asked once a \
         millisecond, of heartbeat with its default times every 10 ms. \"Heart\" is the process \
         that decides and holds the address: keepalived's is its VRRP process, heartbeat's its master control \
         process. keepalived speaks VRRPv3 on the LAN; its planned move is a lowered priority and SIGHUP. \
         heartbeat hears its peer on all three paths, has `ipfail` and the gateway as ping node, and moves \
         by `hb_standby`. All with real-time priority. \"Open\": still without service when the watch ended. \
         While the LAN switch is dead nobody can be served: see the moves. A short outage of a frozen or \
         killed program may be that of two owners: see there.",
    );
    owners.note(
        "From the address messages of both kernels. \"Open\": both still had the address when the watch \
         ended: keepalived four advertisements and 1.5 s after the fault, heartbeat its time of death, ten \
         beats and 2.5 s after it.",
    );
    vec![outages, owners, moves]
}
