//! The key, the handshake, the cipher.

use std::net::TcpStream;
use std::time::Instant;

use snow::{Builder, HandshakeState, StatelessTransportState};

use super::frame::{self, LinkError};
use crate::config::key::Key;
use crate::mirror::proto;

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_BLAKE2s";
/// A handshake message: a public key and a tag. Both messages are as long.
const HANDSHAKE_BYTES: usize = 32 + TAG_BYTES;
/// What encryption adds to a frame, in bytes.
pub(super) const TAG_BYTES: usize = 16;

/// What both ends of a link must have in common.
#[derive(Clone)]
pub struct Secret {
    psk: [u8; 32],
    /// Bound into the handshake: both must mean the same protocol and the same pair.
    prologue: Vec<u8>,
}

impl Secret {
    /// From the pair's key and name.
    pub fn new(key: &Key, cluster: &str) -> Secret {
        let material = [key.as_slice(), cluster.as_bytes()].concat();
        let psk = blake3::derive_key("clusterd 1 mirror session", &material);
        let prologue = [&proto::VERSION.to_be_bytes(), cluster.as_bytes()].concat();
        Secret { psk, prologue }
    }

    fn builder(&self) -> Result<Builder<'_>, snow::Error> {
        Builder::new(PATTERN.parse()?).prologue(&self.prologue)?.psk(0, &self.psk)
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// The handshake of the one who connected.
pub(super) fn initiate(
    stream: &TcpStream,
    secret: &Secret,
    until: Instant,
) -> Result<StatelessTransportState, LinkError> {
    let mut handshake = secret.builder()?.build_initiator()?;
    tell(stream, &mut handshake, until)?;
    hear(stream, &mut handshake, until).map_err(|error| match error {
        // The other end says nothing to strangers.
        LinkError::Closed => LinkError::NoPeer,
        error => error,
    })?;
    Ok(handshake.into_stateless_transport_mode()?)
}

/// The handshake of the one who was connected to.
pub(super) fn respond(
    stream: &TcpStream,
    secret: &Secret,
    until: Instant,
) -> Result<StatelessTransportState, LinkError> {
    let mut handshake = secret.builder()?.build_responder()?;
    hear(stream, &mut handshake, until)?;
    tell(stream, &mut handshake, until)?;
    Ok(handshake.into_stateless_transport_mode()?)
}

fn tell(
    stream: &TcpStream,
    handshake: &mut HandshakeState,
    until: Instant,
) -> Result<(), LinkError> {
    let mut frame = [0; frame::HEADER_BYTES + HANDSHAKE_BYTES];
    let (header, message) = frame.split_at_mut(frame::HEADER_BYTES);
    let length = handshake.write_message(&[], message)?;
    header.copy_from_slice(&frame::header(length)?);
    frame::write_all(stream, &frame, until)
}

fn hear(
    stream: &TcpStream,
    handshake: &mut HandshakeState,
    until: Instant,
) -> Result<(), LinkError> {
    let mut header = [0; frame::HEADER_BYTES];
    frame::read_exact(stream, &mut header, until)?;
    if frame::length(header) != HANDSHAKE_BYTES {
        return Err(LinkError::NoPeer);
    }
    let mut message = [0; HANDSHAKE_BYTES];
    frame::read_exact(stream, &mut message, until)?;
    handshake.read_message(&message, &mut [0; HANDSHAKE_BYTES]).map_err(|_| LinkError::NoPeer)?;
    Ok(())
}
