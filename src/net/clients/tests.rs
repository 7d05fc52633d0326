use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::ring::{KeyRing, SharedRing};
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::limits::{CONNECTIONS_MAX, SHARE_BYTES_MAX, SHARE_EPOCH_SILENCE, SHARE_KEPT};

const KEY: [u8; 32] = [7; 32];
const WEB: GroupIndex = GroupIndex(1);

fn config(cluster: &str, web: &str) -> Config {
    let node = |name: &str, number: u8| {
        format!("[node.{name}]\naddress = \"192.0.2.{number}\"\nlan = \"a\"\ncrossover = \"b\"\n")
    };
    let text = format!(
        "[cluster]\nname = \"{cluster}\"\nkey = \"/k\"\n{}{}\
         [group.mail]\nprefer = \"serv1\"\naddress = [\"192.0.2.60/24\"]\n\
         [group.{web}]\nprefer = \"serv1\"\naddress = [\"192.0.2.50/24\", \"2001:db8::50/64\"]\n",
        node("serv1", 11),
        node("serv2", 12)
    );
    crate::config::parse(&text, "test").unwrap()
}

fn codec(me: NodeIndex) -> Codec {
    Codec::new(&KEY, &config("c", "web"), me)
}

fn connection(number: u32, v6: bool) -> Connection {
    let port = (number % 60_000 + 1) as u16;
    let client: IpAddr = if v6 {
        std::net::Ipv6Addr::from(0x2001_0db8_u128 << 96 | 1 << 32 | u128::from(number)).into()
    } else {
        Ipv4Addr::from(0x0a00_0001 + number).into()
    };
    let service = if v6 { "[2001:db8::50]:443" } else { "192.0.2.50:80" };
    Connection::new(service.parse().unwrap(), SocketAddr::new(client, port)).unwrap()
}

fn connections(count: u32) -> Vec<Connection> {
    (0..count).map(|number| connection(number, number % 3 == 0)).collect()
}

fn decoded(frames: &[Vec<u8>]) -> Vec<Part> {
    frames.iter().map(|frame| codec(NodeIndex::Upper).decode(frame).unwrap()).collect()
}

/// Parts of a list of the lower node, as the upper one reads them.
fn parts(epoch: u64, number: u64, list: &[Connection]) -> Vec<Part> {
    decoded(&codec(NodeIndex::Lower).encode(WEB, epoch, number, list))
}

proptest! {
    #[test]
    fn a_list_that_is_sent_is_read_again(
        count in 0u32..400, epoch in any::<u64>(), number in any::<u64>(),
    ) {
        let list = connections(count);
        let frames = codec(NodeIndex::Lower).encode(WEB, epoch, number, &list);
        prop_assert!(frames.iter().all(|frame| frame.len() <= SHARE_BYTES_MAX));
        let parts = decoded(&frames);
        let of = parts.len() as u16;
        for (index, part) in (0..).zip(&parts) {
            prop_assert_eq!((part.group, part.epoch, part.number), (WEB, epoch, number));
            prop_assert_eq!((part.index, part.of), (index, of));
        }
        let read: Vec<Connection> = parts.into_iter().flat_map(|part| part.connections).collect();
        prop_assert_eq!(read, list);
    }

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        prop_assert!(codec(NodeIndex::Upper).decode(&bytes).is_err());
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_refused(count in 0u32..60, at in any::<prop::sample::Index>(), bit in 0..8) {
        let whole = codec(NodeIndex::Lower).encode(WEB, 1, 2, &connections(count)).remove(0);
        let mut flipped = whole.clone();
        flipped[at.index(whole.len())] ^= 1u8 << bit;
        prop_assert!(codec(NodeIndex::Upper).decode(&flipped).is_err());
        prop_assert!(codec(NodeIndex::Upper).decode(&whole[..at.index(whole.len())]).is_err());
    }

    #[test]
    fn a_table_takes_any_parts_and_stays_bounded(
        parts in proptest::collection::vec((0u8..4, 0u64..3, 0u64..4, 0u16..4, 1u16..4, 0u32..9), 0..60),
    ) {
        let mut table = Table::new(2);
        let now = Instant::now();
        for (after, (group, epoch, number, index, of, count)) in (0u32..).zip(parts) {
            let connections = connections(count);
            let part = Part { group: GroupIndex(group), epoch, number, index, of, connections };
            let _ = table.take(now + SHARE_EPOCH_SILENCE / 3 * after, part);
            for group in 0..2 {
                let list = table.shared(GroupIndex(group));
                prop_assert!(list.is_none_or(|list| list.connections.len() <= 3 * 9));
            }
        }
    }
}

/// A well-signed frame of the lower node with this after the sender.
fn signed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = codec(NodeIndex::Lower).encode(WEB, 1, 2, &connections(2)).remove(0);
    frame.truncate(frame.len() - 32);
    change(&mut frame);
    let secret = [KEY.as_slice(), b"c"].concat();
    let key = blake3::derive_key("clusterd 1 shared connections", &secret);
    let tag = blake3::keyed_hash(&key, &frame);
    frame.extend(tag.as_bytes());
    frame
}

#[test]
fn hostile_frames_are_refused_by_their_reason() {
    let upper = codec(NodeIndex::Upper);
    let list = connections(3);
    let frame = |codec: &Codec| codec.encode(WEB, 1, 2, &list).remove(0);
    let lower = codec(NodeIndex::Lower);
    let refusal = |frame: &[u8]| upper.decode(frame).unwrap_err();
    assert_eq!(refusal(&frame(&upper)), Refusal::NotPeer);
    assert_eq!(refusal(&frame(&lower)[..20]), Refusal::Truncated);
    assert_eq!(refusal(&[0; SHARE_BYTES_MAX + 1]), Refusal::Oversized);
    assert_eq!(refusal(&[0x11; 200]), Refusal::Malformed);
    let node = NodeIndex::Lower;
    let other = Codec::new(&KEY, &config("d", "web"), node);
    assert_eq!(refusal(&frame(&other)), Refusal::ForeignCluster);
    let other = Codec::new(&KEY, &config("c", "www"), node);
    assert_eq!(refusal(&frame(&other)), Refusal::UnknownGroup);
    let other = Codec::new(&[8; 32], &config("c", "web"), node);
    assert_eq!(refusal(&frame(&other)), Refusal::BadTag);
    // While the key is changed both are read, and the old one is sent with until the peer has the new one.
    let ring = SharedRing::from(&KeyRing { newest: [8; 32], before: Some(KEY) });
    let changing = Codec::new(&ring, &config("c", "web"), NodeIndex::Upper);
    assert!(changing.decode(&frame(&lower)).is_ok() && changing.decode(&frame(&other)).is_ok());
    let upper_too = Codec::new(&ring, &config("c", "web"), node);
    assert!(upper.decode(&frame(&upper_too)).is_ok());
    ring.set_peer_has_newest(true);
    assert_eq!(refusal(&frame(&upper_too)), Refusal::BadTag);
    let mut other = codec(NodeIndex::Upper);
    other.set_addresses(&[vec!["192.0.2.99".parse().unwrap()], Vec::new()]);
    assert_eq!(other.decode(&frame(&lower)).unwrap_err(), Refusal::OtherAddress);
    // What only a holder of the key could say.
    assert!(upper.decode(&signed(|_| {})).is_ok());
    assert_eq!(refusal(&signed(|frame| frame[10] ^= 1)), Refusal::UnknownGroup);
    let other = config("c", "web").group_tags().tag(GroupIndex(0)).to_be_bytes();
    let of_another = signed(|frame| frame[10..12].copy_from_slice(&other));
    assert_eq!(refusal(&of_another), Refusal::OtherAddress);
    assert_eq!(refusal(&signed(|frame| frame[31] = 0)), Refusal::Malformed, "part 0 of 0");
    assert_eq!(refusal(&signed(|frame| frame[30] = 0xff)), Refusal::Malformed, "too many parts");
    assert_eq!(refusal(&signed(|frame| frame[33] = 1)), Refusal::Malformed, "more than it says");
    assert_eq!(refusal(&signed(|frame| frame[33] = 3)), Refusal::Truncated);
    assert_eq!(refusal(&signed(|frame| frame[34] = 5)), Refusal::Malformed, "no family");
    // The first is of IPv6; the second's client becomes a multicast group, and then port 0.
    let second = 34 + 37;
    assert_eq!(refusal(&signed(|frame| frame[second + 7] = 224)), Refusal::Malformed);
    let no_port = signed(|frame| frame[second + 11..second + 13].fill(0));
    assert_eq!(refusal(&no_port), Refusal::Malformed);
}

#[test]
fn only_a_client_that_can_be_told_is_a_connection() {
    let of = |service: &str, client: &str| {
        Connection::new(service.parse().unwrap(), client.parse().unwrap()).is_some()
    };
    assert!(of("192.0.2.50:80", "192.0.2.1:1"));
    assert!(of("[2001:db8::50]:80", "[2001:db8::1]:1"));
    for client in ["255.255.255.255:1", "224.0.0.1:1", "127.0.0.1:1", "0.0.0.0:1", "192.0.2.1:0"] {
        assert!(!of("192.0.2.50:80", client), "{client}");
    }
    for client in ["[ff02::1]:1", "[::1]:1", "[::]:1", "[::ffff:192.0.2.1]:1", "192.0.2.1:1"] {
        assert!(!of("[2001:db8::50]:80", client), "{client}");
    }
}

#[test]
fn a_hundred_and_ten_thousand_connections_and_not_one_more() {
    for count in [100, CONNECTIONS_MAX as u32, CONNECTIONS_MAX as u32 + 1] {
        for v6 in [false, true] {
            let list: Vec<Connection> = (0..count).map(|number| connection(number, v6)).collect();
            let mut table = Table::new(2);
            for part in parts(1, 1, &list) {
                table.take(Instant::now(), part).unwrap();
            }
            let kept = &table.shared(WEB).unwrap().connections;
            assert_eq!(kept.as_slice(), &list[..list.len().min(CONNECTIONS_MAX)]);
        }
    }
    // A peer that says more is not believed.
    let mut table = Table::new(2);
    let now = Instant::now();
    let full = |number, index, of, count| Part {
        group: WEB,
        epoch: 1,
        number,
        index,
        of,
        connections: vec![connection(1, false); count],
    };
    table.take(now, full(1, 0, 2, CONNECTIONS_MAX)).unwrap();
    assert_eq!(table.take(now, full(1, 1, 2, 1)), Err(Refusal::Malformed));
    assert_eq!(table.shared(WEB), None);
}

#[test]
fn the_newest_whole_list_counts_and_lasts() {
    let begin = Instant::now();
    let mut table = Table::new(2);
    let (small, large) = (connections(3), connections(200));
    for part in parts(1, 1, &small) {
        table.take(begin, part).unwrap();
    }
    // A list that comes in half leaves the one before.
    let half = parts(1, 2, &large);
    assert!(half.len() > 2);
    table.take(begin, half[0].clone()).unwrap();
    assert_eq!(table.take(begin, half[2].clone()), Err(Refusal::Gap));
    assert_eq!(table.take(begin, half[1].clone()), Err(Refusal::Gap));
    assert_eq!(table.shared(WEB).unwrap().connections, small);
    // Nothing of it counts again.
    assert_eq!(table.take(begin, half[0].clone()), Err(Refusal::Replay));
    let whole = parts(1, 3, &large);
    for (place, part) in whole.iter().enumerate() {
        table.take(begin, part.clone()).unwrap();
        // Said again while it comes in, it does no harm.
        for part in &whole[..place] {
            assert!(table.take(begin, part.clone()).is_err());
        }
    }
    assert_eq!(table.take(begin, half[2].clone()), Err(Refusal::Replay));
    assert_eq!(table.take(begin, whole[1].clone()), Err(Refusal::Gap));
    assert_eq!(table.shared(WEB).unwrap().connections, large);
    // The peer died; this node could not claim for an hour.
    table.age(begin + Duration::from_secs(3600));
    assert!(table.shared(WEB).is_some());
    table.age(begin + SHARE_KEPT);
    assert_eq!(table.shared(WEB), None);
}

#[test]
fn a_restarted_sender_is_heard_when_the_former_has_fallen_silent() {
    let begin = Instant::now();
    let mut table = Table::new(2);
    let mut take = |after: Duration, epoch, number, list: &[Connection]| {
        let part = parts(epoch, number, list).remove(0);
        let taken = table.take(begin + after, part);
        (taken, table.shared(WEB).map(|list| list.connections.len()))
    };
    let second = Duration::from_secs(1);
    assert_eq!(take(Duration::ZERO, 1, 8, &connections(3)), (Ok(()), Some(3)));
    // Recorded in another epoch: as long as the sender lives, nothing of it counts.
    for round in 1..10 {
        assert_eq!(take(round * second, 1, 8 + u64::from(round), &connections(3)).0, Ok(()));
        let (taken, kept) = take(round * second + second / 2, 9, 100, &connections(5));
        assert_eq!((taken, kept), (Err(Refusal::OtherEpoch), Some(3)));
    }
    let restarted = 9 * second + SHARE_EPOCH_SILENCE;
    assert_eq!(take(restarted, 2, 1, &connections(2)), (Ok(()), Some(2)));
    assert_eq!(take(restarted, 1, 99, &connections(3)).0, Err(Refusal::OtherEpoch));
}

#[test]
fn a_segment_is_a_bare_ack_with_good_checksums() {
    use pnet::packet::ipv4::Ipv4Packet;
    use pnet::packet::ipv6::Ipv6Packet;
    use pnet::packet::tcp::{TcpFlags, TcpPacket, ipv4_checksum, ipv6_checksum};
    use pnet::packet::{Packet, tcp};
    let check = |tcp: &TcpPacket<'_>, service: u16, sum: u16| {
        assert_eq!((tcp.get_source(), tcp.get_destination()), (service, 8));
        assert_eq!((tcp.get_sequence(), tcp.get_acknowledgement()), (0, 0));
        assert_eq!((tcp.get_flags(), tcp.get_data_offset()), (TcpFlags::ACK, 5));
        assert_eq!(tcp.packet().len(), tcp::TcpPacket::minimum_packet_size());
        assert_eq!(tcp.get_checksum(), sum);
    };
    let bytes = segment(&connection(7, false)).unwrap();
    let ip = Ipv4Packet::new(&bytes).unwrap();
    assert_eq!(ip.get_source(), Ipv4Addr::new(192, 0, 2, 50));
    assert_eq!(ip.get_destination(), Ipv4Addr::new(10, 0, 0, 8));
    assert_eq!(usize::from(ip.get_total_length()), bytes.len());
    let tcp = TcpPacket::new(ip.payload()).unwrap();
    check(&tcp, 80, ipv4_checksum(&tcp, &ip.get_source(), &ip.get_destination()));
    let bytes = segment(&connection(7, true)).unwrap();
    let ip = Ipv6Packet::new(&bytes).unwrap();
    assert_eq!(usize::from(ip.get_payload_length()) + 40, bytes.len());
    let tcp = TcpPacket::new(ip.payload()).unwrap();
    check(&tcp, 443, ipv6_checksum(&tcp, &ip.get_source(), &ip.get_destination()));
}
