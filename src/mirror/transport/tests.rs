//! Handshakes and frames over loopback streams; the listener's tests are with it.

use std::io::{Read, Write};
use std::thread;
use std::time::Instant;

use proptest::prelude::*;

use super::loopback::{PATIENCE, noises, streams};
use super::*;
use crate::config::ring::{KeyRing, SharedRing};
use crate::limits::{LINK_BUFFER_BYTES, MIRROR_MESSAGE_BYTES_MAX};

/// For what is meant to be too slow.
const SHORT: Duration = Duration::from_millis(200);
/// Content of a full frame.
const FRAME: usize = 65_519;

fn secret() -> Secret {
    Secret::new(&[7; 32], "pair")
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

fn links(stall: Duration) -> (Link, Link) {
    let ((near, far), (ours, theirs)) = (streams(), noises(&secret()));
    let link = |stream, noise| Link::new(Arc::new(stream), noise, LinkPath::Crossover, stall);
    (link(near, ours), link(far, theirs))
}

/// Bytes that differ from place to place.
fn message(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 31 / 7) as u8).collect()
}

/// What `messages` are on the wire.
fn recorded(noise: Arc<StatelessTransportState>, messages: &[Vec<u8>]) -> Vec<u8> {
    let (near, mut far) = streams();
    far.set_nonblocking(false).unwrap();
    thread::scope(|scope| {
        let reader = scope.spawn(move || {
            let mut wire = Vec::new();
            far.read_to_end(&mut wire).unwrap();
            wire
        });
        let mut writer = LinkWriter::new(Arc::new(near), noise, LinkPath::Crossover, PATIENCE);
        for message in messages {
            writer.send(message).unwrap();
        }
        drop(writer);
        reader.join().unwrap()
    })
}

/// What a reader makes of these bytes, in these pieces, and how it ends.
fn replayed(noise: Arc<StatelessTransportState>, pieces: &[&[u8]]) -> (Vec<Vec<u8>>, LinkError) {
    let (mut near, far) = streams();
    near.set_nonblocking(false).unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            for piece in pieces {
                // The reader hangs up on what it does not like.
                if near.write_all(piece).is_err() {
                    return;
                }
            }
        });
        let mut reader = LinkReader::new(Arc::new(far), noise, PATIENCE);
        let mut messages = Vec::new();
        loop {
            match reader.receive() {
                Ok(message) => messages.push(message),
                Err(error) => return (messages, error),
            }
        }
    })
}

fn timed_out<T>(result: Result<T, LinkError>) -> bool {
    matches!(result, Err(LinkError::Failed(error)) if error.kind() == io::ErrorKind::TimedOut)
}

#[test]
fn messages_of_all_sizes_both_ways_at_once() {
    let mut lengths = vec![0, 1, FRAME - 1, FRAME, FRAME + 1, LINK_BUFFER_BYTES, 1_000_000];
    lengths.extend([4 * FRAME - 22, 4 * FRAME, 5 * FRAME + 3, MIRROR_MESSAGE_BYTES_MAX, 2]);
    let (near, far) = links(PATIENCE);
    thread::scope(|scope| {
        for link in [near, far] {
            let (mut writer, mut reader) = link.split();
            let lengths = &lengths;
            scope.spawn(move || {
                for &length in lengths {
                    writer.send(&message(length)).unwrap();
                }
                // The other side reads before this one hangs up.
                writer
            });
            scope.spawn(move || {
                for &length in lengths {
                    assert!(reader.receive().unwrap() == message(length), "{length}");
                }
            });
        }
    });
}

#[test]
fn a_message_that_is_too_long_is_not_sent_and_ends_nothing() {
    let (near, far) = links(PATIENCE);
    let ((mut writer, _near), (_far, mut reader)) = (near.split(), far.split());
    let long = vec![0; MIRROR_MESSAGE_BYTES_MAX + 1];
    assert!(matches!(writer.send(&long), Err(LinkError::TooLong(_))));
    writer.send(b"short").unwrap();
    assert_eq!(reader.receive().unwrap(), b"short");
}

/// A message of that length as the wire has it, without its content.
fn only_length(noise: &StatelessTransportState, length: u32) -> Vec<u8> {
    let mut wire = vec![0; 2 + 4 + 16];
    wire[..2].copy_from_slice(&20u16.to_be_bytes());
    noise.write_message(0, &length.to_be_bytes(), &mut wire[2..]).unwrap();
    wire
}

#[test]
fn a_length_above_the_limit_ends_the_link() {
    let (ours, theirs) = noises(&secret());
    let theirs = Arc::new(theirs);
    for length in [MIRROR_MESSAGE_BYTES_MAX as u32 + 1, u32::MAX] {
        let wire = only_length(&ours, length);
        let (messages, end) = replayed(theirs.clone(), &[&wire]);
        assert!(messages.is_empty());
        assert!(matches!(end, LinkError::TooLong(told) if told == length as usize), "{end}");
    }
    // The first message may be less long.
    let (mut near, far) = streams();
    near.write_all(&only_length(&ours, 101)).unwrap();
    let mut reader = LinkReader::new(Arc::new(far), theirs, PATIENCE);
    assert!(matches!(reader.first(100, soon()), Err(LinkError::TooLong(101))));
    // Shut down, not only left alone.
    near.set_nonblocking(false).unwrap();
    assert_eq!(near.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn frames_that_were_recorded_are_not_taken_again() {
    let (ours, theirs) = noises(&secret());
    let (ours, theirs) = (Arc::new(ours), Arc::new(theirs));
    let wire = recorded(ours, &[b"one".to_vec()]);
    // Twice in a link; and in another link.
    let (messages, end) = replayed(theirs.clone(), &[&wire, &wire]);
    assert_eq!(messages, [b"one"]);
    assert!(matches!(end, LinkError::Forged), "{end}");
    let (messages, end) = replayed(Arc::new(noises(&secret()).1), &[&wire]);
    assert!(messages.is_empty());
    assert!(matches!(end, LinkError::Forged), "{end}");
    // Sent back to where it came from.
    let (mut back, end) = replayed(Arc::new(noises(&secret()).0), &[&wire]);
    assert_eq!(back.pop(), None);
    assert!(matches!(end, LinkError::Forged), "{end}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn pieces_do_not_matter(
        lengths in prop::collection::vec(0usize..3 * FRAME, 1..5),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
    ) {
        let (ours, theirs) = noises(&secret());
        let sent: Vec<_> = lengths.into_iter().map(message).collect();
        let wire = recorded(Arc::new(ours), &sent);
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(wire.len())).collect();
        cuts.extend([0, wire.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|ends| &wire[ends[0]..ends[1]]).collect();
        let (heard, end) = replayed(Arc::new(theirs), &pieces);
        prop_assert!(heard == sent);
        prop_assert!(matches!(end, LinkError::Closed), "{}", end);
    }

    #[test]
    fn a_damaged_or_cut_stream_gives_what_was_whole_before(
        lengths in prop::collection::vec(0usize..2 * FRAME, 1..4),
        place: prop::sample::Index,
        flip in 0u8..=255,
    ) {
        let (ours, theirs) = noises(&secret());
        let sent: Vec<_> = lengths.into_iter().map(message).collect();
        let mut wire = recorded(Arc::new(ours), &sent);
        let place = place.index(wire.len());
        match flip {
            // Cut instead.
            0 => wire.truncate(place),
            flip => wire[place] ^= flip,
        }
        let (heard, end) = replayed(Arc::new(theirs), &[&wire]);
        prop_assert!(heard.len() < sent.len());
        prop_assert!(heard == sent[..heard.len()]);
        match flip {
            0 => prop_assert!(matches!(end, LinkError::Closed), "{}", end),
            _ => prop_assert!(matches!(end, LinkError::Forged), "{}", end),
        }
    }

    #[test]
    fn a_handshake_that_is_noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let (mut near, far) = streams();
        near.write_all(&bytes).unwrap();
        drop(near);
        match secret().respond(&far, soon()) {
            Err(LinkError::Secret) => prop_assert!(bytes.len() >= 48),
            Err(LinkError::Closed) => prop_assert!(bytes.len() < 48),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

/// While the key is changed both are taken; what is offered first is what the peer is known to have.
#[test]
fn a_secret_of_two_keys() {
    let [old, new] = [[7; 32], [8; 32]];
    let ring = SharedRing::from(&KeyRing { newest: new, before: Some(old) });
    let both = Secret::new(&ring, "pair");
    let [only_old, only_new] = [old, new].map(|key| Secret::new(&key, "pair").offers()[0]);
    assert_eq!(both.offers(), [only_old, only_new]);
    for psk in both.offers() {
        let (near, far) = streams();
        let (here, there) = thread::scope(|scope| {
            let responder = scope.spawn(|| both.respond(&far, soon()));
            (secret().initiate(&psk, &near, soon()), responder.join().unwrap())
        });
        assert!(here.is_ok() && there.is_ok());
    }
    ring.set_peer_has_newest(true);
    assert_eq!(both.offers(), [only_new, only_old]);
    // The next key is not yet known to anybody.
    ring.set_ring(&KeyRing { newest: [9; 32], before: Some(new) });
    assert_eq!(both.offers()[0], only_new);
    ring.set_ring(&KeyRing { newest: [9; 32], before: None });
    assert_eq!(both.offers().len(), 1);
}

#[test]
fn a_secret_is_of_both_key_and_name() {
    let same = Secret::new(&[7; 32], "pair");
    for (other, fits) in [
        (same, true),
        (Secret::new(&[8; 32], "pair"), false),
        (Secret::new(&[7; 32], "pairs"), false),
    ] {
        let (near, far) = streams();
        let (here, there) = thread::scope(|scope| {
            let responder = scope.spawn(move || secret().respond(&far, soon()));
            (other.initiate(&other.offers()[0], &near, soon()), responder.join().unwrap())
        });
        assert_eq!(here.is_ok(), fits);
        assert_eq!(there.is_ok(), fits);
        if !fits {
            assert!(matches!(here, Err(LinkError::Refused)), "{here:?}");
            assert!(matches!(there, Err(LinkError::Secret)), "{there:?}");
        }
    }
    assert_eq!(format!("{:?}", secret()), "Secret");
}

/// Feeds `bytes` one by one for as long as somebody takes them.
fn drip(mut to: TcpStream, bytes: &[u8]) {
    for byte in bytes {
        if to.write_all(std::slice::from_ref(byte)).is_err() {
            return;
        }
        thread::sleep(SHORT / 4);
    }
}

#[test]
fn a_peer_that_is_too_slow_is_cut_off() {
    let begun = Instant::now();
    // In the handshake.
    let (near, far) = streams();
    thread::scope(|scope| {
        scope.spawn(|| drip(near, &[0; 40]));
        assert!(timed_out(secret().respond(&far, Instant::now() + SHORT)));
        drop(far);
    });
    // In a frame: each byte is progress, but the frame is not.
    let (ours, theirs) = noises(&secret());
    let wire = recorded(Arc::new(ours), &[message(40)]);
    let (near, far) = streams();
    thread::scope(|scope| {
        scope.spawn(|| drip(near, &wire));
        let mut reader = LinkReader::new(Arc::new(far), Arc::new(theirs), SHORT);
        assert!(timed_out(reader.receive()));
    });
    // A peer that takes nothing.
    let (near, _far) = links(SHORT);
    let (mut writer, mut reader) = near.split();
    let long = message(MIRROR_MESSAGE_BYTES_MAX);
    let full = loop {
        assert!(begun.elapsed() < PATIENCE, "it is cut off at last");
        match writer.send(&long) {
            Ok(()) => {}
            full => break full,
        }
    };
    assert!(timed_out(full));
    // With that the whole link has ended.
    assert!(matches!(reader.receive(), Err(LinkError::Closed)));
}

#[test]
fn an_idle_link_lives_on() {
    let (near, far) = links(SHORT);
    let ((mut writer, _near), (_far, mut reader)) = (near.split(), far.split());
    thread::scope(|scope| {
        let heard = scope.spawn(move || reader.receive());
        thread::sleep(2 * SHORT);
        writer.send(b"late").unwrap();
        assert_eq!(heard.join().unwrap().unwrap(), b"late");
    });
}

#[test]
fn a_closer_ends_both_directions_on_both_sides() {
    let (near, far) = links(PATIENCE);
    let closer = near.closer().unwrap();
    let ((mut writer, mut reader), (_far, mut peer)) = (near.split(), far.split());
    thread::scope(|scope| {
        let reading = scope.spawn(move || reader.receive());
        let peer_reading = scope.spawn(move || peer.receive());
        let closing = scope.spawn(move || closer.close());
        assert!(matches!(reading.join().unwrap(), Err(LinkError::Closed)));
        assert!(matches!(peer_reading.join().unwrap(), Err(LinkError::Closed)));
        closing.join().unwrap();
    });
    assert!(matches!(writer.send(b"x"), Err(LinkError::Failed(_))));
}

#[test]
fn a_dropped_link_is_closed() {
    let (near, far) = links(PATIENCE);
    drop(near);
    assert!(matches!(far.split().1.receive(), Err(LinkError::Closed)));
}
