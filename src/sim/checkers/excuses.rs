//! What excuses a claim with a copy that lacks something: an administrator has accepted a loss; or the disk
//! was lost or set back while the node was off, and nobody has told it of anything newer since.

use super::super::pair::Pair;
use super::place;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::limits;

/// The newest excuses.
pub struct Excuses {
    /// Until when an administrator's word counts, by group.
    accepted_until_us: Vec<u64>,
    /// How long it counts, by group.
    accepted_for_us: Vec<u64>,
    /// The disk of that node is of an earlier time, and it has not heard its peer since.
    unaware: Pair<bool>,
    /// Who claimed, by group, though its peer may serve: neither has heard the other since.
    split: Vec<Option<NodeIndex>>,
    /// A disk was lost or set back.
    replaced: bool,
}

impl Excuses {
    /// No excuses yet.
    pub fn new(config: &Config) -> Excuses {
        let accepted_for_us = config.groups.iter().map(|group| {
            let each = group.services.iter();
            let services = each.map(|one| one.stop_timeout + one.start_timeout).sum();
            (limits::REQUEST_PATIENCE + services).as_micros() as u64
        });
        Excuses {
            accepted_until_us: vec![0; config.groups.len()],
            accepted_for_us: accepted_for_us.collect(),
            unaware: Pair::default(),
            split: vec![None; config.groups.len()],
            replaced: false,
        }
    }

    /// An administrator accepts that something is lost.
    pub fn loss_accepted(&mut self, now_us: u64, group: GroupIndex) {
        let at = place(group);
        self.accepted_until_us[at] = now_us + self.accepted_for_us[at];
    }

    /// A node's disk is of an earlier time now.
    pub fn disk_replaced(&mut self, node: NodeIndex) {
        (self.unaware[node], self.replaced) = (true, true);
    }

    /// A node hears its peer.
    pub fn heard(&mut self, node: NodeIndex) {
        self.unaware[node] = false;
        self.split.fill(None);
    }

    /// A node claims and hears nobody, while its peer has power.
    pub fn splits(&mut self, group: GroupIndex, claimer: NodeIndex) {
        self.split[place(group)] = Some(claimer);
    }

    /// Whether the other has claimed the group that this node may still serve.
    pub fn is_split_from(&self, group: GroupIndex, node: NodeIndex) -> bool {
        self.split[place(group)] == Some(node.other())
    }

    /// Whether a person may have to decide which trees are kept.
    pub fn a_person_is_asked(&self) -> bool {
        self.replaced
    }

    /// Whether a node that claims has one.
    pub fn excuse(&self, now_us: u64, group: GroupIndex, node: NodeIndex) -> bool {
        self.unaware[node] || now_us <= self.accepted_until_us[place(group)]
    }
}
