//! Frames as version 3 has them, for ever: whoever changes what travels changes the version, too, and
//! lets these files be.

use super::codec::{Codec, Session};
use super::tests::{beat_of, tags};
use super::{
    Approx, Ask, Beat, CommitBeat, CopyBeat, CopyDetail, DropReason, FrameBuffer, GroupBeat,
    GroupBeats, Holds, Incoming, Path, PathSet, Pulse, PulseKind, Stance,
};
use crate::config::{GroupIndex, NodeIndex};
use crate::control::status::NodeState;

const KEY: [u8; 32] = [7; 32];
const CLUSTER: &str = "office";
const LOWER: u64 = 0xaaaa_bbbb_cccc_dddd;
const UPPER: u64 = 0x1111_2222_3333_4444;
const ASK: Pulse = pulse(PulseKind::Ask, LOWER, UPPER);
const ANSWER: Pulse = pulse(PulseKind::Answer, LOWER, UPPER);
const LIFE: Pulse = pulse(PulseKind::Life, LOWER, UPPER);

const fn pulse(kind: PulseKind, incarnation: u64, peer_incarnation: u64) -> Pulse {
    Pulse { kind, incarnation, peer_incarnation, number: 0x01_0203 }
}

/// What the lower node says in each of the frames.
fn beat() -> Beat {
    let group = |index: u8, stance: Stance| GroupBeat {
        group: GroupIndex(index),
        stance,
        serving: index == 0,
        generation: 7 + u32::from(index),
        owner: NodeIndex::Upper,
        id: 0xdead_beef,
        copy: CopyBeat {
            holds: Holds::Newest,
            empty: index == 1,
            unsent_s: 258,
            detail: Some(CopyDetail {
                commit: CommitBeat::Number(0x01_0203),
                files: Approx(9),
                bytes: Approx(77),
            }),
        },
    };
    Beat {
        node: NodeIndex::Lower,
        incarnation: LOWER,
        peer_incarnation: UPPER,
        sequence: 4711,
        sent_us: 1_000_000,
        echo_us: 900_000,
        echo_held_us: 50_000,
        ask_answer: true,
        farewell: false,
        will: false,
        state: NodeState::Standby,
        may_claim: true,
        hears: PathSet::default().with(Path::Serial).with(Path::Lan),
        lan_carrier: true,
        reach: 1,
        reach_of: 2,
        worst_gap_ms: 51,
        lan_mac: [2, 0, 0, 0, 0, 1],
        sync: [1, 2, 3, 4, 5, 6, 7, 8],
        digest: *b"digest-1",
        wish: Some((9, Ask::HandOver(GroupIndex(1)))),
        answer: Some((8, true)),
        groups: [group(0, Stance::Wanting(513)), group(1, Stance::Active)].into_iter().collect(),
    }
}

/// What a frame with one group says, and a plain one: MAC and sync address do not travel.
fn with_one_group(plain: bool) -> Beat {
    let beat = beat();
    let mut groups: GroupBeats = beat.groups.iter().take(1).copied().collect();
    match plain {
        true => {
            groups.iter_mut().for_each(|group| group.copy.detail = None);
            Beat { groups, lan_mac: [0; 6], sync: [0; 8], ..beat }
        }
        false => Beat { groups, ..beat },
    }
}

fn lower() -> Codec {
    Codec::new(&KEY, CLUSTER, tags(), NodeIndex::Lower)
}

/// The lower node's codec when the upper one is known to know it: it sends plain frames on serial.
fn lower_known() -> Codec {
    let (mut lower, mut frame) = (lower(), FrameBuffer::new());
    let greeting =
        Beat { node: NodeIndex::Upper, incarnation: UPPER, peer_incarnation: LOWER, ..beat() };
    Codec::new(&KEY, CLUSTER, tags(), NodeIndex::Upper).encode(Path::Lan, &greeting, &mut frame);
    let session = Session {
        my_incarnation: LOWER,
        peer_incarnation: UPPER,
        peer_digest: *b"digest-1",
        now_us: 1_000_000,
    };
    lower.decode(Path::Lan, frame.as_slice(), &session).unwrap();
    lower
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.trim().as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Holds the frame that is encoded now against the frozen one, and reads that one.
fn is_frozen(name: &str, path: Path, encode: impl FnOnce(&mut FrameBuffer)) -> Incoming {
    let mut frame = FrameBuffer::new();
    encode(&mut frame);
    let file = format!("{}/tests/frames/version-3-{name}.hex", env!("CARGO_MANIFEST_DIR"));
    // One that is there is never written again.
    if std::env::var_os("UPDATE_GOLDENS").is_some() && !std::path::Path::new(&file).exists() {
        std::fs::write(&file, hex(frame.as_slice()) + "\n").unwrap();
    }
    let frozen = bytes(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(hex(frame.as_slice()), hex(&frozen), "{name}: another frame, and still version 3");
    let session = Session {
        my_incarnation: UPPER,
        peer_incarnation: LOWER,
        peer_digest: *b"digest-1",
        now_us: 960_000,
    };
    let mut upper = Codec::new(&KEY, CLUSTER, tags(), NodeIndex::Upper);
    let asked = Pulse { number: ANSWER.number, ..pulse(PulseKind::Ask, UPPER, LOWER) };
    upper.encode_pulse(&asked, &mut frame);
    upper.decode(path, &frozen, &session).unwrap()
}

#[test]
fn complete_frames_of_version_3() {
    for (name, path) in [("crossover", Path::Crossover), ("lan", Path::Lan)] {
        let read = is_frozen(name, path, |frame| lower().encode(path, &beat(), frame));
        assert_eq!(beat_of(read), beat());
    }
    let introduce = |frame: &mut FrameBuffer| lower().encode(Path::Serial, &beat(), frame);
    let read = is_frozen("serial-introduction", Path::Serial, introduce);
    assert_eq!(beat_of(read), with_one_group(false));
}

#[test]
fn a_last_will_of_version_3() {
    let will = Beat { will: true, ..beat() };
    let encode = |frame: &mut FrameBuffer| lower().encode_will(Path::Lan, &will, frame);
    assert_eq!(beat_of(is_frozen("will", Path::Lan, encode)), will);
}

#[test]
fn plain_frames_of_version_3() {
    let encode = |frame: &mut FrameBuffer| lower_known().encode(Path::Serial, &beat(), frame);
    let read = is_frozen("serial-plain", Path::Serial, encode);
    assert_eq!(beat_of(read), with_one_group(true));
}

#[test]
fn pulses_of_version_3() {
    for (name, pulse) in [("serial-ask", ASK), ("serial-answer", ANSWER), ("serial-life", LIFE)] {
        let read = is_frozen(name, Path::Serial, |frame| lower().encode_pulse(&pulse, frame));
        assert!(matches!(read, Incoming::Pulse(read) if read == pulse), "{name}");
    }
}

#[test]
fn frames_of_earlier_versions_are_refused_by_name() {
    let names = ["crossover", "lan", "will", "serial-introduction", "serial-plain", "serial-ask"];
    for (version, name) in [1, 2].into_iter().flat_map(|version| names.map(|name| (version, name)))
    {
        let frames = format!("{}/tests/frames", env!("CARGO_MANIFEST_DIR"));
        let file = format!("{frames}/version-{version}-{name}.hex");
        let frame = bytes(&std::fs::read_to_string(&file).unwrap());
        let session = Session {
            my_incarnation: UPPER,
            peer_incarnation: LOWER,
            peer_digest: [0; 8],
            now_us: 1,
        };
        let path = if name.starts_with("serial") { Path::Serial } else { Path::Lan };
        let read =
            Codec::new(&KEY, CLUSTER, tags(), NodeIndex::Upper).decode(path, &frame, &session);
        assert_eq!(read.err(), Some(DropReason::OldVersion), "{name}");
    }
}
