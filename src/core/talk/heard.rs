//! Frames that come in, and what follows from them at once.

use crate::beat::{Beat, DropReason, Path, Pulse, PulseKind, Stance};
use crate::control::event::Kind;
use crate::control::status::NodeState;
use crate::core::evidence::peer::{Death, Life, Verdict};
use crate::core::group::copy;
use crate::core::group::role::Role;
use crate::core::io::time::Time;
use crate::core::{Command, Core, Phase};
use crate::limits;

impl Core {
    /// A frame was refused before it could be read.
    pub(in crate::core) fn refused(&mut self, path: Path, reason: DropReason) {
        self.watch_mut(path, |watch| watch.refuse(reason));
        let refused = |reason: DropReason| -> u64 {
            self.evidence.paths.iter().map(|watch| watch.refused_for(reason)).sum()
        };
        let [newer, older] = [DropReason::UnknownVersion, DropReason::OldVersion].map(refused);
        let unheard = !self.evidence.peer.is_alive();
        if unheard && !self.newer_told && newer >= limits::MISFITS_TOLD_AFTER {
            self.newer_told = true;
            let text = "the peer speaks a newer version of the heartbeat; upgrade this node";
            self.tell(Kind::Config, None, text.to_string());
        }
        if unheard && !self.newer_told && older >= limits::MISFITS_TOLD_AFTER {
            self.newer_told = true;
            let text = "the peer speaks an older version of the heartbeat; upgrade it";
            self.tell(Kind::Config, None, text.to_string());
        }
    }

    /// An authentic frame came in.
    pub(in crate::core) fn heard(&mut self, now: Time, path: Path, beat: Beat) {
        if beat.node == self.me {
            self.watch_mut(path, |watch| watch.refuse(DropReason::NotPeer));
            return;
        }
        let was = self.evidence.peer.life;
        let was_state = self.evidence.peer.last().map(|last| last.state);
        let prove = self.obeys_two_way_proof();
        let verdict = self.evidence.peer.receive(
            now,
            self.incarnation,
            &mut self.evidence.paths,
            path,
            &beat,
            prove,
        );
        match verdict {
            Verdict::Refused(reason) => self.watch_mut(path, |watch| watch.refuse(reason)),
            Verdict::Introduction => {
                // A first beat names no receiver. A frame for another incarnation of this node is a replay, or the
                // peer does not know yet that this node restarted.
                if beat.peer_incarnation != 0 && beat.peer_incarnation != self.incarnation {
                    self.watch_mut(path, |watch| watch.refuse(DropReason::Introduction));
                }
                self.answer(now, path, &beat);
            }
            Verdict::Past => {
                self.watch_mut(path, |watch| watch.refuse(DropReason::Replay));
                self.learn_generations(&beat);
                self.served_until_now(now, &beat);
            }
            Verdict::Counted { new_incarnation, newest } => {
                self.end_asks(now);
                if beat.farewell {
                    let text = "the peer said goodbye and holds nothing";
                    return self.ended(now, Death::Goodbye, text);
                }
                if beat.will && !self.has_just_woken(now) {
                    // The newest generation may not have been in its beats, and it decides who claims with what.
                    self.learn_generations(&beat);
                    let text = format!(
                        "the peer's last will, from its guard, came on {}: its heart is dead and every service \
                         address was removed there; its services may still run",
                        path.name()
                    );
                    return self.ended(now, Death::Will, &text);
                }
                if new_incarnation {
                    self.met();
                } else if !matches!(was, Life::Alive { .. }) {
                    self.tell(
                        Kind::PeerAlive,
                        None,
                        format!("the peer is heard again on {}", path.name()),
                    );
                }
                if newest {
                    self.compare_configs(beat.digest);
                    self.compare_macs();
                    self.news_of_state(was_state, beat.state);
                    self.learn_generations(&beat);
                    self.hear_wish(now, &beat);
                }
                if beat.ask_answer {
                    self.answer(now, path, &beat);
                }
                self.join_round(now);
            }
        }
    }

    /// A late beat says that the peer serves: perhaps its machine was paused and has just resumed. Until it releases,
    /// its kernel answers ARP requests.
    fn served_until_now(&mut self, now: Time, beat: &Beat) {
        for part in beat.groups.iter().filter(|part| part.stance.may_hold()) {
            self.with_group(part.group, |core, group| {
                let Role::Active(active) = &mut group.role else { return };
                // Not for each frame at once.
                active.announced = 0;
                active.announce_at = active.announce_at.min(now + limits::ANNOUNCE_GAP);
                let text = "a late heartbeat of the peer says that it serves; announcing again";
                core.tell_meddling(now, group, text.to_string());
            });
        }
    }

    /// A round that is nearly due goes out right after a frame came in, so that each node wakes up once for both.
    fn join_round(&mut self, now: Time) {
        if self.round_at.since(now) <= self.evidence.pace.sends / limits::ROUND_JOINS_SHARE {
            self.round_at = now;
        }
    }

    /// A pulse came in on the serial line.
    pub(in crate::core) fn pulsed(&mut self, now: Time, pulse: Pulse) {
        let ours = pulse.peer_incarnation == self.incarnation
            && self.evidence.peer.incarnation() == Some(pulse.incarnation);
        let past = self.evidence.peer.is_past(now, pulse.number);
        let mut newer = false;
        self.watch_mut(Path::Serial, |watch| {
            newer = ours
                && match pulse.kind {
                    PulseKind::Ask | PulseKind::Life => {
                        !past && watch.was_pulsed(now, pulse.number)
                    }
                    PulseKind::Answer => watch.was_answered(now, pulse.number),
                };
            match (ours, newer) {
                (false, _) => watch.refuse(DropReason::EndedIncarnation),
                (true, false) => watch.refuse(DropReason::Replay),
                (true, true) => {}
            }
        });
        if newer && pulse.kind != PulseKind::Answer {
            self.evidence.peer.pulsed(now, pulse.number);
        }
        if newer && pulse.kind == PulseKind::Ask && self.phase == Phase::Running {
            let answer = Pulse {
                kind: PulseKind::Answer,
                incarnation: self.incarnation,
                peer_incarnation: pulse.incarnation,
                number: pulse.number,
            };
            self.out.push_back(Command::Pulse(answer));
        }
    }

    /// A new incarnation of the peer was proven.
    fn met(&mut self) {
        self.wishes.peer_restarted();
        self.tell(
            Kind::PeerAlive,
            None,
            "the peer is heard, a new incarnation: it removed its service addresses before its first heartbeat"
                .to_string(),
        );
        // A new incarnation may have another config.
        self.configs_differ = false;
    }

    fn news_of_state(&mut self, was: Option<NodeState>, is: NodeState) {
        let text = match (was == Some(NodeState::Standby), is == NodeState::Standby) {
            (false, true) => "the peer is in standby mode: it owns nothing",
            (true, false) => "the peer left standby mode",
            (true, true) | (false, false) => return,
        };
        self.tell(Kind::PeerState, None, text.to_string());
    }

    fn learn_generations(&mut self, beat: &Beat) {
        for part in beat.groups.iter().filter(|part| part.generation > 0) {
            let served =
                crate::core::Generation { number: part.generation, owner: part.owner, id: part.id };
            if let Some(group) = self.groups.get(usize::from(part.group.0)) {
                if part.stance == Stance::Claiming {
                    self.disk.avoid(&group.name, served);
                    continue;
                }
                let trees = group.duties.has_mirror();
                // Forked: the generations of both nodes are kept apart until an administrator decides. If both
                // serve, one of them releases and follows the other.
                let serves = matches!(part.stance, Stance::Active | Stance::Offering);
                let forked = matches!(&group.role, Role::Active(active)
                    if active.forked || (trees && !serves && copy::is_fork(active, part)));
                if !forked && serves && part.owner == beat.node {
                    self.disk.learn_from_owner(&group.name, served, trees);
                } else if !forked {
                    self.disk.learn(&group.name, served, trees);
                }
            }
        }
    }

    /// Frames that are read now may have waited while this node was stalled. A last will may be older than the heart
    /// that started after it; then only silence counts.
    fn has_just_woken(&self, now: Time) -> bool {
        self.evidence.woke_at.is_some_and(|at| now.since(at) < self.evidence.pace.expects)
    }

    /// The peer's incarnation has ended, and it holds nothing.
    fn ended(&mut self, now: Time, death: Death, text: &str) {
        self.evidence.peer.end(now);
        self.evidence.peer.life = Life::Dead { death, at: now };
        for watch in &mut self.evidence.paths {
            watch.close();
        }
        for group in &mut self.groups {
            // Earlier answers of its kernel prove nothing now: probe again.
            group.lan.forget();
            if let Role::Probing { .. } = group.role {
                group.role = Role::Passive { granted: None };
            }
        }
        self.tell(Kind::PeerDead, None, text.to_string());
    }
}
