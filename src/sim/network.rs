//! Cables, the LAN switch, reach hosts, and what each direction of each path does to a frame.

use super::pair::Pair;
use super::rng::Rng;
use super::slow::SlowLan;
use crate::beat::Path;
use crate::config::NodeIndex;
use crate::core::Link;

/// One direction of a path between the two nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Way {
    /// Faults that cut it at present.
    pub cut: u8,
    /// Frames lost of a thousand.
    pub loss: u64,
    /// Longest additional delay in µs; each frame draws its own, so they overtake each other.
    pub delay_us: u64,
    /// Frames doubled of a thousand.
    pub doubled: u64,
    /// Frames damaged of a thousand.
    pub damaged: u64,
}

impl Way {
    fn takes_frames(&self) -> bool {
        self.cut == 0 && self.loss == 0 && self.damaged == 0
    }

    fn clean(&self) -> bool {
        self.takes_frames() && self.delay_us == 0
    }
}

/// Everything between the nodes. A `u8` counts the faults that break the thing at present.
pub struct Network {
    /// By path, then by sender.
    pub ways: [Pair<Way>; 3],
    /// ARP between the nodes, by sender. Broken on its own, or with the LAN.
    pub arp: Pair<Way>,
    /// What makes the LAN slow, ARP too.
    pub lan: SlowLan,
    /// When the last frame arrived or will arrive, by path, then by sender.
    pub arrived_us: [Pair<u64>; 3],
    /// When the last message between the workers arrives, by sender.
    pub said_us: Pair<u64>,
    /// The crossover cable.
    pub crossover_cable: u8,
    /// The null-modem line.
    pub serial_cable: u8,
    /// Each node's cable to the LAN switch.
    pub lan_cable: Pair<u8>,
    /// The LAN switch.
    pub switch: u8,
    /// The reach hosts, and whom each answers.
    pub hosts: Vec<Pair<u8>>,
    /// A dead switch keeps its ports up.
    pub switch_keeps_carrier: bool,
    /// The crossover runs through something that keeps the carrier when a node loses power.
    pub crossover_keeps_carrier: bool,
}

impl Network {
    /// A network without faults.
    pub fn new(reach_hosts: usize, rng: &mut Rng) -> Network {
        Network {
            ways: Default::default(),
            arp: Pair::default(),
            lan: SlowLan::default(),
            arrived_us: Default::default(),
            said_us: Pair::default(),
            crossover_cable: 0,
            serial_cable: 0,
            lan_cable: Pair::default(),
            switch: 0,
            hosts: vec![Pair::default(); reach_hosts],
            switch_keeps_carrier: rng.chance(400),
            crossover_keeps_carrier: rng.chance(400),
        }
    }

    /// The direction of `path` in which `from` sends.
    pub fn way(&self, path: Path, from: NodeIndex) -> &Way {
        &self.ways[path.index()][from]
    }

    /// Whether the LAN carries frames between the nodes, as far as cables and switch go.
    fn lan_whole(&self) -> bool {
        self.switch == 0 && self.lan_cable.both() == [&0, &0]
    }

    /// Whether this node is connected to a switch that works: it reaches hosts and clients.
    pub fn on_lan(&self, node: NodeIndex) -> bool {
        self.switch == 0 && self.lan_cable[node] == 0
    }

    /// Whether the path's cables and switches work.
    fn whole(&self, path: Path) -> bool {
        match path {
            Path::Crossover => self.crossover_cable == 0,
            Path::Serial => self.serial_cable == 0,
            Path::Lan => self.lan_whole(),
        }
    }

    /// Whether a frame sent now arrives.
    pub fn passes(&self, path: Path, from: NodeIndex, rng: &mut Rng) -> bool {
        let way = self.way(path, from);
        self.whole(path) && way.cut == 0 && !rng.chance(way.loss)
    }

    /// Whether an ARP frame sent now arrives.
    pub fn arp_passes(&self, from: NodeIndex, rng: &mut Rng) -> bool {
        let way = self.arp[from];
        self.lan_whole() && way.cut == 0 && !rng.chance(way.loss)
    }

    /// Whether the carrier of that interface is up. `peer_powered` matters for a direct cable.
    pub fn carrier(&self, node: NodeIndex, link: Link, peer_powered: bool) -> bool {
        match link {
            Link::Lan => {
                self.lan_cable[node] == 0 && (self.switch == 0 || self.switch_keeps_carrier)
            }
            Link::Crossover => {
                self.crossover_cable == 0 && (peer_powered || self.crossover_keeps_carrier)
            }
            Link::Serial => self.serial_cable == 0 && peer_powered,
        }
    }

    /// Whether the workers' sessions get through: by the crossover, or else by the LAN. What is lost on
    /// the way is sent again; what is cut in one direction is cut.
    pub fn carries_sessions(&self) -> bool {
        [Path::Crossover, Path::Lan].into_iter().any(|path| {
            self.whole(path) && self.ways[path.index()].both().iter().all(|way| way.cut == 0)
        })
    }

    /// Whether a path is cut, lossy or damaging in at least one direction.
    pub fn impaired(&self, path: Path) -> bool {
        !self.whole(path) || self.ways[path.index()].both().iter().any(|way| !way.takes_frames())
    }

    /// Whether ARP between the nodes is cut or lossy in at least one direction.
    pub fn arp_impaired(&self) -> bool {
        !self.lan_whole() || self.arp.both().iter().any(|way| !way.takes_frames())
    }

    /// Whether a path carries every frame, unharmed and in time, both ways.
    pub fn clean(&self, path: Path) -> bool {
        let in_time = path != Path::Lan || self.lan.is_quick();
        self.whole(path) && in_time && self.ways[path.index()].both().iter().all(|way| way.clean())
    }
}
