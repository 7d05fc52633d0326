//! The table at the end: one row for each fault, what was promised and what was seen.

use std::time::Duration;

use super::trial::Trial;
use crate::faults::Fault;
use clusterd::cli::print::{self, Tone, paint};

const HEADS: [&str; 11] = [
    "fault",
    "promised",
    "seen",
    "outage: median",
    "worst",
    "undone",
    "two owners",
    "nginx outage",
    "files",
    "lost",
    "kept",
];
/// The columns before this one are words.
const FIRST_NUMBER: usize = 3;

/// Shows all trials.
pub(super) fn show(trials: &[Trial], colours: bool) {
    if trials.is_empty() {
        return;
    }
    let mut rows = vec![(HEADS.map(str::to_owned), Tone::Bold)];
    for fault in Fault::ALL {
        let of_fault: Vec<&Trial> =
            trials.iter().filter(|trial| trial.seen.fault == fault).collect();
        if !of_fault.is_empty() {
            let kept = of_fault.iter().all(|trial| trial.broken().is_empty());
            rows.push((row(fault, &of_fault), if kept { Tone::Good } else { Tone::Bad }));
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
    for (cells, tone) in &rows {
        let padded: Vec<String> = cells
            .iter()
            .enumerate()
            .map(|(column, cell)| {
                let width = width(column);
                if column >= FIRST_NUMBER {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            })
            .collect();
        print::line(&paint(padded.join("  ").trim_end(), *tone, colours));
    }
    for trial in trials.iter().filter(|trial| !trial.broken().is_empty()) {
        let text = format!("{}: {}", trial.seen.fault.name(), trial.broken().join("; "));
        print::line(&paint(&text, Tone::Bad, colours));
    }
    print::line("");
}

fn row(fault: Fault, trials: &[&Trial]) -> [String; HEADS.len()] {
    let mut outages: Vec<Duration> = trials.iter().map(|trial| trial.seen.outage).collect();
    outages.sort_unstable();
    let median = outages.get(outages.len() / 2).copied().unwrap_or_default();
    let worst = outages.last().copied().unwrap_or_default();
    let undone = trials.iter().map(|trial| trial.seen.return_outage).max().unwrap_or_default();
    let two_owners: usize = trials.iter().map(|trial| trial.seen.two_owners.moments).sum();
    let nginx = trials.iter().map(|trial| trial.nginx_outage).max().unwrap_or_default();
    let equal = trials.iter().all(|trial| trial.equal);
    let lost: usize = trials.iter().map(|trial| trial.lost).sum();
    let kept: usize = trials.iter().map(|trial| trial.kept).sum();
    let mut happened: Vec<String> = trials.iter().map(|trial| what_happened(trial)).collect();
    happened.sort_unstable();
    happened.dedup();
    [
        fault.name().to_owned(),
        fault.promise().to_string(),
        happened.join(", "),
        ms(median),
        ms(worst),
        if fault.remedy().is_some() { ms(undone) } else { String::new() },
        two_owners.to_string(),
        ms(nginx),
        if equal { "equal" } else { "DIFFER" }.to_owned(),
        lost.to_string(),
        kept.to_string(),
    ]
}

/// What the group did.
pub(super) fn what_happened(trial: &Trial) -> String {
    match trial.seen.moves {
        0 => "stayed".to_owned(),
        1 => "moved".to_owned(),
        more => format!("moved {more} times"),
    }
}

/// Milliseconds, to the tenth.
pub(super) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
