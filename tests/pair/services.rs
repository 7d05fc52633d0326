//! The services of a group, between two real daemons.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use clusterd::config::NodeIndex;
use clusterd::control::event::Kind;
use clusterd::control::status::GroupState;
use clusterd_bed::wiring::Plugs;

use crate::reload::{edit, reload};
use crate::scene::Scene;

/// A service that notes what it is told in its node's directory, and is a process that sleeps.
const SCRIPT: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
echo "$1" >>calls
case "$1" in
start)
    test -e broken && exit 1
    setsid sleep 100000 </dev/null >/dev/null 2>&1 &
    echo $! >pid ;;
stop)
    while test -e held; do sleep 0.02; done
    test -e pid && kill "$(cat pid)"; rm -f pid ;;
status) test -e pid && kill -0 "$(cat pid)" ;;
esac
"#;

fn scene(more: &str) -> Scene {
    let scene = Scene::dark(|options| {
        options.group = format!(
            "[[group.web.service]]\nexec = \"{{srv}}/service\"\nstop_timeout = \"5s\"\n{more}"
        );
    });
    for node in NodeIndex::BOTH {
        let script = scene.bed.srv(node).join("service");
        fs::write(&script, SCRIPT).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    }
    scene
}

fn pid_file(scene: &Scene, node: NodeIndex) -> PathBuf {
    scene.bed.srv(node).join("pid")
}

fn runs(scene: &Scene, node: NodeIndex) -> bool {
    let pid = fs::read_to_string(pid_file(scene, node)).unwrap_or_default();
    !pid.is_empty() && PathBuf::from(format!("/proc/{}", pid.trim())).exists()
}

fn wait_active(scene: &Scene, node: NodeIndex) {
    scene.wait("the group to be in service", || match scene.group(node) {
        group if group.state == GroupState::Active => Ok(()),
        group => Err(format!("{group:?}")),
    });
}

#[test]
fn p2_a_cold_service_follows_its_group() {
    let mut scene = scene("");
    let owner = scene.power_on();
    wait_active(&scene, owner);
    assert!(runs(&scene, owner) && !runs(&scene, owner.other()));
    // In order: here it is stopped before it is started there.
    scene.tell(owner, &["move", "web"]);
    let there = owner.other();
    assert!(runs(&scene, there) && !runs(&scene, owner));
    scene.whole();
    scene.bed.power_cut(there).unwrap();
    wait_active(&scene, owner);
    assert!(runs(&scene, owner));
}

/// The owner's LAN cable is pulled: the other node has the address while the service still stops here, and starts
/// it when it has stopped.
#[test]
fn p2_a_service_that_stops_slowly_keeps_no_address() {
    let mut scene = scene("");
    let owner = scene.power_on();
    wait_active(&scene, owner);
    let held = scene.bed.srv(owner).join("held");
    fs::write(&held, "").unwrap();
    scene.bed.plug(|plugs| *Plugs::of(&mut plugs.lan, owner) = false).unwrap();
    let there = owner.other();
    scene.wait_served_by(there);
    assert!(runs(&scene, owner) && !runs(&scene, there));
    fs::remove_file(&held).unwrap();
    scene.wait_until("it to run there", || runs(&scene, there));
    assert!(!runs(&scene, owner));
    wait_active(&scene, there);
}

#[test]
fn a_warm_service_runs_on_both_nodes() {
    let mut scene = scene("warm = true");
    let owner = scene.power_on();
    wait_active(&scene, owner);
    scene.wait_until("both to run", || NodeIndex::BOTH.iter().all(|&node| runs(&scene, node)));
    let before = fs::read_to_string(pid_file(&scene, owner.other())).unwrap();
    scene.tell(owner, &["move", "web"]);
    assert_eq!(fs::read_to_string(pid_file(&scene, owner.other())).unwrap(), before, "restarted");
}

#[test]
fn a_service_that_dies_is_restarted_in_place() {
    let mut scene = scene("check = { exec = \"/bin/true\", every = \"200ms\" }");
    let owner = scene.power_on();
    wait_active(&scene, owner);
    let before = fs::read_to_string(pid_file(&scene, owner)).unwrap();
    let pid = nix::unistd::Pid::from_raw(before.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    scene.wait_until("another process", || {
        let now = fs::read_to_string(pid_file(&scene, owner)).unwrap_or_default();
        now != before && runs(&scene, owner)
    });
    wait_active(&scene, owner);
    scene.wait_event(owner, 0, Kind::Service, "service");
}

#[test]
fn p2_a_service_that_cannot_run_here_moves() {
    let mut scene = scene("restarts = 1\ncheck = { exec = \"/bin/true\", every = \"200ms\" }");
    let owner = scene.power_on();
    wait_active(&scene, owner);
    fs::write(scene.bed.srv(owner).join("broken"), "").unwrap();
    let before = fs::read_to_string(pid_file(&scene, owner)).unwrap();
    let pid = nix::unistd::Pid::from_raw(before.trim().parse().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    scene.wait_served_by(owner.other());
    wait_active(&scene, owner.other());
    scene.wait_event(owner, 0, Kind::Release, "a service failed on this node");
}

#[test]
fn a_killed_worker_leaves_the_services_alone() {
    let mut scene = scene("");
    let owner = scene.power_on();
    wait_active(&scene, owner);
    let before = fs::read_to_string(pid_file(&scene, owner)).unwrap();
    let worker = scene.pid(owner, "clusterd-work");
    let target = clusterd_bed::processes::Target::Worker;
    scene.bed.signal(owner, target, nix::sys::signal::Signal::SIGKILL).unwrap();
    scene.wait_until("another worker", || {
        scene.pid(owner, "clusterd-work").is_some_and(|pid| Some(pid) != worker)
    });
    wait_active(&scene, owner);
    assert_eq!(fs::read_to_string(pid_file(&scene, owner)).unwrap(), before, "restarted");
    assert!(runs(&scene, owner));
}

#[test]
fn p2_a_reload_changes_how_a_service_is_checked_and_not_the_service() {
    let mut scene = scene("");
    let owner = scene.power_on();
    wait_active(&scene, owner);
    let pid = fs::read_to_string(pid_file(&scene, owner)).unwrap();
    let check = r#"check = { exec = "/bin/true", every = "100ms" }"#;
    let timeout = "stop_timeout = \"5s\"\n";
    edit(&scene, &[(timeout, &format!("{timeout}{check}\nwarm = true\n"))]);
    let workers = NodeIndex::BOTH.map(|node| scene.pid(node, "clusterd-work"));
    for node in NodeIndex::BOTH {
        reload(&scene, node, "reloaded: group.web.service changed");
        scene.wait_until("another worker", || {
            let new = scene.pid(node, "clusterd-work");
            new.is_some() && new != workers[node as usize]
        });
    }
    // What is new is in effect: it is checked, and runs on both nodes.
    scene.wait_until("the check to pass", || {
        scene.group(owner).services.iter().any(|service| service.check == "ok")
    });
    scene.wait_until("it to run there, too", || runs(&scene, owner.other()));
    assert_eq!(fs::read_to_string(pid_file(&scene, owner)).unwrap(), pid, "it was restarted");
    assert_eq!(scene.bed.owner(), Some(owner));
}
