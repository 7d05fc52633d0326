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

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_BLAKE2s";
/// Version of frames and handshake; that of the messages is in the first of them, and refused in words.
const PROLOGUE: &[u8] = b"clusterd mirror link 1 ";
/// Use of the key, as BLAKE3 wants it: for this and nothing else.
const CONTEXT: &str = "clusterd 1 mirror session";
/// Each of the two messages: a public key of 32 bytes and a tag of 16.
const HANDSHAKE_BYTES: usize = 32 + 16;

/// What both nodes know and nobody else.
#[derive(Clone)]
pub struct Secret {
    psk: [u8; 32],
    prologue: Vec<u8>,
}

impl Secret {
    /// From the pair's key file and the cluster's name.
    pub fn new(key: &Key, cluster: &str) -> Secret {
        // The key's length is fixed: no other key and name make the same bytes.
        let material = [key.as_slice(), cluster.as_bytes()].concat();
        let prologue = [PROLOGUE, cluster.as_bytes()].concat();
        Secret { psk: blake3::derive_key(CONTEXT, &material), prologue }
    }

    /// The handshake of the side that connected.
    ///
    /// # Errors
    /// [`LinkError::Refused`]: the other side hung up, as it does if it thinks that this one does not know
    /// the secret; [`LinkError::Secret`]: it does not know it.
    pub(super) fn initiate(
        &self,
        stream: &TcpStream,
        deadline: Instant,
    ) -> Result<StatelessTransportState, LinkError> {
        let mut state = self.builder()?.build_initiator().map_err(LinkError::Cipher)?;
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
        let mut state = self.builder()?.build_responder().map_err(LinkError::Cipher)?;
        hear(&mut state, stream, deadline)?;
        say(&mut state, stream, deadline)?;
        state.into_stateless_transport_mode().map_err(LinkError::Cipher)
    }

    fn builder(&self) -> Result<Builder<'_>, LinkError> {
        let pattern: NoiseParams = PATTERN.parse().map_err(LinkError::Cipher)?;
        Builder::new(pattern)
            .prologue(&self.prologue)
            .and_then(|builder| builder.psk(0, &self.psk))
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
    // Nothing but the tag is inside.
    state.read_message(&bytes, &mut [0; HANDSHAKE_BYTES]).map_err(|_| LinkError::Secret)?;
    Ok(())
}
