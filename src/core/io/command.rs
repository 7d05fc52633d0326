//! What the core wants done.

use serde::{Deserialize, Serialize};

use super::disk::DiskState;
use super::event::AskAs;
use crate::beat::{Beat, Path, Pulse};
use crate::config::{GroupIndex, ServiceAddress};
use crate::control::event::Told;
use crate::core::group::order::{ClientDuty, MirrorDuty, MirrorTerms, PeerSync, ServiceDuty};

/// One thing to do. Nothing is done that is not one of these.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Have the guard ready to say this, on every path, should this process die: after all addresses have
    /// been taken away. To be done before any other command.
    Will {
        /// What it says; `None`: nothing may be said.
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
    /// Ask the LAN once who has each of the group's addresses (ARP, NS); answer `ProbeFailed` if that cannot be
    /// sent.
    Probe {
        /// Which group.
        group: GroupIndex,
        /// As whom.
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
    /// Another config is in effect, [`crate::core::Core::config`]: take it into use wherever it is kept. A group's
    /// addresses follow by commands of their own.
    Configured,
    /// These are the group's addresses from now on. What is not among them any more is deleted from this
    /// node; while the group is claimed, what is new is added with a lease.
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
    /// What the group's services shall do, from now on; answered by `Services`, again and again.
    Services {
        /// Which group.
        group: GroupIndex,
        /// Number of the order, rising.
        order: u32,
        /// What they shall do.
        duty: ServiceDuty,
    },
    /// What the group's mirror shall do, from now on; answered by `Mirror`, again and again.
    Mirror {
        /// Which group.
        group: GroupIndex,
        /// Number of the order, rising.
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
    /// This node holds what the peer held before: let the clients of its connections find out that
    /// those have ended; answer `Tickled` if there were any.
    Tickle {
        /// Which group.
        group: GroupIndex,
    },
    /// What a person had to say is said: mirror what waited for that.
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
    /// All is handed over: end this process, status 0.
    Exit,
}
