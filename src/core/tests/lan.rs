//! Stories of a LAN that is slow, or on which nobody answers.

use super::*;
use crate::core::evidence::lan::{LanEvidence, RoundTrips};
use crate::core::evidence::probe::{Patience, Verdict};
use crate::core::io::event::Holder;

const SECOND: Duration = Duration::from_secs(1);

fn without_serial() -> Story {
    let mut story = Story::edited(|config| {
        for node in &mut config.nodes {
            node.serial = None;
        }
    });
    story.run(SECOND * 3);
    assert!(story.nodes[A].holds);
    story
}

/// A question at rest got lost, as on a cable that was out; then this node was in doubt and asked again. What is
/// answered now would pass for a slow answer to the first one, and make the next takeover wait for seconds.
#[test]
fn p2_an_answer_to_a_later_question_is_no_slow_one_to_an_earlier() {
    let start = Time(1_000_000);
    let mut lan = LanEvidence::default();
    lan.at_rest(start);
    assert!(lan.at_rest(start + SECOND).is_some());
    let doubt = start + MS * 1_940;
    lan.begin(doubt, false);
    let patience = Patience { silence: MS * 3, not_before: None };
    assert_eq!(lan.verdict(doubt, patience, true), Verdict::Send);
    let answered = doubt + Duration::from_micros(500);
    lan.seen(answered, Holder::Peer, true);
    assert_eq!(lan.worst_round_trip(), Duration::ZERO);
    // Nor does it show how long silence must be to mean something: the next question at rest does.
    assert!(!lan.is_proven(answered));
    assert!(lan.at_rest(start + SECOND * 2).is_some());
    lan.seen(start + SECOND * 2 + MS, Holder::Peer, true);
    assert!(lan.is_proven(start + SECOND * 2 + MS));
    assert_eq!(lan.worst_round_trip(), MS);
}

fn pull_crossover(story: &mut Story) {
    story.cut = story.cut.with(Path::Crossover);
    for node in [A, B] {
        story.give(node, Event::Carrier { link: Link::Crossover, up: false });
    }
}

/// The LAN has just become slow, so that an ask and all probes stay unanswered for a while.
#[test]
fn p1_a_crossover_that_is_pulled_while_the_lan_is_slow_moves_nothing() {
    for late in [4, 8, 12, 20, 40] {
        let mut story = without_serial();
        story.lan_late = MS * late;
        pull_crossover(&mut story);
        story.run(SECOND);
        assert_eq!(story.both_held, Duration::ZERO, "{late} ms");
        assert!(story.nodes[A].holds && !story.nodes[B].holds, "{late} ms");
    }
}

/// Without a second path that is silent, too, a lost carrier shortens nothing.
#[test]
fn p1_without_a_serial_line_only_silence_tells_of_a_power_cut() {
    let mut story = without_serial();
    story.power_cut(A);
    story.give(B, Event::Carrier { link: Link::Crossover, up: false });
    let took = story.time_until_held(B, MS * 250);
    let dead_after = story.config.heartbeat.dead_after;
    assert!(took + story.config.heartbeat.interval >= dead_after, "{took:?}");
}

#[test]
fn p1_a_crossover_that_is_set_down_here_is_no_sign_of_a_death() {
    let mut story = Story::settled();
    story.run(SECOND * 3);
    story.cut = story.cut.with(Path::Crossover);
    story.give(B, Event::SetDown { link: Link::Crossover });
    story.give(B, Event::SetDown { link: Link::Crossover });
    // All the same it falls silent at once.
    story.power_cut(A);
    let took = story.time_until_held(B, MS * 250);
    let heartbeat = story.config.heartbeat;
    assert!(took + heartbeat.interval >= heartbeat.dead_after, "{took:?}");
}

/// A switch drops ARP, or both have one MAC: the peer's lease must have ended.
#[test]
fn p1_silence_on_a_lan_where_nobody_ever_answered_proves_nothing() {
    let mut story = Story::new();
    story.arp_cut = true;
    story.run(SECOND * 10);
    assert_eq!(told(&story, B, "nobody on the LAN answers"), 1);
    assert!(story.status(B).groups[0].why.contains("nobody on the LAN answers"));
    story.freeze(A);
    let took = story.time_until_held(B, SECOND * 4);
    assert!(took >= limits::LEASE + limits::LEASE_GRACE, "{took:?}");
}

#[test]
fn answers_that_come_again_are_told_and_count() {
    let mut story = Story::new();
    story.arp_cut = true;
    story.run(SECOND * 10);
    story.arp_cut = false;
    story.run(SECOND * 3);
    assert_eq!(told(&story, B, "the LAN answers for its addresses there again"), 1);
    assert_eq!(story.status(B).groups[0].why, "the peer serves it");
    story.power_cut(A);
    story.time_until_held(B, MS * 250);
}

/// A switch that validates ARP drops questions that name no sender.
fn behind_a_switch_that_validates() -> Story {
    let mut story = Story::new();
    story.switch_drops = Some(AskAs::Nobody);
    story.run(SECOND * 10);
    assert_eq!(told(&story, B, "nobody on the LAN answers"), 0);
    story
}

#[test]
fn p1_what_a_switch_drops_is_asked_in_the_other_form() {
    let mut story = behind_a_switch_that_validates();
    story.freeze(A);
    story.run(SECOND);
    assert!(!story.nodes[B].holds, "its kernel answers");
    story.nodes[A].holds = false;
    story.time_until_held(B, MS * 400);
}

#[test]
fn p2_what_a_switch_drops_costs_no_time_after_a_power_cut() {
    let mut story = behind_a_switch_that_validates();
    story.power_cut(A);
    story.time_until_held(B, MS * 250);
}

/// A LAN that was slow before is slow again: a kernel that answers late is waited for.
#[test]
fn p1_the_lans_own_round_trip_is_waited_for() {
    for late in [6, 20, 50, 100, 200] {
        let mut story = Story::new();
        story.lan_late = MS * late;
        story.run(SECOND * 5);
        assert!(story.nodes[A].holds);
        story.freeze(A);
        story.run(SECOND * 2);
        assert!(!story.nodes[B].holds, "{late} ms");
        story.nodes[A].holds = false;
        story.time_until_held(B, SECOND * 2);
    }
}

/// A question that this node could not send is answered by nobody.
#[test]
fn p1_probes_that_cannot_be_sent_prove_nothing() {
    let mut story = Story::settled();
    story.run(SECOND * 3);
    story.crossover_keeps_carrier = true;
    story.freeze(A);
    for _ in 0..500 {
        story.run(MS);
        story.give(B, Event::ProbeFailed { group: WEB });
        assert!(!story.nodes[B].holds);
    }
}

#[test]
fn one_mac_on_both_nodes_is_told_once_each() {
    let mut story = Story::settled();
    let mac = [2, 0, 0, 0, 0x77, 0x77];
    for node in [A, B] {
        story.give(node, Event::LanMac { mac });
        for _ in 0..3 {
            story.run(MS * 60);
            let beat = newest(&story, 1 - node, Path::Lan);
            let beat = Beat { lan_mac: mac, sequence: beat.sequence + 1, ..beat };
            story.give(node, Event::Heard { path: Path::Lan, beat });
        }
        assert_eq!(told(&story, node, "02:00:00:00:77:77"), 1);
    }
}

#[test]
fn a_crossover_without_ipv6_is_told_once_where_trees_are_mirrored() {
    let mut story = super::duties::with_tree();
    for _ in 0..20 {
        story.give(A, Event::SyncAddress { address: None });
        story.run(SECOND);
    }
    assert_eq!(told(&story, A, "has no IPv6 link-local address"), 1);
    assert_eq!(told(&story, B, "has no IPv6 link-local address"), 0, "its worker has not said");
}

/// Without reach hosts a look at the carrier is all that proves reach: it must not grow old.
#[test]
fn p6_a_pair_without_reach_hosts_stays_redundant() {
    for interval_ms in [10, 20, 50, 200] {
        let mut story = Story::edited(|config| {
            config.reach_hosts.clear();
            config.heartbeat.interval = MS * interval_ms;
            config.heartbeat.dead_after = MS * interval_ms * 3;
        });
        story.run(SECOND * 3);
        for _ in 0..100 {
            story.run(MS * 50);
            for node in [A, B] {
                assert!(story.status(node).groups[0].redundant, "{interval_ms} ms");
            }
        }
    }
}

/// The peer came back, and that the owner is not alone any more cannot be written.
#[test]
fn p6_an_owner_that_has_not_told_that_the_other_may_claim_is_not_redundant() {
    let mut story = Story::settled();
    story.power_cut(B);
    story.run(SECOND);
    story.deaf_disk = true;
    story.power_on(B);
    story.run(SECOND * 3);
    for node in [A, B] {
        assert!(!story.status(node).groups[0].redundant, "{:?}", story.status(node));
    }
}

#[test]
fn one_late_answer_is_no_slow_network() {
    let mut trips = RoundTrips::new(3);
    let mut now = Time(1_000_000);
    let mut see = |trips: &mut RoundTrips, ms: u32, times: u32| {
        for _ in 0..times {
            now = now + MS * 20;
            trips.saw(now, MS * ms);
        }
        now
    };
    see(&mut trips, 1, 10);
    see(&mut trips, 90, 2);
    see(&mut trips, 1, 10);
    assert_eq!(trips.worst(), MS);
    see(&mut trips, 40, 3);
    see(&mut trips, 1, 10);
    assert_eq!(trips.worst(), MS * 40);
    // It is remembered for a minute or two.
    see(&mut trips, 1, 50 * 125);
    assert_eq!(trips.worst(), MS);
}
