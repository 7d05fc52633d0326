//! What the worker shall do for a group, and what it reports. Both are levels, not edges: the newest
//! order counts, repeats are harmless, and a restarted worker is simply told again.
//!
//! An order has a number. A report names the order that it speaks of; what an older report says about
//! services, `still` or `drained` proves nothing for a newer order.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::beat::UNSENT_UNKNOWN_S;
use crate::control::status;
use crate::core::io::disk::Generation;

/// What the group's services shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceDuty {
    /// Leave everything as it is: after a start, until it is known who serves.
    Leave,
    /// All run, in order.
    Run,
    /// Those that are `warm` run, the others are stopped, in reverse order. Strays of an earlier life
    /// are stopped too.
    Standby,
    /// All are stopped, in reverse order: the daemon ends.
    End,
}

/// How the services are, under one order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceWord {
    /// Not looked at yet, or left alone.
    Unknown,
    /// On the way to what is ordered.
    Changing,
    /// As ordered: run, stand by or ended.
    Done,
    /// A service failed more often than `restarts` allows, or would not start. It is tried again at
    /// growing intervals; the core may move the group instead.
    Failed,
}

/// What the worker reports about a group's services.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceReport {
    /// The order that this speaks of; 0: none yet.
    pub order: u32,
    /// How they are.
    pub word: ServiceWord,
    /// Why they are not `Done`, in words; empty if they are.
    pub why: String,
    /// Each of them, for `status`.
    pub services: Vec<status::Service>,
}

/// What the group's mirror shall do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MirrorDuty {
    /// Nothing travels: no settled owner (the lock of 1999). What was acknowledged is applied to its
    /// end; then the report says `still`.
    Still,
    /// This node owns the trees in this generation: send changes to the peer.
    Out(Generation),
    /// As `Out`; and send everything written until now, then report `drained`.
    Drain(Generation),
    /// The peer owns the trees in this generation: take its changes, and no others.
    In(Generation),
}

/// What the worker reports about a group's mirror.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorReport {
    /// The order that this speaks of; 0: none yet.
    pub order: u32,
    /// Under `Still`: nothing travels and everything acknowledged is applied.
    pub still: bool,
    /// Under `Drain`: everything written before that order is durable and applied on the peer.
    pub drained: bool,
    /// The roots are there, and the trees are the whole state of one commit, not half of a
    /// synchronisation.
    pub complete: bool,
    /// The generation that this copy belongs to; `None`: never synchronised, never owned.
    pub copy_of: Option<Generation>,
    /// Whether the copy was looked at: else its index cannot be opened, or its file system does not answer, and
    /// nothing is known of it.
    pub known: bool,
    /// Number of the newest commit of that generation in it.
    pub commit: u64,
    /// The generation that the disk says may begin with these trees at any moment.
    pub ready_for: Option<Generation>,
    /// There is no name in the trees.
    pub empty: bool,
    /// Under `Out`: the peer has everything but what changed a moment ago.
    pub in_sync: bool,
    /// Under `Out`: what the peer does not have.
    pub unsent: Unsent,
    /// Names that cannot be mirrored at the moment, here or on the peer, while all others are.
    pub stuck: u64,
    /// What is held here and of when, in words.
    pub held: String,
    /// For `status`.
    pub status: status::Mirror,
}

/// What the owner has and the peer lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsent {
    /// Nothing but what changed a moment ago.
    Nothing,
    /// Something, for so long.
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
    /// Its age as heartbeats say it: in s, rounded up.
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

/// What a mirror's order says besides its duty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirrorTerms {
    /// This node's next generation, to be on record with the trees before that.
    pub intent: Option<Generation>,
    /// The newest generation, if this node began it: it began with the trees that were on record for it.
    pub began: Option<Generation>,
    /// Under `Out`: an administrator has said that the trees here are the ones to keep, whatever the peer
    /// has; what is replaced there is kept.
    pub approved: bool,
}

/// What shall be done about the TCP connections that clients have with a group's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientDuty {
    /// Nothing: nobody serves, or it is not known who does. What the peer shared is kept.
    Leave,
    /// This node holds the addresses: the peer is told who is connected.
    Share,
    /// The peer serves: what is still open here leads nowhere, and is closed.
    Yield,
}

/// What became of an order to tell the clients of the owner before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tickled {
    /// Connections that the owner before had told of.
    pub known: u32,
    /// Those whose client was sent a first segment.
    pub told: u32,
    /// Age of that list, in ms.
    pub list_age_ms: u64,
}

/// Where the peer listens for mirror sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerSync {
    /// Link-local address of its crossover interface, as its heartbeats say.
    pub crossover: Option<Ipv6Addr>,
    /// The peer's incarnation: a new one may have other trees.
    pub incarnation: Option<u64>,
}
