//! Arbitration by reach: hosts on the LAN and beyond it, and what a difference between the nodes does.

use std::net::IpAddr;
use std::process::Command;
use std::time::Instant;

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::limits;
use clusterd::sys::ns::Namespace;
use clusterd_bed::node;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::wiring::node_addresses;

use crate::scene::Scene;

/// Beyond the LAN, behind the gateway.
const BEYOND: [&str; 2] = ["198.51.100.1", "2001:db8:f::1"];

fn run(namespace: &Namespace, command: &str) {
    let mut words = command.split(' ');
    let program = words.next().expect("a program");
    let status = namespace.run(|| Command::new(program).args(words).status());
    assert!(status.expect("a namespace").expect("a program").success(), "{command}");
}

/// The first host beyond the LAN answers that node, or no longer.
fn answers(scene: &Scene, node: NodeIndex, does: bool) {
    let (address, _) = node_addresses(node);
    let verb = if does { "del" } else { "add" };
    let rule = format!("ip rule {verb} from {} to {address} blackhole", BEYOND[0]);
    run(scene.bed.wiring().gateway(), &rule);
}

fn reach(scene: &Scene, node: NodeIndex) -> (u8, u8, u8) {
    let reach = scene.status(node).reach;
    (reach.local, reach.peer, reach.of)
}

/// The gateway, one host on the LAN, and two beyond the gateway that only ICMP finds.
fn with_hosts_beyond() -> (Scene, NodeIndex) {
    let mut scene = Scene::dark(|options| {
        let beyond = BEYOND.map(|host| host.parse::<IpAddr>().expect("an address"));
        options.reach.truncate(1);
        options.reach.extend(beyond);
    });
    let wiring = scene.bed.wiring();
    run(wiring.gateway(), "ip address add 198.51.100.1/32 dev lo");
    run(wiring.gateway(), "ip address add 2001:db8:f::1/128 dev lo");
    for node in NodeIndex::BOTH {
        let namespace = &wiring.seat(node).namespace;
        run(namespace, "ip route add default via 203.0.113.1");
        run(namespace, "ip route add default via 2001:db8::1");
    }
    let owner = scene.power_on();
    (scene, owner)
}

#[test]
fn hosts_beyond_the_lan_are_asked_and_who_reaches_fewer_hands_over() {
    let (scene, owner) = with_hosts_beyond();
    let other = owner.other();
    scene.wait("all three hosts to be reached by both", || {
        let seen = [reach(&scene, owner), reach(&scene, other)];
        if seen == [(3, 3, 3); 2] { Ok(()) } else { Err(format!("{seen:?}")) }
    });

    // One of them does not answer the owner any more.
    let mark = Instant::now();
    let told = scene.events(owner).len();
    answers(&scene, owner, false);
    scene.wait_event(owner, told, Kind::Release, "it reaches fewer reach hosts than the peer");
    assert_eq!(scene.whole(), other);
    assert!(mark.elapsed() >= limits::REACH_EVERY * limits::REACH_ROUNDS, "at once");
    assert_eq!(reach(&scene, other), (3, 2, 3));
    assert_eq!(scene.bed.watcher.moves_since(mark), 1);

    // The same for both: nothing moves, also not when it ends on one node first.
    let mark = Instant::now();
    answers(&scene, other, false);
    scene.wait_until("both to reach two", || reach(&scene, other) == (2, 2, 3));
    answers(&scene, other, true);
    answers(&scene, owner, true);
    scene.wait_until("both to reach three", || reach(&scene, other) == (3, 3, 3));
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    println!("{} serves", node::name(scene.whole()));
}
