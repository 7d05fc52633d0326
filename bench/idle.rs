//! Idle: what a whole pair costs each node while nothing happens.

use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd_bed::{Bed, BedError};

use crate::cost::{self, Cost};
use crate::failover::heartbeat::Pace;
use crate::failover::keepalived::Advert;
use crate::failover::{Contender, Contestant};
use crate::table::{Goal, Table};
use crate::{BenchError, Measured, Setting, say};

/// Who is measured, one after the other.
const CONTENDERS: [Contender; 3] =
    [Contender::Clusterd, Contender::Keepalived(Advert::Tenth), Contender::Heartbeat(Pace::Fast)];
/// What clusterd may take of the processor for each that keepalived takes at its 0.1 s: 0.5 s a minute were
/// asked on a machine where that takes 0.03. Seconds do not compare between machines. Asked of the mean of both
/// nodes: only one node of keepalived speaks, both of clusterd's do.
const CPU_TIMES: f64 = 0.5 / 0.03;
/// So many lines of a node's log are shown if one of its processes has ended.
const LAST_WORDS: usize = 8;
/// What is shown of each node.
const NODES: [[&str; 3]; 2] = [
    ["owner: CPU, s", "owner: RSS, MB", "owner: PSS, MB"],
    ["standby: CPU, s", "standby: RSS, MB", "standby: PSS, MB"],
];
/// How long.
const WATCH: Duration = Duration::from_secs(60);
/// The client's questions are not what is measured; the bed wants one now and then, to know who serves.
const ASK_EVERY: Duration = Duration::from_millis(10);
/// A pair that has just become whole still has things to do.
const REST: Duration = Duration::from_secs(5);

/// Processor time and memory of both nodes.
///
/// # Errors
/// None; how it ended is part of what was measured.
pub fn run(setting: &Setting) -> Measured {
    let mut table = Table::new("Idle: cost of each node in a minute at rest");
    let mut failed = 0;
    let mut stopped = Ok(());
    for contender in CONTENDERS {
        let name = contender.name();
        say(&format!("idle: {name}"));
        match measure(setting, contender) {
            Ok(costs) => {
                let mean_s = costs.iter().map(|cost| cost.cpu_s).sum::<f64>() / costs.len() as f64;
                let mut rows = vec![("a node: CPU, s", mean_s, Some(Goal::TimesTheirs(CPU_TIMES)))];
                for ([cpu, rss, pss], cost) in NODES.into_iter().zip(costs) {
                    rows.push((cpu, cost.cpu_s, None));
                    rows.push((rss, cost.rss_mb, Some(Goal::AtMost(16.0))));
                    rows.push((pss, cost.pss_mb, Some(Goal::AtMost(8.0))));
                }
                for (row, value, goal) in rows {
                    table.put(row, name, value, false);
                    table.ask(row, goal);
                }
            }
            Err(error @ BenchError::Bed(BedError::Stopped)) => {
                stopped = Err(error);
                break;
            }
            Err(error) => {
                table.fail("a node: CPU, s", name);
                table.note(&format!("{name}, given up: {error}"));
                failed += 1;
            }
        }
    }
    table.note(
        "All processes of the program on a node: clusterd's guard, heart and worker with the default config \
         (a beat every 20 ms on crossover and LAN, every 50 ms on serial) and nothing mirrored. Times from /proc/PID/task/*/schedstat, \
         memory from smaps_rollup: RSS counts a page once for each process that has it, PSS divides it \
         among all, here those of both nodes and of the bed.",
    );
    let end = if failed == 0 { stopped } else { stopped.and(Err(BenchError::Failed(failed))) };
    Measured { tables: vec![table], plot: None, end }
}

/// The owner's cost and the standby node's.
fn measure(setting: &Setting, contender: Contender) -> Result<[Cost; 2], BenchError> {
    let mut pair = contender.pair(setting, |options| options.ask_every = ASK_EVERY)?;
    let owner = pair.make_whole()?;
    pair.bed().watch_for(REST)?;
    let processes = |pair: &dyn Contestant| -> Result<[Vec<i32>; 2], BenchError> {
        Ok([own(pair.bed(), contender, owner)?, own(pair.bed(), contender, owner.other())?])
    };
    let before = processes(pair.as_ref())?;
    let [owner_pids, standby_pids] = &before;
    let first = [cost::of(owner_pids)?, cost::of(standby_pids)?];
    let begun = Instant::now();
    pair.bed().watch_for(WATCH)?;
    if processes(pair.as_ref())? != before || before.iter().any(Vec::is_empty) {
        let said = NodeIndex::BOTH.map(|node| last_words(pair.bed(), node)).concat();
        return Err(BedError::Late(format!("the same processes all the time; {said}")).into());
    }
    let last = [cost::of(owner_pids)?, cost::of(standby_pids)?];
    let minutes = begun.elapsed().as_secs_f64() / 60.0;
    let [[owner, standby], [owner_before, standby_before]] = [last, first];
    let spent =
        |now: Cost, before: Cost| Cost { cpu_s: (now.cpu_s - before.cpu_s) / minutes, ..now };
    Ok([spent(owner, owner_before), spent(standby, standby_before)])
}

/// The end of what a node's processes wrote to stderr: why one of them is gone.
fn last_words(bed: &Bed, node: NodeIndex) -> String {
    let log = std::fs::read_to_string(bed.node(node).log()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(LAST_WORDS).collect();
    lines.into_iter().rev().map(|line| format!("{line}; ")).collect()
}

/// The contender's processes on a node, without those of the bed.
fn own(bed: &Bed, contender: Contender, node: NodeIndex) -> Result<Vec<i32>, BenchError> {
    let mut pids = Vec::new();
    for process in bed.processes(node)? {
        if contender.owns(&process.comm) {
            pids.push(process.pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}
