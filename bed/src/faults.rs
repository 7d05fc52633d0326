//! The faults: what is done to the pair, what is promised for each, and how one is tried.

use std::fmt;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::processes::Target;
use super::stalls::Counted;
use super::watcher::TwoOwners;
use super::wiring::Plugs;
use super::{Bed, BedError, GROUP, node};
use crate::limits;
use clusterd::config::NodeIndex;
use clusterd::control::status::{PathState, PeerState, Status};

/// Something that goes wrong, or that an administrator does. Each is undone after it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The crossover cable is pulled.
    CrossoverCut,
    /// The serial cable is pulled.
    SerialCut,
    /// Crossover and serial cable are pulled.
    BothCut,
    /// The LAN cable of the owner is pulled.
    OwnerLanCut,
    /// The LAN switch dies: both nodes are off the LAN.
    SwitchDead,
    /// The owner loses its power.
    OwnerPower,
    /// The same with a switch in the crossover, or a slow NIC: the carrier stays.
    OwnerPowerUnseen,
    /// The other node loses its power.
    StandbyPower,
    /// The owner's heart is killed (SIGKILL).
    HeartKilled,
    /// The owner's heart is frozen (SIGSTOP).
    HeartFrozen,
    /// All processes of the owner are frozen, its service too; its kernel runs on.
    AllFrozen,
    /// All processes of the owner are killed at once; its kernel runs on.
    AllKilled,
    /// The owner's daemon is told to end (SIGTERM).
    OrderlyStop,
    /// An administrator moves the group.
    PlannedMove,
}

/// How often the group may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moves {
    /// Never.
    None,
    /// Once.
    One,
    /// Once or never: the node that failed may be back before the other takes over.
    AtMostOne,
}

/// What is promised for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Longest time for which the client may get no answer; `None`: as long as the fault lasts.
    pub outage: Option<Duration>,
    /// How often the group may move.
    pub moves: Moves,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moves = match self.moves {
            Moves::None => "stays",
            Moves::One => "moves",
            Moves::AtMostOne => "moves or stays",
        };
        match self.outage {
            Some(outage) => write!(f, "{moves}, <= {} ms", outage.as_millis()),
            None => write!(f, "{moves}"),
        }
    }
}

/// When a fault was tried.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When it was caused.
    pub began: Instant,
    /// When it began to be undone.
    pub undone: Instant,
    /// Whether the client was served then.
    pub served: bool,
}

/// What was seen when a fault was tried and undone.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Which.
    pub fault: Fault,
    /// When.
    pub times: Times,
    /// Longest time without an answer, from the fault until nothing more happened.
    pub outage: Duration,
    /// Moves in that time.
    pub moves: usize,
    /// The same while the fault was undone; the outage that was still open then is not in it.
    pub return_outage: Duration,
    /// Moves while the fault was undone.
    pub return_moves: usize,
    /// Moments with two owners, from the fault until all was well again.
    pub two_owners: TwoOwners,
    /// Whatever is not as promised, in words.
    pub broken: Vec<String>,
}

impl Fault {
    /// All of them, in the order in which `demo` shows them.
    pub const ALL: [Fault; 14] = [
        Fault::CrossoverCut,
        Fault::SerialCut,
        Fault::BothCut,
        Fault::OwnerLanCut,
        Fault::SwitchDead,
        Fault::OwnerPower,
        Fault::OwnerPowerUnseen,
        Fault::StandbyPower,
        Fault::HeartKilled,
        Fault::HeartFrozen,
        Fault::AllFrozen,
        Fault::AllKilled,
        Fault::OrderlyStop,
        Fault::PlannedMove,
    ];

    /// What happens, in few words.
    pub fn name(self) -> &'static str {
        match self {
            Fault::CrossoverCut => "crossover cut",
            Fault::SerialCut => "serial line cut",
            Fault::BothCut => "crossover and serial cut",
            Fault::OwnerLanCut => "owner's LAN cable pulled",
            Fault::SwitchDead => "LAN switch dead",
            Fault::OwnerPower => "owner's power cut",
            Fault::OwnerPowerUnseen => "owner's power cut, carrier stays",
            Fault::StandbyPower => "standby node's power cut",
            Fault::HeartKilled => "owner's heart killed",
            Fault::HeartFrozen => "owner's heart frozen",
            Fault::AllFrozen => "all of the owner frozen",
            Fault::AllKilled => "all of the owner killed",
            Fault::OrderlyStop => "owner's daemon stopped",
            Fault::PlannedMove => "planned move",
        }
    }

    /// How it is undone, in few words; `None`: nothing is to be undone.
    pub fn remedy(self) -> Option<&'static str> {
        match self {
            Fault::CrossoverCut | Fault::SerialCut | Fault::BothCut | Fault::OwnerLanCut => {
                Some("plug in again")
            }
            Fault::SwitchDead
            | Fault::OwnerPower
            | Fault::OwnerPowerUnseen
            | Fault::StandbyPower => Some("power on again"),
            Fault::AllFrozen => Some("let it run on"),
            Fault::AllKilled | Fault::OrderlyStop => Some("start it again"),
            Fault::HeartKilled | Fault::HeartFrozen | Fault::PlannedMove => None,
        }
    }

    /// What is promised.
    pub fn promise(self) -> Promise {
        let (outage, moves) = match self {
            Fault::CrossoverCut | Fault::SerialCut | Fault::BothCut | Fault::StandbyPower => {
                (Some(limits::OUTAGE_MAX), Moves::None)
            }
            Fault::SwitchDead => (None, Moves::None),
            Fault::OwnerLanCut
            | Fault::OwnerPower
            | Fault::OwnerPowerUnseen
            | Fault::OrderlyStop
            | Fault::PlannedMove => (Some(limits::OUTAGE_MAX), Moves::One),
            // The kernel answers until the guard takes the addresses away; then its will is heard.
            Fault::HeartKilled | Fault::HeartFrozen => (Some(limits::OUTAGE_MAX), Moves::AtMostOne),
            Fault::AllFrozen | Fault::AllKilled => (Some(limits::OUTAGE_LEASE_MAX), Moves::One),
        };
        Promise { outage, moves }
    }

    fn cause(self, bed: &mut Bed, owner: NodeIndex) -> Result<(), BedError> {
        match self {
            Fault::CrossoverCut => bed.plug(|plugs| plugs.crossover = false),
            Fault::SerialCut => bed.plug(|plugs| plugs.serial = false),
            Fault::BothCut => bed.plug(|plugs| (plugs.crossover, plugs.serial) = (false, false)),
            Fault::OwnerLanCut => bed.plug(|plugs| *Plugs::of(&mut plugs.lan, owner) = false),
            Fault::SwitchDead => bed.plug(|plugs| plugs.switch = false),
            Fault::OwnerPower => bed.power_cut(owner),
            Fault::OwnerPowerUnseen => {
                bed.plug(|plugs| plugs.between = true)?;
                bed.power_cut(owner)
            }
            Fault::StandbyPower => bed.power_cut(owner.other()),
            Fault::HeartKilled => signal_one(bed, owner, Target::Heart, Signal::SIGKILL),
            Fault::HeartFrozen => signal_one(bed, owner, Target::Heart, Signal::SIGSTOP),
            Fault::AllFrozen => bed.freeze(owner),
            Fault::AllKilled => bed.kill(owner),
            Fault::OrderlyStop => signal_one(bed, owner, Target::Guard, Signal::SIGTERM),
            Fault::PlannedMove => {
                bed.tell(owner, &["move", GROUP, node::name(owner.other())]).map(drop)
            }
        }
    }

    /// Whether the fault has shown itself; else what is still missing. `before` is what the owner said
    /// before the fault, `since` is when it happened.
    fn shows(
        self,
        bed: &Bed,
        owner: NodeIndex,
        before: &Status,
        since: Instant,
    ) -> Result<(), String> {
        let served = |by: &[NodeIndex]| match bed.client.answer_since(since) {
            Some(answer)
                if by.contains(&answer.from) && answer.at.elapsed() < limits::BED_LOOK_EVERY =>
            {
                Ok(())
            }
            other => Err(format!("the client's newest answer is {other:?}")),
        };
        let told = |node: NodeIndex, path: &str| {
            let status = status(bed, node)?;
            match status.peer.paths.iter().find(|seen| seen.name == path) {
                Some(seen) if seen.state != PathState::Up => Ok(()),
                other => Err(format!("{} says {other:?}", node::name(node))),
            }
        };
        let told_by_both = |path| told(owner, path).and_then(|()| told(owner.other(), path));
        match self {
            Fault::CrossoverCut => told_by_both("crossover"),
            Fault::SerialCut => told_by_both("serial"),
            Fault::BothCut => told_by_both("crossover").and_then(|()| told_by_both("serial")),
            Fault::SwitchDead => told_by_both("lan"),
            Fault::StandbyPower => match status(bed, owner)?.peer.state {
                PeerState::Dead => Ok(()),
                other => Err(format!("the peer is said to be {other:?}")),
            },
            Fault::HeartKilled | Fault::HeartFrozen => {
                if status(bed, owner)?.incarnation == before.incarnation {
                    return Err("the heart was not started again".to_owned());
                }
                served(&NodeIndex::BOTH)
            }
            Fault::OwnerLanCut
            | Fault::OwnerPower
            | Fault::OwnerPowerUnseen
            | Fault::AllFrozen
            | Fault::AllKilled
            | Fault::OrderlyStop
            | Fault::PlannedMove => served(&[owner.other()]),
        }
    }

    fn undo(self, bed: &mut Bed, owner: NodeIndex) -> Result<(), BedError> {
        match self {
            Fault::CrossoverCut | Fault::SerialCut | Fault::BothCut => {
                bed.plug(|plugs| (plugs.crossover, plugs.serial) = (true, true))
            }
            Fault::OwnerLanCut => bed.plug(|plugs| *Plugs::of(&mut plugs.lan, owner) = true),
            Fault::SwitchDead => bed.plug(|plugs| plugs.switch = true),
            Fault::OwnerPower => bed.power_on(owner),
            Fault::OwnerPowerUnseen => {
                bed.power_on(owner)?;
                bed.plug(|plugs| plugs.between = false)
            }
            Fault::StandbyPower => bed.power_on(owner.other()),
            Fault::AllFrozen => bed.signal(owner, Target::All, Signal::SIGCONT).map(drop),
            Fault::AllKilled | Fault::OrderlyStop => {
                bed.kill(owner)?;
                bed.start_processes(owner)
            }
            Fault::HeartKilled | Fault::HeartFrozen | Fault::PlannedMove => Ok(()),
        }
    }
}

/// Tries `fault` on a whole pair and undoes it; `tell` hears each step as it is done.
///
/// # Errors
/// The bed itself failed, or was asked to stop. A promise that was broken is no error but in
/// [`Seen::broken`].
pub fn try_one(
    bed: &mut Bed,
    fault: Fault,
    counted: Counted,
    tell: &mut dyn FnMut(&str),
) -> Result<Seen, BedError> {
    Trial::begin(bed, fault, counted, tell)?.end(bed, tell)
}

/// A fault that was caused and is not yet undone.
#[derive(Debug)]
pub struct Trial {
    fault: Fault,
    counted: Counted,
    owner: NodeIndex,
    began: Instant,
    outage: Duration,
    moves: usize,
    broken: Vec<String>,
}

impl Trial {
    /// Causes `fault` on a whole pair, and returns when it has shown itself and nothing more happens.
    ///
    /// # Errors
    /// As [`try_one`].
    pub fn begin(
        bed: &mut Bed,
        fault: Fault,
        counted: Counted,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Trial, BedError> {
        let owner = bed.wait_whole()?;
        let before =
            bed.status(owner).ok_or_else(|| BedError::Late("the owner's status".into()))?;
        let mut broken = Vec::new();

        tell(&format!("{} ({} serves)", fault.name(), node::name(owner)));
        let began = Instant::now();
        note(fault.cause(bed, owner), &mut broken)?;
        let shown = bed.wait(fault.name(), limits::BED_EFFECT_WITHIN, || {
            fault.shows(bed, owner, &before, began)
        });
        note(shown, &mut broken)?;
        bed.watch_for(limits::BED_WATCH)?;
        let outage = counted.outage_since(bed, began);
        let moves = bed.watcher.moves_since(began);
        Ok(Trial { fault, counted, owner, began, outage, moves, broken })
    }

    /// Undoes it, and returns when the pair is whole again.
    ///
    /// # Errors
    /// As [`try_one`].
    pub fn end(self, bed: &mut Bed, tell: &mut dyn FnMut(&str)) -> Result<Seen, BedError> {
        let Trial { fault, counted, owner, began, outage, moves, mut broken } = self;
        if let Some(remedy) = fault.remedy() {
            tell(remedy);
        }
        let undone = Instant::now();
        let served = bed.client.answer_since(began).is_some_and(|answer| {
            undone.saturating_duration_since(answer.at) < limits::BED_LOOK_EVERY
        });
        fault.undo(bed, owner)?;
        note(bed.wait_whole().map(drop), &mut broken)?;
        note(bed.cross_check(), &mut broken)?;
        let return_outage = if served { counted.outage_since(bed, undone) } else { Duration::ZERO };
        let return_moves = bed.watcher.moves_since(undone);
        let two_owners = bed.watcher.two_owners_since(began);

        let times = Times { began, undone, served };
        let mut seen =
            Seen { fault, times, outage, moves, return_outage, return_moves, two_owners, broken };
        seen.judge(bed.watcher.missed());
        seen.broken.extend(bed.take_lies());
        Ok(seen)
    }
}

impl Counted {
    fn outage_since(self, bed: &Bed, mark: Instant) -> Duration {
        match self {
            Counted::Whole => bed.client.outage_since(mark),
            Counted::BeyondStalls => bed.outage_since(mark),
        }
    }
}

/// Something that did not happen is a broken promise; anything else ends the trial.
fn note(result: Result<(), BedError>, broken: &mut Vec<String>) -> Result<(), BedError> {
    match result {
        Err(error @ (BedError::Late(_) | BedError::Refused(_))) => {
            broken.push(error.to_string());
            Ok(())
        }
        other => other,
    }
}

impl Seen {
    fn judge(&mut self, missed: u64) {
        let promise = self.fault.promise();
        let moves_kept = match promise.moves {
            Moves::None => self.moves == 0,
            Moves::One => self.moves == 1,
            Moves::AtMostOne => self.moves <= 1,
        };
        if !moves_kept {
            self.broken.push(format!("{} moves", self.moves));
        }
        if promise.outage.is_some_and(|most| self.outage > most) {
            self.broken.push(format!("outage of {} ms", self.outage.as_millis()));
        }
        if self.return_moves > 0 {
            self.broken.push(format!("{} moves when it was undone", self.return_moves));
        }
        if self.return_outage > limits::OUTAGE_MAX {
            let ms = self.return_outage.as_millis();
            self.broken.push(format!("outage of {ms} ms when it was undone"));
        }
        if self.two_owners.moments > 0 {
            let TwoOwners { moments, total } = self.two_owners;
            self.broken.push(format!("{moments} moments with two owners, {total:?} together"));
        }
        if missed > 0 {
            self.broken.push(format!("the watcher lost {missed} messages"));
        }
    }
}

fn status(bed: &Bed, node: NodeIndex) -> Result<Status, String> {
    bed.status(node).ok_or_else(|| format!("{} does not answer", node::name(node)))
}

/// Signals exactly one process, or it is not the fault that was meant.
fn signal_one(bed: &Bed, node: NodeIndex, target: Target, signal: Signal) -> Result<(), BedError> {
    match bed.signal(node, target, signal)? {
        1 => Ok(()),
        count => Err(BedError::Late(format!("one process as {target:?}, there are {count}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(fault: Fault, outage_ms: u64, moves: usize) -> Seen {
        let now = Instant::now();
        let mut seen = Seen {
            fault,
            times: Times { began: now, undone: now, served: true },
            outage: Duration::from_millis(outage_ms),
            moves,
            return_outage: Duration::ZERO,
            return_moves: 0,
            two_owners: TwoOwners::default(),
            broken: Vec::new(),
        };
        seen.judge(0);
        seen
    }

    #[test]
    fn promises_are_judged() {
        assert!(seen(Fault::OwnerPower, 20, 1).broken.is_empty());
        assert_eq!(seen(Fault::OwnerPower, 251, 1).broken.len(), 1);
        assert_eq!(seen(Fault::OwnerPower, 20, 2).broken.len(), 1);
        assert_eq!(seen(Fault::OwnerPower, 20, 0).broken.len(), 1);
        assert_eq!(seen(Fault::SerialCut, 2, 1).broken.len(), 1);
        assert!(seen(Fault::SwitchDead, 60_000, 0).broken.is_empty());
        assert!(seen(Fault::HeartKilled, 250, 0).broken.is_empty());
        assert!(seen(Fault::HeartKilled, 250, 1).broken.is_empty());
        assert!(seen(Fault::AllFrozen, 3_500, 1).broken.is_empty());
        let mut two = seen(Fault::PlannedMove, 2, 1);
        two.two_owners = TwoOwners { moments: 1, total: Duration::from_micros(1) };
        two.judge(0);
        assert_eq!(two.broken.len(), 1, "not even for a microsecond");
        two.judge(1);
        assert!(two.broken.iter().any(|text| text.contains("lost")), "a blind watcher");
    }
}
