//! `clusterd-bench chaos`: see [`clusterd_bed::chaos`]. Each run says its seed; the same seed plans the
//! same faults again.

use std::io::Write;
use std::time::{Duration, Instant};

use clusterd_bed::chaos::{self, Plan};

use super::{Arguments, BenchError, Setting};

/// Runs it, and prints what was seen.
///
/// # Errors
/// What must never be was seen, the bed failed, or somebody asked to stop.
pub fn run(setting: &Setting, arguments: &Arguments) -> Result<(), BenchError> {
    let seed = match arguments.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))? >> 32,
    };
    let plan = Plan {
        exe: setting.exe.clone(),
        seed,
        time: Duration::from_secs(arguments.seconds),
        failovers: arguments.failovers,
        stop: setting.stop,
    };
    let began = Instant::now();
    let mut tell = |text: &str| {
        let _ = writeln!(std::io::stdout(), "{:8.2} s  {text}", began.elapsed().as_secs_f64());
    };
    tell(&format!("seed {seed}"));
    let report = chaos::run(&plan, &mut tell)?;
    tell(&format!("seed {seed}: {report}"));
    match report.violations.len() {
        0 => Ok(()),
        count => Err(BenchError::Chaos(count)),
    }
}
