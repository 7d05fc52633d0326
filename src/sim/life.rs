//! Machines and processes: power, pauses, guard, the heart's start and death, the service manager.

use std::time::Duration;

use super::kernel::Kernel;
use super::node::{Guard, Heart, InFlight, Inbox, Request};
use super::work::RTNL_LOOK_US;
use super::world::{Happening, World};
use crate::beat::Codec;
use crate::config::NodeIndex;
use crate::core::Link;
use crate::core::{Core, Event, Sabotage, Time};
use crate::limits;

/// The pair's key.
const KEY: [u8; 32] = [42; 32];
/// The guard looks at the tick this often, in µs.
const GUARD_EVERY_US: u64 = limits::GUARD_ROUND.as_micros() as u64;
/// The guard waits this long for a killed heart to be gone before it deletes anyway, in µs.
const EXIT_PATIENCE_US: u64 = 100_000;
/// The service manager's pause before it starts a daemon again, in µs.
const SERVICE_RESTART_US: u64 = 1_000_000;

impl World {
    /// Gives a machine power: its kernel is empty, its disk has what was durable.
    pub fn power_on(&mut self, index: NodeIndex) {
        if self.nodes[index].powered {
            return;
        }
        self.trace.note(self.now_us, || format!("{} powers on", self.name(index)));
        let groups = self.config.groups.len();
        let node = &mut self.nodes[index];
        node.powered = true;
        node.boot += 1;
        node.kernel = Kernel::new(groups);
        node.carriers = [None; 3];
        let boot = node.boot;
        let start_us = self.rng.between(10_000, 300_000);
        self.after(start_us, Happening::DaemonStarts { node: index, boot });
        self.carriers_change();
    }

    /// Takes power away at once.
    pub fn power_cut(&mut self, index: NodeIndex) {
        if !self.nodes[index].powered {
            return;
        }
        self.trace.note(self.now_us, || format!("{} loses power", self.name(index)));
        let now_us = self.now_us;
        let node = &mut self.nodes[index];
        if node.paused > 0 {
            node.paused = 0;
            node.pauses_us += now_us - node.paused_at_us;
            node.woke_us = now_us;
        }
        node.powered = false;
        node.boot += 1;
        node.heart = None;
        node.will.clear();
        node.in_flight = None;
        node.unread_answer = false;
        node.kernel.remove_all();
        node.parked.clear();
        node.guard = Guard::Ended;
        node.guard_stopped = 0;
        node.guard_called = false;
        node.worker_stopped = 0;
        node.worker_late = false;
        node.worker.lives = false;
        node.unread_reports.clear();
        node.programs.fill(super::worker::Program::Stopped);
        self.checkers_lose_move(index);
        let node = &mut self.nodes[index];
        node.disk.crash(&mut self.rng);
        self.carriers_change();
    }

    /// Pauses the machine as a whole.
    pub fn pause(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        if node.paused == 0 {
            node.paused_at_us = self.now_us;
        }
        node.paused += 1;
    }

    /// Ends one reason for a pause; after the last the machine goes on where it was.
    pub fn unpause(&mut self, index: NodeIndex) {
        let now_us = self.now_us;
        let node = &mut self.nodes[index];
        node.paused = node.paused.saturating_sub(1);
        if node.paused > 0 {
            return;
        }
        node.pauses_us += now_us - node.paused_at_us;
        if let Some(heart) = &mut node.heart {
            heart.running_since_us = now_us;
        }
        for what in std::mem::take(&mut node.parked) {
            self.after(0, what);
        }
        self.wake_heart(index, 20);
    }

    /// Stops the heart's process (SIGSTOP).
    pub fn stop_heart(&mut self, index: NodeIndex) {
        let Some(heart) = &mut self.nodes[index].heart else { return };
        heart.stopped += 1;
        if heart.stopped == 1 {
            let id = heart.id;
            let boot = self.nodes[index].boot;
            let delay_us =
                limits::TICK_DEADLINE.as_micros() as u64 + self.rng.below(GUARD_EVERY_US);
            self.after(delay_us, Happening::GuardLooks { node: index, boot, heart: id });
        }
    }

    /// Lets that heart go on, if it is still there.
    pub fn continue_heart(&mut self, index: NodeIndex, id: u32) {
        let now_us = self.now_us;
        let node = &mut self.nodes[index];
        let Some(heart) = node.heart.as_mut().filter(|heart| heart.id == id) else { return };
        heart.stopped = heart.stopped.saturating_sub(1);
        if heart.stopped > 0 {
            return;
        }
        heart.running_since_us = now_us;
        if std::mem::take(&mut node.unread_answer) {
            self.request_answered(index);
        }
        self.pump_requests(index);
        self.wake_heart(index, 10);
    }

    /// Lets the guard go on: it forgives the heart the time that it missed itself.
    pub fn continue_guard(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        node.guard_stopped = node.guard_stopped.saturating_sub(1);
        if node.guard_stopped > 0 {
            return;
        }
        let boot = node.boot;
        if std::mem::take(&mut node.guard_called) {
            self.after(500, Happening::GuardActs { node: index, boot });
        }
        if let Some(heart) = self.nodes[index].heart.as_ref().filter(|heart| heart.stopped > 0) {
            let what = Happening::GuardLooks { node: index, boot, heart: heart.id };
            self.after(limits::TICK_DEADLINE.as_micros() as u64, what);
        }
    }

    /// Kills the guard.
    pub fn kill_guard(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        if node.guard != Guard::Running {
            return;
        }
        node.guard = Guard::Dead;
        node.guard_called = false;
        let boot = node.boot;
        match &mut node.heart {
            Some(heart) => {
                heart.inbox.link.push_back(Event::GuardGone);
                self.wake_heart(index, 100);
            }
            None => self.after(SERVICE_RESTART_US, Happening::DaemonStarts { node: index, boot }),
        }
    }

    /// The guard finds the heart's tick too old.
    pub(super) fn guard_looks(&mut self, index: NodeIndex, id: u32) {
        let node = &self.nodes[index];
        let stuck = node.heart.as_ref().is_some_and(|heart| heart.id == id && heart.stopped > 0);
        if stuck && node.guard_runs() {
            self.trace.note(self.now_us, || format!("{}'s guard kills", self.name(index)));
            self.kill_heart(index);
        }
    }

    /// Kills the heart's process. What the kernel does for it at the moment goes on.
    pub fn kill_heart(&mut self, index: NodeIndex) {
        if self.nodes[index].heart.is_none() {
            return;
        }
        self.trace.note(self.now_us, || format!("{}'s heart is killed", self.name(index)));
        self.heart_ends(index);
    }

    fn heart_ends(&mut self, index: NodeIndex) {
        let now_us = self.now_us;
        let node = &mut self.nodes[index];
        node.heart = None;
        let claims = |busy: InFlight| matches!(busy.request, Request::Claim(..));
        node.orphaned_claim = node.in_flight.is_some_and(claims);
        if std::mem::take(&mut node.unread_answer) {
            node.in_flight = None;
        }
        node.disk.crash(&mut self.rng);
        self.checkers_lose_move(index);
        let node = &mut self.nodes[index];
        let boot = node.boot;
        // What a paused kernel still has to answer may have been due before.
        let exits_us = match node.in_flight {
            // Nothing ends a call that waits for the lock.
            Some(_) if node.rtnl_held > 0 => u64::MAX,
            Some(request) => request.ends_us.max(now_us) + 200,
            None => now_us + 200,
        };
        match node.guard {
            Guard::Running => {
                let acts_us = exits_us.min(now_us + EXIT_PATIENCE_US);
                self.at(acts_us, Happening::GuardActs { node: index, boot });
            }
            Guard::Dead => {
                self.after(SERVICE_RESTART_US, Happening::DaemonStarts { node: index, boot });
            }
            Guard::Ended => {}
        }
    }

    /// The heart ends by itself, everything handed over.
    pub(super) fn heart_exits(&mut self, index: NodeIndex) {
        self.trace.note(self.now_us, || format!("{}'s heart exits", self.name(index)));
        if self.nodes[index].guard == Guard::Running {
            self.nodes[index].guard = Guard::Ended;
        }
        self.worker_ends(index);
        self.heart_ends(index);
    }

    pub(super) fn guard_acts(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        if node.heart.is_some() || node.guard != Guard::Running {
            return;
        }
        if node.guard_stopped > 0 {
            node.guard_called = true;
            return;
        }
        if node.in_flight.is_some() {
            // It waits for the end no longer: that heart has no will.
            node.will.clear();
        }
        let boot = node.boot;
        let takes_us = self.kernel_takes_us();
        if self.sabotage == Some(Sabotage::WillFirst) {
            self.say_will(index);
        }
        self.after(takes_us, Happening::GuardDeleted { node: index, boot });
    }

    pub(super) fn guard_deleted(&mut self, index: NodeIndex) {
        let now_us = self.now_us;
        let node = &mut self.nodes[index];
        if node.heart.is_some() || node.guard != Guard::Running {
            return;
        }
        let boot = node.boot;
        if node.rtnl_held > 0 {
            return self.after(RTNL_LOOK_US, Happening::GuardDeleted { node: index, boot });
        }
        node.kernel.remove_all();
        if node.in_flight.is_some() {
            self.after(50_000, Happening::GuardActs { node: index, boot });
            return;
        }
        let backoff_us = if now_us - node.heart_died_us < 5_000_000 { 100_000 } else { 0 };
        node.heart_died_us = now_us;
        let rest_us = if node.will.is_empty() { 0 } else { limits::WILL_REST.as_micros() as u64 };
        self.say_will(index);
        let delay_us = backoff_us.max(rest_us) + self.rng.between(3_000, 40_000);
        self.after(delay_us, Happening::HeartStarts { node: index, boot });
    }

    pub(super) fn daemon_starts(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        if node.guard != Guard::Running && node.heart.is_none() {
            if node.in_flight.is_some() {
                // The process before has not yet left the kernel.
                let boot = node.boot;
                return self.after(1_000, Happening::DaemonStarts { node: index, boot });
            }
            node.guard = Guard::Running;
            let boot = node.boot;
            self.worker_ends(index);
            self.heart_starts(index);
            self.after(1_000, Happening::WorkerStarts { node: index, boot });
        }
    }

    /// The second half of a restart: a daemon that did not end in time is killed; one that ended is
    /// started.
    pub fn restart_daemon(&mut self, index: NodeIndex) {
        self.kill_heart(index);
        self.start_daemon(index);
    }

    /// Starts a daemon that ended in order.
    pub fn start_daemon(&mut self, index: NodeIndex) {
        let node = &self.nodes[index];
        if node.powered && node.guard == Guard::Ended {
            let boot = node.boot;
            self.after(0, Happening::DaemonStarts { node: index, boot });
        }
    }

    pub(super) fn heart_starts(&mut self, index: NodeIndex) {
        let node = &self.nodes[index];
        if node.heart.is_some() || node.guard != Guard::Running || node.in_flight.is_some() {
            return;
        }
        if node.guard_stopped > 0 {
            self.nodes[index].guard_called = true;
            return;
        }
        let (incarnation, seed) = (self.rng.number() | 1, self.rng.number());
        let now_us = self.now_us;
        let node = &mut self.nodes[index];
        node.will.clear();
        let disk = node.disk.durable().clone();
        // A start takes a moment, so the core's time does not begin at 0.
        let start = Time(self.rng.between(1, 3_000));
        let birth_us = node.clock_us(now_us).saturating_sub(start.0);
        let birth_us = birth_us.min(node.clock_us(now_us));
        let start = Time(node.clock_us(now_us) - birth_us);
        if let Some(recording) = &mut self.recording {
            recording.start(index, &self.setup, incarnation, seed, &disk, start);
        }
        #[allow(unused_mut)]
        let mut core = Core::new(self.files[index].clone(), index, incarnation, seed, disk, start);
        if let Some(rule) = self.sabotage {
            core.sabotage(rule);
        }
        node.next_heart += 1;
        let id = node.next_heart;
        node.heart = Some(Heart {
            id,
            core,
            codec: Codec::new(&KEY, &self.config.cluster, self.config.group_tags(), index),
            birth_us,
            running_since_us: now_us,
            stopped: 0,
            inbox: Inbox::with(std::mem::take(&mut node.unread_reports)),
            round_at_us: None,
            handled_at: start,
            requests: Default::default(),
            claimed: vec![false; self.config.groups.len()],
            leased_us: vec![0; self.config.groups.len()],
            reach_round: 0,
            said_farewell: false,
        });
        self.checkers.generations.heart_started(index, now_us);
        self.trace.note(now_us, || {
            format!("{}'s heart starts, incarnation {incarnation:x}", self.name(index))
        });
        self.obey(index);
        self.set_round(index);
    }

    /// Looks for carriers that are not what a node was told, and lets the kernel report them.
    pub fn carriers_change(&mut self) {
        for index in NodeIndex::BOTH {
            for link in [Link::Lan, Link::Crossover] {
                let node = &self.nodes[index];
                let boot = node.boot;
                if node.powered
                    && node.carriers[link_place(link)] != Some(self.carrier(index, link))
                {
                    let (slow, quick) = (Duration::from_secs(1), Duration::from_micros(200));
                    let prompt = link == Link::Lan && self.kernels_are_prompt;
                    let late_us = if self.rng.chance(700) || prompt {
                        self.rng.between(200, 2_000)
                    } else {
                        self.rng.time_us(quick, slow)
                    };
                    self.after(late_us, Happening::Carrier { node: index, boot, link });
                }
            }
        }
    }

    /// The carrier as it is.
    pub(super) fn carrier(&self, index: NodeIndex, link: Link) -> bool {
        self.network.carrier(index, link, self.nodes[index.other()].powered)
    }

    pub(super) fn carrier_reported(&mut self, index: NodeIndex, link: Link) {
        let up = self.carrier(index, link);
        let node = &mut self.nodes[index];
        if node.rtnl_held > 0 {
            let boot = node.boot;
            return self.after(RTNL_LOOK_US, Happening::Carrier { node: index, boot, link });
        }
        node.carriers[link_place(link)] = Some(up);
        if let Some(heart) = &mut node.heart {
            heart.inbox.net.push_back(Event::Carrier { link, up });
            self.wake_heart(index, 20);
        }
    }
}

/// Where that link's carrier is kept.
pub(super) fn link_place(link: Link) -> usize {
    match link {
        Link::Lan => 0,
        Link::Crossover => 1,
        Link::Serial => 2,
    }
}
