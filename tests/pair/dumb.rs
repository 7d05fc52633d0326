//! The node that served last is back, and cannot say what its disk holds: its file system, or its worker, does not
//! answer. The other one's copy may be older: it waits for a person.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::{MirrorState, PeerState};
use clusterd_bed::limits;
use clusterd_bed::{GROUP, node};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::mirror::{assert_equal, conflicts, sync, wait_in_sync, www};
use crate::scene::Scene;
use crate::setback::{few_in_sync, wait_alone_on_disk};

/// Served last.
const A: NodeIndex = NodeIndex::Lower;
/// Was away then.
const B: NodeIndex = NodeIndex::Upper;

/// A file of A's state that does not answer who opens it, as on a dead NFS; and what is in it.
struct Mute {
    path: PathBuf,
    content: Vec<u8>,
}

impl Mute {
    fn new(scene: &Scene) -> Mute {
        let path = scene.bed.node(A).dir().join("state/mirror").join(GROUP).join("copy");
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        Mute { path, content }
    }

    /// It answers.
    fn ends(&self) {
        let mut file = OpenOptions::new().write(true).open(&self.path).unwrap();
        fs::remove_file(&self.path).unwrap();
        fs::write(&self.path, &self.content).unwrap();
        file.write_all(&self.content).unwrap();
    }
}

/// B was away while A served on; both are back, and A's disk does not answer.
fn mute() -> (Scene, Mute) {
    let mut scene = few_in_sync();
    scene.bed.power_cut(B).unwrap();
    scene.wait_peer(A, PeerState::Dead);
    wait_alone_on_disk(&scene, A);
    fs::write(www(&scene, A).join("page"), "newest").unwrap();
    scene.bed.power_cut(A).unwrap();
    let mute = Mute::new(&scene);
    for node in NodeIndex::BOTH {
        scene.bed.power_on(node).unwrap();
    }
    scene.wait("A to say what it waits for", || match scene.group(A).mirror {
        mirror if mirror.state == MirrorState::Blocked && mirror.why.contains("answered") => Ok(()),
        mirror => Err(format!("{mirror:?}")),
    });
    scene.wait("B to say what it waits for", || match scene.group(B) {
        group if group.why.contains("behind the peer's by an unknown time") => Ok(()),
        group => Err(format!("{group:?}")),
    });
    (scene, mute)
}

fn page(scene: &Scene, node: NodeIndex) -> String {
    fs::read_to_string(www(scene, node).join("page")).unwrap()
}

#[test]
fn p3_an_older_copy_waits_for_one_whose_disk_does_not_answer() {
    let (scene, mute) = mute();
    let mark = std::time::Instant::now();
    scene.bed.watch_for(limits::BED_WATCH).unwrap();
    assert_eq!(scene.bed.client.answer_since(mark), None, "nobody serves");
    for node in NodeIndex::BOTH {
        assert_eq!(scene.ask(node, &["status"]).0, 5);
        assert!(!scene.group(node).redundant);
    }
    scene.wait_event(A, 0, Kind::Fault, "has not answered");
    mute.ends();
    scene.wait_served_by(A);
    assert_eq!(scene.whole(), A);
    wait_in_sync(&scene);
    sync(&scene, A);
    assert_equal(&scene);
    assert_eq!(page(&scene, B), "newest");
}

#[test]
fn p3_a_person_may_serve_the_older_copy_and_the_newer_one_is_kept() {
    let (scene, mute) = mute();
    let (exit, _, why) = scene.ask(B, &["move", GROUP]);
    assert!(exit == 1 && why.contains("--accept-loss"), "{exit} {why}");
    scene.tell(B, &["move", GROUP, node::name(B), "--accept-loss"]);
    scene.wait_served_by(B);
    assert_eq!(page(&scene, B), "before3");
    mute.ends();
    assert_eq!(scene.whole(), B);
    wait_in_sync(&scene);
    assert_equal(&scene);
    let kept = conflicts(&scene, A);
    assert!(kept.iter().any(|one| one["path"] == "page"), "{kept:#?}");
}
