//! What the measurements mean, in sentences with cause and remedy. Nothing is asked here.

use std::net::IpAddr;
use std::time::Duration;

use super::Findings;
use crate::config::{Config, Heartbeat, Mac, Nic, NodeIndex};
use crate::core::AskAs;
use crate::limits;

/// What was asked about one address, and what came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The group that has it; `None`: it is the other node's own.
    pub group: Option<String>,
    pub nic: Nic,
    pub ip: IpAddr,
    /// The group's own MAC.
    pub mac: Option<Mac>,
    /// This host has it: nobody else was asked.
    pub here: bool,
    /// Who answered, the newest last.
    pub answers: Vec<Mac>,
    /// Round trips of the answers in each form: without a sender, and as from this node.
    pub as_nobody: Vec<Duration>,
    pub as_this_node: Vec<Duration>,
}

impl Default for Asked {
    fn default() -> Asked {
        Asked {
            group: None,
            nic: Nic::Lan,
            ip: IpAddr::from([0; 4]),
            mac: None,
            here: false,
            answers: Vec::new(),
            as_nobody: Vec::new(),
            as_this_node: Vec::new(),
        }
    }
}

impl Asked {
    /// Somebody answered.
    pub fn answered(&mut self, ask_as: AskAs, mac: Mac, round_trip: Duration) {
        self.answers.push(mac);
        match ask_as {
            AskAs::Nobody => self.as_nobody.push(round_trip),
            AskAs::ThisNode => self.as_this_node.push(round_trip),
        }
    }

    /// Whether most questions in this form were answered. The daemon asks, too, once a second: an answer now and then
    /// is to its question.
    fn is_answered(&self, ask_as: AskAs) -> bool {
        let answers = match ask_as {
            AskAs::Nobody => &self.as_nobody,
            AskAs::ThisNode => &self.as_this_node,
        };
        answers.len() * 2 > limits::CHECK_ASKS
    }

    fn is_answered_at_all(&self) -> bool {
        self.is_answered(AskAs::Nobody) || self.is_answered(AskAs::ThisNode)
    }

    /// The middle one: what comes once is noise of a busy host.
    fn round_trip(&self) -> Option<Duration> {
        let mut all: Vec<Duration> =
            self.as_nobody.iter().chain(&self.as_this_node).copied().collect();
        all.sort_unstable();
        all.get(all.len() / 2).copied()
    }
}

/// A path's round trip, as the daemon measures it.
#[derive(Clone, Debug)]
pub struct Path {
    pub name: String,
    pub round_trip: Duration,
}

/// All that was measured.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub asked: Vec<Asked>,
    /// Interfaces of the config that are not there.
    pub missing: Vec<String>,
    /// Interfaces whose MAC somebody else on the LAN has, too.
    pub doubled: Vec<(String, Mac)>,
    pub paths: Vec<Path>,
}

/// What that means.
pub fn findings(config: &Config, me: NodeIndex, found: &Found) -> Findings {
    let mut said = Findings { well: Vec::new(), warnings: Vec::new() };
    for name in &found.missing {
        said.warnings.push(format!(
            "there is no Ethernet interface {name:?} on this host; `ip link` shows names and altnames"
        ));
    }
    for (name, mac) in &found.doubled {
        said.warnings.push(format!(
            "another machine on the LAN has the same MAC {mac} as {name}: if it is {}, the two nodes do not hear each \
             other there, and silence of the LAN proves nothing; change the MAC of one of them (cloned machines share \
             theirs)",
            config.node(me.other()).name
        ));
    }
    for nic in [Nic::Lan, Nic::Redundant] {
        let asked = || found.asked.iter().filter(|asked| asked.nic == nic);
        if let Some(own) = asked().find(|asked| asked.group.is_none()) {
            about_lan(config, me, own, &mut said);
            for served in asked().filter(|asked| asked.group.is_some()) {
                about_address(config, me, own, served, &mut said);
            }
        }
    }
    about_times(config.heartbeat, found, &mut said);
    said
}

/// Whether the LAN's silence would prove something, as the other node's own address shows.
fn about_lan(config: &Config, me: NodeIndex, own: &Asked, said: &mut Findings) {
    let (node, peer) = (config.node(me), config.node(me.other()));
    let interface = match (own.nic, &node.redundant) {
        (Nic::Redundant, Some(redundant)) => redundant,
        (Nic::Lan | Nic::Redundant, _) => &node.lan,
    };
    let place = format!("{} ({}) on {interface}", peer.name, own.ip);
    let patience = (limits::LEASE + limits::LEASE_GRACE).as_secs();
    match (own.is_answered(AskAs::Nobody), own.is_answered(AskAs::ThisNode)) {
        (true, _) => said.well.push(format!(
            "{place} answers{}: silence of the LAN proves that nobody has an address",
            within(own)
        )),
        (false, true) => said.well.push(format!(
            "{place} answers only ARP requests that name a sender{}: the switch drops probes without one (as dynamic ARP \
             inspection does). The daemon sends both forms: silence of the LAN proves that nobody has an address",
            within(own)
        )),
        (false, false) => said.warnings.push(format!(
            "{place} answers no ARP request of either form: silence of the LAN proves nothing, and a takeover from a \
             dead node waits for its lease ({patience} s). Is that node on, and are both ports in one network? A switch \
             that separates ports (private VLAN, port isolation, ARP inspection) must let the two nodes see each other"
        )),
    }
}

/// Who has a service address.
fn about_address(config: &Config, me: NodeIndex, own: &Asked, served: &Asked, said: &mut Findings) {
    let Some(group) = &served.group else { return };
    let peer = &config.node(me.other()).name;
    let (ip, name) = (served.ip, format!("group {group}"));
    if served.here {
        let text =
            format!("{name}: {ip} is on this node; whether the LAN answers for it, {peer} can ask");
        said.well.push(text);
        return;
    }
    let is_peer = |mac: &Mac| own.answers.contains(mac) || Some(*mac) == served.mac;
    let stranger = served.answers.iter().find(|mac| !is_peer(mac));
    match (served.is_answered_at_all(), stranger) {
        (_, Some(mac)) if own.is_answered_at_all() => said.warnings.push(format!(
            "{name}: {ip} is at {mac}, which is not {peer}: a third machine has it; take it away there, or serve \
             another address"
        )),
        (true, _) => said.well.push(format!("{name}: {ip} is answered for{}", within(served))),
        (false, _) if own.is_answered_at_all() => said.well.push(format!(
            "{name}: nobody has {ip} now; while {peer} serves it, check again from here"
        )),
        (false, _) => {}
    }
}

fn within(asked: &Asked) -> String {
    asked.round_trip().map(|trip| format!(" within {}", ms(trip))).unwrap_or_default()
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Whether the heartbeat's times are faster than what was measured allows.
fn about_times(heartbeat: Heartbeat, found: &Found, said: &mut Findings) {
    let arp = found.asked.iter().filter_map(Asked::round_trip).max();
    let arp = arp.map(|round_trip| Path { name: "lan".to_owned(), round_trip });
    let worst = found.paths.iter().chain(&arp).max_by_key(|path| path.round_trip);
    let Some(Path { name, round_trip }) = worst else { return };
    let Heartbeat { interval, dead_after, .. } = heartbeat;
    let (trip, dead) = (ms(*round_trip), dead_after.as_millis());
    // A beat may be late by what the network takes, and by what a loaded machine takes.
    let least = interval + *round_trip + limits::BEAT_LATENESS;
    if dead_after < least {
        said.warnings.push(format!(
            "heartbeat.dead_after = \"{dead}ms\" is too short for {name}, whose round trip is {trip}: one late \
             heartbeat makes the peer dead; at least \"{}ms\" with this interval, or a longer interval",
            least.as_millis() + 1
        ));
    }
    let trips = *round_trip * limits::LAN_SILENCE_ROUND_TRIPS;
    let asked_for = dead_after.saturating_sub(interval + limits::BEAT_LATENESS);
    if trips > asked_for.max(limits::LAN_SILENCE_MIN) {
        said.warnings.push(format!(
            "a takeover by silence waits for {} round trips of the network, {} on {name}: longer than \
             heartbeat.dead_after = \"{dead}ms\" asks for, and a shorter one gains nothing; look why the network is slow",
            limits::LAN_SILENCE_ROUND_TRIPS,
            ms(trips),
        ));
    }
}

#[cfg(test)]
mod tests;
