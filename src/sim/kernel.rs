//! A node's kernel: service addresses with leases. It runs on when every process is frozen.

use crate::config::GroupIndex;
use crate::limits;

/// One group's addresses on a node (they are added and taken away together).
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// When the kernel takes them away, in its own time (it is stalled while the machine is
    /// paused); `None`: never, because somebody else added them.
    pub due_us: Option<u64>,
    /// Tells a renewed lease from the one before.
    pub serial: u64,
}

/// The service addresses of a node.
#[derive(Debug)]
pub struct Kernel {
    held: Vec<Option<Lease>>,
    /// Somebody else deleted them, and they were not put back yet.
    deleted: Vec<bool>,
    serial: u64,
}

impl Kernel {
    /// A kernel that has just booted.
    pub fn new(groups: usize) -> Kernel {
        Kernel { held: vec![None; groups], deleted: vec![false; groups], serial: 0 }
    }

    /// The group's lease, if its addresses are there.
    pub fn lease(&self, group: GroupIndex) -> Option<Lease> {
        self.held[usize::from(group.0)]
    }

    /// Whether the daemon's lease holds the group's addresses (not something foreign).
    pub fn holds(&self, group: GroupIndex) -> bool {
        self.lease(group).is_some_and(|lease| lease.due_us.is_some())
    }

    /// Adds or renews with the lease of the limits; the kernel is `late_us` behind in taking it away.
    pub fn add(&mut self, group: GroupIndex, kernel_now_us: u64, late_us: u64) -> Lease {
        self.serial += 1;
        let due_us = Some(kernel_now_us + limits::LEASE.as_micros() as u64 + late_us);
        let lease = Lease { due_us, serial: self.serial };
        self.held[usize::from(group.0)] = Some(lease);
        self.deleted[usize::from(group.0)] = false;
        lease
    }

    /// Somebody else deletes the group's addresses; whether they were there.
    pub fn delete_foreign(&mut self, group: GroupIndex) -> bool {
        let there = self.remove(group);
        self.deleted[usize::from(group.0)] |= there;
        there
    }

    /// Whether it cannot answer for addresses that its process believes to have.
    pub fn lacks_deleted(&self) -> bool {
        self.deleted.contains(&true)
    }

    /// Somebody else adds the addresses, without a lease.
    pub fn add_foreign(&mut self, group: GroupIndex) {
        self.serial += 1;
        self.held[usize::from(group.0)] = Some(Lease { due_us: None, serial: self.serial });
    }

    /// Takes the addresses away; whether they were there.
    pub fn remove(&mut self, group: GroupIndex) -> bool {
        self.held[usize::from(group.0)].take().is_some()
    }

    /// Takes all addresses away.
    pub fn remove_all(&mut self) {
        self.held.fill(None);
    }
}
