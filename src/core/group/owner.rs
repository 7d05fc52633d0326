//! The owner of a group: it renews, announces and defends the addresses, and releases them when it must.

use super::role::{Active, GroupState, Rival, Role};
use super::stall_check::CheckOutcome;
use super::step::Side;
use crate::beat::Stance;
use crate::control::event::Kind;
use crate::core::evidence::peer::{Death, Life};
use crate::core::evidence::probe::{Patience, Probe, Verdict};
use crate::core::io::durable::outranks;
use crate::core::io::time::Time;
use crate::core::{Command, Core};
use crate::limits;

impl Core {
    pub(in crate::core) fn step_active(
        &mut self,
        now: Time,
        group: &mut GroupState,
        side: Side,
        mut active: Active,
    ) -> Role {
        if (self.is_cut_off() || self.evidence.has_no_cable(now)) && !self.peer_is_off_lan(now) {
            return self.release(
                now,
                group,
                false,
                "this node is cut off: no heartbeat path works and no reach \
                                                    host answers",
            );
        }
        match side {
            Side::Says(Stance::Active | Stance::Offering | Stance::Claiming) => {
                if !self.keeps_against_peer(group, &active) {
                    let why = "both nodes served it, and the peer's newer generation wins";
                    return self.release(now, group, false, why);
                }
                if !active.contested {
                    active.contested = true;
                    self.announce_again(now, &mut active);
                    let text = "both nodes served it; this node's newer generation wins";
                    self.tell(Kind::Address, Some(&group.name), text.to_string());
                }
            }
            Side::Says(_) | Side::Dead | Side::Unknown => {
                if active.contested {
                    active.contested = false;
                    self.announce_again(now, &mut active);
                }
            }
        }
        if let Some(why) = self.step_rival(now, group) {
            return self.release(now, group, false, why);
        }
        // Only if it lasts: a node that has just released is unable until its next generation is on disk.
        let unable = side == Side::Says(Stance::Unable);
        active.unable_since = unable.then(|| active.unable_since.unwrap_or(now));
        let long = active.unable_since.is_some_and(|at| now.since(at) >= limits::AWAY_AFTER);
        if side == Side::Dead || long || self.evidence.peer.is_standby() {
            active.peer_was_away = true;
        }
        active.waits_for_peer &= self.peer_still_stops(group);
        self.await_record(now, group, &mut active);
        if group.duties.have_run(now, limits::SERVICE_UNFIT) {
            group.unfit_times = 0;
        }
        self.outlive_other_generation(now, group, side, &mut active);
        self.hold_failback_down(now, group, side);
        active.offer = self.offer(now, group, side, &active);
        if let Some(offer) = active.offer {
            let nobody = !self.evidence.peer.is_alive() || self.evidence.peer.is_standby();
            let forced = self
                .ending_since
                .is_some_and(|at| nobody || now.since(at) >= limits::SHUTDOWN_PATIENCE);
            let wanted = matches!(side, Side::Says(Stance::Wanting(_)));
            // A request from before this node's stall may have become a claim meanwhile.
            let fresh = !self.is_word_from_before_gap();
            let accepted = group.accept_loss_until.is_some_and(|until| now < until);
            // A kernel that does not answer would not remove the addresses either.
            let answers = now.since(active.leased_at) < limits::RENEW_EVERY * 3;
            let ready = (group.duties.is_in_sync() && answers) || !offer.waits_for_sync();
            if forced || (wanted && (ready || accepted) && self.disk.surely_not_alone()) {
                // Without the LAN no client is served here: the peer gets the addresses while the services still stop,
                // unless there are trees, which must be at rest before it begins (P3 before P2).
                let at_once = offer.serves_nobody() && wanted && !group.duties.has_mirror();
                let stopped = at_once || self.services_stop(now, group, &mut active);
                if stopped && (forced || fresh) {
                    let why = format!("handed over: {}", offer.reason());
                    return self.hand_over(now, group, &active, offer, wanted && fresh, &why);
                }
            } else {
                active.stopping = None;
            }
        } else {
            active.stopping = None;
        }
        if let Some(check) = active.check {
            match self.check(now, group, side, check) {
                CheckOutcome::Open(check) => {
                    active.check = Some(check);
                    return Role::Active(active);
                }
                CheckOutcome::OwnerElsewhere => {
                    let why = "another owner answered after this node had stalled";
                    return self.release(now, group, false, why);
                }
                CheckOutcome::StillOwner => {
                    active.check = None;
                    active.renew_at = now;
                    self.announce_again(now, &mut active);
                }
            }
        }
        self.hold(now, group, &mut active);
        Role::Active(active)
    }

    /// Notes when this generation is on the disk.
    fn await_record(&mut self, now: Time, group: &GroupState, active: &mut Active) {
        if active.recorded {
            return;
        }
        active.recorded = self.disk.holds(&group.name, active.generation);
        let over = active.record_over_at().is_some_and(|at| now >= at);
        if !active.recorded && (over || self.disk.fails()) {
            // Availability: a state disk that is full or does not answer must not stop the service for good.
            active.recorded = true;
            let text = "the disk has not yet written that this node serves; the services start anyway: after a \
                        power loss now, what they write may end up in the conflict store";
            self.tell(Kind::Fault, Some(&group.name), text.to_string());
        }
    }

    /// The peer began and ended a generation while neither heard the other, and this node served all the time. Its
    /// trees are the newest, so it goes on in a generation above the peer's. Else they would count as behind, because
    /// they lack what may have been written in the peer's generation.
    fn outlive_other_generation(
        &mut self,
        now: Time,
        group: &GroupState,
        side: Side,
        active: &mut Active,
    ) {
        let newest = self.disk.served(&group.name);
        let is_newest = newest == Some(active.generation);
        if side.may_hold() || !active.has_begun() || is_newest || active.forked {
            return;
        }
        // If it is not durable yet, the disk's answer triggers the next step.
        let Some(generation) = self.intent(&group.name) else { return };
        self.disk.serve(&group.name, generation, group.duties.has_mirror());
        active.generation = generation;
        active.known_to_peer = false;
        // Clients that the peer served meanwhile still send to it.
        self.announce_again(now, active);
        let text = "the peer began and ended a generation that this node did not know; this node serves on in a \
                    newer generation";
        self.tell(Kind::Address, Some(&group.name), text.to_string());
    }

    /// Probes once whether a peer that fell silent has the addresses, too; if so, returns why this node releases.
    /// Unless one of the machines was paused, there was no time in which the peer could have claimed.
    pub(in crate::core) fn step_rival(
        &mut self,
        now: Time,
        group: &mut GroupState,
    ) -> Option<&'static str> {
        if let Life::NeverHeard | Life::Alive { .. } = self.evidence.peer.life {
            if self.evidence.peer.is_alive() {
                group.rival = Rival::Heard;
            }
            return None;
        }
        if group.rival == Rival::Heard {
            group.rival = match self.evidence.peer.life {
                // Its farewell or will says that it holds nothing.
                Life::Dead { death: Death::Goodbye | Death::Will, .. } => Rival::None,
                Life::Dead { death: Death::Silent { .. }, .. }
                | Life::Alive { .. }
                | Life::NeverHeard => Rival::Asked(Probe::new(now, false)),
            };
        }
        while let Rival::Asked(mut probe) = group.rival {
            if probe.is_answered() {
                return Some(
                    "the peer is not heard, but its kernel answers for the address: it may serve it",
                );
            }
            let patience = Patience { silence: limits::RIVAL_ASKED_FOR, not_before: None };
            let verdict = probe.verdict(now, patience, true);
            group.rival = Rival::Asked(probe);
            match verdict {
                Verdict::Send => self.ask_lan(group),
                Verdict::Wait => break,
                Verdict::Clear | Verdict::Held | Verdict::Conflict(_) => group.rival = Rival::None,
            }
        }
        None
    }

    /// Renews, reclaims and announces.
    fn hold(&mut self, now: Time, group: &GroupState, active: &mut Active) {
        // A request that the kernel has not answered is repeated: a reply may get lost.
        let answered = active.asked_at.is_none_or(|at| now.since(at) >= limits::RENEW_EVERY);
        if answered && now >= active.renew_at {
            active.asked_at = Some(now);
            active.renew_at = now + limits::RENEW_EVERY;
            let command = if active.held {
                Command::Renew { group: group.index, claim: active.claim }
            } else {
                self.claim += 1;
                active.claim = self.claim;
                Command::Claim { group: group.index, claim: active.claim }
            };
            self.out.push_back(command);
        }
        if active.held && now >= active.announce_at {
            self.out.push_back(Command::Announce { group: group.index });
            let after = limits::ANNOUNCE_AFTER.get(active.announced).copied();
            active.announce_at = now + after.unwrap_or(limits::ANNOUNCE_EVERY);
            active.announced += 1;
        }
    }

    pub(in crate::core) fn announce_again(&self, now: Time, active: &mut Active) {
        active.announced = 0;
        active.announce_at = now;
    }

    /// All paths and the reach were lost together: this node is the one that is cut off.
    fn is_cut_off(&self) -> bool {
        matches!(
            self.evidence.peer.life,
            Life::Dead { death: Death::Silent { gone: Some(false) }, .. }
        )
    }

    /// Whether the peer reported a moment ago that it has no LAN carrier either. Then it cannot claim before a carrier
    /// has settled ([`limits::LAN_SETTLES`]), so a short silence on the last line moves nothing. A peer that restarted
    /// meanwhile may not know of that loss: but it introduces itself before it accepts anything from this node, or
    /// waits for `boot_patience`, unless its disk said `alone`.
    fn peer_is_off_lan(&self, now: Time) -> bool {
        let trusted = limits::LAN_LOSS_TRUSTED.min(self.config.heartbeat.boot_patience / 2);
        let fresh = now.since(self.evidence.peer.spoke_after()) < trusted
            && self.evidence.peer.is_undisputed();
        fresh && self.evidence.peer.last().is_some_and(|beat| !beat.lan_carrier && beat.may_claim)
    }

    /// Both nodes serve and hear each other: the newer generation wins; see [`outranks`].
    fn keeps_against_peer(&self, group: &GroupState, active: &Active) -> bool {
        let Some(theirs) = self.evidence.peer.generation(group.index) else { return true };
        let mine = active.generation;
        // A peer that is releasing already names the generation that it learned from this node.
        theirs == mine || outranks(mine, theirs)
    }
}
