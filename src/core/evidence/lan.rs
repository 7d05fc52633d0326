//! The LAN as evidence: whether the peer's kernel still answers for a group's addresses.
//!
//! **At rest**, while the peer serves, its addresses are asked for once a second. That measures how long an answer
//! takes, and proves that one would come: a switch that validates ARP may drop a probe, which names no sender, and
//! two interfaces with one MAC never hear each other. Where probes stay unanswered, the question is asked as from
//! this node's own address.
//!
//! **In doubt**, and once the peer is found dead, [`Probe`] asks often. Silence counts only after several of the
//! longest round trips that the LAN has shown lately, and only where an answer would have come (P1); else the peer's
//! lease must have ended.

use std::collections::VecDeque;
use std::time::Duration;

use super::probe::{Patience, Probe, Verdict};
use super::stall::Gaps;
use crate::core::io::event::{AskAs, Holder};
use crate::core::io::time::Time;
use crate::limits;

/// How long answers take at worst, as measured lately. One that is late is noise of a busy host; a slow network makes
/// several late.
#[derive(Clone, Debug)]
pub struct RoundTrips {
    newest: VecDeque<Duration>,
    in_a_row: usize,
    worst: Gaps,
}

impl RoundTrips {
    /// Nothing measured yet. So many in a row tell of the network.
    pub fn new(in_a_row: usize) -> RoundTrips {
        let worst = Gaps::remembered_for(limits::LAN_MEMORY);
        RoundTrips { newest: VecDeque::with_capacity(in_a_row), in_a_row, worst }
    }

    /// An answer took so long.
    pub fn saw(&mut self, now: Time, took: Duration) {
        if self.newest.len() >= self.in_a_row {
            self.newest.pop_front();
        }
        self.newest.push_back(took);
        self.worst.saw(now, self.newest.iter().min().copied().unwrap_or_default());
    }

    /// The longest of late.
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
    /// That question, if nothing has answered it yet.
    asked_at: Option<Time>,
    /// When the newest question was asked that was answered.
    proven_at: Option<Time>,
    /// Questions at rest without an answer, in a row.
    unanswered: u32,
    /// That was told.
    told: bool,
    round_trips: RoundTrips,
}

/// In `status`, and in the event, while nobody answers.
pub const MUTE: &str = "nobody on the LAN answers for its addresses there, so a takeover waits until the peer's \
                        lease has surely ended (3 s)";

/// What is to be told of the questions at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LanNews {
    /// Nobody answers, however it is asked.
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
    /// The peer serves, and is heard: asks at rest. The question to send now, if one is due.
    pub fn at_rest(&mut self, now: Time) -> Option<AskAs> {
        self.probe = None;
        let at = *self.ask_at.get_or_insert(now + limits::LAN_ASK_FIRST);
        if now < at {
            return None;
        }
        if self.asked_at.replace(now).is_some() {
            self.unanswered += 1;
            // An answer in one form says nothing of the other.
            if !self.is_proven(now) && self.unanswered.is_multiple_of(limits::LAN_ASKS_A_FORM) {
                self.asks_as = self.asks_as.other();
            }
        }
        self.ask_at = Some(now + limits::LAN_ASK_EVERY);
        Some(self.asks_as)
    }

    /// The peer speaks for itself and holds nothing, or this node serves: there is nobody to ask.
    pub fn forget(&mut self) {
        (self.probe, self.ask_at, self.asked_at) = (None, None, None);
        self.unanswered = 0;
    }

    /// Goes on with the question under way, or begins one.
    pub fn begin(&mut self, now: Time, yields: bool) {
        let probe = self.probe.get_or_insert_with(|| Probe::new(now, yields));
        if probe.is_stale(now) {
            probe.begin_anew(now);
        }
    }

    /// What the question has come to; see [`Probe::verdict`].
    pub fn verdict(&mut self, now: Time, patience: Patience, wait_for_lease: bool) -> Verdict {
        let Some(probe) = &mut self.probe else { return Verdict::Wait };
        match probe.verdict(now, patience, wait_for_lease) {
            Verdict::Clear if probe.is_stale(now) => {
                probe.begin_anew(now);
                probe.verdict(now, patience, wait_for_lease)
            }
            verdict @ (Verdict::Wait
            | Verdict::Send
            | Verdict::Clear
            | Verdict::Held
            | Verdict::Conflict(_)) => verdict,
        }
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

    /// A question could not be sent.
    pub fn unsent(&mut self, now: Time) {
        if let Some(probe) = &mut self.probe {
            probe.begin_anew(now + limits::PROBE_WAIT_GAP);
        }
    }

    /// This node came late by so much: so did what waited to be read.
    pub fn forgive(&mut self, now: Time, late: Duration) {
        self.asked_at = self.asked_at.map(|at| (at + late).min(now));
    }

    /// In a gap of this node's own time nobody could be heard to answer.
    pub fn overslept(&mut self, now: Time, late: Duration) {
        if let Some(probe) = &mut self.probe {
            probe.overslept(now, late);
        }
    }

    /// Whether an answer would come, as far as that was seen lately.
    pub fn is_proven(&self, now: Time) -> bool {
        self.proven_at.is_some_and(|at| now.since(at) < limits::LAN_PROVEN_FOR)
    }

    /// Whether the administrator was told that nobody answers.
    pub fn is_mute(&self) -> bool {
        self.told
    }

    /// What is to be told now.
    pub fn news(&mut self, now: Time) -> Option<LanNews> {
        if self.told && self.unanswered == 0 && self.is_proven(now) {
            self.told = false;
            return Some(LanNews::Answers);
        }
        let mute = !self.told && self.unanswered >= limits::LAN_ASKS_A_FORM * 2;
        self.told |= mute;
        mute.then_some(LanNews::Mute)
    }

    /// How it is asked.
    pub fn asks_as(&self) -> AskAs {
        self.asks_as
    }

    /// The longest round trip that ARP has shown lately.
    pub fn worst_round_trip(&self) -> Duration {
        self.round_trips.worst()
    }

    /// Whether a question is under way.
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
