//! A MAC that moves with the group, on the LAN interface or on a third one: every fault that moves the
//! group leads the clients to the same MAC, and the node that lost it has nothing left of it.

use std::time::Instant;

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd_bed::faults::{Fault, try_one};
use clusterd_bed::processes::Target;
use clusterd_bed::stalls::Counted;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::{GROUP, Options, node};
use nix::sys::signal::Signal;

use crate::scene::{Scene, ip};

const MAC: &str = "02:00:5e:00:00:32";
const NAME: &str = "clusterd0";

fn with_mac(options: &mut Options) {
    options.group = format!("mac = \"{MAC}\"");
}

fn on_third_interface(options: &mut Options) {
    options.redundant = true;
    options.group = format!("nic = \"redundant\"\nmac = \"{MAC}\"");
}

/// The interface with the MAC on a node, as `ip` shows it; empty if there is none.
fn virtual_link(scene: &Scene, node: NodeIndex) -> String {
    ip(&scene.bed.wiring().seat(node).namespace, &format!("-oneline link show dev {NAME}"))
}

fn arp_settings(scene: &Scene, node: NodeIndex, interface: &str) -> [String; 2] {
    let read = |setting: &str| {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/{setting}");
        let read = || std::fs::read_to_string(path).expect("a setting");
        let value = scene.bed.wiring().seat(node).namespace.run(read).expect("a namespace");
        value.trim().to_owned()
    };
    ["arp_ignore", "arp_announce"].map(read)
}

/// What the client's kernel has learned about the service address.
fn learned(scene: &Scene) -> String {
    ip(&scene.bed.wiring().client, &format!("neigh show {}", scene.bed.address()))
}

/// Waits until only the owner has the MAC, as made of `parent`, and the client knows it.
fn only_the_owner_has_it(scene: &Scene, parent: &str) {
    let owner = scene.whole();
    scene.wait("only the owner to have the MAC", || {
        let (here, there) = (virtual_link(scene, owner), virtual_link(scene, owner.other()));
        let right = here.contains(&format!("{NAME}@{parent}")) && here.contains(MAC);
        if right && there.is_empty() { Ok(()) } else { Err(format!("{here:?} {there:?}")) }
    });
    scene.wait("the client to know the MAC", || match learned(scene) {
        known if known.contains(MAC) => Ok(()),
        known => Err(known),
    });
    assert_eq!(arp_settings(scene, owner, "eth0"), ["1", "2"]);
    scene.wait_until("the other's settings to be as before", || {
        arp_settings(scene, owner.other(), "eth0") == ["0", "0"]
    });
}

/// Tries faults one after another, each on a whole pair.
fn are_as_promised(scene: &mut Scene, parent: &str, faults: &[Fault]) {
    only_the_owner_has_it(scene, parent);
    for &fault in faults {
        let tell = &mut |text: &str| println!("{text}");
        let seen = try_one(&mut scene.bed, fault, Counted::BeyondStalls, tell).expect("tried");
        assert!(seen.broken.is_empty(), "{seen:#?}");
        only_the_owner_has_it(scene, parent);
    }
}

const FAULTS: [Fault; 8] = [
    Fault::OwnerLanCut,
    Fault::OwnerPower,
    Fault::HeartKilled,
    Fault::HeartFrozen,
    Fault::AllFrozen,
    Fault::AllKilled,
    Fault::OrderlyStop,
    Fault::PlannedMove,
];

#[test]
fn p1_p2_a_mac_moves_with_its_group() {
    let mut scene = Scene::dark(with_mac);
    scene.power_on();
    are_as_promised(&mut scene, "eth0", &FAULTS);
}

#[test]
fn p1_p2_a_mac_moves_with_its_group_on_the_third_interfaces() {
    let mut scene = Scene::dark(on_third_interface);
    scene.power_on();
    are_as_promised(&mut scene, "eth2", &FAULTS);
    // The third interface's own cable counts as the LAN's.
    let owner = scene.whole();
    let mark = Instant::now();
    scene.bed.plug(|plugs| plugs.redundant[owner as usize] = false).expect("pulled");
    scene.wait_served_by(owner.other());
    scene.bed.plug(|plugs| plugs.redundant[owner as usize] = true).expect("plugged");
    only_the_owner_has_it(&scene, "eth2");
    assert_eq!(scene.whole(), owner.other());
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}

/// Before another heart begins, the guard has taken all away. It restarts a heart that dies again and
/// again ever later: then that can be seen.
#[test]
fn p1_the_guard_takes_the_mac_away() {
    let mut scene = Scene::dark(with_mac);
    scene.power_on();
    let mark = Instant::now();
    let mut seen = false;
    for _ in 0..10 {
        only_the_owner_has_it(&scene, "eth0");
        let owner = scene.whole();
        let killed = scene.bed.signal(owner, Target::Heart, Signal::SIGKILL).expect("told");
        assert_eq!(killed, 1);
        scene.wait_until("another heart to run", || {
            let gone = virtual_link(&scene, owner).is_empty();
            let restored = arp_settings(&scene, owner, "eth0") == ["0", "0"];
            let heart = scene.pid(owner, "clusterd-heart");
            seen |= gone && restored && heart.is_none();
            heart.is_some()
        });
        if seen {
            break;
        }
    }
    assert!(seen, "the MAC was there as long as no heart was");
    only_the_owner_has_it(&scene, "eth0");
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}

#[test]
fn p2_what_somebody_does_to_the_macs_interface_is_put_right() {
    let mut scene = Scene::dark(with_mac);
    let owner = scene.power_on();
    only_the_owner_has_it(&scene, "eth0");
    let mark = Instant::now();
    let events = scene.events(owner).len();
    for deed in [
        "link del clusterd0",
        "link set clusterd0 address 02:00:00:00:00:99",
        "link set clusterd0 down",
    ] {
        let namespace = &scene.bed.wiring().seat(owner).namespace;
        let before = ip(namespace, "-oneline link show dev clusterd0");
        ip(namespace, deed);
        scene.wait_until("another one to be there", || {
            let now = virtual_link(&scene, owner);
            now != before && now.contains(MAC) && now.contains(",UP")
        });
        only_the_owner_has_it(&scene, "eth0");
    }
    scene.wait_event(owner, events, Kind::Address, "or its interface, was changed or deleted here");
    assert_eq!(scene.whole(), owner);
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    // It can still be moved.
    scene.tell(owner, &["move", GROUP, node::name(owner.other())]);
    only_the_owner_has_it(&scene, "eth0");
    assert_eq!(scene.whole(), owner.other());
}
