//! Promise P6: if both nodes say that the pair is redundant, and the owner loses its power within the next
//! second, the other serves in time.
//!
//! Excused is what no status can know: that something else broke or was asked for in the moment before or
//! after; that the other node's kernel will refuse an address or does not answer; that a cold service will
//! not start there. A disk that hangs there is told once it is seen to.

use std::time::Duration;

use super::super::setup::{Setup, Times};
use super::super::worker::START_TIMEOUT;
use super::super::world::World;
use super::{Checkers, place};
use crate::beat::Path;
use crate::config::{GroupIndex, NodeIndex};
use crate::control::status::Standing;
use crate::limits;

/// So long what was said counts, in µs.
const SAID_US: u64 = 1_000_000;
/// So long after something changed status has had the time to notice, in µs: a round of reach questions
/// that nobody answers, what a worker that is stalled owes, a carrier that settles.
const NOTICED_US: u64 = 4_000_000;
/// A takeover takes at most twice `dead_after` and so long, in µs.
const TAKEOVER_US: u64 = 300_000;
/// What paths lose or hold up makes it longer by at most this much, in µs.
const IMPAIRED_US: u64 = 1_000_000;
/// Frames that were kept may show life so much longer, in µs: see `core::numbers`.
const REPEATED_US: u64 = 2 * limits::OLD_AFTER.as_micros() as u64;
/// An owner's lease has surely ended after this, in µs.
const LEASE_OVER_US: u64 = 3_500_000;
/// What was received of the trees is finished within this, in µs.
const SETTLES_US: u64 = 300_000;

/// A takeover that must come.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    group: GroupIndex,
    by: NodeIndex,
    until_us: u64,
}

/// The checker.
pub struct Redundancy {
    dead_after_us: u64,
    /// When a fault began or ended last, or an operator asked for something.
    changed_us: u64,
    /// When both said last that the pair is redundant.
    said_us: Option<u64>,
    due: Vec<Due>,
}

impl Redundancy {
    /// A checker of that pair.
    pub fn new(times: Times) -> Redundancy {
        let dead_after_us = times.dead_after.1.as_micros() as u64;
        Redundancy { dead_after_us, changed_us: 0, said_us: None, due: Vec::new() }
    }

    /// A fault begins or ends, or an operator asks for something; the takeovers that must come of it.
    pub fn changes(&mut self, now_us: u64, due: Vec<Due>) {
        (self.changed_us, self.due) = (now_us, due);
    }

    /// Both nodes say that the pair is redundant.
    fn is_said(&mut self, now_us: u64) {
        self.said_us = Some(now_us);
    }

    /// Whether what was said lately must be true of a cut now.
    fn holds(&self, now_us: u64) -> bool {
        self.said_us.is_some_and(|said_us| {
            now_us <= said_us + SAID_US && said_us >= self.changed_us + NOTICED_US
        })
    }

    fn until_us(&self, now_us: u64, group: GroupIndex, setup: &Setup, impaired: bool) -> u64 {
        let setup = setup.groups[place(group)];
        let mut until_us = now_us + 2 * self.dead_after_us + TAKEOVER_US;
        if impaired {
            until_us += IMPAIRED_US;
        }
        if setup.mirror {
            until_us += SETTLES_US;
        }
        if setup.service.is_some() {
            until_us += START_TIMEOUT.as_micros() as u64;
        }
        until_us
    }
}

impl World {
    /// Asks both nodes how the pair is.
    pub(in super::super) fn ask_redundancy(&mut self) {
        let says = |index: NodeIndex| {
            let runs = self.nodes[index].heart_runs_since().is_some();
            let now = self.core_time(index).filter(|_| runs);
            let heart = self.nodes[index].heart.as_ref();
            let standing = now.zip(heart).map(|(now, heart)| heart.core.status(now).standing());
            standing == Some(Standing::Redundant)
        };
        if NodeIndex::BOTH.into_iter().all(says) {
            self.checkers.redundancy.is_said(self.now_us);
        }
    }

    /// A node is about to lose its power: what the other must take over.
    pub(in super::super) fn takeovers_due(&mut self, owner: NodeIndex) -> Vec<Due> {
        self.ask_redundancy();
        let now_us = self.now_us;
        let survivor = &self.nodes[owner.other()];
        let helpless =
            survivor.refuses + survivor.rtnl_held + survivor.loaded + survivor.disk_stuck > 0;
        // What comes late of an owner under load makes the LAN look slow.
        let impaired =
            Path::ALL.iter().any(|&path| !self.network.clean(path)) || self.nodes[owner].loaded > 0;
        let redundancy = &self.checkers.redundancy;
        let due = self.config.groups().filter_map(|(group, _)| {
            let cold = self.setup.groups[place(group)].service == Some(false);
            let excused = helpless || (cold && survivor.service_fails[place(group)] > 0);
            let serves = self.checkers.service.seen(now_us, group).by == Some(owner);
            let until_us = redundancy.until_us(now_us, group, &self.setup, impaired);
            // A loop that stood still lately is given twice that time again.
            let gap =
                survivor.heart.as_ref().map(|heart| heart.core.peer_gap()).unwrap_or_default();
            let until_us = until_us + 2 * gap.as_micros() as u64;
            // Three round trips of silence, and what the reach hosts answer.
            let until_us = until_us + 8 * self.network.lan.slowness.late_us;
            // Who repeats what a cut path has lost is not known for it at once.
            let repeats = self.attacker.every_us.is_some();
            let until_us = until_us + if repeats { REPEATED_US } else { 0 };
            // Where nobody answers for the addresses the owner's lease must end first, as an event has told.
            let mute = self.network.arp_impaired();
            let until_us = until_us + if mute { LEASE_OVER_US } else { 0 };
            let due = Due { group, by: owner.other(), until_us };
            // Where nothing or next to nothing may be missing, each write ends it for a moment.
            let strict = self.setup.groups[place(group)].max_behind <= Duration::from_secs(1);
            let holds = redundancy.holds(now_us) && (!strict || redundancy.said_us == Some(now_us));
            (serves && !excused && holds).then_some(due)
        });
        due.collect()
    }

    /// Looks whether what must come has come.
    pub(super) fn look_at_redundancy(&mut self) {
        let now_us = self.now_us;
        let Checkers { service, redundancy, .. } = &mut self.checkers;
        redundancy.due.retain(|due| service.seen(now_us, due.group).by != Some(due.by));
        if let Some(due) = redundancy.due.iter().find(|due| now_us > due.until_us) {
            let said_us = redundancy.said_us;
            let what = format!(
                "P6: both nodes said that the pair was redundant at {said_us:?} µs: {due:?}"
            );
            self.wrong(what);
        }
    }
}
