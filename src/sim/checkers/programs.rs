//! A cold service runs on one node: two who hear each other never start it twice.
//!
//! Two who were cut off from each other may both run it; once they hear each other, one lets go and has
//! the time to stop it.

use super::super::pair::Pair;
use super::super::worker::{START_TIMEOUT, STOP_TIMEOUT};
use super::place;
use crate::config::GroupIndex;

/// They must have heard each other for this long before an overlap to make it wrong, in µs.
const HEARD_US: u64 = 1_500_000;
/// An excused overlap ends within this once they hear each other, in µs: letting go, waiting for what
/// was being started, stopping it by force.
const ENDS_US: u64 =
    3_000_000 + START_TIMEOUT.as_micros() as u64 + 2 * STOP_TIMEOUT.as_micros() as u64;

/// The checker.
pub struct Programs {
    /// Since when the two hear each other and both workers run.
    well_since_us: Option<u64>,
    /// Overlaps that go on, by group: since when.
    overlaps: Vec<Option<u64>>,
    /// A core gave up waiting for a stop, by group: an overlap is told.
    told: Vec<bool>,
}

impl Programs {
    /// A checker of so many groups.
    pub fn new(groups: usize) -> Programs {
        Programs { well_since_us: None, overlaps: vec![None; groups], told: vec![false; groups] }
    }

    /// Whether the two hear each other, and both workers run.
    pub fn pair(&mut self, now_us: u64, well: bool) {
        self.well_since_us = if well { self.well_since_us.or(Some(now_us)) } else { None };
    }

    /// A core tells that services did not stop in time.
    pub fn told(&mut self, group: GroupIndex) {
        self.told[place(group)] = true;
    }

    /// Where a group's services run.
    pub fn group(
        &mut self,
        now_us: u64,
        group: GroupIndex,
        runs: Pair<bool>,
    ) -> Result<(), String> {
        let (at, well_us) = (place(group), self.well_since_us);
        if runs.both() != [&true, &true] {
            (self.overlaps[at], self.told[at]) = (None, false);
            return Ok(());
        }
        let new = self.overlaps[at].is_none();
        let since_us = *self.overlaps[at].get_or_insert(now_us);
        let Some(well_us) = well_us.filter(|_| !self.told[at]) else { return Ok(()) };
        if new && now_us > well_us + HEARD_US {
            return Err(format!(
                "group {}'s services run on both nodes, which hear each other since {well_us} µs",
                group.0
            ));
        }
        if now_us > well_us.max(since_us) + ENDS_US {
            return Err(format!(
                "group {}'s services run on both nodes since {since_us} µs, which hear each other \
                 since {well_us} µs",
                group.0
            ));
        }
        Ok(())
    }
}
