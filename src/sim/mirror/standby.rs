//! What the worker on the standby side does: it stages what the owner sends, acknowledges it, and applies it.

use std::rc::Rc;
use std::time::Duration;

use super::super::worker::Deed;
use super::super::world::World;
use super::Message;
use super::replica::Series;
use crate::config::{GroupIndex, NodeIndex};
use crate::mirror::lineage::Position;

const MS: Duration = Duration::from_millis(1);

impl World {
    /// The owner opens a session: it is told what is here, unless a series is still being applied.
    pub(super) fn session_offered(&mut self, index: NodeIndex, group: GroupIndex, said: u64) {
        let replica = self.replica(index, group);
        let (tree, position) = (replica.tree, replica.position);
        if replica.staged.is_none() {
            self.forget_session(index, group);
            self.engine(index, group).session = said;
            self.say(index, group, Message::Welcome(said, tree, position));
        }
    }

    pub(super) fn part_arrives(
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

    pub(in super::super) fn part_staged(
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
    pub(in super::super) fn apply_step(&mut self, index: NodeIndex, group: GroupIndex) {
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
}
