//! Reaching the peer: over the crossover if it answers there, else over the LAN.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::socket;
use super::{Link, LinkError, LinkPath, Secret};
use crate::limits;

/// Makes a link to the peer's [`super::Listener`]: over the crossover, to the peer's link-local address
/// by this node's interface, if that is known and it answers; else over the LAN, from this node's own
/// address, by which the peer knows it. Each way may take `timeout` in all.
///
/// # Errors
/// [`LinkError::Unreachable`], with the reasons of both ways.
pub fn connect(
    secret: &Secret,
    crossover: Option<(Ipv6Addr, &str)>,
    lan: IpAddr,
    own_lan: IpAddr,
    port: u16,
    timeout: Duration,
) -> Result<Link, LinkError> {
    let by_cable = match crossover {
        Some((address, interface)) => {
            over_crossover(secret, address, interface, port, Instant::now() + timeout)
                .map_err(|error| error.to_string())
        }
        None => Err("the peer has told no address".to_owned()),
    };
    by_cable.or_else(|crossover| {
        let (to, from) = (SocketAddr::new(lan, port), SocketAddr::new(own_lan, 0));
        link(secret, LinkPath::Lan, to, Some(from), None, Instant::now() + timeout)
            .map_err(|error| LinkError::Unreachable { crossover, lan: Box::new(error) })
    })
}

fn over_crossover(
    secret: &Secret,
    address: Ipv6Addr,
    interface: &str,
    port: u16,
    deadline: Instant,
) -> Result<Link, LinkError> {
    let index = nix::net::if_::if_nametoindex(interface).map_err(std::io::Error::from)?;
    let to = SocketAddrV6::new(address, port, 0, index).into();
    link(secret, LinkPath::Crossover, to, None, Some(interface), deadline)
}

fn link(
    secret: &Secret,
    path: LinkPath,
    to: SocketAddr,
    from: Option<SocketAddr>,
    device: Option<&str>,
    deadline: Instant,
) -> Result<Link, LinkError> {
    let stream = socket::reach(to, from, device, deadline)?;
    let noise = secret.initiate(&stream, deadline)?;
    Ok(Link::new(Arc::new(stream), noise, path, limits::MIRROR_STALL_MAX))
}
