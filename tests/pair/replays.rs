//! What was said before a restart says nothing after it (promise P4), and the dead stay dead.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clusterd::beat::Path;
use clusterd::config::NodeIndex;
use clusterd::control::event::{Kind, Record};
use clusterd::control::status::PeerState;
use clusterd_bed::BedError;
use clusterd_bed::limits;
use clusterd_bed::processes::Target;
use clusterd_bed::wiring::Plugs;
use nix::sys::signal::Signal;

use crate::cables::{Plug, Recording};
use crate::scene::Scene;

const PATHS: [&str; 3] = ["crossover", "serial", "lan"];

/// Replays until something was refused for that reason on each of the paths.
fn replayed(scene: &Scene, recording: &Recording, by: NodeIndex, paths: &[&str], reason: &str) {
    let before: Vec<u64> = paths.iter().map(|path| scene.refused(by, path, reason)).collect();
    scene.wait("replays to be refused", || {
        recording.replay();
        let now: Vec<u64> = paths.iter().map(|path| scene.refused(by, path, reason)).collect();
        let all = before.iter().zip(&now).all(|(before, now)| before < now);
        if all { Ok(()) } else { Err(format!("{paths:?} {reason}: {now:?}")) }
    });
}

#[test]
fn p4_a_replay_across_an_orderly_restart_of_its_sender() {
    let (mut scene, owner) = Scene::whole_pair();
    let sender = owner.other();
    let recording = Recording::of(&scene.bed, sender);
    scene.bed.signal(sender, Target::Guard, Signal::SIGTERM).expect("told");
    scene.wait_peer(owner, PeerState::Dead);
    // It said goodbye: that incarnation has ended.
    replayed(&scene, &recording, owner, &PATHS, "ended-incarnation");
    assert_eq!(scene.status(owner).peer.state, PeerState::Dead);

    scene.wait_until("the old daemon to be gone", || scene.pid(sender, "clusterd-guard").is_none());
    scene.bed.kill(sender).expect("killed");
    scene.bed.start_processes(sender).expect("started");
    scene.whole();
    scene.hurts_nobody(&[], |scene| {
        replayed(scene, &recording, owner, &PATHS, "ended-incarnation");
    });
}

#[test]
fn p4_a_replay_across_a_power_cut_of_its_sender() {
    let (mut scene, owner) = Scene::whole_pair();
    let sender = owner.other();
    let recording = Recording::of(&scene.bed, sender);
    scene.bed.power_cut(sender).expect("cut");
    scene.wait_peer(owner, PeerState::Dead);
    // The carriers of a machine that boots: its cables are there, its daemon is not.
    scene.bed.plug(|plugs| *Plugs::of(&mut plugs.power, sender) = true).expect("plugged");
    scene.wait_until("the crossover's carrier", || {
        scene.status(owner).peer.paths.iter().all(|path| path.carrier != Some(false))
    });
    replayed(&scene, &recording, owner, &PATHS, "replay");
    let peer = scene.status(owner).peer;
    assert_eq!(peer.state, PeerState::Dead, "{peer:?}\n{:?}", scene.events(owner));

    scene.bed.power_on(sender).expect("power");
    scene.whole();
    scene.hurts_nobody(&[], |scene| {
        replayed(scene, &recording, owner, &PATHS, "ended-incarnation");
    });
}

#[test]
fn p4_a_replay_across_a_restart_of_its_receiver() {
    let (mut scene, owner) = Scene::whole_pair();
    let receiver = owner.other();
    let recording = Recording::of(&scene.bed, owner);
    scene.bed.power_cut(receiver).expect("cut");
    scene.wait_peer(owner, PeerState::Dead);
    scene.bed.power_on(receiver).expect("power");
    scene.whole();
    scene.hurts_nobody(&[], |scene| {
        replayed(scene, &recording, receiver, &PATHS, "introduction");
    });
}

#[test]
fn p4_a_node_that_boots_alone_is_not_deceived_by_a_replay() {
    let (mut scene, owner) = Scene::whole_pair();
    let receiver = owner.other();
    let recording = Recording::of(&scene.bed, owner);
    scene.bed.power_cut(receiver).expect("cut");
    scene.wait_peer(owner, PeerState::Dead);
    scene.bed.power_cut(owner).expect("cut");
    // The owner's cables are there, its daemon is not.
    scene.bed.plug(|plugs| *Plugs::of(&mut plugs.power, owner) = true).expect("plugged");
    scene.bed.power_on(receiver).expect("power");
    scene.wait_until("the daemon", || scene.bed.status(receiver).is_some());
    replayed(&scene, &recording, receiver, &PATHS, "introduction");
    let status = scene.status(receiver);
    assert_eq!(status.peer.state, PeerState::Unknown);
    assert_eq!(scene.bed.watcher.holders(scene.bed.address()), []);
    scene.bed.power_on(owner).expect("power");
    assert_eq!(scene.whole(), owner, "only its disk says that it was alone");
}

#[test]
fn p4_frames_that_were_kept_from_a_node_do_not_revive_its_dead_peer() {
    let (mut scene, owner) = Scene::whole_pair();
    let heir = owner.other();
    scene.bed.plug(|plugs| *Plugs::of(&mut plugs.lan, heir) = false).expect("pulled");
    let plug = Plug::open(&scene.bed, owner, Path::Lan);
    let mut kept = Vec::new();
    scene.wait_until("heartbeats that do not arrive", || {
        kept.extend(plug.heard());
        kept.len() >= 3
    });
    // One that is newer than all that arrived would be taken for life.
    let crossover = Plug::open(&scene.bed, owner, Path::Crossover);
    let mut later = 0;
    scene.wait_until("later heartbeats that arrive", || {
        later += crossover.heard().len();
        later >= 3
    });
    scene.bed.power_cut(owner).expect("cut");
    scene.wait_peer(heir, PeerState::Dead);
    scene.bed.plug(|plugs| *Plugs::of(&mut plugs.lan, heir) = true).expect("plugged");
    scene.wait_served_by(heir);
    let events = scene.events(heir).len();
    let plug = Plug::open_deaf(&scene.bed, heir, Path::Lan);
    for frame in &kept {
        scene.is_refused(heir, "lan", "replay", 1, || plug.send(frame).expect("sent"));
        assert_eq!(scene.status(heir).peer.state, PeerState::Dead);
    }
    let revived = |event: &Record| event.told.kind == Kind::PeerAlive;
    assert!(!scene.events(heir).iter().skip(events).any(revived));
    scene.bed.power_on(owner).expect("power");
    assert_eq!(scene.whole(), heir);
}

/// Lets the owner die in that way while all it said is said again and again on every path.
fn dead_owner(dies: impl FnOnce(&mut Scene, NodeIndex) -> Result<(), BedError>) {
    let (mut scene, owner) = Scene::whole_pair();
    let heir = owner.other();
    let recording = Recording::of(&scene.bed, owner);
    let events = scene.events(heir).len();
    let mark = Instant::now();
    let stop = AtomicBool::new(false);
    replayed(&scene, &recording, heir, &PATHS, "replay");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                recording.replay();
                // Leaves room on the serial line.
                std::thread::sleep(limits::INTERVAL);
            }
        });
        dies(&mut scene, owner).expect("it dies");
        scene.wait_served_by(heir);
        scene.wait_peer(heir, PeerState::Dead);
        stop.store(true, Ordering::SeqCst);
    });
    let outage = scene.bed.outage_since(mark);
    assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
    scene.wait_event(heir, events, Kind::Takeover, "serving");
    assert_eq!(scene.bed.watcher.two_owners_since(mark).moments, 0);
    scene.bed.kill(owner).expect("killed");
    scene.bed.power_on(owner).expect("power");
    assert_eq!(scene.whole(), heir);
}

#[test]
fn p4_replays_do_not_keep_a_dead_owner_alive() {
    dead_owner(|scene, owner| scene.bed.power_cut(owner));
}

#[test]
fn p4_replays_do_not_keep_a_dead_owner_alive_whose_cables_have_a_carrier() {
    dead_owner(|scene, owner| scene.die_with_carrier(owner));
}
