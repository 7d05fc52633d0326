//! Being reached by the peer: on the crossover's link-local address and on the LAN address, as these
//! come and go. One thread accepts; each connection has one more until its first message is there.
//!
//! A stranger costs a thread for a few seconds, and there are only so many, for each way apart; on the
//! LAN only the peer's address gets as far as that. The peer dials from a privileged port, which has most
//! of the places. When they are taken, the oldest connection that has not proven its key makes room: who
//! says nothing keeps nobody out.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::EventFd;

use super::{Incoming, Link, LinkError, LinkPath, Secret, holder, notes, shut, socket};
use crate::limits;
use crate::mirror::address;

/// Ports below this are for root alone (ip(7)).
const PRIVILEGED_BELOW: u16 = 1024;

/// Where a node listens.
#[derive(Clone, Debug)]
pub struct Places {
    /// Interface of the crossover.
    pub crossover: String,
    /// This node's own address on the LAN.
    pub lan: IpAddr,
    /// The peer's own address on the LAN: nobody else is listened to there.
    pub peer_lan: IpAddr,
    /// The TCP port: [`limits::SYNC_PORT`], but for tests.
    pub port: u16,
}

/// What became of the connections that came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed over with their first message.
    pub taken: u64,
    /// Dropped: on the LAN, and not from the peer's address.
    pub strangers: u64,
    /// Dropped for a newer one: too many at once that had not said who they are.
    pub crowded: u64,
    /// Dropped: they do not know the secret.
    pub wrong_key: u64,
    /// Dropped: they ended, were too slow, or sent something else than a first message.
    pub unfinished: u64,
}

#[derive(Default)]
struct Counters {
    taken: AtomicU64,
    strangers: AtomicU64,
    crowded: AtomicU64,
    wrong_key: AtomicU64,
    unfinished: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Listens until it is ended or dropped.
pub struct Listener {
    over: Arc<EventFd>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

impl Listener {
    /// Listens at `places`, also at those that are not there yet. `arrived` gets each link of the peer
    /// with its first message, on threads of the listener; `own` is told this node's link-local address
    /// on the crossover whenever it begins or ceases to be listened on: it is for the heartbeats.
    /// Neither may wait for long, or the listener does, too.
    ///
    /// # Errors
    /// No thread or descriptor is to be had.
    pub fn start(
        secret: Secret,
        places: Places,
        arrived: impl Fn(Incoming) + Send + Sync + 'static,
        own: impl Fn(Option<Ipv6Addr>) + Send + 'static,
    ) -> io::Result<Listener> {
        let over = Arc::new(EventFd::new()?);
        let counters = Arc::new(Counters::default());
        let doors = [Door::new(LinkPath::Crossover), Door::new(LinkPath::Lan)];
        let porter =
            Porter { secret, places, arrived: Arc::new(arrived), counters: counters.clone() };
        let stop = over.clone();
        let thread = thread::Builder::new()
            .name("mirror-listen".to_owned())
            .spawn(move || porter.run(doors, &stop, own))?;
        Ok(Listener { over, counters, thread: Some(thread) })
    }

    /// What became of the connections that came until now.
    pub fn counts(&self) -> Counts {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counters { taken, strangers, crowded, wrong_key, unfinished } = &*self.counters;
        Counts {
            taken: of(taken),
            strangers: of(strangers),
            crowded: of(crowded),
            wrong_key: of(wrong_key),
            unfinished: of(unfinished),
        }
    }

    /// Ends it: its sockets are closed when this returns, but for the links that were handed over.
    pub fn end(self) {}
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = self.over.write(1) {
            log::error!("the mirror's listener could not be ended: {error}");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the mirror's listener panicked");
        }
    }
}

/// One of the two ways in.
struct Door {
    path: LinkPath,
    open: Option<(SocketAddr, TcpListener)>,
    /// Why it is not open, as it was logged.
    shut_for: Option<String>,
    /// Those that have not said who they are.
    half_open: Vec<HalfOpen>,
}

struct HalfOpen {
    /// Not an owner: a link that was handed over ends when its new owner drops it.
    stream: Weak<TcpStream>,
    /// It came from a port that only root has.
    privileged: bool,
    /// Its first bytes were right.
    has_spoken: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl HalfOpen {
    fn shut(&self) {
        if let Some(stream) = self.stream.upgrade() {
            shut(&stream);
        }
    }
}

impl Door {
    fn new(path: LinkPath) -> Door {
        Door { path, open: None, shut_for: None, half_open: Vec::new() }
    }

    /// Listens on `wanted` and nothing else.
    fn follow(&mut self, wanted: io::Result<Option<SocketAddr>>) {
        if let (Ok(Some(wanted)), Some((at, _))) = (&wanted, &self.open)
            && wanted == at
        {
            return;
        }
        self.open = None;
        match wanted {
            Ok(Some(at)) => match socket::open(at) {
                Ok(socket) => {
                    self.open = Some((at, socket));
                    self.shut_for = None;
                    notes::set_shut(self.path, None);
                }
                Err(error) => self.fail(&no_door(at, &error)),
            },
            // Its interface has no address: `status` tells of the path itself.
            Ok(None) => {
                self.shut_for = None;
                notes::set_shut(self.path, None);
            }
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Makes room for one more connection of this kind. True: another one was dropped for it.
    fn make_room(&mut self, privileged: bool) -> bool {
        self.half_open.retain(|half| !half.thread.is_finished());
        let places = match privileged {
            true => limits::MIRROR_HALF_OPEN_MAX,
            false => limits::MIRROR_HALF_OPEN_UNPRIVILEGED_MAX,
        };
        let of_kind = |half: &HalfOpen| half.privileged == privileged;
        if self.half_open.iter().filter(|half| of_kind(half)).count() < places {
            return false;
        }
        let is_silent = |half: &HalfOpen| !half.has_spoken.load(Ordering::Relaxed);
        // They are in the order in which they came.
        let oldest_silent = self.half_open.iter().position(|half| of_kind(half) && is_silent(half));
        let oldest = oldest_silent.or_else(|| self.half_open.iter().position(of_kind));
        if let Some(oldest) = oldest {
            // Its thread sees the end of the stream at once.
            self.half_open.remove(oldest).shut();
        }
        oldest.is_some()
    }

    /// Closes it until it is looked after again. The same reason is logged once.
    fn fail(&mut self, why: &str) {
        self.open = None;
        if self.shut_for.as_deref() != Some(why) {
            log::warn!("the mirror cannot be reached over the {}: {why}", self.path);
            self.shut_for = Some(why.to_owned());
            notes::set_shut(self.path, Some(why.to_owned()));
        }
    }
}

/// Why nobody can be listened to at an address, with the one who is there already.
fn no_door(at: SocketAddr, error: &io::Error) -> String {
    let (address, port) = (at.ip(), at.port());
    let taken = error.kind() == io::ErrorKind::AddrInUse;
    match taken.then(|| holder::of_port(port)).flatten() {
        Some(holder) => format!("{address} port {port}: {error}, by {holder}"),
        None => format!("{address} port {port}: {error}"),
    }
}

struct Porter<F> {
    secret: Secret,
    places: Places,
    arrived: Arc<F>,
    counters: Arc<Counters>,
}

impl<F: Fn(Incoming) + Send + Sync + 'static> Porter<F> {
    fn run(self, mut doors: [Door; 2], over: &EventFd, own: impl Fn(Option<Ipv6Addr>)) {
        let mut told = None;
        let mut look = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look {
                look = now + limits::MIRROR_LISTEN_EVERY;
                for door in &mut doors {
                    self.look_after(door);
                }
            }
            let [crossover, _] = &doors;
            let address = crossover.open.as_ref().and_then(|(at, _)| match at.ip() {
                IpAddr::V6(address) => Some(address),
                IpAddr::V4(_) => None,
            });
            if address != told {
                told = address;
                own(address);
            }
            match self.wait(&mut doors, over, look.saturating_duration_since(now)) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    // It cannot listen without; the links that are there go on.
                    log::error!("the mirror's listener ended: {error}");
                    break;
                }
            }
        }
        self.empty(doors);
        if told.is_some() {
            own(None);
        }
    }

    fn look_after(&self, door: &mut Door) {
        door.half_open.retain(|half| !half.thread.is_finished());
        let Places { crossover, lan, port, .. } = &self.places;
        match door.path {
            LinkPath::Crossover => {
                let at = address::link_local(crossover).map(|found| {
                    found.map(|own| SocketAddrV6::new(own.address, *port, 0, own.index).into())
                });
                door.follow(at);
            }
            LinkPath::Lan => door.follow(Ok(Some(SocketAddr::new(*lan, *port)))),
        }
    }

    /// Waits for connections and lets them in. `true`: it is over.
    fn wait(&self, doors: &mut [Door; 2], over: &EventFd, patience: Duration) -> io::Result<bool> {
        let mut fds = vec![PollFd::new(over.as_fd(), PollFlags::POLLIN)];
        let open = doors.iter().filter_map(|door| door.open.as_ref());
        fds.extend(open.map(|(_, socket)| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, socket::poll_timeout(patience)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds.first().and_then(PollFd::any) == Some(true) {
            return Ok(true);
        }
        for door in doors {
            let Some((_, listener)) = &door.open else { continue };
            match listener.accept() {
                Ok((stream, from)) => self.let_in(door, stream, from),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionAborted => {}
                    // Such as no descriptor left: closed for a moment, or it would be tried at once again.
                    _ => door.fail(&error.to_string()),
                },
            }
        }
        Ok(false)
    }

    fn let_in(&self, door: &mut Door, stream: TcpStream, from: SocketAddr) {
        let path = door.path;
        if path == LinkPath::Lan && from.ip() != self.places.peer_lan {
            return count(&self.counters.strangers);
        }
        let privileged = from.port() < PRIVILEGED_BELOW;
        if door.make_room(privileged) {
            count(&self.counters.crowded);
        }
        let stream = Arc::new(stream);
        let weak = Arc::downgrade(&stream);
        let has_spoken = Arc::new(AtomicBool::new(false));
        let spoke = Arc::clone(&has_spoken);
        let (secret, arrived, counters) =
            (self.secret.clone(), self.arrived.clone(), self.counters.clone());
        let greet = move || match greet(&secret, stream, path, &spoke) {
            Ok(incoming) => {
                count(&counters.taken);
                arrived(incoming);
            }
            Err(LinkError::Secret) => {
                count(&counters.wrong_key);
                notes::dropped(format!(
                    "a connection from {} over the {path} was dropped: it has another key or cluster name",
                    from.ip()
                ));
            }
            Err(
                LinkError::Closed
                | LinkError::Failed(_)
                | LinkError::Forged
                | LinkError::TooLong(_)
                | LinkError::Refused
                | LinkError::Cipher(_)
                | LinkError::Unreachable { .. },
            ) => count(&counters.unfinished),
        };
        match thread::Builder::new().name("mirror-greet".to_owned()).spawn(greet) {
            Ok(thread) => {
                door.half_open.push(HalfOpen { stream: weak, privileged, has_spoken, thread });
            }
            Err(error) => {
                count(&self.counters.unfinished);
                door.fail(&error.to_string());
            }
        }
    }

    /// Closes everything, and waits for the threads.
    fn empty(&self, doors: [Door; 2]) {
        let half_open = doors.into_iter().flat_map(|door| door.half_open);
        let half_open: Vec<HalfOpen> =
            half_open.filter(|half| !half.thread.is_finished()).collect();
        for half in &half_open {
            half.shut();
        }
        for half in half_open {
            if half.thread.join().is_err() {
                log::error!("a thread of the mirror's listener panicked");
            }
        }
    }
}

/// The handshake and the first message.
fn greet(
    secret: &Secret,
    stream: Arc<TcpStream>,
    path: LinkPath,
    has_spoken: &AtomicBool,
) -> Result<Incoming, LinkError> {
    let begun = Instant::now();
    socket::prepare(&stream)?;
    let noise = secret.respond(&stream, begun + limits::MIRROR_FIRST_BYTES_PATIENCE)?;
    has_spoken.store(true, Ordering::Relaxed);
    let deadline = begun + limits::MIRROR_HANDSHAKE_PATIENCE;
    let mut link = Link::new(stream, noise, path, limits::MIRROR_STALL_MAX);
    let hello = link.reader.first(limits::MIRROR_HELLO_BYTES_MAX, deadline)?;
    Ok(Incoming { hello, link })
}

#[cfg(test)]
mod tests;
