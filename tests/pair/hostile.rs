//! Bad input on the cables hurts nobody (promise P4).

use std::io::Write;

use clusterd::beat::Path;
use clusterd::config::NodeIndex;
use clusterd::limits;
use clusterd_bed::Bed;

use crate::cables::{Frame, Plug, forged, key, next_line_frame, stuffed};
use crate::scene::Scene;

const CLUSTER: &str = "bed";
/// Where a complete frame has the cluster, the sender's incarnation, the number of its groups.
const CLUSTER_AT: usize = 1;
const INCARNATION_AT: usize = 23;
const COUNT_AT: usize = 85;

/// What one node says to the other on a cable, and the way to say something else.
struct Forger {
    path: Path,
    to: NodeIndex,
    heard: Plug,
    said: Plug,
}

impl Forger {
    fn new(bed: &Bed, path: Path, to: NodeIndex) -> Forger {
        let [heard, said] = [to.other(), to].map(|node| Plug::open(bed, node, path));
        Forger { path, to, heard, said }
    }

    /// The newest frame that the other node has sent.
    fn frame(&self) -> Frame {
        self.heard.hear()
    }

    /// Sends each once; all must be refused for this reason.
    fn refused(&self, scene: &Scene, reason: &str, frames: &[Frame]) {
        let times = frames.len() as u64;
        scene.is_refused(self.to, self.path.name(), reason, times, || {
            for frame in frames {
                self.said.send(frame).expect("a plugged cable");
            }
        });
    }
}

fn on_both_cables_and_nodes(mut work: impl FnMut(&Scene, &Forger)) {
    let (mut scene, _) = Scene::whole_pair();
    scene.hurts_nobody(&[], |scene| {
        for path in [Path::Crossover, Path::Lan] {
            for to in NodeIndex::BOTH {
                work(scene, &Forger::new(&scene.bed, path, to));
            }
        }
    });
}

#[test]
fn p4_a_flipped_bit() {
    on_both_cables_and_nodes(|scene, forger| {
        let last = forger.frame().payload().len() - 1;
        let places = [INCARNATION_AT, INCARNATION_AT + 8, 40, 50, 62, 70, COUNT_AT + 1, last];
        let flipped = places.map(|place| forger.frame().flipped(place, 3));
        forger.refused(scene, "bad-tag", &flipped);
        forger.refused(scene, "foreign-cluster", &[forger.frame().flipped(CLUSTER_AT, 0)]);
        // The kind, and a number of groups that no config has.
        let malformed = [forger.frame().flipped(0, 0), forger.frame().flipped(COUNT_AT, 7)];
        forger.refused(scene, "malformed", &malformed);
    });
}

#[test]
fn p4_a_replay_within_an_incarnation() {
    on_both_cables_and_nodes(|scene, forger| {
        let frame = forger.frame();
        let fresh: Vec<Frame> = (0..20).map(|_| frame.clone()).collect();
        forger.refused(scene, "replay", &fresh);
    });
}

#[test]
fn p4_another_cluster_and_another_key() {
    on_both_cables_and_nodes(|scene, forger| {
        let (own, other) = (key(&scene.bed), [7; 32]);
        let peer = forger.to.other();
        let forge = |key: &[u8; 32], cluster: &str, from: NodeIndex| {
            forger.frame().with(&forged(forger.path, key, cluster, from))
        };
        let foreign = [forge(&own, "other", peer), forge(&other, "other", peer)];
        forger.refused(scene, "foreign-cluster", &foreign);
        forger.refused(scene, "bad-tag", &[forge(&other, CLUSTER, peer)]);
        // Its own name, with the pair's own key.
        forger.refused(scene, "not-peer", &[forge(&own, CLUSTER, forger.to)]);
        // The key of another path.
        let astray = match forger.path {
            Path::Crossover => Path::Lan,
            Path::Lan | Path::Serial => Path::Crossover,
        };
        let astray = forger.frame().with(&forged(astray, &own, CLUSTER, peer));
        forger.refused(scene, "bad-tag", &[astray]);
    });
}

#[test]
fn p4_what_a_node_said_itself_or_a_stranger() {
    let (mut scene, _) = Scene::whole_pair();
    scene.hurts_nobody(&[], |scene| {
        for to in NodeIndex::BOTH {
            for path in [Path::Crossover, Path::Lan] {
                let own = Plug::open(&scene.bed, to, path);
                let forger = Forger::new(&scene.bed, path, to);
                // Its own words in the peer's envelope.
                let reflected = forger.frame().with(own.hear().payload());
                forger.refused(scene, "not-peer", &[reflected]);
            }
            let forger = Forger::new(&scene.bed, Path::Lan, to);
            forger.refused(scene, "not-peer", &[forger.frame().sent_by_host(100)]);
        }
    });
}

#[test]
fn p4_truncated_and_oversized_frames() {
    on_both_cables_and_nodes(|scene, forger| {
        let frame = forger.frame();
        let whole = frame.payload();
        let lengths = [0, 1, 8, 40, COUNT_AT, whole.len() - 16, whole.len() - 1];
        let cut = lengths.map(|length| frame.with(&whole[..length]));
        forger.refused(scene, "truncated", &cut);
        forger.refused(scene, "malformed", &[frame.with(&[whole, &[0]].concat())]);
        let long = [limits::BEAT_BYTES_MAX + 1, 1400].map(|length| {
            let mut payload = whole.to_vec();
            payload.resize(length, 0x55);
            frame.with(&payload)
        });
        forger.refused(scene, "oversized", &long);
    });
}

#[test]
fn p4_a_flood_of_bad_frames() {
    let mut scene = Scene::dark(crate::flood::unhurried);
    let owner = scene.power_on();
    // What a flooded path loses of its own beats in a heart that was hardly optimised is said in `flood`.
    scene.hurts_nobody(&["crossover", "lan"], |scene| {
        for path in [Path::Crossover, Path::Lan] {
            let forger = Forger::new(&scene.bed, path, owner);
            let frame = forger.frame().flipped(INCARNATION_AT, 0);
            let before = scene.refused(owner, path.name(), "bad-tag");
            scene.wait_until("many to be refused", || {
                for _ in 0..20_000 {
                    // A queue that is full drops it: also good.
                    let _ = forger.said.send(&frame);
                }
                scene.refused(owner, path.name(), "bad-tag") - before > 1_000
            });
        }
    });
}

#[test]
fn p4_a_partial_a_broken_and_a_foreign_frame_on_serial() {
    let (mut scene, _) = Scene::whole_pair();
    scene.hurts_nobody(&[], |scene| {
        for to in NodeIndex::BOTH {
            let bed = &scene.bed;
            let line = bed.line().mouth(to).expect("a line");
            let refused = |reason: &str, bytes: &[u8]| {
                scene.is_refused(to, "serial", reason, 1, || {
                    (&line).write_all(bytes).expect("a line");
                });
            };
            for introduction in [false, true] {
                let frame = next_line_frame(bed, to, introduction);
                refused("line-noise", &[&frame[..frame.len() / 2], &[0]].concat());
                refused("replay", &next_line_frame(bed, to, introduction));
            }
            refused("line-noise", b"\0login: \0");
            refused("oversized", &[&[0][..], &[0xff; 300], &[0]].concat());
            let (own, other, peer) = (key(bed), [7; 32], to.other());
            let forge = |key: &[u8; 32], cluster: &str, from: NodeIndex| {
                stuffed(&forged(Path::Serial, key, cluster, from))
            };
            refused("foreign-cluster", &forge(&own, "other", peer));
            refused("bad-tag", &forge(&other, CLUSTER, peer));
            refused("not-peer", &forge(&own, CLUSTER, to));
        }
    });
}

#[test]
fn p4_noise_on_the_serial_line() {
    let (mut scene, _) = Scene::whole_pair();
    scene.hurts_nobody(&["serial"], |scene| {
        // One byte in fifty: most frames are spoiled.
        scene.bed.line().set_noise(20);
        let all = |node: NodeIndex| {
            let status = scene.status(node);
            let serial = status.peer.paths.into_iter().find(|path| path.name == "serial");
            serial.expect("a serial path").refused
        };
        scene
            .wait_until("noise to be refused", || NodeIndex::BOTH.map(all).iter().all(|&n| n > 20));
        scene.bed.line().set_noise(0);
    });
}
