//! Looks at every path, asks where one is late, and judges whether the peer is dead.

use std::time::Duration;

use crate::beat::Path;
use crate::control::event::Kind;
use crate::control::status::PathState;
use crate::core::evidence::peer::{Death, Life};
use crate::core::evidence::reach::Proof;
use crate::core::io::time::Time;
use crate::core::{Command, Core, Phase};
use crate::limits;

impl Core {
    /// Looks at every path's silence: tells changes, sends asks, starts reach bursts.
    pub(in crate::core) fn watch_paths(&mut self, now: Time) {
        let overdue = self.evidence.overdue_at().is_some_and(|at| now >= at);
        let second = self.evidence.crossover.take_look(now)
            | self.evidence.modem.take_look(now)
            | self.evidence.reach.take_look(now);
        if second || overdue {
            self.look_at_carriers(now);
        }
        let gap = self.evidence.peer.worst_gap();
        let hears = self.evidence.peer.hears();
        let mut newly_late = false;
        for path in Path::ALL {
            let Some(watch) = self.evidence.paths.iter_mut().find(|watch| watch.path == path)
            else {
                continue;
            };
            let state = watch.state(now, gap, hears.has(path));
            newly_late |= state == PathState::Late && watch.seen != PathState::Late;
            let news = watch.is_news(now, state);
            let late = news && state == PathState::Late;
            let told = (news && !late && watch.storm.changed(now, state)).then_some((state, 0));
            let told = told.or_else(|| watch.storm.take_due(now));
            let silence = watch.heard_at.map_or(Duration::ZERO, |at| now.since(at));
            let left = watch.silent_at(gap).map_or(Duration::ZERO, |at| at.since(now));
            if news && path == Path::Lan && state == PathState::Up {
                self.announce_all_again(now);
            }
            if late {
                self.tell_late(path, silence, left);
            }
            if let Some((state, untold)) = told {
                self.tell_path(path, state, untold);
            }
        }
        if self.evidence.asks_line_first(now) {
            self.ask_line(now);
        }
        if newly_late && self.evidence.fast_paths().all(|watch| watch.asked_at.is_none()) {
            self.ask(now);
            self.evidence.reach.suspect(now);
        }
        if self.ask_again_at.is_some_and(|at| now >= at) {
            self.ask_again_at = None;
            // Also after an answer: a node that loses its power may still answer once.
            if self.evidence.is_urgent(now) {
                self.ask(now);
            }
        }
        self.pulse_at_rest(now);
        let all_late = self.evidence.configured().all(|watch| watch.is_late(now));
        if all_late && self.evidence.peer.is_alive() {
            if self.evidence.suspected_at.is_none() {
                self.evidence.suspected_at = Some(now);
                self.evidence.reach.suspect(now);
                self.look_at_carriers(now);
            }
        } else if self.evidence.peer.is_alive() && !self.evidence.is_urgent(now) {
            self.evidence.suspected_at = None;
        }
    }

    /// Asks the reach hosts if a round is due: after everything that may have raised a suspicion.
    pub(in crate::core) fn ask_reach(&mut self, now: Time) {
        if let Some(round) = self.evidence.reach.due(now) {
            self.out.push_back(Command::AskReach { round });
        }
    }

    /// Finds the peer dead when every path is silent, and whether it is gone or this node cut off.
    pub(in crate::core) fn judge_peer(&mut self, now: Time) {
        match self.evidence.peer.life {
            Life::NeverHeard => {}
            Life::Alive { .. } => {
                if self.evidence.is_peer_silent(now) {
                    let death = Death::Silent { gone: None };
                    self.evidence.peer.life = Life::Dead { death, at: now };
                    self.evidence.reach.suspect(now);
                    self.judge_gone(now, now);
                }
            }
            Life::Dead { death, at } => match death {
                Death::Silent { gone: None } => self.judge_gone(now, at),
                Death::Silent { gone: Some(_) } | Death::Goodbye | Death::Will => {}
            },
        }
    }

    /// Only an answer of a reach host shows that this node is not the one that is cut off. Frames of other hosts do
    /// not: in a split LAN an owner would keep its addresses while the peer, in the part with the reach hosts, takes
    /// them over (P1 before P2).
    fn judge_gone(&mut self, now: Time, at: Time) {
        let since = self.evidence.suspected_at.unwrap_or(at);
        let gone = match self.evidence.reach.proof(now, since) {
            Proof::Reached => true,
            Proof::NotReached => false,
            Proof::Unknown => return self.evidence.reach.suspect(now),
        };
        self.evidence.peer.life = Life::Dead { death: Death::Silent { gone: Some(gone) }, at };
        let text = if gone {
            "the peer is silent on every path and this node reaches the LAN: it is gone"
        } else {
            "the peer is silent on every path and this node does not reach the LAN: \
             this node is cut off"
        };
        self.tell(Kind::PeerDead, None, text.to_string());
    }

    /// Whether a claim may rely on this node's reach now. `asked_for_at`: when the peer offered the group, perhaps
    /// because the LAN is dead for both; only an answer to a later question counts.
    pub(in crate::core) fn fresh_reach(&mut self, now: Time, asked_for_at: Option<Time>) -> Proof {
        let fresh = Time(now.0.saturating_sub(limits::REACH_FRESH.as_micros() as u64));
        let causes = [self.evidence.suspected_at, asked_for_at].into_iter().flatten();
        let since = causes.fold(fresh, Time::max);
        // A node whose kernel does not answer must not take the group. A look at the carriers since the offer shows
        // that it does.
        let answers = asked_for_at.is_none_or(|at| self.evidence.reach.carrier_seen_at() >= at);
        let proof = match self.evidence.reach.proof(now, since) {
            Proof::Reached if !answers => Proof::Unknown,
            proof @ (Proof::Reached | Proof::NotReached | Proof::Unknown) => proof,
        };
        if proof == Proof::Unknown && self.phase == Phase::Running {
            self.evidence.reach.suspect(now);
        }
        proof
    }

    /// Whether the core waits for an answer to an urgent ask, so that each sign of life matters.
    pub fn is_asking(&self) -> bool {
        self.evidence.is_urgent(self.now)
    }

    /// Something was heard: a path that has been silent for long is no longer asked in every beat.
    pub(in crate::core) fn end_asks(&mut self, now: Time) {
        if !self.evidence.is_urgent(now) {
            self.stop_asking();
        }
    }

    pub(in crate::core) fn stop_asking(&mut self) {
        for watch in &mut self.evidence.paths {
            watch.asked_at = None;
        }
    }
}
