//! Promise P1: there is no instant at which both kernels run and both hold a service address, unless
//! beats *and* ARP between them had been cut for longer than `dead_after`.
//!
//! Silence counts from the last beat, so a cut is excused that is shorter by one interval. A pause of
//! a whole machine cuts both, too; so it is the same excuse. So is ARP cut while a heart was dead or
//! frozen for that long: its kernel lives but cannot answer (at least two faults at once). So is a
//! crossover that lost its carrier together with the LAN: nobody can tell that from a power cut. So is a
//! claim that a kernel whose lock was held carries out late, until the kernel has acknowledged it: then it is taken
//! back at once, unless its process is stalled. An excused overlap must end soon after the two can hear each other and let go.

use super::super::pair::Pair;
use super::super::setup::Times;
use super::place;
use crate::config::GroupIndex;
use crate::limits;

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
    /// Every beat path is cut or lossy in a direction.
    pub paths_cut: bool,
    /// ARP is cut or lossy in a direction.
    pub arp_cut: bool,
    /// The crossover has no carrier.
    pub carrier_lost: bool,
    /// Beats on the LAN are cut or lossy in a direction.
    pub lan_cut: bool,
    /// Both hearts run.
    pub hearts_run: bool,
    /// Both machines run.
    pub machines_run: bool,
    /// A path carries every frame both ways.
    pub clean: bool,
    /// Both kernels let addresses come and go.
    pub kernels_change: bool,
    /// A kernel has just carried out a claim that is too old, and its process does not know yet.
    pub late_claim: bool,
}

/// The newest time for which something was so.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    is: bool,
    from_us: u64,
    to_us: u64,
}

impl Span {
    fn update(&mut self, now_us: u64, is: bool) {
        if self.is {
            // It lasted until now, whatever comes next.
            self.to_us = now_us;
        } else if is && (self.to_us == 0 || now_us - self.to_us >= CONTACT_MIN_US) {
            (self.from_us, self.to_us) = (now_us, now_us);
        } else if is {
            self.to_us = now_us;
        }
        self.is = is;
    }

    /// Whether it was so for at least `for_us`, until shortly before now.
    fn lasted(&self, now_us: u64, for_us: u64) -> bool {
        let over_us = now_us - self.to_us;
        let until_us = if over_us < CONTACT_MIN_US { now_us } else { self.to_us };
        (self.is || self.to_us > 0)
            && until_us - self.from_us >= for_us
            && over_us <= CLAIM_LANDS_US
    }
}

/// The checker.
pub struct OneOwner {
    /// What looks like a power cut excuses nothing: an owner that is cut off lets go before.
    pub is_strict: bool,
    dead_after_us: u64,
    interval_us: u64,
    let_go_us: u64,
    /// Neither beats nor ARP came through.
    isolated: Span,
    /// A heart did not run.
    stalled: Span,
    /// ARP did not come through.
    arp_cut: Span,
    /// The crossover had no carrier.
    carrier_lost: Span,
    /// Beats on the LAN did not come through, cut or because a heart or a whole machine was stalled.
    lan_cut: Span,
    /// A claim that is too old was carried out.
    late_claim: bool,
    /// Since when the two hear each other, and can let go.
    hears_since_us: Option<u64>,
    /// Overlaps that go on, by group: since when, and whether they began with a claim that came late.
    overlaps: Vec<Option<(u64, bool)>>,
}

impl OneOwner {
    /// A checker of that pair.
    pub fn new(groups: usize, times: Times) -> OneOwner {
        OneOwner {
            is_strict: false,
            dead_after_us: times.dead_after.0.as_micros() as u64,
            interval_us: times.interval.as_micros() as u64,
            let_go_us: LET_GO_US + 3 * times.interval.as_micros() as u64,
            isolated: Span::default(),
            stalled: Span::default(),
            arp_cut: Span::default(),
            carrier_lost: Span::default(),
            lan_cut: Span::default(),
            late_claim: false,
            hears_since_us: None,
            overlaps: vec![None; groups],
        }
    }

    /// The network as it is from now on.
    pub fn network(&mut self, now_us: u64, sight: Sight) {
        let arp_cut = sight.arp_cut || !sight.machines_run;
        let stalled = !sight.hearts_run;
        self.isolated.update(now_us, arp_cut && (stalled || sight.paths_cut));
        self.stalled.update(now_us, stalled);
        self.arp_cut.update(now_us, arp_cut);
        self.carrier_lost.update(now_us, sight.carrier_lost);
        self.lan_cut.update(now_us, stalled || sight.lan_cut || !sight.machines_run);
        self.late_claim = sight.late_claim;
        self.hears_since_us = if sight.hearts_run && sight.clean && sight.kernels_change {
            self.hears_since_us.or(Some(now_us))
        } else {
            None
        };
    }

    /// Whether neither beats nor ARP come through at present.
    pub fn isolated(&self) -> bool {
        self.isolated.is
    }

    fn excused(&self, now_us: u64) -> bool {
        let earlier_us = self.interval_us + TICK_LATE_US;
        let silence_us = self.dead_after_us.saturating_sub(earlier_us);
        let unanswered_us = limits::ASK_PATIENCE_MIN.as_micros() as u64;
        let together_us = self.isolated.from_us.saturating_sub(self.lan_cut.from_us);
        let like_power_cut = !self.is_strict
            && together_us <= 2 * self.interval_us
            && self.carrier_lost.lasted(now_us, unanswered_us)
            && self.isolated.lasted(now_us, unanswered_us);
        like_power_cut
            || self.isolated.lasted(now_us, silence_us)
            || (self.stalled.lasted(now_us, silence_us) && self.arp_cut.lasted(now_us, 0))
    }

    /// Who holds a group's addresses from now on, in a kernel that runs.
    pub fn group(
        &mut self,
        now_us: u64,
        group: GroupIndex,
        holds: Pair<bool>,
    ) -> Result<(), String> {
        let excused = self.excused(now_us);
        let overlap = &mut self.overlaps[place(group)];
        if holds.both() != [&true, &true] {
            *overlap = None;
            return Ok(());
        }
        match *overlap {
            None if excused || self.late_claim => {
                *overlap = Some((now_us, !excused));
            }
            None => {
                return Err(format!(
                    "P1: both nodes hold group {}'s addresses; not excused by {:?}, {:?}, {:?}",
                    group.0, self.isolated, self.stalled, self.arp_cut
                ));
            }
            Some((since_us, true)) if !self.late_claim && !excused => {
                return Err(format!(
                    "P1: both nodes hold group {}'s addresses since a claim at {since_us} µs that came \
                     late and was not taken back",
                    group.0
                ));
            }
            Some((since_us, _)) => {
                let hear_us = self.hears_since_us.map_or(now_us, |hears| hears.max(since_us));
                if now_us - hear_us > self.let_go_us {
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
