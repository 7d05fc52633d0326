//! The last will as frames and destinations.

use std::net::SocketAddr;

use super::super::serial_frame;
use super::super::will::{link_destination, udp_destination};
use super::*;

/// A will is read by a peer that lost what plain frames rest on, and costs no group its turn.
#[test]
fn a_will_is_complete_on_every_path_and_takes_no_turn() {
    let will = Beat { will: true, sequence: u64::MAX, sent_us: 1, echo_us: 0, ..sample() };
    let will = Beat { echo_held_us: 0, ..will };
    let (mut lower, mut upper) = acquainted(&sample());
    let mut frame = FrameBuffer::new();
    let before = encoded(&mut lower, Path::Serial, &sample());
    for path in Path::ALL {
        lower.encode_will(path, &will, &mut frame);
        let room = if path == Path::Serial { INTRODUCTION_BYTES_MAX } else { BEAT_BYTES_MAX };
        assert!(frame.as_slice().len() <= room);
        let groups = if path == Path::Serial { 1 } else { GROUPS_MAX };
        let said =
            Beat { groups: will.groups.iter().copied().take(groups).collect(), ..will.clone() };
        let heard = receiver().decode_beat(path, frame.as_slice(), &session(60_100_000));
        assert_eq!(heard, Ok(said));
    }
    let after = encoded(&mut lower, Path::Serial, &sample());
    assert_eq!((before.len(), before.len()), (serial_frame::length(1), after.len()));
    let session = session(60_100_000);
    let turns = [before, after]
        .map(|bytes| upper.decode_beat(Path::Serial, &bytes, &session).unwrap().groups[0].group.0);
    assert_eq!(turns, [1, 2]);
}

#[test]
fn destinations_are_what_the_system_takes() {
    for text in ["203.0.113.11:694", "[2001:db8::11]:694", "[fe80::1%7]:694"] {
        let address: SocketAddr = text.parse().unwrap();
        let bytes = udp_destination(address);
        let length = match address {
            SocketAddr::V4(_) => size_of::<libc::sockaddr_in>(),
            SocketAddr::V6(_) => size_of::<libc::sockaddr_in6>(),
        };
        assert_eq!(bytes.len(), length, "{text}");
        let back = match bytes.len() {
            16 => SocketAddr::from((<[u8; 4]>::try_from(&bytes[4..8]).unwrap(), 694)),
            _ => SocketAddr::from((<[u8; 16]>::try_from(&bytes[8..24]).unwrap(), 694)),
        };
        assert_eq!((back.ip(), back.port()), (address.ip(), address.port()));
        assert_eq!(bytes[2..4], 694u16.to_be_bytes());
    }
    let scoped = udp_destination("[fe80::1%7]:694".parse().unwrap());
    assert_eq!(scoped[24..], 7u32.to_ne_bytes());
    let link = link_destination(5, 0x88b5);
    assert_eq!(link.len(), size_of::<libc::sockaddr_ll>());
    assert_eq!((&link[2..4], &link[4..8]), (&[0x88, 0xb5][..], &5u32.to_ne_bytes()[..]));
}
