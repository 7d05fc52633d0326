//! What a node keeps on disk. The worker writes and reads it; the core says what it should be.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::config::NodeIndex;

/// One node's service of a group. Ordered by number first; two generations are the same only if all three agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Counts the owners; 0 is never served.
    pub number: u32,
    /// Who serves in it.
    pub owner: NodeIndex,
    /// Random: tells apart two generations of the same number after a partition.
    pub id: u32,
}

/// A group on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDisk {
    /// Newest generation that was served, by whomever, as far as this node knows.
    pub served: Option<Generation>,
    /// The generation that this node's next claim will use, written in advance so that a claim waits
    /// for no disk. Not served while it stands here, unless the power went before that was written.
    pub intent: Option<Generation>,
    /// The group had mirrored trees then: what is in them has a history. A file of before, without this,
    /// is of a group that had them if it has them now.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub trees: bool,
    /// The peer served trees that do not contain what was served here, nor the other way round.
    #[serde(default, skip_serializing_if = "is_no")]
    pub forked: bool,
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
    /// The peer was gone or in standby mode when this was written: after a restart this node need not
    /// wait for it.
    pub alone: bool,
    /// The administrator's standby lock: the lock file exists.
    pub standby: bool,
    /// Whose it is: owners are named by the order of the two nodes' names. A file of before does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeIndex>,
    /// The groups, by name.
    pub groups: BTreeMap<String, GroupDisk>,
}
