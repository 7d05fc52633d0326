//! Generations, and what must be on disk before anything relies on it.
//!
//! A claim does not wait for a write: the generation of the *next* claim (the intent) is made durable in advance.
//! `served` is written right after a claim. No number is used twice, whatever a crash lost: each start makes a new
//! intent above everything on the disk.

use std::collections::VecDeque;

use super::disk::{DiskState, Generation, GroupDisk};
use crate::config::{Group, NodeIndex};
use crate::limits;

/// The disk as the core knows it.
#[derive(Clone, Debug)]
pub struct Disk {
    me: NodeIndex,
    /// What the disk should contain.
    wanted: DiskState,
    /// What it is known to contain.
    durable: DiskState,
    /// Writes that were commanded and not yet acknowledged.
    under_way: VecDeque<(u64, DiskState)>,
    write: u64,
    /// The last reported write failed.
    fails: bool,
    /// State of the generator for ids (splitmix64).
    random: u64,
}

/// Whether `one` outranks `other`. The higher number wins; of two generations with the same number (from the two sides
/// of a partition) the one of the node whose name sorts first, on which both nodes agree whatever their config files
/// say.
pub fn outranks(one: Generation, other: Generation) -> bool {
    let lower = |generation: Generation| generation.owner == NodeIndex::Lower;
    (one.number, lower(one)) > (other.number, lower(other))
}

impl Disk {
    /// The disk as it was loaded, with a new intent for each group.
    pub fn new(me: NodeIndex, loaded: DiskState, groups: &[Group], seed: u64) -> Disk {
        let mut disk = Disk {
            me,
            wanted: loaded.clone(),
            durable: loaded,
            under_way: VecDeque::new(),
            write: 0,
            fails: false,
            random: seed,
        };
        for group in groups {
            let known = disk.group(&group.name);
            let newest = [known.served, known.intent].into_iter().flatten();
            let above = newest.map(|generation| generation.number).max().unwrap_or(0);
            let intent = disk.next_generation(above);
            disk.set_group(&group.name, GroupDisk { intent: Some(intent), ..known });
        }
        disk.wanted.node = Some(me);
        disk
    }

    fn next_generation(&mut self, above: u32) -> Generation {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let id = ((z ^ (z >> 31)) >> 32) as u32;
        Generation { number: above.saturating_add(1), owner: self.me, id }
    }

    fn group(&self, name: &str) -> GroupDisk {
        self.wanted.groups.get(name).copied().unwrap_or_default()
    }

    fn set_group(&mut self, name: &str, group: GroupDisk) {
        self.wanted.groups.insert(name.to_string(), group);
    }

    /// Newest generation known to have been served.
    pub fn served(&self, name: &str) -> Option<Generation> {
        self.group(name).served
    }

    /// Whether the disk contains this generation or a later one.
    pub fn holds(&self, name: &str, generation: Generation) -> bool {
        self.durably_served(name)
            .is_some_and(|served| served == generation || outranks(served, generation))
    }

    /// Newest served generation that the disk contains.
    pub fn durably_served(&self, name: &str) -> Option<Generation> {
        self.durable.groups.get(name).and_then(|group| group.served)
    }

    /// Newest generation known to have been served, if the group had mirrored trees then.
    pub fn served_trees(&self, name: &str) -> Option<Generation> {
        let group = self.group(name);
        group.served.filter(|_| group.trees)
    }

    /// The same, if this node began it, on this disk: not if the disk was set back since.
    pub fn began_trees(&self, name: &str) -> Option<Generation> {
        let is_own = |served: &Generation| served.owner == self.me && !self.group(name).set_back;
        self.served_trees(name).filter(is_own)
    }

    /// Whether both nodes served trees and neither copy contains the other.
    pub fn is_forked(&self, name: &str) -> bool {
        self.group(name).forked
    }

    /// Sets the mark that both nodes' copies are forked, or removes it.
    pub fn set_forked(&mut self, name: &str, forked: bool) {
        let known = self.group(name);
        if known.forked != forked {
            self.set_group(name, GroupDisk { forked, ..known });
        }
    }

    /// The generation that a claim may use now: durable, and above everything that was served.
    pub fn usable_intent(&self, name: &str) -> Option<Generation> {
        let wanted = self.group(name);
        let durable = self.durable.groups.get(name).copied().unwrap_or_default();
        let above =
            |intent: &Generation| wanted.served.is_none_or(|served| intent.number > served.number);
        wanted.intent.filter(|intent| durable.intent == Some(*intent)).filter(above)
    }

    /// The intent, durable or not: only for a test that shows what the rule is for.
    #[cfg(test)]
    pub fn undurable_intent(&mut self, name: &str) -> Option<Generation> {
        let above = self.durable.groups.get(name).and_then(|g| g.served).map_or(0, |s| s.number);
        Some(self.next_generation(above))
    }

    /// A beat names another generation that was served, of a group with or without mirrored `trees`. A node tells of
    /// its own generation when its disk contains it, so if this disk lacks it, it was set back.
    pub fn learn(&mut self, name: &str, served: Generation, trees: bool) {
        if self.is_newer(name, served) {
            self.follow(name, served, trees, served.owner == self.me);
        }
    }

    /// The trees here are of this generation of this node: a crash came before the disk contained it.
    pub fn recall(&mut self, name: &str, served: Generation) {
        if self.is_newer(name, served) {
            self.serve(name, served, true);
        }
    }

    fn is_newer(&self, name: &str, served: Generation) -> bool {
        let damaged = served.number > limits::GENERATION_LEARNED_MAX;
        !damaged && self.served(name).is_none_or(|mine| outranks(served, mine))
    }

    /// The peer claims this generation, and may serve in it: the next intent lies above it.
    pub fn avoid(&mut self, name: &str, claimed: Generation) {
        let known = self.group(name);
        if claimed.number <= limits::GENERATION_LEARNED_MAX {
            let intent = Some(self.intent_above(known.intent, claimed.number));
            self.set_group(name, GroupDisk { intent, ..known });
        }
    }

    fn intent_above(&mut self, intent: Option<Generation>, number: u32) -> Generation {
        match intent.filter(|intent| intent.number > number) {
            Some(intent) => intent,
            None => self.next_generation(number),
        }
    }

    /// The peer serves in this generation of its own. If this node knows one of the same number by another id, its disk
    /// was set back: the owner knows its generation's id.
    pub fn learn_from_owner(&mut self, name: &str, generation: Generation, trees: bool) {
        let same_place =
            |mine: Generation| (mine.number, mine.owner) == (generation.number, generation.owner);
        if self.served(name).is_some_and(same_place) {
            self.follow(name, generation, trees, false);
        } else {
            self.learn(name, generation, trees);
        }
    }

    /// This generation is served from now on: it is the newest, and the next intent lies above it.
    pub fn serve(&mut self, name: &str, generation: Generation, trees: bool) {
        self.follow(name, generation, trees, false);
    }

    fn follow(&mut self, name: &str, generation: Generation, trees: bool, set_back: bool) {
        let known = self.group(name);
        let intent = Some(self.intent_above(known.intent, generation.number));
        let served = Some(generation);
        self.set_group(name, GroupDisk { served, intent, trees, set_back, ..known });
    }

    /// Sets whether the peer counts as gone after a restart; see [`DiskState::alone`].
    pub fn set_alone(&mut self, alone: bool) {
        self.wanted.alone = alone;
    }

    /// Whether the disk said `alone` when it was loaded or last acknowledged.
    pub fn was_alone(&self) -> bool {
        self.durable.alone
    }

    /// Whether the disk certainly does not say `alone`, and no write under way will.
    pub fn surely_not_alone(&self) -> bool {
        let pending = self.under_way.iter().any(|(_, state)| state.alone);
        !self.wanted.alone && !self.durable.alone && !pending
    }

    /// Sets the administrator's lock.
    pub fn set_standby(&mut self, standby: bool) {
        self.wanted.standby = standby;
    }

    /// Whether the lock is wanted.
    pub fn standby_wanted(&self) -> bool {
        self.wanted.standby
    }

    /// Whether the lock is on disk as wanted.
    pub fn standby_durable(&self) -> bool {
        self.durable.standby == self.wanted.standby
    }

    /// The write to command now, if what is wanted is neither on disk nor under way.
    pub fn write(&mut self) -> Option<(u64, DiskState)> {
        let newest = self.under_way.back().map_or(&self.durable, |(_, state)| state);
        if *newest == self.wanted {
            return None;
        }
        self.write += 1;
        // A stuck disk must not make this grow: only the newest writes matter.
        if self.under_way.len() >= limits::WRITES_UNDER_WAY_MAX {
            // The oldest may be the one that hangs, half written: keep it.
            self.under_way.remove(1);
        }
        self.under_way.push_back((self.write, self.wanted.clone()));
        Some((self.write, self.wanted.clone()))
    }

    /// A write failed; it is tried again.
    pub fn failed(&mut self) {
        self.fails = true;
    }

    /// Whether the last reported write failed.
    pub fn fails(&self) -> bool {
        self.fails
    }

    /// A write and all before it are durable.
    pub fn persisted(&mut self, write: u64) {
        self.fails = false;
        while let Some((number, state)) = self.under_way.pop_front() {
            if number > write {
                self.under_way.push_front((number, state));
                return;
            }
            self.durable = state;
        }
    }
}
