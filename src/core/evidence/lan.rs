//! The LAN as evidence: whether the peer's kernel still answers for a group's addresses.
//!
//! **At rest**, while the peer serves, this node probes its addresses once a second. That measures how long an answer
//! takes, and proves that an answer would come: a switch that validates ARP may drop probes, which name no sender, and
//! two interfaces with the same MAC never hear each other. If probes stay unanswered, the request names this node's own
//! address as its sender.
//!
//! **In doubt**, and once the peer is found dead, [`Probe`] probes often. Silence counts only after several times the
//! longest recent round trip of the LAN, and only if an answer would have come (P1); else the peer's lease must have
//! ended.

use std::collections::VecDeque;
use std::time::Duration;

use super::probe::{Patience, Probe, Verdict};
use super::stall::Gaps;
use crate::core::io::event::{AskAs, Holder};
use crate::core::io::time::Time;
use crate::limits;

/// The longest recent round trip. A single late answer is noise of a busy host; in a slow network several in a row are
/// late.
#[derive(Clone, Debug)]
pub struct RoundTrips {
    newest: VecDeque<Duration>,
    in_a_row: usize,
    worst: Gaps,
}

impl RoundTrips {
    /// Nothing measured yet. This many late ones in a row mean a slow network.
    pub fn new(in_a_row: usize) -> RoundTrips {
        let worst = Gaps::remembered_for(limits::LAN_MEMORY);
        RoundTrips { newest: VecDeque::with_capacity(in_a_row), in_a_row, worst }
    }

    /// An answer took this long.
    pub fn saw(&mut self, now: Time, took: Duration) {
        if self.newest.len() >= self.in_a_row {
            self.newest.pop_front();
        }
        self.newest.push_back(took);
        self.worst.saw(now, self.newest.iter().min().copied().unwrap_or_default());
    }

    /// The longest recent one.
    pub fn worst(&self) -> Duration {
        self.worst.recent()
    }
}

/// What the LAN shows of one group's addresses.
#[derive(Clone, Debug)]
pub struct LanEvidence {
    probe: Option<Probe>,
    asks_as: AskAs,
    /// When to ask at rest.
    ask_at: Option<Time>,
    /// That probe, while it is unanswered and no other was sent.
    asked_at: Option<Time>,
    /// When the newest answered probe was sent.
    proven_at: Option<Time>,
    /// Unanswered probes at rest, in a row.
    unanswered: u32,
    /// An event reported that.
    told: bool,
    round_trips: RoundTrips,
}

/// In `status`, and in the event, while nobody answers.
pub const MUTE: &str = "nobody on the LAN answers for its addresses there, so a takeover waits until the peer's \
                        lease has surely ended (3 s)";

/// What an event should say about the probes at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanNews {
    /// Nobody answers either form of request.
    Mute,
    /// There are answers again.
    Answers,
}

impl Default for LanEvidence {
    fn default() -> LanEvidence {
        LanEvidence {
            probe: None,
            asks_as: AskAs::Nobody,
            ask_at: None,
            asked_at: None,
            proven_at: None,
            unanswered: 0,
            told: false,
            round_trips: RoundTrips::new(limits::LAN_ASKS_IN_A_ROW),
        }
    }
}

impl LanEvidence {
    /// The peer serves and is heard: probes at rest. Returns the probe to send now, if one is due.
    pub fn at_rest(&mut self, now: Time) -> Option<AskAs> {
        self.probe = None;
        let at = *self.ask_at.get_or_insert(now + limits::LAN_ASK_FIRST);
        if now < at {
            return None;
        }
        if self.asked_at.replace(now).is_some() {
            self.unanswered += 1;
            // An answer to one form says nothing about the other.
            if !self.is_proven(now) && self.unanswered.is_multiple_of(limits::LAN_ASKS_A_FORM) {
                self.asks_as = self.asks_as.other();
            }
        }
        self.ask_at = Some(now + limits::LAN_ASK_EVERY);
        Some(self.asks_as)
    }

    /// The peer says that it holds nothing, or this node serves: nothing to probe.
    pub fn forget(&mut self) {
        (self.probe, self.ask_at, self.asked_at) = (None, None, None);
        self.unanswered = 0;
    }

    /// Continues the probe under way, or begins one.
    pub fn begin(&mut self, now: Time, yields: bool) {
        let probe = self.probe.get_or_insert_with(|| Probe::new(now, yields));
        if probe.is_stale(now) {
            probe.begin_anew(now);
        }
    }

    /// The result of the probe so far; see [`Probe::verdict`].
    pub fn verdict(&mut self, now: Time, patience: Patience, wait_for_lease: bool) -> Verdict {
        let Some(probe) = &mut self.probe else { return Verdict::Wait };
        let mut verdict = probe.verdict(now, patience, wait_for_lease);
        if verdict == Verdict::Clear && probe.is_stale(now) {
            probe.begin_anew(now);
            verdict = probe.verdict(now, patience, wait_for_lease);
        }
        if verdict == Verdict::Send {
            // Which of the two an answer is for would not be known (Karn's algorithm, RFC 6298, 3).
            self.asked_at = None;
        }
        verdict
    }

    /// Somebody was seen with one of the addresses; `counts` as in [`Probe::seen`].
    pub fn seen(&mut self, now: Time, holder: Holder, counts: bool) {
        if let (Holder::Peer, Some(at)) = (holder, self.asked_at) {
            self.round_trips.saw(now, now.since(at));
            (self.asked_at, self.proven_at, self.unanswered) = (None, Some(at), 0);
        }
        if let Some(probe) = &mut self.probe {
            probe.seen(now, holder, counts);
        }
    }

    /// A probe could not be sent.
    pub fn unsent(&mut self, now: Time) {
        if let Some(probe) = &mut self.probe {
            probe.begin_anew(now + limits::PROBE_WAIT_GAP);
        }
    }

    /// This node ran late by this much, and so did the answers that waited to be read.
    pub fn forgive(&mut self, now: Time, late: Duration) {
        self.asked_at = self.asked_at.map(|at| (at + late).min(now));
    }

    /// This node was stalled: an answer could not be heard meanwhile.
    pub fn overslept(&mut self, now: Time, late: Duration) {
        if let Some(probe) = &mut self.probe {
            probe.overslept(now, late);
        }
    }

    /// Whether an answer would come, by recent evidence.
    pub fn is_proven(&self, now: Time) -> bool {
        self.proven_at.is_some_and(|at| now.since(at) < limits::LAN_PROVEN_FOR)
    }

    /// Whether the administrator was told that nobody answers.
    pub fn is_mute(&self) -> bool {
        self.told
    }

    /// What an event should say now.
    pub fn news(&mut self, now: Time) -> Option<LanNews> {
        if self.told && self.unanswered == 0 && self.is_proven(now) {
            self.told = false;
            return Some(LanNews::Answers);
        }
        let mute = !self.told && self.unanswered >= limits::LAN_ASKS_A_FORM * 2;
        self.told |= mute;
        mute.then_some(LanNews::Mute)
    }

    /// Which form of request to send.
    pub fn asks_as(&self) -> AskAs {
        self.asks_as
    }

    /// The longest recent ARP round trip.
    pub fn worst_round_trip(&self) -> Duration {
        self.round_trips.worst()
    }

    /// Whether a probe is under way.
    #[cfg(test)]
    pub fn is_asking(&self) -> bool {
        self.probe.is_some()
    }

    /// Whether the peer's kernel has answered it.
    pub fn is_answered(&self) -> bool {
        self.probe.as_ref().is_some_and(Probe::is_answered)
    }

    /// See [`Probe::was_answered_in_doubt`].
    pub fn was_answered_in_doubt(&self) -> bool {
        self.probe.as_ref().is_some_and(Probe::was_answered_in_doubt)
    }

    /// When it should be looked at again.
    pub fn next_at(&self) -> impl Iterator<Item = Time> {
        self.probe.as_ref().map(Probe::next_at).into_iter().chain(self.ask_at)
    }
}
