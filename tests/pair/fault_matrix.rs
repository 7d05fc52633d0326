//! What the author of 1999 did by hand, from one list: every interface and cable failed, one at a time
//! and two at a time, the switch, the power; a test for each. `docs/FAULTS.md` is written from the same list
//! and from what was seen (`UPDATE_GOLDENS=1`), and compared with the list in every run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd::control::status::PathState;
use clusterd_bed::faults::Fault;
use clusterd_bed::limits;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::wiring::{Plugs, interface_indexes};
use clusterd_bed::{Bed, BedError, node};

use crate::scene::Scene;

/// One thing that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    OwnerLan,
    OtherLan,
    Crossover,
    Serial,
    OwnerLanDown,
    OtherLanDown,
    OwnerCrossoverDown,
    OtherCrossoverDown,
    Switch,
    OwnerPower,
    OtherPower,
}

/// What must happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Must {
    /// The owner serves on, and no client notices.
    Stay,
    /// The owner keeps the group, though no client reaches it.
    Keep,
    /// The same; but where only the serial line is left, an owner without LAN lets go if that stutters just then.
    KeepOrLetGo,
    /// The other node takes the group over, within this time.
    Move(Duration),
    /// The owner is cut off from everything and lets go; nobody takes it.
    LetGo,
    /// There is nobody.
    Nobody,
}

/// A fault of the list.
struct Row {
    fault: &'static str,
    parts: &'static [Part],
    must: Must,
}

const QUICK: Must = Must::Move(limits::OUTAGE_MAX);

use Part::*;

macro_rules! rows {
    ($($name:ident: $fault:literal, $parts:expr, $must:expr;)*) => {
        const ROWS: &[Row] = &[$(Row { fault: $fault, parts: &$parts, must: $must }),*];

        $(#[test]
        fn $name() {
            is_as_listed(&Row { fault: $fault, parts: &$parts, must: $must });
        })*
    };
}

rows! {
    p2_lan_of_the_owner: "the owner's LAN cable", [OwnerLan], QUICK;
    p2_lan_of_the_other: "the other node's LAN cable", [OtherLan], Must::Stay;
    p2_crossover: "the crossover cable", [Crossover], Must::Stay;
    p2_serial: "the serial line", [Serial], Must::Stay;
    p2_lan_of_the_owner_down: "the owner's LAN interface, set down", [OwnerLanDown], QUICK;
    p2_lan_of_the_other_down: "the other node's LAN interface, set down", [OtherLanDown], Must::Stay;
    p2_crossover_of_the_owner_down:
        "the owner's crossover interface, set down", [OwnerCrossoverDown], Must::Stay;
    p2_crossover_of_the_other_down:
        "the other node's crossover interface, set down", [OtherCrossoverDown], Must::Stay;
    p2_both_lans: "both LAN cables", [OwnerLan, OtherLan], Must::Keep;
    p2_lan_of_the_owner_and_crossover:
        "the owner's LAN cable and the crossover", [OwnerLan, Crossover], SLOW_LINE;
    p2_lan_of_the_owner_and_serial:
        "the owner's LAN cable and the serial line", [OwnerLan, Serial], QUICK;
    p2_lan_of_the_other_and_crossover:
        "the other node's LAN cable and the crossover", [OtherLan, Crossover], Must::Stay;
    p2_lan_of_the_other_and_serial:
        "the other node's LAN cable and the serial line", [OtherLan, Serial], Must::Stay;
    p2_crossover_and_serial: "the crossover and the serial line", [Crossover, Serial], Must::Stay;
    p1_p2_all_of_the_owner: "all cables of the owner", [OwnerLan, Crossover, Serial], QUICK;
    p1_p2_all_of_the_other: "all cables of the other node", [OtherLan, Crossover, Serial], Must::Stay;
    p2_switch: "the LAN switch", [Switch], Must::Keep;
    p2_switch_and_crossover:
        "the LAN switch and the crossover", [Switch, Crossover], Must::KeepOrLetGo;
    p2_switch_and_serial: "the LAN switch and the serial line", [Switch, Serial], Must::Keep;
    p1_everything:
        "the LAN switch, the crossover and the serial line", [Switch, Crossover, Serial], Must::LetGo;
    p1_p2_power_of_the_owner: "the owner's power", [OwnerPower], QUICK;
    p2_power_of_the_other: "the other node's power", [OtherPower], Must::Stay;
    p1_power_of_both: "the power of both", [OwnerPower, OtherPower], Must::Nobody;
    p1_power_of_the_other_and_switch:
        "the other node's power, and the LAN switch", [OtherPower, Switch], Must::LetGo;
}

/// Owner and peer hear each other by the serial line alone, and each word of a handover takes a beat.
const SLOW_LINE: Must = Must::Move(limits::OUTAGE_SERIAL_MAX);

impl Must {
    fn action(self) -> &'static str {
        match self {
            Must::Stay => "nothing moves; the administrator is told",
            Must::Keep => "nothing moves: the other node reaches no more than the owner",
            Must::KeepOrLetGo => {
                "nothing moves: the other node reaches no more than the owner, which may let go if the \
                 serial line, its last one, stutters just then"
            }
            Must::Move(_) => "the other node takes over",
            Must::LetGo => {
                "the owner lets go: cut off from everything, it cannot know who else serves"
            }
            Must::Nobody => "when power is back, one node serves again",
        }
    }

    fn client(self) -> String {
        match self {
            Must::Stay => "nothing".to_owned(),
            Must::Move(outage) => format!("at most {} ms without an answer", outage.as_millis()),
            Must::Keep | Must::KeepOrLetGo | Must::LetGo | Must::Nobody => {
                "no answer for as long as it lasts".to_owned()
            }
        }
    }
}

impl Part {
    /// The paths that are silent while it lasts.
    fn silences(self) -> &'static [&'static str] {
        match self {
            OwnerLan | OtherLan | OwnerLanDown | OtherLanDown | Switch => &["lan"],
            Crossover | OwnerCrossoverDown | OtherCrossoverDown => &["crossover"],
            Serial => &["serial"],
            OwnerPower | OtherPower => &["lan", "crossover", "serial"],
        }
    }

    fn is_power_of(self, owner: NodeIndex) -> Option<NodeIndex> {
        match self {
            OwnerPower => Some(owner),
            OtherPower => Some(owner.other()),
            OwnerLan | OtherLan | Crossover | Serial | OwnerLanDown | OtherLanDown
            | OwnerCrossoverDown | OtherCrossoverDown | Switch => None,
        }
    }

    /// A plug that is pulled, or put in again.
    fn plug(self, plugs: &mut Plugs, owner: NodeIndex, is_in: bool) {
        match self {
            OwnerLan => *Plugs::of(&mut plugs.lan, owner) = is_in,
            OtherLan => *Plugs::of(&mut plugs.lan, owner.other()) = is_in,
            Crossover => plugs.crossover = is_in,
            Serial => plugs.serial = is_in,
            Switch => plugs.switch = is_in,
            OwnerLanDown | OtherLanDown | OwnerCrossoverDown | OtherCrossoverDown | OwnerPower
            | OtherPower => {}
        }
    }

    /// An interface that is set down, or up again.
    fn interface(self, bed: &Bed, owner: NodeIndex, up: bool) -> Result<(), BedError> {
        let (node, crossover) = match self {
            OwnerLanDown => (owner, false),
            OtherLanDown => (owner.other(), false),
            OwnerCrossoverDown => (owner, true),
            OtherCrossoverDown => (owner.other(), true),
            OwnerLan | OtherLan | Crossover | Serial | Switch | OwnerPower | OtherPower => {
                return Ok(());
            }
        };
        let (lan, cross) = interface_indexes(node);
        bed.wiring().seat(node).links.set(if crossover { cross } else { lan }, up)
    }
}

impl Row {
    /// All at once, as far as one machine can: those who lose their power stand still before the first
    /// cable dies.
    fn cause(&self, bed: &mut Bed, owner: NodeIndex) -> Result<(), BedError> {
        let dark: Vec<NodeIndex> =
            self.parts.iter().filter_map(|part| part.is_power_of(owner)).collect();
        for node in &dark {
            bed.freeze(*node)?;
        }
        for part in self.parts {
            part.interface(bed, owner, false)?;
        }
        bed.plug(|plugs| self.parts.iter().for_each(|part| part.plug(plugs, owner, false)))?;
        dark.into_iter().try_for_each(|node| bed.power_cut(node))
    }

    fn undo(&self, bed: &mut Bed, owner: NodeIndex) -> Result<(), BedError> {
        bed.plug(|plugs| self.parts.iter().for_each(|part| part.plug(plugs, owner, true)))?;
        for part in self.parts {
            part.interface(bed, owner, true)?;
            if let Some(node) = part.is_power_of(owner) {
                bed.power_on(node)?;
            }
        }
        Ok(())
    }

    /// Waits until the fault shows; then for long enough that what must not happen would have.
    fn show(&self, scene: &Scene, owner: NodeIndex, since: Instant) {
        let bed = &scene.bed;
        let lit = |node: NodeIndex| bed.plugs().powered(node);
        scene.wait(self.fault, || {
            for node in NodeIndex::BOTH.into_iter().filter(|node| lit(*node)) {
                let status = bed.status(node).ok_or("no status")?;
                for silent in self.parts.iter().flat_map(|part| part.silences()) {
                    let mut paths = status.peer.paths.iter().filter(|path| path.name == *silent);
                    if paths.any(|path| path.state == PathState::Up) {
                        return Err(format!("{} still hears on {silent}", node::name(node)));
                    }
                }
            }
            let holders = bed.watcher.holders(bed.address());
            let answered = bed.client.answer_since(since).map(|answer| answer.from);
            let shown = match self.must {
                Must::Move(_) => answered == Some(owner.other()),
                Must::LetGo | Must::Nobody => holders.is_empty(),
                Must::Stay | Must::Keep => holders == [owner],
                Must::KeepOrLetGo => holders == [owner] || holders.is_empty(),
            };
            if shown { Ok(()) } else { Err(format!("{holders:?} hold it, {answered:?} answers")) }
        });
        let longer = match self.must {
            Must::Stay | Must::Move(_) | Must::LetGo | Must::Nobody => Duration::ZERO,
            // As long as a difference in reach takes to move a group.
            Must::Keep | Must::KeepOrLetGo => {
                limits::REACH_MEMORY + limits::REACH_EVERY * limits::REACH_ROUNDS
            }
        };
        bed.watch_for(limits::BED_WATCH + longer).expect("time to pass");
    }

    /// Fails it, looks, mends it, looks; what was seen, and what was not as it must be.
    fn try_it(&self, scene: &mut Scene) -> (String, Vec<String>) {
        let owner = scene.whole();
        println!("{} ({} serves)", self.fault, node::name(owner));
        let mut broken = Vec::new();
        let mut expect = |is: bool, what: String| {
            if !is {
                broken.push(format!("{}: {what}", self.fault));
            }
        };
        let began = Instant::now();
        self.cause(&mut scene.bed, owner).expect("a fault");
        self.show(scene, owner, began);
        let outage = scene.bed.outage_since(began);
        let moves = scene.bed.watcher.moves_since(began);
        let holders = scene.bed.watcher.holders(scene.bed.address());
        let mut seen = match holders.as_slice() {
            [] => "nobody serves".to_owned(),
            [holder] if *holder == owner => "the owner serves on".to_owned(),
            [_] => "the other node serves".to_owned(),
            more => format!("{} nodes serve", more.len()),
        };
        let most = match self.must {
            Must::Stay => Some(limits::OUTAGE_MAX),
            Must::Move(most) => Some(most),
            Must::Keep | Must::KeepOrLetGo | Must::LetGo | Must::Nobody => None,
        };
        if most.is_some() {
            let _ = write!(seen, "; {} ms without an answer", outage.as_millis());
        }
        println!("  {seen}, {moves} moves");
        let moved = usize::from(matches!(self.must, Must::Move(_)));
        expect(moves == moved, format!("{moves} moves"));
        expect(most.is_none_or(|most| outage <= most), format!("an outage of {outage:?}"));

        let undone = Instant::now();
        self.undo(&mut scene.bed, owner).expect("a remedy");
        let serves = scene.whole();
        let moves = scene.bed.watcher.moves_since(undone);
        // Two who both held nothing agree on one of them.
        let free = holders.is_empty();
        expect(moves == 0 || (free && moves == 1), format!("{moves} moves when it was mended"));
        expect(free || (serves == owner) == (moved == 0), format!("{} serves", node::name(serves)));
        if most.is_some() {
            let outage = scene.bed.outage_since(undone);
            let kept = outage <= limits::OUTAGE_MAX;
            expect(kept, format!("an outage of {outage:?} when it was mended"));
        }
        scene.bed.cross_check().expect("a watcher that sees");
        let two = scene.bed.watcher.two_owners_since(began);
        expect(two == TwoOwners::default(), format!("{two:?}"));
        expect(scene.bed.watcher.missed() == 0, "the watcher lost messages".to_owned());
        (seen, broken)
    }
}

/// Before the tables of `docs/FAULTS.md`.
const BEGIN: &str =
    "<!-- tables: written by UPDATE_GOLDENS=1 cargo test --test pair fault_matrix -->\n";

fn handbook() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/FAULTS.md")
}

fn is_updating() -> bool {
    std::env::var_os("UPDATE_GOLDENS").is_some()
}

/// Tries the row on a pair of its own.
fn is_as_listed(row: &Row) {
    let mut scene = Scene::dark(|_| {});
    scene.power_on();
    let (seen, broken) = row.try_it(&mut scene);
    assert_eq!(broken, Vec::<String>::new());
    if is_updating() {
        write_handbook(Some((row.fault, seen)));
    }
}

/// The handbook, its text before the tables, and what it says was seen, by fault.
fn read_handbook() -> (String, String, BTreeMap<String, String>) {
    let text = std::fs::read_to_string(handbook()).expect("docs/FAULTS.md");
    let (before, tables) = text.split_once(BEGIN).expect("the place of the tables");
    let cells = tables.lines().map(|line| line.trim_matches(['|', ' ']).split(" | "));
    let seen = cells.filter_map(|mut cells| {
        let (fault, seen) = (cells.next()?, cells.nth(2)?);
        Some((fault.to_owned(), seen.to_owned()))
    });
    (text.clone(), before.to_owned(), seen.collect())
}

/// Writes the tables again, with what was seen of one more row.
fn write_handbook(new: Option<(&str, String)>) {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, before, mut seen) = read_handbook();
    seen.extend(new.map(|(fault, seen)| (fault.to_owned(), seen)));
    std::fs::write(handbook(), before + BEGIN + &tables(&seen)).expect("to be written");
}

/// The tables of `docs/FAULTS.md`, with what was seen of each row.
fn tables(seen: &BTreeMap<String, String>) -> String {
    let mut text =
        String::from("| fails | must happen | a client sees | seen |\n| --- | --- | --- | --- |\n");
    for row in ROWS {
        let (action, client) = (row.must.action(), row.must.client());
        let seen = seen.get(row.fault).map_or("not yet", String::as_str);
        let _ = writeln!(text, "| {} | {action} | {client} | {seen} |", row.fault);
    }
    text += "\n| happens | promised |\n| --- | --- |\n";
    for fault in Fault::ALL {
        let _ = writeln!(text, "| {} | {} |", fault.name(), fault.promise());
    }
    text
}

/// What is seen differs from run to run; the rest does not.
#[test]
fn the_handbooks_table_is_the_list() {
    if is_updating() {
        return write_handbook(None);
    }
    let (text, before, seen) = read_handbook();
    assert_eq!(text, before + BEGIN + &tables(&seen));
    for row in ROWS {
        assert!(seen.get(row.fault).is_some_and(|seen| seen.contains("serve")), "{}", row.fault);
    }
}

/// Nothing of the list was forgotten: each thing alone, and all pairs of cables.
#[test]
fn the_list_is_complete() {
    let has = |parts: &[Part]| {
        ROWS.iter().any(|row| {
            row.parts.len() == parts.len() && parts.iter().all(|part| row.parts.contains(part))
        })
    };
    for part in [
        OwnerLan,
        OtherLan,
        Crossover,
        Serial,
        OwnerLanDown,
        OtherLanDown,
        OwnerCrossoverDown,
        OtherCrossoverDown,
        Switch,
        OwnerPower,
        OtherPower,
    ] {
        assert!(has(&[part]), "{part:?}");
    }
    let cables = [OwnerLan, OtherLan, Crossover, Serial];
    for (place, one) in cables.into_iter().enumerate() {
        for other in cables.into_iter().skip(place + 1) {
            assert!(has(&[one, other]), "{one:?} and {other:?}");
        }
    }
}
