//! Copies that may be old: what a person, or the config, decides of them, and that nothing of either goes for
//! nothing.

use std::fs;
use std::time::Duration;

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::{GroupState, MirrorState, PeerState};
use clusterd_bed::limits;
use clusterd_bed::{GROUP, node};

use crate::mirror::{MIRROR, assert_equal, conflicts, no_conflicts, sync, wait_in_sync, www};
use crate::scene::Scene;
use crate::setback::wait_alone_on_disk;

/// Serves at the beginning.
const A: NodeIndex = NodeIndex::Lower;
const B: NodeIndex = NodeIndex::Upper;

fn write(scene: &Scene, node: NodeIndex, name: &str, text: &str) {
    fs::write(www(scene, node).join(name), text).unwrap();
}

fn read(scene: &Scene, node: NodeIndex, name: &str) -> Option<String> {
    fs::read_to_string(www(scene, node).join(name)).ok()
}

/// A pair in sync, with one file.
fn in_sync(heartbeat: &str, group: &str) -> Scene {
    let mut scene = Scene::dark(|options| {
        options.group = format!("{MIRROR}\n{group}");
        heartbeat.clone_into(&mut options.heartbeat);
    });
    for node in NodeIndex::BOTH {
        fs::create_dir(www(&scene, node)).unwrap();
    }
    write(&scene, A, "page", "one");
    assert_eq!(scene.power_on(), A);
    wait_in_sync(&scene);
    sync(&scene, A);
    scene
}

/// B was away while A served on; A has lost its power; B is back and heard nobody. `again`: A was restarted
/// meanwhile, so that it served in a generation that B knows nothing of.
fn stale(heartbeat: &str, group: &str, anew: bool) -> Scene {
    let mut scene = in_sync(heartbeat, group);
    scene.bed.power_cut(B).unwrap();
    scene.wait_peer(A, PeerState::Dead);
    if anew {
        wait_alone_on_disk(&scene, A);
        scene.bed.power_cut(A).unwrap();
        scene.bed.power_on(A).unwrap();
        scene.wait_served_by(A);
        wait_generation_on_disk(&scene, A);
    }
    write(&scene, A, "page", "two");
    write(&scene, A, "of A", "A");
    scene.bed.power_cut(A).unwrap();
    scene.bed.power_on(B).unwrap();
    scene
}

/// Without it a node that lost its power would not know later that it served (docs/ORDERS.md).
fn wait_generation_on_disk(scene: &Scene, node: NodeIndex) {
    let file = scene.bed.node(node).dir().join("state/state.json");
    scene.wait_until("the disk to say that it serves", || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let state: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let served = &state["state"]["groups"][GROUP]["served"]["number"];
        *served == u64::from(scene.group(node).generation)
    });
}

/// The same, B was told to serve anyway, and wrote; then A is back.
fn forked() -> Scene {
    let mut scene = stale("boot_patience = \"600s\"", "", true);
    scene.wait_event(B, 0, Kind::Mirror, "not served");
    let (exit, _, why) = scene.ask(B, &["move", GROUP]);
    assert!(exit == 1 && why.contains("--accept-loss"), "{exit} {why}");
    scene.tell(B, &["move", GROUP, node::name(B), "--accept-loss"]);
    scene.wait_served_by(B);
    assert_eq!(read(&scene, B, "page").as_deref(), Some("one"));
    write(&scene, B, "of B", "B");
    scene.bed.power_on(A).unwrap();
    waits_for_a_person(&scene);
    scene
}

/// Both copies are as they are, both nodes say so, and B serves.
fn waits_for_a_person(scene: &Scene) {
    for node in NodeIndex::BOTH {
        scene.wait("the mirror to wait for a person", || match scene.group(node).mirror {
            mirror if mirror.state == MirrorState::Conflict => Ok(()),
            mirror => Err(format!("{mirror:?}")),
        });
        let why = scene.group(node).mirror.why;
        assert!(why.contains("--from") && why.contains("--accept-loss"), "{why}");
    }
    scene.wait_event(B, 0, Kind::Mirror, "do not contain");
    assert_eq!(scene.bed.owner(), Some(B));
    assert_eq!(scene.ask(B, &["status"]).0, 4, "no redundancy");
    let has = |node, name| read(scene, node, name);
    assert_eq!(has(A, "page").as_deref(), Some("two"));
    assert_eq!((has(A, "of A").as_deref(), has(A, "of B")), (Some("A"), None));
    assert_eq!(has(B, "page").as_deref(), Some("one"));
}

fn is_kept(scene: &Scene, node: NodeIndex, names: &[&str]) {
    let kept = conflicts(scene, node);
    for name in names {
        assert!(kept.iter().any(|one| one["path"] == *name), "{name} is not kept: {kept:#?}");
    }
    assert_eq!(kept.len(), names.len(), "{kept:#?}");
}

/// The pair goes on from there, and survives the next takeover.
fn goes_on(scene: &mut Scene, owner: NodeIndex, page: &str) {
    assert_eq!(scene.whole(), owner);
    wait_in_sync(scene);
    sync(scene, owner);
    assert_equal(scene);
    for node in NodeIndex::BOTH {
        assert_eq!(read(scene, node, "page").as_deref(), Some(page));
    }
    scene.bed.power_cut(owner).unwrap();
    scene.wait_served_by(owner.other());
    assert_eq!(read(scene, owner.other(), "page").as_deref(), Some(page));
}

#[test]
fn p3_a_fork_is_let_go_by_the_copy_that_is_served() {
    let mut scene = forked();
    scene.tell(B, &["sync", GROUP, "--from", node::name(B)]);
    wait_in_sync(&scene);
    is_kept(&scene, A, &["page", "of A"]);
    no_conflicts(&scene, B);
    goes_on(&mut scene, B, "one");
}

#[test]
fn p3_a_fork_is_let_go_by_the_copy_that_is_not_served() {
    let mut scene = forked();
    scene.tell(B, &["move", GROUP, node::name(A), "--accept-loss"]);
    scene.wait_served_by(A);
    wait_in_sync(&scene);
    assert_eq!(read(&scene, A, "of A").as_deref(), Some("A"));
    // A's page follows from the one that B had.
    is_kept(&scene, B, &["of B"]);
    no_conflicts(&scene, A);
    goes_on(&mut scene, A, "two");
}

/// The same, asked on the node that is to serve.
#[test]
fn p3_a_fork_is_let_go_where_it_is_to_be_served() {
    let mut scene = forked();
    scene.tell(A, &["move", GROUP, "--accept-loss"]);
    scene.wait_served_by(A);
    wait_in_sync(&scene);
    is_kept(&scene, B, &["of B"]);
    goes_on(&mut scene, A, "two");
}

/// The node that serves is the one whose trees `--from` keeps: another one is refused, and nothing happens.
#[test]
fn a_fork_is_not_let_go_by_the_wrong_node() {
    let scene = forked();
    let (exit, _, why) = scene.ask(B, &["sync", GROUP, "--from", node::name(A)]);
    assert_eq!(exit, 1, "{why}");
    assert!(why.contains("is served by"), "{why}");
    waits_for_a_person(&scene);
    // Nor by a planned move, nor by waiting.
    let (exit, _, why) = scene.ask(B, &["move", GROUP]);
    assert_eq!(exit, 1, "{why}");
    scene.bed.watch_for(limits::BED_WATCH).unwrap();
    waits_for_a_person(&scene);
}

/// It serves old data after its patience, as it was told to; what is newer is kept when that is back.
#[test]
fn p3_who_is_to_serve_when_unsure_does_and_what_is_newer_is_kept() {
    let mut scene = stale("boot_patience = \"2s\"", "when_unsure = \"serve\"", false);
    scene.wait_served_by(B);
    assert_eq!(read(&scene, B, "page").as_deref(), Some("one"));
    scene.bed.power_on(A).unwrap();
    assert_eq!(scene.whole(), B);
    wait_in_sync(&scene);
    is_kept(&scene, A, &["of A", "page"]);
    scene.wait_event(A, 0, Kind::Conflict, "conflict store");
    goes_on(&mut scene, B, "one");
}

/// The same where neither copy contains the other.
#[test]
fn p3_who_is_to_serve_when_unsure_does_and_the_newer_copy_stays() {
    let mut scene = stale("boot_patience = \"2s\"", "when_unsure = \"serve\"", true);
    scene.wait_served_by(B);
    assert_eq!(read(&scene, B, "page").as_deref(), Some("one"));
    scene.bed.power_on(A).unwrap();
    waits_for_a_person(&scene);
    scene.tell(A, &["move", GROUP, "--accept-loss"]);
    scene.wait_served_by(A);
    wait_in_sync(&scene);
    no_conflicts(&scene, B);
    goes_on(&mut scene, A, "two");
}

/// Further behind than `max_behind`: said before, and not served by itself after the owner's death.
#[test]
fn p3_who_is_too_far_behind_does_not_take_over_by_itself() {
    let mut scene = Scene::dark(|options| {
        options.group = format!("{MIRROR}\nmax_behind = \"2s\"");
        options.disk_bytes = Some(200_000_000);
    });
    for node in NodeIndex::BOTH {
        fs::create_dir(www(&scene, node)).unwrap();
    }
    write(&scene, A, "page", "one");
    assert_eq!(scene.power_on(), A);
    wait_in_sync(&scene);
    sync(&scene, A);
    assert_eq!(scene.ask(A, &["status"]).0, 0);
    // B has no room for what comes.
    fs::write(scene.bed.srv(B).join("filler"), vec![7; 150_000_000]).unwrap();
    fs::write(www(&scene, A).join("big"), vec![5; 60_000_000]).unwrap();
    scene.wait_event(A, 0, Kind::Mirror, "no room");
    for node in NodeIndex::BOTH {
        scene.wait("the pair not to be redundant", || match scene.ask(node, &["status"]) {
            (4, ..) if !scene.group(node).redundant => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
    write(&scene, A, "page", "two");
    scene.bed.watch_for(Duration::from_secs(4)).unwrap();
    scene.bed.power_cut(A).unwrap();
    scene.wait("no service, and why", || match (scene.ask(B, &["status"]).0, scene.group(B)) {
        (5, group) if group.why.contains("max_behind") => Ok(()),
        other => Err(format!("{other:?}")),
    });
    scene.wait_event(B, 0, Kind::Refused, "max_behind");
    assert_eq!(scene.group(B).state, GroupState::Blocked);
    let mark = std::time::Instant::now();
    scene.bed.watch_for(limits::BED_WATCH).unwrap();
    assert_eq!(scene.bed.client.answer_since(mark), None, "nobody serves");
    let (exit, _, why) = scene.ask(B, &["move", GROUP]);
    assert!(exit == 1 && why.contains("--accept-loss"), "{exit} {why}");
    scene.tell(B, &["move", GROUP, "--accept-loss"]);
    scene.wait_served_by(B);
    assert_eq!(read(&scene, B, "page").as_deref(), Some("one"));
    // What A had not sent is kept there.
    fs::remove_file(scene.bed.srv(B).join("filler")).unwrap();
    scene.bed.power_on(A).unwrap();
    assert_eq!(scene.whole(), B);
    wait_in_sync(&scene);
    is_kept(&scene, A, &["big", "page"]);
}
