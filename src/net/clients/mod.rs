//! Clients' TCP connections to service addresses. When an address moves, the new owner's kernel knows
//! none of them, and a client that only waits would wait until its own keep-alive ends.
//!
//! The owner looks who is connected and tells the peer, on the crossover. Who takes over sends each
//! client a bare ACK from the service address with numbers that fit nowhere (a *tickle*, as in CTDB). The
//! client's kernel answers with what it expects (RFC 9293, 3.10.7.4); the new owner's kernel, asked about
//! a connection that it does not have, answers RST; and the client's program learns that it is gone. A
//! connection that is alive is not hurt: both ends just repeat what they know.
//!
//! | file | subject |
//! | --- | --- |
//! | `sock_diag` | messages of sock_diag(7): which connections there are, close one |
//! | `diag_socket` | the socket for them |
//! | `frame` | a list of connections in authenticated frames |
//! | `table` | the newest whole list of each group, from the peer |
//! | `wire` | those frames on the crossover |
//! | `tickle` | the segments to the clients |

mod diag_socket;
mod frame;
mod sock_diag;
mod table;
mod tickle;
mod wire;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

pub use diag_socket::{DiagSocket, Found};
pub use frame::{Codec, Part, Refusal};
pub use sock_diag::States;
pub use table::{Shared, Table};
pub use tickle::{Tickler, segment};
pub use wire::Wire;

/// A client's connection to a service address. Both ends are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// Service address and port.
    pub service: SocketAddr,
    /// The client's address and port.
    pub client: SocketAddr,
}

impl Connection {
    /// A connection whose client can be sent something: one family, real ports, and an address of one
    /// other host.
    pub fn new(service: SocketAddr, client: SocketAddr) -> Option<Connection> {
        let host = match client.ip() {
            IpAddr::V4(ip) => ip != Ipv4Addr::BROADCAST && !ip.is_unspecified(),
            IpAddr::V6(ip) => !ip.is_unspecified() && ip.to_ipv4_mapped().is_none(),
        };
        let host = host && !client.ip().is_multicast() && !client.ip().is_loopback();
        let fits = service.is_ipv4() == client.is_ipv4() && service.port() != 0;
        (host && fits && client.port() != 0).then_some(Connection { service, client })
    }
}

#[cfg(test)]
mod tests;
