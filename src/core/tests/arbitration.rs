//! Stories of two who live and reach different parts of the LAN.

use super::*;
use crate::config::Failback;

const SECOND: Duration = Duration::from_secs(1);

fn owner(story: &Story) -> Option<usize> {
    [A, B].into_iter().find(|&node| story.nodes[node].holds)
}

/// Lets time pass, and counts how often the group changed hands.
fn moves_within(story: &mut Story, span: Duration) -> usize {
    let end = story.now + span;
    let (mut last, mut moves) = (owner(story), 0);
    while story.now < end {
        story.run(MS * 50);
        let now = owner(story);
        moves += usize::from(now.is_some() && now != last);
        last = now.or(last);
    }
    moves
}

fn operator_moves_to(story: &mut Story, node: usize, request: u64) {
    let from = owner(story).expect("somebody serves");
    let wish = Wish::Move { group: WEB, to: Some(index(node)), accept_loss: false };
    story.give(from, Event::Wished { request, wish });
    story.time_until_held(node, MS * 500);
    story.run(SECOND);
}

/// Hosts that answer now the one node and now the other: the owner never reaches all of them.
fn flapping(rounds: u32) -> (Story, usize) {
    let mut story = Story::settled();
    let mut moves = 0;
    for _ in 0..rounds {
        let owner = owner(&story).expect("somebody serves");
        story.mute = vec![(owner, 1)];
        moves += moves_within(&mut story, SECOND * 9);
    }
    (story, moves)
}

#[test]
fn who_reaches_fewer_for_three_rounds_hands_over() {
    let mut story = Story::settled();
    story.mute = vec![(A, 1)];
    story.run(SECOND * 4);
    assert!(story.nodes[A].holds, "an answer lasts 2.5 s, and the difference must last three more");
    story.time_until_held(B, SECOND * 4);
    assert_eq!(told(&story, A, "it reaches fewer reach hosts than the peer"), 1);
    story.mute = vec![];
    story.run(SECOND * 10);
    assert!(story.nodes[B].holds, "equal again: nothing moves");
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn p1_an_owner_whose_cables_are_all_pulled_lets_go_before_the_peer_takes_over() {
    for phase in 0..25 {
        let mut story = Story::settled();
        // Out of step, as two clocks are: one node hears its last a while before the other.
        story.power_cut(B);
        story.run(SECOND + MS * 2 * phase);
        story.power_on(B);
        story.run(SECOND * 3);
        // Frames were lost a moment ago, so that an ask that hangs proves nothing.
        story.cut = PathSet::default().with(Path::Serial);
        story.run(MS * 120);
        story.cut = PathSet::default();
        story.run(MS * 300);
        story.cut = PathSet(7);
        story.lan[A] = false;
        story.time_until_held(B, MS * 250);
        assert!(!story.nodes[A].holds, "phase {phase}: {:?}", story.status(A));
        assert_eq!(story.both_held, Duration::ZERO, "phase {phase}");
    }
}

#[test]
fn ties_and_short_differences_move_nothing() {
    let short = SECOND * 2;
    for mute in [
        vec![(A, 0), (B, 1)],
        vec![(A, 0), (B, 0)],
        vec![(A, 0), (A, 1), (B, 0), (B, 1)],
        vec![(B, 0)],
        vec![(B, 0), (B, 1)],
    ] {
        let mut story = Story::settled();
        story.mute = mute;
        assert_eq!(moves_within(&mut story, SECOND * 20), 0, "{:?}", story.mute);
        // They come back on one node before the other.
        story.mute = vec![(A, 0), (A, 1)];
        assert_eq!(moves_within(&mut story, short), 0);
        story.mute = vec![];
        assert_eq!(moves_within(&mut story, SECOND * 10), 0);
    }
}

#[test]
fn counts_of_other_hosts_do_not_compare() {
    let mut story = Story::settled();
    story.mute = vec![(A, 1)];
    let end = story.now + SECOND * 12;
    while story.now < end {
        // What B says comes of another config file.
        for (_, _, event) in &mut story.flying {
            if let Event::Heard { beat, .. } = event
                && beat.node == index(B)
            {
                beat.digest[7] ^= 1;
                beat.reach_of = 3;
            }
        }
        story.run(MS / 10);
    }
    assert!(story.nodes[A].holds);
}

#[test]
fn hosts_that_flap_move_a_group_so_often_and_no_more() {
    let (mut story, moves) = flapping(30);
    assert_eq!(moves, 2 * limits::MOVES_MAX, "each node has its own budget");
    assert_eq!(told(&story, A, "not handed over again"), 1);
    assert_eq!(told(&story, B, "not handed over again"), 0);
    assert_eq!(story.both_held, Duration::ZERO);
    // When that was long enough ago, it moves again.
    story.mute = vec![(A, 1)];
    assert_eq!(moves_within(&mut story, limits::MOVES_WITHIN), 1);
}

#[test]
fn an_operators_moves_cost_nothing() {
    let mut story = Story::settled();
    for request in 0..6 {
        operator_moves_to(&mut story, if request % 2 == 0 { B } else { A }, request);
    }
    story.mute = vec![(A, 1)];
    story.time_until_held(B, SECOND * 8);
}

#[test]
fn a_spent_budget_keeps_nobody_where_clients_are_not_served() {
    let (mut story, _) = flapping(6);
    assert!(story.nodes[A].holds);
    story.mute = vec![];
    story.run(SECOND * 5);
    // Nobody answers A any more: it takes longer than at first, but not for ever.
    story.mute = vec![(A, 0), (A, 1)];
    assert_eq!(moves_within(&mut story, SECOND * 50), 0);
    story.time_until_held(B, SECOND * 20);
    story.mute = vec![];
    operator_moves_to(&mut story, A, 1);
    story.run(SECOND * 5);
    // A carrier that is lost, and a peer that is dead, wait for nothing.
    story.lan[A] = false;
    story.time_until_held(B, MS * 250);
    story.lan[A] = true;
    story.run(SECOND * 5);
    story.power_cut(B);
    story.time_until_held(A, MS * 250);
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn an_owner_who_lost_its_carrier_while_it_reached_fewer_hands_over_at_once() {
    let (mut story, _) = flapping(6);
    assert!(story.nodes[A].holds && story.nodes[B].powered);
    story.mute = vec![(A, 1)];
    story.run(SECOND * 10);
    assert!(story.nodes[A].holds, "its budget is spent");
    story.lan[A] = false;
    story.time_until_held(B, MS * 250);
}

/// A pair whose group goes home by itself after 2 s.
fn going_home() -> Story {
    let mut story = Story::with(|group| {
        group.failback = Failback::Auto;
        group.stable_for = SECOND * 2;
    });
    story.run(SECOND * 3);
    assert!(story.nodes[A].holds);
    story
}

#[test]
fn a_group_goes_home_once_home_reaches_as_much() {
    let mut story = going_home();
    story.mute = vec![(A, 1)];
    story.time_until_held(B, SECOND * 8);
    assert_eq!(moves_within(&mut story, SECOND * 20), 0, "not home to who reaches fewer");
    story.mute = vec![];
    story.run(SECOND);
    assert!(story.nodes[B].holds, "not before home has been well for stable_for");
    story.time_until_held(A, SECOND * 8);
    assert_eq!(moves_within(&mut story, SECOND * 20), 0);
}

#[test]
fn a_port_that_flaps_moves_a_group_away_and_fetches_it_home_so_often_and_no_more() {
    let mut story = going_home();
    let mut homecomings = 0;
    for _ in 0..10 {
        if owner(&story) == Some(A) {
            story.lan[A] = false;
            story.time_until_held(B, MS * 250);
        }
        story.lan[A] = true;
        story.run(SECOND);
        story.lan[A] = false;
        story.run(SECOND);
        story.lan[A] = true;
        story.run(MS * 1_500);
        assert!(story.nodes[B].holds, "home was not well for stable_for");
        story.run(SECOND * 5);
        homecomings += usize::from(owner(&story) == Some(A));
    }
    assert_eq!(homecomings, limits::MOVES_MAX);
    assert_eq!(told(&story, B, "not handed over again"), 1);
    assert_eq!(story.both_held, Duration::ZERO);
}

/// A switch dies, the crossover later: the nodes hear each other by the serial line alone.
fn on_serial_alone() -> Story {
    left_with_serial(Story::settled())
}

fn left_with_serial(mut story: Story) -> Story {
    story.lan = [false, false];
    story.run(SECOND);
    story.cut = story.cut.with(Path::Crossover);
    story.run(SECOND * 8);
    assert!(story.nodes[A].holds, "nobody reaches more than it");
    story
}

#[test]
fn a_stutter_on_the_last_line_moves_nothing_while_the_peer_is_off_the_lan_too() {
    let mut story = on_serial_alone();
    for _ in 0..5 {
        story.cut = story.cut.with(Path::Serial);
        story.run(MS * 250);
        story.cut = PathSet::default().with(Path::Crossover);
        story.run(SECOND);
        assert!(story.nodes[A].holds, "the peer has no carrier either");
    }
    story.lan = [true, true];
    story.run(SECOND * 5);
    assert!(story.nodes[A].holds && !story.nodes[B].holds);
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn a_lan_that_both_know_is_back_delays_no_takeover() {
    let mut story = on_serial_alone();
    story.cut = PathSet::default();
    story.run(SECOND);
    story.lan = [true, true];
    story.run(MS * 200);
    story.power_cut(A);
    story.time_until_held(B, MS * 250);
}

#[test]
fn p1_a_lan_that_is_back_on_one_node_is_claimed_on_only_after_the_other_has_let_go() {
    for gap in [0, 10, 60, 100, 150, 200, 400, 600] {
        let mut story = on_serial_alone();
        story.cut = story.cut.with(Path::Serial);
        story.run(MS * gap);
        story.lan = [false, true];
        // Nobody has answered on the LAN for long: A's lease must have ended.
        story.time_until_held(B, SECOND * 4);
        assert_eq!(story.both_held, Duration::ZERO, "{gap} ms later");
        assert_eq!(told(&story, A, "released: this node is cut off"), 1);
    }
}

/// A peer that restarted may know nothing of the loss that it told before: it may claim, so nobody trusts.
#[test]
fn p1_a_peer_that_restarts_is_not_trusted_to_be_off_the_lan() {
    let mut story = on_serial_alone();
    let sent = story.recorded.iter().rev().find(|(from, on, _)| (*from, *on) == (B, Path::Serial));
    let greeting =
        Beat { incarnation: 99, peer_incarnation: 0, ..sent.expect("it sends").2.clone() };
    story.cut = story.cut.with(Path::Serial);
    story.flying.clear();
    story.give(A, Event::Heard { path: Path::Serial, beat: greeting });
    story.run(MS * 200);
    assert!(!story.nodes[A].holds, "{:?}", story.status(A));
}

/// A peer that starts claims when its patience is over, although it has heard nothing of this node.
#[test]
fn p1_a_peer_is_trusted_to_be_off_the_lan_for_less_than_its_patience_after_a_start() {
    let mut story = Story::edited(|config| config.heartbeat.boot_patience = MS * 300);
    story.run(SECOND);
    let mut story = left_with_serial(story);
    story.cut = story.cut.with(Path::Serial);
    story.flying.clear();
    story.run(MS * 250);
    assert!(!story.nodes[A].holds, "{:?}", story.status(A));
}

/// B's first beats say that there is no carrier, because nobody has looked yet: A may serve on for that.
#[test]
fn p1_a_carrier_that_is_first_seen_after_the_first_beat_has_come_back() {
    let mut story = Story::settled();
    story.power_cut(B);
    story.run(SECOND);
    story.lan = [false, true];
    story.cut = story.cut.with(Path::Crossover);
    story.run(SECOND);
    story.blind = Some(B);
    story.power_on(B);
    story.run(SECOND * 6);
    assert!(story.nodes[A].holds, "{:?}", story.status(A));
    story.cut = story.cut.with(Path::Serial);
    story.flying.clear();
    story.blind = None;
    // Nobody has answered on the LAN for long: A's lease must have ended.
    story.time_until_held(B, SECOND * 4);
    assert_eq!(story.both_held, Duration::ZERO);
}
