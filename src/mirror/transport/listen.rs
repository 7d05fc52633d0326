//! The standby's side: one thread that listens wherever the peer may come from, for all groups.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::frame::LinkError;
use super::{Cable, Link, Pacer, Secret, noise, socket};
use crate::limits;
use crate::mirror::address;
use crate::mirror::proto::{self, Envelope, ToReceiver};

/// A link whose other end knows the key and has said `Hello`.
#[derive(Debug)]
pub struct Incoming {
    /// The group that it names; perhaps none of ours.
    pub group: String,
    /// What it said, to be heard first.
    pub hello: Envelope<ToReceiver>,
    /// The link.
    pub link: Link,
}

/// Where to listen.
#[derive(Clone, Debug)]
pub struct Door {
    /// On which cable.
    pub cable: Cable,
    /// This node's interface there.
    pub interface: String,
    /// At which of its addresses.
    pub address: Address,
    /// Who alone may come; `None`: there is nobody else on the cable.
    pub from: Option<IpAddr>,
}

/// An address to listen at.
#[derive(Clone, Copy, Debug)]
pub enum Address {
    /// The interface's link-local one, whichever it is.
    LinkLocal,
    /// This one.
    Fixed(IpAddr),
}

/// How a door is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorState {
    /// On which cable.
    pub cable: Cable,
    /// Where it listens, or why it does not, in words; it is tried again each second.
    pub listens: Result<SocketAddr, String>,
}

/// What became of connections, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Handed on.
    pub welcome: u64,
    /// Dropped: not from the peer's address.
    pub not_peer: u64,
    /// Dropped: too many that had not said who they are.
    pub crowded: u64,
    /// Dropped: without the key, of another version, or not of our kind at all.
    pub strangers: u64,
    /// Dropped: they knew the key and then said no `Hello`, or too late.
    pub no_hello: u64,
    /// Dropped: the groups' engines did not take those before.
    pub not_taken: u64,
}

/// The listening thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Listener {
    shared: Arc<Shared>,
    /// Its other end becomes readable when this goes; `None` while dropping.
    alive: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    secret: Secret,
    pacer: Pacer,
    incoming: Sender<Incoming>,
    half_open: AtomicUsize,
    counts: Mutex<Counts>,
    doors: Mutex<Vec<DoorState>>,
}

impl Listener {
    /// Begins to listen at these doors, on `port`: [`limits::SYNC_PORT`]. `incoming` should have room
    /// for [`limits::MIRROR_INCOMING_MAX`].
    ///
    /// # Errors
    /// There is no thread or socket pair to be had. A door that cannot be opened is none: see
    /// [`Listener::doors`].
    pub fn open(
        doors: Vec<Door>,
        port: u16,
        secret: Secret,
        pacer: Pacer,
        incoming: Sender<Incoming>,
    ) -> io::Result<Listener> {
        let (alive, watched) = UnixStream::pair()?;
        let (half_open, counts) = (AtomicUsize::new(0), Mutex::default());
        let states = Mutex::new(Vec::new());
        let shared = Shared { secret, pacer, incoming, half_open, counts, doors: states };
        let shared = Arc::new(shared);
        let for_thread = shared.clone();
        let thread = thread::Builder::new()
            .name("mirror-listen".into())
            .spawn(move || run(doors, port, &watched, &for_thread))?;
        Ok(Listener { shared, alive: Some(alive), thread: Some(thread) })
    }

    /// How the doors are, in order; empty before the first look.
    pub fn doors(&self) -> Vec<DoorState> {
        lock(&self.shared.doors).clone()
    }

    /// What became of connections.
    pub fn counts(&self) -> Counts {
        *lock(&self.shared.counts)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        drop(self.alive.take());
        if let Some(thread) = self.thread.take() {
            // A panic ends the process: there is no other way for it to fail.
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(doors: Vec<Door>, port: u16, watched: &UnixStream, shared: &Arc<Shared>) {
    let mut doors: Vec<OpenDoor> = doors.into_iter().map(OpenDoor::new).collect();
    loop {
        for door in &mut doors {
            door.look(port);
        }
        *lock(&shared.doors) = doors.iter().map(OpenDoor::state).collect();
        let next_look = Instant::now() + limits::MIRROR_LISTEN_EVERY;
        while Instant::now() < next_look {
            if !wait(watched, &doors, next_look) {
                return;
            }
            for door in &mut doors {
                door.accept(shared);
            }
        }
    }
}

/// Waits for a connection or the next look; `false`: it is time to end.
fn wait(watched: &UnixStream, doors: &[OpenDoor], until: Instant) -> bool {
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up: a wait of nothing would be no wait.
    let left = u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX);
    let mut ready = vec![PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
    let sockets = doors.iter().filter_map(|door| door.open.as_ref());
    ready.extend(sockets.map(|open| PollFd::new(open.socket.as_fd(), PollFlags::POLLIN)));
    // EINTR, or a shortage of memory: both pass.
    let _ = poll(&mut ready, PollTimeout::from(left));
    ready.first().and_then(PollFd::any) != Some(true)
}

struct OpenDoor {
    door: Door,
    open: Option<Open>,
    why_not: String,
}

/// A listening socket with what it rests on: when one of these changes, so must it.
struct Open {
    socket: TcpListener,
    at: SocketAddr,
    address: IpAddr,
    interface_index: u32,
}

impl OpenDoor {
    fn new(door: Door) -> OpenDoor {
        OpenDoor { door, open: None, why_not: String::new() }
    }

    fn state(&self) -> DoorState {
        let listens = self.open.as_ref().map(|open| open.at).ok_or_else(|| self.why_not.clone());
        DoorState { cable: self.door.cable, listens }
    }

    /// Opens it, or anew if the interface or its address is another one.
    fn look(&mut self, port: u16) {
        let address = match self.door.address {
            Address::LinkLocal => address::link_local(&self.door.interface).map(IpAddr::V6),
            Address::Fixed(address) => Some(address),
        };
        let index = nix::net::if_::if_nametoindex(self.door.interface.as_str()).ok();
        let stands = self.open.as_ref().is_some_and(|open| {
            Some(open.address) == address && Some(open.interface_index) == index
        });
        if stands {
            return;
        }
        self.open = None;
        let (Some(address), Some(interface_index)) = (address, index) else {
            self.why_not = format!("{} has no address for the mirror yet", self.door.interface);
            return;
        };
        let opened = socket::listen_on(&self.door.interface, address, port)
            .and_then(|socket| Ok((socket.local_addr()?, socket)));
        match opened {
            Ok((at, socket)) => self.open = Some(Open { socket, at, address, interface_index }),
            Err(error) => {
                let interface = &self.door.interface;
                self.why_not =
                    format!("TCP port {port} at {address} on {interface} cannot be used: {error}");
            }
        }
    }

    /// Takes connections that wait, so many at most that the others have their turn.
    fn accept(&mut self, shared: &Arc<Shared>) {
        let Some(open) = &self.open else { return };
        for _ in 0..limits::MIRROR_HALF_OPEN_MAX {
            match open.socket.accept() {
                Ok((stream, from)) => self.receive(stream, from, shared),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                    ) => {}
                Err(error) => {
                    // Out of descriptors, say: at the next look again, and no turns in vain until then.
                    self.why_not = format!("connections cannot be taken: {error}");
                    self.open = None;
                    return;
                }
            }
        }
    }

    fn receive(&self, stream: TcpStream, from: SocketAddr, shared: &Arc<Shared>) {
        if self.door.from.is_some_and(|peer| peer != from.ip()) {
            lock(&shared.counts).not_peer += 1;
            return;
        }
        let Some(place) = Place::take(shared) else {
            lock(&shared.counts).crowded += 1;
            return;
        };
        let cable = self.door.cable;
        let spawned = thread::Builder::new()
            .name("mirror-greet".into())
            .spawn(move || place.greet(stream, cable));
        if spawned.is_err() {
            lock(&shared.counts).crowded += 1;
        }
    }
}

/// One of the few places for connections that have not said who they are.
struct Place(Arc<Shared>);

impl Place {
    fn take(shared: &Arc<Shared>) -> Option<Place> {
        let before = shared.half_open.fetch_add(1, Ordering::Relaxed);
        // Gives it back if it is one too many.
        let place = Place(shared.clone());
        (before < limits::MIRROR_HALF_OPEN_MAX).then_some(place)
    }

    fn greet(self, stream: TcpStream, cable: Cable) {
        let until = Instant::now() + limits::MIRROR_HANDSHAKE_PATIENCE;
        let shared = &self.0;
        let shaken = socket::tune(&stream)
            .map_err(LinkError::from)
            .and_then(|()| noise::respond(&stream, &shared.secret, until));
        let Ok(cipher) = shaken else {
            lock(&shared.counts).strangers += 1;
            return;
        };
        let mut link = Link::new(stream, cipher, cable, &shared.pacer);
        let Some((group, hello)) = hear_hello(&mut link, until) else {
            lock(&shared.counts).no_hello += 1;
            return;
        };
        match shared.incoming.try_send(Incoming { group, hello, link }) {
            Ok(()) => lock(&shared.counts).welcome += 1,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                lock(&shared.counts).not_taken += 1;
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.half_open.fetch_sub(1, Ordering::Relaxed);
    }
}

fn hear_hello(link: &mut Link, until: Instant) -> Option<(String, Envelope<ToReceiver>)> {
    let bytes = link.reader().receive_until(until).ok()?;
    let hello = proto::decode(&bytes).ok()?;
    match &hello.message {
        ToReceiver::Hello { group, .. } => Some((group.clone(), hello)),
        ToReceiver::AskBuckets
        | ToReceiver::AskListing { .. }
        | ToReceiver::Offer { .. }
        | ToReceiver::Data { .. }
        | ToReceiver::Close { .. }
        | ToReceiver::Withdraw { .. }
        | ToReceiver::Ping => None,
    }
}
