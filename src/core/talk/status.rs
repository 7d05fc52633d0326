//! The core's part of `status`: everything it knows, in the terms of the contract.

use crate::beat::{DropReason, Path, Stance};
use crate::config::GroupIndex;
use crate::control::status::{
    Address, Direction, Group, GroupState as Word, Mirror, MirrorState, PathStatus, Peer,
    PeerState, Reach, Status,
};
use crate::core::Core;
use crate::core::evidence::path::PathWatch;
use crate::core::evidence::peer::{Death, Life};
use crate::core::group::order::{ServiceDuty, ServiceWord};
use crate::core::group::role::{GroupState, Role};
use crate::core::group::step::Side;
use crate::core::io::time::Time;
use crate::limits;

impl Core {
    /// What this node knows, as of `now`.
    pub fn status(&self, now: Time) -> Status {
        let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        Status {
            cluster: self.config.cluster.clone(),
            node: self.config.node(self.me).name.clone(),
            state: self.node_state(),
            version: env!("CARGO_PKG_VERSION").to_string(),
            incarnation: format!("{:016x}", self.incarnation),
            guarded: self.guarded,
            worst_gap_ms: u64::try_from(self.gaps.ever().as_millis()).unwrap_or(u64::MAX),
            r#loop: self.lateness.status(),
            peer: self.peer_status(now),
            reach: Reach {
                local: count(self.evidence.reach.count(now)),
                peer: self.evidence.peer.last().map_or(0, |beat| beat.reach),
                of: count(self.evidence.reach.hosts()),
            },
            key: self.key_state,
            troubles: self.troubles(now),
            groups: self.groups.iter().map(|group| self.group_status(now, group)).collect(),
        }
    }

    /// Whether this node would hand a group over, which `status` does not tell.
    #[cfg(test)]
    pub fn offers(&self, group: GroupIndex) -> bool {
        let group = self.groups.get(usize::from(group.0));
        group.is_some_and(|group| self.stance(group) == Stance::Offering)
    }

    fn peer_status(&self, now: Time) -> Peer {
        let last = self.evidence.peer.last();
        let state = match self.evidence.peer.life {
            Life::NeverHeard => PeerState::Unknown,
            Life::Dead { .. } => PeerState::Dead,
            Life::Alive { .. } => {
                if self.evidence.peer.is_standby() {
                    PeerState::Standby
                } else if self.evidence.configured().all(|watch| watch.is_late(now)) {
                    PeerState::Suspect
                } else {
                    PeerState::Alive
                }
            }
        };
        Peer {
            name: self.config.node(self.me.other()).name.clone(),
            state,
            ended: matches!(self.evidence.peer.life, Life::Dead { death: Death::Goodbye, .. }),
            incarnation: last.map_or_else(String::new, |b| format!("{:016x}", b.incarnation)),
            same_config: last.map(|beat| beat.digest == self.config.digest),
            paths: self.evidence.paths.iter().map(|watch| self.path_status(now, watch)).collect(),
        }
    }

    fn path_status(&self, now: Time, watch: &PathWatch) -> PathStatus {
        let carrier = match watch.path {
            Path::Crossover => self.evidence.crossover.up(),
            Path::Lan => Some(self.evidence.reach.carrier()),
            Path::Serial => self.evidence.modem.up(),
        };
        let micros =
            |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let by = DropReason::ALL.iter().zip(watch.refused).filter(|(_, count)| *count > 0);
        PathStatus {
            name: watch.path.name().to_string(),
            state: watch.state(
                now,
                self.evidence.peer.worst_gap(),
                self.evidence.peer.hears().has(watch.path),
            ),
            carrier,
            heard_ms: watch.counted_at.map(|at| micros(now.since(at)) / 1_000),
            rtt_us: watch.rtt.map(micros),
            lost: watch.lost,
            refused: watch.refused.iter().sum(),
            refused_by: by.map(|(reason, count)| (reason.name().to_string(), count)).collect(),
        }
    }

    fn group_status(&self, now: Time, group: &GroupState) -> Group {
        let names = self.config.groups.get(usize::from(group.index.0));
        let leased = match &group.role {
            Role::Active(active) if active.held => {
                Some(limits::LEASE.saturating_sub(now.since(active.leased_at)))
            }
            Role::Active(_)
            | Role::Passive { .. }
            | Role::Wanting { .. }
            | Role::Probing { .. }
            | Role::Releasing { .. }
            | Role::Draining(_) => None,
        };
        let lease_ms = leased.map_or(0, |left| left.as_millis() as u64);
        let addresses = names.map(|group| group.addresses.as_slice()).unwrap_or_default();
        Group {
            name: group.name.clone(),
            state: self.group_word(group),
            in_service: self.is_in_service(group),
            owner: self.owner(group),
            redundant: self.is_redundant(now, group),
            generation: self.disk.served(&group.name).map_or(0, |served| served.number),
            why: self.why(now, group),
            addresses: addresses
                .iter()
                .map(|address| Address {
                    address: address.to_string(),
                    held: leased.is_some()
                        && !group.refused.contains(&address.ip)
                        && !group.adding.as_ref().is_some_and(|new| new.ips.contains(&address.ip)),
                    lease_ms,
                })
                .collect(),
            services: group.duties.service_report().map(|r| r.services.clone()).unwrap_or_default(),
            mirror: self.mirror_status(group),
        }
    }

    fn mirror_status(&self, group: &GroupState) -> Mirror {
        if !group.duties.has_mirror() {
            return Mirror::off();
        }
        let reported = group.duties.mirror_report().map(|report| report.status.clone());
        let mut mirror = reported.unwrap_or_else(|| Mirror {
            state: MirrorState::Paused,
            why: "the worker has not yet looked at it".to_string(),
            ..Mirror::off()
        });
        if self.lacks_worker(group) {
            (mirror.state, mirror.why) =
                (MirrorState::Paused, crate::core::group::worker::silent_text());
        }
        if self.is_forked(group) {
            (mirror.state, mirror.why) = (MirrorState::Conflict, self.forked_text(group));
        }
        let told =
            self.evidence.peer.group(group.index).filter(|_| mirror.direction == Direction::In);
        if let Some(detail) = told.and_then(|part| part.copy.detail) {
            mirror.pending_files = detail.files.value();
            mirror.pending_bytes = detail.bytes.value();
        }
        mirror
    }

    /// Whether this node serves the group with its addresses and services.
    pub(in crate::core) fn serves(&self, group: &GroupState) -> bool {
        let held = matches!(&group.role, Role::Active(active) if active.held);
        held && group.duties.services_are(ServiceDuty::Run) == ServiceWord::Done
    }

    /// Whether its owner serves it with addresses and services; both nodes report the same.
    fn is_in_service(&self, group: &GroupState) -> bool {
        match (&group.role, self.side(group)) {
            (Role::Active(_), _) => self.group_word(group) == Word::Active,
            (_, Side::Says(stance)) if stance.may_hold() => {
                self.evidence.peer.group(group.index).is_some_and(|part| part.serving)
            }
            (_, Side::Says(_) | Side::Dead | Side::Unknown) => false,
        }
    }

    /// Why it is in this state; what happened long ago is marked as old.
    fn why(&self, now: Time, group: &GroupState) -> String {
        let held_since = match &group.role {
            Role::Active(active) => active.held_since,
            Role::Passive { .. }
            | Role::Wanting { .. }
            | Role::Probing { .. }
            | Role::Releasing { .. }
            | Role::Draining(_) => None,
        };
        let age = held_since.map(|at| now.since(at)).filter(|age| age.as_secs() >= 60);
        let explained = group.explained();
        match age {
            Some(age) => format!("{explained} (for {})", super::events::age_text(age)),
            None => explained,
        }
    }

    fn group_word(&self, group: &GroupState) -> Word {
        match &group.role {
            Role::Active(active) if active.stopping.is_some() => Word::Stopping,
            Role::Active(active) if active.held => match group.duties.running(self.now) {
                ServiceWord::Done => Word::Active,
                ServiceWord::Unknown | ServiceWord::Changing => Word::Starting,
                ServiceWord::Failed => Word::Failed,
            },
            Role::Active(_) | Role::Probing { .. } | Role::Wanting { .. } => Word::Starting,
            Role::Releasing { .. } | Role::Draining(_) => Word::Stopping,
            Role::Passive { .. } => {
                let served_by_peer = self.side(group).may_hold();
                // `blocked` needs the administrator: this node should serve and may not.
                let excused =
                    self.evidence.peer.is_alive() || self.disk.standby_wanted() || !self.joined;
                let unsure = group.unsure_told_at.is_some();
                if group.blocked.is_some() || unsure || !(served_by_peer || group.able || excused) {
                    Word::Blocked
                } else {
                    Word::Passive
                }
            }
        }
    }

    /// Who serves it, as far as this node knows now.
    fn owner(&self, group: &GroupState) -> Option<String> {
        let here = matches!(&group.role, Role::Active(active) if active.held);
        if here {
            return Some(self.config.node(self.me).name.clone());
        }
        match self.side(group) {
            Side::Says(Stance::Active | Stance::Offering) => {
                Some(self.config.node(self.me.other()).name.clone())
            }
            Side::Says(_) | Side::Dead | Side::Unknown => None,
        }
    }

    /// Whether the node that does not serve the group could take it over now. If the owner's disk may say `alone`, its
    /// beats do not allow the other node to claim. Until it is known whether ARP answers would come on this LAN, this
    /// is false; where none come, it is true, and an event says that a takeover waits for the lease.
    fn is_redundant(&self, now: Time, group: &GroupState) -> bool {
        if self.lacks_worker(group) {
            return false;
        }
        let here = matches!(&group.role, Role::Active(active) if active.held);
        match self.side(group) {
            Side::Says(Stance::Active | Stance::Offering) => {
                let may_claim = self.evidence.peer.told_may_claim() && !self.disk.standby_wanted();
                let asked = group.lan.is_proven(now) || group.lan.is_mute();
                !here && group.able && may_claim && asked && self.is_mirrored(group)
            }
            Side::Says(Stance::Passive | Stance::Wanting(_) | Stance::Granting(_)) => {
                let may_claim = self.disk.surely_not_alone() && !self.evidence.peer.is_standby();
                here && may_claim && self.is_mirrored(group)
            }
            Side::Says(Stance::Unable | Stance::Claiming) | Side::Dead | Side::Unknown => false,
        }
    }

    /// Whether the mirror works and the standby side's copy is recent enough.
    fn is_mirrored(&self, group: &GroupState) -> bool {
        if !group.duties.has_mirror() {
            return true;
        }
        let max_s = self.config.groups.get(usize::from(group.index.0));
        let max_s = max_s.map_or(0, |config| config.max_behind.as_secs());
        let owner = matches!(&group.role, Role::Active(_));
        let near = !owner || u64::from(self.unsent(group).age_s()) <= max_s;
        near && group.duties.mirror_report().is_some_and(|report| {
            let works = match report.status.state {
                MirrorState::InSync | MirrorState::Syncing | MirrorState::Behind => true,
                MirrorState::Paused
                | MirrorState::Conflict
                | MirrorState::Blocked
                | MirrorState::Off => false,
            };
            works && report.stuck == 0 && !self.is_forked(group)
        })
    }

    /// Asserts the invariants. Called after every event in tests and simulation.
    ///
    /// # Panics
    /// When the core is in a state that no sequence of events may lead to.
    pub fn check_invariants(&self) {
        for group in &self.groups {
            let GroupIndex(index) = group.index;
            if let Role::Active(active) = &group.role {
                let served = self.disk.served(&group.name);
                assert!(
                    !active.has_begun()
                        || served.is_some_and(|served| served.number >= active.generation.number),
                    "group {index} is served in a generation that the disk will not know"
                );
                assert!(!self.is_sweeping(), "group {index} is served before the sweep is done");
                assert!(
                    active.claim <= self.claim,
                    "group {index} has a claim number that was never given"
                );
            }
            if let Role::Passive { granted: Some(want) } = group.role {
                assert!(want != 0, "group {index} grants the want number 0");
            }
        }
        assert!(self.deadline > self.now || self.is_ended(), "the deadline is not ahead");
    }

    fn is_sweeping(&self) -> bool {
        self.phase == crate::core::Phase::Sweeping
    }

    fn is_ended(&self) -> bool {
        self.phase == crate::core::Phase::Ended
    }
}
