//! The mirrored trees of a group, between two real daemons; rsync is the judge.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::MirrorState;
use clusterd_bed::processes::Target;
use clusterd_bed::tree::churn::Churn;
use clusterd_bed::tree::stamps::{How, Stamper, check_stamps};
use clusterd_bed::tree::{TreeSpec, generate};
use clusterd_bed::{judge, node};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

use crate::scene::Scene;

pub const MIRROR: &str = "mirror = [\"{srv}/www\"]";

pub fn www(scene: &Scene, node: NodeIndex) -> PathBuf {
    scene.bed.srv(node).join("www")
}

/// A dark bed with a mirrored tree, empty on both nodes.
pub fn empty() -> Scene {
    let scene = Scene::dark(|options| options.group = MIRROR.to_owned());
    for node in NodeIndex::BOTH {
        fs::create_dir(www(&scene, node)).unwrap();
    }
    scene
}

/// A whole pair with a tree of all kinds of entries, in sync; and its owner.
pub fn in_sync() -> (Scene, NodeIndex) {
    let mut scene = empty();
    let spec = TreeSpec { files: 300, bytes: 3_000_000, seed: 7, specials: false };
    generate(&www(&scene, NodeIndex::Lower), &spec).unwrap();
    let owner = scene.power_on();
    assert_eq!(owner, NodeIndex::Lower);
    wait_in_sync(&scene);
    (scene, owner)
}

pub fn wait_in_sync(scene: &Scene) {
    scene.wait("the mirror to be in sync", || {
        let both = NodeIndex::BOTH.map(|node| scene.group(node).mirror);
        if both.iter().all(|mirror| mirror.state == MirrorState::InSync) {
            Ok(())
        } else {
            Err(format!("{both:?}"))
        }
    });
}

/// Everything written until now is on the peer.
pub fn sync(scene: &Scene, owner: NodeIndex) {
    let (code, out, err) = scene.ask(owner, &["sync", "web", "--wait"]);
    assert_eq!(code, 0, "{out} {err}");
}

pub fn assert_equal(scene: &Scene) {
    let [lower, upper] = NodeIndex::BOTH.map(|node| www(scene, node));
    let differences = judge::differences(&lower, &upper).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
}

/// What a node keeps.
pub fn conflicts(scene: &Scene, node: NodeIndex) -> Vec<serde_json::Value> {
    let (code, out, err) = scene.ask(node, &["conflicts", "web", "list", "--json"]);
    assert_eq!(code, 0, "{out} {err}");
    let mut both: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    both.retain(|one| one["kept_by"] == node::name(node));
    both
}

pub fn no_conflicts(scene: &Scene, node: NodeIndex) {
    let kept = conflicts(scene, node);
    assert!(kept.is_empty(), "{kept:#?}");
}

/// Between two files of a [`Writer`]: some hundred a second, as a busy server would.
const WRITER_PAUSE: Duration = Duration::from_millis(2);
/// Between two rounds of stamps.
const STAMPER_PAUSE: Duration = Duration::from_millis(50);

/// Writes numbered files without an end, each whole by a rename.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(tree: &Path, prefix: &str) -> Writer {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (tree, prefix) = (tree.to_owned(), prefix.to_owned());
        let (over, count) = (stop.clone(), written.clone());
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let number = count.load(Ordering::Relaxed) + 1;
                let new = tree.join(".new");
                let mut file = fs::File::create(&new).unwrap();
                writeln!(file, "{number}").unwrap();
                fs::rename(new, tree.join(format!("{prefix}{number}"))).unwrap();
                count.store(number, Ordering::Relaxed);
                std::thread::sleep(WRITER_PAUSE);
            }
        });
        Writer { stop, written, thread: Some(thread) }
    }

    fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.written()
    }
}

/// How many times something is tried: more than usual if the variable says so, for a long run.
pub fn times(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |number| number.parse().unwrap())
}

/// `CLUSTERD_CHURNS`: how many rounds of changes.
#[test]
fn a_new_pair_mirrors_a_tree_of_all_kinds() {
    let (scene, owner) = in_sync();
    assert_equal(&scene);
    let mut churn = Churn::new(&www(&scene, owner), 3).unwrap();
    for _ in 0..times("CLUSTERD_CHURNS", 3) {
        for _ in 0..100 {
            churn.step().unwrap();
        }
        sync(&scene, owner);
        assert_equal(&scene);
    }
    no_conflicts(&scene, owner.other());
}

/// `CLUSTERD_CUTS`: how many, for a long run.
#[test]
fn p3_what_was_acknowledged_survives_a_power_cut_and_the_rest_is_kept() {
    let (mut scene, mut owner) = in_sync();
    for round in 0..times("CLUSTERD_CUTS", 3) {
        let prefix = format!("{round}-");
        let writer = Writer::start(&www(&scene, owner), &prefix);
        scene.wait_until("some writing", || writer.written() > 50);
        let acknowledged = writer.written();
        sync(&scene, owner);
        let more = writer.written();
        scene.wait_until("more writing", || writer.written() > more + 20);
        scene.bed.power_cut(owner).unwrap();
        let written = writer.stop();
        let (dead, alive) = (owner, owner.other());
        scene.wait_served_by(alive);
        for number in 1..=acknowledged {
            let name = format!("{prefix}{number}");
            assert!(www(&scene, alive).join(&name).exists(), "{name} was acknowledged and is lost");
        }
        scene.bed.power_on(dead).unwrap();
        owner = scene.whole();
        assert_eq!(owner, alive);
        wait_in_sync(&scene);
        sync(&scene, owner);
        assert_equal(&scene);
        let kept = conflicts(&scene, dead);
        for number in 1..=written {
            let name = format!("{prefix}{number}");
            let is_kept = kept.iter().any(|one| one["path"] == *name);
            assert!(
                www(&scene, owner).join(&name).exists() || is_kept,
                "{name} is neither in the tree nor in the conflict store: {kept:#?}"
            );
        }
    }
}

/// Power cuts in the middle of a round of stamps, after commits of which none was fuzzy: the replica is in order. What
/// was on its way when the power went, and nobody counts any more, may have been a fuzzy one: that excuses one cut, not
/// two.
#[test]
fn p3_a_replica_is_one_state_of_the_tree() {
    let (mut scene, mut owner) = in_sync();
    let (mut whole, mut torn) = (0, Vec::new());
    while whole < 2 {
        let name = format!("stamps-{}", whole + torn.len());
        let stamps = www(&scene, owner).join(&name);
        fs::create_dir(&stamps).unwrap();
        let stamping = Stamper::new(&stamps, How::Rename).unwrap().start(STAMPER_PAUSE).unwrap();
        let mut before = scene.group(owner).mirror;
        scene.wait_until("five commits in a row that are exact", || {
            let now = scene.group(owner).mirror;
            if now.fuzzy > before.fuzzy {
                before = now;
                return false;
            }
            now.commit >= before.commit + 5
        });
        scene.bed.power_cut(owner).unwrap();
        let stamped = stamping.finish().unwrap();
        scene.wait_served_by(owner.other());
        match check_stamps(&www(&scene, owner.other()).join(&name)) {
            Ok(found) => {
                assert!(found.is_some_and(|number| number <= stamped), "{found:?} of {stamped}");
                whole += 1;
            }
            Err(error) => torn.push(error.to_string()),
        }
        assert!(torn.len() < 2, "{torn:#?}");
        scene.bed.power_on(owner).unwrap();
        owner = owner.other();
        assert_eq!(scene.whole(), owner);
        wait_in_sync(&scene);
    }
}

#[test]
fn what_is_not_mirrored_is_named() {
    let mut scene = empty();
    let tree = www(&scene, NodeIndex::Lower);
    nix::unistd::mkfifo(&tree.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(tree.join("page"), "x").unwrap();
    let owner = scene.power_on();
    wait_in_sync(&scene);
    scene.wait_event(owner, 0, Kind::Mirror, "not mirrored");
    let skipped = scene.group(owner).mirror.skipped;
    assert!(skipped.iter().any(|path| path.contains("pipe: fifo")), "{skipped:?}");
    assert!(!www(&scene, owner.other()).join("pipe").exists());
}

#[test]
fn a_planned_move_takes_everything_along() {
    let (scene, owner) = in_sync();
    let writer = Writer::start(&www(&scene, owner), "w");
    scene.wait_until("some writing", || writer.written() > 50);
    let written = writer.stop();
    // Not synchronised by hand: the move does it.
    scene.tell(owner, &["move", "web"]);
    for number in 1..=written {
        let name = format!("w{number}");
        assert!(www(&scene, owner.other()).join(&name).exists(), "{name} was left behind");
    }
    wait_in_sync(&scene);
    assert_equal(&scene);
    no_conflicts(&scene, owner);
}

#[test]
fn p3_what_is_written_on_the_standby_side_is_kept() {
    let (scene, owner) = in_sync();
    let (tree, replica) = (www(&scene, owner), www(&scene, owner.other()));
    fs::write(tree.join("page"), "first").unwrap();
    sync(&scene, owner);
    fs::write(replica.join("page"), "written on the standby side").unwrap();
    fs::write(tree.join("page"), "second").unwrap();
    sync(&scene, owner);
    assert_eq!(fs::read_to_string(replica.join("page")).unwrap(), "second");
    let kept = conflicts(&scene, owner.other());
    assert_eq!(kept.len(), 1, "{kept:#?}");
    assert_eq!(kept[0]["path"], "page");
    let id = kept[0]["id"].as_str().unwrap();
    let (code, out, _) = scene.ask(owner.other(), &["conflicts", "web", "show", id]);
    assert_eq!(code, 0);
    assert!(out.contains("page"), "{out}");
    scene.wait_event(owner.other(), 0, Kind::Conflict, "conflict store");
    scene.wait_until("it to be counted", || scene.group(owner.other()).mirror.conflicts == 1);

    // What was kept is put back where it is owned, and goes to the other side from there.
    scene.tell(owner, &["move", "web"]);
    let (code, _, why) = scene.ask(owner.other(), &["conflicts", "web", "restore", id]);
    assert_eq!(code, 1, "over what is there");
    assert!(why.contains("--force"), "{why}");
    scene.tell(owner.other(), &["conflicts", "web", "restore", id, "--force"]);
    sync(&scene, owner.other());
    assert_eq!(fs::read_to_string(tree.join("page")).unwrap(), "written on the standby side");
    assert_equal(&scene);
    let kept = conflicts(&scene, owner.other());
    assert_eq!(kept.len(), 1, "what was replaced by hand: {kept:#?}");
    no_conflicts(&scene, owner);
}

/// No event tells of a store through a mapping; a barrier finds it anyway.
#[test]
fn a_file_that_is_written_through_a_mapping_comes_with_a_barrier() {
    let (scene, owner) = in_sync();
    let path = www(&scene, owner).join("mapped");
    fs::write(&path, [b'-'; 4096]).unwrap();
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    // SAFETY: nobody else writes to it or makes it shorter.
    let mut map = unsafe { memmap2::MmapMut::map_mut(&file).unwrap() };
    for round in b'0'..=b'5' {
        map[0] = round;
        sync(&scene, owner);
        assert_eq!(fs::read(www(&scene, owner.other()).join("mapped")).unwrap()[0], round);
    }
    assert_equal(&scene);
}

/// A node comes home by itself, with what was written while it was away.
#[test]
fn failback_waits_until_the_files_are_there() {
    let mut scene = Scene::dark(|options| {
        options.group = format!("{MIRROR}\nfailback = \"auto\"\nstable_for = \"1s\"");
    });
    for node in NodeIndex::BOTH {
        fs::create_dir(www(&scene, node)).unwrap();
    }
    let home = NodeIndex::Lower;
    assert_eq!(scene.power_on(), home);
    wait_in_sync(&scene);
    scene.bed.power_cut(home).unwrap();
    scene.wait_served_by(home.other());
    let writer = Writer::start(&www(&scene, home.other()), "away");
    scene.wait_until("some writing", || writer.written() > 300);
    let written = writer.stop();
    scene.bed.power_on(home).unwrap();
    scene.wait_served_by(home);
    for number in 1..=written {
        assert!(www(&scene, home).join(format!("away{number}")).exists(), "{number} was lost");
    }
    assert_eq!(scene.whole(), home);
    wait_in_sync(&scene);
    assert_equal(&scene);
    no_conflicts(&scene, home);
}

#[test]
fn a_killed_worker_moves_nothing_and_loses_nothing() {
    let (scene, owner) = in_sync();
    for (round, node) in [owner, owner.other()].into_iter().cycle().take(6).enumerate() {
        let mark = std::time::Instant::now();
        let writer = Writer::start(&www(&scene, owner), &format!("k{round}-"));
        scene.wait_until("some writing", || writer.written() > 20);
        let before = scene.pid(node, "clusterd-work");
        scene.bed.signal(node, Target::Worker, Signal::SIGKILL).unwrap();
        scene.wait_until("another worker", || {
            scene.pid(node, "clusterd-work").is_some_and(|pid| Some(pid) != before)
        });
        let more = writer.written();
        scene.wait_until("more writing", || writer.written() > more + 20);
        writer.stop();
        assert_eq!(scene.whole(), owner);
        assert_eq!(scene.bed.watcher.moves_since(mark), 0);
        wait_in_sync(&scene);
        sync(&scene, owner);
        assert_equal(&scene);
    }
    no_conflicts(&scene, owner.other());
}

#[test]
fn the_crossover_cut_is_bridged_by_the_lan() {
    let (mut scene, owner) = in_sync();
    scene.bed.plug(|plugs| plugs.crossover = false).unwrap();
    fs::write(www(&scene, owner).join("over the lan"), "x").unwrap();
    sync(&scene, owner);
    assert_equal(&scene);
    scene.bed.plug(|plugs| plugs.crossover = true).unwrap();
    fs::write(www(&scene, owner).join("back"), "x").unwrap();
    sync(&scene, owner);
    assert_equal(&scene);
}

#[test]
fn a_full_disk_on_the_peer_is_told_and_heals() {
    let mut scene = empty();
    let (owner, standby) = (NodeIndex::Lower, NodeIndex::Upper);
    let srv = scene.bed.seen_srv();
    // A small file system, seen by the standby side only.
    let place = srv.clone();
    let small = move || {
        let size = Some("size=80m");
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), size).unwrap();
        fs::create_dir(place.join("www")).unwrap();
    };
    scene.bed.wiring().seat(standby).namespace.run(small).unwrap();
    fs::write(www(&scene, owner).join("small"), "x").unwrap();
    assert_eq!(scene.power_on(), owner);
    wait_in_sync(&scene);
    // Comes as a whole: half of it would fit.
    let outside = scene.bed.srv(owner).join("big");
    fs::write(&outside, vec![5; 100_000_000]).unwrap();
    fs::rename(outside, www(&scene, owner).join("big")).unwrap();
    let told = scene.wait_event(owner, 0, Kind::Mirror, "no room");
    assert!(told.told.text.contains("behind"), "{told:?}");
    let replica = srv.join("www");
    let in_namespace = &scene.bed.wiring().seat(standby).namespace;
    let read = replica.clone();
    assert!(
        in_namespace
            .run(move || read.join("small").exists() && !read.join("big").exists())
            .unwrap()
    );
    let grow = srv.clone();
    let grown = move || {
        let size = Some("size=400m");
        mount(None::<&str>, &grow, None::<&str>, MsFlags::MS_REMOUNT, size).unwrap();
    };
    in_namespace.run(grown).unwrap();
    wait_in_sync(&scene);
    sync(&scene, owner);
    let length = in_namespace.run(move || fs::metadata(replica.join("big")).unwrap().len());
    assert_eq!(length.unwrap(), 100_000_000);
}

#[test]
fn a_root_that_is_not_mounted_mirrors_nothing_and_deletes_nothing() {
    let mut scene = Scene::dark(|options| options.group = "mirror = [\"{srv}/disk/www\"]".into());
    let (owner, standby) = (NodeIndex::Lower, NodeIndex::Upper);
    let disk = scene.bed.seen_srv().join("disk");
    for node in NodeIndex::BOTH {
        fs::create_dir_all(scene.bed.srv(node).join("disk/www")).unwrap();
    }
    let place = disk.clone();
    let mounted = move || {
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        fs::create_dir(place.join("www")).unwrap();
        fs::write(place.join("www/page"), "x").unwrap();
    };
    scene.bed.wiring().seat(owner).namespace.run(mounted).unwrap();
    assert_eq!(scene.power_on(), owner);
    wait_in_sync(&scene);
    let replica = scene.bed.srv(standby).join("disk/www/page");
    assert!(replica.exists());
    // What is seen now is the empty directory below.
    let place = disk.clone();
    let gone = move || umount2(&place, MntFlags::MNT_DETACH).unwrap();
    scene.bed.wiring().seat(owner).namespace.run(gone).unwrap();
    scene.tell(owner, &["sync", "web"]);
    scene.wait_event(owner, 0, Kind::Mirror, "is not the directory that was mirrored before");
    assert_eq!(scene.group(owner).mirror.state, MirrorState::Blocked);
    assert!(replica.exists(), "deleted");
}
