//! The watcher: which node's kernel held which service address when.
//!
//! One netlink socket hears the address messages of both nodes' namespaces, so they come in the order
//! in which the kernel did them: two owners are never an accident of reading two sockets in turn. A
//! node is known by the number that its namespace has for the socket: interfaces come and go.

use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};

use super::BedError;
use super::wiring::Wiring;
use crate::limits;
use clusterd::config::NodeIndex;
use clusterd::sys::ns::Namespace;
use clusterd::sys::realtime;

/// RTNLGRP_IPV4_IFADDR and RTNLGRP_IPV6_IFADDR (linux/rtnetlink.h).
const ADDRESS_GROUPS: [u32; 2] = [5, 9];
/// Room for address messages that wait for the watcher, in bytes.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Longest datagram of the kernel, in bytes (netlink(7): a page or 8 KiB, dumps up to 32).
const DATAGRAM_BYTES: usize = 64 << 10;
/// Longest time between two looks at whether to stop.
const LOOK_EVERY_MS: u16 = 50;

/// A node held an address from then until then; `None`: still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// The address.
    pub ip: IpAddr,
    /// Who held it.
    pub node: NodeIndex,
    /// Since when.
    pub from: Instant,
    /// Until when.
    pub until: Option<Instant>,
}

/// Moments with two owners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TwoOwners {
    /// How many.
    pub moments: usize,
    /// How long together.
    pub total: Duration,
}

/// A watcher that watches as long as this value lives.
#[derive(Debug)]
pub struct Watcher {
    ips: Vec<IpAddr>,
    book: Arc<Mutex<Book>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Book {
    holdings: Vec<Holding>,
    off: Vec<NodeIndex>,
    /// Messages that were lost, or not understood.
    missed: u64,
}

impl Watcher {
    /// Watches `ips` on both nodes.
    ///
    /// # Errors
    /// No netlink socket, or no right to hear other namespaces (CAP_NET_BROADCAST in each).
    pub fn start(wiring: &Wiring, ips: Vec<IpAddr>) -> Result<Watcher, BedError> {
        let (socket, namespaces) = wiring.switch.run(|| listen(wiring))??;
        let book = Arc::new(Mutex::new(Book::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let (in_thread, stop_thread, watched) = (Arc::clone(&book), Arc::clone(&stop), ips.clone());
        let thread = std::thread::Builder::new().name("bed-watcher".into()).spawn(move || {
            // Without the right to real time the durations are a little less exact, the order is not.
            let _ = realtime::set_thread_priority(limits::BED_PRIORITY);
            watch(&socket, namespaces, &watched, &in_thread, &stop_thread);
        })?;
        Ok(Watcher { ips, book, stop, thread: Some(thread) })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node has no power from now on: it holds nothing.
    pub fn off(&self, node: NodeIndex) {
        let mut book = self.book();
        book.off.push(node);
        let now = Instant::now();
        for ip in &self.ips {
            book.close(*ip, node, now);
        }
    }

    /// The node has power again.
    pub fn on(&self, node: NodeIndex) {
        self.book().off.retain(|off| *off != node);
    }

    /// Who holds `ip` now.
    pub fn holders(&self, ip: IpAddr) -> Vec<NodeIndex> {
        let book = self.book();
        let open =
            book.holdings.iter().filter(|holding| holding.ip == ip && holding.until.is_none());
        open.map(|holding| holding.node).collect()
    }

    /// When each address came to `node`, since `mark`, in that order.
    pub fn arrivals_since(&self, node: NodeIndex, mark: Instant) -> Vec<Instant> {
        let book = self.book();
        let came = book.holdings.iter().filter(|held| held.node == node && held.from > mark);
        came.map(|held| held.from).collect()
    }

    /// How often an address came to another node than the one that had it before, since `mark`.
    pub fn moves_since(&self, mark: Instant) -> usize {
        let book = self.book();
        let moves = |ip: &IpAddr| {
            let of_ip: Vec<&Holding> = book.holdings.iter().filter(|held| held.ip == *ip).collect();
            of_ip
                .windows(2)
                .filter(|pair| match pair {
                    [before, after] => after.from > mark && after.node != before.node,
                    _ => false,
                })
                .count()
        };
        self.ips.iter().map(moves).max().unwrap_or(0)
    }

    /// Moments since `mark` at which both nodes held the same address.
    pub fn two_owners_since(&self, mark: Instant) -> TwoOwners {
        two_owners(&self.book().holdings, mark, Instant::now())
    }

    /// Messages that were lost: if there are any, this watcher proves nothing.
    pub fn missed(&self) -> u64 {
        self.book().missed
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Book {
    fn note(&mut self, ip: IpAddr, node: NodeIndex, held: bool) {
        let now = Instant::now();
        if !held {
            self.close(ip, node, now);
        } else if !self.off.contains(&node) && self.open(ip, node).is_none() {
            if self.holdings.len() < limits::BED_INTERVALS_MAX {
                self.holdings.push(Holding { ip, node, from: now, until: None });
            } else {
                self.missed += 1;
            }
        }
    }

    fn close(&mut self, ip: IpAddr, node: NodeIndex, now: Instant) {
        if let Some(holding) = self.open(ip, node) {
            holding.until = Some(now);
        }
    }

    fn open(&mut self, ip: IpAddr, node: NodeIndex) -> Option<&mut Holding> {
        self.holdings
            .iter_mut()
            .rev()
            .find(|held| held.ip == ip && held.node == node && held.until.is_none())
    }
}

/// Overlaps of two nodes' holdings of one address, after `mark`. An end and a beginning at one instant
/// are none.
fn two_owners(holdings: &[Holding], mark: Instant, now: Instant) -> TwoOwners {
    let mut found = TwoOwners::default();
    for (position, first) in holdings.iter().enumerate() {
        for second in holdings.iter().skip(position + 1) {
            if first.ip != second.ip || first.node == second.node {
                continue;
            }
            let from = first.from.max(second.from).max(mark);
            let until = first.until.unwrap_or(now).min(second.until.unwrap_or(now));
            if from < until {
                found.moments += 1;
                found.total += until - from;
            }
        }
    }
    found
}

/// A socket in the calling thread's namespace that hears the addresses of both nodes, and the numbers of
/// the nodes' namespaces for it, lower name first.
fn listen(wiring: &Wiring) -> Result<(Socket, [i32; 2]), BedError> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    // The kernel passes on only what comes from namespaces that have a number here.
    for node in NodeIndex::BOTH {
        let fd = u32::try_from(wiring.seat(node).namespace.as_raw_fd())
            .map_err(std::io::Error::other)?;
        let mut message = NsidMessage::default();
        message.attributes = vec![NsidAttribute::Fd(fd), NsidAttribute::Id(-1)];
        request(&socket, RouteNetlinkMessage::NewNsId(message), NLM_F_ACK)?;
        let (answer, _) = socket.recv_from_full()?;
        for message in messages(&answer)? {
            if let NetlinkPayload::Error(error) = message.payload
                && let Some(code) = error.code
                && code.get() != -libc::EEXIST
            {
                return Err(BedError::Io(error.to_io()));
            }
        }
    }
    let number = |node| number_of(&socket, &wiring.seat(node).namespace);
    let namespaces = [number(NodeIndex::Lower)?, number(NodeIndex::Upper)?];
    socket.set_listen_all_namespaces(true)?;
    if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
        // Without CAP_NET_ADMIN in the first namespace: as much as is allowed.
        setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
    }
    for group in ADDRESS_GROUPS {
        socket.add_membership(group)?;
    }
    socket.set_non_blocking(true)?;
    Ok((socket, namespaces))
}

/// The number that a namespace has in that of the socket.
fn number_of(socket: &Socket, namespace: &Namespace) -> Result<i32, BedError> {
    let fd = u32::try_from(namespace.as_raw_fd()).map_err(std::io::Error::other)?;
    let mut message = NsidMessage::default();
    message.attributes = vec![NsidAttribute::Fd(fd)];
    request(socket, RouteNetlinkMessage::GetNsId(message), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let id = messages(&answer)?.into_iter().find_map(|message| match message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(answer)) => {
            answer.attributes.into_iter().find_map(|attribute| match attribute {
                NsidAttribute::Id(id) => Some(id),
                _ => None,
            })
        }
        _ => None,
    });
    id.ok_or_else(|| BedError::Netlink("a namespace has no number".to_owned()))
}

/// One datagram, and the number of the namespace that it is from.
fn receive(socket: &Socket, buffer: &mut [u8]) -> Result<(Vec<u8>, Option<i32>), BedError> {
    let mut space = nix::cmsg_space!(i32);
    let mut parts = [IoSliceMut::new(buffer)];
    let fd = socket.as_raw_fd();
    let received = recvmsg::<()>(fd, &mut parts, Some(&mut space), MsgFlags::MSG_TRUNC)?;
    let number = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::Unknown(other)
            if other.cmsg_header.cmsg_level == libc::SOL_NETLINK
                && other.cmsg_header.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID =>
        {
            other.data_bytes.first_chunk().copied().map(i32::from_ne_bytes)
        }
        _ => None,
    });
    let length = received.bytes;
    let bytes = buffer.get(..length).map(<[u8]>::to_vec);
    let bytes = bytes.ok_or_else(|| BedError::Netlink(format!("{length} bytes at once")))?;
    Ok((bytes, number))
}

fn watch(
    socket: &Socket,
    namespaces: [i32; 2],
    ips: &[IpAddr],
    book: &Mutex<Book>,
    stop: &AtomicBool,
) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    while !stop.load(Ordering::SeqCst) {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, LOOK_EVERY_MS);
        loop {
            let received = receive(socket, &mut buffer);
            let mut book = book.lock().unwrap_or_else(PoisonError::into_inner);
            let read = received.and_then(|(bytes, number)| Ok((messages(&bytes)?, number)));
            match read {
                Ok((messages, number)) => {
                    let mut nodes = NodeIndex::BOTH.into_iter().zip(namespaces);
                    let from = nodes.find(|(_, namespace)| Some(*namespace) == number);
                    let Some((node, _)) = from else { continue };
                    for message in messages {
                        if let Some((ip, held)) = change(&message)
                            && ips.contains(&ip)
                        {
                            book.note(ip, node, held);
                        }
                    }
                }
                Err(BedError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    book.missed += 1;
                    break;
                }
            }
        }
    }
}

/// The service addresses that the node's kernel holds now, by asking it: interface, address, prefix.
///
/// # Errors
/// No socket, or an answer that can't be read.
pub fn dump(namespace: &Namespace, ips: &[IpAddr]) -> Result<Vec<(u32, IpAddr, u8)>, BedError> {
    namespace.run(|| {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        request(&socket, RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        let mut held = Vec::new();
        loop {
            let (bytes, _) = socket.recv_from_full()?;
            for message in messages(&bytes)? {
                match &message.payload {
                    NetlinkPayload::Done(_) => return Ok(held),
                    NetlinkPayload::Error(error) => return Err(BedError::Io(error.to_io())),
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
                        if let Some(ip) = ip_of(address)
                            && ips.contains(&ip)
                        {
                            held.push((address.header.index, ip, address.header.prefix_len));
                        }
                    }
                    _ => {}
                }
            }
        }
    })?
}

fn request(socket: &Socket, message: RouteNetlinkMessage, flags: u16) -> Result<(), BedError> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    Ok(())
}

/// All messages of one datagram.
fn messages(bytes: &[u8]) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, BedError> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
            .map_err(|error| BedError::Netlink(error.to_string()))?;
        // Messages start at multiples of four (netlink(7)).
        let length = (message.header.length as usize).next_multiple_of(4);
        rest = rest.get(length..).unwrap_or_default();
        found.push(message);
    }
    Ok(found)
}

/// What an address message says: address, whether it is there now.
fn change(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<(IpAddr, bool)> {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
            Some((ip_of(address)?, true))
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(address)) => {
            Some((ip_of(address)?, false))
        }
        _ => None,
    }
}

/// IPv4 names its own address in IFA_LOCAL, IPv6 in IFA_ADDRESS alone.
fn ip_of(address: &AddressMessage) -> Option<IpAddr> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| {
        address.attributes.iter().find_map(wanted)
    };
    find(|attribute| match attribute {
        AddressAttribute::Local(ip) => Some(*ip),
        _ => None,
    })
    .or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })
    })
}
