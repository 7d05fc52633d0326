//! The last will: what the guard sends to the peer if this heart dies without a farewell.
//!
//! The guard sends it only when the process has ended and a look has shown that no service address is left on this
//! node. It ends this incarnation at once, and the peer claims on it as on a farewell: with a probe, and without
//! waiting for silence. So it is in the guard's page only while the peer may do that at any later moment:
//!
//! - the peer's incarnation is proven and heard: no other one can accept it;
//! - the disk certainly does not say `alone`: else the next heart claims without having heard the peer;
//! - this heart is at work: before its sweep it knows nothing, and its farewells say the same.
//!
//! When one of these ends, the will is withdrawn before anything else is commanded. It names the newest generation that
//! was served; one that is being claimed only from when its address is held. Its sequence is the highest possible: it outranks every beat of this
//! incarnation, and counts once.

use super::speak::group_beat;
use crate::beat::{Beat, CopyBeat, PathSet, Stance};
use crate::control::status::NodeState;
use crate::core::group::role::GroupState;
use crate::core::{Core, Phase};
use crate::limits;

impl Core {
    /// Updates the will if its content changed.
    pub(in crate::core) fn write_will(&mut self) {
        let will = self.last_will();
        if self.will != will {
            self.will = will;
            self.will_changed = true;
        }
    }

    fn last_will(&self) -> Option<Beat> {
        let at_work = self.phase == Phase::Running && self.evidence.peer.is_alive();
        let peer_incarnation = self.evidence.peer.incarnation().filter(|_| at_work)?;
        if !self.disk.surely_not_alone() {
            return None;
        }
        // A claim that is under way is no generation yet.
        let released = |group: &GroupState| {
            let copy = CopyBeat { detail: None, ..self.copy_beat(group) };
            group_beat(group.index, Stance::Passive, false, self.newest_on_record(group), copy)
        };
        // Only what seldom changes, because each change is written into the page. The rest (times, reach, addresses)
        // the peer knows from earlier beats or no longer needs.
        Some(Beat {
            node: self.me,
            incarnation: self.incarnation,
            peer_incarnation,
            sequence: u64::MAX,
            sent_us: 1,
            echo_us: 0,
            echo_held_us: 0,
            ask_answer: false,
            farewell: false,
            will: true,
            state: if self.disk.standby_wanted() { NodeState::Standby } else { NodeState::Online },
            may_claim: true,
            hears: PathSet::default(),
            lan_carrier: false,
            reach: 0,
            reach_of: 0,
            worst_gap_ms: 0,
            lan_mac: [0; 6],
            sync: [0; 8],
            digest: self.config.digest,
            wish: None,
            answer: None,
            groups: self.groups.iter().take(limits::GROUPS_MAX).map(released).collect(),
        })
    }
}
