//! Rules that a test may switch off, to show that the simulator notices. The product contains nothing of this: without
//! `cfg(test)` each rule is a constant.

use std::time::Duration;

use crate::config::WhenUnsure;
use crate::core::Core;
use crate::core::group::right::Copy;
use crate::core::group::role::GroupState;
use crate::core::io::disk::Generation;

/// A rule switched off.
#[cfg(test)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Claims without asking the LAN.
    NoProbe,
    /// Asks the LAN, but does not wait for a lease that the peer's kernel still holds.
    NoLeaseWait,
    /// Counts its own stalls as the peer's silence, and renews after them as if nothing had happened.
    NoStallRule,
    /// Counts every authentic frame, whatever incarnations it names.
    NoTwoWayProof,
    /// Never clears `alone` on disk.
    AloneNeverCleared,
    /// Claims `dead_after` after any start.
    NoBootPatience,
    /// Claims with a generation that is not on disk.
    NoPersistedGeneration,
    /// Claims before acknowledged changes of the trees are applied.
    NoSettling,
    /// Claims with trees that are incomplete, behind or were never synchronised.
    NoCopyRule,
    /// Lets the peer claim before it has the last changes of the trees.
    NoDrain,
    /// Claims with trees without having heard the peer since its start, which may have served later.
    ServesUnsure,
    /// Relies on old reports of a worker that stands still.
    TrustsSilentWorker,
    /// Accepts the trees of a generation before the newest that it knows.
    StaleIn,
    /// The guard sends the last will before it has removed the addresses; the simulator's guard obeys this.
    WillFirst,
}

/// Rules that only a test can switch off.
impl Core {
    #[cfg(test)]
    fn sabotaged(&self, which: Sabotage) -> bool {
        self.sabotage == Some(which)
    }

    /// Switches a rule off.
    #[cfg(test)]
    pub fn sabotage(&mut self, which: Sabotage) {
        self.sabotage = Some(which);
    }

    pub(in crate::core) fn obeys_stall_rule(&self) -> bool {
        #[cfg(test)]
        if self.sabotaged(Sabotage::NoStallRule) {
            return false;
        }
        true
    }

    pub(in crate::core) fn obeys_alone_rule(&self) -> bool {
        #[cfg(test)]
        if self.sabotaged(Sabotage::AloneNeverCleared) {
            return false;
        }
        true
    }

    pub(in crate::core) fn obeys_two_way_proof(&self) -> bool {
        #[cfg(test)]
        if self.sabotaged(Sabotage::NoTwoWayProof) {
            return false;
        }
        true
    }

    pub(in crate::core) fn obeys_probe(&self) -> bool {
        #[cfg(test)]
        if self.sabotaged(Sabotage::NoProbe) {
            return false;
        }
        true
    }

    pub(in crate::core) fn obeys_lease_wait(&self) -> bool {
        #[cfg(test)]
        if self.sabotaged(Sabotage::NoLeaseWait) {
            return false;
        }
        true
    }

    pub(in crate::core) fn copy(&self, group: &GroupState) -> Copy {
        let copy = self.worth(group);
        #[cfg(test)]
        match copy {
            Copy::Settling if self.sabotaged(Sabotage::NoSettling) => return Copy::Whole,
            Copy::Incomplete | Copy::Behind | Copy::Never | Copy::Stale { .. } | Copy::Forked
                if self.sabotaged(Sabotage::NoCopyRule) =>
            {
                return Copy::Whole;
            }
            Copy::NotNeeded
            | Copy::Whole
            | Copy::Settling
            | Copy::Incomplete
            | Copy::Behind
            | Copy::Never
            | Copy::Stale { .. }
            | Copy::Forked => {}
        }
        copy
    }

    pub(in crate::core) fn is_drained(&self, group: &GroupState) -> bool {
        #[cfg(test)]
        if self.sabotaged(Sabotage::NoDrain) {
            return true;
        }
        group.duties.is_drained()
    }

    pub(in crate::core) fn obeys_newest_generation(&self) -> bool {
        #[cfg(test)]
        if self.sabotaged(Sabotage::StaleIn) {
            return false;
        }
        true
    }

    pub(in crate::core) fn obeys_worker_silence(&self) -> bool {
        #[cfg(test)]
        if self.sabotaged(Sabotage::TrustsSilentWorker) {
            return false;
        }
        true
    }

    pub(in crate::core) fn serves_unsure(&self, group: &GroupState) -> bool {
        #[cfg(test)]
        if self.sabotaged(Sabotage::ServesUnsure) {
            return true;
        }
        let config = self.config.groups.get(usize::from(group.index.0));
        config.is_some_and(|config| config.when_unsure == WhenUnsure::Serve)
    }

    pub(in crate::core) fn boot_patience(&self) -> Duration {
        #[cfg(test)]
        if self.sabotaged(Sabotage::NoBootPatience) {
            return self.evidence.pace.dead_after;
        }
        self.config.heartbeat.boot_patience
    }

    pub(in crate::core) fn intent(&mut self, name: &str) -> Option<Generation> {
        #[cfg(test)]
        if self.sabotaged(Sabotage::NoPersistedGeneration) {
            return self.disk.undurable_intent(name);
        }
        self.disk.usable_intent(name)
    }
}
