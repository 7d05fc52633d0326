//! The socket for sock_diag(7). A dump walks the kernel's table of connections without holding up
//! anybody; it is still nothing for the heart, because it can be long.

use std::io;
use std::net::IpAddr;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::Connection;
use super::sock_diag::{self, Body, ID_BYTES, States};
use crate::limits::{NETLINK_ANSWER_DEADLINE, NETLINK_DATAGRAM_BYTES};
use crate::net::route_socket;

/// A TCP socket of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its two ends.
    pub connection: Connection,
    family: u8,
    id: [u8; ID_BYTES],
}

/// A socket for questions about sockets. Every wait for an answer is bounded.
pub struct DiagSocket {
    socket: Socket,
    sequence: u32,
    datagram: Vec<u8>,
}

impl DiagSocket {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// As socket(2); EPROTONOSUPPORT on a kernel without CONFIG_INET_DIAG.
    pub fn open() -> io::Result<DiagSocket> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        let deadline_us = i64::try_from(NETLINK_ANSWER_DEADLINE.as_micros()).unwrap_or(i64::MAX);
        let deadline = TimeVal::new(deadline_us / 1_000_000, deadline_us % 1_000_000);
        setsockopt(&socket, sockopt::ReceiveTimeout, &deadline)?;
        Ok(DiagSocket { socket, sequence: 0, datagram: Vec::with_capacity(NETLINK_DATAGRAM_BYTES) })
    }

    /// Calls `each` for every TCP connection of this host in `states` whose own address is one of `ips`.
    ///
    /// # Errors
    /// The kernel's refusal, or a failure of the socket: then not all were seen.
    pub fn connections(
        &mut self,
        ips: &[IpAddr],
        states: States,
        each: &mut dyn FnMut(Found),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut out = Vec::new();
        sock_diag::build_dump(states, ips, self.sequence, &mut out);
        self.ask(&out, &mut |family, id| {
            if let Some(connection) = sock_diag::connection(family, &id)
                && ips.contains(&connection.service.ip())
            {
                each(Found { connection, family, id });
            }
        })
    }

    /// Closes a connection, both for the program here and, if the address is still here, for the client.
    /// One that is gone already is no error.
    ///
    /// # Errors
    /// EOPNOTSUPP on a kernel without CONFIG_INET_DIAG_DESTROY; or a failure of the socket.
    pub fn close(&mut self, found: &Found) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut out = Vec::new();
        sock_diag::build_destroy(found.family, &found.id, self.sequence, &mut out);
        match self.ask(&out, &mut |_, _| {}) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            other => other,
        }
    }

    /// Sends a request and reads to the end of the answer.
    fn ask(&mut self, request: &[u8], each: &mut dyn FnMut(u8, [u8; ID_BYTES])) -> io::Result<()> {
        let wanted = self.sequence;
        self.socket.send(request, 0)?;
        let mut end = None;
        while end.is_none() {
            match route_socket::receive(&self.socket, &mut self.datagram) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            sock_diag::read(&self.datagram, &mut |sequence, body| match body {
                Body::Socket(family, id) if sequence == wanted => each(family, id),
                Body::End(errno) if sequence == wanted => end = Some(errno),
                Body::Socket(..) | Body::End(_) | Body::Other => {}
            });
        }
        match end.flatten() {
            None => Ok(()),
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}
