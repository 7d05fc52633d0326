//! How an owner hands a group over: the offer, the drain, and the release.

use super::order::{ServiceDuty, ServiceWord};
use super::role::{Active, Drain, Draining, GroupState, Offer, Role};
use super::step::Side;
use crate::beat::Stance;
use crate::config::Failback;
use crate::control::event::Kind;
use crate::core::Core;
use crate::core::evidence::peer::Life;
use crate::core::io::time::Time;
use crate::limits;

impl Core {
    /// Stops the services for a handover; true once they have stopped, or had their time for it.
    pub(in crate::core) fn services_stop(
        &mut self,
        now: Time,
        group: &GroupState,
        active: &mut Active,
    ) -> bool {
        let since = *active.stopping.get_or_insert(now);
        self.services_stopped(now, group, since)
    }

    /// Whether no service runs here that must not run on both nodes, or the time for stopping them is over.
    pub(in crate::core) fn services_stopped(
        &mut self,
        now: Time,
        group: &GroupState,
        since: Time,
    ) -> bool {
        let ended = [ServiceDuty::Standby, ServiceDuty::End]
            .iter()
            .any(|&duty| group.duties.services_are(duty) == ServiceWord::Done);
        if ended || !group.duties.has_services() {
            return true;
        }
        if now.since(since) < group.duties.stop_patience() {
            return false;
        }
        let text = "the services did not stop in time; handing over anyway".to_string();
        self.tell(Kind::Service, Some(&group.name), text);
        true
    }

    /// Releases for the peer, which first gets the last changes of the trees.
    pub(in crate::core) fn hand_over(
        &mut self,
        now: Time,
        group: &mut GroupState,
        active: &Active,
        offer: Offer,
        wanted: bool,
        why: &str,
    ) -> Role {
        if matches!(offer, Offer::ServiceFailed { .. }) {
            // A service that is broken on both nodes would move back and forth.
            let doubled = group.unfit_times.min(limits::SERVICE_UNFIT_DOUBLED_MAX);
            group.unfit_until = Some(now + limits::SERVICE_UNFIT * 2_u32.pow(doubled));
            group.unfit_times = group.unfit_times.saturating_add(1);
        }
        if offer.is_budgeted() && wanted {
            group.moves.note(now);
        }
        let (patience, let_go) = offer.drain_patience();
        let accepted = group.accept_loss_until.take().is_some_and(|until| now < until);
        let begun = wanted && active.has_begun();
        if begun {
            self.note_handed(group, active.generation);
        }
        let drain = (begun && group.duties.has_mirror()).then_some(Drain {
            generation: active.generation,
            patience,
            let_go: let_go || accepted,
        });
        let role = self.release(now, group, wanted, why);
        match role {
            Role::Releasing { handover, repeat_at, drain: None } => {
                Role::Releasing { handover, repeat_at, drain }
            }
            role @ (Role::Passive { .. }
            | Role::Wanting { .. }
            | Role::Probing { .. }
            | Role::Active(_)
            | Role::Releasing { .. }
            | Role::Draining(_)) => role,
        }
    }

    /// The addresses are released; the peer gets the last changes of the trees, and may then claim.
    pub(in crate::core) fn step_draining(
        &mut self,
        now: Time,
        group: &mut GroupState,
        side: Side,
        draining: Draining,
    ) -> Role {
        let wants = match side {
            Side::Says(Stance::Wanting(want)) => Some(want),
            Side::Says(_) | Side::Dead | Side::Unknown => None,
        };
        let granted = wants.filter(|_| self.disk.surely_not_alone());
        if self.is_drained(group) {
            group.duties.sent_all(now, draining.generation);
            return Role::Passive { granted };
        }
        let late = now >= draining.until;
        let unsent = "the last changes of the trees could not be sent in time";
        match side {
            // The peer died: this node's trees are the newest, it may claim by silence.
            Side::Dead | Side::Unknown => {
                group.undrained = Some(draining);
                return Role::Passive { granted: None };
            }
            // The peer claimed while this node was stalled.
            Side::Says(Stance::Active | Stance::Offering | Stance::Claiming) => {
                return Role::Passive { granted: None };
            }
            Side::Says(_) if self.is_word_from_before_gap() => return Role::Draining(draining),
            Side::Says(_) if late && draining.let_go => {
                let text = format!("{unsent}; they stay on this node, for its conflict store");
                self.tell(Kind::Mirror, Some(&group.name), text);
                return Role::Passive { granted };
            }
            Side::Says(Stance::Wanting(_)) if !late => return Role::Draining(draining),
            Side::Says(_) => {}
        }
        // No grant was given, so the peer cannot have claimed.
        match self.right_by_grant(now, group, true) {
            Ok(mut right) => {
                right.settled = true;
                let text = format!("{unsent}; serving on this node again");
                self.tell(Kind::Mirror, Some(&group.name), text);
                self.claim(now, group, right)
            }
            // A peer that checks its reach again drops its request meanwhile.
            Err(_) if !late => Role::Draining(draining),
            Err(_) => {
                let text = format!("{unsent}, and this node may not serve; they stay on it");
                self.tell(Kind::Mirror, Some(&group.name), text);
                Role::Passive { granted: None }
            }
        }
    }

    /// The drain that continues if the peer is back and has not served: it must not claim without the last changes only
    /// because it was away when they should have been sent.
    pub(in crate::core) fn resume_drain(&self, group: &mut GroupState, side: Side) -> Option<Role> {
        let Side::Says(stance) = side else { return None };
        let draining = group.undrained.take()?;
        let newest = self.disk.served(&group.name) == Some(draining.generation);
        (newest && !stance.may_hold()).then_some(Role::Draining(draining))
    }

    /// Whether services may still run on the peer that must not run on both nodes.
    pub(in crate::core) fn peer_still_stops(&self, group: &GroupState) -> bool {
        let part = self.evidence.peer.group(group.index).filter(|_| self.evidence.peer.is_alive());
        part.is_some_and(|part| part.serving)
    }

    /// Whether this owner offers the group, and why.
    pub(in crate::core) fn offer(
        &mut self,
        now: Time,
        group: &mut GroupState,
        side: Side,
        active: &Active,
    ) -> Option<Offer> {
        if self.is_ending() {
            return Some(Offer::Ending);
        }
        if self.disk.standby_wanted() {
            return Some(Offer::Standby);
        }
        if let Some(offer) = self.offer_by_reach(now, group) {
            return Some(offer);
        }
        let failed = group.duties.running(now) == ServiceWord::Failed;
        match active.offer {
            // A handover that has begun is not stopped because it takes long.
            Some(Offer::Moved { until } | Offer::Failback { until })
                if now < until || active.stopping.is_some() =>
            {
                return active.offer;
            }
            // The peer first checks its reach again, and is unable meanwhile.
            Some(Offer::ServiceFailed { until })
                if (failed && now < until) || active.stopping.is_some() =>
            {
                return active.offer;
            }
            Some(_) | None => {}
        }
        // If the peer could not do better, the worker keeps trying here.
        let peer_can =
            matches!(side, Side::Says(Stance::Passive | Stance::Wanting(_) | Stance::Granting(_)));
        if peer_can && failed {
            return Some(Offer::ServiceFailed { until: now + limits::OFFER_PATIENCE });
        }
        self.failback_due(now, group, side, active)
    }

    /// While the preferred node is not well, its `stable_for` begins again: a flapping port moves the group away, and
    /// must not move it back each time.
    pub(in crate::core) fn hold_failback_down(
        &self,
        now: Time,
        group: &mut GroupState,
        side: Side,
    ) {
        let unwell = side == Side::Says(Stance::Unable) || self.peer_reaches_fewer(now);
        let config = self.config.groups.get(usize::from(group.index.0));
        if let Some(config) = config.filter(|_| unwell) {
            group.failback_at = group.failback_at.max(now + config.stable_for);
        }
    }

    fn failback_due(
        &mut self,
        now: Time,
        group: &mut GroupState,
        side: Side,
        active: &Active,
    ) -> Option<Offer> {
        let config = self.config.groups.get(usize::from(group.index.0))?;
        let Life::Alive { since } = self.evidence.peer.life else { return None };
        let stable = now.since(since) >= config.stable_for
            && active.held_since.is_some_and(|at| now.since(at) >= config.stable_for);
        let due = config.failback == Failback::Auto
            && group.prefer != self.me
            && !self.configs_differ
            && active.peer_was_away
            && side == Side::Says(Stance::Passive)
            && group.duties.is_in_sync()
            && stable
            && now >= group.failback_at;
        if !due || !self.has_moves_left(now, group) {
            return None;
        }
        group.failback_at = now + limits::FAILBACK_RETRY;
        Some(Offer::Failback { until: now + limits::OFFER_PATIENCE })
    }

    pub(in crate::core) fn release(
        &mut self,
        now: Time,
        group: &mut GroupState,
        handover: bool,
        why: &str,
    ) -> Role {
        self.command_release(group);
        self.tell(Kind::Release, Some(&group.name), format!("released: {why}"));
        group.why = why.to_string();
        group.serves_on = self.disk.standby_wanted() && !self.evidence.peer.is_alive();
        if handover {
            group.yield_until = now + limits::OFFER_PATIENCE;
        }
        Role::Releasing { handover, repeat_at: now + limits::RELEASE_REPEAT, drain: None }
    }
}
