//! Who writes to the trees: clients of a served group; strays of a service that runs on without its
//! addresses; and programs that nobody told to stop.

use std::time::Duration;

use super::mirror::replica::FILES;
use super::worker::Program;
use super::world::{Happening, World};
use crate::config::{GroupIndex, NodeIndex};
use crate::core::Wish;

const MS: Duration = Duration::from_millis(1);
/// Without a service: so long after the addresses went away something may still be written, in µs.
const STRAY_US: u64 = 300_000;

impl World {
    /// Somebody may write to a group's tree, or ask for a barrier.
    pub(super) fn client(&mut self, group: GroupIndex) {
        if self.clients_rest {
            return;
        }
        let again_us = self.rng.time_us(5 * MS, 800 * MS);
        self.after(again_us, Happening::Client(group));
        for index in NodeIndex::BOTH {
            if self.may_write(index, group) {
                self.write(index, group);
                if self.rng.chance(50) && self.nodes[index].heart.is_some() {
                    self.wish(index, Wish::Sync { group, wait: true, from: None });
                }
            }
        }
    }

    fn may_write(&mut self, index: NodeIndex, group: GroupIndex) -> bool {
        let at = usize::from(group.0);
        let node = &self.nodes[index];
        let held_us = node.held_us[at];
        let served = held_us == Some(self.now_us) || node.kernel.holds(group);
        let lately = held_us.is_some_and(|held_us| self.now_us - held_us < STRAY_US);
        let (may, often) = match self.setup.groups[at].service {
            Some(_) if node.programs[at] != Program::Up => (false, false),
            Some(false) => (true, served),
            Some(true) | None => (served || lately, served),
        };
        node.runs() && may && (often || self.rng.chance(300))
    }

    fn write(&mut self, index: NodeIndex, group: GroupIndex) {
        let file = self.rng.below(FILES as u64) as usize;
        let saw = self.replica(index, group).tree[file];
        let version = self.note_write(index, group, saw);
        self.trace.note(self.now_us, || {
            format!("{} writes version {version} over {saw} of file {file}", self.name(index))
        });
        self.replica(index, group).tree[file] = version;
        self.tree_touched(index, group);
    }
}
