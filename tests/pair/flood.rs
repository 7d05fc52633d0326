//! Hostile load: forged and repeated frames as fast as they can be sent, cables that flap as fast as the
//! kernel goes. No wrong decision, no growth. The usual run is short; `CLUSTERD_FLOOD_S=10` and
//! `CLUSTERD_FLAPS=10000` make it long.

use std::time::{Duration, Instant};

use clusterd::beat::Path;
use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::limits;
use clusterd_bed::Options;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::wiring::Plugs;

use crate::cables::{Frame, Plug};
use crate::scene::{Scene, all_ipv6};

/// Where a complete frame has the sender's incarnation.
const INCARNATION_AT: usize = 23;
/// On all cables together: more than the 100 000 that a pair must bear with its beats on time. Twice as
/// many, and more, made a flooded path silent; the group stayed, and nobody else served.
const FRAMES_A_SECOND: f64 = 120_000.0;
/// What the processes of a node may grow by while they are flooded, in KiB: allocators keep some.
const GROWTH_KIB_MAX: u64 = 2048;
/// ... and while cables flap: the bounded queues of events may fill up. When each flap was told, 10 000
/// of them filled 3.7 MiB, 30 000 no more.
const EVENTS_KIB_MAX: u64 = 8192;

fn wanted(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Resident memory of a node's processes, in KiB.
fn resident_kib(scene: &Scene, node: NodeIndex) -> u64 {
    let of = |pid: i32| -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a size");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    };
    scene.pids(node).into_iter().map(of).sum()
}

/// An unasked neighbour advertisement of some host, as the LAN watch gets to see it.
fn advertisement() -> Vec<u8> {
    clusterd::net::nd::announcement(
        [2, 0, 0, 0, 0, 0x77],
        "2001:db8::77".parse().expect("an address"),
    )
}

#[test]
fn p4_a_flood_of_forged_and_repeated_frames() {
    flood(Scene::dark(unhurried));
}

#[test]
fn p4_the_same_flood_where_all_is_ipv6() {
    flood(Scene::dark(|options| {
        all_ipv6(options);
        unhurried(options);
    }));
}

/// A heart that was hardly optimised, beside compilers, cannot read a flood within the default's 60 ms. What the default
/// stands `make soak` shows with a release build.
pub fn unhurried(options: &mut Options) {
    if cfg!(debug_assertions) {
        "interval = \"50ms\"\ndead_after = \"150ms\"".clone_into(&mut options.heartbeat);
    }
}

fn flood(mut scene: Scene) {
    let owner = scene.power_on();
    let long = wanted("CLUSTERD_FLOOD_S", 0);
    let span = Duration::from_secs(if long > 0 { long } else { 2 });
    // A heart that was hardly optimised, beside compilers, may lose so many of a flooded path's own beats
    // that the path is silent for a moment. Where the length is said, nothing is excused.
    let flooded: &[&str] = if long > 0 { &[] } else { &["crossover", "lan"] };
    scene.hurts_nobody(flooded, |scene| {
        let before = NodeIndex::BOTH.map(|node| resident_kib(scene, node));
        let mut plugs = Vec::new();
        for to in NodeIndex::BOTH {
            for path in [Path::Crossover, Path::Lan] {
                let repeated = Plug::open(&scene.bed, to.other(), path).hear();
                let forged = repeated.flipped(INCARNATION_AT, 0);
                plugs.push((Plug::open_deaf(&scene.bed, to, path), [repeated, forged]));
            }
        }
        let advertisement = Frame::other(advertisement());
        let frames_each = FRAMES_A_SECOND / plugs.len() as f64;
        let began = Instant::now();
        let pour = |plug: &Plug, frames: &[Frame]| {
            let mut sent = 0u64;
            while began.elapsed() < span {
                if sent as f64 > began.elapsed().as_secs_f64() * frames_each {
                    std::thread::sleep(Duration::from_millis(1));
                }
                for frame in frames.iter().chain(plug.is_lan().then_some(&advertisement)) {
                    // A queue that is full drops it: also good.
                    sent += u64::from(plug.send(frame).is_ok());
                }
            }
            sent
        };
        // One for each cable.
        let sent: u64 = std::thread::scope(|scope| {
            let pouring = plugs.iter().map(|(plug, frames)| scope.spawn(|| pour(plug, frames)));
            let pouring: Vec<_> = pouring.collect();
            pouring.into_iter().map(|one| one.join().expect("a sender")).sum()
        });
        let rate = sent as f64 / began.elapsed().as_secs_f64();
        let refused = |path| {
            let by = |reason| scene.refused(owner, path, reason);
            by("bad-tag").min(by("replay"))
        };
        scene.wait_until("many to be refused", || {
            refused("crossover") > 1_000 && refused("lan") > 1_000
        });
        let after = NodeIndex::BOTH.map(|node| resident_kib(scene, node));
        let gaps = NodeIndex::BOTH.map(|node| scene.status(node).worst_gap_ms);
        println!(
            "{rate:.0} frames a second; resident {before:?}, then {after:?} KiB; gaps {gaps:?} ms"
        );
        for (before, after) in before.into_iter().zip(after) {
            assert!(after <= before + GROWTH_KIB_MAX, "{before} KiB grew to {after}");
        }
    });
}

/// How many changes of carriers and paths a node has told.
fn changes_told(scene: &Scene, node: NodeIndex) -> u64 {
    let events = scene.events(node);
    let change = |kind: Kind| matches!(kind, Kind::Carrier | Kind::Path);
    events.iter().filter(|event| change(event.told.kind)).count() as u64
}

/// Takes a plug out and in again, so many times; then the pair must be whole. How often the group moved.
fn flaps(scene: &mut Scene, flap: impl Fn(&mut Plugs, bool)) -> usize {
    scene.whole();
    let times = wanted("CLUSTERD_FLAPS", 300);
    let before = NodeIndex::BOTH.map(|node| (resident_kib(scene, node), scene.pids(node)));
    let told_before = NodeIndex::BOTH.map(|node| changes_told(scene, node));
    let mark = Instant::now();
    for _ in 0..times {
        for is_in in [false, true] {
            scene.bed.plug(|plugs| flap(plugs, is_in)).expect("a cable");
        }
    }
    println!("{times} flaps in {:?}", mark.elapsed());
    scene.whole();
    scene.bed.cross_check().expect("a watcher that sees");
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    let windows = mark.elapsed().as_secs() / limits::CHANGES_TOLD_EVERY.as_secs() + 2;
    for (node, before) in NodeIndex::BOTH.into_iter().zip(told_before) {
        let told = changes_told(scene, node) - before;
        println!("{told} lines");
        // Of LAN, crossover and serial line, the carrier and the path.
        let most = 6 * windows * u64::from(limits::CHANGES_TOLD_MAX);
        assert!(told <= most, "{told} lines, at most {most}");
    }
    for (node, (resident, pids)) in NodeIndex::BOTH.into_iter().zip(before) {
        assert_eq!(scene.pids(node), pids, "a process has ended");
        let now = resident_kib(scene, node);
        assert!(now <= resident + EVENTS_KIB_MAX, "{resident} KiB grew to {now}");
        let dead = scene.events(node).into_iter().find(|event| event.told.kind == Kind::PeerDead);
        assert!(dead.is_none(), "{dead:?}");
    }
    scene.bed.watcher.moves_since(mark)
}

#[test]
fn p1_p2_cables_that_flap() {
    let (mut scene, owner) = Scene::whole_pair();
    assert_eq!(flaps(&mut scene, |plugs, is_in| plugs.crossover = is_in), 0);
    let standby = owner.other();
    assert_eq!(flaps(&mut scene, |plugs, is_in| *Plugs::of(&mut plugs.lan, standby) = is_in), 0);
    // The owner lets go at the first loss, or sees none: nothing comes back by itself.
    let moves = flaps(&mut scene, |plugs, is_in| *Plugs::of(&mut plugs.lan, owner) = is_in);
    assert!(moves <= 1, "{moves} moves");
}
