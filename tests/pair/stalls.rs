//! An owner that is stalled for a while and then goes on, for lengths around each deadline.

use std::time::{Duration, Instant};

use clusterd::control::event::Kind;
use clusterd::limits;
use clusterd_bed::processes::Target;
use clusterd_bed::watcher::TwoOwners;
use nix::sys::signal::Signal;

use crate::scene::{Scene, ip};

/// Stops the owner's processes for each length in turn. Whoever serves then, it is one.
fn stand_still(target: Target) {
    let (scene, _) = Scene::whole_pair();
    let begin = Instant::now();
    let around = |deadline: Duration| [deadline * 9 / 10, deadline * 11 / 10];
    let lengths = [
        Duration::from_millis(25),
        limits::INTERVAL,
        limits::INTERVAL * limits::DEAD_AFTER_INTERVALS,
        limits::TICK_DEADLINE,
        limits::LEASE,
        limits::LEASE + limits::LEASE_GRACE,
    ];
    for length in lengths.into_iter().flat_map(around) {
        let owner = scene.whole();
        scene.bed.signal(owner, target, Signal::SIGSTOP).expect("stopped");
        scene.bed.watch_for(length).expect("time passes");
        scene.bed.signal(owner, target, Signal::SIGCONT).expect("goes on");
        let owner = scene.whole();
        scene.bed.cross_check().expect("a watcher that sees");
        let holders = scene.bed.watcher.holders(scene.bed.address());
        assert_eq!(holders, [owner], "after {length:?}");
        let both = scene.bed.watcher.two_owners_since(begin);
        assert_eq!(both, TwoOwners::default(), "after {length:?}");
    }
    assert_eq!(scene.bed.watcher.missed(), 0);
}

#[test]
fn p1_a_heart_that_stands_still_for_a_while() {
    stand_still(Target::Heart);
}

#[test]
fn p1_a_node_whose_processes_stand_still_for_a_while() {
    stand_still(Target::All);
}

/// What a process may do, from /proc/PID/status: its effective capabilities, and whether it can get more.
fn privileges(pid: i32) -> (u64, String) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        value.trim().to_owned()
    };
    let caps = u64::from_str_radix(&field("CapEff:"), 16).expect("hexadecimal");
    assert_eq!(field("CapPrm:"), field("CapEff:"));
    (caps, field("NoNewPrivs:"))
}

#[test]
fn the_heart_keeps_only_the_capabilities_that_it_needs() {
    let (scene, owner) = Scene::whole_pair();
    // NET_BIND_SERVICE, NET_ADMIN, NET_RAW, IPC_LOCK, SYS_NICE (capabilities(7)).
    let few = [10, 12, 13, 14, 23].iter().fold(0, |all, bit| all | 1 << bit);
    let guard = privileges(scene.pid(owner, "clusterd-guard").expect("a guard")).0;
    let heart = scene.pid(owner, "clusterd-heart").expect("a heart");
    assert_eq!(privileges(heart), (guard & few, "1".to_owned()));
    let tasks = std::fs::read_dir(format!("/proc/{heart}/task")).expect("threads");
    for task in tasks {
        let tid = task.expect("a thread").file_name().into_string().expect("a number");
        assert_eq!(privileges(tid.parse().expect("a number")).0, guard & few);
    }
    // With these it opens its sockets on the LAN again: UDP 694, ARP, neighbour discovery.
    let other = owner.other();
    let heart = scene.pid(other, "clusterd-heart");
    ip(&scene.bed.wiring().seat(other).namespace, "link set eth0 address 02:00:00:00:07:07");
    scene.wait_until("its sockets to be opened anew", || {
        std::fs::read_to_string(scene.bed.node(other).log())
            .is_ok_and(|log| log.contains("the interface is another one now"))
    });
    assert_eq!(scene.whole(), owner);
    scene.move_to(other);
    assert_eq!(scene.pid(other, "clusterd-heart"), heart);
}

/// Nothing moves by it, so it is told aloud: an event of the next heart, and a line in `status`.
#[test]
fn a_heart_that_its_guard_killed_is_told_by_the_next() {
    let (scene, owner) = Scene::whole_pair();
    let node = owner.other();
    scene.bed.signal(node, Target::Heart, Signal::SIGSTOP).expect("stopped");
    scene.wait_event(node, 0, Kind::Fault, "was killed: it had stood still");
    let said = scene.status(node).troubles;
    assert!(said.iter().any(|one| one.contains("was killed")), "{said:?}");
    scene.whole();
}
