//! The conflict store, as an administrator uses it on either node.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::MirrorState;
use clusterd::limits;
use clusterd_bed::node;
use clusterd_bed::tree::{TreeSpec, generate};

use crate::mirror::{
    assert_equal, conflicts, empty, in_sync, no_conflicts, sync, wait_in_sync, www,
};
use crate::scene::Scene;

/// What both nodes keep, as one of them lists it: path and node.
fn listed(scene: &Scene, on: NodeIndex) -> BTreeSet<(String, String)> {
    let (code, out, err) = scene.ask(on, &["conflicts", "web", "list", "--json"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    let all: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    let word = |one: &serde_json::Value, field: &str| one[field].as_str().unwrap().to_owned();
    for one in &all {
        let (reason, why) = (word(one, "reason"), word(one, "why"));
        assert!(!reason.is_empty() && !why.is_empty(), "{one}");
    }
    all.iter().map(|one| (word(one, "path"), word(one, "kept_by"))).collect()
}

/// A pair on whose standby side somebody has made a directory and changed a file; both are kept.
fn with_conflicts() -> (Scene, NodeIndex) {
    let (scene, owner) = in_sync();
    fs::write(www(&scene, owner).join("page"), "first").unwrap();
    sync(&scene, owner);
    let replica = www(&scene, owner.other());
    fs::create_dir_all(replica.join("made/by/hand")).unwrap();
    fs::write(replica.join("made/by/hand/one"), "1").unwrap();
    fs::write(replica.join("made/by/two"), "2").unwrap();
    fs::set_permissions(replica.join("made/by"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(replica.join("page"), "written on the standby side").unwrap();
    scene.wait("all of it to be kept", || {
        sync(&scene, owner);
        let kept = conflicts(&scene, owner.other());
        let has = |path: &str| kept.iter().any(|one| one["path"] == path);
        let all = ["made/by/hand/one", "made/by/two", "page"].map(has);
        if all == [true; 3] { Ok(()) } else { Err(format!("{kept:#?}")) }
    });
    wait_in_sync(&scene);
    (scene, owner)
}

#[test]
fn p3_what_the_standby_side_keeps_is_listed_and_restored_on_the_owner() {
    let (scene, owner) = with_conflicts();
    let (tree, by) = (www(&scene, owner), node::name(owner.other()).to_owned());
    for on in NodeIndex::BOTH {
        let all = listed(&scene, on);
        assert!(all.contains(&("page".to_owned(), by.clone())), "{all:?}");
    }
    let out = scene.tell(owner, &["conflicts", "web", "list", "--under", "made"]);
    assert!(out.contains("made/by/two") && !out.contains("page"), "{out}");
    assert!(out.contains("alone"), "why, in words: {out}");
    let (code, out, err) = scene.ask(owner, &["conflicts", "web", "restore", "--under", "made"]);
    assert_eq!(code, 0, "{out} {err}");
    assert_eq!(fs::read_to_string(tree.join("made/by/hand/one")).unwrap(), "1");
    assert_eq!(fs::read_to_string(tree.join("made/by/two")).unwrap(), "2");
    assert_eq!(fs::metadata(tree.join("made/by")).unwrap().mode() & 0o777, 0o711);
    sync(&scene, owner);
    assert_equal(&scene);
    let left: Vec<String> = listed(&scene, owner).into_iter().map(|(path, _)| path).collect();
    assert_eq!(left, ["page"]);
}

#[test]
fn p3_a_restore_asked_on_the_standby_side_is_done_by_the_owner() {
    let (scene, owner) = with_conflicts();
    let (tree, standby) = (www(&scene, owner), owner.other());
    // What stands in the way stays, and is named.
    let (code, out, err) = scene.ask(standby, &["conflicts", "web", "restore", "--all"]);
    assert_eq!(code, 1, "{out} {err}");
    assert!(err.contains("page") && err.contains("--force"), "{err}");
    assert!(out.contains("2 restored, 1 not"), "{out}");
    assert_eq!(fs::read_to_string(tree.join("made/by/hand/one")).unwrap(), "1");
    assert_eq!(fs::read_to_string(tree.join("page")).unwrap(), "first");
    sync(&scene, owner);
    assert_equal(&scene);
    let page = |on| {
        let kept = conflicts(&scene, on);
        kept.into_iter().find(|one| one["path"] == "page").unwrap()
    };
    let id = page(standby)["id"].as_str().unwrap().to_owned();
    scene.tell(standby, &["conflicts", "web", "restore", &id, "--force"]);
    sync(&scene, owner);
    assert_equal(&scene);
    assert_eq!(fs::read_to_string(tree.join("page")).unwrap(), "written on the standby side");
    // What was there is in the owner's store, and both nodes can show and drop it.
    let replaced = page(owner);
    assert_eq!(replaced["why"], "replaced by a restore");
    let id = replaced["id"].as_str().unwrap();
    let out = scene.tell(standby, &["conflicts", "web", "show", id]);
    assert!(out.contains("a restore put another version in its place"), "{out}");
    scene.tell(standby, &["conflicts", "web", "drop", "--all"]);
    assert!(listed(&scene, owner).is_empty());
    assert!(listed(&scene, standby).is_empty());
}

/// With a peer that is gone the own store can still be used, and nothing is pretended.
#[test]
fn a_store_that_cannot_be_asked_is_named() {
    let (mut scene, owner) = with_conflicts();
    let standby = owner.other();
    scene.bed.power_cut(standby).unwrap();
    let (code, out, err) = scene.ask(owner, &["conflicts", "web", "list"]);
    assert_eq!((code, out.as_str()), (0, ""));
    assert!(err.contains(node::name(standby)) && err.contains("does not answer"), "{err}");
    let (code, _, err) = scene.ask(owner, &["conflicts", "web", "restore", "--all"]);
    assert_eq!(code, 1, "{err}");
    let (code, _, err) =
        scene.ask(owner, &["conflicts", "web", "drop", "20200101-000000-00000000"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("there is no conflict"), "{err}");
}

/// A program that runs on the standby side by mistake: everything is kept, and it is told now and then.
#[test]
fn a_writer_on_the_standby_side_is_told_at_a_bounded_rate() {
    let (scene, owner) = in_sync();
    let standby = owner.other();
    let begun = Instant::now();
    let replica = www(&scene, standby);
    for round in 0..8 {
        fs::write(replica.join(format!("by mistake {round}")), "x").unwrap();
        scene.wait_until("one more to be kept", || {
            sync(&scene, owner);
            conflicts(&scene, standby).len() > round
        });
        // Everything that is in the store is counted in status, at the latest half a second later.
        scene.wait_until("it to be counted", || {
            scene.group(standby).mirror.conflicts > u64::try_from(round).unwrap()
        });
    }
    scene.wait_event(standby, 0, Kind::Conflict, "conflict store");
    let events = scene.events(standby);
    let told = events.iter().filter(|event| event.told.kind == Kind::Conflict).count() as u64;
    let allowed = 1 + begun.elapsed().as_secs() / limits::NEWS_CONFLICTS_EVERY.as_secs();
    assert!(told <= allowed, "{told} events");
}

fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program).args(arguments).output().unwrap();
    assert!(out.status.success(), "{program} {arguments:?}: {out:?}");
}

fn seed(from: &Path, to: &Path, program: &str, flags: &str) {
    let from = format!("{}/", from.display());
    run(program, &[flags, &from, to.to_str().unwrap()]);
}

/// A copy that was made by other means before anything was mirrored, with hard links: nothing of it is
/// anybody's change.
#[test]
fn a_seeded_replica_with_hard_links_makes_no_conflicts() {
    for (program, flags) in [("rsync", "-aHAX"), ("cp", "-aT"), ("rsync", "-aAX")] {
        let mut scene = empty();
        let (owner, standby) = (NodeIndex::Lower, NodeIndex::Upper);
        let (tree, replica) = (www(&scene, owner), www(&scene, standby));
        let spec = TreeSpec { files: 100, bytes: 1_000_000, seed: 7, specials: false };
        generate(&tree, &spec).unwrap();
        fs::create_dir(tree.join("linked")).unwrap();
        for number in 0..20 {
            fs::write(tree.join(format!("linked/{number}")), format!("file {number}")).unwrap();
            for name in ["a", "b"] {
                let also = tree.join(format!("linked/{name}-{number}"));
                fs::hard_link(tree.join(format!("linked/{number}")), also).unwrap();
            }
        }
        seed(&tree, &replica, program, flags);
        for node in [owner, standby] {
            scene.bed.power_on(node).unwrap();
        }
        scene.wait_served_by(owner);
        scene.wait_until("the question", || {
            scene.group(owner).mirror.state == MirrorState::Conflict
        });
        scene.tell(owner, &["sync", "web", "--from", node::name(owner)]);
        wait_in_sync(&scene);
        sync(&scene, owner);
        assert_equal(&scene);
        for node in NodeIndex::BOTH {
            no_conflicts(&scene, node);
        }
    }
}
