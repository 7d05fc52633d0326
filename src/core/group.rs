//! A group's state machine (drawn in `role`): one step looks at the role, at where the peer stands,
//! and at the evidence, and returns the next role. Here the roles that hold nothing, and the claim;
//! the owner's is in `owner`.

use std::time::Duration;

use super::peer::{Death, Life};
use super::probe::{Probe, Verdict};
use super::reload::Adding;
use super::right::{self, Evidence, PeerWord, Refusal, Right};
use super::role::{Active, GroupState, Role};
use super::time::Time;
use super::{Command, Core};
use crate::beat::{Path, Stance};
use crate::control::event::Kind;
use crate::limits;

/// Where the peer stands towards a group, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Never heard, or it has not spoken of this group yet.
    Unknown,
    /// Dead, however that is known.
    Dead,
    /// Heard, and this is what it says.
    Says(Stance),
}

/// Steps of one group that one event may cause; every chain of roles is shorter.
const STEPS_MAX: usize = 8;

impl Core {
    /// Steps every group until nothing changes any more.
    pub(super) fn step_groups(&mut self, now: Time) {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            for _ in 0..STEPS_MAX {
                let role = group.role.clone();
                self.step(now, group);
                self.order_duties(group);
                let says = (super::speak::stance(group), self.serves(group));
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

    pub(super) fn side(&self, group: &GroupState) -> Side {
        match self.peer.life {
            Life::NeverHeard => Side::Unknown,
            Life::Dead { .. } => Side::Dead,
            Life::Alive { .. } => self.peer.stance(group.index).map_or(Side::Unknown, Side::Says),
        }
    }

    fn step(&mut self, now: Time, group: &mut GroupState) {
        let side = self.side(group);
        self.step_adding(now, group);
        if group.blocked.as_ref().is_some_and(|(until, _)| now >= *until) {
            group.blocked = None;
        }
        if matches!(
            side,
            Side::Says(Stance::Active | Stance::Offering) | Side::Dead | Side::Unknown
        ) {
            group.letting_since = None;
        }
        if side != Side::Says(Stance::Offering) {
            group.offered_at = None;
        } else if group.offered_at.is_none() && !group.may_hold() {
            group.offered_at = Some(now);
            self.reach.suspect(now);
            self.look_at_carriers(now);
        }
        group.able = self.is_able(now, group);
        let role = std::mem::replace(&mut group.role, Role::Passive { granted: None });
        group.role = match role {
            Role::Passive { granted } => self.step_passive(now, group, side, granted),
            Role::Wanting { want, since, served } => {
                self.step_wanting(now, group, side, want, since, served)
            }
            Role::Probing { want, granted, probe } => {
                self.step_probing(now, group, side, want, granted, probe)
            }
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

    fn evidence(&mut self, now: Time, group: &GroupState, peer: PeerWord) -> Evidence {
        Evidence {
            standby: self.disk.standby_wanted(),
            ending: self.is_ending(),
            lan_carrier: self.reach.carrier(),
            lan_carrier_new: self.reach.carrier_settles_at().is_some_and(|at| now < at),
            reach: self.fresh_reach(now, group.offered_at),
            peer,
            copy: self.copy(group),
            intent: self.intent(&group.name),
            accept_loss: group.accept_loss_until.is_some_and(|until| now < until),
            boot_patience: self.boot_patience(),
            dead_after: self.pace.dead_after,
        }
    }

    /// The right to serve while the peer does not speak: dead, or never heard.
    fn right_by_silence(&mut self, now: Time, group: &GroupState) -> Result<Right, Refusal> {
        let peer = match self.peer.life {
            Life::NeverHeard => PeerWord::NeverHeard {
                alone: self.disk.was_alone(),
                waited: now.since(self.started_at),
            },
            Life::Alive { .. } => PeerWord::Heard,
            Life::Dead { death: Death::Goodbye | Death::Will, .. }
                if self.peer.told_may_claim() =>
            {
                PeerWord::Ended
            }
            Life::Dead { at, .. } => PeerWord::Silent {
                told_may_claim: self.peer.told_may_claim(),
                waited: now.since(at),
            },
        };
        right::decide(&self.evidence(now, group, peer))
    }

    pub(super) fn right_by_grant(
        &mut self,
        now: Time,
        group: &GroupState,
        released: bool,
    ) -> Result<Right, Refusal> {
        right::decide(&self.evidence(now, group, PeerWord::Granted { released }))
    }

    /// Could this node serve the group if the peer let it?
    fn is_able(&mut self, now: Time, group: &GroupState) -> bool {
        // Better here than nowhere. Who grants does not say that it is able itself.
        let elsewhere = !matches!(
            self.side(group),
            Side::Says(Stance::Unable | Stance::Granting(_)) | Side::Dead
        );
        let unfit = elsewhere && group.unfit_until.is_some_and(|until| now < until);
        group.blocked.is_none() && !unfit && self.right_by_grant(now, group, true).is_ok()
    }

    /// Whether this node is better placed than the peer for a group that neither serves: the newer
    /// generation served, then the preferred node. (With two nodes one is always the preferred.)
    fn outbids(&self, group: &GroupState) -> bool {
        let mine = self.disk.served(&group.name).map_or(0, |served| served.number);
        let theirs = self.peer.group(group.index).map_or(0, |part| part.generation);
        (mine, group.prefer == self.me) > (theirs, group.prefer == self.me.other())
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
        let able = group.able && now >= group.yield_until;
        let nobody =
            matches!(side, Side::Says(Stance::Unable | Stance::Passive | Stance::Granting(_)));
        if nobody && able {
            group.unserved_since.get_or_insert(now);
        } else {
            group.unserved_since = None;
        }
        self.probe_early(now, group, side);
        match side {
            Side::Says(Stance::Active) => {
                group.why = "the peer serves it".to_string();
                passive
            }
            Side::Says(Stance::Wanting(want)) => {
                if able && self.outbids(group) {
                    return self.begin_wanting(now, group, false);
                }
                // The peer must not be told that it may claim while this disk says `alone`.
                let granted = self.lets(now, group).then_some(want);
                group.why = "the peer is about to serve it".to_string();
                Role::Passive { granted }
            }
            Side::Says(Stance::Offering) if group.able => self.begin_wanting(now, group, true),
            Side::Says(Stance::Unable)
                if able && (self.outbids(group) || !self.peer.has_just_started(now)) =>
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

    /// Asks the LAN who has the addresses while the peer, which serves them, is asked whether it lives, or a
    /// beat of it is overdue on every path. Not before: a node that is about to die would answer, and be
    /// waited for.
    fn probe_early(&mut self, now: Time, group: &mut GroupState, side: Side) {
        let unanswered = self.configured().any(|watch| {
            watch.path == Path::Lan && watch.is_unanswered(now, limits::ASK_AGAIN_AFTER)
        });
        let urgent = self.is_urgent(now) && unanswered;
        let in_doubt = urgent || self.is_unheard(now);
        let silence = if urgent { Duration::ZERO } else { self.lan_silence() };
        match side {
            Side::Says(Stance::Active | Stance::Offering) if in_doubt => {
                let yields = group.prefer != self.me;
                let new = || Probe::new(now, yields, group.answered_at).lasting(silence);
                let probe = group.early_probe.get_or_insert_with(new);
                if probe.verdict(now, true) == Verdict::Send {
                    self.out.push_back(Command::Probe { group: group.index });
                }
            }
            // It is what the claim by silence begins with.
            Side::Dead => {}
            // The peer speaks for itself again.
            Side::Says(_) | Side::Unknown => {
                if group.early_probe.take().is_some() {
                    group.answered_at = None;
                }
            }
        }
    }

    /// How long the LAN must have been silent where nothing else tells of the peer's death: the last beat
    /// may have left up to an interval before it was missed.
    fn lan_silence(&self) -> Duration {
        self.pace.dead_after.saturating_sub(self.pace.expects + limits::BEAT_LATENESS)
    }

    /// Whether the peer's want may be granted: it must not be told that it may claim while this disk
    /// says `alone`, nor while services run here that must not run on both nodes.
    fn lets(&mut self, now: Time, group: &mut GroupState) -> bool {
        let since = *group.letting_since.get_or_insert(now);
        self.disk.surely_not_alone() && self.services_stopped(now, group, since)
    }

    fn explain_inability(&mut self, now: Time, group: &mut GroupState) {
        if let Some((_, why)) = &group.blocked {
            group.why = why.clone();
        } else if let Err(refusal) = self.right_by_grant(now, group, true) {
            group.why = refusal.to_string();
        } else if group.unfit_until.is_some_and(|until| now < until) {
            group.why = "a service did not run on this node a while ago".to_string();
        }
    }

    fn claim_by_silence(&mut self, now: Time, group: &mut GroupState) -> Role {
        let passive = Role::Passive { granted: None };
        if self.peer.is_alive() {
            // Heard, but it has not yet spoken of this group.
            let same = self.peer.last().is_none_or(|beat| self.means_same_groups(beat));
            group.why = if same {
                "the peer has not yet said where it stands".to_string()
            } else {
                "the two nodes' config files name different groups".to_string()
            };
            return passive;
        }
        if let Some((_, why)) = &group.blocked {
            group.why = why.clone();
            return passive;
        }
        match self.right_by_silence(now, group) {
            Ok(_) => {
                let want = self.next_want();
                group.why = "the peer is silent; asking the LAN who has the address".to_string();
                let yields = group.prefer != self.me;
                let silence = match self.peer.life {
                    Life::Dead { death: Death::Goodbye | Death::Will, .. } => Duration::ZERO,
                    Life::Dead { death: Death::Silent { .. }, .. } if self.lost_far_end(now) => {
                        Duration::ZERO
                    }
                    Life::Dead { .. } | Life::Alive { .. } | Life::NeverHeard => self.lan_silence(),
                };
                let early = group.early_probe.take().map(|probe| probe.lasting(silence));
                let early = early.filter(|probe| !probe.is_stale(now));
                let new = || Probe::new(now, yields, group.answered_at).lasting(silence);
                let probe = early.unwrap_or_else(new);
                Role::Probing { want, granted: false, probe }
            }
            Err(refusal) => {
                group.why = refusal.to_string();
                // What is awaited for some ms at every start is no news.
                let early = now.since(self.started_at) < limits::PATIENCE_TOLD_AFTER;
                let news = match refusal {
                    Refusal::ReachUnknown | Refusal::CarrierNew | Refusal::NoIntent => false,
                    Refusal::Patience(_)
                    | Refusal::CopyIncomplete
                    | Refusal::CopyBehind
                    | Refusal::CopyNever => !early,
                    Refusal::Standby
                    | Refusal::Ending
                    | Refusal::NoCarrier
                    | Refusal::NotReached
                    | Refusal::NotGranted => true,
                };
                if news {
                    self.tell_refusal(group, &refusal);
                }
                passive
            }
        }
    }

    fn next_want(&mut self) -> u16 {
        self.want = self.want.checked_add(1).unwrap_or(1);
        self.want
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
            // An unfit node is able or not by what the peer said last: two such nodes must not chase each
            // other with wants as fast as frames travel.
            if group.unfit_until.is_some_and(|until| now < until) {
                group.yield_until = now + limits::YIELD_PATIENCE;
            }
            return passive;
        }
        self.probe_early(now, group, side);
        match side {
            Side::Says(Stance::Granting(granted)) if granted == want => {
                match self.right_by_grant(now, group, served) {
                    // Its config may lack an address that this node is about to claim.
                    Ok(right) if (right.probe || self.configs_differ) && self.obeys_probe() => {
                        Role::Probing {
                            want,
                            granted: true,
                            probe: Probe::new(now, group.prefer != self.me, group.answered_at),
                        }
                    }
                    Ok(right) if right.settled => self.claim(now, group, right),
                    // The peer's grant stands as long as the want does.
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
            Side::Says(Stance::Active) | Side::Dead | Side::Unknown => passive,
            Side::Says(Stance::Unable | Stance::Passive | Stance::Granting(_)) => {
                if now.since(since) >= limits::WANT_PATIENCE {
                    passive
                } else {
                    Role::Wanting { want, since, served }
                }
            }
        }
    }

    fn step_probing(
        &mut self,
        now: Time,
        group: &mut GroupState,
        side: Side,
        want: u16,
        granted: bool,
        mut probe: Probe,
    ) -> Role {
        let passive = Role::Passive { granted: None };
        // The right must stand at every step, not only at the first.
        let right = match (granted, side) {
            (true, Side::Says(Stance::Granting(theirs))) if theirs == want => {
                self.right_by_grant(now, group, false)
            }
            (false, Side::Dead | Side::Unknown) => self.right_by_silence(now, group),
            (true, _) | (false, Side::Says(_)) => Err(Refusal::NotGranted),
        };
        let right = match right {
            Ok(right) => right,
            Err(refusal) => {
                group.why = refusal.to_string();
                return passive;
            }
        };
        if !self.obeys_probe() {
            return self.claim(now, group, right);
        }
        loop {
            match probe.verdict(now, self.obeys_lease_wait()) {
                Verdict::Send => self.out.push_back(Command::Probe { group: group.index }),
                Verdict::Wait => {
                    if probe.answered_at().is_some() {
                        group.why =
                            "the peer's kernel still answers for the address; waiting for its \
                             lease to end"
                                .to_string();
                    }
                    return Role::Probing { want, granted, probe };
                }
                Verdict::Clear if !right.settled => {
                    group.why = "finishing what was received of the trees".to_string();
                    return Role::Probing { want, granted, probe };
                }
                Verdict::Clear if probe.is_stale(now) => {
                    let yields = group.prefer != self.me;
                    let silence = probe.silence();
                    probe = Probe::new(now, yields, group.answered_at).lasting(silence);
                }
                Verdict::Clear => return self.claim(now, group, right),
                Verdict::Held => {
                    let why = "the peer is silent on every path, but its kernel keeps answering \
                               for the address; look at that machine";
                    return self.block(now, group, why.to_string());
                }
                Verdict::Conflict(mac) => {
                    let why = format!(
                        "another machine ({}) has the address; take it away from there",
                        super::tell::mac_text(mac)
                    );
                    return self.block(now, group, why);
                }
            }
        }
    }

    fn block(&mut self, now: Time, group: &mut GroupState, why: String) -> Role {
        self.tell_refusal(group, &why);
        group.why.clone_from(&why);
        group.blocked = Some((now + limits::BLOCKED_RETRY, why));
        Role::Passive { granted: None }
    }

    pub(super) fn claim(&mut self, now: Time, group: &mut GroupState, right: Right) -> Role {
        let before = self.disk.served(&group.name);
        let first = before.is_none();
        group.tickle |= before.is_some_and(|before| before.owner != self.me);
        self.disk.serve(&group.name, right.generation);
        self.claim += 1;
        self.out.push_back(Command::Claim { group: group.index, claim: self.claim });
        let (kind, text) = match self.side(group) {
            Side::Says(_) if first => (Kind::Takeover, "first service, agreed with the peer"),
            Side::Says(_) => (Kind::Switchover, "agreed with the peer"),
            Side::Unknown => (Kind::Takeover, "the peer was not heard since this node's start"),
            Side::Dead => match self.peer.life {
                Life::Dead { death: Death::Will, .. } => {
                    let text = "the peer's heart is dead, and its guard took the addresses away";
                    (Kind::Takeover, text)
                }
                Life::Dead { death: Death::Silent { .. } | Death::Goodbye, .. }
                | Life::Alive { .. }
                | Life::NeverHeard => (Kind::Takeover, "the peer is dead"),
            },
        };
        if let Life::Dead { death: Death::Silent { gone }, .. } = &mut self.peer.life {
            // This node reaches the LAN and nobody there has the address: the peer is gone.
            *gone = Some(true);
        }
        group.why = format!("serving: {text}");
        group.refusal_told = None;
        group.accept_loss_until = None;
        group.letting_since = None;
        group.undrained = None;
        group.failback_at = now;
        Role::Active(Active {
            generation: right.generation,
            claim: self.claim,
            held: false,
            held_since: None,
            leased_at: now,
            asked_at: Some(now),
            renew_at: now + limits::RENEW_EVERY,
            announced: 0,
            announce_at: now,
            check: None,
            offer: None,
            stopping: None,
            // Not taken from the hands of a peer that is well: at home is where it should be.
            peer_was_away: right.probe || self.peer_reaches_fewer(now),
            contested: false,
            tell: Some((kind, text.to_string())),
        })
    }
}

impl GroupState {
    /// Adds every time at which something of this group is due.
    pub(super) fn deadlines(&self, times: &mut Vec<Time>) {
        times.extend(self.blocked.as_ref().map(|(until, _)| *until));
        times.extend(self.early_probe.as_ref().map(Probe::next_at));
        times.extend(self.adding.as_ref().map(Adding::next_at));
        times.extend(self.unfit_until);
        times.extend(self.duties.stood_by_at());
        times.extend(self.letting_since.map(|since| since + self.duties.stop_patience()));
        times.extend(self.unserved_since.map(|since| since + limits::YIELD_PATIENCE));
        match &self.role {
            Role::Passive { .. } => {}
            Role::Wanting { since, .. } => times.push(*since + limits::WANT_PATIENCE),
            Role::Probing { probe, .. } => times.push(probe.next_at()),
            Role::Active(active) => {
                times.push(active.renew_at);
                times.extend(active.stopping.map(|since| since + self.duties.stop_patience()));
                if active.held {
                    times.push(active.announce_at);
                }
                if let Some(check) = active.check {
                    times.extend([check.until, check.probe_at]);
                }
            }
            Role::Releasing { repeat_at, .. } => times.push(*repeat_at),
            Role::Draining(draining) => times.push(draining.until),
        }
    }
}
