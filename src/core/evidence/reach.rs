//! Reach: whether this node gets through to the LAN. Only answered questions count.

use std::net::IpAddr;
use std::time::Duration;

use crate::core::io::time::Time;
use crate::limits;

/// What is known about the reach of this node.
#[derive(Clone, Debug)]
pub struct Reach {
    /// For each reach host: when the newest question was *asked* that it answered.
    answered: Vec<Option<Time>>,
    /// For each reach host: how long its answers take.
    round_trips: Vec<Option<Duration>>,
    /// When the newest rounds were asked, by round number modulo the length.
    asked: [Option<(u32, Time)>; limits::REACH_ROUNDS_KEPT as usize],
    round: u32,
    next_at: Time,
    burst_until: Time,
    carrier: bool,
    carrier_seen_at: Time,
    carrier_lost_at: Option<Time>,
    /// The second look at a lost carrier was commanded.
    looked_again: bool,
    carrier_back_at: Option<Time>,
}

/// The result of a question about reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// A reach host answered (or, without reach hosts, there is a carrier).
    Reached,
    /// Nobody answers, or there is no carrier.
    NotReached,
    /// Too early to say.
    Unknown,
}

impl Reach {
    /// Nothing known yet; no carrier until one is reported.
    pub fn new(hosts: usize, now: Time) -> Reach {
        Reach {
            answered: vec![None; hosts],
            round_trips: vec![None; hosts],
            asked: [None; limits::REACH_ROUNDS_KEPT as usize],
            round: 0,
            next_at: now,
            burst_until: Time(0),
            carrier: false,
            carrier_seen_at: Time(0),
            carrier_lost_at: None,
            looked_again: false,
            carrier_back_at: None,
        }
    }

    /// Other hosts are asked from now on. Until they have been asked, each counts as having answered like the old ones,
    /// so a reload does not look like a loss.
    pub fn set_hosts(&mut self, now: Time, old: &[IpAddr], new: &[IpAddr]) {
        if old == new {
            return;
        }
        let answered = std::mem::take(&mut self.answered);
        let carrier = Some(self.carrier_seen_at).filter(|_| self.carrier && old.is_empty());
        let proven = answered.iter().flatten().max().copied().or(carrier);
        let before = |host: &IpAddr| match old.iter().position(|known| known == host) {
            Some(place) => answered.get(place).copied().flatten(),
            None => proven,
        };
        self.answered = new.iter().map(before).collect();
        let round_trips = std::mem::take(&mut self.round_trips);
        let known = |host: &IpAddr| {
            let place = old.iter().position(|known| known == host)?;
            round_trips.get(place).copied().flatten()
        };
        self.round_trips = new.iter().map(known).collect();
        self.asked = [None; limits::REACH_ROUNDS_KEPT as usize];
        self.next_at = now;
        self.suspect(now);
    }

    /// The LAN carrier, as reported last.
    pub fn carrier(&self) -> bool {
        self.carrier
    }

    /// Since when the LAN carrier has been missing, once a second look has confirmed it.
    pub fn carrier_lost_at(&self, now: Time) -> Option<Time> {
        self.carrier_lost_at.filter(|&at| now.since(at) >= limits::CARRIER_SECOND_LOOK)
    }

    /// When a loss of the LAN carrier will be sure.
    pub fn carrier_sure_at(&self) -> Option<Time> {
        self.carrier_lost_at.map(|at| at + limits::CARRIER_SECOND_LOOK)
    }

    /// Whether the second look at a lost carrier is due; true once.
    pub fn take_look(&mut self, now: Time) -> bool {
        let due = !self.looked_again && self.carrier_sure_at().is_some_and(|at| now >= at);
        self.looked_again |= due;
        due
    }

    /// When the LAN carrier last came back, if a beat may have reported it lost.
    pub fn carrier_back_at(&self) -> Option<Time> {
        self.carrier_back_at
    }

    /// It has come back.
    pub fn carrier_is_back(&mut self, now: Time) {
        self.carrier_back_at = Some(now);
    }

    /// When it was last seen.
    pub fn carrier_seen_at(&self) -> Time {
        self.carrier_seen_at
    }

    /// Takes a report about the LAN carrier; `true` if it is news.
    pub fn set_carrier(&mut self, now: Time, up: bool) -> bool {
        let news = self.carrier != up;
        self.carrier = up;
        if up {
            self.carrier_seen_at = now;
            self.carrier_lost_at = None;
        } else if self.carrier_lost_at.is_none() {
            self.carrier_lost_at = Some(now);
            self.looked_again = false;
        }
        news
    }

    /// How many hosts are asked.
    pub fn hosts(&self) -> usize {
        self.answered.len()
    }

    /// How many hosts answered lately.
    pub fn count(&self, now: Time) -> usize {
        if !self.carrier {
            return 0;
        }
        let recent =
            |at: &&Option<Time>| at.is_some_and(|at| now.since(at) <= limits::REACH_MEMORY);
        self.answered.iter().filter(recent).count()
    }

    /// Something is suspected: ask often for a while, beginning now.
    pub fn suspect(&mut self, now: Time) {
        if now >= self.burst_until {
            self.next_at = now;
        }
        self.burst_until = now + limits::REACH_BURST;
    }

    /// The round to ask now, if one is due.
    pub fn due(&mut self, now: Time) -> Option<u32> {
        if self.answered.is_empty() || now < self.next_at {
            return None;
        }
        self.round = self.round.wrapping_add(1);
        if let Some(slot) = self.asked.get_mut((self.round % limits::REACH_ROUNDS_KEPT) as usize) {
            *slot = Some((self.round, now));
        }
        let bursting = now < self.burst_until;
        self.next_at = now + if bursting { limits::REACH_BURST_EVERY } else { limits::REACH_EVERY };
        Some(self.round)
    }

    /// When the next round is due.
    pub fn next_at(&self) -> Option<Time> {
        (!self.answered.is_empty()).then_some(self.next_at)
    }

    /// A host answered the question of `round`.
    pub fn answered(&mut self, now: Time, host: u8, round: u32) {
        let slot = self.asked.get((round % limits::REACH_ROUNDS_KEPT) as usize).copied().flatten();
        let Some((_, asked)) = slot.filter(|(known, _)| *known == round) else { return };
        let host = usize::from(host);
        let (Some(newest), Some(round_trip)) =
            (self.answered.get_mut(host), self.round_trips.get_mut(host))
        else {
            return;
        };
        // A host may answer twice, the second time long after it was asked.
        if *newest < Some(asked) {
            *newest = Some(asked);
            let took = now.since(asked);
            // One late answer makes no slow host.
            let most = round_trip.map_or(took, |known| known * 2 + limits::REACH_PATIENCE / 10);
            *round_trip = Some(took.min(most));
        }
    }

    /// How old a question must be to count as unanswered. One answer of any host is enough, so the quickest host sets
    /// it.
    fn patience(&self) -> Duration {
        let quickest = self.round_trips.iter().flatten().min().copied().unwrap_or_default();
        (limits::REACH_PATIENCE + quickest * 2).min(limits::REACH_PATIENCE_MAX)
    }

    /// Whether a question asked at `since` or later was answered; without reach hosts, whether the
    /// carrier was seen then.
    pub fn proof(&self, now: Time, since: Time) -> Proof {
        if !self.carrier {
            return Proof::NotReached;
        }
        if self.answered.is_empty() {
            // Without reach hosts only the carrier shows it.
            let seen = self.carrier_seen_at >= since;
            return if seen { Proof::Reached } else { Proof::Unknown };
        }
        if self.answered.iter().flatten().any(|&at| at >= since) {
            return Proof::Reached;
        }
        if self.unanswered(now, since) >= limits::REACH_ROUNDS {
            return Proof::NotReached;
        }
        Proof::Unknown
    }

    /// Rounds asked at `since` or later, and long enough ago to have been answered.
    fn unanswered(&self, now: Time, since: Time) -> u32 {
        let patience = self.patience();
        let ripe = |at: Time| at >= since && now.since(at) >= patience;
        let count = self.asked.iter().flatten().filter(|(_, at)| ripe(*at)).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// Whether the last rounds, over at least `span`, all stayed without any answer.
    pub fn lost_for(&self, now: Time, span: Duration) -> bool {
        let since = self.answered.iter().flatten().max().map_or(Time(1), |at| Time(at.0 + 1));
        !self.answered.is_empty()
            && now.since(since) >= span
            && self.unanswered(now, since) >= limits::REACH_ROUNDS
    }
}
