//! What was seen on the LAN, told in the core's words: whose MAC that is, which group, which question.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::config::{Config, GroupIndex, Mac as GroupMac, Nic, NodeIndex};
use crate::core::{Event, Holder, Time};
use crate::limits;
use crate::net::{GroupSetup, Seen};

/// A MAC address.
pub type Mac = [u8; 6];

/// What is known of a service address.
#[derive(Clone, Copy, Debug)]
struct Service {
    group: GroupIndex,
    /// The interface where it is heard of.
    nic: Nic,
    /// The MAC that moves with it.
    mac: Option<Mac>,
}

/// Knows who is who on the LAN.
#[derive(Debug)]
pub struct LanEvents {
    groups: HashMap<IpAddr, Service>,
    /// Reach hosts that ARP and neighbour discovery ask, by their place in the config.
    on_lan: HashMap<IpAddr, u8>,
    /// Those that echo asks.
    beyond: HashMap<IpAddr, u8>,
    own_mac: Option<Mac>,
    /// The newest round of questions to the reach hosts, and when it was asked.
    asked: Option<(u32, Time)>,
}

impl LanEvents {
    /// Knows the config, and no MAC yet.
    pub fn new(config: &Config) -> LanEvents {
        let groups = config
            .groups()
            .flat_map(|(index, group)| {
                let mac = group.mac.map(|GroupMac(bytes)| bytes);
                let service = Service { group: index, nic: group.nic, mac };
                group.addresses.iter().map(move |one| (one.ip, service))
            })
            .collect();
        let hosts = config.reach_hosts.iter().copied().zip(0u8..);
        let (on_lan, beyond) = hosts.partition(|(host, _)| config.is_on_lan(*host));
        LanEvents { groups, on_lan, beyond, own_mac: None, asked: None }
    }

    /// Another config is in effect.
    pub fn configured(&mut self, config: &Config) {
        let LanEvents { groups, on_lan, beyond, .. } = LanEvents::new(config);
        (self.groups, self.on_lan, self.beyond) = (groups, on_lan, beyond);
    }

    /// This node's LAN interface has this MAC now; `None`: there is no such interface.
    pub fn own_mac_is(&mut self, mac: Option<Mac>) {
        self.own_mac = mac;
    }

    /// MAC of this node's LAN interface, for beats; all zero while there is none.
    pub fn own_mac(&self) -> Mac {
        self.own_mac.unwrap_or_default()
    }

    /// The reach hosts are asked now.
    pub fn asked(&mut self, round: u32, now: Time) {
        self.asked = Some((round, now));
    }

    /// What this means to the core; `None`: nothing. `nic`: where it was seen; `peer_mac`: from the
    /// peer's own beats. A group's own MAC is the peer's whenever a frame comes from outside: what this
    /// node sends by an interface is never received there.
    pub fn event(&self, now: Time, nic: Nic, peer_mac: Option<Mac>, seen: &Seen) -> Option<Event> {
        let (ip, mac, by_peer) = match *seen {
            Seen::Answer { ip, mac, .. } => (ip, mac, Holder::Peer),
            Seen::Uses { ip, mac } => (ip, mac, Holder::PeerAnnounces),
            Seen::Probe { ip, mac } => (ip, mac, Holder::PeerProbes),
        };
        if Some(mac) == self.own_mac {
            return None;
        }
        if let Some(&Service { group, nic: its_nic, mac: its_mac }) = self.groups.get(&ip) {
            // What this node sends by one interface on the LAN it receives by the other.
            if nic != its_nic {
                return None;
            }
            let is_peer = Some(mac) == peer_mac || Some(mac) == its_mac;
            let holder = if is_peer { by_peer } else { Holder::Stranger(mac) };
            return Some(Event::AddressSeen { group, holder });
        }
        if nic != Nic::Lan {
            return None;
        }
        let host = *self.on_lan.get(&ip)?;
        let (round, asked_at) = self.asked?;
        // What a host says to others, or to all, shows only that this node hears it: whether anybody hears this
        // node is what was asked (a port that only receives).
        let answers = matches!(*seen, Seen::Answer { to, .. } if Some(to) == self.own_mac);
        let fresh = answers && now.since(asked_at) <= limits::REACH_ANSWER_WITHIN;
        fresh.then_some(Event::ReachAnswered { host, round })
    }

    /// A host beyond the LAN answered the question of that round.
    pub fn echoed(&self, ip: IpAddr, round: u32) -> Option<Event> {
        self.beyond.get(&ip).map(|&host| Event::ReachAnswered { host, round })
    }
}

/// The interfaces and the groups, as `net` wants them.
pub fn setup(config: &Config, me: NodeIndex) -> crate::net::NetSetup {
    let node = config.node(me);
    let group = |group: &crate::config::Group| GroupSetup {
        addresses: group.addresses.clone(),
        nic: group.nic,
        mac: group.mac.map(|GroupMac(bytes)| bytes),
    };
    crate::net::NetSetup {
        lan: node.lan.clone(),
        redundant: node.redundant.clone().filter(|_| config.uses_redundant()),
        crossover: node.crossover.clone(),
        groups: config.groups.iter().map(group).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = [2, 0, 0, 0, 0, 1];
    const PEER: Mac = [2, 0, 0, 0, 0, 2];
    const THIRD: Mac = [2, 0, 0, 0, 0, 3];
    const GROUP_MAC: Mac = [2, 0, 0, 0, 0, 4];
    const SERVICE: &str = "203.0.113.50";
    const VIRTUAL: &str = "203.0.113.51";
    const THIRD_NIC: &str = "203.0.113.52";
    const REACH: &str = "203.0.113.1";
    const BEYOND: &str = "198.51.100.1";
    const WEB: GroupIndex = GroupIndex(0);

    fn lan_events() -> LanEvents {
        let mut lan_events = LanEvents {
            groups: [
                (SERVICE, Nic::Lan, None),
                (VIRTUAL, Nic::Lan, Some(GROUP_MAC)),
                (THIRD_NIC, Nic::Redundant, Some(GROUP_MAC)),
            ]
            .map(|(ip, nic, mac)| (ip.parse().unwrap(), Service { group: WEB, nic, mac }))
            .into(),
            on_lan: [(REACH.parse().unwrap(), 0)].into(),
            beyond: [(BEYOND.parse().unwrap(), 1)].into(),
            own_mac: None,
            asked: None,
        };
        lan_events.own_mac_is(Some(OWN));
        lan_events
    }

    fn answer(ip: &str, mac: Mac) -> Seen {
        Seen::Answer { ip: ip.parse().unwrap(), mac, to: OWN }
    }

    fn probe(ip: &str, mac: Mac) -> Seen {
        Seen::Probe { ip: ip.parse().unwrap(), mac }
    }

    fn at_s(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    #[test]
    fn who_has_a_service_address() {
        let lan_events = lan_events();
        let seen = |holder| Some(Event::AddressSeen { group: WEB, holder });
        let now = at_s(1);
        assert_eq!(
            lan_events.event(now, Nic::Lan, Some(PEER), &answer(SERVICE, PEER)),
            seen(Holder::Peer)
        );
        assert_eq!(
            lan_events.event(now, Nic::Lan, Some(PEER), &probe(SERVICE, PEER)),
            seen(Holder::PeerProbes)
        );
        assert_eq!(
            lan_events.event(now, Nic::Lan, Some(PEER), &answer(SERVICE, THIRD)),
            seen(Holder::Stranger(THIRD))
        );
        assert_eq!(
            lan_events.event(now, Nic::Lan, Some(PEER), &probe(SERVICE, THIRD)),
            seen(Holder::Stranger(THIRD))
        );
        assert_eq!(lan_events.event(now, Nic::Lan, Some(PEER), &answer(SERVICE, OWN)), None);
        assert_eq!(
            lan_events.event(now, Nic::Lan, Some(PEER), &answer("203.0.113.99", PEER)),
            None
        );
        // A peer that was never heard is a stranger: nothing is claimed from one.
        assert_eq!(
            lan_events.event(now, Nic::Lan, None, &answer(SERVICE, PEER)),
            seen(Holder::Stranger(PEER))
        );
    }

    /// The group's MAC is not this node's on the wire: whoever answers with it is the peer's kernel.
    #[test]
    fn who_has_an_address_with_its_own_mac() {
        let lan_events = lan_events();
        let seen = |holder| Some(Event::AddressSeen { group: WEB, holder });
        let event = |nic, seen| lan_events.event(at_s(1), nic, None, &seen);
        assert_eq!(event(Nic::Lan, answer(VIRTUAL, GROUP_MAC)), seen(Holder::Peer));
        assert_eq!(event(Nic::Lan, answer(SERVICE, GROUP_MAC)), seen(Holder::Stranger(GROUP_MAC)));
        assert_eq!(event(Nic::Lan, answer(VIRTUAL, THIRD)), seen(Holder::Stranger(THIRD)));
        // What is held on the third interface is heard there alone: on the other this node would
        // hear itself.
        assert_eq!(event(Nic::Redundant, answer(THIRD_NIC, GROUP_MAC)), seen(Holder::Peer));
        assert_eq!(event(Nic::Lan, answer(THIRD_NIC, GROUP_MAC)), None);
        assert_eq!(event(Nic::Redundant, answer(VIRTUAL, GROUP_MAC)), None);
    }

    #[test]
    fn each_host_answers_in_its_own_way() {
        let mut lan_events = lan_events();
        lan_events.asked(7, at_s(2));
        assert_eq!(lan_events.event(at_s(2), Nic::Lan, None, &answer(BEYOND, THIRD)), None);
        assert_eq!(lan_events.echoed(REACH.parse().unwrap(), 7), None);
        let answered = Some(Event::ReachAnswered { host: 1, round: 6 });
        assert_eq!(lan_events.echoed(BEYOND.parse().unwrap(), 6), answered);
    }

    #[test]
    fn another_config_asks_a_host_in_another_way() {
        let config = |address: &str| {
            let node = |name: &str, number: u8| {
                format!(
                    "[node.{name}]\naddress = \"203.0.113.1{number}\"\nlan = \"eth0\"\n\
                     crossover = \"eth1\"\n"
                )
            };
            let (one, two) = (node("serv1", 1), node("serv2", 2));
            let text = format!(
                "[cluster]\nname = \"c\"\nkey = \"/k\"\n{one}{two}[reach]\nhosts = \
                 [\"{BEYOND}\"]\n[group.web]\nprefer = \"serv1\"\naddress = [{address}]\n"
            );
            crate::config::parse(&text, "test").unwrap()
        };
        let mut lan_events = LanEvents::new(&config("\"203.0.113.50/24\""));
        lan_events.own_mac_is(Some(OWN));
        lan_events.asked(7, at_s(2));
        let host: IpAddr = BEYOND.parse().unwrap();
        let by_arp = |lan_events: &LanEvents| {
            lan_events.event(at_s(2), Nic::Lan, None, &answer(BEYOND, THIRD)).is_some()
        };
        assert!(!by_arp(&lan_events) && lan_events.echoed(host, 7).is_some());
        lan_events.configured(&config("\"203.0.113.50/24\", \"198.51.100.50/24\""));
        assert!(by_arp(&lan_events) && lan_events.echoed(host, 7).is_none());
    }

    #[test]
    fn reach_answers_count_only_for_a_fresh_question() {
        let mut lan_events = lan_events();
        assert_eq!(lan_events.event(at_s(1), Nic::Lan, None, &answer(REACH, THIRD)), None);
        lan_events.asked(7, at_s(2));
        let answered = Some(Event::ReachAnswered { host: 0, round: 7 });
        assert_eq!(lan_events.event(at_s(2), Nic::Lan, None, &answer(REACH, THIRD)), answered);
        assert_eq!(lan_events.event(at_s(3), Nic::Lan, None, &answer(REACH, THIRD)), answered);
        assert_eq!(lan_events.event(at_s(4), Nic::Lan, None, &answer(REACH, THIRD)), None);
        assert_eq!(lan_events.event(at_s(2), Nic::Lan, None, &probe(REACH, THIRD)), None);
        assert_eq!(lan_events.event(at_s(2), Nic::Redundant, None, &answer(REACH, THIRD)), None);
    }

    /// A port that only receives hears a reach host answer others, and say unasked where it is.
    #[test]
    fn p2_only_what_a_host_answers_this_node_is_reach() {
        let mut lan_events = lan_events();
        lan_events.asked(7, at_s(2));
        for to in [PEER, THIRD, [0x33, 0x33, 0, 0, 0, 1]] {
            let seen = Seen::Answer { ip: REACH.parse().unwrap(), mac: THIRD, to };
            assert_eq!(lan_events.event(at_s(2), Nic::Lan, Some(PEER), &seen), None, "{to:?}");
        }
    }
}
