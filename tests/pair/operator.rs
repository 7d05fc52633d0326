//! The standby lock: a node that may own nothing, until it is told that it may.

use std::time::Instant;

use clusterd::config::NodeIndex;
use clusterd::control::status::NodeState;
use clusterd::control::status::PeerState;
use clusterd_bed::limits;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::{GROUP, node};

use crate::scene::Scene;

fn patient(patience: &str) -> (Scene, NodeIndex) {
    let mut scene = Scene::dark(|options| {
        options.heartbeat = format!("boot_patience = \"{patience}\"");
    });
    let owner = scene.power_on();
    (scene, owner)
}

fn wait_states(scene: &Scene, locked: NodeIndex) {
    scene.wait("both to know of the lock", || {
        let said = |node| scene.bed.status(node).ok_or_else(|| "no answer".to_owned());
        let (of_it, of_peer) = (said(locked)?, said(locked.other())?);
        if of_it.state == NodeState::Standby && of_peer.peer.state == PeerState::Standby {
            Ok(())
        } else {
            Err(format!("{:?} {:?}", of_it.state, of_peer.peer.state))
        }
    });
    for node in NodeIndex::BOTH {
        assert_eq!(scene.ask(node, &["status", "--json"]).0, 4);
    }
}

/// `asked`: on which node the administrator sits, as a function of the one that is meant.
fn the_lock(asked: fn(NodeIndex) -> NodeIndex, by_name: bool) {
    let (mut scene, owner) = patient("60s");
    let heir = owner.other();
    let verb =
        |verb: &'static str| if by_name { vec![verb, node::name(owner)] } else { vec![verb] };
    let mark = Instant::now();
    let said = scene.tell(asked(owner), &verb("standby"));
    assert!(said.contains(node::name(owner)) && said.contains("standby"), "{said}");
    // It comes back when the group has moved.
    assert_eq!(scene.bed.owner(), Some(heir));
    scene.wait_served_by(heir);
    assert_eq!(scene.bed.watcher.moves_since(mark), 1);
    let outage = scene.bed.outage_since(mark);
    assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
    wait_states(&scene, owner);
    // Said twice is no mistake.
    scene.tell(asked(owner), &verb("standby"));

    scene.bed.power_cut(owner).expect("cut");
    scene.wait_peer(heir, PeerState::Dead);
    scene.bed.power_on(owner).expect("power");
    wait_states(&scene, owner);
    let (exit, _, error) = scene.ask(heir, &["move", GROUP, node::name(owner)]);
    assert_eq!(exit, 1, "{error}");

    let said = scene.tell(asked(owner), &verb("online"));
    assert!(said.contains(node::name(owner)) && said.contains("duty"), "{said}");
    assert_eq!(scene.whole(), heir, "online moves nothing");
    assert_eq!(scene.ask(heir, &["status"]).0, 0);
    scene.move_to(owner);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}

#[test]
fn standby_and_online_asked_on_the_node_itself() {
    the_lock(|node| node, false);
}

#[test]
fn standby_and_online_asked_on_the_other_node() {
    the_lock(NodeIndex::other, true);
}

#[test]
fn a_locked_node_takes_nothing_over() {
    let (mut scene, owner) = patient("1s");
    let locked = owner.other();
    scene.tell(locked, &["standby"]);
    wait_states(&scene, locked);
    scene.bed.power_cut(owner).expect("cut");
    scene.wait_peer(locked, PeerState::Dead);
    let out = |scene: &Scene| {
        scene.wait("no service", || match scene.ask(locked, &["status", "--json"]).0 {
            5 => Ok(()),
            exit => Err(format!("exit {exit}")),
        });
    };
    out(&scene);
    let mark = Instant::now();
    // Also after its own restart, when nobody is heard and its patience is over.
    scene.bed.power_cut(locked).expect("cut");
    scene.bed.power_on(locked).expect("power");
    out(&scene);
    scene.bed.watch_for(limits::BED_WATCH * 2).expect("time");
    out(&scene);
    let status = scene.status(locked);
    assert_eq!((status.state, status.peer.state), (NodeState::Standby, PeerState::Unknown));
    assert_eq!(scene.bed.watcher.holders(scene.bed.address()), []);
    assert_eq!(scene.bed.client.answer_since(mark), None);

    scene.tell(locked, &["online"]);
    scene.wait_served_by(locked);
    assert_eq!(scene.ask(locked, &["status"]).0, 4);
    scene.bed.power_on(owner).expect("power");
    scene.whole();
}

#[test]
fn an_owner_whose_peer_is_locked_comes_back_alone() {
    let (mut scene, owner) = patient("60s");
    scene.tell(owner, &["standby", node::name(owner.other())]);
    wait_states(&scene, owner.other());
    let (exit, _, error) = scene.ask(owner, &["standby"]);
    assert_eq!(exit, 1, "{error}");
    scene.bed.power_cut(owner).expect("cut");
    scene.wait_peer(owner.other(), PeerState::Dead);
    scene.bed.power_on(owner).expect("power");
    scene.wait_served_by(owner);
    wait_states(&scene, owner.other());
}
