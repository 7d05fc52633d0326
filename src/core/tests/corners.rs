//! Stories of faults that were found and mended: each failed before.

use super::*;

fn count(story: &Story, node: usize, kind: Kind) -> usize {
    story.nodes[node].told.iter().filter(|(told, _)| *told == kind).count()
}

#[test]
fn the_rightful_owner_keeps_against_a_peer_that_already_names_its_generation() {
    let mut story = Story::settled();
    let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
    story.give(A, Event::Wished { request: 1, wish });
    story.time_until_held(B, MS * 100);
    story.run(MS * 200);
    // B serves, though A is at home; A, which learned of B's generation, has not yet let go.
    let mut beat = newest(&story, A, Path::Lan);
    let mine = newest(&story, B, Path::Lan).groups[0];
    beat.sequence += 1_000;
    beat.groups[0] = crate::beat::GroupBeat { stance: Stance::Active, ..mine };
    story.give(B, Event::Heard { path: Path::Lan, beat });
    assert!(story.nodes[B].holds, "{:?}", story.status(B));
}

#[test]
fn a_renewal_whose_answer_is_lost_is_asked_again() {
    let mut story = Story::settled();
    story.deaf_to_renewals = true;
    story.run(MS * 700);
    let asked = story.renewals;
    story.run(MS * 1_000);
    assert!(story.renewals >= asked + 3, "{} then {}", asked, story.renewals);
}

#[test]
fn frames_from_before_a_gap_do_not_end_the_check() {
    let mut story = Story::settled();
    let old = newest(&story, B, Path::Crossover);
    let began = story.now;
    // The machine stood still for 400 ms; the sockets hold what B said meanwhile.
    story.now = story.now + MS * 400;
    story.flying.clear();
    let renewals = story.renewals;
    for ahead in 1..=8 {
        let beat = Beat { sequence: old.sequence + ahead, ..old.clone() };
        story.give(A, Event::Heard { path: Path::Crossover, beat });
    }
    assert_eq!(story.renewals, renewals, "renewed on the word of an old frame");
    assert_eq!(story.status(A).state, NodeState::Stalled);
    assert!(story.now > began);
    story.run(MS * 500);
    assert!(story.nodes[A].holds && story.renewals > renewals, "{:?}", story.status(A));
}

#[test]
fn p3_a_want_from_before_a_gap_gets_no_handover() {
    let mut story = Story::settled();
    let old = newest(&story, B, Path::Crossover);
    story.now = story.now + MS * 400;
    story.flying.clear();
    // By now B may have claimed: what it said while A stood still is no request of today.
    let mut beat = Beat { sequence: old.sequence + 1, ..old };
    beat.groups[0].stance = Stance::Wanting(77);
    story.give(A, Event::Heard { path: Path::Crossover, beat });
    let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
    story.give(A, Event::Wished { request: 1, wish });
    assert!(story.nodes[A].holds, "{:?}", story.status(A));
    story.time_until_held(B, MS * 500);
}

#[test]
fn a_damaged_generation_is_not_learned() {
    let mut story = Story::settled();
    let mut beat = newest(&story, B, Path::Lan);
    beat.sequence += 1_000;
    beat.groups[0].generation = u32::MAX;
    story.give(A, Event::Heard { path: Path::Lan, beat });
    assert_eq!(story.status(A).groups[0].generation, 1);
    story.power_cut(A);
    story.time_until_held(B, MS * 250);
}

#[test]
fn a_peer_seen_with_the_address_makes_no_storm() {
    let mut story = Story::settled();
    story.run(MS * 5_000);
    let before = story.announced;
    for _ in 0..100 {
        story.give(A, Event::AddressSeen { group: WEB, holder: Holder::Peer });
    }
    assert_eq!(story.announced, before, "not at once for each frame");
    story.run(MS * 50);
    assert!(story.announced > before, "but soon");
}

#[test]
fn an_answer_to_an_older_release_is_not_taken_for_the_newest() {
    let mut story = Story::settled();
    story.deaf_to_releases = true;
    let standby = Wish::Standby(NodeIndex::Lower);
    story.give(A, Event::Wished { request: 1, wish: standby });
    story.run(MS * 20);
    let commanded = story.releases;
    assert!(commanded > 0, "{:?}", story.status(A));
    story.give(A, Event::Released { group: WEB, release: commanded.wrapping_sub(1) });
    story.run(MS * 20);
    assert!(!story.nodes[B].holds, "the peer was let in on an old answer");
    let newest = story.releases;
    story.give(A, Event::Released { group: WEB, release: newest });
    story.time_until_held(B, MS * 100);
}

#[test]
fn a_node_that_is_alone_on_disk_says_no_goodbye() {
    let mut story = Story::settled();
    story.power_cut(B);
    story.run(MS * 1_000);
    assert!(story.nodes[A].disk.alone);
    story.give(A, Event::Shutdown);
    story.run(MS * 200);
    assert!(!story.nodes[A].powered, "it ended");
    assert!(!story.recorded.iter().any(|(from, _, beat)| *from == A && beat.farewell));
}

#[test]
fn what_was_announced_into_a_dead_lan_is_announced_again() {
    let mut story = Story::settled();
    story.run(MS * 5_000);
    story.lan = [false, false];
    story.run(MS * 500);
    let before = story.announced;
    story.lan = [true, true];
    story.run(MS * 200);
    assert!(story.announced > before);
}

#[test]
fn two_keys_are_named_once() {
    let mut story = Story::new();
    story.cut = PathSet(7);
    // What the serial line kept from before is read at once.
    for _ in 0..100 {
        story.give(A, Event::Refused { path: Path::Serial, reason: DropReason::BadTag });
    }
    story.run(MS * 8_000);
    assert_eq!(count(&story, A, Kind::Config), 0);
    for _ in 0..200 {
        story.give(A, Event::Refused { path: Path::Lan, reason: DropReason::BadTag });
        story.run(MS * 50);
    }
    assert_eq!(count(&story, A, Kind::Config), 1);
    assert!(story.status(A).troubles.iter().any(|text| text.contains("key")));
}

#[test]
fn a_path_that_is_dead_from_the_start_is_told_once_and_shown() {
    let mut story = Story::new();
    story.cut = PathSet::default().with(Path::Crossover);
    story.run(MS * 20_000);
    assert!(story.nodes[A].holds);
    for node in [A, B] {
        let shown = story.status(node).troubles;
        assert_eq!(shown, ["crossover: eth1 has no carrier: it is down, or its cable is out"]);
        let told = story.nodes[node].told.iter().filter(|(_, text)| *text == shown[0]).count();
        assert_eq!(told, 1);
    }
    story.cut = PathSet::default();
    story.run(MS * 5_000);
    assert!(story.status(A).troubles.is_empty());
}

#[test]
fn an_interface_that_is_down_is_told_by_its_name() {
    let mut story = Story::settled();
    story.cut = PathSet::default().with(Path::Crossover);
    let end = story.now + MS * 10_000;
    while story.now < end {
        story.give(A, Event::SetDown { link: Link::Crossover });
        story.run(MS);
    }
    let shown = story.status(A).troubles;
    assert_eq!(shown, ["crossover: eth1 is down on this node, or is not there"]);
    let told = story.nodes[A].told.iter().filter(|(_, text)| *text == shown[0]).count();
    assert_eq!(told, 1, "{:?}", story.nodes[A].told);
}

#[test]
fn a_line_that_hears_itself_is_told() {
    let mut story = Story::settled();
    story.cut = PathSet::default().with(Path::Serial);
    for _ in 0..300 {
        story.give(A, Event::Refused { path: Path::Serial, reason: DropReason::NotPeer });
        story.give(A, Event::Refused { path: Path::Serial, reason: DropReason::LineNoise });
        story.give(A, Event::Refused { path: Path::Serial, reason: DropReason::LineNoise });
        story.run(MS * 50);
    }
    let shown = story.status(A).troubles;
    assert!(shown.len() == 1 && shown[0].contains("/dev/ttyS0) hears itself"), "{shown:?}");
}

/// The exit status of `status` is the same on both nodes.
#[test]
fn both_nodes_say_the_same_of_a_group_whose_services_do_not_run() {
    let mut story = super::duties::with_service();
    story.run(MS * 1_000);
    let standing = |story: &Story| [A, B].map(|node| story.status(node).standing().exit_status());
    story.services(B, ServiceWord::Done);
    story.run(MS * 1_000);
    assert_eq!(standing(&story), [5, 5], "they start");
    story.services(A, ServiceWord::Done);
    story.run(MS * 100);
    assert_eq!(standing(&story), [0, 0]);
    story.services(A, ServiceWord::Changing);
    story.run(MS * 100);
    assert_eq!(standing(&story), [5, 5]);
}

#[test]
fn a_peer_that_was_stopped_in_order_is_not_called_dead() {
    let mut story = Story::settled();
    story.give(A, Event::Shutdown);
    story.run(MS * 2_000);
    assert!(story.nodes[B].holds && story.status(B).peer.ended);
    assert!(!story.status(B).groups[0].why.contains("dead"), "{}", story.status(B).groups[0].why);
    story.run(MS * 180_000);
    assert!(story.status(B).groups[0].why.contains("(for 3 min)"));
}

#[test]
fn a_peer_of_a_later_version_is_told_once() {
    let mut story = Story::settled();
    story.power_cut(B);
    story.run(MS * 1_000);
    let refused = Event::Refused { path: Path::Lan, reason: DropReason::UnknownVersion };
    for _ in 0..3 * limits::MISFITS_TOLD_AFTER {
        story.give(A, refused.clone());
        story.run(MS);
    }
    let newer = |(kind, text): &&(Kind, String)| {
        *kind == Kind::Config && text.contains("newer version of the heartbeat; upgrade this node")
    };
    assert_eq!(story.nodes[A].told.iter().filter(newer).count(), 1);
    let lan = story.status(A).peer.paths.into_iter().find(|path| path.name == "lan").unwrap();
    assert_eq!(lan.refused_by.get("unknown-version"), Some(&(3 * limits::MISFITS_TOLD_AFTER)));
}

/// Every beat of the owner is lost, and shortly before that is proven the LAN stops answering, too: its
/// kernel was seen to hold the address while beats were overdue already.
#[test]
fn p1_a_lan_that_falls_silent_last_is_not_taken_for_a_dead_peers() {
    for way in [Path::Crossover, Path::Serial, Path::Lan] {
        let mut story = Story::settled();
        story.crossover_keeps_carrier = true;
        story.cut = Path::ALL
            .into_iter()
            .filter(|path| *path != way)
            .fold(PathSet::default(), PathSet::with);
        story.run(MS * 400);
        story.cut = story.cut.with(way);
        let since = story.now;
        story.run(MS * 125);
        story.arp_cut = true;
        story.run(MS * 85);
        assert!(!story.nodes[B].holds, "{way:?}: it answered less than 90 ms ago");
        story.time_until_held(B, MS * 100);
        assert!(story.now.since(since) > MS * 210, "{way:?}");
    }
}

/// The LAN's beats were lost before; then the crossover dies, and the serial line within `dead_after` of it.
#[test]
fn p1_a_fresh_loss_of_the_crossover_proves_nothing_where_the_lan_was_not_well() {
    let mut story = Story::settled();
    story.cut = PathSet::default().with(Path::Lan);
    story.run(MS * 1_000);
    story.arp_cut = true;
    story.cut = story.cut.with(Path::Crossover);
    story.run(MS * 110);
    story.cut = story.cut.with(Path::Serial);
    story.run(MS * 100);
    assert!(!story.nodes[B].holds, "silent for 100 ms only");
    story.time_until_held(B, MS * 400);
}

/// Two have just met on the one cable that is pulled then; the serial line is slower.
#[test]
fn p1_a_path_that_had_no_time_to_be_heard_shows_nothing() {
    let mut story = Story::edited(|config| {
        (config.heartbeat.interval, config.heartbeat.dead_after) = (MS * 20, MS * 60);
    });
    story.cut = PathSet::default().with(Path::Lan).with(Path::Serial);
    while told(&story, B, "the peer is heard") == 0 {
        story.run(MS);
    }
    story.cut = story.cut.with(Path::Crossover);
    story.run(MS * 80);
    story.cut = PathSet::default().with(Path::Crossover).with(Path::Lan);
    story.run(MS * 1_000);
    for node in [A, B] {
        assert_eq!(told(&story, node, "the peer is silent on every path"), 0);
    }
    assert_eq!(story.both_held, Duration::ZERO);
}

/// Who was late for a moment answers for itself afterwards: a move does not wait for its kernel.
#[test]
fn an_early_answer_is_forgotten_when_the_peer_is_heard_again() {
    let mut story = Story::settled();
    story.crossover_keeps_carrier = true;
    story.cut = Path::ALL.into_iter().fold(PathSet::default(), PathSet::with);
    let asked = story.probes;
    story.run(MS * 120);
    assert!(story.probes > asked);
    story.cut = PathSet::default();
    story.run(MS * 60);
    assert!(!story.nodes[B].core.groups[0].lan.is_asking());
    let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
    story.give(A, Event::Wished { request: 1, wish });
    story.time_until_held(B, MS * 50);
}

/// The peer's generation began and ended while neither heard the other, and its claim may even have failed.
#[test]
fn p2_p3_an_owner_outlives_a_generation_that_ended_without_it() {
    let mut story = Story::settled();
    story.run(MS * 4_000);
    let announced = story.announced;
    let mut beat = newest(&story, B, Path::Lan);
    let mine = newest(&story, A, Path::Lan).groups[0].generation;
    beat.sequence += 1_000;
    beat.groups[0].generation = mine + 3;
    beat.groups[0].owner = NodeIndex::Upper;
    story.give(A, Event::Heard { path: Path::Lan, beat });
    story.run(MS * 60);
    let said = newest(&story, A, Path::Lan).groups[0];
    assert!(story.nodes[A].holds && said.owner == NodeIndex::Lower, "{said:?}");
    assert!(said.generation > mine + 3);
    assert!(story.announced > announced, "the clients look for it where the peer was");
    assert_eq!(newest(&story, B, Path::Lan).groups[0].generation, said.generation, "B learns it");
}

/// A dead switch takes no carrier away: what was announced meanwhile reached nobody.
#[test]
fn a_lan_that_is_reached_again_is_told_who_serves() {
    let mut story = Story::settled();
    story.mute = vec![(A, 0), (A, 1), (B, 0), (B, 1)];
    story.run(MS * 4_000);
    let announced = story.announced;
    story.run(MS * 1_000);
    assert_eq!(story.announced, announced, "it refreshes seldom");
    story.mute.clear();
    story.run(MS * 1_200);
    assert!(story.nodes[A].holds && story.announced > announced);
}

#[test]
fn a_path_that_works_one_way_is_told_once_and_shows_that_the_peer_lives() {
    let mut story = Story::settled();
    story.crossover_keeps_carrier = true;
    let hears_b = |story: &mut Story, rounds: u32| {
        for _ in 0..rounds {
            story.run(MS * 50);
            let beat = newest(story, B, Path::Crossover);
            story.give(A, Event::Heard { path: Path::Crossover, beat });
        }
    };
    story.cut = story.cut.with(Path::Crossover);
    hears_b(&mut story, 20);
    let paths = story.status(A).peer.paths;
    let crossover = paths.iter().find(|path| path.name == "crossover").expect("it is configured");
    assert_eq!(crossover.state, PathState::OneWay);
    let text = "crossover is one-way: the peer does not hear this node on it";
    let told = story.nodes[A].told.iter().filter(|(_, told)| told == text).count();
    assert_eq!(told, 1);
    story.cut = story.cut.with(Path::Lan).with(Path::Serial);
    hears_b(&mut story, 20);
    assert_eq!(story.status(A).peer.state, PeerState::Alive);
}

#[test]
fn a_peer_whose_own_loop_has_gaps_is_given_twice_as_long() {
    let silent_after = |worst_gap_ms: u16| {
        let mut story = Story::settled();
        story.crossover_keeps_carrier = true;
        let beat = newest(&story, A, Path::Lan);
        let beat = Beat { sequence: beat.sequence + 1_000, worst_gap_ms, ..beat };
        story.give(B, Event::Heard { path: Path::Lan, beat });
        story.power_cut(A);
        let began = story.now;
        while story.status(B).peer.state != PeerState::Dead {
            story.run(MS);
        }
        story.now.since(began)
    };
    let usual = silent_after(0);
    assert!(usual <= MS * 160, "{usual:?}");
    let patient = silent_after(200);
    assert!(patient >= MS * 400 - MS * 60 && patient <= MS * 410, "{patient:?}");
    // No peer may ask for any patience it likes.
    assert!(silent_after(u16::MAX) <= limits::GAP_HEEDED_MAX * 2 + MS * 10);
}

/// Both probe for the address at the same time.
#[test]
fn the_preferred_node_goes_on_where_the_other_backs_off() {
    let claims_although_the_peer_probes = |heir: usize| {
        let mut story = Story::settled();
        if heir == A {
            let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
            story.give(A, Event::Wished { request: 1, wish });
            story.time_until_held(B, MS * 500);
            story.run(MS * 1_000);
        }
        story.power_cut(1 - heir);
        for _ in 0..600 {
            story.run(MS);
            story.give(heir, Event::AddressSeen { group: WEB, holder: Holder::PeerProbes });
        }
        story.nodes[heir].holds
    };
    assert!(claims_although_the_peer_probes(A));
    assert!(!claims_although_the_peer_probes(B));
}

/// How long until a node calls its peer dead.
fn time_until_dead(story: &mut Story, node: usize) -> Duration {
    let began = story.now;
    while story.status(node).peer.state != PeerState::Dead {
        assert!(story.now.since(began) < MS * 1_000, "{:?}", story.status(node).peer);
        story.run(MS);
    }
    story.now.since(began)
}

/// A peer that has just said that its LAN cable is out, and whose other cables follow: nothing that it does not
/// answer on the LAN shows that it is dead.
#[test]
fn p1_a_peer_without_a_lan_carrier_is_given_up_by_silence_alone() {
    let mut story = Story::settled();
    story.run(MS * 220);
    story.lan[B] = false;
    story.give(B, Event::Carrier { link: Link::Lan, up: false });
    story.run(MS * 20);
    let said = newest(&story, B, Path::Crossover);
    assert!(!said.lan_carrier, "it says so at once");
    story.cut = PathSet::default().with(Path::Crossover).with(Path::Serial);
    story.give(A, Event::Carrier { link: Link::Crossover, up: false });
    let took = time_until_dead(&mut story, A);
    assert!(took >= MS * 80, "{took:?}");
}
