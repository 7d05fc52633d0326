//! What the heart and its netlink thread say to each other.

use std::net::IpAddr;

use super::link_messages::Ipv4Conf;
use crate::config::{GroupIndex, Nic, ServiceAddress};

/// What the thread works on.
#[derive(Clone, Debug)]
pub struct NetSetup {
    /// Name of the LAN interface, or an altname of it, as of those below.
    pub lan: String,
    /// Name of the third interface, if a group is held on it.
    pub redundant: Option<String>,
    /// Name of the interface of the crossover cable.
    pub crossover: String,
    /// Each group, in the order of [`GroupIndex`].
    pub groups: Vec<GroupSetup>,
}

/// What is held for a group, and where.
#[derive(Clone, Debug)]
pub struct GroupSetup {
    /// Its service addresses.
    pub addresses: Vec<ServiceAddress>,
    /// The interface that they are held on.
    pub nic: Nic,
    /// The Ethernet address that moves with them, on an interface of its own on top of that one.
    pub mac: Option<[u8; 6]>,
}

/// What the heart asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetRequest {
    /// Delete every interface of clusterd's making, and every service address of every group from all
    /// others. Answer: `Swept`.
    Sweep,
    /// Look at both carriers now. Answer: `Carrier`.
    LookAtCarriers,
    /// Add all of the group's addresses with a lease on its interface, which is made first if the group
    /// has its own MAC, and look. Answer: `Held`, or `HoldFailed`, and then what had been added is
    /// deleted again.
    Claim {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim.
        claim: u32,
    },
    /// Renew the leases of a claim. Goes ahead of all other requests. Answer: `Renewed`, or
    /// `HoldFailed`: the kernel refused, the claim is not held any more, or its lease had ended.
    Renew {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim.
        claim: u32,
    },
    /// These are the group's addresses from now on: what is not among them any more is deleted from every
    /// interface, and what is new is leased if the group is claimed. Answer: `Trimmed`.
    Addresses {
        /// Which group.
        group: GroupIndex,
        /// All of them.
        addresses: Vec<ServiceAddress>,
        /// Number of the change.
        change: u32,
    },
    /// Delete the group's own interface, and its addresses from every other. Answer: `Released`, once a
    /// look finds none.
    Release {
        /// Which group.
        group: GroupIndex,
        /// Number of the release.
        release: u32,
    },
}

/// What the thread answers and reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetReply {
    /// A look found no service address on this host.
    Swept,
    /// The carriers: after every look, and when one changes. An interface that is missing or not up
    /// has no carrier; `None`: the kernel could not be asked. Where a group is held on the third
    /// interface, the LAN's carrier is that of both: without it the group cannot be served.
    Carrier {
        /// Of the LAN interface.
        lan: Option<bool>,
        /// Of the crossover interface.
        crossover: Option<bool>,
        /// The crossover interface is set down on this node, or is not there.
        crossover_down: bool,
    },
    /// All addresses of the claim are leased, but for those of `Refused`: acknowledged, and seen by a look.
    Held {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim.
        claim: u32,
    },
    /// The kernel refuses these addresses of a claim, and leases its others; empty: it leases all of them again.
    Refused {
        /// Which group.
        group: GroupIndex,
        /// Which addresses.
        refused: Vec<IpAddr>,
        /// Why.
        error: String,
    },
    /// The claim or its renewal failed.
    HoldFailed {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim.
        claim: u32,
        /// Why.
        error: String,
    },
    /// All leases of the claim were renewed and acknowledged.
    Renewed {
        /// Which group.
        group: GroupIndex,
        /// Number of the claim.
        claim: u32,
    },
    /// A look found none of the group's addresses on this host.
    Released {
        /// Which group.
        group: GroupIndex,
        /// Number of the release that it answers: the newest one asked for.
        release: u32,
    },
    /// A look found no address on this host that a change has taken out of its group.
    Trimmed {
        /// The newest change.
        change: u32,
    },
    /// An address of a claimed group is gone, or its interface is not as it was made: by somebody else,
    /// or the lease has ended.
    AddressLost {
        /// Which group.
        group: GroupIndex,
    },
    /// An address of a group that is not claimed here has appeared on this host.
    AddressFound {
        /// Which group.
        group: GroupIndex,
    },
    /// An interface on the LAN: at the start, and when its index, MAC or settings change; `None`: it is
    /// missing, or no Ethernet.
    Link(Nic, Option<LinkInfo>),
    /// The same of the crossover's interface.
    Crossover(Option<LinkInfo>),
    /// Something went wrong, or was put right, that an administrator should know.
    Fault(String),
}

/// What frames on an interface need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkInfo {
    /// Index of the interface.
    pub index: u32,
    /// Its Ethernet address.
    pub mac: [u8; 6],
    /// The settings that it had before anything was claimed.
    pub ipv4: Option<Ipv4Conf>,
}
