//! The way to a claim: the right to serve, the probe of the LAN, and the claim itself.

use std::time::Duration;

use super::right::{self, Evidence, PeerWord, Refusal, Right};
use super::role::{Active, GroupState, Rival, Role};
use super::step::Side;
use crate::beat::{Holds, Path, Stance};
use crate::config::NodeIndex;
use crate::control::event::Kind;
use crate::core::evidence::carrier::FarEnd;
use crate::core::evidence::lan::{self, LanNews};
use crate::core::evidence::path::PathWatch;
use crate::core::evidence::peer::{Death, Life};
use crate::core::evidence::probe::{Patience, Verdict};
use crate::core::io::time::Time;
use crate::core::{Command, Core};
use crate::limits;

impl Core {
    fn evidence(&mut self, now: Time, group: &GroupState, peer: PeerWord) -> Evidence {
        Evidence {
            standby: self.disk.standby_wanted() && !group.serves_on,
            ending: self.is_ending(),
            lan_carrier: self.evidence.reach.carrier(),
            lan_carrier_new: self.is_lan_carrier_new(now),
            reach: self.fresh_reach(now, group.offered_at),
            peer,
            copy: self.copy(group),
            intent: self.intent(&group.name),
            accept_loss: group.accept_loss_until.is_some_and(|until| now < until),
            serves_unsure: self.serves_unsure(group),
            has_history: self.disk.served_trees(&group.name).is_some()
                || self.holds(group) != Holds::Nothing,
            boot_patience: self.boot_patience(),
            dead_after: self.evidence.pace.dead_after,
        }
    }

    /// Whether the LAN carrier came back so recently that the peer, which may not know it yet, may still serve because
    /// it had been lost.
    fn is_lan_carrier_new(&self, now: Time) -> bool {
        self.evidence.reach.carrier_back_at().is_some_and(|back_at| {
            let known = self.evidence.peer.spoke_after() > back_at;
            !known && now < back_at + limits::LAN_SETTLES
        })
    }

    /// The right to serve while the peer is not heard: dead, or never heard.
    fn right_by_silence(&mut self, now: Time, group: &GroupState) -> Result<Right, Refusal> {
        let peer = match self.evidence.peer.life {
            Life::NeverHeard => PeerWord::NeverHeard {
                alone: self.disk.was_alone(),
                waited: now.since(self.started_at),
            },
            Life::Alive { .. } => PeerWord::Heard,
            Life::Dead { death: Death::Goodbye | Death::Will, .. }
                if self.evidence.peer.told_may_claim() =>
            {
                PeerWord::Ended
            }
            Life::Dead { at, .. } => PeerWord::Silent {
                told_may_claim: self.evidence.peer.told_may_claim(),
                waited: now.since(at),
            },
        };
        right::decide(&self.evidence(now, group, peer))
    }

    pub(in crate::core) fn right_by_grant(
        &mut self,
        now: Time,
        group: &GroupState,
        released: bool,
    ) -> Result<Right, Refusal> {
        right::decide(&self.evidence(now, group, PeerWord::Granted { released }))
    }

    /// Probes the addresses that the peer serves: now and then at rest; often while asks are unanswered or beats
    /// overdue. Not earlier: a node that is about to die would still answer, and the claim would wait for its lease.
    pub(in crate::core) fn watch_lan(&mut self, now: Time, group: &mut GroupState, side: Side) {
        match side {
            Side::Says(stance) if stance.may_hold() && self.is_in_doubt(now) => {
                group.lan.begin(now, self.yields());
                let patience = self.lan_patience(now, group);
                if group.lan.verdict(now, patience, true) == Verdict::Send {
                    self.ask_lan(group);
                }
            }
            Side::Says(Stance::Active | Stance::Offering | Stance::Claiming) => {
                if group.lan.at_rest(now).is_some() {
                    self.ask_lan(group);
                }
                self.tell_lan_news(now, group);
            }
            // The claim by silence begins with this probe.
            Side::Dead => {}
            // The peer's beats say what it holds.
            Side::Says(_) | Side::Unknown => group.lan.forget(),
        }
    }

    /// Sends one probe for the group's addresses.
    pub(in crate::core) fn ask_lan(&mut self, group: &GroupState) {
        let ask_as = group.lan.asks_as();
        self.out.push_back(Command::Probe { group: group.index, ask_as });
    }

    fn tell_lan_news(&mut self, now: Time, group: &mut GroupState) {
        let text = match group.lan.news(now) {
            None => return,
            Some(LanNews::Mute) => format!(
                "{}; check whether a switch drops ARP, or both nodes' LAN interfaces have the same MAC",
                lan::MUTE
            ),
            Some(LanNews::Answers) => "the LAN answers for its addresses there again".to_string(),
        };
        self.tell(Kind::Address, Some(&group.name), text);
    }

    /// Whether the peer may have died a moment ago.
    fn is_in_doubt(&self, now: Time) -> bool {
        let unanswered = |watch: &PathWatch| {
            watch.path == Path::Lan && watch.is_unanswered(now, limits::ASK_AGAIN_AFTER)
        };
        let may_have_vanished = (self.evidence.far_end(now) > FarEnd::Kept)
            && self.evidence.configured().any(unanswered);
        may_have_vanished || self.evidence.is_unheard(now)
    }

    /// How long the LAN must be silent to prove that the silent peer's kernel does not hold the group's addresses.
    fn lan_patience(&self, now: Time, group: &GroupState) -> Patience {
        if let Life::Dead { death: Death::Goodbye | Death::Will, .. } = self.evidence.peer.life {
            return Patience::SHORT;
        }
        // If a cable's far end was lost with the peer, its kernel is gone, too. Else the LAN must be silent as long as
        // the beats (P1), less an interval, because the last beat may have left that long before the next was missed,
        // and at least for a minimum.
        let vanished = match self.evidence.peer.life {
            Life::Dead { .. } => self.evidence.far_end(now) == FarEnd::Lost,
            Life::Alive { .. } => self.evidence.far_end(now) > FarEnd::Kept,
            Life::NeverHeard => false,
        };
        let beats_silent = self.evidence.pace.expects + limits::BEAT_LATENESS;
        let beats_silent = self.evidence.pace.dead_after.saturating_sub(beats_silent);
        let least = match vanished && !group.lan.was_answered_in_doubt() {
            true => Duration::ZERO,
            false => beats_silent.max(limits::LAN_SILENCE_MIN),
        };
        let beats = self.evidence.paths.iter().filter(|watch| watch.path == Path::Lan);
        let beats = beats.map(PathWatch::worst_round_trip).max().unwrap_or_default();
        let trip = beats.max(group.lan.worst_round_trip());
        let silence = least.max(trip * limits::LAN_SILENCE_ROUND_TRIPS);
        let holds_nothing = match self.evidence.peer.group(group.index).map(|part| part.stance) {
            Some(Stance::Unable | Stance::Passive | Stance::Granting(_)) => true,
            Some(Stance::Active | Stance::Offering | Stance::Claiming | Stance::Wanting(_))
            | None => self.evidence.peer.life == Life::NeverHeard,
        };
        let proves = holds_nothing || group.lan.is_proven(now);
        let not_before = (!proves).then(|| {
            let heard_at = self.evidence.configured().filter_map(|watch| watch.counted_at).max();
            let heard_at = heard_at.unwrap_or(self.started_at);
            heard_at + limits::LEASE + limits::LEASE_GRACE + limits::PROBE_WAIT
        });
        Patience { silence, not_before }
    }

    pub(in crate::core) fn claim_by_silence(&mut self, now: Time, group: &mut GroupState) -> Role {
        let passive = Role::Passive { granted: None };
        if self.evidence.peer.is_alive() {
            // Heard, but without an entry for this group yet.
            let same =
                self.evidence.peer.last().is_none_or(|beat| beat.digest == self.config.digest);
            group.why = if same {
                "the peer has not yet reported on this group".to_string()
            } else {
                "the peer has not reported on this group: the two nodes' config files differ, and the peer's may \
                 not have it"
                    .to_string()
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
                group.why = "the peer is silent; probing the LAN for the address".to_string();
                group.lan.begin(now, self.yields());
                Role::Probing { want, granted: false }
            }
            Err(refusal) => {
                group.why = refusal.to_string();
                // Waits of some ms at every start are not reported.
                let early = now.since(self.started_at) < limits::PATIENCE_TOLD_AFTER;
                let news = match refusal {
                    Refusal::ReachUnknown | Refusal::CarrierNew | Refusal::NoIntent => false,
                    // No answer can have come yet.
                    Refusal::NotReached => !early && !self.is_lan_carrier_new(now),
                    Refusal::Patience(_)
                    | Refusal::CopyIncomplete
                    | Refusal::CopyBehind
                    | Refusal::CopyStale(_)
                    | Refusal::CopyForked
                    | Refusal::CopyNever => !early,
                    Refusal::Unsure => {
                        group.why = self.unsure_text(group, &refusal);
                        if !early {
                            let why = group.why.clone();
                            self.tell_unsure(now, group, &why);
                        }
                        false
                    }
                    Refusal::Standby
                    | Refusal::Ending
                    | Refusal::NoCarrier
                    | Refusal::NotGranted => true,
                };
                if news {
                    self.tell_refusal(group, &refusal);
                }
                passive
            }
        }
    }

    pub(in crate::core) fn step_probing(
        &mut self,
        now: Time,
        group: &mut GroupState,
        side: Side,
        want: u16,
        granted: bool,
    ) -> Role {
        let passive = Role::Passive { granted: None };
        // The right must hold at every step, not only at the first.
        let right = match (granted, side) {
            (true, Side::Says(Stance::Granting(theirs))) if theirs == want && group.able => {
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
        let patience = if granted { Patience::SHORT } else { self.lan_patience(now, group) };
        loop {
            match group.lan.verdict(now, patience, self.obeys_lease_wait()) {
                Verdict::Send => self.ask_lan(group),
                Verdict::Wait => {
                    let text = if group.lan.is_answered() {
                        "the peer's kernel still answers for the address; waiting for its lease to end"
                    } else if patience.not_before.is_some() {
                        "nobody ever answered for the address on the LAN; waiting for the peer's lease to end"
                    } else {
                        return Role::Probing { want, granted };
                    };
                    text.clone_into(&mut group.why);
                    return Role::Probing { want, granted };
                }
                Verdict::Clear
                    if !right.settled && granted && group.duties.should_be_still(now) =>
                {
                    return self.give_up_settling(now, group);
                }
                Verdict::Clear if !right.settled => {
                    group.why = "applying the changes that were received for the trees".to_string();
                    return Role::Probing { want, granted };
                }
                Verdict::Clear => return self.claim(now, group, right),
                Verdict::Held => {
                    let why = "the peer is silent on every path, but its kernel keeps answering for the address; \
                               check that machine";
                    return self.block(now, group, why.to_string());
                }
                Verdict::Conflict(mac) => {
                    group.conflicts.note(now);
                    let why = format!(
                        "another machine ({}) has the address; remove it from that machine",
                        crate::core::talk::events::mac_text(mac)
                    );
                    return self.block(now, group, why);
                }
            }
        }
    }

    /// Whether this node backs off when the other one probes, too. Decided by the names' order, not by `prefer`: config
    /// files may disagree on that.
    pub(in crate::core) fn yields(&self) -> bool {
        self.me != NodeIndex::Lower
    }

    pub(in crate::core) fn block(
        &mut self,
        now: Time,
        group: &mut GroupState,
        why: String,
    ) -> Role {
        group.lan.forget();
        self.tell_refusal(group, &why);
        group.why.clone_from(&why);
        group.blocked = Some((now + limits::BLOCKED_RETRY, why));
        Role::Passive { granted: None }
    }

    pub(in crate::core) fn claim(
        &mut self,
        now: Time,
        group: &mut GroupState,
        right: Right,
    ) -> Role {
        let before = self.disk.served(&group.name);
        let peer_had_base_at = self.peer_has_base(group).then_some(now);
        let approved = group.accept_loss_until.is_some_and(|until| now < until);
        let first = before.is_none();
        group.tickle |= before.is_some_and(|before| before.owner != self.me);
        self.claim += 1;
        self.out.push_back(Command::Claim { group: group.index, claim: self.claim });
        let (kind, text) = match self.side(group) {
            Side::Says(_) if first => (Kind::Takeover, "first service, agreed with the peer"),
            Side::Says(_) => (Kind::Switchover, "agreed with the peer"),
            Side::Unknown => {
                (Kind::Takeover, "the peer has not been heard since this node started")
            }
            Side::Dead => match self.evidence.peer.life {
                Life::Dead { death: Death::Will, .. } => {
                    let text = "the peer's heart is dead, and its guard took the addresses away";
                    (Kind::Takeover, text)
                }
                Life::Dead { death: Death::Goodbye, .. } => {
                    (Kind::Takeover, "the peer shut down and released it")
                }
                Life::Dead { death: Death::Silent { .. }, .. }
                | Life::Alive { .. }
                | Life::NeverHeard => (Kind::Takeover, "the peer is dead"),
            },
        };
        if let Life::Dead { death: Death::Silent { gone }, .. } = &mut self.evidence.peer.life {
            // This node reaches the LAN, and nobody there has the address: the peer is gone.
            *gone = Some(true);
        }
        group.lan.forget();
        group.why = format!("serving: {text}");
        group.refusal_told = None;
        group.accept_loss_until = None;
        group.letting_since = None;
        group.undrained = None;
        group.failback_at = now;
        group.serves_on = false;
        group.refused.clear();
        group.rival = if self.evidence.peer.is_alive() { Rival::Heard } else { Rival::None };
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
            waits_for_peer: self.peer_still_stops(group),
            recorded: !group.duties.has_mirror(),
            unable_since: None,
            // The peer was well only if it released the group itself; else a failback is due later.
            peer_was_away: right.probe || self.peer_reaches_fewer(now),
            contested: false,
            peer_had_base_at,
            known_to_peer: false,
            forked: false,
            approved,
            tell: Some((kind, text.to_string())),
        })
    }
}
