//! What was seen on the LAN, told in the core's words: whose MAC that is, which group, which question.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::{Config, GroupIndex, NodeIndex};
use crate::core::event::Holder;
use crate::core::{Event, Time};
use crate::limits;
use crate::net::Seen;

/// A MAC address.
pub type Mac = [u8; 6];

/// Knows who is who on the LAN.
#[derive(Debug)]
pub struct Senses {
    groups: HashMap<IpAddr, GroupIndex>,
    reach_hosts: HashMap<IpAddr, u8>,
    own_mac: Option<Mac>,
    /// From the peer's own authenticated beats.
    peer_mac: Option<Mac>,
    /// The newest round of questions to the reach hosts, and when it was asked.
    asked: Option<(u32, Time)>,
}

impl Senses {
    /// Knows the config, and no MAC yet.
    pub fn new(config: &Config) -> Senses {
        let groups = config
            .groups()
            .flat_map(|(index, group)| group.addresses.iter().map(move |one| (one.ip, index)))
            .collect();
        let reach_hosts = config.reach_hosts.iter().copied().zip(0u8..).collect();
        Senses { groups, reach_hosts, own_mac: None, peer_mac: None, asked: None }
    }

    /// This node's LAN interface has this MAC now; `None`: there is no such interface.
    pub fn own_mac_is(&mut self, mac: Option<Mac>) {
        self.own_mac = mac;
    }

    /// The peer says that this is the MAC of its LAN interface; all zero: it does not say.
    pub fn peer_says(&mut self, mac: Mac) {
        if mac != Mac::default() {
            self.peer_mac = Some(mac);
        }
    }

    /// The reach hosts are asked now.
    pub fn asked(&mut self, round: u32, now: Time) {
        self.asked = Some((round, now));
    }

    /// What this means to the core; `None`: nothing.
    pub fn event(&self, now: Time, seen: &Seen) -> Option<Event> {
        let (ip, mac, probes) = match *seen {
            Seen::Answer { ip, mac } => (ip, mac, false),
            Seen::Probe { ip, mac } => (ip, mac, true),
        };
        if Some(mac) == self.own_mac {
            return None;
        }
        if let Some(&group) = self.groups.get(&ip) {
            let holder = match (Some(mac) == self.peer_mac, probes) {
                (true, false) => Holder::Peer,
                (true, true) => Holder::PeerProbes,
                (false, _) => Holder::Stranger(mac),
            };
            return Some(Event::AddressSeen { group, holder });
        }
        let host = *self.reach_hosts.get(&ip)?;
        let (round, asked_at) = self.asked?;
        let fresh = !probes && now.since(asked_at) <= limits::REACH_ANSWER_WITHIN;
        fresh.then_some(Event::ReachAnswered { host, round })
    }
}

/// The service addresses of each group, as `net` wants them.
pub fn setup(config: &Config, me: NodeIndex) -> crate::net::NetSetup {
    let node = config.node(me);
    crate::net::NetSetup {
        lan: node.lan.clone(),
        crossover: node.crossover.clone(),
        groups: config.groups.iter().map(|group| group.addresses.clone()).collect(),
    }
}
