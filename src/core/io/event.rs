//! What the core learns.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::beat::{Beat, DropReason, Path, Pulse};
use crate::config::ring::KeyState;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::control::event::Kind;
use crate::core::group::order::{MirrorReport, ServiceReport, Tickled};

/// A cable that shows at this end whether the far end is alive: by a carrier, or by modem lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// The LAN interface.
    Lan,
    /// The interface of the crossover cable.
    Crossover,
    /// The serial line: DSR or DCD is on as long as the peer's UART has power. If the cable or the driver lacks them,
    /// nothing is ever reported.
    Serial,
}

/// Which sender a request to the LAN names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskAs {
    /// None, as in an ARP probe: no host learns anything from it.
    Nobody,
    /// This node's own address: a switch that validates ARP lets it pass.
    ThisNode,
}

impl AskAs {
    /// The other form.
    pub fn other(self) -> AskAs {
        match self {
            AskAs::Nobody => AskAs::ThisNode,
            AskAs::ThisNode => AskAs::Nobody,
        }
    }
}

/// Who was seen with a service address, other than this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    /// One of the peer's MACs answered.
    Peer,
    /// The peer announced it (gratuitous ARP).
    PeerAnnounces,
    /// The peer is probing for it.
    PeerProbes,
    /// A third machine's MAC answered.
    Stranger([u8; 6]),
}

/// What an operator requests on the control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Put this node into standby mode.
    Standby(NodeIndex),
    /// Take this node out of standby mode.
    Online(NodeIndex),
    /// Move a group; without a node, to the one that does not own it.
    Move {
        /// Which group.
        group: GroupIndex,
        /// Where to.
        to: Option<NodeIndex>,
        /// Serve this node's copy even if the other may have a newer one.
        accept_loss: bool,
    },
    /// Mirror a group now.
    Sync {
        /// Which group.
        group: GroupIndex,
        /// Answer only when everything written before is applied on the peer.
        wait: bool,
        /// This node's trees replace the other node's.
        from: Option<NodeIndex>,
    },
}

/// One thing that happened. A core learns nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Time passed: the deadline that the core asked for is over.
    Tick,
    /// The sweep is done: this node's kernel holds no service address.
    Swept,
    /// An authentic frame of the peer came in on a path. The core decides whether it counts.
    Heard {
        /// By which way.
        path: Path,
        /// What it says.
        beat: Beat,
    },
    /// An authentic pulse of the peer came in on the serial line.
    Pulsed(Pulse),
    /// The serial line is in the middle of a frame; reported only while [`crate::core::Core::is_asking`].
    LineBusy,
    /// A frame was refused before it could be read.
    Refused {
        /// By which way.
        path: Path,
        /// Why.
        reason: DropReason,
    },
    /// The carrier of an interface was looked at, or reported by the kernel. Repeats are harmless.
    Carrier {
        /// Which interface.
        link: Link,
        /// Whether there is a carrier.
        up: bool,
    },
    /// An interface is set down on this node or does not exist: its carrier says nothing about the far end.
    SetDown {
        /// Which interface.
        link: Link,
    },
    /// A probe for the group's addresses could not be sent.
    ProbeFailed {
        /// Which group.
        group: GroupIndex,
    },
    /// The LAN interface's own MAC. Repeats are harmless.
    LanMac {
        /// As it is now.
        mac: [u8; 6],
    },
    /// A reach host answered the question of that round.
    ReachAnswered {
        /// Its place in the config's list.
        host: u8,
        /// Which round's question it answers.
        round: u32,
    },
    /// Another machine has, or probes for, one of the group's service addresses.
    AddressSeen {
        /// Which group.
        group: GroupIndex,
        /// Who.
        holder: Holder,
    },
    /// The kernel acknowledged all addresses of a claim, and a look has found them there.
    Held {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim, from the command.
        claim: u32,
    },
    /// The kernel refuses these addresses of a claim and leases the others; empty: it no longer refuses any.
    AddressesRefused {
        /// Which group.
        group: GroupIndex,
        /// Which addresses.
        refused: Vec<IpAddr>,
        /// What the kernel said.
        error: String,
    },
    /// The kernel refused a claim, or its renewal.
    HoldFailed {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim, from the command.
        claim: u32,
        /// What the kernel said.
        error: String,
    },
    /// The leases of a claim's addresses were renewed and acknowledged.
    Renewed {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim, from the command.
        claim: u32,
    },
    /// None of the group's addresses is on this node; a look verified the release.
    Released {
        /// Which group.
        group: GroupIndex,
        /// Number of the release, from the command.
        release: u32,
    },
    /// An address of the group was removed, not by clusterd.
    AddressLost {
        /// Which group.
        group: GroupIndex,
    },
    /// An address of the group was added, not by clusterd.
    AddressFound {
        /// Which group.
        group: GroupIndex,
    },
    /// The write of that number and all before it are durable.
    Persisted {
        /// Number from the command.
        write: u64,
    },
    /// A write failed; the worker tries again by itself.
    PersistFailed {
        /// What the system said.
        error: String,
    },
    /// A worker has started: it has no orders, and the reports of an earlier one are void.
    WorkerStarted,
    /// The worker is alive; sent once a second.
    WorkerAlive,
    /// How the group's services are.
    Services {
        /// Which group.
        group: GroupIndex,
        /// How they are.
        report: ServiceReport,
    },
    /// How the group's mirror is.
    Mirror {
        /// Which group.
        group: GroupIndex,
        /// How it is.
        report: MirrorReport,
    },
    /// Each client of the former owner was sent a first segment.
    Tickled {
        /// Which group.
        group: GroupIndex,
        /// How many.
        tickled: Tickled,
    },
    /// An operator's `sync` ended.
    Synced {
        /// Number of the request.
        request: u64,
        /// What was done, or why not.
        outcome: Result<String, String>,
    },
    /// The worker has something to report to the administrator.
    Noted {
        /// Which group.
        group: GroupIndex,
        /// What it is about.
        kind: Kind,
        /// In words.
        text: String,
    },
    /// The link-local address of this node's crossover interface.
    SyncAddress {
        /// The address; `None`: it has none.
        address: Option<Ipv6Addr>,
    },
    /// An operator's request; the answer carries the same number.
    Wished {
        /// Number of the request.
        request: u64,
        /// The request.
        wish: Wish,
    },
    /// Requested to end in order (SIGTERM).
    Shutdown,
    /// The heart before this one died under the same guard.
    HeartDied {
        /// What the guard saw of it, as "was killed" and the like.
        how: String,
    },
    /// The guard is gone: nobody removes the addresses if this process dies.
    GuardGone,
    /// The config file and the key file were read again and are valid.
    Reload {
        /// The new config.
        config: Box<Config>,
        /// The key file contains other keys than before.
        #[serde(default)]
        new_keys: bool,
        /// Number of the operator's request; `None`: it was a signal.
        #[serde(default)]
        request: Option<u64>,
    },
    /// The files could not be read again, or are not valid.
    ReloadFailed {
        /// Why.
        error: String,
        /// Number of the operator's request; `None`: it was a signal.
        #[serde(default)]
        request: Option<u64>,
    },
    /// The progress of a change of the key.
    KeyIs {
        /// How far it is.
        state: KeyState,
    },
}
