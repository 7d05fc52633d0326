//! What stands against a mirror is told by its cause, on both nodes, and is gone when the cause is gone.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::{Mirror, MirrorState};
use clusterd::limits::SYNC_PORT;
use clusterd::sys::ns::Namespace;
use clusterd_bed::processes::Target;
use nix::sys::signal::Signal;

use crate::scene::Scene;

const MIRROR: &str = "mirror = [\"{srv}/www\"]";
const OWNER: NodeIndex = NodeIndex::Lower;
const STANDBY: NodeIndex = NodeIndex::Upper;

fn www(scene: &Scene, node: NodeIndex) -> PathBuf {
    scene.bed.srv(node).join("www")
}

/// A dark bed with a mirrored tree.
fn dark() -> Scene {
    let scene = Scene::dark(|options| options.group = MIRROR.to_owned());
    for node in NodeIndex::BOTH {
        fs::create_dir(www(&scene, node)).unwrap();
    }
    fs::write(www(&scene, OWNER).join("page"), "one").unwrap();
    scene
}

fn in_sync() -> Scene {
    let mut scene = dark();
    assert_eq!(scene.power_on(), OWNER);
    wait_in_sync(&scene);
    scene
}

fn wait_in_sync(scene: &Scene) {
    for node in NodeIndex::BOTH {
        wait_mirror(scene, node, "in sync", |mirror| mirror.state == MirrorState::InSync);
    }
}

fn wait_mirror(scene: &Scene, node: NodeIndex, what: &str, is: impl Fn(&Mirror) -> bool) -> Mirror {
    scene.wait(what, || {
        let mirror = scene.group(node).mirror;
        if is(&mirror) { Ok(mirror) } else { Err(format!("{mirror:?}")) }
    })
}

fn run(namespace: &Namespace, program: &str, arguments: &[&str]) {
    let run = || Command::new(program).args(arguments).output().expect("it starts");
    let out = namespace.run(run).expect("a namespace");
    assert!(out.status.success(), "{program} {arguments:?}: {out:?}");
}

fn namespace(scene: &Scene, node: NodeIndex) -> &Namespace {
    &scene.bed.wiring().seat(node).namespace
}

/// Drops what comes for the mirror's port, on one interface or on all.
fn close_port(scene: &Scene, on: &str) {
    let rule = format!(
        "table inet cause {{ chain in {{ type filter hook input priority 0; policy accept; {on} tcp \
         dport {SYNC_PORT} drop; }}; }}"
    );
    for node in NodeIndex::BOTH {
        run(namespace(scene, node), "nft", &[&rule]);
    }
}

fn open_port(scene: &Scene) {
    for node in NodeIndex::BOTH {
        run(namespace(scene, node), "nft", &["flush", "ruleset"]);
    }
}

/// A new worker has no session.
fn kill_worker(scene: &Scene, node: NodeIndex) {
    scene.bed.signal(node, Target::Worker, Signal::SIGKILL).unwrap();
}

fn mirrors_on(scene: &Scene, text: &str) {
    fs::write(www(scene, OWNER).join("page"), text).unwrap();
    scene.wait_until("the page on the standby side", || {
        fs::read_to_string(www(scene, STANDBY).join("page")).ok().as_deref() == Some(text)
    });
}

#[test]
fn the_mirror_goes_back_to_the_crossover_when_that_opens() {
    let mut scene = dark();
    close_port(&scene, "iifname \"eth1\"");
    assert_eq!(scene.power_on(), OWNER);
    let by_lan = wait_mirror(&scene, OWNER, "the LAN to be used", |mirror| {
        mirror.state == MirrorState::InSync && mirror.why.contains("over the LAN")
    });
    assert!(by_lan.why.contains(&format!("port {SYNC_PORT}")), "{}", by_lan.why);
    mirrors_on(&scene, "two");
    open_port(&scene);
    wait_mirror(&scene, OWNER, "the crossover to be used", |mirror| {
        mirror.state == MirrorState::InSync && mirror.why.is_empty()
    });
    mirrors_on(&scene, "three");
    assert_eq!(scene.whole(), OWNER);
}

#[test]
fn a_closed_port_is_named_with_both_ways_and_the_cause_outlives_what_comes_after() {
    let scene = in_sync();
    close_port(&scene, "");
    kill_worker(&scene, STANDBY);
    let behind = wait_mirror(&scene, OWNER, "the cause", |mirror| {
        mirror.state == MirrorState::Behind && mirror.why.contains("over the LAN, ")
    });
    for part in ["the peer is not reached", "over the crossover, fe80", "port 694", "on eth1"] {
        assert!(behind.why.contains(part), "{part}: {}", behind.why);
    }
    // The session of before ended by the worker's death, not by the port.
    assert!(behind.why.contains("at first: "), "{}", behind.why);
    let at_standby = wait_mirror(&scene, STANDBY, "its word", |it| it.state == MirrorState::Behind);
    assert!(at_standby.why.contains("the owner has no session"), "{}", at_standby.why);
    let (code, _, error) = scene.ask(OWNER, &["sync", "web", "--wait", "--timeout", "2s"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("694"), "{error}");
    open_port(&scene);
    wait_in_sync(&scene);
    mirrors_on(&scene, "two");
}

#[test]
fn a_port_that_another_program_has_is_told_with_its_holder() {
    let scene = in_sync();
    let everywhere = (Ipv6Addr::UNSPECIFIED, SYNC_PORT);
    // The worker must not be faster.
    let taken = loop {
        kill_worker(&scene, STANDBY);
        let bind = || TcpListener::bind(everywhere);
        if let Ok(taken) = namespace(&scene, STANDBY).run(bind).unwrap() {
            break taken;
        }
    };
    let at_standby = wait_mirror(&scene, STANDBY, "the holder", |it| it.why.contains("process "));
    let me = format!("port {SYNC_PORT}: ");
    assert!(at_standby.why.contains(&me), "{}", at_standby.why);
    assert!(at_standby.why.contains(&std::process::id().to_string()), "{}", at_standby.why);
    wait_mirror(&scene, OWNER, "the owner's word", |it| it.state == MirrorState::Behind);
    drop(taken);
    wait_in_sync(&scene);
}

#[test]
fn a_sync_that_waits_for_a_dead_peer_says_so_at_once() {
    let mut scene = in_sync();
    scene.bed.power_cut(STANDBY).unwrap();
    scene.wait_peer(OWNER, clusterd::control::status::PeerState::Dead);
    let (code, _, error) = scene.ask(OWNER, &["sync", "web", "--wait"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("is dead"), "{error}");
}

/// It says what it waits for meanwhile, and at the end.
#[test]
fn a_sync_tells_how_far_it_is_and_ends_with_its_timeout() {
    let scene = in_sync();
    scene.bed.signal(STANDBY, Target::Worker, Signal::SIGSTOP).unwrap();
    fs::write(www(&scene, OWNER).join("page"), "two").unwrap();
    let (code, _, error) = scene.ask(OWNER, &["sync", "web", "--wait", "--timeout", "2s"]);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains("not everything is on the peer after 2 s"), "{error}");
    let meanwhile = error.lines().next().unwrap();
    assert!(meanwhile.starts_with("waiting for serv2: "), "{error}");
    scene.bed.signal(STANDBY, Target::Worker, Signal::SIGCONT).unwrap();
    let (code, out, error) = scene.ask(OWNER, &["sync", "web", "--wait", "--timeout", "1m"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("is on the peer"), "{out}");
    assert_eq!(fs::read_to_string(www(&scene, STANDBY).join("page")).unwrap(), "two");
    // What is no time is refused before anything is asked.
    let (code, _, error) = scene.ask(OWNER, &["sync", "web", "--wait", "--timeout", "soon"]);
    assert_eq!(code, 2, "{error}");
}

fn index(scene: &Scene, node: NodeIndex) -> PathBuf {
    scene.bed.node(node).events().with_file_name("mirror").join("web/index.redb")
}

/// P3: whatever becomes of an index, the group stays in service and the copy keeps its worth.
#[test]
fn p3_a_damaged_index_is_told_rebuilt_and_ends_nothing() {
    let mut scene = in_sync();
    for (round, node) in [STANDBY, OWNER].into_iter().enumerate() {
        let path = index(&scene, node);
        let told = scene.events(node).len();
        // While it runs, and before it writes again: the next worker finds it. In which half a small index
        // has its pages is chance, so nothing of it is left.
        scene.bed.signal(node, Target::Worker, Signal::SIGSTOP).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        kill_worker(&scene, node);
        let event = scene.wait_event(node, told, Kind::Fault, "index.redb");
        assert!(event.told.text.contains("damaged"), "{event:?}");
        wait_in_sync(&scene);
        mirrors_on(&scene, &format!("round {round}"));
        assert_eq!(scene.whole(), OWNER);
    }
    // The standby's copy is still worth a takeover, also with an index that is gone.
    scene.bed.power_cut(OWNER).unwrap();
    scene.wait_served_by(STANDBY);
    scene.bed.power_cut(STANDBY).unwrap();
    fs::remove_file(index(&scene, STANDBY)).unwrap();
    scene.bed.power_on(STANDBY).unwrap();
    scene.wait_served_by(STANDBY);
}

/// A loop device over a file, given back at the end.
struct Disk {
    device: String,
}

impl Disk {
    fn new(image: &Path) -> Disk {
        fs::File::create(image).unwrap().set_len(200 << 20).unwrap();
        let made = Command::new("mkfs.ext4").arg("-q").arg(image).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let out = Command::new("losetup").args(["--find", "--show"]).arg(image).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        Disk { device: String::from_utf8(out.stdout).unwrap().trim().to_owned() }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // With the last mount it goes by itself.
        let _ = Command::new("losetup").args(["--detach", &self.device]).status();
    }
}

/// P6: who waits for a disk that never answers is not redundant.
#[test]
fn p6_a_file_system_that_does_not_answer_is_told_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new(&directory.path().join("image"));
    let mut scene = dark();
    let srv = scene.bed.seen_srv();
    let place = srv.to_str().unwrap().to_owned();
    run(namespace(&scene, STANDBY), "mount", &[&disk.device, &place]);
    run(namespace(&scene, STANDBY), "mkdir", &[&format!("{place}/www")]);
    assert_eq!(scene.power_on(), OWNER);
    wait_in_sync(&scene);
    run(namespace(&scene, STANDBY), "fsfreeze", &["--freeze", &place]);
    fs::write(www(&scene, OWNER).join("page"), "two").unwrap();
    let stuck = wait_mirror(&scene, STANDBY, "the disk to be told", |it| {
        it.state == MirrorState::Blocked && it.why.contains("has not answered")
    });
    assert!(stuck.why.contains(&place), "{}", stuck.why);
    scene.wait_until("no redundancy", || !scene.group(OWNER).redundant);
    run(namespace(&scene, STANDBY), "fsfreeze", &["--unfreeze", &place]);
    wait_in_sync(&scene);
    scene.wait_until("redundancy", || scene.group(OWNER).redundant);
    scene.bed.power_cut(STANDBY).unwrap();
}

#[test]
fn a_run_directory_that_is_removed_comes_back() {
    let mut scene = in_sync();
    scene.hurts_nobody(&[], |scene| {
        for node in NodeIndex::BOTH {
            fs::remove_dir_all(scene.bed.node(node).run_dir()).unwrap();
        }
        for node in NodeIndex::BOTH {
            scene.wait_until("an answer", || scene.bed.status(node).is_some());
        }
    });
}
