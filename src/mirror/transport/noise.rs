//! The secret that the pair shares, and the handshake that proves it (Noise, revision 34: noiseprotocol.org).
//!
//! `NNpsk0`: no names but the shared key; new keys for each link, so that what was recorded stays shut
//! even if the key is lost later.

use std::fmt;
use std::net::TcpStream;
use std::time::Instant;

use snow::params::NoiseParams;
use snow::{Builder, HandshakeState, StatelessTransportState};

use super::LinkError;
use super::socket::{read_whole, write_whole};
use crate::config::key::Key;
use crate::config::ring::SharedRing;

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_BLAKE2s";
/// Version of frames and handshake; that of the messages is in the first of them, and refused in words.
const PROLOGUE: &[u8] = b"clusterd mirror link 1 ";
/// Use of the key, as BLAKE3 wants it: for this and nothing else.
const CONTEXT: &str = "clusterd 1 mirror session";
/// Each of the two messages: a public key of 32 bytes and a tag of 16.
const HANDSHAKE_BYTES: usize = 32 + 16;

/// A pre-shared key.
pub(super) type Psk = [u8; 32];

/// What both nodes know and nobody else.
#[derive(Clone)]
pub struct Secret {
    ring: SharedRing,
    cluster: String,
    prologue: Vec<u8>,
}

impl Secret {
    /// From the pair's key file and the cluster's name.
    pub fn new(ring: impl Into<SharedRing>, cluster: &str) -> Secret {
        let prologue = [PROLOGUE, cluster.as_bytes()].concat();
        Secret { ring: ring.into(), cluster: cluster.to_owned(), prologue }
    }

    /// What the peer may know, the likeliest first.
    pub(super) fn offers(&self) -> Vec<Psk> {
        let first = self.ring.sending();
        let ring = self.ring.ring();
        let others = ring.all().filter(|key| **key != first);
        std::iter::once(&first).chain(others).map(|key| self.psk(key)).collect()
    }

    fn psk(&self, key: &Key) -> Psk {
        // The key's length is fixed: no other key and name make the same bytes.
        let material = [key.as_slice(), self.cluster.as_bytes()].concat();
        blake3::derive_key(CONTEXT, &material)
    }

    /// The handshake of the side that connected, which offers `psk`.
    ///
    /// # Errors
    /// [`LinkError::Refused`]: the other side hung up, as it does if it thinks that this one does not know
    /// the secret; [`LinkError::Secret`]: it does not know it.
    pub(super) fn initiate(
        &self,
        psk: &Psk,
        stream: &TcpStream,
        deadline: Instant,
    ) -> Result<StatelessTransportState, LinkError> {
        let mut state = self.builder(psk)?.build_initiator().map_err(LinkError::Cipher)?;
        say(&mut state, stream, deadline)?;
        hear(&mut state, stream, deadline).map_err(|error| match error {
            LinkError::Closed => LinkError::Refused,
            other => other,
        })?;
        state.into_stateless_transport_mode().map_err(LinkError::Cipher)
    }

    /// The handshake of the side that was connected to. Who replays a recorded one gets through it, but
    /// can make no frame that is read.
    ///
    /// # Errors
    /// [`LinkError::Secret`]: the other side does not know the secret.
    pub(super) fn respond(
        &self,
        stream: &TcpStream,
        deadline: Instant,
    ) -> Result<StatelessTransportState, LinkError> {
        let mut bytes = [0; HANDSHAKE_BYTES];
        read_whole(stream, &mut bytes, deadline)?;
        for key in self.ring.ring().all() {
            let psk = self.psk(key);
            let mut state = self.builder(&psk)?.build_responder().map_err(LinkError::Cipher)?;
            if take(&mut state, &bytes).is_ok() {
                say(&mut state, stream, deadline)?;
                return state.into_stateless_transport_mode().map_err(LinkError::Cipher);
            }
        }
        Err(LinkError::Secret)
    }

    fn builder<'a>(&'a self, psk: &'a Psk) -> Result<Builder<'a>, LinkError> {
        let pattern: NoiseParams = PATTERN.parse().map_err(LinkError::Cipher)?;
        Builder::new(pattern)
            .prologue(&self.prologue)
            .and_then(|builder| builder.psk(0, psk))
            .map_err(LinkError::Cipher)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

fn say(state: &mut HandshakeState, stream: &TcpStream, by: Instant) -> Result<(), LinkError> {
    let mut bytes = [0; HANDSHAKE_BYTES];
    state.write_message(&[], &mut bytes).map_err(LinkError::Cipher)?;
    Ok(write_whole(stream, &bytes, by)?)
}

fn hear(state: &mut HandshakeState, stream: &TcpStream, by: Instant) -> Result<(), LinkError> {
    let mut bytes = [0; HANDSHAKE_BYTES];
    read_whole(stream, &mut bytes, by)?;
    take(state, &bytes)
}

fn take(state: &mut HandshakeState, bytes: &[u8; HANDSHAKE_BYTES]) -> Result<(), LinkError> {
    // Nothing but the tag is inside.
    state.read_message(bytes, &mut [0; HANDSHAKE_BYTES]).map_err(|_| LinkError::Secret)?;
    Ok(())
}
