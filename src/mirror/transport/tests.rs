//! A listener and those who knock, over the loopback interface.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::config::NodeIndex;
use crate::core::Generation;
use crate::limits;
use crate::mirror::proto::{self, Envelope, ToReceiver};

const PATIENCE: Duration = Duration::from_secs(60);
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < until, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn secret(key: u8, cluster: &str) -> Secret {
    Secret::new(&[key; 32], cluster)
}

fn door(cable: Cable, address: IpAddr, from: Option<IpAddr>) -> Door {
    Door { cable, interface: "lo".into(), address: Address::Fixed(address), from }
}

fn listener(doors: Vec<Door>, port: u16, room: usize) -> (Listener, Receiver<Incoming>) {
    let (sender, incoming) = bounded(room);
    let secret = secret(1, "office");
    let listener = Listener::open(doors, port, secret, Pacer::new(), sender).unwrap();
    wait_for("a first look", || !listener.doors().is_empty());
    (listener, incoming)
}

/// A listener on the LAN alone, and its address.
fn lan_listener(room: usize) -> (Listener, Receiver<Incoming>, SocketAddr) {
    let (listener, incoming) = listener(vec![door(Cable::Lan, LOOPBACK, Some(LOOPBACK))], 0, room);
    let at = listener.doors()[0].listens.clone().unwrap();
    (listener, incoming, at)
}

fn peer(port: u16) -> Peer {
    Peer {
        crossover: None,
        crossover_interface: "lo".into(),
        lan: LOOPBACK,
        lan_interface: "lo".into(),
        own_lan: LOOPBACK,
        port,
    }
}

fn dial(peer: &Peer) -> Result<Link, Unreached> {
    connect(peer, &secret(1, "office"), &Pacer::new(), PATIENCE)
}

fn hello(group: &str) -> Vec<u8> {
    let generation = Generation { number: 3, owner: NodeIndex::Upper, id: 4 };
    let (group, trees) = (group.into(), vec!["/srv".into()]);
    let message = ToReceiver::Hello { version: proto::VERSION, group, trees };
    proto::encode(&Envelope { generation, message }).unwrap()
}

#[test]
fn who_knows_the_key_and_says_hello_is_handed_on() {
    let (listener, incoming, at) = lan_listener(1);
    let mut link = dial(&peer(at.port())).unwrap();
    assert_eq!(link.cable(), Cable::Lan);
    link.send(&hello("web")).unwrap();
    let mut came = incoming.recv_timeout(PATIENCE).unwrap();
    assert_eq!(came.group, "web");
    assert_eq!(proto::encode(&came.hello).unwrap(), hello("web"));
    link.send(b"more").unwrap();
    assert_eq!(came.link.receive(PATIENCE).unwrap(), b"more");
    came.link.send(b"answer").unwrap();
    assert_eq!(link.receive(PATIENCE).unwrap(), b"answer");
    wait_for("a count", || listener.counts() == Counts { welcome: 1, ..Counts::default() });
}

#[test]
fn the_crossover_comes_first_and_the_lan_instead_of_it() {
    let six = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let (crossover, incoming) = listener(vec![door(Cable::Crossover, six, None)], 0, 4);
    let port = crossover.doors()[0].listens.clone().unwrap().port();
    let both = Peer { crossover: Some(Ipv6Addr::LOCALHOST), ..peer(port) };
    let mut link = dial(&both).unwrap();
    assert_eq!(link.cable(), Cable::Crossover);
    link.send(&hello("web")).unwrap();
    assert_eq!(incoming.recv_timeout(PATIENCE).unwrap().link.cable(), Cable::Crossover);
    drop(crossover);

    let (_lan, _incoming, at) = lan_listener(4);
    let link = dial(&Peer { port: at.port(), ..both.clone() }).unwrap();
    assert_eq!(link.cable(), Cable::Lan);

    let nobody = dial(&Peer { port: 1, ..both }).unwrap_err().to_string();
    assert!(nobody.contains("crossover: ") && nobody.contains("refused"), "{nobody}");
}

#[test]
fn another_key_or_pair_is_no_peer() {
    let (listener, _incoming, at) = lan_listener(1);
    for (count, other) in (1..).zip([secret(2, "office"), secret(1, "home")]) {
        let error = connect(&peer(at.port()), &other, &Pacer::new(), PATIENCE).unwrap_err();
        assert!(
            error.to_string().contains("keygen") || error.to_string().contains("key"),
            "{error}"
        );
        wait_for("a count", || listener.counts().strangers == count);
    }
    assert_eq!(listener.counts().welcome, 0);
}

#[test]
fn whatever_else_is_said_is_counted_and_dropped() {
    let (listener, _incoming, at) = lan_listener(1);
    let said: [&[u8]; 6] = [
        b"",
        b"\0",
        b"\0\0",
        b"\xff\xff",
        b"GET / HTTP/1.1\r\n\r\n",
        &[&[0, 48][..], &[9; 48]].concat(),
    ];
    for (count, bytes) in (1..).zip(said) {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // It says nothing and closes.
        let mut answer = Vec::new();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _reset_or_end = stream.read_to_end(&mut answer);
        assert!(answer.is_empty());
        wait_for("a count", || listener.counts().strangers == count);
    }
    // With the key, but without a Hello.
    let mut link = dial(&peer(at.port())).unwrap();
    let generation = Generation { number: 3, owner: NodeIndex::Upper, id: 4 };
    link.send(&proto::encode(&Envelope { generation, message: ToReceiver::Ping }).unwrap())
        .unwrap();
    wait_for("a count", || listener.counts().no_hello == 1);
    let mut link = dial(&peer(at.port())).unwrap();
    link.send(b"nonsense").unwrap();
    wait_for("a count", || listener.counts().no_hello == 2);
}

#[test]
fn a_flood_takes_no_more_than_its_places_and_passes() {
    let (listener, incoming, at) = lan_listener(1);
    let flood: Vec<_> = (0..40).map(|_| TcpStream::connect(at).unwrap()).collect();
    let most = 40 - limits::MIRROR_HALF_OPEN_MAX as u64;
    wait_for("the flood", || {
        let counts = listener.counts();
        counts.crowded + counts.strangers >= 40 || counts.crowded == most
    });
    assert_eq!(listener.counts().crowded, most);
    drop(flood);
    wait_for("an end of the flood", || match dial(&peer(at.port())) {
        Ok(mut link) => link.send(&hello("web")).is_ok(),
        Err(_) => false,
    });
    assert_eq!(incoming.recv_timeout(PATIENCE).unwrap().group, "web");
}

#[test]
fn only_the_peer_may_knock_on_the_lan() {
    let other = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let (listener, _incoming) = listener(vec![door(Cable::Lan, LOOPBACK, Some(other))], 0, 1);
    let port = listener.doors()[0].listens.clone().unwrap().port();
    dial(&peer(port)).unwrap_err();
    wait_for("a count", || listener.counts().not_peer == 1);
    dial(&Peer { own_lan: other, ..peer(port) }).unwrap();
}

#[test]
fn links_that_nobody_takes_are_dropped() {
    let (listener, incoming, at) = lan_listener(1);
    for count in 1..=3 {
        dial(&peer(at.port())).unwrap().send(&hello("web")).unwrap();
        wait_for("a count", || {
            let counts = listener.counts();
            counts.welcome + counts.not_taken == count
        });
    }
    assert_eq!((listener.counts().welcome, incoming.len()), (1, 1));
}

#[test]
fn a_door_that_cannot_be_opened_says_why_and_opens_later() {
    let in_the_way = TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = in_the_way.local_addr().unwrap().port();
    let nowhere = Door { interface: "nowhere".into(), ..door(Cable::Crossover, LOOPBACK, None) };
    let (listener, _incoming) = listener(vec![nowhere, door(Cable::Lan, LOOPBACK, None)], port, 1);
    let doors = listener.doors();
    assert!(doors[0].listens.as_ref().unwrap_err().contains("nowhere"), "{doors:?}");
    assert!(doors[1].listens.as_ref().unwrap_err().contains("in use"), "{doors:?}");
    drop(in_the_way);
    wait_for("an open door", || listener.doors()[1].listens.is_ok());
    dial(&peer(port)).unwrap();
}
