//! What the worker has to do for a group, and what it reports. Both are levels, not edges: the newest order counts,
//! repeats are harmless, and a restarted worker simply gets its orders again.
//!
//! An order has a number. A report names the order that it answers; what a report on an older order says about
//! services, `still` or `drained` proves nothing for a newer one.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::beat::UNSENT_UNKNOWN_S;
use crate::control::status;
use crate::core::io::disk::Generation;

/// What the group's services have to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceDuty {
    /// Stay as they are: after a start, until it is known who serves.
    Leave,
    /// All run, in order.
    Run,
    /// Those that are `warm` run, the others are stopped, in reverse order. Services left over from an earlier life are
    /// stopped too.
    Standby,
    /// All are stopped, in reverse order: the daemon ends.
    End,
}

/// The state of the services under one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceWord {
    /// Not looked at yet, or left alone.
    Unknown,
    /// On the way to the ordered state.
    Changing,
    /// As ordered: running, standing by or ended.
    Done,
    /// A service failed more often than `restarts` allows, or did not start. It is tried again at growing intervals;
    /// the core may move the group instead.
    Failed,
}

/// What the worker reports about a group's services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The order that this speaks of; 0: none yet.
    pub order: u32,
    /// Their state.
    pub word: ServiceWord,
    /// Why they are not `Done`, as text; empty if they are.
    pub why: String,
    /// Each of them, for `status`.
    pub services: Vec<status::Service>,
}

/// What the group's mirror has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorDuty {
    /// Send and receive nothing: the owner is not settled. Finish what was acknowledged, then report `still`.
    Still,
    /// This node owns the trees in this generation: send changes to the peer.
    Out(Generation),
    /// As `Out`; also send everything written until now, then report `drained`.
    Drain(Generation),
    /// The peer owns the trees in this generation: accept its changes and no others.
    In(Generation),
}

/// What the worker reports about a group's mirror.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorReport {
    /// The order that this speaks of; 0: none yet.
    pub order: u32,
    /// Under `Still`: nothing is sent or received, and everything acknowledged is applied.
    pub still: bool,
    /// Under `Drain`: everything written before that order is durable and applied on the peer.
    pub drained: bool,
    /// The roots exist, and the trees are the complete state of one commit, not half of a synchronisation.
    pub complete: bool,
    /// The generation that this copy belongs to; `None`: never synchronised, never owned.
    pub copy_of: Option<Generation>,
    /// Whether the copy was examined. If its index cannot be opened or its file system does not answer, nothing is
    /// known about it.
    pub known: bool,
    /// Number of the newest commit of that generation in it.
    pub commit: u64,
    /// The generation that may begin with these trees at any moment, by the index.
    pub ready_for: Option<Generation>,
    /// There is no name in the trees.
    pub empty: bool,
    /// Under `Out`: the peer has everything except changes of the last moment.
    pub in_sync: bool,
    /// Under `Out`: what the peer does not have.
    pub unsent: Unsent,
    /// Names that cannot be mirrored at the moment, here or on the peer; all others are.
    pub stuck: u64,
    /// What the copy is and how old, as text.
    pub held: String,
    /// For `status`.
    pub status: status::Mirror,
}

/// What the owner has and the peer lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsent {
    /// Nothing except changes of the last moment.
    Nothing,
    /// Something, since some time.
    Since {
        /// Age of the oldest change among it, in ms.
        age_ms: u64,
        /// Files, as far as they are known.
        files: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// Nothing shows what the peer has.
    Unknown,
}

impl Unsent {
    /// Its age as beats carry it: in s, rounded up.
    pub fn age_s(self) -> u16 {
        match self {
            Unsent::Nothing => 0,
            Unsent::Since { age_ms, .. } => {
                let age_s = u16::try_from(age_ms.div_ceil(1000)).unwrap_or(UNSENT_UNKNOWN_S);
                age_s.clamp(1, UNSENT_UNKNOWN_S - 1)
            }
            Unsent::Unknown => UNSENT_UNKNOWN_S,
        }
    }
}

/// The terms of an order for a mirror.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorTerms {
    /// This node's next generation. The index must list it before it begins.
    pub intent: Option<Generation>,
    /// The newest generation, if this node began it: with the trees that the index lists for it.
    pub began: Option<Generation>,
    /// Under `Out`: an administrator chose the trees of this node; what they replace on the peer goes to its conflict
    /// store.
    pub approved: bool,
}

/// What to do about the TCP connections of clients with a group's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientDuty {
    /// Nothing: nobody serves, or it is not known who does. The peer's list is kept.
    Leave,
    /// This node holds the addresses: send the peer the list of connections.
    Share,
    /// The peer serves: connections that are still open here are dead; close them.
    Yield,
}

/// The result of an order to reset the former owner's connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tickled {
    /// Connections in the former owner's list.
    pub known: u32,
    /// Those whose client was sent a first segment.
    pub told: u32,
    /// Age of that list, in ms.
    pub list_age_ms: u64,
}

/// Where the peer accepts mirror sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSync {
    /// Link-local address of its crossover interface, from its beats.
    pub crossover: Option<Ipv6Addr>,
    /// The peer's incarnation: a new one may have other trees.
    pub incarnation: Option<u64>,
}
