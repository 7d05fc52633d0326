//! Two engines with real trees, and a cable between them that is cut after every frame in turn.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::*;
use crate::config::{Hash, NodeIndex};
use crate::mirror::fixture::snapshot;
use crate::mirror::transport::loopback::{Cable, PATIENCE, arrive};
use crate::sys::ns::Namespace;

const GENERATION: Generation = Generation { number: 1, owner: NodeIndex::Lower, id: 9 };

/// An engine that runs. Its trees are seen by it at the same place as the other's.
struct Side {
    srv: PathBuf,
    handle: Handle,
    told: mpsc::Receiver<Telling>,
    thread: Option<JoinHandle<()>>,
}

impl Side {
    fn start(dir: &Path, name: &str, dial: Dial) -> Side {
        let (srv, state, seen) =
            (dir.join(name), dir.join(format!("{name}-state")), dir.join("srv"));
        fs::create_dir_all(srv.join("www")).unwrap();
        fs::create_dir_all(&seen).unwrap();
        let mut namespace = Namespace::new().unwrap();
        namespace.see(&srv, &seen).unwrap();
        let setup = Setup {
            cluster: "pair".into(),
            node: name.into(),
            group: "web".into(),
            trees: vec![config::Tree {
                path: seen.join("www"),
                exclude: Vec::new(),
                hash: Hash::Auto,
            }],
            state,
            dial,
        };
        let (tell, told) = mpsc::channel();
        let (give, given) = mpsc::channel();
        let thread = thread::spawn(move || {
            namespace.enter().unwrap();
            let (engine, handle) = Engine::new(setup).unwrap();
            give.send(handle).unwrap();
            engine.run(|telling| {
                // The test may have ended.
                let _ = tell.send(telling);
            });
        });
        let handle = given.recv_timeout(PATIENCE).unwrap();
        Side { srv, handle, told, thread: Some(thread) }
    }

    fn tree(&self) -> PathBuf {
        self.srv.join("www")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.handle.end();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

/// The owner, the standby side, and how many frames each next cable lets through: then any number.
struct Engines {
    owner: Side,
    standby: Side,
    budgets: Arc<Mutex<Vec<u64>>>,
    cables: Arc<Mutex<Vec<Cable>>>,
    requests: u64,
    _directory: tempfile::TempDir,
}

impl Engines {
    fn new() -> Engines {
        let directory = tempfile::tempdir().unwrap();
        let nowhere: Dial = Arc::new(|_| Err("not the owner".to_owned()));
        let standby = Side::start(directory.path(), "standby", nowhere);
        let budgets = Arc::new(Mutex::new(Vec::new()));
        let cables = Arc::new(Mutex::new(Vec::new()));
        // Loopback is up where the test began, and not in the engines' namespaces.
        let (ask, asked) = mpsc::channel::<mpsc::Sender<Link>>();
        let (frames, laid, handle) = (budgets.clone(), cables.clone(), standby.handle.clone());
        thread::spawn(move || {
            for answer in asked {
                let budget = frames.lock().unwrap().pop().unwrap_or(u64::MAX);
                let (cable, near, far) = Cable::new(budget);
                laid.lock().unwrap().push(cable);
                let handle = handle.clone();
                thread::spawn(move || arrive(far).map(|link| handle.arrived(link)));
                let _ = answer.send(near);
            }
        });
        let dial: Dial = Arc::new(move |_| {
            let (answer, answered) = mpsc::channel();
            ask.send(answer).map_err(|error| error.to_string())?;
            answered.recv_timeout(PATIENCE).map_err(|error| error.to_string())
        });
        let owner = Side::start(directory.path(), "owner", dial);
        standby.handle.order(1, MirrorDuty::In(GENERATION), PeerSync::default());
        owner.handle.order(1, MirrorDuty::Out(GENERATION), PeerSync::default());
        Engines { owner, standby, budgets, cables, requests: 0, _directory: directory }
    }

    /// The next link ends after so many frames; the one that there is ends now.
    fn cut_after(&self, frames: u64) {
        self.budgets.lock().unwrap().push(frames);
        for cable in self.cables.lock().unwrap().drain(..) {
            cable.cut();
        }
    }

    /// Everything written until now is on the other side.
    fn sync(&mut self) {
        self.requests += 1;
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.owner.handle.sync(self.requests);
            let left = deadline.saturating_duration_since(Instant::now());
            match self.owner.told.recv_timeout(left).expect("an answer") {
                Telling::Synced { request, outcome: Ok(_) } if request == self.requests => return,
                // It had not begun yet.
                Telling::Synced { .. } | Telling::Report(_) | Telling::Note(..) => {}
            }
        }
    }

    fn assert_same(&self) {
        assert_eq!(snapshot(&self.standby.tree()), snapshot(&self.owner.tree()));
    }

    fn assert_no_conflicts(&self) {
        let beside = fs::read_dir(&self.standby.srv).unwrap().map(|entry| entry.unwrap().path());
        let area = beside.into_iter().find(|path| !path.ends_with("www")).unwrap();
        assert_eq!(fs::read_dir(area.join("conflicts")).unwrap().count(), 0, "nobody wrote there");
    }
}

/// One change of each kind, others each time.
fn change(tree: &Path, round: u64) {
    let at = |name: &str| tree.join(name);
    let large: Vec<u8> = (0..600_000u64).map(|place| (place * (round + 7) / 997) as u8).collect();
    fs::write(at("large"), large).unwrap();
    fs::write(at("small"), format!("{round}")).unwrap();
    fs::create_dir(at(&format!("dir-{round}"))).unwrap();
    fs::write(at(&format!("dir-{round}/file")), "in a directory").unwrap();
    fs::hard_link(at("small"), at(&format!("link-{round}"))).unwrap();
    symlink("small", at(&format!("symlink-{round}"))).unwrap();
    if let Some(before) = round.checked_sub(2) {
        // What came two rounds ago goes.
        let _ = fs::remove_dir_all(at(&format!("dir-{before}")));
        let _ = fs::remove_file(at(&format!("link-{before}")));
    }
}

/// P3 for the link: wherever it ends, the next one finds what is missing.
#[test]
fn p3_a_link_cut_after_any_frame_loses_nothing() {
    let mut engines = Engines::new();
    engines.sync();
    for frames in 0.. {
        engines.cut_after(frames);
        change(&engines.owner.tree(), frames);
        engines.sync();
        engines.assert_same();
        let cables = engines.cables.lock().unwrap();
        // It was enough for everything: no frame is left to be cut after.
        if frames > 0 && cables.iter().all(|cable| !cable.is_spent()) {
            assert!(frames > 20, "a session of {frames} frames");
            break;
        }
    }
    engines.assert_no_conflicts();
}
