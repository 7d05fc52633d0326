//! Two real daemons in network namespaces, one test for each fault. Needs root, or a kernel that lets
//! users make namespaces.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod added;
mod blunders;
mod busy;
mod cables;
mod cause;
mod chaos;
mod clients;
mod contract;
mod crash;
mod dumb;
mod fault_matrix;
mod flood;
mod hostile;
mod interfaces;
mod macs;
mod many;
mod meddling;
mod mirror;
mod much;
mod mutual;
mod names;
mod obstacles;
mod operator;
mod orders;
mod reach;
mod reload;
mod replays;
mod rotate;
mod scene;
mod services;
mod setback;
mod stalls;
mod standby;
mod store;
mod unsure;
mod wills;
mod xfs;

use clusterd::config::NodeIndex;
use clusterd_bed::faults::{Fault, try_one};
use clusterd_bed::stalls::Counted;
use clusterd_bed::{Bed, Options, node};

/// Powers a pair on, tries the fault, and wants what was promised. One at a time: each measures.
fn is_as_promised(fault: Fault, change: impl FnOnce(&mut Options)) {
    let _alone = scene::alone();
    let mut options = scene::options();
    change(&mut options);
    let mut bed = Bed::new(options).expect("a bed");
    for node in NodeIndex::BOTH {
        bed.power_on(node).expect("power");
    }
    let seen = try_one(&mut bed, fault, Counted::BeyondStalls, &mut |text| println!("{text}"));
    let logs = NodeIndex::BOTH.map(|node| {
        let log = std::fs::read_to_string(bed.node(node).log()).unwrap_or_default();
        format!("--- log of {}\n{log}", node::name(node))
    });
    let seen = seen.unwrap_or_else(|error| panic!("{error}\n{}", logs.concat()));
    assert!(seen.broken.is_empty(), "{seen:#?}\n{}", logs.concat());
}

macro_rules! faults {
    ($($name:ident: $fault:expr,)*) => {
        $(#[test]
        fn $name() {
            is_as_promised($fault, |_| {});
        })*

        #[test]
        fn every_fault_has_its_test() {
            assert_eq!([$($fault),*], Fault::ALL);
        }
    };
}

faults! {
    p2_crossover_cut_moves_nothing: Fault::CrossoverCut,
    p2_serial_cut_moves_nothing: Fault::SerialCut,
    p2_crossover_and_serial_cut_move_nothing: Fault::BothCut,
    p2_the_owners_lan_cable: Fault::OwnerLanCut,
    p2_a_dead_switch_moves_nothing: Fault::SwitchDead,
    p2_the_owners_power: Fault::OwnerPower,
    p2_the_owners_power_behind_a_switch: Fault::OwnerPowerUnseen,
    p2_the_standby_nodes_power_moves_nothing: Fault::StandbyPower,
    p1_the_owners_heart_killed: Fault::HeartKilled,
    p1_the_owners_heart_frozen: Fault::HeartFrozen,
    p1_all_of_the_owner_frozen: Fault::AllFrozen,
    p1_all_of_the_owner_killed: Fault::AllKilled,
    p2_an_orderly_stop: Fault::OrderlyStop,
    p2_a_planned_move: Fault::PlannedMove,
}

#[test]
fn p2_carriers_that_are_told_late() {
    for fault in [Fault::CrossoverCut, Fault::OwnerLanCut, Fault::OwnerPower] {
        is_as_promised(fault, |options| options.same_ifindex = true);
    }
}

#[test]
fn p1_p2_where_all_is_ipv6() {
    for fault in [
        Fault::BothCut,
        Fault::OwnerLanCut,
        Fault::OwnerPower,
        Fault::OwnerPowerUnseen,
        Fault::HeartKilled,
        Fault::PlannedMove,
    ] {
        is_as_promised(fault, scene::all_ipv6);
    }
}
