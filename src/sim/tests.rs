//! Seeds, mutations, one seed line by line, and a recorded run.

use super::faults::Kind;
use super::report::Mode;
use crate::core::sabotage::Sabotage;

fn seed_asked_for() -> Option<u64> {
    std::env::var("CLUSTERD_SIM_SEED").ok()?.parse().ok()
}

/// How many seeds to run: `CLUSTERD_SIM_SEEDS` if set.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let first = seed_asked_for().unwrap_or(0);
    let count = std::env::var("CLUSTERD_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    first..first + count.unwrap_or(usual)
}

#[test]
fn one_seed() {
    let Some(seed) = seed_asked_for() else { return };
    let mode = match std::env::var("CLUSTERD_SIM_MODE").as_deref() {
        Ok("single") => Mode::OneFault,
        Ok("lone") => Mode::Lone,
        _ => Mode::Mixed(Vec::new()),
    };
    println!("{}", mode.report(seed, None, usize::MAX));
}

#[test]
fn p1_p2_hold_under_mixed_faults() {
    Mode::Mixed(Vec::new()).all_hold(seeds(2_000));
}

#[test]
fn p2_holds_after_any_single_fault() {
    Mode::OneFault.all_hold(seeds(600));
}

#[test]
fn one_alone_serves_again() {
    Mode::Lone.all_hold(seeds(60));
}
