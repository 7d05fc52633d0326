//! The owner of a group: it renews, announces, hands over, and lets go.

use std::time::Duration;

use super::disk::Generation;
use super::duty::{ServiceDuty, ServiceWord};
use super::generation::outranks;
use super::group::Side;
use super::peer::{Death, Life};
use super::probe::{Patience, Probe, Verdict};
use super::role::{Active, Check, Drain, Draining, GroupState, Offer, Rival, Role};
use super::time::Time;
use super::{Command, Core};
use crate::beat::Stance;
use crate::config::Failback;
use crate::control::event::Kind;
use crate::limits;

/// What the check after a stall has found.
enum CheckOutcome {
    /// Nothing yet.
    Open(Check),
    /// Somebody else owns it.
    OwnerElsewhere,
    /// Nobody else does.
    StillOwner,
}

impl Core {
    pub(super) fn step_active(
        &mut self,
        now: Time,
        group: &mut GroupState,
        side: Side,
        mut active: Active,
    ) -> Role {
        if (self.is_cut_off() || self.has_no_cable(now)) && !self.peer_is_off_lan(now) {
            return self.release(now, group, false, "this node is cut off: no path and no reach");
        }
        match side {
            Side::Says(Stance::Active | Stance::Offering) => {
                if !self.keeps_against_peer(group, &active) {
                    let why = "both nodes served it, and the peer's generation stands";
                    return self.release(now, group, false, why);
                }
                if !active.contested {
                    active.contested = true;
                    self.announce_again(now, &mut active);
                    let text = "both nodes served it; this node's generation stands";
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
        // Not the moment in which a node that has just let go has no new reign on disk.
        let unable = side == Side::Says(Stance::Unable);
        active.unable_since = unable.then(|| active.unable_since.unwrap_or(now));
        let long = active.unable_since.is_some_and(|at| now.since(at) >= limits::AWAY_AFTER);
        if side == Side::Dead || long || self.peer.is_standby() {
            active.peer_was_away = true;
        }
        active.waits_for_peer &= self.peer_still_stops(group);
        self.await_record(now, group, &mut active);
        if group.duties.have_run(now, limits::SERVICE_UNFIT) {
            group.unfit_times = 0;
        }
        self.outlive_other_reign(now, group, side, &mut active);
        self.hold_failback_down(now, group, side);
        active.offer = self.offer(now, group, side, &active);
        if let Some(offer) = active.offer {
            let nobody = !self.peer.is_alive() || self.peer.is_standby();
            let forced = self
                .ending_since
                .is_some_and(|at| nobody || now.since(at) >= limits::SHUTDOWN_PATIENCE);
            let wanted = matches!(side, Side::Says(Stance::Wanting(_)));
            // A want from before this node's own gap may have come to a claim meanwhile.
            let fresh = !self.is_word_from_before_gap();
            let accepted = group.accept_loss_until.is_some_and(|until| now < until);
            // A kernel that does not answer would not let go either.
            let answers = now.since(active.leased_at) < limits::RENEW_EVERY * 3;
            let ready = (group.duties.is_in_sync() && answers) || !offer.waits_for_sync();
            if forced || (wanted && (ready || accepted) && self.disk.surely_not_alone()) {
                // Without the LAN nobody is served here: the peer has the addresses while the services stop.
                // Trees must be at rest before it may begin with them (P3 before P2).
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
                    let why = "another owner answered after this node had overslept";
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

    /// Notes when this reign is on the disk.
    fn await_record(&mut self, now: Time, group: &GroupState, active: &mut Active) {
        if active.recorded {
            return;
        }
        active.recorded = self.disk.holds(&group.name, active.generation);
        let over = active.record_over_at().is_some_and(|at| now >= at);
        if !active.recorded && (over || self.disk.fails()) {
            // Availability: a state disk that is full or does not answer keeps nobody from being served for good.
            active.recorded = true;
            let text = "the disk has not yet written that this node serves; the services start all the same: should \
                        the power go now, what they write may later be set aside in the conflict store";
            self.tell(Kind::Fault, Some(&group.name), text.to_string());
        }
    }

    /// A reign of the peer's began and ended while neither heard the other, and this node served all the
    /// while: what it serves is the newest, so it serves it in a reign above that one. Else the trees here,
    /// which lack what the peer's reign may have written, would count as a copy that is behind.
    fn outlive_other_reign(
        &mut self,
        now: Time,
        group: &GroupState,
        side: Side,
        active: &mut Active,
    ) {
        let goes_on = matches!(side, Side::Says(Stance::Active | Stance::Offering));
        let newest = self.disk.served(&group.name);
        if goes_on || newest == Some(active.generation) || active.forked {
            return;
        }
        // Not yet durable: the disk's answer brings the next step.
        let Some(reign) = self.intent(&group.name) else { return };
        self.disk.serve(&group.name, reign, group.duties.has_mirror());
        active.generation = reign;
        active.known_to_peer = false;
        // Whoever was served by the peer meanwhile still looks for the addresses there.
        self.announce_again(now, active);
        let text = "the peer had begun a reign that this node knew nothing of, and ended it; what is \
                    served here goes on as a newer one";
        self.tell(Kind::Address, Some(&group.name), text.to_string());
    }

    /// Has the services stopped for a handover; true once they are, or had their time for it.
    fn services_stop(&mut self, now: Time, group: &GroupState, active: &mut Active) -> bool {
        let since = *active.stopping.get_or_insert(now);
        self.services_stopped(now, group, since)
    }

    /// Whether no service runs here that must not run on both nodes; or they had their time for it
    /// since they were told.
    pub(super) fn services_stopped(&mut self, now: Time, group: &GroupState, since: Time) -> bool {
        let ended = [ServiceDuty::Standby, ServiceDuty::End]
            .iter()
            .any(|&duty| group.duties.services_are(duty) == ServiceWord::Done);
        if ended || !group.duties.has_services() {
            return true;
        }
        if now.since(since) < group.duties.stop_patience() {
            return false;
        }
        let text = "the services did not stop in time; handing over all the same".to_string();
        self.tell(Kind::Service, Some(&group.name), text);
        true
    }

    /// Releases for the peer, which shall get the last changes of the trees first.
    fn hand_over(
        &mut self,
        now: Time,
        group: &mut GroupState,
        active: &Active,
        offer: Offer,
        wanted: bool,
        why: &str,
    ) -> Role {
        if matches!(offer, Offer::ServiceFailed { .. }) {
            // Broken on both nodes, it would go to and fro.
            let doubled = group.unfit_times.min(limits::SERVICE_UNFIT_DOUBLED_MAX);
            group.unfit_until = Some(now + limits::SERVICE_UNFIT * 2_u32.pow(doubled));
            group.unfit_times = group.unfit_times.saturating_add(1);
        }
        if offer.is_budgeted() && wanted {
            group.moves.note(now);
        }
        let (patience, let_go) = offer.drain_patience();
        let accepted = group.accept_loss_until.take().is_some_and(|until| now < until);
        if wanted {
            self.note_handed(group, active.generation);
        }
        let drain = (wanted && group.duties.has_mirror()).then_some(Drain {
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

    /// The addresses are released; the peer gets the last changes of the trees, and then is let in.
    pub(super) fn step_draining(
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
            // Nobody there any more: this node's trees are the newest, it may claim by silence.
            Side::Dead | Side::Unknown => {
                group.undrained = Some(draining);
                return Role::Passive { granted: None };
            }
            // It found nobody with the address while this node stood still.
            Side::Says(Stance::Active | Stance::Offering) => {
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
        // Nobody was let in, so nobody else can have claimed.
        match self.right_by_grant(now, group, true) {
            Ok(mut right) => {
                right.settled = true;
                let text = format!("{unsent}; serving on this node again");
                self.tell(Kind::Mirror, Some(&group.name), text);
                self.claim(now, group, right)
            }
            // A peer that asks for its reach anew drops its want for that moment.
            Err(_) if !late => Role::Draining(draining),
            Err(_) => {
                let text = format!("{unsent}, and this node may not serve; they stay on it");
                self.tell(Kind::Mirror, Some(&group.name), text);
                Role::Passive { granted: None }
            }
        }
    }

    /// The drain that goes on, if the peer is back and has not served: it must not be let in without the
    /// last changes because it was away while they should have been sent.
    pub(super) fn resume_drain(&self, group: &mut GroupState, side: Side) -> Option<Role> {
        let Side::Says(stance) = side else { return None };
        let draining = group.undrained.take()?;
        let served = matches!(stance, Stance::Active | Stance::Offering);
        let newest = self.disk.served(&group.name) == Some(draining.generation);
        (newest && !served).then_some(Role::Draining(draining))
    }

    /// Asks the LAN once whether a peer that fell silent has the addresses, too; why this node lets go, if so. It
    /// knows of no time in which the peer could have claimed, but a machine that was paused does not.
    fn step_rival(&mut self, now: Time, group: &mut GroupState) -> Option<&'static str> {
        if let Life::NeverHeard | Life::Alive { .. } = self.peer.life {
            if self.peer.is_alive() {
                group.rival = Rival::Heard;
            }
            return None;
        }
        if group.rival == Rival::Heard {
            group.rival = match self.peer.life {
                // It said that it held nothing.
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

    /// Whether services may still run on the peer that must not run on both nodes.
    pub(super) fn peer_still_stops(&self, group: &GroupState) -> bool {
        let part = self.peer.group(group.index).filter(|_| self.peer.is_alive());
        part.is_some_and(|part| part.serving)
    }

    /// Renews, reclaims and announces.
    fn hold(&mut self, now: Time, group: &GroupState, active: &mut Active) {
        // What the kernel has not answered by the next time is asked again: a reply may get lost.
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

    pub(super) fn announce_again(&self, now: Time, active: &mut Active) {
        active.announced = 0;
        active.announce_at = now;
    }

    /// All paths and the reach vanished together: this node is the one that is cut off.
    fn is_cut_off(&self) -> bool {
        matches!(self.peer.life, Life::Dead { death: Death::Silent { gone: Some(false) }, .. })
    }

    /// Whether the peer said a moment ago that it has no LAN carrier either: then it cannot claim for as long
    /// as a carrier takes to settle ([`limits::LAN_SETTLES`]), and a stutter on the last line moves nothing.
    /// A peer that restarted meanwhile may know nothing of that loss: it introduces itself before it counts
    /// anything of this node's, or waits for its patience after a start; one that was alone does not wait.
    fn peer_is_off_lan(&self, now: Time) -> bool {
        let trusted = limits::LAN_LOSS_TRUSTED.min(self.config.heartbeat.boot_patience / 2);
        let fresh = now.since(self.peer.spoke_after()) < trusted && self.peer.is_undisputed();
        fresh && self.peer.last().is_some_and(|beat| !beat.lan_carrier && beat.may_claim)
    }

    /// Two who serve and hear each other: the newer generation stands; see [`outranks`].
    fn keeps_against_peer(&self, group: &GroupState, active: &Active) -> bool {
        let Some(part) = self.peer.group(group.index) else { return true };
        let theirs = Generation { number: part.generation, owner: part.owner, id: part.id };
        let mine = active.generation;
        // A peer that is letting go already names the reign that it has learned from here.
        theirs == mine || outranks(mine, theirs)
    }

    /// Whether this owner would hand over, and why.
    fn offer(
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
            // What has begun is not broken off in the middle because it takes its time.
            Some(Offer::Moved { until } | Offer::Failback { until })
                if now < until || active.stopping.is_some() =>
            {
                return active.offer;
            }
            // The peer first asks for its reach anew, and for so long says that it is unable.
            Some(Offer::ServiceFailed { until })
                if (failed && now < until) || active.stopping.is_some() =>
            {
                return active.offer;
            }
            Some(_) | None => {}
        }
        // Where the peer could not do better, the worker goes on trying here.
        let peer_can =
            matches!(side, Side::Says(Stance::Passive | Stance::Wanting(_) | Stance::Granting(_)));
        if peer_can && failed {
            return Some(Offer::ServiceFailed { until: now + limits::OFFER_PATIENCE });
        }
        self.failback_due(now, group, side, active)
    }

    /// A preferred node that is not well begins its time of being stable anew: a port that flaps moves
    /// the group away, and must not fetch it back each time.
    fn hold_failback_down(&self, now: Time, group: &mut GroupState, side: Side) {
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
        let Life::Alive { since } = self.peer.life else { return None };
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

    pub(super) fn release(
        &mut self,
        now: Time,
        group: &mut GroupState,
        handover: bool,
        why: &str,
    ) -> Role {
        self.command_release(group);
        self.tell(Kind::Release, Some(&group.name), format!("released: {why}"));
        group.why = why.to_string();
        group.serves_on = self.disk.standby_wanted() && !self.peer.is_alive();
        if handover {
            group.yield_until = now + limits::OFFER_PATIENCE;
        }
        Role::Releasing { handover, repeat_at: now + limits::RELEASE_REPEAT, drain: None }
    }

    /// The node overslept by `late`; the peer could have claimed after `longest_safe`.
    pub(super) fn group_overslept(
        &mut self,
        now: Time,
        group: &mut GroupState,
        late: Duration,
        longest_safe: Duration,
    ) {
        group.lan.overslept(now, late);
        let role = std::mem::replace(&mut group.role, Role::Passive { granted: None });
        group.role = match role {
            Role::Active(active)
                if late >= limits::LEASE || now.since(active.leased_at) >= limits::LEASE =>
            {
                let why = "this node slept longer than its lease";
                self.release(now, group, false, why)
            }
            Role::Active(mut active) => {
                // A peer that was known to be gone before the gap, so surely that it is on disk, cannot
                // have claimed.
                let surely_gone = self.peer.is_gone() && self.disk.was_alone();
                if late >= longest_safe && !surely_gone {
                    active.check.get_or_insert(Check::begin(now));
                }
                Role::Active(active)
            }
            // What was learned before the gap proves nothing now: begin again.
            Role::Wanting { .. } | Role::Probing { .. } => Role::Passive { granted: None },
            Role::Passive { granted } => Role::Passive { granted },
            Role::Releasing { handover, drain, .. } => {
                Role::Releasing { handover, repeat_at: now, drain }
            }
            Role::Draining(draining) => Role::Draining(draining),
        };
    }

    /// Whether the peer's newest word is older than this node's own last gap.
    fn is_word_from_before_gap(&self) -> bool {
        self.woke_at.is_some_and(|at| self.is_older_than(at))
    }

    /// Frames that waited in the sockets are older than a gap: only an answer to what was sent after it
    /// shows where the peer stands now.
    fn is_older_than(&self, at: Time) -> bool {
        self.peer.spoke_after() < at
    }

    fn check(
        &mut self,
        now: Time,
        group: &GroupState,
        side: Side,
        mut check: Check,
    ) -> CheckOutcome {
        if check.answered {
            return CheckOutcome::OwnerElsewhere;
        }
        let heard = !self.is_older_than(check.since);
        // An owner on the other side was dealt with by the rule for two owners.
        if now >= check.until || (heard && matches!(side, Side::Says(_))) {
            return CheckOutcome::StillOwner;
        }
        if now >= check.probe_at {
            check.probe_at = now + limits::PROBE_WAIT_GAP;
            self.ask_lan(group);
            self.ask(now);
        }
        CheckOutcome::Open(check)
    }
}
