//! Speaking: heartbeats in their rounds, asks, answers and goodbyes.

use std::net::Ipv6Addr;

use crate::beat::{Beat, CopyBeat, GroupBeat, Path, PathSet, Pulse, PulseKind, Stance};
use crate::config::{GroupIndex, NodeIndex};
use crate::control::status::PathState;
use crate::core::evidence::path::PathWatch;
use crate::core::group::role::{GroupState, Role};
use crate::core::io::disk::Generation;
use crate::core::io::time::Time;
use crate::core::{Command, Core, Phase};
use crate::limits;

impl Core {
    /// Sends what is due: a whole round, or a beat at once on the fast paths if something changed.
    pub(in crate::core) fn speak(&mut self, now: Time) {
        if now >= self.round_at {
            let interval = self.evidence.pace.sends;
            self.gaps.saw(now, now.since(self.last_round));
            self.last_round = now;
            // Rounds keep their phase, but missed ones are not sent later.
            let step = self.round_at + interval;
            self.round_at = if step > now { step } else { now + interval };
            self.round = self.round.wrapping_add(1);
            let late = self.evidence.configured().any(|watch| watch.is_late(now));
            let due = self.evidence.looked_at + limits::CARRIER_LOOK_EVERY;
            if late || now + interval > due {
                self.look_at_carriers(now);
            }
            // The serial line last: the beats of the fast paths arrive together and wake the peer once.
            for path in [Path::Crossover, Path::Lan, Path::Serial] {
                self.send_round(now, path);
            }
        } else if self.beat_now {
            let asking = self.evidence.configured().any(|watch| watch.asked_at.is_some());
            self.send_fast(now, asking);
        }
        self.beat_now = false;
    }

    fn send_round(&mut self, now: Time, path: Path) {
        let asking = self.evidence.configured().any(|watch| watch.asked_at.is_some());
        let Some(watch) = self.evidence.configured().find(|watch| watch.path == path) else {
            return;
        };
        if !self.round.is_multiple_of(watch.rounds.max(1)) {
            return;
        }
        if path == Path::Serial {
            // Asks go ahead of beats, and prove as well that this node lives.
            if self.evidence.is_urgent(now) || self.evidence.asks_line_first(now) {
                return;
            }
            if !asking && self.gives_sign_of_life(now) {
                return;
            }
        }
        self.send(now, path, asking, false, None);
    }

    /// Sends a sign of life on serial, if that is enough.
    fn gives_sign_of_life(&mut self, now: Time) -> bool {
        let Some(peer_incarnation) = self.evidence.peer.incarnation() else { return false };
        let (gap, hears) = (self.evidence.peer.worst_gap(), self.evidence.peer.hears());
        let alone = !self.evidence.configured().any(|watch| {
            let state = watch.state(now, gap, hears.has(watch.path));
            watch.path != Path::Serial && state == PathState::Up
        });
        let beat = self.beat(now, Path::Serial, false, false, None);
        if self.line.needs_beat(beat, alone) {
            return false;
        }
        self.sequence += 1;
        let (incarnation, number) = (self.incarnation, self.sequence);
        let life = Pulse { kind: PulseKind::Life, incarnation, peer_incarnation, number };
        self.out.push_back(Command::Pulse(life));
        true
    }

    /// Sends at once on the paths that have no bandwidth to spare.
    fn send_fast(&mut self, now: Time, ask: bool) {
        for path in [Path::Crossover, Path::Lan] {
            self.send(now, path, ask, false, None);
        }
    }

    /// Asks the peer to answer at once; a live heart does.
    pub(in crate::core) fn ask(&mut self, now: Time) {
        // One frame may get lost: after a lost carrier it asks more than once.
        self.ask_again_at = Some(now + limits::ASK_AGAIN_AFTER);
        self.send_fast(now, true);
        let on_serial = self.pulse(now);
        let hears = self.evidence.peer.hears();
        let asked = |watch: &&mut PathWatch| watch.path != Path::Serial || on_serial;
        for watch in self.evidence.paths.iter_mut().filter(|watch| watch.configured).filter(asked) {
            watch.begin_asking(now, hears.has(watch.path));
        }
    }

    /// Asks on the serial line, as often as it can carry.
    pub(in crate::core) fn ask_line(&mut self, now: Time) {
        if self.pulse(now) {
            let hears = self.evidence.peer.hears().has(Path::Serial);
            self.watch_mut(Path::Serial, |watch| watch.begin_asking(now, hears));
        }
    }

    /// A pulse on serial now and then, so that its round trip is known when it matters.
    pub(in crate::core) fn pulse_at_rest(&mut self, now: Time) {
        if now >= self.pulse_at {
            self.pulse(now);
        }
    }

    /// Asks on the serial line, if there is one, the peer's incarnation is known and the line is free;
    /// whether it did.
    fn pulse(&mut self, now: Time) -> bool {
        let Some(peer_incarnation) = self.evidence.peer.incarnation() else { return false };
        let first = self
            .evidence
            .paths
            .iter()
            .any(|watch| watch.path == Path::Serial && watch.needs_pulses());
        self.pulse_at =
            now + if first { limits::PULSE_EVERY_AT_FIRST } else { limits::PULSE_EVERY };
        let number = self.sequence + 1;
        let mut asks = false;
        self.watch_mut(Path::Serial, |watch| {
            asks = watch.configured && watch.may_ask(now);
            if asks {
                watch.asks(now, number);
            }
        });
        if asks {
            self.sequence = number;
            let incarnation = self.incarnation;
            let ask = Pulse { kind: PulseKind::Ask, incarnation, peer_incarnation, number };
            self.out.push_back(Command::Pulse(ask));
        }
        asks
    }

    /// Answers an ask or an introduction at once, on its path, to the incarnation that sent it.
    pub(in crate::core) fn answer(&mut self, now: Time, path: Path, beat: &Beat) {
        if self.phase != Phase::Running {
            return;
        }
        let mut answers = false;
        self.watch_mut(path, |watch| {
            let early = watch.answered_at.is_some_and(|at| now.since(at) < limits::ANSWER_GAP);
            answers = watch.configured && !early;
            if answers {
                watch.answered_at = Some(now);
            }
        });
        if answers {
            let to = crate::core::evidence::path::Echo {
                incarnation: beat.incarnation,
                sent_us: beat.sent_us,
                at: now,
            };
            self.send(now, path, false, false, Some(to));
        }
    }

    /// Sends a few farewells, then ends.
    pub(in crate::core) fn farewell(&mut self, now: Time) {
        let Phase::Farewell { sent, next_at } = self.phase else { return };
        if now < next_at {
            return;
        }
        if sent >= limits::FAREWELLS {
            self.phase = Phase::Ended;
            self.out.push_back(Command::Exit);
            return;
        }
        for path in Path::ALL {
            if self.evidence.configured().any(|watch| watch.path == path) {
                self.send(now, path, false, true, None);
            }
        }
        self.phase = Phase::Farewell { sent: sent + 1, next_at: now + limits::FAREWELL_GAP };
    }

    /// Sends one beat. `to`: the incarnation to answer, if not the proven one.
    fn send(
        &mut self,
        now: Time,
        path: Path,
        ask: bool,
        farewell: bool,
        to: Option<crate::core::evidence::path::Echo>,
    ) {
        self.sequence += 1;
        self.watch_mut(path, |watch| watch.sends(now));
        let beat = self.beat(now, path, ask, farewell, to);
        self.out.push_back(Command::Send { path, beat });
    }

    fn beat(
        &self,
        now: Time,
        path: Path,
        ask: bool,
        farewell: bool,
        to: Option<crate::core::evidence::path::Echo>,
    ) -> Beat {
        let proven = self.evidence.peer.incarnation();
        let known =
            self.evidence.configured().find(|watch| watch.path == path).and_then(|w| w.echo);
        let peer_incarnation = to.map(|echo| echo.incarnation).or(proven).unwrap_or(0);
        let echo = to.or(known).filter(|echo| echo.incarnation == peer_incarnation);
        let mut hears = PathSet::default();
        for watch in self.evidence.configured().filter(|watch| !watch.is_late(now)) {
            hears = hears.with(watch.path);
        }
        let held_us = echo.map_or(0, |echo| now.since(echo.at).as_micros());
        let reach = |count: usize| u8::try_from(count).unwrap_or(u8::MAX);
        Beat {
            node: self.me,
            incarnation: self.incarnation,
            peer_incarnation,
            sequence: self.sequence,
            sent_us: now.0.max(1),
            echo_us: echo.map_or(0, |echo| echo.sent_us),
            echo_held_us: u32::try_from(held_us).unwrap_or(u32::MAX),
            ask_answer: ask,
            farewell,
            will: false,
            state: self.node_state(),
            may_claim: self.disk.surely_not_alone(),
            hears,
            lan_carrier: self.evidence.reach.carrier(),
            reach: reach(self.evidence.reach.count(now)),
            reach_of: reach(self.evidence.reach.hosts()),
            worst_gap_ms: u16::try_from(self.gaps.recent().as_millis()).unwrap_or(u16::MAX),
            lan_mac: [0; 6],
            sync: self.sync_address.map_or([0; 8], interface_part),
            digest: self.config.digest,
            wish: self.wishes.outgoing(),
            answer: self.wishes.answer(),
            groups: self.group_beats().collect(),
        }
    }

    /// Of all groups, or of as many as a beat has room for: the config allows no more.
    fn group_beats(&self) -> impl Iterator<Item = GroupBeat> {
        self.groups.iter().take(limits::GROUPS_MAX).map(|group| self.group_beat(group))
    }

    /// For its beats: whether it is in service here, or its services still run.
    pub(in crate::core) fn says_serving(&self, group: &GroupState) -> bool {
        match &group.role {
            Role::Active(_) => self.serves(group),
            Role::Passive { .. }
            | Role::Wanting { .. }
            | Role::Probing { .. }
            | Role::Releasing { .. }
            | Role::Draining(_) => group.duties.still_stops(),
        }
    }

    /// This node's stance, for its beats. A generation of trees is only claimed until the disk contains it, so what the
    /// peer knows and this node's disk does not, proves that the disk was set back (P3).
    pub(in crate::core) fn stance(&self, group: &GroupState) -> Stance {
        match &group.role {
            Role::Passive { granted: Some(want) } => Stance::Granting(*want),
            Role::Passive { granted: None } => {
                if group.able {
                    Stance::Passive
                } else {
                    Stance::Unable
                }
            }
            Role::Wanting { want, .. } | Role::Probing { want, .. } => Stance::Wanting(*want),
            Role::Active(active) => {
                if active.offer.is_some() {
                    Stance::Offering
                } else if !active.has_begun() || !self.is_on_record(group, active.generation) {
                    Stance::Claiming
                } else {
                    Stance::Active
                }
            }
            Role::Releasing { handover: true, .. } | Role::Draining(_) => Stance::Offering,
            Role::Releasing { handover: false, .. } => Stance::Active,
        }
    }

    fn group_beat(&self, group: &GroupState) -> GroupBeat {
        let stance = self.stance(group);
        let generation = match &group.role {
            Role::Active(active) if stance == Stance::Claiming => Some(active.generation),
            Role::Active(_)
            | Role::Passive { .. }
            | Role::Wanting { .. }
            | Role::Probing { .. }
            | Role::Releasing { .. }
            | Role::Draining(_) => self.newest_on_record(group),
        };
        let (serving, copy) = (self.says_serving(group), self.copy_beat(group));
        group_beat(group.index, stance, serving, generation, copy)
    }
}

/// A group's part of a beat that names this generation.
pub(in crate::core) fn group_beat(
    group: GroupIndex,
    stance: Stance,
    serving: bool,
    generation: Option<Generation>,
    copy: CopyBeat,
) -> GroupBeat {
    GroupBeat {
        group,
        stance,
        serving,
        generation: generation.map_or(0, |named| named.number),
        owner: generation.map_or(NodeIndex::Lower, |named| named.owner),
        id: generation.map_or(0, |named| named.id),
        copy,
    }
}

/// The lower half of a link-local address; the upper is always fe80::.
fn interface_part(address: Ipv6Addr) -> [u8; 8] {
    address.octets().last_chunk().copied().unwrap_or_default()
}
