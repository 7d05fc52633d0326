//! How each fault begins and ends, and what heals them all.

use super::faults::{Fault, Planned};
use super::node::Guard;
use super::world::{Happening, World};
use crate::beat::Path;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::core::{Event, Wish};

/// The node of a note.
fn node_of(note: u64) -> NodeIndex {
    if note == NodeIndex::Lower as u64 { NodeIndex::Lower } else { NodeIndex::Upper }
}

impl World {
    /// Puts a plan into the world.
    pub fn schedule(&mut self, plan: &[Planned]) {
        for planned in plan {
            self.at(planned.at_us, Happening::Begin(*planned));
        }
    }

    pub(super) fn begin(&mut self, planned: Planned) {
        if self.healed {
            return;
        }
        let Planned { fault, lasts_us, .. } = planned;
        self.trace.note(self.now_us, || format!("FAULT {fault:?} for {lasts_us} µs"));
        let cut = match fault {
            Fault::PowerCut(node) | Fault::Blanked(node) | Fault::SetBack(node) => Some(node),
            Fault::OwnerCut(group) => self.checkers.service.seen(self.now_us, group).by,
            _ => None,
        };
        let due = cut.map(|node| self.takeovers_due(node)).unwrap_or_default();
        self.checkers.redundancy.changes(self.now_us, due);
        if let Some(note) = self.apply_fault(fault, true, 0) {
            self.struck.push((self.now_us + lasts_us, fault, note));
            self.after(lasts_us, Happening::End(fault, note));
        }
    }

    pub(super) fn end(&mut self, fault: Fault, note: u64) {
        let Some(place) =
            self.struck.iter().position(|&(_, struck, known)| (struck, known) == (fault, note))
        else {
            return;
        };
        self.struck.swap_remove(place);
        self.trace.note(self.now_us, || format!("FAULT OVER {fault:?}"));
        self.checkers.redundancy.changes(self.now_us, Vec::new());
        self.apply_fault(fault, false, note);
    }

    /// Ends every fault, gives power to all and revives every daemon.
    pub fn heal(&mut self) {
        self.trace.note(self.now_us, || "HEAL".to_owned());
        self.healed = true;
        while let Some((_, fault, note)) = self.struck.pop() {
            self.apply_fault(fault, false, note);
        }
        for node in NodeIndex::BOTH {
            self.power_on(node);
            self.start_daemon(node);
            if self.nodes[node].guard == Guard::Dead && self.nodes[node].heart.is_some() {
                self.kill_heart(node);
            }
        }
    }

    /// Begins or ends a fault. At the beginning: what its end needs to know, or `None` if it does
    /// not apply or has no end.
    fn apply_fault(&mut self, fault: Fault, begins: bool, note: u64) -> Option<u64> {
        let count = |counter: &mut u8| {
            *counter = if begins { *counter + 1 } else { counter.saturating_sub(1) };
        };
        let both = |way: Option<NodeIndex>| {
            NodeIndex::BOTH.into_iter().filter(move |&from| way.is_none_or(|only| only == from))
        };
        let boot_of = |world: &World, node: NodeIndex| u64::from(world.nodes[node].boot);
        let same_boot = |world: &World, node: NodeIndex| boot_of(world, node) == note;
        match fault {
            Fault::PathCut(path, way) => {
                both(way).for_each(|from| count(&mut self.network.ways[path.index()][from].cut));
            }
            Fault::ArpCut(way) => both(way).for_each(|from| count(&mut self.network.arp[from].cut)),
            Fault::LanSplit => {
                for from in NodeIndex::BOTH {
                    count(&mut self.network.arp[from].cut);
                    count(&mut self.network.ways[Path::Lan.index()][from].cut);
                }
            }
            Fault::PathLoss(path, way, loss) => both(way).for_each(|from| {
                self.network.ways[path.index()][from].loss = if begins { loss } else { 0 };
            }),
            Fault::LanLoss(loss) => {
                for from in NodeIndex::BOTH {
                    let loss = if begins { loss } else { 0 };
                    self.network.arp[from].loss = loss;
                    self.network.ways[Path::Lan.index()][from].loss = loss;
                }
            }
            Fault::Delay(path, delay_us) => both(None).for_each(|from| {
                self.network.ways[path.index()][from].delay_us = if begins { delay_us } else { 0 };
            }),
            Fault::Doubles(path) => both(None).for_each(|from| {
                self.network.ways[path.index()][from].doubled = if begins { 500 } else { 0 };
            }),
            Fault::Damage(path, share) => both(None).for_each(|from| {
                self.network.ways[path.index()][from].damaged = if begins { share } else { 0 };
            }),
            Fault::CrossoverCable => count(&mut self.network.crossover_cable),
            Fault::SerialCable => count(&mut self.network.serial_cable),
            Fault::LanCable(node) => count(&mut self.network.lan_cable[node]),
            Fault::Switch => count(&mut self.network.switch),
            Fault::ReachHost(host) => {
                let answers = self.network.hosts.get_mut(usize::from(host))?;
                NodeIndex::BOTH.into_iter().for_each(|node| count(&mut answers[node]));
            }
            Fault::ReachHostOf(host, node) => {
                let answers = self.network.hosts.get_mut(usize::from(host))?;
                count(&mut answers[node]);
            }
            Fault::HeartFrozen(node) => {
                if !begins {
                    self.continue_heart(node, note as u32);
                    return None;
                }
                let id = self.nodes[node].heart.as_ref()?.id;
                self.stop_heart(node);
                return Some(u64::from(id));
            }
            Fault::HeartKilled(node) => {
                self.kill_heart(node);
                return None;
            }
            Fault::AllFrozen(node) => {
                let boot = boot_of(self, node);
                if begins {
                    if !self.nodes[node].powered {
                        return None;
                    }
                    let id = self.nodes[node].heart.as_ref().map_or(0, |heart| heart.id);
                    self.nodes[node].guard_stopped += 1;
                    self.nodes[node].worker_stopped += 1;
                    self.stop_heart(node);
                    return Some(boot << 32 | u64::from(id));
                }
                if note >> 32 == boot {
                    let node_state = &mut self.nodes[node];
                    node_state.worker_stopped = node_state.worker_stopped.saturating_sub(1);
                    self.continue_guard(node);
                    self.continue_heart(node, note as u32);
                }
            }
            Fault::GuardFrozen(node) => {
                if begins {
                    if self.nodes[node].guard != Guard::Running {
                        return None;
                    }
                    self.nodes[node].guard_stopped += 1;
                    return Some(boot_of(self, node));
                }
                if same_boot(self, node) {
                    self.continue_guard(node);
                }
            }
            Fault::GuardKilled(node) => {
                self.kill_guard(node);
                return None;
            }
            Fault::MachinePaused(node) => {
                if begins {
                    if !self.nodes[node].powered {
                        return None;
                    }
                    self.pause(node);
                    return Some(boot_of(self, node));
                }
                if same_boot(self, node) {
                    self.unpause(node);
                }
            }
            Fault::PowerCut(node) => {
                if begins {
                    self.power_cut(node)
                } else {
                    self.power_on(node)
                }
            }
            Fault::OwnerCut(group) => {
                if begins {
                    let owner = self.checkers.service.seen(self.now_us, group).by?;
                    self.power_cut(owner);
                    return Some(owner as u64);
                }
                self.power_on(node_of(note));
            }
            Fault::Blanked(node) => {
                // It may have got its power back meanwhile, by the end of another fault.
                self.power_cut(node);
                if !begins {
                    self.blank_disk(node);
                    self.power_on(node);
                }
            }
            Fault::SetBack(node) => {
                self.power_cut(node);
                if !begins {
                    self.set_disk_back(node);
                    self.power_on(node);
                }
            }
            Fault::PowerCutBoth(later_us) => {
                if begins {
                    let first = self.rng.pick(&NodeIndex::BOTH);
                    NodeIndex::BOTH.into_iter().for_each(|node| self.power_cut(node));
                    return Some(first as u64);
                }
                let first = node_of(note);
                self.power_on(first);
                if self.healed {
                    self.power_on(first.other());
                } else {
                    let later = Fault::PowerCut(first.other());
                    self.struck.push((self.now_us + later_us, later, 0));
                    self.after(later_us, Happening::End(later, 0));
                }
            }
            Fault::DiskStuck(node) => count(&mut self.nodes[node].disk_stuck),
            Fault::DiskFails(node) => count(&mut self.nodes[node].disk_failing),
            Fault::KernelRefuses(node) => count(&mut self.nodes[node].refuses),
            Fault::RtnlHeld(node) => {
                count(&mut self.nodes[node].rtnl_held);
                self.nodes[node].rtnl_changed_us = self.now_us;
            }
            Fault::Loaded(node) => count(&mut self.nodes[node].loaded),
            Fault::ForeignDelete(group) => {
                for node in NodeIndex::BOTH {
                    if self.nodes[node].rtnl_held == 0 {
                        self.lose_address(node, group);
                    }
                }
                return None;
            }
            Fault::ForeignAdd(group) => {
                self.foreign_add(group);
                return None;
            }
            Fault::Wished(node, wish) => {
                self.wish(node, wish);
                return None;
            }
            Fault::FileChanged(node) => {
                self.change_file(node);
                return None;
            }
            Fault::Restart(node) => {
                if begins {
                    self.tell_heart(node, Event::Shutdown);
                } else {
                    self.restart_daemon(node);
                }
            }
            Fault::WorkerKilled(node) => {
                self.kill_worker(node);
                return None;
            }
            Fault::WorkerHung(node) => {
                if begins {
                    if !self.nodes[node].powered {
                        return None;
                    }
                    self.nodes[node].worker_stopped += 1;
                    return Some(boot_of(self, node));
                }
                if same_boot(self, node) {
                    let node = &mut self.nodes[node];
                    node.worker_stopped = node.worker_stopped.saturating_sub(1);
                }
            }
            Fault::TreesFull(node) => count(&mut self.nodes[node].trees_full),
            Fault::ServiceFails(way, group) => {
                for node in both(way) {
                    count(&mut self.nodes[node].service_fails[usize::from(group.0)]);
                    if begins {
                        self.service_dies(node, group);
                    }
                }
            }
            Fault::Replays(every_us) => {
                let idle = self.attacker.every_us.is_none();
                self.attacker.every_us = begins.then_some(every_us);
                if begins && idle {
                    self.after(every_us, Happening::Replay);
                }
            }
        }
        self.carriers_change();
        Some(note)
    }

    /// An operator asks a node for something.
    pub fn wish(&mut self, node: NodeIndex, wish: Wish) {
        self.checkers.redundancy.changes(self.now_us, Vec::new());
        self.requests += 1;
        let request = self.requests;
        if let Wish::Move { group, accept_loss: true, .. } = wish {
            self.checkers.generations.loss_accepted(group);
            self.checkers.excuses.loss_accepted(self.now_us, group);
        }
        self.tell_heart(node, Event::Wished { request, wish });
    }

    fn tell_heart(&mut self, node: NodeIndex, event: Event) {
        if let Some(heart) = &mut self.nodes[node].heart {
            heart.inbox.link.push_back(event);
            self.wake_heart(node, 50);
        }
    }

    /// A node gets the version of the config file that it does not have.
    pub(super) fn change_file(&mut self, node: NodeIndex) {
        let Some(other) = &self.setup.other else { return };
        let other = other.config();
        let changed = self.files[node].digest == self.config.digest;
        self.files[node] = if changed { other } else { self.config.clone() };
        let config = Box::new(Config::clone(&self.files[node]));
        self.tell_heart(node, Event::Reload { config, new_keys: false, request: None });
    }

    fn foreign_add(&mut self, group: GroupIndex) {
        for index in NodeIndex::BOTH {
            let node = &mut self.nodes[index];
            let claimed =
                node.heart.as_ref().is_none_or(|heart| heart.claimed[usize::from(group.0)]);
            let free = node.in_flight.is_none() && node.rtnl_held == 0;
            if node.runs() && free && !claimed {
                node.kernel.add_foreign(group);
                self.tell_net(index, Event::AddressFound { group });
                return;
            }
        }
    }

    fn tell_net(&mut self, node: NodeIndex, event: Event) {
        if let Some(heart) = &mut self.nodes[node].heart {
            heart.inbox.net.push_back(event);
            self.wake_heart(node, 20);
        }
    }
}
