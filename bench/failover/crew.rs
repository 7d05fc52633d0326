//! Rounds: each contender has one or more beds, and does its faults and rounds in them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clusterd::limits;
use clusterd_bed::BedError;
use clusterd_bed::faults::Fault;

use super::{Contender, FAULTS, Seen};
use crate::{BenchError, Setting, say};

/// A contender, and how many beds it has at the same time.
pub struct Crew {
    /// Who.
    pub contender: Contender,
    /// How many.
    pub beds: usize,
}

/// What was seen of one fault in one round.
pub struct Sample {
    /// Of whom.
    pub contender: Contender,
    /// In which round, from 0.
    pub round: usize,
    /// Which.
    pub fault: Fault,
    /// What.
    pub seen: Seen,
    /// Longest time without an answer while nothing happened, before the fault: the machine's own noise.
    pub at_rest: Duration,
}

/// Tries all faults in all rounds, the crews beside each other. A contender that fails gives up, and the
/// reason joins `failures`; the others go on.
///
/// # Errors
/// Somebody asked to stop. What was measured until then is in `samples`.
pub fn measure(
    setting: &Setting,
    crews: &[Crew],
    samples: &mut Vec<Sample>,
    failures: &mut Vec<(Contender, Fault, String)>,
) -> Result<(), BenchError> {
    let results = Mutex::new((samples, failures, Ok(())));
    let results = &results;
    std::thread::scope(|scope| {
        for Crew { contender, beds } in crews {
            let next = std::sync::Arc::new(AtomicUsize::new(0));
            for _ in 0..*beds {
                let next = std::sync::Arc::clone(&next);
                scope.spawn(move || {
                    let mut fault = FAULTS[0].0;
                    let done = work(setting, *contender, &next, &mut fault, &mut |sample| {
                        results.lock().unwrap_or_else(PoisonError::into_inner).0.push(sample);
                    });
                    if let Err(error) = done {
                        // The other beds of this contender stop, too.
                        next.store(usize::MAX / 2, Ordering::SeqCst);
                        let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                        match error {
                            BenchError::Bed(BedError::Stopped) => results.2 = Err(error),
                            error => results.1.push((*contender, fault, error.to_string())),
                        }
                    }
                });
            }
        }
    });
    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut results.2, Ok(()))
}

/// Takes one fault of one round after the other; `fault` is the one at hand.
fn work(
    setting: &Setting,
    contender: Contender,
    next: &AtomicUsize,
    fault: &mut Fault,
    put: &mut dyn FnMut(Sample),
) -> Result<(), BenchError> {
    let rounds = setting.rounds as usize;
    let mut pair = contender.pair(setting, |_| {})?;
    loop {
        let number = next.fetch_add(1, Ordering::SeqCst);
        let round = number / FAULTS.len();
        let Some((chosen, _)) = FAULTS.get(number % FAULTS.len()).filter(|_| round < rounds) else {
            return Ok(());
        };
        *fault = *chosen;
        say(&format!("failover: {}, round {}: {}", contender.name(), round + 1, fault.name()));
        // At rest, nobody remembers the fault before: clusterd a lost beat, the kernel a lost carrier.
        pair.make_whole()?;
        let rest = Instant::now();
        pair.bed().watch_for(limits::LOSS_MEMORY)?;
        let at_rest = pair.bed().client.outage_since(rest);
        let seen = pair.try_one(*fault)?;
        put(Sample { contender, round, fault: *fault, seen, at_rest });
    }
}
