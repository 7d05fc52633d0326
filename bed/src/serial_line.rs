//! The null-modem line: two ptys, and between them a thread that moves bytes at the speed of a line.
//!
//! A pty has no speed, so the thread takes a byte from one side only when the byte before it has left
//! the line: 10 bits each (8N1). What a side can't take is lost, as in a UART.

use std::collections::VecDeque;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::pty::openpty;
use nix::sys::termios::{FlushArg, SetArg, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use nix::sys::time::TimeSpec;
use nix::unistd::{read, ttyname, write};

use super::BedError;
use crate::limits;
use clusterd::config::NodeIndex;
use clusterd::sys::realtime;

/// Bytes moved at most in one go when the thread itself was late.
const BURST_BYTES: usize = 64;

/// The line with its two ends.
#[derive(Debug)]
pub struct SerialLine {
    ends: [PathBuf; 2],
    /// Held open, so that a dying daemon does not hang up the line.
    slaves: [OwnedFd; 2],
    state: Arc<State>,
    relay: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    stop: AtomicBool,
    carries: AtomicBool,
    noise_per_mille: AtomicU32,
    moved_bytes: AtomicU64,
    /// The newest bytes that came out at each end, lower first.
    heard: [Mutex<VecDeque<u8>>; 2],
}

impl State {
    fn heard(&self, node: NodeIndex) -> &Mutex<VecDeque<u8>> {
        let [lower, upper] = &self.heard;
        match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        }
    }
}

impl SerialLine {
    /// Makes the line. It carries nothing before [`SerialLine::set_carries`].
    ///
    /// # Errors
    /// No pty to be had.
    pub fn new(baud: u32) -> Result<SerialLine, BedError> {
        let (lower_master, lower_slave) = raw_pty()?;
        let (upper_master, upper_slave) = raw_pty()?;
        let ends = [ttyname(&lower_slave)?, ttyname(&upper_slave)?];
        let state = Arc::new(State::default());
        let byte_time = Duration::from_secs(1) * limits::SERIAL_BITS_PER_BYTE / baud.max(1);
        let shared = Arc::clone(&state);
        let relay = std::thread::Builder::new().name("bed-serial".into()).spawn(move || {
            // Without the right to real time the line is a little less even.
            let _ = realtime::set_thread_priority(limits::BED_PRIORITY);
            relay(&lower_master, &upper_master, byte_time, &shared);
        })?;
        Ok(SerialLine { ends, slaves: [lower_slave, upper_slave], state, relay: Some(relay) })
    }

    /// The device of a node's end.
    pub fn device(&self, node: NodeIndex) -> &Path {
        let [lower, upper] = &self.ends;
        match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        }
    }

    /// Whether bytes arrive, or vanish because the cable is out or an end has no power.
    pub fn set_carries(&self, carries: bool) {
        self.state.carries.store(carries, Ordering::SeqCst);
    }

    /// Disturbs the line: of a thousand bytes so many are changed, and as many are added.
    pub fn set_noise(&self, per_mille: u32) {
        self.state.noise_per_mille.store(per_mille, Ordering::SeqCst);
    }

    /// Throws away what waits in a node's end, as a machine that boots finds its UART empty.
    ///
    /// # Errors
    /// As tcflush(3).
    pub fn flush(&self, node: NodeIndex) -> Result<(), BedError> {
        let [lower, upper] = &self.slaves;
        let slave = match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        };
        Ok(tcflush(slave, FlushArg::TCIOFLUSH)?)
    }

    /// A way to put bytes on the line to a node, between those of its peer.
    ///
    /// # Errors
    /// No descriptor to be had.
    pub fn mouth(&self, to: NodeIndex) -> Result<File, BedError> {
        // What is written to the other end travels the line as that node's own bytes do.
        let [lower, upper] = &self.slaves;
        let from = match to {
            NodeIndex::Lower => upper,
            NodeIndex::Upper => lower,
        };
        Ok(from.try_clone()?.into())
    }

    /// The newest bytes that came out at a node's end, at most [`limits::BED_LINE_HEARD_BYTES`].
    pub fn heard(&self, node: NodeIndex) -> Vec<u8> {
        let heard = self.state.heard(node).lock().unwrap_or_else(PoisonError::into_inner);
        heard.iter().copied().collect()
    }

    /// Bytes that came out of the line since it was made, both directions together.
    pub fn moved_bytes(&self) -> u64 {
        self.state.moved_bytes.load(Ordering::SeqCst)
    }
}

impl Drop for SerialLine {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        if let Some(relay) = self.relay.take() {
            let _ = relay.join();
        }
    }
}

fn raw_pty() -> Result<(OwnedFd, OwnedFd), BedError> {
    let pty = openpty(None, None)?;
    let mut termios = tcgetattr(&pty.slave)?;
    cfmakeraw(&mut termios);
    tcsetattr(&pty.slave, SetArg::TCSANOW, &termios)?;
    for fd in [&pty.master, &pty.slave] {
        fcntl(fd, FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC))?;
    }
    fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((pty.master, pty.slave))
}

/// One direction of the line.
struct Wire {
    /// When the line will have sent the last byte that it took; `None`: it is idle.
    free_at: Option<Instant>,
    random: u64,
    /// Whose end it comes out at.
    to: NodeIndex,
}

fn relay(lower: &OwnedFd, upper: &OwnedFd, byte_time: Duration, state: &State) {
    let mut up = Wire { free_at: None, random: 0x9e37_79b9_7f4a_7c15, to: NodeIndex::Upper };
    let mut down = Wire { free_at: None, random: 0xd1b5_4a32_d192_ed03, to: NodeIndex::Lower };
    while !state.stop.load(Ordering::SeqCst) {
        let busy =
            up.step(lower, upper, byte_time, state) | down.step(upper, lower, byte_time, state);
        if busy {
            std::thread::sleep(limits::BED_LINE_TICK);
        } else {
            let mut fds = [
                PollFd::new(lower.as_fd(), PollFlags::POLLIN),
                PollFd::new(upper.as_fd(), PollFlags::POLLIN),
            ];
            let _ = ppoll(&mut fds, Some(TimeSpec::from(limits::BED_LOOK_EVERY)), None);
        }
    }
}

impl Wire {
    /// Moves what the line had time for since the last step; `true` while it is busy.
    fn step(&mut self, from: &OwnedFd, to: &OwnedFd, byte_time: Duration, state: &State) -> bool {
        let now = Instant::now();
        let free_at = self.free_at.unwrap_or(now);
        if free_at > now {
            return true;
        }
        let late = (now - free_at).as_nanos() / byte_time.as_nanos().max(1);
        let room = usize::try_from(late).unwrap_or(BURST_BYTES).saturating_add(1).min(BURST_BYTES);
        let mut buffer = [0u8; BURST_BYTES];
        let length = match buffer.get_mut(..room).map(|part| read(from, part)) {
            Some(Ok(length)) if length > 0 => length,
            // Nothing there: EAGAIN. Any other error ends with the bed.
            _ => {
                self.free_at = None;
                return false;
            }
        };
        if state.carries.load(Ordering::SeqCst)
            && let Some(bytes) = buffer.get(..length)
        {
            self.deliver(bytes, to, state);
        }
        let sent = byte_time * u32::try_from(length).unwrap_or(u32::MAX);
        // After a pause of the thread itself the line does not catch up more than one burst.
        self.free_at = Some((free_at + sent).max(now - byte_time * (BURST_BYTES as u32)));
        true
    }

    fn deliver(&mut self, bytes: &[u8], to: &OwnedFd, state: &State) {
        let noise = state.noise_per_mille.load(Ordering::SeqCst);
        let mut out = Vec::with_capacity(bytes.len() * 2);
        for &byte in bytes {
            let flip = if self.chance(noise) { 1 << (self.next() % 8) } else { 0 };
            out.push(byte ^ flip);
            if self.chance(noise) {
                out.push(self.next().to_le_bytes()[0]);
            }
        }
        if let Ok(length) = write(to, &out) {
            state.moved_bytes.fetch_add(length as u64, Ordering::SeqCst);
            let mut heard = state.heard(self.to).lock().unwrap_or_else(PoisonError::into_inner);
            heard.extend(out.iter().take(length));
            let old = heard.len().saturating_sub(limits::BED_LINE_HEARD_BYTES);
            heard.drain(..old);
        }
    }

    fn chance(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.next() % 1000 < u64::from(per_mille)
    }

    /// xorshift64 (Marsaglia 2003): enough for noise.
    fn next(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}
