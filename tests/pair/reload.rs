//! A pair whose config file is edited while a client asks.

use std::net::IpAddr;
use std::time::Instant;

use clusterd::config::{NodeIndex, ServiceAddress};
use clusterd::control::event::Kind;
use clusterd_bed::limits;
use clusterd_bed::links::Links;
use clusterd_bed::processes::Target;
use clusterd_bed::watcher::{TwoOwners, dump};
use nix::sys::signal::Signal;

use crate::scene::Scene;

/// Writes another config file; both nodes read the same.
pub fn edit(scene: &Scene, edits: &[(&str, &str)]) {
    let file = scene.bed.node(NodeIndex::Lower).config();
    let mut text = std::fs::read_to_string(file).expect("a config");
    for (from, to) in edits {
        assert!(text.contains(from), "{from} in {text}");
        text = text.replacen(from, to, 1);
    }
    std::fs::write(file, text).expect("written");
}

/// Sends SIGHUP and waits until the node has told what came of it.
pub fn reload(scene: &Scene, node: NodeIndex, told: &str) {
    let events = scene.events(node).len();
    assert_eq!(scene.bed.signal(node, Target::Guard, Signal::SIGHUP).expect("told"), 1);
    scene.wait_event(node, events, Kind::Config, told);
}

fn held(scene: &Scene, node: NodeIndex, ip: IpAddr) -> bool {
    let seat = scene.bed.wiring().seat(node);
    !dump(&seat.namespace, &[ip]).expect("a dump").is_empty()
}

fn same_config(scene: &Scene) {
    scene.wait_until("both to have the same config", || {
        NodeIndex::BOTH.into_iter().all(|node| {
            scene.bed.status(node).is_some_and(|status| status.peer.same_config == Some(true))
        })
    });
}

/// Since `mark` the group stayed where it is, and the client felt nothing.
fn nothing_happened(scene: &Scene, owner: NodeIndex, mark: Instant) {
    assert_eq!(scene.whole(), owner, "the group moved");
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    assert_eq!(scene.bed.watcher.missed(), 0);
    let outage = scene.bed.outage_since(mark);
    assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
}

#[test]
fn p2_a_reload_takes_in_all_or_nothing_and_moves_nothing() {
    let (scene, owner) = Scene::whole_pair();
    let file = scene.bed.node(owner).config().to_owned();
    let good = std::fs::read_to_string(&file).expect("a config");
    let pids = NodeIndex::BOTH.map(|node| scene.pids(node));
    let mark = Instant::now();
    let of = |node: NodeIndex| scene.status(node).reach.of;
    let hosts = of(owner);
    for node in NodeIndex::BOTH {
        edit(&scene, &[("[reach]\nhosts", "[reach]\nhoists")]);
        reload(&scene, node, "nothing was changed");
        let told = scene.events(node).pop().expect("an event").told.text;
        assert!(told.contains("hoists") && told.contains("clusterd.toml:"), "{told}");
        std::fs::write(&file, &good).expect("written");
        // A good change beside one that cannot be made is not made either.
        edit(
            &scene,
            &[("prefer = \"serv1\"", "prefer = \"serv2\""), ("[reach]\nhosts", "[reach]\n#")],
        );
        reload(&scene, node, "group.web.prefer; restart clusterd on this node, standby first");
        assert_eq!(of(node), hosts);
        std::fs::write(&file, &good).expect("written");
        reload(&scene, node, "nothing has changed");
    }
    nothing_happened(&scene, owner, mark);
    let line = good.lines().find(|line| line.starts_with("hosts = ")).expect("reach hosts");
    let first = line.split('"').nth(1).expect("a host");
    let one_host = format!("hosts = [{first:?}]");
    edit(&scene, &[(line, &one_host), ("[heartbeat]\n", "[heartbeat]\ninterval = \"25ms\"\n")]);
    for node in NodeIndex::BOTH {
        reload(
            &scene,
            node,
            "reloaded: heartbeat.interval, heartbeat.dead_after, reach.hosts changed",
        );
        assert_eq!(of(node), 1);
        scene.wait_until("its reach host to answer", || scene.status(node).reach.local == 1);
    }
    same_config(&scene);
    nothing_happened(&scene, owner, mark);
    assert_eq!(NodeIndex::BOTH.map(|node| scene.pids(node)), pids, "no process began anew");
    // The worker starts again when it must, and nothing else does.
    edit(&scene, &[("[reach]\n", "[notify]\nexec = \"/bin/true\"\n\n[reach]\n")]);
    for node in NodeIndex::BOTH {
        let [heart, worker] = ["clusterd-heart", "clusterd-work"].map(|comm| scene.pid(node, comm));
        reload(&scene, node, "reloaded: notify.exec changed");
        scene.wait_until("another worker", || {
            scene.pid(node, "clusterd-work").is_some_and(|new| Some(new) != worker)
        });
        assert_eq!(scene.pid(node, "clusterd-heart"), heart);
    }
    same_config(&scene);
    nothing_happened(&scene, owner, mark);
    // A new heart and a new worker begin with the config in effect, whatever the file says now.
    std::fs::write(&file, &good).expect("written");
    let other = owner.other();
    for (target, comm) in [(Target::Worker, "clusterd-work"), (Target::Heart, "clusterd-heart")] {
        let before = scene.pid(other, comm);
        assert_eq!(scene.bed.signal(other, target, Signal::SIGKILL).expect("killed"), 1);
        scene.wait_until("another one", || {
            scene.pid(other, comm).is_some_and(|new| Some(new) != before)
        });
        assert_eq!(scene.whole(), owner);
    }
    assert_eq!(of(other), 1);
    same_config(&scene);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}

#[test]
fn p1_addresses_come_and_go_while_a_client_asks() {
    let ip: IpAddr = "203.0.113.51".parse().expect("an address");
    let mut scene =
        Scene::dark(|options| options.addresses.push(ServiceAddress { ip, prefix: 24 }));
    let owner = scene.power_on();
    let addresses = ["203.0.113.50".parse().expect("an address"), ip]
        .map(|ip| ServiceAddress { ip, prefix: 24 });
    let (with, without) = ("\"203.0.113.50/24\", \"203.0.113.51/24\"", "\"203.0.113.50/24\"");
    let mark = Instant::now();
    for first in NodeIndex::BOTH {
        edit(&scene, &[(with, without)]);
        for node in [first, first.other()] {
            reload(&scene, node, "reloaded: group.web.address changed");
        }
        scene.wait_until("the address to be gone", || !held(&scene, owner, ip));
        scene.bed.serves(&addresses[..1]);
        assert_eq!(scene.group(owner).addresses.len(), 1);
        same_config(&scene);
        nothing_happened(&scene, owner, mark);
        edit(&scene, &[(without, with)]);
        for node in [first, first.other()] {
            reload(&scene, node, "reloaded: group.web.address changed");
        }
        scene.wait_until("the address to be there", || {
            held(&scene, owner, ip) && !held(&scene, owner.other(), ip)
        });
        scene.bed.serves(&addresses);
        scene
            .wait_until("it to say so", || scene.group(owner).addresses.iter().all(|one| one.held));
        same_config(&scene);
        nothing_happened(&scene, owner, mark);
    }
    // Another machine has it: it is not added, and what is served goes on.
    edit(&scene, &[(with, without)]);
    reload(&scene, owner, "reloaded");
    scene.wait_until("the address to be gone", || !held(&scene, owner, ip));
    let client = &scene.bed.wiring().client;
    let index = client.run(|| nix::net::if_::if_nametoindex("eth0")).expect("runs").expect("eth0");
    let links = Links::open(client).expect("links");
    links.add_address(index, ip, 24).expect("added");
    edit(&scene, &[(without, with)]);
    let events = scene.events(owner).len();
    reload(&scene, owner, "reloaded");
    scene.wait_event(owner, events, Kind::Address, "not yet serving 203.0.113.51: another machine");
    assert!(!held(&scene, owner, ip));
    links.delete_address(index, ip, 24).expect("deleted");
    scene.wait_event(owner, events, Kind::Address, "serving 203.0.113.51, too");
    scene.wait_until("the address to be there", || held(&scene, owner, ip));
    scene.bed.serves(&addresses);
    nothing_happened(&scene, owner, mark);
    // The guard knows what there is now.
    reload(&scene, owner.other(), "");
    let mark = Instant::now();
    assert_eq!(scene.bed.signal(owner, Target::Heart, Signal::SIGKILL).expect("killed"), 1);
    scene.whole();
    scene.wait_until("one owner of it", || {
        held(&scene, owner, ip) != held(&scene, owner.other(), ip)
    });
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    scene.bed.cross_check().expect("a watcher that sees");
}

#[test]
fn p2_a_reload_is_heard_where_only_serial_is_left() {
    let (mut scene, owner) = Scene::whole_pair();
    let events = NodeIndex::BOTH.map(|node| scene.events(node).len());
    let mark = Instant::now();
    scene.bed.plug(|plugs| (plugs.crossover, plugs.switch) = (false, false)).expect("unplugged");
    for node in NodeIndex::BOTH {
        scene.wait_event(node, events[node as usize], Kind::Path, "lan is silent");
    }
    edit(&scene, &[("[heartbeat]\n", "[heartbeat]\ninterval = \"40ms\"\n")]);
    for node in [owner, owner.other()] {
        reload(&scene, node, "reloaded: heartbeat.interval, heartbeat.dead_after changed");
        scene.wait_event(node.other(), events[node.other() as usize], Kind::Config, "differ");
    }
    same_config(&scene);
    for node in NodeIndex::BOTH {
        let news = scene.events(node).into_iter().skip(events[node as usize]);
        let dead = news.filter(|event| event.told.kind == Kind::PeerDead).count();
        assert_eq!(dead, 0, "a death where there was none");
    }
    scene.bed.plug(|plugs| (plugs.crossover, plugs.switch) = (true, true)).expect("plugged");
    assert_eq!(scene.whole(), owner);
    assert_eq!(scene.bed.watcher.moves_since(mark), 0);
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}

#[test]
fn p1_addresses_come_and_go_beside_a_mac_on_a_third_interface() {
    let ip: IpAddr = "203.0.113.51".parse().expect("an address");
    let mut scene = Scene::dark(|options| {
        options.addresses.push(ServiceAddress { ip, prefix: 24 });
        options.redundant = true;
        options.group = "nic = \"redundant\"\nmac = \"02:00:5e:00:00:32\"".to_owned();
    });
    let owner = scene.power_on();
    let addresses = ["203.0.113.50".parse().expect("an address"), ip]
        .map(|ip| ServiceAddress { ip, prefix: 24 });
    let (with, without) = ("\"203.0.113.50/24\", \"203.0.113.51/24\"", "\"203.0.113.50/24\"");
    let mark = Instant::now();
    for (from, to) in [(with, without), (without, with)] {
        edit(&scene, &[(from, to)]);
        for node in NodeIndex::BOTH {
            reload(&scene, node, "reloaded: group.web.address changed");
        }
        scene.wait_until("the address to come or go", || {
            held(&scene, owner, ip) == (to == with) && !held(&scene, owner.other(), ip)
        });
        scene.bed.serves(if to == with { &addresses } else { &addresses[..1] });
        same_config(&scene);
        nothing_happened(&scene, owner, mark);
    }
    edit(&scene, &[("mac = \"02:00:5e:00:00:32\"", "mac = \"02:00:5e:00:00:33\"")]);
    reload(&scene, owner, "group.web.mac; restart clusterd on this node, standby first");
    nothing_happened(&scene, owner, mark);
    // The guard knows what there is now, and says the last will.
    let mark = Instant::now();
    assert_eq!(scene.bed.signal(owner, Target::Heart, Signal::SIGKILL).expect("killed"), 1);
    scene.wait_until("one owner of it", || {
        held(&scene, owner, ip) != held(&scene, owner.other(), ip)
    });
    scene.whole();
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
}
