//! Reaching the peer: over the crossover if it answers there, else over the LAN.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::socket;
use super::{Link, LinkError, LinkPath, Secret};
use crate::limits;
use crate::net::interface_index;

/// Who dials whom.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// The pair's.
    pub secret: Secret,
    /// This node's interface of the crossover.
    pub interface: String,
    /// The peer's own address on the LAN.
    pub lan: IpAddr,
    /// This node's own address there, by which the peer knows it.
    pub own_lan: IpAddr,
    /// The port of the peer's [`super::Listener`].
    pub port: u16,
    /// Each way may take this in all.
    pub patience: Duration,
}

impl Dialler {
    /// Makes a link: over the crossover, to the peer's link-local address by this node's interface, if that
    /// is known and it answers; else over the LAN.
    ///
    /// # Errors
    /// [`LinkError::Unreachable`], with the reasons of both ways.
    pub fn connect(&self, crossover: Option<Ipv6Addr>) -> Result<Link, LinkError> {
        let by_cable = self.over_crossover(crossover);
        by_cable.or_else(|crossover| match self.over_lan() {
            Ok(link) => Ok(link.instead_of(crossover)),
            Err(lan) => Err(LinkError::Unreachable { crossover, lan }),
        })
    }

    /// Makes a link over the crossover and no other way.
    ///
    /// # Errors
    /// Why not, in words, with the address and the port.
    pub fn over_crossover(&self, address: Option<Ipv6Addr>) -> Result<Link, String> {
        let Some(address) = address else {
            return Err("the peer's heartbeats over it tell no address".to_owned());
        };
        let Dialler { interface, port, .. } = self;
        let named = |error: &dyn std::fmt::Display| {
            format!("{address} port {port} on {interface}: {error}")
        };
        let index = interface_index(interface).map_err(|error| named(&error))?;
        let to = SocketAddrV6::new(address, *port, 0, index).into();
        let from = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        self.link(LinkPath::Crossover, to, from).map_err(|error| named(&error))
    }

    /// Makes a link over the LAN and no other way.
    ///
    /// # Errors
    /// Why not, in words, with the address and the port.
    pub fn over_lan(&self) -> Result<Link, String> {
        let Dialler { lan, own_lan, port, .. } = self;
        self.link(LinkPath::Lan, SocketAddr::new(*lan, *port), *own_lan)
            .map_err(|error| format!("{lan} port {port} from {own_lan}: {error}"))
    }

    fn link(&self, path: LinkPath, to: SocketAddr, from: IpAddr) -> Result<Link, LinkError> {
        let deadline = Instant::now() + self.patience;
        let mut refused = LinkError::Refused;
        // A second key only while the pair's is changed, for a peer that does not take the first.
        for psk in self.secret.offers() {
            let stream = socket::reach(to, from, deadline)?;
            match self.secret.initiate(&psk, &stream, deadline) {
                Ok(noise) => {
                    let stream = Arc::new(stream);
                    return Ok(Link::new(stream, noise, path, limits::MIRROR_STALL_MAX));
                }
                Err(error @ (LinkError::Refused | LinkError::Secret)) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }
}
