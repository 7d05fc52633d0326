//! A run with exactly one fault on a pair that is at peace (promise P2): the group is served again in
//! time, or never was interrupted.

use super::faults::{self, Fault, Kind, Planned};
use super::rng::Rng;
use super::run::{Options, Run, SECOND_US, unrest};
use super::setup::Setup;
use super::world::{Happening, World};
use crate::beat::Path;
use crate::config::{GroupIndex, NodeIndex};

/// What must come of it.
#[derive(Clone, Copy, Debug)]
enum Must {
    /// Served again after at most so many µs, and then to the end.
    ServeWithin(u64),
    /// Nothing moves and nothing is interrupted.
    NothingHappens,
    /// Nothing moves (service itself may be interrupted by the fault).
    StayPut,
    /// Moves once, and is interrupted for at most so many µs.
    MoveWithin(u64),
}

/// The faults, by number.
const CASES: u64 = 36;
/// From here on the group has a tree and a service.
const FURNISHED: u64 = 29;

/// What may last while a pair says that it is redundant.
const LASTING: [Kind; 15] = [
    Kind::Cuts,
    Kind::Loss,
    Kind::Mess,
    Kind::Cables,
    Kind::Hosts,
    Kind::HeartKilled,
    Kind::AllFrozen,
    Kind::Guard,
    Kind::Power,
    Kind::Disk,
    Kind::Kernel,
    Kind::Operator,
    Kind::Worker,
    Kind::Worker,
    Kind::Furniture,
];

const MS: u64 = 1_000;

/// The group of these runs.
const GROUP: GroupIndex = GroupIndex(0);

fn case(number: u64, owner: NodeIndex, reach_hosts: u8, rng: &mut Rng) -> (Fault, u64, Must) {
    let standby = owner.other();
    let long = 10 * SECOND_US;
    let forever = 1000 * SECOND_US;
    let quick = Must::ServeWithin(400 * MS);
    match number {
        0 | 1 => (Fault::PowerCut(owner), forever, quick),
        2 | 3 => (Fault::LanCable(owner), forever, quick),
        4 => (Fault::HeartKilled(owner), 0, Must::ServeWithin(900 * MS)),
        5 => {
            let lasts = rng.between(400, 3_000) * MS;
            (Fault::HeartFrozen(owner), lasts, Must::ServeWithin(900 * MS))
        }
        6 => (Fault::AllFrozen(owner), long, Must::ServeWithin(4 * SECOND_US)),
        7 => (Fault::MachinePaused(owner), long, quick),
        8 => (Fault::GuardKilled(owner), 0, quick),
        9 => (Fault::Restart(owner), SECOND_US, quick),
        10 => (Fault::CrossoverCable, long, Must::NothingHappens),
        11 => (Fault::SerialCable, long, Must::NothingHappens),
        12 => (Fault::PathCut(Path::Lan, None), long, Must::NothingHappens),
        13 => (Fault::PathCut(Path::Crossover, Some(owner)), long, Must::NothingHappens),
        14 => (Fault::PowerCut(standby), rng.between(100, 9_000) * MS, Must::NothingHappens),
        15 => (Fault::HeartKilled(standby), 0, Must::NothingHappens),
        16 => (Fault::AllFrozen(standby), rng.between(100, 9_000) * MS, Must::NothingHappens),
        17 => (Fault::MachinePaused(standby), rng.between(100, 9_000) * MS, Must::NothingHappens),
        18 => (Fault::LanCable(standby), long, Must::NothingHappens),
        19 => (Fault::Switch, long, Must::StayPut),
        20 if reach_hosts > 0 => (Fault::ReachHost(0), long, Must::NothingHappens),
        20 | 21 => (Fault::DiskStuck(owner), long, Must::NothingHappens),
        22 => (Fault::PathLoss(Path::Lan, None, 300), long, Must::NothingHappens),
        23 => (Fault::HeartFrozen(owner), rng.between(10, 60) * MS, Must::NothingHappens),
        24 => (Fault::GuardFrozen(owner), long, Must::NothingHappens),
        25 => (Fault::ForeignDelete(GROUP), 0, Must::ServeWithin(100 * MS)),
        26 if reach_hosts > 0 => (Fault::ReachHostOf(0, owner), long, Must::MoveWithin(400 * MS)),
        27 if reach_hosts > 0 => (Fault::ReachHostOf(0, standby), long, Must::NothingHappens),
        26..=28 => {
            // A difference that does not last.
            let lasts = rng.between(10, 2_900) * MS;
            let host = reach_hosts.saturating_sub(1);
            (Fault::ReachHostOf(host, owner), lasts, Must::NothingHappens)
        }
        29 => (Fault::WorkerKilled(owner), 0, Must::NothingHappens),
        30 => (Fault::WorkerKilled(standby), 0, Must::NothingHappens),
        31 => (Fault::WorkerHung(owner), long, Must::NothingHappens),
        32 => (Fault::TreesFull(standby), long, Must::NothingHappens),
        33 => (Fault::CrossoverCable, long, Must::NothingHappens),
        // The services start in two seconds at most, and what was acknowledged is applied before.
        34 => (Fault::PowerCut(owner), forever, Must::ServeWithin(3 * SECOND_US)),
        _ => {
            let died = Fault::ServiceFails(Some(owner), GROUP);
            (died, forever, Must::ServeWithin(8 * SECOND_US))
        }
    }
}

/// A pair at peace for a while, or a violation.
fn at_peace(seed: u64, furnished: bool, options: &Options) -> World {
    let mut rng = Rng::new(seed);
    let mut setup = Setup::plain(&mut rng);
    for group in setup.groups.iter_mut().filter(|_| furnished) {
        group.mirror = true;
        group.service = Some(rng.chance(300));
    }
    let mut world = World::new(setup, rng, options.trace.clone());
    world.sabotage = options.sabotage;
    NodeIndex::BOTH.into_iter().for_each(|node| world.power_on(node));
    while let Some(why) = unrest(&world) {
        if world.now_us > 30 * SECOND_US {
            world.wrong(format!("no peace from the start: {why}"));
        }
        if world.violation.is_some() {
            return world;
        }
        world.run_until(world.now_us + SECOND_US / 10);
    }
    let rest_us = world.rng.between(2 * SECOND_US, 3 * SECOND_US);
    world.run_until(world.now_us + rest_us);
    if world.rng.chance(500) {
        world.attacker.every_us = Some(5 * MS);
        world.after(0, Happening::Replay);
    }
    world.checkers.service.forget(world.now_us);
    world
}

fn apply_fault(world: &mut World, fault: Fault, lasts_us: u64) -> Planned {
    let planned = Planned { at_us: world.now_us, lasts_us, fault };
    world.schedule(&[planned]);
    planned
}

/// One fault.
pub fn one_fault(seed: u64, options: &Options) -> Run {
    let mut world = at_peace(seed, seed % CASES >= FURNISHED, options);
    let mut run_plan = Vec::new();
    if let Some(owner) = world.checkers.service.seen(world.now_us, GROUP).by
        && world.violation.is_none()
    {
        let (fault, lasts_us, must) =
            case(seed % CASES, owner, world.setup.reach_hosts, &mut world.rng);
        run_plan.push(apply_fault(&mut world, fault, lasts_us));
        let end_us = world.now_us + 12 * SECOND_US;
        world.run_until(end_us);
        let seen = world.checkers.service.seen(world.now_us, GROUP);
        let wrong = match must {
            Must::ServeWithin(limit_us) => seen.longest_gap_us > limit_us || seen.by.is_none(),
            Must::NothingHappens => seen.longest_gap_us > 0 || seen.moves > 0,
            Must::MoveWithin(limit_us) => {
                seen.longest_gap_us > limit_us || seen.moves != 1 || seen.by != Some(owner.other())
            }
            Must::StayPut => {
                seen.moves > 0
                    || seen.last != Some(owner)
                    || !world.nodes[owner].kernel.holds(GROUP)
                    || seen.by != Some(owner)
            }
        };
        if wrong {
            world.wrong(format!("P2: {fault:?} must {must:?}, seen is {seen:?}"));
        }
    }
    Run { world, plan: run_plan }
}

/// Something lasts, or has just been; whatever both nodes then say of the pair's redundancy must be true when the
/// owner loses its power.
pub fn cut(seed: u64, options: &Options) -> Run {
    let mut world = at_peace(seed, !seed.is_multiple_of(4), options);
    let mut plan = Vec::new();
    for _ in 0..world.rng.pick(&[1, 1, 2]) {
        let kind = world.rng.pick(&LASTING);
        let (fault, lasts_us) = faults::draw(kind, &world.setup, &mut world.rng);
        let lasts_us = if world.rng.chance(700) { 1000 * SECOND_US } else { lasts_us };
        plan.push(apply_fault(&mut world, fault, lasts_us));
        let rest_us = world.rng.between(SECOND_US / 10, 2 * SECOND_US);
        world.run_until(world.now_us + rest_us);
    }
    let rest_us = world.rng.between(4 * SECOND_US, 12 * SECOND_US);
    world.run_until(world.now_us + rest_us);
    world.ask_redundancy();
    let later_us = world.rng.below(SECOND_US);
    world.run_until(world.now_us + later_us);
    if world.violation.is_none() {
        plan.push(apply_fault(&mut world, Fault::OwnerCut(GROUP), 1000 * SECOND_US));
        world.run_until(world.now_us + 6 * SECOND_US);
    }
    Run { world, plan }
}

/// One who is alone and starts again: by the rule of `alone` if its disk says so, else by patience.
pub fn lone(seed: u64, options: &Options) -> Run {
    let mut world = at_peace(seed, false, options);
    let mut plan = Vec::new();
    let Some(owner) = world.checkers.service.seen(world.now_us, GROUP).by else {
        return Run { world, plan };
    };
    let patience_us = world.setup.boot_patience.as_micros() as u64;
    let forever = 1000 * SECOND_US;
    let soon_us = 150 * MS + SECOND_US;
    let survivor = world.rng.pick(&NodeIndex::BOTH);
    let (earliest_us, latest_us) = match seed % 3 {
        0 | 1 => {
            plan.push(apply_fault(&mut world, Fault::PowerCut(owner.other()), forever));
            world.run_until(world.now_us + 3 * SECOND_US);
            world.checkers.service.forget(world.now_us);
            if seed.is_multiple_of(3) {
                plan.push(apply_fault(&mut world, Fault::HeartKilled(owner), 0));
                (0, soon_us + 200 * MS)
            } else {
                plan.push(apply_fault(&mut world, Fault::PowerCut(owner), SECOND_US));
                (SECOND_US, SECOND_US + 300 * MS + soon_us)
            }
        }
        _ => {
            plan.push(apply_fault(&mut world, Fault::PowerCut(survivor.other()), forever));
            plan.push(apply_fault(&mut world, Fault::PowerCut(survivor), SECOND_US));
            let back_us = SECOND_US;
            (back_us + patience_us, back_us + 300 * MS + patience_us + 2 * SECOND_US)
        }
    };
    let end_us = world.now_us + 15 * SECOND_US;
    world.run_until(end_us);
    let seen = world.checkers.service.seen(world.now_us, GROUP);
    if seen.longest_gap_us < earliest_us || seen.longest_gap_us > latest_us || seen.by.is_none() {
        world.wrong(format!(
            "one alone must serve again after {earliest_us} to {latest_us} µs, seen is {seen:?}"
        ));
    }
    Run { world, plan }
}

/// All cables of a node are pulled: at one stroke, or one after the other as fast as a hand can; at any time, also
/// when the pair has only just begun. If it is the owner, it lets go before the other claims.
pub fn unplugged(seed: u64, options: &Options) -> Run {
    let mut rng = Rng::new(seed);
    let mut setup = Setup::any(&mut rng);
    setup.reach_hosts = setup.reach_hosts.max(1);
    let mut world = World::new(setup, rng, options.trace.clone());
    world.sabotage = options.sabotage;
    world.checkers.one_owner.is_strict = true;
    world.kernels_are_prompt = true;
    NodeIndex::BOTH.into_iter().for_each(|node| world.power_on(node));
    let latest_us = world.rng.pick(&[SECOND_US, 5 * SECOND_US]);
    let mut at_us = world.rng.between(SECOND_US / 10, latest_us);
    // Some ms apart it looks like the end of a machine, and nobody is quick enough to tell.
    let (least_us, most_us) = world.rng.pick(&[(0, 100), (0, 100), (20 * MS, 200 * MS)]);
    let node = world.rng.pick(&NodeIndex::BOTH);
    let mut cables = [Fault::LanCable(node), Fault::CrossoverCable, Fault::SerialCable];
    cables.rotate_left(world.rng.below(3) as usize);
    if world.rng.chance(500) {
        cables.reverse();
    }
    let plan = cables.map(|fault| {
        at_us += world.rng.between(least_us, most_us);
        Planned { at_us, lasts_us: 1000 * SECOND_US, fault }
    });
    world.schedule(&plan);
    world.run_until(at_us + 3 * SECOND_US);
    Run { world, plan: plan.into() }
}
