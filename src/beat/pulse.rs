//! Pulses: asks, answers and signs of life on the serial line, in twelve bytes. A heartbeat takes 4.4 ms at 115 200
//! baud, there and back; a pulse a third of that.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | [`ASK_HEAD`], [`ANSWER_HEAD`] or [`LIFE_HEAD`] |
//! | 3 | the number's low 24 bits |
//! | 8 | tag |
//!
//! The tag is a keyed BLAKE3 over the head, both incarnations and the number, all in full: a pulse
//! belongs to one incarnation of each node, and one that comes back to its sender does not fit.

use super::buffer::{FrameBuffer, Reader};
use super::codec::{Session, tag_fits};
use super::message::{DropReason, Pulse, PulseKind};

/// First byte of an ask: version 2 in the upper half, kind 3 in the lower.
pub(super) const ASK_HEAD: u8 = 0x33;
/// First byte of an answer: kind 4.
pub(super) const ANSWER_HEAD: u8 = 0x34;
/// First byte of a sign of life: kind 5.
pub(super) const LIFE_HEAD: u8 = 0x35;

/// Length of a pulse.
pub(super) const BYTES: usize = 12;
const TAG_BYTES: usize = 8;
/// Numbers travel modulo this.
const NUMBERS: u64 = 1 << 24;

fn hash(key: &[u8; 32], head: u8, pulse: &Pulse) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&[head]);
    for number in [pulse.incarnation, pulse.peer_incarnation, pulse.number] {
        hasher.update(&number.to_be_bytes());
    }
    hasher.finalize()
}

/// Writes a pulse.
pub(super) fn encode(key: &[u8; 32], pulse: &Pulse, out: &mut FrameBuffer) {
    let head = match pulse.kind {
        PulseKind::Ask => ASK_HEAD,
        PulseKind::Answer => ANSWER_HEAD,
        PulseKind::Life => LIFE_HEAD,
    };
    let [.., a, b, c] = pulse.number.to_be_bytes();
    out.clear();
    out.put(&[head, a, b, c]);
    let hash = hash(key, head, pulse);
    out.put(hash.as_bytes().first_chunk::<TAG_BYTES>().map_or(&[], |tag| tag));
}

/// Reads a pulse. `heard`: the highest number heard from the peer, near which that of an ask or a sign
/// of life lies; `asked`: the highest that this node asked with, near which an answer's lies.
pub(super) fn decode(
    key: &[u8; 32],
    session: &Session,
    heard: u64,
    asked: u64,
    bytes: &[u8],
) -> Result<Pulse, DropReason> {
    if bytes.len() != BYTES {
        return Err(if bytes.len() < BYTES {
            DropReason::Truncated
        } else {
            DropReason::Malformed
        });
    }
    let mut reader = Reader::new(bytes);
    let [head, a, b, c] = reader.take()?;
    let tag = reader.take::<TAG_BYTES>()?;
    let (kind, base) = match head {
        ASK_HEAD => (PulseKind::Ask, heard),
        ANSWER_HEAD => (PulseKind::Answer, asked),
        LIFE_HEAD => (PulseKind::Life, heard),
        _ => return Err(DropReason::Malformed),
    };
    if session.peer_incarnation == 0 {
        // For an incarnation that has ended, by a peer not known yet: nothing proves it.
        return Err(DropReason::BadTag);
    }
    let pulse = Pulse {
        kind,
        incarnation: session.peer_incarnation,
        peer_incarnation: session.my_incarnation,
        number: nearest(base, u64::from(u32::from_be_bytes([0, a, b, c]))),
    };
    if tag_fits(&hash(key, head, &pulse), &tag) { Ok(pulse) } else { Err(DropReason::BadTag) }
}

/// The number with these low 24 bits that is nearest to `base`.
fn nearest(base: u64, low: u64) -> u64 {
    let ahead = low.wrapping_sub(base) % NUMBERS;
    if ahead <= NUMBERS / 2 {
        base.saturating_add(ahead)
    } else {
        base.checked_sub(NUMBERS - ahead).unwrap_or(low)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn sessions() -> (Session, Session) {
        let session = |my_incarnation, peer_incarnation| Session {
            my_incarnation,
            peer_incarnation,
            peer_digest: [0; 8],
            now_us: 1,
        };
        (session(11, 22), session(22, 11))
    }

    fn frame(pulse: &Pulse) -> Vec<u8> {
        let mut out = FrameBuffer::new();
        encode(&KEY, pulse, &mut out);
        out.as_slice().to_vec()
    }

    fn pulse(kind: PulseKind, number: u64) -> Pulse {
        Pulse { kind, incarnation: 22, peer_incarnation: 11, number }
    }

    proptest! {
        #[test]
        fn what_is_sent_is_read(number in any::<u64>(), off in -8_000_000i64..8_000_000, kind in 0..3) {
            let kind = [PulseKind::Ask, PulseKind::Answer, PulseKind::Life][kind as usize];
            let sent = pulse(kind, number);
            let base = number.saturating_add_signed(off);
            let (heard, asked) = if kind == PulseKind::Answer { (0, base) } else { (base, 0) };
            let bytes = frame(&sent);
            prop_assert_eq!(bytes.len(), BYTES);
            prop_assert_eq!(decode(&KEY, &sessions().0, heard, asked, &bytes), Ok(sent));
        }

        #[test]
        fn a_flipped_bit_is_refused(number in 0..1u64 << 30, place in 0..BYTES * 8) {
            let mut bytes = frame(&pulse(PulseKind::Ask, number));
            bytes[place / 8] ^= 1 << (place % 8);
            prop_assert!(decode(&KEY, &sessions().0, number, number, &bytes).is_err());
        }
    }

    #[test]
    fn a_pulse_belongs_to_its_two_incarnations_and_its_way() {
        let bytes = frame(&pulse(PulseKind::Answer, 5));
        let (mine, peers) = sessions();
        let read = |session: &Session| decode(&KEY, session, 5, 5, &bytes);
        assert!(read(&mine).is_ok());
        let others = [
            Session { my_incarnation: 12, ..mine },
            Session { peer_incarnation: 23, ..mine },
            Session { peer_incarnation: 0, ..mine },
            // Its own sender, by a plug that loops the line back.
            peers,
        ];
        for session in others {
            assert_eq!(read(&session), Err(DropReason::BadTag));
        }
    }
}
