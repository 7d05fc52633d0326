//! Two engines with real trees, and a cable between them that is cut after every frame in turn; or one of
//! them ends there.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use super::owner::{Obstacle, Owner};
use super::*;
use crate::config::{Hash, NodeIndex};
use crate::mirror::fixture::snapshot;
use crate::mirror::session::sender;
use crate::mirror::transport::loopback::{Cable, PATIENCE, arrive};
use crate::sys::ns::Namespace;
use clusterd_bed::tree::churn::Churn;
use clusterd_bed::tree::{TreeSpec, generate};

/// Longest that nothing is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// An engine that runs. Its trees are seen by it at the same place as the other's.
struct Side {
    handle: Handle,
    told: mpsc::Receiver<Telling>,
    thread: Option<JoinHandle<()>>,
}

impl Side {
    fn start(dir: &Path, name: &str, duty: MirrorDuty, dial: Dial, max_delete_percent: u8) -> Side {
        let (srv, seen) = (dir.join(name), dir.join("srv"));
        let mut namespace = Namespace::new().unwrap();
        namespace.see(&srv, &seen).unwrap();
        let tree = config::Tree {
            path: seen.join("www"),
            exclude: Vec::new(),
            hash: Hash::Auto,
            max_delete_percent,
        };
        let setup = Setup {
            cluster: "pair".into(),
            node: name.into(),
            me: NodeIndex::Lower,
            group: "web".into(),
            trees: vec![tree],
            state: dir.join(format!("{name}-state")),
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
        handle.order(1, duty, PeerSync::default(), MirrorTerms::default());
        Side { handle, told, thread: Some(thread) }
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        self.handle.end();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(thread::panicking() || ended.is_none_or(|ended| ended.is_ok()));
    }
}

/// What ends when a cable has let its frames through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Link,
    Owner,
    Standby,
}

/// The cables that were laid, and how many frames each next one lets through: then any number.
#[derive(Default)]
struct Layer {
    budgets: Vec<u64>,
    laid: Vec<Cable>,
    /// Where cables lead to.
    standby: Option<Handle>,
}

/// The owner, the standby side, and what is between them.
struct Engines {
    directory: tempfile::TempDir,
    _owner_disk: tempfile::TempDir,
    owner: Option<Side>,
    standby: Option<Side>,
    layer: Arc<Mutex<Layer>>,
    dial: Dial,
    generation: Generation,
    max_delete_percent: u8,
    /// What the owner was told that its peer cannot take.
    refused: Vec<String>,
}

impl Engines {
    fn new() -> Engines {
        Engines::with_brake(limits::MAX_DELETE_PERCENT)
    }

    fn with_brake(max_delete_percent: u8) -> Engines {
        let directory = tempfile::tempdir().unwrap();
        // A file system of its own, as on another machine: no event of the other side's is told here.
        let owner_disk = tempfile::tempdir_in("/dev/shm").unwrap();
        symlink(owner_disk.path(), directory.path().join("owner")).unwrap();
        for path in ["srv", "owner/www", "standby/www"] {
            fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        let layer = Arc::new(Mutex::new(Layer::default()));
        let dial = dial(&layer);
        let mut engines = Engines {
            directory,
            _owner_disk: owner_disk,
            owner: None,
            standby: None,
            layer,
            dial,
            generation: Generation { number: 1, owner: NodeIndex::Lower, id: 9 },
            max_delete_percent,
            refused: Vec::new(),
        };
        engines.start_standby();
        engines.start_owner();
        engines
    }

    fn start_owner(&mut self) {
        let dial = self.dial.clone();
        // The one before must have ended: it has the index.
        self.owner = None;
        let duty = MirrorDuty::Out(self.generation);
        self.owner =
            Some(Side::start(self.directory.path(), "owner", duty, dial, self.max_delete_percent));
    }

    fn start_standby(&mut self) {
        self.standby = None;
        let nowhere: Dial = Arc::new(|_, _| Err("not the owner".to_owned()));
        let duty = MirrorDuty::In(self.generation);
        let side = Side::start(self.directory.path(), "standby", duty, nowhere, 100);
        self.layer.lock().unwrap().standby = Some(side.handle.clone());
        self.standby = Some(side);
    }

    /// The same owner, in a generation of its own.
    fn begin_generation(&mut self) {
        let Generation { number, id, owner } = self.generation;
        self.generation = Generation { number: number + 1, id: id + 1, owner };
        self.start_standby();
        self.start_owner();
    }

    fn tree(&self, name: &str) -> PathBuf {
        self.directory.path().join(name).join("www")
    }

    /// The next link ends after so many frames; the one that there is ends now.
    fn cut_after(&self, frames: u64) {
        let mut layer = self.layer.lock().unwrap();
        layer.budgets.push(frames);
        layer.laid.drain(..).for_each(|cable| cable.cut());
    }

    fn is_spent(&self) -> bool {
        self.layer.lock().unwrap().laid.iter().any(Cable::is_spent)
    }

    /// Everything written until now is on the other side, whatever ends on the way.
    fn sync(&mut self, victim: Victim) {
        let deadline = Instant::now() + PATIENCE;
        let (mut request, mut has_ended) = (0, victim == Victim::Link);
        let (mut asks, mut last) = (true, None);
        while Instant::now() < deadline {
            if !has_ended && self.is_spent() {
                match victim {
                    Victim::Link => {}
                    Victim::Owner => self.start_owner(),
                    Victim::Standby => self.start_standby(),
                }
                (has_ended, asks) = (true, true);
            }
            let owner = self.owner.as_ref().unwrap();
            if asks {
                request += 1;
                owner.handle.sync(request);
            }
            asks = match owner.told.recv_timeout(LOOK_EVERY) {
                Ok(Telling::Synced { outcome: Ok(_), request: of }) if of == request => return,
                // It had not begun yet.
                Ok(Telling::Synced { request: of, .. }) => of == request,
                Ok(Telling::Report(report)) => {
                    let on_peer = |why: &&String| why.starts_with("on the peer");
                    let skipped = report.status.skipped.iter();
                    self.refused.extend(skipped.filter(on_peer).cloned());
                    last = Some((report.status.state, report.status.why));
                    false
                }
                Ok(Telling::Note(..)) | Err(_) => false,
            };
        }
        panic!("not in time: {last:?}");
    }

    /// Waits until the owner reports this.
    fn owner_says(&self, wanted: impl Fn(MirrorState, &str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < deadline {
            let told = self.owner.as_ref().unwrap().told.recv_timeout(LOOK_EVERY);
            if let Ok(Telling::Report(report)) = told {
                let status = report.status;
                if wanted(status.state, &status.why) {
                    return;
                }
                last = Some(status);
            }
        }
        panic!("not in time: {last:?}");
    }

    fn assert_same(&self) {
        assert_eq!(snapshot(&self.tree("standby")), snapshot(&self.tree("owner")));
    }

    /// What each `about.json` in the standby's store says.
    fn conflicts(&self) -> Vec<String> {
        let beside = fs::read_dir(self.directory.path().join("standby")).unwrap();
        let area = beside.map(|entry| entry.unwrap().path()).find(|path| !path.ends_with("www"));
        let kept = fs::read_dir(area.unwrap().join("conflicts")).unwrap();
        let about = |entry: std::io::Result<fs::DirEntry>| {
            fs::read_to_string(entry.unwrap().path().join("about.json")).unwrap()
        };
        kept.map(about).collect()
    }

    fn assert_no_conflicts(&self) {
        let kept = self.conflicts();
        assert!(kept.is_empty(), "nobody wrote there: {kept:#?}");
    }
}

/// Loopback is up where the test began, and not in the engines' namespaces: cables are laid here.
fn dial(layer: &Arc<Mutex<Layer>>) -> Dial {
    let (ask, asked) = mpsc::channel::<mpsc::Sender<Link>>();
    let layer = layer.clone();
    thread::spawn(move || {
        for answer in asked {
            let mut layer = layer.lock().unwrap();
            let (cable, near, far) = Cable::new(layer.budgets.pop().unwrap_or(u64::MAX));
            layer.laid.push(cable);
            let standby = layer.standby.clone().unwrap();
            thread::spawn(move || arrive(far).map(|link| standby.arrived(link)));
            // The owner may have ended meanwhile.
            let _ = answer.send(near);
        }
    });
    Arc::new(move |_, _| {
        let (answer, answered) = mpsc::channel();
        ask.send(answer).map_err(|error| error.to_string())?;
        answered.recv_timeout(PATIENCE).map_err(|error| error.to_string())
    })
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
    if let Some(before) = round.checked_sub(4) {
        // What came some rounds ago goes.
        let _ = fs::remove_dir_all(at(&format!("dir-{before}")));
        let _ = fs::remove_file(at(&format!("link-{before}")));
    }
}

/// P3: wherever a link or one of the engines ends, the next one finds what is missing. `step`: two frames
/// are a short message.
fn try_every_end(victim: Victim, step: usize) {
    let mut engines = Engines::new();
    engines.sync(Victim::Link);
    for frames in (0..).step_by(step) {
        engines.cut_after(frames);
        change(&engines.tree("owner"), frames);
        engines.sync(victim);
        engines.assert_same();
        if !engines.is_spent() {
            // It was enough for everything: no frame is left to end after.
            assert!(frames > 20, "a session of {frames} frames");
            break;
        }
    }
    engines.assert_no_conflicts();
}

#[test]
fn p3_a_link_that_ends_after_any_frame_loses_nothing() {
    try_every_end(Victim::Link, 1);
}

#[test]
fn p3_an_owner_that_ends_after_any_message_loses_nothing() {
    try_every_end(Victim::Owner, 2);
}

#[test]
fn p3_a_standby_side_that_ends_after_any_message_loses_nothing() {
    try_every_end(Victim::Standby, 2);
}

/// Commits go on counting from generation to generation: what the peer has of the new one, and its owner does not know
/// of, is contained anyway.
#[test]
fn p3_an_owner_that_ends_in_the_first_series_of_a_generation_knows_what_the_peer_has() {
    let mut engines = Engines::new();
    engines.sync(Victim::Link);
    for frames in (0..).step_by(2) {
        change(&engines.tree("owner"), frames);
        // The old owner must not take the link that is to end.
        engines.owner = None;
        engines.cut_after(frames);
        engines.begin_generation();
        engines.sync(Victim::Owner);
        engines.assert_same();
        if !engines.is_spent() {
            assert!(frames > 20, "a session of {frames} frames");
            break;
        }
    }
    engines.assert_no_conflicts();
}

/// What is written while a series is read belongs to the next one, and no later event may tell of it.
#[test]
fn the_end_of_a_burst_comes_by_itself() {
    let mut engines = Engines::new();
    engines.sync(Victim::Link);
    let (owner, standby) = (engines.tree("owner"), engines.tree("standby"));
    for round in 0..50 {
        for number in 0..12 {
            fs::write(owner.join(format!("burst-{number}")), format!("{round}")).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        let last = standby.join("burst-11");
        while fs::read_to_string(&last).ok() != Some(format!("{round}")) {
            assert!(Instant::now() < deadline, "round {round} never came");
            thread::sleep(LOOK_EVERY);
        }
    }
}

/// As XFS leaves what was overwritten just before a crash. What an owner empties itself goes as usual.
#[test]
fn p3_what_a_crash_left_empty_replaces_nothing_for_nothing() {
    for crash in [false, true] {
        let mut engines = Engines::new();
        let path = engines.tree("owner").join("page");
        fs::write(&path, "content").unwrap();
        engines.sync(Victim::Link);
        engines.owner = None;
        fs::write(&path, "").unwrap();
        if crash {
            let mark = engines.directory.path().join("owner-state/reign");
            fs::write(mark, "another boot").unwrap();
        }
        engines.start_owner();
        engines.sync(Victim::Link);
        engines.assert_same();
        let kept = engines.conflicts();
        assert_eq!(kept.len(), usize::from(crash), "{kept:#?}");
        assert!(kept.iter().all(|about| about.contains("\"page\"")), "{kept:#?}");
    }
}

/// Somebody's `rm -rf`, or a deployment: a person says which.
#[test]
fn p3_a_mass_deletion_waits_for_a_person() {
    let mut engines = Engines::with_brake(40);
    let tree = engines.tree("owner");
    for number in 0..40 {
        fs::write(tree.join(format!("{number}")), "content").unwrap();
    }
    engines.sync(Victim::Link);
    // What is only renamed, and a few names, are no mass.
    for number in 0..30 {
        fs::rename(tree.join(format!("{number}")), tree.join(format!("new-{number}"))).unwrap();
    }
    for number in 0..9 {
        fs::remove_file(tree.join(format!("new-{number}"))).unwrap();
    }
    engines.sync(Victim::Link);
    engines.assert_same();
    // As many as may go, and another one: whatever series they came in.
    for number in 9..30 {
        fs::remove_file(tree.join(format!("new-{number}"))).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    let blocked = |state, why: &str| state == MirrorState::Blocked && why.contains("--from owner");
    engines.owner_says(|state, why| blocked(state, why) && why.contains("of 40 names"));
    // 24 of 40 names at least, and the tree itself.
    assert!(snapshot(&engines.tree("standby")).len() >= 25);
    engines.owner.as_ref().unwrap().handle.approve();
    engines.sync(Victim::Link);
    engines.assert_same();
    // Said once, it is meant once.
    for name in fs::read_dir(&tree).unwrap() {
        fs::remove_file(name.unwrap().path()).unwrap();
    }
    engines.owner_says(|state, why| blocked(state, why) && why.contains("of 10 names"));
}

/// What is written while a large file is on its way comes before it; a barrier waits for it, and it is whole.
#[test]
fn small_files_do_not_wait_behind_a_large_one() {
    let mut engines = Engines::new();
    engines.sync(Victim::Link);
    let (owner, standby) = (engines.tree("owner"), engines.tree("standby"));
    let size = limits::AHEAD_BYTES_MIN as usize + 1_000_000;
    let large: Vec<u8> = (0..size).map(|place| (place >> 12) as u8 | 1).collect();
    // A program that writes slower than we send is followed as it writes.
    let aside = owner.parent().unwrap().join("large");
    fs::write(&aside, &large).unwrap();
    fs::rename(&aside, owner.join("large")).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut before = 0;
    for number in 0.. {
        fs::write(owner.join("small"), format!("{number}")).unwrap();
        while fs::read_to_string(standby.join("small")).ok() != Some(format!("{number}")) {
            assert!(Instant::now() < deadline, "{number} never came");
            thread::sleep(Duration::from_millis(1));
        }
        if standby.join("large").exists() {
            break;
        }
        before += 1;
        if before == 3 {
            break;
        }
    }
    assert!(before > 0, "none came before the large one");
    engines.sync(Victim::Link);
    engines.assert_same();
    // Other content of the same length, and a rewritten one that shrinks on its way.
    let other: Vec<u8> = large.iter().map(|byte| byte ^ 0x40).collect();
    fs::write(owner.join("new"), &other).unwrap();
    fs::rename(owner.join("new"), owner.join("large")).unwrap();
    fs::write(owner.join("second"), &large).unwrap();
    fs::OpenOptions::new().write(true).open(owner.join("second")).unwrap().set_len(99).unwrap();
    engines.sync(Victim::Link);
    engines.assert_same();
    engines.assert_no_conflicts();
}

/// Users change whatever they like while it is mirrored: all of it comes, and the peer has to refuse nothing.
/// `CLUSTERD_CHURNS`: how many hundred steps, for a long run.
#[test]
fn p3_what_users_do_comes_whatever_the_order() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let mut engines = Engines::new();
    let owner = engines.tree("owner");
    let spec = TreeSpec { files: 200, bytes: 1_000_000, seed: 7, specials: false };
    generate(&owner, &spec).unwrap();
    engines.sync(Victim::Link);
    let mut churn = Churn::new(&owner, number("CLUSTERD_SEED").unwrap_or(4)).unwrap();
    for _ in 0..number("CLUSTERD_CHURNS").unwrap_or(8) {
        for _ in 0..100 {
            churn.step().unwrap();
        }
        engines.sync(Victim::Link);
        engines.assert_same();
        engines.assert_no_conflicts();
        assert!(engines.refused.is_empty(), "{:#?}", engines.refused);
    }
}

/// The engine of an empty tree, without a peer.
fn lone_engine(directory: &Path) -> Engine {
    let state = directory.join("state");
    let tree = config::Tree {
        path: directory.join("www"),
        exclude: Vec::new(),
        hash: Hash::Auto,
        max_delete_percent: 100,
    };
    fs::create_dir(&tree.path).unwrap();
    let setup = Setup {
        cluster: "pair".into(),
        node: "owner".into(),
        me: NodeIndex::Lower,
        group: "web".into(),
        trees: vec![tree],
        state: state.clone(),
        dial: Arc::new(|_, _| Err("connection refused".to_owned())),
    };
    let (beginning, _handle) = Engine::new(setup).unwrap();
    Engine::with(beginning, Index::open(&state).unwrap())
}

/// A crash came after the index had a generation and before the heart's state had it: the next heart names an older
/// one.
#[test]
fn p3_the_index_does_not_go_back_to_an_older_generation() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = lone_engine(directory.path());
    let [older, newer] = [3, 6].map(|number| Generation { number, owner: NodeIndex::Lower, id: 9 });
    for (began, of) in [(older, older), (newer, newer), (older, newer)] {
        let copy = engine.index.copy().unwrap();
        engine.index.set_copy(&CopyState { ready_for: vec![older, newer], ..copy }).unwrap();
        let terms = MirrorTerms { began: Some(began), ..MirrorTerms::default() };
        engine.ordered(1, MirrorDuty::Still, PeerSync::default(), terms, &mut |_| ());
        assert_eq!(engine.index.copy().unwrap().of, Some(of));
    }
}

/// Whatever else wakes the sender between two attempts to reach the peer.
#[test]
fn what_stands_in_the_way_is_not_masked_by_the_end_of_the_session_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = lone_engine(directory.path());
    let generation = Generation { number: 1, owner: NodeIndex::Lower, id: 9 };
    engine.mode = Mode::Out(Box::new(Owner::new(generation)));
    let (duty, terms) = (MirrorDuty::Out(generation), MirrorTerms::default());
    engine.ordered(1, duty, PeerSync::default(), terms, &mut |_| ());
    let mut obstacles = |event: sender::Event| {
        engine.feed_sender(event);
        let Mode::Out(owner) = &mut engine.mode else { panic!("it is the owner") };
        // The next attempt is due.
        owner.dial.next_at = Instant::now();
        owner.dial.failed
    };
    let before = obstacles(sender::Event::Tick);
    assert_eq!(obstacles(sender::Event::Cut("the peer closed the link".to_owned())), before + 1);
    assert_eq!(obstacles(sender::Event::Tick), before + 1);
    assert_eq!(obstacles(sender::Event::Dirty), before + 1);
}

/// What kept this node from the peer that was there before says nothing of the one that has started since.
#[test]
fn a_peer_that_has_started_again_is_dialled_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut engine = lone_engine(directory.path());
    let generation = Generation { number: 1, owner: NodeIndex::Lower, id: 9 };
    let mut owner = Owner::new(generation);
    (0..9).for_each(|_| owner.dial.again(Obstacle::unreached("connection refused")));
    engine.mode = Mode::Out(Box::new(owner));
    let due = |engine: &Engine| match &engine.mode {
        Mode::Out(owner) => owner.dial.next_at <= Instant::now(),
        Mode::Idle { .. } | Mode::In(_) => panic!("it is the owner"),
    };
    let order = |engine: &mut Engine, incarnation| {
        let peer = PeerSync { crossover: None, incarnation };
        let (duty, terms) = (MirrorDuty::Out(generation), MirrorTerms::default());
        engine.ordered(1, duty, peer, terms, &mut |_| ());
    };
    assert!(!due(&engine));
    order(&mut engine, Some(7));
    assert!(due(&engine), "the first one");
    // Its session ends with it; nobody is there.
    order(&mut engine, None);
    assert!(!due(&engine), "nobody is there");
    order(&mut engine, Some(8));
    assert!(due(&engine), "another one");
}
