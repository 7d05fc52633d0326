//! What stands against the peer's links here, for `status`: one listener in a process, and all its groups
//! tell the same.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::LinkPath;
use crate::limits;

static NOTES: Mutex<Notes> = Mutex::new(Notes { crossover: None, lan: None, dropped: None });

struct Notes {
    crossover: Option<String>,
    lan: Option<String>,
    dropped: Option<(Instant, String)>,
}

/// Why this node cannot be reached by a way; `None`: it can.
pub(super) fn set_shut(path: LinkPath, why: Option<String>) {
    let mut notes = notes();
    match path {
        LinkPath::Crossover => notes.crossover = why,
        LinkPath::Lan => notes.lan = why,
    }
}

/// A connection was dropped.
pub(super) fn dropped(why: String) {
    notes().dropped = Some((Instant::now(), why));
}

/// What stands against links of the peer here, in words; `None`: nothing.
pub fn against_links() -> Option<String> {
    let notes = notes();
    let shut = |path: LinkPath, why: &Option<String>| {
        why.as_ref().map(|why| format!("this node cannot be reached over the {path}: {why}"))
    };
    let lately = |(at, why): &(Instant, String)| {
        let age_s = at.elapsed().as_secs();
        (at.elapsed() < limits::DROPPED_SHOWN).then(|| format!("{age_s} s ago {why}"))
    };
    let parts = [
        shut(LinkPath::Crossover, &notes.crossover),
        shut(LinkPath::Lan, &notes.lan),
        notes.dropped.as_ref().and_then(lately),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn notes() -> MutexGuard<'static, Notes> {
    // A panic ends the process: there is no poison.
    NOTES.lock().unwrap_or_else(PoisonError::into_inner)
}
