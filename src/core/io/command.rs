//! What the core orders.

use serde::{Deserialize, Serialize};

use super::disk::DiskState;
use super::event::AskAs;
use crate::beat::{Beat, Path, Pulse};
use crate::config::{GroupIndex, ServiceAddress};
use crate::control::event::Told;
use crate::core::group::order::{ClientDuty, MirrorDuty, MirrorTerms, PeerSync, ServiceDuty};

/// One thing to do. Nothing else is done on the core's behalf.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Give the guard this last will, to send on every path if this process dies, after it has removed all addresses.
    /// To be done before any other command.
    Will {
        /// The beat; `None`: no last will may be sent.
        beat: Option<Beat>,
    },
    /// Delete every service address of every group from this node; answer `Swept`.
    Sweep,
    /// Send this heartbeat on this path.
    Send {
        /// By which way.
        path: Path,
        /// What it says.
        beat: Beat,
    },
    /// Send this pulse on the serial line.
    Pulse(Pulse),
    /// Look at both carriers now; answer `Carrier` for each.
    LookAtCarriers,
    /// Ask every reach host once; answers carry the round.
    AskReach {
        /// Number of this round, rising.
        round: u32,
    },
    /// Probe the LAN once for each of the group's addresses (ARP, NS); answer `ProbeFailed` if that cannot be sent.
    Probe {
        /// Which group.
        group: GroupIndex,
        /// Which sender the request names.
        ask_as: AskAs,
    },
    /// Add all of the group's addresses with a lease; answer `Held` or `HoldFailed`.
    Claim {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim, rising.
        claim: u32,
    },
    /// Renew the leases; answer `Renewed` or `HoldFailed`.
    Renew {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim that is renewed.
        claim: u32,
    },
    /// Delete all of the group's addresses, look, and answer `Released` once none is there.
    Release {
        /// Which group.
        group: GroupIndex,
        /// Number of the release, rising.
        release: u32,
    },
    /// Tell the LAN that this node has the group's addresses (gratuitous ARP in both forms, NA).
    Announce {
        /// Which group.
        group: GroupIndex,
    },
    /// Another config is in effect, [`crate::core::Core::config`]: use it everywhere. A group's addresses follow by
    /// commands of their own.
    Configured,
    /// These are the group's addresses from now on. Removed ones are deleted from this node; while the group is
    /// claimed, new ones are added with a lease.
    Addresses {
        /// Which group.
        group: GroupIndex,
        /// All of them.
        addresses: Vec<ServiceAddress>,
    },
    /// Make this durable; answer `Persisted` with the number.
    Persist {
        /// Number of the write, rising.
        write: u64,
        /// What to write.
        state: DiskState,
    },
    /// What the group's services have to do from now on; answered by `Services` repeatedly.
    Services {
        /// Which group.
        group: GroupIndex,
        /// Number of the order, rising.
        order: u32,
        /// The order.
        duty: ServiceDuty,
    },
    /// What the group's mirror has to do from now on; answered by `Mirror` repeatedly.
    Mirror {
        /// Which group.
        group: GroupIndex,
        /// Number of the order, rising.
        order: u32,
        /// The order.
        duty: MirrorDuty,
        /// Where the peer listens.
        peer: PeerSync,
        /// Its further terms.
        terms: MirrorTerms,
    },
    /// What to do about clients' TCP connections from now on.
    Clients {
        /// Which group.
        group: GroupIndex,
        /// What.
        duty: ClientDuty,
    },
    /// This node took the addresses over: send each client of the former owner a segment that makes it reset its dead
    /// connection; answer `Tickled` if there were any.
    Tickle {
        /// Which group.
        group: GroupIndex,
    },
    /// The administrator has confirmed the trees of this node: mirror what waited for that.
    Approve {
        /// Which group.
        group: GroupIndex,
    },
    /// Mirror now; answer `Synced`.
    Sync {
        /// Number of the request.
        request: u64,
        /// Which group.
        group: GroupIndex,
    },
    /// Keep and show this event.
    Tell(Told),
    /// Answer an operator's request; the text says what was done or why not.
    Answer {
        /// Number of the request.
        request: u64,
        /// The answer.
        outcome: Result<String, String>,
    },
    /// Everything is handed over: end this process with status 0.
    Exit,
}
