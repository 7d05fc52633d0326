//! Stories of what copies are worth: of disks that were set back, and of workers that stand still.

use super::duties::with_tree;
use super::*;
use crate::beat::Holds;
use crate::control::status::{Mirror, MirrorState};
use crate::core::group::step::Side;

impl Story {
    /// The worker reports on its newest order for the mirror: all is well, and here is that commit.
    fn holds_commit(&mut self, node: usize, copy_of: Option<Generation>, commit: u64) {
        self.has_commit(node, copy_of, commit, false);
    }

    fn has_commit(&mut self, node: usize, copy_of: Option<Generation>, commit: u64, drained: bool) {
        let (order, duty) = self.nodes[node].mirror_ordered.expect("something was ordered");
        let report = MirrorReport {
            order,
            still: duty == MirrorDuty::Still,
            drained,
            complete: true,
            known: true,
            copy_of,
            commit,
            ready_for: self.nodes[node].mirror_terms.intent,
            empty: false,
            in_sync: true,
            unsent: Unsent::Nothing,
            stuck: 0,
            held: String::new(),
            status: Mirror { state: MirrorState::InSync, ..Mirror::off() },
        };
        self.give(node, Event::Mirror { group: WEB, report });
    }

    /// The worker works, and knows nothing of the copy: its file system does not answer.
    fn knows_nothing(&mut self, node: usize) {
        let (order, _) = self.nodes[node].mirror_ordered.expect("something was ordered");
        let report = MirrorReport {
            order,
            still: false,
            drained: false,
            complete: false,
            known: false,
            copy_of: None,
            commit: 0,
            ready_for: None,
            empty: false,
            in_sync: false,
            unsent: Unsent::Unknown,
            stuck: 0,
            held: String::new(),
            status: Mirror { state: MirrorState::Blocked, ..Mirror::off() },
        };
        self.give(node, Event::Mirror { group: WEB, report });
        self.give(node, Event::WorkerAlive);
    }

    /// Both lose their power at once, and get it back at once.
    fn both_were_off(&mut self) {
        for node in [A, B] {
            self.power_cut(node);
        }
        self.run(MS * 1_000);
        for node in [A, B] {
            self.power_on(node);
        }
        self.run(MS * 50);
    }

    fn redundant(&self) -> [bool; 2] {
        [A, B].map(|node| self.status(node).groups[0].redundant)
    }
}

/// A serves that tree in that generation, and B has that commit of it.
fn in_sync(commit: u64) -> (Story, Generation) {
    let mut story = with_tree();
    story.run(MS * 1_000);
    story.holds_commit(B, None, 0);
    story.holds_commit(A, None, 0);
    story.run(MS * 1_000);
    let Some((_, MirrorDuty::Out(generation))) = story.nodes[A].mirror_ordered else {
        panic!("the owner's mirror is ordered {:?}", story.nodes[A].mirror_ordered)
    };
    story.holds_commit(A, Some(generation), commit);
    story.holds_commit(B, Some(generation), commit);
    story.run(MS * 500);
    (story, generation)
}

/// A claim that the kernel refuses is no generation: it would outrank one of the same number that the peer
/// begins because it never heard of it (seed 428 of `hung`).
#[test]
fn p3_a_refused_claim_begins_no_generation() {
    let (mut story, generation) = in_sync(9);
    story.refuses_a_claim = true;
    story.power_cut(A);
    story.run(MS * 100);
    story.holds_commit(B, Some(generation), 9);
    story.run(MS * 1_000);
    assert!(!story.refuses_a_claim && !story.nodes[B].holds, "B claimed, and was refused");
    assert_eq!(story.nodes[B].core.disk.served("web"), Some(generation));
    let duty = story.nodes[B].mirror_ordered.map(|(_, duty)| duty);
    assert_eq!(duty, Some(MirrorDuty::Still));
    // It is tried again, and then it is one.
    story.holds_commit(B, Some(generation), 9);
    story.run(limits::BLOCKED_RETRY + MS * 1_000);
    assert!(story.nodes[B].holds, "{:?}", story.status(B));
    let served = story.nodes[B].core.disk.served("web");
    assert!(served.is_some_and(|served| served.number > generation.number && served != generation));
    assert_eq!(story.nodes[B].mirror_ordered.map(|(_, duty)| duty), served.map(MirrorDuty::Out));
}

/// The peer's claim takes its kernel a while, which may refuse it: what it claims is no generation yet.
#[test]
fn p3_what_the_peer_claims_is_no_generation_before_it_holds_the_address() {
    let (mut story, generation) = in_sync(9);
    story.deaf_to_claims = true;
    story.power_cut(A);
    story.run(MS * 100);
    story.holds_commit(B, Some(generation), 9);
    story.run(MS * 500);
    story.power_on(A);
    for _ in 0..100 {
        story.run(MS * 10);
        let duty = story.nodes[A].mirror_ordered.map(|(_, duty)| duty);
        assert!(!matches!(duty, Some(MirrorDuty::In(_))), "{duty:?}");
    }
    assert_eq!(story.nodes[A].core.disk.served("web"), Some(generation));
    let side = story.nodes[A].core.side(&story.nodes[A].core.groups[0]);
    assert_eq!(side, Side::Says(Stance::Claiming));
}

/// Both were off, and the disk of A, who served last, is an older one: it knows of the later commits from B.
/// Neither waits for what the other may have; B, who has more, serves (seeds 92 and 121 of the simulator).
#[test]
fn an_owner_that_was_set_back_leaves_the_group_to_who_has_more() {
    // By one commit, too: one that was under way when it died would be on its disk.
    for older in [5, 8] {
        let (mut story, generation) = in_sync(9);
        story.both_were_off();
        for _ in 0..30 {
            story.holds_commit(B, Some(generation), 9);
            story.run(MS * 100);
            story.holds_commit(A, Some(generation), older);
        }
        assert!(!story.nodes[A].holds, "an older copy is served");
        assert!(story.nodes[B].holds, "{:?}", story.status(B));
    }
}

/// A's disk is set back to before a generation that it was ready for and then began, while B, which knows of it, received
/// nothing of it: the trees of neither are those that were served last (seeds 356, 877 and 1885 of `sequence`). Without
/// having been set back, A serves.
#[test]
fn p3_trees_from_before_a_generation_are_not_those_that_it_began_with() {
    for is_set_back in [true, false] {
        let (mut story, before) = in_sync(9);
        story.power_cut(B);
        story.run(MS * 2_000);
        story.power_cut(A);
        story.power_on(A);
        story.run(MS * 200);
        let older = story.nodes[A].disk.clone();
        story.holds_commit(A, Some(before), 9);
        story.run(MS * 1_000);
        assert!(story.nodes[A].holds, "{:?}", story.status(A));
        let began = story.nodes[A].core.disk.served("web").expect("it serves");
        story.power_on(B);
        story.run(MS * 500);
        assert!(began != before && story.nodes[B].core.disk.served("web") == Some(began));
        story.power_cut(A);
        if is_set_back {
            story.nodes[A].disk = older;
        }
        story.power_on(A);
        for round in 0..50 {
            story.run(MS * 100);
            let terms = story.nodes[A].mirror_terms;
            let of = if terms.began == Some(began) { began } else { before };
            if round == 0 {
                // Its index has yet to obey the order.
                story.nodes[A].mirror_terms.intent = Some(began);
            }
            story.holds_commit(A, Some(of), 9);
            if round == 0 {
                let core = &story.nodes[A].core;
                assert_eq!(core.holds(&core.groups[0]) == Holds::Newest, !is_set_back);
            }
            story.nodes[A].mirror_terms = terms;
            story.holds_commit(B, Some(before), 9);
        }
        let holds = [A, B].map(|node| story.nodes[node].holds);
        assert_eq!(holds, [!is_set_back, false], "{:?}", story.status(A));
    }
}

/// The owner hands over everything to a peer that dies before its claim is through, and whose disk is set back then:
/// nothing is unsent, and yet the peer's copy is older (seed 1885 of `sequence`).
#[test]
fn p3_a_replica_that_was_set_back_is_older_than_what_its_owner_has() {
    for (commit, serves) in [(5, false), (9, true)] {
        let (mut story, generation) = in_sync(9);
        let generation = Some(generation);
        story.deaf_to_claims = true;
        story.give(A, Event::Wished { request: 1, wish: Wish::Standby(NodeIndex::Lower) });
        for _ in 0..5 {
            story.run(MS * 100);
            story.has_commit(A, generation, 9, true);
            story.holds_commit(B, generation, 9);
        }
        assert!(!story.nodes[A].holds);
        story.power_cut(B);
        story.run(MS * 500);
        story.deaf_to_claims = false;
        story.power_on(B);
        for _ in 0..30 {
            story.run(MS * 100);
            story.holds_commit(A, generation, 9);
            story.holds_commit(B, generation, commit);
        }
        assert_eq!(story.nodes[B].holds, serves, "{:?}", story.status(B).groups);
    }
}

/// A node tells of its generation when its disk has it, in its beats and in its last will: one that died before was not
/// set back.
#[test]
fn p3_a_generation_that_its_owners_disk_never_had_proves_nothing() {
    for dies in [false, true] {
        let (mut story, before) = in_sync(9);
        story.power_cut(A);
        story.run(MS * 100);
        story.deaf_disk = true;
        story.holds_commit(B, Some(before), 9);
        story.run(MS * 500);
        assert!(story.nodes[B].holds, "{:?}", story.status(B));
        story.power_on(A);
        story.run(MS * 500);
        if dies {
            story.kill_heart(B);
        } else {
            story.run(limits::RECORD_PATIENCE);
        }
        story.run(MS * 100);
        assert_eq!(story.nodes[A].core.disk.served("web"), Some(before));
    }
}

/// What an owner's worker says of its commits may come later than what the peer's says: it was not set back (seed 245 of
/// `furnished`, where it hung while the owner let go).
#[test]
fn p3_an_owner_whose_worker_speaks_later_than_its_peers_was_not_set_back() {
    let (mut story, generation) = in_sync(9);
    story.holds_commit(B, Some(generation), 12);
    story.run(MS * 500);
    let group = &story.nodes[A].core.groups[0];
    assert_eq!(story.nodes[A].core.holds(group), Holds::Newest);
}

/// ... whoever of their workers speaks first.
#[test]
fn p3_an_owner_that_was_set_back_waits_for_what_the_peers_worker_says() {
    let (mut story, generation) = in_sync(9);
    story.both_were_off();
    for round in 0..30 {
        story.holds_commit(A, Some(generation), 5);
        story.run(MS * 100);
        if round >= 5 {
            story.holds_commit(B, Some(generation), 9);
        }
        assert!(!story.nodes[A].holds, "an older copy is served");
    }
    assert!(story.nodes[B].holds, "{:?}", story.status(B));
}

/// The owner's heart was killed and is back before its worker has spoken: the peer, which may lack what was
/// written last, does not serve because of that (seed 89 of the simulator, `furnished`).
#[test]
fn p3_an_owner_whose_worker_has_not_yet_spoken_is_waited_for() {
    let (mut story, generation) = in_sync(9);
    story.power_cut(A);
    story.power_on(A);
    story.run(MS * 100);
    story.holds_commit(B, Some(generation), 9);
    story.run(MS * 1_000);
    assert!(!story.nodes[B].holds, "{:?}", story.status(B));
    story.holds_commit(A, Some(generation), 9);
    story.run(MS * 500);
    assert!(story.nodes[A].holds, "{:?}", story.status(A));
}

/// ... but not for long.
#[test]
fn an_owner_whose_worker_does_not_speak_at_all_is_not_waited_for() {
    let (mut story, generation) = in_sync(9);
    story.power_cut(A);
    story.power_on(A);
    for _ in 0..80 {
        story.run(MS * 100);
        story.holds_commit(B, Some(generation), 9);
    }
    assert!(story.nodes[B].holds, "{:?}", story.status(B));
}

/// B was off while A served on. Both are back, and A cannot say what it holds: its file system hangs, or its
/// worker. B waits for it, or for a person.
#[test]
fn p3_an_older_copy_does_not_replace_one_whose_disk_does_not_answer() {
    for hangs in [Story::knows_nothing, |_: &mut Story, _| ()] {
        let (mut story, generation) = in_sync(9);
        story.power_cut(B);
        story.run(MS * 2_000);
        story.power_cut(A);
        story.run(MS * 1_000);
        for node in [A, B] {
            story.power_on(node);
        }
        story.run(MS * 50);
        for _ in 0..100 {
            hangs(&mut story, A);
            story.holds_commit(B, Some(generation), 9);
            story.give(B, Event::WorkerAlive);
            story.run(MS * 100);
            assert!(!story.nodes[B].holds, "an older copy is served");
            assert!(!story.nodes[A].holds, "nobody knows what is served");
        }
        let why = &story.status(B).groups[0].why;
        assert!(why.contains("--accept-loss"), "{why}");
        story.holds_commit(A, Some(generation), 30);
        story.run(MS * 1_000);
        assert!(story.nodes[A].holds, "{:?}", story.status(A));
    }
}

/// Lets time pass; the worker of that node says nothing, or none if none is named.
fn run_silent(story: &mut Story, silent: Option<usize>, seconds: u64) {
    for _ in 0..seconds {
        for node in [A, B].into_iter().filter(|node| Some(*node) != silent) {
            story.give(node, Event::WorkerAlive);
        }
        story.run(MS * 1_000);
    }
}

#[test]
fn p6_a_node_whose_worker_stands_still_is_no_redundancy() {
    for silent in [A, B] {
        let (mut story, _) = in_sync(9);
        run_silent(&mut story, None, 10);
        assert_eq!(story.redundant(), [true, true]);
        run_silent(&mut story, Some(silent), 5);
        assert!(!story.redundant()[silent], "node {silent}");
        // What A's worker does concerns A alone, until it lasts: B could still take over.
        assert!(!story.redundant()[A]);
        let told = &story.nodes[silent].told;
        let told = told.iter().filter(|(_, text)| text.contains("worker process has not answered"));
        assert_eq!(told.count(), 1);
        assert!(story.nodes[A].holds, "nothing moves for that");
        run_silent(&mut story, None, 2);
        assert_eq!(story.redundant(), [true, true]);
    }
}

/// What the owner has not sent is as old as its worker's last word.
#[test]
fn p3_the_silence_of_the_owners_worker_counts_as_unsent() {
    let (mut story, _) = in_sync(9);
    run_silent(&mut story, None, 5);
    assert_eq!(newest(&story, A, Path::Lan).groups[0].copy.unsent_s, 0);
    run_silent(&mut story, Some(A), 70);
    assert!(newest(&story, A, Path::Lan).groups[0].copy.unsent_s >= 69);
    story.power_cut(A);
    run_silent(&mut story, None, 5);
    assert!(!story.nodes[B].holds, "more than a minute may be missing");
}

/// A machine that stood still, heart and worker, missed no word.
#[test]
fn a_pause_of_the_machine_is_not_the_workers_silence() {
    let (mut story, _) = in_sync(9);
    run_silent(&mut story, None, 3);
    story.now = story.now + MS * 20_000;
    story.give(B, Event::WorkerAlive);
    story.run(MS * 500);
    let told = &story.nodes[B].told;
    assert!(!told.iter().any(|(_, text)| text.contains("worker process")), "{told:?}");
}

/// A disk that was set back, or a number that was used twice: who serves knows the name of its own generation.
#[test]
fn p6_the_same_number_with_another_id_is_learned_from_who_serves() {
    let mut story = Story::settled();
    story.run(MS * 500);
    let generation = story.nodes[A].core.disk.served("web").expect("it serves");
    story.power_cut(B);
    story.run(MS * 500);
    let known = story.nodes[B].disk.groups.get_mut("web").expect("the group");
    known.served = Some(Generation { id: generation.id ^ 1, ..generation });
    story.power_on(B);
    story.run(MS * 2000);
    assert!(story.nodes[A].holds);
    assert_eq!(story.nodes[B].core.disk.served("web"), Some(generation));
    assert_eq!(story.nodes[A].core.disk.served("web"), Some(generation));
}
