//! Frames in and out of a socket, each with a deadline.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// Why a link is no more, or never was.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The other end closed it, or this one did.
    #[error("the link was closed")]
    Closed,
    /// Nothing came in time. Nothing is lost: it can be tried again.
    #[error("the peer says nothing")]
    Silent,
    /// The other end takes or gives nothing in the middle of a frame.
    #[error("the link stalls")]
    Stalled,
    /// It does not know the key, or speaks another version of the protocol.
    #[error(
        "the other end does not have this pair's key, or another version of clusterd: \
         copy the key file to both nodes and run the same version"
    )]
    NoPeer,
    /// A frame that was not made by the other end of this link.
    #[error("a frame of the mirror's link was forged or damaged")]
    Forged,
    /// A message longer than [`crate::limits::MIRROR_MESSAGE_BYTES_MAX`].
    #[error("a mirror message of {0} bytes is too long")]
    TooLong(usize),
    /// Frames that do not make a message.
    #[error("a mirror message does not fit its frames")]
    Misfit,
    /// Noise refuses: a mistake of ours.
    #[error("the mirror's encryption: {0}")]
    Noise(#[from] snow::Error),
    /// The socket failed.
    #[error("the mirror's link: {0}")]
    Io(io::Error),
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => LinkError::Closed,
            _ => LinkError::Io(error),
        }
    }
}

/// The two bytes before a frame.
pub(super) const HEADER_BYTES: usize = 2;
/// Longest frame after its header, in bytes: Noise's longest message.
pub(super) const FRAME_BYTES_MAX: usize = u16::MAX as usize;

/// The header of a frame of so many bytes.
pub(super) fn header(length: usize) -> Result<[u8; HEADER_BYTES], LinkError> {
    u16::try_from(length).map(u16::to_be_bytes).map_err(|_| LinkError::Misfit)
}

/// How many bytes follow a header.
pub(super) fn length(header: [u8; HEADER_BYTES]) -> usize {
    usize::from(u16::from_be_bytes(header))
}

/// Writes all bytes until then.
pub(super) fn write_all(
    mut stream: &TcpStream,
    mut bytes: &[u8],
    until: Instant,
) -> Result<(), LinkError> {
    while !bytes.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(bytes) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if may_go_on(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads so many bytes until then. When the time is over before the first of them, nothing was read.
pub(super) fn read_exact(
    mut stream: &TcpStream,
    mut bytes: &mut [u8],
    until: Instant,
) -> Result<(), LinkError> {
    while !bytes.is_empty() {
        stream.set_read_timeout(Some(left(until)?))?;
        match stream.read(bytes) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(error) if may_go_on(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits for the first byte of a frame.
pub(super) fn await_frame(stream: &TcpStream, until: Instant) -> Result<(), LinkError> {
    loop {
        stream.set_read_timeout(Some(left(until).map_err(|_| LinkError::Silent)?))?;
        match stream.peek(&mut [0]) {
            Ok(0) => return Err(LinkError::Closed),
            Ok(_) => return Ok(()),
            Err(error) if may_go_on(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The time that is left; never zero, which would mean for ever.
fn left(until: Instant) -> Result<Duration, LinkError> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(LinkError::Stalled) } else { Ok(left) }
}

fn may_go_on(error: &io::Error) -> bool {
    // WouldBlock: SO_RCVTIMEO or SO_SNDTIMEO is over. TimedOut is TCP's own verdict.
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests;
