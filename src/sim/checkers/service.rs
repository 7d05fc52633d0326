//! Promise P2: who serves each group, and for how long nobody did.

use super::place;
use crate::config::{Config, GroupIndex, NodeIndex};

/// One group's service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Served {
    /// Who serves now.
    pub by: Option<NodeIndex>,
    /// Who served last.
    pub last: Option<NodeIndex>,
    /// Since when it is as it is, in µs.
    pub since_us: u64,
    /// Longest time without service since the last [`Service::forget`], in µs.
    pub longest_gap_us: u64,
    /// Moves from one node to the other since then.
    pub moves: u32,
}

/// The checker.
pub struct Service {
    groups: Vec<Served>,
}

impl Service {
    /// A checker of that pair.
    pub fn new(config: &Config) -> Service {
        Service { groups: vec![Served::default(); config.groups.len()] }
    }

    /// Who serves a group from now on.
    pub fn group(&mut self, now_us: u64, group: GroupIndex, by: Option<NodeIndex>) {
        let served = &mut self.groups[place(group)];
        if served.by == by {
            return;
        }
        if served.by.is_none() {
            served.longest_gap_us = served.longest_gap_us.max(now_us - served.since_us);
        }
        if by.is_some() {
            if served.last.is_some() && served.last != by {
                served.moves += 1;
            }
            served.last = by;
        }
        served.by = by;
        served.since_us = now_us;
    }

    /// Begins to count gaps and moves again.
    pub fn forget(&mut self, now_us: u64) {
        for served in &mut self.groups {
            served.longest_gap_us = 0;
            served.moves = 0;
            if served.by.is_none() {
                served.since_us = now_us;
            }
        }
    }

    /// What was seen of a group; a gap that goes on counts.
    pub fn seen(&self, now_us: u64, group: GroupIndex) -> Served {
        let mut served = self.groups[place(group)];
        if served.by.is_none() {
            served.longest_gap_us = served.longest_gap_us.max(now_us - served.since_us);
        }
        served
    }
}
