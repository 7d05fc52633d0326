//! The last will: what the guard says to the peer if this heart dies without a word.
//!
//! The guard sends it only when the process has ended and a look has shown that no service address is left
//! on this node. It ends this incarnation at once, and the peer claims on it as on a goodbye: with a
//! probe, and without waiting for silence. So it stands in the guard's page only while the peer may do
//! that at any later moment:
//!
//! - the peer's incarnation is proven and heard: only that one can count it;
//! - the disk surely does not say `alone`: the heart that follows claims then, without having heard anybody;
//! - this heart is at work: before its sweep it knows nothing, in its goodbyes it says the same itself.
//!
//! When one of these ends, the will is withdrawn before anything else is commanded. It names the newest
//! generation that was served, before the claim to it is commanded. Its sequence is the highest there is: it
//! outranks every beat of this incarnation, and counts once.

use crate::beat::{Beat, CopyBeat, GroupBeat, PathSet, Stance};
use crate::control::status::NodeState;
use crate::core::{Core, Phase};

impl Core {
    /// Has the will changed if what it would say has.
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
        let released = |part: GroupBeat| {
            let copy = CopyBeat { detail: None, ..part.copy };
            GroupBeat { stance: Stance::Passive, serving: false, copy, ..part }
        };
        // Only what seldom changes: each change is written into the page. What is left out (times, reach,
        // addresses) the peer knows from the beats before, or needs no more.
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
            groups: self.group_beats().map(released).collect(),
        })
    }
}
