//! A group's tree on a node, and how the worker keeps two of them equal.
//!
//! A tree is a few files, each at a version; every version ever written has a number (the checker
//! `nothing_lost` keeps them). The owner opens a session, learns what the peer has, and sends a series:
//! a state of its whole tree, in parts. The receiver stages a part, makes it durable, acknowledges it;
//! what is staged to its end is applied file by file, whatever happens, and else forgotten.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use super::worker::{Deed, Input};
use super::world::{Happening, World};
use crate::config::{GroupIndex, NodeIndex};
use crate::control::status::{Mirror, MirrorState};
use crate::core::{Event, Generation, MirrorDuty, MirrorReport, MirrorTerms, PeerSync, Unsent};
use crate::mirror::lineage::{Lineage, Position};

/// Files of a tree.
pub const FILES: usize = 4;
/// The version of each file; 0: as it was at the very beginning.
pub type Tree = [u32; FILES];

const MS: Duration = Duration::from_millis(1);
/// A session whose other end says nothing for this long is given up, in µs.
const SILENT_US: u64 = 700_000;

/// A tree on disk, with what the mirror keeps beside it. It outlives worker and power.
#[derive(Clone, Debug)]
pub struct Replica {
    /// The files as they are.
    pub tree: Tree,
    /// As the last common commit left them: what differs was changed here since.
    pub base: Tree,
    /// The generation that this copy belongs to.
    pub copy_of: Option<Generation>,
    /// The generations in which this node may have begun to serve it.
    pub ready_for: Vec<Generation>,
    /// What it contains.
    pub lineage: Lineage,
    /// The newest commit in it.
    pub position: Option<Position>,
    /// Not half of a synchronisation.
    pub complete: bool,
    /// Acknowledged to its end, to be applied: a redo if the worker was interrupted.
    pub staged: Option<Rc<Series>>,
    /// The conflict store.
    pub conflicts: BTreeSet<u32>,
}

impl Replica {
    /// A tree that nobody has touched.
    pub fn new() -> Replica {
        Replica {
            tree: [0; FILES],
            base: [0; FILES],
            copy_of: None,
            ready_for: Vec::new(),
            lineage: Lineage::default(),
            position: None,
            complete: true,
            staged: None,
            conflicts: BTreeSet::new(),
        }
    }

    /// A commit is in it.
    fn stand_at(&mut self, position: Position) {
        self.position = Some(position);
        self.lineage.stand_at(position);
    }

    /// Puts a file of the owner into its place; what was changed here is kept first.
    fn put(&mut self, file: usize, version: u32) {
        if self.tree[file] != self.base[file] && self.tree[file] != version {
            self.conflicts.insert(self.tree[file]);
        }
        (self.tree[file], self.base[file]) = (version, version);
    }
}

/// A state of the owner's tree on its way.
#[derive(Debug)]
pub struct Series {
    generation: Generation,
    commit: u64,
    /// What the owner's trees contain.
    lineage: Lineage,
    snapshot: Tree,
    /// The files that the peer lacks, in parts.
    parts: Vec<Vec<usize>>,
    /// Applied part by part, because there is no room to stage it.
    in_place: bool,
}

/// What the two workers say to each other, in a session.
#[derive(Clone, Debug)]
pub enum Message {
    /// The owner opens a session.
    Hello(u64, Generation),
    /// What the standby side has, and where it stands.
    Welcome(u64, Tree, Option<Position>),
    /// What is in its trees is to be kept before it is replaced: nothing counts as common.
    Disown(u64),
    /// A part of a series.
    Part(u64, Rc<Series>, usize),
    /// That part is durable.
    Ack(u64, usize),
    /// The series is applied.
    Applied(u64),
    /// Are you there?
    Ping(u64),
    /// Here.
    Pong(u64),
    /// No such session.
    Unknown(u64),
}

/// What a worker does for a group's mirror.
#[derive(Clone, Debug, Default)]
pub struct Engine {
    order: Option<(u32, MirrorDuty)>,
    /// The peer's incarnation that the order is for.
    peer: Option<u64>,
    approved: bool,
    ready_for: Option<Generation>,
    /// The owner's: why the peer's trees are not replaced.
    disputed: bool,
    /// The owner's: what that incarnation of the peer had last, and since when it lacks something.
    known: Option<Tree>,
    unsent_since_us: Option<u64>,
    told: Option<MirrorReport>,
    look: u32,
    /// The session; 0: none.
    session: u64,
    /// When the other end was heard last, in the world's time.
    heard_us: u64,
    /// The owner's: what the peer has.
    peer_has: Option<Tree>,
    /// The owner's: what is on its way, and whether the order to drain came before.
    flight: Option<(Rc<Series>, bool)>,
    /// A series was applied in this session.
    synced: bool,
    drained: bool,
    /// Barriers that are not in a series yet, and those that are.
    asked: Vec<(u64, Tree)>,
    carried: Vec<(u64, Tree)>,
    /// The receiver's: parts that are durable, and the series that they are of.
    parts: usize,
    taking: Option<Rc<Series>>,
}

/// Whether as owner, and in which generation.
fn reign(duty: MirrorDuty) -> Option<(bool, Generation)> {
    match duty {
        MirrorDuty::Still => None,
        MirrorDuty::Out(generation) | MirrorDuty::Drain(generation) => Some((true, generation)),
        MirrorDuty::In(generation) => Some((false, generation)),
    }
}

impl World {
    pub(super) fn replica(&mut self, index: NodeIndex, group: GroupIndex) -> &mut Replica {
        &mut self.nodes[index].replicas[usize::from(group.0)]
    }

    fn engine(&mut self, index: NodeIndex, group: GroupIndex) -> &mut Engine {
        &mut self.desk(index, group).engine
    }

    fn duty(&self, index: NodeIndex, group: GroupIndex) -> Option<MirrorDuty> {
        let desk = &self.nodes[index].worker.desks[usize::from(group.0)];
        desk.engine.order.map(|(_, duty)| duty)
    }

    pub(super) fn mirror_ordered(
        &mut self,
        index: NodeIndex,
        group: GroupIndex,
        order: u32,
        (duty, peer, terms): (MirrorDuty, PeerSync, MirrorTerms),
    ) {
        let before = self.duty(index, group);
        let engine = self.engine(index, group);
        engine.order = Some((order, duty));
        engine.approved |= terms.approved;
        let is_new = engine.peer != peer.incarnation;
        engine.peer = peer.incarnation;
        if is_new {
            (engine.known, engine.unsent_since_us) = (None, None);
            self.forget_session(index, group);
        }
        let replica = self.replica(index, group);
        if terms.began.is_some_and(|began| replica.ready_for.contains(&began)) {
            replica.copy_of = terms.began;
        }
        replica.ready_for.extend(terms.intent);
        self.engine(index, group).ready_for = terms.intent;
        if reign(duty).is_none() || before.and_then(reign) != reign(duty) {
            let engine = self.engine(index, group);
            (engine.known, engine.unsent_since_us) = (None, None);
            (engine.approved, engine.disputed) = (terms.approved, false);
            self.forget_session(index, group);
            self.refuse_syncs(index, group);
        }
        self.engine(index, group).drained = false;
        match duty {
            MirrorDuty::Out(generation) | MirrorDuty::Drain(generation) => {
                let replica = self.replica(index, group);
                replica.copy_of = Some(generation);
                replica.lineage.stand_at(Position { generation, commit: 0 });
                replica.complete = true;
                let engine = self.engine(index, group);
                engine.look += 1;
                let look = engine.look;
                self.deed_after(index, group, 500, Deed::MirrorLook(look));
            }
            MirrorDuty::Still | MirrorDuty::In(_) => {}
        }
        self.report_mirror(index, group);
    }

    /// A person has said that the trees here are the ones to keep.
    pub(super) fn approved(&mut self, index: NodeIndex, group: GroupIndex) {
        self.engine(index, group).approved = true;
    }

    fn forget_session(&mut self, index: NodeIndex, group: GroupIndex) {
        let engine = self.engine(index, group);
        engine.session = 0;
        (engine.peer_has, engine.flight, engine.taking) = (None, None, None);
        (engine.synced, engine.parts) = (false, 0);
        engine.asked.append(&mut engine.carried);
    }

    /// A barrier: answered once a state read from now on is acknowledged.
    pub(super) fn sync_asked(&mut self, index: NodeIndex, group: GroupIndex, request: u64) {
        let tree = self.replica(index, group).tree;
        self.engine(index, group).asked.push((request, tree));
        if !matches!(self.duty(index, group), Some(MirrorDuty::Out(_))) {
            self.refuse_syncs(index, group);
        }
    }

    fn refuse_syncs(&mut self, index: NodeIndex, group: GroupIndex) {
        let asked = std::mem::take(&mut self.engine(index, group).asked);
        for (request, _) in asked {
            let outcome = Err("not the owner any more".to_owned());
            self.report(index, Event::Synced { request, outcome });
        }
    }

    fn say(&mut self, from: NodeIndex, group: GroupIndex, message: Message) {
        let to = from.other();
        if !self.network.carries_sessions() {
            return;
        }
        let node = &self.nodes[to];
        let (boot, worker) = (node.boot, node.worker.id);
        let delay_us = if self.rng.chance(950) {
            self.rng.between(100, 2_000)
        } else {
            self.rng.time_us(2 * MS, 300 * MS)
        };
        // A stream: nothing overtakes what was said before.
        let last_us = &mut self.network.said_us[from];
        *last_us = (self.now_us + delay_us).max(*last_us + 1);
        let arrives_us = *last_us;
        self.at(arrives_us, Happening::Message { node: to, boot, worker, group, message });
    }

    pub(super) fn message_arrives(
        &mut self,
        index: NodeIndex,
        worker: u32,
        group: GroupIndex,
        message: Message,
    ) {
        if self.nodes[index].worker.id == worker {
            self.tell_worker(index, Input::Message(group, message));
        }
    }

    /// The owner looks at its tree and its session, again and again.
    pub(super) fn mirror_looks(&mut self, index: NodeIndex, group: GroupIndex, look: u32) {
        let owns = |duty| matches!(duty, Some(MirrorDuty::Out(_) | MirrorDuty::Drain(_)));
        if !owns(self.duty(index, group)) || self.engine(index, group).look != look {
            return;
        }
        let now_us = self.now_us;
        let cut = !self.network.carries_sessions();
        let engine = self.engine(index, group);
        if engine.session != 0 && (cut || now_us > engine.heard_us + SILENT_US) {
            self.forget_session(index, group);
        }
        let engine = self.engine(index, group);
        if engine.session == 0 && !cut {
            self.open_session(index, group);
        } else if engine.session != 0 && engine.flight.is_none() {
            self.gather(index, group);
        }
        self.report_mirror(index, group);
        let again_us = self.rng.time_us(5 * MS, 100 * MS);
        self.deed_after(index, group, again_us, Deed::MirrorLook(look));
    }

    fn open_session(&mut self, index: NodeIndex, group: GroupIndex) {
        let Some(MirrorDuty::Out(generation) | MirrorDuty::Drain(generation)) =
            self.duty(index, group)
        else {
            return;
        };
        let (session, now_us) = (self.rng.number() | 1, self.now_us);
        let engine = self.engine(index, group);
        (engine.session, engine.heard_us) = (session, now_us);
        self.say(index, group, Message::Hello(session, generation));
    }

    /// Reads the tree and sends what the peer lacks of it, if there is a reason to.
    fn gather(&mut self, index: NodeIndex, group: GroupIndex) {
        let snapshot = self.replica(index, group).tree;
        let (in_place, small) = (self.rng.chance(30), self.rng.chance(500));
        let duty = self.duty(index, group);
        let engine = self.engine(index, group);
        let session = engine.session;
        let Some(has) = engine.peer_has else { return };
        let drains = matches!(duty, Some(MirrorDuty::Drain(_))) && !engine.drained;
        if engine.synced && has == snapshot && !drains && engine.asked.is_empty() {
            return self.say(index, group, Message::Ping(session));
        }
        let Some(MirrorDuty::Out(generation) | MirrorDuty::Drain(generation)) = duty else {
            return;
        };
        let position = self.replica(index, group).position;
        let commit =
            position.filter(|at| at.generation == generation).map_or(1, |at| at.commit + 1);
        let lineage = self.replica(index, group).lineage.clone();
        let lacking: Vec<usize> = (0..FILES).filter(|&file| has[file] != snapshot[file]).collect();
        let parts: Vec<Vec<usize>> = if small || lacking.is_empty() {
            vec![lacking]
        } else {
            lacking.into_iter().map(|file| vec![file]).collect()
        };
        let in_place = in_place && parts.len() > 1;
        let series = Series { generation, commit, lineage, snapshot, parts, in_place };
        let series = Rc::new(series);
        let engine = self.engine(index, group);
        engine.flight = Some((series.clone(), drains));
        engine.carried = std::mem::take(&mut engine.asked);
        self.checkers.nothing_lost.committed(group, snapshot);
        self.say(index, group, Message::Part(session, series, 0));
    }

    pub(super) fn message_read(&mut self, index: NodeIndex, group: GroupIndex, message: Message) {
        let (now_us, duty) = (self.now_us, self.duty(index, group));
        let owner = matches!(duty, Some(MirrorDuty::Out(_) | MirrorDuty::Drain(_)));
        let session = self.engine(index, group).session;
        let known = |said: u64| said == session;
        match message {
            Message::Hello(said, generation) if duty == Some(MirrorDuty::In(generation)) => {
                let replica = self.replica(index, group);
                let (tree, busy) = (replica.tree, replica.staged.is_some());
                let position = replica.position;
                if !busy {
                    self.forget_session(index, group);
                    self.engine(index, group).session = said;
                    self.say(index, group, Message::Welcome(said, tree, position));
                }
            }
            Message::Part(said, series, part)
                if known(said) && duty == Some(MirrorDuty::In(series.generation)) =>
            {
                self.part_arrives(index, group, &series, part);
            }
            Message::Ping(said) if known(said) && !owner => {
                self.say(index, group, Message::Pong(said));
            }
            Message::Hello(said, _) | Message::Part(said, ..) | Message::Ping(said) => {
                self.say(index, group, Message::Unknown(said));
            }
            Message::Welcome(said, tree, position) if owner && known(said) => {
                let lineage = &self.replica(index, group).lineage;
                let follows = match position {
                    Some(position) => lineage.contains(position),
                    None => tree == [0; FILES],
                };
                let engine = self.engine(index, group);
                engine.heard_us = now_us;
                if !follows && !engine.approved {
                    engine.disputed = true;
                    self.forget_session(index, group);
                    return self.report_mirror(index, group);
                }
                engine.disputed = false;
                engine.peer_has = Some(tree);
                if !follows {
                    self.say(index, group, Message::Disown(said));
                }
                self.gather(index, group);
            }
            Message::Disown(said) if known(said) && !owner => {
                let replica = self.replica(index, group);
                // Versions that nobody wrote: whatever is here is another one.
                replica.base = [u32::MAX; FILES];
                (replica.copy_of, replica.position) = (None, None);
                replica.lineage = Lineage::default();
            }
            Message::Ack(said, part) if owner && known(said) => {
                self.engine(index, group).heard_us = now_us;
                self.part_acknowledged(index, group, part);
            }
            Message::Applied(said) if owner && known(said) => {
                self.engine(index, group).heard_us = now_us;
                self.series_applied(index, group);
            }
            Message::Pong(said) if owner && known(said) => {
                self.engine(index, group).heard_us = now_us;
            }
            Message::Unknown(said) if owner && known(said) => {
                self.forget_session(index, group);
                self.report_mirror(index, group);
            }
            Message::Welcome(..)
            | Message::Ack(..)
            | Message::Applied(_)
            | Message::Disown(_)
            | Message::Pong(_)
            | Message::Unknown(_) => {}
        }
    }

    fn part_arrives(
        &mut self,
        index: NodeIndex,
        group: GroupIndex,
        series: &Rc<Series>,
        part: usize,
    ) {
        if self.nodes[index].trees_full > 0 {
            return;
        }
        let engine = self.engine(index, group);
        if part == engine.parts {
            engine.taking = Some(series.clone());
            let session = engine.session;
            let takes_us = self.rng.time_us(MS, 40 * MS);
            self.deed_after(index, group, takes_us, Deed::Staged(session, part));
        }
    }

    pub(super) fn part_staged(
        &mut self,
        index: NodeIndex,
        group: GroupIndex,
        session: u64,
        part: usize,
    ) {
        if self.nodes[index].disk_stuck > 0 {
            return self.deed_after(index, group, 20_000, Deed::Staged(session, part));
        }
        let engine = self.engine(index, group);
        if engine.session != session || engine.parts != part {
            return;
        }
        let Some(series) = engine.taking.clone() else { return };
        engine.parts += 1;
        let last = engine.parts == series.parts.len();
        if last {
            (engine.parts, engine.taking) = (0, None);
            self.checkers_take(index, group, series.generation);
        }
        let replica = self.replica(index, group);
        if series.in_place {
            replica.complete = false;
            for &file in &series.parts[part] {
                replica.put(file, series.snapshot[file]);
            }
        }
        if last {
            replica.staged = Some(series);
            let takes_us = self.rng.time_us(MS, 30 * MS);
            self.deed_after(index, group, takes_us, Deed::Apply);
        }
        self.say(index, group, Message::Ack(session, part));
        self.report_mirror(index, group);
    }

    /// Puts one more file of the staged series into its place.
    pub(super) fn apply_step(&mut self, index: NodeIndex, group: GroupIndex) {
        let stuck = self.nodes[index].disk_stuck > 0;
        let replica = self.replica(index, group);
        let Some(series) = replica.staged.clone() else { return };
        let files = series.parts.iter().flatten();
        let there = |file: usize| [replica.tree[file], replica.base[file]];
        let next = files.copied().find(|&file| there(file) != [series.snapshot[file]; 2]);
        match next {
            Some(_) if stuck => {}
            Some(file) => replica.put(file, series.snapshot[file]),
            None => {
                replica.base = series.snapshot;
                // The newer of what was owned and what was taken.
                let of = [replica.copy_of, Some(series.generation)].into_iter().flatten();
                replica.copy_of = of.max_by_key(|of| of.number);
                replica.complete = true;
                replica.lineage = series.lineage.clone();
                let (generation, commit) = (series.generation, series.commit);
                replica.stand_at(Position { generation, commit });
                replica.staged = None;
                let session = self.engine(index, group).session;
                if session != 0 {
                    self.say(index, group, Message::Applied(session));
                }
                return self.report_mirror(index, group);
            }
        }
        let takes_us = self.rng.time_us(MS, 30 * MS);
        self.deed_after(index, group, takes_us, Deed::Apply);
    }

    fn part_acknowledged(&mut self, index: NodeIndex, group: GroupIndex, part: usize) {
        let engine = self.engine(index, group);
        let session = engine.session;
        let Some((series, _)) = engine.flight.clone() else { return };
        if part + 1 < series.parts.len() {
            return self.say(index, group, Message::Part(session, series, part + 1));
        }
        engine.peer_has = Some(series.snapshot);
        engine.known = Some(series.snapshot);
        let carried = std::mem::take(&mut engine.carried);
        let (generation, commit) = (series.generation, series.commit);
        let replica = self.replica(index, group);
        replica.base = series.snapshot;
        replica.stand_at(Position { generation, commit });
        let barriers: Vec<Tree> = carried.iter().map(|(_, tree)| *tree).collect();
        if let Err(what) = self.checkers.nothing_lost.promised(group, series.snapshot, &barriers) {
            self.wrong(what);
        }
        for (request, _) in carried {
            self.report(index, Event::Synced { request, outcome: Ok(String::new()) });
        }
    }

    fn series_applied(&mut self, index: NodeIndex, group: GroupIndex) {
        let engine = self.engine(index, group);
        let Some((_, drains)) = engine.flight.take() else { return };
        engine.synced = true;
        engine.drained |= drains;
        self.gather(index, group);
        self.report_mirror(index, group);
    }

    /// A change on the standby side ends the session: its owner must look again at what is here.
    pub(super) fn tree_touched(&mut self, index: NodeIndex, group: GroupIndex) {
        let worker = &self.nodes[index].worker;
        if worker.lives && matches!(self.duty(index, group), Some(MirrorDuty::In(_))) {
            self.forget_session(index, group);
        }
    }

    fn report_mirror(&mut self, index: NodeIndex, group: GroupIndex) {
        let Some((order, duty)) = self.engine(index, group).order else { return };
        let now_us = self.now_us;
        let replica = self.replica(index, group);
        let (complete, copy_of) = (replica.complete, replica.copy_of);
        let tree = replica.tree;
        let of_copy = replica.position.filter(|at| copy_of == Some(at.generation));
        let still = duty == MirrorDuty::Still && replica.staged.is_none();
        let engine = self.engine(index, group);
        let in_sync = engine.synced && matches!(duty, MirrorDuty::Out(_) | MirrorDuty::Drain(_));
        let owns = matches!(duty, MirrorDuty::Out(_) | MirrorDuty::Drain(_));
        let unsent = match engine.known.filter(|_| owns) {
            None => Unsent::Unknown,
            Some(known) if known == tree => {
                engine.unsent_since_us = None;
                Unsent::Nothing
            }
            Some(_) => {
                let since_us = *engine.unsent_since_us.get_or_insert(now_us);
                Unsent::Since { age_ms: (now_us - since_us) / 1000, files: 1, bytes: 1 }
            }
        };
        let state = match (in_sync, engine.disputed && owns) {
            (_, true) => MirrorState::Conflict,
            (true, false) => MirrorState::InSync,
            (false, false) => MirrorState::Syncing,
        };
        let drained = engine.drained && matches!(duty, MirrorDuty::Drain(_));
        let status = Mirror { state, ..Mirror::off() };
        let report = MirrorReport {
            order,
            still,
            drained,
            complete,
            copy_of,
            commit: of_copy.map_or(0, |at| at.commit),
            ready_for: engine.ready_for,
            empty: tree == [0; FILES],
            in_sync,
            unsent,
            stuck: 0,
            held: String::new(),
            status,
        };
        // The core counts an age on by itself.
        let gist = |report: &MirrorReport| {
            let began = std::mem::discriminant(&report.unsent);
            (began, MirrorReport { unsent: Unsent::Unknown, ..report.clone() })
        };
        if engine.told.as_ref().map(gist) != Some(gist(&report)) {
            engine.told = Some(report.clone());
            self.report(index, Event::Mirror { group, report });
        }
    }
}
