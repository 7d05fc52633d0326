//! The interfaces with a group's own MAC: a macvlan on an interface of the LAN, made at the claim and
//! deleted at the release. A MAC has no lease that ends by itself, so a leftover of a heart that was
//! killed is deleted by the guard, or else found by the sweep.
//!
//! A node whose interfaces are on one network answers ARP for any of its addresses on any of them
//! (`arp_ignore` 0), and asks in the name of any (`arp_announce` 0): clients would learn another MAC
//! than the group's. So while one is there the LAN interfaces have stricter settings, and those that
//! they had before are put back after it.

use std::io;

use super::link_messages::{Before, Interface, Ipv4Conf, LinkChange, VirtualName};
use super::netlink::{Body, Change};
use super::request::GroupSetup;
use super::route_socket::RouteSocket;
use crate::config::GroupIndex;
use crate::limits::GROUPS_MAX;

/// Below `/proc/sys/net/ipv6/conf/`: nothing comes to the interface but its service addresses. A router
/// would give it an address of its own, and send the whole host's traffic through it.
const IPV6_QUIET: [(&str, &str); 3] =
    [("accept_ra", "0"), ("autoconf", "0"), ("addr_gen_mode", "1")];
/// ... and where the group has no IPv6 address, no IPv6 either.
const IPV6_OFF: [(&str, &str); 1] = [("disable_ipv6", "1")];

/// One group's interface.
#[derive(Debug)]
struct VirtualLink {
    name: VirtualName,
    mac: [u8; 6],
    ipv6: bool,
    /// Its index and its parent's, as it was made; `None`: it should not be there.
    made: Option<(u32, u32)>,
    /// What the last look found under its name.
    found: Option<Interface>,
}

impl VirtualLink {
    fn is_as_made(&self) -> bool {
        let (Some((index, parent)), Some(found)) = (self.made, &self.found) else { return false };
        found.index == index
            && found.up
            && found.macvlan_of == Some(parent)
            && found.mac == Some(self.mac)
    }
}

/// All of them.
#[derive(Debug)]
pub struct VirtualLinks {
    /// In the order of the groups; `None`: the group has no MAC of its own.
    links: Vec<Option<VirtualLink>>,
    /// The interfaces on the LAN whose settings were changed. Each of ours remembers them, too: if heart
    /// and guard are both killed, that is where the next heart finds them.
    before: Vec<Before>,
}

impl VirtualLinks {
    /// None is there.
    pub fn new(groups: &[GroupSetup]) -> VirtualLinks {
        let link = |(index, group): (GroupIndex, &GroupSetup)| {
            Some(VirtualLink {
                name: VirtualName(index),
                mac: group.mac?,
                ipv6: group.addresses.iter().any(|address| address.ip.is_ipv6()),
                made: None,
                found: None,
            })
        };
        let links = (0u8..).map(GroupIndex).zip(groups).map(link).collect();
        VirtualLinks { links, before: Vec::new() }
    }

    fn get(&self, group: GroupIndex) -> Option<&VirtualLink> {
        self.links.get(usize::from(group.0))?.as_ref()
    }

    fn get_mut(&mut self, group: GroupIndex) -> Option<&mut VirtualLink> {
        self.links.get_mut(usize::from(group.0))?.as_mut()
    }

    /// Index of the interface that holds the group's addresses, `parent` if it has no own MAC.
    ///
    /// # Errors
    /// The group's own interface is not as it was made.
    pub fn place(&self, group: GroupIndex, parent: u32) -> Result<u32, String> {
        let Some(link) = self.get(group) else { return Ok(parent) };
        match link.made {
            Some((index, made_of)) if made_of == parent && link.is_as_made() => Ok(index),
            Some(_) | None => Err(format!("{} is not as it was made", link.name)),
        }
    }

    /// Whether the group's interface should be there and is not as it was made.
    pub fn is_broken(&self, group: GroupIndex) -> bool {
        self.get(group).is_some_and(|link| link.made.is_some() && !link.is_as_made())
    }

    /// Whether news may be about one of them: only a look tells what it means, since news may be older
    /// than the last look.
    pub fn news(&self, body: &Body) -> bool {
        let mut links = self.links.iter().flatten();
        match body {
            Body::Interface(interface) => links.any(|link| {
                link.made.is_some_and(|(index, _)| index == interface.index)
                    || link.name.to_string() == interface.name
            }),
            Body::InterfaceGone(index) => {
                links.any(|link| link.made.is_some_and(|(made, _)| made == *index))
            }
            Body::Answer(_)
            | Body::Done(_)
            | Body::Overrun
            | Body::Address(_)
            | Body::AddressGone(_)
            | Body::Other => false,
        }
    }

    /// Looks at those that should be there.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn look(&mut self, route: &mut RouteSocket) -> io::Result<()> {
        for link in self.links.iter_mut().flatten().filter(|link| link.made.is_some()) {
            link.found = route.interface(&link.name.to_string())?;
        }
        Ok(())
    }

    /// Makes the group's interface on `parent` if it is not there as it should be; `lan`: all
    /// interfaces on the LAN. Returns its index; that of `parent` for a group without own MAC. What
    /// could not be switched off for IPv6 is told by `fault`: it takes nothing from the service.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn make(
        &mut self,
        route: &mut RouteSocket,
        group: GroupIndex,
        parent: u32,
        lan: &[Interface],
        fault: &mut dyn FnMut(String),
    ) -> Result<u32, String> {
        if self.get(group).is_none() {
            return Ok(parent);
        }
        // First: nobody may hear another MAC for the address, not even for a moment.
        self.tighten(route, lan)?;
        let before = [self.before.first().copied(), self.before.get(1).copied()];
        let Some(link) = self.get_mut(group) else { return Ok(parent) };
        let name = link.name.to_string();
        link.found = look(route, &name)?;
        if let Some((index, made_of)) = link.made
            && made_of == parent
            && link.is_as_made()
        {
            return Ok(index);
        }
        link.made = None;
        if let Some(found) = link.found.take() {
            if found.macvlan_of.is_none() {
                return Err(format!(
                    "there is an interface {name} that is not clusterd's; rename it"
                ));
            }
            change(route, &[LinkChange::Delete { name: link.name }])?;
        }
        change(route, &[LinkChange::Make { name: link.name, parent, mac: link.mac }])?;
        let mac = link.mac;
        let fits = |made: &Interface| made.macvlan_of == Some(parent) && made.mac == Some(mac);
        let Some(made) = look(route, &name)?.filter(fits) else {
            return Err(format!("{name} was not there after it had been made"));
        };
        let index = made.index;
        change(route, &[LinkChange::Remember { index, before }])?;
        let settings: &[(&str, &str)] = if link.ipv6 { &IPV6_QUIET } else { &IPV6_OFF };
        for (setting, value) in settings {
            if let Err(error) = set_ipv6(&name, setting, value, link.ipv6) {
                fault(format!("{setting} of {name} cannot be set to {value}: {error}"));
            }
        }
        let ipv4 = Ipv4Conf::VIRTUAL;
        change(route, &[LinkChange::Set { index, ipv4 }, LinkChange::Up { index }])?;
        link.found = look(route, &name)?;
        link.made = Some((index, parent));
        let verified = link.found.as_ref().is_some_and(|found| found.ipv4 == Some(ipv4));
        if !verified || !link.is_as_made() {
            return Err(format!("{name} is not as it was made: {:?}", link.found));
        }
        Ok(index)
    }

    /// Deletes the group's interface; whether a look finds none.
    ///
    /// # Errors
    /// The kernel could not be asked, or refused.
    pub fn delete(&mut self, route: &mut RouteSocket, group: GroupIndex) -> io::Result<bool> {
        let Some(link) = self.get_mut(group) else { return Ok(true) };
        link.made = None;
        link.found = None;
        Ok(delete(route, link.name)?.0)
    }

    /// Deletes every interface with a name of ours, also of groups that the config does not have any
    /// more; whether a look finds none.
    ///
    /// # Errors
    /// The kernel could not be asked, or refused.
    pub fn delete_all(&mut self, route: &mut RouteSocket) -> io::Result<bool> {
        for link in self.links.iter_mut().flatten() {
            (link.made, link.found) = (None, None);
        }
        let mut all_gone = true;
        for group in (0u8..).map(GroupIndex).take(GROUPS_MAX) {
            let (gone, remembered) = delete(route, VirtualName(group))?;
            all_gone &= gone;
            for before in remembered {
                if !self.before.iter().any(|known| known.index == before.index) {
                    self.before.push(before);
                }
            }
        }
        Ok(all_gone)
    }

    /// The settings that an interface of the LAN shall have when all is released.
    pub fn before(&self, interface: &Interface) -> Option<Ipv4Conf> {
        let before = self.before.iter().find(|before| before.index == interface.index);
        before.map(|before| before.ipv4).or(interface.ipv4)
    }

    /// Gives the interfaces of the LAN their settings back, once no interface of ours is there. The
    /// kernel tells of each change that is made by netlink: the next claim knows them as they are.
    ///
    /// # Errors
    /// The kernel refused; it is tried again at the next release.
    pub fn loosen(&mut self, route: &mut RouteSocket) -> io::Result<()> {
        if self.links.iter().flatten().any(|link| link.made.is_some()) {
            return Ok(());
        }
        while let Some(&Before { index, ipv4 }) = self.before.last() {
            route.change(&[Change::Link(LinkChange::Set { index, ipv4 })])?;
            self.before.pop();
        }
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn are_gone(&self) -> bool {
        self.before.is_empty() && self.links.iter().flatten().all(|link| link.made.is_none())
    }

    fn tighten(&mut self, route: &mut RouteSocket, lan: &[Interface]) -> Result<(), String> {
        for interface in lan {
            let index = interface.index;
            let Some(ipv4) = self.before(interface) else {
                return Err(format!("the kernel reports no IPv4 settings of {}", interface.name));
            };
            if !self.before.iter().any(|before| before.index == index) {
                self.before.push(Before { index, ipv4 });
            }
            change(route, &[LinkChange::Set { index, ipv4: ipv4.modest() }])?;
            let now = look(route, &interface.name)?.and_then(|interface| interface.ipv4);
            if now != Some(ipv4.modest()) {
                return Err(format!("the settings of {} do not persist: {now:?}", interface.name));
            }
        }
        Ok(())
    }
}

/// Deletes the macvlan of that name; whether a look finds none, and what it remembered.
fn delete(route: &mut RouteSocket, name: VirtualName) -> io::Result<(bool, Vec<Before>)> {
    let text = name.to_string();
    let is_ours = |found: &Interface| found.macvlan_of.is_some();
    let Some(found) = route.interface(&text)?.filter(is_ours) else {
        return Ok((true, Vec::new()));
    };
    route.change(&[Change::Link(LinkChange::Delete { name })])?;
    let gone = route.interface(&text)?.is_none_or(|left| !is_ours(&left));
    Ok((gone, found.remembers))
}

fn look(route: &mut RouteSocket, name: &str) -> Result<Option<Interface>, String> {
    route.interface(name).map_err(|error| format!("{name} cannot be looked at: {error}"))
}

fn change(route: &mut RouteSocket, changes: &[LinkChange]) -> Result<(), String> {
    let changes: Vec<Change> = changes.iter().map(|&change| Change::Link(change)).collect();
    route.change(&changes).map_err(|error| error.to_string())
}

/// Writes a setting and reads it again. A kernel without IPv6 has none, and a group without IPv6 address
/// needs none.
fn set_ipv6(interface: &str, setting: &str, value: &str, needed: bool) -> io::Result<()> {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/{setting}");
    match std::fs::write(&path, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !needed => return Ok(()),
        other => other?,
    }
    let now = std::fs::read_to_string(&path)?;
    if now.trim() == value {
        Ok(())
    } else {
        Err(io::Error::other(format!("it is {}", now.trim())))
    }
}
