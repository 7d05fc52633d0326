//! Arbitration by reach: whether this node reaches the LAN worse than a living peer, what follows for a group that it
//! serves, and how often.
//!
//! Both nodes count the reach hosts that answer them, and their beats carry the counts. Counts can be compared only
//! while both nodes ask the same hosts, so not between the reloads of the two. They are never of the same instant: an
//! answer is remembered for [`limits::REACH_MEMORY`], and each node asks at its own times, so a dead host leaves one
//! count up to a round before the other. Therefore a difference counts only after [`limits::REACH_ROUNDS`] rounds; the
//! loss of this node's own carrier counts at once.
//!
//! A difference says nothing about a death of the peer and gives no right to serve: the owner offers, the peer proves
//! that it reaches a host now and requests the group, the owner hands over.

use std::collections::VecDeque;

use super::role::{GroupState, Offer};
use crate::beat::{Beat, Path};
use crate::control::event::Kind;
use crate::core::Core;
use crate::core::evidence::reach::Proof;
use crate::core::io::time::Time;
use crate::limits;

/// In what this node reaches the LAN worse than the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worse {
    /// It has no carrier, and the peer has one.
    NoCarrier,
    /// No host answers it; some answer the peer.
    Nobody,
    /// Fewer hosts answer it than the peer.
    Fewer,
}

/// This node has reached the LAN worse than the peer for a while.
#[derive(Clone, Copy, Debug)]
pub(in crate::core) struct Lag {
    since: Time,
    worse: Worse,
    /// It began with the loss of this node's own carrier.
    by_loss: bool,
}

/// The newest automatic handovers of a group while this node could have served on.
#[derive(Clone, Debug, Default)]
pub struct Moves {
    newest: VecDeque<Time>,
    told: bool,
}

impl Moves {
    /// One more.
    pub(in crate::core) fn note(&mut self, now: Time) {
        if self.newest.len() >= limits::MOVES_MAX {
            self.newest.pop_front();
        }
        self.newest.push_back(now);
        self.told = false;
    }

    /// Whether the budget is spent.
    pub(in crate::core) fn are_spent(&self, now: Time) -> bool {
        let oldest = self.newest.front().filter(|_| self.newest.len() >= limits::MOVES_MAX);
        oldest.is_some_and(|&at| now.since(at) < limits::MOVES_WITHIN)
    }
}

impl Core {
    /// Updates [`Core::lag`]. A LAN that recovers does so on one node first; that moves nothing.
    pub(in crate::core) fn note_lag(&mut self, now: Time) {
        let peer = self.evidence.peer.last().filter(|_| self.evidence.peer.is_alive());
        let found = match (self.evidence.reach.carrier_lost_at(now), peer) {
            (Some(at), Some(beat)) if beat.lan_carrier => {
                Some((Worse::NoCarrier, now.since(at) < limits::REACH_BURST))
            }
            (None, Some(beat)) if beat.reach > 0 && !self.configs_differ => {
                let silent_at = self.lan_silent_at(now);
                if silent_at
                    .is_some_and(|at| self.evidence.reach.proof(now, at) == Proof::NotReached)
                {
                    let fresh = |at: Time| now.since(at) < limits::REACH_BURST;
                    Some((Worse::Nobody, silent_at.is_some_and(fresh)))
                } else if self.evidence.reach.lost_for(now, limits::REACH_EVERY) {
                    Some((Worse::Nobody, false))
                } else if self.asks_the_same(beat)
                    && self.evidence.reach.count(now) < beat.reach.into()
                {
                    Some((Worse::Fewer, false))
                } else {
                    None
                }
            }
            (Some(_) | None, Some(_) | None) => None,
        };
        let off = |worse| worse == Worse::NoCarrier;
        self.lag = found.map(|(worse, fresh)| match self.lag {
            Some(lag) if off(lag.worse) == off(worse) => {
                Lag { worse, by_loss: lag.by_loss || fresh, ..lag }
            }
            Some(_) | None => Lag { since: now, worse, by_loss: fresh },
        });
    }

    /// Since when the LAN has been silent both ways while the peer is heard on another path.
    fn lan_silent_at(&self, now: Time) -> Option<Time> {
        let gap = self.evidence.peer.worst_gap();
        let lan = self.evidence.paths.iter().find(|watch| watch.path == Path::Lan)?;
        lan.silent_at(gap).filter(|&at| now >= at && !self.evidence.peer.hears().has(Path::Lan))
    }

    fn asks_the_same(&self, beat: &Beat) -> bool {
        !self.configs_differ && usize::from(beat.reach_of) == self.evidence.reach.hosts()
    }

    /// Whether fewer hosts answer the peer than this node, by what is known.
    pub(in crate::core) fn peer_reaches_fewer(&self, now: Time) -> bool {
        self.evidence.peer.last().filter(|_| self.evidence.peer.is_alive()).is_some_and(|beat| {
            self.asks_the_same(beat) && usize::from(beat.reach) < self.evidence.reach.count(now)
        })
    }

    /// Whether the owner of a group offers it because the peer reaches the LAN better.
    ///
    /// Without a carrier, or if no host answers, the clients probably have no service, so the budget does not keep the
    /// group there. A flapping reach host looks the same, so once the budget is spent the silence must last longer.
    pub(in crate::core) fn offer_by_reach(
        &mut self,
        now: Time,
        group: &mut GroupState,
    ) -> Option<Offer> {
        let Lag { since, worse, by_loss } = self.lag?;
        let lasted = now.since(since);
        // Unless this node's own carrier was lost, the difference must last: rounds get lost, and a switch that comes
        // back serves one port first.
        let rounds = limits::REACH_EVERY * limits::REACH_ROUNDS;
        if !by_loss && lasted < rounds {
            return None;
        }
        match worse {
            Worse::NoCarrier => Some(Offer::NoCarrier),
            Worse::Nobody => {
                let again = lasted >= limits::REACH_LOST_AGAIN;
                (again || self.has_moves_left(now, group)).then_some(Offer::NotReached)
            }
            Worse::Fewer => self.has_moves_left(now, group).then_some(Offer::FewerReached),
        }
    }

    /// Whether the budget allows one more automatic handover; if not, an event says so once.
    pub(in crate::core) fn has_moves_left(&mut self, now: Time, group: &mut GroupState) -> bool {
        if !group.moves.are_spent(now) {
            return true;
        }
        if !group.moves.told {
            group.moves.told = true;
            let text = format!(
                "not handed over again: this node has done so {} times within {} minutes; compare which reach \
                 hosts answer each node, or use `clusterd move`",
                limits::MOVES_MAX,
                limits::MOVES_WITHIN.as_secs() / 60
            );
            self.tell(Kind::Reach, Some(&group.name), text);
        }
        false
    }
}
