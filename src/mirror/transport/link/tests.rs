use std::io::{Read, Write};
use std::net::TcpListener;

use super::super::{Secret, noise};
use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn shake_hands(
    one: &TcpStream,
    other: &TcpStream,
) -> (StatelessTransportState, StatelessTransportState) {
    let secret = Secret::new(&[1; 32], "office");
    let until = Instant::now() + PATIENCE;
    std::thread::scope(|scope| {
        let responder = scope.spawn(|| noise::respond(other, &secret, until).unwrap());
        (noise::initiate(one, &secret, until).unwrap(), responder.join().unwrap())
    })
}

fn links(cable: Cable) -> (Link, Link) {
    let (one, other) = sockets();
    let (initiator, responder) = shake_hands(&one, &other);
    let pacer = Pacer::new();
    (Link::new(one, initiator, cable, &pacer), Link::new(other, responder, cable, &pacer))
}

/// A writer whose frames can be taken in hand, and a reader that gets what the hand gives it.
struct Tap {
    writer: LinkWriter,
    written: TcpStream,
    given: TcpStream,
    reader: LinkReader,
}

impl Tap {
    fn new() -> Tap {
        let ((one, written), (given, other)) = (sockets(), sockets());
        let (initiator, responder) = shake_hands(&one, &written);
        let pacer = Pacer::new();
        let writer = Link::new(one, initiator, Cable::Crossover, &pacer).split().0;
        let reader = Link::new(other, responder, Cable::Crossover, &pacer).split().1;
        Tap { writer, written, given, reader }
    }

    /// The frame that carries this.
    fn frame(&mut self, payload: &[u8]) -> Vec<u8> {
        self.writer.send_frame(payload).unwrap();
        let mut frame = vec![0; HEADER_BYTES + payload.len() + TAG_BYTES];
        self.written.read_exact(&mut frame).unwrap();
        frame
    }

    fn receive(&mut self) -> Result<Vec<u8>, LinkError> {
        self.reader.receive(PATIENCE)
    }
}

#[test]
fn messages_of_all_sizes_arrive_as_they_were() {
    let (one, other) = links(Cable::Crossover);
    let ((mut writer, mut back), (mut answer, mut reader)) = (one.split(), other.split());
    let edge = PAYLOAD_BYTES_MAX - LENGTH_BYTES;
    let largest = limits::MIRROR_MESSAGE_BYTES_MAX;
    let sizes = [0, 1, edge - 1, edge, edge + 1, edge + PAYLOAD_BYTES_MAX, 1_000_000, largest];
    let message = |size: usize| (0..size).map(|at| (at % 251) as u8).collect::<Vec<u8>>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for size in sizes {
                writer.send(&message(size)).unwrap();
                assert_eq!(back.receive(PATIENCE).unwrap(), size.to_string().into_bytes());
            }
        });
        for size in sizes {
            assert!(reader.receive(PATIENCE).unwrap() == message(size), "{size}");
            answer.send(size.to_string().as_bytes()).unwrap();
        }
    });
    let error = writer.send(&vec![0; largest + 1]).unwrap_err();
    assert!(matches!(error, LinkError::TooLong(_)), "{error}");
}

#[test]
fn the_lan_carries_the_same_slowly() {
    let (mut one, mut other) = links(Cable::Lan);
    let message = vec![7; 3 * limits::LAN_MIRROR_BURST_BYTES as usize];
    std::thread::scope(|scope| {
        scope.spawn(|| one.send(&message).unwrap());
        assert!(other.receive(PATIENCE).unwrap() == message);
    });
}

#[test]
fn a_link_is_closed_from_another_thread() {
    let (mut one, mut other) = links(Cable::Crossover);
    let closer = one.closer();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            tell.send(one.receive(PATIENCE).unwrap()).unwrap();
            one.receive(PATIENCE)
        });
        other.send(b"x").unwrap();
        told.recv().unwrap();
        closer.close();
        assert!(matches!(waiting.join().unwrap().unwrap_err(), LinkError::Closed));
    });
    assert!(matches!(other.receive(PATIENCE).unwrap_err(), LinkError::Closed));
    one.send(b"x").unwrap_err();
}

#[test]
fn a_changed_frame_is_not_taken() {
    for bit in [0, 8 * 5, 8 * 20] {
        let mut tap = Tap::new();
        let mut frame = tap.frame(b"\0\0\0\x04abcd");
        frame[HEADER_BYTES + bit / 8] ^= 1;
        tap.given.write_all(&frame).unwrap();
        assert!(matches!(tap.receive().unwrap_err(), LinkError::Forged));
    }
}

#[test]
fn a_frame_comes_once_and_in_its_turn() {
    let mut tap = Tap::new();
    let (first, second) = (tap.frame(b"\0\0\0\x01a"), tap.frame(b"\0\0\0\x01b"));
    tap.given.write_all(&first).unwrap();
    assert_eq!(tap.receive().unwrap(), b"a");
    tap.given.write_all(&first).unwrap();
    assert!(matches!(tap.receive().unwrap_err(), LinkError::Forged));

    let mut tap = Tap::new();
    let (_, skipped) = (tap.frame(b"\0\0\0\x01a"), tap.frame(b"\0\0\0\x01b"));
    tap.given.write_all(&skipped).unwrap();
    assert!(matches!(tap.receive().unwrap_err(), LinkError::Forged));
    drop(second);
}

#[test]
fn frames_that_make_no_message_are_not_taken() {
    let misfits: [&[&[u8]]; 4] =
        [&[b"\0\0\0"], &[b"\0\0\0\x01ab"], &[b"\0\0\0\x02a", b""], &[b"\0\0\0\x02a", b"bc"]];
    for payloads in misfits {
        let mut tap = Tap::new();
        for payload in payloads {
            let frame = tap.frame(payload);
            tap.given.write_all(&frame).unwrap();
        }
        assert!(matches!(tap.receive().unwrap_err(), LinkError::Misfit), "{payloads:?}");
    }
    let mut tap = Tap::new();
    let frame = tap.frame(b"\xff\xff\xff\xff");
    tap.given.write_all(&frame).unwrap();
    assert!(matches!(tap.receive().unwrap_err(), LinkError::TooLong(0xffff_ffff)));
    // A frame too short to have a tag.
    let mut tap = Tap::new();
    tap.given.write_all(&[0, 3, 1, 2, 3]).unwrap();
    assert!(matches!(tap.receive().unwrap_err(), LinkError::Forged));
}

#[test]
fn half_a_message_is_none() {
    let mut tap = Tap::new();
    let frame = tap.frame(b"\0\0\0\x08abcd");
    tap.given.write_all(&frame).unwrap();
    tap.given.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(tap.receive().unwrap_err(), LinkError::Closed));
}

#[test]
fn silence_is_not_the_end() {
    let (mut one, mut other) = links(Cable::Crossover);
    assert!(matches!(one.receive(Duration::from_millis(1)).unwrap_err(), LinkError::Silent));
    other.send(b"late").unwrap();
    assert_eq!(one.receive(PATIENCE).unwrap(), b"late");
}
