//! What a heart does in a round, what its core's commands do, and what the kernel and the disk do
//! for them.

use std::time::Duration;

use super::disk::Write;
use super::life::link_place;
use super::node::{InFlight, Request};
use super::world::{Arp, Happening, World};
use crate::beat::{Incoming, Path, Session};
use crate::config::{GroupIndex, NodeIndex};
use crate::core::{Command, Event, MirrorDuty, Time};
use crate::core::{Holder, Link};
use crate::limits;

/// ARP frames that a heart reads in one round.
const LAN_A_ROUND: usize = 32;
/// What waits for the kernel's lock looks this often whether it is free, in µs.
pub(super) const RTNL_LOOK_US: u64 = 1_000;

/// Whether what was asked for then is too old by now.
pub(super) fn is_late(asked_us: u64, clock_us: u64) -> bool {
    clock_us.saturating_sub(asked_us) > limits::CLAIM_AGE_MAX.as_micros() as u64
}

impl World {
    /// Lets the heart's loop wake, at the latest after a delay.
    pub fn wake_heart(&mut self, index: NodeIndex, delay_us: u64) {
        let mut at_us = self.now_us + delay_us + self.rng.below(40);
        if self.nodes[index].loaded > 0 && self.rng.chance(100) {
            at_us += self.rng.below(30_000);
        }
        self.round_at(index, at_us);
    }

    fn round_at(&mut self, index: NodeIndex, at_us: u64) {
        let Some(heart) = &mut self.nodes[index].heart else { return };
        if heart.round_at_us.is_none_or(|due_us| at_us < due_us) {
            heart.round_at_us = Some(at_us);
            let heart = heart.id;
            self.at(at_us, Happening::Round { node: index, heart });
        }
    }

    /// Arms the next round: at the core's deadline, or at once if something is left to read.
    pub(super) fn set_round(&mut self, index: NodeIndex) {
        let node = &self.nodes[index];
        let Some(heart) = &node.heart else { return };
        if !heart.inbox.is_empty() {
            return self.wake_heart(index, 10);
        }
        let deadline_us = node.world_us(heart.birth_us + heart.core.next_deadline().0);
        let delay_us = deadline_us.saturating_sub(self.now_us);
        // A core that wants a far deadline is looked at again by then; nothing overflows.
        self.wake_heart(index, delay_us.min(Duration::from_secs(3600).as_micros() as u64));
    }

    /// One round of the loop: netlink answers, ARP, the paths, worker and operator, then time.
    pub(super) fn round(&mut self, index: NodeIndex, id: u32) {
        let now_us = self.now_us;
        let Some(heart) = self.nodes[index].running_heart() else {
            // A stopped process wakes when it goes on.
            if let Some(heart) = &mut self.nodes[index].heart {
                heart.round_at_us = None;
            }
            return;
        };
        if heart.id != id || heart.round_at_us.is_none_or(|due_us| due_us > now_us) {
            return;
        }
        heart.round_at_us = None;
        let mut events: Vec<Event> = heart.inbox.net.drain(..).collect();
        let lan = heart.inbox.lan.len().min(LAN_A_ROUND);
        events.extend(heart.inbox.lan.drain(..lan));
        for event in events {
            self.handle(index, id, event);
        }
        for path in [Path::Lan, Path::Crossover, Path::Serial] {
            let Some(now) = self.core_time(index) else { return };
            let now_us = now.0;
            let Some(heart) = self.living(index, id) else { return };
            for frame in heart.inbox.frames_of_a_round(path) {
                let Some(heart) = self.living(index, id) else { return };
                let (my_incarnation, peer_incarnation, peer_digest) = heart.core.session();
                let session = Session { my_incarnation, peer_incarnation, peer_digest, now_us };
                let event = match heart.codec.decode(path, &frame.bytes, &session) {
                    Ok(Incoming::Pulse(pulse)) => Event::Pulsed(pulse),
                    Ok(Incoming::Beat(beat)) => {
                        if beat.peer_incarnation == my_incarnation {
                            self.checkers.generations.heard(index, beat.may_claim);
                            self.checkers.excuses.heard(index);
                        }
                        Event::Heard { path, beat }
                    }
                    Err(reason) => Event::Refused { path, reason },
                };
                self.handle(index, id, event);
            }
        }
        let Some(heart) = self.living(index, id) else { return };
        let events: Vec<Event> = heart.inbox.link.drain(..).collect();
        for event in events {
            self.handle(index, id, event);
        }
        if let Some(heart) = self.living(index, id) {
            let deadline = heart.core.next_deadline();
            if self.core_time(index).is_some_and(|now| now >= deadline) {
                self.handle(index, id, Event::Tick);
            }
        }
        self.set_round(index);
    }

    fn living(&mut self, index: NodeIndex, id: u32) -> Option<&mut super::node::Heart> {
        self.nodes[index].heart.as_mut().filter(|heart| heart.id == id)
    }

    /// The time as that node's core has it.
    pub fn core_time(&self, index: NodeIndex) -> Option<Time> {
        let node = &self.nodes[index];
        let heart = node.heart.as_ref()?;
        Some(Time(node.clock_us(self.now_us).saturating_sub(heart.birth_us)))
    }

    fn handle(&mut self, index: NodeIndex, id: u32, event: Event) {
        let Some(now) = self.core_time(index) else { return };
        if self.living(index, id).is_none() || self.violation.is_some() {
            return;
        }
        self.trace.note(self.now_us, || match &event {
            Event::Heard { path, beat } => format!(
                "{} < heard {} seq {} of {:x} to {:x} {:?}{} {:?}",
                self.name(index),
                path.name(),
                beat.sequence,
                beat.incarnation,
                beat.peer_incarnation,
                beat.state,
                match (beat.farewell, beat.will) {
                    (true, _) => " farewell",
                    (false, true) => " will",
                    (false, false) => "",
                },
                beat.groups
            ),
            other => format!("{} < {other:?}", self.name(index)),
        });
        if let Some(recording) = &mut self.recording {
            recording.event(index, now, &event);
        }
        let owed = self.owed_after_gap(index, now);
        if let Event::Held { group, .. } = &event {
            self.checkers.generations.held(index, *group);
        }
        let Some(heart) = self.living(index, id) else { return };
        heart.handled_at = now;
        heart.core.handle(now, event);
        heart.core.check_invariants();
        let released = self.obey(index);
        for group in owed {
            if !released.contains(&group) {
                self.wrong(format!(
                    "{} comes back after more than a lease and does not first release group {}",
                    self.name(index),
                    group.0
                ));
            }
        }
    }

    /// After a gap longer than the lease: the groups that must be released before anything else.
    fn owed_after_gap(&self, index: NodeIndex, now: Time) -> Vec<GroupIndex> {
        let node = &self.nodes[index];
        let Some(heart) = &node.heart else { return Vec::new() };
        if now.since(heart.handled_at) < limits::LEASE + Duration::from_millis(100) {
            return Vec::new();
        }
        let releasing = |group| {
            let is_release =
                |request: Request| matches!(request, Request::Release(of, _) if of == group);
            heart.requests.iter().any(|(request, _)| is_release(*request))
                || node.in_flight.is_some_and(|busy| is_release(busy.request))
        };
        self.config
            .groups()
            .map(|(group, _)| group)
            .filter(|&group| {
                node.kernel.holds(group) && heart.claimed[usize::from(group.0)] && !releasing(group)
            })
            .collect()
    }

    /// Does what the core wants done; says which groups it releases.
    pub(super) fn obey(&mut self, index: NodeIndex) -> Vec<GroupIndex> {
        let mut released = Vec::new();
        let mut exits = false;
        while let Some(heart) = &mut self.nodes[index].heart {
            let Some(command) = heart.core.poll() else { break };
            if let Some(recording) = &mut self.recording {
                recording.command(index, heart.handled_at, &command);
            }
            self.trace.note(self.now_us, || match &command {
                Command::Send { path, beat } => format!(
                    "{} > send {} seq {} to {:x} hears {:?} {:?}{}{}{} {:?}",
                    self.name(index),
                    path.name(),
                    beat.sequence,
                    beat.peer_incarnation,
                    beat.hears,
                    beat.state,
                    if beat.ask_answer { " ask" } else { "" },
                    if beat.may_claim { " may-claim" } else { "" },
                    if beat.farewell { " farewell" } else { "" },
                    beat.groups
                ),
                Command::Tell(told) => {
                    format!(
                        "{} > TELL {:?} {:?} {}",
                        self.name(index),
                        told.kind,
                        told.group,
                        told.text
                    )
                }
                other => format!("{} > {other:?}", self.name(index)),
            });
            match command {
                Command::Will { beat } => self.seal_will(index, beat),
                Command::Sweep => self.request(index, Request::Sweep),
                Command::Send { path, beat } => {
                    if let Err(what) = self.checkers.generations.sent(index, &beat) {
                        self.wrong(what);
                    }
                    self.transmit(index, path, beat);
                }
                Command::Pulse(pulse) => self.transmit_pulse(index, &pulse),
                Command::LookAtCarriers => self.request(index, Request::Look),
                Command::AskReach { round } => self.ask_reach(index, round),
                Command::Probe { group, .. } => self.send_arp(index, group, Arp::Probe),
                Command::Claim { group, claim } => {
                    let cut_off =
                        self.nodes[index.other()].powered && self.checkers.one_owner.isolated();
                    self.checkers.generations.claimed(index, group, self.now_us, cut_off);
                    self.check_claim(index, group);
                    self.request(index, Request::Claim(group, claim));
                }
                Command::Renew { group, claim } => {
                    self.request(index, Request::Renew(group, claim));
                }
                Command::Release { group, release } => {
                    released.push(group);
                    self.checkers.generations.released(index, group);
                    self.request(index, Request::Release(group, release));
                }
                Command::Announce { group } => {
                    if self.network.on_lan(index) {
                        self.clients_use[usize::from(group.0)] = Some(index);
                    }
                    self.send_arp(index, group, Arp::Announcement);
                }
                Command::Persist { write, state } => {
                    if state.alone && !self.nodes[index].will.is_empty() {
                        let name = self.name(index);
                        self.wrong(format!("{name} has a last will and will say alone on disk"));
                    }
                    if self.nodes[index].disk.ask(Write { number: write, state }) {
                        self.write_begins(index);
                    }
                }
                Command::Tell(told) => self.told(index, &told),
                Command::Answer { .. } => {}
                // The simulated world has no connections.
                Command::Clients { .. } | Command::Tickle { .. } => {}
                Command::Services { .. }
                | Command::Mirror { .. }
                | Command::Approve { .. }
                | Command::Sync { .. } => {
                    if let Command::Mirror { group, duty: MirrorDuty::In(generation), .. } = command
                    {
                        self.check_in(index, group, generation);
                    }
                    self.order_worker(index, command);
                }
                // Nobody edits a file in this world.
                Command::Configured | Command::Addresses { .. } => {}
                Command::Exit => exits = true,
            }
        }
        if exits {
            self.heart_exits(index);
        }
        released
    }

    fn request(&mut self, index: NodeIndex, request: Request) {
        let node = &mut self.nodes[index];
        let clock_us = node.clock_us(self.now_us);
        if let Some(heart) = &mut node.heart {
            heart.requests.push_back((request, clock_us));
        }
        self.pump_requests(index);
    }

    /// How long a netlink request takes: mostly 50 µs, at worst 80 ms behind the kernel's lock.
    pub(super) fn kernel_takes_us(&mut self) -> u64 {
        if self.rng.chance(980) || self.kernels_are_prompt {
            self.rng.between(30, 150)
        } else {
            self.rng.time_us(Duration::from_micros(150), Duration::from_millis(80))
        }
    }

    /// The netlink thread begins the next request, if it is idle.
    pub(super) fn pump_requests(&mut self, index: NodeIndex) {
        let now_us = self.now_us;
        let node = &mut self.nodes[index];
        let clock_us = node.clock_us(now_us);
        if !node.runs() || node.in_flight.is_some() || node.unread_answer {
            return;
        }
        let Some(heart) = node.heart.as_mut().filter(|heart| heart.stopped == 0) else { return };
        let Some((request, asked_us)) = heart.requests.pop_front() else { return };
        let old = is_late(asked_us, clock_us);
        let lease_us = limits::LEASE.as_micros() as u64;
        match request {
            Request::Claim(group, claim) | Request::Renew(group, claim) if old => {
                let error = "the request waited too long".to_owned();
                heart.inbox.net.push_back(Event::HoldFailed { group, claim, error });
                self.wake_heart(index, 20);
                return self.pump_requests(index);
            }
            Request::Renew(group, claim)
                if clock_us >= heart.leased_us[usize::from(group.0)] + lease_us =>
            {
                let error = "the lease had ended before it could be renewed".to_owned();
                heart.inbox.net.push_back(Event::HoldFailed { group, claim, error });
                self.wake_heart(index, 20);
                return self.pump_requests(index);
            }
            Request::Claim(group, _) => {
                heart.claimed[usize::from(group.0)] = true;
                heart.leased_us[usize::from(group.0)] = clock_us;
            }
            Request::Release(group, _) => heart.claimed[usize::from(group.0)] = false,
            Request::Sweep => heart.claimed.fill(false),
            Request::Renew(..) | Request::Look => {}
        }
        let (id, boot) = (heart.id, node.boot);
        let takes_us = self.kernel_takes_us();
        let effect_us = self.rng.between(1, takes_us);
        let ends_us = now_us + takes_us;
        self.nodes[index].in_flight =
            Some(InFlight { heart: id, request, began_us: clock_us, ends_us, done: false });
        self.after(effect_us, Happening::Effect { node: index, boot });
        self.at(ends_us, Happening::Answered { node: index, boot });
    }

    pub(super) fn request_takes_effect(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        let (boot, held) = (node.boot, node.rtnl_held > 0);
        let Some(in_flight) = &mut node.in_flight else { return };
        if held {
            return self.after(RTNL_LOOK_US, Happening::Effect { node: index, boot });
        }
        in_flight.done = true;
        match in_flight.request {
            Request::Sweep => self.nodes[index].kernel.remove_all(),
            Request::Look => {}
            Request::Claim(group, _) | Request::Renew(group, _) => {
                if self.nodes[index].refuses > 0 {
                    return;
                }
                let late_us = if self.rng.chance(850) {
                    self.rng.below(200_000)
                } else {
                    self.rng.below(limits::LEASE_GRACE.as_micros() as u64)
                };
                let now_us = self.now_us;
                let node = &mut self.nodes[index];
                let jiffies_us = node.jiffies_us(now_us);
                let lease = node.kernel.add(group, jiffies_us, late_us);
                let (boot, serial) = (node.boot, lease.serial);
                let left_us = lease.due_us.unwrap_or(jiffies_us) - jiffies_us;
                self.after(left_us, Happening::LeaseOver { node: index, boot, group, serial });
            }
            Request::Release(group, _) => {
                self.nodes[index].kernel.remove(group);
                let tree = self.nodes[index].replicas[usize::from(group.0)].tree;
                // Once: what somebody writes here later is no part of what was handed over.
                if self.moves[index].remove(&group) {
                    self.checkers.nothing_lost.moving(group, index, Some(tree));
                }
            }
        }
    }

    pub(super) fn request_answered(&mut self, index: NodeIndex) {
        let refuses = self.nodes[index].refuses > 0;
        // Modem lines are only looked at: no driver tells of them by itself.
        let links: &[Link] = if self.setup.modem_lines {
            &[Link::Lan, Link::Crossover, Link::Serial]
        } else {
            &[Link::Lan, Link::Crossover]
        };
        let carriers: Vec<(Link, bool)> =
            links.iter().map(|&link| (link, self.carrier(index, link))).collect();
        let node = &mut self.nodes[index];
        let (boot, clock_us) = (node.boot, node.clock_us(self.now_us));
        let Some(InFlight { heart: id, request, began_us, done, .. }) = node.in_flight else {
            return;
        };
        if !done {
            return self.after(RTNL_LOOK_US, Happening::Answered { node: index, boot });
        }
        let lease_us = limits::LEASE.as_micros() as u64;
        let Some(heart) = node.heart.as_mut().filter(|heart| heart.id == id) else {
            node.in_flight = None;
            return;
        };
        if heart.stopped > 0 {
            node.unread_answer = true;
            return;
        }
        node.in_flight = None;
        let inbox = &mut heart.inbox.net;
        match request {
            Request::Sweep => inbox.push_back(Event::Swept),
            Request::Look => {
                for (link, up) in carriers {
                    node.carriers[link_place(link)] = Some(up);
                    inbox.push_back(Event::Carrier { link, up });
                }
            }
            Request::Claim(group, claim) | Request::Renew(group, claim) if refuses => {
                let error = "no such device".to_owned();
                inbox.push_back(Event::HoldFailed { group, claim, error });
            }
            Request::Claim(group, claim) if is_late(began_us, clock_us) => {
                let error = "the kernel took too long to add the address".to_owned();
                inbox.push_back(Event::HoldFailed { group, claim, error });
                heart.claimed[usize::from(group.0)] = false;
                node.kernel.remove(group);
            }
            Request::Claim(group, claim) => inbox.push_back(Event::Held { group, claim }),
            Request::Renew(group, claim)
                if clock_us >= heart.leased_us[usize::from(group.0)] + lease_us =>
            {
                let error = "the lease had ended before the renewal was acknowledged".to_owned();
                inbox.push_back(Event::HoldFailed { group, claim, error });
                heart.claimed[usize::from(group.0)] = false;
                node.kernel.remove(group);
            }
            Request::Renew(group, claim) => {
                heart.leased_us[usize::from(group.0)] = began_us;
                inbox.push_back(Event::Renewed { group, claim });
            }
            Request::Release(group, release) => inbox.push_back(Event::Released { group, release }),
        }
        self.wake_heart(index, 10);
        self.pump_requests(index);
    }

    pub(super) fn lease_over(&mut self, index: NodeIndex, group: GroupIndex, serial: u64) {
        let jiffies_us = self.nodes[index].jiffies_us(self.now_us);
        let node = &mut self.nodes[index];
        let Some(lease) = node.kernel.lease(group).filter(|lease| lease.serial == serial) else {
            return;
        };
        let Some(due_us) = lease.due_us else { return };
        if jiffies_us < due_us {
            let boot = node.boot;
            let left_us = due_us - jiffies_us;
            self.after(left_us, Happening::LeaseOver { node: index, boot, group, serial });
            return;
        }
        if node.rtnl_held > 0 {
            let boot = node.boot;
            return self
                .after(RTNL_LOOK_US, Happening::LeaseOver { node: index, boot, group, serial });
        }
        self.trace.note(self.now_us, || format!("{}'s lease ends", self.name(index)));
        self.lose_address(index, group);
    }

    /// The addresses go away, and not by our command.
    pub(super) fn lose_address(&mut self, index: NodeIndex, group: GroupIndex) {
        let node = &mut self.nodes[index];
        if !node.kernel.delete_foreign(group) {
            return;
        }
        if let Some(heart) = &mut node.heart
            && heart.claimed[usize::from(group.0)]
        {
            heart.inbox.net.push_back(Event::AddressLost { group });
            self.wake_heart(index, 20);
        }
    }

    /// Puts something seen on the LAN into the heart's socket, if a heart is there.
    pub(super) fn seen_on_lan(&mut self, index: NodeIndex, group: GroupIndex, kind: Arp) {
        let peer_mac = super::wire::mac(index.other());
        let Some(heart) = &mut self.nodes[index].heart else { return };
        let holder = match kind {
            _ if heart.core.peer_mac() != Some(peer_mac) => Holder::Stranger(peer_mac),
            Arp::Probe => Holder::PeerProbes,
            Arp::Answer => Holder::Peer,
            Arp::Announcement => Holder::PeerAnnounces,
        };
        heart.inbox.put_lan(Event::AddressSeen { group, holder });
        self.wake_heart(index, 20);
    }

    fn write_begins(&mut self, index: NodeIndex) {
        let boot = self.nodes[index].boot;
        let takes_us = if self.rng.chance(970) { self.rng.between(1_000, 20_000) } else { 500_000 };
        self.after(takes_us, Happening::Written { node: index, boot });
    }

    pub(super) fn written(&mut self, index: NodeIndex) {
        let node = &mut self.nodes[index];
        let boot = node.boot;
        if node.disk_stuck > 0 || node.worker_stopped > 0 {
            self.after(50_000, Happening::Written { node: index, boot });
            return;
        }
        if node.disk_failing > 0 {
            if let Some(heart) = &mut node.heart {
                let error = "no space left on device".to_owned();
                heart.inbox.link.push_back(Event::PersistFailed { error });
                self.wake_heart(index, 50);
            }
            self.after(200_000, Happening::Written { node: index, boot });
            return;
        }
        let Some((write, next)) = node.disk.done() else { return };
        if let Some(heart) = &mut node.heart {
            heart.inbox.link.push_back(Event::Persisted { write });
            self.wake_heart(index, 50);
        }
        if next {
            self.write_begins(index);
        }
    }
}
