//! The config file: one TOML file, the same on both nodes.
//!
//! `schema` is the file as it is written (`table` reads its tables, `form` single values, `parts` a
//! group's mirrored trees and services), `check` turns it into the [`Config`] below and refuses what
//! cannot work, `place` makes errors point at file, line and column, `normal` prints a config back,
//! `warn` says what deserves a second look, `key` is the key file, `change` says what a running daemon can
//! take in of another config, `reference` every key for people.

pub mod change;
mod check;
mod form;
pub mod key;
pub mod normal;
mod parts;
mod place;
#[cfg(test)]
pub(crate) mod reference;
pub mod ring;
mod schema;
mod table;
mod tags;
mod warn;

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::de::DeTable;

use crate::limits::{self, CONFIG_BYTES_MAX};
pub use form::duration as parse_duration;
use place::Problems;
pub use place::{ConfigError, ConfigErrors};
pub use tags::GroupTags;
pub use warn::warnings;

/// Reads and checks the config at `path`.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let file_name = path.display().to_string();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|source| ConfigErrors::Unreadable { file: path.to_owned(), source })?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, &file_name),
        // At the size limit the cut may be what broke a character: the size is what is wrong.
        Err(_) if bytes.len() > CONFIG_BYTES_MAX => Err(too_long(&file_name)),
        Err(error) => {
            let mut problems = Problems::default();
            let place = error.valid_up_to()..error.valid_up_to() + 1;
            problems.report_syntax(&place, "a byte that is not UTF-8; expected text".to_owned());
            // The text is not shown: this may be the key file, named by mistake.
            let shown = |letter: char| if letter == '\n' { letter } else { '?' };
            let hidden: String = String::from_utf8_lossy(&bytes).chars().map(shown).collect();
            Err(problems.into_errors(&file_name, &hidden))
        }
    }
}

/// Checks the config in `text`; `file_name` is for the errors.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
    if text.len() > CONFIG_BYTES_MAX {
        return Err(too_long(file_name));
    }
    let mut problems = Problems::default();
    let config = match DeTable::parse(text) {
        Ok(document) => {
            check::check(&schema::read(document.get_ref(), &mut problems), &mut problems)
        }
        Err(error) => {
            problems.report_toml(text, &error);
            None
        }
    };
    match config {
        Some(config) if problems.is_empty() => Ok(config),
        Some(_) | None => Err(problems.into_errors(file_name, text)),
    }
}

fn too_long(file_name: &str) -> ConfigErrors {
    let mut problems = Problems::default();
    let what = "the file is too long".to_owned();
    problems.report(&(0..0), what, &format!("at most {CONFIG_BYTES_MAX} bytes"));
    problems.into_errors(file_name, "")
}

/// One of the two nodes, by the order of their names. The same on both nodes, so it can break ties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NodeIndex {
    /// The node whose name sorts first.
    Lower,
    /// The node whose name sorts second.
    Upper,
}

impl NodeIndex {
    /// The other one of the pair.
    pub fn other(self) -> NodeIndex {
        match self {
            NodeIndex::Lower => NodeIndex::Upper,
            NodeIndex::Upper => NodeIndex::Lower,
        }
    }

    /// Both nodes, lower name first.
    pub const BOTH: [NodeIndex; 2] = [NodeIndex::Lower, NodeIndex::Upper];
}

/// The place of a group in [`Config::groups`] (sorted by name, so the same on both nodes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GroupIndex(pub u8);

/// A config that was checked: every reference resolves, every value is possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Name of the pair; its hash is in every heartbeat.
    pub cluster: String,
    /// The file with the pair's 32 random bytes.
    pub key_file: PathBuf,
    /// Both nodes, the lower name first: see [`Config::node`].
    pub nodes: [Node; 2],
    /// Heartbeat times.
    pub heartbeat: Heartbeat,
    /// Hosts that both nodes should reach over the LAN, on it or beyond. May be empty.
    pub reach_hosts: Vec<IpAddr>,
    /// Program that gets each event as JSON on its standard input.
    pub notify_exec: Option<PathBuf>,
    /// The groups, sorted by name; at most [`crate::limits::GROUPS_MAX`].
    pub groups: Vec<Group>,
    /// The first bytes of a BLAKE3 hash of the config's normal form: equal configs have equal digests, whatever their
    /// comments, order and spacing.
    pub digest: [u8; 8],
}

impl Config {
    /// How its groups are meant on the wire.
    pub fn group_tags(&self) -> GroupTags {
        GroupTags::of(self.groups.iter().map(|group| group.name.as_str()))
    }

    /// The node at `index`.
    pub fn node(&self, index: NodeIndex) -> &Node {
        match index {
            NodeIndex::Lower => &self.nodes[0],
            NodeIndex::Upper => &self.nodes[1],
        }
    }

    /// The node of that name, if it is one of the pair.
    pub fn node_index(&self, name: &str) -> Option<NodeIndex> {
        NodeIndex::BOTH.into_iter().find(|&index| self.node(index).name == name)
    }

    /// Longest time that stopping all services and sending the last changes of the trees may take when
    /// everything is handed over: twice the services' own limits, since those that run on the standby
    /// side end after the handover.
    pub fn hand_over_time(&self) -> Duration {
        let stops = self.groups.iter().flat_map(|group| &group.services);
        let stops: Duration = stops.map(|service| service.stop_timeout).sum();
        let mirrors = self.groups.iter().any(|group| !group.mirror.is_empty());
        2 * stops + if mirrors { limits::DRAIN_PATIENCE_ENDING } else { Duration::ZERO }
    }

    /// Whether some group is held on the third interface.
    pub fn uses_redundant(&self) -> bool {
        self.groups.iter().any(|group| group.nic == Nic::Redundant)
    }

    /// Whether a reach host is on the LAN itself and of the nodes' own kind of address: it is asked by ARP
    /// or neighbour solicitation, which every host answers. All others are asked by ICMP echo, by the
    /// kernel's routes. The networks of the service addresses say what is on the LAN: both nodes then ask
    /// a host in the same way, which what a kernel has at the moment could not promise; and a host on the
    /// LAN that is taken for one beyond it is found by the kernel anyway.
    pub fn is_on_lan(&self, host: IpAddr) -> bool {
        let services = self.groups.iter().flat_map(|group| &group.addresses);
        self.nodes.iter().all(|node| node.address.is_ipv4() == host.is_ipv4())
            && services.into_iter().any(|address| form::is_on_link(host, *address))
    }

    /// The groups with their index.
    pub fn groups(&self) -> impl Iterator<Item = (GroupIndex, &Group)> {
        (0u8..).map(GroupIndex).zip(self.groups.iter())
    }
}

/// One server of the pair.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, as in `[node.NAME]` and `--node`.
    pub name: String,
    /// Its own address on the LAN; heartbeats travel to it as UDP.
    pub address: IpAddr,
    /// Interface on the LAN.
    pub lan: String,
    /// Interface of the crossover cable.
    pub crossover: String,
    /// The null-modem line, if there is one.
    pub serial: Option<SerialLine>,
    /// A third interface, on the LAN as well, if there is one.
    pub redundant: Option<String>,
}

/// A serial device and its speed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SerialLine {
    /// Path of the device.
    pub device: PathBuf,
    /// Bits a second on the line, 8N1.
    pub baud: u32,
}

/// `[heartbeat]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Time between two heartbeats on a path.
    pub interval: Duration,
    /// Silence after which a path is silent.
    pub dead_after: Duration,
    /// How long a node that heard nobody since its start waits before it claims.
    pub boot_patience: Duration,
}

/// Addresses, mirrored trees and services that move together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name, as in `[group.NAME]`.
    pub name: String,
    /// The node where it is at home.
    pub prefer: NodeIndex,
    /// Whether it goes home by itself.
    pub failback: Failback,
    /// How long the preferred node must have been well before an automatic failback.
    pub stable_for: Duration,
    /// What a node does with the group's trees that has heard nobody since its start, and whose disk does
    /// not show that nobody served after what it holds.
    pub when_unsure: WhenUnsure,
    /// How far behind its owner a copy of the trees may be to be served when the owner is gone.
    pub max_behind: Duration,
    /// The service addresses, at least one.
    pub addresses: Vec<ServiceAddress>,
    /// The interface that they are held on.
    pub nic: Nic,
    /// The Ethernet address that moves with them; `None`: they are at the interface's own.
    pub mac: Option<Mac>,
    /// The mirrored trees, in the order of the file. May be empty.
    pub mirror: Vec<Tree>,
    /// The services, in the order in which they start. May be empty.
    pub services: Vec<Service>,
}

impl Group {
    /// The service addresses without their networks.
    pub fn ips(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|address| address.ip).collect()
    }
}

/// What to do with trees that may be older than what was served last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenUnsure {
    /// Wait for the peer, or for an administrator.
    #[default]
    Wait,
    /// Serve them after `boot_patience`.
    Serve,
}

/// A mirrored tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    /// Its root: absolute, the same on both nodes.
    pub path: PathBuf,
    /// Globs below the root that are not mirrored, e.g. `cache/**`.
    pub exclude: Vec<String>,
    /// How files are hashed.
    pub hash: Hash,
    /// If a commit takes more than this share of its names away, a person must say so. 100: any share may go.
    pub max_delete_percent: u8,
}

/// How a file's content is looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Hash {
    /// By size: mapped where that is faster.
    #[default]
    Auto,
    /// Always mapped.
    Map,
    /// Always read.
    Read,
}

/// A service of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Program that is called with `start`, `stop` or `status` as its one argument.
    pub exec: PathBuf,
    /// How it is checked while it runs; `None`: by `status` alone.
    pub check: Option<Check>,
    /// Runs on both nodes.
    pub warm: bool,
    /// Longest time that `start` may take.
    pub start_timeout: Duration,
    /// Longest time that `stop` may take, before everything that it started is killed.
    pub stop_timeout: Duration,
    /// Restarts in place before the group moves.
    pub restarts: u32,
}

impl Service {
    /// Its name in `status` and events: the program's path.
    pub fn name(&self) -> String {
        self.exec.display().to_string()
    }
}

/// A check of a running service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What is asked.
    pub probe: Probe,
    /// Time between two.
    pub every: Duration,
    /// Longest time for an answer.
    pub timeout: Duration,
    /// So many failures in a row mean that the service has failed.
    pub failures: u32,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// GET this URL: well if the status is 200 to 399.
    Http(String),
    /// Connect to this address and port.
    Tcp(std::net::SocketAddr),
    /// Run this program: well if it ends with 0.
    Exec(PathBuf),
}

/// When a group goes back to its preferred node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failback {
    /// By itself, once the preferred node is well and stable.
    Auto,
    /// Only by `clusterd move`.
    Manual,
}

/// On which of a node's interfaces a group's addresses are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Nic {
    /// The one on the LAN.
    #[default]
    Lan,
    /// The third one.
    Redundant,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Nobody was given it by a maker of network cards (IEEE 802, the second bit of the first byte).
    pub fn is_local(self) -> bool {
        let [first, ..] = self.0;
        first & 2 != 0
    }
}

impl std::fmt::Display for Mac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A service address. The prefix names the on-link network; the kernel gets a /32 or /128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ServiceAddress {
    /// The address clients use.
    pub ip: IpAddr,
    /// Length of the on-link prefix, in bits.
    pub prefix: u8,
}

impl std::fmt::Display for ServiceAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix)
    }
}
