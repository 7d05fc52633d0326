//! What an owner's worker does: it looks at its tree, opens sessions, sends what the peer lacks, and keeps
//! barriers.

use std::rc::Rc;
use std::time::Duration;

use super::super::checkers::Checkers;
use super::super::worker::Deed;
use super::super::world::World;
use super::replica::{FILES, Series, Tree};
use super::{Message, SILENT_US};
use crate::config::{GroupIndex, NodeIndex};
use crate::core::{Event, MirrorDuty};
use crate::mirror::lineage::Position;

const MS: Duration = Duration::from_millis(1);

impl World {
    /// A barrier: answered once a state read from now on is acknowledged.
    pub(in super::super) fn sync_asked(
        &mut self,
        index: NodeIndex,
        group: GroupIndex,
        request: u64,
    ) {
        let tree = self.replica(index, group).tree;
        self.engine(index, group).asked.push((request, tree));
        if !matches!(self.duty(index, group), Some(MirrorDuty::Out(_))) {
            self.refuse_syncs(index, group);
        }
    }

    pub(super) fn refuse_syncs(&mut self, index: NodeIndex, group: GroupIndex) {
        let asked = std::mem::take(&mut self.engine(index, group).asked);
        for (request, _) in asked {
            let outcome = Err("not the owner any more".to_owned());
            self.report(index, Event::Synced { request, outcome });
        }
    }

    /// The owner looks at its tree and its session, again and again.
    pub(in super::super) fn mirror_looks(
        &mut self,
        index: NodeIndex,
        group: GroupIndex,
        look: u32,
    ) {
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
        // Durable before the peer can have it; each attempt has a number of its own.
        let lineage = &mut self.replica(index, group).lineage;
        let commit = lineage.commit_of(generation) + 1;
        lineage.stand_at(Position { generation, commit });
        let lineage = lineage.clone();
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

    /// The peer says what it has.
    pub(super) fn welcomed(
        &mut self,
        index: NodeIndex,
        group: GroupIndex,
        said: u64,
        (tree, position): (Tree, Option<Position>),
    ) {
        let lineage = &self.replica(index, group).lineage;
        let follows = match position {
            Some(position) => lineage.contains(position),
            None => tree == [0; FILES],
        };
        let now_us = self.now_us;
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

    pub(super) fn part_acknowledged(&mut self, index: NodeIndex, group: GroupIndex, part: usize) {
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
        let Checkers { nothing_lost, histories, .. } = &mut self.checkers;
        let history = &histories[usize::from(group.0)];
        if let Err(what) = nothing_lost.promised(group, series.snapshot, &barriers, history) {
            self.wrong(what);
        }
        for (request, _) in carried {
            self.report(index, Event::Synced { request, outcome: Ok(String::new()) });
        }
    }

    pub(super) fn series_applied(&mut self, index: NodeIndex, group: GroupIndex) {
        let engine = self.engine(index, group);
        let Some((_, drains)) = engine.flight.take() else { return };
        engine.synced = true;
        engine.drained |= drains;
        self.gather(index, group);
        self.report_mirror(index, group);
    }
}
