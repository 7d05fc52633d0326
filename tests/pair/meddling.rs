//! Children that are killed one by one, addresses that somebody else adds and deletes, and both kinds of
//! address.

use std::net::IpAddr;
use std::time::Instant;

use clusterd::config::{NodeIndex, ServiceAddress};
use clusterd::control::event::Kind;
use clusterd::control::status::PeerState;
use clusterd_bed::client::Client;
use clusterd_bed::limits;
use clusterd_bed::processes::Target;
use clusterd_bed::watcher::{TwoOwners, dump};
use clusterd_bed::wiring::interface_indexes;
use clusterd_bed::{GROUP, NAMES, node};
use nix::sys::signal::Signal;

use crate::scene::{Scene, ip};

fn signal(scene: &Scene, node: NodeIndex, target: Target, signal: Signal) {
    assert_eq!(scene.bed.signal(node, target, signal).expect("told"), 1, "{target:?}");
}

fn wait_ended(scene: &Scene, node: NodeIndex) {
    scene.wait("heart and worker to end", || {
        let left: Vec<&str> = ["clusterd-guard", "clusterd-heart", "clusterd-work"]
            .into_iter()
            .filter(|comm| scene.pid(node, comm).is_some())
            .collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} run")) }
    });
}

#[test]
fn p1_the_owners_guard_killed() {
    let (mut scene, owner) = Scene::whole_pair();
    let events = scene.events(owner).len();
    let mark = Instant::now();
    signal(&scene, owner, Target::Guard, Signal::SIGKILL);
    scene.wait_served_by(owner.other());
    wait_ended(&scene, owner);
    scene.wait_event(owner, events, Kind::Fault, "the guard is gone");
    scene.wait_event(owner.other(), 0, Kind::PeerDead, "goodbye");
    let outage = scene.bed.outage_since(mark);
    assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
    assert_eq!(scene.bed.watcher.moves_since(mark), 1);
    scene.bed.kill(owner).expect("killed");
    scene.bed.start_processes(owner).expect("started");
    assert_eq!(scene.whole(), owner.other());
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}

#[test]
fn p2_an_owner_without_guard_serves_until_the_peer_can() {
    let (mut scene, owner) = Scene::whole_pair();
    scene.bed.power_cut(owner.other()).expect("cut");
    scene.wait_peer(owner, PeerState::Dead);
    let mark = Instant::now();
    signal(&scene, owner, Target::Guard, Signal::SIGKILL);
    scene.wait_until("it to say so", || {
        scene.bed.status(owner).is_some_and(|status| !status.guarded)
    });
    assert!(scene.ask(owner, &["status"]).1.contains("UNGUARDED"));
    assert_eq!(scene.ask(owner, &["status"]).0, 4);
    // A second daemon must not come up beside it.
    let (exit, _, error) = scene.ask(owner, &["run"]);
    assert_eq!(exit, 1, "{error}");
    scene.bed.power_on(owner.other()).expect("power");
    scene.wait_served_by(owner.other());
    wait_ended(&scene, owner);
    let outage = scene.bed.outage_since(mark);
    assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    scene.bed.kill(owner).expect("killed");
    scene.bed.start_processes(owner).expect("started");
    scene.whole();
}

#[test]
fn p2_a_worker_killed_moves_nothing() {
    let (scene, owner) = Scene::whole_pair();
    let mark = Instant::now();
    for node in NodeIndex::BOTH {
        let [heart, worker] = ["clusterd-heart", "clusterd-work"].map(|comm| scene.pid(node, comm));
        signal(&scene, node, Target::Worker, Signal::SIGKILL);
        scene.wait_until("another worker", || {
            let new = scene.pid(node, "clusterd-work");
            new.is_some() && new != worker
        });
        assert_eq!(scene.pid(node, "clusterd-heart"), heart);
    }
    assert_eq!(scene.whole(), owner);
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    let outage = scene.bed.outage_since(mark);
    assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
    // The new ones write and tell.
    let events = NodeIndex::BOTH.map(|node| scene.events(node).len());
    scene.tell(owner, &["standby"]);
    scene.wait_event(owner, events[owner as usize], Kind::Standby, "entered");
    scene.wait_event(owner.other(), events[owner.other() as usize], Kind::Switchover, "serving");
    scene.tell(owner, &["online"]);
    assert_eq!(scene.whole(), owner.other());
}

#[test]
fn p2_a_service_address_deleted_by_somebody_else_is_put_back() {
    let (scene, owner) = Scene::whole_pair();
    let (lan, _) = interface_indexes(owner);
    let address = scene.bed.address();
    let events = scene.events(owner).len();
    let pids = scene.pids(owner);
    let mark = Instant::now();
    for _ in 0..5 {
        let deleted = Instant::now();
        scene.bed.wiring().seat(owner).links.delete_address(lan, address, 32).expect("deleted");
        scene.wait_until("the address to be back", || {
            let seat = scene.bed.wiring().seat(owner);
            dump(&seat.namespace, &[address]).expect("a dump").len() == 1
        });
        let took = scene.elapsed(deleted);
        assert!(took < limits::RENEW_EVERY, "put back after {took:?}");
    }
    scene.wait_event(owner, events, Kind::Address, "deleted here, not by clusterd");
    assert_eq!(scene.whole(), owner);
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    assert_eq!(scene.pids(owner), pids);
    let outage = scene.bed.outage_since(mark);
    assert!(outage < limits::RENEW_EVERY, "an outage of {outage:?}");
}

#[test]
fn p1_a_service_address_added_by_somebody_else_is_deleted() {
    let (scene, owner) = Scene::whole_pair();
    let other = owner.other();
    let (lan, crossover) = interface_indexes(other);
    let address = scene.bed.address();
    let pids = NodeIndex::BOTH.map(|node| scene.pids(node));
    let mut told = scene.events(other).len();
    // For ever, with its network, and on an interface where it never was.
    for (index, prefix) in [(lan, 32), (lan, 24), (crossover, 32)] {
        let added = Instant::now();
        scene.bed.wiring().seat(other).links.add_address(index, address, prefix).expect("added");
        scene.wait_until("the address to be gone", || {
            dump(&scene.bed.wiring().seat(other).namespace, &[address]).expect("a dump").is_empty()
        });
        let took = scene.elapsed(added);
        assert!(took < limits::RENEW_EVERY, "deleted after {took:?}");
        if index == lan && prefix == 32 {
            scene.wait_event(other, told, Kind::Address, "put on this node, not by clusterd");
            told = scene.events(other).len();
        }
    }
    assert_eq!(scene.whole(), owner);
    assert_eq!(NodeIndex::BOTH.map(|node| scene.pids(node)), pids);
    scene.bed.cross_check().expect("only the owner holds it");
}

/// Its clients go on writing to the MAC that they know: they are told.
#[test]
fn p2_the_owners_lan_interface_gets_another_mac() {
    let (scene, owner) = Scene::whole_pair();
    let mark = Instant::now();
    for mac in ["02:00:00:00:07:08", "02:00:00:00:07:09"] {
        let events = scene.events(owner).len();
        ip(&scene.bed.wiring().seat(owner).namespace, &format!("link set eth0 address {mac}"));
        scene.wait_event(owner, events, Kind::Address, &format!("another MAC now, {mac}"));
        let changed = Instant::now();
        scene.wait_until("an answer from there", || {
            scene.bed.client.answer_since(changed).is_some_and(|answer| answer.from == owner)
        });
    }
    let outage = scene.bed.outage_since(mark);
    assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
    assert_eq!(scene.whole(), owner);
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}

/// By the config's name there is no LAN interface any more: it counts as unplugged.
#[test]
fn p1_the_owners_lan_interface_gets_another_name() {
    let (scene, owner) = Scene::whole_pair();
    let mark = Instant::now();
    let namespace = &scene.bed.wiring().seat(owner).namespace;
    ip(namespace, "link set eth0 name lan9");
    scene.wait_served_by(owner.other());
    ip(namespace, "link set lan9 name eth0");
    assert_eq!(scene.whole(), owner.other());
    scene.bed.cross_check().expect("a watcher that sees");
    assert_eq!(scene.bed.watcher.moves_since(mark), 1);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    scene.move_to(owner);
}

#[test]
fn p1_an_ipv6_address_moves_with_the_other() {
    let six: IpAddr = "2001:db8::50".parse().expect("an address");
    let mut scene = Scene::dark(|options| {
        options.addresses.push(ServiceAddress { ip: six, prefix: 64 });
    });
    let owner = scene.power_on();
    let four = scene.bed.address();
    let held = |scene: &Scene, node: NodeIndex| {
        let seat = scene.bed.wiring().seat(node);
        let mut held = dump(&seat.namespace, &[four, six]).expect("a dump");
        held.sort_unstable();
        held
    };
    let both = |node: NodeIndex| {
        vec![(interface_indexes(node).0, four, 32), (interface_indexes(node).0, six, 128)]
    };
    let names = NAMES.map(str::to_owned);
    let every = limits::BED_ASK_EVERY;
    let client = Client::start(&scene.bed.wiring().client, six, names, every);
    let client = client.expect("a client");
    let serves = |scene: &Scene, node: NodeIndex| {
        scene.wait_served_by(node);
        let mark = Instant::now();
        scene.wait("the client of IPv6 to be served", || match client.answer_since(mark) {
            Some(answer) if answer.from == node => Ok(()),
            other => Err(format!("{other:?}")),
        });
        scene.wait("both addresses to be there", || {
            let (here, there) = (held(scene, node), held(scene, node.other()));
            if here == both(node) && there.is_empty() {
                Ok(())
            } else {
                Err(format!("{here:?} {there:?}"))
            }
        });
        let said: Vec<(String, bool)> =
            scene.group(node).addresses.into_iter().map(|one| (one.address, one.held)).collect();
        let wanted = ["203.0.113.50/24", "2001:db8::50/64"].map(|one| (one.to_owned(), true));
        assert_eq!(said, wanted);
    };
    serves(&scene, owner);
    let mark = Instant::now();
    scene.tell(owner, &["move", GROUP]);
    serves(&scene, owner.other());
    assert_eq!(scene.whole(), owner.other());
    scene.tell(owner, &["move", GROUP, node::name(owner)]);
    serves(&scene, owner);
    scene.bed.power_cut(owner).expect("cut");
    serves(&scene, owner.other());
    let outage = client.outage_beyond(&scene.bed.stalls, mark);
    assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
    assert_eq!(scene.bed.watcher.moves_since(mark), 3);
    scene.bed.power_on(owner).expect("power");
    assert_eq!(scene.whole(), owner.other());
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    assert_eq!(scene.bed.watcher.missed(), 0);
}
