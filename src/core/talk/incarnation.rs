//! How this incarnation starts, joins the pair, and ends.
//!
//! ```text
//!   Sweeping ──nothing left here──▶ Running ──nothing held any more──▶ Farewell ──said──▶ Ended
//! ```

use crate::control::event::Kind;
use crate::control::status::NodeState;
use crate::core::evidence::peer::Life;
use crate::core::group::role::GroupState;
use crate::core::io::time::Time;
use crate::core::{Core, Phase};
use crate::limits;

impl Core {
    /// No service address is left on this node: it may send beats.
    pub(in crate::core) fn swept(&mut self, now: Time) {
        if self.phase != Phase::Sweeping {
            return;
        }
        self.phase = Phase::Running;
        self.round_at = now;
        self.last_round = now;
        // The peer could not be heard during the sweep.
        self.started_at = now;
        let state = if self.disk.standby_wanted() { ", in standby mode" } else { "" };
        self.tell(Kind::Start, None, format!("started{state}; no service address was left here"));
    }

    /// Leaves `joining` when the peer was heard, need not be waited for, or was not heard in time.
    pub(in crate::core) fn join(&mut self, now: Time) {
        if self.joined {
            return;
        }
        let waited = now.since(self.started_at);
        let alone = self.disk.was_alone() && waited >= self.evidence.pace.dead_after;
        let patience = self.config.heartbeat.boot_patience;
        self.joined = self.evidence.peer.is_alive() || alone || waited >= patience;
    }

    /// Keeps `alone` on disk in line with the peer; see [`crate::core::DiskState::alone`].
    pub(in crate::core) fn note_alone(&mut self) {
        // A silent peer whose kernel still answers for an address is not gone. Only a node that serves every group
        // knows that nobody else does.
        let serving = self.groups.iter().all(GroupState::may_hold);
        match self.evidence.peer.life {
            Life::NeverHeard => {
                // `boot_patience` is over and this node serves.
                if serving {
                    self.disk.set_alone(true);
                }
            }
            Life::Alive { .. } => {
                if self.obeys_alone_rule() || self.evidence.peer.is_standby() {
                    self.disk.set_alone(self.evidence.peer.is_standby());
                }
            }
            Life::Dead { .. } => {
                if self.evidence.peer.is_gone() && serving {
                    self.disk.set_alone(true);
                }
            }
        }
    }

    /// How this node is, in one word.
    pub(in crate::core) fn node_state(&self) -> NodeState {
        if self.stalled {
            NodeState::Stalled
        } else if self.disk.standby_wanted() {
            NodeState::Standby
        } else if self.joined {
            NodeState::Online
        } else {
            NodeState::Joining
        }
    }

    /// The daemon is requested to end.
    pub(in crate::core) fn shutdown(&mut self, now: Time) {
        if self.ending_since.is_none() {
            self.ending_since = Some(now);
            self.tell(Kind::Stop, None, "shutting down; handing everything over".to_string());
        }
    }

    /// The guard has died: nobody would remove the addresses of a heart that hangs.
    pub(in crate::core) fn guard_gone(&mut self) {
        if self.guarded {
            self.guarded = false;
            self.tell(
                Kind::Fault,
                None,
                "the guard is gone: handing over if the peer can serve, else serving unguarded; \
                 restart clusterd on this node"
                    .to_string(),
            );
        }
    }

    /// Whether this node is ending: requested to, or without a guard while the peer can take over.
    pub(in crate::core) fn is_ending(&self) -> bool {
        let peer_on_duty = self.evidence.peer.is_alive() && !self.evidence.peer.is_standby();
        self.ending_since.is_some() || (!self.guarded && peer_on_duty)
    }

    /// Begins the farewell once no address is held.
    pub(in crate::core) fn end_if_done(&mut self, now: Time) {
        if !self.is_ending()
            || self.groups.iter().any(GroupState::may_hold)
            || !self.services_have_ended(now)
        {
            return;
        }
        // A farewell lets the peer claim at once: not while this disk says `alone`.
        let sent = if self.disk.surely_not_alone() { 0 } else { limits::FAREWELLS };
        self.phase = Phase::Farewell { sent, next_at: now };
        self.farewell(now);
    }
}
