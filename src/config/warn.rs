//! What can work and yet deserves a second look.

use std::net::IpAddr;

use super::form::{is_on_link, show_duration};
use super::{Config, NodeIndex, Probe, Service};

/// One sentence for each thing that a careful administrator would want to know.
pub fn warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    match config.reach_hosts.as_slice() {
        [] => warnings.push(
            "no reach hosts: a node cannot tell that it alone lost the LAN, so there is no arbitration; name the \
             gateway and another host in [reach]"
                .to_owned(),
        ),
        [only] => warnings.push(format!(
            "{only} is the only reach host: while it is down, neither node may take over from a \
             dead one; name a second"
        )),
        _ => {}
    }
    let lower = config.node(NodeIndex::Lower);
    let upper = config.node(NodeIndex::Upper);
    match (&lower.serial, &upper.serial) {
        (Some(_), Some(_)) => {}
        (None, None) => warnings.push(
            "no serial line: heartbeats have two paths, and both are network cards".to_owned(),
        ),
        (Some(_), None) => warnings.push(one_ended(&lower.name, &upper.name)),
        (None, Some(_)) => warnings.push(one_ended(&upper.name, &lower.name)),
    }
    let heartbeat = &config.heartbeat;
    if heartbeat.dead_after < heartbeat.interval * 3 {
        warnings.push(format!(
            "dead_after {} is less than three intervals: one lost heartbeat nearly makes the peer dead",
            show_duration(heartbeat.dead_after)
        ));
    }
    for address in config.groups.iter().flat_map(|group| &group.addresses) {
        let mut nodes = config.nodes.iter().filter(|n| n.address.is_ipv4() == address.ip.is_ipv4());
        if nodes.clone().next().is_some() && !nodes.any(|node| is_on_link(node.address, *address)) {
            warnings.push(format!(
                "{address}: no node has its own address in that network; you must set its routes yourself"
            ));
        }
    }
    for group in &config.groups {
        if let Some(mac) = group.mac.filter(|mac| !mac.is_local()) {
            warnings.push(format!(
                "the mac {mac} of group {} is in the range of manufacturers: if a card has it, both are \
                 unreachable; use one that begins with 02",
                group.name
            ));
        }
        for service in &group.services {
            if let Some(ip) = asked(service)
                && config.groups.iter().flat_map(|group| &group.addresses).any(|at| at.ip == ip)
            {
                warnings.push(format!(
                    "the check of {} asks the service address {ip}: the other node may answer there, and the check \
                     runs before this node holds the address; use 127.0.0.1 or [::1]",
                    service.name()
                ));
            }
        }
    }
    warnings
}

/// The address that a service's check asks, if that is written as one.
fn asked(service: &Service) -> Option<IpAddr> {
    match &service.check.as_ref()?.probe {
        Probe::Http(url) => {
            let url: ureq::http::Uri = url.parse().ok()?;
            url.host()?.trim_matches(['[', ']']).parse().ok()
        }
        Probe::Tcp(address) => Some(address.ip()),
        Probe::Exec(_) => None,
    }
}

fn one_ended(has: &str, lacks: &str) -> String {
    format!("{has} has a serial line and {lacks} has none: it will carry no heartbeats")
}
