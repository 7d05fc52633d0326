//! The owner's side: a link to the peer, by the crossover if that works, else by the LAN.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::frame::LinkError;
use super::{Cable, Link, Pacer, Secret, noise, socket};
use crate::limits;

/// Where the peer is found, and from where.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its link-local address on the crossover, as its heartbeats tell; `None`: not told.
    pub crossover: Option<Ipv6Addr>,
    /// This node's crossover interface.
    pub crossover_interface: String,
    /// Its address on the LAN.
    pub lan: IpAddr,
    /// This node's LAN interface.
    pub lan_interface: String,
    /// This node's own address on the LAN: never a service address, which the kernel might choose.
    pub own_lan: IpAddr,
    /// TCP port: [`limits::SYNC_PORT`].
    pub port: u16,
}

/// Why there is no link.
#[derive(Debug, thiserror::Error)]
pub struct Unreached {
    /// Why not by the crossover; `None`: the peer has not told its address there.
    crossover: Option<LinkError>,
    /// Why not by the LAN.
    lan: LinkError,
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the peer's mirror is not reached; by the crossover: ")?;
        match &self.crossover {
            Some(error) => write!(f, "{error}")?,
            None => f.write_str("it has not told its address there")?,
        }
        write!(f, "; by the LAN: {}", self.lan)
    }
}

/// Connects and shakes hands; waits at most `timeout` for a connection and
/// [`limits::MIRROR_HANDSHAKE_PATIENCE`] for the handshake, on either cable.
///
/// # Errors
/// Neither cable leads to the peer: why, for each.
pub fn connect(
    peer: &Peer,
    secret: &Secret,
    pacer: &Pacer,
    timeout: Duration,
) -> Result<Link, Unreached> {
    let by = |cable, interface: &str, own, address| {
        let stream = socket::connect_to(interface, own, address, peer.port, timeout)?;
        let until = Instant::now() + limits::MIRROR_HANDSHAKE_PATIENCE;
        let cipher = noise::initiate(&stream, secret, until)?;
        Ok(Link::new(stream, cipher, cable, pacer))
    };
    let crossover = peer
        .crossover
        .map(|address| by(Cable::Crossover, &peer.crossover_interface, None, IpAddr::V6(address)));
    let crossover = match crossover {
        Some(Ok(link)) => return Ok(link),
        Some(Err(error)) => Some(error),
        None => None,
    };
    by(Cable::Lan, &peer.lan_interface, Some(peer.own_lan), peer.lan)
        .map_err(|lan| Unreached { crossover, lan })
}
