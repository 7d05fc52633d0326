//! Seeds, mutations, one seed line by line, and a recorded run.

use std::path::Path;
use std::time::Duration;

use super::faults::{Fault, Kind, Planned};
use super::recording::Recording;
use super::replay::replay;
use super::report::Mode;
use super::rng::Rng;
use super::run::{Options, SECOND_US};
use super::setup::Setup;
use super::slow::{self, Blow, Slowness};
use super::trace::Trace;
use super::world::World;
use crate::config::NodeIndex;
use crate::core::Command;
use crate::core::Sabotage;

fn seed_asked_for() -> Option<u64> {
    std::env::var("CLUSTERD_SIM_SEED").ok()?.parse().ok()
}

/// How many seeds to run: `CLUSTERD_SIM_SEEDS` if set.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let first = seed_asked_for().unwrap_or(0);
    let count = std::env::var("CLUSTERD_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    first..first + count.unwrap_or(usual)
}

#[test]
fn one_seed() {
    let Some(seed) = seed_asked_for() else { return };
    let mode = match std::env::var("CLUSTERD_SIM_MODE").as_deref() {
        Ok("single") => Mode::OneFault,
        Ok("hung") => Mode::Hung,
        Ok("changing") => Mode::Changing,
        Ok("cut") => Mode::Cut,
        Ok("lone") => Mode::Lone,
        Ok("unplugged") => Mode::Unplugged,
        Ok("slow") => Mode::Slow,
        Ok("sequence") => Mode::Sequence(Vec::new()),
        Ok("furnished") => Mode::Furnished(Vec::new()),
        _ => Mode::Mixed(Vec::new()),
    };
    println!("{}", mode.report(seed, None, usize::MAX));
}

#[test]
fn p1_p2_hold_under_mixed_faults() {
    Mode::Mixed(Vec::new()).all_hold(seeds(2_000));
}

#[test]
fn p3_holds_under_mixed_faults() {
    Mode::Furnished(Vec::new()).all_hold(seeds(500));
}

#[test]
fn p3_p6_hold_in_sequences_of_faults() {
    Mode::Sequence(Vec::new()).all_hold(seeds(400));
}

#[test]
fn p6_redundancy_is_true_whatever_else_is_wrong() {
    Mode::Cut.all_hold(seeds(300));
}

#[test]
fn without_asking_whether_the_worker_works_redundancy_is_not_true() {
    needs_in(Sabotage::TrustsSilentWorker, &Mode::Cut);
}

#[test]
fn a_claim_with_trees_that_may_be_old_takes_clients_back_in_time() {
    needs_in(Sabotage::ServesUnsure, &Mode::Sequence(vec![Kind::Power, Kind::Owner]));
}

#[test]
fn p1_p2_hold_while_the_kernels_lock_is_held() {
    Mode::Hung.all_hold(seeds(500));
}

#[test]
fn p1_p2_hold_while_the_config_files_differ() {
    Mode::Changing.all_hold(seeds(400));
}

#[test]
fn without_the_probe_it_fails_while_the_kernels_lock_is_held() {
    needs_in(Sabotage::NoProbe, &Mode::Hung);
}

#[test]
fn p2_holds_after_any_single_fault() {
    Mode::OneFault.all_hold(seeds(600));
}

#[test]
fn one_alone_serves_again() {
    Mode::Lone.all_hold(seeds(60));
}

#[test]
fn p1_an_owner_without_any_cable_lets_go_before_the_peer_claims() {
    Mode::Unplugged.all_hold(seeds(2_000));
}

#[test]
fn p1_holds_on_a_slow_lan() {
    Mode::Slow.all_hold(seeds(300));
}

/// Each heartbeat setting on each LAN, and what looks like a death and is none.
#[test]
fn p1_holds_at_every_heartbeat_setting_on_every_lan() {
    let times = [(10, 20), (10, 30), (20, 60), (50, 150), (100, 300)];
    let blows = [Blow::HeartFrozen, Blow::AllFrozen, Blow::Crossover];
    for (interval_ms, dead_after_ms) in times {
        for late_ms in [0, 2, 6, 12, 20, 50, 100, 200] {
            for (number, blow) in blows.into_iter().enumerate() {
                let mut rng = Rng::new(interval_ms * 1_000 + late_ms * 10 + number as u64);
                let mut setup = Setup::plain(&mut rng);
                setup.interval = Duration::from_millis(interval_ms);
                setup.dead_after = Duration::from_millis(dead_after_ms);
                setup.serial = rng.chance(500);
                let slowness = Slowness { late_us: late_ms * 1_000, in_bursts: rng.chance(300) };
                let run = slow::struck(setup, slowness, false, blow, rng, &Options::default());
                let wrong = run.world.violation;
                assert_eq!(wrong, None, "{interval_ms}/{dead_after_ms}, {slowness:?}, {blow:?}");
            }
        }
    }
}

/// Some seed fails without the rule and holds with it: the rule is needed, and the checkers see it.
fn needs(rule: Sabotage, kinds: &[Kind]) {
    needs_in(rule, &Mode::Mixed(kinds.to_vec()));
}

fn needs_in(rule: Sabotage, mode: &Mode) {
    for round in 0..20 {
        let seeds = round * 50..(round + 1) * 50;
        let failing = mode.failing(seeds, Some(rule), 3);
        if failing.iter().any(|(seed, _)| mode.verdict(*seed, None).is_none()) {
            return;
        }
    }
    panic!("1000 seeds hold without the rule of {rule:?}");
}

#[test]
fn without_the_probe_it_fails() {
    needs(Sabotage::NoProbe, &[Kind::AllFrozen]);
}

#[test]
fn without_the_wait_for_the_lease_it_fails() {
    needs(Sabotage::NoLeaseWait, &[Kind::AllFrozen]);
}

#[test]
fn without_the_stall_rule_it_fails() {
    needs(Sabotage::NoStallRule, &[Kind::AllFrozen, Kind::HeartFrozen, Kind::Paused]);
}

#[test]
fn without_the_two_way_proof_it_fails() {
    needs(Sabotage::NoTwoWayProof, &[Kind::Attack, Kind::Power, Kind::HeartKilled]);
}

#[test]
fn without_clearing_alone_it_fails() {
    needs(Sabotage::AloneNeverCleared, &[Kind::Power]);
}

#[test]
fn without_boot_patience_it_fails() {
    needs(Sabotage::NoBootPatience, &[Kind::Power]);
}

#[test]
fn without_a_persisted_generation_it_fails() {
    needs(Sabotage::NoPersistedGeneration, &[Kind::Power, Kind::HeartKilled, Kind::Disk]);
}

#[test]
fn without_waiting_until_the_trees_are_still_it_fails() {
    let kinds = vec![Kind::Power, Kind::Disk, Kind::Worker];
    needs_in(Sabotage::NoSettling, &Mode::Furnished(kinds));
}

#[test]
fn without_the_rule_of_copies_it_fails() {
    let kinds = vec![Kind::Power, Kind::Furniture, Kind::Cables];
    needs_in(Sabotage::NoCopyRule, &Mode::Furnished(kinds));
}

#[test]
fn without_the_drain_it_fails() {
    needs_in(Sabotage::NoDrain, &Mode::Furnished(vec![Kind::Operator]));
}

#[test]
fn taking_in_an_older_generation_fails() {
    let kinds = vec![Kind::Cuts, Kind::Paused, Kind::AllFrozen, Kind::Power];
    needs_in(Sabotage::StaleIn, &Mode::Furnished(kinds));
}

/// The owner's heart is killed while its kernel takes no request, and nobody can ask the LAN.
fn killed_while_the_kernel_waits(sabotage: Option<Sabotage>) -> Option<String> {
    let mut rng = Rng::new(1);
    let mut setup = Setup::plain(&mut rng);
    (setup.interval, setup.dead_after) = (Duration::from_millis(50), Duration::from_millis(150));
    let mut world = World::new(setup, rng, Trace::default());
    world.sabotage = sabotage;
    NodeIndex::BOTH.into_iter().for_each(|node| world.power_on(node));
    let planned = |at_us, lasts_us, fault| Planned { at_us, lasts_us, fault };
    world.schedule(&[
        planned(5_000_000, SECOND_US, Fault::ArpCut(None)),
        planned(5_199_000, 40_000, Fault::RtnlHeld(NodeIndex::Lower)),
        planned(5_200_000, 0, Fault::HeartKilled(NodeIndex::Lower)),
    ]);
    world.run_until(6 * SECOND_US);
    world.violation
}

#[test]
fn a_last_will_before_the_addresses_are_gone_fails() {
    assert_eq!(killed_while_the_kernel_waits(None), None);
    assert!(killed_while_the_kernel_waits(Some(Sabotage::WillFirst)).is_some());
}

/// A takeover after a power cut, as the survivor lived through it.
fn recorded_takeover(seed: u64) -> Recording {
    let mut rng = Rng::new(seed);
    let setup = Setup::plain(&mut rng);
    let mut world = World::new(setup, rng, Trace::default());
    world.recording = Some(Recording::new(NodeIndex::Upper));
    NodeIndex::BOTH.into_iter().for_each(|node| world.power_on(node));
    let fault = Fault::PowerCut(NodeIndex::Lower);
    world.schedule(&[Planned { at_us: 700_000, lasts_us: SECOND_US, fault }]);
    world.run_until(1_100_000);
    assert_eq!(world.violation, None);
    world.recording.unwrap()
}

#[test]
fn a_replay_gives_the_same_commands() {
    for seed in 0..20 {
        let recording = recorded_takeover(seed);
        let replayed = replay(recording.lines.iter().map(String::as_str)).unwrap();
        assert_eq!(replayed, recording.commands);
    }
}

#[test]
fn a_recording_that_cannot_be_read_is_refused() {
    assert!(replay([]).is_err());
    assert!(replay(["{}"]).is_err());
    let recording = recorded_takeover(0);
    let spoilt = [recording.lines[0].as_str(), "{\"now\":1,\"event\":\"Sneeze\"}"];
    let error = replay(spoilt).unwrap_err();
    assert!(error.to_string().starts_with("line 2 of the recording cannot be read"), "{error}");
}

/// The recorded takeover in `tests/replay`, and the commands that came of it. Heartbeats are left out
/// of the commands: there are too many to read. `UPDATE_GOLDENS=1` writes both again.
#[test]
fn the_recorded_takeover_is_decided_as_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/replay");
    let (recorded, decided) = (folder.join("takeover.jsonl"), folder.join("takeover.commands"));
    let update = std::env::var_os("UPDATE_GOLDENS").is_some();
    if update {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(&recorded, recorded_takeover(1).lines.join("\n") + "\n").unwrap();
    }
    let text = std::fs::read_to_string(&recorded).unwrap();
    let commands: String = replay(text.lines())
        .unwrap()
        .iter()
        .filter(|(_, command)| !matches!(command, Command::Send { .. }))
        .map(|(now, command)| format!("{:>9} {}\n", now.0, serde_json::to_string(command).unwrap()))
        .collect();
    if update {
        std::fs::write(&decided, &commands).unwrap();
    }
    assert_eq!(commands, std::fs::read_to_string(&decided).unwrap());
}
