//! `clusterd-bench`: clusterd beside its peers, in one run on this machine. See `bench/README.md`.
//!
//! | file | subject |
//! | --- | --- |
//! | `table` | medians, maxima, ratios, as a table |
//! | `failover` | the bed's pair under clusterd and its peers, the same faults |
//! | `takeover` | one address and a hundred, and a client that only waits |
//! | `idle`, `cost` | what a pair at rest costs |
//! | `chaos` | a pair, faults by chance, writers on both sides: nothing is lost |
//! | `stress` | a pair on a loaded machine |
//! | `mirror` | one tree brought over to another namespace, the same changes |
//! | `scratch` | a directory that is gone at the end |

mod chaos;
mod cost;
mod failover;
mod idle;
mod mirror;
mod scratch;
mod stress;
mod table;
mod takeover;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use clap::{Parser, ValueEnum};
use clusterd::sys::stop;
use clusterd_bed::BedError;
use clusterd_bed::judge::JudgeError;
use table::Table;

/// Measure clusterd beside its peers.
#[derive(Debug, Parser)]
#[command(name = "clusterd-bench")]
struct Arguments {
    /// What to measure; without it, everything but chaos
    #[arg(value_enum)]
    subjects: Vec<Subject>,
    /// Measure each thing so many times
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Three times only, a minute of stress, and mirror 2 000 files instead of 10 000
    #[arg(long, conflicts_with_all = ["rounds", "minutes"])]
    quick: bool,
    /// Failover: only those whose name contains this, for example "heartbeat"
    #[arg(long, value_name = "NAME", default_value = "")]
    only: String,
    /// Stress: for this long
    #[arg(long, value_name = "N", default_value_t = 10)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    minutes: u32,
    /// Chaos: for this long
    #[arg(long, value_name = "N", default_value_t = 600)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// Chaos: where all chance comes from; without it, another one each time
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Chaos: end earlier after so many failovers
    #[arg(long, value_name = "N")]
    failovers: Option<u64>,
    /// Mirror 50 000 files, 6.3 GB
    #[arg(long, conflicts_with = "quick")]
    full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Outages and moments with two owners, beside keepalived and heartbeat
    Failover,
    /// A takeover with a hundred addresses, and of a client that only waits, beside keepalived
    Takeover,
    /// Processor time and memory of a pair at rest, beside keepalived and heartbeat
    Idle,
    /// Moves and outages while the machine is loaded and beats are lost
    Stress,
    /// Times, bytes on the wire and memory of a mirrored tree, beside rsync
    Mirror,
    /// Nothing is measured: faults by chance on a pair with writers on both sides, and nothing is lost
    Chaos,
}

/// Why a bench ended early.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    /// Namespaces, other owners, chroot.
    #[error("the bench makes network namespaces and foreign files: run it as root")]
    NotRoot,
    /// The bed failed, or somebody asked to stop.
    #[error("{0}")]
    Bed(#[from] BedError),
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The judge could not judge.
    #[error("{0}")]
    Judge(#[from] JudgeError),
    /// There is not room enough for two trees.
    #[error("{dir} has {free} MB free, {need} MB are needed: set TMPDIR to a larger disk")]
    Room {
        /// Where.
        dir: PathBuf,
        /// MB there.
        free: u64,
        /// MB needed.
        need: u64,
    },
    /// Not everything was done; the tables say what.
    #[error("{0} works failed or left a difference: see below the tables")]
    Failed(usize),
    /// Safety is no matter of figures.
    #[error("clusterd did in {0} rows what it must never do: see the tables")]
    Forbidden(usize),
    /// What must never be was seen.
    #[error("{0} times was seen what must never be: see the stories above")]
    Chaos(usize),
    /// Another program failed, in its own words.
    #[error("{program} failed: {words}")]
    Peer {
        /// Which.
        program: &'static str,
        /// What it said.
        words: String,
    },
}

/// How large what is measured is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Quick,
    Usual,
    Full,
}

/// What was measured of one subject, and how it ended: stopped, or with something that failed.
struct Measured {
    tables: Vec<Table>,
    /// As SVG.
    plot: Option<String>,
    end: Result<(), BenchError>,
}

/// What every subject needs.
struct Setting {
    /// The `clusterd` that is measured: the one beside this program.
    exe: PathBuf,
    rounds: u32,
    minutes: u32,
    size: Size,
    /// What the names of those who are measured contain.
    only: String,
    /// Set by Ctrl-C.
    stop: &'static AtomicBool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match bench(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "clusterd-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result<(), BenchError> {
    /// With `--quick`.
    const QUICK_ROUNDS: u32 = 3;
    const QUICK_MINUTES: u32 = 1;
    if !nix::unistd::geteuid().is_root() {
        return Err(BenchError::NotRoot);
    }
    let own = std::env::current_exe()?;
    let setting = Setting {
        exe: own.with_file_name("clusterd"),
        rounds: if arguments.quick { QUICK_ROUNDS } else { arguments.rounds },
        minutes: if arguments.quick { QUICK_MINUTES } else { arguments.minutes },
        size: match (arguments.quick, arguments.full) {
            (true, _) => Size::Quick,
            (false, true) => Size::Full,
            (false, false) => Size::Usual,
        },
        only: arguments.only.clone(),
        stop: stop::by_signal()?,
    };
    // target/release/clusterd-bench -> target/bench
    let out = own.ancestors().nth(2).unwrap_or(Path::new(".")).join("bench");
    let wanted = |subject| arguments.subjects.is_empty() || arguments.subjects.contains(&subject);
    if wanted(Subject::Failover) {
        publish(&out, "failover", failover::run(&setting))?;
    }
    if wanted(Subject::Takeover) {
        publish(&out, "takeover", takeover::run(&setting))?;
    }
    if wanted(Subject::Idle) {
        publish(&out, "idle", idle::run(&setting))?;
    }
    if wanted(Subject::Stress) {
        publish(&out, "stress", stress::run(&setting)?)?;
    }
    if wanted(Subject::Mirror) {
        publish(&out, "mirror", mirror::run(&setting)?)?;
    }
    if arguments.subjects.contains(&Subject::Chaos) {
        chaos::run(&setting, arguments)?;
    }
    Ok(())
}

/// Prints the tables, and keeps them and the plot in files.
fn publish(out: &Path, name: &str, measured: Measured) -> Result<(), BenchError> {
    let tables = measured.tables.iter().filter(|table| table.rows().next().is_some());
    let text: String = tables.map(|table| table.markdown() + "\n").collect();
    std::fs::create_dir_all(out)?;
    let path = out.join(format!("{name}.md"));
    std::fs::write(&path, &text)?;
    let _ = write!(std::io::stdout(), "\n{text}");
    say(&format!("written to {}", path.display()));
    if let Some(plot) = measured.plot {
        let path = path.with_extension("svg");
        std::fs::write(&path, plot)?;
        say(&format!("plot: {}", path.display()));
    }
    measured.end?;
    match measured.tables.iter().map(Table::forbidden).sum::<usize>() {
        0 => Ok(()),
        rows => Err(BenchError::Forbidden(rows)),
    }
}

/// What is being done, on stderr: stdout has the tables alone.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
