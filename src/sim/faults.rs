//! What goes wrong: the kinds of faults, how a seed draws them, how each begins and ends.

use std::time::Duration;

use super::node::Guard;
use super::rng::Rng;
use super::setup::Setup;
use super::world::{Happening, World};
use crate::beat::Path;
use crate::config::{GroupIndex, NodeIndex};
use crate::core::Event;
use crate::core::Wish;

/// Something that goes wrong, or that an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A path is cut, in the direction in which that node sends or in both; ARP is not.
    PathCut(Path, Option<NodeIndex>),
    /// ARP between the nodes is cut, in one direction or both.
    ArpCut(Option<NodeIndex>),
    /// Beats and ARP between the nodes are cut on the LAN; both still reach hosts.
    LanSplit,
    /// A path loses so many frames of a thousand, in one direction or both.
    PathLoss(Path, Option<NodeIndex>, u64),
    /// The LAN loses so many frames of a thousand, ARP too.
    LanLoss(u64),
    /// A path delays by up to so many µs, so that frames overtake each other.
    Delay(Path, u64),
    /// A path doubles half of its frames.
    Doubles(Path),
    /// A path damages so many frames of a thousand.
    Damage(Path, u64),
    /// The crossover cable is pulled.
    CrossoverCable,
    /// The null-modem line is pulled.
    SerialCable,
    /// A node's LAN cable is pulled.
    LanCable(NodeIndex),
    /// The LAN switch is dead.
    Switch,
    /// A reach host is down.
    ReachHost(u8),
    /// The heart's process is stopped.
    HeartFrozen(NodeIndex),
    /// The heart's process is killed.
    HeartKilled(NodeIndex),
    /// All three processes are stopped.
    AllFrozen(NodeIndex),
    /// The guard is stopped.
    GuardFrozen(NodeIndex),
    /// The guard is killed.
    GuardKilled(NodeIndex),
    /// The machine is paused as a whole.
    MachinePaused(NodeIndex),
    /// The machine has no power.
    PowerCut(NodeIndex),
    /// Both have no power; the second gets it back later by so many µs.
    PowerCutBoth(u64),
    /// The disk hangs.
    DiskStuck(NodeIndex),
    /// Writes fail.
    DiskFails(NodeIndex),
    /// The kernel refuses to add addresses.
    KernelRefuses(NodeIndex),
    /// Rounds are late at times.
    Loaded(NodeIndex),
    /// Somebody deletes the group's addresses where they are.
    ForeignDelete(GroupIndex),
    /// Somebody adds them on the node that does not hold them.
    ForeignAdd(GroupIndex),
    /// An operator's wish at this node.
    Wished(NodeIndex, Wish),
    /// The daemon is ended in order and started again.
    Restart(NodeIndex),
    /// The attacker replays old frames, at least every so many µs.
    Replays(u64),
}

/// The kinds, as a draw chooses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Cuts of paths and ARP, one way or both.
    Cuts,
    /// Loss.
    Loss,
    /// Delay, doubling, damage.
    Mess,
    /// Cables and the switch.
    Cables,
    /// Reach hosts.
    Hosts,
    /// Stopped hearts.
    HeartFrozen,
    /// Killed hearts.
    HeartKilled,
    /// All processes stopped.
    AllFrozen,
    /// The guard.
    Guard,
    /// Whole machines paused.
    Paused,
    /// Power cuts.
    Power,
    /// Disks.
    Disk,
    /// The kernel refuses, load.
    Kernel,
    /// Somebody else touches the addresses.
    Foreign,
    /// Operators.
    Operator,
    /// Replays.
    Attack,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 16] = [
        Kind::Cuts,
        Kind::Loss,
        Kind::Mess,
        Kind::Cables,
        Kind::Hosts,
        Kind::HeartFrozen,
        Kind::HeartKilled,
        Kind::AllFrozen,
        Kind::Guard,
        Kind::Paused,
        Kind::Power,
        Kind::Disk,
        Kind::Kernel,
        Kind::Foreign,
        Kind::Operator,
        Kind::Attack,
    ];
}

/// A fault with its time and how long it lasts, both in µs.
#[derive(Clone, Copy, Debug)]
pub struct Planned {
    /// When it begins.
    pub at_us: u64,
    /// How long it lasts.
    pub lasts_us: u64,
    /// What.
    pub fault: Fault,
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Draws a fault of that kind and how long it lasts, in µs.
pub fn draw(kind: Kind, setup: &Setup, rng: &mut Rng) -> (Fault, u64) {
    let node = rng.pick(&NodeIndex::BOTH);
    let way = rng.pick(&[None, Some(NodeIndex::Lower), Some(NodeIndex::Upper)]);
    let path = rng.pick(&Path::ALL);
    let group = GroupIndex(rng.below(setup.groups.len() as u64) as u8);
    let some = rng.time_us(ms(20), ms(8_000));
    match kind {
        Kind::Cuts => {
            let fault = match rng.below(10) {
                0 => Fault::LanSplit,
                1 | 2 => Fault::ArpCut(way),
                _ => Fault::PathCut(path, way),
            };
            (fault, some)
        }
        Kind::Loss => {
            let loss = rng.pick(&[10, 50, 100, 300]);
            let fault = if rng.chance(300) {
                Fault::LanLoss(loss)
            } else {
                Fault::PathLoss(path, way, loss)
            };
            (fault, rng.time_us(ms(500), ms(8_000)))
        }
        Kind::Mess => {
            let fault = match rng.below(3) {
                0 => Fault::Delay(path, rng.between(1_000, 30_000)),
                1 => Fault::Doubles(path),
                _ => Fault::Damage(path, rng.pick(&[10, 100, 1000])),
            };
            (fault, rng.time_us(ms(500), ms(8_000)))
        }
        Kind::Cables => {
            let fault = match rng.below(5) {
                0 => Fault::CrossoverCable,
                1 => Fault::SerialCable,
                2 => Fault::Switch,
                _ => Fault::LanCable(node),
            };
            (fault, some)
        }
        Kind::Hosts => (Fault::ReachHost(rng.below(u64::from(setup.reach_hosts)) as u8), some),
        Kind::HeartFrozen => (Fault::HeartFrozen(node), rng.time_us(ms(10), ms(3_000))),
        Kind::HeartKilled => (Fault::HeartKilled(node), 0),
        Kind::AllFrozen => (Fault::AllFrozen(node), rng.time_us(ms(100), ms(10_000))),
        Kind::Guard => {
            if rng.chance(500) {
                (Fault::GuardKilled(node), 0)
            } else {
                (Fault::GuardFrozen(node), some)
            }
        }
        Kind::Paused => (Fault::MachinePaused(node), rng.time_us(ms(100), ms(10_000))),
        Kind::Power => {
            let lasts = rng.time_us(ms(100), ms(20_000));
            if rng.chance(250) {
                (Fault::PowerCutBoth(rng.time_us(ms(10), ms(8_000))), lasts)
            } else {
                (Fault::PowerCut(node), lasts)
            }
        }
        Kind::Disk => {
            let fault =
                if rng.chance(600) { Fault::DiskStuck(node) } else { Fault::DiskFails(node) };
            (fault, some)
        }
        Kind::Kernel => {
            let fault =
                if rng.chance(400) { Fault::KernelRefuses(node) } else { Fault::Loaded(node) };
            (fault, some)
        }
        Kind::Foreign => {
            let fault = if rng.chance(500) {
                Fault::ForeignDelete(group)
            } else {
                Fault::ForeignAdd(group)
            };
            (fault, 0)
        }
        Kind::Operator => {
            let about = rng.pick(&NodeIndex::BOTH);
            let fault = match rng.below(10) {
                0..=2 => Fault::Wished(node, Wish::Standby(about)),
                3 | 4 => Fault::Wished(node, Wish::Online(about)),
                5..=7 => {
                    let to = rng.pick(&[None, Some(about)]);
                    let accept_loss = rng.chance(50);
                    Fault::Wished(node, Wish::Move { group, to, accept_loss })
                }
                _ => Fault::Restart(node),
            };
            (fault, rng.time_us(ms(100), ms(3_000)))
        }
        Kind::Attack => {
            (Fault::Replays(rng.between(500, 20_000)), rng.time_us(ms(1_000), ms(10_000)))
        }
    }
}

/// Draws a plan: a mix of kinds of its own, so many faults in the time from `from_us` to `to_us`.
pub fn plan(
    kinds: &[Kind],
    setup: &Setup,
    from_us: u64,
    to_us: u64,
    rng: &mut Rng,
) -> Vec<Planned> {
    let mut mix = vec![rng.pick(kinds)];
    for _ in 0..rng.below(6) {
        mix.push(rng.pick(kinds));
    }
    if setup.reach_hosts == 0 {
        mix.retain(|kind| *kind != Kind::Hosts);
    }
    if mix.is_empty() {
        return Vec::new();
    }
    // Some seeds are dense, some have one fault in a long time.
    let mean_us = rng.time_us(ms(150), ms(5_000));
    let mut planned = Vec::new();
    let mut at_us = from_us;
    loop {
        at_us += rng.between(mean_us / 10, mean_us * 2);
        if at_us >= to_us {
            return planned;
        }
        let kind = rng.pick(&mix);
        let (fault, lasts_us) = draw(kind, setup, rng);
        planned.push(Planned { at_us, lasts_us, fault });
        // Troubles like company: a second one close by, on purpose.
        if rng.chance(250) {
            let kind = rng.pick(&mix);
            let (fault, lasts_us) = draw(kind, setup, rng);
            let at_us = at_us + rng.time_us(Duration::from_micros(100), ms(400));
            planned.push(Planned { at_us, lasts_us, fault });
        }
    }
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
        if let Some(note) = self.strike(fault, true, 0) {
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
        self.strike(fault, false, note);
    }

    /// Ends every fault, gives power to all and revives every daemon.
    pub fn heal(&mut self) {
        self.trace.note(self.now_us, || "HEAL".to_owned());
        self.healed = true;
        while let Some((_, fault, note)) = self.struck.pop() {
            self.strike(fault, false, note);
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
    fn strike(&mut self, fault: Fault, begins: bool, note: u64) -> Option<u64> {
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
                self.network.hosts.get_mut(usize::from(host)).map(count)?;
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
            Fault::PowerCutBoth(later_us) => {
                if begins {
                    let first = self.rng.pick(&NodeIndex::BOTH);
                    NodeIndex::BOTH.into_iter().for_each(|node| self.power_cut(node));
                    return Some(first as u64);
                }
                let first = if note == 0 { NodeIndex::Lower } else { NodeIndex::Upper };
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
            Fault::Loaded(node) => count(&mut self.nodes[node].loaded),
            Fault::ForeignDelete(group) => {
                NodeIndex::BOTH.into_iter().for_each(|node| self.lose_address(node, group));
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
            Fault::Restart(node) => {
                if begins {
                    self.tell_heart(node, Event::Shutdown);
                } else {
                    self.restart_daemon(node);
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
        self.requests += 1;
        let request = self.requests;
        if let Wish::Move { group, accept_loss: true, .. } = wish {
            self.checkers.reigns.loss_accepted(group);
        }
        self.tell_heart(node, Event::Wished { request, wish });
    }

    fn tell_heart(&mut self, node: NodeIndex, event: Event) {
        if let Some(heart) = &mut self.nodes[node].heart {
            heart.inbox.link.push_back(event);
            self.wake_heart(node, 50);
        }
    }

    fn foreign_add(&mut self, group: GroupIndex) {
        for index in NodeIndex::BOTH {
            let node = &mut self.nodes[index];
            let claimed =
                node.heart.as_ref().is_none_or(|heart| heart.claimed[usize::from(group.0)]);
            if node.runs() && node.in_flight.is_none() && !claimed {
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
