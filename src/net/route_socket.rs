//! NETLINK_ROUTE sockets: one for requests and their answers, one for news (netlink(7)).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use super::link_messages::{self, Interface};
use super::netlink::{self, Address, Body, Change, Message};
use crate::limits::{
    NET_TRIES, NETLINK_ANSWER_DEADLINE, NETLINK_DATAGRAM_BYTES, NETLINK_MONITOR_BURST,
    NETLINK_MONITOR_BYTES, NETLINK_PIPELINE,
};

/// Multicast groups of rtnetlink(7): RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV6_IFADDR.
const NEWS_GROUPS: [u32; 3] = [1, 5, 9];
/// Own sequence numbers start above those of the deletions that were built in advance.
const FIRST_SEQUENCE: u32 = 1 << 16;

/// A socket for requests. The kernel works on a request inside `send`, under its rtnl lock: no
/// deadline bounds that. Waiting for an answer is bounded.
pub struct RouteSocket {
    socket: Socket,
    sequence: u32,
    out: Vec<u8>,
    datagram: Vec<u8>,
}

impl RouteSocket {
    /// Opens the socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// As socket(2) and bind(2).
    pub fn open() -> io::Result<RouteSocket> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_cap_ack(true)?;
        let deadline_us = i64::try_from(NETLINK_ANSWER_DEADLINE.as_micros()).unwrap_or(i64::MAX);
        let deadline = TimeVal::new(deadline_us / 1_000_000, deadline_us % 1_000_000);
        setsockopt(&socket, sockopt::ReceiveTimeout, &deadline)?;
        Ok(RouteSocket {
            socket,
            sequence: FIRST_SEQUENCE,
            out: Vec::with_capacity(8192),
            datagram: Vec::with_capacity(NETLINK_DATAGRAM_BYTES),
        })
    }

    /// Makes all changes; deleting what is not there is no error. Each is tried even if one before it
    /// was refused.
    ///
    /// # Errors
    /// The first refusal, with what it is about, or a failure of the socket.
    pub fn change(&mut self, changes: &[Change]) -> io::Result<()> {
        match self.change_each(changes)?.pop_first() {
            None => Ok(()),
            Some((_, error)) => Err(error),
        }
    }

    /// The same; each refusal by the place of its change.
    ///
    /// # Errors
    /// A failure of the socket.
    pub fn change_each(&mut self, changes: &[Change]) -> io::Result<BTreeMap<usize, io::Error>> {
        let mut refused = BTreeMap::new();
        for (part, first) in changes.chunks(NETLINK_PIPELINE).zip((0..).step_by(NETLINK_PIPELINE)) {
            self.again(|route| {
                route.change_part(part, &mut |place, error| {
                    refused.insert(first + place, error);
                })
            })?;
        }
        Ok(refused)
    }

    /// Makes so many changes as fit into one datagram; tells each refusal.
    fn change_part(
        &mut self,
        part: &[Change],
        refused: &mut dyn FnMut(usize, io::Error),
    ) -> io::Result<()> {
        let first = self.sequence;
        self.out.clear();
        for change in part {
            change.build(self.sequence, &mut self.out);
            self.sequence = self.next_sequence();
        }
        self.socket.send(&self.out, 0)?;
        let mut waiting = part.len();
        while waiting > 0 {
            self.receive()?;
            netlink::read(&self.datagram, &mut |message| {
                let place = usize::try_from(message.sequence.wrapping_sub(first));
                let change = place.ok().and_then(|place| Some((place, part.get(place)?)));
                let (Some((place, change)), Body::Answer(errno)) = (change, message.body) else {
                    return;
                };
                waiting = waiting.saturating_sub(1);
                if let Some(errno) = errno.filter(|&errno| !change.is_done_by(errno)) {
                    let error = io::Error::from_raw_os_error(errno);
                    let text = format!("{}: {error}", change.subject());
                    refused(place, io::Error::new(error.kind(), text));
                }
            });
        }
        Ok(())
    }

    /// Asks once more when the answer was lost, for want of memory: what is asked for here may be done
    /// twice. Answers to the lost question are told by their sequence number.
    fn again<R>(&mut self, mut ask: impl FnMut(&mut Self) -> io::Result<R>) -> io::Result<R> {
        for _ in 1..NET_TRIES {
            match ask(self) {
                // EBUSY: the dump of which the end was not read goes on.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EBUSY)) => {
                }
                other => return other,
            }
        }
        ask(self)
    }

    /// Sends one request that was built in advance and waits for its answer. Allocates nothing.
    ///
    /// # Errors
    /// The kernel's refusal, or a failure of the socket.
    pub fn send_built(&mut self, request: &[u8]) -> io::Result<()> {
        let sequence = netlink::sequence_of(request)?;
        self.socket.send(request, 0)?;
        loop {
            self.receive()?;
            let mut answer = None;
            netlink::read(&self.datagram, &mut |message| match message.body {
                Body::Answer(errno) if message.sequence == sequence => answer = Some(errno),
                Body::Answer(_)
                | Body::Done(_)
                | Body::Overrun
                | Body::Address(_)
                | Body::AddressGone(_)
                | Body::Interface(_)
                | Body::InterfaceGone(_)
                | Body::Other => {}
            });
            match answer {
                None => {}
                Some(None) => return Ok(()),
                Some(Some(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }

    /// Calls `each` for every address of this host. When a change interrupts the dump it starts
    /// again, and `each` may see an address twice. Allocates nothing.
    ///
    /// # Errors
    /// `Interrupted` when every try was disturbed; else a failure of the socket or the kernel.
    pub fn addresses(&mut self, each: &mut dyn FnMut(&Address)) -> io::Result<()> {
        for _ in 0..NET_TRIES {
            if self.again(|route| route.dump(each))? {
                return Ok(());
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "the list of addresses changed each time it was read",
        ))
    }

    /// One dump of all addresses; whether nothing disturbed it.
    fn dump(&mut self, each: &mut dyn FnMut(&Address)) -> io::Result<bool> {
        self.sequence = self.next_sequence();
        let sequence = self.sequence;
        self.out.clear();
        netlink::build_address_dump(sequence, &mut self.out);
        self.socket.send(&self.out, 0)?;
        let mut interrupted = false;
        let mut end = None;
        while end.is_none() {
            self.receive()?;
            netlink::read(&self.datagram, &mut |message| {
                if message.sequence != sequence {
                    return;
                }
                interrupted |= message.interrupted;
                match message.body {
                    Body::Address(address) => each(&address),
                    Body::Done(errno) | Body::Answer(errno) => end = Some(errno),
                    Body::Overrun => interrupted = true,
                    Body::AddressGone(_)
                    | Body::Interface(_)
                    | Body::InterfaceGone(_)
                    | Body::Other => {}
                }
            });
        }
        match end.flatten() {
            Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            None => Ok(!interrupted),
        }
    }

    /// Looks at the interface of that name; `None` when there is none.
    ///
    /// # Errors
    /// A failure of the socket, or a refusal of the kernel.
    pub fn interface(&mut self, name: &str) -> io::Result<Option<Interface>> {
        self.again(|route| route.ask_interface(name))
    }

    fn ask_interface(&mut self, name: &str) -> io::Result<Option<Interface>> {
        self.sequence = self.next_sequence();
        let sequence = self.sequence;
        self.out.clear();
        link_messages::build_interface_request(name, sequence, &mut self.out);
        self.socket.send(&self.out, 0)?;
        loop {
            self.receive()?;
            let mut answer = None;
            netlink::read(&self.datagram, &mut |message: Message| {
                if message.sequence != sequence {
                    return;
                }
                match message.body {
                    Body::Interface(interface) => answer = Some(Ok(Some(interface))),
                    Body::Answer(Some(libc::ENODEV)) => answer = Some(Ok(None)),
                    Body::Answer(Some(errno)) => {
                        answer = Some(Err(io::Error::from_raw_os_error(errno)));
                    }
                    Body::Answer(None)
                    | Body::Done(_)
                    | Body::Overrun
                    | Body::Address(_)
                    | Body::AddressGone(_)
                    | Body::InterfaceGone(_)
                    | Body::Other => {}
                }
            });
            if let Some(answer) = answer {
                return answer;
            }
        }
    }

    fn next_sequence(&self) -> u32 {
        self.sequence.checked_add(1).unwrap_or(FIRST_SEQUENCE)
    }

    /// Receives one datagram of the kernel.
    fn receive(&mut self) -> io::Result<()> {
        loop {
            match receive(&self.socket, &mut self.datagram) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the kernel did not answer a netlink request",
                    ));
                }
                other => return other,
            }
        }
    }
}

/// Index of the interface of that name or altname. Waits for the kernel's rtnl lock: not for the heart's loop. (Nor is
/// if_nametoindex(3): it has the kernel run modprobe, and wait, where there is none of that name. And it knows no
/// long names.)
///
/// # Errors
/// ENODEV: there is none. Or as socket(2).
pub fn interface_index(name: &str) -> io::Result<u32> {
    let found = RouteSocket::open()?.interface(name)?;
    Ok(found.ok_or(nix::errno::Errno::ENODEV)?.index)
}

/// A socket for news about interfaces and addresses.
pub struct Monitor {
    socket: Socket,
    datagram: Vec<u8>,
}

impl Monitor {
    /// Opens the socket in the calling thread's network namespace. Needs CAP_NET_ADMIN for its large
    /// receive buffer.
    ///
    /// # Errors
    /// As socket(2), bind(2) and setsockopt(2).
    pub fn open() -> io::Result<Monitor> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.set_non_blocking(true)?;
        setsockopt(&socket, sockopt::RcvBufForce, &NETLINK_MONITOR_BYTES)?;
        for group in NEWS_GROUPS {
            socket.add_membership(group)?;
        }
        Ok(Monitor { socket, datagram: Vec::with_capacity(NETLINK_DATAGRAM_BYTES) })
    }

    /// Calls `each` for the news that has come in. Returns whether there may be more.
    ///
    /// # Errors
    /// Any error means that news was lost and everything must be looked at again; ENOBUFS when it came
    /// faster than it was read.
    pub fn read(&mut self, each: &mut dyn FnMut(Body)) -> io::Result<bool> {
        for _ in 0..NETLINK_MONITOR_BURST {
            match receive(&self.socket, &mut self.datagram) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            netlink::read(&self.datagram, &mut |message| each(message.body));
        }
        Ok(true)
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Receives one datagram that the kernel itself sent; one of another process is skipped.
pub(super) fn receive(socket: &Socket, datagram: &mut Vec<u8>) -> io::Result<()> {
    #[cfg(test)]
    loss::strike(socket)?;
    loop {
        datagram.clear();
        let (length, from) = socket.recv_from(datagram, libc::MSG_TRUNC)?;
        if length > datagram.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("a netlink datagram of {length} bytes is longer than the buffer"),
            ));
        }
        if from.port_number() == 0 {
            return Ok(());
        }
    }
}

/// Loss to order: a thread's receives fail as they do when the kernel had no room.
#[cfg(test)]
pub(super) mod loss {
    use std::cell::Cell;

    use super::*;

    /// Receives that still go well, receives that fail then, and whether those lose what they would have
    /// received.
    #[derive(Clone, Copy)]
    pub struct Loss {
        pub after: u32,
        pub times: u32,
        pub eats: bool,
    }

    thread_local!(static ORDERED: Cell<Option<Loss>> = const { Cell::new(None) });

    /// Orders it for the calling thread, or takes back what is left of an order.
    pub fn order(loss: Option<Loss>) -> Option<Loss> {
        ORDERED.replace(loss)
    }

    pub fn strike(socket: &Socket) -> io::Result<()> {
        let Some(loss) = ORDERED.get().filter(|loss| loss.times > 0) else { return Ok(()) };
        if loss.after > 0 {
            ORDERED.set(Some(Loss { after: loss.after - 1, ..loss }));
            return Ok(());
        }
        ORDERED.set(Some(Loss { times: loss.times - 1, ..loss }));
        if loss.eats {
            let mut nowhere = Vec::with_capacity(NETLINK_DATAGRAM_BYTES);
            let _ = socket.recv_from(&mut nowhere, libc::MSG_DONTWAIT);
        }
        Err(io::Error::from_raw_os_error(libc::ENOBUFS))
    }
}
