//! Stories about services: what the worker is ordered, and what its reports lead to.

use super::*;
use crate::config::{Hash, Service, Tree};
use crate::control::status::Mirror;

fn service() -> Service {
    Service {
        exec: "/etc/clusterd/web".into(),
        check: None,
        warm: false,
        start_timeout: Duration::from_secs(2),
        stop_timeout: Duration::from_secs(1),
        restarts: 0,
    }
}

pub(super) fn tree() -> Tree {
    Tree { path: "/srv".into(), exclude: Vec::new(), hash: Hash::Auto, max_delete_percent: 100 }
}

/// A pair whose group has one tree.
pub(super) fn with_tree() -> Story {
    Story::with(|group| group.mirror.push(tree()))
}

/// A pair whose group has one service.
pub(super) fn with_service() -> Story {
    Story::with(|group| group.services.push(service()))
}

impl Story {
    /// The worker reports on its newest order for the services.
    pub(super) fn services(&mut self, node: usize, word: ServiceWord) {
        let (order, _) = self.nodes[node].services_ordered.expect("something was ordered");
        let report = ServiceReport { order, word, why: String::new(), services: Vec::new() };
        self.give(node, Event::Services { group: WEB, report });
    }

    /// The worker reports on its newest order for the mirror: all is as ordered.
    pub(super) fn mirror_well(&mut self, node: usize, copy_of: Option<Generation>) {
        let (order, _) = self.nodes[node].mirror_ordered.expect("something was ordered");
        let report = MirrorReport {
            order,
            still: true,
            drained: false,
            complete: true,
            known: true,
            copy_of,
            commit: 0,
            ready_for: self.nodes[node].mirror_terms.intent,
            empty: false,
            in_sync: true,
            unsent: Unsent::Nothing,
            stuck: 0,
            held: String::new(),
            status: Mirror::off(),
        };
        self.give(node, Event::Mirror { group: WEB, report });
    }

    pub(super) fn services_ordered(&self, node: usize) -> Option<ServiceDuty> {
        self.nodes[node].services_ordered.map(|(_, duty)| duty)
    }
}

/// A serves, with its service; B stands by.
fn served_with_a_service() -> Story {
    let mut story = with_service();
    story.run(Duration::from_secs(1));
    story.services(B, ServiceWord::Done);
    story.run(Duration::from_secs(1));
    assert!(story.nodes[A].holds);
    assert_eq!(story.services_ordered(A), Some(ServiceDuty::Run));
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Standby));
    story.services(A, ServiceWord::Done);
    story.services(B, ServiceWord::Done);
    story.run(Duration::from_secs(1));
    story
}

/// A's service has failed, and B has taken the group over.
fn moved_by_a_failed_service() -> Story {
    let mut story = with_service();
    story.run(Duration::from_secs(1));
    story.services(B, ServiceWord::Done);
    story.run(Duration::from_secs(1));
    story.services(A, ServiceWord::Failed);
    story.run(100 * MS);
    story.services(A, ServiceWord::Done);
    story.run(Duration::from_secs(1));
    assert!(story.nodes[B].holds && !story.nodes[A].holds);
    story
}

#[test]
fn better_on_a_node_where_a_service_failed_than_nowhere() {
    let mut story = moved_by_a_failed_service();
    story.give(B, Event::Shutdown);
    story.run(limits::SHUTDOWN_PATIENCE + 200 * MS);
    story.services(B, ServiceWord::Done);
    story.run(Duration::from_secs(8));
    // B is still waiting for its services to end; it has granted what A wants.
    assert!(story.nodes[B].powered && !story.nodes[B].holds);
    assert!(story.nodes[A].holds);
}

/// A serves, and B has all of it.
pub(super) fn mirrored(story: &mut Story) -> Generation {
    story.run(Duration::from_secs(1));
    story.mirror_well(B, None);
    story.mirror_well(A, None);
    story.run(Duration::from_secs(1));
    assert!(story.nodes[A].holds);
    let Some((_, MirrorDuty::Out(generation))) = story.nodes[A].mirror_ordered else {
        panic!("the owner's mirror is ordered {:?}", story.nodes[A].mirror_ordered)
    };
    let taken_in = story.nodes[B].mirror_ordered.map(|(_, duty)| duty);
    assert_eq!(taken_in, Some(MirrorDuty::In(generation)));
    story.mirror_well(A, Some(generation));
    story.mirror_well(B, Some(generation));
    generation
}

/// B is to take over, and its disk does not answer.
fn taken_over_with_a_disk(deaf: bool) -> Story {
    let mut story = Story::with(|group| {
        group.mirror.push(tree());
        group.services.push(service());
    });
    story.run(Duration::from_secs(1));
    story.services(B, ServiceWord::Done);
    let generation = mirrored(&mut story);
    story.services(A, ServiceWord::Done);
    story.run(Duration::from_secs(3));
    story.deaf_disk = deaf;
    story.power_cut(A);
    story.run(MS * 250);
    story.mirror_well(B, Some(generation));
    story.time_until_held(B, MS * 250);
    story.run(MS * 50);
    story
}

/// A generation that is lost with the power is unknown afterwards, and so is what was written in it.
#[test]
fn p3_services_start_once_the_disk_holds_that_this_node_serves() {
    let story = taken_over_with_a_disk(false);
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Run));
    let mut story = taken_over_with_a_disk(true);
    story.run(limits::RECORD_PATIENCE - MS * 200);
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Standby));
    // No disk keeps them from it for good.
    story.run(MS * 400);
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Run));
    assert_eq!(told(&story, B, "the disk has not yet written"), 1);
    // One that is full will not do it in that time.
    let mut story = taken_over_with_a_disk(true);
    story.give(B, Event::PersistFailed { error: "no space left on device".to_string() });
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Run));
}

/// A was asked to hand over, has released, and sends the last changes of that generation.
pub(super) fn draining() -> (Story, Generation) {
    let mut story = with_tree();
    let generation = mirrored(&mut story);
    let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
    story.give(A, Event::Wished { request: 1, wish });
    story.run(100 * MS);
    let drains = Some(MirrorDuty::Drain(generation));
    assert_eq!(story.nodes[A].mirror_ordered.map(|(_, duty)| duty), drains);
    assert!(!story.nodes[A].holds && !story.nodes[B].holds);
    (story, generation)
}

#[test]
fn a_drain_outlives_a_want_that_is_dropped_for_a_moment() {
    let (mut story, generation) = draining();
    story.lan = [false, false];
    story.run(200 * MS);
    let ordered = story.nodes[A].mirror_ordered.map(|(_, duty)| duty);
    assert_eq!(ordered, Some(MirrorDuty::Drain(generation)));
    assert!(!story.nodes[B].holds, "B has claimed without the last changes");
}

/// Nobody answered for the address meanwhile: the peer may have claimed.
#[test]
fn p1_a_draining_owner_that_stood_still_claims_on_no_old_word() {
    let (mut story, _) = draining();
    let sent = story.recorded.iter().rev().find(|(from, path, _)| (*from, *path) == (B, Path::Lan));
    let mut beat = sent.expect("B speaks").2.clone();
    beat.sequence += 1_000;
    beat.groups[0].stance = Stance::Unable;
    story.now = story.now + 250 * MS;
    story.give(A, Event::Heard { path: Path::Lan, beat });
    assert!(!story.nodes[A].holds);
}

#[test]
fn a_foreign_address_is_deleted_while_the_last_changes_are_sent() {
    let (mut story, _) = draining();
    story.nodes[A].holds = true;
    story.give(A, Event::AddressFound { group: WEB });
    assert!(!story.nodes[A].holds);
}

#[test]
fn p3_a_peer_that_was_away_is_not_let_in_without_the_last_changes() {
    let (mut story, generation) = draining();
    story.kill_heart(B);
    story.run(100 * MS);
    let ordered = story.nodes[A].mirror_ordered.map(|(_, duty)| duty);
    assert_eq!(ordered, Some(MirrorDuty::Still), "for a claim of its own");
    assert!(!story.nodes[A].holds);
    story.power_on(B);
    story.run(20 * MS);
    story.mirror_well(B, Some(generation));
    story.run(200 * MS);
    story.mirror_well(B, Some(generation));
    story.run(200 * MS);
    assert!(!story.nodes[B].holds, "B has claimed without the last changes");
    assert!(story.nodes[A].holds, "they are here");
}

#[test]
fn an_offer_because_of_a_failed_service_outlives_the_peers_first_word() {
    let mut story = served_with_a_service();
    let sent = story.recorded.len();
    story.services(A, ServiceWord::Failed);
    story.run(100 * MS);
    let sent = story.recorded.len() - sent;
    assert!(sent < 60, "{sent} frames in 100 ms: offers and answers chase each other");
    assert_eq!(story.services_ordered(A), Some(ServiceDuty::Standby));
    story.services(A, ServiceWord::Done);
    story.run(Duration::from_secs(1));
    assert!(story.nodes[B].holds && !story.nodes[A].holds);
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Run));
}

/// A node whose services are being stopped for the peer is told to shut down: the peer goes on waiting for them (seed
/// 2422 of `furnished`).
#[test]
fn a_shutdown_does_not_make_the_peer_start_what_still_stops_here() {
    let mut story = served_with_a_service();
    story.lan[A] = false;
    story.give(A, Event::Carrier { link: Link::Lan, up: false });
    story.run(100 * MS);
    assert!(story.nodes[B].holds && !story.nodes[A].holds);
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Standby));
    story.give(A, Event::Shutdown);
    story.run(100 * MS);
    assert_eq!(story.services_ordered(A), Some(ServiceDuty::End));
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Standby));
    story.services(A, ServiceWord::Done);
    story.run(100 * MS);
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Run));
}

/// A node in standby mode whose services an earlier heart has left running.
fn wanted_while_services_run() -> Story {
    let mut story = with_service();
    story.give(A, Event::Wished { request: 1, wish: Wish::Standby(NodeIndex::Lower) });
    story.run(Duration::from_secs(4));
    assert_eq!(story.services_ordered(A), Some(ServiceDuty::Standby));
    assert!(!story.nodes[B].holds, "the services may run on both nodes");
    story
}

#[test]
fn a_want_is_granted_when_the_services_here_have_stopped() {
    let mut story = wanted_while_services_run();
    story.services(A, ServiceWord::Changing);
    story.run(Duration::from_secs(1));
    assert!(!story.nodes[B].holds);
    story.services(A, ServiceWord::Done);
    story.run(Duration::from_secs(2));
    assert!(story.nodes[B].holds);
}

#[test]
fn a_want_waits_no_longer_than_services_may_take_to_stop() {
    let mut story = wanted_while_services_run();
    story.run(Duration::from_secs(5));
    assert!(story.nodes[B].holds);
    let told = |(kind, text): &(Kind, String)| {
        *kind == Kind::Service && text.contains("did not stop in time")
    };
    assert!(story.nodes[A].told.iter().any(told));
}

#[test]
fn what_was_reported_to_the_heart_before_proves_nothing() {
    let config = with_service().config;
    let first_order = |incarnation: u64| {
        let disk = DiskState::default();
        let mut core = Core::new(config.clone(), NodeIndex::Lower, incarnation, 7, disk, Time(0));
        core.handle(Time(0), Event::Swept);
        let orders = std::iter::from_fn(|| core.poll());
        let mut numbers = orders.filter_map(|command| match command {
            Command::Services { order, .. } => Some(order),
            _ => None,
        });
        numbers.next().expect("something is ordered at the start")
    };
    assert_ne!(first_order(0x1234_5678_9abc_def0), first_order(0x8765_4321_0fed_cba9));
}

/// A heart died and came back; what it had started still runs, and writes.
#[test]
fn p3_nothing_is_taken_in_before_stray_services_have_stopped() {
    let mut story = Story::with(|group| {
        group.mirror.push(Tree {
            path: "/srv".into(),
            exclude: Vec::new(),
            hash: Hash::Auto,
            max_delete_percent: 100,
        });
        group.services.push(Service {
            exec: "/etc/clusterd/web".into(),
            check: None,
            warm: false,
            start_timeout: Duration::from_secs(2),
            stop_timeout: Duration::from_secs(1),
            restarts: 0,
        });
    });
    story.run(Duration::from_secs(1));
    story.mirror_well(B, None);
    story.mirror_well(A, None);
    story.run(Duration::from_secs(1));
    story.services(B, ServiceWord::Done);
    story.run(Duration::from_secs(1));
    let generation = story.nodes[A].core.disk.served("web").expect("A serves");
    story.mirror_well(B, Some(generation));
    story.mirror_well(A, Some(generation));
    story.run(100 * MS);
    story.kill_heart(A);
    story.run(5 * MS);
    story.mirror_well(B, Some(generation));
    story.time_until_held(B, 100 * MS);
    story.services(B, ServiceWord::Done);
    story.power_on(A);
    story.run(Duration::from_secs(1));
    assert_eq!(story.services_ordered(A), Some(ServiceDuty::Standby));
    let mirrors = |story: &Story| story.nodes[A].mirror_ordered.map(|(_, duty)| duty);
    story.services(A, ServiceWord::Changing);
    assert_eq!(mirrors(&story), Some(MirrorDuty::Still), "a stray still runs");
    story.services(A, ServiceWord::Done);
    assert!(matches!(mirrors(&story), Some(MirrorDuty::In(_))), "{:?}", mirrors(&story));
    // A warm one that fails later is no reason to stop the mirror.
    story.services(A, ServiceWord::Changing);
    story.run(Duration::from_secs(1));
    assert!(matches!(mirrors(&story), Some(MirrorDuty::In(_))));
    // One that never says that it has stopped holds the mirror up no longer than its time to stop.
    story.power_on(A);
    story.run(Duration::from_secs(5));
    assert_eq!(mirrors(&story), Some(MirrorDuty::Still));
    story.run(Duration::from_secs(2));
    assert!(matches!(mirrors(&story), Some(MirrorDuty::In(_))));
}

/// The services are stopping for a handover when the owner stands still for a moment.
#[test]
fn a_stall_starts_no_service_that_is_being_stopped() {
    let mut story = with_service();
    story.run(Duration::from_secs(1));
    story.services(B, ServiceWord::Done);
    story.run(Duration::from_secs(1));
    story.services(A, ServiceWord::Done);
    assert_eq!(story.services_ordered(A), Some(ServiceDuty::Run));
    let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
    story.give(A, Event::Wished { request: 1, wish });
    story.run(MS * 100);
    assert_eq!(story.services_ordered(A), Some(ServiceDuty::Standby));
    story.now = story.now + MS * 200;
    story.flying.clear();
    story.give(A, Event::Tick);
    assert_eq!(story.services_ordered(A), Some(ServiceDuty::Standby));
    story.services(A, ServiceWord::Done);
    story.time_until_held(B, MS * 500);
}

/// A warm service does not run where it stands by: should the owner go, nobody would be served.
#[test]
fn p6_a_node_whose_warm_service_fails_is_no_redundancy_and_better_than_nothing() {
    let mut story = with_service();
    story.run(Duration::from_secs(1));
    story.services(B, ServiceWord::Done);
    story.run(Duration::from_secs(1));
    story.services(A, ServiceWord::Done);
    story.run(Duration::from_secs(3));
    let redundant = |story: &Story| [A, B].map(|node| story.status(node).groups[0].redundant);
    assert_eq!(redundant(&story), [true; 2]);
    // It is tried again and again.
    for word in
        [ServiceWord::Failed, ServiceWord::Changing, ServiceWord::Failed, ServiceWord::Changing]
    {
        story.services(B, word);
        story.run(MS * 300);
        assert_eq!(redundant(&story), [false; 2], "{word:?}");
    }
    story.services(B, ServiceWord::Done);
    story.run(MS * 300);
    assert_eq!(redundant(&story), [true; 2]);
    story.services(B, ServiceWord::Failed);
    story.run(MS * 300);
    story.power_cut(A);
    story.time_until_held(B, MS * 250);
}
