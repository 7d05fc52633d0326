//! The fields that complete and plain serial frames have in common. All numbers are big-endian.
//!
//! What a node says of itself, [`SAID_BYTES`]:
//!
//! | bytes | what |
//! | --- | --- |
//! | 1 | bit 0 sender is the upper node, 1 ask, 2 farewell, 3 may claim, 4 LAN carrier, 5-6 state, 7 an echo follows |
//! | 1 | bits 0-2 the paths it hears, 3-4 wish (0 none, 1 standby, 2 online, 3 hand over), 5-6 answer (0 none, 1 refused, 2 accepted), 7 last will |
//! | 1, 2, 1 | number of the wish (bit 7: a loss is accepted), its group's tag, number of the answer; zero where there is none |
//! | 1, 1 | reach, reach of |
//! | 2 | worst gap in ms |
//! | 4 | for how long the echoed beat was held, in µs |
//!
//! A group, [`GROUP_BYTES`] and in complete frames [`DETAIL_BYTES`] more:
//!
//! | bytes | what |
//! | --- | --- |
//! | 2 | its tag: 16 bits of a hash of its name ([`GroupTags`]) |
//! | 1 | bits 0-2 stance, in the order of [`Stance`]; bit 3 the generation's owner is the upper node; bit 4 serves; 5-6 what its copy is, in the order of [`Holds`]; 7 the copy is empty |
//! | 2 | number of the want that is stated or granted; zero where there is none |
//! | 4, 4 | generation, its id |
//! | 2 | age in s of what the receiver lacks of the copy |
//! | 3 | complete frames: number of the copy's commit |
//! | 1, 1 | complete frames: files and bytes that the receiver lacks ([`Approx`]) |

use super::buffer::{FrameBuffer, Reader};
use super::copy::{Approx, CopyBeat, CopyDetail, Holds};
use super::message::{Ask, Beat, DropReason, GroupBeat, GroupBeats, PathSet, Stance};
use crate::config::{GroupTags, NodeIndex};
use crate::control::status::NodeState;
use crate::limits::REACH_HOSTS_MAX;

/// Length of what a node says of itself.
pub(super) const SAID_BYTES: usize = 14;
/// Length of a group's part ...
pub(super) const GROUP_BYTES: usize = 15;
/// ... and of what a complete frame adds to it.
pub(super) const DETAIL_BYTES: usize = 5;

const UPPER: u8 = 1 << 0;
const ASK_ANSWER: u8 = 1 << 1;
const FAREWELL: u8 = 1 << 2;
const MAY_CLAIM: u8 = 1 << 3;
const LAN_CARRIER: u8 = 1 << 4;
const STATE_SHIFT: u32 = 5;
const ECHO: u8 = 1 << 7;

const PATHS_MASK: u8 = 0b111;
const WISH_SHIFT: u32 = 3;
/// Of the number of a wish: the group is handed over though something is lost.
const LOSS: u8 = 1 << 7;
const ANSWER_SHIFT: u32 = 5;
const WILL: u8 = 1 << 7;

const STANCE_MASK: u8 = 0b111;
const OWNER_UPPER: u8 = 1 << 3;
const SERVING: u8 = 1 << 4;
const HOLDS_SHIFT: u32 = 5;
const EMPTY: u8 = 1 << 7;

/// The sender that the first of these bytes names.
pub(super) fn sender(flags: u8) -> NodeIndex {
    if flags & UPPER != 0 { NodeIndex::Upper } else { NodeIndex::Lower }
}

/// Whether these flags, the first of these bytes, announce an echo.
pub(super) fn has_echo(flags: u8) -> bool {
    flags & ECHO != 0
}

fn flag(condition: bool, bit: u8) -> u8 {
    if condition { bit } else { 0 }
}

/// Appends what the node says of itself.
pub(super) fn put_said(out: &mut FrameBuffer, tags: &GroupTags, beat: &Beat, with_echo: bool) {
    let state: u8 = match beat.state {
        NodeState::Joining => 0,
        NodeState::Online => 1,
        NodeState::Standby => 2,
        NodeState::Stalled => 3,
    };
    let flags = flag(beat.node == NodeIndex::Upper, UPPER)
        | flag(beat.ask_answer, ASK_ANSWER)
        | flag(beat.farewell, FAREWELL)
        | flag(beat.may_claim, MAY_CLAIM)
        | flag(beat.lan_carrier, LAN_CARRIER)
        | (state << STATE_SHIFT)
        | flag(with_echo, ECHO);
    let (wish, wish_number, wish_group): (u8, u8, u16) = match beat.wish {
        None => (0, 0, 0),
        Some((number, Ask::Standby)) => (1, number, 0),
        Some((number, Ask::Online)) => (2, number, 0),
        Some((number, Ask::HandOver(group))) => (3, number, tags.tag(group)),
        Some((number, Ask::AcceptLoss(group))) => (3, number | LOSS, tags.tag(group)),
    };
    let (answer, answer_number): (u8, u8) = match beat.answer {
        None => (0, 0),
        Some((number, false)) => (1, number),
        Some((number, true)) => (2, number),
    };
    let marks = (beat.hears.0 & PATHS_MASK)
        | (wish << WISH_SHIFT)
        | (answer << ANSWER_SHIFT)
        | flag(beat.will, WILL);
    out.put(&[flags, marks, wish_number]);
    out.put(&wish_group.to_be_bytes());
    out.put(&[answer_number, beat.reach, beat.reach_of]);
    out.put(&beat.worst_gap_ms.to_be_bytes());
    out.put(&beat.echo_held_us.to_be_bytes());
}

/// Reads what [`put_said`] wrote. The beat's other fields are empty still. A wish for a group that this node does not
/// have is none.
pub(super) fn take_said(reader: &mut Reader<'_>, tags: &GroupTags) -> Result<Beat, DropReason> {
    let [flags, marks, wish_number] = reader.take()?;
    let wish_group = reader.u16()?;
    let [answer_number, reach, reach_of] = reader.take()?;
    let worst_gap_ms = reader.u16()?;
    let echo_held_us = reader.u32()?;
    if reach > reach_of || usize::from(reach_of) > REACH_HOSTS_MAX {
        return Err(DropReason::Malformed);
    }
    let (farewell, will) = (flags & FAREWELL != 0, marks & WILL != 0);
    // The heart says goodbye, or the guard sends the will: never both.
    if farewell && will {
        return Err(DropReason::Malformed);
    }
    let state = match (flags >> STATE_SHIFT) & 0b11 {
        0 => NodeState::Joining,
        1 => NodeState::Online,
        2 => NodeState::Standby,
        _ => NodeState::Stalled,
    };
    let wish = match ((marks >> WISH_SHIFT) & 0b11, wish_number, wish_group) {
        (0, 0, 0) => None,
        (1, 1..LOSS, 0) => Some((wish_number, Ask::Standby)),
        (2, 1..LOSS, 0) => Some((wish_number, Ask::Online)),
        (3, 1..LOSS, 1..) => {
            tags.group(wish_group).map(|group| (wish_number, Ask::HandOver(group)))
        }
        (3, LOSS.., 1..) if wish_number > LOSS => {
            tags.group(wish_group).map(|group| (wish_number ^ LOSS, Ask::AcceptLoss(group)))
        }
        _ => return Err(DropReason::Malformed),
    };
    let answer = match ((marks >> ANSWER_SHIFT) & 0b11, answer_number) {
        (0, 0) => None,
        (1, 1..) => Some((answer_number, false)),
        (2, 1..) => Some((answer_number, true)),
        _ => return Err(DropReason::Malformed),
    };
    Ok(Beat {
        node: sender(flags),
        incarnation: 0,
        peer_incarnation: 0,
        sequence: 0,
        sent_us: 0,
        echo_us: 0,
        echo_held_us,
        ask_answer: flags & ASK_ANSWER != 0,
        farewell,
        will,
        state,
        may_claim: flags & MAY_CLAIM != 0,
        hears: PathSet(marks & PATHS_MASK),
        lan_carrier: flags & LAN_CARRIER != 0,
        reach,
        reach_of,
        worst_gap_ms,
        lan_mac: [0; 6],
        sync: [0; 8],
        digest: [0; 8],
        wish,
        answer,
        groups: GroupBeats::new(),
    })
}

/// Appends a group; its detail is not in it.
pub(super) fn put_group(out: &mut FrameBuffer, tags: &GroupTags, group: &GroupBeat) {
    let (stance, want): (u8, u16) = match group.stance {
        Stance::Unable => (0, 0),
        Stance::Passive => (1, 0),
        Stance::Wanting(want) => (2, want),
        Stance::Granting(want) => (3, want),
        Stance::Active => (4, 0),
        Stance::Offering => (5, 0),
        Stance::Claiming => (6, 0),
    };
    let owner = flag(group.owner == NodeIndex::Upper, OWNER_UPPER);
    let holds: u8 = match group.copy.holds {
        Holds::Nothing => 0,
        Holds::Older => 1,
        Holds::Newest => 2,
    };
    let copy = (holds << HOLDS_SHIFT) | flag(group.copy.empty, EMPTY);
    out.put(&tags.tag(group.group).to_be_bytes());
    out.put(&[stance | owner | flag(group.serving, SERVING) | copy]);
    out.put(&want.to_be_bytes());
    out.put(&group.generation.to_be_bytes());
    out.put(&group.id.to_be_bytes());
    out.put(&group.copy.unsent_s.to_be_bytes());
}

/// Appends a group's detail; without one, that its commit is not said.
pub(super) fn put_detail(out: &mut FrameBuffer, group: &GroupBeat) {
    let CopyDetail { commit, files, bytes } = group.copy.detail.unwrap_or_default();
    let [_, high, middle, low] = u32::from(commit).to_be_bytes();
    out.put(&[high, middle, low, files.0, bytes.0]);
}

/// Reads what [`put_detail`] wrote.
pub(super) fn take_detail(reader: &mut Reader<'_>) -> Result<CopyDetail, DropReason> {
    let [high, middle, low, files, bytes] = reader.take()?;
    let commit = u32::from_be_bytes([0, high, middle, low]).into();
    Ok(CopyDetail { commit, files: Approx(files), bytes: Approx(bytes) })
}

/// Reads what [`put_group`] wrote; `None` of a group that this node does not have.
pub(super) fn take_group(
    reader: &mut Reader<'_>,
    tags: &GroupTags,
) -> Result<Option<GroupBeat>, DropReason> {
    let tag = reader.u16()?;
    if tag == 0 {
        return Err(DropReason::Malformed);
    }
    let bits = reader.u8()?;
    let want = reader.u16()?;
    let holds = match (bits >> HOLDS_SHIFT) & 0b11 {
        0 => Holds::Nothing,
        1 => Holds::Older,
        2 => Holds::Newest,
        _ => return Err(DropReason::Malformed),
    };
    let stance = match (bits & STANCE_MASK, want) {
        (0, 0) => Stance::Unable,
        (1, 0) => Stance::Passive,
        (2, 1..) => Stance::Wanting(want),
        (3, 1..) => Stance::Granting(want),
        (4, 0) => Stance::Active,
        (5, 0) => Stance::Offering,
        (6, 0) => Stance::Claiming,
        _ => return Err(DropReason::Malformed),
    };
    let (generation, id, unsent_s) = (reader.u32()?, reader.u32()?, reader.u16()?);
    Ok(tags.group(tag).map(|group| GroupBeat {
        group,
        stance,
        serving: bits & SERVING != 0,
        generation,
        owner: if bits & OWNER_UPPER != 0 { NodeIndex::Upper } else { NodeIndex::Lower },
        id,
        copy: CopyBeat { holds, empty: bits & EMPTY != 0, unsent_s, detail: None },
    }))
}
