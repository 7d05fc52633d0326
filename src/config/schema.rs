//! The file as it is written: which keys there are, of which type, and where each value stands.
//!
//! A missing or unreadable value is reported and left out, so that one reading finds every error.

use std::net::IpAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::form;
use super::parts;
use super::place::{At, Problems};
use super::table::{Keys, Table, type_name};
use super::{Failback, Mac, Nic, ServiceAddress, WhenUnsure};

pub(super) const TOP: Keys = Keys {
    built: &["cluster", "node", "heartbeat", "reach", "notify", "group"],
    later: &["fencing", "watchdog", "witness"],
};
pub(super) const CLUSTER: Keys = Keys { built: &["name", "key"], later: &[] };
pub(super) const NODE: Keys =
    Keys { built: &["address", "lan", "crossover", "serial", "redundant"], later: &[] };
pub(super) const SERIAL: Keys = Keys { built: &["device", "baud"], later: &[] };
pub(super) const HEARTBEAT: Keys =
    Keys { built: &["interval", "dead_after", "boot_patience"], later: &[] };
pub(super) const REACH: Keys = Keys { built: &["hosts"], later: &[] };
pub(super) const NOTIFY: Keys = Keys { built: &["exec"], later: &["mail"] };
pub(super) const GROUP: Keys = Keys {
    built: &[
        "prefer",
        "failback",
        "stable_for",
        "when_unsure",
        "max_behind",
        "address",
        "nic",
        "mac",
        "mirror",
        "service",
    ],
    later: &["after", "with"],
};

/// A whole config file.
pub(super) struct Written {
    pub cluster: Option<Cluster>,
    pub nodes: Vec<Node>,
    /// Where the nodes are, if there is any.
    pub nodes_place: Range<usize>,
    pub heartbeat: Heartbeat,
    pub reach_hosts: Vec<At<IpAddr>>,
    pub notify_exec: Option<At<PathBuf>>,
    pub groups: Vec<Group>,
}

/// `[cluster]`.
pub(super) struct Cluster {
    pub name: Option<At<String>>,
    pub key: Option<At<PathBuf>>,
}

/// `[node.NAME]`.
pub(super) struct Node {
    pub name: At<String>,
    pub address: Option<At<IpAddr>>,
    pub lan: Option<At<String>>,
    pub crossover: Option<At<String>>,
    pub serial: Option<Serial>,
    pub redundant: Option<At<String>>,
}

/// `serial`, in either form.
pub(super) struct Serial {
    pub device: Option<At<PathBuf>>,
    pub baud: Option<At<u32>>,
    pub place: Range<usize>,
}

/// `[heartbeat]`.
#[derive(Default)]
pub(super) struct Heartbeat {
    pub interval: Option<At<Duration>>,
    pub dead_after: Option<At<Duration>>,
    pub boot_patience: Option<At<Duration>>,
}

/// `[group.NAME]`.
pub(super) struct Group {
    pub name: At<String>,
    pub prefer: Option<At<String>>,
    pub failback: Option<At<Failback>>,
    pub stable_for: Option<At<Duration>>,
    pub when_unsure: Option<At<WhenUnsure>>,
    pub max_behind: Option<At<Duration>>,
    pub addresses: Vec<At<ServiceAddress>>,
    pub nic: Option<At<Nic>>,
    pub mac: Option<At<Mac>>,
    pub mirror: Vec<parts::Tree>,
    pub services: Vec<parts::Service>,
}

/// Reads a parsed document, reporting every key and value that cannot be.
pub(super) fn read(document: &DeTable<'_>, problems: &mut Problems) -> Written {
    let top = Table { title: String::new(), place: 0..0, entries: document };
    top.check_keys(&TOP, problems);

    let cluster = top.required_table("cluster", &CLUSTER, problems).map(|table| Cluster {
        name: table.required("name", &form::NAME, problems),
        key: table.required("key", &form::PATH, problems),
    });
    let nodes = top.named_tables("node", &NODE, problems);
    let nodes_place = top.find("node").map_or(0..0, |(key, _)| key);
    let nodes = nodes.iter().map(|(name, table)| node(name, table, problems)).collect();
    let heartbeat = top.table("heartbeat", &HEARTBEAT, problems).map(|table| Heartbeat {
        interval: table.optional("interval", &form::DURATION, problems),
        dead_after: table.optional("dead_after", &form::DURATION, problems),
        boot_patience: table.optional("boot_patience", &form::DURATION, problems),
    });
    let reach = top.table("reach", &REACH, problems);
    let reach_hosts = reach.map(|table| table.list("hosts", &form::HOST, problems));
    let notify = top.table("notify", &NOTIFY, problems);
    let notify_exec = notify.and_then(|table| table.optional("exec", &form::PATH, problems));
    let groups = top.named_tables("group", &GROUP, problems);
    let groups = groups.iter().map(|(name, table)| group(name, table, problems)).collect();

    Written {
        cluster,
        nodes,
        nodes_place,
        heartbeat: heartbeat.unwrap_or_default(),
        reach_hosts: reach_hosts.unwrap_or_default(),
        notify_exec,
        groups,
    }
}

fn node(name: &At<String>, table: &Table<'_>, problems: &mut Problems) -> Node {
    Node {
        name: name.clone(),
        address: table.required("address", &form::HOST, problems),
        lan: table.required("lan", &form::INTERFACE, problems),
        crossover: table.required("crossover", &form::INTERFACE, problems),
        serial: serial(table, problems),
        redundant: table.optional("redundant", &form::INTERFACE, problems),
    }
}

fn serial(node: &Table<'_>, problems: &mut Problems) -> Option<Serial> {
    let (key, value) = node.find("serial")?;
    match value.get_ref() {
        DeValue::Table(entries) => {
            let title = format!("{}.serial", node.title);
            let table = Table { title, place: key.clone(), entries };
            table.check_keys(&SERIAL, problems);
            Some(Serial {
                device: table.required("device", &form::PATH, problems),
                baud: table.whole_number("baud", 115_200, problems),
                place: key,
            })
        }
        DeValue::String(_) => {
            let device = node.optional("serial", &form::PATH, problems);
            Some(Serial { device, baud: None, place: value.span() })
        }
        other => {
            let what = format!("serial is {}", type_name(other));
            let expected = "a device such as \"/dev/ttyS0\", or { device = …, baud = … }";
            problems.report(&value.span(), what, expected);
            None
        }
    }
}

fn group(name: &At<String>, table: &Table<'_>, problems: &mut Problems) -> Group {
    let choices = [("auto", Failback::Auto), ("manual", Failback::Manual)];
    let unsure = [("wait", WhenUnsure::Wait), ("serve", WhenUnsure::Serve)];
    let nics = [("lan", Nic::Lan), ("redundant", Nic::Redundant)];
    Group {
        name: name.clone(),
        prefer: table.required("prefer", &form::NODE_NAME, problems),
        failback: table.choice("failback", &choices, problems),
        stable_for: table.optional("stable_for", &form::DURATION, problems),
        when_unsure: table.choice("when_unsure", &unsure, problems),
        max_behind: table.optional("max_behind", &form::DURATION, problems),
        addresses: table.required_list("address", &form::SERVICE_ADDRESS, problems),
        nic: table.choice("nic", &nics, problems),
        mac: table.optional("mac", &form::MAC, problems),
        mirror: parts::mirror(table, problems),
        services: parts::services(table, problems),
    }
}
