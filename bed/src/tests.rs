//! The bed proved by hand, without a daemon: what it says of cables, power, outages and owners must be
//! so. They need root, as every bed does.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::watcher::TwoOwners;
use super::wiring::interface_indexes;
use super::*;

const A: NodeIndex = NodeIndex::Lower;
const B: NodeIndex = NodeIndex::Upper;
/// Waits may take this long on a busy machine; conditions end them sooner.
const SOON: Duration = Duration::from_secs(10);

/// One bed at a time: each measures.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A bed with power, and a responder on each node but no daemon.
fn bed(same_ifindex: bool) -> Bed {
    let mut options = Options::new("/bin/false".into());
    options.demo = options.exe.clone();
    options.same_ifindex = same_ifindex;
    let ip = "2001:db8::50".parse().expect("an address");
    options.addresses.push(ServiceAddress { ip, prefix: 64 });
    let ips = options.ips();
    let mut bed = Bed::new(options).expect("a bed");
    bed.plug(|plugs| plugs.power = [true; 2]).expect("power");
    for node in NodeIndex::BOTH {
        let ips = ips.clone();
        bed.wiring
            .seat(node)
            .namespace
            .run(|| {
                // It ends with the test process; its thread stays in the namespace of the bed.
                std::thread::spawn(move || responder::serve(node::name(node), &ips))
            })
            .expect("a responder");
    }
    for node in NodeIndex::BOTH {
        bed.wait("carriers", SOON, || match (carrier(&bed, node, 0), carrier(&bed, node, 1)) {
            (true, true) => Ok(()),
            others => Err(format!("{others:?}")),
        })
        .expect("a wired pair");
    }
    bed
}

/// Runs `ip` in a node's namespace.
fn ip(namespace: &clusterd::sys::ns::Namespace, arguments: &str) -> String {
    let output = namespace
        .run(|| Command::new("ip").args(arguments.split(' ')).output())
        .expect("a namespace")
        .expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether eth0 or eth1 of a node is up with a carrier. It must be up in any case.
fn carrier(bed: &Bed, node: NodeIndex, interface: u8) -> bool {
    let text = ip(&bed.wiring.seat(node).namespace, &format!("-o link show eth{interface}"));
    let (_, flags) = text.split_once('<').expect("flags");
    let (flags, _) = flags.split_once('>').expect("flags");
    let flags: Vec<&str> = flags.split(',').collect();
    assert!(flags.contains(&"UP"), "pulling a cable took the interface down: {text}");
    flags.contains(&"LOWER_UP")
}

fn carriers(bed: &Bed) -> [[bool; 2]; 2] {
    NodeIndex::BOTH.map(|node| [carrier(bed, node, 0), carrier(bed, node, 1)])
}

fn hold(bed: &Bed, node: NodeIndex) {
    let (lan, _) = interface_indexes(node);
    bed.wiring.seat(node).links.add_address(lan, bed.address, 32).expect("added");
}

fn let_go(bed: &Bed, node: NodeIndex) {
    let (lan, _) = interface_indexes(node);
    bed.wiring.seat(node).links.delete_address(lan, bed.address, 32).expect("deleted");
}

/// What an announcement does for the clients of a real network.
fn forget_neighbours(bed: &Bed) {
    ip(&bed.wiring.client, "neigh flush dev eth0");
}

fn wait_served_by(bed: &Bed, node: NodeIndex) {
    let since = Instant::now();
    bed.wait("the client to be served", SOON, || match bed.client.answer_since(since) {
        Some(answer) if answer.from == node => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .expect("served");
}

#[test]
fn pulled_cables_take_the_carrier_and_nothing_else() {
    let _alone = alone();
    for same_ifindex in [false, true] {
        let mut bed = bed(same_ifindex);
        let mut expect = |change: &dyn Fn(&mut Plugs), expected: [[bool; 2]; 2]| {
            bed.plug(change).expect("plugged");
            bed.wait("the carriers", SOON, || {
                let seen = carriers(&bed);
                if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
            })
            .expect("the carriers follow");
        };
        expect(&|plugs| plugs.crossover = false, [[true, false], [true, false]]);
        expect(&|plugs| plugs.crossover = true, [[true, true], [true, true]]);
        expect(&|plugs| plugs.lan = [false, true], [[false, true], [true, true]]);
        expect(&|plugs| plugs.switch = false, [[false, true], [false, true]]);
        expect(&|plugs| plugs.switch = true, [[false, true], [true, true]]);
        expect(&|plugs| plugs.power = [true, false], [[false, false], [false, false]]);
        expect(&|plugs| plugs.between = true, [[false, true], [false, false]]);
        expect(&|plugs| plugs.crossover = false, [[false, false], [false, false]]);
        expect(&|plugs| (plugs.crossover, plugs.between) = (true, false), [[false; 2]; 2]);
        expect(&|plugs| plugs.power = [true; 2], [[false, true], [true, true]]);
    }
}

#[test]
fn a_move_by_hand_is_measured() {
    let _alone = alone();
    let mut bed = bed(false);
    hold(&bed, A);
    wait_served_by(&bed, A);
    assert_eq!(bed.fetch().as_deref(), Some("serv1"));

    let mark = Instant::now();
    bed.plug(|plugs| plugs.lan = [false, true]).expect("pulled");
    bed.watch_for(Duration::from_millis(100)).expect("time");
    let_go(&bed, A);
    hold(&bed, B);
    forget_neighbours(&bed);
    wait_served_by(&bed, B);

    let outage = bed.client.outage_since(mark);
    assert!(outage >= Duration::from_millis(95), "{outage:?} is less than the cable was out");
    assert!(outage < mark.elapsed() + Duration::from_millis(50), "{outage:?}");
    assert_eq!(bed.watcher.moves_since(mark), 1);
    assert_eq!(bed.watcher.two_owners_since(mark), TwoOwners::default());
    assert_eq!(bed.watcher.holders(bed.address), [B]);
    assert_eq!(bed.watcher.missed(), 0);
    assert_eq!(bed.fetch().as_deref(), Some("serv2"));
}

#[test]
fn a_quiet_time_has_no_outage() {
    let _alone = alone();
    let bed = bed(false);
    hold(&bed, A);
    wait_served_by(&bed, A);
    let mark = Instant::now();
    bed.watch_for(Duration::from_secs(1)).expect("time");
    let outage = bed.client.outage_since(mark);
    // Only a machine too busy for its real-time threads has gaps here.
    assert!(outage < Duration::from_millis(100), "{outage:?}");
    assert_eq!(bed.watcher.moves_since(mark), 0);
}

#[test]
fn two_owners_are_seen() {
    let _alone = alone();
    let bed = bed(false);
    let mark = Instant::now();
    hold(&bed, A);
    hold(&bed, B);
    bed.watch_for(Duration::from_millis(50)).expect("time");
    let_go(&bed, A);
    bed.wait("the watcher to see it", SOON, || match bed.watcher.holders(bed.address).as_slice() {
        [B] => Ok(()),
        others => Err(format!("{others:?}")),
    })
    .expect("seen");
    let two = bed.watcher.two_owners_since(mark);
    assert_eq!(two.moments, 1);
    assert!(two.total >= Duration::from_millis(50) && two.total < mark.elapsed(), "{two:?}");
    // The order is the kernel's own: hand over as fast as can be, both ways, and none is seen.
    let mark = Instant::now();
    for _ in 0..200 {
        let_go(&bed, B);
        hold(&bed, A);
        let_go(&bed, A);
        hold(&bed, B);
    }
    bed.wait("the watcher to see it", SOON, || match bed.watcher.moves_since(mark) {
        400 => Ok(()),
        other => Err(format!("{other} moves")),
    })
    .expect("seen");
    assert_eq!(bed.watcher.two_owners_since(mark), TwoOwners::default());
}

#[test]
fn a_power_cut_leaves_nothing_of_the_node() {
    let _alone = alone();
    let mut bed = bed(false);
    hold(&bed, A);
    wait_served_by(&bed, A);
    let mut child = bed
        .wiring
        .seat(A)
        .namespace
        .run(|| Command::new("sleep").arg("1000").process_group(0).spawn())
        .expect("a namespace")
        .expect("a process");
    let mark = Instant::now();
    bed.power_cut(A).expect("cut");
    hold(&bed, B);
    forget_neighbours(&bed);
    wait_served_by(&bed, B);
    // Buried by the bed, or a zombie that still waits for that: in no case alive.
    assert!(!bed.wiring.seat(A).namespace.holds(child.id().try_into().expect("a pid")));
    let _ = child.wait();
    assert_eq!(watcher::dump(&bed.wiring.seat(A).namespace, &[bed.address]).expect("dump"), []);
    assert_eq!(bed.watcher.two_owners_since(mark), TwoOwners::default());
    assert_eq!(bed.watcher.moves_since(mark), 1);
    assert!(!carrier(&bed, B, 1), "a dead machine sends no carrier");
    assert!(carrier(&bed, B, 0));
}

#[test]
fn an_expired_lease_is_seen() {
    let _alone = alone();
    let bed = bed(false);
    let namespace = &bed.wiring.seat(A).namespace;
    for address in ["203.0.113.50/32", "2001:db8::50/128"] {
        ip(namespace, &format!("addr add {address} dev eth0 valid_lft 1 preferred_lft 1"));
    }
    let held = |ip: &str| bed.watcher.holders(ip.parse::<IpAddr>().expect("an address"));
    for address in ["203.0.113.50", "2001:db8::50"] {
        bed.wait("the address", SOON, || match held(address).as_slice() {
            [A] => Ok(()),
            others => Err(format!("{others:?}")),
        })
        .expect("held");
    }
    for address in ["203.0.113.50", "2001:db8::50"] {
        bed.wait("the end of the lease", SOON, || match held(address).as_slice() {
            [] => Ok(()),
            others => Err(format!("{others:?}")),
        })
        .expect("expired");
    }
}

#[test]
fn an_ipv6_service_answers_from_the_address_asked() {
    let _alone = alone();
    let bed = bed(false);
    let (lan, _) = interface_indexes(B);
    let ip: IpAddr = "2001:db8::50".parse().expect("an address");
    bed.wiring.seat(B).links.add_address(lan, ip, 128).expect("added");
    let names = NAMES.map(str::to_owned);
    let client = Client::start(&bed.wiring.client, ip, names, limits::BED_ASK_EVERY);
    let client = client.expect("a client");
    let since = Instant::now();
    bed.wait("an answer", SOON, || match client.answer_since(since) {
        Some(answer) if answer.from == B => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .expect("served");
    assert_eq!(client::fetch(&bed.wiring.client, ip).as_deref(), Some("serv2"));
}

#[test]
fn the_serial_line_has_a_speed_a_plug_and_noise() {
    let _alone = alone();
    let mut bed = bed(false);
    let open = |node| {
        std::fs::File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(bed.line.device(node))
            .expect("the device")
    };
    use std::os::unix::fs::OpenOptionsExt;
    let (a, b) = (open(A), open(B));
    let receive = |bed: &Bed, mut file: &std::fs::File, wanted: usize| {
        let mut got = Vec::new();
        let _ = bed.wait("bytes", Duration::from_secs(3), || {
            let mut buffer = [0u8; 256];
            while let Ok(length) = file.read(&mut buffer) {
                got.extend_from_slice(&buffer[..length]);
            }
            if got.len() >= wanted { Ok(()) } else { Err(format!("{} bytes", got.len())) }
        });
        got
    };
    let sent: Vec<u8> = (0..1152u32).map(|n| n as u8).collect();
    for (mut from, to) in [(&a, &b), (&b, &a)] {
        let started = Instant::now();
        from.write_all(&sent).expect("room for 1152 bytes");
        assert_eq!(receive(&bed, to, sent.len()), sent);
        // 1152 bytes of 10 bits at 115200 bits a second.
        let took = started.elapsed();
        assert!(took >= Duration::from_millis(98), "{took:?} is faster than the line");
        assert!(took < Duration::from_millis(300), "{took:?}");
    }
    bed.plug(|plugs| plugs.serial = false).expect("pulled");
    (&a).write_all(b"lost").expect("written");
    assert_eq!(receive(&bed, &b, 1), b"");
    bed.plug(|plugs| plugs.serial = true).expect("plugged");
    bed.line.set_noise(200);
    (&a).write_all(&sent).expect("written");
    let noisy = receive(&bed, &b, sent.len());
    assert_ne!(noisy, sent);
    assert!(noisy.len() > sent.len(), "noise adds bytes");
}

/// A process in vfork(2) cannot stop while its child does not go on, and does nothing meanwhile.
#[test]
fn a_process_that_waits_in_vfork_counts_as_frozen() {
    let _alone = alone();
    let bed = bed(false);
    let namespace = &bed.wiring.seat(A).namespace;
    let script = format!("syscall({}) or sleep 1000", nix::libc::SYS_vfork);
    let mut child = namespace
        .run(|| Command::new("perl").args(["-e", &script]).stdin(Stdio::null()).spawn())
        .expect("a namespace")
        .expect("a process");
    let begin = Instant::now();
    let waits = || {
        let both = processes::list(namespace).expect("a list");
        both.len() == 2 && both.iter().any(|process| process.state == 'D')
    };
    while !waits() {
        assert!(begin.elapsed() < limits::BED_WHOLE_WITHIN, "it waits for its child");
        std::thread::yield_now();
    }
    processes::freeze(namespace).expect("frozen");
    processes::kill_all(namespace).expect("killed");
    let _ = child.wait();
}

#[test]
fn a_frozen_node_still_answers_by_its_kernel() {
    let _alone = alone();
    let bed = bed(false);
    let namespace = &bed.wiring.seat(A).namespace;
    let mut child = namespace
        .run(|| Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn())
        .expect("a namespace")
        .expect("a process");
    processes::freeze(namespace).expect("frozen");
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("stat");
    assert!(stat.contains(") T "), "{stat}");
    processes::kill_all(namespace).expect("killed");
    let _ = child.wait();
    hold(&bed, A);
    ip(&bed.wiring.client, "route get 203.0.113.50");
    wait_served_by(&bed, A);
}
