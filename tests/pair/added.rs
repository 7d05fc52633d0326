//! A group is added to the config file on the node that stands by first, as the manual says: until the other node has
//! it, too, the two files differ, and the new name even sorts before the old one. What both have goes on as before.
//! And nodes whose names change places are refused: each would take the other's past for its own.

use std::fs;
use std::net::IpAddr;

use clusterd::config::NodeIndex;
use clusterd_bed::processes::Target;
use nix::sys::signal::Signal;

use crate::mirror::{assert_equal, in_sync, no_conflicts, sync, wait_in_sync, www};
use crate::scene::Scene;

fn end(scene: &Scene, node: NodeIndex) {
    assert_eq!(scene.bed.signal(node, Target::Guard, Signal::SIGTERM).expect("told"), 1);
}

fn ended(scene: &Scene, node: NodeIndex) {
    scene.wait_until("the daemon to end", || {
        let processes = ["clusterd-guard", "clusterd-heart", "clusterd-work"];
        processes.iter().all(|name| scene.pid(node, name).is_none())
    });
}

#[test]
fn p3_a_group_that_one_node_knows_first_takes_nothing_from_the_others() {
    let (mut scene, owner) = in_sync();
    let standby = owner.other();
    end(&scene, standby);
    ended(&scene, standby);
    let IpAddr::V4(web) = scene.bed.address() else { panic!("the bed's first address is IPv4") };
    let [a, b, c, d] = web.octets();
    let file = scene.bed.node(standby).config();
    let text = fs::read_to_string(file).expect("a config");
    let added = format!(
        "\n[group.added]\nprefer = \"serv1\"\naddress = [\"{a}.{b}.{c}.{}/24\"]\n",
        d.wrapping_add(40)
    );
    fs::write(file, text + &added).expect("written");
    scene.bed.start_processes(standby).expect("started");
    wait_in_sync(&scene);
    assert_eq!(scene.status(owner).peer.same_config, Some(false));
    // What is written right before an orderly end travels before the other node serves.
    for number in 0..200 {
        fs::write(www(&scene, owner).join(format!("last-{number}")), number.to_string()).unwrap();
    }
    end(&scene, owner);
    scene.wait_served_by(standby);
    for number in 0..200 {
        let found = fs::read_to_string(www(&scene, standby).join(format!("last-{number}")));
        assert_eq!(found.ok(), Some(number.to_string()), "last-{number}");
    }
    ended(&scene, owner);
    scene.bed.start_processes(owner).expect("started");
    scene.wait_until("both to have the same config", || {
        NodeIndex::BOTH.into_iter().all(|node| {
            scene.bed.status(node).is_some_and(|status| status.peer.same_config == Some(true))
        })
    });
    wait_in_sync(&scene);
    sync(&scene, standby);
    assert_equal(&scene);
    for node in NodeIndex::BOTH {
        no_conflicts(&scene, node);
    }
}

#[test]
fn p3_a_node_whose_name_changes_its_place_is_refused() {
    let (mut scene, owner) = in_sync();
    let standby = owner.other();
    end(&scene, standby);
    ended(&scene, standby);
    // As if its name had sorted first when that was written.
    let state = scene.bed.node(standby).events().with_file_name("state.json");
    let said = fs::read_to_string(&state).expect("its state");
    assert!(said.contains("\"node\": \"Upper\""), "{said}");
    let kept = fs::read(&state).expect("its state");
    fs::write(&state, said.replace("\"node\": \"Upper\"", "\"node\": \"Lower\"")).expect("written");
    let _ = scene.bed.start_processes(standby);
    scene.wait_until("the daemon to say why it does not start", || {
        let log = fs::read_to_string(scene.bed.node(standby).log()).unwrap_or_default();
        log.contains("now sorts second")
    });
    ended(&scene, standby);
    fs::write(&state, kept).expect("written");
    scene.bed.start_processes(standby).expect("started");
    wait_in_sync(&scene);
}
