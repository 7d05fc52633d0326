//! The interfaces that are watched: those on the LAN and the crossover's. Their index, MAC and carrier
//! come from the kernel's news and from looks; whichever is newer counts.

use super::link_messages::Interface;
use super::netlink::Body;

/// One watched interface.
#[derive(Debug)]
pub struct Watched {
    /// Its name in the config (or an alternative name of it).
    name: String,
    /// What the kernel said last; `None`: there is no such interface.
    now: Option<Interface>,
}

impl Watched {
    /// An interface that was not looked at yet.
    pub fn new(name: String) -> Watched {
        Watched { name, now: None }
    }

    /// The name to ask the kernel for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel said last.
    pub fn now(&self) -> Option<&Interface> {
        self.now.as_ref()
    }

    /// Whether it has a carrier. An interface that does not exist has none.
    pub fn carrier(&self) -> bool {
        self.now.as_ref().is_some_and(|interface| interface.carrier)
    }

    /// Whether it is set down on this node, or is not there.
    pub fn is_down(&self) -> bool {
        self.now.as_ref().is_none_or(|interface| !interface.up)
    }

    /// Takes in what a look found.
    pub fn looked(&mut self, found: Option<Interface>) {
        self.now = found;
    }

    /// Takes in news. Returns whether only a look can tell what it means: the interface was renamed
    /// or removed, or one appeared while this one is missing.
    pub fn news(&mut self, body: &Body) -> bool {
        match body {
            Body::Interface(interface) => {
                let same = self.now.as_ref().map(|now| now.index == interface.index);
                match (same, interface.is_named(&self.name)) {
                    (Some(true), true) => {
                        self.now = Some(interface.clone());
                        false
                    }
                    (Some(false), false) => false,
                    (Some(true), false) | (Some(false), true) | (None, _) => true,
                }
            }
            Body::InterfaceGone(index) => self.now.as_ref().is_some_and(|now| now.index == *index),
            Body::Answer(_)
            | Body::Done(_)
            | Body::Overrun
            | Body::Address(_)
            | Body::AddressGone(_)
            | Body::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, index: u32, carrier: bool) -> Interface {
        Interface {
            name: name.into(),
            altnames: vec![format!("{name}-in-the-rack")],
            index,
            mac: Some([2; 6]),
            up: true,
            carrier,
            macvlan_of: None,
            ipv4: None,
            remembers: Vec::new(),
        }
    }

    #[test]
    fn news_of_another_interface_changes_nothing() {
        let mut watched = Watched::new("eth0".into());
        watched.looked(Some(interface("eth0", 3, true)));
        assert!(!watched.news(&Body::Interface(interface("eth1", 4, false))));
        assert!(!watched.news(&Body::InterfaceGone(4)));
        assert!(watched.carrier());
    }

    #[test]
    fn a_lost_carrier_counts_at_once() {
        let mut watched = Watched::new("eth0".into());
        watched.looked(Some(interface("eth0", 3, true)));
        assert!(!watched.news(&Body::Interface(interface("eth0", 3, false))));
        assert!(!watched.carrier());
    }

    /// News of an interface that the config calls by another name needs no look each time.
    #[test]
    fn another_name_is_as_good_as_the_first() {
        let mut watched = Watched::new("eth0-in-the-rack".into());
        watched.looked(Some(interface("eth0", 3, true)));
        assert!(!watched.news(&Body::Interface(interface("eth0", 3, false))));
        assert!(!watched.carrier());
        let mut unnamed = interface("eth0", 3, true);
        unnamed.altnames.clear();
        assert!(watched.news(&Body::Interface(unnamed)), "the name was taken from it");
    }

    #[test]
    fn renamed_removed_or_back_is_looked_at() {
        let mut watched = Watched::new("eth0".into());
        assert!(watched.news(&Body::Interface(interface("eth0", 3, true))));
        watched.looked(Some(interface("eth0", 3, true)));
        assert!(watched.news(&Body::Interface(interface("away", 3, true))));
        assert!(watched.news(&Body::Interface(interface("eth0", 9, true))));
        assert!(watched.news(&Body::InterfaceGone(3)));
    }
}
