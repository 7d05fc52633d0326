//! Those who look at the world from outside: they believe no core.

pub mod false_death;
pub mod one_owner;
pub mod reigns;
pub mod service;

use super::pair::Pair;
use super::world::World;
use crate::beat::Path;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::control::event::{Kind, Told};

use false_death::FalseDeath;
use one_owner::{OneOwner, Sight};
use reigns::Reigns;
use service::Service;

/// All checkers of a world.
pub struct Checkers {
    /// Promise P1.
    pub one_owner: OneOwner,
    /// Generations.
    pub reigns: Reigns,
    /// Nobody who lives is called dead.
    pub false_death: FalseDeath,
    /// Promise P2.
    pub service: Service,
}

impl Checkers {
    /// Checkers of a world that begins.
    pub fn new(config: &Config) -> Checkers {
        Checkers {
            one_owner: OneOwner::new(config),
            reigns: Reigns::new(config),
            false_death: FalseDeath::new(config),
            service: Service::new(config),
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
        let sight = Sight {
            paths_cut: paths_impaired,
            arp_cut: self.network.arp_impaired(),
            carrier_lost: self.network.crossover_cable > 0,
            lan_cut: self.network.impaired(Path::Lan),
            hearts_run,
            machines_run,
            clean: clean.contains(&true),
        };
        self.checkers.one_owner.network(now_us, sight);
        self.checkers.false_death.paths(now_us, clean);
        for (group, _) in self.config.clone().groups() {
            let holds = Pair::of(|index| {
                let node = &self.nodes[index];
                node.runs() && node.kernel.holds(group)
            });
            if let Err(what) = self.checkers.one_owner.group(now_us, group, holds) {
                self.wrong(what);
            }
            let serves = |index: NodeIndex| {
                holds[index]
                    && self.network.on_lan(index)
                    && self.clients_use[usize::from(group.0)] == Some(index)
            };
            let served = NodeIndex::BOTH.into_iter().find(|&index| serves(index));
            self.checkers.service.group(now_us, group, served);
        }
    }

    /// Shows an event that a core tells to the checkers.
    pub(super) fn told(&mut self, index: NodeIndex, told: &Told) {
        // A goodbye may belong to an incarnation before the present one.
        if told.kind != Kind::PeerDead || told.text.contains("goodbye") {
            return;
        }
        let peer = &self.nodes[index.other()];
        let said_farewell = peer.heart.as_ref().is_some_and(|heart| heart.said_farewell);
        let since_us = peer.heart_runs_since().filter(|_| !said_farewell);
        let since_us = since_us.filter(|_| self.nodes[index].loaded + peer.loaded == 0);
        if let Err(what) = self.checkers.false_death.called_dead(self.now_us, since_us) {
            self.wrong(format!("{}: {what}: {}", self.name(index), told.text));
        }
    }
}

/// The place of a group in a list.
fn place(group: GroupIndex) -> usize {
    usize::from(group.0)
}
