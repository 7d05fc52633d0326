//! The heart's sockets: the three paths, the LAN watches and the echo. Reads a bounded number of frames
//! from each in a round, and opens again what failed, at most once a second.

use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::aside::{Aside, Done};
use super::counts::Counts;
use super::line_tail::LineTail;
use super::socket::PathSocket;
use crate::beat::codec::Session;
use crate::beat::paths::Paths;
use crate::beat::pulse_time;
use crate::beat::{Beat, DropReason, Farewell, Incoming, Path, Pulse};
use crate::config::ring::{KeyRing, KeyState, RingError};
use crate::config::{Config, Mac, Nic, NodeIndex};
use crate::core::Time;
use crate::limits;
use crate::net::{Echo, LanWatch, LinkInfo, Seen};

/// Tokens that [`Sockets`] uses, from its first one on: the paths, the LAN watches, the echo.
pub const TOKENS: usize = 6;
const LAN_TOKEN: usize = Path::ALL.len();
const ECHO_TOKEN: usize = LAN_TOKEN + 2;

/// The watch of an interface on the LAN.
struct Lan {
    nic: Nic,
    /// Index of the interface; `None`: there is none now.
    index: Option<u32>,
    watch: Option<LanWatch>,
    socket: PathSocket,
    token: Token,
}

/// The paths, the LAN watches and the echo.
pub struct Sockets {
    paths: Paths,
    /// In the order of [`Path::ALL`]; `None`: not configured.
    path_sockets: [Option<PathSocket>; 3],
    line_tail: LineTail,
    /// The first is that of the LAN interface; the other is there if a group is held on the third.
    lans: Vec<Lan>,
    /// Index of the crossover's interface; `None`: there is none now.
    crossover: Option<u32>,
    /// Some service address or reach host needs neighbour discovery.
    ipv6: bool,
    own_address: IpAddr,
    /// Reach hosts beyond the LAN.
    beyond: Vec<IpAddr>,
    echo: Option<Echo>,
    /// `None`: nobody is to be asked that way.
    echo_socket: Option<PathSocket>,
    registry: Registry,
    first_token: usize,
    /// Opens and closes what takes long.
    aside: Aside,
    /// ARP and neighbour discovery frames that were not sent: queue full, interface down.
    unsent: u64,
    /// Echoes that were not sent: no route, queue full, interface down.
    echoes_unsent: u64,
}

impl Sockets {
    /// Takes over the paths, to register what is opened with tokens from `first_token` on. All is closed, until
    /// the netlink thread says which interfaces there are, and [`Sockets::reopen`] is called.
    pub fn new(
        config: &Config,
        me: NodeIndex,
        paths: Paths,
        registry: Registry,
        first_token: usize,
        aside: Aside,
    ) -> Sockets {
        let node = config.node(me);
        let lan = |nic, name, token| Lan {
            nic,
            index: None,
            watch: None,
            socket: PathSocket::new(name),
            token: Token(first_token + LAN_TOKEN + token),
        };
        let mut lans = vec![lan(Nic::Lan, "LAN watch", 0)];
        if node.redundant.is_some() && config.uses_redundant() {
            lans.push(lan(Nic::Redundant, "LAN watch of the third interface", 1));
        }
        let socket = |path: Path| paths.is_configured(path).then(|| PathSocket::new(path.name()));
        let beyond = hosts_beyond(config);
        Sockets {
            path_sockets: Path::ALL.map(socket),
            line_tail: LineTail::new(
                node.serial.as_ref().map_or(Duration::ZERO, |line| pulse_time(line.baud)),
            ),
            paths,
            lans,
            crossover: None,
            ipv6: needs_nd(config),
            own_address: node.address,
            echo: None,
            echo_socket: (!beyond.is_empty()).then(|| PathSocket::new("reach echo")),
            beyond,
            registry,
            first_token,
            aside,
            unsent: 0,
            echoes_unsent: 0,
        }
    }

    /// Notes an event with this token; `false`: it is not for the sockets.
    pub fn note(&mut self, token: Token) -> bool {
        match token.0.checked_sub(self.first_token) {
            Some(place) if place < self.path_sockets.len() => {
                if let Some(Some(socket)) = self.path_sockets.get_mut(place) {
                    socket.ready = true;
                }
                true
            }
            Some(ECHO_TOKEN) => {
                if let Some(socket) = &mut self.echo_socket {
                    socket.ready = true;
                }
                true
            }
            Some(place) if place < TOKENS => {
                for lan in self.lans.iter_mut().filter(|lan| lan.token == token) {
                    lan.socket.ready = true;
                }
                true
            }
            Some(_) | None => false,
        }
    }

    /// Whether some socket was left with frames unread.
    pub fn more_waiting(&self) -> bool {
        let mut sockets = self.path_sockets.iter().chain([&self.echo_socket]).flatten();
        self.lans.iter().any(|lan| lan.socket.ready) || sockets.any(|socket| socket.ready)
    }

    /// Whether something may be waiting to be read on a path.
    pub fn is_ready(&self, path: Path) -> bool {
        self.path_sockets
            .get(path.index())
            .is_some_and(|socket| socket.as_ref().is_some_and(|socket| socket.ready))
    }

    /// Reads at most [`limits::FRAMES_A_ROUND`] frames of a path.
    pub fn read_path(
        &mut self,
        path: Path,
        session: &Session,
        into: &mut Vec<Result<Incoming, DropReason>>,
    ) {
        let Some(Some(socket)) = self.path_sockets.get_mut(path.index()) else { return };
        if !socket.ready {
            return;
        }
        let (frames, held) = (into.len(), self.paths.line_held_bytes());
        let mut take = |frame| into.push(frame);
        match self.paths.receive(path, session, limits::FRAMES_A_ROUND, &mut take) {
            Ok(more) => socket.read(more),
            Err(error) => socket.failed(&error),
        }
        if path == Path::Serial {
            let held_now = self.paths.line_held_bytes();
            let brought = into.len() > frames || held_now != held;
            self.line_tail.looked(Time(session.now_us), brought, held_now > 0);
        }
    }

    /// The end of a frame may have come on the serial line. To be called in every round.
    pub fn look_for_tail(&mut self, now: Time) {
        if self.line_tail.is_due(now)
            && let Some(socket) = self.socket(Path::Serial)
        {
            socket.ready = true;
        }
    }

    /// When to call [`Sockets::look_for_tail`], if nothing happens before.
    pub fn tail_at(&self) -> Option<Time> {
        self.line_tail.at()
    }

    /// Reads at most [`limits::FRAMES_A_ROUND`] frames of ARP and neighbour discovery of each watch.
    pub fn read_lan(&mut self, into: &mut Vec<(Nic, Seen)>) {
        for Lan { nic, watch, socket, .. } in &mut self.lans {
            let Some(watch) = watch.as_mut().filter(|_| socket.ready) else { continue };
            match watch.receive(limits::FRAMES_A_ROUND, &mut |seen| into.push((*nic, seen))) {
                Ok(more) => socket.read(more),
                Err(error) if is_gone(&error) => socket.failed(&error),
                // Told once by the kernel (ENETDOWN); the next call receives again.
                Err(_) => socket.read(true),
            }
        }
    }

    /// Reads at most [`limits::FRAMES_A_ROUND`] answers of hosts beyond the LAN: who, and to which round.
    pub fn read_echo(&mut self, into: &mut Vec<(IpAddr, u32)>) {
        let (Some(echo), Some(socket)) = (&mut self.echo, &mut self.echo_socket) else { return };
        if !socket.ready {
            return;
        }
        match echo.receive(limits::FRAMES_A_ROUND, &mut |host, round| into.push((host, round))) {
            Ok(more) => socket.read(more),
            Err(error) => socket.failed(&error),
        }
    }

    /// Sends a beat, or drops it if its path is closed or full: a late beat is worthless.
    pub fn send(&mut self, path: Path, beat: &Beat) {
        let Some(Some(socket)) = self.path_sockets.get_mut(path.index()) else { return };
        if socket.open {
            let sent = self.paths.send(path, beat);
            socket.sent(sent);
        }
    }

    /// Sends a pulse on the serial line, or drops it as a beat.
    pub fn pulse(&mut self, pulse: &Pulse) {
        let Some(Some(socket)) = self.path_sockets.get_mut(Path::Serial.index()) else { return };
        if socket.open {
            let sent = self.paths.send_pulse(pulse);
            socket.sent(sent);
        }
    }

    /// Asks whether the far end of the serial line shows.
    pub fn look_at_line(&mut self, now: Time) {
        if let Some(port) = self.paths.line_port() {
            self.aside.look_at_line(now, port);
        }
    }

    /// Whether the far end of the serial line shows, if that was asked and the answer is new; takes in a line that
    /// was opened, and then says `true` beside it. To be called in every round.
    pub fn hear_aside(&mut self, now: Time) -> (Option<bool>, bool) {
        let (mut far_end, mut opened) = (None, false);
        while let Some(done) = self.aside.done() {
            match done {
                Done::LineOpened(line) => {
                    let result = self.paths.line_opened(line.map(|line| *line));
                    opened |= self.opened(Path::Serial, now, result);
                }
                // An answer about a line that was closed meanwhile comes before the next is open.
                Done::FarEnd(shows) => {
                    far_end = shows.filter(|_| self.paths.fd(Path::Serial).is_some());
                }
            }
        }
        if let Some(waited) = self.aside.newly_slow(now) {
            let seconds = waited.as_secs();
            log::warn!(
                "serial: the device's driver has not answered for {seconds} s; only the serial line hangs: is the \
                 adapter defective?"
            );
        }
        (far_end, opened)
    }

    /// Whether the serial line is in the middle of bringing a frame.
    pub fn is_line_busy(&self) -> bool {
        self.line_tail.is_busy()
    }

    /// Whether the heart may go on with these keys.
    ///
    /// # Errors
    /// Why not.
    pub fn may_use(&self, ring: &KeyRing, peer_incarnation: u64) -> Result<(), RingError> {
        self.paths.may_use(ring, peer_incarnation)
    }

    /// Goes on with these keys.
    pub fn set_ring(&mut self, ring: &KeyRing) {
        self.paths.set_ring(ring);
    }

    /// The keys in use.
    pub fn ring(&self) -> &KeyRing {
        self.paths.ring()
    }

    /// How far a change of the key is, with this incarnation of the peer.
    pub fn key_state(&self, peer_incarnation: u64) -> KeyState {
        self.paths.key_state(peer_incarnation)
    }

    /// The last will as frames for the paths that are open.
    pub fn farewells(&mut self, will: &Beat) -> Vec<Farewell> {
        self.paths.farewells(will)
    }

    /// Asks the LAN who has a service address. In the name of the interface itself: a question in the
    /// name of a group's own MAC would lead the switch to bring here what is meant for its owner.
    /// `from`: as from that address of this node, where it is of the same kind. Whether it could be sent.
    pub fn probe(&mut self, nic: Nic, mac: Option<Mac>, ip: IpAddr, from: Option<IpAddr>) -> bool {
        let from = from.filter(|from| from.is_ipv4() == ip.is_ipv4());
        let sent = self.on_lan(nic, |watch| match from {
            Some(from) => watch.ask(ip, from),
            None => watch.probe(ip),
        });
        let Some(Mac(mac)) = mac else { return sent };
        self.on_lan(nic, |watch| watch.probe_at(ip, mac)) && sent
    }

    /// Asks a reach host for its MAC.
    pub fn ask(&mut self, ip: IpAddr, from: IpAddr) {
        self.on_lan(Nic::Lan, |watch| watch.ask(ip, from));
    }

    /// Asks a reach host beyond the LAN.
    pub fn echo(&mut self, host: IpAddr, round: u32) {
        let (Some(echo), Some(socket)) = (&self.echo, &mut self.echo_socket) else { return };
        match echo.ask(host, round) {
            Ok(()) => socket.works(),
            Err(error) if is_gone(&error) => socket.failed(&error),
            Err(_) => self.echoes_unsent += 1,
        }
    }

    /// Tells the LAN that this node has a service address, at the interface's MAC or the group's own.
    pub fn announce(&mut self, nic: Nic, mac: Option<Mac>, ip: IpAddr) {
        self.on_lan(nic, |watch| watch.announce(ip, mac.map_or(watch.mac(), |Mac(bytes)| bytes)));
    }

    /// Opens again what failed and is due; whether that brought a path back. To be called in every round:
    /// it only compares times.
    pub fn reopen(&mut self, now: Time) -> bool {
        self.put_away();
        let mut opened = false;
        for path in Path::ALL {
            if !self.socket(path).is_some_and(|socket| socket.may_reopen(now)) {
                continue;
            }
            let result = match (path, self.crossover, self.lan_index()) {
                (Path::Serial, ..) => {
                    self.aside.open_line(now);
                    continue;
                }
                (Path::Crossover, Some(index), _) => self.paths.open_crossover(index),
                (Path::Lan, _, Some(index)) => self.paths.open_lan(index),
                (Path::Crossover, None, _) | (Path::Lan, _, None) => continue,
            };
            opened |= self.opened(path, now, result);
        }
        self.open_lan_watches(now);
        if self.echo_socket.as_ref().is_some_and(|socket| socket.may_reopen(now)) {
            self.open_echo(now);
        }
        opened
    }

    /// Another config is in effect: its addresses are watched, its hosts beyond the LAN are asked.
    pub fn configured(&mut self, config: &Config, now: Time) {
        let ipv6 = needs_nd(config);
        if ipv6 != self.ipv6 {
            self.ipv6 = ipv6;
            for lan in &mut self.lans {
                lan.socket.renew();
            }
            self.open_lan_watches(now);
        }
        let beyond = hosts_beyond(config);
        if beyond != self.beyond {
            self.echo_socket = (!beyond.is_empty()).then(|| PathSocket::new("reach echo"));
            self.beyond = beyond;
            self.open_echo(now);
        }
    }

    /// This is that interface on the LAN now; `None`: there is none. What was opened on another one is opened again
    /// at once.
    pub fn link_is(&mut self, nic: Nic, link: Option<&LinkInfo>) {
        let index = link.map(|link| link.index);
        if nic == Nic::Lan
            && self.echo.as_ref().is_some_and(|echo| Some(echo.interface_index()) != index)
        {
            self.close_echo();
            if let Some(socket) = &mut self.echo_socket {
                close_socket(socket, link);
            }
        }
        let Some(lan) = self.lans.iter_mut().find(|lan| lan.nic == nic) else { return };
        lan.index = index;
        let opened_on = lan.watch.as_ref().map(|watch| (watch.interface_index(), watch.mac()));
        let same = opened_on.is_some() && opened_on == link.map(|link| (link.index, link.mac));
        if same {
            return;
        }
        if let Some(watch) = lan.watch.take() {
            watch.fds().for_each(|fd| deregister(&self.registry, fd));
            self.aside.drop(watch);
        }
        close_socket(&mut lan.socket, link);
        if nic == Nic::Lan {
            self.close(Path::Lan, link);
        }
    }

    /// The same of the crossover's interface.
    pub fn crossover_is(&mut self, link: Option<&LinkInfo>) {
        self.crossover = link.map(|link| link.index);
        self.close(Path::Crossover, link);
    }

    fn close(&mut self, path: Path, link: Option<&LinkInfo>) {
        self.paths.close(path, replaced(link));
        if let Some(socket) = self.socket(path) {
            close_socket(socket, link);
        }
        self.put_away();
    }

    /// A path was opened, or not: whether it was.
    fn opened(&mut self, path: Path, now: Time, result: io::Result<()>) -> bool {
        let fd = self.paths.fd(path);
        let Some(socket) = self.socket(path) else { return false };
        match (result, fd) {
            (Ok(()), Some(fd)) => {
                socket.opened(now);
                self.register(fd, path);
                return true;
            }
            (Ok(()), None) => socket.not_opened(now, &ErrorKind::NotFound.into()),
            (Err(error), _) => socket.not_opened(now, &error),
        }
        false
    }

    /// Has what paths were open with closed beside the loop.
    fn put_away(&mut self) {
        for closed in self.paths.take_closed() {
            deregister(&self.registry, closed.fd());
            self.aside.drop(closed);
        }
    }

    /// Adds what was dropped so far, by reason.
    pub fn count(&self, counts: &mut Counts) {
        for path in Path::ALL {
            let unsent = self.paths.unsent(path);
            for (reason, count) in [
                ("queue full", unsent.queue_full),
                ("unreachable", unsent.unreachable),
                ("closed", unsent.closed),
            ] {
                counts.insert(format!("{} beats not sent, {reason}", path.name()), count);
            }
        }
        counts.insert("sockets closed in the loop".to_owned(), self.aside.dropped_in_the_loop());
        counts.insert("ARP or ND frames not sent".to_owned(), self.unsent);
        counts.insert("echoes not sent".to_owned(), self.echoes_unsent);
        let refused = self.echo.as_ref().map(Echo::refused).unwrap_or_default();
        for (reason, count) in
            [("length", refused.length), ("foreign", refused.foreign), ("forged", refused.forged)]
        {
            counts.insert(format!("echo replies refused, {reason}"), count);
        }
    }

    fn on_lan(&mut self, nic: Nic, send: impl FnOnce(&mut LanWatch) -> io::Result<()>) -> bool {
        let Some(Lan { watch: Some(watch), socket, .. }) =
            self.lans.iter_mut().find(|lan| lan.nic == nic && lan.socket.open)
        else {
            return false;
        };
        let sent = send(watch);
        match &sent {
            Ok(()) => socket.works(),
            Err(error) if is_gone(error) => socket.failed(error),
            Err(_) => self.unsent += 1,
        }
        sent.is_ok()
    }

    /// Opens the LAN watches that are closed and due.
    fn open_lan_watches(&mut self, now: Time) {
        for lan in self.lans.iter_mut().filter(|lan| lan.socket.may_reopen(now)) {
            let Some(index) = lan.index else { continue };
            if let Some(watch) = lan.watch.take() {
                // Until it is closed it would wake the heart.
                watch.fds().for_each(|fd| deregister(&self.registry, fd));
                self.aside.drop(watch);
            }
            match LanWatch::open(index, self.ipv6) {
                Ok(watch) => {
                    lan.socket.opened(now);
                    for fd in watch.fds() {
                        register(&self.registry, fd, lan.token);
                    }
                    lan.watch = Some(watch);
                }
                Err(error) => lan.socket.not_opened(now, &error),
            }
        }
    }

    fn open_echo(&mut self, now: Time) {
        self.close_echo();
        let Some(index) = self.lan_index() else { return };
        let Some(socket) = &mut self.echo_socket else { return };
        match Echo::open(index, self.own_address, &self.beyond) {
            Ok(echo) => {
                socket.opened(now);
                for fd in echo.fds() {
                    register(&self.registry, fd, Token(self.first_token + ECHO_TOKEN));
                }
                self.echo = Some(echo);
            }
            Err(error) => socket.not_opened(now, &error),
        }
    }

    fn close_echo(&mut self) {
        if let Some(echo) = self.echo.take() {
            echo.fds().for_each(|fd| deregister(&self.registry, fd));
            self.aside.drop(echo);
        }
    }

    fn lan_index(&self) -> Option<u32> {
        self.lans.first()?.index
    }

    fn register(&self, fd: RawFd, path: Path) {
        register(&self.registry, fd, Token(self.first_token + path.index()));
    }

    fn socket(&mut self, path: Path) -> Option<&mut PathSocket> {
        self.path_sockets.get_mut(path.index())?.as_mut()
    }
}

/// The reach hosts that echo asks.
fn hosts_beyond(config: &Config) -> Vec<IpAddr> {
    let hosts = config.reach_hosts.iter().copied();
    hosts.filter(|host| !config.is_on_lan(*host)).collect()
}

fn needs_nd(config: &Config) -> bool {
    let services = config.groups.iter().flat_map(|group| &group.addresses).map(|one| one.ip);
    let hosts = config.reach_hosts.iter().copied().filter(|host| config.is_on_lan(*host));
    services.chain(hosts).any(|ip| ip.is_ipv6())
}

/// What was opened on an interface is closed; at the start nothing was, and there is nothing to tell.
fn close_socket(socket: &mut PathSocket, link: Option<&LinkInfo>) {
    if socket.open || link.is_none() {
        socket.close(&replaced(link));
    } else {
        socket.renew();
    }
}

/// Why what was opened on an interface is closed.
fn replaced(link: Option<&LinkInfo>) -> io::Error {
    io::Error::other(match link {
        Some(_) => "the interface is another one now",
        None => "there is no such Ethernet interface",
    })
}

/// The interface that the socket was bound to does not exist any more.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}

/// Edge-triggered, as all of mio: a hang-up that stays is told once, and cannot spin.
fn register(registry: &Registry, fd: RawFd, token: Token) {
    let registered = registry.register(&mut SourceFd(&fd), token, Interest::READABLE);
    if let Err(error) = registered {
        log::warn!("cannot watch socket {fd}: {error}");
    }
}

/// From now on it wakes nobody, however long it takes to close it.
fn deregister(registry: &Registry, fd: RawFd) {
    // What is not registered needs nothing.
    let _ = registry.deregister(&mut SourceFd(&fd));
}
