//! A node's worker as a process: orders in, reports out; and the services that it starts and stops.
//! What it does for mirrors is in `mirror`.
//!
//! Services live on when the worker dies, and end with the machine's power. So does nothing that the
//! worker was ordered: a new one waits to be told again.

use std::collections::VecDeque;
use std::time::Duration;

use super::mirror::{Engine, Message};
use super::node::Guard;
use super::world::{Happening, World};
use crate::config::{GroupIndex, NodeIndex};
use crate::core::{Command, Event, ServiceDuty, ServiceReport, ServiceWord};
use crate::limits;

const MS: Duration = Duration::from_millis(1);
/// A service that hangs in its stop is killed after this, in µs; the simulated config says so, too.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest start of a service.
pub const START_TIMEOUT: Duration = Duration::from_secs(2);
/// A stopped process looks again after this, in µs.
const STOPPED_US: u64 = 20_000;
/// Reports that wait in the socket while no heart is there.
const REPORTS_MAX: usize = 16;

/// How a group's services are on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Nothing runs.
    Stopped,
    /// On the way up.
    Starting,
    /// They serve.
    Up,
    /// On the way down.
    Stopping,
}

impl Program {
    /// Whether anything of them may run.
    pub fn runs(self) -> bool {
        self != Program::Stopped
    }
}

/// What a worker reads from its sockets.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Input {
    /// From the heart.
    Order(Command),
    /// From the peer's worker.
    Message(GroupIndex, Message),
}

/// What a worker has begun and comes back to.
#[derive(Clone, Copy, Debug)]
pub enum Deed {
    /// The services are where they were going.
    ServicesMoved(u32),
    /// The services are looked at again.
    ServicesLook,
    /// The owner's mirror looks at its trees and its session.
    MirrorLook(u32),
    /// A part of a series is durable.
    Staged(u64, usize),
    /// The next file of a staged series is put into its place.
    Apply,
}

/// What a worker knows of one group.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    services: Option<(u32, ServiceDuty)>,
    failed: bool,
    /// The move that counts.
    moving: u32,
    told: Option<ServiceReport>,
    /// Its mirror.
    pub engine: Engine,
}

/// The process.
#[derive(Debug, Default)]
pub struct Worker {
    /// Number of this process on this node, rising.
    pub id: u32,
    /// It is there.
    pub lives: bool,
    inbox: VecDeque<Input>,
    /// By group.
    pub desks: Vec<Desk>,
}

impl World {
    /// Whether anything of a group is the worker's.
    fn has_work(&self, group: GroupIndex) -> bool {
        let setup = &self.setup.groups[usize::from(group.0)];
        setup.mirror || setup.service.is_some()
    }

    /// The guard starts the worker.
    pub(super) fn worker_starts(&mut self, index: NodeIndex) {
        let groups = self.config.groups.len();
        let node = &mut self.nodes[index];
        if node.guard == Guard::Running && node.guard_stopped > 0 {
            let boot = node.boot;
            return self.after(100_000, Happening::WorkerStarts { node: index, boot });
        }
        if node.worker.lives || node.guard != Guard::Running {
            return;
        }
        let id = node.worker.id + 1;
        let desks = vec![Desk::default(); groups];
        node.worker = Worker { id, lives: true, inbox: VecDeque::new(), desks };
        self.trace.note(self.now_us, || format!("{}'s worker starts", self.name(index)));
        self.report(index, Event::WorkerStarted);
        if self.setup.is_furnished() {
            self.worker_says(index, id);
        }
        for (group, _) in self.config.clone().groups() {
            if self.replica(index, group).staged.is_some() {
                self.deed_after(index, group, 1_000, Deed::Apply);
            }
        }
    }

    /// The worker says that it works, again and again.
    pub(super) fn worker_says(&mut self, index: NodeIndex, worker: u32) {
        let node = &self.nodes[index];
        if !node.worker.lives || node.worker.id != worker {
            return;
        }
        let boot = node.boot;
        if node.worker_stopped == 0 {
            self.report(index, Event::WorkerAlive);
        }
        let every_us = limits::WORKER_SAYS_EVERY.as_micros() as u64;
        self.after(every_us, Happening::WorkerSays { node: index, boot, worker });
    }

    /// The worker is gone; what it was doing with services stops half-way.
    pub(super) fn worker_ends(&mut self, index: NodeIndex) {
        if !self.nodes[index].worker.lives {
            return;
        }
        self.nodes[index].worker.lives = false;
        self.nodes[index].worker.inbox.clear();
        for at in 0..self.nodes[index].programs.len() {
            let there = self.rng.chance(500);
            let program = &mut self.nodes[index].programs[at];
            *program = match *program {
                Program::Starting | Program::Stopping if there => Program::Up,
                Program::Starting | Program::Stopping => Program::Stopped,
                Program::Stopped | Program::Up => *program,
            };
        }
    }

    /// Kills the worker; the guard starts another.
    pub fn kill_worker(&mut self, index: NodeIndex) {
        if !self.nodes[index].worker.lives {
            return;
        }
        self.trace.note(self.now_us, || format!("{}'s worker is killed", self.name(index)));
        self.worker_ends(index);
        let boot = self.nodes[index].boot;
        let delay_us = self.rng.time_us(5 * MS, 500 * MS);
        self.after(delay_us, Happening::WorkerStarts { node: index, boot });
    }

    /// Something to read for the worker, if it lives.
    pub(super) fn tell_worker(&mut self, index: NodeIndex, input: Input) {
        let node = &mut self.nodes[index];
        if !node.worker.lives {
            return;
        }
        node.worker.inbox.push_back(input);
        let (boot, worker) = (node.boot, node.worker.id);
        let delay_us = self.rng.time_us(MS / 50, 2 * MS);
        self.after(delay_us, Happening::WorkerReads { node: index, boot, worker });
    }

    pub(super) fn worker_reads(&mut self, index: NodeIndex, worker: u32) {
        let node = &mut self.nodes[index];
        if !node.worker.lives || node.worker.id != worker || node.worker.inbox.is_empty() {
            return;
        }
        if node.worker_stopped > 0 {
            let boot = node.boot;
            return self.after(STOPPED_US, Happening::WorkerReads { node: index, boot, worker });
        }
        for input in std::mem::take(&mut self.nodes[index].worker.inbox) {
            match input {
                Input::Order(Command::Services { group, order, duty }) => {
                    self.desk(index, group).services = Some((order, duty));
                    self.tend_services(index, group);
                }
                Input::Order(Command::Mirror { group, order, duty, peer, terms }) => {
                    self.mirror_ordered(index, group, order, (duty, peer, terms));
                }
                Input::Order(Command::Approve { group }) => self.approved(index, group),
                Input::Order(Command::Sync { request, group }) => {
                    self.sync_asked(index, group, request);
                }
                Input::Order(other) => panic!("no order for a worker: {other:?}"),
                Input::Message(group, message) => self.message_read(index, group, message),
            }
        }
    }

    pub(super) fn desk(&mut self, index: NodeIndex, group: GroupIndex) -> &mut Desk {
        &mut self.nodes[index].worker.desks[usize::from(group.0)]
    }

    /// The worker comes back to something after a delay.
    pub(super) fn deed_after(
        &mut self,
        index: NodeIndex,
        group: GroupIndex,
        delay_us: u64,
        deed: Deed,
    ) {
        let node = &self.nodes[index];
        let (boot, worker) = (node.boot, node.worker.id);
        self.after(delay_us, Happening::Deed { node: index, boot, worker, group, deed });
    }

    pub(super) fn deed(&mut self, index: NodeIndex, worker: u32, group: GroupIndex, deed: Deed) {
        let node = &self.nodes[index];
        if !node.worker.lives || node.worker.id != worker {
            return;
        }
        if node.worker_stopped > 0 {
            return self.deed_after(index, group, STOPPED_US, deed);
        }
        match deed {
            Deed::ServicesMoved(serial) if self.desk(index, group).moving == serial => {
                self.services_moved(index, group);
            }
            Deed::ServicesMoved(_) => {}
            Deed::ServicesLook => {
                self.desk(index, group).failed = false;
                self.tend_services(index, group);
            }
            Deed::MirrorLook(serial) => self.mirror_looks(index, group, serial),
            Deed::Staged(session, part) => self.part_staged(index, group, session, part),
            Deed::Apply => self.apply_step(index, group),
        }
    }

    /// Sends a report to the heart; it waits in the socket while none is there.
    pub(super) fn report(&mut self, index: NodeIndex, event: Event) {
        let node = &mut self.nodes[index];
        match &mut node.heart {
            Some(heart) => {
                heart.inbox.link.push_back(event);
                self.wake_heart(index, 50);
            }
            None if node.unread_reports.len() < REPORTS_MAX => node.unread_reports.push(event),
            None => {}
        }
    }

    /// Goes to where the newest order wants the services, one step after the other.
    fn tend_services(&mut self, index: NodeIndex, group: GroupIndex) {
        let at = usize::from(group.0);
        let Some(warm) = self.setup.groups[at].service else { return };
        let Some((_, duty)) = self.desk(index, group).services else { return };
        let up = match duty {
            ServiceDuty::Leave => {
                return self.report_services(index, group, ServiceWord::Unknown);
            }
            ServiceDuty::Run => true,
            ServiceDuty::Standby => warm,
            ServiceDuty::End => false,
        };
        let program = self.nodes[index].programs[at];
        let stuck = self.nodes[index].service_fails[at] > 0;
        let takes_us = match (program, up) {
            (Program::Starting | Program::Stopping, _) => {
                return self.report_services(index, group, ServiceWord::Changing);
            }
            (Program::Up, true) | (Program::Stopped, false) => {
                self.desk(index, group).failed = false;
                return self.report_services(index, group, ServiceWord::Done);
            }
            (Program::Stopped, true) if self.desk(index, group).failed => {
                return self.report_services(index, group, ServiceWord::Failed);
            }
            (Program::Stopped, true) => {
                self.nodes[index].programs[at] = Program::Starting;
                let longest = if stuck { 100 * MS } else { START_TIMEOUT };
                self.rng.time_us(10 * MS, longest)
            }
            (Program::Up, false) => {
                self.nodes[index].programs[at] = Program::Stopping;
                if self.rng.chance(100) {
                    STOP_TIMEOUT.as_micros() as u64 + self.rng.below(200_000)
                } else {
                    self.rng.time_us(10 * MS, STOP_TIMEOUT)
                }
            }
        };
        let desk = self.desk(index, group);
        desk.moving += 1;
        let serial = desk.moving;
        self.deed_after(index, group, takes_us, Deed::ServicesMoved(serial));
        self.report_services(index, group, ServiceWord::Changing);
    }

    fn services_moved(&mut self, index: NodeIndex, group: GroupIndex) {
        let at = usize::from(group.0);
        let fails = self.nodes[index].service_fails[at] > 0;
        let program = &mut self.nodes[index].programs[at];
        match *program {
            Program::Starting if fails => {
                *program = Program::Stopped;
                self.services_failed(index, group);
            }
            Program::Starting => *program = Program::Up,
            Program::Stopping => *program = Program::Stopped,
            Program::Stopped | Program::Up => {}
        }
        self.tend_services(index, group);
    }

    fn services_failed(&mut self, index: NodeIndex, group: GroupIndex) {
        self.desk(index, group).failed = true;
        let again_us = self.rng.time_us(500 * MS, 2_000 * MS);
        self.deed_after(index, group, again_us, Deed::ServicesLook);
    }

    /// A service that ran dies, and will not start again for a while.
    pub(super) fn service_dies(&mut self, index: NodeIndex, group: GroupIndex) {
        let at = usize::from(group.0);
        let node = &mut self.nodes[index];
        if node.programs[at] != Program::Up {
            return;
        }
        node.programs[at] = Program::Stopped;
        if node.worker.lives {
            self.services_failed(index, group);
            self.tend_services(index, group);
        }
    }

    fn report_services(&mut self, index: NodeIndex, group: GroupIndex, word: ServiceWord) {
        let desk = self.desk(index, group);
        let Some((order, _)) = desk.services else { return };
        let why = if word == ServiceWord::Done { "" } else { "as simulated" };
        let report = ServiceReport { order, word, why: why.to_owned(), services: Vec::new() };
        if desk.told.as_ref() != Some(&report) {
            desk.told = Some(report.clone());
            self.report(index, Event::Services { group, report });
        }
    }

    /// Hands an order on to the worker.
    pub(super) fn order_worker(&mut self, index: NodeIndex, command: Command) {
        let about = match &command {
            Command::Services { group, .. }
            | Command::Mirror { group, .. }
            | Command::Approve { group }
            | Command::Sync { group, .. } => *group,
            other => panic!("no order for a worker: {other:?}"),
        };
        if self.has_work(about) {
            self.tell_worker(index, Input::Order(command));
        }
    }
}
