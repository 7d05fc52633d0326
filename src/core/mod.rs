//! Decisions. No socket, file, clock, thread or log in here; every method takes `now`.
//!
//! [`Core`] is plain state. Feed it with [`Core::handle`], do what [`Core::poll`] returns until that
//! is `None`, and call again with [`Event::Tick`] at [`Core::next_deadline`]. There is one deadline for
//! everything. A late or needless tick is harmless, because the core finds what is due by looking at the
//! state, not by which timer fired.
//!
//! | folder | file | subject |
//! | --- | --- | --- |
//! | `io` | `event`, `command`, `disk`, `time` | what goes in and out |
//! | | `durable` | what must be on disk first |
//! | `evidence` | `path`, `carrier`, `reach`, `lan`, `probe` | what is known of each way, of the LAN and of an address there |
//! | | `peer`, `numbers`, `stall` | who is heard, which frames are too old to count, this node's own gaps |
//! | | `silence` | the rules: what silence proves |
//! | | `judge`, `cable` | looks, asks and judges; news of cables and of the LAN |
//! | | `timing`, `flap_damping` | the heartbeat's times in effect; events of what flaps |
//! | `talk` | `heard`, `speak`, `serial_budget` | heartbeats in, heartbeats out, and what the serial line carries |
//! | | `incarnation`, `will` | how this node's heart starts, joins the pair and ends; the last will |
//! | | `events`, `status`, `trouble` | the texts of events and status; troubles |
//! | `group` | `role`, `step`, `owner`, `handover` | a group's state machine |
//! | | `right`, `claim` | the right to serve, and the claim |
//! | | `copy` | what a copy of the trees is worth, and whose is newer |
//! | | `reach_offer` | which node reaches the LAN better, and how often that moves a group |
//! | | `order`, `orders`, `worker` | the worker's orders and reports, and whether it works |
//! | | `address` | what the kernel and the LAN report about addresses |
//! | `admin` | `request`, `reload` | requests of operators; another config for a running core |
//! | | `mutations` | the rules that tests break on purpose |

mod admin;
mod evidence;
mod group;
mod io;
mod talk;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

#[cfg(test)]
pub use admin::mutations::Sabotage;
pub use group::order::{
    ClientDuty, MirrorDuty, MirrorReport, MirrorTerms, PeerSync, ServiceDuty, ServiceReport,
    ServiceWord, Tickled, Unsent,
};
pub use io::command::Command;
pub use io::disk::{DiskState, Generation, GroupDisk};
pub use io::event::{AskAs, Event, Holder, Link, Wish};
use io::time::Soonest;
pub use io::time::Time;

use crate::beat::{Beat, Path};
use crate::config::ring::KeyState;
use crate::config::{Config, NodeIndex};
use crate::control::event::Kind;
use crate::limits;
use admin::request::Wishes;
use evidence::Evidence;
use evidence::carrier::CarrierWatch;
use evidence::flap_damping::StormTold;
use evidence::path::PathWatch;
use evidence::peer::Peer;
use evidence::reach::Reach;
use evidence::stall::{Gaps, Lateness};
use evidence::timing::Pace;
use group::role::GroupState;
use io::durable::Disk;

/// Where this incarnation is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Deleting every service address found on this node; sends nothing before that is done.
    Sweeping,
    /// At work.
    Running,
    /// Sending farewells.
    Farewell {
        /// How many were sent.
        sent: u32,
        /// When the next is due.
        next_at: Time,
    },
    /// Ended: does nothing more.
    Ended,
}

/// The decision core of one node, for one incarnation.
#[derive(Clone, Debug)]
pub struct Core {
    config: Arc<Config>,
    me: NodeIndex,
    incarnation: u64,
    started_at: Time,
    phase: Phase,
    /// Since when it has been requested to end in order.
    ending_since: Option<Time>,
    /// The peer's config is known to differ, and that was reported.
    configs_differ: bool,
    /// That the peer uses another version was reported.
    newer_told: bool,
    /// The progress of a change of the key; that both nodes have the new one was reported.
    key_state: KeyState,
    key_agreed_told: bool,
    guarded: bool,
    joined: bool,
    stalled: bool,

    now: Time,
    deadline: Time,
    gaps: Gaps,
    lateness: Lateness,

    evidence: Evidence,
    carriers_told: [(Link, StormTold<bool>); 3],
    /// The LAN interface's own MAC, once it is known.
    lan_mac: Option<[u8; 6]>,
    /// That the peer's LAN interface has the same one was reported.
    same_mac_told: bool,
    /// When to repeat an ask that a lost carrier makes urgent.
    ask_again_at: Option<Time>,
    /// When to measure the serial line's round trip again.
    pulse_at: Time,
    /// The peer reaches the LAN better than this node.
    lag: Option<group::reach_offer::Lag>,

    /// Where this node accepts mirror sessions on the crossover.
    sync_address: Option<Ipv6Addr>,
    /// Since when the worker has reported that there is none.
    sync_missing_since: Option<Time>,
    /// That was reported.
    sync_missing_told: bool,

    sequence: u64,
    /// Rounds of beats since the start.
    round: u32,
    round_at: Time,
    last_round: Time,
    beat_now: bool,
    line: talk::serial_budget::Line,
    disk: Disk,
    groups: Vec<GroupState>,
    want: u16,
    claim: u32,
    wishes: Wishes,

    /// The worker's last report, and that its silence was reported.
    worker: group::worker::Voice,
    troubles: talk::trouble::Troubles,

    /// The last will that the guard has, or gets next.
    will: Option<Beat>,
    will_changed: bool,
    out: VecDeque<Command>,
    #[cfg(test)]
    sabotage: Option<admin::mutations::Sabotage>,
}

impl Core {
    /// A core that has just started. `incarnation`: random, never 0. `seed`: random, for generation
    /// ids. `disk`: as it was loaded.
    pub fn new(
        config: Arc<Config>,
        me: NodeIndex,
        incarnation: u64,
        seed: u64,
        disk: DiskState,
        now: Time,
    ) -> Core {
        let pace = Pace::of(config.heartbeat);
        let serial = config.node(me).serial.as_ref();
        let paths = Path::ALL.map(|path| {
            let configured = match path {
                Path::Crossover | Path::Lan => true,
                Path::Serial => serial.is_some(),
            };
            let (interval, rounds) = pace.on(path, &config, me);
            let watch = PathWatch::new(path, configured, interval, rounds, pace.dead_after);
            match (path, serial) {
                (Path::Serial, Some(line)) => watch.for_line(
                    crate::beat::frame_time(line.baud),
                    crate::beat::pulse_time(line.baud),
                ),
                (Path::Crossover | Path::Serial | Path::Lan, _) => watch,
            }
        });
        let orders = (incarnation >> 33) as u32;
        let groups: Vec<GroupState> =
            config.groups().map(|(index, group)| GroupState::new(index, group, orders)).collect();
        let mut core = Core {
            me,
            incarnation,
            started_at: now,
            phase: Phase::Sweeping,
            ending_since: None,
            configs_differ: false,
            newer_told: false,
            key_state: KeyState::default(),
            key_agreed_told: false,
            guarded: true,
            joined: false,
            stalled: false,
            now,
            deadline: now,
            gaps: Gaps::remembered_for(limits::GAP_MEMORY),
            lateness: Lateness::default(),
            evidence: Evidence {
                pace,
                paths,
                peer: Peer::new(groups.len()),
                crossover: CarrierWatch::default(),
                modem: CarrierWatch::default(),
                reach: Reach::new(config.reach_hosts.len(), now),
                looked_at: now,
                suspected_at: None,
                woke_at: None,
            },
            carriers_told: [Link::Lan, Link::Crossover, Link::Serial]
                .map(|link| (link, StormTold::quiet())),
            lan_mac: None,
            same_mac_told: false,
            ask_again_at: None,
            pulse_at: now,
            lag: None,
            sync_address: None,
            sync_missing_since: None,
            sync_missing_told: false,
            sequence: 0,
            round: 0,
            round_at: now,
            last_round: now,
            beat_now: false,
            line: talk::serial_budget::Line::default(),
            disk: Disk::new(me, disk, &config.groups, seed),
            groups,
            want: 0,
            claim: 0,
            wishes: Wishes::default(),
            worker: group::worker::Voice::default(),
            troubles: talk::trouble::Troubles::default(),
            will: None,
            will_changed: false,
            out: VecDeque::new(),
            #[cfg(test)]
            sabotage: None,
            config,
        };
        core.look_at_carriers(now);
        core.out.push_back(Command::Sweep);
        core.write_disk();
        core
    }

    /// Takes in one event and decides.
    pub fn handle(&mut self, now: Time, event: Event) {
        let now = now.max(self.now);
        if self.phase == Phase::Ended {
            return;
        }
        let stall = evidence::stall::overslept(now, self.now, self.deadline);
        let late = now.since(self.now.max(self.deadline));
        if self.phase == Phase::Running && now >= self.deadline {
            self.lateness.saw(late);
        }
        self.now = now;
        if late >= limits::ASK_LATE_MIN {
            for watch in &mut self.evidence.paths {
                watch.forgive_ask(now, late);
            }
            for group in &mut self.groups {
                group.lan.forgive(now, late);
            }
        }
        if let Some(late) = stall {
            self.overslept(now, late);
        }
        self.take_in(now, event);
        self.settle(now);
        self.write_will();
        self.deadline = self.find_deadline(now);
        #[cfg(test)]
        self.check_invariants();
    }

    /// When to call [`Core::handle`] with a tick, unless something else happens before.
    pub fn next_deadline(&self) -> Time {
        self.deadline
    }

    /// The next thing to do; `None` when there is nothing more.
    pub fn poll(&mut self) -> Option<Command> {
        // Before all other commands: the will must be true when they are carried out.
        if std::mem::take(&mut self.will_changed) {
            return Some(Command::Will { beat: self.will.clone() });
        }
        self.out.pop_front()
    }

    /// What the serial line's coding needs: this incarnation, the peer's (0: unknown), its digest.
    pub fn session(&self) -> (u64, u64, [u8; 8]) {
        let digest = self.evidence.peer.last().map(|beat| beat.digest).unwrap_or_default();
        (self.incarnation, self.evidence.peer.incarnation().unwrap_or(0), digest)
    }

    /// MAC of the peer's LAN interface, once it has told it.
    pub fn peer_mac(&self) -> Option<[u8; 6]> {
        self.evidence.peer.last().map(|beat| beat.lan_mac).filter(|mac| *mac != [0; 6])
    }

    /// The peer's worst recent gap, as far as it is heeded: a takeover may take twice that time longer.
    pub fn peer_gap(&self) -> Duration {
        self.evidence.peer.heeded_gap()
    }

    fn take_in(&mut self, now: Time, event: Event) {
        match event {
            Event::Tick => {}
            Event::Swept => self.swept(now),
            Event::Heard { path, beat } => self.heard(now, path, beat),
            Event::Pulsed(pulse) => self.pulsed(now, pulse),
            Event::LineBusy => self.watch_mut(Path::Serial, |watch| watch.is_busy(now)),
            Event::Refused { path, reason } => self.refused(path, reason),
            Event::Carrier { link, up } => self.carrier(now, link, up),
            Event::SetDown { link } => self.set_down(now, link),
            Event::ProbeFailed { group } => {
                self.with_group(group, |_, state| state.lan.unsent(now));
            }
            Event::LanMac { mac } => self.lan_mac_is(now, mac),
            Event::ReachAnswered { host, round } => self.reach_answered(now, host, round),
            Event::AddressSeen { group, holder } => {
                self.with_group(group, |core, state| core.address_seen(now, state, holder));
            }
            Event::Held { group, claim } => {
                self.with_group(group, |core, state| core.held(now, state, claim));
            }
            Event::AddressesRefused { group, refused, error } => {
                self.with_group(group, |core, state| {
                    core.addresses_refused(state, refused, &error);
                });
            }
            Event::HoldFailed { group, claim, error } => {
                self.with_group(group, |core, state| core.hold_failed(now, state, claim, &error));
            }
            Event::Renewed { group, claim } => {
                self.with_group(group, |_, state| group::address::renewed(state, claim));
            }
            Event::Released { group, release } => {
                self.with_group(group, |core, state| core.released(state, release));
            }
            Event::AddressLost { group } => {
                self.with_group(group, |core, state| core.address_lost(now, state));
            }
            Event::AddressFound { group } => {
                self.with_group(group, |core, state| core.address_found(now, state));
            }
            Event::Persisted { write } => self.disk.persisted(write),
            Event::PersistFailed { error } => {
                self.disk.failed();
                self.tell(Kind::Fault, None, format!("could not write the state to disk: {error}"));
            }
            Event::WorkerStarted => self.worker_started(),
            Event::WorkerAlive => self.worker_says(now),
            Event::Services { group, report } => {
                self.with_group(group, |_, state| state.duties.services_reported(now, report));
            }
            Event::Mirror { group, report } => {
                self.with_group(group, |core, state| core.mirror_reported(now, state, report));
            }
            Event::Tickled { group, tickled } => {
                self.with_group(group, |core, state| core.tickled(state, tickled));
            }
            Event::Synced { request, outcome } => self.synced(request, outcome),
            Event::Noted { group, kind, text } => {
                self.with_group(group, |core, state| core.tell(kind, Some(&state.name), text));
            }
            Event::SyncAddress { address } => self.sync_address_is(now, address),
            Event::Wished { request, wish } => self.wished(now, request, wish),
            Event::Shutdown => self.shutdown(now),
            Event::GuardGone => self.guard_gone(),
            Event::HeartDied { how } => self.heart_died(now, &how),
            Event::Reload { config, new_keys, request } => {
                let outcome = self.reload(now, *config, new_keys);
                self.reloaded(outcome, request);
            }
            Event::ReloadFailed { error, request } => self.reloaded(Err(error), request),
            Event::KeyIs { state } => self.key_is(state),
        }
    }

    /// Brings everything in line with what is known now.
    fn settle(&mut self, now: Time) {
        match self.phase {
            Phase::Sweeping | Phase::Ended => {}
            Phase::Running => {
                self.settle_pace();
                self.watch_paths(now);
                self.judge_peer(now);
                self.join(now);
                self.note_alone();
                self.note_worker(now);
                self.note_troubles(now);
                self.note_lag(now);
                self.step_groups(now);
                self.answer_wishes(now);
                self.ask_reach(now);
                self.end_if_done(now);
                if self.phase == Phase::Running {
                    self.speak(now);
                }
            }
            Phase::Farewell { .. } => self.farewell(now),
        }
        self.tell_untold_carriers(now);
        self.tell_missing_sync_address(now);
        self.write_disk();
    }

    fn write_disk(&mut self) {
        if let Some((write, state)) = self.disk.write() {
            self.out.push_back(Command::Persist { write, state });
        }
    }

    fn watch_mut(&mut self, path: Path, change: impl FnOnce(&mut PathWatch)) {
        if let Some(watch) = self.evidence.paths.iter_mut().find(|watch| watch.path == path) {
            change(watch);
        }
    }

    /// Runs `work` on one group's state, taken out of the core meanwhile.
    fn with_group(
        &mut self,
        group: crate::config::GroupIndex,
        work: impl FnOnce(&mut Core, &mut GroupState),
    ) {
        let mut groups = std::mem::take(&mut self.groups);
        if let Some(state) = groups.get_mut(usize::from(group.0)) {
            work(self, state);
        }
        self.groups = groups;
    }

    /// The earliest time at which something is due. Everything that is due at `now` has been done.
    fn find_deadline(&self, now: Time) -> Time {
        let mut times = Soonest::after(now);
        times.extend([self.round_at]);
        match self.phase {
            Phase::Sweeping | Phase::Ended => return now + limits::REACH_EVERY,
            Phase::Farewell { next_at, .. } => times.extend([next_at]),
            Phase::Running => {
                let gap = self.evidence.peer.worst_gap();
                for watch in self.evidence.paths.iter().filter(|watch| watch.configured) {
                    times.extend([watch.late_at(), watch.silent_at(gap)].into_iter().flatten());
                    times.extend(watch.ask_over_at(self.evidence.peer_late()));
                    times.extend([self.evidence.peer.met_at() + watch.dead_after]);
                    times.extend(watch.ask_hangs_at(Duration::ZERO));
                    times.extend(watch.heard_at.map(|at| at + self.evidence.pace.dead_after));
                    times.extend(self.evidence.line_gone_at(watch));
                }
                times.extend(self.evidence.crossover.look_at());
                times.extend(self.worker.silent_at());
                times.extend(self.evidence.modem.look_at());
                times.extend(self.ask_again_at);
                times.extend(self.evidence.reach.next_at());
                times.extend(self.evidence.reach.carrier_sure_at());
                times.extend(
                    self.evidence.reach.carrier_back_at().map(|at| at + limits::LAN_SETTLES),
                );
                times.extend(self.evidence.overdue_at());
                times.extend(self.evidence.unheard_at());
                times.extend(
                    self.evidence.suspected_at.map(|at| at + self.evidence.pace.dead_after),
                );
                for group in &self.groups {
                    group.deadlines(&mut times);
                }
            }
        }
        times.first().unwrap_or(now + self.evidence.pace.sends)
    }
}
