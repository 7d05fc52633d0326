//! rtnetlink messages about interfaces: those that clusterd makes, and settings of others. Beside
//! `netlink` the only file that knows their crate.

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NlaBuffer,
    NlasIterator,
};
use netlink_packet_route::link::{
    AfSpecInet, AfSpecUnspec, InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkHeader, LinkInfo, LinkMessage, MacVlanMode,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::netlink::append;
use crate::config::GroupIndex;
use crate::limits::INTERFACE_BYTES_MAX;

/// Header length of `struct ifinfomsg`, in bytes.
const LINK_HEADER_BYTES: usize = 16;
/// Inside IFLA_AF_SPEC and its AF_INET (linux/if_link.h).
const IFLA_INET_CONF: u16 = 1;
/// Other names of an interface, in a list of their own (linux/if_link.h).
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
/// Numbers of settings in IFLA_INET_CONF, the first is 1 (linux/ip.h).
const CONF_RP_FILTER: u16 = 8;
const CONF_ARP_ANNOUNCE: u16 = 18;
const CONF_ARP_IGNORE: u16 = 19;

/// The interface with a group's own MAC. All interfaces with such a name are clusterd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VirtualName(pub GroupIndex);

impl std::fmt::Display for VirtualName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "clusterd{}", self.0.0)
    }
}

/// Settings of an interface that decide who answers ARP for what (Linux's ip-sysctl.rst).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Conf {
    /// `arp_ignore`; 1: answer only for addresses of the interface that was asked.
    pub arp_ignore: u32,
    /// `arp_announce`; 2: ask only in the name of the interface's own addresses.
    pub arp_announce: u32,
    /// `rp_filter`; 2: the way back need not be the way in.
    pub rp_filter: u32,
}

impl Ipv4Conf {
    /// What the interface with a service address needs.
    pub const VIRTUAL: Ipv4Conf = Ipv4Conf { arp_ignore: 1, arp_announce: 2, rp_filter: 2 };

    /// The least change to an interface on the same network, so that it neither answers nor asks for
    /// addresses of another one.
    pub fn modest(self) -> Ipv4Conf {
        let (virtual_ignore, virtual_announce) =
            (Ipv4Conf::VIRTUAL.arp_ignore, Ipv4Conf::VIRTUAL.arp_announce);
        Ipv4Conf {
            arp_ignore: self.arp_ignore.max(virtual_ignore),
            arp_announce: self.arp_announce.max(virtual_announce),
            rp_filter: self.rp_filter,
        }
    }
}

/// An interface whose settings were changed, and what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Before {
    /// Index of the interface.
    pub index: u32,
    /// Its settings.
    pub ipv4: Ipv4Conf,
}

/// In what an interface of ours remembers (its `alias`), the word before each [`Before`].
const BEFORE: &str = "clusterd-before";

impl Before {
    fn to_text(self) -> String {
        let Ipv4Conf { arp_ignore, arp_announce, rp_filter } = self.ipv4;
        format!("{BEFORE} {} {arp_ignore} {arp_announce} {rp_filter}", self.index)
    }

    /// What an alias remembers: nothing if somebody else wrote it.
    fn read_all(text: &str) -> Vec<Before> {
        let read = |part: &str| {
            let mut numbers = part.split_whitespace().map(|word| word.parse().ok());
            let mut next = || numbers.next().flatten();
            let index = next()?;
            let (arp_ignore, arp_announce, rp_filter) = (next()?, next()?, next()?);
            Some(Before { index, ipv4: Ipv4Conf { arp_ignore, arp_announce, rp_filter } })
        };
        text.split(BEFORE).skip(1).filter_map(read).collect()
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its other names (ip-link(8), `altname`).
    pub altnames: Vec<String>,
    /// Its index.
    pub index: u32,
    /// Its Ethernet address, if it has one.
    pub mac: Option<[u8; 6]>,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is up and has a carrier.
    pub carrier: bool,
    /// The interface that it is made of, if it is a macvlan.
    pub macvlan_of: Option<u32>,
    /// Its settings, if the kernel told them.
    pub ipv4: Option<Ipv4Conf>,
    /// Settings of others that it remembers.
    pub remembers: Vec<Before>,
}

impl Interface {
    /// Whether that is its name, or one of its other names: the kernel takes one for the other.
    pub fn is_named(&self, name: &str) -> bool {
        self.name == name || self.altnames.iter().any(|altname| altname == name)
    }
}

/// A change of one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// Make a macvlan, not yet up.
    Make {
        /// Its name.
        name: VirtualName,
        /// Index of the interface that it is made of.
        parent: u32,
        /// Its Ethernet address.
        mac: [u8; 6],
    },
    /// Change settings.
    Set {
        /// Index of the interface.
        index: u32,
        /// The settings.
        ipv4: Ipv4Conf,
    },
    /// Have it remember settings of others.
    Remember {
        /// Index of the interface.
        index: u32,
        /// Those.
        before: [Option<Before>; 2],
    },
    /// Set it up.
    Up {
        /// Index of the interface.
        index: u32,
    },
    /// Delete it, with all that is on it.
    Delete {
        /// Its name.
        name: VirtualName,
    },
}

impl LinkChange {
    /// What it is about, in words.
    pub fn subject(&self) -> String {
        match self {
            LinkChange::Make { name, .. } | LinkChange::Delete { name } => name.to_string(),
            LinkChange::Set { index, .. }
            | LinkChange::Remember { index, .. }
            | LinkChange::Up { index } => format!("interface {index}"),
        }
    }

    /// Whether that errno means that there was nothing left to do.
    pub fn is_done_by(&self, errno: i32) -> bool {
        match self {
            // An interface that is gone has no settings left to change.
            LinkChange::Delete { .. } | LinkChange::Set { .. } => errno == libc::ENODEV,
            // Made already, when the answer was lost: whoever asked looks what is there.
            LinkChange::Make { .. } => errno == libc::EEXIST,
            LinkChange::Remember { .. } | LinkChange::Up { .. } => false,
        }
    }

    /// Appends the request, which asks for an answer, to `out`.
    pub fn build(&self, sequence: u32, out: &mut Vec<u8>) {
        let mut message = LinkMessage::default();
        let flags = NLM_F_REQUEST | NLM_F_ACK;
        match *self {
            LinkChange::Make { name, parent, mac } => {
                // Bridge mode: what another host sends from this MAC still reaches the interface that
                // it is made of, where it is listened for (macvlan_handle_frame in the kernel).
                let mode = InfoMacVlan::Mode(MacVlanMode::Bridge);
                message.attributes.extend([
                    LinkAttribute::IfName(name.to_string()),
                    LinkAttribute::Link(parent),
                    LinkAttribute::Address(mac.to_vec()),
                    LinkAttribute::LinkInfo(vec![
                        LinkInfo::Kind(InfoKind::MacVlan),
                        LinkInfo::Data(InfoData::MacVlan(vec![mode])),
                    ]),
                ]);
                let flags = flags | NLM_F_CREATE | NLM_F_EXCL;
                append(RouteNetlinkMessage::NewLink(message), flags, sequence, out);
            }
            LinkChange::Set { index, ipv4 } => {
                message.header.index = index;
                message.attributes.push(settings(ipv4));
                append(RouteNetlinkMessage::SetLink(message), flags, sequence, out);
            }
            LinkChange::Remember { index, before } => {
                message.header.index = index;
                let parts: Vec<String> = before.iter().flatten().map(|one| one.to_text()).collect();
                message.attributes.push(LinkAttribute::IfAlias(parts.join(" ")));
                append(RouteNetlinkMessage::SetLink(message), flags, sequence, out);
            }
            LinkChange::Up { index } => {
                message.header.index = index;
                message.header.flags = LinkFlags::Up;
                message.header.change_mask = LinkFlags::Up;
                append(RouteNetlinkMessage::SetLink(message), flags, sequence, out);
            }
            LinkChange::Delete { name } => {
                message.attributes.push(LinkAttribute::IfName(name.to_string()));
                append(RouteNetlinkMessage::DelLink(message), flags, sequence, out);
            }
        }
    }
}

/// Appends a request for the interface of that name, or other name, to `out`.
pub fn build_interface_request(name: &str, sequence: u32, out: &mut Vec<u8>) {
    let mut message = LinkMessage::default();
    // The kernel looks among all names either way (`rtnl_dev_get`); one before 5.5 knows no other names, and
    // refuses to be asked for one.
    message.attributes.push(match name.len() <= INTERFACE_BYTES_MAX {
        true => LinkAttribute::IfName(name.to_owned()),
        false => {
            let zero_ended = [name.as_bytes(), &[0]].concat();
            LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, zero_ended))
        }
    });
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    append(RouteNetlinkMessage::GetLink(message), NLM_F_REQUEST, sequence, out);
}

/// The crate's own form leaves out zeros, which must be settable here.
fn settings(ipv4: Ipv4Conf) -> LinkAttribute {
    let entries = [
        (CONF_ARP_IGNORE, ipv4.arp_ignore),
        (CONF_ARP_ANNOUNCE, ipv4.arp_announce),
        (CONF_RP_FILTER, ipv4.rp_filter),
    ];
    let entries: Vec<DefaultNla> = entries
        .into_iter()
        .map(|(number, value)| DefaultNla::new(number, value.to_ne_bytes().to_vec()))
        .collect();
    let mut bytes = vec![0; entries.as_slice().buffer_len()];
    entries.as_slice().emit(&mut bytes);
    let conf = AfSpecInet::Other(DefaultNla::new(IFLA_INET_CONF, bytes));
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![conf])])
}

/// Reads an interface; messages of one protocol about it (a bridge's about its ports: leaving a
/// bridge sends an RTM_DELLINK) are not about the interface itself.
pub(super) fn read_interface(payload: &[u8]) -> Option<Interface> {
    let header = LinkHeader::parse(payload).ok()?;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let (mut name, mut mac, mut parent, mut is_macvlan, mut ipv4) = (None, None, None, false, None);
    let (mut remembers, mut altnames) = (Vec::new(), Vec::new());
    for nla in NlasIterator::new(payload.get(LINK_HEADER_BYTES..)?) {
        let Ok(nla) = nla else { break };
        match nla.kind() {
            libc::IFLA_IFNAME => name = Some(text(&nla)?),
            IFLA_PROP_LIST => altnames = read_altnames(&nla),
            libc::IFLA_ADDRESS => mac = <[u8; 6]>::try_from(nla.value()).ok(),
            libc::IFLA_IFALIAS => remembers = Before::read_all(&text(&nla)?),
            libc::IFLA_LINK => parent = number(&nla),
            libc::IFLA_LINKINFO => {
                is_macvlan = find(&nla, libc::IFLA_INFO_KIND)
                    .is_some_and(|kind| text(&kind).as_deref() == Some("macvlan"));
            }
            libc::IFLA_AF_SPEC => ipv4 = read_settings(&nla),
            _ => {}
        }
    }
    Some(Interface {
        name: name?,
        altnames,
        index: header.index,
        mac,
        up: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        macvlan_of: parent.filter(|_| is_macvlan),
        ipv4,
        remembers,
    })
}

fn read_altnames(list: &NlaBuffer<&[u8]>) -> Vec<String> {
    let named = |nla: &NlaBuffer<&[u8]>| nla.kind() == IFLA_ALT_IFNAME;
    let entries = NlasIterator::new(list.value()).map_while(Result::ok).filter(named);
    entries.filter_map(|nla| text(&nla)).collect()
}

fn read_settings(af_spec: &NlaBuffer<&[u8]>) -> Option<Ipv4Conf> {
    let inet = find(af_spec, libc::AF_INET as u16)?;
    let conf = find(&inet, IFLA_INET_CONF)?;
    let (values, _) = conf.value().as_chunks::<4>();
    let value = |number: u16| {
        values.get(usize::from(number).checked_sub(1)?).copied().map(u32::from_ne_bytes)
    };
    Some(Ipv4Conf {
        arp_ignore: value(CONF_ARP_IGNORE)?,
        arp_announce: value(CONF_ARP_ANNOUNCE)?,
        rp_filter: value(CONF_RP_FILTER)?,
    })
}

fn find<'a>(nest: &'a NlaBuffer<&[u8]>, kind: u16) -> Option<NlaBuffer<&'a [u8]>> {
    NlasIterator::new(nest.value()).find_map(|nla| nla.ok().filter(|nla| nla.kind() == kind))
}

fn text(nla: &NlaBuffer<&[u8]>) -> Option<String> {
    let bytes = nla.value().split(|&byte| byte == 0).next()?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

fn number(nla: &NlaBuffer<&[u8]>) -> Option<u32> {
    nla.value().first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::netlink::{Body, read};

    fn bodies(datagram: &[u8]) -> Vec<Body> {
        let mut bodies = Vec::new();
        read(datagram, &mut |message| bodies.push(message.body));
        bodies
    }

    #[test]
    fn a_macvlan_is_read_as_it_was_asked_for() {
        let name = VirtualName(GroupIndex(3));
        let mut bytes = Vec::new();
        LinkChange::Make { name, parent: 7, mac: [2, 0, 0, 0, 0, 9] }.build(1, &mut bytes);
        let made = Interface {
            name: "clusterd3".into(),
            altnames: Vec::new(),
            index: 0,
            mac: Some([2, 0, 0, 0, 0, 9]),
            up: false,
            carrier: false,
            macvlan_of: Some(7),
            ipv4: None,
            remembers: Vec::new(),
        };
        assert_eq!(bodies(&bytes), [Body::Interface(made)]);
    }

    #[test]
    fn what_an_interface_remembers_is_read_again() {
        let before = |index| Before { index, ipv4: Ipv4Conf::VIRTUAL };
        for before in [[None, None], [Some(before(7)), None], [Some(before(7)), Some(before(9))]] {
            let text: Vec<String> = before.iter().flatten().map(|one| one.to_text()).collect();
            let read = Before::read_all(&text.join(" "));
            assert_eq!(read, before.into_iter().flatten().collect::<Vec<_>>());
        }
        for foreign in ["", "uplink", "1 2 3 4", "clusterd-before 1 2", "clusterd-before 1 2 3 -4"]
        {
            assert_eq!(Before::read_all(foreign), []);
        }
        assert!(before(u32::MAX).to_text().len() * 2 < 256, "the kernel's IFALIASZ");
    }

    #[test]
    fn settings_only_become_stricter() {
        let loose = Ipv4Conf { arp_ignore: 0, arp_announce: 0, rp_filter: 1 };
        assert_eq!(loose.modest(), Ipv4Conf { arp_ignore: 1, arp_announce: 2, rp_filter: 1 });
        let strict = Ipv4Conf { arp_ignore: 8, arp_announce: 2, rp_filter: 0 };
        assert_eq!(strict.modest(), strict);
    }

    #[test]
    fn a_bridge_port_that_leaves_is_not_an_interface_that_is_gone() {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName("eth0".into()));
        let mut bytes = Vec::new();
        append(RouteNetlinkMessage::DelLink(message.clone()), 0, 0, &mut bytes);
        assert_eq!(bodies(&bytes), [Body::InterfaceGone(0)]);
        message.header.interface_family = AddressFamily::Bridge;
        bytes.clear();
        append(RouteNetlinkMessage::DelLink(message), 0, 0, &mut bytes);
        assert_eq!(bodies(&bytes), [Body::Other]);
    }
}
