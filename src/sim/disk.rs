//! A node's disk and the worker that writes to it.

use super::rng::Rng;
use crate::core::DiskState;

/// A write that was asked for.
#[derive(Clone, Debug)]
pub struct Write {
    /// Its number.
    pub number: u64,
    /// What to write.
    pub state: DiskState,
}

/// What is durable, what is being written, and what waits.
#[derive(Debug, Default)]
pub struct Disk {
    durable: DiskState,
    writing: Option<Write>,
    waiting: Option<Write>,
}

impl Disk {
    /// A disk on which that is durable.
    pub fn with(durable: DiskState) -> Disk {
        Disk { durable, ..Disk::default() }
    }

    /// What a reader finds.
    pub fn durable(&self) -> &DiskState {
        &self.durable
    }

    /// Takes a request: only the newest waits. True if the disk was idle and a write begins now.
    pub fn ask(&mut self, write: Write) -> bool {
        if self.writing.is_some() {
            self.waiting = Some(write);
            return false;
        }
        self.writing = Some(write);
        true
    }

    /// The write that was going on is durable: its number, and whether the next one begins.
    pub fn done(&mut self) -> Option<(u64, bool)> {
        let write = self.writing.take()?;
        self.durable = write.state;
        self.writing = self.waiting.take();
        Some((write.number, self.writing.is_some()))
    }

    /// The writer is gone: each write that was not acknowledged may be there or not, in order.
    pub fn crash(&mut self, rng: &mut Rng) {
        for write in [self.writing.take(), self.waiting.take()].into_iter().flatten() {
            if rng.chance(500) {
                self.durable = write.state;
            } else {
                return;
            }
        }
    }
}
