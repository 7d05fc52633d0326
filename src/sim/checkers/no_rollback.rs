//! Promise P3: what a client has read from a group is never older later.
//!
//! What was read is each file's version as it was on the node that served the group. It may be missing later
//! only where
//!
//! * an administrator accepted a loss, or the disk is an older one and nothing can tell (see `excuses`);
//! * it went with the only disk that had it;
//! * its owner was not heard when the other node claimed, or let it in and told that the last changes did not
//!   get through, and it was younger than `max_behind`: mirroring is not synchronous;
//! * the other node had the group as well when it was written, or had claimed it: two who do not hear each
//!   other, or a machine that is stalled as a whole. Only fencing ends that.

use super::super::mirror::replica::{FILES, Tree};
use super::super::world::World;
use super::history::History;
use super::place;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::control::status::PeerState;

/// What the owner has not sent is told in beats, in whole seconds, as its worker saw it, of which nothing may
/// be heard for three: it may be so much older than `max_behind`, in µs.
const TOLD_LATE_US: u64 = 4_000_000;

/// One group, as its clients know it.
#[derive(Clone, Copy, Debug)]
struct Read {
    /// What was read last.
    tree: Tree,
    /// When.
    at_us: u64,
    /// Older than this is nothing that may be missing after a takeover, in µs.
    max_behind_us: u64,
    /// The owner has let the other in without the last changes, and told so.
    let_go: bool,
}

/// The checker.
pub struct NoRollback {
    groups: Vec<Read>,
}

impl NoRollback {
    /// A checker of that pair.
    pub fn new(config: &Config) -> NoRollback {
        let read =
            |max_behind_us| Read { tree: [0; FILES], at_us: 0, max_behind_us, let_go: false };
        let groups = config.groups.iter().map(|group| read(group.max_behind.as_micros() as u64));
        NoRollback { groups: groups.collect() }
    }

    /// A client reads the tree of who serves.
    pub fn served(
        &mut self,
        now_us: u64,
        group: GroupIndex,
        tree: Tree,
        history: &History,
    ) -> Result<(), String> {
        let read = &mut self.groups[place(group)];
        read.at_us = now_us;
        if read.tree == tree {
            return Ok(());
        }
        let before = std::mem::replace(&mut read.tree, tree);
        let lost = history.lost(&tree, &before).find(|&(_, version)| {
            let version = history.get(version);
            !version.excused && !version.gone
        });
        match lost {
            Some((file, version)) => Err(format!(
                "P3: a client of group {} has read version {version} of file {file}, and finds {}",
                group.0, tree[file]
            )),
            None => Ok(()),
        }
    }

    /// A node claims with this tree. `heard`: it hears its peer.
    pub fn claims(
        &mut self,
        group: GroupIndex,
        tree: Tree,
        heard: bool,
        history: &mut History,
    ) -> Result<(), String> {
        let read = &mut self.groups[place(group)];
        let may_lack = !heard || std::mem::take(&mut read.let_go);
        let oldest_us = read.at_us.saturating_sub(read.max_behind_us + TOLD_LATE_US);
        let lost = history.lost(&tree, &read.tree).find(|&(_, version)| {
            let version = history.get(version);
            let young = may_lack && version.at_us >= oldest_us;
            !version.excused && !version.gone && !young
        });
        if let Some((file, version)) = lost {
            return Err(format!(
                "P3: group {} is claimed with version {} of file {file}; a client has read version \
                 {version}: {:?}",
                group.0,
                tree[file],
                history.get(version)
            ));
        }
        // The owner before may be read until the claim takes effect.
        history.excuse(&tree, &read.tree);
        Ok(())
    }

    /// A claim that is excused.
    pub fn starts_anew(&mut self, group: GroupIndex, tree: Tree, history: &mut History) {
        let read = &mut self.groups[place(group)];
        read.let_go = false;
        history.excuse(&tree, &read.tree);
    }

    /// An owner has told that the last changes could not be sent, and lets the other in.
    pub fn let_go(&mut self, group: GroupIndex) {
        self.groups[place(group)].let_go = true;
    }
}

impl World {
    /// Whether a node hears its peer, as it says itself.
    pub(super) fn hears_peer(&self, index: NodeIndex) -> bool {
        let now = self.core_time(index);
        let heart = self.nodes[index].heart.as_ref();
        now.zip(heart).is_some_and(|(now, heart)| match heart.core.status(now).peer.state {
            PeerState::Alive | PeerState::Suspect | PeerState::Standby => true,
            PeerState::Dead | PeerState::Unknown => false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::Version;
    use super::*;
    use crate::config;

    const GROUP: GroupIndex = GroupIndex(0);
    const S: u64 = 1_000_000;

    /// A checker of a group that may be two seconds behind, and what was written: versions 1 and 2 of file 0,
    /// one after the other, the second at that time.
    fn written(at_us: u64) -> (NoRollback, History) {
        let config = config::parse(
            "[cluster]\nname = \"c\"\nkey = \"/k\"\n\
             [node.a]\naddress = \"192.0.2.11\"\nlan = \"eth0\"\ncrossover = \"eth1\"\n\
             [node.b]\naddress = \"192.0.2.12\"\nlan = \"eth0\"\ncrossover = \"eth1\"\n\
             [group.g]\nprefer = \"a\"\naddress = [\"192.0.2.50/24\"]\nmax_behind = \"2s\"\n",
            "checked",
        );
        let mut history = History::new();
        for (saw, at_us) in [(0, 0), (1, at_us)] {
            let by = Some(NodeIndex::Lower);
            history.add(Version { by, saw, at_us, excused: false, gone: false });
        }
        (NoRollback::new(&config.unwrap()), history)
    }

    #[test]
    fn what_was_read_and_is_older_now_is_seen() {
        let (mut checker, history) = written(S);
        checker.served(2 * S, GROUP, [2, 0, 0, 0], &history).unwrap();
        assert!(checker.served(3 * S, GROUP, [1, 0, 0, 0], &history).is_err());
    }

    #[test]
    fn only_what_is_young_may_be_missing_and_only_if_its_owner_is_not_heard() {
        let read = |now_us: u64, written_us: u64| {
            let (mut checker, history) = written(written_us);
            checker.served(now_us, GROUP, [2, 0, 0, 0], &history).unwrap();
            (checker, history)
        };
        let older = [1, 0, 0, 0];
        let (mut checker, mut history) = read(20 * S, 19 * S);
        assert!(checker.claims(GROUP, older, true, &mut history).is_err());
        checker.claims(GROUP, older, false, &mut history).unwrap();
        checker.served(21 * S, GROUP, older, &history).unwrap();
        // The version that all have is never missing.
        assert!(checker.claims(GROUP, [0; FILES], false, &mut history).is_err());

        let (mut checker, mut history) = read(20 * S, 10 * S);
        assert!(checker.claims(GROUP, older, false, &mut history).is_err());

        let (mut checker, mut history) = read(20 * S, 19 * S);
        checker.let_go(GROUP);
        checker.claims(GROUP, older, true, &mut history).unwrap();
    }
}
