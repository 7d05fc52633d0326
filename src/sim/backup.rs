//! Disks that are lost, or set back to how they were at an earlier time: state, trees, conflict stores.

use std::time::Duration;

use super::disk::Disk;
use super::mirror::replica::Replica;
use super::pair::Pair;
use super::world::{Happening, World};
use crate::config::NodeIndex;
use crate::core::DiskState;

const MS: Duration = Duration::from_millis(1);
/// Backups that are kept of each node.
const KEPT: usize = 4;

/// Everything on a node's disk at one moment.
#[derive(Clone, Debug)]
struct Backup {
    state: DiskState,
    replicas: Vec<Replica>,
}

/// The newest backups of each node.
#[derive(Debug, Default)]
pub struct Backups(Pair<Vec<Backup>>);

impl World {
    /// A backup of one node is made, and will be again.
    pub(super) fn back_up(&mut self, index: NodeIndex) {
        let node = &self.nodes[index];
        let backup = Backup { state: node.disk.durable().clone(), replicas: node.replicas.clone() };
        let kept = &mut self.backups.0[index];
        kept.push(backup);
        if kept.len() > KEPT {
            kept.remove(0);
        }
        let again_us = self.rng.time_us(300 * MS, 5_000 * MS);
        self.after(again_us, Happening::BackUp(index));
    }

    /// The disk of a node without power is set back to a backup.
    pub(super) fn set_disk_back(&mut self, index: NodeIndex) {
        let kept = &self.backups.0[index];
        let at = self.rng.below(kept.len() as u64) as usize;
        if let Some(Backup { state, replicas }) = kept.get(at).cloned() {
            self.trace.note(self.now_us, || {
                format!("{}'s disk is set back: {state:?} {replicas:?}", self.name(index))
            });
            self.replace_disk(index, state, replicas);
        }
    }

    /// The disk of a node without power is a new one, with nothing on it.
    pub(super) fn blank_disk(&mut self, index: NodeIndex) {
        self.trace.note(self.now_us, || format!("{}'s disk is blank", self.name(index)));
        let blank = vec![Replica::new(); self.config.groups.len()];
        self.replace_disk(index, DiskState::default(), blank);
    }

    fn replace_disk(&mut self, index: NodeIndex, state: DiskState, replicas: Vec<Replica>) {
        let node = &mut self.nodes[index];
        (node.disk, node.replicas) = (Disk::with(state), replicas);
        self.note_disk_replaced(index);
    }
}
