//! A group's tree on a node, and how the worker keeps two of them equal.
//!
//! A tree is a few files, each at a version; every version ever written has a number (the checkers'
//! `history` keeps them). The owner opens a session, learns what the peer has, and sends a series:
//! a state of its whole tree, in parts. The receiver stages a part, makes it durable, acknowledges it;
//! what is staged to its end is applied file by file, whatever happens, and else forgotten.

mod owner;
pub mod replica;
mod standby;

use std::rc::Rc;
use std::time::Duration;

use super::worker::{Deed, Input};
use super::world::{Happening, World};
use crate::config::{GroupIndex, NodeIndex};
use crate::control::status::{Mirror, MirrorState};
use crate::core::{Event, Generation, MirrorDuty, MirrorReport, MirrorTerms, PeerSync, Unsent};
use crate::mirror::lineage::Position;

use replica::{FILES, Replica, Series, Tree};

const MS: Duration = Duration::from_millis(1);
/// A session whose other end says nothing for this long is given up, in µs.
const SILENT_US: u64 = 700_000;

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
fn generation(duty: MirrorDuty) -> Option<(bool, Generation)> {
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
        let began = terms.began.filter(|began| replica.ready_for.contains(began));
        if began.map(|it| it.number) > replica.copy_of.map(|it| it.number) {
            replica.copy_of = began;
        }
        replica.ready_for.extend(terms.intent);
        self.engine(index, group).ready_for = terms.intent;
        if generation(duty).is_none() || before.and_then(generation) != generation(duty) {
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

    pub(super) fn message_read(&mut self, index: NodeIndex, group: GroupIndex, message: Message) {
        let (now_us, duty) = (self.now_us, self.duty(index, group));
        let owner = matches!(duty, Some(MirrorDuty::Out(_) | MirrorDuty::Drain(_)));
        let session = self.engine(index, group).session;
        let known = |said: u64| said == session;
        match message {
            Message::Hello(said, generation) if duty == Some(MirrorDuty::In(generation)) => {
                self.session_offered(index, group, said);
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
                self.welcomed(index, group, said, (tree, position));
            }
            Message::Disown(said) if known(said) && !owner => {
                self.replica(index, group).disown();
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
        let commit = copy_of.map_or(0, |of| replica.lineage.commit_of(of));
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
            known: true,
            copy_of,
            commit,
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
