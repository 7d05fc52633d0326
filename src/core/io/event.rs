//! What the core is told.

use std::net::{IpAddr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use crate::beat::{Beat, DropReason, Path, Pulse};
use crate::config::ring::KeyState;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::control::event::Kind;
use crate::core::group::order::{MirrorReport, ServiceReport, Tickled};

/// A cable whose far end shows at this one: by a carrier, or by modem lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// The LAN interface.
    Lan,
    /// The interface of the crossover cable.
    Crossover,
    /// The serial line: DSR or DCD is on as long as the peer's UART has power. Not every cable or driver
    /// has them; then nothing is ever reported.
    Serial,
}

/// Whom a question to the LAN names as its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskAs {
    /// Nobody, as a probe does: no host learns anything from it.
    Nobody,
    /// This node's own address: a switch that validates ARP lets it pass.
    ThisNode,
}

impl AskAs {
    /// The other way.
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
    /// The peer announced it, unasked.
    PeerAnnounces,
    /// The peer probes for it at this moment.
    PeerProbes,
    /// A third machine's MAC answered.
    Stranger([u8; 6]),
}

/// What an operator asks for on the control socket.
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
        /// Serve it with what this node has, even if something newer may exist elsewhere.
        accept_loss: bool,
    },
    /// Mirror a group now, and say when everything written before is on the peer.
    Sync {
        /// Which group.
        group: GroupIndex,
        /// Answer only when everything written before is on the peer.
        wait: bool,
        /// This node's trees are the ones to keep, whatever the other has.
        from: Option<NodeIndex>,
    },
}

/// One thing that happened. Everything that a core ever learns is one of these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Time passed: the deadline that the core asked for is over.
    Tick,
    /// The sweep is done: this node's kernel holds no service address.
    Swept,
    /// An authentic frame of the peer came in on a path. Whether it counts, the core decides.
    Heard {
        /// By which way.
        path: Path,
        /// What it says.
        beat: Beat,
    },
    /// An authentic pulse of the peer came in on the serial line.
    Pulsed(Pulse),
    /// The serial line is in the middle of bringing a frame: told only while [`crate::core::Core::is_asking`].
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
    /// An interface is set down on this node, or is not there: its carrier says nothing of the far end.
    SetDown {
        /// Which interface.
        link: Link,
    },
    /// A question about the group's addresses could not be sent.
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
    /// Somebody else has, or probes for, one of the group's service addresses.
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
    /// The kernel refuses these addresses of a claim, and leases the others; empty: none any more.
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
    /// None of the group's addresses is on this node: the release was verified by a look.
    Released {
        /// Which group.
        group: GroupIndex,
        /// Number of the release, from the command.
        release: u32,
    },
    /// The kernel says that an address of the group went away, and not by our command.
    AddressLost {
        /// Which group.
        group: GroupIndex,
    },
    /// The kernel says that an address of the group appeared, and not by our command.
    AddressFound {
        /// Which group.
        group: GroupIndex,
    },
    /// The write of that number, and all before it, are durable.
    Persisted {
        /// Number from the command.
        write: u64,
    },
    /// A write failed; the worker tries again by itself.
    PersistFailed {
        /// What the system said.
        error: String,
    },
    /// A worker has started: it knows no orders, and what an earlier one reported is void.
    WorkerStarted,
    /// The worker works: said once a second.
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
    /// The clients of the owner before were sent a first segment each.
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
    /// The worker found something that the administrator should know.
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
    /// An operator's wish; the answer carries the same number.
    Wished {
        /// Number of the request.
        request: u64,
        /// What is wished.
        wish: Wish,
    },
    /// Asked to end in order (SIGTERM).
    Shutdown,
    /// The heart before this one died under the same guard.
    HeartDied {
        /// What the guard saw of it, as "was killed" and the like.
        how: String,
    },
    /// The guard is gone: nobody takes the addresses away if this process dies.
    GuardGone,
    /// The config file and the key file were read anew, and are good ones.
    Reload {
        /// What the config file says.
        config: Box<Config>,
        /// The key file holds other keys than before.
        #[serde(default)]
        new_keys: bool,
        /// Number of the operator's request; `None`: it was a signal.
        #[serde(default)]
        request: Option<u64>,
    },
    /// The files were to be read anew and could not be, or are no good ones.
    ReloadFailed {
        /// Why.
        error: String,
        /// Number of the operator's request; `None`: it was a signal.
        #[serde(default)]
        request: Option<u64>,
    },
    /// How far a change of the key is now.
    KeyIs {
        /// How far.
        state: KeyState,
    },
}
