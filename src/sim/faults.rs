//! What goes wrong: the kinds of faults, and how a seed draws them. `apply_faults` does them.

use std::time::Duration;

use super::rng::Rng;
use super::setup::Setup;
use crate::beat::Path;
use crate::config::{GroupIndex, NodeIndex};
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
    /// A reach host does not answer that node; it answers the other.
    ReachHostOf(u8, NodeIndex),
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
    /// Who serves the group has no power.
    OwnerCut(GroupIndex),
    /// The machine has no power, and comes back with an empty disk.
    Blanked(NodeIndex),
    /// The machine has no power, and comes back with its disk as it was at an earlier time.
    SetBack(NodeIndex),
    /// The disk hangs.
    DiskStuck(NodeIndex),
    /// Writes fail.
    DiskFails(NodeIndex),
    /// The kernel refuses to add addresses.
    KernelRefuses(NodeIndex),
    /// Somebody holds the kernel's lock for changes of the network (rtnl): no request ends, no lease ends,
    /// no carrier is told of.
    RtnlHeld(NodeIndex),
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
    /// The worker's process is killed.
    WorkerKilled(NodeIndex),
    /// The worker's process is stopped.
    WorkerHung(NodeIndex),
    /// There is no room for what the peer's mirror sends.
    TreesFull(NodeIndex),
    /// The group's services die and do not start, on that node or on both.
    ServiceFails(Option<NodeIndex>, GroupIndex),
    /// An operator copies the other version of the config file onto that node, and reloads.
    FileChanged(NodeIndex),
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
    /// Power cuts of who serves.
    Owner,
    /// Disks that are lost or set back.
    Replaced,
    /// What operators decide where data may be lost.
    Decision,
    /// Disks.
    Disk,
    /// The kernel refuses, load.
    Kernel,
    /// Somebody else touches the addresses.
    Foreign,
    /// Operators.
    Operator,
    /// Config files.
    File,
    /// Replays.
    Attack,
    /// Workers.
    Worker,
    /// Services and the room for trees.
    Furniture,
    /// The kernel's lock is held.
    Rtnl,
}

/// The kinds that need trees or services to mean anything.
pub const FURNISHED: [Kind; 2] = [Kind::Worker, Kind::Furniture];

/// What the faults of a sequence are drawn from: power and disks above all, and operators.
pub const SEQUENCE: [Kind; 18] = [
    Kind::Owner,
    Kind::Owner,
    Kind::Power,
    Kind::Power,
    Kind::Replaced,
    Kind::Replaced,
    Kind::Decision,
    Kind::Decision,
    Kind::Operator,
    Kind::Operator,
    Kind::Cables,
    Kind::Cuts,
    Kind::Worker,
    Kind::Furniture,
    Kind::Disk,
    Kind::HeartKilled,
    Kind::AllFrozen,
    Kind::Paused,
];

/// With the kernel's lock held again and again, and whatever else.
pub fn hung() -> Vec<Kind> {
    [&[Kind::Rtnl; 8][..], &Kind::ALL[..]].concat()
}

/// With config files that change again and again, and whatever else.
pub fn changing() -> Vec<Kind> {
    [&[Kind::File; 8][..], &Kind::ALL[..]].concat()
}

impl Kind {
    /// All kinds that any pair knows, but the one that has a mode of its own.
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
                // A line of a slow adapter.
                0 if path == Path::Serial => Fault::Delay(path, rng.between(1_000, 200_000)),
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
        Kind::Hosts => {
            let host = rng.below(u64::from(setup.reach_hosts)) as u8;
            let fault = if rng.chance(600) {
                Fault::ReachHostOf(host, node)
            } else {
                Fault::ReachHost(host)
            };
            (fault, some)
        }
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
        Kind::Owner => (Fault::OwnerCut(group), rng.time_us(ms(100), ms(20_000))),
        Kind::Replaced => {
            let fault = if rng.chance(400) { Fault::Blanked(node) } else { Fault::SetBack(node) };
            (fault, rng.time_us(ms(100), ms(10_000)))
        }
        Kind::Decision => {
            let wish = if rng.chance(500) {
                Wish::Sync { group, wait: rng.chance(500), from: Some(node) }
            } else {
                let to = rng.pick(&[None, Some(node)]);
                Wish::Move { group, to, accept_loss: true }
            };
            (Fault::Wished(rng.pick(&NodeIndex::BOTH), wish), 0)
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
        Kind::Rtnl => (Fault::RtnlHeld(node), rng.time_us(ms(50), ms(8_000))),
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
        Kind::File => (Fault::FileChanged(node), 0),
        Kind::Attack => {
            (Fault::Replays(rng.between(500, 20_000)), rng.time_us(ms(1_000), ms(10_000)))
        }
        Kind::Worker => {
            if rng.chance(500) {
                (Fault::WorkerKilled(node), 0)
            } else {
                (Fault::WorkerHung(node), some)
            }
        }
        Kind::Furniture => {
            let fault = if rng.chance(400) {
                Fault::TreesFull(node)
            } else {
                Fault::ServiceFails(way, group)
            };
            (fault, some)
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

/// Draws two or three faults, sometimes four, one after the other or one into the other.
pub fn sequence(kinds: &[Kind], setup: &Setup, from_us: u64, rng: &mut Rng) -> Vec<Planned> {
    let mut at_us = from_us;
    let planned = (0..rng.pick(&[2, 2, 3, 3, 3, 4])).map(|_| {
        let kind = rng.pick(kinds);
        let (fault, lasts_us) = draw(kind, setup, rng);
        let planned = Planned { at_us, lasts_us, fault };
        at_us += rng.time_us(ms(1), ms(8_000));
        planned
    });
    planned.collect()
}
