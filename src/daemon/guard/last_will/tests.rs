//! The real sockets, in a network namespace, and a pseudo-terminal for the line.

use std::io::Read;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;
use crate::config;
use crate::limits::CROSSOVER_ETHERTYPE;
use crate::sys::packet::PacketSocket;

fn ip(arguments: &str) {
    let output = std::process::Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
}

fn config(device: &str) -> Config {
    let text = format!(
        r#"
[cluster]
name = "will"
key  = "/k"
[node.serv1]
address   = "192.0.2.1"
lan       = "one"
crossover = "three"
serial    = "{device}"
[node.serv2]
address   = "192.0.2.2"
lan       = "one"
crossover = "two"
serial    = "{device}"
[group.web]
prefer  = "serv1"
address = ["192.0.2.50/24"]
"#
    );
    config::parse(&text, "will.toml").unwrap()
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `sockaddr_in` of that port on this host.
fn udp(port: u16) -> Vec<u8> {
    let family = (libc::AF_INET as u16).to_ne_bytes();
    [&family[..], &port.to_be_bytes(), &[127, 0, 0, 1], &[0; 8]].concat()
}

/// `sockaddr_ll` of that interface.
fn link(interface: &str) -> Vec<u8> {
    let index = nix::net::if_::if_nametoindex(interface).unwrap();
    let family = (libc::AF_PACKET as u16).to_ne_bytes();
    let ethertype = CROSSOVER_ETHERTYPE.to_be_bytes();
    [&family[..], &ethertype, &index.to_ne_bytes(), &[0; 12]].concat()
}

#[test]
fn a_will_goes_out_on_every_path_as_it_is() {
    let body = || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        // A namespace without even this knows no addresses at all, and binds to none.
        ip("link set lo up");
        let pty = nix::pty::openpty(None, None).unwrap();
        let device = nix::unistd::ttyname(&pty.slave).unwrap();
        drop(pty.slave);
        // Opened before there is the interface or its address, as at boot.
        let mut will = LastWill::open(&config(device.to_str().unwrap()), NodeIndex::Lower);
        ip("link add three type veth peer name four");
        ip("link set three up");
        ip("link set four up");
        ip("address add 192.0.2.1/24 dev three");
        let cable =
            PacketSocket::open(crate::net::interface_index("four").unwrap(), CROSSOVER_ETHERTYPE)
                .unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_nonblocking(true).unwrap();
        let port = peer.local_addr().unwrap().port();
        let frame = [&[0xff; 12][..], &CROSSOVER_ETHERTYPE.to_be_bytes(), &[7; 60]].concat();
        let stuffed = [0, 3, 1, 2, 0];

        let (to, there) = (udp(port), link("three"));
        let farewells = [
            (Path::Crossover, &there[..], &frame[..]),
            (Path::Serial, &[], &stuffed),
            (Path::Lan, &to, b"beat"),
        ];
        assert_eq!(will.say(farewells.into_iter()), 3);
        let mut buffer = [0; 200];
        let length = until(|| cable.receive(&mut buffer).unwrap());
        assert_eq!(buffer[..length], frame);
        let (length, from) = until(|| peer.recv_from(&mut buffer).ok());
        assert_eq!((&buffer[..length], from.ip()), (&b"beat"[..], "192.0.2.1".parse().unwrap()));
        let mut master = std::fs::File::from(pty.master);
        // A pseudo-terminal that nobody has made raw echoes and translates; these bytes it leaves alone.
        let length = master.read(&mut buffer).unwrap();
        assert_eq!(buffer[..length], stuffed);

        // The line is given back, and what cannot be sent holds up nothing.
        assert!(will.line.is_some());
        will.let_go();
        assert!(will.line.is_none());
        ip("link delete three");
        let farewells = [(Path::Crossover, &there[..], &frame[..]), (Path::Lan, &to, b"2")];
        assert!(will.say(farewells.into_iter()) <= 1);
    };
    std::thread::spawn(body).join().unwrap();
}

#[test]
fn a_missing_line_is_no_error() {
    let mut will = LastWill::open(&config("/dev/no-such-line"), NodeIndex::Lower);
    assert_eq!(will.say([(Path::Serial, &b""[..], &b"frame"[..])].into_iter()), 0);
    assert!(will.line.is_none());
}
