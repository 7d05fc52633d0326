//! The nodes' interfaces: called by other names, and a kernel that is busy with somebody's.

use std::process::Command;
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::PathState;
use clusterd::sys::rtnl::HeldRtnl;
use clusterd_bed::limits;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::wiring::node_addresses;

use crate::reload::edit;
use crate::scene::Scene;

/// Longer than the 15 characters of an interface's own name, as udev's are.
const LAN: &str = "enx-lan-in-the-rack";
const CROSSOVER: &str = "enx-crossover-cable-to-the-other";

fn ip(scene: &Scene, node: NodeIndex, words: &str) {
    let run = || Command::new("ip").args(words.split(' ')).status();
    let ended = scene.bed.wiring().seat(node).namespace.run(run).expect("runs").expect("ends");
    assert!(ended.success(), "ip {words}");
}

fn crossover(scene: &Scene, node: NodeIndex) -> Option<PathState> {
    let status = scene.bed.status(node)?;
    status.peer.paths.iter().find(|path| path.name == "crossover").map(|path| path.state)
}

#[test]
fn p4_an_altname_is_as_good_as_a_name_when_it_comes_and_goes_and_the_name_changes() {
    let mut scene = Scene::dark(|_| {});
    let names = [("lan = \"eth0\"", LAN), ("crossover = \"eth1\"", CROSSOVER)];
    for (line, name) in names {
        let other = line.replace("eth0", name).replace("eth1", name);
        edit(&scene, &[(line, &other), (line, &other)]);
    }
    let [lower, upper] = NodeIndex::BOTH;
    for node in NodeIndex::BOTH {
        ip(&scene, node, &format!("link property add dev eth0 altname {LAN}"));
    }
    ip(&scene, lower, &format!("link property add dev eth1 altname {CROSSOVER}"));
    for node in NodeIndex::BOTH {
        scene.bed.power_on(node).expect("power");
    }
    scene.wait_event(lower, 0, Kind::PeerAlive, "");
    assert_ne!(crossover(&scene, upper), Some(PathState::Up), "it has no such interface yet");
    ip(&scene, upper, &format!("link property add dev eth1 altname {CROSSOVER}"));
    let owner = scene.whole();
    let standby = owner.other();

    // The kernel's own name for it may change.
    let (mark, events) = (Instant::now(), scene.events(standby).len());
    ip(&scene, standby, "link set eth1 down");
    scene.wait("status to name it", || match scene.ask(standby, &["status"]) {
        (_, text, _) if text.contains(CROSSOVER) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    scene.wait_event(standby, events, Kind::Path, CROSSOVER);
    ip(&scene, standby, "link set eth1 name cable0");
    ip(&scene, standby, "link set cable0 up");
    assert_eq!(scene.whole(), owner);
    // Its altname may go, and come back.
    ip(&scene, standby, &format!("link property del dev cable0 altname {CROSSOVER}"));
    scene.wait_until("the crossover to be closed", || {
        crossover(&scene, standby) != Some(PathState::Up)
    });
    ip(&scene, standby, &format!("link property add dev cable0 altname {CROSSOVER}"));
    assert_eq!(scene.whole(), owner);
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());

    // The other node takes over on what it knows by that name alone.
    scene.bed.power_cut(owner).expect("power");
    scene.wait_served_by(standby);
}

/// Has a node drop ARP that fits this rule.
fn drop_arp(scene: &Scene, node: NodeIndex, what: &str) {
    let rule = format!(
        "table arp mute {{ chain in {{ type filter hook input priority 0; policy accept; {what} drop; }}; }}"
    );
    let run = || Command::new("nft").args([&rule]).status();
    let ended = scene.bed.wiring().seat(node).namespace.run(run).expect("runs").expect("ends");
    assert!(ended.success(), "nft {rule}");
}

/// Whether silence of the LAN would prove something is known before it is needed, with cause and remedy.
#[test]
fn p2_check_hardware_says_what_silence_of_the_lan_would_prove() {
    let (scene, owner) = Scene::whole_pair();
    let standby = owner.other();
    let check = |node| {
        let (exit, text, error) = scene.ask(node, &["check", "--hardware"]);
        assert_eq!((exit, error.as_str()), (0, ""), "{text}");
        text
    };
    let text = check(standby);
    assert!(text.contains("silence of the LAN proves that nobody has an address"), "{text}");
    assert!(text.contains("group web: 203.0.113.50 is answered for within"), "{text}");
    let text = check(owner);
    assert!(text.contains("group web: 203.0.113.50 is on this node"), "{text}");
    assert!(!text.contains("proves nothing"), "{text}");
    // A switch that validates ARP drops what names no sender.
    drop_arp(&scene, owner, "arp saddr ip 0.0.0.0");
    let text = check(standby);
    assert!(text.contains("answers only ARP requests that name a sender"), "{text}");
    assert!(text.contains("is answered for within"), "{text}");
    // One that keeps the ports apart drops all.
    let (own, _) = node_addresses(standby);
    drop_arp(&scene, owner, &format!("arp operation request arp saddr ip {own}"));
    let text = check(standby);
    assert!(text.contains("warning: ") && text.contains("proves nothing"), "{text}");
    assert!(text.contains("port isolation"), "{text}");
}

/// A driver that is slow at being configured holds the kernel's rtnl lock. An IPv6 address that comes in by a reload has
/// new multicast groups, which take that lock: not in the loop that beats.
#[test]
fn p4_heartbeats_go_on_while_somebody_holds_the_rtnl_lock() {
    let (scene, owner) = Scene::whole_pair();
    let (mark, events) = (Instant::now(), NodeIndex::BOTH.map(|node| scene.events(node).len()));
    let address = "\"203.0.113.50/24\"";
    edit(&scene, &[(address, &format!("{address}, \"2001:db8::50/64\""))]);
    for (node, events) in [owner.other(), owner].into_iter().zip(match owner {
        NodeIndex::Lower => [events[1], events[0]],
        NodeIndex::Upper => events,
    }) {
        let held = HeldRtnl::take().expect("the lock");
        let signal = nix::sys::signal::Signal::SIGHUP;
        let target = clusterd_bed::processes::Target::Guard;
        assert_eq!(scene.bed.signal(node, target, signal).expect("told"), 1);
        // No longer than leases last: renewals wait, too.
        let until = Instant::now() + Duration::from_secs(1);
        let told = || {
            let mut new = scene.events(node).into_iter().skip(events);
            new.any(|event| event.told.text.starts_with("reloaded"))
        };
        while !told() {
            assert!(Instant::now() < until, "the heart waits for the lock");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(scene.bed.status(node).is_some(), "it answers");
        drop(held);
    }
    assert_eq!(scene.whole(), owner);
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    let outage = scene.bed.outage_since(mark);
    assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
}
