//! What a heartbeat says. Plain data: no bytes and no sockets in this file.

use arrayvec::ArrayVec;
use serde::{Deserialize, Serialize};

use super::copy::CopyBeat;
use crate::config::{GroupIndex, NodeIndex};
use crate::control::status::NodeState;
use crate::limits::GROUPS_MAX;

/// One way by which heartbeats reach the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// Raw Ethernet frames on the crossover cable.
    Crossover,
    /// The null-modem line.
    Serial,
    /// UDP to the peer's own LAN address.
    Lan,
}

impl Path {
    /// All paths, in the order in which `status` lists them.
    pub const ALL: [Path; 3] = [Path::Crossover, Path::Serial, Path::Lan];

    /// Position in [`Path::ALL`].
    pub fn index(self) -> usize {
        match self {
            Path::Crossover => 0,
            Path::Serial => 1,
            Path::Lan => 2,
        }
    }

    /// The word for it in events, status and config.
    pub fn name(self) -> &'static str {
        match self {
            Path::Crossover => "crossover",
            Path::Serial => "serial",
            Path::Lan => "lan",
        }
    }
}

/// A set of paths, one bit each (bit = [`Path::index`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathSet(pub u8);

impl PathSet {
    /// Whether `path` is in the set.
    pub fn has(self, path: Path) -> bool {
        self.0 & (1 << path.index()) != 0
    }

    /// The set with `path` added.
    #[must_use]
    pub fn with(self, path: Path) -> PathSet {
        PathSet(self.0 | (1 << path.index()))
    }
}

/// Where a node stands towards a group: the whole hand-over protocol is in these words.
///
/// A node with a living peer claims only after the peer *granted* that very want, and a node grants
/// only what it does not hold. So two nodes that hear each other can never both claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stance {
    /// Holds nothing and may not serve (standby mode, no reach, blocked).
    Unable,
    /// Holds nothing, could serve, does not ask to.
    Passive,
    /// Asks the peer to let it serve. The number names this one wish; it is never used again in the
    /// same incarnation and never 0.
    Wanting(u16),
    /// Holds nothing and lets the peer have what it wants: its want's number. Stands until the peer
    /// drops that want, serves, or dies.
    Granting(u16),
    /// Serves, or has not yet proven that it no longer does.
    Active,
    /// Serves, and will release as soon as the peer wants the group.
    Offering,
    /// Is about to serve, in the generation that it names: its kernel has not yet answered, and may refuse. Only
    /// when it says [`Stance::Active`] has that generation begun.
    Claiming,
}

impl Stance {
    /// Whether its sender may hold the group's addresses.
    pub fn may_hold(self) -> bool {
        match self {
            Stance::Active | Stance::Offering | Stance::Claiming => true,
            Stance::Unable | Stance::Passive | Stance::Wanting(_) | Stance::Granting(_) => false,
        }
    }
}

/// A group's part of a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupBeat {
    /// Which group.
    pub group: GroupIndex,
    /// Where the sender stands towards it.
    pub stance: Stance,
    /// The sender serves it, addresses and services and all; of one that has let go: services may still run
    /// there that must not run on both nodes.
    #[serde(default)]
    pub serving: bool,
    /// Newest generation the sender knows to have been served, or the one that it claims; 0: none ever.
    pub generation: u32,
    /// Who served that generation (meaningless at 0).
    pub owner: NodeIndex,
    /// Random id of that generation.
    pub id: u32,
    /// The sender's copy of the group's trees.
    #[serde(default)]
    pub copy: CopyBeat,
}

/// Something an administrator asked of one node that the other must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Go to standby mode.
    Standby,
    /// Leave standby mode.
    Online,
    /// Hand this group over to me (sent by the node that does not own it).
    HandOver(GroupIndex),
    /// Accept that something of this group's trees is lost: who owns it hands it over to me, who does not
    /// serves it with what is there when it is handed over.
    AcceptLoss(GroupIndex),
}

impl Ask {
    /// Wishes are numbered from 1 up to this, and then from 1 again.
    pub const NUMBER_MAX: u8 = 127;
}

/// The groups of one heartbeat.
pub type GroupBeats = ArrayVec<GroupBeat, GROUPS_MAX>;

/// One heartbeat: a snapshot, idempotent; only the newest matters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Who sends it.
    pub node: NodeIndex,
    /// The sender's incarnation: random, new at each start, never 0.
    pub incarnation: u64,
    /// The receiver's incarnation as the sender knows it; 0: not known. A beat that does not carry
    /// the receiver's current one is only an introduction.
    pub peer_incarnation: u64,
    /// Rises by at least one from frame to frame of an incarnation, over all paths together.
    pub sequence: u64,
    /// The sender's time when it was sent: µs since its incarnation began, at least 1.
    pub sent_us: u64,
    /// `sent_us` of the newest counted beat or introduction that the sender had from this incarnation
    /// of the receiver on this path; 0: none. Proves freshness, and gives the round trip.
    pub echo_us: u64,
    /// How long the sender had kept that beat before it sent this one, in µs, saturating.
    pub echo_held_us: u32,
    /// Please answer at once on this path.
    pub ask_answer: bool,
    /// The sender ends its incarnation with this beat and holds no address any more.
    pub farewell: bool,
    /// The last will: the sender's heart is dead, and its guard has taken every service address away.
    /// Its services may still run.
    #[serde(default)]
    pub will: bool,
    /// How the sender is.
    pub state: NodeState,
    /// The sender's disk does not say that it is alone: should it fall silent, the receiver may claim.
    pub may_claim: bool,
    /// The paths on which the sender hears the receiver.
    pub hears: PathSet,
    /// Carrier of the sender's LAN interface.
    pub lan_carrier: bool,
    /// How many reach hosts answer the sender.
    pub reach: u8,
    /// How many reach hosts it asks.
    pub reach_of: u8,
    /// The longest recent gap between two rounds of the sender's loop, in ms, saturating.
    pub worst_gap_ms: u16,
    /// MAC of the sender's LAN interface; all zero where the frame has no room for it (serial).
    pub lan_mac: [u8; 6],
    /// Interface part of the link-local address (fe80::/64) where the sender takes mirror sessions, on
    /// its crossover interface; all zero: none, or a frame without room for it (serial).
    #[serde(default)]
    pub sync: [u8; 8],
    /// Digest of the sender's config. Not sent on serial except in introductions: the decoder fills in
    /// what it knows, which the MAC has proven.
    pub digest: [u8; 8],
    /// An administrator's wish for the receiver, repeated until answered; its number, never 0.
    pub wish: Option<(u8, Ask)>,
    /// Answer to the receiver's wish of that number: `true` accepted.
    pub answer: Option<(u8, bool)>,
    /// The groups. All of them on crossover and LAN; on serial one at a time, taking turns.
    pub groups: GroupBeats,
}

/// What a [`Pulse`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PulseKind {
    /// Please answer at once.
    Ask,
    /// The answer.
    Answer,
    /// The sender lives, and nothing that it said is otherwise by now.
    Life,
}

/// An ask on the serial line, its answer, or a sign of life: all that a living heart must say, in twelve
/// bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// What it says.
    pub kind: PulseKind,
    /// The sender's incarnation.
    pub incarnation: u64,
    /// The receiver's.
    pub peer_incarnation: u64,
    /// Of an answer: the number of the ask. Else its own, from the same row as the beats' sequences.
    pub number: u64,
}

/// What came in on a path. One at a time: the heart allocates nothing for a frame.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A heartbeat.
    Beat(Beat),
    /// A pulse; on serial only.
    Pulse(Pulse),
}

/// Why a frame was not counted as a sign of life. Each is counted per path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// Shorter than its kind must be, or ends inside a field.
    Truncated,
    /// Longer than any frame of ours.
    Oversized,
    /// A field with an impossible value, an unknown kind.
    Malformed,
    /// A later version of the protocol than this program speaks.
    UnknownVersion,
    /// An earlier version of the protocol, which this program does not speak any more.
    OldVersion,
    /// Another cluster's name in the header.
    ForeignCluster,
    /// The keyed hash does not fit: flipped bits, another key, a forgery.
    BadTag,
    /// Sent by this node itself, or by a third: not from the peer.
    NotPeer,
    /// Sequence not newer than what this path had: a replay, a duplicate or a reordering. Or held back for so
    /// long that it is no sign of life.
    Replay,
    /// From an incarnation of the peer that has ended.
    EndedIncarnation,
    /// Does not know this node's current incarnation. Answered, not counted as life.
    Introduction,
    /// Serial bytes that form no frame: noise, a partial frame.
    LineNoise,
    /// Arrived faster than a peer can send: dropped unread to keep the loop's time.
    Flood,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [DropReason; 13] = [
        DropReason::Truncated,
        DropReason::Oversized,
        DropReason::Malformed,
        DropReason::UnknownVersion,
        DropReason::OldVersion,
        DropReason::ForeignCluster,
        DropReason::BadTag,
        DropReason::NotPeer,
        DropReason::Replay,
        DropReason::EndedIncarnation,
        DropReason::Introduction,
        DropReason::LineNoise,
        DropReason::Flood,
    ];

    /// The word for it in `status --json` and events.
    pub fn name(self) -> &'static str {
        match self {
            DropReason::Truncated => "truncated",
            DropReason::Oversized => "oversized",
            DropReason::UnknownVersion => "unknown-version",
            DropReason::OldVersion => "old-version",
            DropReason::Malformed => "malformed",
            DropReason::ForeignCluster => "foreign-cluster",
            DropReason::BadTag => "bad-tag",
            DropReason::NotPeer => "not-peer",
            DropReason::Replay => "replay",
            DropReason::EndedIncarnation => "ended-incarnation",
            DropReason::Introduction => "introduction",
            DropReason::LineNoise => "line-noise",
            DropReason::Flood => "flood",
        }
    }
}
