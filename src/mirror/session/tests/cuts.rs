//! One story, with a fault at each of its messages in turn.

use std::time::Duration;

use super::world::{Fault, Strike, Tree, World, key};

const LONG: Duration = Duration::from_secs(60);

/// A standby with an older tree is brought in line; then a backlog, a barrier, deletions.
fn story(strike: Option<(usize, Strike)>, fault: Option<Fault>) -> World {
    let old: Tree = [(key(0), 1), (key(1), 7), (key(8), 3), (key(9), 4)].into();
    let mut world = World::new(old);
    if let Some((at, strike)) = strike {
        world.strike_at(at, strike);
    }
    for name in 0..5 {
        world.write(name, true);
    }
    world.steps(25);
    if let Some(fault) = fault {
        world.fail_once(fault);
    }
    world.delete(2, true);
    world.write(3, false);
    let first = world.barrier();
    world.steps(25);
    world.write(5, true);
    world.write(0, true);
    let second = world.barrier();
    world.settle(LONG);
    assert!(first < second && world.done == second, "{} of {second}", world.done);
    assert!(world.agree(), "{:?}", world.sender);
    world
}

fn at_each_message(strike: Strike) {
    let mut at = 0;
    // Messages of the untroubled story, and those of the first recovery.
    let all = story(None, None).delivered;
    assert!(all > 50, "{all} messages are no story");
    while at < all {
        story(Some((at, strike)), None);
        at += 1;
    }
}

#[test]
fn an_untroubled_story_hangs_up_nowhere() {
    let world = story(None, None);
    assert_eq!((world.sender.disconnects(), world.receiver.disconnects()), (0, 0));
}

#[test]
fn the_link_is_cut_at_each_message() {
    at_each_message(Strike::Cut);
}

#[test]
fn the_owner_is_restarted_at_each_message() {
    at_each_message(Strike::RestartOwner);
}

#[test]
fn the_standby_is_restarted_at_each_message() {
    at_each_message(Strike::RestartStandby);
}

#[test]
fn each_message_is_dropped() {
    at_each_message(Strike::Drop);
}

#[test]
fn each_message_comes_twice() {
    at_each_message(Strike::Double);
}

#[test]
fn each_message_changes_places() {
    at_each_message(Strike::Swap);
}

#[test]
fn each_thing_fails_once() {
    for fault in Fault::ALL {
        story(None, Some(fault));
        for at in (0..60).step_by(5) {
            story(Some((at, Strike::Cut)), Some(fault));
        }
    }
}
