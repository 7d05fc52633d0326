//! Runs seeds on all processors, and tells about those that fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::faults::{self, Kind};
use super::run::{self, Options, Run};
use super::single;
use super::slow;
use super::trace::Trace;
use crate::core::Sabotage;

/// Lines of a failed run that are shown.
const LINES_SHOWN: usize = 200;
/// Failures after which no more seeds are tried.
const FAILURES_MAX: usize = 20;

/// A kind of run.
#[derive(Clone, Debug)]
pub enum Mode {
    /// A mix of faults of these kinds (empty: all), then healing.
    Mixed(Vec<Kind>),
    /// The same, and every pair has trees or services.
    Furnished(Vec<Kind>),
    /// Two or three faults on a pair with trees, disks that are lost or set back and operators among them.
    Sequence(Vec<Kind>),
    /// A mix in which the kernel's lock is held again and again.
    Hung,
    /// A mix in which the nodes' config files differ again and again.
    Changing,
    /// Exactly one fault.
    OneFault,
    /// Something lasts, and then the owner loses its power.
    Cut,
    /// One node alone.
    Lone,
    /// All cables of a node are pulled.
    Unplugged,
    /// One blow to a pair on a slow LAN.
    Slow,
}

impl Mode {
    /// The word for it in `CLUSTERD_SIM_MODE`.
    pub fn name(&self) -> &'static str {
        match self {
            Mode::Mixed(_) => "mixed",
            Mode::Furnished(_) => "furnished",
            Mode::Sequence(_) => "sequence",
            Mode::Hung => "hung",
            Mode::Changing => "changing",
            Mode::OneFault => "single",
            Mode::Cut => "cut",
            Mode::Lone => "lone",
            Mode::Unplugged => "unplugged",
            Mode::Slow => "slow",
        }
    }

    fn play(&self, seed: u64, sabotage: Option<Sabotage>, trace: Trace) -> (Run, Option<String>) {
        let kinds = match self {
            Mode::Mixed(kinds) | Mode::Furnished(kinds) | Mode::Sequence(kinds) => kinds.clone(),
            Mode::Hung => faults::hung(),
            Mode::Changing => faults::changing(),
            Mode::OneFault | Mode::Cut | Mode::Lone | Mode::Unplugged | Mode::Slow => Vec::new(),
        };
        let furnished = matches!(self, Mode::Furnished(_));
        let options = Options { kinds, furnished, sabotage, trace };
        let run = match self {
            Mode::Mixed(_)
            | Mode::Furnished(_)
            | Mode::Sequence(_)
            | Mode::Hung
            | Mode::Changing => {
                let (mut run, to_us) = match self {
                    Mode::Sequence(_) => run::draw_sequence(seed, &options),
                    _ => run::draw(seed, &options),
                };
                let played = catch_unwind(AssertUnwindSafe(|| run::play(&mut run, to_us)));
                if let Err(panic) = played {
                    run.world.wrong(format!("panic: {}", panic_text(&*panic)));
                }
                run
            }
            Mode::OneFault => single::one_fault(seed, &options),
            Mode::Cut => single::cut(seed, &options),
            Mode::Lone => single::lone(seed, &options),
            Mode::Unplugged => single::unplugged(seed, &options),
            Mode::Slow => slow::slow(seed, &options),
        };
        let violation = run.world.violation.clone();
        (run, violation)
    }

    /// Runs one seed: what is wrong, if something is.
    pub fn verdict(&self, seed: u64, sabotage: Option<Sabotage>) -> Option<String> {
        match catch_unwind(AssertUnwindSafe(|| self.play(seed, sabotage, Trace::default()).1)) {
            Ok(violation) => violation,
            Err(panic) => Some(format!("panic: {}", panic_text(&*panic))),
        }
    }

    /// Runs one seed once more and tells all about it.
    pub fn report(&self, seed: u64, sabotage: Option<Sabotage>, lines: usize) -> String {
        let trace = Trace::kept();
        let played = catch_unwind(AssertUnwindSafe(|| self.play(seed, sabotage, trace.clone())));
        let mut text = format!("seed {seed} ({})\n", self.name());
        match played {
            Ok((run, violation)) => {
                text += &run.world.setup.text();
                text += &format!("{:?}\n", run.world.setup);
                for planned in &run.plan {
                    text += &format!(
                        "{:>12.6} {:?} for {} ms\n",
                        planned.at_us as f64 / 1e6,
                        planned.fault,
                        planned.lasts_us / 1000
                    );
                }
                text += &trace.last(lines).join("\n");
                text += &format!("\n{}\n", violation.unwrap_or_else(|| "all is well".to_owned()));
            }
            Err(panic) => {
                text += &trace.last(lines).join("\n");
                text += &format!("\npanic: {}\n", panic_text(&*panic));
            }
        }
        text += &format!(
            "again: CLUSTERD_SIM_SEED={seed} CLUSTERD_SIM_MODE={} cargo test --lib \
             sim::tests::one_seed -- --nocapture\n",
            self.name()
        );
        text
    }

    /// Runs many seeds; panics with a report if one fails.
    pub fn all_hold(&self, seeds: std::ops::Range<u64>) {
        let failed = self.failing(seeds, None, FAILURES_MAX);
        if let Some((seed, _)) = failed.first() {
            let list: Vec<String> =
                failed.iter().map(|(seed, what)| format!("seed {seed}: {what}")).collect();
            panic!("{}\n{}", self.report(*seed, None, LINES_SHOWN), list.join("\n"));
        }
    }

    /// The seeds that fail, sorted, until there are `enough`.
    pub fn failing(
        &self,
        seeds: std::ops::Range<u64>,
        sabotage: Option<Sabotage>,
        enough: usize,
    ) -> Vec<(u64, String)> {
        let next = AtomicU64::new(seeds.start);
        let failed = Mutex::new(Vec::new());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= seeds.end || failed.lock().unwrap().len() >= enough {
                            return;
                        }
                        if let Some(what) = self.verdict(seed, sabotage) {
                            failed.lock().unwrap().push((seed, what));
                        }
                    }
                });
            }
        });
        let mut failed = failed.into_inner().unwrap();
        failed.sort();
        failed
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .cloned()
        .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .unwrap_or_default()
}
