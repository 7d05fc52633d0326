//! Number 14: how much was acknowledged a moment ago is nothing that a takeover waits for.

use std::fs;
use std::thread;
use std::time::Instant;

use clusterd::config::NodeIndex;

use crate::mirror::{times, www};
use crate::names::sync_much;
use crate::scene::Scene;
use crate::setback::few_in_sync;

const OWNER: NodeIndex = NodeIndex::Lower;

/// How many of the files have which name: the old one, the new one, both, none.
fn names(scene: &Scene, node: NodeIndex, count: u64) -> [u64; 4] {
    let at = |name: String| {
        let text = fs::read_to_string(www(scene, node).join("much").join(name));
        text.is_ok_and(|text| text == "text")
    };
    let mut found = [0; 4];
    for number in 0..count {
        let place = match (at(format!("old{number}")), at(format!("new{number}"))) {
            (true, false) => 0,
            (false, true) => 1,
            (true, true) => 2,
            (false, false) => 3,
        };
        found[place] += 1;
    }
    found
}

/// The owner loses its power while the other node gets what was renamed: each file has one of its names there, as
/// far as the renames had come at some moment, and no more is missing than what was not acknowledged.
/// `CLUSTERD_RENAMES`: how many; the outage is printed.
#[test]
fn a_takeover_while_very_much_is_renamed() {
    let count = times("CLUSTERD_RENAMES", 3000);
    let mut scene = few_in_sync();
    let standby = OWNER.other();
    let much = www(&scene, OWNER).join("much");
    fs::create_dir(&much).unwrap();
    for number in 0..count {
        fs::write(much.join(format!("old{number}")), "text").unwrap();
    }
    sync_much(&scene);
    let rename = |number: u64| {
        fs::rename(much.join(format!("old{number}")), much.join(format!("new{number}"))).unwrap();
    };
    // The first ones are acknowledged.
    (0..10).for_each(rename);
    sync_much(&scene);
    let there = www(&scene, standby).join("much");
    let begun = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| (10..count).for_each(rename));
        scene.wait_until("some of it to be there", || {
            there.join(format!("new{}", count / 3)).exists()
        });
    });
    let renamed = begun.elapsed();
    let mark = Instant::now();
    scene.bed.power_cut(OWNER).unwrap();
    scene.wait_served_by(standby);
    let outage = scene.bed.client.outage_since(mark);
    let at_once = names(&scene, standby, count);
    println!(
        "{count} renamed in {} ms, then the power cut: an outage of {} ms; old, new, both, none: {at_once:?}",
        renamed.as_millis(),
        outage.as_millis(),
    );
    let [old, new, both, none] = at_once;
    assert_eq!((old + new, both, none), (count, 0, 0));
    assert!(new >= 10, "{at_once:?}");
}
