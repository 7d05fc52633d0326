//! Stories of frames that come late, or that somebody kept: they do not keep a peer alive, nor revive it.

use super::*;

/// What a node said on a path while it was cut, oldest first.
fn kept(story: &mut Story, node: usize, path: Path, span: Duration) -> Vec<Beat> {
    let before = story.recorded.len();
    story.cut = PathSet::default().with(path);
    story.run(span);
    let said = story.recorded[before..].iter().filter(|(from, on, _)| *from == node && *on == path);
    let kept = said.map(|(.., beat)| beat.clone()).collect();
    story.cut = PathSet::default();
    kept
}

#[test]
fn p4_what_the_dead_have_said_does_not_revive_them() {
    let mut story = Story::settled();
    story.run(MS * 500);
    let kept = kept(&mut story, A, Path::Lan, MS * 100);
    story.power_cut(A);
    story.run(MS * 300);
    assert_eq!(story.status(B).peer.state, PeerState::Dead);
    let before = refused(&story, B, "replay");
    let count = kept.len() as u64;
    assert!(count >= 2);
    for beat in kept {
        story.give(B, Event::Heard { path: Path::Lan, beat });
    }
    assert_eq!(story.status(B).peer.state, PeerState::Dead);
    assert_eq!(refused(&story, B, "replay"), before + count);
}

#[test]
fn p1_a_frame_that_is_numbered_above_all_that_came_shows_that_the_peer_lives() {
    let mut story = Story::settled();
    story.run(MS * 500);
    let kept = kept(&mut story, A, Path::Lan, MS * 100);
    story.power_cut(A);
    let end = story.now + MS * 1000;
    while story.status(B).peer.state != PeerState::Dead {
        assert!(story.now < end, "it still lives");
        story.run(MS);
    }
    let mut beat = kept.last().expect("it speaks").clone();
    beat.sequence += 1000;
    story.give(B, Event::Heard { path: Path::Lan, beat });
    assert_eq!(story.status(B).peer.state, PeerState::Alive);
}

#[test]
fn p1_the_newest_word_of_the_dead_is_heeded_though_it_came_late() {
    let mut story = Story::settled();
    let kept = kept(&mut story, A, Path::Lan, MS * 100);
    story.power_cut(A);
    story.run(MS * 300);
    assert!(story.nodes[B].core.evidence.peer.told_may_claim());
    let mut beat = kept.last().expect("it speaks").clone();
    beat.may_claim = false;
    beat.sequence += 1000;
    beat.groups[0].generation += 7;
    let said = beat.groups[0];
    story.give(B, Event::Heard { path: Path::Lan, beat });
    let core = &story.nodes[B].core;
    assert!(!core.evidence.peer.told_may_claim());
    assert!(core.disk.served("web").expect("it serves").number >= said.generation);
}

/// A machine that stood still with its clock wakes, says what it did before, and lets go.
#[test]
fn a_late_word_of_serving_is_announced_against() {
    let mut story = Story::settled();
    story.run(MS * 500);
    let kept = kept(&mut story, A, Path::Lan, MS * 100);
    story.power_cut(A);
    story.time_until_held(B, MS * 300);
    story.run(MS * 5000);
    let before = story.announced;
    story.run(MS * 500);
    assert_eq!(story.announced, before, "the burst is over");
    story.give(B, Event::Heard { path: Path::Lan, beat: kept.last().expect("it speaks").clone() });
    assert_eq!(story.status(B).peer.state, PeerState::Dead);
    story.run(limits::ANNOUNCE_GAP);
    assert_eq!(story.announced, before + 1);
    assert!(story.nodes[B].holds);
}

#[test]
fn p4_frames_that_were_kept_for_long_do_not_keep_a_dead_peer_alive() {
    let mut story = Story::settled();
    let kept = kept(&mut story, A, Path::Lan, MS * 30_000);
    story.power_cut(A);
    // One after the other, before anybody has noticed.
    let mut kept = kept.into_iter();
    let dead_within = limits::OLD_AFTER * 4;
    let end = story.now + dead_within;
    while story.status(B).peer.state != PeerState::Dead {
        assert!(story.now < end, "it still lives");
        let beat = kept.next().expect("enough for half a minute");
        story.give(B, Event::Heard { path: Path::Lan, beat });
        story.run(MS * 50);
    }
    assert!(refused(&story, B, "replay") > 0);
}

/// Both have fallen silent to each other.
fn all_cut() -> Story {
    let mut story = Story::settled();
    all_fall_silent(&mut story);
    story
}

fn all_fall_silent(story: &mut Story) {
    story.cut = Path::ALL.into_iter().fold(PathSet::default(), PathSet::with);
    story.run(MS * 1000);
    for node in [A, B] {
        assert_eq!(story.status(node).peer.state, PeerState::Dead);
    }
}

#[test]
fn nodes_that_were_cut_off_for_hours_hear_each_other_again() {
    let mut story = all_cut();
    // An echo cannot say that it was held for so long.
    story.now = story.now + Duration::from_secs(5000);
    story.run(MS * 1000);
    story.cut = PathSet::default();
    story.run(MS * 200);
    for node in [A, B] {
        assert_eq!(story.status(node).peer.state, PeerState::Alive);
    }
}

/// What A says next comes to B all the same; what that makes of A.
fn next_is_heard(story: &mut Story, edit: impl FnOnce(&mut Beat)) -> PeerState {
    let before = story.recorded.len();
    story.run(MS * 60);
    let said = story.recorded[before..].iter().rev().find(|(from, ..)| *from == A);
    let (_, path, mut beat) = said.expect("it speaks").clone();
    edit(&mut beat);
    story.give(B, Event::Heard { path, beat });
    assert_eq!(story.status(A).peer.state, PeerState::Dead);
    story.status(B).peer.state
}

#[test]
fn p1_a_peer_that_hears_nothing_is_heard_again() {
    let mut story = all_cut();
    assert_eq!(next_is_heard(&mut story, |_| {}), PeerState::Alive);
    // It has heard nothing for so long that it cannot say when, or never.
    for held_us in [61_000_000, u32::MAX] {
        all_fall_silent(&mut story);
        let long_ago = |beat: &mut Beat| (beat.echo_us, beat.echo_held_us) = (1, held_us);
        assert_eq!(next_is_heard(&mut story, long_ago), PeerState::Alive);
    }
    all_fall_silent(&mut story);
    assert_eq!(next_is_heard(&mut story, |beat| beat.echo_us = 0), PeerState::Alive);
}

/// The answer to a greeting that somebody repeats is fresh, and what it echoes is not.
#[test]
fn p2_greetings_that_somebody_repeats_do_not_make_the_lan_slow() {
    let mut story = Story::settled();
    let greets = |(from, on, beat): &&(usize, Path, Beat)| {
        *from == B && *on == Path::Lan && beat.peer_incarnation == 0
    };
    let greetings: Vec<Beat> =
        story.recorded.iter().filter(greets).map(|(.., beat)| beat.clone()).collect();
    assert!(!greetings.is_empty());
    story.run(MS * 2000);
    for _ in 0..100 {
        for beat in &greetings {
            story.give(A, Event::Heard { path: Path::Lan, beat: beat.clone() });
        }
        story.run(limits::ANSWER_GAP);
    }
    story.power_cut(A);
    story.time_until_held(B, MS * 250);
}

/// The LAN path was down, and somebody keeps a frame with an order, a state and another config for ten minutes; or only
/// for as long as a network is slow.
#[test]
fn p4_what_a_kept_frame_says_is_not_obeyed() {
    for later in [MS * 30, Duration::from_secs(600)] {
        let mut story = Story::settled();
        let before = story.recorded.len();
        story.cut = PathSet::default().with(Path::Lan);
        story.run(MS * 100);
        let said = story.recorded[before..].iter().rev();
        let (.., mut beat) = said
            .filter(|(from, on, _)| *from == A && *on == Path::Lan)
            .map(|(.., beat)| ((), beat.clone()))
            .next()
            .expect("it speaks");
        beat.wish = Some((77, crate::beat::Ask::Standby));
        beat.state = NodeState::Standby;
        beat.digest = [9; 8];
        story.run(later);
        let told = story.nodes[B].told.len();
        story.give(B, Event::Heard { path: Path::Lan, beat });
        assert_eq!(story.status(B).state, NodeState::Online, "{later:?}");
        assert_eq!(story.status(B).peer.same_config, Some(true), "{later:?}");
        let news = &story.nodes[B].told[told..];
        assert!(news.iter().all(|(kind, _)| *kind == Kind::Path), "{later:?} {news:?}");
    }
}
