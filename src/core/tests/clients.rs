//! Stories about clients' TCP connections: who shares them, who tells clients of a takeover, who closes.

use super::*;

impl Story {
    fn clients(&self) -> [(Option<ClientDuty>, u32); 2] {
        [A, B].map(|node| (self.nodes[node].clients_ordered, self.nodes[node].tickles))
    }
}

#[test]
fn the_owner_shares_and_the_first_service_tickles_nobody() {
    let story = Story::settled();
    let yields = (Some(ClientDuty::Yield), 0);
    assert_eq!(story.clients(), [(Some(ClientDuty::Share), 0), yields]);
}

#[test]
fn who_takes_over_from_a_dead_owner_tickles_once() {
    let mut story = Story::settled();
    story.power_cut(A);
    story.time_until_held(B, MS * 200);
    story.run(Duration::from_secs(3));
    assert_eq!(story.clients()[B], (Some(ClientDuty::Share), 1));
}

#[test]
fn a_claim_that_fails_at_first_tickles_when_it_succeeds() {
    let mut story = Story::settled();
    story.refuses_a_claim = true;
    story.power_cut(A);
    story.run(Duration::from_secs(1));
    assert!(!story.refuses_a_claim && !story.nodes[B].holds);
    assert_eq!(story.clients()[B].1, 0);
    story.run(limits::BLOCKED_RETRY + Duration::from_secs(1));
    assert!(story.nodes[B].holds);
    assert_eq!(story.clients()[B], (Some(ClientDuty::Share), 1));
}

#[test]
fn a_planned_move_tickles_and_the_old_owner_yields_only_when_the_peer_serves() {
    let mut story = Story::settled();
    let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
    story.give(A, Event::Wished { request: 1, wish });
    while story.nodes[A].holds {
        assert_eq!(story.clients()[A].0, Some(ClientDuty::Share));
        story.run(MS / 20);
    }
    while !story.nodes[B].holds {
        assert_eq!(story.clients()[A].0, Some(ClientDuty::Leave));
        story.run(MS / 20);
    }
    story.run(Duration::from_secs(1));
    assert_eq!(story.clients(), [(Some(ClientDuty::Yield), 0), (Some(ClientDuty::Share), 1)]);
    // And home again.
    let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
    story.give(A, Event::Wished { request: 2, wish });
    story.run(Duration::from_secs(8));
    assert_eq!(story.clients(), [(Some(ClientDuty::Share), 1), (Some(ClientDuty::Yield), 1)]);
}

#[test]
fn an_address_that_is_only_put_back_tickles_nobody() {
    let mut story = Story::settled();
    story.give(A, Event::AddressLost { group: WEB });
    story.run(Duration::from_secs(1));
    assert_eq!(story.clients()[A], (Some(ClientDuty::Share), 0));
    // Cut off while nobody can take over: its connections may still be alive.
    story.cut = PathSet(7);
    story.lan = [false, false];
    story.run(Duration::from_secs(1));
    assert!(!story.nodes[A].holds && !story.nodes[B].holds);
    assert_eq!(story.clients()[A], (Some(ClientDuty::Leave), 0));
    story.cut = PathSet::default();
    story.lan = [true, true];
    story.run(Duration::from_secs(5));
    assert!(story.nodes[A].holds, "{:?}", story.status(A));
    assert_eq!(story.clients(), [(Some(ClientDuty::Share), 0), (Some(ClientDuty::Yield), 0)]);
}

#[test]
fn a_new_worker_is_told_again_but_tickles_nobody() {
    let mut story = Story::settled();
    story.power_cut(A);
    story.time_until_held(B, MS * 200);
    story.run(Duration::from_secs(1));
    story.nodes[B].clients_ordered = None;
    story.give(B, Event::WorkerStarted);
    assert_eq!(story.clients()[B], (Some(ClientDuty::Share), 1));
}

#[test]
fn what_became_of_it_is_told_with_its_counts() {
    let mut story = Story::settled();
    let tickled = Tickled { known: 9, told: 7, list_age_ms: 400 };
    story.nodes[A].core.handle(story.now, Event::Tickled { group: WEB, tickled });
    let told =
        std::iter::from_fn(|| story.nodes[A].core.poll()).find_map(|command| match command {
            Command::Tell(told) if told.kind == Kind::Clients => Some(told),
            _ => None,
        });
    let told = told.expect("an event");
    assert!(told.text.contains("clients of 7 TCP connections"), "{}", told.text);
    assert_eq!(told.evidence["connections"], 9);
    assert_eq!(told.evidence["told"], 7);
    assert_eq!(told.evidence["list_age_ms"], 400);
}
