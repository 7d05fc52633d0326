//! Complete frames: all that a beat says. They travel on crossover and LAN with all groups, and as
//! introductions on serial with one.
//!
//! | offset | bytes | what |
//! | --- | --- | --- |
//! | 0 | 1 | [`HEAD`]: version 3, complete |
//! | 1 | 8 | cluster: which pair this is for, by a hash of its name |
//! | 9 | 14 | what the node says of itself (`fields`) |
//! | 23 | 8, 8 | the sender's incarnation, the receiver's as the sender knows it |
//! | 39 | 8, 8, 8 | sequence, sent, echo (µs) |
//! | 63 | 6, 8 | MAC of the LAN interface, where mirror sessions are taken (end of a link-local address) |
//! | 77 | 8 | digest of the config |
//! | 85 | 1 | number of groups |
//! | 86 | 20 each | the groups (`fields`) |
//! | end | 16 | tag: keyed BLAKE3 over all before it, with the key of the path |
//!
//! The shortest is 102 bytes, so that no NIC ever pads one; anything after the tag is refused.

use super::buffer::{FrameBuffer, Reader};
use super::codec::tag_fits;
use super::fields::{
    DETAIL_BYTES, GROUP_BYTES, SAID_BYTES, has_echo, put_detail, put_group, put_said, sender,
    take_detail, take_group, take_said,
};
use super::message::{Beat, DropReason, GroupBeat};
use crate::config::{GroupTags, NodeIndex};
use crate::limits::GROUPS_MAX;

/// First byte of a complete frame: version 3 in the upper half, kind 1 in the lower.
pub(super) const HEAD: u8 = 0x31;

const TAG_BYTES: usize = 16;
/// Where the flags stand, behind head and cluster.
const FLAGS_AT: usize = 1 + 8;
/// Where the number of groups stands.
const COUNT_AT: usize = FLAGS_AT + SAID_BYTES + 5 * 8 + 6 + 8 + 8;

/// Length of a complete frame with that many groups.
pub(super) const fn length(groups: usize) -> usize {
    COUNT_AT + 1 + groups * (GROUP_BYTES + DETAIL_BYTES) + TAG_BYTES
}

/// Writes `beat` with `groups` in place of its own.
pub(super) fn encode(
    key: &[u8; 32],
    cluster: [u8; 8],
    tags: &GroupTags,
    beat: &Beat,
    groups: &[GroupBeat],
    out: &mut FrameBuffer,
) {
    let groups = groups.get(..GROUPS_MAX).unwrap_or(groups);
    out.clear();
    out.put(&[HEAD]);
    out.put(&cluster);
    put_said(out, tags, beat, beat.echo_us != 0);
    for number in
        [beat.incarnation, beat.peer_incarnation, beat.sequence, beat.sent_us, beat.echo_us]
    {
        out.put(&number.to_be_bytes());
    }
    out.put(&beat.lan_mac);
    out.put(&beat.sync);
    out.put(&beat.digest);
    out.put(&[groups.len() as u8]);
    for group in groups {
        put_group(out, tags, group);
        put_detail(out, group);
    }
    let hash = blake3::keyed_hash(key, out.as_slice());
    out.put(hash.as_bytes().first_chunk::<TAG_BYTES>().map_or(&[], |tag| tag));
}

/// Reads a frame that begins with [`HEAD`]. `peer` is whom it must come from.
pub(super) fn decode(
    key: &[u8; 32],
    cluster: [u8; 8],
    tags: &GroupTags,
    peer: NodeIndex,
    bytes: &[u8],
) -> Result<Beat, DropReason> {
    let count = usize::from(*bytes.get(COUNT_AT).ok_or(DropReason::Truncated)?);
    if count > GROUPS_MAX || bytes.len() > length(count) {
        return Err(DropReason::Malformed);
    }
    if bytes.len() < length(count) {
        return Err(DropReason::Truncated);
    }
    let (signed, tag) = bytes.split_last_chunk::<TAG_BYTES>().ok_or(DropReason::Truncated)?;
    let mut reader = Reader::new(signed);
    reader.u8()?;
    if reader.take::<8>()? != cluster {
        return Err(DropReason::ForeignCluster);
    }
    let flags = *signed.get(FLAGS_AT).ok_or(DropReason::Truncated)?;
    if sender(flags) != peer {
        return Err(DropReason::NotPeer);
    }
    if !tag_fits(&blake3::keyed_hash(key, signed), tag) {
        return Err(DropReason::BadTag);
    }
    let mut beat = take_said(&mut reader, tags)?;
    beat.incarnation = reader.u64()?;
    beat.peer_incarnation = reader.u64()?;
    beat.sequence = reader.u64()?;
    beat.sent_us = reader.u64()?;
    beat.echo_us = reader.u64()?;
    beat.lan_mac = reader.take()?;
    beat.sync = reader.take()?;
    beat.digest = reader.take()?;
    reader.u8()?;
    if beat.incarnation == 0 || beat.sent_us == 0 || has_echo(flags) != (beat.echo_us != 0) {
        return Err(DropReason::Malformed);
    }
    for _ in 0..count {
        let group = take_group(&mut reader, tags)?;
        let detail = take_detail(&mut reader)?;
        let Some(mut group) = group else { continue };
        group.copy.detail = Some(detail);
        if beat.groups.iter().any(|known| known.group == group.group) {
            return Err(DropReason::Malformed);
        }
        beat.groups.try_push(group).map_err(|_| DropReason::Malformed)?;
    }
    Ok(beat)
}
