//! Number 4: a node whose disk and state directory are set back to an older snapshot of both. What was
//! acknowledged since stays, on both nodes, or is kept and told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clusterd::config::NodeIndex;
use clusterd::control::status::{MirrorState, PeerState};
use clusterd_bed::processes::Target;
use clusterd_bed::{GROUP, node};
use nix::sys::signal::Signal;

use crate::mirror::{MIRROR, assert_equal, no_conflicts, sync, wait_in_sync, www};
use crate::scene::Scene;

/// Serves at the beginning.
const A: NodeIndex = NodeIndex::Lower;
const B: NodeIndex = NodeIndex::Upper;

/// A pair in sync, with a few small files.
pub fn few_in_sync() -> Scene {
    let mut scene = Scene::dark(|options| {
        MIRROR.clone_into(&mut options.group);
        "boot_patience = \"600s\"".clone_into(&mut options.heartbeat);
    });
    for node in NodeIndex::BOTH {
        fs::create_dir(www(&scene, node)).unwrap();
    }
    assert_eq!(scene.power_on(), A);
    wait_in_sync(&scene);
    commits(&scene, A, "before", 3);
    scene
}

/// So many acknowledged commits, each with a file of its own and one that changes.
fn commits(scene: &Scene, owner: NodeIndex, name: &str, count: u32) {
    for number in 1..=count {
        fs::write(www(scene, owner).join(format!("{name}{number}")), name).unwrap();
        fs::write(www(scene, owner).join("page"), format!("{name}{number}")).unwrap();
        sync(scene, owner);
    }
}

fn has(scene: &Scene, node: NodeIndex, name: &str, count: u32) -> bool {
    let page = fs::read_to_string(www(scene, node).join("page")).unwrap_or_default();
    page == format!("{name}{count}")
        && (1..=count).all(|number| www(scene, node).join(format!("{name}{number}")).exists())
}

/// Asks for a planned move until it is done: on a loaded machine the last changes may take too long.
pub fn move_from(scene: &Scene, owner: NodeIndex) {
    scene.wait("the move", || {
        match scene.ask(owner, &["move", GROUP, node::name(owner.other())]) {
            (0, ..) => Ok(()),
            refused => Err(format!("{refused:?}")),
        }
    });
}

/// Ends a node in order, then its power.
fn stop(scene: &mut Scene, node: NodeIndex) {
    assert_eq!(scene.bed.signal(node, Target::Guard, Signal::SIGTERM).unwrap(), 1);
    scene.wait_until("the daemon to end", || {
        ["clusterd-guard", "clusterd-heart", "clusterd-work"]
            .iter()
            .all(|comm| scene.pid(node, comm).is_none())
    });
    scene.bed.power_cut(node).unwrap();
}

/// Disk and state directory of a node that is off.
struct Snapshot {
    of: [PathBuf; 2],
    kept: tempfile::TempDir,
}

impl Snapshot {
    fn take(scene: &Scene, node: NodeIndex) -> Snapshot {
        let of = [scene.bed.srv(node), scene.bed.node(node).dir().join("state")];
        let kept = tempfile::tempdir().unwrap();
        for (number, from) in of.iter().enumerate() {
            copy(from, &kept.path().join(number.to_string()));
        }
        Snapshot { of, kept }
    }

    /// The roots stay the directories that they are, as on a disk that is set back.
    fn put_back(&self) {
        for (number, to) in self.of.iter().enumerate() {
            let kept = self.kept.path().join(number.to_string());
            // Times alone do not tell what was changed within a second.
            let from = format!("{}/", kept.display());
            run("rsync", &["-aAXH", "--delete", "--checksum", "--modify-window=-1", &from], to);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    run("rsync", &["-aAXH", &format!("{}/", from.display())], to);
}

fn run(program: &str, arguments: &[&str], last: &Path) {
    let out = Command::new(program).args(arguments).arg(last).output().unwrap();
    assert!(out.status.success(), "{program} {arguments:?}: {out:?}");
}

/// The whole pair is well, and has what was acknowledged last.
fn stays(scene: &Scene, server: NodeIndex, name: &str, count: u32) {
    assert_eq!(scene.whole(), server);
    wait_in_sync(scene);
    sync(scene, server);
    assert_equal(scene);
    for node in NodeIndex::BOTH {
        assert!(has(scene, node, name, count), "{} has not what is newer", node::name(node));
    }
}

/// A stopped in order while B was there; then it served again and acknowledged more.
fn the_owner_is_set_back(count: u32, peer_is_on: bool) {
    let mut scene = few_in_sync();
    stop(&mut scene, A);
    scene.wait_served_by(B);
    let snapshot = Snapshot::take(&scene, A);
    scene.bed.power_on(A).unwrap();
    scene.whole();
    wait_in_sync(&scene);
    move_from(&scene, B);
    wait_in_sync(&scene);
    commits(&scene, A, "newer", count);
    if peer_is_on {
        stop(&mut scene, A);
        scene.wait_served_by(B);
        snapshot.put_back();
        scene.bed.power_on(A).unwrap();
        return stays(&scene, B, "newer", count);
    }
    stop(&mut scene, B);
    scene.wait_peer(A, PeerState::Dead);
    stop(&mut scene, A);
    snapshot.put_back();
    // It never saw B go: it waits.
    scene.bed.power_on(A).unwrap();
    scene.wait("A to wait", || match scene.ask(A, &["status"]) {
        (5, out, _) if out.contains("not served") || out.contains("blocked") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    scene.bed.power_on(B).unwrap();
    stays(&scene, B, "newer", count);
}

/// The same of the node that does not serve.
fn the_standby_node_is_set_back(count: u32, peer_is_on: bool) {
    let mut scene = few_in_sync();
    stop(&mut scene, B);
    let snapshot = Snapshot::take(&scene, B);
    scene.bed.power_on(B).unwrap();
    scene.whole();
    wait_in_sync(&scene);
    commits(&scene, A, "newer", count);
    stop(&mut scene, B);
    snapshot.put_back();
    if !peer_is_on {
        scene.wait_peer(A, PeerState::Dead);
        stop(&mut scene, A);
        scene.bed.power_on(B).unwrap();
        scene.wait("B to wait", || match scene.ask(B, &["status"]).0 {
            5 => Ok(()),
            exit => Err(format!("{exit}")),
        });
        scene.bed.power_on(A).unwrap();
    } else {
        scene.bed.power_on(B).unwrap();
    }
    stays(&scene, A, "newer", count);
    no_conflicts(&scene, A);
    // What B has now is what it serves.
    scene.bed.power_cut(A).unwrap();
    scene.wait_served_by(B);
    assert!(has(&scene, B, "newer", count));
}

/// A was alone in the snapshot: its disk says that it may serve at once. B, which has what was acknowledged
/// since, is off just then. What A serves is old, which nobody can know; B's copy stays until a person
/// decides, whatever A wrote meanwhile.
fn an_owner_that_was_alone_is_set_back(count: u32, writes: bool) {
    let mut scene = few_in_sync();
    scene.bed.power_cut(B).unwrap();
    scene.wait_peer(A, PeerState::Dead);
    wait_alone_on_disk(&scene, A);
    stop(&mut scene, A);
    let snapshot = Snapshot::take(&scene, A);
    scene.bed.power_on(A).unwrap();
    scene.wait_served_by(A);
    scene.bed.power_on(B).unwrap();
    scene.whole();
    wait_in_sync(&scene);
    commits(&scene, A, "newer", count);
    stop(&mut scene, B);
    scene.wait_peer(A, PeerState::Dead);
    stop(&mut scene, A);
    snapshot.put_back();
    scene.bed.power_on(A).unwrap();
    scene.wait_served_by(A);
    assert!(has(&scene, A, "before", 3));
    if writes {
        fs::write(www(&scene, A).join("page"), "other1").unwrap();
        fs::write(www(&scene, A).join("other1"), "other").unwrap();
    }
    scene.bed.power_on(B).unwrap();
    for node in NodeIndex::BOTH {
        scene.wait("a person to be asked", || match scene.group(node).mirror {
            mirror if mirror.state == MirrorState::Conflict => Ok(()),
            mirror => Err(format!("{mirror:?}")),
        });
    }
    assert!(has(&scene, B, "newer", count), "B's copy was replaced");
    // B's is the one to keep.
    scene.tell(B, &["move", GROUP, "--accept-loss"]);
    scene.wait_served_by(B);
    stays(&scene, B, "newer", count);
}

/// How nodes that are off come back.
#[derive(Clone, Copy)]
enum Back {
    /// Both in the same moment.
    Together,
    /// This one; the other one when that waits.
    First(NodeIndex),
}

fn come_back(scene: &mut Scene, back: Back) {
    let order = match back {
        Back::Together => NodeIndex::BOTH,
        Back::First(node) => [node, node.other()],
    };
    for (number, node) in order.into_iter().enumerate() {
        if matches!(back, Back::First(_)) && number == 1 {
            // Who hears nobody, and was not alone before, serves nothing.
            scene.wait("the first one to wait", || match scene.ask(order[0], &["status"]).0 {
                5 => Ok(()),
                exit => Err(format!("{exit}")),
            });
        }
        scene.bed.power_on(node).unwrap();
    }
}

/// Nobody sees the other one go.
fn lose_power(scene: &mut Scene) {
    for node in NodeIndex::BOTH {
        scene.bed.signal(node, Target::All, Signal::SIGSTOP).unwrap();
    }
    for node in NodeIndex::BOTH {
        scene.bed.power_cut(node).unwrap();
    }
}

/// One of them says so.
fn told_set_back(scene: &Scene, before: [usize; 2]) {
    scene.wait_until("a word of a disk that was set back", || {
        NodeIndex::BOTH.into_iter().zip(before).any(|(node, before)| {
            let events = scene.events(node);
            events.iter().skip(before).any(|event| event.told.text.contains("set back"))
        })
    });
}

/// A snapshot of a machine at work, as of a volume or of a virtual machine: of who serves, or of who does
/// not. More is acknowledged in the same generation, then both lose their power, and that node is set back.
fn set_back_within_a_generation(owner: NodeIndex, whose: NodeIndex, count: u32, back: Back) {
    let mut scene = few_in_sync();
    if owner == B {
        move_from(&scene, A);
        wait_in_sync(&scene);
        sync(&scene, B);
    }
    scene.bed.signal(whose, Target::Worker, Signal::SIGSTOP).unwrap();
    let snapshot = Snapshot::take(&scene, whose);
    scene.bed.signal(whose, Target::Worker, Signal::SIGCONT).unwrap();
    commits(&scene, owner, "newer", count);
    lose_power(&mut scene);
    snapshot.put_back();
    let before = NodeIndex::BOTH.map(|node| scene.events(node).len());
    come_back(&mut scene, back);
    // It is served by whoever has it.
    stays(&scene, whose.other(), "newer", count);
    for node in NodeIndex::BOTH {
        no_conflicts(&scene, node);
    }
    told_set_back(&scene, before);
}

/// A moment after somebody is alone its disk says so.
pub fn wait_alone_on_disk(scene: &Scene, node: NodeIndex) {
    let file = scene.bed.node(node).dir().join("state/state.json");
    scene.wait_until("the disk to say that it is alone", || {
        fs::read_to_string(&file).is_ok_and(|text| {
            let state: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            state.to_string().contains("\"alone\":true")
        })
    });
}

#[test]
fn p3_the_owner_is_set_back_and_its_peer_serves() {
    the_owner_is_set_back(3, true);
}

#[test]
fn p3_the_owner_is_set_back_by_one_commit_and_its_peer_serves() {
    the_owner_is_set_back(1, true);
}

#[test]
fn p3_the_owner_is_set_back_and_its_peer_is_off() {
    the_owner_is_set_back(3, false);
}

#[test]
fn p3_the_owner_is_set_back_by_one_commit_and_its_peer_is_off() {
    the_owner_is_set_back(1, false);
}

#[test]
fn p3_the_standby_node_is_set_back_while_its_peer_serves() {
    the_standby_node_is_set_back(3, true);
}

#[test]
fn p3_the_standby_node_is_set_back_by_one_commit_while_its_peer_serves() {
    the_standby_node_is_set_back(1, true);
}

#[test]
fn p3_the_standby_node_is_set_back_and_its_peer_is_off() {
    the_standby_node_is_set_back(3, false);
}

#[test]
fn p3_an_owner_that_was_alone_is_set_back() {
    an_owner_that_was_alone_is_set_back(3, false);
}

#[test]
fn p3_an_owner_that_was_alone_is_set_back_by_one_commit() {
    an_owner_that_was_alone_is_set_back(1, false);
}

#[test]
fn p3_an_owner_that_was_alone_is_set_back_and_writes() {
    an_owner_that_was_alone_is_set_back(3, true);
}

#[test]
fn p3_an_owner_that_was_alone_is_set_back_by_one_commit_and_writes() {
    an_owner_that_was_alone_is_set_back(1, true);
}

#[test]
fn p3_the_owner_is_set_back_within_its_generation() {
    for back in [Back::Together, Back::First(A), Back::First(B)] {
        set_back_within_a_generation(A, A, 3, back);
    }
}

#[test]
fn p3_the_owner_is_set_back_by_one_commit_within_its_generation() {
    for back in [Back::Together, Back::First(A), Back::First(B)] {
        set_back_within_a_generation(A, A, 1, back);
    }
}

#[test]
fn p3_an_owner_that_is_not_preferred_is_set_back_within_its_generation() {
    set_back_within_a_generation(B, B, 3, Back::Together);
    set_back_within_a_generation(B, B, 1, Back::First(A));
}

#[test]
fn p3_the_standby_node_is_set_back_within_a_generation() {
    for (owner, back) in [(A, Back::Together), (A, Back::First(B)), (B, Back::Together)] {
        set_back_within_a_generation(owner, owner.other(), 3, back);
        set_back_within_a_generation(owner, owner.other(), 1, back);
    }
}
