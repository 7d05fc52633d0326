//! Promise P1: there is no instant at which both kernels run and both hold a service address, unless
//! beats *and* ARP between them had been cut for longer than `dead_after`.
//!
//! A pause of a whole machine cuts both, too; so it is the same excuse. An excused overlap must end
//! soon after the two can hear each other.

use super::super::pair::Pair;
use super::place;
use crate::config::{Config, GroupIndex};

/// A moment of contact shorter than this carries no beat, so it does not end an isolation, in µs.
const CONTACT_MIN_US: u64 = 60_000;
/// A claim decided while isolated lands at most this much later (the kernel's lock), in µs.
const CLAIM_LANDS_US: u64 = 120_000;
/// A beat is sent at most this much later than planned, in µs.
const TICK_LATE_US: u64 = 10_000;
/// Two who serve and hear each other: time until one has let go, in µs, besides three intervals.
const LET_GO_US: u64 = 200_000;

/// What the network is like for the two.
#[derive(Clone, Copy, Debug)]
pub struct Sight {
    /// Every beat path is cut or lossy in a direction (or a heart does not run), and so is ARP (or a
    /// machine does not run).
    pub isolated: bool,
    /// Not only cables and paths are to blame: a heart or a machine does not run.
    pub stalled: bool,
    /// Both hearts run, and a path carries every frame both ways.
    pub hears: bool,
}

/// The checker.
pub struct OneOwner {
    dead_after_us: u64,
    interval_us: u64,
    let_go_us: u64,
    /// The newest isolation: from when to when.
    isolation: Option<(u64, u64)>,
    /// Somebody did not run during it.
    stalled: bool,
    isolated: bool,
    /// Since when the two hear each other.
    hears_since_us: Option<u64>,
    /// Overlaps that go on, by group: since when.
    overlaps: Vec<Option<u64>>,
}

impl OneOwner {
    /// A checker of that pair.
    pub fn new(config: &Config) -> OneOwner {
        OneOwner {
            dead_after_us: config.heartbeat.dead_after.as_micros() as u64,
            interval_us: config.heartbeat.interval.as_micros() as u64,
            let_go_us: LET_GO_US + 3 * config.heartbeat.interval.as_micros() as u64,
            isolation: None,
            stalled: false,
            isolated: false,
            hears_since_us: None,
            overlaps: vec![None; config.groups.len()],
        }
    }

    /// The network as it is from now on.
    pub fn network(&mut self, now_us: u64, sight: Sight) {
        if self.isolated {
            // It lasted until now, whatever comes next.
            self.isolation = self.isolation.map(|(from_us, _)| (from_us, now_us));
        }
        if sight.isolated && !self.isolated {
            self.isolation = match self.isolation {
                Some((from_us, to_us)) if now_us - to_us < CONTACT_MIN_US => {
                    Some((from_us, now_us))
                }
                Some(_) | None => {
                    self.stalled = false;
                    Some((now_us, now_us))
                }
            };
        }
        self.stalled |= sight.isolated && sight.stalled;
        self.isolated = sight.isolated;
        self.hears_since_us = if sight.hears { self.hears_since_us.or(Some(now_us)) } else { None };
    }

    fn excused(&self, now_us: u64) -> bool {
        // Who stalls had its last beat sent up to an interval before.
        let earlier_us = if self.stalled { self.interval_us + TICK_LATE_US } else { 0 };
        self.isolation.is_some_and(|(from_us, to_us)| {
            to_us - from_us + earlier_us >= self.dead_after_us && now_us - to_us <= CLAIM_LANDS_US
        })
    }

    /// Who holds a group's addresses from now on, in a kernel that runs.
    pub fn group(
        &mut self,
        now_us: u64,
        group: GroupIndex,
        holds: Pair<bool>,
        sight: Sight,
    ) -> Result<(), String> {
        let excused = self.excused(now_us);
        let overlap = &mut self.overlaps[place(group)];
        if holds.both() != [&true, &true] {
            *overlap = None;
            return Ok(());
        }
        match *overlap {
            None if excused => *overlap = Some(now_us),
            None => {
                return Err(format!(
                    "P1: both nodes hold group {}'s addresses; beats and ARP were last cut {}",
                    group.0,
                    self.isolation.map_or_else(
                        || "never".to_owned(),
                        |(from_us, to_us)| format!("from {from_us} to {to_us} µs")
                    )
                ));
            }
            Some(since_us) => {
                let hear_us = self.hears_since_us.map_or(now_us, |hears| hears.max(since_us));
                if sight.hears && now_us - hear_us > self.let_go_us {
                    return Err(format!(
                        "P1: both nodes hold group {}'s addresses since {since_us} µs although \
                         they hear each other since {hear_us} µs",
                        group.0
                    ));
                }
            }
        }
        Ok(())
    }
}
