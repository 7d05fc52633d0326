//! Promise P3: nothing that was acknowledged is lost, and nothing else in silence.
//!
//! What a whole series acknowledged is promised: whoever claims must keep it. In the end every version is kept
//! by both trees or lies in a conflict store.

use std::collections::HashSet;

use super::super::mirror::replica::{FILES, Replica, Tree};
use super::super::pair::Pair;
use super::super::world::World;
use super::history::History;
use super::{Checkers, place};
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::core::Generation;

/// What is known of one group's trees.
#[derive(Clone, Debug)]
struct Promises {
    /// Newest acknowledged version of each file.
    promised: Tree,
    /// Every state that was sent as a whole.
    commits: HashSet<Tree>,
    /// A planned move goes on: the tree as it was when that node had released.
    moving: Pair<Option<Tree>>,
}

/// What a tree lacks of an earlier one, in words; not what went with a lost disk.
fn lost(history: &History, tree: &Tree, before: &Tree) -> Option<String> {
    let mut lost = history.lost(tree, before);
    lost.find(|&(_, version)| !history.get(version).gone).map(|(file, version)| {
        format!("file {file} is at version {}, {version} is lost", tree[file])
    })
}

/// The checker.
pub struct NothingLost {
    groups: Vec<Promises>,
}

impl NothingLost {
    /// A checker of that pair.
    pub fn new(config: &Config) -> NothingLost {
        let promises = Promises {
            promised: [0; FILES],
            commits: HashSet::from([[0; FILES]]),
            moving: Pair::default(),
        };
        NothingLost { groups: vec![promises; config.groups.len()] }
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
        history: &History,
    ) -> Result<(), String> {
        let promises = &mut self.groups[place(group)];
        let before = barriers.iter().chain([&promises.promised]);
        let lost = before.filter_map(|promised| lost(history, &tree, promised)).next();
        promises.promised = tree;
        match lost {
            Some(lost) => Err(format!("P3: an owner of group {} sends a tree: {lost}", group.0)),
            None => Ok(()),
        }
    }

    /// A claim that is excused: what is there now counts.
    pub fn starts_anew(&mut self, group: GroupIndex, tree: Tree) {
        let promises = &mut self.groups[place(group)];
        (promises.promised, promises.moving) = (tree, Pair::default());
    }

    /// A node has released for a planned move; or that move failed.
    pub fn moving(&mut self, group: GroupIndex, from: NodeIndex, tree: Option<Tree>) {
        self.groups[place(group)].moving[from] = tree;
    }

    /// A node claims with its copy.
    pub fn claims(
        &mut self,
        group: GroupIndex,
        node: NodeIndex,
        copy: &Replica,
        at_home: bool,
        history: &History,
    ) -> Result<(), String> {
        let promises = &mut self.groups[place(group)];
        promises.moving[node] = None;
        let wrong = if !copy.complete {
            Some("half of a synchronisation".to_owned())
        } else if copy.copy_of.is_none() && !at_home {
            Some("a copy that was never synchronised".to_owned())
        } else {
            lost(history, &copy.tree, &promises.promised)
        };
        let own = |file: usize| {
            copy.tree[file] == copy.base[file] || history.get(copy.tree[file]).by == Some(node)
        };
        let mixed = !promises.commits.contains(&copy.base) || !(0..FILES).all(own);
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
        history: &History,
    ) -> Result<(), String> {
        let promises = &mut self.groups[place(group)];
        let Some(released) = promises.moving[to.other()].take() else { return Ok(()) };
        match lost(history, &copy.tree, &released) {
            Some(lost) => Err(format!("P3: a planned move of group {}: {lost}", group.0)),
            None => Ok(()),
        }
    }

    /// At the end of a healed phase: both trees are equal and keep everything, but for what lies in a
    /// conflict store.
    pub fn settled(
        group: GroupIndex,
        copies: [&Replica; 2],
        history: &History,
    ) -> Result<(), String> {
        let [one, other] = copies;
        if one.tree != other.tree {
            return Err(format!("P3: the trees differ: {:?}, {:?}", one.tree, other.tree));
        }
        let lost = (0..)
            .zip(history.kept_by(copies))
            .find(|&(version, kept)| !kept && !history.get(version).gone);
        match lost {
            Some((version, _)) => Err(format!(
                "P3: version {version} of group {} is gone: {:?}",
                group.0,
                history.get(version)
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
        // Nodes whose files differ agree on the first.
        let differ = self.setup.other.is_some() && index == NodeIndex::Lower;
        let at_home = differ || self.running_config(index).groups[place(group)].prefer == index;
        let heard = self.hears_peer(index);
        if !heard && self.nodes[index.other()].powered {
            self.checkers.excuses.splits(group, index);
        }
        let copy = &self.nodes[index].replicas[place(group)];
        let other = &self.nodes[index.other()];
        let split = (!heard && other.powered).then(|| other.replicas[place(group)].tree);
        let Checkers { histories, nothing_lost, no_rollback, excuses, .. } = &mut self.checkers;
        let history = &mut histories[place(group)];
        if excuses.excuse(self.now_us, group, index) {
            nothing_lost.starts_anew(group, copy.tree);
            no_rollback.starts_anew(group, copy.tree, history);
            return;
        }
        let claims = nothing_lost
            .claims(group, index, copy, at_home, history)
            .and_then(|()| no_rollback.claims(group, copy.tree, heard, history));
        // Who serves on unheard may be read until the two hear each other.
        split.inspect(|tree| history.excuse(&copy.tree, tree));
        if let Err(what) = claims {
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
        if self.nodes[index].kernel.holds(group) {
            self.wrong(format!(
                "P3: {} holds group {} and takes in what the peer sends in {generation:?}",
                self.name(index),
                group.0
            ));
        }
    }
}
