//! Somebody works on the copy on the standby side: nothing of it wins, and nothing is lost.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::MirrorState;
use clusterd_bed::judge;
use clusterd_bed::processes::Target;
use nix::sys::signal::Signal;

use crate::mirror::{assert_equal, conflicts, in_sync, no_conflicts, sync, wait_in_sync, www};
use crate::scene::Scene;

/// How a person finds out.
const TOLD: &str = "changed by somebody";

/// Some files that the tests know, in sync.
fn with_files() -> (Scene, NodeIndex) {
    let (scene, owner) = in_sync();
    let tree = www(&scene, owner);
    for number in 1..=9 {
        fs::write(tree.join(format!("f{number}")), format!("{number}")).unwrap();
    }
    fs::create_dir_all(tree.join("d/below")).unwrap();
    fs::write(tree.join("d/in"), "in").unwrap();
    fs::write(tree.join("d/below/deep"), "deep").unwrap();
    sync(&scene, owner);
    assert_equal(&scene);
    (scene, owner)
}

/// Removes everything below a root.
fn clear(tree: &Path) {
    for entry in fs::read_dir(tree).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

fn wait_equal(scene: &Scene) {
    let [lower, upper] = NodeIndex::BOTH.map(|node| www(scene, node));
    scene.wait("both trees to be the same", || {
        // Names may go while they are compared.
        match judge::differences(&lower, &upper) {
            Ok(differences) if differences.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

fn is_kept(kept: &[serde_json::Value], path: &str) -> bool {
    kept.iter().any(|one| one["path"] == path)
}

#[test]
fn what_is_changed_on_the_standby_side_is_restored_and_told() {
    let (scene, owner) = with_files();
    let replica = www(&scene, owner.other());
    fs::remove_file(replica.join("f1")).unwrap();
    fs::remove_dir_all(replica.join("d")).unwrap();
    fs::set_permissions(replica.join("f2"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(replica.join("f3"), "3, and more").unwrap();
    fs::File::options().write(true).open(replica.join("f4")).unwrap().set_len(0).unwrap();
    fs::rename(replica.join("f5"), replica.join("f5-away")).unwrap();
    fs::write(replica.join("made"), "made here").unwrap();
    wait_equal(&scene);
    wait_in_sync(&scene);
    for node in NodeIndex::BOTH {
        scene.wait_event(node, 0, Kind::Mirror, TOLD);
    }
    let kept = conflicts(&scene, owner.other());
    for path in ["f3", "f4", "f5-away", "made"] {
        assert!(is_kept(&kept, path), "{path} is not kept: {kept:#?}");
    }
    no_conflicts(&scene, owner);
}

#[test]
fn a_directory_that_is_renamed_on_the_standby_side_comes_back() {
    let (scene, owner) = with_files();
    let replica = www(&scene, owner.other());
    fs::rename(replica.join("d"), replica.join("e")).unwrap();
    wait_equal(&scene);
    assert_eq!(fs::read_to_string(replica.join("d/below/deep")).unwrap(), "deep");
    assert!(!replica.join("e").exists());
}

/// No time for anything but the answer.
#[test]
fn a_barrier_asks_the_standby_side() {
    let (scene, owner) = with_files();
    for _ in 0..3 {
        clear(&www(&scene, owner.other()));
        sync(&scene, owner);
        assert_equal(&scene);
    }
    no_conflicts(&scene, owner);
}

#[test]
fn p3_what_was_deleted_on_the_standby_side_is_there_after_a_move() {
    let (scene, owner) = with_files();
    clear(&www(&scene, owner.other()));
    // It is refused while the copy is not restored: a move has two seconds for it.
    scene.wait("the move", || match scene.ask(owner, &["move", "web"]) {
        (0, _, _) => Ok(()),
        refused => Err(format!("{refused:?}")),
    });
    scene.wait_served_by(owner.other());
    wait_in_sync(&scene);
    assert_equal(&scene);
    assert_eq!(fs::read_to_string(www(&scene, owner.other()).join("d/in")).unwrap(), "in");
}

/// The owner is stalled and dies: nobody restores. What it had is kept when it is back.
#[test]
fn p3_what_could_not_be_restored_before_a_takeover_is_kept_by_the_old_owner() {
    let (mut scene, owner) = with_files();
    let (dead, alive) = (owner, owner.other());
    scene.bed.signal(owner, Target::Worker, Signal::SIGSTOP).unwrap();
    let replica = www(&scene, alive);
    fs::remove_file(replica.join("f1")).unwrap();
    fs::write(replica.join("f2"), "changed").unwrap();
    fs::remove_dir_all(replica.join("d")).unwrap();
    scene.bed.power_cut(owner).unwrap();
    scene.wait_served_by(alive);
    let told = scene.wait_event(alive, 0, Kind::Mirror, "not by the owner");
    assert!(told.told.text.contains("/www/"), "{told:?}");
    scene.bed.power_on(dead).unwrap();
    assert_eq!(scene.whole(), alive);
    wait_in_sync(&scene);
    sync(&scene, alive);
    assert_equal(&scene);
    let kept = conflicts(&scene, dead);
    for path in ["f1", "f2", "d/in", "d/below/deep"] {
        assert!(
            www(&scene, dead).join(path).exists() && path != "f2" || is_kept(&kept, path),
            "{path} is lost: {kept:#?}"
        );
    }
    assert_eq!(fs::read_to_string(www(&scene, dead).join("f2")).unwrap(), "changed");
    assert!(!is_kept(&kept, "f3"), "nobody touched it: {kept:#?}");
}

/// Ten times a second: both go on with their work, and neither says much.
#[test]
fn a_writer_on_the_standby_side_keeps_nobody_busy() {
    let (scene, owner) = with_files();
    let before = NodeIndex::BOTH.map(|node| scene.events(node).len());
    let (path, stop) = (www(&scene, owner.other()).join("f1"), Arc::new(AtomicBool::new(false)));
    let over = stop.clone();
    let writer = std::thread::spawn(move || {
        for round in 0.. {
            if over.load(Ordering::Relaxed) {
                return;
            }
            fs::write(&path, format!("written here {round}")).unwrap();
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let begun = Instant::now();
    let mut number = 0;
    while begun.elapsed() < Duration::from_secs(10) {
        number += 1;
        fs::write(www(&scene, owner).join("counted"), format!("{number}")).unwrap();
        sync(&scene, owner);
        let there = fs::read_to_string(www(&scene, owner.other()).join("counted")).unwrap();
        assert_eq!(there, format!("{number}"));
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    wait_equal(&scene);
    wait_in_sync(&scene);
    for (node, before) in NodeIndex::BOTH.into_iter().zip(before) {
        let told: Vec<_> = scene.events(node).into_iter().skip(before).collect();
        let mirror = told.iter().filter(|event| event.told.kind == Kind::Mirror).count();
        // One a minute is told of such a writer, and the first may have come before.
        assert!(mirror <= 6, "{told:#?}");
    }
}

#[test]
fn what_is_changed_while_no_worker_watches_is_restored() {
    let (scene, owner) = with_files();
    let standby = owner.other();
    let before = scene.pid(standby, "clusterd-work");
    scene.bed.signal(standby, Target::Worker, Signal::SIGKILL).unwrap();
    fs::remove_file(www(&scene, standby).join("f1")).unwrap();
    fs::write(www(&scene, standby).join("f2"), "changed").unwrap();
    scene.wait_until("another worker", || {
        scene.pid(standby, "clusterd-work").is_some_and(|pid| Some(pid) != before)
    });
    wait_equal(&scene);
    assert!(is_kept(&conflicts(&scene, standby), "f2"));
}

/// A large series under way, and somebody writes into the copy meanwhile.
#[test]
fn a_writer_on_the_standby_side_while_much_comes_in() {
    let (scene, owner) = with_files();
    let (tree, replica) = (www(&scene, owner), www(&scene, owner.other()));
    fs::create_dir(tree.join("many")).unwrap();
    for number in 0..3000 {
        fs::write(tree.join(format!("many/{number}")), format!("{number}")).unwrap();
    }
    for round in 0..20 {
        fs::write(replica.join("f1"), format!("{round}")).unwrap();
        let _ = fs::remove_file(replica.join(format!("many/{}", round * 100)));
        std::thread::sleep(Duration::from_millis(50));
    }
    sync(&scene, owner);
    assert_equal(&scene);
}

#[test]
fn a_root_that_vanishes_on_the_standby_side_and_comes_back() {
    let (scene, owner) = with_files();
    let replica = www(&scene, owner.other());
    let away = replica.with_file_name("away");
    fs::rename(&replica, &away).unwrap();
    scene.wait_until("the owner to say that it is not in sync", || {
        scene.group(owner).mirror.state != MirrorState::InSync
    });
    fs::remove_file(away.join("f1")).unwrap();
    fs::rename(&away, &replica).unwrap();
    wait_equal(&scene);
    wait_in_sync(&scene);
    no_conflicts(&scene, owner);
}

#[test]
fn what_is_not_mirrored_is_nobodys_business() {
    let mut scene = Scene::dark(|options| {
        options.group = "mirror = [{ path = \"{srv}/www\", exclude = [\"*.tmp\"] }]".to_owned();
    });
    for node in NodeIndex::BOTH {
        fs::create_dir(www(&scene, node)).unwrap();
    }
    let owner = scene.power_on();
    wait_in_sync(&scene);
    let replica = www(&scene, owner.other());
    fs::write(replica.join("mine.tmp"), "x").unwrap();
    nix::unistd::mkfifo(&replica.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    sync(&scene, owner);
    assert!(replica.join("mine.tmp").exists());
    no_conflicts(&scene, owner.other());
}
