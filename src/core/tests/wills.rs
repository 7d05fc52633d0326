//! Stories of last wills. In every story the will is withdrawn before the disk may say `alone`, and names
//! a new generation before it is claimed: see `Story::obey`.

use super::*;
use crate::beat::GroupBeat;

/// The pair has settled, and A's last will is what it would be if its heart died now.
fn settled_with_will() -> (Story, Beat) {
    let story = Story::settled();
    let will = story.nodes[A].will.clone().expect("a pair at peace has a will");
    (story, will)
}

#[test]
fn p2_a_last_will_lets_the_peer_claim_at_once() {
    let (mut story, will) = settled_with_will();
    assert!(story.nodes[B].will.is_some(), "the standby side has one too");
    assert_eq!((will.sequence, will.may_claim, will.farewell), (u64::MAX, true, false));
    story.kill_heart(A);
    let outage = story.time_until_held(B, MS * 20);
    assert!(outage >= limits::PROBE_GAP * limits::PROBES, "the LAN was not asked: {outage:?}");
    let status = story.status(B);
    assert_eq!((status.peer.state, status.groups[0].generation), (PeerState::Dead, 2));
    let told = &story.nodes[B].told;
    let says = |kind: Kind, text: &str| told.iter().any(|(k, t)| *k == kind && t.contains(text));
    assert!(says(Kind::PeerDead, "last will") && says(Kind::PeerDead, "came on crossover"));
    assert!(says(Kind::Takeover, "its guard took the addresses away"), "{told:?}");
    // It comes back as after any death.
    story.run(MS * 40);
    story.power_on(A);
    story.run(MS * 1_000);
    assert!(story.nodes[B].holds && !story.nodes[A].holds);
    assert_eq!(story.status(B).peer.state, PeerState::Alive);
    assert_eq!(story.both_held, Duration::ZERO);
    assert!(story.nodes[A].will.is_some() && story.nodes[B].will.is_some());
}

/// Each path's copy but the first, older beats that were under way, and the will once more.
#[test]
fn p1_a_last_will_counts_once_and_ends_what_came_before() {
    let (mut story, will) = settled_with_will();
    let old =
        story.recorded.iter().rev().find(|(from, ..)| *from == A).expect("it beats").2.clone();
    story.kill_heart(A);
    story.time_until_held(B, MS * 20);
    let before = refused(&story, B, "ended-incarnation");
    assert_eq!(before, 2, "the copies on the other paths");
    let late = Beat { sequence: old.sequence + 1, ..old };
    for (path, beat) in [(Path::Lan, late), (Path::Serial, will.clone()), (Path::Lan, will)] {
        story.give(B, Event::Heard { path, beat });
        assert_eq!(story.status(B).peer.state, PeerState::Dead);
    }
    assert_eq!(refused(&story, B, "ended-incarnation"), before + 3);
    assert_eq!(story.nodes[B].told.iter().filter(|(kind, _)| *kind == Kind::PeerDead).count(), 1);
}

#[test]
fn p1_a_last_will_that_comes_after_the_next_heart_is_void() {
    let (mut story, will) = settled_with_will();
    story.cut = PathSet(7);
    story.kill_heart(A);
    story.run(MS * 20);
    story.cut = PathSet::default();
    story.power_on(A);
    story.run(MS * 1_000);
    assert!(story.nodes[A].holds, "{:?}", story.status(A));
    let counted = |story: &Story| story.status(B).peer.state;
    for path in Path::ALL {
        story.give(B, Event::Heard { path, beat: will.clone() });
        assert_eq!(counted(&story), PeerState::Alive);
    }
    // Nor does one of a heart before that.
    story.kill_heart(A);
    story.time_until_held(B, MS * 20);
    story.power_on(A);
    story.run(MS * 500);
    story.give(B, Event::Heard { path: Path::Lan, beat: will });
    assert_eq!(counted(&story), PeerState::Alive);
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn p1_a_last_will_to_an_earlier_heart_of_the_receiver_is_void() {
    let (mut story, will) = settled_with_will();
    story.power_cut(B);
    story.run(MS * 300);
    story.power_on(B);
    story.run(MS * 1_000);
    let before = refused(&story, B, "introduction");
    story.give(B, Event::Heard { path: Path::Lan, beat: will.clone() });
    assert_eq!(refused(&story, B, "introduction"), before + 1);
    assert_eq!(story.status(B).peer.state, PeerState::Alive);
    assert!(!story.nodes[B].holds);
    let now = story.nodes[A].will.clone().expect("a will for the new heart");
    assert_ne!(now.peer_incarnation, will.peer_incarnation);
}

/// Its disk says `alone`: the heart that follows would claim without having heard anybody.
#[test]
fn p1_no_last_will_while_the_disk_may_say_alone() {
    let mut story = Story::settled();
    story.power_cut(B);
    story.run(MS * 500);
    assert!(story.nodes[A].disk.alone && story.nodes[A].will.is_none());
    story.deaf_disk = true;
    story.power_on(B);
    story.run(MS * 500);
    assert_eq!(story.status(A).peer.state, PeerState::Alive);
    assert_eq!(story.nodes[A].will, None, "the write that clears it hangs");
    story.kill_heart(A);
    story.run(MS * 200);
    assert!(!story.nodes[B].holds, "without a will, nor the word that it may claim: it waits");
}

#[test]
fn a_node_has_no_last_will_before_its_sweep_nor_in_its_goodbyes() {
    let story = Story::new();
    assert_eq!([A, B].map(|node| story.nodes[node].will.clone()), [None, None], "nobody was heard");
    let mut story = Story::settled();
    story.give(A, Event::Shutdown);
    story.run(MS * 1_000);
    assert!(!story.nodes[A].powered && story.nodes[B].holds);
    assert_eq!(story.nodes[A].will, None);
}

#[test]
fn a_last_will_makes_nobody_serve_who_may_not() {
    let mut story = Story::settled();
    let wish = Wish::Standby(NodeIndex::Upper);
    story.give(B, Event::Wished { request: 1, wish });
    story.run(MS * 500);
    assert_eq!(story.nodes[A].will, None, "a peer in standby mode is told nothing");
    let mut story = Story::settled();
    story.lan[B] = false;
    story.run(MS * 500);
    story.kill_heart(A);
    story.run(MS * 40);
    story.power_on(A);
    story.run(MS * 1_000);
    assert!(story.nodes[A].holds && !story.nodes[B].holds, "{:?}", story.status(A));
}

/// A frozen owner: its kernel answers until the guard has taken the address away.
#[test]
fn p2_a_last_will_ends_the_wait_for_the_lease() {
    let (mut story, will) = settled_with_will();
    story.nodes[A].powered = false;
    story.nodes[A].killed = true;
    // The kernel answers in place of the frozen heart, as long as it holds the address.
    let answers = |story: &mut Story, span: u32| {
        for _ in 0..span {
            story.give(B, Event::AddressSeen { group: WEB, holder: Holder::Peer });
            story.run(MS);
        }
    };
    answers(&mut story, 310);
    assert_eq!(story.status(B).groups[0].state, Word::Starting, "{:?}", story.status(B));
    story.nodes[A].holds = false;
    story.give(B, Event::Heard { path: Path::Lan, beat: will });
    story.time_until_held(B, MS * 20);
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn the_newest_generation_is_learned_from_a_last_will() {
    let (mut story, will) = settled_with_will();
    let newer = GroupBeat { generation: 8, id: 99, ..will.groups[0] };
    let will = Beat { groups: [newer].into_iter().collect(), ..will };
    story.power_cut(A);
    story.nodes[A].killed = true;
    story.give(B, Event::Heard { path: Path::Crossover, beat: will });
    story.time_until_held(B, MS * 20);
    assert_eq!(story.status(B).groups[0].generation, 9);
}

/// It waited in the socket while the receiver stood still: the next heart may live by now.
#[test]
fn a_last_will_from_before_a_gap_is_left_to_silence() {
    let (mut story, will) = settled_with_will();
    story.power_cut(A);
    story.nodes[A].killed = true;
    story.flying.clear();
    story.now = story.now + MS * 400;
    story.give(B, Event::Heard { path: Path::Lan, beat: will });
    assert_eq!(story.status(B).peer.state, PeerState::Alive);
    story.run(MS * 20);
    assert!(!story.nodes[B].holds);
    story.time_until_held(B, MS * 300);
}
