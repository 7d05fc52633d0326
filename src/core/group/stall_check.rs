//! What a group's owner does after a stall: the peer may have claimed meanwhile.

use std::time::Duration;

use super::role::{Check, GroupState, Role};
use super::step::Side;
use crate::core::Core;
use crate::core::io::time::Time;
use crate::limits;

/// The result of the check after a stall.
pub(in crate::core) enum CheckOutcome {
    /// Nothing yet.
    Open(Check),
    /// Somebody else owns it.
    OwnerElsewhere,
    /// Nobody else does.
    StillOwner,
}

impl Core {
    /// This node was stalled for `late`; the peer could have claimed after `longest_safe`.
    pub(in crate::core) fn group_overslept(
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
                let why = "this node stalled for longer than its lease";
                self.release(now, group, false, why)
            }
            Role::Active(mut active) => {
                // A peer that was known to be gone before the stall, which is on disk as `alone`, cannot have claimed.
                let surely_gone = self.evidence.peer.is_gone() && self.disk.was_alone();
                if late >= longest_safe && !surely_gone {
                    active.check.get_or_insert(Check::begin(now));
                }
                Role::Active(active)
            }
            // What was learned before the stall proves nothing now: begin again.
            Role::Wanting { .. } | Role::Probing { .. } => Role::Passive { granted: None },
            Role::Passive { granted } => Role::Passive { granted },
            Role::Releasing { handover, drain, .. } => {
                Role::Releasing { handover, repeat_at: now, drain }
            }
            Role::Draining(draining) => Role::Draining(draining),
        };
    }

    /// Whether the peer's newest beat is older than this node's last stall.
    pub(in crate::core) fn is_word_from_before_gap(&self) -> bool {
        self.evidence.woke_at.is_some_and(|at| self.is_older_than(at))
    }

    /// Frames that waited in the sockets are older than the stall: only an answer to a frame sent after it shows the
    /// peer's stance now.
    fn is_older_than(&self, at: Time) -> bool {
        self.evidence.peer.spoke_after() < at
    }

    pub(in crate::core) fn check(
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
        // The rule for two owners has handled a peer that serves.
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
