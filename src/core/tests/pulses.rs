//! Stories of asks: what answers them, and when no answer means nothing.

use super::*;
use crate::beat::PulseKind;

fn lost() -> Event {
    Event::Carrier { link: Link::Crossover, up: false }
}

#[test]
fn p4_a_pulse_counts_once_and_only_in_time() {
    let mut story = Story::settled();
    story.run(MS * 2_000);
    let kinds = [PulseKind::Ask, PulseKind::Answer];
    for kind in kinds {
        let sent = story.pulses.iter().rev().find(|(from, pulse)| *from == A && pulse.kind == kind);
        let pulse = sent.expect("the line is measured at rest").1;
        let before = refused(&story, B, "replay");
        story.give(B, Event::Pulsed(pulse));
        assert_eq!(refused(&story, B, "replay"), before + 1, "{kind:?}");
        let ended = refused(&story, B, "ended-incarnation");
        story.give(B, Event::Pulsed(Pulse { incarnation: 77, ..pulse }));
        assert_eq!(refused(&story, B, "ended-incarnation"), ended + 1, "{kind:?}");
    }
    // Somebody holds an answer back, until it would keep a dead node alive.
    story.power_cut(A);
    let asked = |story: &Story| story.pulses.iter().filter(|(from, _)| *from == B).count();
    let before = asked(&story);
    story.give(B, lost());
    assert!(asked(&story) > before);
    let ask = story.pulses.iter().rev().find(|(from, _)| *from == B).expect("asked").1;
    let (incarnation, peer_incarnation) = (ask.peer_incarnation, ask.incarnation);
    let answer = Pulse { kind: PulseKind::Answer, incarnation, peer_incarnation, ..ask };
    story.run(MS * 160);
    let before = refused(&story, B, "replay");
    story.give(B, Event::Pulsed(answer));
    assert_eq!(refused(&story, B, "replay"), before + 1);
}

#[test]
fn p2_a_beat_that_was_on_its_way_is_no_answer() {
    let mut story = Story::settled();
    story.run(MS * 20);
    story.power_cut(A);
    story.give(B, lost());
    story.run(MS * 2);
    let beat = newest(&story, A, Path::Lan);
    let beat = Beat { sequence: beat.sequence + 1, ..beat };
    story.give(B, Event::Heard { path: Path::Lan, beat });
    story.time_until_held(B, limits::ASK_PATIENCE_MIN + MS * 4);
}

#[test]
fn p2_a_node_that_answers_once_more_while_it_dies_is_asked_again() {
    let mut story = Story::settled();
    story.run(MS * 20);
    story.cut = PathSet::default().with(Path::Crossover);
    let probes = story.probes;
    story.give(B, lost());
    story.run(MS * 8);
    assert_eq!(story.status(B).peer.state, PeerState::Alive);
    assert_eq!(story.probes, probes, "a node that answers is not probed");
    story.power_cut(A);
    story.time_until_held(B, limits::ASK_PATIENCE_MIN + MS * 8);
}

/// A hand pulls one cable after the other: what falls silent last is no dead peer's.
#[test]
fn p1_a_peer_that_outlived_the_crossover_is_given_up_by_silence_alone() {
    let mut story = Story::settled();
    story.run(MS * 20);
    story.cut = PathSet::default().with(Path::Crossover);
    story.give(B, lost());
    story.run(limits::ASK_PATIENCE_MIN + limits::ASK_AGAIN_AFTER * 2);
    story.cut = story.cut.with(Path::Serial);
    story.lan[A] = false;
    story.run(MS * 90);
    assert!(!story.nodes[B].holds, "{:?}", story.status(B));
    story.time_until_held(B, MS * 80);
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn p1_no_answer_means_nothing_on_a_path_that_loses_beats() {
    let mut story = Story::settled();
    story.cut = PathSet::default().with(Path::Lan);
    story.run(MS * 140);
    story.cut = PathSet::default();
    story.run(MS * 500);
    story.power_cut(A);
    story.give(B, lost());
    story.run(MS * 60);
    assert!(!story.nodes[B].holds, "the LAN path lost beats a moment ago");
    story.time_until_held(B, MS * 150);
}

#[test]
fn p1_answers_that_wait_for_a_late_loop_are_read_first() {
    let mut story = Story::settled();
    story.run(MS * 20);
    story.cut = PathSet::default().with(Path::Crossover);
    story.give(B, lost());
    // A answers; B's loop comes late and looks at something else first.
    story.now = story.now + MS * 15;
    story.give(B, Event::Carrier { link: Link::Lan, up: true });
    assert_eq!(story.status(B).peer.state, PeerState::Alive);
    story.run(MS * 500);
    assert_eq!(story.status(B).peer.state, PeerState::Alive);
    assert!(story.nodes[A].holds && !story.nodes[B].holds);
}

#[test]
fn p2_an_owner_keeps_what_it_serves_while_the_serial_line_is_left() {
    let mut story = Story::settled();
    story.cut = PathSet::default().with(Path::Crossover);
    story.lan = [false, false];
    for _ in 0..1_000 {
        story.run(MS);
        assert!(story.nodes[A].holds, "{:?}", story.status(A));
    }
}

/// Takes pulses to a node off the line.
fn take(story: &mut Story, to: usize) -> Vec<(Time, usize, Event)> {
    let (taken, left) = std::mem::take(&mut story.flying)
        .into_iter()
        .partition(|(_, node, event)| *node == to && matches!(event, Event::Pulsed(_)));
    story.flying = left;
    taken
}

/// The line is busy with the ask before: no answer to the next one is waited for.
#[test]
fn p2_an_ask_that_did_not_go_out_means_nothing() {
    let mut story = Story::settled();
    story.run(MS * 20);
    story.cut = PathSet::default().with(Path::Crossover);
    story.give(A, lost());
    story.run(MS / 10);
    let first = take(&mut story, A);
    assert_eq!(first.len(), 1, "{first:?}");
    while take(&mut story, B).is_empty() {
        story.run(MS / 10);
    }
    story.flying.extend(first);
    let waits = |story: &Story| {
        let mut paths = story.nodes[A].core.evidence.paths.iter();
        paths.any(|watch| watch.path == Path::Serial && watch.asked_at.is_some())
    };
    story.run(MS / 10);
    assert!(!waits(&story), "the first is answered");
    let asked = story.pulses.len();
    let again = story.nodes[A].core.ask_again_at;
    while story.nodes[A].core.ask_again_at == again {
        story.run(MS / 10);
    }
    assert_eq!(story.pulses.len(), asked);
    assert!(!waits(&story));
}

/// Signs of life and beats of a node on serial.
fn on_serial(story: &Story, node: usize) -> (usize, usize) {
    let life = |(from, pulse): &&(usize, Pulse)| *from == node && pulse.kind == PulseKind::Life;
    let beat = |(from, path, _): &&(usize, Path, Beat)| *from == node && *path == Path::Serial;
    (story.pulses.iter().filter(life).count(), story.recorded.iter().filter(beat).count())
}

#[test]
fn signs_of_life_are_enough_on_serial_while_another_path_tells_the_same() {
    let mut story = Story::settled();
    story.run(MS * 1_000);
    story.pulses.clear();
    story.recorded.clear();
    story.run(MS * 2_000);
    let (lives, beats) = on_serial(&story, A);
    assert!(beats > 2 && lives > 8 * beats, "{lives} signs of life, {beats} beats");
    // What changes is told there in the same round as on the LAN.
    story.recorded.clear();
    story.mute.push((A, 0));
    story.run(limits::REACH_MEMORY + limits::REACH_EVERY * 2);
    let first = |on: Path| {
        let tells =
            |(from, path, beat): &(usize, Path, Beat)| *from == A && *path == on && beat.reach == 1;
        story.recorded.iter().position(tells).expect("it is told")
    };
    assert!(first(Path::Serial).abs_diff(first(Path::Lan)) < 8);
    assert_eq!(story.status(A).peer.paths.iter().map(|path| path.lost).sum::<u64>(), 0);
    // The line alone carries beats.
    story.cut = PathSet::default().with(Path::Crossover).with(Path::Lan);
    story.run(MS * 1_000);
    story.pulses.clear();
    story.recorded.clear();
    story.run(MS * 1_000);
    let (lives, beats) = on_serial(&story, A);
    assert!(beats > 15 && lives == 0, "{lives} signs of life, {beats} beats");
}
