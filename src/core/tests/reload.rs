//! Another config for a running pair.

use super::*;
use crate::config::Config;
use crate::config::ring::KeyState;

const SECOND: &str = "203.0.113.51/24";

pub(super) fn edited(edits: &[(&str, &str)]) -> Config {
    let mut text = CONFIG.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    config::parse(&text, "edited").unwrap()
}

fn with_heartbeat(interval_ms: u32, dead_after_ms: u32) -> Config {
    let times = format!(
        "[heartbeat]\ninterval = \"{interval_ms}ms\"\ndead_after = \"{dead_after_ms}ms\"\n"
    );
    let usual = "[heartbeat]\ninterval      = \"50ms\"\ndead_after    = \"150ms\"\n";
    edited(&[(usual, &times)])
}

fn with_addresses(all: &str) -> Config {
    edited(&[("[\"203.0.113.50/24\"]", &format!("[{all}]"))])
}

impl Story {
    fn reload(&mut self, node: usize, config: &Config) {
        self.give(
            node,
            Event::Reload { config: Box::new(config.clone()), new_keys: false, request: None },
        );
    }

    fn beats_on_lan(&mut self, node: usize, span: Duration) -> usize {
        let before = self.recorded.len();
        self.run(span);
        let new = self.recorded.iter().skip(before);
        new.filter(|(from, path, _)| *from == node && *path == Path::Lan).count()
    }

    fn told(&self, node: usize, kind: Kind, text: &str) -> usize {
        let all = self.nodes[node].told.iter();
        all.filter(|(told, what)| *told == kind && what.contains(text)).count()
    }

    /// Nobody was found dead, and nothing moved.
    fn is_calm(&self) {
        for node in [A, B] {
            assert_eq!(self.told(node, Kind::PeerDead, ""), 0, "{:?}", self.nodes[node].told);
            assert_eq!(self.told(node, Kind::Release, ""), 0, "{:?}", self.nodes[node].told);
        }
        assert!(self.nodes[A].holds && !self.nodes[B].holds);
        assert_eq!(self.both_held, Duration::ZERO);
        assert_eq!((self.status(A).groups[0].generation, self.releases), (1, 0));
    }
}

#[test]
fn p2_other_times_of_the_heartbeat_make_no_death_in_whatever_order() {
    let (fast, slow) = (with_heartbeat(50, 150), with_heartbeat(500, 2_000));
    for first in [A, B] {
        let mut story = Story::settled();
        story.reload(first, &slow);
        // One node has not reloaded: it waits no longer than before, so it must hear as much.
        let beats = story.beats_on_lan(first, MS * 3_000);
        assert!(beats >= 55, "{beats} beats in 3 s");
        story.reload(1 - first, &slow);
        story.run(MS * 3_000);
        story.is_calm();
        for node in [A, B] {
            let beats = story.beats_on_lan(node, MS * 5_000);
            assert!((8..=30).contains(&beats), "{beats} beats in 5 s");
            assert_eq!(story.nodes[node].core.evidence.pace.dead_after, MS * 2_000);
        }
        story.reload(first, &fast);
        story.run(MS * 3_000);
        story.reload(1 - first, &fast);
        let beats = story.beats_on_lan(A, MS * 3_000);
        assert!(beats >= 55, "{beats} beats in 3 s");
        story.is_calm();
        assert_eq!(story.nodes[A].core.evidence.pace, story.nodes[B].core.evidence.pace);
        assert_eq!(story.nodes[A].core.evidence.pace.dead_after, MS * 150);
    }
}

#[test]
fn configs_that_differ_are_told_once_and_that_they_do_not_once() {
    let mut story = Story::settled();
    let config = edited(&[("boot_patience = \"5s\"", "boot_patience = \"6s\"")]);
    story.reload(A, &config);
    story.run(MS * 1_000);
    for node in [A, B] {
        assert_eq!(story.told(node, Kind::Config, "different config files"), 1);
        assert_eq!(story.status(node).peer.same_config, Some(false));
    }
    story.reload(B, &config);
    story.run(MS * 1_000);
    for node in [A, B] {
        assert_eq!(story.told(node, Kind::Config, "different config files"), 1);
        assert_eq!(story.told(node, Kind::Config, "the same config again"), 1);
        assert_eq!(story.status(node).peer.same_config, Some(true));
    }
    // The same again is no news for the peer.
    story.reload(A, &config);
    story.run(MS * 1_000);
    assert_eq!(story.told(A, Kind::Config, "nothing has changed"), 1);
    assert_eq!([story.nodes[A].configured, story.nodes[B].configured], [1, 1]);
    story.is_calm();
}

#[test]
fn what_cannot_change_refuses_the_whole() {
    let mut story = Story::settled();
    let digest = story.nodes[A].core.config.digest;
    story
        .reload(A, &edited(&[("\"5s\"", "\"6s\""), ("prefer  = \"serv1\"", "prefer = \"serv2\"")]));
    story.give(
        A,
        Event::ReloadFailed { error: "clusterd.toml:3:1: a wrong key".to_owned(), request: None },
    );
    story.run(MS * 1_000);
    assert_eq!(story.nodes[A].configured, 0);
    assert_eq!(story.nodes[A].core.config.digest, digest);
    assert_eq!(
        story.told(
            A,
            Kind::Config,
            "group.web.prefer; restart clusterd on this node, standby first"
        ),
        1
    );
    assert_eq!(story.told(A, Kind::Config, "nothing was changed: clusterd.toml:3:1"), 1);
    story.is_calm();
}

#[test]
fn another_key_alone_is_taken_in_and_told_once() {
    let mut story = Story::settled();
    let config = Box::new((*story.nodes[A].core.config).clone());
    story.give(A, Event::Reload { config, new_keys: true, request: Some(7) });
    assert_eq!(story.nodes[A].configured, 1);
    assert_eq!(story.nodes[A].answers[&7], Ok("reloaded: the key file changed".to_owned()));
    assert_eq!(story.told(A, Kind::Config, "reloaded: the key file changed"), 1);
    // The other node begins anew in between, with both keys.
    use KeyState::{Agreed, Settled, Waiting};
    for state in [Waiting, Agreed, Waiting, Agreed] {
        story.give(A, Event::KeyIs { state });
        assert_eq!(story.status(A).key, state);
    }
    assert_eq!(story.told(A, Kind::Config, "both nodes have the new key"), 1);
    // The next change is another one.
    for state in [Settled, Waiting, Agreed] {
        story.give(A, Event::KeyIs { state });
    }
    assert_eq!(story.told(A, Kind::Config, "both nodes have the new key"), 2);
    story.is_calm();
}

#[test]
fn p1_an_address_that_comes_is_probed_and_one_that_goes_goes_at_once() {
    let mut story = Story::settled();
    let both = with_addresses(&format!("\"203.0.113.50/24\", {SECOND:?}"));
    story.reload(A, &both);
    assert_eq!(story.nodes[A].addresses.len(), 1, "not before it was probed");
    let held: Vec<bool> = story.status(A).groups[0].addresses.iter().map(|one| one.held).collect();
    assert_eq!(held, [true, false]);
    story.run(MS * 100);
    assert_eq!(story.nodes[A].addresses, both.groups[0].addresses);
    assert!(story.status(A).groups[0].addresses.iter().all(|one| one.held));
    assert_eq!(story.told(A, Kind::Address, "serving 203.0.113.51, too"), 1);
    // The node that does not serve it knows it at once, and claims it with the rest.
    story.reload(B, &both);
    assert_eq!(story.nodes[B].addresses, both.groups[0].addresses);
    let other = with_addresses(&format!("{SECOND:?}"));
    story.reload(A, &other);
    assert_eq!(story.nodes[A].addresses, other.groups[0].addresses);
    story.run(MS * 1_000);
    story.is_calm();
}

#[test]
fn p1_an_address_that_somebody_has_is_not_added_until_it_is_free() {
    let mut story = Story::settled();
    let both = with_addresses(&format!("\"203.0.113.50/24\", {SECOND:?}"));
    let stranger = Holder::Stranger([2, 0, 0, 0, 0, 9]);
    story.reload(A, &both);
    story.give(A, Event::AddressSeen { group: WEB, holder: stranger });
    story.run(limits::BLOCKED_RETRY / 2);
    assert_eq!(story.nodes[A].addresses.len(), 1);
    assert_eq!(story.told(A, Kind::Address, "not yet serving 203.0.113.51: another machine"), 1);
    story.is_calm();
    story.run(limits::BLOCKED_RETRY);
    assert_eq!(story.nodes[A].addresses.len(), 2);
    story.is_calm();
}

#[test]
fn p1_a_claim_of_an_address_that_the_peers_config_lacks_is_probed() {
    let mut story = Story::settled();
    story.reload(B, &with_addresses(&format!("\"203.0.113.50/24\", {SECOND:?}")));
    story.run(MS * 1_000);
    let wish = Wish::Move { group: WEB, to: None, accept_loss: false };
    let before = story.probes;
    story.give(A, Event::Wished { request: 1, wish });
    story.time_until_held(B, MS * 3_000);
    assert!(story.probes > before, "claimed unprobed");
    assert_eq!(story.both_held, Duration::ZERO);
}

#[test]
fn p2_a_reach_host_that_does_not_answer_moves_nothing_while_the_configs_differ() {
    let mut story = Story::settled();
    let other =
        edited(&[("hosts = [\"203.0.113.1\", \"203.0.113.2\"]", "hosts = [\"203.0.113.77\"]")]);
    story.mute = vec![(A, 0)];
    story.reload(A, &other);
    story.run(MS * 10_000);
    assert_eq!(story.status(A).reach.local, 0);
    story.is_calm();
    story.mute = vec![(A, 0), (B, 0)];
    story.reload(B, &other);
    story.run(MS * 10_000);
    story.is_calm();
}

#[test]
fn p2_another_reach_host_that_answers_makes_nobody_unable() {
    let mut story = Story::settled();
    let other =
        edited(&[("hosts = [\"203.0.113.1\", \"203.0.113.2\"]", "hosts = [\"203.0.113.77\"]")]);
    for node in [A, B] {
        story.mute = vec![(node, 0)];
        story.reload(node, &other);
        assert!(story.nodes[node].core.groups[0].able, "{node}");
        story.mute = Vec::new();
        story.run(MS * 3_000);
        assert_eq!(story.status(node).reach.local, 1);
    }
    let unable = story.recorded.iter().rev().take(200);
    assert!(unable.flat_map(|(.., beat)| &beat.groups).all(|part| part.stance != Stance::Unable));
    story.is_calm();
}
