//! Clients that only wait: their TCP connections end with the owner, and they learn of it at once.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime};

use clusterd::beat::Path;
use clusterd::config::{GroupIndex, NodeIndex, ServiceAddress};
use clusterd::control::event::Kind;
use clusterd::control::wallclock;
use clusterd::net::clients::{Codec, Connection, Table, segment};
use clusterd::sys::packet::PacketSocket;
use clusterd_bed::limits;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::{GROUP, node};

use crate::cables::{Plug, key};
use crate::scene::{SOON, Scene};

/// Every EtherType (linux/if_ether.h).
const ETH_P_ALL: u16 = 0x0003;
const ETHERNET_BYTES: usize = 14;
/// A service of IPv4 alone, and one that serves both.
const PORTS: [(&str, u16); 2] = [("0.0.0.0", 7001), ("::", 7002)];

/// A pair with an IPv4 and an IPv6 service address, on both nodes of which two services run.
struct Site {
    scene: Scene,
    owner: NodeIndex,
    listeners: [[TcpListener; 2]; 2],
}

/// A client's end and the owner's.
struct Open {
    client: TcpStream,
    server: TcpStream,
    ends: Connection,
}

impl Site {
    fn new() -> Site {
        let six = ServiceAddress {
            ip: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50).into(),
            prefix: 64,
        };
        let mut scene = Scene::dark(|options| options.addresses.push(six));
        let owner = scene.power_on();
        let listeners = NodeIndex::BOTH.map(|node| {
            let namespace = &scene.bed.wiring().seat(node).namespace;
            PORTS.map(|place| namespace.run(|| TcpListener::bind(place)).unwrap().unwrap())
        });
        Site { scene, owner, listeners }
    }

    fn open(&self, ip: IpAddr, place: usize) -> Open {
        let to = SocketAddr::new(ip, PORTS[place].1);
        let connect = || TcpStream::connect_timeout(&to, SOON);
        let client = self.scene.bed.wiring().client.run(connect).unwrap().expect("a connection");
        client.set_read_timeout(Some(SOON)).unwrap();
        let listeners =
            &self.listeners[NodeIndex::BOTH.iter().position(|&n| n == self.owner).unwrap()];
        let (server, _) = listeners[place].accept().unwrap();
        server.set_read_timeout(Some(SOON)).unwrap();
        let ends = Connection { service: to, client: client.local_addr().unwrap() };
        Open { client, server, ends }
    }

    /// A client of IPv4, one of IPv4 that an IPv6 socket serves, one of IPv6.
    fn open_each(&self) -> Vec<Open> {
        let [four, six] = ["203.0.113.50", "2001:db8::50"].map(|ip| ip.parse().unwrap());
        [(four, 0), (four, 1), (six, 1)].map(|(ip, place)| self.open(ip, place)).into()
    }

    /// Waits until the owner has told its peer of all these connections.
    fn wait_shared(&self, opened: &[Open]) {
        let heir = self.owner.other();
        let config = clusterd::config::load(self.scene.bed.node(heir).config()).unwrap();
        let codec = Codec::new(&key(&self.scene.bed), &config, heir);
        let mut table = Table::new(1);
        let socket = self.crossover(heir);
        let mut buffer = [0; 2048];
        self.scene.wait("the connections to be shared", || {
            while let Some(length) = socket.receive(&mut buffer).unwrap() {
                // It may begin in the middle of a list.
                let part = codec.decode(&buffer[ETHERNET_BYTES..length]);
                let _ = table.take(Instant::now(), part.expect("a frame of the peer"));
            }
            let known = table.shared(GroupIndex(0)).map(|list| list.connections.clone());
            let known = known.unwrap_or_default();
            let all = opened.iter().all(|open| known.contains(&open.ends));
            if all { Ok(()) } else { Err(format!("{known:?}")) }
        });
    }

    /// A socket in that node's place at its crossover.
    fn crossover(&self, node: NodeIndex) -> PacketSocket {
        let open = || {
            PacketSocket::open(
                clusterd::net::interface_index("eth1").unwrap(),
                limits::SHARE_ETHERTYPE,
            )
        };
        self.scene.bed.wiring().seat(node).namespace.run(open).unwrap().unwrap()
    }
}

/// A client knew soon after the new owner held the addresses; prints how soon.
fn knew_soon(scene: &Scene, heir: NodeIndex, ends: &Connection, reset: SystemTime) {
    let event = scene.wait("the event of the takeover", || {
        let events = scene.events(heir).into_iter();
        let mut serving = events.filter(|event| event.told.text.starts_with("serving"));
        serving.next().ok_or_else(|| "none".to_owned())
    });
    let held = wallclock::parse(&event.time).expect("a time");
    let spread = |error: std::time::SystemTimeError| error.duration();
    let after = reset.duration_since(held).unwrap_or_else(spread);
    println!("{}: reset {} ms after the takeover", ends.service, after.as_millis());
    let from = Instant::now() - SystemTime::now().duration_since(held).expect("it was before");
    let stalled = scene.bed.stalls.between(from, from + after);
    assert!(after <= limits::CLIENT_KNOWS_MAX + stalled, "{after:?}, stalled for {stalled:?}");
}

/// The client's read ends because the connection was reset; when.
fn reset(open: &Open) -> SystemTime {
    let error = (&open.client).read(&mut [0]).expect_err("nobody writes");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{:?}: {error}", open.ends);
    SystemTime::now()
}

/// Which of the connections a tickle is for, if the frame is one.
fn tickled(frame: &[u8], ends: &[Connection]) -> Option<usize> {
    let ip_bytes = match frame.get(12..14)? {
        [0x08, 0x00] => 20,
        [0x86, 0xdd] => 40,
        _ => return None,
    };
    let tcp = frame.get(ETHERNET_BYTES + ip_bytes..)?;
    // Both ports, sequence, acknowledgement, flags, window and checksum.
    ends.iter().position(|ends| {
        let segment = segment(ends).unwrap();
        ends.service.is_ipv4() == (ip_bytes == 20) && tcp.starts_with(&segment[ip_bytes..])
    })
}

#[test]
fn waiting_clients_learn_of_a_power_cut() {
    let mut site = Site::new();
    let opened = site.open_each();
    site.wait_shared(&opened);
    let heir = site.owner.other();
    let ends: Vec<Connection> = opened.iter().map(|open| open.ends).collect();
    let lan = || PacketSocket::open(clusterd::net::interface_index("eth0").unwrap(), ETH_P_ALL);
    let lan = site.scene.bed.wiring().client.run(lan).unwrap().unwrap();
    let over = AtomicBool::new(false);
    let (resets, seen) = std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            let (mut seen, mut buffer) = (BTreeSet::new(), [0; 2048]);
            loop {
                match lan.receive(&mut buffer).unwrap() {
                    Some(length) => seen.extend(tickled(&buffer[..length.min(2048)], &ends)),
                    None if over.load(Ordering::SeqCst) => return seen,
                    None => std::thread::sleep(limits::BED_ASK_EVERY),
                }
            }
        });
        let resets: Vec<_> = opened.iter().map(|open| scope.spawn(|| reset(open))).collect();
        let cut = site.scene.bed.power_cut(site.owner);
        let resets: Vec<_> = resets.into_iter().map(|reset| reset.join()).collect();
        over.store(true, Ordering::SeqCst);
        cut.expect("cut");
        (resets, seen.join().unwrap())
    });
    for (reset, ends) in resets.into_iter().zip(&ends) {
        knew_soon(&site.scene, heir, ends, reset.expect("a reset"));
    }
    assert_eq!(seen, BTreeSet::from([0, 1, 2]), "tickles on the LAN");
    let event = site.scene.wait_event(heir, 0, Kind::Clients, "clients of 3 TCP connections");
    assert_eq!(event.told.evidence["connections"], 3);
    assert_eq!(event.told.evidence["told"], 3);
}

#[test]
fn waiting_clients_learn_of_a_planned_move_and_the_old_owner_forgets_them() {
    let site = Site::new();
    let own = clusterd_bed::wiring::node_addresses(site.owner).0;
    let direct = site.open(own.into(), 0);
    // Not in any list yet, or just so: the old owner's last words count.
    let opened = site.open_each();
    let heir = site.owner.other();
    std::thread::scope(|scope| {
        let resets: Vec<_> = opened.iter().map(|open| scope.spawn(|| reset(open))).collect();
        site.scene.tell(site.owner, &["move", GROUP, node::name(heir)]);
        for (reset, open) in resets.into_iter().zip(&opened) {
            knew_soon(&site.scene, heir, &open.ends, reset.join().expect("a reset"));
        }
    });
    for open in &opened {
        let error = (&open.server).read(&mut [0]).expect_err("nobody writes");
        assert_eq!(error.kind(), ErrorKind::ConnectionAborted, "{error}");
    }
    site.scene.wait_event(heir, 0, Kind::Clients, "TCP connections");
    // What was never the group's goes on.
    (&direct.client).write_all(b"x").unwrap();
    let mut byte = [0];
    (&direct.server).read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn p4_bad_lists_of_connections_hurt_nobody() {
    let mut site = Site::new();
    let opened = site.open_each();
    let (owner, heir) = (site.owner, site.owner.other());
    site.wait_shared(&opened);
    let socket = site.crossover(heir);
    let mut buffer = [0; 2048];
    let recorded: Vec<Vec<u8>> = site.scene.wait("a list", || {
        let mut frames = Vec::new();
        while let Some(length) = socket.receive(&mut buffer).unwrap() {
            frames.push(buffer[..length].to_vec());
        }
        if frames.is_empty() { Err("none".to_owned()) } else { Ok(frames) }
    });
    site.scene.hurts_nobody(&[], |scene| {
        for to in [owner, heir] {
            let plug = Plug::open(&scene.bed, to, Path::Crossover);
            for frame in &recorded {
                for length in [14, 15, 40, frame.len() - 1] {
                    let _ = plug.send_bytes(&frame[..length]);
                }
                let mut long = frame.clone();
                long.resize(1514, 0x55);
                let _ = plug.send_bytes(&long);
                for _ in 0..20_000 {
                    let _ = plug.send_bytes(frame);
                }
            }
        }
    });
    // It was all for nothing: who is connected is known as before.
    let mark = Instant::now();
    site.scene.bed.power_cut(owner).expect("cut");
    for open in &opened {
        reset(open);
    }
    let log = std::fs::read_to_string(site.scene.bed.node(heir).log()).unwrap();
    assert!(log.contains("lists of clients' connections"), "{log}");
    assert_eq!(site.scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}
