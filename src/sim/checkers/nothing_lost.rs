//! Promise P3: nothing that was acknowledged is lost, and nothing else in silence.
//!
//! Every version of a file knows the version that its writer saw. A version is *kept* where it or one
//! that descends from it is. What a whole series acknowledged is promised: whoever claims must keep it.
//! In the end every version is kept by both trees or lies in a conflict store.

use std::collections::HashSet;

use super::super::mirror::{FILES, Replica, Tree};
use super::super::pair::Pair;
use super::super::world::World;
use super::place;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::core::Generation;

/// A version: by whom, and what its writer saw.
#[derive(Clone, Copy, Debug)]
struct Version {
    by: Option<NodeIndex>,
    saw: u32,
}

/// What is known of one group's trees.
#[derive(Clone, Debug)]
struct Chronicle {
    versions: Vec<Version>,
    /// Newest acknowledged version of each file.
    promised: Tree,
    /// Every state that was sent as a whole.
    commits: HashSet<Tree>,
    /// A planned move goes on: the tree as it was when that node had released.
    moving: Pair<Option<Tree>>,
    /// An administrator has accepted a loss.
    loss_accepted: bool,
}

impl Chronicle {
    /// Whether `version` is `kept` or a descendant of it.
    fn keeps(&self, mut version: u32, kept: u32) -> bool {
        while version > kept {
            version = self.versions[version as usize].saw;
        }
        version == kept
    }

    fn lost(&self, tree: &Tree, promised: &Tree) -> Option<String> {
        (0..FILES).find(|&file| !self.keeps(tree[file], promised[file])).map(|file| {
            format!("file {file} is at version {}, {} is lost", tree[file], promised[file])
        })
    }
}

/// The checker.
pub struct NothingLost {
    groups: Vec<Chronicle>,
}

impl NothingLost {
    /// A checker of that pair.
    pub fn new(config: &Config) -> NothingLost {
        let first = Version { by: None, saw: 0 };
        let chronicle = Chronicle {
            versions: vec![first],
            promised: [0; FILES],
            commits: HashSet::from([[0; FILES]]),
            moving: Pair::default(),
            loss_accepted: false,
        };
        NothingLost { groups: vec![chronicle; config.groups.len()] }
    }

    /// Somebody writes a file of which it sees a version; the new version.
    pub fn wrote(&mut self, group: GroupIndex, by: NodeIndex, saw: u32) -> u32 {
        let versions = &mut self.groups[place(group)].versions;
        versions.push(Version { by: Some(by), saw });
        versions.len() as u32 - 1
    }

    /// A state of a whole tree is sent.
    pub fn committed(&mut self, group: GroupIndex, tree: Tree) {
        self.groups[place(group)].commits.insert(tree);
    }

    /// That state is acknowledged to its end, and these barriers return.
    pub fn promised(
        &mut self,
        group: GroupIndex,
        tree: Tree,
        barriers: &[Tree],
    ) -> Result<(), String> {
        let chronicle = &mut self.groups[place(group)];
        let before = barriers.iter().chain([&chronicle.promised]);
        let lost = before.filter_map(|promised| chronicle.lost(&tree, promised)).next();
        if let Some(lost) = lost.filter(|_| !chronicle.loss_accepted) {
            return Err(format!("P3: an owner of group {} sends a tree: {lost}", group.0));
        }
        chronicle.promised = tree;
        Ok(())
    }

    /// An operator accepts that something is lost.
    pub fn loss_accepted(&mut self, group: GroupIndex) {
        self.groups[place(group)].loss_accepted = true;
    }

    /// A node has released for a planned move; or that move failed.
    pub fn moving(&mut self, group: GroupIndex, from: NodeIndex, tree: Option<Tree>) {
        self.groups[place(group)].moving[from] = tree;
    }

    /// A node claims with its copy. `served`: the newest reign that its disk surely knew of.
    pub fn claims(
        &mut self,
        group: GroupIndex,
        node: NodeIndex,
        copy: &Replica,
        served: Option<Generation>,
        at_home: bool,
    ) -> Result<(), String> {
        let chronicle = &mut self.groups[place(group)];
        chronicle.moving[node] = None;
        if chronicle.loss_accepted {
            return Ok(());
        }
        // A copy of the reign before may be what the newest one began with; then that counts which was seen of
        // it: the promised versions, below.
        let behind = served.is_some_and(|served| {
            let handed = copy.copy_of.is_some_and(|of| of.owner == node);
            served.owner != node
                && !handed
                && copy.copy_of.is_none_or(|of| of.number < served.number)
        });
        let wrong = if !copy.complete {
            Some("half of a synchronisation".to_owned())
        } else if behind {
            Some(format!("a copy of {:?}, {served:?} was served", copy.copy_of))
        } else if copy.copy_of.is_none() && !at_home {
            Some("a copy that was never synchronised".to_owned())
        } else {
            chronicle.lost(&copy.tree, &chronicle.promised)
        };
        let own = |file: usize| {
            let version = chronicle.versions[copy.tree[file] as usize];
            copy.tree[file] == copy.base[file] || version.by == Some(node)
        };
        let mixed = !chronicle.commits.contains(&copy.base) || !(0..FILES).all(own);
        let mixed = mixed.then(|| format!("a mixture: {:?} over {:?}", copy.tree, copy.base));
        match wrong.or(mixed) {
            Some(what) => Err(format!("P3: group {} is claimed with {what}", group.0)),
            None => Ok(()),
        }
    }

    /// A node serves what the other has handed over.
    pub fn moved(
        &mut self,
        group: GroupIndex,
        to: NodeIndex,
        copy: &Replica,
    ) -> Result<(), String> {
        let chronicle = &mut self.groups[place(group)];
        let Some(released) = chronicle.moving[to.other()].take() else { return Ok(()) };
        match chronicle.lost(&copy.tree, &released).filter(|_| !chronicle.loss_accepted) {
            Some(lost) => Err(format!("P3: a planned move of group {}: {lost}", group.0)),
            None => Ok(()),
        }
    }

    /// At the end of a healed phase: both trees are equal and keep everything, but for what lies in a
    /// conflict store.
    pub fn settled(&self, group: GroupIndex, copies: [&Replica; 2]) -> Result<(), String> {
        let chronicle = &self.groups[place(group)];
        let [one, other] = copies;
        if one.tree != other.tree {
            return Err(format!("P3: the trees differ: {:?}, {:?}", one.tree, other.tree));
        }
        let mut seen = vec![false; chronicle.versions.len()];
        let stored = copies.into_iter().flat_map(|copy| &copy.conflicts).copied();
        for mut version in one.tree.into_iter().chain(stored) {
            while version > 0 && !seen[version as usize] {
                seen[version as usize] = true;
                version = chronicle.versions[version as usize].saw;
            }
        }
        match (1..seen.len()).find(|&version| !seen[version]) {
            Some(version) => Err(format!(
                "P3: version {version} of group {} is gone: {:?}",
                group.0, chronicle.versions[version]
            )),
            None => Ok(()),
        }
    }
}

impl World {
    /// A core commands a claim.
    pub(in super::super) fn check_claim(&mut self, index: NodeIndex, group: GroupIndex) {
        if !self.setup.groups[place(group)].mirror {
            return;
        }
        let config = &self.config.groups[place(group)];
        let node = &self.nodes[index];
        let served = node.disk.durable().groups.get(&config.name).and_then(|disk| disk.served);
        let at_home = config.prefer == index;
        let copy = &node.replicas[place(group)];
        let checker = &mut self.checkers.nothing_lost;
        if let Err(what) = checker.claims(group, index, copy, served, at_home) {
            self.wrong(what);
        }
    }

    /// A core orders its worker to take in what the peer sends in that generation.
    pub(in super::super) fn check_in(
        &mut self,
        index: NodeIndex,
        group: GroupIndex,
        generation: Generation,
    ) {
        let Some(now) = self.core_time(index) else { return };
        let heart = self.nodes[index].heart.as_ref();
        let status = heart.map(|heart| heart.core.status(now));
        let known = status.map_or(0, |status| status.groups[place(group)].generation);
        if generation.number < known {
            self.wrong(format!(
                "P3: {} takes in group {} of generation {}, it knows of {known}",
                self.name(index),
                group.0,
                generation.number
            ));
        }
    }

    /// A worker acknowledges a whole series.
    pub(in super::super) fn checkers_take(
        &mut self,
        index: NodeIndex,
        group: GroupIndex,
        generation: Generation,
    ) {
        let holds = self.nodes[index].kernel.holds(group);
        if holds && !self.checkers.nothing_lost.groups[place(group)].loss_accepted {
            self.wrong(format!(
                "P3: {} holds group {} and takes in what the peer sends in {generation:?}",
                self.name(index),
                group.0
            ));
        }
    }
}
