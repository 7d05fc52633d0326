//! Plain serial frames: small enough for 20 a second at 19 200 baud and more.
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | [`HEAD`]: version 3, plain serial |
//! | 14 | what the node says of itself (`fields`) |
//! | 4, 4, 4 | sequence, sent, echo: their low 32 bits |
//! | 15 or 0 | one group (`fields`); groups take turns |
//! | 8 | tag |
//!
//! The receiver restores what does not travel: incarnations and digest from its session, the upper
//! halves from what it heard before. The tag is a keyed BLAKE3 over the frame *and* all of these in
//! full, so that a frame is either restored as it was meant or refused with a bad tag.

use super::buffer::{FrameBuffer, Reader};
use super::codec::{Session, tag_fits};
use super::fields::{
    GROUP_BYTES, SAID_BYTES, has_echo, put_group, put_said, sender, take_group, take_said,
};
use super::message::{Beat, DropReason, GroupBeat};
use crate::config::{GroupTags, NodeIndex};
use crate::limits::ECHO_SLACK;

/// First byte of a plain serial frame: version 3 in the upper half, kind 2 in the lower.
pub(super) const HEAD: u8 = 0x32;

const TAG_BYTES: usize = 8;

/// Length of a plain frame with that many groups: none or one.
pub(super) const fn length(groups: usize) -> usize {
    1 + SAID_BYTES + 3 * 4 + groups * GROUP_BYTES + TAG_BYTES
}

/// The highest full values that were heard from an incarnation of the peer.
#[derive(Clone, Copy, Default)]
pub(super) struct Heard {
    pub incarnation: u64,
    pub sequence: u64,
    pub sent_us: u64,
    /// It was heard with the newest key of the ring.
    pub has_newest: bool,
    /// It has answered what was sent to it with that key.
    pub answers_newest: bool,
}

impl Heard {
    /// Takes an authentic beat into account; one of another incarnation begins anew.
    pub(super) fn raise(&mut self, beat: &Beat, with_newest: bool, answers_newest: bool) {
        if self.incarnation != beat.incarnation {
            *self = Heard { incarnation: beat.incarnation, ..Heard::default() };
        }
        self.sequence = self.sequence.max(beat.sequence);
        self.sent_us = self.sent_us.max(beat.sent_us);
        self.has_newest |= with_newest;
        self.answers_newest |= answers_newest;
    }
}

/// What the tag covers in full though the frame carries none or half of it.
struct Implied {
    incarnation: u64,
    peer_incarnation: u64,
    sequence: u64,
    sent_us: u64,
    echo_us: u64,
    digest: [u8; 8],
}

impl Implied {
    fn hash(&self, key: &[u8; 32], signed: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(signed);
        for number in
            [self.incarnation, self.peer_incarnation, self.sequence, self.sent_us, self.echo_us]
        {
            hasher.update(&number.to_be_bytes());
        }
        hasher.update(&self.digest);
        hasher.finalize()
    }
}

/// Writes `beat` with at most one group in place of its own.
pub(super) fn encode(
    key: &[u8; 32],
    tags: &GroupTags,
    beat: &Beat,
    group: Option<&GroupBeat>,
    out: &mut FrameBuffer,
) {
    // An echo so old that its time of holding is saturated could not be restored: none is sent.
    let with_echo = beat.echo_us != 0 && beat.echo_held_us != u32::MAX;
    let implied = Implied {
        incarnation: beat.incarnation,
        peer_incarnation: beat.peer_incarnation,
        sequence: beat.sequence,
        sent_us: beat.sent_us,
        echo_us: if with_echo { beat.echo_us } else { 0 },
        digest: beat.digest,
    };
    out.clear();
    out.put(&[HEAD]);
    put_said(out, tags, beat, with_echo);
    for number in [implied.sequence, implied.sent_us, implied.echo_us] {
        out.put(&low_half(number).to_be_bytes());
    }
    if let Some(group) = group {
        put_group(out, tags, group);
    }
    let hash = implied.hash(key, out.as_slice());
    out.put(hash.as_bytes().first_chunk::<TAG_BYTES>().map_or(&[], |tag| tag));
}

/// Reads a frame that begins with [`HEAD`]. `peer` is whom it must come from.
pub(super) fn decode(
    key: &[u8; 32],
    tags: &GroupTags,
    peer: NodeIndex,
    session: &Session,
    heard: &Heard,
    bytes: &[u8],
) -> Result<Beat, DropReason> {
    if bytes.len() < length(0) {
        return Err(DropReason::Truncated);
    }
    let has_group = bytes.len() == length(1);
    if bytes.len() != length(0) && !has_group {
        return Err(DropReason::Malformed);
    }
    let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(DropReason::Truncated)?;
    let mut reader = Reader::new(signed);
    let [_head, flags] = reader.take()?;
    if sender(flags) != peer {
        return Err(DropReason::NotPeer);
    }
    if session.peer_incarnation == 0 {
        // A frame for an incarnation that has ended, by a peer not known yet: nothing proves it.
        return Err(DropReason::BadTag);
    }
    reader.take::<{ SAID_BYTES - 5 }>()?;
    let held_us = reader.u32()?;
    let implied = Implied {
        incarnation: session.peer_incarnation,
        peer_incarnation: session.my_incarnation,
        sequence: nearest(heard.sequence, reader.u32()?),
        sent_us: nearest(heard.sent_us, reader.u32()?),
        echo_us: match (has_echo(flags), reader.u32()?) {
            (true, low) => restore_echo(session.now_us, held_us, low),
            (false, _) => 0,
        },
        digest: session.peer_digest,
    };
    if !tag_fits(&implied.hash(key, signed), tag) {
        return Err(DropReason::BadTag);
    }
    let mut reader = Reader::new(signed);
    reader.u8()?;
    let mut beat = take_said(&mut reader, tags)?;
    reader.take::<{ 3 * 4 }>()?;
    beat.incarnation = implied.incarnation;
    beat.peer_incarnation = implied.peer_incarnation;
    beat.sequence = implied.sequence;
    beat.sent_us = implied.sent_us;
    beat.echo_us = implied.echo_us;
    beat.digest = implied.digest;
    if beat.sent_us == 0 || has_echo(flags) != (beat.echo_us != 0) {
        return Err(DropReason::Malformed);
    }
    if has_group {
        beat.groups = take_group(&mut reader, tags)?.into_iter().collect();
    }
    Ok(beat)
}

fn low_half(number: u64) -> u32 {
    (number & u64::from(u32::MAX)) as u32
}

/// The number with these low 32 bits that is nearest to `base`.
fn nearest(base: u64, low: u32) -> u64 {
    let ahead = low.wrapping_sub(low_half(base));
    if ahead <= u32::MAX / 2 {
        base.saturating_add(u64::from(ahead))
    } else {
        base.checked_sub(u64::from(ahead.wrapping_neg())).unwrap_or(u64::from(low))
    }
}

/// My own time with these low 32 bits that is as long ago as the peer held it, or a little longer.
/// It may lie a little after `now_us`, which is when the session was made.
fn restore_echo(now_us: u64, held_us: u32, low: u32) -> u64 {
    let slack_us = u64::try_from(ECHO_SLACK.as_micros()).unwrap_or(0);
    let latest = now_us.saturating_add(slack_us).saturating_sub(u64::from(held_us));
    let back = low_half(latest).wrapping_sub(low);
    latest.checked_sub(u64::from(back)).unwrap_or(u64::from(low))
}
