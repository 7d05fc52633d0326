//! Those who look at the world from outside: they believe no core.

pub mod excuses;
pub mod false_death;
pub mod generations;
pub mod history;
pub mod no_rollback;
pub mod nothing_lost;
pub mod one_owner;
pub mod programs;
pub mod redundancy;
pub mod service;

use super::node::Node;
use super::pair::Pair;
use super::setup::Times;
use super::worker::Program;
use super::world::World;
use crate::beat::Path;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::control::event::{Kind, Told};

use excuses::Excuses;
use false_death::FalseDeath;
use generations::Generations;
use history::{History, Version};
use no_rollback::NoRollback;
use nothing_lost::NothingLost;
use one_owner::{OneOwner, Sight};
use programs::Programs;
use redundancy::Redundancy;
use service::Service;

/// A claim that waited for the kernel's lock takes effect, or is given up, within this after it is free, in µs.
const LATE_CLAIM_US: u64 = 5_000_000;

/// All checkers of a world.
pub struct Checkers {
    /// Promise P1.
    pub one_owner: OneOwner,
    /// Generations.
    pub generations: Generations,
    /// Nobody who lives is called dead.
    pub false_death: FalseDeath,
    /// Promise P2.
    pub service: Service,
    /// Promise P3: what was acknowledged.
    pub nothing_lost: NothingLost,
    /// Promise P3: what was read.
    pub no_rollback: NoRollback,
    /// What was written, by group.
    pub histories: Vec<History>,
    /// What excuses a claim.
    pub excuses: Excuses,
    /// Promise P6.
    pub redundancy: Redundancy,
    /// Services on one node only.
    pub programs: Programs,
}

impl Checkers {
    /// Checkers of a world that begins.
    pub fn new(config: &Config, times: Times) -> Checkers {
        let groups = config.groups.len();
        Checkers {
            one_owner: OneOwner::new(groups, times),
            generations: Generations::new(groups, times),
            false_death: FalseDeath::new(times),
            service: Service::new(config),
            nothing_lost: NothingLost::new(config),
            no_rollback: NoRollback::new(config),
            histories: vec![History::new(); groups],
            excuses: Excuses::new(config),
            redundancy: Redundancy::new(times),
            programs: Programs::new(groups),
        }
    }
}

impl World {
    /// Shows the world to the checkers; called after everything that happens.
    pub(super) fn look(&mut self) {
        let now_us = self.now_us;
        let both_hearts = Pair::of(|index| self.nodes[index].heart_runs_since().is_some());
        let hearts_run = both_hearts.both() == [&true, &true];
        let machines_run = NodeIndex::BOTH.iter().all(|&index| self.nodes[index].runs());
        let clean = Path::ALL
            .map(|path| (path != Path::Serial || self.setup.serial) && self.network.clean(path));
        let paths_impaired = Path::ALL.iter().all(|&path| {
            (path == Path::Serial && !self.setup.serial) || self.network.impaired(path)
        });
        // A kernel whose addresses were deleted answers for them as little as one whose ARP is cut.
        let deleted = self.nodes.both().into_iter().any(|node| node.kernel.lacks_deleted());
        let sight = Sight {
            paths_cut: paths_impaired,
            arp_cut: self.network.arp_impaired() || deleted,
            carrier_lost: self.network.crossover_cable > 0
                || (self.setup.modem_lines && self.network.serial_cable > 0),
            lan_cut: self.network.impaired(Path::Lan),
            hearts_run,
            machines_run,
            clean: clean.contains(&true),
            kernels_change: self.nodes.both().into_iter().all(|node| node.rtnl_held == 0),
            late_claim: self.nodes.both().into_iter().any(|node| node.has_late_claim(now_us)),
        };
        self.checkers.one_owner.network(now_us, sight);
        let works = |node: &Node| node.worker.lives && node.worker_stopped == 0;
        let workers = self.nodes.both().into_iter().all(works);
        let hear = sight.clean && hearts_run && machines_run && workers && sight.kernels_change;
        self.checkers.programs.pair(now_us, hear);
        self.checkers.false_death.paths(now_us, clean);
        for (group, _) in self.config.clone().groups() {
            let holds = Pair::of(|index| {
                let node = &self.nodes[index];
                node.runs() && node.kernel.holds(group)
            });
            if let Err(what) = self.checkers.one_owner.group(now_us, group, holds) {
                self.wrong(what);
            }
            for index in NodeIndex::BOTH.into_iter().filter(|&index| holds[index]) {
                self.nodes[index].held_us[place(group)] = Some(now_us);
            }
            let service = self.setup.groups[place(group)].service;
            if service == Some(false) {
                let runs = Pair::of(|index| {
                    let node = &self.nodes[index];
                    node.runs() && node.programs[place(group)].runs()
                });
                if let Err(what) = self.checkers.programs.group(now_us, group, runs) {
                    self.wrong(what);
                }
            }
            let up = |index: NodeIndex| {
                service.is_none() || self.nodes[index].programs[place(group)] == Program::Up
            };
            let serves = |index: NodeIndex| {
                holds[index]
                    && up(index)
                    && self.network.on_lan(index)
                    && self.clients_use[usize::from(group.0)] == Some(index)
            };
            let served = NodeIndex::BOTH.into_iter().find(|&index| serves(index));
            self.checkers.service.group(now_us, group, served);
            if let Some(index) = served.filter(|_| self.setup.groups[place(group)].mirror) {
                let tree = self.nodes[index].replicas[place(group)].tree;
                let Checkers { no_rollback, histories, .. } = &mut self.checkers;
                let read = no_rollback.served(now_us, group, tree, &histories[place(group)]);
                if let Err(what) = read {
                    self.wrong(what);
                }
            }
        }
        self.look_at_redundancy();
    }

    /// Somebody writes a file of which it sees a version; the new version.
    pub(super) fn note_write(&mut self, index: NodeIndex, group: GroupIndex, saw: u32) -> u32 {
        let other = &self.nodes[index.other()];
        let claimed = other.heart.as_ref().is_some_and(|heart| heart.claimed[place(group)]);
        // One that is stalled as a whole is the exception that only fencing ends, too.
        let both = other.powered && (claimed || other.kernel.holds(group));
        // Whose kernel's lock is held may have begun to serve, and hold nothing yet: its claim comes late.
        let since_us = self.now_us.saturating_sub(other.rtnl_changed_us);
        let lately = other.rtnl_changed_us > 0 && since_us < LATE_CLAIM_US;
        let both = both || (other.powered && (other.rtnl_held > 0 || lately));
        let excused = both || self.checkers.excuses.is_split_from(group, index);
        let at_us = self.now_us;
        let version = Version { by: Some(index), saw, at_us, excused, gone: false };
        self.checkers.histories[place(group)].add(version)
    }

    /// A node's disk was lost or set back.
    pub(super) fn note_disk_replaced(&mut self, index: NodeIndex) {
        for (group, _) in self.config.clone().groups() {
            let copies = self.nodes.both().map(|node| &node.replicas[place(group)]);
            let history = &mut self.checkers.histories[place(group)];
            history.lose(copies);
        }
        self.checkers.excuses.disk_replaced(index);
        self.checkers.generations.disk_replaced(index);
    }

    /// Shows an event that a core tells to the checkers.
    pub(super) fn told(&mut self, index: NodeIndex, told: &Told) {
        self.told_of_group(index, told);
        // A goodbye or a will may belong to an incarnation before the present one: it waited in the socket
        // of a machine that was paused.
        let ends = ["goodbye", "last will"].iter().any(|word| told.text.contains(word));
        if told.kind != Kind::PeerDead || ends {
            return;
        }
        let peer = &self.nodes[index.other()];
        let said_farewell = peer.heart.as_ref().is_some_and(|heart| heart.said_farewell);
        let since_us = peer.heart_runs_since().filter(|_| !said_farewell);
        let since_us = since_us.filter(|_| self.nodes[index].loaded + peer.loaded == 0);
        // It says nothing before its sweep, which waits for the kernel's lock.
        let since_us = since_us.filter(|_| peer.rtnl_held == 0);
        let since_us = since_us.map(|since_us| since_us.max(peer.rtnl_changed_us));
        // A machine whose clock was stalled with it had no time to get to know a peer that came meanwhile.
        let awake_us = if self.setup.clock_stops_in_pause { self.nodes[index].woke_us } else { 0 };
        let since_us = since_us.map(|since_us| since_us.max(awake_us));
        if let Err(what) = self.checkers.false_death.called_dead(self.now_us, since_us) {
            self.wrong(format!("{}: {what}: {}", self.name(index), told.text));
        }
    }
}

impl World {
    /// Events of a group that a checker goes by.
    fn told_of_group(&mut self, index: NodeIndex, told: &Told) {
        let config = self.config.clone();
        let mut groups = config.groups();
        let Some((group, _)) = groups.find(|(_, group)| told.group.as_ref() == Some(&group.name))
        else {
            return;
        };
        if told.kind == Kind::Release {
            let planned =
                ["the administrator asked for it", "the group returns to its preferred node"];
            if planned.iter().any(|reason| told.text.ends_with(reason)) {
                self.moves[index].insert(group);
            } else {
                self.moves[index].remove(&group);
            }
        }
        if told.kind == Kind::Mirror && told.text.contains("could not be sent in time") {
            self.checkers.nothing_lost.moving(group, index, None);
            self.checkers.no_rollback.let_go(group);
        }
        if told.kind == Kind::Service && told.text.contains("did not stop in time") {
            self.checkers.programs.told(group);
        }
        if matches!(told.kind, Kind::Switchover | Kind::Takeover) {
            // A move is over when somebody serves: later releases belong to no move.
            for node in NodeIndex::BOTH {
                self.moves[node].remove(&group);
            }
        }
        if told.kind == Kind::Switchover {
            let copy = &self.nodes[index].replicas[place(group)];
            let Checkers { nothing_lost, histories, .. } = &mut self.checkers;
            if let Err(what) = nothing_lost.moved(group, index, copy, &histories[place(group)]) {
                self.wrong(what);
            }
        }
    }

    /// A node falls out of its planned moves: what it had not sent is on its disk.
    pub(super) fn checkers_lose_move(&mut self, index: NodeIndex) {
        self.moves[index].clear();
        for (group, _) in self.config.clone().groups() {
            self.checkers.nothing_lost.moving(group, index, None);
        }
    }
}

/// The place of a group in a list.
fn place(group: GroupIndex) -> usize {
    usize::from(group.0)
}
