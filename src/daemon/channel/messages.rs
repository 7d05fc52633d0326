//! The messages: what the heart orders and tells, what the worker reports.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::config::GroupIndex;
use crate::control::event::{Kind, Record};
use crate::core::{
    ClientDuty, DiskState, MirrorDuty, MirrorReport, MirrorTerms, PeerSync, ServiceDuty,
    ServiceReport, Tickled,
};

/// From the heart to the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// A heart has started and wants the state from disk.
    Hello {
        /// Random; comes back in the answer.
        nonce: u64,
    },
    /// The heart has begun to beat: tell the service manager.
    Ready,
    /// Make this durable, and say so.
    Persist {
        /// Number of the write, rising within one heart.
        write: u64,
        /// What to write.
        state: DiskState,
    },
    /// What a group's services shall do, from now on.
    Services {
        /// Which group.
        group: GroupIndex,
        /// Number of the order, rising within one heart.
        order: u32,
        /// What they shall do.
        duty: ServiceDuty,
    },
    /// What a group's mirror shall do, from now on.
    Mirror {
        /// Which group.
        group: GroupIndex,
        /// Number of the order, rising within one heart.
        order: u32,
        /// What it shall do.
        duty: MirrorDuty,
        /// Where the peer listens.
        peer: PeerSync,
        /// What else there is to know.
        terms: MirrorTerms,
    },
    /// What shall be done about clients' TCP connections, from now on.
    Clients {
        /// Which group.
        group: GroupIndex,
        /// What.
        duty: ClientDuty,
    },
    /// Let the clients of the owner before find out that their connections have ended.
    Tickle {
        /// Which group.
        group: GroupIndex,
    },
    /// A person has said that the trees here are the ones to keep.
    Approve {
        /// Which group.
        group: GroupIndex,
    },
    /// Mirror now; answer `Synced` when everything written before is durable and applied on the peer.
    Sync {
        /// Number of the operator's request.
        request: u64,
        /// Which group.
        group: GroupIndex,
    },
    /// Read the config file and the key file anew and offer them in the config slots; answer `Offered`.
    Reread {
        /// Comes back in the answer.
        nonce: u64,
    },
    /// What was offered is in effect now.
    Configured,
    /// While the key is changed: whether the peer is known to have the newest.
    PeerHasNewest(bool),
    /// Keep, show and notify this event.
    Tell(Record),
    /// A line for the log.
    Log {
        /// How grave.
        level: log::Level,
        /// The line.
        text: String,
    },
    /// A line for the recording of inputs.
    RecordInput(String),
}

/// From the worker to the heart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToHeart {
    /// Answer to `Hello`.
    HelloAck {
        /// From the question.
        nonce: u64,
        /// What is on disk, or why it cannot be read.
        disk: Result<DiskState, String>,
    },
    /// A worker has started.
    WorkerStarted,
    /// The worker works.
    Alive,
    /// The write of that number, and all before it, are durable.
    Persisted {
        /// Number from the request.
        write: u64,
    },
    /// A write failed; the worker tries again by itself.
    PersistFailed {
        /// What the system said.
        error: String,
    },
    /// How a group's services are.
    Services {
        /// Which group.
        group: GroupIndex,
        /// How they are.
        report: ServiceReport,
    },
    /// How a group's mirror is.
    Mirror {
        /// Which group.
        group: GroupIndex,
        /// How it is.
        report: MirrorReport,
    },
    /// The clients of the owner before were sent a first segment each.
    Tickled {
        /// Which group.
        group: GroupIndex,
        /// How many.
        tickled: Tickled,
    },
    /// A `Sync` ended.
    Synced {
        /// Number of the operator's request.
        request: u64,
        /// What was done, or why not.
        outcome: Result<String, String>,
    },
    /// Something that the administrator should know: becomes an event.
    Note {
        /// Which group.
        group: GroupIndex,
        /// What kind of event.
        kind: Kind,
        /// In words.
        text: String,
    },
    /// Link-local address of the crossover interface: goes into the heartbeats.
    SyncAddress(Option<Ipv6Addr>),
    /// Answer to `Reread`: both are in the config slots, or why not.
    Offered {
        /// From the question.
        nonce: u64,
        /// Why there is none.
        error: Option<String>,
    },
}
