//! What programs and administrators rely on: the words of `status` and `events`, exit statuses, `move`.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::PeerState;
use clusterd_bed::wiring::Plugs;
use clusterd_bed::{GROUP, node};
use serde_json::{Map, Value};

use crate::scene::Scene;

/// The object's fields, which must be exactly these.
fn object<'a>(value: &'a Value, fields: &[&str]) -> &'a Map<String, Value> {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    let mut wanted = fields.to_vec();
    wanted.sort_unstable();
    let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
    found.sort_unstable();
    assert_eq!(found, wanted, "{value}");
    object
}

fn word(value: &Value, words: &[&str]) {
    let found = value.as_str().unwrap_or_else(|| panic!("{value} is no text"));
    assert!(words.contains(&found), "{found} is none of {words:?}");
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn number_or_null(value: &Value) {
    assert!(value.is_null() || value.is_u64(), "{value}");
}

/// `status --json` as the contract has it, and the few fields more that we have.
fn is_contractual(status: &Value, me: &str, other: &str) {
    let all = object(
        status,
        &[
            "cluster",
            "node",
            "state",
            "version",
            "incarnation",
            "guarded",
            "worst_gap_ms",
            "loop",
            "peer",
            "reach",
            "troubles",
            "groups",
            "key",
        ],
    );
    word(&all["key"], &["settled", "waiting", "switched", "agreed"]);
    assert_eq!((&all["cluster"], &all["node"]), (&Value::from("bed"), &Value::from(me)));
    word(&all["state"], &["joining", "online", "standby", "stalled"]);
    assert!(all["version"].is_string() && all["incarnation"].is_string(), "{status}");
    assert!(all["guarded"].is_boolean(), "{status}");
    number(&all["worst_gap_ms"]);
    let late = object(&all["loop"], &["lateness", "worst_us"]);
    number(&late["worst_us"]);
    let buckets = late["lateness"].as_array().expect("counts");
    for bucket in buckets {
        let bucket = object(bucket, &["below_ms", "count"]);
        number_or_null(&bucket["below_ms"]);
        number(&bucket["count"]);
    }
    assert_eq!(buckets.len(), 8);
    let peer =
        object(&all["peer"], &["name", "state", "ended", "incarnation", "same_config", "paths"]);
    assert_eq!(peer["name"], other);
    assert!(peer["ended"].is_boolean() && all["troubles"].is_array(), "{status}");
    word(&peer["state"], &["alive", "suspect", "dead", "standby", "unknown"]);
    assert!(peer["incarnation"].is_string(), "{status}");
    let paths = peer["paths"].as_array().expect("paths");
    assert_eq!(paths.len(), 3);
    for (path, name) in paths.iter().zip(["crossover", "serial", "lan"]) {
        let fields =
            ["name", "state", "carrier", "heard_ms", "rtt_us", "lost", "refused", "refused_by"];
        let path = object(path, &fields);
        assert_eq!(path["name"], name);
        word(&path["state"], &["up", "one-way", "late", "silent", "off"]);
        assert!(path["carrier"].is_boolean() != (name == "serial"), "{path:?}");
        number_or_null(&path["heard_ms"]);
        number_or_null(&path["rtt_us"]);
        number(&path["lost"]);
        let by = path["refused_by"].as_object().expect("reasons");
        assert_eq!(by.values().map(number).sum::<u64>(), number(&path["refused"]), "{path:?}");
    }
    let reach = object(&all["reach"], &["local", "peer", "of"]);
    assert_eq!(number(&reach["of"]), 2);
    assert!(number(&reach["local"]) <= 2 && number(&reach["peer"]) <= 2, "{status}");
    let groups = all["groups"].as_array().expect("groups");
    assert_eq!(groups.len(), 1);
    for group in groups {
        let fields = [
            "name",
            "state",
            "in_service",
            "owner",
            "redundant",
            "generation",
            "why",
            "addresses",
            "services",
            "mirror",
        ];
        let group = object(group, &fields);
        assert_eq!(group["name"], GROUP);
        assert!(group["in_service"].is_boolean(), "{group:?}");
        word(&group["state"], &["active", "passive", "starting", "stopping", "failed", "blocked"]);
        assert!(group["owner"].is_null() || group["owner"] == me || group["owner"] == other);
        number(&group["generation"]);
        assert!(group["why"].as_str().is_some_and(|why| !why.is_empty()), "{group:?}");
        assert_eq!(group["services"], Value::Array(Vec::new()));
        let mirror = object(
            &group["mirror"],
            &[
                "state",
                "why",
                "direction",
                "commit",
                "pending_files",
                "pending_bytes",
                "rate",
                "conflicts",
                "conflicts_crowded",
                "fuzzy",
                "skipped",
            ],
        );
        assert_eq!(mirror["state"], "off");
        for address in group["addresses"].as_array().expect("addresses") {
            let address = object(address, &["address", "held", "lease_ms"]);
            assert_eq!(address["address"], "203.0.113.50/24");
            let held = address["held"].as_bool().expect("a truth");
            assert!(number(&address["lease_ms"]) <= 2000);
            assert_eq!(held, number(&address["lease_ms"]) > 0, "{address:?}");
            assert_eq!(held, group["state"] == "active", "{group:?}");
        }
    }
}

/// Waits until a node's `status --json` says each of these (as pointers, RFC 6901) with this exit
/// status. What it says meanwhile must keep the contract, too.
fn says(scene: &Scene, node: NodeIndex, exit: i32, wanted: &[(&str, Value)]) {
    let names = [node, node.other()].map(node::name);
    scene.wait("a status", || {
        let (found_exit, out, _) = scene.ask(node, &["status", "--json"]);
        let status: Value = serde_json::from_str(&out).map_err(|error| error.to_string())?;
        is_contractual(&status, names[0], names[1]);
        for (pointer, value) in wanted {
            let found = status.pointer(pointer);
            if found != Some(value) {
                return Err(format!("{} says {pointer} is {found:?}, not {value}", names[0]));
            }
        }
        if found_exit == exit { Ok(()) } else { Err(format!("exit {found_exit}: {out}")) }
    });
    let mut text = String::new();
    let (found_exit, screen, _) = scene.ask(node, &["status"]);
    let _ = write!(text, "{screen}");
    assert!(text.contains(names[0]) && text.contains(names[1]) && text.contains(GROUP), "{text}");
    assert_eq!(found_exit, exit, "{text}");
}

const CROSSOVER: &str = "/peer/paths/0/state";
const SERIAL: &str = "/peer/paths/1/state";
const LAN: &str = "/peer/paths/2/state";
const CROSSOVER_CARRIER: &str = "/peer/paths/0/carrier";
const LAN_CARRIER: &str = "/peer/paths/2/carrier";
const STATE: &str = "/state";
const PEER: &str = "/peer/state";
const HERE: &str = "/groups/0/state";
const OWNER: &str = "/groups/0/owner";
const REDUNDANT: &str = "/groups/0/redundant";

/// A warning is for somebody who must act, and a normal start needs nobody. (A container may refuse the protection that
/// a daemon asks for; what is refused to any program here is no fault of the start.)
#[test]
fn a_normal_start_warns_of_nothing() {
    let protect = Command::new("sh")
        .args(["-c", "echo -1000 > /proc/self/oom_score_adj"])
        .stderr(Stdio::null())
        .status()
        .expect("a shell");
    let (scene, _) = Scene::whole_pair();
    for node in NodeIndex::BOTH {
        let log = std::fs::read_to_string(scene.bed.node(node).log()).expect("a log");
        assert!(log.contains(" INFO  event: "), "{log}");
        let grave: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "))
            .filter(|line| protect.success() || !line.contains("out-of-memory killer was refused"))
            .collect();
        assert!(grave.is_empty(), "{grave:#?}");
    }
}

#[test]
fn contract_status_while_cables_are_cut() {
    let (mut scene, owner) = Scene::whole_pair();
    let other = owner.other();
    let well = |node: NodeIndex, owner: NodeIndex| {
        vec![
            (STATE, Value::from("online")),
            (PEER, "alive".into()),
            (CROSSOVER, "up".into()),
            (SERIAL, "up".into()),
            (LAN, "up".into()),
            (CROSSOVER_CARRIER, true.into()),
            (LAN_CARRIER, true.into()),
            ("/peer/same_config", true.into()),
            ("/guarded", true.into()),
            ("/reach/local", 2.into()),
            ("/reach/peer", 2.into()),
            (HERE, if node == owner { "active" } else { "passive" }.into()),
            (OWNER, node::name(owner).into()),
            (REDUNDANT, true.into()),
        ]
    };
    for node in NodeIndex::BOTH {
        says(&scene, node, 0, &well(node, owner));
    }

    scene.bed.plug(|plugs| plugs.crossover = false).expect("pulled");
    for node in NodeIndex::BOTH {
        let wanted = [
            (CROSSOVER, Value::from("silent")),
            (CROSSOVER_CARRIER, false.into()),
            (SERIAL, "up".into()),
            (LAN, "up".into()),
            (PEER, "alive".into()),
            (OWNER, node::name(owner).into()),
        ];
        says(&scene, node, 0, &wanted);
    }
    scene.bed.plug(|plugs| plugs.crossover = true).expect("plugged");

    scene.bed.plug(|plugs| plugs.serial = false).expect("pulled");
    for node in NodeIndex::BOTH {
        let wanted = [
            (SERIAL, Value::from("silent")),
            (CROSSOVER, "up".into()),
            (PEER, "alive".into()),
            (OWNER, node::name(owner).into()),
        ];
        says(&scene, node, 0, &wanted);
    }
    scene.bed.plug(|plugs| plugs.serial = true).expect("plugged");
    scene.whole();

    scene.bed.plug(|plugs| *Plugs::of(&mut plugs.lan, owner) = false).expect("pulled");
    scene.wait_served_by(other);
    for (node, carrier, here, local, peer) in
        [(owner, false, "passive", 0, 2), (other, true, "active", 2, 0)]
    {
        let wanted = [
            (LAN, Value::from("silent")),
            (LAN_CARRIER, carrier.into()),
            (PEER, "alive".into()),
            (HERE, here.into()),
            (OWNER, node::name(other).into()),
            ("/reach/local", local.into()),
            ("/reach/peer", peer.into()),
            // The peer lives, but could not take it over.
            (REDUNDANT, false.into()),
        ];
        says(&scene, node, 4, &wanted);
    }
    scene.bed.plug(|plugs| *Plugs::of(&mut plugs.lan, owner) = true).expect("plugged");
    scene.whole();
    for node in NodeIndex::BOTH {
        says(&scene, node, 0, &well(node, other));
    }
}

#[test]
fn contract_status_while_nodes_are_dead() {
    let (mut scene, owner) = Scene::whole_pair();
    let other = owner.other();
    let survivor = |owner: NodeIndex| {
        [
            (PEER, Value::from("dead")),
            (CROSSOVER, "silent".into()),
            (SERIAL, "silent".into()),
            (LAN, "silent".into()),
            (HERE, "active".into()),
            (OWNER, node::name(owner).into()),
            (REDUNDANT, false.into()),
        ]
    };
    let no_daemon = |scene: &Scene, node: NodeIndex| {
        for verb in [&["status", "--json"][..], &["status"], &["standby"], &["online"]] {
            let (exit, out, error) = scene.ask(node, verb);
            assert_eq!((exit, out.as_str()), (3, ""), "{verb:?}: {error}");
            assert!(!error.is_empty());
        }
        assert_eq!(scene.ask(node, &["move", GROUP]).0, 3);
    };
    scene.bed.power_cut(other).expect("cut");
    says(&scene, owner, 4, &survivor(owner));
    no_daemon(&scene, other);
    scene.bed.power_on(other).expect("power");
    assert_eq!(scene.whole(), owner);

    scene.bed.power_cut(owner).expect("cut");
    scene.wait_served_by(other);
    says(&scene, other, 4, &survivor(other));
    no_daemon(&scene, owner);
}

#[test]
fn contract_events_are_one_object_a_line() {
    let (mut scene, owner) = Scene::whole_pair();
    scene.bed.power_cut(owner).expect("cut");
    scene.wait_served_by(owner.other());
    scene.wait_event(owner.other(), 0, Kind::Takeover, "serving");
    // Also of a node that is dead: the verb needs no daemon.
    for node in NodeIndex::BOTH {
        let (exit, out, _) = scene.ask(node, &["events", "--json"]);
        assert_eq!(exit, 0);
        assert!(out.lines().count() > 3, "{out}");
        let mut before = String::new();
        for line in out.lines() {
            let event: Value = serde_json::from_str(line).expect("an object");
            let fields = ["time", "node", "kind", "group", "text", "evidence"];
            let event = object(&event, &fields);
            let time = event["time"].as_str().expect("a time").to_owned();
            assert!(time.ends_with('Z') && time >= before, "{before} {time}");
            before = time;
            assert_eq!(event["node"], node::name(node));
            assert!(event["kind"].as_str().is_some_and(|kind| !kind.is_empty()));
            assert!(event["group"].is_null() || event["group"] == GROUP, "{line}");
            assert!(event["text"].as_str().is_some_and(|text| text.len() > 5), "{line}");
            assert!(event["evidence"]["paths"]["crossover"]["state"].is_string(), "{line}");
        }
        let (exit, none, _) = scene.ask(node, &["events", "--json", "--since", "0s"]);
        assert_eq!((exit, none.as_str()), (0, ""));
        let (_, screen, _) = scene.ask(node, &["events"]);
        assert!(screen.lines().count() >= out.lines().count(), "{screen}");
    }
    let takeover = scene.wait_event(owner.other(), 0, Kind::Takeover, "serving");
    assert_eq!(takeover.told.group.as_deref(), Some(GROUP));
}

#[test]
fn contract_notify_gets_every_event_in_order_one_at_a_time() {
    let mut scene = Scene::dark(|_| {});
    let config = scene.bed.node(NodeIndex::Lower).config().to_owned();
    let exec = config.with_file_name("notify");
    let out = |node: NodeIndex| config.with_file_name(format!("notified.{}", node::name(node)));
    let script = format!(
        r#"#!/bin/sh
event=$(cat)
case "$event" in *'"node":"serv1"'*) node=serv1;; *) node=serv2;; esac
cd {:?} || exit 1
mkdir busy.$node || echo TWO AT ONE TIME >>notified.$node
printf '%s\n' "$event" >>notified.$node
sleep 0.02
rmdir busy.$node
"#,
        config.parent().expect("a directory")
    );
    std::fs::write(&exec, script).expect("a script");
    std::fs::set_permissions(&exec, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let mut text = std::fs::read_to_string(&config).expect("a config");
    let _ = write!(text, "\n[notify]\nexec = {:?}\n", exec.display().to_string());
    std::fs::write(&config, text).expect("a config");
    let owner = scene.power_on();
    scene.move_to(owner.other());
    scene.move_to(owner);
    scene.bed.plug(|plugs| plugs.crossover = false).expect("pulled");
    for node in NodeIndex::BOTH {
        scene.wait_event(node, 0, Kind::Path, "crossover is silent");
    }
    scene.bed.plug(|plugs| plugs.crossover = true).expect("plugged");
    scene.whole();
    for node in NodeIndex::BOTH {
        scene.wait("every event to be notified", || {
            let told = std::fs::read_to_string(scene.bed.node(node).events()).unwrap_or_default();
            let heard = std::fs::read_to_string(out(node)).unwrap_or_default();
            if told == heard { Ok(()) } else { Err(format!("told\n{told}heard\n{heard}")) }
        });
        assert!(scene.events(node).len() > 5);
    }
}

#[test]
fn contract_move_returns_when_the_new_owner_serves() {
    let (scene, owner) = Scene::whole_pair();
    let (mut from, address) = (owner, scene.bed.address());
    // Asked on either node, with and without a name.
    for (asked, named) in [(from, true), (from, false), (from, true), (from.other(), false)] {
        assert_eq!(scene.whole(), from);
        let to = from.other();
        let verb = ["move", GROUP, node::name(to)];
        let (exit, said, error) = scene.ask(asked, &verb[..if named { 3 } else { 2 }]);
        assert_eq!(exit, 0, "{said}{error}");
        assert!(said.contains(node::name(to)), "{said}");
        // The watcher hears of it in the time that a thread needs.
        let within = std::time::Duration::from_millis(100);
        let held = scene.bed.wait("the new owner to hold it", within, || {
            let holders = scene.bed.watcher.holders(address);
            if holders == [to] { Ok(()) } else { Err(format!("{holders:?}")) }
        });
        held.expect("the verb came back when it was held");
        from = to;
    }
    // There already.
    let (exit, _, _) = scene.ask(from, &["move", GROUP, node::name(from)]);
    assert_eq!(exit, 0);
    assert_eq!(scene.whole(), from);
}

#[test]
fn contract_move_is_refused_with_a_reason() {
    let (mut scene, owner) = Scene::whole_pair();
    let other = owner.other();
    for node in NodeIndex::BOTH {
        for (verb, word) in [
            (&["move", "mail"][..], "mail"),
            (&["move", GROUP, "serv3"], "serv3"),
            (&["standby", "serv3"], "serv3"),
            (&["online", "serv3"], "serv3"),
        ] {
            let (exit, out, error) = scene.ask(node, verb);
            assert_eq!((exit, out.as_str()), (2, ""), "{verb:?}");
            assert!(error.contains(word) && error.contains("configured"), "{error}");
        }
    }
    let refused = |scene: &Scene, verb: &[&str], word: &str| {
        let (exit, out, error) = scene.ask(owner, verb);
        assert_eq!((exit, out.as_str()), (1, ""), "{verb:?}");
        assert!(error.contains(word), "{verb:?}: {error}");
    };
    scene.tell(owner, &["standby", node::name(other)]);
    refused(&scene, &["move", GROUP, node::name(other)], "standby");
    refused(&scene, &["standby"], "nobody would serve");
    scene.tell(owner, &["online", node::name(other)]);
    scene.bed.power_cut(other).expect("cut");
    scene.wait_peer(owner, PeerState::Dead);
    refused(&scene, &["move", GROUP], "not heard");
    refused(&scene, &["standby"], "nobody would serve");
    refused(&scene, &["standby", node::name(other)], "not heard");
    assert_eq!(scene.bed.owner(), Some(owner));
}

#[test]
fn contract_a_second_daemon_is_refused() {
    let (mut scene, _) = Scene::whole_pair();
    scene.hurts_nobody(&[], |scene| {
        for node in NodeIndex::BOTH {
            let (exit, _, error) = scene.ask(node, &["run"]);
            assert_eq!(exit, 1, "{error}");
            assert!(error.contains("in use by another clusterd"), "{error}");
        }
    });
}

#[test]
fn contract_what_is_not_built_is_refused() {
    let (mut scene, owner) = Scene::whole_pair();
    scene.hurts_nobody(&[], |scene| {
        for verb in [&["verify", GROUP][..], &["drill"], &["init"]] {
            let (exit, _, error) = scene.ask(owner, verb);
            assert_eq!(exit, 2, "{verb:?}: {error}");
            assert!(error.contains("not supported yet"), "{verb:?}: {error}");
        }
        let config = scene.bed.node(owner).config().to_owned();
        let text = std::fs::read_to_string(&config).expect("a config");
        let key = "mirror = [{ path = \"/srv/www\", on_return = \"merge\" }]";
        std::fs::write(&config, format!("{text}{key}\n")).expect("a config");
        for verb in ["check", "run"] {
            let (exit, _, error) = scene.ask(owner, &[verb]);
            assert_eq!(exit, 2, "{verb} {key}: {error}");
            let place = format!("{}:{}:", config.display(), text.lines().count() + 1);
            assert!(error.contains("not supported yet") && error.contains(&place), "{error}");
        }
        std::fs::write(&config, text).expect("a config");
        assert_eq!(scene.ask(owner, &["check"]).0, 0);
    });
}

#[test]
fn contract_different_config_files_are_told() {
    let mut scene = Scene::dark(|_| {});
    let config = scene.bed.node(NodeIndex::Lower).config().to_owned();
    scene.bed.power_on(NodeIndex::Lower).expect("power");
    scene.wait_until("the first daemon", || scene.bed.status(NodeIndex::Lower).is_some());
    let text = std::fs::read_to_string(&config).expect("a config");
    std::fs::write(&config, format!("{text}stable_for = \"31s\"\n")).expect("a config");
    scene.bed.power_on(NodeIndex::Upper).expect("power");
    scene.whole();
    for node in NodeIndex::BOTH {
        scene.wait_event(node, 0, Kind::Config, "different config files");
        assert_eq!(scene.status(node).peer.same_config, Some(false));
        assert!(scene.ask(node, &["status"]).1.contains("CONFIG FILE DIFFERS"));
    }
    std::fs::write(&config, text).expect("a config");
    scene.bed.kill(NodeIndex::Upper).expect("killed");
    scene.bed.start_processes(NodeIndex::Upper).expect("started");
    scene.wait_until("the same config", || {
        let same = |node| scene.bed.status(node).and_then(|status| status.peer.same_config);
        NodeIndex::BOTH.map(same) == [Some(true); 2]
    });
}
