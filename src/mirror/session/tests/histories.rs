//! Random histories: whatever happens, both trees are the same in the end, what a barrier promised
//! stays, and the standby's tree is a whole one at every step (checked in `world`).

use std::time::Duration;

use proptest::prelude::*;

use super::world::{Fault, Strike, Tree, World, key};

#[derive(Clone, Debug)]
enum Act {
    Write(u8, bool),
    Delete(u8, bool),
    Barrier,
    Steps(usize),
    Settle,
    Cut,
    RestartOwner,
    RestartStandby,
    Fail(Fault),
    Strike(usize, Strike),
}

fn act() -> impl Strategy<Value = Act> {
    // No single message is lost: the link counts its frames. One that was a page of a listing would be
    // missed by nobody.
    let strike = prop_oneof![Just(Strike::Double), Just(Strike::Swap), Just(Strike::Cut),];
    prop_oneof![
        6 => (0u8..10, any::<bool>()).prop_map(|(name, seen)| Act::Write(name, seen)),
        3 => (0u8..10, any::<bool>()).prop_map(|(name, seen)| Act::Delete(name, seen)),
        1 => Just(Act::Barrier),
        8 => (1usize..12).prop_map(Act::Steps),
        1 => Just(Act::Settle),
        1 => Just(Act::Cut),
        1 => Just(Act::RestartOwner),
        1 => Just(Act::RestartStandby),
        3 => (0..Fault::ALL.len()).prop_map(|at| Act::Fail(Fault::ALL[at])),
        1 => (0usize..10, strike).prop_map(|(in_so_many, strike)| Act::Strike(in_so_many, strike)),
    ]
}

fn tree() -> impl Strategy<Value = Tree> {
    let names = proptest::collection::vec((0u8..10, 1u64..900), 0..8);
    names.prop_map(|names| names.into_iter().map(|(name, write)| (key(name), write)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn both_agree_in_the_end(old in tree(), acts in proptest::collection::vec(act(), 1..60)) {
        let mut world = World::new(old);
        for act in acts {
            match act {
                Act::Write(name, seen) => world.write(name, seen),
                Act::Delete(name, seen) => world.delete(name, seen),
                Act::Barrier => drop(world.barrier()),
                Act::Steps(count) => world.steps(count),
                Act::Settle => world.settle(Duration::from_secs(1)),
                Act::Cut => world.cut(),
                Act::RestartOwner => world.restart_owner(),
                Act::RestartStandby => world.restart_standby(),
                Act::Fail(fault) => world.fail_once(fault),
                Act::Strike(ahead, strike) => world.strike_at(world.delivered + ahead, strike),
            }
        }
        // Whatever the watch missed is found by the last barrier's walk.
        let last = world.barrier();
        world.settle(Duration::from_secs(60));
        prop_assert_eq!(world.done, last);
        prop_assert!(world.agree(), "{:?}", world.standby_tree());
    }
}
