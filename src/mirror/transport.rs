//! Links: whole messages, authenticated and encrypted by the pair's key, over TCP. Blocking, for threads
//! of the worker.
//!
//! A connection begins with a handshake of [Noise](https://noiseprotocol.org/noise.html),
//! `NNpsk0_25519_AESGCM_BLAKE2s`: each side proves that it knows the key before anything else is taken
//! from it, and recorded traffic stays closed even to one who learns the key later. Then frames: two
//! bytes of length, and a Noise message of that length. A message is its length in four bytes and its
//! bytes, cut over as many frames as it needs; the next begins in a frame of its own. Frames are counted,
//! so none can be lost, doubled or moved.
//!
//! | file | subject |
//! | --- | --- |
//! | `noise` | the key, the handshake, the cipher |
//! | `frame` | frames in and out of a socket, each with a deadline |
//! | `link` | messages over frames, the two halves of a link |
//! | `pace` | how much of the LAN the mirrors may take |
//! | `socket` | TCP sockets bound to an interface |
//! | `dial` | the owner's side: crossover first, then LAN |
//! | `listen` | the standby's side: sockets that come and go, a few strangers at a time |

mod dial;
mod frame;
mod link;
mod listen;
mod noise;
mod pace;
mod socket;

#[cfg(test)]
mod tests;

pub use dial::{Peer, Unreached, connect};
pub use frame::LinkError;
pub use link::{Closer, Link, LinkReader, LinkWriter};
pub use listen::{Address, Counts, Door, DoorState, Incoming, Listener};
pub use noise::Secret;
pub use pace::Pacer;

/// Which cable a link uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// The crossover: unpaced.
    Crossover,
    /// The LAN, which clients need too: paced.
    Lan,
}
