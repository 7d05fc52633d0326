//! Stories of what a pair is for: takeovers, moves, and what must move nothing.

use super::*;

#[test]
fn two_nodes_meet_and_the_preferred_one_serves() {
    let story = Story::settled();
    let status = story.status(A);
    assert_eq!(status.state, NodeState::Online);
    assert_eq!(status.peer.state, PeerState::Alive);
    assert!(status.peer.paths.iter().all(|path| path.state == PathState::Up), "{status:?}");
    assert!(status.peer.paths.iter().all(|path| path.refused == 0), "{status:?}");
    assert_eq!(status.groups[0].state, Word::Active);
    assert_eq!(story.status(B).groups[0].state, Word::Passive);
    assert_eq!(story.status(B).groups[0].owner.as_deref(), Some("serv1"));
    assert_eq!(story.status(B).groups[0].generation, 1);
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn p2_a_power_cut_is_over_soon() {
    let mut story = Story::settled();
    story.power_cut(A);
    // A carrier that is lost, and asks that stay unanswered on both other paths: before `dead_after`.
    story.time_until_held(B, MS * 100);
    assert_eq!(story.status(B).peer.state, PeerState::Dead);
    assert!(story.nodes[B].disk.alone);
    assert_eq!(story.status(B).groups[0].generation, 2);
}

/// Told by the kernel at once, the carrier is not waited for until the next round's look.
#[test]
fn p2_a_power_cut_that_the_kernel_tells_is_over_in_some_milliseconds() {
    let mut story = Story::settled();
    // In the middle between two beats.
    story.run(MS * 20);
    story.power_cut(A);
    story.give(B, Event::Carrier { link: Link::Crossover, up: false });
    story.time_until_held(B, limits::ASK_PATIENCE_MIN + MS * 4);
    assert_eq!(story.status(B).groups[0].generation, 2);
}

/// A switch in the crossover keeps its carrier; the serial line's modem lines go dark.
#[test]
fn p2_dark_modem_lines_shorten_the_wait_as_a_lost_carrier_does() {
    let mut story = Story::settled();
    let shows = |up| Event::Carrier { link: Link::Serial, up };
    story.give(B, shows(true));
    story.run(MS * 220);
    story.nodes[A].powered = false;
    story.nodes[A].holds = false;
    story.cut = PathSet(7);
    story.crossover_keeps_carrier = true;
    story.give(B, shows(false));
    story.run(limits::CARRIER_SECOND_LOOK);
    assert!(!story.nodes[B].holds, "one look is no evidence");
    story.give(B, shows(false));
    story.time_until_held(B, limits::ASK_PATIENCE_MIN);
    let told = &story.nodes[B].told;
    assert!(told.iter().any(|(_, text)| text.contains("far end is off")), "{told:?}");
}

#[test]
fn p1_a_node_that_answers_is_not_dead_whatever_its_modem_lines_say() {
    let mut story = Story::settled();
    let shows = |up| Event::Carrier { link: Link::Serial, up };
    story.give(B, shows(true));
    for up in [false, false, true, false, false] {
        story.give(B, shows(up));
        story.run(MS * 40);
        assert_eq!(story.status(B).peer.state, PeerState::Alive);
    }
    assert!(story.nodes[A].holds && !story.nodes[B].holds);
}

/// What a lost carrier shortens is not the last word: an answer on serial is.
#[test]
fn p1_a_node_that_answers_on_serial_alone_is_not_dead() {
    let mut story = Story::settled();
    story.cut = PathSet::default().with(Path::Crossover);
    story.lan[A] = false;
    for _ in 0..2_000 {
        story.run(MS);
        assert_eq!(story.status(B).peer.state, PeerState::Alive);
    }
    assert!(story.nodes[B].holds && !story.nodes[A].holds, "handed over");
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn p2_the_owners_lan_cable_moves_the_group() {
    let mut story = Story::settled();
    story.lan[A] = false;
    story.time_until_held(B, MS * 250);
    assert!(!story.nodes[A].holds);
    assert_eq!(story.both_held, Duration::ZERO);
    story.lan[A] = true;
    story.run(MS * 5_000);
    assert!(story.nodes[B].holds, "nothing goes home by itself with failback = manual");
}

#[test]
fn crossover_or_serial_or_both_cut_moves_nothing() {
    for cut in [
        PathSet::default().with(Path::Crossover),
        PathSet::default().with(Path::Serial),
        PathSet::default().with(Path::Crossover).with(Path::Serial),
    ] {
        let mut story = Story::settled();
        story.cut = cut;
        for _ in 0..3_000 {
            story.run(MS);
            assert!(story.nodes[A].holds && !story.nodes[B].holds);
        }
        assert_eq!(story.status(A).peer.state, PeerState::Alive);
        story.cut = PathSet::default();
        story.run(MS * 100);
        for path in &story.status(A).peer.paths {
            let was_cut = Path::ALL.iter().any(|p| cut.has(*p) && p.name() == path.name);
            assert_eq!(path.lost > 0, was_cut, "3 s of beats were lost on what was cut: {path:?}");
        }
    }
}

#[test]
fn a_dead_switch_moves_nothing() {
    let mut story = Story::settled();
    story.lan = [false, false];
    for _ in 0..10_000 {
        story.run(MS);
        assert!(story.nodes[A].holds && !story.nodes[B].holds, "{:?}", story.status(A));
    }
}

#[test]
fn p1_an_owner_that_is_cut_off_from_everything_lets_go() {
    let mut story = Story::settled();
    for path in Path::ALL {
        story.cut = story.cut.with(path);
    }
    story.lan[A] = false;
    story.run(MS * 1_000);
    assert!(!story.nodes[A].holds, "{:?}", story.status(A));
    assert!(story.nodes[B].holds, "{:?}", story.status(B));
}

#[test]
fn p1_an_owner_without_any_cable_lets_go_before_the_peer_takes_over() {
    let mut story = Story::settled();
    // No serial line, as far as beats go: the owner's two other cables are pulled together.
    story.cut = PathSet::default().with(Path::Serial);
    story.run(MS * 1_000);
    story.cut = story.cut.with(Path::Crossover);
    story.lan[A] = false;
    story.time_until_held(B, MS * 250);
    assert!(!story.nodes[A].holds, "{:?}", story.status(A));
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn p1_paths_cut_but_the_lan_answers_for_the_owner() {
    let mut story = Story::settled();
    for path in Path::ALL {
        story.cut = story.cut.with(path);
    }
    for _ in 0..10_000 {
        story.run(MS);
        assert!(!story.nodes[B].holds, "the peer's kernel answered for it");
    }
    assert_eq!(story.status(B).groups[0].state, Word::Blocked);
}

#[test]
fn a_move_goes_in_order() {
    let mut story = Story::settled();
    let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
    story.give(A, Event::Wished { request: 9, wish });
    story.run(MS * 50);
    assert!(story.nodes[B].holds && !story.nodes[A].holds, "{:?}", story.status(B));
    assert_eq!(story.both_held, Duration::ZERO);
    assert!(story.nodes[A].answers[&9].is_ok());
    // Asked for on the node that does not own it.
    story.give(A, Event::Wished { request: 10, wish });
    story.run(MS * 200);
    assert!(story.nodes[A].holds && !story.nodes[B].holds);
    assert!(story.nodes[A].answers[&10].is_ok());
    assert_eq!(story.status(A).groups[0].generation, 3);
}

#[test]
fn standby_hands_over_survives_a_reboot_and_ends_with_online() {
    let mut story = Story::settled();
    let standby = Wish::Standby(NodeIndex::Lower);
    story.give(A, Event::Wished { request: 1, wish: standby });
    story.run(MS * 200);
    assert!(story.nodes[B].holds);
    assert!(story.nodes[A].answers[&1].is_ok());
    assert_eq!(story.status(B).peer.state, PeerState::Standby);
    // Now the other one may not go to standby mode too.
    let other = Wish::Standby(NodeIndex::Upper);
    story.give(A, Event::Wished { request: 2, wish: other });
    story.run(MS * 200);
    assert!(story.nodes[A].answers[&2].is_err());
    story.power_cut(A);
    story.run(MS * 500);
    story.power_on(A);
    story.run(MS * 500);
    assert_eq!(story.status(A).state, NodeState::Standby);
    assert_eq!(story.status(B).peer.state, PeerState::Standby);
    // With the lock it takes nothing over, even from a dead peer.
    story.power_cut(B);
    story.run(MS * 7_000);
    assert!(!story.nodes[A].holds);
    let online = Wish::Online(NodeIndex::Lower);
    story.give(A, Event::Wished { request: 3, wish: online });
    story.time_until_held(A, MS * 1_000);
}

#[test]
fn goodbye_hands_over_before_the_end() {
    let mut story = Story::settled();
    story.give(A, Event::Shutdown);
    story.time_until_held(B, MS * 100);
    story.run(MS * 100);
    assert!(!story.nodes[A].powered, "it exited");
    assert_eq!(story.both_held, Duration::ZERO);
    assert_eq!(story.status(B).peer.state, PeerState::Dead);
}

#[test]
fn never_heard_is_not_dead_unless_the_disk_says_alone() {
    let mut story = Story::new();
    story.power_cut(A);
    story.power_cut(B);
    story.power_on(B);
    story.run(MS * 4_900);
    assert!(!story.nodes[B].holds, "boot patience is 5 s");
    story.time_until_held(B, MS * 300);
    assert!(story.nodes[B].disk.alone);
    story.power_cut(B);
    story.run(MS * 10);
    story.power_on(B);
    story.time_until_held(B, MS * 400);
}

#[test]
fn alone_is_cleared_before_the_peer_is_told_that_it_may_claim() {
    let mut story = Story::settled();
    story.power_cut(A);
    story.time_until_held(B, MS * 250);
    assert!(story.nodes[B].disk.alone);
    story.power_on(A);
    story.run(MS * 500);
    assert!(!story.nodes[B].disk.alone);
    assert!(story.nodes[B].holds && !story.nodes[A].holds);
}

#[test]
fn a_replay_across_a_reboot_is_refused_and_keeps_nobody_alive() {
    let mut story = Story::settled();
    let old: Vec<(usize, Path, Beat)> = story.recorded.clone();
    story.power_cut(A);
    let of_a = old.iter().filter(|(from, ..)| *from == A).cloned();
    for (_, path, beat) in of_a.cycle().take(600) {
        story.give(B, Event::Heard { path, beat });
        story.run(MS / 2);
    }
    story.time_until_held(B, MS * 10);
    let refused = |story: &Story, reason: DropReason| -> u64 {
        let status = story.status(B);
        let by = status.peer.paths.iter().map(|path| path.refused_by.get(reason.name()));
        by.flatten().sum()
    };
    assert!(refused(&story, DropReason::Replay) > 0);
    // After a reboot of A, frames of its former life are refused as such.
    story.power_on(A);
    story.run(MS * 500);
    let before = refused(&story, DropReason::EndedIncarnation);
    let former: Vec<_> = old.iter().filter(|(from, ..)| *from == A).take(100).cloned().collect();
    for (_, path, beat) in former.iter().cloned() {
        story.give(B, Event::Heard { path, beat });
    }
    let ended = refused(&story, DropReason::EndedIncarnation) - before;
    assert_eq!(ended, former.len() as u64);
    assert!(ended > 10);
    assert_eq!(story.status(B).peer.state, PeerState::Alive);
}

#[test]
fn a_replay_of_an_incarnation_that_was_never_met_is_refused() {
    let mut story = Story::new();
    story.power_cut(A);
    story.run(MS * 300);
    // A hears B, but nothing of it comes through before it restarts.
    story.power_on(A);
    let end = story.now + MS * 100;
    while story.now < end {
        story.run(MS / 20);
        story.flying.retain(|(_, to, _)| *to == A);
    }
    let unmet: Vec<(usize, Path, Beat)> =
        story.recorded.iter().filter(|(from, ..)| *from == A).cloned().collect();
    assert!(unmet.len() > 5, "{unmet:?}");
    story.power_cut(A);
    story.power_on(A);
    story.run(MS * 1_000);
    let met = story.nodes[B].core.evidence.peer.incarnation();
    assert!(met.is_some());
    for (_, path, beat) in unmet {
        story.give(B, Event::Heard { path, beat });
        assert_eq!(story.nodes[B].core.evidence.peer.incarnation(), met);
    }
}

#[test]
fn a_heart_that_overslept_checks_before_it_renews() {
    let mut story = Story::settled();
    // A's heart sleeps while its machine and kernel run: B's probe is answered.
    let asleep_until = story.now + MS * 290;
    while story.now < asleep_until {
        let next = story.now + MS;
        let deadline = story.nodes[B].core.next_deadline();
        story.now = next;
        if deadline <= story.local(B) {
            story.give(B, Event::Tick);
        }
        assert!(!story.nodes[B].holds);
    }
    story.flying.clear();
    story.run(MS * 1_000);
    assert!(story.nodes[A].holds && !story.nodes[B].holds, "{:?}", story.status(A));
    assert!(story.nodes[A].told.iter().any(|(kind, _)| *kind == Kind::Stall));
}

#[test]
fn a_sleep_longer_than_the_lease_releases_first() {
    let mut story = Story::settled();
    story.nodes[A].powered = false;
    story.nodes[A].holds = false;
    story.time_until_held(B, MS * 250);
    story.run(MS * 3_000);
    // The paused machine wakes and still has its address.
    story.nodes[A].powered = true;
    story.nodes[A].holds = true;
    story.give(A, Event::Tick);
    assert!(!story.nodes[A].holds, "released before anything else");
    story.run(MS * 1_000);
    assert!(story.nodes[B].holds && !story.nodes[A].holds);
}

#[test]
fn a_foreign_deletion_is_repaired_and_a_foreign_addition_removed() {
    let mut story = Story::settled();
    story.nodes[A].holds = false;
    story.give(A, Event::AddressLost { group: WEB });
    assert!(story.nodes[A].holds);
    story.nodes[B].holds = true;
    story.give(B, Event::AddressFound { group: WEB });
    assert!(!story.nodes[B].holds);
}

#[test]
fn a_third_machine_is_never_fought() {
    let mut story = Story::settled();
    story.power_cut(A);
    let end = story.now + MS * 1_000;
    while !story.nodes[B].core.groups[0].lan.is_asking() {
        assert!(story.now < end, "no probe");
        story.run(MS);
    }
    let holder = Holder::Stranger([2, 0, 0, 0, 0, 9]);
    story.give(B, Event::AddressSeen { group: WEB, holder });
    story.run(MS * 100);
    assert!(!story.nodes[B].holds);
    assert_eq!(story.status(B).groups[0].state, Word::Blocked);
    assert!(story.status(B).groups[0].why.contains("02:00:00:00:00:09"));
    // It goes away.
    story.time_until_held(B, MS * 3_000);
}

#[test]
fn two_who_serve_and_hear_each_other_agree_in_one_tick() {
    let mut story = Story::settled();
    let mut beat =
        story.recorded.iter().rev().find(|(from, path, _)| *from == B && *path == Path::Lan);
    let (_, path, mut beat) = beat.take().cloned().expect("B sends");
    beat.sequence += 1_000;
    beat.groups[0].stance = Stance::Active;
    beat.groups[0].generation = 9;
    story.give(A, Event::Heard { path, beat });
    assert!(!story.nodes[A].holds, "the newer generation stands");
}

#[test]
fn invariants_are_checked_after_every_event() {
    // `handle` runs `check_invariants` in tests; a story without a panic has passed them all.
    let mut story = Story::settled();
    story.run(MS * 3_000);
    assert!(story.nodes[A].core.next_deadline() > Time(0));
}
