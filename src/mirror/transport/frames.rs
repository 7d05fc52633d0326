//! Messages in encrypted frames, out and in; the format is in [`super`].

use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use snow::StatelessTransportState;

use super::socket::{read_some, write_whole};
use super::{LinkError, LinkPath, pace, shut};
use crate::limits::{LINK_BUFFER_BYTES, MIRROR_MESSAGE_BYTES_MAX};

/// The length before a frame, a u16.
const PREFIX_BYTES: usize = 2;
/// What AES-GCM adds.
const TAG_BYTES: usize = 16;
/// Content of a full frame: the longest Noise message without its tag.
const FRAME_BYTES: usize = 65_535 - TAG_BYTES;
/// The length of a message, a u32, in a frame of its own: so the bytes after it need not be moved.
const LENGTH_BYTES: usize = 4;

/// The way out of a link.
pub struct LinkWriter {
    stream: Arc<TcpStream>,
    noise: Arc<StatelessTransportState>,
    path: LinkPath,
    stall: Duration,
    /// Number of the next frame.
    nonce: u64,
    /// Frames that go out together, up to `filled`.
    buffer: Vec<u8>,
    filled: usize,
}

impl LinkWriter {
    pub(super) fn new(
        stream: Arc<TcpStream>,
        noise: Arc<StatelessTransportState>,
        path: LinkPath,
        stall: Duration,
    ) -> LinkWriter {
        let buffer = vec![0; LINK_BUFFER_BYTES];
        LinkWriter { stream, noise, path, stall, nonce: 0, buffer, filled: 0 }
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a message: it is with the kernel when this returns. On the LAN it waits for its turn.
    ///
    /// # Errors
    /// The message is too long, and nothing was sent; or the link has ended, and is shut down now. A
    /// peer that takes less than [`LINK_BUFFER_BYTES`] in [`crate::limits::MIRROR_STALL_MAX`] ends it.
    pub fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let too_long = || LinkError::TooLong(message.len());
        if message.len() > MIRROR_MESSAGE_BYTES_MAX {
            return Err(too_long());
        }
        let length = u32::try_from(message.len()).map_err(|_| too_long())?;
        self.put(length, message).inspect_err(|_| shut(&self.stream))
    }

    fn put(&mut self, length: u32, message: &[u8]) -> Result<(), LinkError> {
        self.seal(&length.to_be_bytes())?;
        for piece in message.chunks(FRAME_BYTES) {
            self.seal(piece)?;
        }
        self.flush()
    }

    /// Puts a frame behind those that wait; sends them first if there is no room for it.
    fn seal(&mut self, piece: &[u8]) -> Result<(), LinkError> {
        let sealed = piece.len() + TAG_BYTES;
        if self.buffer.len() - self.filled < PREFIX_BYTES + sealed {
            self.flush()?;
        }
        let room = self.buffer.get_mut(self.filled..).unwrap_or_default();
        let (prefix, room) =
            room.split_first_chunk_mut().ok_or(LinkError::Cipher(snow::Error::Input))?;
        *prefix = (sealed as u16).to_be_bytes();
        self.noise.write_message(self.nonce, piece, room).map_err(LinkError::Cipher)?;
        self.nonce += 1;
        self.filled += PREFIX_BYTES + sealed;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), LinkError> {
        match self.path {
            LinkPath::Crossover => {}
            LinkPath::Lan => pace::wait_for_turn(self.filled),
        }
        let frames = self.buffer.get(..self.filled).unwrap_or_default();
        write_whole(&self.stream, frames, Instant::now() + self.stall)?;
        self.filled = 0;
        Ok(())
    }
}

/// The way in of a link.
pub struct LinkReader {
    stream: Arc<TcpStream>,
    noise: Arc<StatelessTransportState>,
    stall: Duration,
    /// Number of the next frame.
    nonce: u64,
    /// What was read and not used yet is between `begin` and `end`.
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl LinkReader {
    pub(super) fn new(
        stream: Arc<TcpStream>,
        noise: Arc<StatelessTransportState>,
        stall: Duration,
    ) -> LinkReader {
        let buffer = vec![0; LINK_BUFFER_BYTES];
        LinkReader { stream, noise, stall, nonce: 0, buffer, begin: 0, end: 0 }
    }

    /// The next message. Waits for its beginning as long as the link lives; then each frame must come
    /// whole within [`crate::limits::MIRROR_STALL_MAX`].
    ///
    /// # Errors
    /// The link has ended, and is shut down now; again and again then.
    pub fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        self.fill(1, None)
            .and_then(|()| self.message(MIRROR_MESSAGE_BYTES_MAX, None))
            .inspect_err(|_| shut(&self.stream))
    }

    /// The same, if its beginning is here before the deadline.
    ///
    /// # Errors
    /// As [`LinkReader::receive`]; it has ended also if nothing came.
    pub fn receive_before(&mut self, deadline: Instant) -> Result<Vec<u8>, LinkError> {
        self.fill(1, Some(deadline))
            .and_then(|()| self.message(MIRROR_MESSAGE_BYTES_MAX, None))
            .inspect_err(|_| shut(&self.stream))
    }

    /// The first message, at most `limit` bytes long and whole before the deadline.
    ///
    /// # Errors
    /// As [`LinkReader::receive`].
    pub(super) fn first(&mut self, limit: usize, deadline: Instant) -> Result<Vec<u8>, LinkError> {
        self.message(limit, Some(deadline)).inspect_err(|_| shut(&self.stream))
    }

    /// A message, all of it before `deadline` or each frame within `stall`.
    fn message(&mut self, limit: usize, deadline: Option<Instant>) -> Result<Vec<u8>, LinkError> {
        let mut header = [0; LENGTH_BYTES + TAG_BYTES];
        self.frame(LENGTH_BYTES, &mut header, deadline)?;
        let length = header.first_chunk().ok_or(LinkError::Forged)?;
        let length = u32::from_be_bytes(*length) as usize;
        if length > limit {
            return Err(LinkError::TooLong(length));
        }
        // Each frame is opened in its place; its tag lies where the next one goes.
        let mut message = vec![0; length + TAG_BYTES];
        let mut rest = message.as_mut_slice();
        while rest.len() > TAG_BYTES {
            let content = (rest.len() - TAG_BYTES).min(FRAME_BYTES);
            self.frame(content, rest, deadline)?;
            rest = rest.get_mut(content..).unwrap_or_default();
        }
        message.truncate(length);
        Ok(message)
    }

    /// Opens the next frame, which must have so many bytes of content, into `out`, which has room for
    /// them and a tag.
    fn frame(
        &mut self,
        content: usize,
        out: &mut [u8],
        deadline: Option<Instant>,
    ) -> Result<(), LinkError> {
        let deadline = Some(deadline.unwrap_or_else(|| Instant::now() + self.stall));
        let sealed = content + TAG_BYTES;
        self.fill(PREFIX_BYTES, deadline)?;
        // Before the rest is waited for: it may never come.
        let prefix = self.held().first_chunk().ok_or(LinkError::Forged)?;
        if usize::from(u16::from_be_bytes(*prefix)) != sealed {
            return Err(LinkError::Forged);
        }
        self.fill(PREFIX_BYTES + sealed, deadline)?;
        let bytes =
            self.held().get(PREFIX_BYTES..PREFIX_BYTES + sealed).ok_or(LinkError::Forged)?;
        self.noise.read_message(self.nonce, bytes, out).map_err(|_| LinkError::Forged)?;
        self.nonce += 1;
        self.begin += PREFIX_BYTES + sealed;
        Ok(())
    }

    fn held(&self) -> &[u8] {
        self.buffer.get(self.begin..self.end).unwrap_or_default()
    }

    /// Reads until so many bytes are held, at most a frame and its prefix.
    fn fill(&mut self, wanted: usize, deadline: Option<Instant>) -> Result<(), LinkError> {
        while self.end - self.begin < wanted {
            if self.begin == self.end {
                (self.begin, self.end) = (0, 0);
            } else if self.begin + wanted > self.buffer.len() {
                self.buffer.copy_within(self.begin..self.end, 0);
                (self.begin, self.end) = (0, self.end - self.begin);
            }
            let room = self.buffer.get_mut(self.end..).unwrap_or_default();
            match read_some(&self.stream, room, deadline)? {
                0 => return Err(LinkError::Closed),
                read => self.end += read,
            }
        }
        Ok(())
    }
}
