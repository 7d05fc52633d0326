//! The listener and the way to it, each test in a network namespace of its own (needs root), so that
//! the port is the real one and addresses can come and go.

use std::io::{Read, Write};
use std::process::Command;

use crossbeam_channel::{Receiver, unbounded};
use nix::sched::{CloneFlags, unshare};

use super::super::Dialler;
use super::*;

/// Far longer than anything here takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(20);
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const CABLE: &str = "lo";

fn in_namespace(test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            ip("link set lo up");
            test();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn secret() -> Secret {
    Secret::new(&[7; 32], "pair")
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A listener and what it tells.
struct Scene {
    listener: Listener,
    arrived: Receiver<Incoming>,
    own: Receiver<Option<Ipv6Addr>>,
}

impl Scene {
    fn new(lan: IpAddr, peer_lan: IpAddr) -> Scene {
        let (to_arrived, arrived) = unbounded();
        let (to_own, own) = unbounded();
        let places = Places { crossover: CABLE.to_owned(), lan, peer_lan, port: limits::SYNC_PORT };
        let listener = Listener::start(
            secret(),
            places,
            move |incoming| to_arrived.send(incoming).unwrap(),
            // Nobody listens at the end.
            move |address| _ = to_own.send(address),
        );
        Scene { listener: listener.unwrap(), arrived, own }
    }

    /// On the loopback address, listening.
    fn home() -> Scene {
        let scene = Scene::new(HOME, HOME);
        until("it listens", || TcpStream::connect((HOME, limits::SYNC_PORT)).is_ok());
        until("that one is counted", || scene.listener.counts().unfinished == 1);
        scene
    }

    fn arrived(&self) -> Incoming {
        self.arrived.recv_timeout(PATIENCE).unwrap()
    }
}

fn dialler(secret: &Secret, lan: IpAddr, own_lan: IpAddr) -> Dialler {
    let (secret, interface) = (secret.clone(), CABLE.to_owned());
    Dialler { secret, interface, lan, own_lan, port: limits::SYNC_PORT, patience: PATIENCE }
}

fn over_lan(secret: &Secret) -> Result<Link, LinkError> {
    dialler(secret, HOME, HOME).connect(None)
}

fn raw() -> TcpStream {
    TcpStream::connect((HOME, limits::SYNC_PORT)).unwrap()
}

/// One that says nothing, from a port that only root has.
fn silent_from_below() -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    let to = (HOME, limits::SYNC_PORT).into();
    let stream = socket::reach(to, HOME, deadline).unwrap();
    assert!(stream.local_addr().unwrap().port() < PRIVILEGED_BELOW);
    stream.set_nonblocking(false).unwrap();
    stream
}

/// The end of a stream, or its reset if something was not read.
fn is_over(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    match stream.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_link_over_the_lan() {
    in_namespace(|| {
        let scene = Scene::home();
        let link = over_lan(&secret()).unwrap();
        assert_eq!(link.path(), LinkPath::Lan);
        let (mut writer, mut reader) = link.split();
        writer.send(b"hello").unwrap();
        writer.send(b"and more").unwrap();
        let Incoming { hello, link } = scene.arrived();
        assert_eq!((hello.as_slice(), link.path()), (b"hello".as_slice(), LinkPath::Lan));
        let (mut answer, mut rest) = link.split();
        assert_eq!(rest.receive().unwrap(), b"and more");
        answer.send(b"welcome").unwrap();
        assert_eq!(reader.receive().unwrap(), b"welcome");
        // Links that were handed over outlive the listener, and end when they are dropped.
        assert_eq!(
            scene.listener.counts(),
            Counts { taken: 1, unfinished: 1, ..Counts::default() }
        );
        scene.listener.end();
        answer.send(b"still").unwrap();
        assert_eq!(reader.receive().unwrap(), b"still");
        drop((answer, rest));
        assert!(matches!(reader.receive(), Err(LinkError::Closed)));
    });
}

#[test]
fn who_does_not_know_the_secret_is_dropped() {
    in_namespace(|| {
        let scene = Scene::home();
        let before = scene.listener.counts();
        for wrong in [Secret::new(&[8; 32], "pair"), Secret::new(&[7; 32], "other")] {
            let error = over_lan(&wrong).unwrap_err();
            let words = error.to_string();
            assert!(words.contains("copy the key file"), "{words}");
        }
        let mut garbage = raw();
        garbage.write_all(&[0x16; 100]).unwrap();
        assert!(is_over(&mut garbage));
        until("counted", || scene.listener.counts().wrong_key == 3);

        // Cut short, or long in the first message.
        let mut short = raw();
        short.write_all(&[0x16; 20]).unwrap();
        drop(short);
        let (mut writer, mut reader) = over_lan(&secret()).unwrap().split();
        // The link may be cut while it is sent.
        let _ = writer.send(&vec![0; limits::MIRROR_HELLO_BYTES_MAX + 1]);
        assert!(reader.receive().is_err());
        until("counted", || scene.listener.counts().unfinished == before.unfinished + 2);

        let mut good = over_lan(&secret()).unwrap().split();
        good.0.send(&vec![1; limits::MIRROR_HELLO_BYTES_MAX]).unwrap();
        assert_eq!(scene.arrived().hello.len(), limits::MIRROR_HELLO_BYTES_MAX);
        assert!(scene.arrived.is_empty());
    });
}

#[test]
fn a_recorded_connection_is_not_taken_again() {
    in_namespace(|| {
        let scene = Scene::home();
        // What the peer sends, taken from a cable in between.
        let between: IpAddr = "127.1.1.1".parse().unwrap();
        let tap = TcpListener::bind((between, limits::SYNC_PORT)).unwrap();
        let wire = thread::scope(|scope| {
            let taps = scope.spawn(|| {
                let (mut from, _) = tap.accept().unwrap();
                let mut to = raw();
                let mut wire = vec![0; 48];
                from.read_exact(&mut wire).unwrap();
                to.write_all(&wire).unwrap();
                let mut answer = [0; 48];
                to.read_exact(&mut answer).unwrap();
                from.write_all(&answer).unwrap();
                let mut rest = Vec::new();
                from.read_to_end(&mut rest).unwrap();
                to.write_all(&rest).unwrap();
                [wire, rest].concat()
            });
            let link = dialler(&secret(), between, HOME).connect(None);
            link.unwrap().split().0.send(b"hello").unwrap();
            taps.join().unwrap()
        });
        assert_eq!(scene.arrived().hello, b"hello");
        let before = scene.listener.counts();
        let mut again = raw();
        again.write_all(&wire).unwrap();
        until("refused", || scene.listener.counts().unfinished == before.unfinished + 1);
        assert_eq!(scene.listener.counts().taken, 1);
        assert!(scene.arrived.is_empty());
    });
}

#[test]
fn strangers_and_crowds_cost_little() {
    in_namespace(|| {
        let scene = Scene::home();
        // Those who say nothing, more than may: the peer gets in beside them.
        let more = limits::MIRROR_HALF_OPEN_UNPRIVILEGED_MAX + 5;
        let crowd: Vec<TcpStream> = (0..more).map(|_| raw()).collect();
        until("dropped", || scene.listener.counts().crowded >= 5);
        over_lan(&secret()).unwrap().split().0.send(b"hello").unwrap();
        assert_eq!(scene.arrived().hello, b"hello");
        drop(crowd);

        // Even if they have the privileged places.
        let crowded = scene.listener.counts().crowded;
        let more = limits::MIRROR_HALF_OPEN_MAX + 1;
        let silent: Vec<TcpStream> = (0..more).map(|_| silent_from_below()).collect();
        until("dropped", || scene.listener.counts().crowded > crowded);
        over_lan(&secret()).unwrap().split().0.send(b"hello again").unwrap();
        assert_eq!(scene.arrived().hello, b"hello again");
        // And they are not waited for for long.
        for mut stream in silent {
            assert!(is_over(&mut stream));
        }

        // Not from the peer's address.
        let stranger: IpAddr = "127.0.0.9".parse().unwrap();
        let before = scene.listener.counts();
        let port = limits::SYNC_PORT;
        let error = dialler(&secret(), HOME, stranger).connect(None).unwrap_err();
        let LinkError::Unreachable { crossover, lan } = &error else { panic!("{error}") };
        assert!(crossover.contains("tell no address"), "{crossover}");
        assert!(lan.contains(&format!("{HOME} port {port} from {stranger}")), "{lan}");
        until("counted", || scene.listener.counts().strangers == before.strangers + 1);
        assert!(scene.arrived.is_empty());
    });
}

#[test]
fn its_end_frees_its_sockets() {
    in_namespace(|| {
        let scene = Scene::home();
        let mut silent = raw();
        // Let in, in its turn before this one.
        let error = over_lan(&Secret::new(&[0; 32], "")).unwrap_err();
        assert!(matches!(error, LinkError::Unreachable { .. }));
        scene.listener.end();
        assert!(is_over(&mut silent));
        let refused = TcpStream::connect((HOME, limits::SYNC_PORT)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        Scene::home();
    });
}

#[test]
fn addresses_come_and_go() {
    in_namespace(|| {
        let lan: IpAddr = "192.0.2.1".parse().unwrap();
        let scene = Scene::new(lan, lan);
        let told = || scene.own.recv_timeout(PATIENCE).unwrap();
        let reach = |cable: Option<Ipv6Addr>| dialler(&secret(), lan, lan).connect(cable);
        let hears = |link: Link, path: LinkPath| {
            assert_eq!(link.path(), path);
            link.split().0.send(b"hello").unwrap();
            assert_eq!(scene.arrived().link.path(), path);
        };
        assert!(reach(None).is_err(), "there is no address yet");
        let one: Ipv6Addr = "fe80::1".parse().unwrap();
        let two: Ipv6Addr = "fe80::2".parse().unwrap();
        ip("address add fe80::1/64 dev lo nodad");
        assert_eq!(told(), Some(one));
        hears(reach(Some(one)).unwrap(), LinkPath::Crossover);

        ip("address add 192.0.2.1/32 dev lo");
        let mut by_lan = None;
        until("the LAN address is listened on", || {
            by_lan = reach(None).ok();
            by_lan.is_some()
        });
        hears(by_lan.unwrap(), LinkPath::Lan);
        hears(reach(Some(one)).unwrap(), LinkPath::Crossover);

        ip("address add fe80::2/64 dev lo nodad");
        ip("address del fe80::1/64 dev lo");
        assert_eq!(told(), Some(two));
        hears(reach(Some(two)).unwrap(), LinkPath::Crossover);
        ip("address del fe80::2/64 dev lo");
        assert_eq!(told(), None);
        // Down to the LAN.
        let by_lan = reach(Some(two)).unwrap();
        let detour = by_lan.detour().unwrap().to_owned();
        assert!(detour.contains("fe80::2 port 694 on lo: "), "{detour}");
        assert!(detour.contains("os error"), "{detour}");
        hears(by_lan, LinkPath::Lan);

        ip("address add fe80::1/64 dev lo nodad");
        assert_eq!(told(), Some(one));
        scene.listener.end();
        assert_eq!(scene.own.recv_timeout(PATIENCE).unwrap(), None, "its end is told");
    });
}
