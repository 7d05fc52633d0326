//! Stories of trees that may be old: who heard nobody since its start and lacks the proof that nobody served
//! after what it holds.

use super::duties::{mirrored, tree};
use super::*;
use crate::config::WhenUnsure;

/// Both lost their power at once while A served in sync; B is back alone.
fn unsure(when_unsure: WhenUnsure) -> (Story, Generation) {
    let mut story = Story::with(|group| {
        group.mirror.push(tree());
        group.when_unsure = when_unsure;
    });
    let generation = mirrored(&mut story);
    story.run(Duration::from_secs(1));
    story.power_cut(A);
    story.power_cut(B);
    story.power_on(B);
    story.run(100 * MS);
    story.mirror_well(B, Some(generation));
    (story, generation)
}

/// A served on alone, and both start again: A's worker is the slower one.
#[test]
fn p3_who_served_last_is_waited_for_though_its_worker_has_not_spoken() {
    let (mut story, generation) = unsure(WhenUnsure::Wait);
    story.power_cut(B);
    story.power_on(A);
    story.power_on(B);
    story.run(100 * MS);
    // It works: a large index is looked at.
    for _ in 0..10 {
        story.mirror_well(B, Some(generation));
        story.give(A, Event::WorkerAlive);
        story.run(Duration::from_secs(1));
        assert!(!story.nodes[B].holds, "it serves what may be old: {:?}", story.status(B));
    }
    story.mirror_well(A, Some(generation));
    story.run(Duration::from_secs(1));
    assert!(story.nodes[A].holds, "{:?}", story.status(A));
}

fn times_told(story: &Story, node: usize) -> usize {
    let told = story.nodes[node].told.iter();
    told.filter(|(kind, text)| *kind == Kind::Mirror && text.starts_with("not served")).count()
}

#[test]
fn p3_who_is_unsure_waits_and_says_so_each_quarter_of_an_hour() {
    let (mut story, _) = unsure(WhenUnsure::Wait);
    story.run(Duration::from_secs(5));
    assert_eq!(times_told(&story, B), 1, "{:?}", story.nodes[B].told);
    assert!(limits::UNSURE_TOLD_EVERY == Duration::from_secs(900), "as the handbook says");
    story.run(limits::UNSURE_TOLD_EVERY - Duration::from_secs(10));
    assert_eq!(times_told(&story, B), 1);
    story.run(limits::UNSURE_TOLD_EVERY);
    assert_eq!(times_told(&story, B), 2);
    assert!(!story.nodes[B].holds, "patience ends nothing");
    assert_eq!(story.status(B).groups[0].state, Word::Blocked);
    // Its peer is back: nobody is unsure any more.
    story.power_on(A);
    story.run(Duration::from_secs(3));
    let before = story.nodes[B].told.len();
    story.run(limits::UNSURE_TOLD_EVERY);
    let new = &story.nodes[B].told[before..];
    assert!(!new.iter().any(|(_, text)| text.starts_with("not served")), "{new:?}");
}

#[test]
fn who_is_told_to_serve_when_unsure_does_after_its_patience() {
    let (mut story, _) = unsure(WhenUnsure::Serve);
    let patience = story.config.heartbeat.boot_patience;
    story.run(patience - Duration::from_secs(1));
    assert!(!story.nodes[B].holds);
    story.run(Duration::from_secs(10));
    assert!(story.nodes[B].holds, "{:?}", story.status(B));
}
