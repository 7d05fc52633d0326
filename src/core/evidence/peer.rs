//! The peer: which of its incarnations is proven, what it said last, whether it lives.
//!
//! **Two-way proof.** A frame counts only if it carries this node's current incarnation; else it is an introduction,
//! and answered. So no frame that was recorded before a restart of this node counts. A frame of a new incarnation of
//! the peer must also echo a time of this node's clock after the last incarnation ended and after the proven one was
//! met. So no frame that was recorded before a restart of the peer counts either, even of an incarnation that never
//! reached this node. Within an incarnation the sequence on each path must rise.
//!
//! **The dead stay dead.** A frame that was sent before another one that came long ago is no sign of life ([`Numbers`]).
//! Once the peer is dead, only a frame with a higher number than all that came revives it.
//!
//! **Only the newest frame counts.** A frame that is not the newest over all paths shows that its path works, no more.
//!
//! ```text
//!   NeverHeard ──counted beat──▶ Alive ──every path silent──▶ Dead(Silent)
//!                                 ▲  ├──────goodbye─────────▶ Dead(Goodbye)
//!                                 │  └──────last will───────▶ Dead(Will)
//!                                 └───────counted beat────────┘
//! ```

use std::net::Ipv6Addr;
use std::time::Duration;

use super::numbers::Numbers;
use super::path::{Echo, PathWatch};
use crate::beat::{Beat, CopyBeat, DropReason, GroupBeat, Path, PathSet, Stance};
use crate::config::GroupIndex;
use crate::control::status::NodeState;
use crate::core::io::disk::Generation;
use crate::core::io::time::Time;
use crate::limits;

/// How the peer died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Every path fell silent. `gone`: whether this node still reached the LAN then. If so, the peer is gone; else this
    /// node is cut off. `None` while the reach hosts are being asked.
    Silent {
        /// See above.
        gone: Option<bool>,
    },
    /// It sent a farewell: it holds nothing, and its incarnation has ended.
    Goodbye,
    /// Its guard sent the last will: its heart died, the addresses are removed, and the incarnation has ended. Services
    /// may still run there.
    Will,
}

/// Whether it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// No frame counted since this node's start. That is not death.
    NeverHeard,
    /// Heard.
    Alive {
        /// Since when without interruption.
        since: Time,
    },
    /// Dead.
    Dead {
        /// How.
        death: Death,
        /// When that was found.
        at: Time,
    },
}

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It counted. `new_incarnation`: it ended an older incarnation or was the first of all. `newest`: its content
    /// counts, and not only that the path works.
    Counted {
        /// See above.
        new_incarnation: bool,
        /// See above.
        newest: bool,
    },
    /// Authentic, but without this node's incarnation: to be answered.
    Introduction,
    /// Authentic, but sent too long ago to be a sign of life.
    Past,
    /// Dropped.
    Refused(DropReason),
}

/// What is known of the peer.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The proven incarnation that has not ended.
    incarnation: Option<u64>,
    /// The newest incarnation that ended.
    ended: Option<u64>,
    /// This node's time when it ended; see the two-way proof above.
    ended_at: Time,
    /// The highest sequence of a beat over all paths: only the content of a newer one counts.
    sequence: u64,
    /// The numbers of its frames.
    numbers: Numbers,
    /// Newest counted beat.
    last: Option<Beat>,
    /// Newest part of each group, in this incarnation.
    groups: Vec<Option<GroupBeat>>,
    /// When the current incarnation was proven.
    met_at: Time,
    /// The newest time of this node's clock that the current incarnation has echoed.
    echoed: Time,
    /// When another incarnation than the current one introduced itself last.
    introduced_at: Time,
    /// Whether it lives.
    pub life: Life,
}

impl Peer {
    /// Nothing known.
    pub fn new(groups: usize) -> Peer {
        Peer {
            incarnation: None,
            ended: None,
            ended_at: Time(0),
            sequence: 0,
            numbers: Numbers::default(),
            last: None,
            groups: vec![None; groups],
            met_at: Time(0),
            echoed: Time(0),
            introduced_at: Time(0),
            life: Life::NeverHeard,
        }
    }

    /// The proven incarnation; `None` before any, and after a goodbye or a last will.
    pub fn incarnation(&self) -> Option<u64> {
        self.incarnation
    }

    /// The newest counted beat of the current or last incarnation.
    pub fn last(&self) -> Option<&Beat> {
        self.last.as_ref()
    }

    /// When its current incarnation was proven.
    pub fn met_at(&self) -> Time {
        self.met_at
    }

    /// A time of this node's clock after which its newest frame was sent. Each path echoes what came on it, so the
    /// newest frame need not have the newest echo.
    pub fn spoke_after(&self) -> Time {
        self.echoed
    }

    /// Whether no other incarnation introduced itself since its newest frame.
    pub fn is_undisputed(&self) -> bool {
        self.echoed > self.introduced_at
    }

    /// Whether it is heard now.
    pub fn is_alive(&self) -> bool {
        matches!(self.life, Life::Alive { .. })
    }

    /// Whether a frame of the current incarnation was sent too long ago to be a sign of life.
    pub fn is_past(&self, now: Time, number: u64) -> bool {
        match self.life {
            Life::Dead { .. } => self.numbers.is_passed(number),
            Life::Alive { .. } | Life::NeverHeard => self.numbers.is_old(now, number),
        }
    }

    /// A pulse of the current incarnation counted.
    pub fn pulsed(&mut self, now: Time, number: u64) {
        self.numbers.came(now, number);
    }

    /// Whether it is certainly dead: a sole owner then serves on, whatever happens to its reach.
    pub fn is_gone(&self) -> bool {
        match self.life {
            Life::Dead { death, .. } => match death {
                Death::Silent { gone } => gone == Some(true),
                Death::Goodbye | Death::Will => true,
            },
            Life::Alive { .. } | Life::NeverHeard => false,
        }
    }

    /// Whether its incarnation is too new to know its reach.
    pub fn has_just_started(&self, now: Time) -> bool {
        now.since(self.met_at) < limits::YIELD_PATIENCE
    }

    /// Whether it is heard and in standby mode.
    pub fn is_standby(&self) -> bool {
        self.is_alive() && self.last.as_ref().is_some_and(|beat| beat.state == NodeState::Standby)
    }

    /// Whether its newest beat allows this node to claim if the peer falls silent.
    pub fn told_may_claim(&self) -> bool {
        self.last.as_ref().is_some_and(|beat| beat.may_claim)
    }

    /// The paths on which it hears this node.
    pub fn hears(&self) -> PathSet {
        self.last.as_ref().map(|beat| beat.hears).unwrap_or_default()
    }

    /// Its own worst recent gap.
    pub fn worst_gap(&self) -> Duration {
        Duration::from_millis(self.last.as_ref().map_or(0, |beat| u64::from(beat.worst_gap_ms)))
    }

    /// The same, as far as it is heeded.
    pub fn heeded_gap(&self) -> Duration {
        self.worst_gap().min(limits::GAP_HEEDED_MAX)
    }

    /// Its newest entry for a group, in this incarnation.
    pub fn group(&self, group: GroupIndex) -> Option<GroupBeat> {
        self.groups.get(usize::from(group.0)).copied().flatten()
    }

    /// Its stance towards a group, if it is heard and has stated one.
    pub fn stance(&self, group: GroupIndex) -> Option<Stance> {
        if self.is_alive() { self.group(group).map(|part| part.stance) } else { None }
    }

    /// Judges an authentic frame and takes it in if it counts. `prove`: false only where a test shows
    /// what the two-way proof is for.
    pub fn receive(
        &mut self,
        now: Time,
        me: u64,
        watches: &mut [PathWatch; 3],
        path: Path,
        beat: &Beat,
        prove: bool,
    ) -> Verdict {
        if prove && self.ended == Some(beat.incarnation) {
            return Verdict::Refused(DropReason::EndedIncarnation);
        }
        let proven = beat.peer_incarnation == me || !prove;
        let new_incarnation = self.incarnation != Some(beat.incarnation);
        // Without an echo nothing shows that the frame is fresh.
        if !proven || (new_incarnation && prove && beat.echo_us == 0) {
            if new_incarnation {
                self.introduced_at = now;
            }
            return Verdict::Introduction;
        }
        let known_since = self.ended_at.max(self.met_at);
        if new_incarnation && prove && Time(beat.echo_us) <= known_since {
            return Verdict::Refused(DropReason::EndedIncarnation);
        }
        let stale = |watch: &PathWatch| watch.path == path && beat.sequence <= watch.sequence;
        if !new_incarnation && watches.iter().any(stale) {
            return Verdict::Refused(DropReason::Replay);
        }
        // A farewell and a last will stay true however late they come.
        let ends = beat.will || beat.farewell;
        if !new_incarnation && prove && !ends && self.is_past(now, beat.sequence) {
            return Verdict::Past;
        }
        if new_incarnation {
            if self.incarnation.is_some() {
                self.end(now);
            }
            self.incarnation = Some(beat.incarnation);
            self.met_at = now;
            self.sequence = 0;
            self.numbers = Numbers::default();
            self.echoed = Time(0);
            self.groups.fill(None);
            for watch in watches.iter_mut() {
                watch.begin_anew();
            }
        }
        self.echoed = self.echoed.max(Time(beat.echo_us));
        for watch in watches.iter_mut().filter(|watch| watch.path == path) {
            watch.heard(now, beat.sequence, round_trip(now, beat), Time(beat.echo_us));
            watch.echo =
                Some(Echo { incarnation: beat.incarnation, sent_us: beat.sent_us, at: now });
        }
        if !self.is_alive() {
            self.life = Life::Alive { since: now };
        }
        self.numbers.came(now, beat.sequence);
        let newest = beat.sequence > self.sequence;
        if newest {
            self.take_in(beat);
        }
        Verdict::Counted { new_incarnation, newest }
    }

    /// Takes in the content of its newest beat.
    fn take_in(&mut self, beat: &Beat) {
        self.sequence = beat.sequence;
        for part in &beat.groups {
            if let Some(slot) = self.groups.get_mut(usize::from(part.group.0)) {
                // Plain serial frames have no room for the copy's detail, and a will says nothing of it: keep what is
                // known.
                let known = slot.and_then(|known: GroupBeat| known.copy.detail);
                let said = part.copy.detail.filter(|_| !beat.will);
                let copy = CopyBeat { detail: said.or(known), ..part.copy };
                *slot = Some(GroupBeat { copy, ..*part });
            }
        }
        // Serial frames have no room for the addresses: keep what is known.
        let (lan_mac, sync) = match &self.last {
            Some(last) if beat.lan_mac == [0; 6] => (last.lan_mac, last.sync),
            Some(_) | None => (beat.lan_mac, beat.sync),
        };
        self.last = Some(Beat { lan_mac, sync, ..beat.clone() });
    }

    /// Where it accepts mirror sessions on the crossover.
    pub fn sync_address(&self) -> Option<Ipv6Addr> {
        let sync = self.last.as_ref()?.sync;
        let [a, b, c, d, e, f, g, h] = sync;
        (sync != [0; 8])
            .then(|| Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h]))
    }

    /// The newest generation of a group that it knows.
    pub fn generation(&self, group: GroupIndex) -> Option<Generation> {
        let part = self.group(group).filter(|part| part.generation > 0)?;
        Some(Generation { number: part.generation, owner: part.owner, id: part.id })
    }

    /// The current incarnation has ended: nothing of it counts from now on.
    pub fn end(&mut self, now: Time) {
        self.ended = self.incarnation.take();
        self.ended_at = now;
    }
}

/// The round trip that a beat proves: this node's time since the echoed beat, less how long the peer kept that. If the
/// peer kept it long, there is none: the path works in one direction only, and the two clocks may have drifted apart.
fn round_trip(now: Time, beat: &Beat) -> Option<Duration> {
    let held = Duration::from_micros(u64::from(beat.echo_held_us));
    let shows = beat.echo_us != 0 && held <= limits::ECHO_HELD_MAX;
    shows.then(|| now.since(Time(beat.echo_us) + held))
}
