//! The three paths of one node, each open or waiting to be opened again.

use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use nix::errno::Errno;
use serialport::TTYPort;

use super::buffer::FrameBuffer;
use super::cobs::Unstuffed;
use super::codec::{Codec, Session};
use super::crossover::Crossover;
use super::lan::Lan;
use super::message::{Beat, DropReason, Incoming, Path, Pulse};
use super::serial::Serial;
use super::will::Farewell;
use crate::config::ring::{KeyRing, KeyState, RingError};
use crate::config::{Config, NodeIndex};

/// Beats of a path that were not sent, by reason. They are not sent later: a late beat is worthless.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// Earlier ones still filled the queue of the interface or of the serial line.
    pub queue_full: u64,
    /// No carrier, no route, refused by a router or a firewall.
    pub unreachable: u64,
    /// The path was not open.
    pub closed: u64,
}

enum Socket {
    Crossover(Crossover),
    Serial(Serial),
    Lan(Lan),
}

/// What a path was open with. To drop it may wait for the kernel, or for a driver.
pub struct Closed(Socket);

impl Closed {
    /// Its descriptor: it leaves an epoll set by being dropped, at the latest.
    pub fn fd(&self) -> RawFd {
        self.0.fd()
    }
}

#[derive(Default)]
struct Slot {
    socket: Option<Socket>,
    closed: Option<Closed>,
    fault: Option<io::Error>,
    unsent: Unsent,
}

/// All paths of this node, with the codec of their frames.
///
/// ```text
///   opened                            send or receive failed for good, or Paths::close
///   ------------------------> open ----------------------------------> closed, with its fault
///                               ^            opened again                  |
///                               +------------------------------------------+
/// ```
/// What passes by itself (no carrier, no route, a full queue, an ICMP error) closes nothing. Nothing in here waits;
/// whoever takes what was closed ([`Paths::take_closed`]) may.
pub struct Paths {
    codec: Codec,
    has_serial: bool,
    own_address: IpAddr,
    peer_address: IpAddr,
    slots: [Slot; 3],
    frame: FrameBuffer,
}

impl Paths {
    /// All paths of a node, closed.
    pub fn new(config: &Config, me: NodeIndex, codec: Codec) -> Paths {
        let node = config.node(me);
        Paths {
            codec,
            has_serial: node.serial.is_some(),
            own_address: node.address,
            peer_address: config.node(me.other()).address,
            slots: Default::default(),
            frame: FrameBuffer::new(),
        }
    }

    /// Whether the config has that path.
    pub fn is_configured(&self, path: Path) -> bool {
        match path {
            Path::Crossover | Path::Lan => true,
            Path::Serial => self.has_serial,
        }
    }

    /// Opens the crossover on the interface of that index, by whatever name. Needs CAP_NET_RAW.
    ///
    /// # Errors
    /// No such interface, or not permitted. Also kept as the path's fault.
    pub fn open_crossover(&mut self, interface_index: u32) -> io::Result<()> {
        let opened = Crossover::open(interface_index);
        self.opened(Path::Crossover, opened.map(Socket::Crossover))
    }

    /// Opens the LAN path on the interface of that index. Needs CAP_NET_BIND_SERVICE.
    ///
    /// # Errors
    /// No such interface or address, or not permitted. Also kept as the path's fault.
    pub fn open_lan(&mut self, interface_index: u32) -> io::Result<()> {
        let opened = Lan::open(interface_index, self.own_address, self.peer_address);
        self.opened(Path::Lan, opened.map(Socket::Lan))
    }

    /// The serial line was opened, or not.
    ///
    /// # Errors
    /// Why not. Also kept as the path's fault.
    pub fn line_opened(&mut self, line: io::Result<Serial>) -> io::Result<()> {
        self.opened(Path::Serial, line.map(Socket::Serial))
    }

    fn opened(&mut self, path: Path, opened: io::Result<Socket>) -> io::Result<()> {
        let slot = slot_mut(&mut self.slots, path);
        match opened {
            Ok(socket) => {
                slot.put_away();
                slot.socket = Some(socket);
                slot.fault = None;
                Ok(())
            }
            Err(error) => Err(slot.close(error)),
        }
    }

    /// Closes a path, for this reason.
    pub fn close(&mut self, path: Path, fault: io::Error) {
        slot_mut(&mut self.slots, path).close(fault);
    }

    /// What paths were open with that are closed now. To be called after whatever may have closed one.
    pub fn take_closed(&mut self) -> impl Iterator<Item = Closed> {
        self.slots.iter_mut().filter_map(|slot| slot.closed.take())
    }

    /// Why the path is closed; `None` if it is open or not configured.
    pub fn fault(&self, path: Path) -> Option<&io::Error> {
        self.slot(path).fault.as_ref()
    }

    /// Beats that were not sent on this path.
    pub fn unsent(&self, path: Path) -> Unsent {
        self.slot(path).unsent
    }

    /// The path's descriptor, to wait on; another one when it was opened again; `None` while it is closed.
    pub fn fd(&self, path: Path) -> Option<RawFd> {
        self.slot(path).socket.as_ref().map(Socket::fd)
    }

    /// Sends a beat, or drops and counts it ([`Paths::unsent`]). Never blocks.
    ///
    /// # Errors
    /// The path failed for good (interface or device gone) and is closed now.
    pub fn send(&mut self, path: Path, beat: &Beat) -> io::Result<()> {
        let slot = slot_mut(&mut self.slots, path);
        let sent = match &slot.socket {
            None => {
                slot.unsent.closed += 1;
                return Ok(());
            }
            Some(Socket::Crossover(crossover)) => {
                speak(&mut self.codec, path, beat, &mut self.frame, |frame| crossover.send(frame))
            }
            Some(Socket::Lan(lan)) => {
                speak(&mut self.codec, path, beat, &mut self.frame, |frame| lan.send(frame))
            }
            // A frame that is dropped for want of room must not cost its group the turn.
            Some(Socket::Serial(serial)) => serial.check_room().and_then(|()| {
                self.codec.encode(path, beat, &mut self.frame);
                serial.send(&self.frame)
            }),
        };
        slot.after_sending(sent)
    }

    /// Sends a pulse on the serial line, or drops and counts it. Never blocks.
    ///
    /// # Errors
    /// The line failed for good and is closed now.
    pub fn send_pulse(&mut self, pulse: &Pulse) -> io::Result<()> {
        let slot = slot_mut(&mut self.slots, Path::Serial);
        let Some(Socket::Serial(serial)) = &slot.socket else {
            slot.unsent.closed += 1;
            return Ok(());
        };
        let sent = serial.check_room().and_then(|()| {
            self.codec.encode_pulse(pulse, &mut self.frame);
            serial.send(&self.frame)
        });
        slot.after_sending(sent)
    }

    /// Whether the pair may go on with these keys: see [`Codec::may_use`].
    ///
    /// # Errors
    /// Why not.
    pub fn may_use(&self, ring: &KeyRing, peer_incarnation: u64) -> Result<(), RingError> {
        self.codec.may_use(ring, peer_incarnation)
    }

    /// Goes on with these keys.
    pub fn set_ring(&mut self, ring: &KeyRing) {
        self.codec.set_ring(ring);
    }

    /// The keys in use.
    pub fn ring(&self) -> &KeyRing {
        self.codec.ring()
    }

    /// How far a change of the key is, with this incarnation of the peer.
    pub fn key_state(&self, peer_incarnation: u64) -> KeyState {
        self.codec.key_state(peer_incarnation)
    }

    /// The port of the serial line while that is open, for who asks for its modem lines.
    pub fn line_port(&self) -> Option<Arc<TTYPort>> {
        match &self.slot(Path::Serial).socket {
            Some(Socket::Serial(serial)) => Some(serial.port()),
            Some(Socket::Crossover(_) | Socket::Lan(_)) | None => None,
        }
    }

    /// Bytes that the serial line has brought of a frame whose end has not come.
    pub fn line_held_bytes(&self) -> usize {
        match &self.slot(Path::Serial).socket {
            Some(Socket::Serial(serial)) => serial.held_bytes(),
            Some(Socket::Crossover(_) | Socket::Lan(_)) | None => 0,
        }
    }

    /// The last will as frames for every path that is open, for the guard to send.
    pub fn farewells(&mut self, will: &Beat) -> Vec<Farewell> {
        let mut farewells = Vec::new();
        for path in Path::ALL {
            let Some(socket) = &slot_mut(&mut self.slots, path).socket else { continue };
            self.codec.encode_will(path, will, &mut self.frame);
            farewells.extend(match socket {
                Socket::Crossover(crossover) => Some(crossover.will(&self.frame)),
                Socket::Lan(lan) => Some(lan.will(&self.frame)),
                Socket::Serial(_) => Serial::will(&self.frame),
            });
        }
        farewells
    }

    /// Gives what has come in on the path to `each`, at most `limit` frames or refusals. `true`: more
    /// may be waiting, and edge-triggered polling will not tell again. Never blocks. Of the serial line
    /// polling tells only when as much as a pulse waits: while [`Paths::line_held_bytes`] are there, look again.
    ///
    /// `session` is used for the whole call: make it just before.
    ///
    /// # Errors
    /// The path failed for good (interface or device gone, line hung up) and is closed now.
    pub fn receive(
        &mut self,
        path: Path,
        session: &Session,
        limit: usize,
        each: &mut dyn FnMut(Result<Incoming, DropReason>),
    ) -> io::Result<bool> {
        let slot = slot_mut(&mut self.slots, path);
        let Some(socket) = &mut slot.socket else { return Ok(false) };
        let codec = &mut self.codec;
        let mut decode = |frame: Result<&[u8], DropReason>| {
            each(frame.and_then(|bytes| codec.decode(path, bytes, session)));
        };
        for _ in 0..limit {
            let received = match socket {
                Socket::Crossover(crossover) => crossover.receive().map(|got| got.map(&mut decode)),
                Socket::Lan(lan) => lan.receive().map(|got| got.map(&mut decode)),
                Socket::Serial(serial) => match serial.next_frame() {
                    Some(found) => {
                        decode(found.as_ref().map(Unstuffed::as_slice).map_err(|reason| *reason));
                        Ok(Some(()))
                    }
                    None => serial.fill().map(|more| more.then_some(())),
                },
            };
            match received {
                Ok(Some(())) => {}
                Ok(None) => return Ok(false),
                // Told once by the kernel; the next call receives again.
                Err(error) if Setback::of(&error).is_some() => {}
                Err(error) => return Err(slot.close(error)),
            }
        }
        Ok(true)
    }

    fn slot(&self, path: Path) -> &Slot {
        let [crossover, serial, lan] = &self.slots;
        match path {
            Path::Crossover => crossover,
            Path::Serial => serial,
            Path::Lan => lan,
        }
    }
}

/// Sends a beat, and after it the announcement of a new key if that is due: lost like any frame, it comes again.
fn speak(
    codec: &mut Codec,
    path: Path,
    beat: &Beat,
    frame: &mut FrameBuffer,
    send: impl Fn(&FrameBuffer) -> io::Result<()>,
) -> io::Result<()> {
    codec.encode(path, beat, frame);
    send(frame)?;
    if codec.announce(path, beat, frame) { send(frame) } else { Ok(()) }
}

/// Not a method, so that the codec can be used beside it.
fn slot_mut(slots: &mut [Slot; 3], path: Path) -> &mut Slot {
    let [crossover, serial, lan] = slots;
    match path {
        Path::Crossover => crossover,
        Path::Serial => serial,
        Path::Lan => lan,
    }
}

impl Socket {
    fn fd(&self) -> RawFd {
        match self {
            Socket::Crossover(crossover) => crossover.fd(),
            Socket::Serial(serial) => serial.fd(),
            Socket::Lan(lan) => lan.fd(),
        }
    }
}

impl Slot {
    /// Counts a frame that could not be sent; closes the path if it failed for good.
    fn after_sending(&mut self, sent: io::Result<()>) -> io::Result<()> {
        let Err(error) = sent else { return Ok(()) };
        match Setback::of(&error) {
            Some(Setback::QueueFull) => self.unsent.queue_full += 1,
            Some(Setback::Unreachable) => self.unsent.unreachable += 1,
            None => return Err(self.close(error)),
        }
        Ok(())
    }

    /// Closes the path, keeps the fault and gives back a copy of it.
    fn close(&mut self, fault: io::Error) -> io::Error {
        let copy = match fault.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(fault.kind(), fault.to_string()),
        };
        self.put_away();
        self.fault = Some(fault);
        copy
    }

    fn put_away(&mut self) {
        if let Some(socket) = self.socket.take() {
            self.closed = Some(Closed(socket));
        }
    }
}

/// An error that passes by itself: the socket stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Setback {
    QueueFull,
    Unreachable,
}

impl Setback {
    fn of(error: &io::Error) -> Option<Setback> {
        if error.kind() == io::ErrorKind::WouldBlock {
            return Some(Setback::QueueFull);
        }
        match Errno::from_raw(error.raw_os_error()?) {
            Errno::ENOBUFS | Errno::ENOMEM => Some(Setback::QueueFull),
            Errno::ECONNREFUSED
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::EPERM => Some(Setback::Unreachable),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
