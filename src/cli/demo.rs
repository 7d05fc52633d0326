//! `demo`: a whole pair on this one machine; each plug is pulled in turn, and a table shows what was
//! promised and what was seen.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::events::Tail;
use super::print::{self, Tone, paint};
use super::{DONE, FAILED};
use crate::bed::faults::{Fault, Seen, try_one};
use crate::bed::node::name;
use crate::bed::{Bed, BedError, Options, responder};
use crate::config::NodeIndex;
use crate::control::event::Record;
use crate::limits;
use crate::sys::{ns, stop};

/// What `demo` takes.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct DemoArgs {
    /// Try every fault so many times
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

/// What the bed's responder takes.
#[derive(Clone, Debug, clap::Args)]
pub struct ResponderArgs {
    /// Name of the node to answer as
    #[arg(long)]
    name: String,
    /// Service address to answer on
    #[arg(long, required = true)]
    address: Vec<IpAddr>,
}

/// Runs the bed's service on a node; ends only by a signal.
pub fn respond(args: &ResponderArgs) -> ExitCode {
    match responder::serve(&args.name, &args.address) {
        Ok(()) => ExitCode::from(DONE),
        Err(error) => super::fail(FAILED, &format!("the responder cannot answer: {error}")),
    }
}

/// Runs the demo; the exit status says whether everything was as promised.
pub fn run(args: DemoArgs) -> ExitCode {
    match demo(args.rounds) {
        Ok(true) => ExitCode::from(DONE),
        Ok(false) => super::fail(FAILED, "not everything was as promised"),
        Err(error) => super::fail(FAILED, &format!("the demo ended early: {error}")),
    }
}

fn demo(rounds: u32) -> Result<bool, BedError> {
    if !nix::unistd::geteuid().is_root() {
        // While there is one thread.
        ns::enter_user_namespace().map_err(BedError::Namespace)?;
    }
    // Ctrl-C ends every wait, and what was made is cleaned up on the way out.
    let stop = stop::by_signal()?;
    let started = Instant::now();
    let colours = print::colours();
    let step = |text: &str| {
        let time = format!("{:7.2} s", started.elapsed().as_secs_f64());
        print::line(&format!("{}  {text}", paint(&time, Tone::Bold, colours)));
    };
    let mut options = Options::new(std::env::current_exe()?);
    options.stop = stop;
    let mut bed = Bed::new(options)?;
    step("two nodes, a crossover cable, a serial line, a LAN with a client and a gateway");
    let narrator = Narrator::start(&bed, colours)?;
    for node in NodeIndex::BOTH {
        bed.power_on(node)?;
    }
    let mut trials = Vec::new();
    let outcome = bed.wait_whole().and_then(|owner| {
        let page = bed.fetch().unwrap_or_else(|| "nobody".to_owned());
        step(&format!("{} serves, http://{}/ is answered by {page}", name(owner), bed.address()));
        for round in 1..=rounds {
            if rounds > 1 {
                step(&format!("round {round} of {rounds}"));
            }
            for fault in Fault::ALL {
                let seen = try_one(&mut bed, fault, 1, &mut |text| {
                    step(&paint(text, Tone::Warn, colours));
                })?;
                step(&verdict(&seen, colours));
                trials.push(seen);
            }
        }
        Ok(())
    });
    if let Err(error) = &outcome
        && !matches!(error, BedError::Stopped)
    {
        for node in NodeIndex::BOTH {
            show_log(name(node), &bed.node(node).log());
        }
    }
    drop(narrator);
    drop(bed);
    table(&trials, colours);
    step("cleaned up");
    outcome.map(|()| trials.iter().all(|seen| seen.broken.is_empty()))
}

/// What was seen of one fault, in one line.
fn verdict(seen: &Seen, colours: bool) -> String {
    if seen.broken.is_empty() {
        let text = format!("as promised: {}, {}", what_happened(seen), ms(seen.outage));
        paint(&text, Tone::Good, colours)
    } else {
        paint(&format!("NOT AS PROMISED: {}", seen.broken.join("; ")), Tone::Bad, colours)
    }
}

fn what_happened(seen: &Seen) -> String {
    match seen.moves {
        0 => "stayed".to_owned(),
        1 => "moved".to_owned(),
        more => format!("moved {more} times"),
    }
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// The last lines of a node's log, for what went wrong before there were events.
fn show_log(name: &str, log: &Path) {
    /// A screen's worth of lines.
    const LINES: usize = 30;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.iter().skip(lines.len().saturating_sub(LINES)) {
        print::line(&format!("  {name} log: {line}"));
    }
}

/// One row for each fault.
fn table(trials: &[Seen], colours: bool) {
    if trials.is_empty() {
        return;
    }
    let head = ["fault", "promised", "seen", "outage: median", "worst", "undone", "two owners"];
    let mut rows = vec![(head.map(str::to_owned), true)];
    for fault in Fault::ALL {
        let of_fault: Vec<&Seen> = trials.iter().filter(|seen| seen.fault == fault).collect();
        if !of_fault.is_empty() {
            rows.push(row(fault, &of_fault));
        }
    }
    let width = |column: usize| {
        rows.iter()
            .filter_map(|(cells, _)| cells.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    print::line("");
    for (position, (cells, kept)) in rows.iter().enumerate() {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let width = width(column);
                // Numbers to the right.
                if column >= 3 { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            })
            .collect();
        let tone = match (position, kept) {
            (0, _) => Tone::Bold,
            (_, true) => Tone::Good,
            (_, false) => Tone::Bad,
        };
        print::line(&paint(padded.join("  ").trim_end(), tone, colours));
    }
    for seen in trials.iter().filter(|seen| !seen.broken.is_empty()) {
        let text = format!("{}: {}", seen.fault.name(), seen.broken.join("; "));
        print::line(&paint(&text, Tone::Bad, colours));
    }
    print::line("");
}

fn row(fault: Fault, trials: &[&Seen]) -> ([String; 7], bool) {
    let mut outages: Vec<Duration> = trials.iter().map(|seen| seen.outage).collect();
    outages.sort_unstable();
    let median = outages.get(outages.len() / 2).copied().unwrap_or_default();
    let worst = outages.last().copied().unwrap_or_default();
    let undone = trials.iter().map(|seen| seen.return_outage).max().unwrap_or_default();
    let two_owners: usize = trials.iter().map(|seen| seen.two_owners.moments).sum();
    let mut happened: Vec<String> = trials.iter().map(|seen| what_happened(seen)).collect();
    happened.sort_unstable();
    happened.dedup();
    let cells = [
        fault.name().to_owned(),
        fault.promise().to_string(),
        happened.join(", "),
        ms(median),
        ms(worst),
        if fault.remedy().is_some() { ms(undone) } else { String::new() },
        two_owners.to_string(),
    ];
    (cells, trials.iter().all(|seen| seen.broken.is_empty()))
}

/// Shows the events of both daemons as they come.
struct Narrator {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Narrator {
    fn start(bed: &Bed, colours: bool) -> Result<Narrator, BedError> {
        let paths = NodeIndex::BOTH.map(|node| bed.node(node).events());
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("demo-events".into())
            .spawn(move || narrate(paths, &flag, colours))?;
        Ok(Narrator { stop, thread: Some(thread) })
    }
}

impl Drop for Narrator {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn narrate(paths: [PathBuf; 2], stop: &AtomicBool, colours: bool) {
    let mut tails = paths.map(|path| (path, None::<Tail>));
    while !stop.load(Ordering::SeqCst) {
        for (path, tail) in &mut tails {
            if tail.is_none() {
                *tail = Tail::open(path).unwrap_or_default();
            }
            if let Some(open) = tail {
                // What can't be read now is told by the daemon's own log.
                let _ = open.drain(|line| {
                    if let Ok(Record { node, told, .. }) = serde_json::from_str(line) {
                        let text = format!("             {node}: {}", told.text);
                        print::line(&paint(&text, Tone::Dim, colours));
                    }
                    true
                });
            }
        }
        std::thread::sleep(limits::BED_LOOK_EVERY);
    }
}
