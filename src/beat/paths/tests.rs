//! Real sockets: two nodes in two network namespaces, and lines made of pseudo-terminals. The
//! namespaces need root.

use std::fs::File;
use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};

use super::*;
use crate::beat::cobs::{Deframer, Stuffed};
use crate::beat::tests::beat_of;
use crate::beat::{CopyBeat, CopyDetail, GroupBeat, PathSet, PulseKind, Stance};
use crate::config::{
    Failback, Group, GroupIndex, GroupTags, Heartbeat, Nic, Node, SerialLine, WhenUnsure,
};
use crate::control::status::NodeState;
use crate::limits::{BEAT_BYTES_MAX, CROSSOVER_ETHERTYPE, LAN_PORT};
use crate::net::interface_index;
use crate::sys::packet::PacketSocket;

const KEY: [u8; 32] = [3; 32];
const INCARNATIONS: [u64; 2] = [101, 202];
const DIGEST: [u8; 8] = *b"the same";

fn config(addresses: [&str; 2], serial: [Option<PathBuf>; 2]) -> Config {
    let node = |name: &str, address: &str, serial: Option<PathBuf>| Node {
        name: name.into(),
        address: address.parse().unwrap(),
        lan: "lan0".into(),
        crossover: "cross0".into(),
        serial: serial.map(|device| SerialLine { device, baud: 115_200 }),
        redundant: None,
    };
    let [lower, upper] = serial;
    Config {
        cluster: "office".into(),
        key_file: "/nonexistent".into(),
        nodes: [node("serv1", addresses[0], lower), node("serv2", addresses[1], upper)],
        heartbeat: Heartbeat {
            interval: Duration::from_millis(50),
            dead_after: Duration::from_millis(150),
            boot_patience: Duration::from_secs(60),
        },
        reach_hosts: Vec::new(),
        notify_exec: None,
        groups: vec![Group {
            name: "web".into(),
            prefer: NodeIndex::Lower,
            failback: Failback::Auto,
            stable_for: Duration::from_secs(30),
            when_unsure: WhenUnsure::Wait,
            max_behind: Duration::from_secs(60),
            addresses: Vec::new(),
            nic: Nic::Lan,
            mac: None,
            mirror: Vec::new(),
            services: Vec::new(),
        }],
        digest: DIGEST,
    }
}

/// All paths, those that can be opened open.
fn open(config: &Config, me: NodeIndex) -> Paths {
    let mut paths =
        Paths::new(config, me, Codec::new(&KEY, &config.cluster, config.group_tags(), me));
    for path in Path::ALL {
        // A failure is kept as the path's fault.
        let _ = reopen(&mut paths, config, me, path);
    }
    paths
}

fn reopen(paths: &mut Paths, config: &Config, me: NodeIndex, path: Path) -> std::io::Result<()> {
    let node = config.node(me);
    match path {
        Path::Crossover => paths.open_crossover(interface_index(&node.crossover)?),
        Path::Lan => paths.open_lan(interface_index(&node.lan)?),
        Path::Serial => {
            node.serial.as_ref().map_or(Ok(()), |line| paths.line_opened(Serial::open(line)))
        }
    }
}

fn incarnation(node: NodeIndex) -> u64 {
    INCARNATIONS[node as usize]
}

fn beat(node: NodeIndex, sequence: u64) -> Beat {
    Beat {
        node,
        incarnation: incarnation(node),
        peer_incarnation: incarnation(node.other()),
        sequence,
        sent_us: sequence * 50_000,
        echo_us: 0,
        echo_held_us: 0,
        ask_answer: false,
        farewell: false,
        will: false,
        state: NodeState::Online,
        may_claim: true,
        hears: PathSet(7),
        lan_carrier: true,
        reach: 0,
        reach_of: 0,
        worst_gap_ms: 0,
        lan_mac: [0; 6],
        sync: [0; 8],
        digest: DIGEST,
        wish: None,
        answer: None,
        groups: [GroupBeat {
            group: GroupIndex(0),
            stance: Stance::Passive,
            serving: false,
            generation: 0,
            owner: NodeIndex::Lower,
            id: 0,
            copy: CopyBeat { detail: Some(CopyDetail::default()), ..CopyBeat::default() },
        }]
        .into_iter()
        .collect(),
    }
}

/// Without what only some frames on serial have room for.
fn undetail(mut beat: Beat) -> Beat {
    beat.groups.iter_mut().for_each(|group| group.copy.detail = None);
    beat
}

fn undetailed(read: Vec<Result<Beat, DropReason>>) -> Vec<Result<Beat, DropReason>> {
    read.into_iter().map(|read| read.map(undetail)).collect()
}

fn session(me: NodeIndex) -> Session {
    Session {
        my_incarnation: incarnation(me),
        peer_incarnation: incarnation(me.other()),
        peer_digest: DIGEST,
        now_us: 1_000_000_000,
    }
}

/// All that is there now.
fn drain(paths: &mut Paths, path: Path, me: NodeIndex) -> Vec<Result<Beat, DropReason>> {
    let mut got = Vec::new();
    while paths.receive(path, &session(me), 8, &mut |frame| got.push(frame.map(beat_of))).unwrap() {
    }
    got
}

/// What comes until there are `count` results, with `work` between the looks.
fn wait(
    paths: &mut Paths,
    path: Path,
    me: NodeIndex,
    count: usize,
    mut work: impl FnMut(),
) -> Vec<Result<Beat, DropReason>> {
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut got = Vec::new();
    while got.len() < count {
        assert!(Instant::now() < deadline, "only {got:?} on {}", path.name());
        work();
        got.extend(drain(paths, path, me));
        std::thread::sleep(Duration::from_millis(1));
    }
    got
}

/// Two namespaces joined by a veth pair for each cable. They go when the last socket in them does.
struct Pair {
    namespaces: [File; 2],
}

impl Pair {
    /// Moves the calling thread.
    fn new(addresses: [&str; 2]) -> Pair {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let pair = Pair { namespaces: [make(), make()] };
        pair.cable("cross0");
        pair.cable("lan0");
        for (node, address) in NodeIndex::BOTH.into_iter().zip(addresses) {
            pair.enter(node);
            ip(&format!("addr add {address} dev lan0 nodad"));
        }
        pair
    }

    fn cable(&self, name: &str) {
        self.enter(NodeIndex::Lower);
        let (pid, fd) = (std::process::id(), self.namespaces[1].as_raw_fd());
        ip(&format!("link add {name} type veth peer name {name} netns /proc/{pid}/fd/{fd}"));
        for node in NodeIndex::BOTH {
            self.enter(node);
            ip(&format!("link set {name} up"));
        }
    }

    /// Moves the calling thread to that node.
    fn enter(&self, node: NodeIndex) {
        setns(&self.namespaces[node as usize], CloneFlags::CLONE_NEWNET).unwrap();
    }
}

fn ip(arguments: &str) {
    let done = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {done:?}");
}

/// On a thread of its own, because it changes its namespace.
fn on_own_thread(test: fn()) {
    std::thread::spawn(test).join().unwrap();
}

const V4: [&str; 2] = ["10.9.0.1", "10.9.0.2"];

fn two_nodes(addresses: [&str; 2]) -> (Pair, Config, Paths, Paths) {
    let prefix = if addresses[0].contains(':') { 64 } else { 24 };
    let with_prefix = addresses.map(|address| format!("{address}/{prefix}"));
    let pair = Pair::new([&with_prefix[0], &with_prefix[1]]);
    let config = config(addresses, [None, None]);
    pair.enter(NodeIndex::Lower);
    let mut lower = open(&config, NodeIndex::Lower);
    pair.enter(NodeIndex::Upper);
    let mut upper = open(&config, NodeIndex::Upper);
    for path in [Path::Crossover, Path::Lan] {
        assert!(lower.fault(path).is_none(), "{:?}", lower.fault(path));
        assert!(upper.fd(path).is_some(), "{:?}", upper.fault(path));
        warm_up(path, &mut lower, &mut upper, NodeIndex::Lower);
        warm_up(path, &mut upper, &mut lower, NodeIndex::Upper);
    }
    assert!(lower.fd(Path::Serial).is_none() && lower.fault(Path::Serial).is_none());
    assert!(!lower.is_configured(Path::Serial));
    (pair, config, lower, upper)
}

/// The kernel drops what is sent before it has noticed the carrier of a new link.
fn warm_up(path: Path, from: &mut Paths, to: &mut Paths, sender: NodeIndex) {
    wait(to, path, sender.other(), 1, || from.send(path, &beat(sender, 1)).unwrap());
    let last = beat(sender, 2);
    from.send(path, &last).unwrap();
    while wait(to, path, sender.other(), 1, || ()).last() != Some(&Ok(last.clone())) {}
}

fn beats_travel(addresses: [&str; 2]) {
    let (_pair, _config, mut lower, mut upper) = two_nodes(addresses);
    for path in [Path::Crossover, Path::Lan] {
        lower.send(path, &beat(NodeIndex::Lower, 1)).unwrap();
        let got = wait(&mut upper, path, NodeIndex::Upper, 1, || ());
        assert_eq!(got, [Ok(beat(NodeIndex::Lower, 1))]);
        upper.send(path, &beat(NodeIndex::Upper, 2)).unwrap();
        let got = wait(&mut lower, path, NodeIndex::Lower, 1, || ());
        assert_eq!(got, [Ok(beat(NodeIndex::Upper, 2))]);
        // Nothing of its own came back.
        assert_eq!(drain(&mut upper, path, NodeIndex::Upper), []);
    }
}

#[test]
fn beats_travel_on_crossover_and_lan() {
    on_own_thread(|| beats_travel(V4));
    on_own_thread(|| beats_travel(["fd00:9::1", "fd00:9::2"]));
    on_own_thread(|| beats_travel(["fe80::9:1", "fe80::9:2"]));
}

#[test]
fn strangers_are_refused_by_name() {
    on_own_thread(|| {
        let (pair, _config, _lower, mut upper) = two_nodes(V4);
        pair.enter(NodeIndex::Lower);
        ip("addr add 10.9.0.3/24 dev lan0");
        let stranger = UdpSocket::bind("10.9.0.3:0").unwrap();
        stranger.send_to(b"hello", (V4[1], LAN_PORT)).unwrap();
        let got = wait(&mut upper, Path::Lan, NodeIndex::Upper, 1, || ());
        assert_eq!(got, [Err(DropReason::NotPeer)]);

        let raw =
            PacketSocket::open(interface_index("cross0").unwrap(), CROSSOVER_ETHERTYPE).unwrap();
        for (payload, reason) in [
            (BEAT_BYTES_MAX + 1, DropReason::Oversized),
            (1400, DropReason::Oversized),
            (BEAT_BYTES_MAX, DropReason::Malformed),
            (0, DropReason::Truncated),
        ] {
            let mut frame = vec![0xff; 12];
            frame.extend(CROSSOVER_ETHERTYPE.to_be_bytes());
            frame.extend(vec![0; payload]);
            raw.send(&frame).unwrap();
            let got = wait(&mut upper, Path::Crossover, NodeIndex::Upper, 1, || ());
            assert_eq!(got, [Err(reason)], "{payload}");
        }
    });
}

#[test]
fn a_flood_is_taken_in_portions() {
    on_own_thread(|| {
        let (_pair, _config, mut lower, mut upper) = two_nodes(V4);
        for path in [Path::Crossover, Path::Lan] {
            for sequence in 1..=20 {
                lower.send(path, &beat(NodeIndex::Lower, sequence)).unwrap();
            }
            let mut got = 0;
            let session = session(NodeIndex::Upper);
            let more = upper.receive(path, &session, 8, &mut |_| got += 1).unwrap();
            assert!(more);
            assert_eq!(got, 8);
            let rest = wait(&mut upper, path, NodeIndex::Upper, 12, || ());
            assert_eq!(rest.len(), 12);
            assert_eq!(rest.last(), Some(&Ok(beat(NodeIndex::Lower, 20))));
        }
    });
}

/// A peer without a socket answers with ICMP errors; a link that is down refuses. Neither is a
/// failure of the path: the same sockets go on when it passes.
#[test]
fn what_passes_by_itself_closes_nothing() {
    on_own_thread(|| {
        let (pair, config, mut lower, upper) = two_nodes(V4);
        drop(upper);
        let before = [lower.fd(Path::Crossover), lower.fd(Path::Lan)];
        for sequence in 1..=50 {
            lower.send(Path::Lan, &beat(NodeIndex::Lower, sequence)).unwrap();
            assert_eq!(drain(&mut lower, Path::Lan, NodeIndex::Lower), []);
        }
        pair.enter(NodeIndex::Lower);
        for name in ["cross0", "lan0"] {
            ip(&format!("link set {name} down"));
        }
        for path in [Path::Crossover, Path::Lan] {
            lower.send(path, &beat(NodeIndex::Lower, 60)).unwrap();
            assert_eq!(drain(&mut lower, path, NodeIndex::Lower), []);
            assert_eq!(lower.unsent(path).unreachable, 1, "{}", path.name());
        }
        for name in ["cross0", "lan0"] {
            ip(&format!("link set {name} up"));
        }
        pair.enter(NodeIndex::Upper);
        let mut upper = open(&config, NodeIndex::Upper);
        for path in [Path::Crossover, Path::Lan] {
            let got = wait(&mut upper, path, NodeIndex::Upper, 1, || {
                lower.send(path, &beat(NodeIndex::Lower, 70)).unwrap();
            });
            assert_eq!(got[0], Ok(beat(NodeIndex::Lower, 70)));
        }
        assert_eq!(before, [lower.fd(Path::Crossover), lower.fd(Path::Lan)]);
    });
}

#[test]
fn an_interface_that_goes_closes_its_path_until_it_is_back() {
    on_own_thread(|| {
        let (pair, config, mut lower, mut upper) = two_nodes(V4);
        pair.enter(NodeIndex::Lower);
        ip("link del cross0");
        ip("link del lan0");
        for path in [Path::Crossover, Path::Lan] {
            // Of the LAN's the kernel says only that the peer is unreachable; the netlink thread knows better.
            match path {
                Path::Lan => {
                    lower.send(path, &beat(NodeIndex::Lower, 1)).unwrap();
                    lower.close(path, std::io::Error::other("it is gone"));
                }
                Path::Crossover | Path::Serial => {
                    assert!(lower.send(path, &beat(NodeIndex::Lower, 1)).is_err());
                }
            }
            assert!(lower.fd(path).is_none() && lower.fault(path).is_some());
            lower.send(path, &beat(NodeIndex::Lower, 2)).unwrap();
            assert_eq!(lower.unsent(path).closed, 1);
            assert!(reopen(&mut lower, &config, NodeIndex::Lower, path).is_err());
        }
        pair.cable("cross0");
        pair.cable("lan0");
        for (node, paths) in [(NodeIndex::Lower, &mut lower), (NodeIndex::Upper, &mut upper)] {
            pair.enter(node);
            // The interface is there before its address is.
            assert!(reopen(paths, &config, node, Path::Lan).is_err());
            ip(&format!("addr add {}/24 dev lan0", V4[node as usize]));
            for path in [Path::Crossover, Path::Lan] {
                reopen(paths, &config, node, path).unwrap();
                assert!(paths.fault(path).is_none());
            }
        }
        for path in [Path::Crossover, Path::Lan] {
            let got = wait(&mut upper, path, NodeIndex::Upper, 1, || {
                lower.send(path, &beat(NodeIndex::Lower, 3)).unwrap();
            });
            assert_eq!(got[0], Ok(beat(NodeIndex::Lower, 3)));
        }
    });
}

/// The far end of a line: what the daemon's end writes can be read here, and the other way round.
struct FarEnd {
    file: File,
    device: PathBuf,
}

impl FarEnd {
    fn new() -> FarEnd {
        let pty = nix::pty::openpty(None, None).unwrap();
        let device = nix::unistd::ttyname(&pty.slave).unwrap();
        fcntl(&pty.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        FarEnd { file: pty.master.into(), device }
    }

    /// What has arrived here.
    fn read(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Ends with WouldBlock.
        let _ = self.file.read_to_end(&mut bytes);
        bytes
    }
}

fn serial_only(me: NodeIndex, device: &std::path::Path) -> Paths {
    let config = config(V4, [Some(device.into()), Some(device.into())]);
    let paths = open(&config, me);
    assert!(paths.fd(Path::Serial).is_some(), "{:?}", paths.fault(Path::Serial));
    paths
}

#[test]
fn beats_travel_on_a_null_modem_line_with_noise() {
    let (mut a, mut b) = (FarEnd::new(), FarEnd::new());
    let mut lower = serial_only(NodeIndex::Lower, &a.device);
    let mut upper = serial_only(NodeIndex::Upper, &b.device);
    b.file.write_all(b"login: \0half a fra").unwrap();
    for sequence in 1..=30 {
        lower.send(Path::Serial, &beat(NodeIndex::Lower, sequence)).unwrap();
        let mut got = wait(&mut upper, Path::Serial, NodeIndex::Upper, 1, || {
            b.file.write_all(&a.read()).unwrap();
        });
        if sequence == 1 {
            let more = wait(&mut upper, Path::Serial, NodeIndex::Upper, 3 - got.len(), || ());
            got.extend(more);
            assert_eq!(got.remove(0), Err(DropReason::LineNoise));
            assert_eq!(got.remove(0), Err(DropReason::LineNoise));
        }
        assert_eq!(undetailed(got), [Ok(undetail(beat(NodeIndex::Lower, sequence)))]);
        upper.send(Path::Serial, &beat(NodeIndex::Upper, sequence)).unwrap();
        let got = wait(&mut lower, Path::Serial, NodeIndex::Lower, 1, || {
            a.file.write_all(&b.read()).unwrap();
        });
        assert_eq!(undetailed(got), [Ok(undetail(beat(NodeIndex::Upper, sequence)))]);
    }
}

#[test]
fn a_line_that_takes_nothing_drops_beats_and_recovers() {
    let mut far = FarEnd::new();
    let mut lower = serial_only(NodeIndex::Lower, &far.device);
    let mut sequence = 0;
    while lower.unsent(Path::Serial).queue_full < 100 {
        sequence += 1;
        assert!(sequence < 100_000, "the line takes everything");
        lower.send(Path::Serial, &beat(NodeIndex::Lower, sequence)).unwrap();
    }
    // What is read now ends inside a frame; the next one arrives whole anyway.
    let mut deframer = Deframer::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline);
        let bytes = far.read();
        let frames = bytes.iter().filter_map(|&byte| deframer.push(byte));
        let last = frames.filter_map(Result::ok).last();
        let mut codec = Codec::new(&KEY, "office", GroupTags::of(["web"]), NodeIndex::Upper);
        if let Some(frame) = last
            && let Ok(Incoming::Beat(heard)) =
                codec.decode(Path::Serial, frame.as_slice(), &session(NodeIndex::Upper))
            && heard.sequence > sequence
        {
            break;
        }
        lower.send(Path::Serial, &beat(NodeIndex::Lower, sequence + 1)).unwrap();
    }
}

#[test]
fn a_pseudo_terminal_has_no_modem_lines() {
    let far = FarEnd::new();
    let port = serial_only(NodeIndex::Lower, &far.device).line_port().unwrap();
    assert_eq!(crate::sys::tty::far_end_shows(port.as_ref()), None);
}

/// Twelve bytes each way, between two nodes that know each other's incarnations.
#[test]
fn pulses_cross_the_line() {
    let mut far = FarEnd::new();
    let mut lower = serial_only(NodeIndex::Lower, &far.device);
    let mut codec = Codec::new(&KEY, "office", GroupTags::of(["web"]), NodeIndex::Upper);
    let ask = Pulse {
        kind: PulseKind::Ask,
        incarnation: incarnation(NodeIndex::Upper),
        peer_incarnation: incarnation(NodeIndex::Lower),
        number: 9,
    };
    let mut frame = FrameBuffer::new();
    codec.encode_pulse(&ask, &mut frame);
    let stuffed = Stuffed::new(frame.as_slice()).unwrap();
    let (first, rest) = stuffed.as_slice().split_at(5);
    far.file.write_all(first).unwrap();
    let session = session(NodeIndex::Lower);
    let mut got = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    while lower.line_held_bytes() == 0 {
        assert!(Instant::now() < deadline);
        lower.receive(Path::Serial, &session, 8, &mut |frame| got.push(frame)).unwrap();
    }
    far.file.write_all(rest).unwrap();
    while got.is_empty() {
        assert!(Instant::now() < deadline);
        lower.receive(Path::Serial, &session, 8, &mut |frame| got.push(frame)).unwrap();
    }
    assert_eq!(got, [Ok(Incoming::Pulse(ask))]);
    assert_eq!(lower.line_held_bytes(), 0);
    // A recorded frame is read again: the core knows its number.
    lower.send_pulse(&Pulse { kind: PulseKind::Answer, ..ask }).unwrap();
    let mut deframer = Deframer::new();
    while !far.read().iter().any(|&byte| deframer.push(byte).is_some_and(|frame| frame.is_ok())) {
        assert!(Instant::now() < deadline);
    }
}

/// The heart is woken once for a pulse, not for its first bytes; what is there can be read anyway.
#[test]
fn the_line_tells_of_a_whole_pulse() {
    let mut far = FarEnd::new();
    let mut upper = serial_only(NodeIndex::Upper, &far.device);
    let pulse = |number| Pulse {
        kind: PulseKind::Life,
        incarnation: incarnation(NodeIndex::Lower),
        peer_incarnation: incarnation(NodeIndex::Upper),
        number,
    };
    let mut codec = Codec::new(&KEY, "office", GroupTags::of(["web"]), NodeIndex::Lower);
    let session = session(NodeIndex::Upper);
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let line = File::options().read(true).custom_flags(flags.bits()).open(&far.device).unwrap();
    let is_told = || {
        let mut fds = [PollFd::new(line.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
    };
    for number in 1..=3 {
        let mut frame = FrameBuffer::new();
        codec.encode_pulse(&pulse(number), &mut frame);
        let stuffed = Stuffed::new(frame.as_slice()).unwrap();
        let (most, last) = stuffed.as_slice().split_at(stuffed.as_slice().len() - 1);
        far.file.write_all(most).unwrap();
        assert!(!is_told(), "of a part");
        if number == 2 {
            upper.receive(Path::Serial, &session, 8, &mut |frame| panic!("{frame:?}")).unwrap();
            assert_eq!(upper.line_held_bytes(), most.len() - 1);
        }
        far.file.write_all(last).unwrap();
        assert_eq!(is_told(), number != 2, "of all of it");
        let mut got = Vec::new();
        upper.receive(Path::Serial, &session, 8, &mut |frame| got.push(frame)).unwrap();
        assert_eq!(got, [Ok(Incoming::Pulse(pulse(number)))]);
    }
}

#[test]
fn a_babbling_line_does_not_hold_the_loop() {
    let mut far = FarEnd::new();
    let mut lower = serial_only(NodeIndex::Lower, &far.device);
    let text = [b'x'; 3000];
    far.file.write_all(&text).unwrap();
    let mut got = Vec::new();
    let session = session(NodeIndex::Lower);
    let deadline = Instant::now() + Duration::from_secs(20);
    while got.is_empty() {
        assert!(Instant::now() < deadline);
        let mut take = |frame: Result<Incoming, DropReason>| got.push(frame.map(beat_of));
        lower.receive(Path::Serial, &session, 2, &mut take).unwrap();
    }
    assert_eq!(got, [Err(DropReason::Oversized)]);
    assert!(lower.receive(Path::Serial, &session, 2, &mut |_| ()).unwrap(), "all read at once");
    // A frame behind it is found.
    let mut frame = FrameBuffer::new();
    let mut codec = Codec::new(&KEY, "office", GroupTags::of(["web"]), NodeIndex::Upper);
    codec.encode(Path::Serial, &beat(NodeIndex::Upper, 1), &mut frame);
    far.file.write_all(Stuffed::new(frame.as_slice()).unwrap().as_slice()).unwrap();
    let got = wait(&mut lower, Path::Serial, NodeIndex::Lower, 1, || ());
    assert_eq!(got, [Ok(beat(NodeIndex::Upper, 1))]);
}

#[test]
fn a_line_that_hangs_up_closes_and_a_missing_device_is_told() {
    let far = FarEnd::new();
    // By a name of its own: another test's terminal may get the number of one that was closed.
    let name = std::env::temp_dir().join(format!("clusterd-line-{}", std::process::id()));
    std::os::unix::fs::symlink(&far.device, &name).unwrap();
    let mut lower = serial_only(NodeIndex::Lower, &name);
    std::fs::remove_file(&name).unwrap();
    drop(far);
    // A program that another test starts may hold the far end for a moment longer.
    let deadline = Instant::now() + Duration::from_secs(20);
    while lower.receive(Path::Serial, &session(NodeIndex::Lower), 8, &mut |_| ()).is_ok() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(lower.fd(Path::Serial).is_none());
    let config = config(V4, [Some(name.clone()), Some(name)]);
    assert!(reopen(&mut lower, &config, NodeIndex::Lower, Path::Serial).is_err());
    assert!(lower.fault(Path::Serial).is_some());
}
