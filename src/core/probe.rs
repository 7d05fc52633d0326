//! The probe before a claim: does anybody on the LAN still have the address?
//!
//! ```text
//!            3 silent probes, and silence as long as is asked for
//!  asking ───────────────────────────────────────────────▶ Clear
//!    │ the peer's kernel answers                             ▲
//!    ▼                          300 ms of silence in a row   │
//!  waiting ──────────────────────────────────────────────────┘
//!    │ still answered after lease + 1 s          a third MAC at any time
//!    ▼                                                       ▼
//!  Held                                                  Conflict
//! ```
//! Nobody answers for an address whose lease has ended, so a peer whose daemon is dead, frozen or
//! starved while its kernel lives is waited for; one that lost power is not.
//!
//! Where nothing but silence tells of the peer's death, the LAN must have been silent as long as the beats
//! were (P1): then probing begins while the peer is in doubt and goes on until the claim.

use std::time::Duration;

use super::event::Holder;
use super::time::Time;
use crate::limits;

/// A probe under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    started_at: Time,
    sent: u32,
    next_at: Time,
    answered_at: Option<Time>,
    stranger: Option<[u8; 6]>,
    /// Whether a probe by the peer counts as an answer: the non-preferred node backs off.
    yields: bool,
    /// Nobody must have answered for at least so long.
    silence: Duration,
    /// The peer's kernel answered while the peer was only in doubt.
    answered_early: bool,
}

/// What the probe has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not yet decided.
    Wait,
    /// A probe is to be sent now.
    Send,
    /// Nobody has the address.
    Clear,
    /// The peer's kernel has kept answering longer than any lease lasts.
    Held,
    /// A third machine has the address.
    Conflict([u8; 6]),
}

impl Probe {
    /// Begins; the first probe is due at once. `answered_at`: when the peer's kernel answered an
    /// earlier probe; too long ago it means nothing.
    pub fn new(now: Time, yields: bool, answered_at: Option<Time>) -> Probe {
        let answered_at = answered_at.filter(|&at| now.since(at) < limits::PROBE_WAIT);
        Probe {
            started_at: now,
            sent: 0,
            next_at: now,
            answered_at,
            stranger: None,
            yields,
            silence: Duration::ZERO,
            answered_early: false,
        }
    }

    /// The same, to be silent for at least so long. What was asked for when it was answered stands: a kernel
    /// that answered a moment ago lives, whatever else tells of the peer's death by now.
    pub fn lasting(self, silence: Duration) -> Probe {
        let least = if self.answered_early { self.silence } else { Duration::ZERO };
        Probe { silence: silence.max(least), ..self }
    }

    /// How long nobody must have answered.
    pub fn silence(&self) -> Duration {
        self.silence
    }

    /// Somebody was seen with the address.
    pub fn seen(&mut self, now: Time, holder: Holder) {
        match holder {
            Holder::Peer => self.answered_at = Some(now),
            Holder::PeerProbes => {
                if self.yields {
                    self.answered_at = Some(now);
                }
            }
            Holder::Stranger(mac) => self.stranger = Some(mac),
        }
    }

    /// Somebody was seen with the address while the peer is only in doubt. Where silence must last, the
    /// peer's first answer is no sign of a dead heart's kernel: the silence begins anew with the next probe.
    pub fn seen_early(&mut self, now: Time, holder: Holder) {
        if self.silence.is_zero() || holder != Holder::Peer || self.answered_at.is_some() {
            return self.seen(now, holder);
        }
        let next = now + limits::PROBE_WAIT_GAP;
        (self.started_at, self.next_at, self.sent) = (next, next, 0);
        self.answered_early = true;
    }

    /// When the peer's kernel last answered.
    pub fn answered_at(&self) -> Option<Time> {
        self.answered_at
    }

    /// What to do now. `Send` counts the probe as sent. `wait_for_lease`: false only where a test
    /// shows what the rule is for.
    pub fn verdict(&mut self, now: Time, wait_for_lease: bool) -> Verdict {
        if let Some(mac) = self.stranger {
            return Verdict::Conflict(mac);
        }
        let gap = match self.answered_at {
            None => {
                let left = self.silence.saturating_sub(now.since(self.started_at));
                if self.sent >= limits::PROBES && left.is_zero() && now >= self.next_at {
                    return Verdict::Clear;
                }
                if self.sent + 1 < limits::PROBES {
                    limits::PROBE_GAP
                } else {
                    left.clamp(limits::PROBE_GAP, limits::PROBE_WAIT_GAP)
                }
            }
            Some(answered_at) => {
                let wait = limits::PROBE_WAIT.max(self.silence);
                if !wait_for_lease || now.since(answered_at) >= wait {
                    return Verdict::Clear;
                }
                if now.since(self.started_at)
                    >= limits::LEASE + limits::LEASE_GRACE + limits::PROBE_WAIT
                {
                    return Verdict::Held;
                }
                limits::PROBE_WAIT_GAP
            }
        };
        if now < self.next_at {
            return Verdict::Wait;
        }
        self.sent += 1;
        self.next_at = now + gap;
        Verdict::Send
    }

    /// Whether its last question was asked so long ago that the answer may be another by now.
    pub fn is_stale(&self, now: Time) -> bool {
        let valid = match self.silence.is_zero() {
            true => limits::PROBE_VALID,
            false => limits::PROBE_SERIES_VALID,
        };
        now.since(self.next_at) >= valid
    }

    /// When it should be looked at again.
    pub fn next_at(&self) -> Time {
        self.next_at
    }
}
