//! A run with a mix of faults, and then a healed phase in which the pair must find its peace.

use super::checkers::nothing_lost::NothingLost;
use super::faults::{self, FURNISHED, Kind, Planned, SEQUENCE};
use super::node::Guard;
use super::rng::Rng;
use super::setup::Setup;
use super::trace::Trace;
use super::world::{Happening, World};
use crate::config::{Failback, GroupIndex, NodeIndex};
use crate::control::status::{GroupState, MirrorState, PeerState, Status};
use crate::core::Sabotage;
use crate::core::Wish;

/// A second, in µs.
pub const SECOND_US: u64 = 1_000_000;
/// After healing, the pair finds its peace within its patience, its stable time and this, in µs.
const PEACE_US: u64 = 15 * SECOND_US;
/// Services that hang while they stop, and trees that catch up, take so much more, in µs.
const FURNISHED_US: u64 = 25 * SECOND_US;
/// Then nothing moves for this long, in µs.
const QUIET_US: u64 = 10 * SECOND_US;

/// The mildest unrest: it may go on.
const NOT_HOME: &str = "not at home";

/// What a run is made from, besides the seed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The kinds of faults to draw from; empty: all.
    pub kinds: Vec<Kind>,
    /// Every pair has trees or services.
    pub furnished: bool,
    /// A rule taken out of the cores.
    pub sabotage: Option<Sabotage>,
    /// Where lines go.
    pub trace: Trace,
}

/// A world and the faults that were planned for it.
pub struct Run {
    /// The world at its end.
    pub world: World,
    /// The faults.
    pub plan: Vec<Planned>,
}

/// Draws everything of a mixed run from a seed; nothing has happened yet.
pub fn draw(seed: u64, options: &Options) -> (Run, u64) {
    let mut rng = Rng::new(seed);
    let mut setup = Setup::any(&mut rng);
    // Drawn apart: pairs without trees and services stay what they were.
    let mut more = Rng::new(rng.clone().number());
    let furnished = options.furnished || more.chance(500);
    if furnished {
        setup = setup.furnished(&mut more);
    }
    let from_us = rng.between(SECOND_US / 2, 7 * SECOND_US);
    let to_us = from_us + rng.between(5 * SECOND_US, 20 * SECOND_US);
    let kinds = match (options.kinds.is_empty(), furnished) {
        (false, _) => options.kinds.clone(),
        (true, false) => Kind::ALL.to_vec(),
        (true, true) => [&Kind::ALL[..], &FURNISHED[..]].concat(),
    };
    if kinds.contains(&Kind::File) {
        setup = setup.changing(&mut rng);
    }
    let plan = faults::plan(&kinds, &setup, from_us, to_us, &mut rng);
    let mut world = World::new(setup, rng, options.trace.clone());
    world.sabotage = options.sabotage;
    (Run { world, plan }, to_us)
}

/// Draws a few faults, one after the other or one into the other, on a pair with trees of which backups are
/// made; nothing has happened yet.
pub fn draw_sequence(seed: u64, options: &Options) -> (Run, u64) {
    let mut rng = Rng::new(seed);
    let setup = Setup::any(&mut rng).mirrored(&mut rng);
    let from_us = rng.between(SECOND_US, 12 * SECOND_US);
    let kinds = if options.kinds.is_empty() { &SEQUENCE[..] } else { &options.kinds };
    let plan = faults::sequence(kinds, &setup, from_us, &mut rng);
    let last_us = plan.last().map_or(from_us, |planned| planned.at_us);
    let to_us = last_us + rng.between(SECOND_US / 10, 12 * SECOND_US);
    let mut world = World::new(setup, rng, options.trace.clone());
    world.sabotage = options.sabotage;
    for node in NodeIndex::BOTH {
        world.after(0, Happening::BackUp(node));
    }
    world.after(0, Happening::Ask);
    (Run { world, plan }, to_us)
}

/// The fault phase, then the healed phase.
pub fn play(run: &mut Run, to_us: u64) {
    let Run { world, plan } = run;
    world.schedule(plan);
    let first = world.rng.pick(&NodeIndex::BOTH);
    let later_us = if world.rng.chance(700) { 0 } else { world.rng.below(9 * SECOND_US) };
    world.power_on(first);
    world.run_until(later_us);
    world.power_on(first.other());
    world.run_until(to_us);
    world.heal();
    find_peace(world);
}

/// Waits until all is well, then sees that it stays so.
fn find_peace(world: &mut World) {
    let patience = world.setup.patience();
    let longer_us = if world.setup.is_furnished() { FURNISHED_US } else { 0 };
    let deadline_us = world.now_us + patience.as_micros() as u64 + PEACE_US + longer_us;
    let mut wish_us = world.now_us + 2 * SECOND_US;
    // What was wished and offered before runs its course.
    world.run_until(world.now_us + SECOND_US);
    world.clients_rest = true;
    while let Some(why) = unrest(world) {
        if world.violation.is_some() {
            return;
        }
        // An operator's move stands, even of a group that goes home by itself.
        if world.now_us > deadline_us - PEACE_US / 2 && why.starts_with(NOT_HOME) {
            break;
        }
        if world.now_us > deadline_us {
            world.wrong(format!("healed, but no peace: {why}"));
            return;
        }
        if world.now_us >= wish_us {
            NodeIndex::BOTH.into_iter().for_each(|node| world.wish(node, Wish::Online(node)));
            if world.checkers.excuses.a_person_is_asked() {
                decide(world);
            }
            wish_us += 3 * SECOND_US;
        }
        world.run_until(world.now_us + SECOND_US / 10);
    }
    world.checkers.service.forget(world.now_us);
    world.trace.note(world.now_us, || "PEACE".to_owned());
    let is_home = |world: &World, group: GroupIndex| {
        let home = home(world, group);
        home.is_none() || world.checkers.service.seen(world.now_us, group).by == home
    };
    let groups: Vec<GroupIndex> = world.config.groups().map(|(group, _)| group).collect();
    let away: Vec<bool> = groups.iter().map(|group| !is_home(world, *group)).collect();
    let end_us = world.now_us + QUIET_US;
    world.run_until(end_us);
    for (group, was_away) in groups.into_iter().zip(away) {
        let served = world.checkers.service.seen(world.now_us, group);
        // It may go home whenever its own rule says so.
        if was_away && served.moves == 1 && is_home(world, group) {
            continue;
        }
        if served.moves > 0 || served.longest_gap_us > 0 {
            let what = format!("peace, and then group {} moves: {served:?}", group.0);
            world.wrong(what);
        }
    }
    if let Some(why) = unrest(world)
        && !why.starts_with(NOT_HOME)
    {
        world.wrong(format!("peace does not last: {why}"));
    }
    for (group, config) in world.config.clone().groups() {
        let copies = world.nodes.both().map(|node| &node.replicas[usize::from(group.0)]);
        if !config.mirror.is_empty()
            && let Err(what) =
                NothingLost::settled(group, copies, &world.checkers.histories[usize::from(group.0)])
        {
            world.wrong(what);
        }
    }
}

/// A person decides which trees are kept where no node can.
fn decide(world: &mut World) {
    for (group, _) in world.config.clone().groups() {
        let disputed = |index: NodeIndex| {
            let status = status(world, index);
            status.is_some_and(|status| {
                status.groups[usize::from(group.0)].mirror.state == MirrorState::Conflict
            })
        };
        let Some(owner) = world.checkers.service.seen(world.now_us, group).by else {
            // What was served last went with a disk: the other's older trees wait for a person's word.
            let history = |index: &NodeIndex| {
                world.nodes[*index].replicas[usize::from(group.0)].copy_of.is_some()
            };
            if let Some(to) = NodeIndex::BOTH.into_iter().find(history) {
                world.wish(to, Wish::Move { group, to: Some(to), accept_loss: true });
            }
            continue;
        };
        if !NodeIndex::BOTH.into_iter().any(disputed) {
            continue;
        }
        if world.rng.chance(500) {
            world.wish(owner, Wish::Sync { group, wait: false, from: Some(owner) });
        } else {
            let to = owner.other();
            world.wish(to, Wish::Move { group, to: Some(to), accept_loss: true });
        }
    }
}

fn status(world: &World, index: NodeIndex) -> Option<Status> {
    let now = world.core_time(index)?;
    world.nodes[index].heart.as_ref().map(|heart| heart.core.status(now))
}

/// Where a group goes by itself, if the nodes' files agree.
fn home(world: &World, group: GroupIndex) -> Option<NodeIndex> {
    let lower = world.running_config(NodeIndex::Lower);
    let upper = world.running_config(NodeIndex::Upper);
    let config = lower.groups.get(usize::from(group.0)).filter(|_| lower.digest == upper.digest);
    config.filter(|config| config.failback == Failback::Auto).map(|config| config.prefer)
}

fn offers(world: &World, node: NodeIndex, group: GroupIndex) -> bool {
    world.nodes[node].heart.as_ref().is_some_and(|heart| heart.core.offers(group))
}

/// Why the pair is not at peace, if it is not.
pub fn unrest(world: &World) -> Option<String> {
    let mut statuses: Vec<Status> = Vec::new();
    let mut not_home = None;
    for node in NodeIndex::BOTH {
        let Some(now) = world.core_time(node) else {
            return Some(format!("{node:?} has no heart"));
        };
        if world.nodes[node].guard != Guard::Running {
            return Some(format!("{node:?} has no guard"));
        }
        statuses.extend(world.nodes[node].heart.as_ref().map(|heart| heart.core.status(now)));
    }
    let [lower, upper] = &statuses[..] else { return Some("a heart is missing".to_owned()) };
    for status in [lower, upper] {
        if status.peer.state != PeerState::Alive {
            return Some(format!("{} says its peer is {:?}", status.node, status.peer.state));
        }
    }
    for ((index, group), (one, other)) in
        world.config.groups().zip(lower.groups.iter().zip(&upper.groups))
    {
        let said = format!("{one:?} / {other:?}");
        // An operator's move that was wished before runs its course.
        if let Some(node) = NodeIndex::BOTH.into_iter().find(|node| offers(world, *node, index)) {
            return Some(format!("{node:?} offers group {}", index.0));
        }
        let active = [one, other].map(|said| said.state == GroupState::Active);
        let owner = match active {
            [true, false] => NodeIndex::Lower,
            [false, true] => NodeIndex::Upper,
            [true, true] | [false, false] => return Some(said),
        };
        let name = &world.config.node(owner).name;
        if one.owner.as_ref() != Some(name) || other.owner.as_ref() != Some(name) {
            return Some(said);
        }
        if one.generation != other.generation {
            return Some(said);
        }
        let served = world.checkers.service.seen(world.now_us, index);
        if served.by != Some(owner) || world.nodes[owner.other()].kernel.lease(index).is_some() {
            return Some(format!("{name} says that it serves, seen is {served:?}"));
        }
        let mirrors = if owner == NodeIndex::Lower { one } else { other };
        if !group.mirror.is_empty() && mirrors.mirror.state != MirrorState::InSync {
            return Some(format!("group {} is not in sync: {said}", index.0));
        }
        if home(world, index).is_some_and(|home| home != owner) {
            not_home = Some(format!("{NOT_HOME}: group {} {said}", index.0));
        }
    }
    not_home
}
