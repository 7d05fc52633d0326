//! A group's state machine (drawn in `role`): one step looks at the role, the peer's stance and the evidence, and
//! returns the next role. This file has the roles that hold nothing; the way to a claim is in `claim`, the owner in
//! `owner`.

use std::time::Duration;

use super::role::{GroupState, Role};
use crate::beat::Stance;
use crate::core::Core;
use crate::core::admin::reload::Adding;
use crate::core::evidence::peer::Life;
use crate::core::io::time::{Soonest, Time};
use crate::limits;

/// The peer's stance towards a group, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::core) enum Side {
    /// Never heard, or without an entry for this group yet.
    Unknown,
    /// Dead, however that is known.
    Dead,
    /// Heard; its stance.
    Says(Stance),
}

impl Side {
    /// Whether it may hold the group's addresses, as it says.
    pub fn may_hold(self) -> bool {
        match self {
            Side::Says(stance) => stance.may_hold(),
            Side::Unknown | Side::Dead => false,
        }
    }
}

impl Core {
    /// Steps every group until nothing changes any more.
    pub(in crate::core) fn step_groups(&mut self, now: Time) {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            for _ in 0..limits::GROUP_STEPS_MAX {
                let role = group.role.clone();
                self.step(now, group);
                self.order_duties(group);
                let says = (self.stance(group), self.says_serving(group));
                if group.says != Some(says) {
                    group.says = Some(says);
                    self.beat_now = true;
                }
                if group.role == role {
                    break;
                }
            }
        }
        self.groups = groups;
        let checking = |group: &GroupState| match &group.role {
            Role::Active(active) => active.check.is_some(),
            Role::Passive { .. }
            | Role::Wanting { .. }
            | Role::Probing { .. }
            | Role::Releasing { .. }
            | Role::Draining(_) => false,
        };
        self.stalled = self.groups.iter().any(checking);
    }

    pub(in crate::core) fn side(&self, group: &GroupState) -> Side {
        match self.evidence.peer.life {
            Life::NeverHeard => Side::Unknown,
            Life::Dead { .. } => Side::Dead,
            Life::Alive { .. } => {
                self.evidence.peer.stance(group.index).map_or(Side::Unknown, Side::Says)
            }
        }
    }

    fn step(&mut self, now: Time, group: &mut GroupState) {
        let side = self.side(group);
        self.step_adding(now, group);
        if group.blocked.as_ref().is_some_and(|(until, _)| now >= *until) {
            group.blocked = None;
        }
        if side.may_hold() || matches!(side, Side::Dead | Side::Unknown) {
            group.letting_since = None;
        }
        if matches!(side, Side::Says(_)) {
            group.unsure_told_at = None;
            group.serves_on = false;
        }
        if side != Side::Says(Stance::Offering) {
            group.offered_at = None;
        } else if group.offered_at.is_none() && !group.may_hold() {
            group.offered_at = Some(now);
            self.evidence.reach.suspect(now);
            self.look_at_carriers(now);
        }
        self.note_begun(group);
        self.note_fork(group);
        self.note_unsent(group);
        group.able = self.is_able(now, group);
        let role = std::mem::replace(&mut group.role, Role::Passive { granted: None });
        group.role = match role {
            Role::Passive { granted } => self.step_passive(now, group, side, granted),
            Role::Wanting { want, since, served } => {
                self.step_wanting(now, group, side, want, since, served)
            }
            Role::Probing { want, granted } => self.step_probing(now, group, side, want, granted),
            Role::Active(active) => self.step_active(now, group, side, active),
            Role::Releasing { handover, repeat_at, drain } => {
                if now >= repeat_at {
                    self.command_release(group);
                    let repeat_at = now + limits::RELEASE_REPEAT;
                    Role::Releasing { handover, repeat_at, drain }
                } else {
                    Role::Releasing { handover, repeat_at, drain }
                }
            }
            Role::Draining(draining) => self.step_draining(now, group, side, draining),
        };
    }

    /// Whether this node could serve the group if the peer granted it.
    fn is_able(&mut self, now: Time, group: &GroupState) -> bool {
        // If the peer is unable or dead, better here than nowhere. A peer that grants may be unable, too.
        let elsewhere = !matches!(
            self.side(group),
            Side::Says(Stance::Unable | Stance::Granting(_)) | Side::Dead
        );
        let unfit = elsewhere && group.unfit_until.is_some_and(|until| now < until);
        // A node that waits too long for the mirror's first report must not keep the peer from serving.
        let mute = group.duties.has_mirror() && group.duties.mirror_report().is_none();
        let mute = mute && !self.worker_word().may_come();
        // In need it is better than nothing, but while the peer serves it is no redundancy (P6).
        let idle_fails =
            self.side(group) == Side::Says(Stance::Active) && group.duties.idle_fails();
        let helpless = unfit || mute || idle_fails || self.lacks_worker(group);
        group.blocked.is_none() && !helpless && self.right_by_grant(now, group, true).is_ok()
    }

    /// Whether this node's rank is higher than the peer's for a group that neither serves; see [`Standing`].
    ///
    /// [`Standing`]: super::copy::Standing
    fn outbids(&self, group: &GroupState) -> bool {
        self.standing(group) > self.peer_standing(group)
    }

    fn step_passive(
        &mut self,
        now: Time,
        group: &mut GroupState,
        side: Side,
        granted: Option<u16>,
    ) -> Role {
        let passive = Role::Passive { granted: None };
        if let Some(draining) = self.resume_drain(group, side) {
            return draining;
        }
        if let (Some(promised), Side::Says(Stance::Wanting(want))) = (granted, side)
            && promised == want
        {
            return Role::Passive { granted };
        }
        // Do not wait for a peer that cannot serve it.
        let refused = side == Side::Says(Stance::Unable) && group.unfit_until.is_none();
        let able = group.able && (now >= group.yield_until || refused);
        let nobody =
            matches!(side, Side::Says(Stance::Unable | Stance::Passive | Stance::Granting(_)));
        if nobody && able {
            group.unserved_since.get_or_insert(now);
        } else {
            group.unserved_since = None;
        }
        self.watch_lan(now, group, side);
        match side {
            Side::Says(Stance::Active | Stance::Claiming) => {
                group.why = served_there_text(group);
                passive
            }
            Side::Says(Stance::Wanting(want)) => {
                if able && self.outbids(group) {
                    return self.begin_wanting(now, group, false);
                }
                // No grant while this node's disk says `alone`.
                let granted = self.lets(now, group).then_some(want);
                group.why = "the peer is about to serve it".to_string();
                Role::Passive { granted }
            }
            Side::Says(Stance::Offering) if group.able => self.begin_wanting(now, group, true),
            Side::Says(Stance::Unable)
                if able && (self.outbids(group) || !self.evidence.peer.has_just_started(now)) =>
            {
                self.begin_wanting(now, group, false)
            }
            Side::Says(Stance::Passive | Stance::Granting(_)) if able => {
                let waited = group.unserved_since.map_or(Duration::ZERO, |since| now.since(since));
                if self.outbids(group) || waited >= limits::YIELD_PATIENCE {
                    self.begin_wanting(now, group, false)
                } else {
                    passive
                }
            }
            Side::Says(
                Stance::Offering | Stance::Unable | Stance::Passive | Stance::Granting(_),
            ) => {
                self.explain_inability(now, group);
                passive
            }
            Side::Dead | Side::Unknown => self.claim_by_silence(now, group),
        }
    }

    /// Whether to grant the peer's request: not while this node's disk says `alone`, and not while services run here
    /// that must not run on both nodes.
    fn lets(&mut self, now: Time, group: &mut GroupState) -> bool {
        let since = *group.letting_since.get_or_insert(now);
        self.disk.surely_not_alone() && self.services_stopped(now, group, since)
    }

    pub(in crate::core) fn explain_inability(&mut self, now: Time, group: &mut GroupState) {
        if let Some((_, why)) = &group.blocked {
            group.why = why.clone();
        } else if self.lacks_worker(group) {
            group.why = super::worker::silent_text();
        } else if let Err(refusal) = self.right_by_grant(now, group, true) {
            group.why = refusal.to_string();
        } else if group.unfit_until.is_some_and(|until| now < until) {
            group.why = "a service failed on this node a short while ago".to_string();
        }
    }

    pub(in crate::core) fn next_want(&mut self) -> u16 {
        self.want = self.want.checked_add(1).unwrap_or(1);
        self.want
    }

    /// The trees here do not come to rest: let the peer serve.
    pub(in crate::core) fn give_up_settling(&mut self, now: Time, group: &mut GroupState) -> Role {
        let why = "the received changes were not applied in time; check the process clusterd-work";
        self.block(now, group, why.to_string())
    }

    fn begin_wanting(&mut self, now: Time, group: &mut GroupState, served: bool) -> Role {
        group.why = "asking the peer to let this node serve it".to_string();
        group.unserved_since = None;
        Role::Wanting { want: self.next_want(), since: now, served }
    }

    fn step_wanting(
        &mut self,
        now: Time,
        group: &mut GroupState,
        side: Side,
        want: u16,
        since: Time,
        served: bool,
    ) -> Role {
        let passive = Role::Passive { granted: None };
        if !group.able {
            // An unfit node is able or not by the peer's last stance: two such nodes must not answer each other's
            // requests as fast as frames travel.
            if group.unfit_until.is_some_and(|until| now < until) {
                group.yield_until = now + limits::YIELD_PATIENCE;
            }
            return passive;
        }
        self.watch_lan(now, group, side);
        match side {
            Side::Says(Stance::Granting(granted)) if granted == want => {
                match self.right_by_grant(now, group, served) {
                    // The peer's config may lack an address that this node is about to claim.
                    Ok(right) if (right.probe || self.configs_differ) && self.obeys_probe() => {
                        group.lan.forget();
                        group.lan.begin(now, self.yields());
                        Role::Probing { want, granted: true }
                    }
                    Ok(right) if right.settled => self.claim(now, group, right),
                    // The peer's grant stands as long as the request, and nobody serves.
                    Ok(_) if group.duties.should_be_still(now) => self.give_up_settling(now, group),
                    Ok(_) => Role::Wanting { want, since, served },
                    Err(_) => passive,
                }
            }
            Side::Says(Stance::Wanting(theirs)) => {
                if self.outbids(group) {
                    Role::Wanting { want, since, served }
                } else {
                    Role::Passive { granted: self.lets(now, group).then_some(theirs) }
                }
            }
            Side::Says(Stance::Offering) => Role::Wanting { want, since, served: true },
            Side::Says(Stance::Active | Stance::Claiming) | Side::Dead | Side::Unknown => passive,
            Side::Says(Stance::Unable | Stance::Passive | Stance::Granting(_)) => {
                if now.since(since) >= limits::WANT_PATIENCE {
                    passive
                } else {
                    Role::Wanting { want, since, served }
                }
            }
        }
    }
}

/// Why this node does not serve what the peer serves.
fn served_there_text(group: &GroupState) -> String {
    let text = "the peer serves it";
    if group.lan.is_mute() {
        return format!("{text}; {}", crate::core::evidence::lan::MUTE);
    }
    text.to_string()
}

impl GroupState {
    /// Adds every time at which something of this group is due.
    pub(in crate::core) fn deadlines(&self, times: &mut Soonest) {
        times.extend(self.blocked.as_ref().map(|(until, _)| *until));
        times.extend(self.lan.next_at());
        times.extend(self.adding.as_ref().map(Adding::next_at));
        times.extend(self.unfit_until);
        let fork_sure = |since| since + limits::FORK_SURE_AFTER;
        times.extend(self.fork_seen_at.map(fork_sure));
        times.extend(self.duties.stood_by_at());
        times.extend(self.duties.overdue_at());
        times.extend(self.duties.unsettled_at());
        times.extend(self.letting_since.map(|since| since + self.duties.stop_patience()));
        times.extend(self.unserved_since.map(|since| since + limits::YIELD_PATIENCE));
        match &self.role {
            Role::Passive { .. } | Role::Probing { .. } => {}
            Role::Wanting { since, .. } => times.extend([*since + limits::WANT_PATIENCE]),
            Role::Active(active) => {
                times.extend([active.renew_at]);
                times.extend(active.record_over_at());
                times.extend(self.rival.next_at());
                times.extend(active.stopping.map(|since| since + self.duties.stop_patience()));
                if active.held {
                    times.extend([active.announce_at]);
                }
                if let Some(check) = active.check {
                    times.extend([check.until, check.probe_at]);
                }
            }
            Role::Releasing { repeat_at, .. } => times.extend([*repeat_at]),
            Role::Draining(draining) => times.extend([draining.until]),
        }
    }
}
