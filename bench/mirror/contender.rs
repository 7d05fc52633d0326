//! Who brings a tree over. A contender is a file of its own and a line here.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::pair::Pair;
use super::rsync::Rsync;
use super::work::{Change, Work};
use crate::{BenchError, Setting};

/// A pair of namespaces with a tree in one and a replica in the other, and who mirrors.
pub trait Contender {
    /// As it is shown.
    fn name(&self) -> &'static str;

    /// The tree that is changed, and its replica.
    fn trees(&self) -> [PathBuf; 2];

    /// Whether it can do this at all.
    fn can(&self, work: Work) -> bool;

    /// Called before each work.
    ///
    /// # Errors
    /// What it needs to measure could not be set up.
    fn prepare(&self) -> Result<(), BenchError>;

    /// Makes the replica the same as the tree after `work`, which ended at `end`, and returns when it is.
    ///
    /// # Errors
    /// It failed, or somebody asked to stop.
    fn bring_over(
        &mut self,
        work: Work,
        change: &Change,
        end: Instant,
    ) -> Result<Brought, BenchError>;

    /// Bytes of IP packets that crossed the cable until now, both ways.
    ///
    /// # Errors
    /// The kernel's counters can't be read.
    fn wire_bytes(&self) -> Result<u64, BenchError>;
}

/// What it took.
pub struct Brought {
    /// Time until the replica was the same.
    pub took: Duration,
    /// The most memory that was resident, in bytes.
    pub memory: u64,
}

/// Starts a contender with an empty tree.
pub type Start = fn(&Setting) -> Result<Box<dyn Contender>, BenchError>;

/// All of them. Each is started when the one before is gone.
pub const ALL: [Start; 2] =
    [|setting| Ok(Box::new(Pair::start(setting)?)), |setting| Ok(Box::new(Rsync::start(setting)?))];
