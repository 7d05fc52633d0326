//! The program `clusterd-demo`: a whole pair on this one machine, with nginx on mirrored files; each plug is pulled in turn,
//! and a table shows what was promised and what was seen.

mod narrator;
mod table;
mod trial;

use std::ffi::OsString;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::faults::Fault;
use crate::limits;
use crate::node::name;
use crate::site::{self, Site, writer};
use crate::{Bed, BedError, Options, responder};
use clap::{CommandFactory, Parser, Subcommand};
use clusterd::cli::print::{self, Tone, paint};
use clusterd::cli::{DONE, FAILED, WRONG};
use clusterd::config::NodeIndex;
use clusterd::sys::{ns, stop};
use narrator::Narrator;
use table::{ms, what_happened};
use trial::{Judge, Trial};

/// Run a whole pair on this one machine and pull each plug in turn.
#[derive(Debug, Parser)]
#[command(name = "clusterd-demo", bin_name = "clusterd demo", version, max_term_width = 100)]
#[command(disable_help_subcommand = true)]
struct Arguments {
    /// Try every fault this many times
    #[arg(long, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    #[command(subcommand)]
    helper: Option<Helper>,
}

/// What the bed runs on its nodes.
#[derive(Debug, Subcommand)]
enum Helper {
    /// The service of the bed, on one node
    #[command(hide = true)]
    BedResponder(ResponderArgs),
    /// The writer of the bed's site, on one node
    #[command(hide = true)]
    BedWriter(WriterArgs),
}

/// What the bed's responder takes.
#[derive(Clone, Debug, clap::Args)]
struct ResponderArgs {
    /// Name of the node to answer as
    #[arg(long)]
    name: String,
    /// Service address to answer on
    #[arg(long, required = true)]
    address: Vec<IpAddr>,
}

/// What the writer of the bed's site takes.
#[derive(Clone, Debug, clap::Args)]
struct WriterArgs {
    /// Where the node's daemon has its control socket
    #[arg(long)]
    run_dir: PathBuf,
    /// The root of the site
    #[arg(long)]
    tree: PathBuf,
    /// Where its names and its journal are
    #[arg(long)]
    dir: PathBuf,
}

/// The command line, for the man page.
pub fn command() -> clap::Command {
    Arguments::command()
}

/// Does what the command line says; the first of `arguments` is the program's own name. The exit status of the demo says
/// whether everything was as promised.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Arguments { rounds, helper } = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { WRONG } else { DONE });
        }
    };
    let done = match helper {
        None => match demo(rounds) {
            Ok(true) => Ok(()),
            Ok(false) => Err("not everything was as promised".to_owned()),
            Err(error) => Err(format!("the demo ended early: {error}")),
        },
        Some(Helper::BedResponder(args)) => responder::serve(&args.name, &args.address)
            .map_err(|error| format!("the responder cannot answer: {error}")),
        Some(Helper::BedWriter(args)) => stop::by_signal()
            .and_then(|stop| writer::write(&args.tree, &args.dir, &args.run_dir, stop))
            .map_err(|error| format!("the writer cannot write: {error}")),
    };
    match done {
        Ok(()) => ExitCode::from(DONE),
        Err(reason) => {
            let _ = writeln!(std::io::stderr(), "clusterd-demo: {reason}");
            ExitCode::from(FAILED)
        }
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
    site::check_programs()?;
    let mut options = Options::of_demo(std::env::current_exe()?);
    options.group = site::group(true);
    options.stop = stop;
    let mut bed = Bed::new(options)?;
    step("two nodes, a crossover cable, a serial line, a LAN with a client and a gateway");
    let site = Site::install(&bed)?;
    step(&format!("{} files for nginx on {}", site.files(), name(NodeIndex::Lower)));
    let narrator = Narrator::start(&bed, colours)?;
    for node in NodeIndex::BOTH {
        bed.power_on(node)?;
    }
    let mut trials = Vec::new();
    let mut first_copy = None;
    let outcome = bed.wait_whole().and_then(|owner| {
        let page = bed.fetch().unwrap_or_else(|| "nobody".to_owned());
        step(&format!("{} serves, http://{}/ is answered by {page}", name(owner), bed.address()));
        let mut judge = Judge::start(&bed, site)?;
        judge.wait_served(&bed)?;
        let port = limits::BED_WEB_PORT;
        step(&format!("nginx answers on port {port}; a writer changes its files all the while"));
        first_copy = judge.wait_copied(&bed)?;
        step(&match &first_copy {
            None => paint("both nodes have the same files", Tone::Good, colours),
            Some(wrong) => paint(&format!("NOT AS PROMISED: {wrong}"), Tone::Bad, colours),
        });
        for round in 1..=rounds {
            if rounds > 1 {
                step(&format!("round {round} of {rounds}"));
            }
            for fault in Fault::ALL {
                let trial = judge.try_one(&mut bed, fault, &mut |text| {
                    step(&paint(text, Tone::Warn, colours));
                })?;
                step(&verdict(&trial, colours));
                trials.push(trial);
            }
        }
        step(&format!("{} whole pages were fetched", judge.fetched()));
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
    table::show(&trials, colours);
    step("cleaned up");
    let kept = trials.iter().all(|trial| trial.broken().is_empty());
    outcome.map(|()| kept && first_copy.is_none())
}

/// What was seen of one fault, in one line.
fn verdict(trial: &Trial, colours: bool) -> String {
    if trial.broken().is_empty() {
        let text = format!(
            "as promised: {}, {}; nginx {}; files equal, {} conflicts kept",
            what_happened(trial),
            ms(trial.seen.outage),
            ms(trial.nginx_outage),
            trial.kept,
        );
        paint(&text, Tone::Good, colours)
    } else {
        paint(&format!("NOT AS PROMISED: {}", trial.broken().join("; ")), Tone::Bad, colours)
    }
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
