//! Messages over frames, and the two halves of a link.

use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use snow::StatelessTransportState;

use super::frame::{self, FRAME_BYTES_MAX, HEADER_BYTES, LinkError};
use super::noise::TAG_BYTES;
use super::{Cable, Pacer};
use crate::limits;

/// What one frame carries, in bytes.
const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - TAG_BYTES;
/// The length before a message.
const LENGTH_BYTES: usize = 4;

/// A connection to the peer whose handshake is done.
#[derive(Debug)]
pub struct Link {
    cable: Cable,
    writer: LinkWriter,
    reader: LinkReader,
    closer: Closer,
}

impl Link {
    pub(super) fn new(
        stream: TcpStream,
        cipher: StatelessTransportState,
        cable: Cable,
        pacer: &Pacer,
    ) -> Link {
        let (stream, cipher) = (Arc::new(stream), Arc::new(cipher));
        let closer = Closer(stream.clone());
        let reader = LinkReader {
            stream: stream.clone(),
            cipher: cipher.clone(),
            count: 0,
            frame: Vec::new(),
        };
        let pacer = match cable {
            Cable::Crossover => None,
            Cable::Lan => Some(pacer.clone()),
        };
        let writer = LinkWriter { stream, cipher, pacer, count: 0, frame: Vec::new() };
        Link { cable, writer, reader, closer }
    }

    /// Which cable it uses.
    pub fn cable(&self) -> Cable {
        self.cable
    }

    /// What closes it, also from another thread.
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Its two halves, for a thread each. It is closed when both are gone.
    pub fn split(self) -> (LinkWriter, LinkReader) {
        (self.writer, self.reader)
    }

    /// As [`LinkWriter::send`].
    ///
    /// # Errors
    /// As there.
    pub fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        self.writer.send(message)
    }

    /// As [`LinkReader::receive`].
    ///
    /// # Errors
    /// As there.
    pub fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, LinkError> {
        self.reader.receive(patience)
    }

    pub(super) fn reader(&mut self) -> &mut LinkReader {
        &mut self.reader
    }
}

/// Closes a link.
#[derive(Clone, Debug)]
pub struct Closer(Arc<TcpStream>);

impl Closer {
    /// Closes it: whoever waits in its halves gets [`LinkError::Closed`].
    pub fn close(&self) {
        // It fails only if the connection is gone already.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

/// The half that sends.
pub struct LinkWriter {
    stream: Arc<TcpStream>,
    cipher: Arc<StatelessTransportState>,
    pacer: Option<Pacer>,
    /// Frames so far: the cipher's nonce.
    count: u64,
    frame: Vec<u8>,
}

impl LinkWriter {
    /// Sends a message. Waits as long as the LAN's pace demands, and up to
    /// [`limits::MIRROR_STALL_MAX`] for each frame that the peer does not take.
    ///
    /// # Errors
    /// The link is of no more use, but for [`LinkError::TooLong`].
    pub fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if message.len() > limits::MIRROR_MESSAGE_BYTES_MAX {
            return Err(LinkError::TooLong(message.len()));
        }
        let length = u32::try_from(message.len()).map_err(|_| LinkError::Misfit)?.to_be_bytes();
        let (begin, rest) =
            message.split_at_checked(PAYLOAD_BYTES_MAX - LENGTH_BYTES).unwrap_or((message, &[]));
        self.send_frame(&[length.as_slice(), begin].concat())?;
        rest.chunks(PAYLOAD_BYTES_MAX).try_for_each(|part| self.send_frame(part))
    }

    fn send_frame(&mut self, payload: &[u8]) -> Result<(), LinkError> {
        let length = payload.len() + TAG_BYTES;
        self.frame.resize(HEADER_BYTES + length, 0);
        let (header, message) =
            self.frame.split_at_mut_checked(HEADER_BYTES).ok_or(LinkError::Misfit)?;
        header.copy_from_slice(&frame::header(length)?);
        self.cipher.write_message(self.count, payload, message)?;
        self.count += 1;
        if let Some(pacer) = &self.pacer {
            pacer.wait(self.frame.len());
        }
        frame::write_all(&self.stream, &self.frame, Instant::now() + limits::MIRROR_STALL_MAX)
    }
}

/// The half that receives.
pub struct LinkReader {
    stream: Arc<TcpStream>,
    cipher: Arc<StatelessTransportState>,
    /// Frames so far: the cipher's nonce.
    count: u64,
    frame: Vec<u8>,
}

impl LinkReader {
    /// The next message. Once it has begun, each of its frames must be here within
    /// [`limits::MIRROR_STALL_MAX`].
    ///
    /// # Errors
    /// [`LinkError::Silent`]: none began within `patience`; it can be called again. After any other the
    /// link is of no more use.
    pub fn receive(&mut self, patience: Duration) -> Result<Vec<u8>, LinkError> {
        frame::await_frame(&self.stream, Instant::now() + patience)?;
        self.receive_begun(None)
    }

    /// The next message, all of it until then.
    pub(super) fn receive_until(&mut self, until: Instant) -> Result<Vec<u8>, LinkError> {
        self.receive_begun(Some(until))
    }

    fn receive_begun(&mut self, until: Option<Instant>) -> Result<Vec<u8>, LinkError> {
        let deadline = || until.unwrap_or_else(|| Instant::now() + limits::MIRROR_STALL_MAX);
        let mut message = Vec::new();
        self.receive_frame(deadline(), &mut message)?;
        let (length, begin) = message.split_first_chunk().ok_or(LinkError::Misfit)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        // Before there is room made for it.
        if length > limits::MIRROR_MESSAGE_BYTES_MAX {
            return Err(LinkError::TooLong(length));
        }
        let mut whole = Vec::with_capacity(length + TAG_BYTES);
        whole.extend_from_slice(begin);
        while whole.len() < length {
            let before = whole.len();
            self.receive_frame(deadline(), &mut whole)?;
            // A frame without bytes would be a way to keep us here.
            if whole.len() == before {
                return Err(LinkError::Misfit);
            }
        }
        if whole.len() > length { Err(LinkError::Misfit) } else { Ok(whole) }
    }

    /// Appends what the next frame carries.
    fn receive_frame(&mut self, until: Instant, to: &mut Vec<u8>) -> Result<(), LinkError> {
        let mut header = [0; HEADER_BYTES];
        frame::read_exact(&self.stream, &mut header, until)?;
        let length = frame::length(header);
        self.frame.resize(length, 0);
        frame::read_exact(&self.stream, &mut self.frame, until)?;
        if length < TAG_BYTES {
            return Err(LinkError::Forged);
        }
        // Room for the tag too, which the cipher takes off in place.
        let begin = to.len();
        to.resize(begin + length, 0);
        let room = to.get_mut(begin..).ok_or(LinkError::Misfit)?;
        let payload = self.cipher.read_message(self.count, &self.frame, room);
        to.truncate(begin + payload.map_err(|_| LinkError::Forged)?);
        self.count += 1;
        Ok(())
    }
}

impl std::fmt::Debug for LinkWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkWriter after {} frames", self.count)
    }
}

impl std::fmt::Debug for LinkReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkReader after {} frames", self.count)
    }
}

#[cfg(test)]
mod tests;
