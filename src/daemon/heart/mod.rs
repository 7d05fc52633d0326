//! The heart: one mio loop that feeds the decision core and does what it says. It decides nothing.
//!
//! A round, in this order, so that what can take the right to serve away is known first:
//!
//! 0. sleep until something is there, the core's deadline, or [`limits::ROUND_MAX`];
//! 1. tick, for the guard;
//! 2. answers of the netlink thread: carriers, addresses, claims;
//! 3. the LAN watch, the echo and the paths, a bounded number of frames from each; if more is waiting the next
//!    round follows without sleep;
//! 4. the worker, the control socket, signals, the guard;
//! 5. the core's deadline, if it is over, after each of these.
//!
//! Every event is one [`Heart::handle`]: the clock is read, the core told, its commands done.
//!
//! | file | subject |
//! | --- | --- |
//! | `begin` | from a started process to the first round |
//! | `clock` | the time that the core is given |
//! | `sockets`, `socket` | the paths, the LAN watch and the echo: reading, sending, opening again; the state of each |
//! | `aside` | a thread for what a driver, or the kernel, is slow at: the serial line's device, closing sockets |
//! | `line_tail` | when to look for the end of a frame on the serial line |
//! | `lan_events` | what was seen on the LAN, in the core's words |
//! | `reload` | the config file and the key file, read anew by the worker; how far a change of the key is |
//! | `addresses` | the netlink thread, and what is sealed for the guard |
//! | `requests` | what administrators ask, in the core's words |
//! | `commands` | doing the core's commands |
//! | `counts` | what was dropped, told at a bounded rate |

mod addresses;
mod aside;
mod begin;
mod clock;
mod commands;
mod counts;
mod lan_events;
mod line_tail;
mod reload;
mod requests;
mod socket;
mod sockets;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;

pub use begin::{BeginError, run};

use self::addresses::AddressRequests;
use self::clock::Clock;
use self::counts::Counts;
use self::lan_events::LanEvents;
use self::reload::Reload;
use self::requests::Asked;
use self::sockets::Sockets;
use crate::beat::codec::Session;
use crate::beat::{Beat, DropReason, Incoming, Path};
use crate::config::ring::KeyState;
use crate::config::{Config, Nic, NodeIndex};
use crate::control::protocol::{Answer, Payload};
use crate::control::socket::Server;
use crate::core::{Core, Event, Link, Time};
use crate::daemon::channel::{HeartChannel, ToHeart};
use crate::daemon::config_slots::ConfigSlots;
use crate::daemon::guard::page::Page;
use crate::limits;
use crate::net::{NetReply, Seen};

const NET_THREAD: Token = Token(0);
const SIGNALS: Token = Token(1);
const GUARD: Token = Token(2);
const WORKER: Token = Token(3);
const FIRST_SOCKET: usize = 4;
const FIRST_CONTROL: usize = FIRST_SOCKET + sockets::TOKENS;

/// Everything that beats.
struct Heart {
    config: Arc<Config>,
    me: NodeIndex,
    clock: Clock,
    core: Core,
    poll: Poll,
    page: Page,
    sockets: Sockets,
    lan_events: LanEvents,
    addresses: AddressRequests,
    /// What the guard shall say if this heart dies; `None`: nothing.
    will: Option<Beat>,
    worker: HeartChannel,
    worker_may_have_more: bool,
    server: Server,
    signals: SignalFd,
    /// The config in effect, for the next heart, and one that the worker offers.
    config_slots: ConfigSlots,
    reload: Reload,
    /// How far a change of the key was when it was told last.
    key_state: KeyState,
    /// Readable when the guard is gone; `None`: that is known.
    guard: Option<OwnedFd>,
    /// Every event is recorded.
    recording: bool,
    /// The service manager knows that this heart beats.
    ready_told: bool,
    /// Events that commands caused, for the next round.
    own_events: VecDeque<Event>,
    house_kept_at: Time,
    /// What was dropped when it was told last, and when that was.
    counts: Counts,
    counts_told_at: Time,
    leaving: bool,
    /// Keeps the state directory ours as long as this process lives.
    _lock: OwnedFd,
    // Filled and emptied within one reading; kept for their memory.
    frames: Vec<Result<Incoming, DropReason>>,
    seen: Vec<(Nic, Seen)>,
    echoed: Vec<(IpAddr, u32)>,
}

impl Heart {
    /// Beats until the core says that all is handed over.
    fn live(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        self.obey();
        while !self.leaving {
            match self.poll.poll(&mut events, Some(self.sleep())) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            self.page.tick();
            self.hear_net();
            self.hear_aside();
            self.hear_sockets(&events);
            self.hear_house(&events);
            self.tick_if_due();
        }
        let end = Instant::now() + limits::LEAVE_PATIENCE;
        while !self.worker.flush() && Instant::now() < end {
            self.page.tick();
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn sleep(&self) -> Duration {
        if self.sockets.more_waiting() || self.worker_may_have_more || !self.own_events.is_empty() {
            return Duration::ZERO;
        }
        let due = self.core.next_deadline();
        let due = self.sockets.tail_at().map_or(due, |at| due.min(at));
        due.since(self.clock.now()).min(limits::ROUND_MAX)
    }

    /// Tells the core, with the time as it is now, and does what it says.
    fn handle(&mut self, event: Event) {
        let now = self.clock.now();
        if self.recording {
            commands::record(&mut self.worker, now, &event);
        }
        self.core.handle(now, event);
        self.obey();
    }

    fn obey(&mut self) {
        while let Some(command) = self.core.poll() {
            self.perform(command);
        }
    }

    fn tick_if_due(&mut self) {
        if self.clock.now() >= self.core.next_deadline() {
            self.handle(Event::Tick);
        }
    }

    fn hear_net(&mut self) {
        for _ in 0..self.own_events.len() {
            if let Some(event) = self.own_events.pop_front() {
                self.handle(event);
            }
        }
        for _ in 0..limits::NET_REPLIES_MAX {
            let Some(reply) = self.addresses.reply() else { break };
            match reply {
                NetReply::Swept => self.handle(Event::Swept),
                NetReply::Carrier { lan, crossover, crossover_down } => {
                    if let Some(up) = lan {
                        self.handle(Event::Carrier { link: Link::Lan, up });
                    }
                    let link = Link::Crossover;
                    match crossover {
                        Some(_) if crossover_down => self.handle(Event::SetDown { link }),
                        Some(up) => self.handle(Event::Carrier { link, up }),
                        None => {}
                    }
                }
                NetReply::Held { group, claim } => self.handle(Event::Held { group, claim }),
                NetReply::HoldFailed { group, claim, error } => {
                    self.handle(Event::HoldFailed { group, claim, error });
                }
                NetReply::Refused { group, refused, error } => {
                    self.handle(Event::AddressesRefused { group, refused, error });
                }
                NetReply::Renewed { group, claim } => self.handle(Event::Renewed { group, claim }),
                NetReply::Released { group, release } => {
                    self.handle(Event::Released { group, release });
                }
                NetReply::Trimmed { change } => self.addresses.trimmed(change, &mut self.page),
                NetReply::AddressLost { group } => self.handle(Event::AddressLost { group }),
                NetReply::AddressFound { group } => self.handle(Event::AddressFound { group }),
                NetReply::Link(nic, link) => {
                    if nic == Nic::Lan {
                        self.lan_events.own_mac_is(link.map(|link| link.mac));
                    }
                    self.sockets.link_is(nic, link.as_ref());
                    self.addresses.link_is(nic, link, &mut self.page);
                    if let (Nic::Lan, Some(link)) = (nic, link) {
                        self.handle(Event::LanMac { mac: link.mac });
                    }
                }
                NetReply::Crossover(link) => self.sockets.crossover_is(link.as_ref()),
                NetReply::Fault(text) => log::warn!("netlink: {text}"),
            }
        }
        self.addresses.ask_what_waits();
        self.tick_if_due();
    }

    fn hear_aside(&mut self) {
        let (far_end, opened) = self.sockets.hear_aside(self.clock.now());
        if opened {
            self.seal_will();
        }
        if let Some(up) = far_end {
            self.handle(Event::Carrier { link: Link::Serial, up });
        }
    }

    fn hear_sockets(&mut self, events: &Events) {
        for event in events {
            self.sockets.note(event.token());
        }
        self.sockets.look_for_tail(self.clock.now());
        if self.sockets.reopen(self.clock.now()) {
            self.seal_will();
        }
        let mut seen = std::mem::take(&mut self.seen);
        self.sockets.read_lan(&mut seen);
        for (nic, one) in seen.drain(..) {
            let (now, peer_mac) = (self.clock.now(), self.core.peer_mac());
            if let Some(event) = self.lan_events.event(now, nic, peer_mac, &one) {
                self.handle(event);
            }
        }
        self.seen = seen;
        let mut echoed = std::mem::take(&mut self.echoed);
        self.sockets.read_echo(&mut echoed);
        for (host, round) in echoed.drain(..) {
            if let Some(event) = self.lan_events.echoed(host, round) {
                self.handle(event);
            }
        }
        self.echoed = echoed;
        self.tick_if_due();
        let mut frames = std::mem::take(&mut self.frames);
        for path in Path::ALL {
            if !self.sockets.is_ready(path) {
                continue;
            }
            let session = self.session();
            self.sockets.read_path(path, &session, &mut frames);
            self.note_keys();
            if path == Path::Serial && self.sockets.is_line_busy() && self.core.is_asking() {
                self.handle(Event::LineBusy);
            }
            for frame in frames.drain(..) {
                match frame {
                    Ok(Incoming::Beat(beat)) => self.handle(Event::Heard { path, beat }),
                    Ok(Incoming::Pulse(pulse)) => self.handle(Event::Pulsed(pulse)),
                    Err(reason) => self.handle(Event::Refused { path, reason }),
                }
            }
            self.tick_if_due();
        }
        self.frames = frames;
        // The core may have met another incarnation of the peer.
        self.note_keys();
    }

    fn session(&self) -> Session {
        let (my_incarnation, peer_incarnation, peer_digest) = self.core.session();
        let now_us = self.clock.now().0;
        Session { my_incarnation, peer_incarnation, peer_digest, now_us }
    }

    fn hear_house(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                WORKER => self.worker_may_have_more = true,
                SIGNALS => self.hear_signals(),
                GUARD => self.hear_guard(),
                token if self.server.owns(token) => self.hear_administrator(token),
                // The netlink thread was heard first, the sockets know their tokens.
                _ => {}
            }
        }
        self.hear_worker();
        self.worker.flush();
        let now = self.clock.now();
        if now.since(self.house_kept_at) >= limits::KEEP_HOUSE_EVERY {
            self.house_kept_at = now;
            self.server.keep_house(self.poll.registry(), Instant::now());
        }
        if now.since(self.counts_told_at) >= limits::COUNTS_TOLD_EVERY {
            self.counts_told_at = now;
            self.tell_counts();
        }
    }

    fn tell_counts(&mut self) {
        let mut counts = Counts::new();
        self.sockets.count(&mut counts);
        let asked = self.server.counts();
        let channel = self.worker.dropped();
        for (reason, count) in [
            ("control requests, oversized", asked.oversized),
            ("control requests, malformed", asked.malformed),
            ("control connections, idle", asked.idle),
            ("control connections, too many", asked.too_many),
            ("control connections, hung up", asked.hung_up),
            ("events", channel.events),
            ("log and recorder lines", channel.lines),
            ("messages to the worker, oversized", channel.oversized),
            ("messages of the worker, malformed", channel.malformed),
        ] {
            counts.insert(reason.to_owned(), count);
        }
        if let Some(text) = counts::growth(&self.counts, &counts) {
            log::info!("{text}");
        }
        self.counts = counts;
    }

    fn hear_worker(&mut self) {
        for _ in 0..limits::MESSAGES_A_ROUND {
            if !self.worker_may_have_more {
                return;
            }
            match self.worker.receive() {
                Ok(Some(ToHeart::Persisted { write })) => self.handle(Event::Persisted { write }),
                Ok(Some(ToHeart::PersistFailed { error })) => {
                    self.handle(Event::PersistFailed { error });
                }
                Ok(Some(ToHeart::Services { group, report })) => {
                    self.handle(Event::Services { group, report });
                }
                Ok(Some(ToHeart::Mirror { group, report })) => {
                    self.handle(Event::Mirror { group, report });
                }
                Ok(Some(ToHeart::Tickled { group, tickled })) => {
                    self.handle(Event::Tickled { group, tickled });
                }
                Ok(Some(ToHeart::Synced { request, outcome })) => {
                    self.handle(Event::Synced { request, outcome });
                }
                Ok(Some(ToHeart::Note { group, kind, text })) => {
                    self.handle(Event::Noted { group, kind, text });
                }
                Ok(Some(ToHeart::SyncAddress(address))) => {
                    self.handle(Event::SyncAddress { address });
                }
                // The channel itself sends it the newest write again.
                Ok(Some(ToHeart::WorkerStarted)) => {
                    self.reload_lost();
                    self.tell_worker_of_keys();
                    self.handle(Event::WorkerStarted);
                }
                Ok(Some(ToHeart::Alive)) => self.handle(Event::WorkerAlive),
                Ok(Some(ToHeart::Offered { nonce, error })) => self.offered(nonce, error),
                // For a heart that begins.
                Ok(Some(ToHeart::HelloAck { .. })) => {}
                Ok(None) => self.worker_may_have_more = false,
                Err(error) => {
                    // Guard and worker are both gone. Nothing more will come by this way.
                    log::warn!("the worker is gone: {error}");
                    self.worker_may_have_more = false;
                }
            }
        }
    }

    fn hear_signals(&mut self) {
        // Only these two are in the set.
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == Signal::SIGHUP as u32 {
                self.begin_reload(None);
            } else {
                self.handle(Event::Shutdown);
            }
        }
    }

    /// The guard never writes: what can be read is its end.
    fn hear_guard(&mut self) {
        let Some(fd) = &self.guard else { return };
        if let Ok(0) = nix::unistd::read(fd, &mut [0; 1]) {
            let gone = self.guard.take();
            drop(gone);
            self.handle(Event::GuardGone);
        }
    }

    fn hear_administrator(&mut self, token: Token) {
        let now = Instant::now();
        let Some((number, request)) = self.server.ready(token, self.poll.registry(), now) else {
            return;
        };
        match requests::read(request, &self.config, self.me) {
            Asked::Reload => self.begin_reload(Some(number)),
            Asked::Wish(wish) => self.handle(Event::Wished { request: number, wish }),
            Asked::Unknown(what) => self.server.answer(number, &Answer::Unknown(what), now),
            Asked::Status => {
                let status = Box::new(self.core.status(self.clock.now()));
                self.server.answer(number, &Answer::Ok(Payload::Status(status)), now);
            }
        }
    }
}

#[cfg(test)]
mod tests;
