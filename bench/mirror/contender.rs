//! Who brings a tree over. A contender is added here and nowhere else: a variant, and what it answers.

use std::path::PathBuf;

use clusterd::sys::ns::Namespace;

use super::meter;
use super::rsync::Rsync;
use super::work::Work;
use crate::{BenchError, Setting};

/// Said below the table for as long as clusterd is none of the contenders.
pub const MISSING: &str =
    "clusterd's own column is missing: its mirror is not built into this bench yet.";

/// A pair of namespaces with a tree in one and a replica in the other, and who mirrors.
pub enum Contender {
    /// rsync to its daemon.
    Rsync(Rsync),
}

/// Starts a contender with an empty tree.
pub type Start = fn(&Setting) -> Result<Contender, BenchError>;

impl Contender {
    /// All of them. Each is started when the one before is gone.
    pub fn all() -> [Start; 1] {
        [|setting| Rsync::start(setting.stop).map(Contender::Rsync)]
    }

    /// As it is shown.
    pub fn name(&self) -> &'static str {
        match self {
            Contender::Rsync(_) => "rsync",
        }
    }

    /// The tree that is changed, and its replica.
    pub fn trees(&self) -> [PathBuf; 2] {
        match self {
            Contender::Rsync(rsync) => rsync.trees(),
        }
    }

    /// Those of the tree and of the replica.
    pub fn namespaces(&self) -> [&Namespace; 2] {
        match self {
            Contender::Rsync(rsync) => rsync.namespaces(),
        }
    }

    /// Makes the replica the same as the tree after `work`, and returns when it is.
    ///
    /// # Errors
    /// It failed, or somebody asked to stop.
    pub fn bring_over(&self, work: Work) -> Result<(), BenchError> {
        match self {
            Contender::Rsync(rsync) => rsync.bring_over(work),
        }
    }

    /// Bytes that crossed the cable until now, both ways.
    ///
    /// # Errors
    /// The kernel's counters can't be read.
    pub fn wire_bytes(&self) -> Result<u64, BenchError> {
        let [tree, _] = self.namespaces();
        meter::crossover_bytes(tree)
    }
}
