//! Number 6: what a power cut leaves, of a planned move, of directories, of files that were not durable.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::PeerState;
use clusterd::sys::path_xattr;
use clusterd_bed::processes::Target;
use nix::sys::signal::Signal;

use crate::mirror::{assert_equal, conflicts, no_conflicts, sync, wait_in_sync, www};
use crate::scene::Scene;
use crate::setback::{few_in_sync, move_from, wait_alone_on_disk};

fn in_sync() -> (Scene, NodeIndex) {
    (few_in_sync(), NodeIndex::Lower)
}

fn is_kept(scene: &Scene, node: NodeIndex, path: &str) {
    let kept = conflicts(scene, node);
    assert!(kept.iter().any(|one| one["path"] == path), "{path} is not kept: {kept:#?}");
}

/// The verb has only just returned when the power of one of them goes.
fn a_move_and_then_a_power_cut(whose: fn(NodeIndex) -> NodeIndex) {
    let (mut scene, mut owner) = in_sync();
    for round in 0..4 {
        let text = format!("{round}");
        fs::write(www(&scene, owner).join("page"), &text).unwrap();
        move_from(&scene, owner);
        let cut = whose(owner);
        scene.bed.power_cut(cut).unwrap();
        let serves = cut.other();
        scene.wait_served_by(serves);
        assert_eq!(fs::read_to_string(www(&scene, serves).join("page")).unwrap(), text);
        scene.bed.power_on(cut).unwrap();
        assert_eq!(scene.whole(), serves);
        wait_in_sync(&scene);
        sync(&scene, serves);
        assert_equal(&scene);
        owner = serves;
    }
    for node in NodeIndex::BOTH {
        no_conflicts(&scene, node);
    }
}

#[test]
fn p3_a_planned_move_and_then_the_power_of_the_old_owner() {
    a_move_and_then_a_power_cut(|owner| owner);
}

#[test]
fn p3_a_planned_move_and_then_the_power_of_the_new_owner() {
    a_move_and_then_a_power_cut(NodeIndex::other);
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn attribute(path: &Path) -> String {
    let mut getfattr = Command::new("getfattr");
    let out = getfattr.args(["--only-values", "-n", "user.why"]).arg(path).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

fn change(path: &Path, bits: u32, why: &str) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
    path_xattr::set(path, c"user.why", why.as_bytes()).unwrap();
}

/// What the owner changed of directories, and nothing in them.
#[test]
fn p3_modes_and_attributes_of_directories_outlive_a_takeover_or_are_kept() {
    let (mut scene, owner) = in_sync();
    let (dead, alive) = (owner, owner.other());
    let (here, there) = (www(&scene, dead), www(&scene, alive));
    fs::create_dir_all(here.join("sent/below")).unwrap();
    fs::create_dir_all(here.join("unsent/below")).unwrap();
    fs::write(here.join("unsent/below/page"), "x").unwrap();
    change(&here.join("unsent"), 0o755, "before");
    sync(&scene, dead);
    change(&here.join("sent"), 0o2750, "sent");
    sync(&scene, dead);
    // Nobody sends any more.
    scene.bed.signal(dead, Target::Worker, Signal::SIGSTOP).unwrap();
    change(&here.join("unsent"), 0o700, "unsent");
    scene.bed.power_cut(dead).unwrap();
    scene.wait_served_by(alive);
    assert_eq!(
        (mode(&there.join("sent")), attribute(&there.join("sent"))),
        (0o2750, "sent".into())
    );
    assert_eq!(mode(&there.join("unsent")), 0o755);
    scene.bed.power_on(dead).unwrap();
    assert_eq!(scene.whole(), alive);
    wait_in_sync(&scene);
    sync(&scene, alive);
    assert_equal(&scene);
    assert_eq!(attribute(&here.join("unsent")), "before");
    is_kept(&scene, dead, "unsent");
    let kept = conflicts(&scene, dead);
    assert!(!kept.iter().any(|one| one["path"] == "sent"), "{kept:#?}");
}

/// What XFS leaves of a file that was overwritten and not made durable: its new length, or none, and no byte.
/// The machine died as the owner, and serves again; its peer keeps the content from before.
#[test]
fn p3_what_a_crash_left_empty_replaces_nothing_for_good() {
    let (mut scene, owner) = in_sync();
    let peer = owner.other();
    fs::write(www(&scene, owner).join("page"), "content").unwrap();
    fs::write(www(&scene, owner).join("other"), "other").unwrap();
    sync(&scene, owner);
    scene.bed.power_cut(peer).unwrap();
    scene.wait_peer(owner, PeerState::Dead);
    wait_alone_on_disk(&scene, owner);
    fs::write(www(&scene, owner).join("page"), "newer content").unwrap();
    scene.bed.power_cut(owner).unwrap();
    crash_empties(&scene, owner, "page");
    scene.bed.power_on(owner).unwrap();
    scene.wait_served_by(owner);
    scene.wait_event(owner, 0, Kind::Mirror, "empty since the machine died");
    scene.bed.power_on(peer).unwrap();
    assert_eq!(scene.whole(), owner);
    wait_in_sync(&scene);
    sync(&scene, owner);
    assert_equal(&scene);
    is_kept(&scene, peer, "page");
    assert_eq!(conflicts(&scene, peer).len(), 1, "nothing else is");
    assert_eq!(restored(&scene, peer, "page"), "content");
}

/// The same machine is not the owner any more when it is back: its empty file is not the newer one.
#[test]
fn p3_what_a_crash_left_empty_does_not_replace_what_the_peer_serves() {
    let (mut scene, owner) = in_sync();
    let peer = owner.other();
    fs::write(www(&scene, owner).join("page"), "content").unwrap();
    sync(&scene, owner);
    scene.bed.power_cut(owner).unwrap();
    scene.wait_served_by(peer);
    crash_empties(&scene, owner, "page");
    scene.bed.power_on(owner).unwrap();
    assert_eq!(scene.whole(), peer);
    wait_in_sync(&scene);
    sync(&scene, peer);
    assert_equal(&scene);
    assert_eq!(fs::read_to_string(www(&scene, owner).join("page")).unwrap(), "content");
    no_conflicts(&scene, peer);
}

/// The page cache of the bed's disks outlives a power cut: what a crash would have left is made by hand.
fn crash_empties(scene: &Scene, node: NodeIndex, name: &str) {
    fs::write(www(scene, node).join(name), "").unwrap();
    let mark = scene.bed.node(node).dir().join("state/mirror/web/reign");
    fs::write(&mark, "another boot").unwrap();
}

/// The content of what is kept.
fn restored(scene: &Scene, node: NodeIndex, path: &str) -> String {
    let kept = conflicts(scene, node);
    let id =
        kept.iter().find(|one| one["path"] == path).unwrap()["id"].as_str().unwrap().to_owned();
    scene.tell(node, &["conflicts", "web", "restore", &id, "--force"]);
    // It is the owner who restores it.
    fs::read_to_string(www(scene, scene.bed.owner().unwrap()).join(path)).unwrap()
}
