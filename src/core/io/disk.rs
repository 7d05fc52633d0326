//! What a node keeps on disk. The worker reads and writes it; the core decides what to write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::NodeIndex;

/// One period of ownership of a group. Ordered by number first; two are the same only if all three fields agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Counts the owners; 0 is never served.
    pub number: u32,
    /// The owner.
    pub owner: NodeIndex,
    /// Random: distinguishes two generations of the same number after a partition.
    pub id: u32,
}

/// A group on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDisk {
    /// Newest generation that was served by either node, as far as this node knows.
    pub served: Option<Generation>,
    /// The generation that this node's next claim will use, written in advance so that a claim does not wait for the
    /// disk. It was not served yet, unless a power cut came between the claim and the write of `served`.
    pub intent: Option<Generation>,
    /// The group had mirrored trees in `served`, so their content has a history. If a file of an older version lacks
    /// this field, the config says whether it had.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub trees: bool,
    /// Both nodes served trees, and neither copy contains the other.
    #[serde(default, skip_serializing_if = "is_no")]
    pub forked: bool,
    /// `served` is a generation of this node that only the peer knew: this disk was set back to an earlier state.
    #[serde(default, skip_serializing_if = "is_no")]
    pub set_back: bool,
}

fn yes() -> bool {
    true
}

// serde asks by reference.
fn is_yes(yes: &bool) -> bool {
    *yes
}

fn is_no(yes: &bool) -> bool {
    !*yes
}

/// Everything on disk: `state.json` and the lock file `standby` in the state directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskState {
    /// The peer was gone or in standby mode when this was written: after a restart this node need not wait for it.
    pub alone: bool,
    /// The administrator's standby lock: the lock file exists.
    pub standby: bool,
    /// Which node wrote it: `owner` depends on the order of the two names. Missing in a file of an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeIndex>,
    /// The groups, by name.
    pub groups: BTreeMap<String, GroupDisk>,
}
