//! What every frame must stand: round trips, and refusal of everything else.

use proptest::prelude::*;

use super::cobs::{Deframer, Stuffed};
use super::frame;
use super::*;
use crate::config::{GroupIndex, GroupTags, NodeIndex};
use crate::control::status::NodeState;
use crate::limits::{
    BEAT_BYTES_MAX, DIGEST_INTRODUCTIONS, GROUPS_MAX, INTRODUCE_EVERY, INTRODUCTION_BYTES_MAX,
    REACH_HOSTS_MAX, SERIAL_BEAT_BYTES_MAX,
};

mod rotation;
mod will;

const KEY: [u8; 32] = [7; 32];
const CLUSTER: &str = "office";
/// Incarnation of the receiver, the upper node.
const MINE: u64 = 0x1111_2222_3333_4444;
/// Incarnation of the sender, the lower node.
const ITS: u64 = 0xaaaa_bbbb_cccc_dddd;
const ITS_DIGEST: [u8; 8] = *b"digest-1";

/// As many groups as there may be.
pub(super) fn tags() -> GroupTags {
    GroupTags::of(["one", "two", "three", "four", "five", "six", "seven", "eight"])
}

fn sender() -> Codec {
    Codec::new(&KEY, CLUSTER, tags(), NodeIndex::Lower)
}

fn receiver() -> Codec {
    Codec::new(&KEY, CLUSTER, tags(), NodeIndex::Upper)
}

fn session(now_us: u64) -> Session {
    Session { my_incarnation: MINE, peer_incarnation: ITS, peer_digest: ITS_DIGEST, now_us }
}

fn encoded(codec: &mut Codec, path: Path, beat: &Beat) -> Vec<u8> {
    let mut out = FrameBuffer::new();
    codec.encode(path, beat, &mut out);
    out.as_slice().to_vec()
}

fn any_path() -> impl Strategy<Value = Path> {
    prop::sample::select(Path::ALL.to_vec())
}

fn any_node() -> impl Strategy<Value = NodeIndex> {
    prop::sample::select(NodeIndex::BOTH.to_vec())
}

fn any_group() -> impl Strategy<Value = GroupBeat> {
    let stance = prop_oneof![
        Just(Stance::Unable),
        Just(Stance::Passive),
        (1..=u16::MAX).prop_map(Stance::Wanting),
        (1..=u16::MAX).prop_map(Stance::Granting),
        Just(Stance::Active),
        Just(Stance::Offering),
        Just(Stance::Claiming),
    ];
    (stance, any::<bool>(), any::<u32>(), any_node(), any::<u32>(), any_copy()).prop_map(
        |(stance, serving, generation, owner, id, copy)| GroupBeat {
            group: GroupIndex(0),
            stance,
            serving,
            generation,
            owner,
            id,
            copy,
        },
    )
}

fn any_copy() -> impl Strategy<Value = CopyBeat> {
    let holds = prop_oneof![Just(Holds::Nothing), Just(Holds::Older), Just(Holds::Newest)];
    let commit = prop_oneof![
        Just(CommitBeat::NotSaid),
        Just(CommitBeat::Unknown),
        any::<u64>().prop_map(CommitBeat::of)
    ];
    let detail = (commit, any::<u8>(), any::<u8>()).prop_map(|(commit, files, bytes)| {
        Some(CopyDetail { commit, files: Approx(files), bytes: Approx(bytes) })
    });
    (holds, any::<bool>(), any::<u16>(), detail)
        .prop_map(|(holds, empty, unsent_s, detail)| CopyBeat { holds, empty, unsent_s, detail })
}

impl Codec {
    /// Reads a frame that must be a beat or refused.
    fn decode_beat(
        &mut self,
        path: Path,
        bytes: &[u8],
        session: &Session,
    ) -> Result<Beat, DropReason> {
        self.decode(path, bytes, session).map(beat_of)
    }
}

pub(super) fn beat_of(incoming: Incoming) -> Beat {
    match incoming {
        Incoming::Beat(beat) => beat,
        Incoming::Pulse(pulse) => panic!("{pulse:?} is no beat"),
    }
}

fn any_wish() -> impl Strategy<Value = (u8, Ask)> {
    let ask = prop_oneof![
        Just(Ask::Standby),
        Just(Ask::Online),
        (0..GROUPS_MAX as u8).prop_map(|group| Ask::HandOver(GroupIndex(group))),
        (0..GROUPS_MAX as u8).prop_map(|group| Ask::AcceptLoss(GroupIndex(group))),
    ];
    (1..=Ask::NUMBER_MAX, ask)
}

prop_compose! {
    fn any_numbers()(
        sequence: u64, sent_us in 1..u64::MAX / 2, age_us in 0..1u64 << 40, now_us in 1u64 << 41..1 << 60,
        travel_us in 0..4_000_000u64,
    ) -> (u64, u64, u64, u32, u64) {
        // An echo is held for a time and travels for a while, and is older than now by both.
        let held_us = u32::try_from(age_us).unwrap_or(u32::MAX);
        (sequence, sent_us, now_us - u64::from(held_us) - travel_us, held_us, now_us)
    }
}

prop_compose! {
    /// Any beat of the lower node that the core could send, and the receiver's time when it arrives.
    fn any_beat()(
        (sequence, sent_us, echo_us, echo_held_us, now_us) in any_numbers(),
        has_echo: bool, flags: [bool; 5], state in 0..4usize, hears in 0..8u8,
        (reach, reach_of) in (0..=REACH_HOSTS_MAX as u8).prop_flat_map(|of| (0..=of, Just(of))),
        worst_gap_ms: u16, lan_mac: [u8; 6], sync: [u8; 8], wish in prop::option::of(any_wish()),
        answer in prop::option::of((1..=u8::MAX, any::<bool>())),
        groups in prop::collection::vec(any_group(), 0..=GROUPS_MAX),
        peer_incarnation in prop_oneof![Just(0), Just(MINE), any::<u64>()],
    ) -> (Beat, u64) {
        let [ask_answer, farewell, will, may_claim, lan_carrier] = flags;
        let states = [NodeState::Joining, NodeState::Online, NodeState::Standby, NodeState::Stalled];
        let groups = (0..).map(GroupIndex).zip(groups)
            .map(|(group, beat)| GroupBeat { group, ..beat }).collect();
        let beat = Beat {
            node: NodeIndex::Lower, incarnation: ITS, peer_incarnation, sequence, sent_us,
            echo_us: if has_echo { echo_us } else { 0 }, echo_held_us, ask_answer, farewell,
            will: will && !farewell, state: states[state], may_claim, hears: PathSet(hears), lan_carrier, reach, reach_of,
            worst_gap_ms, lan_mac, sync, digest: ITS_DIGEST, wish, answer, groups,
        };
        (beat, now_us)
    }
}

/// A beat for the receiver's current incarnation, no farewell: one that may go as a plain frame.
fn any_plain() -> impl Strategy<Value = (Beat, u64)> {
    any_beat().prop_map(|(beat, now_us)| {
        (Beat { peer_incarnation: MINE, farewell: false, ..beat }, now_us)
    })
}

/// Two codecs that know each other: the sender was echoed, the receiver heard the sender's numbers
/// shortly before `beat`.
fn acquainted(beat: &Beat) -> (Codec, Codec) {
    let (mut lower, mut upper) = (sender(), receiver());
    let introduction = Beat {
        sequence: beat.sequence.saturating_sub(3),
        sent_us: beat.sent_us.saturating_sub(150_000).max(1),
        ..beat.clone()
    };
    let bytes = encoded(&mut lower, Path::Serial, &introduction);
    assert_eq!(bytes[0], frame::HEAD);
    upper.decode_beat(Path::Serial, &bytes, &session(1)).unwrap();
    let reply = Beat {
        node: NodeIndex::Upper,
        incarnation: MINE,
        peer_incarnation: ITS,
        ..introduction.clone()
    };
    let bytes = encoded(&mut upper, Path::Lan, &reply);
    let of_lower = Session { my_incarnation: ITS, peer_incarnation: MINE, ..session(1) };
    lower.decode_beat(Path::Lan, &bytes, &of_lower).unwrap();
    (lower, upper)
}

/// What a plain frame makes of a beat.
fn as_plain(beat: &Beat, group: usize) -> Beat {
    Beat {
        lan_mac: [0; 6],
        sync: [0; 8],
        echo_us: if beat.echo_held_us == u32::MAX { 0 } else { beat.echo_us },
        groups: beat
            .groups
            .get(group)
            .map(|part| GroupBeat { copy: CopyBeat { detail: None, ..part.copy }, ..*part })
            .into_iter()
            .collect(),
        ..beat.clone()
    }
}

/// A frame of `path` and the codec that can read it; on serial a plain one if the beat allows it.
fn frame_for(path: Path, beat: &Beat) -> (Vec<u8>, Codec) {
    let (mut lower, upper) = acquainted(beat);
    (encoded(&mut lower, path, beat), upper)
}

proptest! {
    #[test]
    fn beats_round_trip_on_crossover_and_lan(
        (beat, now_us) in any_beat(), path in prop::sample::select(vec![Path::Crossover, Path::Lan])
    ) {
        let bytes = encoded(&mut sender(), path, &beat);
        prop_assert!(bytes.len() <= BEAT_BYTES_MAX);
        prop_assert_eq!(receiver().decode_beat(path, &bytes, &session(now_us)), Ok(beat));
    }

    #[test]
    fn introductions_round_trip_on_serial((beat, now_us) in any_beat()) {
        let bytes = encoded(&mut sender(), Path::Serial, &beat);
        prop_assert!(bytes.len() <= INTRODUCTION_BYTES_MAX);
        let heard = receiver().decode_beat(Path::Serial, &bytes, &session(now_us)).unwrap();
        let groups = beat.groups.first().copied().into_iter().collect();
        prop_assert_eq!(heard, Beat { groups, ..beat });
    }

    #[test]
    fn plain_frames_round_trip_on_serial((beat, now_us) in any_plain()) {
        let (bytes, mut upper) = frame_for(Path::Serial, &beat);
        prop_assert!(bytes.len() <= SERIAL_BEAT_BYTES_MAX);
        let heard = upper.decode_beat(Path::Serial, &bytes, &session(now_us));
        // The introduction had the first group's turn.
        let group = if beat.groups.len() > 1 { 1 } else { 0 };
        prop_assert_eq!(heard, Ok(as_plain(&beat, group)));
    }

    #[test]
    fn any_flipped_bit_is_refused(
        (beat, now_us) in any_plain(), path in any_path(), at: prop::sample::Index, bit in 0..8u32
    ) {
        let (mut bytes, mut upper) = frame_for(path, &beat);
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(upper.decode_beat(path, &bytes, &session(now_us)).is_err());
    }

    #[test]
    fn any_other_length_is_refused(
        (beat, now_us) in any_plain(), path in any_path(), at: prop::sample::Index,
        tail in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 1..200)
    ) {
        let (mut bytes, mut upper) = frame_for(path, &beat);
        let cut = at.index(bytes.len());
        prop_assert!(upper.decode_beat(path, &bytes[..cut], &session(now_us)).is_err());
        bytes.extend(tail);
        prop_assert!(upper.decode_beat(path, &bytes, &session(now_us)).is_err());
    }

    #[test]
    fn random_bytes_are_refused(
        mut bytes in prop::collection::vec(any::<u8>(), 0..300),
        head in prop::option::of(prop::sample::select(vec![0x11u8, 0x21, 0x22, 0x31])), path in any_path()
    ) {
        if let (Some(first), Some(head)) = (bytes.first_mut(), head) {
            *first = head;
        }
        prop_assert!(receiver().decode_beat(path, &bytes, &session(1 << 40)).is_err());
    }

    #[test]
    fn a_frame_of_one_path_is_refused_on_another(
        (beat, now_us) in any_plain(), path in any_path(), step in 1..Path::ALL.len(), plain: bool
    ) {
        let other = Path::ALL[(path.index() + step) % Path::ALL.len()];
        let beat = Beat { peer_incarnation: if plain { MINE } else { 0 }, ..beat };
        let (bytes, mut upper) = frame_for(path, &beat);
        let refused = upper.decode_beat(other, &bytes, &session(now_us)).unwrap_err();
        prop_assert!(matches!(refused, DropReason::BadTag | DropReason::Malformed));
    }

    #[test]
    fn a_plain_frame_counts_between_its_two_incarnations_only(
        (beat, now_us) in any_plain(), mine: u64, its: u64, digest: [u8; 8], which in 0..3
    ) {
        prop_assume!(mine != MINE && its != ITS && digest != ITS_DIGEST);
        let (bytes, mut upper) = frame_for(Path::Serial, &beat);
        let mut session = session(now_us);
        match which {
            0 => session.my_incarnation = mine,
            1 => session.peer_incarnation = its,
            _ => session.peer_digest = digest,
        }
        let refused = upper.decode_beat(Path::Serial, &bytes, &session);
        prop_assert_eq!(refused, Err(DropReason::BadTag));
    }

    #[test]
    fn frames_survive_noise_and_any_chunking(
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..=INTRODUCTION_BYTES_MAX), 1..8),
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..400), 8)
    ) {
        let mut line = Vec::new();
        for (frame, noise) in frames.iter().zip(&noise) {
            line.extend(noise);
            line.extend(Stuffed::new(frame).unwrap().as_slice());
        }
        let mut deframer = Deframer::new();
        let found: Vec<Vec<u8>> = line
            .iter()
            .filter_map(|&byte| deframer.push(byte)?.ok())
            .map(|frame| frame.as_slice().to_vec())
            .collect();
        // Noise may look like frames of its own: the tag tells. Ours are there, all and in order.
        let mut rest = found.iter();
        for frame in &frames {
            prop_assert!(rest.any(|found| found == frame), "{:?} not in {:?}", frame, found);
        }
    }
}

/// Who knows nothing of its copy must not be taken for who has an empty one: the peer would serve what is older.
#[test]
fn p3_a_copy_that_nobody_has_looked_at_is_not_said_to_have_no_commit() {
    let mut beat = sample();
    beat.groups.iter_mut().for_each(|group| group.copy = CopyBeat::default());
    for path in [Path::Crossover, Path::Lan, Path::Serial] {
        let bytes = encoded(&mut sender(), path, &beat);
        let heard = receiver().decode_beat(path, &bytes, &session(70_000_000)).unwrap();
        let detail = heard.groups.first().and_then(|group| group.copy.detail);
        assert_eq!(detail.map(|detail| detail.commit), Some(CommitBeat::NotSaid), "{path:?}");
    }
}

#[test]
fn commits_follow_each_other_and_go_round() {
    let number = CommitBeat::of;
    assert!(number(8).is_after(number(7)));
    assert!(!number(7).is_after(number(7)));
    assert!(!number(7).is_after(number(8)));
    assert!(number((1 << 24) + 5).is_after(number((1 << 24) - 3)), "it has gone round");
    for none in [CommitBeat::NotSaid, number(u64::MAX), number((1 << 24) - 2)] {
        assert!(!none.is_after(number(0)) && !number(1 << 20).is_after(none), "{none:?}");
    }
}

fn sample() -> Beat {
    let group = GroupBeat {
        group: GroupIndex(0),
        stance: Stance::Active,
        serving: false,
        generation: 7,
        owner: NodeIndex::Lower,
        id: 99,
        copy: CopyBeat { detail: Some(CopyDetail::default()), ..CopyBeat::default() },
    };
    Beat {
        node: NodeIndex::Lower,
        incarnation: ITS,
        peer_incarnation: MINE,
        sequence: 1000,
        sent_us: 50_000_000,
        echo_us: 60_000_000,
        echo_held_us: 20_000,
        ask_answer: false,
        farewell: false,
        will: false,
        state: NodeState::Online,
        may_claim: true,
        hears: PathSet(7),
        lan_carrier: true,
        reach: 2,
        reach_of: 2,
        worst_gap_ms: 3,
        lan_mac: [2, 0, 0, 0, 0, 1],
        sync: [0; 8],
        digest: ITS_DIGEST,
        wish: None,
        answer: None,
        groups: (0..GROUPS_MAX as u8)
            .map(|index| GroupBeat { group: GroupIndex(index), ..group })
            .collect(),
    }
}

#[test]
fn reasons_name_what_is_wrong() {
    let beat = sample();
    for path in Path::ALL {
        let bytes = encoded(&mut sender(), path, &beat);
        let session = session(60_100_000);
        let refused =
            |mut codec: Codec, bytes: &[u8]| codec.decode_beat(path, bytes, &session).err();
        let other = |key, cluster| Codec::new(key, cluster, tags(), NodeIndex::Upper);
        assert_eq!(refused(other(&KEY, "home"), &bytes), Some(DropReason::ForeignCluster));
        assert_eq!(refused(other(&[8; 32], CLUSTER), &bytes), Some(DropReason::BadTag));
        assert_eq!(refused(sender(), &bytes), Some(DropReason::NotPeer));
        assert_eq!(refused(receiver(), &[]), Some(DropReason::Truncated));
        assert_eq!(refused(receiver(), &bytes[..50]), Some(DropReason::Truncated));
        assert_eq!(refused(receiver(), &bytes[..bytes.len() - 1]), Some(DropReason::Truncated));
        assert_eq!(refused(receiver(), &[0x11; BEAT_BYTES_MAX + 1]), Some(DropReason::Oversized));
        let mut other = bytes.clone();
        other[0] = 0x41;
        assert_eq!(refused(receiver(), &other), Some(DropReason::UnknownVersion));
        for old in [0x11, 0x21] {
            other[0] = old;
            assert_eq!(refused(receiver(), &other), Some(DropReason::OldVersion));
        }
    }
}

/// Authentic frames of a peer that writes nonsense are refused too.
#[test]
fn impossible_values_are_malformed_even_with_a_good_tag() {
    let group = sample().groups[0];
    let nonsense = [
        Beat { incarnation: 0, ..sample() },
        Beat { sent_us: 0, ..sample() },
        Beat { farewell: true, will: true, ..sample() },
        Beat { reach: 3, reach_of: 2, ..sample() },
        Beat { reach_of: REACH_HOSTS_MAX as u8 + 1, ..sample() },
        Beat { wish: Some((0, Ask::Online)), ..sample() },
        Beat { wish: Some((1, Ask::HandOver(GroupIndex(8)))), ..sample() },
        Beat { wish: Some((1, Ask::AcceptLoss(GroupIndex(8)))), ..sample() },
        Beat { answer: Some((0, true)), ..sample() },
        Beat { groups: [group, group].into_iter().collect(), ..sample() },
        Beat {
            groups: [GroupBeat { group: GroupIndex(8), ..group }].into_iter().collect(),
            ..sample()
        },
        Beat {
            groups: [GroupBeat { stance: Stance::Wanting(0), ..group }].into_iter().collect(),
            ..sample()
        },
    ];
    for beat in nonsense {
        let bytes = encoded(&mut sender(), Path::Lan, &beat);
        let refused = receiver().decode_beat(Path::Lan, &bytes, &session(1));
        assert_eq!(refused, Err(DropReason::Malformed), "{beat:?}");
    }
}

#[test]
fn sizes_stay_below_their_limits() {
    assert!(frame::length(GROUPS_MAX) <= BEAT_BYTES_MAX);
    assert!(frame::length(1) <= INTRODUCTION_BYTES_MAX);
    assert!(super::serial_frame::length(1) <= SERIAL_BEAT_BYTES_MAX);
    // No NIC pads what is longer than Ethernet's 46 bytes.
    assert!(frame::length(0) > 46);
    assert_eq!(encoded(&mut sender(), Path::Lan, &sample()).len(), frame::length(GROUPS_MAX));
}

#[test]
fn groups_take_turns_on_serial_and_every_tenth_frame_introduces() {
    let (mut lower, mut upper) = acquainted(&sample());
    let mut seen = Vec::new();
    let mut introductions = Vec::new();
    for number in 0..40 {
        let beat = Beat { sequence: 1000 + number, ..sample() };
        let bytes = encoded(&mut lower, Path::Serial, &beat);
        if bytes[0] == frame::HEAD {
            introductions.push(number);
        }
        let heard = upper.decode_beat(Path::Serial, &bytes, &session(60_100_000)).unwrap();
        assert_eq!(heard.sequence, beat.sequence);
        seen.push(heard.groups[0].group.0);
    }
    let turns: Vec<u8> = (1..41).map(|turn| turn % GROUPS_MAX as u8).collect();
    assert_eq!(seen, turns);
    let every = u64::from(INTRODUCE_EVERY);
    assert_eq!(introductions, [every - 1, 2 * every - 1, 3 * every - 1, 4 * every - 1]);
}

/// The sender reloads its config; only the line is left. The receiver loses no frame.
#[test]
fn another_digest_is_introduced_on_serial_alone() {
    let (mut lower, mut upper) = acquainted(&sample());
    let mut known = session(60_100_000);
    let mut introductions = 0;
    for number in 0..8 {
        let digest = if number < 2 { ITS_DIGEST } else { *b"digest-2" };
        let beat = Beat { sequence: 1000 + number, digest, ..sample() };
        let bytes = encoded(&mut lower, Path::Serial, &beat);
        introductions += u32::from(number >= 2 && bytes[0] == frame::HEAD);
        let heard = upper.decode_beat(Path::Serial, &bytes, &known).unwrap();
        assert_eq!(heard.digest, digest);
        known.peer_digest = heard.digest;
    }
    assert_eq!(introductions, DIGEST_INTRODUCTIONS);
}

/// The receiver restarts; only the line is left. Both understand each other again after one frame
/// in each direction.
#[test]
fn a_restarted_peer_heals_on_serial_alone() {
    const MINE_2: u64 = 5;
    let (mut lower, _) = acquainted(&sample());
    let mut upper = receiver();
    let newborn = Session { my_incarnation: MINE_2, peer_incarnation: 0, ..session(1000) };
    let stale = encoded(&mut lower, Path::Serial, &sample());
    assert_eq!(upper.decode_beat(Path::Serial, &stale, &newborn), Err(DropReason::BadTag));

    let hello = Beat {
        node: NodeIndex::Upper,
        incarnation: MINE_2,
        peer_incarnation: 0,
        sent_us: 500,
        echo_us: 0,
        ..sample()
    };
    let hello = encoded(&mut upper, Path::Serial, &hello);
    let of_lower = Session { my_incarnation: ITS, peer_incarnation: MINE, ..session(60_100_000) };
    let heard = lower.decode_beat(Path::Serial, &hello, &of_lower).unwrap();
    assert_eq!((heard.incarnation, heard.peer_incarnation), (MINE_2, 0));

    let answer = Beat { peer_incarnation: MINE_2, echo_us: 500, echo_held_us: 0, ..sample() };
    let bytes = encoded(&mut lower, Path::Serial, &answer);
    let heard = upper.decode_beat(Path::Serial, &bytes, &newborn).unwrap();
    assert_eq!((heard.incarnation, heard.peer_incarnation), (ITS, MINE_2));

    // The newborn knows both now, and the other learns of that from its first plain frame.
    let known = Session { my_incarnation: MINE_2, ..session(2000) };
    let plain =
        Beat { node: NodeIndex::Upper, incarnation: MINE_2, peer_incarnation: ITS, ..sample() };
    let plain = Beat { sent_us: 1500, echo_us: 0, ..plain };
    let bytes = encoded(&mut upper, Path::Serial, &plain);
    assert_eq!(bytes.len(), super::serial_frame::length(1));
    let of_lower = Session { peer_incarnation: MINE_2, ..of_lower };
    let heard = lower.decode_beat(Path::Serial, &bytes, &of_lower).unwrap();
    assert_eq!((heard.sequence, heard.sent_us), (plain.sequence, plain.sent_us));
    let next = Beat { sequence: 1001, sent_us: 50_050_000, ..answer };
    let bytes = encoded(&mut lower, Path::Serial, &next);
    assert_eq!(bytes.len(), super::serial_frame::length(1));
    let heard = upper.decode_beat(Path::Serial, &bytes, &known).unwrap();
    assert_eq!((heard.sequence, heard.sent_us, heard.echo_us), (1001, 50_050_000, 500));
}

/// Frames replayed from an ended incarnation do not make the current one unreadable on serial, not
/// even when its times need more than 32 bits.
#[test]
fn replays_of_an_ended_incarnation_disturb_nothing() {
    let beat = Beat { sent_us: 1 << 40, sequence: 1 << 40, ..sample() };
    let (mut lower, mut upper) = acquainted(&beat);
    let old = Beat { incarnation: 77, ..sample() };
    let old = encoded(&mut sender(), Path::Lan, &old);
    let session = session(60_100_000);
    for _ in 0..3 {
        assert_eq!(upper.decode_beat(Path::Lan, &old, &session).unwrap().incarnation, 77);
        let bytes = encoded(&mut lower, Path::Serial, &beat);
        assert_eq!(bytes.len(), super::serial_frame::length(1));
        assert_eq!(upper.decode_beat(Path::Serial, &bytes, &session).unwrap().sent_us, 1 << 40);
    }
}

/// The other paths are faster: when a plain frame comes, newer beats were heard already. And the low
/// halves of sequence and time may have started again in between, in either direction.
#[test]
fn a_plain_frame_may_be_older_or_newer_than_what_was_heard() {
    const WRAP: u64 = 1 << 32;
    for (first, heard, plain) in [
        (5, 9, 7),
        (WRAP - 20, WRAP + 10, WRAP - 10),
        (WRAP - 20, WRAP - 10, WRAP + 10),
        (8 * WRAP, 8 * WRAP + 2000, 8 * WRAP + 1),
        (1, WRAP / 2 - 2, 1),
    ] {
        let at = |number| Beat { sequence: number, sent_us: number, ..sample() };
        let (mut lower, mut upper) = acquainted(&at(first));
        let session = session(60_100_000);
        let newer = encoded(&mut lower, Path::Crossover, &at(heard));
        upper.decode_beat(Path::Crossover, &newer, &session).unwrap();
        let bytes = encoded(&mut lower, Path::Serial, &at(plain));
        assert_eq!(bytes.len(), super::serial_frame::length(1));
        let got = upper.decode_beat(Path::Serial, &bytes, &session).unwrap();
        assert_eq!((got.sequence, got.sent_us), (plain, plain));
    }
}

/// The echo comes back as this node's own time, though the session may be a moment older than it, and
/// though the peer may have held it longer than it takes 32 bits to start again.
#[test]
fn an_echo_is_restored_from_when_it_was_held() {
    const WRAP: u64 = 1 << 32;
    for (now_us, echo_us, held_us) in [
        (1_000_000, 1_000_400, 0),
        (5 * WRAP + 3, 5 * WRAP - 3, 4),
        (5 * WRAP, 4 * WRAP - 5_000_000, u32::MAX - 10),
        (1_500_000, 1, 1_000_000),
    ] {
        let beat = Beat { echo_us, echo_held_us: held_us, ..sample() };
        let (bytes, mut upper) = frame_for(Path::Serial, &beat);
        assert_eq!(bytes.len(), super::serial_frame::length(1));
        let got = upper.decode_beat(Path::Serial, &bytes, &session(now_us)).unwrap();
        assert_eq!(got.echo_us, echo_us);
    }
}

/// While the two nodes' config files differ, each takes what is said of the groups that it has.
#[test]
fn groups_are_meant_by_name() {
    let there = GroupTags::of(["added", "one", "three"]);
    let here = GroupTags::of(["one", "two", "three"]);
    let wishes = [
        (Some((127, Ask::AcceptLoss(GroupIndex(1)))), Some((127, Ask::AcceptLoss(GroupIndex(0))))),
        (Some((1, Ask::HandOver(GroupIndex(2)))), Some((1, Ask::HandOver(GroupIndex(2))))),
        (Some((1, Ask::HandOver(GroupIndex(0)))), None),
    ];
    for (wish, heard) in wishes {
        let said = Beat { wish, groups: sample().groups.into_iter().take(3).collect(), ..sample() };
        let mut sender = Codec::new(&KEY, CLUSTER, there.clone(), NodeIndex::Lower);
        let mut receiver = Codec::new(&KEY, CLUSTER, here.clone(), NodeIndex::Upper);
        let bytes = encoded(&mut sender, Path::Lan, &said);
        let beat = receiver.decode_beat(Path::Lan, &bytes, &session(60_100_000)).unwrap();
        let groups: Vec<GroupIndex> = beat.groups.iter().map(|part| part.group).collect();
        assert_eq!(groups, [GroupIndex(0), GroupIndex(2)]);
        assert_eq!(beat.wish, heard);
    }
}
