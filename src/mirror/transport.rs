//! The links between the two nodes' mirrors: TCP, authenticated and encrypted by the pair's key.
//!
//! ```text
//! Dialler                                       Listener
//!    | ---- TCP: crossover, else LAN ---->         |   a thread for each, a few at once
//!    | ---- Noise NNpsk0: psk, e (48 bytes) ---->  |   wrong key: closed
//!    | <--- e, ee (48 bytes) ----                  |
//!    | ---- frames of the first message ---->      |   its reader is fresh: nobody replays this
//!  Link                                         Incoming { hello, Link }
//! ```
//! After the handshake both sides send messages. A message is a frame with its length (u32), then its
//! bytes in full frames and a last one. A frame is the length of what follows (u16), then a Noise
//! message of at most 65 535 bytes; all integers are big-endian. Frames count their nonces, so none can
//! be left out, repeated or moved.
//!
//! Everything blocks, with deadlines; a thread reads and another writes. A link that failed is shut
//! down as a whole. On the LAN what is sent is paced, for all links of the process together.
//!
//! | file | subject |
//! | --- | --- |
//! | `dial` | reaching the peer |
//! | `frames` | messages in frames, out and in |
//! | `holder` | who listens on a port that is taken |
//! | `listen` | being reached: sockets that follow the interfaces, strangers kept out |
//! | `noise` | the secret and the handshake |
//! | `notes` | what stands against the peer's links here |
//! | `pace` | how much of the LAN is taken |
//! | `socket` | TCP sockets, and waits that end |

use std::fmt;
use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use snow::StatelessTransportState;

mod dial;
mod frames;
mod holder;
mod listen;
#[cfg(test)]
pub mod loopback;
mod noise;
mod notes;
mod pace;
mod socket;

pub use dial::Dialler;
pub use frames::{LinkReader, LinkWriter};
pub use listen::{Counts, Listener, Places};
pub use noise::Secret;
pub use notes::against_links;

/// The way that a link goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPath {
    /// The cable between the two nodes: as fast as it can.
    Crossover,
    /// The network of the clients: paced.
    Lan,
}

impl fmt::Display for LinkPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            LinkPath::Crossover => "crossover",
            LinkPath::Lan => "LAN",
        })
    }
}

/// Why there is no link, or no longer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It ended between two messages or within one.
    #[error("the peer closed the mirror link")]
    Closed,
    /// The system ended or refused it; a peer that is too slow is `TimedOut`.
    #[error("the mirror link failed: {0}")]
    Failed(io::Error),
    /// Bytes came that the peer's daemon did not send.
    #[error("the mirror link received bytes that the peer did not send; it is closed")]
    Forged,
    /// A message is longer than it may be, in bytes.
    #[error("a mirror message of {0} bytes is too long")]
    TooLong(usize),
    /// The other side does not know the secret.
    #[error(
        "the other side of the mirror link has another key, cluster name or version; copy the key \
         file and the config to both nodes, and run the same release"
    )]
    Secret,
    /// The peer hung up before its part of the handshake.
    #[error(
        "the peer hung up on the mirror link's handshake: it has another key or cluster name; copy the \
         key file and the config to both nodes (its log says if it was something else)"
    )]
    Refused,
    /// The cipher failed, which it does not for reasons of the peer's.
    #[error("the mirror link cannot be encrypted: {0}")]
    Cipher(snow::Error),
    /// Neither way leads to the peer.
    #[error("over the crossover, {crossover}; over the LAN, {lan}")]
    Unreachable {
        /// Why not over the crossover, in words.
        crossover: String,
        /// Why not over the LAN.
        lan: String,
    },
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => LinkError::Closed,
            _ => LinkError::Failed(error),
        }
    }
}

/// A link that the peer made, with the first message that came on it.
#[derive(Debug)]
pub struct Incoming {
    /// The first message: it names the group.
    pub hello: Vec<u8>,
    /// The link.
    pub link: Link,
}

/// A link to the peer, which is who it says.
pub struct Link {
    path: LinkPath,
    /// Why it does not go over the crossover.
    detour: Option<String>,
    writer: LinkWriter,
    reader: LinkReader,
}

impl Link {
    /// A link on a stream after its handshake. `stall`: how long a frame may take.
    fn new(
        stream: Arc<TcpStream>,
        noise: StatelessTransportState,
        path: LinkPath,
        stall: Duration,
    ) -> Link {
        let noise = Arc::new(noise);
        let writer = LinkWriter::new(stream.clone(), noise.clone(), path, stall);
        Link { path, detour: None, writer, reader: LinkReader::new(stream, noise, stall) }
    }

    /// It was made because the crossover could not be used: why.
    fn instead_of(self, detour: String) -> Link {
        Link { detour: Some(detour), ..self }
    }

    /// Why it does not go over the crossover, if that was tried.
    pub fn detour(&self) -> Option<&str> {
        self.detour.as_deref()
    }

    /// The way it goes.
    pub fn path(&self) -> LinkPath {
        self.path
    }

    /// What ends it from any thread.
    ///
    /// # Errors
    /// As dup(2).
    pub fn closer(&self) -> io::Result<Closer> {
        Ok(Closer { stream: self.writer.stream().try_clone()? })
    }

    /// Its two directions, for two threads.
    pub fn split(self) -> (LinkWriter, LinkReader) {
        (self.writer, self.reader)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Link").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Ends a link from any thread.
#[derive(Debug)]
pub struct Closer {
    stream: TcpStream,
}

impl Closer {
    /// Ends both directions: who waits on the link, here or there, sees its end.
    pub fn close(&self) {
        shut(&self.stream);
    }
}

/// Ends both directions of a stream.
fn shut(stream: &TcpStream) {
    // It fails only if the connection has ended already, which is what is wanted.
    let _ = stream.shutdown(Shutdown::Both);
}

#[cfg(test)]
mod tests;
