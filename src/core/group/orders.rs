//! The orders for this node's worker, by the group's role and the peer's stance, and what its reports prove.
//!
//! | role | services | mirror | clients' connections |
//! | --- | --- | --- | --- |
//! | owner, addresses held, generation not yet durable | stand by | out | share |
//! | owner, addresses held | run | out | share |
//! | owner about to hand over | cold ones stop | out | share |
//! | addresses released, last changes under way | stand by | drain | leave |
//! | the peer serves | stand by | in, once cold ones have stopped | yield |
//! | about to claim, or nobody serves | as they were | still | leave |
//! | the daemon ends | end | still | leave |

use std::time::Duration;

use super::order::{
    ClientDuty, MirrorDuty, MirrorReport, MirrorTerms, PeerSync, ServiceDuty, ServiceReport,
    ServiceWord, Tickled, Unsent,
};
use super::role::{GroupState, Role};
use super::step::Side;
use crate::beat::{Path, Stance};
use crate::config::{Group, GroupIndex};
use crate::control::event::Kind;
use crate::control::status::{MirrorState, PathState};
use crate::core::io::disk::Generation;
use crate::core::io::time::Time;
use crate::core::{Command, Core};
use crate::limits;

/// The orders of one group and the newest reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Duties {
    has_services: bool,
    has_mirror: bool,
    /// Longest time that stopping all services may take.
    stop_patience: Duration,
    order: u32,
    services: (u32, ServiceDuty),
    /// When that was ordered.
    services_since: Time,
    /// Under that order, every service that must not write to the trees has stopped.
    stood_by: bool,
    /// Under that order, a warm service that should stand by does not run.
    idle_fails: bool,
    /// Whether the services are as ordered; since when, or when they last reported progress.
    done: bool,
    done_changed_at: Time,
    /// Longest time that the start of all services may take.
    start_patience: Duration,
    mirror: (u32, MirrorDuty, PeerSync, MirrorTerms),
    /// When that was ordered.
    mirror_since: Time,
    clients: Option<ClientDuty>,
    service_report: Option<ServiceReport>,
    mirror_report: Option<MirrorReport>,
    /// What the peer lacks of this node's trees in that generation, and when it was reported.
    unsent: Option<(Generation, Unsent, Time)>,
    /// The peer's incarnation that this is about.
    sends_to: Option<u64>,
}

impl Duties {
    /// Nothing ordered, nothing reported.
    ///
    /// `orders`: the number before the first order. It differs in each incarnation, because reports on orders of the
    /// heart before may still come.
    pub fn new(config: &Group, orders: u32) -> Duties {
        let mut duties = Duties {
            has_services: !config.services.is_empty(),
            has_mirror: !config.mirror.is_empty(),
            stop_patience: Duration::ZERO,
            order: orders,
            services: (0, ServiceDuty::Leave),
            services_since: Time(0),
            stood_by: false,
            idle_fails: false,
            done: false,
            done_changed_at: Time(0),
            start_patience: Duration::ZERO,
            mirror: (0, MirrorDuty::Still, PeerSync::default(), MirrorTerms::default()),
            mirror_since: Time(0),
            clients: None,
            service_report: None,
            mirror_report: None,
            unsent: None,
            sends_to: None,
        };
        duties.set_patience(config);
        duties
    }

    /// A reload changed the times of its services.
    pub fn set_patience(&mut self, config: &Group) {
        let starts = config.services.iter().map(|service| service.start_timeout);
        self.start_patience = starts.sum::<Duration>() + limits::SERVICES_START_SLACK;
        let stops = config.services.iter().map(|service| service.stop_timeout);
        self.stop_patience = stops.sum::<Duration>() + limits::SERVICES_STOP_SLACK;
    }

    /// Whether the group has a mirror.
    pub fn has_mirror(&self) -> bool {
        self.has_mirror
    }

    /// Whether the group has services.
    pub fn has_services(&self) -> bool {
        self.has_services
    }

    /// Longest time that stopping all services may take.
    pub fn stop_patience(&self) -> Duration {
        self.stop_patience
    }

    /// Takes in a report about the services.
    pub fn services_reported(&mut self, now: Time, report: ServiceReport) {
        // There is progress: a service has started, or is tried again.
        if !self.done && self.service_report.as_ref() != Some(&report) {
            self.done_changed_at = now;
        }
        if (report.order, ServiceDuty::Standby) == self.services {
            match report.word {
                ServiceWord::Failed => self.idle_fails = true,
                ServiceWord::Done => self.idle_fails = false,
                // It is tried again.
                ServiceWord::Unknown | ServiceWord::Changing => {}
            }
        }
        self.service_report = Some(report);
    }

    /// Whether a warm service does not run where it should stand by.
    pub fn idle_fails(&self) -> bool {
        self.idle_fails
    }

    /// Takes in a report about the mirror.
    pub fn mirror_reported(&mut self, now: Time, report: MirrorReport) {
        let (order, duty, ..) = self.mirror;
        match duty {
            MirrorDuty::Out(generation) | MirrorDuty::Drain(generation)
                if report.order == order =>
            {
                self.unsent = Some((generation, report.unsent, now));
            }
            MirrorDuty::Out(_) | MirrorDuty::Drain(_) | MirrorDuty::Still | MirrorDuty::In(_) => {}
        }
        self.mirror_report = Some(report);
    }

    /// A new worker: what lies on disk is as it was, but no order has been carried out.
    pub fn worker_restarted(&mut self) {
        if let Some(report) = &mut self.service_report {
            report.order = 0;
        }
        if let Some(report) = &mut self.mirror_report {
            report.order = 0;
            report.in_sync = false;
            // The earlier report may be outdated.
            report.status.state = MirrorState::Paused;
            report.status.why = "a new worker has not yet looked at it".to_owned();
        }
        // Nobody watches the trees.
        self.unsent = None;
    }

    /// The newest report about the services.
    pub fn service_report(&self) -> Option<&ServiceReport> {
        self.service_report.as_ref()
    }

    /// The newest report about the mirror.
    pub fn mirror_report(&self) -> Option<&MirrorReport> {
        self.mirror_report.as_ref()
    }

    /// How the services are under the newest order, if that is `duty`; a group without services is
    /// always as ordered.
    pub fn services_are(&self, duty: ServiceDuty) -> ServiceWord {
        let (order, ordered) = self.services;
        let reported = self.service_report.as_ref().filter(|report| report.order == order);
        match reported {
            _ if !self.has_services => ServiceWord::Done,
            Some(report) if ordered == duty => report.word,
            Some(_) | None => ServiceWord::Unknown,
        }
    }

    /// When standing by counts as done without a report: a warm service that does not start must not stop the mirror.
    pub fn stood_by_at(&self) -> Option<Time> {
        self.still_stops().then(|| self.services_since + self.stop_patience)
    }

    fn note_services(&mut self, now: Time) {
        let done = self.services_are(self.services.1) == ServiceWord::Done;
        if done != self.done {
            (self.done, self.done_changed_at) = (done, now);
        }
        self.stood_by |= !self.has_services || (self.must_stop() && done);
        self.stood_by |= self.stood_by_at().is_some_and(|at| now >= at);
    }

    /// When services that were ordered to run and report nothing count as failed.
    pub fn overdue_at(&self) -> Option<Time> {
        let awaited = self.has_services && self.services.1 == ServiceDuty::Run && !self.done;
        awaited.then(|| self.done_changed_at + self.start_patience)
    }

    /// The state of services that were ordered to run.
    pub fn running(&self, now: Time) -> ServiceWord {
        match self.services_are(ServiceDuty::Run) {
            ServiceWord::Unknown | ServiceWord::Changing
                if self.overdue_at().is_some_and(|at| now >= at) =>
            {
                ServiceWord::Failed
            }
            word @ (ServiceWord::Unknown
            | ServiceWord::Changing
            | ServiceWord::Done
            | ServiceWord::Failed) => word,
        }
    }

    /// Whether the services have run for that long.
    pub fn have_run(&self, now: Time, span: Duration) -> bool {
        let runs = self.services.1 == ServiceDuty::Run && self.done;
        runs && now.since(self.done_changed_at) >= span
    }

    /// Whether services may still run here that must not run on both nodes; at most for the time that they may take to
    /// stop.
    pub fn still_stops(&self) -> bool {
        self.has_services && self.must_stop() && !self.stood_by
    }

    fn must_stop(&self) -> bool {
        matches!(self.services.1, ServiceDuty::Standby | ServiceDuty::End)
    }

    /// When trees that were ordered to be still should have come to rest. `None` before the first report, because the
    /// first look at a large index may take any time.
    pub fn unsettled_at(&self) -> Option<Time> {
        let ordered =
            self.mirror_report.is_some() && matches!(self.mirror, (_, MirrorDuty::Still, ..));
        (ordered && !self.is_still()).then(|| self.mirror_since + limits::TREES_SETTLE_WITHIN)
    }

    /// Whether that time is over.
    pub fn should_be_still(&self, now: Time) -> bool {
        self.unsettled_at().is_some_and(|at| now >= at)
    }

    /// The newest mirror report, if it is about the newest order.
    fn mirror_now(&self) -> Option<&MirrorReport> {
        let (order, ..) = self.mirror;
        self.mirror_report.as_ref().filter(|report| report.order == order)
    }

    /// The peer has everything that was written before the drain.
    pub fn is_drained(&self) -> bool {
        let draining = matches!(self.mirror, (_, MirrorDuty::Drain(_), ..));
        draining && self.mirror_now().is_some_and(|report| report.drained)
    }

    /// The peer has everything except changes of the last moment.
    pub fn is_in_sync(&self) -> bool {
        let out = matches!(self.mirror, (_, MirrorDuty::Out(_) | MirrorDuty::Drain(_), ..));
        !self.has_mirror || (out && self.mirror_now().is_some_and(|report| report.in_sync))
    }

    /// Nothing is sent or received, and everything acknowledged is applied.
    pub fn is_still(&self) -> bool {
        let still = matches!(self.mirror, (_, MirrorDuty::Still, ..));
        still && self.mirror_now().is_some_and(|report| report.still)
    }

    /// The peer has all that this node's trees contained in that generation.
    pub fn sent_all(&mut self, now: Time, generation: Generation) {
        self.unsent = Some((generation, Unsent::Nothing, now));
    }

    /// What the peer lacks of this node's trees in that generation, at `now`.
    pub fn unsent(&self, now: Time, generation: Generation) -> Unsent {
        match self.unsent.filter(|(of, ..)| *of == generation) {
            Some((_, Unsent::Since { age_ms, files, bytes }, at)) => {
                let more_ms = u64::try_from(now.since(at).as_millis()).unwrap_or(u64::MAX);
                Unsent::Since { age_ms: age_ms.saturating_add(more_ms), files, bytes }
            }
            Some((_, unsent @ (Unsent::Nothing | Unsent::Unknown), _)) => unsent,
            None => Unsent::Unknown,
        }
    }

    /// Repeats the orders for a new worker.
    fn repeat(&self, group: GroupIndex) -> impl Iterator<Item = Command> + use<> {
        let (order, duty) = self.services;
        let services = self.has_services && order > 0;
        let services = services.then_some(Command::Services { group, order, duty });
        let (order, duty, peer, terms) = self.mirror;
        let mirror = self.has_mirror && order > 0;
        let mirror = mirror.then_some(Command::Mirror { group, order, duty, peer, terms });
        let clients = self.clients.map(|duty| Command::Clients { group, duty });
        services.into_iter().chain(mirror).chain(clients)
    }
}

impl Core {
    /// Orders what the group's role needs, unless it is ordered already.
    pub(in crate::core) fn order_duties(&mut self, group: &mut GroupState) {
        let index = group.index;
        if group.duties.has_services {
            let duty = self.service_duty(group);
            if group.duties.services.0 == 0 || group.duties.services.1 != duty {
                group.duties.order += 1;
                let order = group.duties.order;
                group.duties.services = (order, duty);
                group.duties.services_since = self.now;
                // What stands by and is to end no longer runs where it must not.
                group.duties.stood_by &= duty == ServiceDuty::End;
                group.duties.idle_fails = false;
                group.duties.done = false;
                group.duties.done_changed_at = self.now;
                self.out.push_back(Command::Services { group: index, order, duty });
            }
        }
        group.duties.note_services(self.now);
        if group.duties.has_mirror {
            let duty = self.mirror_duty(group);
            let peer = match duty {
                MirrorDuty::Out(_) | MirrorDuty::Drain(_) => PeerSync {
                    crossover: self.evidence.peer.sync_address().filter(|_| self.hears_crossover()),
                    incarnation: self.evidence.peer.incarnation(),
                },
                // The owner connects.
                MirrorDuty::Still | MirrorDuty::In(_) => PeerSync::default(),
            };
            let terms = self.mirror_terms(group);
            if group.duties.mirror.0 == 0
                || (duty, peer, terms)
                    != (group.duties.mirror.1, group.duties.mirror.2, group.duties.mirror.3)
            {
                group.duties.order += 1;
                let order = group.duties.order;
                // Nothing is known about the copy of another incarnation.
                if let Some(incarnation) = peer.incarnation
                    && group.duties.sends_to.replace(incarnation) != Some(incarnation)
                {
                    group.duties.unsent = None;
                }
                if group.duties.mirror.0 == 0 || group.duties.mirror.1 != duty {
                    group.duties.mirror_since = self.now;
                }
                group.duties.mirror = (order, duty, peer, terms);
                self.out.push_back(Command::Mirror { group: index, order, duty, peer, terms });
            }
        }
        let duty = self.client_duty(group);
        if group.duties.clients != Some(duty) {
            group.duties.clients = Some(duty);
            self.out.push_back(Command::Clients { group: index, duty });
        }
        // After the first announcement: the clients' answers must reach this node.
        let announced = matches!(&group.role, Role::Active(active) if active.announced > 0);
        if announced && std::mem::take(&mut group.tickle) {
            self.out.push_back(Command::Tickle { group: index });
        }
    }

    fn mirror_terms(&self, group: &GroupState) -> MirrorTerms {
        MirrorTerms {
            intent: self.disk.usable_intent(&group.name),
            began: self.disk.began_trees(&group.name),
            approved: matches!(&group.role, Role::Active(active) if active.approved),
        }
    }

    /// The worker reports on the mirror.
    pub(in crate::core) fn mirror_reported(
        &mut self,
        now: Time,
        group: &mut GroupState,
        report: MirrorReport,
    ) {
        // A crash may have come between the index's record of a generation and this node's.
        if let Some(of) = report.copy_of.filter(|of| of.owner == self.me) {
            self.disk.recall(&group.name, of);
        }
        group.duties.mirror_reported(now, report);
    }

    /// The clients of the former owner were sent a segment.
    pub(in crate::core) fn tickled(&mut self, group: &GroupState, tickled: Tickled) {
        let Tickled { known, told, list_age_ms } = tickled;
        let text = format!(
            "told the clients of {told} TCP connections that these have ended; the peer had {known}"
        );
        let evidence = [
            ("connections", serde_json::json!(known)),
            ("told", serde_json::json!(told)),
            ("list_age_ms", serde_json::json!(list_age_ms)),
        ];
        self.tell_with(Kind::Clients, Some(&group.name), text, &evidence);
    }

    /// Whether the crossover carries frames now; a TCP connection would take much longer to notice.
    fn hears_crossover(&self) -> bool {
        let gap = self.evidence.peer.worst_gap();
        let heard = self
            .evidence
            .paths
            .iter()
            .filter(|watch| watch.path == Path::Crossover)
            .any(|watch| watch.state(self.now, gap, true) != PathState::Silent);
        heard && self.evidence.crossover.up() != Some(false)
    }

    fn service_duty(&self, group: &GroupState) -> ServiceDuty {
        let as_before = group.duties.services.1;
        match &group.role {
            Role::Active(active) if active.stopping.is_some() => ServiceDuty::Standby,
            // Warm services serve; the others wait until the peer's have stopped, and for the disk.
            Role::Active(active) if active.held && (active.waits_for_peer || !active.recorded) => {
                ServiceDuty::Standby
            }
            Role::Active(active) if active.held => ServiceDuty::Run,
            Role::Draining(_) | Role::Releasing { handover: true, .. } => ServiceDuty::Standby,
            // Until the addresses are held, or while they are only lost: cut off, deleted, claimed again.
            Role::Active(_) | Role::Releasing { .. } => as_before,
            Role::Passive { granted: Some(_) } => ServiceDuty::Standby,
            Role::Passive { granted: None } if self.is_ending() => ServiceDuty::End,
            Role::Passive { granted: None } | Role::Wanting { .. } | Role::Probing { .. } => {
                if self.side(group).may_hold()
                    || group.letting_since.is_some()
                    || self.disk.standby_wanted()
                {
                    ServiceDuty::Standby
                } else {
                    as_before
                }
            }
        }
    }

    fn client_duty(&self, group: &GroupState) -> ClientDuty {
        match &group.role {
            Role::Active(active) if active.held => ClientDuty::Share,
            Role::Active(_) | Role::Releasing { .. } | Role::Draining(_) | Role::Probing { .. } => {
                ClientDuty::Leave
            }
            Role::Passive { .. } | Role::Wanting { .. } => match self.side(group) {
                Side::Says(stance) if stance.may_hold() => ClientDuty::Yield,
                // A node that was only cut off may claim again while its connections are still alive.
                Side::Says(_) | Side::Dead | Side::Unknown => ClientDuty::Leave,
            },
        }
    }

    fn mirror_duty(&self, group: &GroupState) -> MirrorDuty {
        match &group.role {
            Role::Active(active) if active.held => MirrorDuty::Out(active.generation),
            // The mirror continues while the addresses are released, so that less is left to drain.
            Role::Releasing { drain: Some(drain), .. } => MirrorDuty::Out(drain.generation),
            Role::Active(_) | Role::Releasing { .. } | Role::Probing { .. } => MirrorDuty::Still,
            Role::Draining(draining) => MirrorDuty::Drain(draining.generation),
            Role::Passive { .. } | Role::Wanting { .. } => {
                match self.side(group) {
                    // Only from the newest generation known: a node with old data overwrites nothing. Services left
                    // over from a heart that died write into the trees until they are stopped.
                    Side::Says(Stance::Active | Stance::Offering) if group.duties.stood_by => {
                        let newest = self.disk.served(&group.name);
                        let theirs = self.evidence.peer.generation(group.index);
                        theirs
                            .filter(|_| theirs == newest || !self.obeys_newest_generation())
                            .map_or(MirrorDuty::Still, MirrorDuty::In)
                    }
                    Side::Says(_) | Side::Dead | Side::Unknown => MirrorDuty::Still,
                }
            }
        }
    }

    /// A worker has started: it gets all orders again.
    pub(in crate::core) fn worker_started(&mut self) {
        for group in &mut self.groups {
            group.duties.worker_restarted();
            self.out.extend(group.duties.repeat(group.index));
        }
        self.forget_syncs("the worker process was restarted; try again");
    }

    /// The longest time that stopping a group's services here and starting them on the peer may take.
    pub(in crate::core) fn service_patience(&self) -> Duration {
        let longest = self.config.groups.iter().map(|group| {
            let each = group.services.iter();
            each.map(|service| service.stop_timeout + service.start_timeout).sum::<Duration>()
        });
        longest.max().unwrap_or_default()
    }

    /// Whether the services of all groups have ended, or had their time for it.
    pub(in crate::core) fn services_have_ended(&self, now: Time) -> bool {
        self.groups.iter().all(|group| {
            let since = self.ending_since.unwrap_or(now);
            group.duties.services_are(ServiceDuty::End) == ServiceWord::Done
                || now.since(since) >= group.duties.stop_patience() * 2
        })
    }
}
