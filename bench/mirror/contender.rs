//! Who brings a tree over. A contender is added here and nowhere else: a variant, and what it answers.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::pair::Pair;
use super::rsync::Rsync;
use super::work::{Change, Work};
use crate::table::OURS;
use crate::{BenchError, Setting};

/// A pair of namespaces with a tree in one and a replica in the other, and who mirrors.
pub enum Contender {
    /// The pair.
    Clusterd(Box<Pair>),
    /// rsync to its daemon.
    Rsync(Rsync),
}

/// What it took.
pub struct Brought {
    /// Time until the replica was the same.
    pub took: Duration,
    /// The most memory that was resident, in bytes.
    pub memory: u64,
}

/// Starts a contender with an empty tree.
pub type Start = fn(&Setting) -> Result<Contender, BenchError>;

impl Contender {
    /// All of them. Each is started when the one before is gone.
    pub fn all() -> [Start; 2] {
        [
            |setting| Ok(Contender::Clusterd(Box::new(Pair::start(setting)?))),
            |setting| Rsync::start(setting.stop).map(Contender::Rsync),
        ]
    }

    /// As it is shown.
    pub fn name(&self) -> &'static str {
        match self {
            Contender::Clusterd(_) => OURS,
            Contender::Rsync(_) => "rsync",
        }
    }

    /// The tree that is changed, and its replica.
    pub fn trees(&self) -> [PathBuf; 2] {
        match self {
            Contender::Clusterd(pair) => pair.trees(),
            Contender::Rsync(rsync) => rsync.trees(),
        }
    }

    /// Whether it can do this at all.
    pub fn can(&self, work: Work) -> bool {
        match self {
            // `verify` is not built yet.
            Contender::Clusterd(_) => work != Work::Proved,
            Contender::Rsync(_) => true,
        }
    }

    /// Called before each work.
    ///
    /// # Errors
    /// What it needs to measure could not be set up.
    pub fn prepare(&self) -> Result<(), BenchError> {
        match self {
            Contender::Clusterd(pair) => pair.prepare(),
            Contender::Rsync(_) => Ok(()),
        }
    }

    /// Makes the replica the same as the tree after `work`, which ended at `end`, and returns when it is.
    ///
    /// # Errors
    /// It failed, or somebody asked to stop.
    pub fn bring_over(
        &mut self,
        work: Work,
        change: &Change,
        end: Instant,
    ) -> Result<Brought, BenchError> {
        match self {
            Contender::Clusterd(pair) => pair.bring_over(work, change, end),
            Contender::Rsync(rsync) => rsync.bring_over(work, end),
        }
    }

    /// Bytes of IP packets that crossed the cable until now, both ways.
    ///
    /// # Errors
    /// The kernel's counters can't be read.
    pub fn wire_bytes(&self) -> Result<u64, BenchError> {
        match self {
            Contender::Clusterd(pair) => pair.wire_bytes(),
            Contender::Rsync(rsync) => rsync.wire_bytes(),
        }
    }
}
