//! `docs/PROTOCOL.md` is enough to read a beat: here nothing of the program is used but the frozen frames, and each
//! number is from that page.

use super::read;

const KEY: [u8; 32] = [7; 32];
const CLUSTER: &[u8] = b"office";
const LOWER: u64 = 0xaaaa_bbbb_cccc_dddd;
const UPPER: u64 = 0x1111_2222_3333_4444;

fn frame(name: &str) -> Vec<u8> {
    bytes(read(format!("tests/frames/version-3-{name}.hex")).trim())
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// The bytes of the page's example: those that each line begins with.
fn example() -> Vec<u8> {
    let page = read("docs/PROTOCOL.md");
    let block = page.split("### An example").nth(1).and_then(|rest| rest.split("```").nth(1));
    let is_hex =
        |word: &&str| word.len().is_multiple_of(2) && word.bytes().all(|b| b.is_ascii_hexdigit());
    let Some(lines) = block.map(str::lines) else { panic!("no example") };
    let hex: String = lines.flat_map(|line| line.split(' ').take_while(is_hex)).collect();
    bytes(&hex)
}

#[test]
fn the_example_is_the_frozen_frame() {
    assert_eq!(example(), frame("lan"));
}

/// A key for one use: derived from the key file's bytes and the cluster's name.
fn key(context: &str) -> [u8; 32] {
    blake3::derive_key(context, &[KEY.as_slice(), CLUSTER].concat())
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte))
}

/// Whether the last bytes are the tag over the rest and what is implied.
fn has_tag(context: &str, frame: &[u8], tag_bytes: usize, implied: &[u64], digest: &[u8]) -> bool {
    let (signed, tag) = frame.split_at(frame.len() - tag_bytes);
    let mut all = signed.to_vec();
    implied.iter().for_each(|number| all.extend(number.to_be_bytes()));
    all.extend(digest);
    blake3::keyed_hash(&key(context), &all).as_bytes()[..tag_bytes] == *tag
}

/// The 14 bytes that both kinds of beat carry.
fn check_node_part(part: &[u8]) {
    // Lower node, ask, may claim, LAN carrier, standby mode, an echo.
    assert_eq!(part[0], 1 << 1 | 1 << 3 | 1 << 4 | 2 << 5 | 1 << 7);
    // Hears serial and LAN; asks for a hand over; accepted a request.
    assert_eq!(part[1] & 0x7f, 0b110 | 3 << 3 | 2 << 5);
    // Request 9 for the second group, answer to request 8; one of two reach hosts.
    assert_eq!((part[2], number(&part[3..5])), (9, tag("two")));
    assert_eq!(part[5..8], [8, 1, 2]);
    assert_eq!((number(&part[8..10]), number(&part[10..14])), (51, 50_000));
}

/// What stands for a group.
fn tag(name: &str) -> u64 {
    let hash = blake3::derive_key("clusterd 1 group name on the wire", name.as_bytes());
    number(&hash[..2]).max(1)
}

/// The 15 bytes of the first group.
fn check_group(entry: &[u8]) {
    // Wanting, owned by the upper node, in service, a copy of this generation.
    assert_eq!((number(&entry[..2]), entry[2]), (tag("one"), 2 | 1 << 3 | 1 << 4 | 2 << 5));
    let fields = [3..5, 5..9, 9..13, 13..15].map(|place| number(&entry[place]));
    assert_eq!(fields, [513, 7, 0xdead_beef, 258]);
}

#[test]
fn a_complete_frame() {
    let path_contexts = [
        ("crossover", "clusterd 1 heartbeat complete crossover", 2),
        ("lan", "clusterd 1 heartbeat complete lan", 2),
        ("will", "clusterd 1 heartbeat complete lan", 2),
        ("serial-introduction", "clusterd 1 heartbeat complete serial", 1),
    ];
    let cluster = blake3::derive_key("clusterd 1 cluster name in heartbeats", CLUSTER);
    for (name, context, groups) in path_contexts {
        let frame = frame(name);
        assert_eq!(frame.len(), 102 + 20 * groups, "{name}");
        assert!(has_tag(context, &frame, 16, &[], &[]), "{name}");
        assert_eq!((frame[0], &frame[1..9]), (0x31, &cluster[..8]));
        check_node_part(&frame[9..23]);
        assert_eq!(frame[10] & 0x80 != 0, name == "will");
        let numbers = [23, 31, 39, 47, 55].map(|at| number(&frame[at..at + 8]));
        assert_eq!(numbers, [LOWER, UPPER, 4711, 1_000_000, 900_000]);
        assert_eq!(frame[63..77], [2, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!((&frame[77..85], usize::from(frame[85])), (b"digest-1".as_slice(), groups));
        check_group(&frame[86..101]);
        // Commit; 9 files ((8 + 1)·2^0) and 3328 bytes ((8 + 5)·2^8).
        assert_eq!((number(&frame[101..104]), &frame[104..106]), (0x01_0203, [9, 77].as_slice()));
    }
}

#[test]
fn a_plain_serial_frame() {
    let frame = frame("serial-plain");
    let implied = [LOWER, UPPER, 4711, 1_000_000, 900_000];
    assert!(has_tag("clusterd 1 heartbeat plain serial", &frame, 8, &implied, b"digest-1"));
    assert_eq!((frame.len(), frame[0]), (50, 0x32));
    check_node_part(&frame[1..15]);
    let numbers = [15, 19, 23].map(|at| number(&frame[at..at + 4]));
    assert_eq!(numbers, [4711, 1_000_000, 900_000]);
    check_group(&frame[27..42]);
}

#[test]
fn a_pulse() {
    for (name, head) in [("serial-ask", 0x33), ("serial-answer", 0x34), ("serial-life", 0x35)] {
        let frame = frame(name);
        assert_eq!((frame.len(), frame[0], number(&frame[1..4])), (12, head, 0x01_0203));
        // The number is signed in full, not as it travels.
        let signed =
            [&[head], [LOWER, UPPER, 0x01_0203].map(u64::to_be_bytes).as_flattened()].concat();
        let hash = blake3::keyed_hash(&key("clusterd 1 pulse serial"), &signed);
        assert_eq!(hash.as_bytes()[..8], frame[4..]);
    }
}
