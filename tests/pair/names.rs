//! Number 11: files of many names, all of which move together, live.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;

use crate::mirror::{assert_equal, no_conflicts, sync, times, wait_in_sync, www};
use crate::scene::Scene;
use crate::setback::few_in_sync;

const OWNER: NodeIndex = NodeIndex::Lower;

fn append(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

/// `ln a b`, and then a write to `b`: nothing tells of `a`.
#[test]
fn what_is_written_by_one_name_is_on_the_peer_by_the_other() {
    let scene = few_in_sync();
    let [here, there] = [OWNER, OWNER.other()].map(|node| www(&scene, node));
    fs::write(here.join("a"), "one").unwrap();
    sync(&scene, OWNER);
    fs::hard_link(here.join("a"), here.join("b")).unwrap();
    append(&here.join("b"), ", two");
    for (name, text) in [("a", "one, two"), ("b", "one, two")] {
        scene.wait("what was written", || match fs::read_to_string(there.join(name)) {
            Ok(now) if now == text => Ok(()),
            other => Err(format!("{name}: {other:?}")),
        });
    }
    append(&here.join("a"), ", three");
    scene.wait_until("what was written by the first name", || {
        fs::read_to_string(there.join("b")).is_ok_and(|text| text == "one, two, three")
    });
    sync(&scene, OWNER);
    assert_equal(&scene);
    let inode = |name: &str| fs::metadata(there.join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
    fs::remove_file(here.join("a")).unwrap();
    append(&here.join("b"), ", four");
    scene.wait_until("the name that is left", || {
        fs::read_to_string(there.join("b")).is_ok_and(|text| text.ends_with("four"))
    });
    scene.wait_until("the name that went to go", || !there.join("a").exists());
}

/// Longest that much is waited for.
const MUCH: Duration = Duration::from_secs(600);

/// Everything written until now is on the peer.
pub fn sync_much(scene: &Scene) {
    let out = scene.bed.ask_within(OWNER, &["sync", "web", "--wait"], MUCH).unwrap();
    assert!(out.status.success(), "{out:?}");
}

/// The most memory that a node's worker has had, in kB.
fn peak_kb(scene: &Scene, node: NodeIndex) -> String {
    let pid = scene.pid(node, "clusterd-work").unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.trim_start_matches("VmHWM:").trim().to_owned()
}

/// `CLUSTERD_NAMES`: how many; what it takes is printed.
#[test]
fn many_names_of_one_file_are_names_of_one_file_on_the_peer() {
    let count = times("CLUSTERD_NAMES", 3000);
    let scene = few_in_sync();
    let [here, there] = [OWNER, OWNER.other()].map(|node| www(&scene, node));
    let tell = |what: &str, begun: Instant| {
        let peaks = NodeIndex::BOTH.map(|node| peak_kb(&scene, node));
        println!("{what}: {:.1} s, workers at most {peaks:?}", begun.elapsed().as_secs_f64());
    };
    let begun = Instant::now();
    fs::create_dir(here.join("names")).unwrap();
    let first = here.join("names/0");
    fs::write(&first, "one").unwrap();
    for number in 1..count {
        fs::hard_link(&first, here.join(format!("names/{number}"))).unwrap();
    }
    tell("made", begun);
    sync_much(&scene);
    tell("mirrored", begun);
    let is_whole = |text: &str| {
        let first = fs::metadata(there.join("names/0")).unwrap();
        assert_eq!(first.nlink(), count);
        assert_eq!(fs::read_to_string(there.join("names/0")).unwrap(), text);
        for number in 1..count {
            let ino = fs::metadata(there.join(format!("names/{number}"))).unwrap().ino();
            assert_eq!(ino, first.ino(), "{number}");
        }
    };
    is_whole("one");
    let begun = Instant::now();
    append(&here.join(format!("names/{}", count - 1)), ", two");
    sync_much(&scene);
    tell("written to by the last name", begun);
    is_whole("one, two");
    let begun = Instant::now();
    fs::remove_dir_all(here.join("names")).unwrap();
    wait_in_sync(&scene);
    sync_much(&scene);
    tell("removed", begun);
    assert!(!there.join("names").exists());
    no_conflicts(&scene, OWNER.other());
}
