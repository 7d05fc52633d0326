//! Whoever waits for somebody has an end to it, and somebody serves after that.

use super::duties::{mirrored, with_service, with_tree};
use super::reload::edited;
use super::*;
use crate::config::{Config, Failback};

const SECOND: Duration = Duration::from_secs(1);
const SEEN: Event = Event::AddressSeen { group: WEB, holder: Holder::Peer };

/// Two nodes that have just started, each with a config of its own.
fn with_configs(configs: [Config; 2]) -> Story {
    let mut story = Story::new();
    story.flying.clear();
    for (node, config) in configs.into_iter().enumerate() {
        let (number, disk) = (node as u64 + 11, DiskState::default());
        let config = Arc::new(config);
        story.nodes[node].holds = false;
        story.nodes[node].core =
            Core::new(config, index(node), number, number, disk, story.local(node));
    }
    story.drain(A);
    story.drain(B);
    story
}

fn at_home_on(name: &str) -> Config {
    edited(&[("prefer  = \"serv1\"", &format!("prefer  = \"{name}\""))])
}

/// A config that differs in nothing that counts.
fn crosswise() -> [[Config; 2]; 2] {
    [["serv1", "serv2"], ["serv2", "serv1"]].map(|names| names.map(at_home_on))
}

#[test]
fn p2_two_nodes_that_disagree_on_the_groups_home_serve_it_all_the_same() {
    for configs in crosswise() {
        let mut story = with_configs(configs);
        story.run(SECOND * 3);
        let holds = [A, B].map(|node| story.nodes[node].holds);
        assert_ne!(holds[A], holds[B], "{:?} {:?}", story.status(A), story.status(B));
        story.run(SECOND * 60);
        assert_eq!([A, B].map(|node| story.nodes[node].holds), holds, "nothing moves");
    }
}

#[test]
fn p1_two_owners_that_disagree_on_the_groups_home_agree_on_one() {
    for configs in crosswise() {
        let mut story = with_configs(configs);
        for path in Path::ALL {
            story.cut = story.cut.with(path);
        }
        story.arp_cut = true;
        story.run(SECOND * 8);
        assert!(story.nodes[A].holds && story.nodes[B].holds, "split, each is alone");
        story.cut = PathSet::default();
        story.run(SECOND);
        assert_ne!(story.nodes[A].holds, story.nodes[B].holds);
        let before = story.both_held;
        story.run(SECOND * 60);
        assert_eq!(story.both_held, before);
    }
}

/// A serves, and its service runs.
pub(super) fn in_service() -> Story {
    let mut story = with_service();
    story.run(SECOND);
    story.services(B, ServiceWord::Done);
    story.run(SECOND);
    story.services(A, ServiceWord::Done);
    story.run(SECOND);
    assert!(story.nodes[A].holds && !story.nodes[B].holds);
    story
}

/// Lets the node stand still with its clocks, as a virtual machine does.
fn paused(story: &mut Story, node: usize, span: Duration) {
    story.crossover_keeps_carrier = true;
    let held = std::mem::take(&mut story.nodes[node].holds);
    story.nodes[node].powered = false;
    story.run(span);
    let station = &mut story.nodes[node];
    station.powered = true;
    station.holds = held;
    station.began = station.began + span;
}

/// How often a node has told that.
fn told(story: &Story, node: usize, kind: Kind) -> usize {
    story.nodes[node].told.iter().filter(|(told, _)| *told == kind).count()
}

#[test]
fn p1_of_two_owners_only_the_one_that_was_paused_lets_go() {
    for seconds in [1, 3, 10] {
        let mut story = Story::settled();
        paused(&mut story, A, SECOND * seconds);
        assert!(story.nodes[B].holds);
        // What A's kernel answers whoever asks, as long as it has the address.
        story.give(B, SEEN);
        story.give(B, SEEN);
        let before = story.both_held;
        story.run(SECOND * 2);
        assert!(story.nodes[B].holds && !story.nodes[A].holds);
        assert_eq!(told(&story, B, Kind::Release), 0, "{:?}", story.nodes[B].told);
        assert!(story.both_held - before <= MS * 30, "{:?}", story.both_held - before);
    }
}

/// Only the kernels meet, on the LAN: nothing tells who was paused but who asked the LAN before it served.
#[test]
fn p1_a_paused_owner_that_hears_nobody_asks_the_lan_who_serves() {
    let mut story = Story::settled();
    for path in Path::ALL {
        story.cut = story.cut.with(path);
    }
    paused(&mut story, A, SECOND * 3);
    assert!(story.nodes[B].holds);
    let before = story.both_held;
    story.run(SECOND * 5);
    assert!(story.nodes[B].holds && !story.nodes[A].holds);
    assert!(story.both_held - before <= SECOND / 2, "{:?}", story.both_held - before);
}

/// How much of that time the node holds the address while somebody says that each `every`.
fn held_among(
    story: &mut Story,
    node: usize,
    holder: Holder,
    every: Duration,
    span: Duration,
) -> f64 {
    let (end, mut held, mut all) = (story.now + span, 0_u32, 0_u32);
    while story.now < end {
        story.give(node, Event::AddressSeen { group: WEB, holder });
        story.run(every);
        held += u32::from(story.nodes[node].holds);
        all += 1;
    }
    f64::from(held) / f64::from(all)
}

#[test]
fn p2_a_neighbour_that_plays_the_dead_peer_takes_nobody_out_of_service() {
    for (dead, every) in [(A, 20), (A, 100), (B, 20), (B, 100)] {
        let mut story = Story::settled();
        story.power_cut(dead);
        story.run(SECOND * 2);
        let held = held_among(&mut story, 1 - dead, Holder::Peer, MS * every, SECOND * 20);
        assert!(held > 0.99, "without {dead}, each {every} ms: {held}");
        assert!(told(&story, 1 - dead, Kind::Address) > 0, "it is told");
    }
}

#[test]
fn p2_a_strangers_frames_do_not_block_a_takeover_for_ever() {
    let mut story = Story::settled();
    let holder = Holder::Stranger([2, 0, 0, 0, 0, 9]);
    story.power_cut(A);
    let within_a_moment = held_among(&mut story, B, holder, MS * 2, SECOND * 2);
    assert_eq!(within_a_moment, 0.0, "whoever uses it may stop");
    held_among(&mut story, B, holder, MS * 2, SECOND * 5);
    let held = held_among(&mut story, B, holder, MS * 2, SECOND * 20);
    assert!(held > 0.99, "{held}: {:?}", story.status(B).groups);
}

fn moves(story: &mut Story, from: usize, to: usize) {
    let wish = Wish::Move { group: WEB, to: Some(index(to)), accept_loss: false };
    story.give(from, Event::Wished { request: 77, wish });
}

#[test]
fn p2_a_granted_want_that_never_settles_ends() {
    let mut story = with_tree();
    let generation = mirrored(&mut story);
    // B's worker says that it works, and reports nothing any more.
    story.give(A, Event::Wished { request: 1, wish: Wish::Standby(index(A)) });
    story.run(SECOND * 15);
    assert!(!story.nodes[A].holds && !story.nodes[B].holds);
    assert!(matches!(story.nodes[A].mirror_ordered, Some((_, MirrorDuty::Still))));
    story.mirror_well(A, Some(generation));
    story.give(A, Event::Wished { request: 2, wish: Wish::Online(index(A)) });
    for _ in 0..30 {
        story.run(SECOND);
        if story.mirror_still(A) {
            story.mirror_well(A, Some(generation));
        }
    }
    assert!(story.nodes[A].holds, "{:?} {:?}", story.status(A), story.status(B));
}

impl Story {
    fn mirror_still(&self, node: usize) -> bool {
        matches!(self.nodes[node].mirror_ordered, Some((_, MirrorDuty::Still)))
    }
}

#[test]
fn p2_nothing_moves_to_a_node_whose_kernel_does_not_answer() {
    let mut story = Story::settled();
    story.stuck = Some(B);
    moves(&mut story, A, B);
    story.run(SECOND * 20);
    assert!(story.nodes[A].holds, "{:?}", story.nodes[A].told);
    assert!(matches!(story.nodes[A].answers.get(&77), Some(Err(_))));
    story.stuck = None;
    moves(&mut story, A, B);
    story.time_until_held(B, SECOND);
}

#[test]
fn p2_nothing_moves_from_a_node_whose_kernel_does_not_answer() {
    let mut story = Story::settled();
    story.stuck = Some(A);
    story.run(SECOND);
    moves(&mut story, A, B);
    story.run(SECOND * 8);
    story.stuck = None;
    story.run(SECOND);
    assert_eq!(told(&story, A, Kind::Release), 0, "{:?}", story.nodes[A].told);
}

#[test]
fn p2_services_that_never_say_that_they_run_go_back_to_a_peer_that_is_well() {
    let mut story = in_service();
    moves(&mut story, A, B);
    for _ in 0..20 {
        story.run(MS * 50);
        story.services(A, ServiceWord::Done);
    }
    assert!(story.nodes[B].holds && !story.nodes[A].holds, "{:?}", story.nodes[A].answers);
    story.services(B, ServiceWord::Changing);
    // B's worker says nothing more.
    story.run(Duration::from_secs(120));
    assert!(story.nodes[A].holds, "{:?} {:?}", story.status(A), story.status(B));
}

#[test]
fn an_operators_move_is_not_undone_by_the_moment_after_it() {
    let mut story = Story::with(|group| {
        group.failback = Failback::Auto;
        group.stable_for = SECOND * 2;
    });
    story.run(SECOND * 3);
    assert!(story.nodes[A].holds);
    // The disk is slow: for a moment A has no generation to claim with.
    moves(&mut story, A, B);
    story.deaf_disk = true;
    story.time_until_held(B, SECOND);
    story.run(MS * 100);
    story.deaf_disk = false;
    story.power_disk();
    story.run(SECOND * 30);
    assert!(story.nodes[B].holds, "{:?}", story.nodes[B].told);
    // A node that was away, and is well again, still gets its group back.
    story.power_cut(A);
    story.run(SECOND);
    story.power_on(A);
    story.time_until_held(A, SECOND * 10);
}

impl Story {
    /// The disks that were deaf have everything by now.
    fn power_disk(&mut self) {
        for node in [A, B] {
            for write in 1..64 {
                self.give(node, Event::Persisted { write });
            }
        }
    }
}

#[test]
fn p2_a_claim_that_fails_at_a_moves_target_gives_the_group_back_at_once() {
    let mut story = Story::settled();
    story.refuses_a_claim = true;
    moves(&mut story, A, B);
    story.run(MS * 50);
    story.time_until_held(A, MS * 500);
}

#[test]
fn a_service_that_is_broken_on_both_nodes_moves_ever_more_seldom() {
    let mut story = Story::edited(|config| {
        config.heartbeat.interval = SECOND;
        config.heartbeat.dead_after = SECOND * 3;
        config.groups[0].services = with_service().config.groups[0].services.clone();
    });
    for _ in 0..20 {
        story.run(SECOND);
        for node in [A, B] {
            story.services(node, ServiceWord::Done);
        }
    }
    let owner = |story: &Story| [A, B].into_iter().find(|&node| story.nodes[node].holds);
    assert_eq!(owner(&story), Some(A));
    let (mut moves, mut before) = (0, A);
    // Whoever serves tries, and fails.
    for _ in 0..2_000 {
        for node in [A, B] {
            let word = match story.services_ordered(node) {
                Some(ServiceDuty::Run) => ServiceWord::Failed,
                Some(_) | None => ServiceWord::Done,
            };
            story.services(node, word);
        }
        story.run(SECOND * 3);
        if let Some(now) = owner(&story) {
            moves += u32::from(now != before);
            before = now;
        }
    }
    assert!((3..=8).contains(&moves), "{moves} in a hundred minutes");
}

#[test]
fn p2_who_serves_on_in_standby_takes_a_deleted_address_back() {
    let mut story = Story::settled();
    // B is asked to take over, and dies before it does.
    story.refuses_a_claim = false;
    for path in Path::ALL {
        story.cut = story.cut.with(path);
    }
    story.give(A, Event::Wished { request: 1, wish: Wish::Standby(index(A)) });
    story.power_cut(B);
    story.run(SECOND * 2);
    assert!(story.nodes[A].holds, "{:?}", story.nodes[A].told);
    story.nodes[A].holds = false;
    story.give(A, Event::AddressLost { group: WEB });
    story.time_until_held(A, SECOND * 2);
    // The lock stands: whoever comes gets the group.
    story.cut = PathSet::default();
    story.power_on(B);
    story.time_until_held(B, SECOND * 3);
    assert!(!story.nodes[A].holds);
}

#[test]
fn p2_an_owner_without_a_carrier_keeps_no_address_until_its_services_have_stopped() {
    let mut story = in_service();
    story.lan[A] = false;
    story.time_until_held(B, MS * 250);
    // What must not run on both nodes runs on neither before the one has stopped.
    assert_eq!(story.services_ordered(A), Some(ServiceDuty::Standby));
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Standby));
    story.run(SECOND);
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Standby));
    story.services(A, ServiceWord::Done);
    story.run(MS * 10);
    assert_eq!(story.services_ordered(B), Some(ServiceDuty::Run));
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn p2_services_that_do_not_stop_or_whose_node_dies_are_waited_for_no_longer() {
    for dies in [false, true] {
        let mut story = in_service();
        story.lan[A] = false;
        story.time_until_held(B, MS * 250);
        if dies {
            story.power_cut(A);
        }
        let patience = SECOND + limits::SERVICES_STOP_SLACK;
        story.run(if dies { MS * 500 } else { patience + MS * 100 });
        assert_eq!(story.services_ordered(B), Some(ServiceDuty::Run), "dies: {dies}");
    }
}

#[test]
fn an_address_that_the_kernel_refuses_leaves_the_others_served() {
    let mut story = Story::settled();
    let refused = vec!["203.0.113.50".parse().unwrap()];
    let error = "Permission denied".to_string();
    story.give(A, Event::AddressesRefused { group: WEB, refused, error: error.clone() });
    assert!(story.nodes[A].holds && !story.status(A).groups[0].addresses[0].held);
    assert_eq!(told(&story, A, Kind::Address), 1);
    story.give(A, Event::AddressesRefused { group: WEB, refused: Vec::new(), error });
    assert!(story.status(A).groups[0].addresses[0].held);
}

/// The NIC tells the loss of its carrier late: the LAN is silent, and no host answers but the peer.
#[test]
fn p2_a_lan_cable_is_noticed_before_its_carrier_tells() {
    let mut story = Story::settled();
    story.run(SECOND * 2);
    story.cut = story.cut.with(Path::Lan);
    story.mute = vec![(A, 0), (A, 1)];
    let took = story.time_until_held(B, SECOND * 5);
    assert!(took <= MS * 500, "{took:?}");
    assert_eq!(story.both_held, Duration::ZERO);
}

/// A switch that restarts: it serves one port before the other, long after it went.
#[test]
fn a_switch_that_comes_back_moves_nothing_by_serving_one_port_first() {
    let mut story = Story::settled();
    story.run(SECOND * 2);
    story.cut = story.cut.with(Path::Lan);
    story.mute = vec![(A, 0), (A, 1), (B, 0), (B, 1)];
    story.run(SECOND * 20);
    assert!(story.nodes[A].holds, "nobody reaches more than it");
    story.mute = vec![(A, 0), (A, 1)];
    story.run(SECOND * 2);
    story.mute = vec![];
    story.cut = PathSet::default();
    story.run(SECOND * 5);
    assert!(story.nodes[A].holds);
    assert_eq!(told(&story, A, Kind::Release), 0);
}

#[test]
fn that_no_host_answers_is_told_once_somebody_could_have() {
    let mut story = Story::settled();
    story.power_cut(B);
    story.run(SECOND * 2);
    story.power_cut(A);
    story.mute = vec![(A, 0), (A, 1)];
    story.power_on(A);
    story.run(MS * 800);
    assert_eq!(told(&story, A, Kind::Refused), 0, "{:?}", story.nodes[A].told);
    story.run(SECOND * 2);
    assert_eq!(told(&story, A, Kind::Refused), 1, "{:?}", story.nodes[A].told);
}
