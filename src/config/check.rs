//! From the file as it is written to a [`Config`]: what cannot work is refused.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use super::form::{is_on_link, names_whole_network, show_duration};
use super::place::{At, Problems, any_of};
use super::schema::{self, Written};
use super::tags;
use super::{
    Config, Failback, Group, Heartbeat, Mac, Nic, Node, NodeIndex, SerialLine, ServiceAddress,
    normal, parts,
};
use crate::limits;

/// Checks everything that concerns more than one value. The result means nothing if `problems` has
/// any; it is missing only then.
pub(super) fn check(written: &Written, problems: &mut Problems) -> Option<Config> {
    check_nodes(written, problems);
    let heartbeat = check_heartbeat(&written.heartbeat, problems);
    check_serial(written, problems);
    check_groups(written, problems);
    check_addresses(written, problems);
    check_macs(written, problems);
    parts::check(&written.groups, problems);
    check_reach(written, problems);
    build(written, heartbeat)
}

fn build(written: &Written, heartbeat: Heartbeat) -> Option<Config> {
    let cluster = written.cluster.as_ref()?;
    let mut nodes: Vec<Node> = written.nodes.iter().map(build_node).collect::<Option<_>>()?;
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let nodes: [Node; 2] = nodes.try_into().ok()?;
    let index = |name: &str| NodeIndex::BOTH.into_iter().zip(&nodes).find(|(_, n)| n.name == name);
    let build_group = |group: &schema::Group| {
        let mut addresses: Vec<_> = group.addresses.iter().map(|at| at.value).collect();
        addresses.sort_by_key(|address| address.ip);
        Some(Group {
            name: group.name.value.clone(),
            prefer: index(&group.prefer.as_ref()?.value)?.0,
            failback: group.failback.as_ref().map_or(Failback::Manual, |at| at.value),
            stable_for: group.stable_for.as_ref().map_or(limits::STABLE_FOR, |at| at.value),
            when_unsure: group.when_unsure.as_ref().map_or_else(Default::default, |at| at.value),
            max_behind: group.max_behind.as_ref().map_or(limits::MAX_BEHIND, |at| at.value),
            addresses,
            nic: group.nic.as_ref().map_or(Nic::Lan, |at| at.value),
            mac: group.mac.as_ref().map(|at| at.value),
            mirror: group.mirror.iter().map(parts::Tree::build).collect::<Option<_>>()?,
            services: group.services.iter().map(parts::Service::build).collect::<Option<_>>()?,
        })
    };
    let mut groups: Vec<Group> = written.groups.iter().map(build_group).collect::<Option<_>>()?;
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    let mut reach_hosts: Vec<IpAddr> = written.reach_hosts.iter().map(|at| at.value).collect();
    reach_hosts.sort();
    let mut config = Config {
        cluster: cluster.name.as_ref()?.value.clone(),
        key_file: cluster.key.as_ref()?.value.clone(),
        nodes,
        heartbeat,
        reach_hosts,
        notify_exec: written.notify_exec.as_ref().map(|at| at.value.clone()),
        groups,
        digest: [0; 8],
    };
    config.digest = normal::digest(&config);
    Some(config)
}

fn build_node(node: &schema::Node) -> Option<Node> {
    let serial = match &node.serial {
        Some(serial) => {
            Some(SerialLine { device: serial.device.as_ref()?.value.clone(), baud: baud(serial) })
        }
        None => None,
    };
    Some(Node {
        name: node.name.value.clone(),
        address: node.address.as_ref()?.value,
        lan: node.lan.as_ref()?.value.clone(),
        crossover: node.crossover.as_ref()?.value.clone(),
        serial,
        redundant: node.redundant.as_ref().map(|at| at.value.clone()),
    })
}

fn baud(serial: &schema::Serial) -> u32 {
    serial.baud.as_ref().map_or(limits::SERIAL_BAUD, |at| at.value)
}

fn check_nodes(written: &Written, problems: &mut Problems) {
    let count = written.nodes.len();
    let named = written.nodes.iter().map(|node| node.name.place.clone());
    if let Some(place) = named.skip(2).max_by_key(|place| place.start) {
        problems.report(&place, format!("there are {count} nodes"), "exactly two: a pair");
    } else if count < 2 {
        let what = format!("there {}", if count == 1 { "is one node" } else { "are no nodes" });
        problems.report(&written.nodes_place, what, "exactly two tables [node.NAME]");
    }
    for node in &written.nodes {
        if let (Some(lan), Some(crossover)) = (&node.lan, &node.crossover)
            && lan.value == crossover.value
        {
            let what = format!("crossover {:?} is also the LAN interface", crossover.value);
            problems.report(&crossover.place, what, "an interface of its own for the cable");
        }
        let others = [("LAN", &node.lan), ("crossover", &node.crossover)];
        for (kind, other) in others {
            if let (Some(redundant), Some(other)) = (&node.redundant, other)
                && redundant.value == other.value
            {
                let what = format!("redundant {:?} is also the {kind} interface", other.value);
                problems.report(&redundant.place, what, "a third interface, on the LAN");
            }
        }
    }
    if let [first, second] = written.nodes.as_slice()
        && let (Some(one), Some(other)) = (&first.address, &second.address)
    {
        if one.value == other.value {
            let what = format!("both nodes have the address {}", other.value);
            problems.report(&other.place, what, "each node's own address on the LAN");
        } else if one.value.is_ipv4() != other.value.is_ipv4() {
            let what = "one node has an IPv4 and the other an IPv6 address".to_owned();
            problems.report(
                &other.place,
                what,
                "two of one kind: heartbeats go from one to the other",
            );
        }
    }
}

fn check_heartbeat(written: &schema::Heartbeat, problems: &mut Problems) -> Heartbeat {
    let value = |at: &Option<At<Duration>>, default| at.as_ref().map_or(default, |at| at.value);
    let interval = value(&written.interval, limits::INTERVAL);
    let heartbeat = Heartbeat {
        interval,
        dead_after: value(&written.dead_after, interval * limits::DEAD_AFTER_INTERVALS),
        boot_patience: value(&written.boot_patience, limits::BOOT_PATIENCE),
    };
    let interval_range = limits::INTERVAL_MIN..=limits::INTERVAL_MAX;
    if !check_range("interval", &written.interval, interval_range, problems) {
        return heartbeat;
    }
    // The place of a time that is too short is its own, or that of the one it was measured by.
    let place = |at: &Option<At<Duration>>, by: &Option<At<Duration>>| {
        at.as_ref().or(by.as_ref()).map_or(0..0, |at| at.place.clone())
    };
    let shortest = heartbeat.interval * limits::DEAD_AFTER_INTERVALS_MIN;
    if heartbeat.dead_after < shortest {
        let what = format!(
            "dead_after {} is shorter than two intervals of {}",
            show_duration(heartbeat.dead_after),
            show_duration(heartbeat.interval)
        );
        let expected = format!("dead_after = {:?} or longer", show_duration(shortest));
        problems.report(&place(&written.dead_after, &written.interval), what, &expected);
        return heartbeat;
    }
    let dead_after_range = shortest..=limits::DEAD_AFTER_MAX;
    if !check_range("dead_after", &written.dead_after, dead_after_range, problems) {
        return heartbeat;
    }
    let patience_range = heartbeat.dead_after..=limits::BOOT_PATIENCE_MAX;
    check_range("boot_patience", &written.boot_patience, patience_range, problems);
    heartbeat
}

/// Reports a duration outside its range; false if it is.
pub(super) fn check_range(
    key: &str,
    at: &Option<At<Duration>>,
    range: RangeInclusive<Duration>,
    problems: &mut Problems,
) -> bool {
    let Some(At { value, place }) = at else {
        return true;
    };
    if range.contains(value) {
        return true;
    }
    let (least, most) = (show_duration(*range.start()), show_duration(*range.end()));
    let how = if value < range.start() { "short" } else { "long" };
    let what = format!("{key} {} is too {how}", show_duration(*value));
    problems.report(place, what, &format!("{least:?} to {most:?}"));
    false
}

fn check_serial(written: &Written, problems: &mut Problems) {
    let lines: Vec<&schema::Serial> =
        written.nodes.iter().filter_map(|node| node.serial.as_ref()).collect();
    for line in &lines {
        let place = line.baud.as_ref().map_or(&line.place, |at| &at.place);
        let baud = baud(line);
        if !limits::SERIAL_BAUDS.contains(&baud) {
            let what = format!("baud {baud} is not a speed of serial lines");
            problems.report(place, what, "115200 or another of the standard speeds");
        }
    }
    if let [one, other] = lines.as_slice()
        && baud(one) != baud(other)
        && lines.iter().all(|line| limits::SERIAL_BAUDS.contains(&baud(line)))
    {
        let place = other.baud.as_ref().map_or(&other.place, |at| &at.place);
        let what = format!("the ends of the serial line differ: {} and {}", baud(one), baud(other));
        problems.report(place, what, "the same baud on both nodes");
    }
}

fn check_groups(written: &Written, problems: &mut Problems) {
    let names: Vec<&str> = written.nodes.iter().map(|node| node.name.value.as_str()).collect();
    if written.groups.is_empty() {
        problems.report(&(0..0), "there is no group".to_owned(), "at least one table [group.NAME]");
    }
    let places = written.groups.iter().map(|group| group.name.place.clone());
    if let Some(place) = places.skip(limits::GROUPS_MAX).max_by_key(|place| place.start) {
        let what = format!("there are {} groups", written.groups.len());
        problems.report(&place, what, &format!("at most {}", limits::GROUPS_MAX));
    }
    let mut tags: BTreeMap<u16, &str> = BTreeMap::new();
    for group in &written.groups {
        let name = group.name.value.as_str();
        if let Some(other) = tags.insert(tags::tag(name), name).filter(|other| *other != name) {
            let what = format!("the nodes cannot tell the groups {name} and {other} apart");
            let expected = "another name for one of them: their 16-bit hashes are equal";
            problems.report(&group.name.place, what, expected);
        }
        if let Some(At { value, place }) = &group.prefer
            && !names.contains(&value.as_str())
        {
            let what = format!("prefer {value:?} is not a node");
            problems.report_word(place, what, &any_of(&names), value, &names);
        }
        let stable_range = Duration::ZERO..=limits::STABLE_FOR_MAX;
        check_range("stable_for", &group.stable_for, stable_range, problems);
        let behind_range = Duration::ZERO..=limits::MAX_BEHIND_MAX;
        check_range("max_behind", &group.max_behind, behind_range, problems);
    }
}

fn check_addresses(written: &Written, problems: &mut Problems) {
    let mut seen: BTreeMap<IpAddr, &str> = BTreeMap::new();
    let mut count = 0usize;
    for group in &written.groups {
        for At { value: address, place } in &group.addresses {
            let what = if let Some(node) = node_with(written, address.ip) {
                format!("{} is the own address of node {node}", address.ip)
            } else if let Some(first) = seen.insert(address.ip, &group.name.value) {
                format!("{} is already an address of group {first}", address.ip)
            } else {
                count += 1;
                if count == limits::ADDRESSES_MAX + 1 {
                    let expected = format!("at most {} in all groups", limits::ADDRESSES_MAX);
                    problems.report(place, "one service address too many".to_owned(), &expected);
                }
                continue;
            };
            problems.report(place, what, "an address that nothing else has");
        }
    }
}

/// A group on the third interface is known there by its MAC alone: beats tell that of the first.
fn check_macs(written: &Written, problems: &mut Problems) {
    let mut seen: BTreeMap<[u8; 6], &str> = BTreeMap::new();
    for group in &written.groups {
        if let Some(At { value: Mac(bytes), place }) = &group.mac
            && let Some(first) = seen.insert(*bytes, &group.name.value)
        {
            let what = format!("{} is already the mac of group {first}", Mac(*bytes));
            problems.report(place, what, "a mac that nothing else has");
        }
        let Some(At { value: Nic::Redundant, place }) = &group.nic else { continue };
        if group.mac.is_none() {
            let what = format!("group {} has nic = \"redundant\" and no mac", group.name.value);
            problems.report(place, what, "mac = \"02:…\" as well: it moves with the addresses");
        }
        if let Some(node) = written.nodes.iter().find(|node| node.redundant.is_none()) {
            let what = format!("node {} has no redundant interface", node.name.value);
            problems.report(place, what, "redundant = \"eth2\" or the like on both nodes");
        }
    }
}

fn node_with(written: &Written, ip: IpAddr) -> Option<&str> {
    let has = |node: &&schema::Node| node.address.as_ref().is_some_and(|at| at.value == ip);
    written.nodes.iter().find(has).map(|node| node.name.value.as_str())
}

fn check_reach(written: &Written, problems: &mut Problems) {
    let services = || written.groups.iter().flat_map(|group| &group.addresses);
    let mut seen: Vec<IpAddr> = Vec::new();
    for (count, At { value: host, place }) in written.reach_hosts.iter().enumerate() {
        if count == limits::REACH_HOSTS_MAX {
            let expected = format!("at most {}", limits::REACH_HOSTS_MAX);
            problems.report(place, "one reach host too many".to_owned(), &expected);
        }
        let what = if let Some(node) = node_with(written, *host) {
            format!("reach host {host} is the own address of node {node}")
        } else if services().any(|at| at.value.ip == *host) {
            format!("reach host {host} is a service address")
        } else if seen.contains(host) {
            format!("reach host {host} is named twice")
        } else {
            seen.push(*host);
            check_on_link(written, *host, place, problems);
            continue;
        };
        problems.report(place, what, "another host that both nodes should reach");
    }
}

/// A host on the LAN must be one.
fn check_on_link(written: &Written, host: IpAddr, place: &Range<usize>, problems: &mut Problems) {
    let mut services = written.groups.iter().flat_map(|group| &group.addresses);
    if let Some(At { value, .. }) = services.find(|at| is_on_link(host, at.value))
        && names_whole_network(ServiceAddress { ip: host, prefix: value.prefix })
    {
        let what = format!("reach host {host} is the address of a whole network");
        problems.report(place, what, "the address of a host");
    }
}
