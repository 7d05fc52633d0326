//! What an administrator does to a pair by mistake, and a pair that is cut in two: nothing is lost, both
//! nodes tell, and one simple thing mends it. `docs/OPERATOR.md` says so.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::{GroupState, MirrorState, NodeState, PeerState};
use clusterd::limits;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::wiring::Plugs;
use clusterd_bed::{GROUP, node};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::mirror::{conflicts, sync, wait_in_sync};
use crate::scene::{Scene, ip};

const OWNER: NodeIndex = NodeIndex::Lower;

/// A whole pair in sync, with one file in its tree; the tree is below a place where a disk can be mounted.
fn in_sync() -> Scene {
    let mut scene = Scene::dark(|options| options.group = "mirror = [\"{srv}/disk/www\"]".into());
    for node in NodeIndex::BOTH {
        fs::create_dir_all(scene.bed.srv(node).join("disk/www")).unwrap();
    }
    fs::write(www(&scene, OWNER).join("page"), "x").unwrap();
    assert_eq!(scene.power_on(), OWNER);
    wait_in_sync(&scene);
    sync(&scene, OWNER);
    scene
}

fn www(scene: &Scene, node: NodeIndex) -> PathBuf {
    scene.bed.srv(node).join("disk/www")
}

fn wait_blocked(scene: &Scene, node: NodeIndex) {
    scene.wait("the mirror to be blocked", || match scene.group(node).mirror {
        mirror if mirror.state == MirrorState::Blocked => Ok(()),
        mirror => Err(format!("{mirror:?}")),
    });
}

/// The root is another directory than before, or none; then it is put back. The owner tells, and the node
/// whose root it is.
fn root_taken_away(node: NodeIndex, take: fn(&Scene, NodeIndex), put_back: fn(&Scene, NodeIndex)) {
    let scene = in_sync();
    let before = NodeIndex::BOTH.map(|node| scene.events(node).len());
    let other = www(&scene, node.other()).join("page");
    take(&scene, node);
    // The owner's next change, or the next look, finds it.
    fs::write(www(&scene, OWNER).join("news"), "n").ok();
    scene.bed.ask(OWNER, &["sync", GROUP]).unwrap();
    wait_blocked(&scene, node);
    let tellers = NodeIndex::BOTH.into_iter().zip(before);
    for (teller, before) in tellers.clone().filter(|(teller, _)| [OWNER, node].contains(teller)) {
        let told = scene.wait_event(teller, before, Kind::Mirror, "nothing is mirrored");
        let root = scene.bed.seen_srv().join("disk/www");
        assert!(told.told.text.contains(root.to_str().unwrap()), "{told:?}");
        assert!(!scene.group(teller).mirror.why.is_empty(), "it says why");
    }
    assert_eq!(fs::read_to_string(&other).unwrap(), "x", "nothing is deleted on the other node");
    assert_eq!(scene.bed.owner(), Some(OWNER), "nothing moves");
    put_back(&scene, node);
    wait_in_sync(&scene);
    sync(&scene, OWNER);
    for node in NodeIndex::BOTH {
        assert_eq!(fs::read_to_string(www(&scene, node).join("page")).unwrap(), "x");
    }
    // Each tells it once, and when it is over: not at each attempt.
    for (teller, before) in tellers {
        let told = scene.events(teller).into_iter().skip(before);
        let told: Vec<_> = told.filter(|event| event.told.kind == Kind::Mirror).collect();
        assert!(told.len() <= 3, "{told:#?}");
    }
}

fn rename_away(scene: &Scene, node: NodeIndex) {
    let root = www(scene, node);
    fs::rename(&root, root.with_extension("old")).unwrap();
}

fn swap(scene: &Scene, node: NodeIndex) {
    rename_away(scene, node);
    fs::create_dir(www(scene, node)).unwrap();
}

fn rename_back(scene: &Scene, node: NodeIndex) {
    let root = www(scene, node);
    // What was made in its place meanwhile.
    fs::remove_dir_all(&root).ok();
    fs::rename(root.with_extension("old"), root).unwrap();
}

fn mount_over(scene: &Scene, node: NodeIndex) {
    let root = scene.bed.seen_srv().join("disk/www");
    let cover = move || {
        mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    };
    scene.bed.wiring().seat(node).namespace.run(cover).unwrap();
}

fn unmount(scene: &Scene, node: NodeIndex) {
    let root = scene.bed.seen_srv().join("disk/www");
    let uncover = move || umount2(&root, MntFlags::MNT_DETACH).unwrap();
    scene.bed.wiring().seat(node).namespace.run(uncover).unwrap();
}

#[test]
fn p3_the_owners_root_is_renamed() {
    root_taken_away(OWNER, rename_away, rename_back);
}

#[test]
fn p3_the_owners_root_is_another_directory() {
    root_taken_away(OWNER, swap, rename_back);
}

#[test]
fn p3_the_owners_root_is_mounted_over() {
    root_taken_away(OWNER, mount_over, unmount);
}

#[test]
fn p3_the_standby_sides_root_is_renamed() {
    root_taken_away(OWNER.other(), rename_away, rename_back);
}

#[test]
fn p3_the_standby_sides_root_is_replaced() {
    root_taken_away(OWNER.other(), swap, rename_back);
}

#[test]
fn p3_the_standby_sides_root_is_mounted_over() {
    root_taken_away(OWNER.other(), mount_over, unmount);
}

#[test]
fn p2_the_last_node_on_duty_is_asked_to_stand_by() {
    let (mut scene, owner) = Scene::whole_pair();
    // Its peer is off duty: refused, with the way out.
    scene.tell(owner.other(), &["standby"]);
    scene.wait_peer(owner, PeerState::Standby);
    let (exit, _, why) = scene.ask(owner, &["standby"]);
    assert_eq!(exit, 1, "{why}");
    assert!(why.contains("cannot take over") && why.contains("bring"), "{why}");
    scene.tell(owner.other(), &["online"]);
    scene.whole();
    // Its peer is dead.
    scene.bed.power_cut(owner.other()).unwrap();
    scene.wait_peer(owner, PeerState::Dead);
    let (exit, _, why) = scene.ask(owner, &["standby"]);
    assert_eq!(exit, 1, "{why}");
    assert_eq!(scene.bed.owner(), Some(owner));
    scene.bed.power_on(owner.other()).unwrap();
    assert_eq!(scene.whole(), owner);
}

/// One gets there by two orders of which neither was wrong when it was given.
#[test]
fn p2_both_in_standby_serve_nothing_and_one_word_mends_it() {
    let mut scene = Scene::dark(|options| options.heartbeat = "boot_patience = \"1s\"".into());
    let first = scene.power_on();
    let second = first.other();
    scene.tell(first, &["standby"]);
    scene.wait_served_by(second);
    // The second one returns without a LAN, so it serves nothing and may stand by.
    scene.bed.power_cut(second).unwrap();
    scene.bed.plug(|plugs| *Plugs::of(&mut plugs.lan, second) = false).unwrap();
    scene.bed.power_on(second).unwrap();
    scene.wait_peer(second, PeerState::Standby);
    scene.tell(second, &["standby"]);
    scene.bed.plug(|plugs| plugs.lan = [true; 2]).unwrap();
    let mark = Instant::now();
    for node in NodeIndex::BOTH {
        scene.wait("no service, and both say so", || {
            match (scene.ask(node, &["status"]).0, scene.status(node).state) {
                (5, NodeState::Standby) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    scene.bed.watch_for(Duration::from_secs(3)).unwrap();
    assert_eq!(scene.bed.client.answer_since(mark), None, "an order is an order");
    scene.tell(second, &["online"]);
    scene.wait_served_by(second);
    scene.tell(second, &["online", node::name(first)]);
    assert_eq!(scene.whole(), second);
}

/// All three ways between the nodes are cut, and they do not hear each other's ARP, while both reach clients
/// and reach hosts: the one thing that a pair without fencing cannot know. Both serve. When it heals, one
/// stands and what the other wrote is kept, and both say so.
#[test]
fn p3_a_pair_cut_in_two_heals_and_keeps_what_both_wrote() {
    let mut scene = in_sync();
    fs::write(www(&scene, OWNER).join("both"), "before").unwrap();
    sync(&scene, OWNER);
    let began = Instant::now();
    isolate(&scene, true);
    scene.bed.plug(|plugs| (plugs.crossover, plugs.serial) = (false, false)).unwrap();
    scene.wait("both to serve", || {
        let serve = NodeIndex::BOTH.map(|node| scene.group(node).state);
        match serve == [GroupState::Active; 2] {
            true => Ok(()),
            false => Err(format!("{serve:?}")),
        }
    });
    for node in NodeIndex::BOTH {
        let name = node::name(node);
        fs::write(www(&scene, node).join(name), name).unwrap();
        fs::write(www(&scene, node).join("both"), name).unwrap();
    }
    // Longer than either asks the LAN for the other, which would settle it at once.
    scene.bed.watch_for(limits::RIVAL_ASKED_FOR * 2).unwrap();
    isolate(&scene, false);
    scene.bed.plug(|plugs| (plugs.crossover, plugs.serial) = (true, true)).unwrap();
    let stands = scene.whole();
    let yields = stands.other();
    let two = scene.bed.watcher.two_owners_since(began);
    assert!(two != TwoOwners::default(), "both did serve");
    wait_in_sync(&scene);
    sync(&scene, stands);
    for node in NodeIndex::BOTH {
        let read = |name: &str| fs::read_to_string(www(&scene, node).join(name)).ok();
        assert_eq!(read(node::name(stands)).as_deref(), Some(node::name(stands)));
        assert_eq!(read("both").as_deref(), Some(node::name(stands)));
        assert_eq!(read(node::name(yields)), None, "its changes are not in the tree");
    }
    let kept = conflicts(&scene, yields);
    for name in [node::name(yields), "both"] {
        assert!(kept.iter().any(|one| one["path"] == name), "{name} in {kept:?}");
    }
    scene.wait_event(yields, 0, Kind::Conflict, "conflict store");
    scene.wait_event(yields, 0, Kind::Release, "both nodes served it");
    scene.wait_event(stands, 0, Kind::Address, "both nodes served it");
    let mark = Instant::now();
    scene.bed.watch_for(Duration::from_secs(2)).unwrap();
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}

/// The nodes' ports of the LAN switch pass nothing to each other, but everything to everybody else.
fn isolate(scene: &Scene, isolated: bool) {
    let on = if isolated { "on" } else { "off" };
    for port in ["la", "lb"] {
        ip(&scene.bed.wiring().switch, &format!("link set {port} type bridge_slave isolated {on}"));
    }
}
