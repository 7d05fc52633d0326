//! Files that are written to without a pause, between two real daemons: they hold up nobody.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use clusterd::config::NodeIndex;
use clusterd_bed::{GROUP, judge, node};

use crate::scene::Scene;

const MIRROR: &str = "mirror = [\"{srv}/www\"]";
/// Between two writes to each of the busy files.
const PAUSE: Duration = Duration::from_millis(50);
/// Length of a file that takes a while to read.
const LARGE_BYTES: u64 = 64 * 1024 * 1024;

fn www(scene: &Scene, node: NodeIndex) -> PathBuf {
    scene.bed.srv(node).join("www")
}

fn pair() -> (Scene, NodeIndex) {
    let mut scene = Scene::dark(|options| options.group = MIRROR.to_owned());
    for node in NodeIndex::BOTH {
        fs::create_dir(www(&scene, node)).unwrap();
    }
    let owner = scene.power_on();
    (scene, owner)
}

/// Rewrites pages of files, lets a log grow, and rewrites another file from its beginning.
struct Busy {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Busy {
    fn start(tree: &Path) -> Busy {
        let open = |name: &str, bytes: u64| {
            let path = tree.join(name);
            let file =
                OpenOptions::new().write(true).create(true).truncate(false).open(path).unwrap();
            file.set_len(bytes).unwrap();
            file.write_all_at(b"begin", bytes.saturating_sub(5)).unwrap();
            file
        };
        let mut pages: Vec<(File, u64)> = vec![(open("large", LARGE_BYTES), LARGE_BYTES)];
        pages.extend((0..10).map(|number| (open(&format!("hot-{number}"), 2_000_000), 2_000_000)));
        let log = open("log", 1_000_000);
        let again = tree.join("again");
        let stop = Arc::new(AtomicBool::new(false));
        let over = stop.clone();
        let thread = std::thread::spawn(move || {
            for round in 0u64.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                for (file, bytes) in &pages {
                    let place = round.wrapping_mul(7919) % (bytes / 4096) * 4096;
                    file.write_all_at(&round.to_le_bytes().repeat(512), place).unwrap();
                }
                log.write_all_at(&[b'x'; 5000], 1_000_000 + round * 5000).unwrap();
                fs::write(&again, vec![round as u8; 600_000]).unwrap();
                std::thread::sleep(PAUSE);
            }
        });
        Busy { stop, thread: Some(thread) }
    }

    fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn busy_files_hold_up_neither_others_nor_a_barrier_nor_a_move() {
    let (scene, owner) = pair();
    let (here, there) = (www(&scene, owner), www(&scene, owner.other()));
    let busy = Busy::start(&here);
    for number in 0..5 {
        let name = format!("small-{number}");
        fs::write(here.join(&name), &name).unwrap();
        scene.wait_until("a small file beside busy ones", || {
            fs::read_to_string(there.join(&name)).is_ok_and(|text| text == name)
        });
    }
    scene.tell(owner, &["sync", GROUP, "--wait"]);
    // Who wrote is a client of the service, and stops when that does: not before the move.
    scene.tell(owner, &["move", GROUP, node::name(owner.other())]);
    busy.stop();
    scene.wait_served_by(owner.other());
}

#[test]
fn busy_files_are_the_same_when_they_have_come_to_rest() {
    let (scene, owner) = pair();
    let busy = Busy::start(&www(&scene, owner));
    let before = scene.group(owner).mirror.commit;
    scene
        .wait_until("commits beside busy files", || scene.group(owner).mirror.commit >= before + 5);
    busy.stop();
    scene.tell(owner, &["sync", GROUP, "--wait"]);
    let [lower, upper] = NodeIndex::BOTH.map(|node| www(&scene, node));
    let differences = judge::differences(&lower, &upper).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
}
