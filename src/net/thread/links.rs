//! The node's own interfaces: which of them a group is held on, carriers, what the heart is told.

use super::Worker;
use crate::config::{GroupIndex, Nic};
use crate::net::carrier::Watched;
use crate::net::link_messages::Interface;
use crate::net::request::{LinkInfo, NetReply};

impl Worker {
    /// Index of the node's interface that the group is held on, or its own one is made of.
    pub(super) fn parent(&self, group: GroupIndex) -> Result<u32, String> {
        let watched = match self.nics.get(usize::from(group.0)) {
            Some(Nic::Redundant) => self.redundant.as_ref(),
            Some(Nic::Lan) | None => Some(&self.lan),
        };
        let Some(watched) = watched else { return Err("there is no third interface".into()) };
        match watched.now() {
            Some(interface) => Ok(interface.index),
            None => Err(format!("there is no interface {}", watched.name())),
        }
    }

    /// The interfaces on the LAN.
    pub(super) fn on_lan(&self) -> Vec<Interface> {
        let watched = std::iter::once(&self.lan).chain(&self.redundant);
        watched.filter_map(Watched::now).cloned().collect()
    }

    pub(super) fn lan_carrier(&self) -> bool {
        self.lan.carrier() && self.redundant.as_ref().is_none_or(Watched::carrier)
    }

    pub(super) fn look_at_carriers(&mut self) {
        // Older news must not be read after the look.
        while self.read_news() {}
        let (lan, crossover) = self.look_at_links();
        self.tell_links();
        let crossover_down = self.crossover.is_down();
        self.outbox.put(NetReply::Carrier { lan, crossover, crossover_down });
    }

    /// Looks at the interfaces and returns the LAN's and the crossover's carrier; `None` for one that
    /// could not be asked.
    pub(super) fn look_at_links(&mut self) -> (Option<bool>, Option<bool>) {
        self.looked = true;
        let Worker { route, outbox, lan, redundant, crossover, .. } = self;
        let mut look = |watched: &mut Watched| match route.interface(watched.name()) {
            Ok(found) => {
                watched.looked(found);
                Some(watched.carrier())
            }
            Err(error) => {
                outbox.fault(format!("{} cannot be looked at: {error}", watched.name()));
                None
            }
        };
        let third = match redundant {
            Some(watched) => look(watched),
            None => Some(true),
        };
        let lan = look(lan).and_then(|lan| Some(lan && third?));
        (lan, look(crossover))
    }

    pub(super) fn tell_links(&mut self) {
        if !self.looked {
            return;
        }
        let info = |interface: &Interface| {
            let ipv4 = self.virtual_links.before(interface);
            Some(LinkInfo { index: interface.index, mac: interface.mac?, ipv4 })
        };
        let lan = self.lan.now().and_then(info);
        let redundant = self.redundant.as_ref().and_then(Watched::now).and_then(info);
        let mut crossover = self.crossover.now().and_then(info);
        // One interface by two names: two paths by one cable would prove nothing.
        let on_lan = [lan, redundant].into_iter().flatten().map(|link| link.index);
        if crossover.is_some_and(|link| on_lan.into_iter().any(|index| index == link.index)) {
            crossover = None;
            self.outbox.fault(format!(
                "{} is an interface on the LAN by another name; the crossover needs one of its own",
                self.crossover.name(),
            ));
        }
        if self.told_lan != Some(lan) {
            self.told_lan = Some(lan);
            self.outbox.put(NetReply::Link(Nic::Lan, lan));
        }
        if self.redundant.is_some() && self.told_redundant != Some(redundant) {
            self.told_redundant = Some(redundant);
            self.outbox.put(NetReply::Link(Nic::Redundant, redundant));
        }
        if self.told_crossover != Some(crossover) {
            self.told_crossover = Some(crossover);
            self.outbox.put(NetReply::Crossover(crossover));
        }
        self.listen();
    }

    /// Has the NICs on the LAN let through what is asked about service addresses.
    pub(super) fn listen(&mut self) {
        let watched = std::iter::once(&self.lan).chain(&self.redundant);
        let links: Vec<u32> = watched.filter_map(Watched::now).map(|link| link.index).collect();
        if let Err(error) = self.ears.listen(&links, self.addresses.all_ips()) {
            self.outbox.fault(format!("multicast on the LAN cannot be received: {error}"));
        }
    }
}
