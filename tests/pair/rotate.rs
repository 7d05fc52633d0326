//! Another key for a running pair, while a client asks and a mirror mirrors.

use std::fs;
use std::path::PathBuf;

use clusterd::config::NodeIndex;
use clusterd::config::key;
use clusterd::config::ring::{KeyRing, KeyState};
use clusterd::control::event::Kind;
use clusterd::control::status::PathState;
use clusterd_bed::node;
use nix::sys::signal::Signal;

use crate::mirror::{assert_equal, in_sync, sync, www};
use crate::scene::Scene;
use crate::wills::taken_over_by_will;

/// The bed's nodes read one file: what `scp` would bring is there.
fn file(scene: &Scene) -> PathBuf {
    let config = scene.bed.node(NodeIndex::Lower).config().to_owned();
    config.parent().expect("a directory").join("cluster.key")
}

const PATHS: [&str; 3] = ["crossover", "serial", "lan"];

fn keys(scene: &Scene) -> KeyRing {
    key::read(&file(scene)).expect("keys")
}

fn put(scene: &Scene, ring: &KeyRing) {
    key::replace(&file(scene), ring).expect("written");
}

fn key_is(scene: &Scene, node: NodeIndex, state: KeyState) {
    scene.wait("the key to be so", || match scene.bed.status(node).map(|status| status.key) {
        Some(is) if is == state => Ok(()),
        is => Err(format!("{is:?}, not {state:?}")),
    });
}

fn rotate(scene: &Scene, node: NodeIndex, arguments: &[&str], code: i32, says: &str) {
    let verb = [&["key", "rotate"], arguments].concat();
    let (exit, out, err) = scene.ask(node, &verb);
    assert_eq!(exit, code, "{out} {err}");
    assert!(out.contains(says) || err.contains(says), "{says:?} in {out} {err}");
}

/// Every path is up on both sides.
fn every_path(scene: &Scene) {
    scene.wait_until("every path to be up", || {
        NodeIndex::BOTH.into_iter().all(|node| {
            let status = scene.bed.status(node);
            status.is_some_and(|s| s.peer.paths.iter().all(|path| path.state == PathState::Up))
        })
    });
}

/// A daemon begun anew: it reads its files.
fn new_daemon(scene: &mut Scene, who: NodeIndex) {
    scene.bed.kill(who).expect("killed");
    scene.bed.start_processes(who).expect("started");
    scene.whole();
}

/// Does `work`, by which no address moves, no path and no mirror changes and no process ends.
fn unnoticed(scene: &mut Scene, work: impl FnOnce(&mut Scene)) {
    let owner = scene.whole();
    let pids = NodeIndex::BOTH.map(|node| scene.pids(node));
    let events = NodeIndex::BOTH.map(|node| scene.events(node).len());
    let mark = std::time::Instant::now();
    work(scene);
    assert_eq!(scene.whole(), owner, "the group moved");
    scene.bed.cross_check().expect("a watcher that sees");
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    assert_eq!(scene.bed.watcher.missed(), 0);
    assert_eq!(NodeIndex::BOTH.map(|node| scene.pids(node)), pids, "a process ended");
    for (node, skip) in NodeIndex::BOTH.into_iter().zip(events) {
        for event in scene.events(node).into_iter().skip(skip) {
            let harmless = matches!(event.told.kind, Kind::Config | Kind::Late | Kind::Stall);
            assert!(harmless, "{} told {event:?}", node::name(node));
        }
    }
}

#[test]
fn p1_the_key_changes_and_nobody_notices() {
    let (mut scene, owner) = in_sync();
    let other = owner.other();
    let old = keys(&scene);
    // A plain serial frame before the two know each other's config does not fit either.
    let misfits = [owner, other].map(|node| PATHS.map(|path| scene.refused(node, path, "bad-tag")));
    unnoticed(&mut scene, |scene| {
        rotate(scene, owner, &["--finish"], 0, "no change is under way");
        rotate(scene, other, &[], 0, "clusterd reload");
        assert_eq!(keys(scene).before, Some(old.newest));
        key_is(scene, other, KeyState::Waiting);
        key_is(scene, owner, KeyState::Settled);
        rotate(scene, other, &["--finish"], 1, "is not known to use the new key");
        // Again: the same key, the same steps.
        let begun = keys(scene);
        rotate(scene, other, &[], 0, "clusterd reload");
        assert_eq!(keys(scene), begun);
        let (_, shown, _) = scene.ask(other, &["status"]);
        assert!(shown.contains("the key is being changed"), "{shown}");
        fs::write(www(scene, owner).join("between"), "keys").expect("written");
        sync(scene, owner);
        scene.tell(owner, &["reload"]);
        for node in NodeIndex::BOTH {
            key_is(scene, node, KeyState::Agreed);
        }
        rotate(scene, owner, &[], 0, "--finish");
        sync(scene, owner);
        rotate(scene, owner, &["--finish"], 0, "accepts the old key no longer");
        key_is(scene, owner, KeyState::Settled);
        assert_eq!(keys(scene), KeyRing { before: None, ..begun });
        // The other node's file would be as it was.
        sync(scene, owner);
        put(scene, &begun);
        key_is(scene, other, KeyState::Agreed);
        rotate(scene, other, &["--finish"], 0, "accepts the old key no longer");
        key_is(scene, other, KeyState::Settled);
        every_path(scene);
        // The announcements alone did not fit, as long as the owner did not know the key.
        for (path, before) in PATHS.into_iter().zip(misfits[1]) {
            assert_eq!(scene.refused(other, path, "bad-tag"), before, "{path}");
        }
        assert_eq!(scene.refused(owner, "serial", "bad-tag"), misfits[0][1]);
        assert!(scene.refused(owner, "lan", "bad-tag") > 0);
        sync(scene, owner);
        let (code, out, err) = scene.ask(other, &["conflicts", "web", "list"]);
        assert_eq!(code, 0, "{out} {err}");
    });
    assert_equal(&scene);
    // What is read at a start is what is in use.
    new_daemon(&mut scene, other);
    every_path(&scene);
    // The old key is a wrong one now, and refused as one; what is in use stays.
    let new = keys(&scene);
    put(&scene, &old);
    let (code, _, err) = scene.ask(owner, &["reload"]);
    assert!(code == 1 && err.contains("does not contain this daemon's newest key"), "{err}");
    put(&scene, &new);
    assert!(scene.tell(owner, &["reload"]).contains("nothing has changed"));
}

#[test]
fn p1_each_phase_stands_new_hearts_and_new_daemons() {
    let (mut scene, owner) = Scene::whole_pair();
    let other = owner.other();
    let both = [owner, other];
    let restarts = |scene: &mut Scene| {
        // What the guard says for a dead heart is read, too, from either node.
        for _ in both {
            let serving = scene.whole();
            taken_over_by_will(scene, serving, Signal::SIGKILL);
            every_path(scene);
        }
        new_daemon(scene, other);
        every_path(scene);
    };
    // One has the new key, and the other begins with the file before.
    let old = keys(&scene);
    rotate(&scene, owner, &[], 0, "clusterd reload");
    let two = keys(&scene);
    put(&scene, &old);
    restarts(&mut scene);
    key_is(&scene, owner, KeyState::Waiting);
    key_is(&scene, other, KeyState::Settled);
    put(&scene, &two);
    // Both have it: the file is there when the other node comes up.
    restarts(&mut scene);
    for node in both {
        key_is(&scene, node, KeyState::Agreed);
    }
    // One has dropped the old one; the other still has both, on disk, too.
    rotate(&scene, owner, &["--finish"], 0, "");
    let one = keys(&scene);
    put(&scene, &two);
    restarts(&mut scene);
    key_is(&scene, owner, KeyState::Settled);
    key_is(&scene, other, KeyState::Agreed);
    rotate(&scene, other, &["--finish"], 0, "");
    assert_eq!(keys(&scene), one);
    restarts(&mut scene);
    for node in both {
        key_is(&scene, node, KeyState::Settled);
    }
}

#[test]
fn p2_a_change_begun_on_both_nodes_ends_with_one_key() {
    let (mut scene, owner) = Scene::whole_pair();
    let other = owner.other();
    let old = keys(&scene);
    rotate(&scene, owner, &[], 0, "clusterd reload");
    let first = keys(&scene);
    put(&scene, &old);
    rotate(&scene, other, &[], 0, "clusterd reload");
    assert_ne!(keys(&scene), first);
    for node in NodeIndex::BOTH {
        key_is(&scene, node, KeyState::Waiting);
    }
    put(&scene, &first);
    let (code, _, err) = scene.ask(other, &["reload"]);
    assert!(code == 1 && err.contains("restart clusterd on this node"), "{err}");
    every_path(&scene);
    new_daemon(&mut scene, other);
    for node in NodeIndex::BOTH {
        key_is(&scene, node, KeyState::Agreed);
    }
    every_path(&scene);
}
