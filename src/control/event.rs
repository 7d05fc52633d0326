//! An event: one decision or one thing noticed, in plain words, with its evidence (promise P5).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What an event is about; the `kind` of `events --json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The daemon started, or its heart was restarted.
    Start,
    /// The daemon ends in order.
    Stop,
    /// The peer is heard again, or for the first time.
    PeerAlive,
    /// The peer is dead, and how that is known.
    PeerDead,
    /// The peer entered or left standby mode.
    PeerState,
    /// A path came up, went one-way or fell silent.
    Path,
    /// A path is late: the margin that was left.
    Late,
    /// A carrier was lost or came back.
    Carrier,
    /// The LAN is reached, or no longer.
    Reach,
    /// This node took a group over after a failure.
    Takeover,
    /// A group moved because somebody asked, or because the other node serves it better.
    Switchover,
    /// A group went home.
    Failback,
    /// This node gave a group up.
    Release,
    /// A claim was refused or waits, and why.
    Refused,
    /// Someone else has a service address, or took it away.
    Address,
    /// This node entered or left standby mode.
    Standby,
    /// A gap in this node's own time.
    Stall,
    /// The two nodes have different config files.
    Config,
    /// A service failed, was restarted or was killed.
    Service,
    /// The mirror came in sync, fell behind or was stopped by something.
    Mirror,
    /// Files went to the conflict store.
    Conflict,
    /// Clients were told that their connections have ended with the owner before.
    Clients,
    /// Something of the daemon's own failed: a write, a child process, the guard.
    Fault,
}

/// An event as the core tells it; [`Record`] adds when and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// What it is about.
    pub kind: Kind,
    /// The group it is about, by name.
    pub group: Option<String>,
    /// One sentence for a person.
    pub text: String,
    /// What it rests on, by name.
    pub evidence: BTreeMap<String, serde_json::Value>,
}

/// An event as it is kept, shown and sent to `notify.exec`: one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Wall-clock time, UTC, RFC 3339 with milliseconds and `Z`.
    pub time: String,
    /// The node that tells.
    pub node: String,
    /// The event itself.
    #[serde(flatten)]
    pub told: Told,
}
