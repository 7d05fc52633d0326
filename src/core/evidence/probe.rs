//! One probe of the LAN: does anybody there still have the address?
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
//! Nobody answers for an address whose lease has ended. So the claim waits for a peer whose daemon is dead, frozen or
//! starved while its kernel still answers, and not for one that lost its power. [`Patience`], which `lan` computes,
//! says how long silence must last.

use std::time::Duration;

use crate::core::io::event::Holder;
use crate::core::io::time::Time;
use crate::limits;

/// A probe under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    began_at: Time,
    /// Silence counts from here.
    silent_since: Time,
    sent: u32,
    next_at: Time,
    answered_at: Option<Time>,
    /// The peer's kernel answered while the peer was only late, not dead.
    answered_in_doubt: bool,
    stranger: Option<[u8; 6]>,
    /// Whether a probe by the peer counts as an answer: the non-preferred node backs off.
    yields: bool,
}

/// How long silence must last to prove that nobody has the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// It must have lasted this long.
    pub silence: Duration,
    /// It proves nothing before then.
    pub not_before: Option<Time>,
}

impl Patience {
    /// Three silent probes are enough: the peer itself has said that it holds nothing.
    pub const SHORT: Patience = Patience { silence: Duration::ZERO, not_before: None };
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
    /// Begins; the first probe is due at once.
    pub fn new(now: Time, yields: bool) -> Probe {
        Probe {
            began_at: now,
            silent_since: now,
            sent: 0,
            next_at: now,
            answered_at: None,
            answered_in_doubt: false,
            stranger: None,
            yields,
        }
    }

    /// Begins again at that time: no silence before it counts. A recent answer stays valid.
    pub fn begin_anew(&mut self, at: Time) {
        (self.silent_since, self.next_at, self.sent) = (at, at, 0);
        self.answered_at =
            self.answered_at.filter(|&answered| at.since(answered) < limits::PROBE_WAIT);
    }

    /// Somebody was seen with the address. `counts`: the claim waits for it. Else the peer's heart is only late: the
    /// answer of its kernel does not prove a dead heart, and silence begins again.
    pub fn seen(&mut self, now: Time, holder: Holder, counts: bool) {
        let answered = match holder {
            Holder::Peer | Holder::PeerAnnounces => true,
            Holder::PeerProbes => self.yields,
            Holder::Stranger(mac) => {
                self.stranger = Some(mac);
                false
            }
        };
        if answered && (counts || self.answered_at.is_some()) {
            self.answered_at = Some(now);
        } else if answered {
            self.answered_in_doubt = true;
            self.begin_anew(now + limits::PROBE_GAP);
        }
    }

    /// Whether the peer's kernel answered while its heart was only late: a cable that is lost afterwards is no sign of
    /// a sudden death.
    pub fn was_answered_in_doubt(&self) -> bool {
        self.answered_in_doubt
    }

    /// Whether the peer's kernel answers.
    pub fn is_answered(&self) -> bool {
        self.answered_at.is_some()
    }

    /// This node was stalled: an answer could not be heard meanwhile.
    pub fn overslept(&mut self, now: Time, late: Duration) {
        self.answered_at = self.answered_at.map(|at| (at + late).min(now));
        self.begin_anew(now);
    }

    /// What to do now. `Send` counts the probe as sent. `wait_for_lease`: false only where a test
    /// shows what the rule is for.
    pub fn verdict(&mut self, now: Time, patience: Patience, wait_for_lease: bool) -> Verdict {
        if let Some(mac) = self.stranger {
            return Verdict::Conflict(mac);
        }
        let gap = match self.answered_at {
            None => {
                let proves = patience.not_before.map_or(Duration::ZERO, |at| at.since(now));
                let left =
                    patience.silence.saturating_sub(now.since(self.silent_since)).max(proves);
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
                let wait = limits::PROBE_WAIT.max(patience.silence);
                if !wait_for_lease || now.since(answered_at) >= wait {
                    return Verdict::Clear;
                }
                let longest = limits::LEASE + limits::LEASE_GRACE + wait;
                if now.since(self.began_at) >= longest {
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

    /// Whether its result is too old to rely on.
    pub fn is_stale(&self, now: Time) -> bool {
        now.since(self.next_at) >= limits::PROBE_VALID
    }

    /// When it should be looked at again.
    pub fn next_at(&self) -> Time {
        self.next_at
    }
}
