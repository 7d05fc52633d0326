//! A heart that dies without a word: its guard says its last will, and the peer takes over at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use clusterd::beat::Path;
use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::PeerState;
use clusterd_bed::limits;
use clusterd_bed::processes::Target;
use nix::sys::signal::Signal;

use crate::cables::{Frame, MARKS_AT, Plug};
use crate::scene::Scene;

/// Signals the owner's heart, and wants that the other node takes over because of its will.
pub fn taken_over_by_will(scene: &mut Scene, owner: NodeIndex, signal: Signal) {
    let heir = owner.other();
    let events = scene.events(heir).len();
    let mark = Instant::now();
    let signalled = scene.bed.signal(owner, Target::Heart, signal).expect("signalled");
    assert_eq!(signalled, 1, "one heart");
    scene.wait_served_by(heir);
    let dead = scene.wait_event(heir, events, Kind::PeerDead, "the peer's last will");
    assert!(dead.told.evidence.contains_key("paths"), "{dead:?}");
    scene.wait_event(heir, events, Kind::Takeover, "its guard took the addresses away");
    assert_eq!(scene.whole(), heir, "the dead heart's node is back, and does not serve");
    scene.bed.cross_check().expect("a watcher that sees");
    assert_eq!(scene.bed.watcher.two_owners_since(mark).moments, 0);
    assert_eq!((scene.bed.watcher.moves_since(mark), scene.bed.watcher.missed()), (1, 0));
    let outage = scene.bed.outage_since(mark);
    println!("{signal}: an outage of {outage:?}");
    let most = limits::OUTAGE_MAX;
    assert!(outage <= most, "an outage of {outage:?}");
}

#[test]
fn p1_p2_a_killed_hearts_last_will() {
    let (mut scene, owner) = Scene::whole_pair();
    taken_over_by_will(&mut scene, owner, Signal::SIGKILL);
    taken_over_by_will(&mut scene, owner.other(), Signal::SIGKILL);
}

#[test]
fn p1_p2_a_frozen_hearts_last_will() {
    let (mut scene, owner) = Scene::whole_pair();
    taken_over_by_will(&mut scene, owner, Signal::SIGSTOP);
}

/// The first copy counts, the others come to an incarnation that has ended: so they are seen.
#[test]
fn a_last_will_goes_out_on_every_path() {
    let (mut scene, owner) = Scene::whole_pair();
    let mut owner = owner;
    let ended = |scene: &Scene, node: NodeIndex| {
        ["crossover", "serial", "lan"].map(|path| scene.refused(node, path, "ended-incarnation"))
    };
    let mut seen = [false; 3];
    // A machine that is busy may hold up the serial line until the next heart takes it back.
    for _ in 0..5 {
        let heir = owner.other();
        let (before, events) = (ended(&scene, heir), scene.events(heir).len());
        taken_over_by_will(&mut scene, owner, Signal::SIGKILL);
        let told = scene.wait_event(heir, events, Kind::PeerDead, "the peer's last will").told;
        for (place, path) in Path::ALL.into_iter().enumerate() {
            let counted = told.text.contains(&format!("came on {}", path.name()));
            seen[place] |= counted || ended(&scene, heir)[place] > before[place];
        }
        if seen == [true; 3] {
            return;
        }
        owner = heir;
    }
    panic!("crossover, serial, lan: {seen:?}");
}

#[test]
fn p4_a_last_will_that_is_forged_or_said_again() {
    let (mut scene, owner) = Scene::whole_pair();
    let heir = owner.other();
    let plugs = |node| [Path::Crossover, Path::Lan].map(|path| Plug::open(&scene.bed, node, path));
    let (from_owner, to_heir) = (plugs(owner), plugs(heir));
    // A live heart's beat, made a will without the key.
    scene.hurts_nobody(&[], |scene| {
        for (from, to, path) in both(&from_owner, &to_heir) {
            let forged = from.hear().flipped(MARKS_AT, 7);
            assert!(forged.is_will());
            scene.is_refused(heir, path, "bad-tag", 1, || to.send(&forged).expect("a cable"));
        }
    });
    let done = AtomicBool::new(false);
    let wills: [Frame; 2] = std::thread::scope(|scope| {
        let listeners = [0, 1].map(|place| {
            let (plug, done) = (&from_owner[place], &done);
            scope.spawn(move || first_will(plug, done))
        });
        taken_over_by_will(&mut scene, owner, Signal::SIGKILL);
        done.store(true, Ordering::SeqCst);
        listeners.map(|listener| listener.join().expect("it listens").expect("a last will"))
    });
    scene.hurts_nobody(&[], |scene| {
        for ((_, to, path), will) in both(&from_owner, &to_heir).zip(&wills) {
            scene.is_refused(heir, path, "ended-incarnation", 1, || {
                to.send(will).expect("a cable");
            });
        }
        assert_eq!(scene.status(heir).peer.state, PeerState::Alive);
    });
    // Nor does it end the heart that came after it, when that one serves.
    scene.move_to(owner);
    scene.hurts_nobody(&[], |scene| {
        for ((_, to, path), will) in both(&from_owner, &to_heir).zip(&wills) {
            scene.is_refused(heir, path, "ended-incarnation", 1, || {
                to.send(will).expect("a cable");
            });
        }
    });
}

/// Listens all the time: a socket that nobody reads is soon full of other things.
fn first_will(plug: &Plug, done: &AtomicBool) -> Option<Frame> {
    while !done.load(Ordering::SeqCst) {
        if let Some(will) = plug.heard().into_iter().find(Frame::is_will) {
            return Some(will);
        }
        std::thread::sleep(limits::BED_ASK_EVERY);
    }
    None
}

fn both<'a>(
    from: &'a [Plug; 2],
    to: &'a [Plug; 2],
) -> impl Iterator<Item = (&'a Plug, &'a Plug, &'static str)> {
    from.iter().zip(to).zip(["crossover", "lan"]).map(|((from, to), path)| (from, to, path))
}
