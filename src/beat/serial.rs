//! The serial path: a null-modem line.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{FlushArg, tcflush};
use serialport::{DataBits, FlowControl, Parity, StopBits, TTYPort};

use super::buffer::FrameBuffer;
use super::cobs::{Deframer, OVERHEAD_BYTES, Stuffed, Unstuffed};
use super::message::{DropReason, Path};
use super::will::Farewell;
use super::{frame, pulse, serial_frame};
use crate::config::SerialLine;
use crate::limits::{
    INTRODUCE_EVERY, INTRODUCTION_BYTES_MAX, SERIAL_BEAT_BYTES_MAX, SERIAL_BITS_PER_BYTE,
    SERIAL_SHARE,
};
use crate::sys::tty;

/// Bytes read from the line at once.
const CHUNK_BYTES: usize = 256;
/// The kernel tells of the line when as much as a pulse waits there: with less it would wake the heart
/// two or three times for each.
const LEAST_BYTES: u8 = (pulse::BYTES + OVERHEAD_BYTES) as u8;

/// An open serial line. To open it, to close it and to ask for its modem lines may wait for its driver, one of a USB
/// adapter for seconds; nothing else does.
pub struct Serial {
    port: Arc<TTYPort>,
    deframer: Deframer,
    chunk: [u8; CHUNK_BYTES],
    /// What of the chunk was not looked at yet.
    unread: std::ops::Range<usize>,
    /// The last reading left nothing.
    drained: bool,
}

impl Serial {
    /// Opens the line: raw, 8N1, no flow control, and forgets what was on it.
    ///
    /// # Errors
    /// No such device, not permitted, or its driver refused.
    pub fn open(line: &SerialLine) -> io::Result<Serial> {
        let port = serialport::new(line.device.to_string_lossy(), line.baud)
            .data_bits(DataBits::Eight)
            .parity(Parity::None)
            .stop_bits(StopBits::One)
            .flow_control(FlowControl::None)
            // TIOCEXCL outlives its owner while anybody else has the device open, and only
            // CAP_SYS_ADMIN, which the heart does not keep, would open the line again.
            .exclusive(false)
            .open_native()?;
        let descriptor = tty::descriptor(&port);
        fcntl(descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        tcflush(descriptor, FlushArg::TCIOFLUSH)?;
        tty::set_least_bytes(&port, LEAST_BYTES)?;
        let port = Arc::new(port);
        Ok(Serial { port, deframer: Deframer::new(), chunk: [0; _], unread: 0..0, drained: false })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.port.as_raw_fd()
    }

    /// Whether a frame written now would soon be on the line: no more than one is waiting before it.
    pub(super) fn check_room(&self) -> io::Result<()> {
        if tty::output_queue_bytes(&self.port)? > INTRODUCTION_BYTES_MAX + OVERHEAD_BYTES {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    /// Sends one frame. `WouldBlock` also if the line took only a part: the peer finds the next
    /// frame by its delimiter.
    pub(super) fn send(&self, frame: &FrameBuffer) -> io::Result<()> {
        let stuffed = Stuffed::new(frame.as_slice()).ok_or(io::ErrorKind::InvalidInput)?;
        let written = nix::unistd::write(tty::descriptor(&self.port), stuffed.as_slice())?;
        if written < stuffed.as_slice().len() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(())
    }

    /// The line's port, for who asks for its modem lines ([`tty::far_end_shows`]). The line is closed when both are
    /// dropped.
    pub fn port(&self) -> Arc<TTYPort> {
        Arc::clone(&self.port)
    }

    /// Bytes that have come of a frame whose end has not.
    pub(super) fn held_bytes(&self) -> usize {
        self.deframer.held_bytes()
    }

    /// The frame as it goes on the line, for somebody else to send. `None`: too long for it.
    pub(super) fn will(frame: &FrameBuffer) -> Option<Farewell> {
        let stuffed = Stuffed::new(frame.as_slice())?;
        let frame = stuffed.as_slice().to_vec();
        Some(Farewell { path: Path::Serial, to: Vec::new(), frame })
    }

    /// The next frame in what was read of the line; `None`: [`Serial::fill`] first.
    pub(super) fn next_frame(&mut self) -> Option<Result<Unstuffed, DropReason>> {
        for at in self.unread.by_ref() {
            let byte = *self.chunk.get(at)?;
            if let Some(found) = self.deframer.push(byte) {
                return Some(found.and_then(plausible));
            }
        }
        None
    }

    /// Reads more of the line; `false`: nothing there now. A line that was hung up is `BrokenPipe`.
    pub(super) fn fill(&mut self) -> io::Result<bool> {
        // To ask an empty line costs more than to read it (`n_tty_read` flushes its work); what comes
        // next wakes the poll again.
        if std::mem::take(&mut self.drained) {
            return Ok(false);
        }
        match nix::unistd::read(tty::descriptor(&self.port), &mut self.chunk) {
            Ok(0) => Err(io::ErrorKind::BrokenPipe.into()),
            Ok(length) => {
                self.unread = 0..length;
                self.drained = length < self.chunk.len();
                Ok(true)
            }
            Err(nix::errno::Errno::EAGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Serial {
    /// Closing a line waits for its output, up to 30 s; what is left there is worth nothing.
    fn drop(&mut self) {
        // If the flush fails the device is gone, and closing it does not wait.
        let _ = tcflush(tty::descriptor(&self.port), FlushArg::TCOFLUSH);
    }
}

/// Bytes that have the length of no serial frame are noise, not a frame gone wrong.
fn plausible(found: Unstuffed) -> Result<Unstuffed, DropReason> {
    let lengths = [
        pulse::BYTES,
        serial_frame::length(0),
        serial_frame::length(1),
        frame::length(0),
        frame::length(1),
    ];
    if lengths.contains(&found.as_slice().len()) { Ok(found) } else { Err(DropReason::LineNoise) }
}

/// How long the longest frame keeps a line of `baud` bits a second busy.
pub fn frame_time(baud: u32) -> Duration {
    bytes_time(baud, INTRODUCTION_BYTES_MAX + OVERHEAD_BYTES)
}

/// How long a pulse keeps it busy.
pub fn pulse_time(baud: u32) -> Duration {
    bytes_time(baud, pulse::BYTES + OVERHEAD_BYTES)
}

fn bytes_time(baud: u32, bytes: usize) -> Duration {
    let bits = bytes as u64 * u64::from(SERIAL_BITS_PER_BYTE);
    Duration::from_micros((bits * 1_000_000).div_ceil(u64::from(baud.max(1))))
}

/// The time between two beats on a line of `baud` bits a second: `interval`, or longer on a slow line,
/// so that beats take at most a third of it.
pub fn serial_interval(baud: u32, interval: Duration) -> Duration {
    let plain = (INTRODUCE_EVERY - 1) * (SERIAL_BEAT_BYTES_MAX + OVERHEAD_BYTES) as u32;
    let round_bits =
        (plain + (INTRODUCTION_BYTES_MAX + OVERHEAD_BYTES) as u32) * SERIAL_BITS_PER_BYTE;
    let bits_us = u64::from(round_bits) * u64::from(SERIAL_SHARE) * 1_000_000;
    let round = Duration::from_micros(bits_us.div_ceil(u64::from(baud.max(1))));
    interval.max(round / INTRODUCE_EVERY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_never_take_more_than_a_third_of_the_line() {
        let wanted = Duration::from_millis(50);
        assert_eq!(serial_interval(115_200, wanted), wanted);
        for baud in [300, 1200, 9600, 19_200, 38_400, 115_200, 921_600] {
            let interval = serial_interval(baud, wanted);
            let bytes_each = 60.8; // nine plain frames of 53 and one introduction of 131
            let share = bytes_each * 10.0 / (f64::from(baud) * interval.as_secs_f64());
            assert!(interval >= wanted && share <= 0.334, "{baud}: {interval:?}, {share}");
            assert!(share > 0.33 || interval == wanted, "{baud}: {interval:?}, {share}");
        }
        // A speed that no config has divides by nothing.
        assert!(serial_interval(0, wanted) > wanted);
    }
}
