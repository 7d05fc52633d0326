//! The cables: two nodes, a crossover, a LAN switch, a client and a gateway, and the plugs that can be
//! pulled.
//!
//! ```text
//!   client ── gateway          each a namespace; `sw` holds both bridges
//!      │         │
//!   ┌──┴─────────┴───────── sw ┐
//!   │ lan (switch)             │
//!   │  │la               lb│   │   pulling a LAN cable: that port goes down
//!   │  │  xa ═ crossover ═ xb  │   pulling the crossover: both ports go down
//!   └──┼──┼─────────────┼──┼───┘
//!    eth0 eth1        eth1 eth0
//!     serv1              serv2
//! ```
//! With a third interface, each node's `eth2` is on the LAN switch as well.
//!
//! A plain veth pair can't be unplugged: an end that is set down takes the carrier from the other end
//! only by being administratively down itself. Behind a port of a bridge in a third namespace both
//! nodes keep their interface up and lose the carrier, as with a cable.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::BedError;
use super::links::{End, Links};
use clusterd::config::NodeIndex;
use clusterd::sys::ns::Namespace;

/// ifindex of the LAN interface and the crossover interface of a node. They differ from node to node,
/// so that an address message tells by its ifindex whose it is.
pub fn interface_indexes(node: NodeIndex) -> (u32, u32) {
    match node {
        NodeIndex::Lower => (10, 11),
        NodeIndex::Upper => (12, 13),
    }
}
/// ifindex of a node's third interface.
fn redundant_index(node: NodeIndex) -> u32 {
    match node {
        NodeIndex::Lower => 14,
        NodeIndex::Upper => 15,
    }
}
/// Added to the ifindex of a far end to get that of its port, unless both shall be the same.
const PORT_OFFSET: u32 = 100;
const SWITCH: End<'static> = End { name: "lan", index: 200 };
const HUB: End<'static> = End { name: "crossover", index: 201 };
const CLIENT_INDEX: u32 = 20;
const GATEWAY_INDEX: u32 = 21;

/// Own LAN addresses of a node.
pub fn node_addresses(node: NodeIndex) -> (Ipv4Addr, Ipv6Addr) {
    let host = match node {
        NodeIndex::Lower => 11,
        NodeIndex::Upper => 12,
    };
    (Ipv4Addr::new(203, 0, 113, host), v6(u16::from(host)))
}

/// The reach hosts; both are the gateway.
pub const REACH_HOSTS: [Ipv4Addr; 2] =
    [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 53)];

const CLIENT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 100);

/// A host of 2001:db8::/64 (RFC 3849) whose last group reads like the decimal number.
fn v6(host: u16) -> Ipv6Addr {
    let digits = host / 100 * 256 + host / 10 % 10 * 16 + host % 10;
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, digits)
}

/// What is plugged in and powered. Links follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plugs {
    /// The crossover cable.
    pub crossover: bool,
    /// The serial cable.
    pub serial: bool,
    /// The LAN cable of each node, lower name first.
    pub lan: [bool; 2],
    /// The cable of each node's third interface, if it has one.
    pub redundant: [bool; 2],
    /// Power of the LAN switch, as far as the nodes are concerned.
    pub switch: bool,
    /// Power of each node, lower name first.
    pub power: [bool; 2],
    /// A switch stands in the crossover: the carrier stays when the other end loses its power.
    pub between: bool,
}

impl Plugs {
    /// Whether a node's end of the crossover has a carrier: a dead machine sends none, a switch does.
    pub fn crossover_carries(&self, node: NodeIndex) -> bool {
        self.crossover && self.powered(node) && (self.between || self.powered(node.other()))
    }

    /// Whether bytes pass on the serial line.
    pub fn serial_carries(&self) -> bool {
        self.serial && self.power == [true; 2]
    }

    /// Whether a node's LAN cable has a carrier.
    pub fn lan_carries(&self, node: NodeIndex) -> bool {
        let [lower, upper] = self.lan;
        let plugged = match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        };
        plugged && self.switch && self.powered(node)
    }

    /// Whether the cable of a node's third interface has a carrier.
    pub fn redundant_carries(&self, node: NodeIndex) -> bool {
        let [lower, upper] = self.redundant;
        let plugged = match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        };
        plugged && self.switch && self.powered(node)
    }

    /// Whether a node has power.
    pub fn powered(&self, node: NodeIndex) -> bool {
        let [lower, upper] = self.power;
        match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        }
    }

    /// The entry of `pair` that belongs to `node`.
    pub fn of(pair: &mut [bool; 2], node: NodeIndex) -> &mut bool {
        let [lower, upper] = pair;
        match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        }
    }
}

/// One node's place in the wiring.
#[derive(Debug)]
pub struct Seat {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its links.
    pub links: Links,
}

/// All namespaces and links of a bed.
#[derive(Debug)]
pub struct Wiring {
    seats: [Seat; 2],
    /// Where the clients are.
    pub client: Namespace,
    gateway: Namespace,
    /// Where the bridges are.
    pub switch: Namespace,
    switch_links: Links,
    ports: Ports,
    plugs: Plugs,
}

#[derive(Debug)]
struct Ports {
    lan: [u32; 2],
    redundant: Option<[u32; 2]>,
    crossover: [u32; 2],
}

impl Wiring {
    /// Makes namespaces, links and addresses, with power off on both nodes and every cable plugged in.
    /// With `same_ifindex` both ends of a veth have the same ifindex: then the kernel holds back its
    /// messages on a lost carrier as it does for real NICs. With `redundant` each node has a third
    /// interface.
    ///
    /// # Errors
    /// Not root, or a kernel without veth, bridge or network namespaces.
    pub fn new(same_ifindex: bool, redundant: bool) -> Result<Wiring, BedError> {
        let switch = namespace(&[
            ("ipv6/conf/all/disable_ipv6", "1"),
            ("ipv6/conf/default/disable_ipv6", "1"),
        ])?;
        let switch_links = Links::open(&switch)?;
        switch_links.bridge(SWITCH, false)?;
        switch_links.bridge(HUB, true)?;
        let offset = if same_ifindex { 0 } else { PORT_OFFSET };
        let seat = |node: NodeIndex| -> Result<Seat, BedError> {
            let namespace = host_namespace()?;
            let links = Links::open(&namespace)?;
            let (lan, crossover) = interface_indexes(node);
            let (lan_port, crossover_port) = match node {
                NodeIndex::Lower => ("la", "xa"),
                NodeIndex::Upper => ("lb", "xb"),
            };
            let port = End { name: lan_port, index: lan + offset };
            switch_links.veth(port, SWITCH.index, End { name: "eth0", index: lan }, &namespace)?;
            let port = End { name: crossover_port, index: crossover + offset };
            let eth1 = End { name: "eth1", index: crossover };
            switch_links.veth(port, HUB.index, eth1, &namespace)?;
            links.set(lan, true)?;
            links.set(crossover, true)?;
            if redundant {
                let index = redundant_index(node);
                let name = match node {
                    NodeIndex::Lower => "ra",
                    NodeIndex::Upper => "rb",
                };
                let port = End { name, index: index + offset };
                let eth2 = End { name: "eth2", index };
                switch_links.veth(port, SWITCH.index, eth2, &namespace)?;
                links.set(index, true)?;
            }
            let (v4, v6) = node_addresses(node);
            links.add_address(lan, v4.into(), 24)?;
            links.add_address(lan, v6.into(), 64)?;
            Ok(Seat { namespace, links })
        };
        let seats = [seat(NodeIndex::Lower)?, seat(NodeIndex::Upper)?];
        let bystander =
            |name: &str, index: u32, hosts: &[Ipv4Addr]| -> Result<Namespace, BedError> {
                let namespace = host_namespace()?;
                let links = Links::open(&namespace)?;
                let port = End { name, index: index + offset };
                switch_links.veth(port, SWITCH.index, End { name: "eth0", index }, &namespace)?;
                switch_links.set(index + offset, true)?;
                links.set(index, true)?;
                for host in hosts {
                    let [.., last] = host.octets();
                    links.add_address(index, IpAddr::V4(*host), 24)?;
                    links.add_address(index, IpAddr::V6(v6(u16::from(last))), 64)?;
                }
                Ok(namespace)
            };
        let client = bystander("lc", CLIENT_INDEX, &[CLIENT])?;
        let gateway = bystander("lg", GATEWAY_INDEX, &REACH_HOSTS)?;
        let [(lan_a, cross_a), (lan_b, cross_b)] = NodeIndex::BOTH.map(interface_indexes);
        Ok(Wiring {
            seats,
            client,
            gateway,
            switch,
            switch_links,
            ports: Ports {
                lan: [lan_a + offset, lan_b + offset],
                redundant: redundant
                    .then(|| NodeIndex::BOTH.map(|node| redundant_index(node) + offset)),
                crossover: [cross_a + offset, cross_b + offset],
            },
            plugs: Plugs {
                crossover: true,
                serial: true,
                lan: [true; 2],
                redundant: [true; 2],
                switch: true,
                power: [false; 2],
                between: false,
            },
        })
    }

    /// A node's namespace and links.
    pub fn seat(&self, node: NodeIndex) -> &Seat {
        let [lower, upper] = &self.seats;
        match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        }
    }

    /// The same, to be changed.
    pub fn seat_mut(&mut self, node: NodeIndex) -> &mut Seat {
        let [lower, upper] = &mut self.seats;
        match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        }
    }

    /// Where the reach hosts are.
    pub fn gateway(&self) -> &Namespace {
        &self.gateway
    }

    /// What is plugged in now.
    pub fn plugs(&self) -> Plugs {
        self.plugs
    }

    /// Sets the links to what `plugs` says. The LAN goes first: between the two the kernel of a node
    /// that just lost its power must not answer on the LAN while the crossover is already dead.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn apply(&mut self, plugs: Plugs) -> Result<(), BedError> {
        let before = std::mem::replace(&mut self.plugs, plugs);
        for (node, port) in NodeIndex::BOTH.into_iter().zip(self.ports.lan) {
            if before.lan_carries(node) != plugs.lan_carries(node) {
                self.switch_links.set(port, plugs.lan_carries(node))?;
            }
        }
        for (node, port) in
            NodeIndex::BOTH.into_iter().zip(self.ports.redundant.into_iter().flatten())
        {
            if before.redundant_carries(node) != plugs.redundant_carries(node) {
                self.switch_links.set(port, plugs.redundant_carries(node))?;
            }
        }
        for (node, port) in NodeIndex::BOTH.into_iter().zip(self.ports.crossover) {
            if before.crossover_carries(node) != plugs.crossover_carries(node) {
                self.switch_links.set(port, plugs.crossover_carries(node))?;
            }
        }
        Ok(())
    }
}

/// A namespace of a host: addresses are usable at once, without duplicate detection.
fn host_namespace() -> Result<Namespace, BedError> {
    namespace(&[("ipv6/conf/all/accept_dad", "0"), ("ipv6/conf/default/accept_dad", "0")])
}

/// A namespace with these values below /proc/sys/net. A kernel without IPv6 has none of them.
fn namespace(settings: &[(&str, &str)]) -> Result<Namespace, BedError> {
    let namespace = Namespace::new().map_err(BedError::Namespace)?;
    namespace.run(|| {
        for (name, value) in settings {
            match std::fs::write(format!("/proc/sys/net/{name}"), value) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    })??;
    Ok(namespace)
}
