//! A LAN that is slow: heartbeats, asks, ARP and the answers of reach hosts are late together, steadily or in
//! bursts. Nothing is lost, and nothing overtakes.

use std::time::Duration;

use super::faults::{Fault, Planned};
use super::pair::Pair;
use super::rng::Rng;
use super::run::{Options, Run, SECOND_US, unrest};
use super::setup::Setup;
use super::world::{Happening, World};
use crate::config::{GroupIndex, NodeIndex};

/// How slow the LAN is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slowness {
    /// A frame is under way for so much longer, in µs.
    pub late_us: u64,
    /// Only in bursts.
    pub in_bursts: bool,
}

/// The LAN's queue.
#[derive(Debug, Default)]
pub struct SlowLan {
    /// As it was drawn or struck.
    pub slowness: Slowness,
    /// A frame that is sent now is under way for so much longer, in µs.
    late_us: u64,
    /// When what was sent before has arrived, by sender.
    queue_until_us: Pair<u64>,
}

impl SlowLan {
    /// How much longer a frame of `from` that is sent now is under way.
    pub fn delay_us(&mut self, now_us: u64, from: NodeIndex, rng: &mut Rng) -> u64 {
        let until_us = &mut self.queue_until_us[from];
        if self.late_us == 0 && now_us >= *until_us {
            return 0;
        }
        let late_us = rng.between(self.late_us * 9 / 10, self.late_us);
        *until_us = (*until_us).max(now_us + late_us);
        *until_us - now_us
    }

    /// Whether it brings everything at once.
    pub fn is_quick(&self) -> bool {
        self.slowness.late_us == 0
    }
}

impl World {
    /// The LAN is so slow from now on.
    pub fn slow_lan(&mut self, slowness: Slowness) {
        let lan = &mut self.network.lan;
        let idle = !lan.slowness.in_bursts;
        lan.slowness = slowness;
        lan.late_us = if slowness.in_bursts { 0 } else { slowness.late_us };
        if slowness.in_bursts && idle {
            self.after(0, Happening::Burst);
        }
    }

    /// A burst begins or ends.
    pub(super) fn burst(&mut self) {
        let lan = &mut self.network.lan;
        if !lan.slowness.in_bursts {
            return;
        }
        let begins = lan.late_us == 0;
        lan.late_us = if begins { lan.slowness.late_us } else { 0 };
        let longest_us = if begins { 1_000_000 } else { 3_000_000 };
        let next_us = self.rng.between(100_000, longest_us);
        self.after(next_us, Happening::Burst);
    }
}

/// Heartbeat settings in ms, from the fastest that is allowed.
const TIMES_MS: [(u64, u64); 7] =
    [(10, 20), (10, 30), (20, 60), (20, 60), (50, 150), (50, 100), (100, 300)];
/// Longer than any lease lasts, and whatever settles after it, in µs.
const TAKEOVER_US: u64 = 6 * SECOND_US;

const GROUP: GroupIndex = GroupIndex(0);

/// What may happen to a pair on a slow LAN.
#[derive(Clone, Copy, Debug)]
pub enum Blow {
    /// The owner's heart is stalled.
    HeartFrozen,
    /// All of the owner's processes do.
    AllFrozen,
    /// The crossover is pulled.
    Crossover,
    /// The crossover is pulled, and the serial line.
    BothCables,
    /// The owner's power is cut.
    PowerCut,
}

impl Blow {
    const ALL: [Blow; 5] =
        [Blow::HeartFrozen, Blow::AllFrozen, Blow::Crossover, Blow::BothCables, Blow::PowerCut];

    fn faults(self, owner: NodeIndex) -> Vec<Fault> {
        match self {
            Blow::HeartFrozen => vec![Fault::HeartFrozen(owner)],
            Blow::AllFrozen => vec![Fault::AllFrozen(owner)],
            Blow::Crossover => vec![Fault::CrossoverCable],
            Blow::BothCables => vec![Fault::CrossoverCable, Fault::SerialCable],
            Blow::PowerCut => vec![Fault::PowerCut(owner)],
        }
    }
}

/// A pair at rest on a LAN that was slow for long, and one blow: never two owners, and after a power cut the other
/// serves.
pub fn slow(seed: u64, options: &Options) -> Run {
    let mut rng = Rng::new(seed);
    let (interval_ms, dead_after_ms) = rng.pick(&TIMES_MS);
    let late = (Duration::from_millis(1), Duration::from_millis(200));
    let slowness = Slowness { late_us: rng.time_us(late.0, late.1), in_bursts: rng.chance(400) };
    let blow = rng.pick(&Blow::ALL);
    let sudden = matches!(blow, Blow::Crossover) && rng.chance(500);
    let mut setup = Setup::plain(&mut rng);
    setup.serial = rng.chance(500);
    setup.interval = Duration::from_millis(interval_ms);
    setup.dead_after = Duration::from_millis(dead_after_ms);
    if sudden {
        // Nobody has measured it yet; but the heartbeats are late by less than what makes a death.
        let spare_us = (setup.dead_after - setup.interval).as_micros() as u64 / 2;
        let late_us = slowness.late_us.min(spare_us);
        return struck(setup, Slowness { late_us, in_bursts: false }, true, blow, rng, options);
    }
    struck(setup, slowness, false, blow, rng, options)
}

/// The same, with everything given. `sudden`: it is quick until just before the blow.
pub fn struck(
    setup: Setup,
    slowness: Slowness,
    sudden: bool,
    blow: Blow,
    rng: Rng,
    options: &Options,
) -> Run {
    let mut world = World::new(setup, rng, options.trace.clone());
    world.sabotage = options.sabotage;
    world.checkers.one_owner.is_strict = true;
    if !sudden {
        world.slow_lan(slowness);
    }
    NodeIndex::BOTH.into_iter().for_each(|node| world.power_on(node));
    while let Some(why) = unrest(&world) {
        if world.now_us > 30 * SECOND_US {
            world.wrong(format!("no peace from the start: {why}"));
        }
        if world.violation.is_some() {
            return Run { world, plan: Vec::new() };
        }
        world.run_until(world.now_us + SECOND_US / 10);
    }
    // Long enough to see what the LAN is like.
    let rest_us = world.rng.between(8 * SECOND_US, 12 * SECOND_US);
    world.run_until(world.now_us + rest_us);
    if sudden {
        world.slow_lan(slowness);
        let lately_us = world.rng.below(SECOND_US / 3);
        world.run_until(world.now_us + lately_us);
    }
    let owner = world.checkers.service.seen(world.now_us, GROUP).by;
    let Some(owner) = owner.filter(|_| world.violation.is_none()) else {
        return Run { world, plan: Vec::new() };
    };
    let lasts_us = match blow {
        Blow::HeartFrozen | Blow::AllFrozen => world.rng.between(SECOND_US / 5, 4 * SECOND_US),
        Blow::Crossover | Blow::BothCables | Blow::PowerCut => 1000 * SECOND_US,
    };
    let at_us = world.now_us;
    let planned = |fault| Planned { at_us, lasts_us, fault };
    let plan: Vec<Planned> = blow.faults(owner).into_iter().map(planned).collect();
    world.schedule(&plan);
    world.run_until(at_us + TAKEOVER_US);
    let served = world.checkers.service.seen(world.now_us, GROUP).by;
    if matches!(blow, Blow::PowerCut) && served != Some(owner.other()) {
        world.wrong(format!("P2: nobody took over: {:?}", unrest(&world)));
    }
    Run { world, plan }
}
