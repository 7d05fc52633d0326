//! The simulated world: a clock in µs, what will happen when, and the checkers that look on.
//!
//! Everything comes from one seed. `life` has machines and processes, `work` what a heart does in a
//! round, `wire` what travels between the nodes, `faults` what goes wrong.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::backup::Backups;
use super::checkers::Checkers;
use super::faults::{Fault, Planned};
use super::mirror::Message;
use super::network::Network;
use super::node::{Frame, Node};
use super::pair::Pair;
use super::recording::Recording;
use super::rng::Rng;
use super::setup::Setup;
use super::trace::Trace;
use super::wire::Attacker;
use super::worker::Deed;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::core::Link;

/// What a broadcast about a service address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arp {
    /// Who has it?
    Probe,
    /// I have it, as answer to a probe.
    Answer,
    /// I have it, unasked.
    Announcement,
}

/// What can happen. `boot` and `heart` make it void if machine or process are others by then.
#[derive(Clone, Debug)]
pub enum Happening {
    /// The heart's loop wakes.
    Round { node: NodeIndex, heart: u32 },
    /// A frame arrives at this node.
    Frame { node: NodeIndex, frame: Frame },
    /// The serial line is in the middle of bringing a frame to this node.
    LineBusy { node: NodeIndex },
    /// ARP arrives at this node, from the peer.
    Arp { node: NodeIndex, group: GroupIndex, kind: Arp },
    /// A reach host's answer arrives.
    Reach { node: NodeIndex, host: u8 },
    /// The kernel reports a carrier.
    Carrier { node: NodeIndex, boot: u32, link: Link },
    /// The kernel does what the netlink thread asked.
    Effect { node: NodeIndex, boot: u32 },
    /// The kernel has answered it.
    Answered { node: NodeIndex, boot: u32 },
    /// A lease is over.
    LeaseOver { node: NodeIndex, boot: u32, group: GroupIndex, serial: u64 },
    /// A write is durable.
    Written { node: NodeIndex, boot: u32 },
    /// The guard looks at the heart's tick.
    GuardLooks { node: NodeIndex, boot: u32, heart: u32 },
    /// The guard sees that the heart is dead or must die.
    GuardActs { node: NodeIndex, boot: u32 },
    /// The guard's deletions are done.
    GuardDeleted { node: NodeIndex, boot: u32 },
    /// The guard starts a heart.
    HeartStarts { node: NodeIndex, boot: u32 },
    /// The service manager starts the daemon.
    DaemonStarts { node: NodeIndex, boot: u32 },
    /// The guard starts a worker.
    WorkerStarts { node: NodeIndex, boot: u32 },
    /// That worker reads what waits for it.
    WorkerReads { node: NodeIndex, boot: u32, worker: u32 },
    /// That worker says that it works.
    WorkerSays { node: NodeIndex, boot: u32, worker: u32 },
    /// That worker comes back to what it has begun.
    Deed { node: NodeIndex, boot: u32, worker: u32, group: GroupIndex, deed: Deed },
    /// A message of the peer's worker arrives for that worker.
    Message { node: NodeIndex, boot: u32, worker: u32, group: GroupIndex, message: Message },
    /// Somebody may write to a group's tree.
    Client(GroupIndex),
    /// A backup of a node's disk is made.
    BackUp(NodeIndex),
    /// Somebody asks both nodes for their status.
    Ask,
    /// A fault begins.
    Begin(Planned),
    /// A fault ends; with what it needs to know of its beginning.
    End(Fault, u64),
    /// The attacker sends an old frame again.
    Replay,
    /// The LAN becomes slow, or quick again.
    Burst,
}

impl Happening {
    /// The machine that must run for it.
    fn machine(&self) -> Option<NodeIndex> {
        match self {
            Happening::Round { node, .. }
            | Happening::Frame { node, .. }
            | Happening::LineBusy { node }
            | Happening::Arp { node, .. }
            | Happening::Reach { node, .. }
            | Happening::Carrier { node, .. }
            | Happening::Effect { node, .. }
            | Happening::Answered { node, .. }
            | Happening::LeaseOver { node, .. }
            | Happening::Written { node, .. }
            | Happening::GuardLooks { node, .. }
            | Happening::GuardActs { node, .. }
            | Happening::GuardDeleted { node, .. }
            | Happening::HeartStarts { node, .. }
            | Happening::WorkerStarts { node, .. }
            | Happening::WorkerReads { node, .. }
            | Happening::WorkerSays { node, .. }
            | Happening::Deed { node, .. }
            | Happening::Message { node, .. }
            | Happening::DaemonStarts { node, .. } => Some(*node),
            Happening::Client(_)
            | Happening::BackUp(_)
            | Happening::Ask
            | Happening::Begin(_)
            | Happening::End(..)
            | Happening::Replay
            | Happening::Burst => None,
        }
    }

    /// The boot of that machine that it belongs to.
    fn boot(&self) -> Option<u32> {
        match self {
            Happening::Carrier { boot, .. }
            | Happening::Effect { boot, .. }
            | Happening::Answered { boot, .. }
            | Happening::LeaseOver { boot, .. }
            | Happening::Written { boot, .. }
            | Happening::GuardLooks { boot, .. }
            | Happening::GuardActs { boot, .. }
            | Happening::GuardDeleted { boot, .. }
            | Happening::HeartStarts { boot, .. }
            | Happening::WorkerStarts { boot, .. }
            | Happening::WorkerReads { boot, .. }
            | Happening::WorkerSays { boot, .. }
            | Happening::Deed { boot, .. }
            | Happening::Message { boot, .. }
            | Happening::DaemonStarts { boot, .. } => Some(*boot),
            Happening::Round { .. }
            | Happening::Frame { .. }
            | Happening::LineBusy { .. }
            | Happening::Arp { .. }
            | Happening::Reach { .. }
            | Happening::Client(_)
            | Happening::BackUp(_)
            | Happening::Ask
            | Happening::Begin(_)
            | Happening::End(..)
            | Happening::Replay
            | Happening::Burst => None,
        }
    }
}

/// Where somebody asks for it, the status is asked for this often, in µs.
const ASK_EVERY_US: u64 = 250_000;
/// Arrivals that a paused machine's network card keeps.
const PARKED_MAX: usize = 64;

struct Entry {
    at_us: u64,
    serial: u64,
    what: Happening,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        (self.at_us, self.serial) == (other.at_us, other.serial)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at_us, self.serial).cmp(&(other.at_us, other.serial))
    }
}

/// The world.
pub struct World {
    /// Time since it began, in µs.
    pub now_us: u64,
    /// Where all chance comes from.
    pub rng: Rng,
    /// The pair as drawn.
    pub setup: Setup,
    /// Its config.
    pub config: Arc<Config>,
    /// The servers.
    pub nodes: Pair<Node>,
    /// What is between them.
    pub network: Network,
    /// Records and replays frames.
    pub attacker: Attacker,
    /// Where clients' ARP caches and the switch send a group's traffic.
    pub clients_use: Vec<Option<NodeIndex>>,
    /// Who looks on.
    pub checkers: Checkers,
    /// What was found wrong first.
    pub violation: Option<String>,
    /// Lines for a person.
    pub trace: Trace,
    /// Inputs of one node's first heart, for replay tests.
    pub recording: Option<Recording>,
    /// Rules taken out of every core.
    pub sabotage: Option<crate::core::Sabotage>,
    /// Faults that last: until when, what, and what their end needs to know.
    pub struck: Vec<(u64, Fault, u64)>,
    /// The fault phase is over.
    pub healed: bool,
    /// Groups that each node gives away in a planned move.
    pub moves: Pair<std::collections::BTreeSet<GroupIndex>>,
    /// Each node's config file.
    pub files: Pair<Arc<Config>>,
    /// Earlier states of the disks.
    pub backups: Backups,
    /// Nobody writes any more.
    pub clients_rest: bool,
    /// Both kernels answer at once, and tell within 2 ms of the LAN's carrier.
    pub kernels_are_prompt: bool,
    /// Operators' requests so far.
    pub requests: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    serial: u64,
}

impl World {
    /// Two servers without power on a whole network.
    pub fn new(setup: Setup, mut rng: Rng, trace: Trace) -> World {
        let config = setup.config();
        let groups = config.groups.len();
        let mut world = World {
            now_us: 0,
            nodes: Pair::of(|_| Node::new(groups, setup.clock_stops_in_pause)),
            network: Network::new(config.reach_hosts.len(), &mut rng),
            attacker: Attacker::default(),
            clients_use: vec![None; groups],
            checkers: Checkers::new(&config, setup.times()),
            violation: None,
            trace,
            recording: None,
            sabotage: None,
            struck: Vec::new(),
            healed: false,
            moves: Pair::default(),
            files: Pair::of(|_| config.clone()),
            backups: Backups::default(),
            clients_rest: false,
            kernels_are_prompt: false,
            requests: 0,
            queue: BinaryHeap::new(),
            serial: 0,
            rng,
            setup,
            config,
        };
        for (group, _) in world.config.clone().groups() {
            if world.setup.groups[usize::from(group.0)].mirror {
                world.after(0, Happening::Client(group));
            }
        }
        world
    }

    /// What a node goes by: not all of its file can be taken in while it runs.
    pub fn running_config(&self, node: NodeIndex) -> &Arc<Config> {
        self.nodes[node].heart.as_ref().map_or(&self.files[node], |heart| heart.core.config())
    }

    /// Lets something happen after a delay.
    pub fn after(&mut self, delay_us: u64, what: Happening) {
        self.at(self.now_us + delay_us, what);
    }

    /// Lets something happen at a time.
    pub fn at(&mut self, at_us: u64, what: Happening) {
        assert!(at_us >= self.now_us, "time goes one way: {at_us}, now {}", self.now_us);
        self.serial += 1;
        self.queue.push(Reverse(Entry { at_us, serial: self.serial, what }));
    }

    /// Lets time pass until `end_us` or until something is found wrong.
    pub fn run_until(&mut self, end_us: u64) {
        while self.violation.is_none() {
            match self.queue.peek() {
                Some(Reverse(next)) if next.at_us <= end_us => {}
                Some(_) | None => break,
            }
            let Some(Reverse(entry)) = self.queue.pop() else { break };
            self.now_us = entry.at_us;
            self.happen(entry.what);
            self.look();
        }
        self.now_us = self.now_us.max(end_us);
    }

    /// Notes what was found wrong; only the first counts.
    pub fn wrong(&mut self, what: String) {
        self.trace.note(self.now_us, || format!("WRONG: {what}"));
        self.violation.get_or_insert_with(|| format!("at {} µs: {what}", self.now_us));
    }

    fn happen(&mut self, what: Happening) {
        if let Some(index) = what.machine() {
            let node = &mut self.nodes[index];
            if !node.powered || what.boot().is_some_and(|boot| boot != node.boot) {
                return;
            }
            if node.paused > 0 {
                let arrival = matches!(
                    what,
                    Happening::Frame { .. }
                        | Happening::LineBusy { .. }
                        | Happening::Arp { .. }
                        | Happening::Reach { .. }
                );
                if !arrival || node.parked.len() < PARKED_MAX {
                    node.parked.push(what);
                }
                return;
            }
        }
        match what {
            Happening::Round { node, heart } => self.round(node, heart),
            Happening::Frame { node, frame } => self.frame_arrives(node, frame),
            Happening::LineBusy { node } => self.line_is_busy(node),
            Happening::Arp { node, group, kind } => self.arp_arrives(node, group, kind),
            Happening::Reach { node, host } => self.reach_answers(node, host),
            Happening::Carrier { node, link, .. } => self.carrier_reported(node, link),
            Happening::Effect { node, .. } => self.request_takes_effect(node),
            Happening::Answered { node, .. } => self.request_answered(node),
            Happening::LeaseOver { node, group, serial, .. } => {
                self.lease_over(node, group, serial);
            }
            Happening::Written { node, .. } => self.written(node),
            Happening::GuardLooks { node, heart, .. } => self.guard_looks(node, heart),
            Happening::GuardActs { node, .. } => self.guard_acts(node),
            Happening::GuardDeleted { node, .. } => self.guard_deleted(node),
            Happening::HeartStarts { node, .. } => self.heart_starts(node),
            Happening::DaemonStarts { node, .. } => self.daemon_starts(node),
            Happening::WorkerStarts { node, .. } => self.worker_starts(node),
            Happening::WorkerReads { node, worker, .. } => self.worker_reads(node, worker),
            Happening::WorkerSays { node, worker, .. } => self.worker_says(node, worker),
            Happening::Deed { node, worker, group, deed, .. } => {
                self.deed(node, worker, group, deed);
            }
            Happening::Message { node, worker, group, message, .. } => {
                self.message_arrives(node, worker, group, message);
            }
            Happening::Client(group) => self.client(group),
            Happening::BackUp(node) => self.back_up(node),
            Happening::Ask => {
                self.ask_redundancy();
                self.after(ASK_EVERY_US, Happening::Ask);
            }
            Happening::Begin(planned) => self.begin(planned),
            Happening::End(fault, note) => self.end(fault, note),
            Happening::Replay => self.replay(),
            Happening::Burst => self.burst(),
        }
    }

    /// The name of a node, for the trace.
    pub fn name(&self, node: NodeIndex) -> &str {
        &self.config.node(node).name
    }
}
