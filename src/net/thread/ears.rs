//! What the NICs on the LAN let through beside what is for this node: in IPv6 the answer to a probe goes to all
//! nodes, and a probe for an address to a group of its own. To join one takes the kernel's rtnl lock, and so does to
//! leave it, when the socket is closed (`packet_mc_add`, `packet_flush_mclist` in net/packet/af_packet.c): the
//! heart's loop does neither. A NIC has one list for all sockets.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use crate::net::nd;
use crate::sys::packet::PacketSocket;
use crate::sys::packet_options::join_multicast;

/// Of no protocol: such a socket receives nothing (packet(7)).
const NO_ETHERTYPE: u16 = 0;

/// The memberships.
#[derive(Debug, Default)]
pub struct Ears {
    /// Interfaces, and the socket that is a member there.
    sockets: Vec<(u32, PacketSocket)>,
    /// Service addresses that they are members for.
    ips: Vec<Ipv6Addr>,
}

impl Ears {
    /// These are the interfaces, and all addresses. What is as it was costs nothing.
    ///
    /// # Errors
    /// No socket, or the kernel refused a membership; to be tried again.
    pub fn listen(&mut self, links: &[u32], ips: impl Iterator<Item = IpAddr>) -> io::Result<()> {
        let ipv6 = ips.filter_map(|ip| match ip {
            IpAddr::V6(ip) => Some(ip),
            IpAddr::V4(_) => None,
        });
        let ips: Vec<Ipv6Addr> = ipv6.collect();
        let links = if ips.is_empty() { &[] } else { links };
        if ips == self.ips && self.sockets.iter().map(|(index, _)| index).eq(links) {
            return Ok(());
        }
        // The old ones end when the new ones are there.
        let open = |&index: &u32| Ok((index, open(index, &ips)?));
        self.sockets = links.iter().map(open).collect::<io::Result<_>>()?;
        self.ips = ips;
        Ok(())
    }

    /// The interface of that index is gone, and the kernel has ended its memberships. Another may have its index.
    pub fn forget(&mut self, index: u32) {
        self.sockets.retain(|(known, _)| *known != index);
    }
}

fn open(index: u32, ips: &[Ipv6Addr]) -> io::Result<PacketSocket> {
    let socket = PacketSocket::open(index, NO_ETHERTYPE)?;
    join_multicast(&socket, nd::multicast_mac(nd::ALL_NODES))?;
    for &ip in ips {
        join_multicast(&socket, nd::multicast_mac(nd::solicited_node(ip)))?;
    }
    Ok(socket)
}
