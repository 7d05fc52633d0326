//! Both nodes stop, one of them or both start again: each order and kind of stop, from one list; a test for
//! each. `docs/ORDERS.md` is written from the same list (`UPDATE_GOLDENS=1`), and compared with it in every run.
//!
//! A node that heard nobody serves only if its disk proves that nobody can have served after what it holds.
//! Nobody's patience can end while a test runs: who serves, serves without it, and who waits, waits for the
//! other node.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::{GroupState, NodeState, PeerState};
use clusterd_bed::processes::Target;
use clusterd_bed::wiring::Plugs;
use nix::sys::signal::Signal;

use crate::mirror::{MIRROR, assert_equal, no_conflicts, sync, wait_in_sync, www};
use crate::scene::Scene;
use crate::setback::wait_alone_on_disk;

/// Serves at the beginning.
const A: NodeIndex = NodeIndex::Lower;
/// Its peer.
const B: NodeIndex = NodeIndex::Upper;

/// One thing that is done. Who serves after it writes something that the other node may never see.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A node's daemon is told to end.
    Stop(NodeIndex),
    /// Both are, in the same moment.
    StopBoth,
    /// A node's power is cut.
    Cut(NodeIndex),
    /// First that node's, then the other one's, so many ms later.
    CutBoth(NodeIndex, u64),
    /// A node is put into standby mode.
    OffDuty(NodeIndex),
    /// The last node on duty is, too: it is back from a power cut, without its LAN.
    OffDutyToo(NodeIndex),
}

/// Two cuts so close that nobody notices the first one before it is cut itself.
const CUTS_WITHIN: Duration = Duration::from_millis(40);

/// What a node that is started alone does, or the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It is served there, and nobody's patience is waited for.
    Serves(NodeIndex),
    /// Blocked until the peer comes, or a person decides.
    Waits,
    /// An order is an order.
    Standby,
}

/// A line of the table.
struct Row {
    stop: &'static str,
    steps: &'static [Step],
    /// What A alone does, what B alone does, and both together.
    then: [Then; 3],
    why: &'static str,
}

use Step::*;
use Then::*;

macro_rules! rows {
    ($($name:ident: $stop:literal, $steps:expr, $then:expr, $why:expr;)*) => {
        const ROWS: &[Row] =
            &[$(Row { stop: $stop, steps: &$steps, then: $then, why: $why }),*];

        $(#[test]
        fn $name() {
            is_as_listed(&Row { stop: $stop, steps: &$steps, then: $then, why: $why });
        })*
    };
}

const B_LAST: &str = "B served last, and knew that A was gone";
const A_LAST: &str = "A served last, and knew that B was gone";
const NOBODY_KNOWS: &str =
    "neither saw the other one go: each may have served on; together they know";

rows! {
    p3_in_order_the_owner_first: "A in order, then B in order",
        [Stop(A), Stop(B)], [Waits, Serves(B), Serves(B)], B_LAST;
    p3_in_order_the_standby_node_first: "B in order, then A in order",
        [Stop(B), Stop(A)], [Serves(A), Waits, Serves(A)], A_LAST;
    p3_in_order_both_at_once: "both in order, in the same moment",
        [StopBoth], [Serves(A), Waits, Serves(A)],
        "A, which serves, ends after B, whose goodbye it hears";
    p3_power_of_the_owner_then_in_order: "A's power, then B in order",
        [Cut(A), Stop(B)], [Waits, Serves(B), Serves(B)], B_LAST;
    p3_power_of_the_owner_then_of_the_other: "A's power, later B's power",
        [Cut(A), Cut(B)], [Waits, Serves(B), Serves(B)], B_LAST;
    p3_power_of_the_standby_node_then_in_order: "B's power, then A in order",
        [Cut(B), Stop(A)], [Serves(A), Waits, Serves(A)], A_LAST;
    p3_power_of_the_standby_node_then_of_the_owner: "B's power, later A's power",
        [Cut(B), Cut(A)], [Serves(A), Waits, Serves(A)], A_LAST;
    p3_in_order_the_owner_then_power: "A in order, then B's power",
        [Stop(A), Cut(B)], [Waits, Serves(B), Serves(B)], B_LAST;
    p3_in_order_the_standby_node_then_power: "B in order, then A's power",
        [Stop(B), Cut(A)], [Serves(A), Waits, Serves(A)], A_LAST;
    p3_power_of_both: "the power of both, in the same moment",
        [CutBoth(A, 0)], [Waits, Waits, Serves(A)], NOBODY_KNOWS;
    p3_power_of_both_the_owner_first: "A's power, and B's 5 ms later",
        [CutBoth(A, 5)], [Waits, Waits, Serves(A)], NOBODY_KNOWS;
    p3_power_of_both_the_standby_node_first: "B's power, and A's 5 ms later",
        [CutBoth(B, 5)], [Waits, Waits, Serves(A)], NOBODY_KNOWS;
    p3_the_owner_in_standby: "`standby` of A, then B in order, then A in order",
        [OffDuty(A), Stop(B), Stop(A)], [Standby, Serves(B), Serves(B)],
        "B served last, and knew that A took nothing over; A still takes nothing over";
    p3_the_other_in_standby: "`standby` of B, then A in order, then B in order",
        [OffDuty(B), Stop(A), Stop(B)], [Serves(A), Standby, Serves(A)],
        "A served last, and knew that B took nothing over; B still takes nothing over";
    p3_the_other_in_standby_and_power: "`standby` of B, then the power of both",
        [OffDuty(B), CutBoth(A, 0)], [Serves(A), Standby, Serves(A)],
        "A served last, and knew that B took nothing over; B still takes nothing over";
    p3_both_in_standby: "both in standby mode, then in order",
        [OffDuty(A), OffDutyToo(B), Stop(A), Stop(B)], [Standby, Standby, Standby],
        "an order holds until `clusterd online`";
}

/// What happens to a pair of its own.
struct Play {
    scene: Scene,
    /// What was served last.
    newest: u32,
    /// Two cuts were further apart than they should be: somebody may have noticed the first one.
    late: bool,
}

impl Play {
    /// A whole pair in sync that has done all steps of the row.
    fn stopped(row: &Row) -> Play {
        loop {
            let play = Play::try_to_stop(row);
            if !play.late {
                return play;
            }
            println!("the machine is too slow for that; once more");
        }
    }

    fn try_to_stop(row: &Row) -> Play {
        let mut scene = Scene::dark(|options| {
            MIRROR.clone_into(&mut options.group);
            "boot_patience = \"600s\"".clone_into(&mut options.heartbeat);
        });
        for node in NodeIndex::BOTH {
            fs::create_dir(www(&scene, node)).unwrap();
        }
        assert_eq!(scene.power_on(), A);
        let mut play = Play { scene, newest: 0, late: false };
        play.write(A);
        wait_in_sync(&play.scene);
        sync(&play.scene, A);
        for step in row.steps {
            play.take(*step);
        }
        assert!(NodeIndex::BOTH.into_iter().all(|node| !play.is_on(node)), "both are stopped");
        play
    }

    fn is_on(&self, node: NodeIndex) -> bool {
        self.scene.bed.plugs().powered(node)
    }

    fn write(&mut self, node: NodeIndex) {
        self.newest += 1;
        fs::write(www(&self.scene, node).join("page"), self.newest.to_string()).unwrap();
    }

    fn page(&self, node: NodeIndex) -> Option<String> {
        fs::read_to_string(www(&self.scene, node).join("page")).ok()
    }

    fn take(&mut self, step: Step) {
        let bed = &mut self.scene.bed;
        match step {
            Stop(node) => self.stop(&[node]),
            StopBoth => self.stop(&NodeIndex::BOTH),
            Cut(node) => bed.power_cut(node).unwrap(),
            CutBoth(first, ms) => {
                // Frozen is dead to everybody.
                let began = Instant::now();
                bed.signal(first, Target::All, Signal::SIGSTOP).unwrap();
                std::thread::sleep(Duration::from_millis(ms));
                bed.signal(first.other(), Target::All, Signal::SIGSTOP).unwrap();
                self.late = began.elapsed() > CUTS_WITHIN;
                bed.power_cut(first).unwrap();
                bed.power_cut(first.other()).unwrap();
            }
            OffDuty(node) => {
                self.scene.tell(node, &["standby"]);
            }
            OffDutyToo(node) => {
                bed.power_cut(node).unwrap();
                bed.plug(|plugs| *Plugs::of(&mut plugs.lan, node) = false).unwrap();
                bed.power_on(node).unwrap();
                self.scene.wait("the last one to be let go", || {
                    match self.scene.ask(node, &["standby"]) {
                        (0, ..) => Ok(()),
                        refused => Err(format!("{refused:?}")),
                    }
                });
                self.scene.bed.plug(|plugs| plugs.lan = [true; 2]).unwrap();
                return;
            }
        }
        self.serve_on();
    }

    /// Ends their daemons in order, and then their power.
    fn stop(&mut self, nodes: &[NodeIndex]) {
        for node in nodes {
            assert_eq!(self.scene.bed.signal(*node, Target::Guard, Signal::SIGTERM).unwrap(), 1);
        }
        for node in nodes {
            self.scene.wait_until("the daemon to end", || {
                self.scene.pid(*node, "clusterd-guard").is_none()
                    && self.scene.pid(*node, "clusterd-heart").is_none()
                    && self.scene.pid(*node, "clusterd-work").is_none()
            });
        }
        for node in nodes {
            self.scene.bed.power_cut(*node).unwrap();
        }
    }

    /// Whoever is left serves, knows how its peer is, and writes.
    fn serve_on(&mut self) {
        let on: Vec<_> = NodeIndex::BOTH.into_iter().filter(|node| self.is_on(*node)).collect();
        let (server, peer) = match *on.as_slice() {
            [last] if self.scene.status(last).state == NodeState::Standby => return,
            [last] => (last, PeerState::Dead),
            [] => return,
            // One of them is in standby mode.
            _ => {
                let states = NodeIndex::BOTH.map(|node| self.scene.status(node).state);
                (
                    if states == [NodeState::Standby, NodeState::Online] { B } else { A },
                    PeerState::Standby,
                )
            }
        };
        self.scene.wait_served_by(server);
        self.scene.wait_peer(server, peer);
        self.write(server);
        wait_alone_on_disk(&self.scene, server);
    }

    /// Starts these, and wants of them what the row says.
    fn start(&mut self, nodes: &[NodeIndex], then: Then) {
        let before = NodeIndex::BOTH.map(|node| self.scene.events(node).len());
        let mark = Instant::now();
        for node in nodes {
            self.scene.bed.power_on(*node).unwrap();
        }
        match then {
            Serves(node) => {
                self.scene.wait_served_by(node);
                assert_eq!(
                    self.page(node),
                    Some(self.newest.to_string()),
                    "it served something newer"
                );
                return;
            }
            Waits => {
                for node in nodes {
                    self.waits(*node, before[usize::from(*node == B)]);
                }
            }
            Standby => {
                for node in nodes {
                    self.scene.wait("nobody to serve", || {
                        match (self.scene.ask(*node, &["status"]).0, self.scene.status(*node).state)
                        {
                            (5, NodeState::Standby) => Ok(()),
                            other => Err(format!("{other:?}")),
                        }
                    });
                }
            }
        }
        assert_eq!(self.scene.bed.client.answer_since(mark), None, "nobody serves");
        for node in nodes {
            self.scene.bed.power_cut(*node).unwrap();
        }
    }

    /// It says what it waits for, what it holds, of when, and the ways out.
    fn waits(&self, node: NodeIndex, skip: usize) {
        let told = self.scene.wait_event(node, skip, Kind::Mirror, "not served");
        for part in ["bring the peer back", "--accept-loss", "Held here", "last synchronised"] {
            assert!(told.told.text.contains(part), "{part}: {told:?}");
        }
        assert_eq!(self.scene.ask(node, &["status"]).0, 5);
        let group = self.scene.group(node);
        assert_eq!(group.state, GroupState::Blocked);
        assert!(group.why.contains("Held here"), "{group:?}");
    }

    /// The pair is whole, and both have what was served last; nothing had to be kept.
    fn ends_well(&self, server: NodeIndex) {
        assert_eq!(self.scene.whole(), server);
        wait_in_sync(&self.scene);
        sync(&self.scene, server);
        assert_equal(&self.scene);
        assert_eq!(self.page(server), Some(self.newest.to_string()));
        for node in NodeIndex::BOTH {
            no_conflicts(&self.scene, node);
        }
    }
}

/// Tries the row: who does not serve alone does so first, and leaves no trace; then who does; then both.
fn is_as_listed(row: &Row) {
    let [a, b, both] = row.then;
    let alone = [(A, a), (B, b)];
    let mut play = Play::stopped(row);
    for (node, then) in alone.into_iter().filter(|(_, then)| !matches!(then, Serves(_))) {
        play.start(&[node], then);
    }
    if let Some((node, then)) = alone.into_iter().find(|(_, then)| matches!(then, Serves(_))) {
        assert_eq!(then, Serves(node), "alone nobody else can");
        play.start(&[node], then);
        play.start(&[node.other()], then);
        play.online();
        play.ends_well(node);
        drop(play);
        play = Play::stopped(row);
    }
    play.start(&NodeIndex::BOTH, both);
    if let Serves(server) = both {
        play.online();
        play.ends_well(server);
    }
}

impl Play {
    /// Nobody is in standby mode any more.
    fn online(&self) {
        for node in NodeIndex::BOTH {
            self.scene.wait("to be online", || match self.scene.ask(node, &["online"]) {
                (0, ..) => Ok(()),
                // The daemon does not answer yet, or has not heard its peer.
                other => Err(format!("{other:?}")),
            });
        }
    }
}

/// Before the table of `docs/ORDERS.md`.
const BEGIN: &str = "<!-- table: written by UPDATE_GOLDENS=1 cargo test --test pair orders -->\n";

/// The table of `docs/ORDERS.md`.
fn table() -> String {
    let cell = |then: Then, alone: bool| match then {
        Serves(_) if alone => "serves at once".to_owned(),
        Serves(node) => format!("{} serves at once", if node == A { "A" } else { "B" }),
        Waits => "waits for the other".to_owned(),
        Standby if alone => "stays in standby".to_owned(),
        Standby => "nobody serves".to_owned(),
    };
    let mut text = String::from(
        "| stopped | start A alone: it | start B alone: it | start both: | why |\n\
         | --- | --- | --- | --- | --- |\n",
    );
    for row in ROWS {
        let [a, b, both] = row.then;
        let (a, b, both) = (cell(a, true), cell(b, true), cell(both, false));
        let _ = writeln!(text, "| {} | {a} | {b} | {both} | {} |", row.stop, row.why);
    }
    text
}

#[test]
fn the_table_is_the_list() {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/ORDERS.md");
    let text = fs::read_to_string(&path).expect("docs/ORDERS.md");
    let (before, _) = text.split_once(BEGIN).expect("the place of the table");
    let new = format!("{before}{BEGIN}{}", table());
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        return fs::write(&path, new).expect("to be written");
    }
    assert_eq!(text, new);
}

/// Without trees there is nothing that could be old: patience is enough.
#[test]
fn p2_a_group_without_trees_is_served_after_its_patience() {
    let mut scene = Scene::dark(|options| options.heartbeat = "boot_patience = \"1s\"".into());
    let owner = scene.power_on();
    for node in NodeIndex::BOTH {
        scene.bed.freeze(node).unwrap();
    }
    for node in NodeIndex::BOTH {
        scene.bed.power_cut(node).unwrap();
    }
    scene.bed.power_on(owner.other()).unwrap();
    scene.wait_served_by(owner.other());
}
