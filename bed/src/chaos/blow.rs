//! The blows: what goes wrong, or what an administrator does; drawn by chance, dealt to the pair, healed.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::judge::Judge;
use crate::limits;
use crate::processes::Target;
use crate::wiring::Plugs;
use crate::{Bed, BedError, GROUP, node};
use clusterd::config::NodeIndex;
use clusterd::sim::rng::Rng;

/// Which node, when the blow is dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// The one that serves, or else the lower one.
    Owner,
    /// The other one.
    Other,
}

/// A cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cable {
    Crossover,
    Serial,
    Lan(Who),
}

/// One blow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// A node loses its power ...
    Cut(Who),
    /// ... both do, this one first ...
    CutBoth(Who),
    /// ... and every node that has none gets it back.
    Power(Who),
    /// The daemon is told to end.
    Stop(Who),
    /// One process is killed.
    Kill(Who, Target),
    /// One process, or all of them, is frozen ...
    Freeze(Who, Target),
    /// ... and goes on.
    Thaw(Who),
    /// A cable is pulled.
    Pull(Cable),
    /// Every cable is plugged in again.
    PlugAll,
    /// The group is moved as planned.
    Move,
    /// A node is taken off duty ...
    Standby(Who),
    /// ... and put on duty.
    Online(Who),
    /// The config is read again.
    Reload(Who),
    /// The disk of the node that does not serve is filled up ...
    Fill,
    /// ... and freed.
    Free,
    /// An administrator has everything synchronised.
    Sync,
}

use Blow::{
    Cut, CutBoth, Fill, Free, Freeze, Kill, Move, Online, PlugAll, Power, Pull, Reload, Standby,
    Stop, Sync, Thaw,
};
use Who::{Other, Owner};

/// Everything that may happen; what is listed twice happens twice as often.
const BLOWS: [Blow; 37] = [
    Cut(Owner),
    Cut(Owner),
    Cut(Owner),
    Cut(Other),
    Cut(Other),
    CutBoth(Owner),
    CutBoth(Other),
    Power(Owner),
    Power(Other),
    Stop(Owner),
    Stop(Owner),
    Stop(Other),
    Kill(Owner, Target::Heart),
    Kill(Owner, Target::Worker),
    Kill(Owner, Target::Guard),
    Kill(Owner, Target::All),
    Kill(Other, Target::Heart),
    Kill(Other, Target::Worker),
    Kill(Other, Target::Guard),
    Freeze(Owner, Target::Heart),
    Freeze(Owner, Target::Worker),
    Freeze(Owner, Target::All),
    Freeze(Other, Target::All),
    Thaw(Owner),
    Pull(Cable::Crossover),
    Pull(Cable::Serial),
    Pull(Cable::Lan(Owner)),
    Pull(Cable::Lan(Other)),
    PlugAll,
    Move,
    Standby(Owner),
    Standby(Other),
    Online(Owner),
    Reload(Owner),
    Fill,
    Free,
    Sync,
];

/// What is to be healed.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Its daemon is not whole: it was told to end, or lost its guard.
    ended: [bool; 2],
    /// Somebody was taken off duty.
    off_duty: bool,
    /// How many of the three ways between the nodes are cut.
    cut: Vec<Cable>,
    ballast: Vec<PathBuf>,
}

impl Health {
    /// The blows of one round.
    pub(super) fn draw(&self, rng: &mut Rng) -> Vec<Blow> {
        let count = rng.between(1, 3);
        (0..count).filter_map(|_| rng.one_of(&BLOWS).copied()).collect()
    }

    /// Deals it; what was done, in words.
    pub(super) fn deal(
        &mut self,
        bed: &mut Bed,
        judge: &Judge,
        blow: Blow,
    ) -> Result<String, BedError> {
        let owner = judge.serves(bed).unwrap_or(NodeIndex::Lower);
        let of = |who| match who {
            Owner => owner,
            Other => owner.other(),
        };
        let lit = |bed: &Bed, node| bed.plugs().powered(node);
        if hides_an_address(bed, blow, of)? {
            return Ok(format!("{blow:?} is left out"));
        }
        Ok(match blow {
            Cut(who) => self.cut(bed, of(who))?,
            CutBoth(who) => {
                let first = self.cut(bed, of(who))?;
                format!("{first}, {}", self.cut(bed, of(who).other())?)
            }
            Power(who) => match lit(bed, of(who)) {
                true => format!("{} has power", node::name(of(who))),
                false => {
                    bed.power_on(of(who))?;
                    format!("{} gets power", node::name(of(who)))
                }
            },
            Stop(who) => {
                let count = bed.signal(of(who), Target::Guard, Signal::SIGTERM)?;
                *Plugs::of(&mut self.ended, of(who)) |= count > 0;
                format!("{} is told to end", node::name(of(who)))
            }
            Kill(who, Target::All) => {
                bed.kill(of(who))?;
                *Plugs::of(&mut self.ended, of(who)) = true;
                format!("all of {} is killed", node::name(of(who)))
            }
            Kill(who, target) => {
                let count = bed.signal(of(who), target, Signal::SIGKILL)?;
                *Plugs::of(&mut self.ended, of(who)) |= count > 0 && target == Target::Guard;
                format!("{target:?} of {} is killed", node::name(of(who)))
            }
            Freeze(who, target) => {
                match target {
                    Target::All => bed.freeze(of(who))?,
                    Target::Guard | Target::Heart | Target::Worker => {
                        bed.signal(of(who), target, Signal::SIGSTOP)?;
                    }
                }
                format!("{target:?} of {} is frozen", node::name(of(who)))
            }
            Thaw(who) => {
                bed.signal(of(who), Target::All, Signal::SIGCONT)?;
                format!("{} goes on", node::name(of(who)))
            }
            Pull(cable) => self.pull(bed, cable, owner)?,
            PlugAll => {
                self.plug_all(bed)?;
                "all cables are plugged in".to_owned()
            }
            Move => told(bed, owner, &["move", GROUP])?,
            Standby(who) => {
                self.off_duty = true;
                told(bed, of(who), &["standby"])?
            }
            Online(who) => told(bed, of(who), &["online"])?,
            Reload(who) => {
                bed.signal(of(who), Target::Guard, Signal::SIGHUP)?;
                format!("{} reads its config again", node::name(of(who)))
            }
            Fill => self.fill(bed, owner.other())?,
            Free => {
                self.free();
                "the disk is freed".to_owned()
            }
            Sync => told(bed, owner, &["sync", GROUP, "--wait"])?,
        })
    }

    fn cut(&mut self, bed: &mut Bed, node: NodeIndex) -> Result<String, BedError> {
        if !bed.plugs().powered(node) {
            return Ok(format!("{} has no power", node::name(node)));
        }
        bed.power_cut(node)?;
        *Plugs::of(&mut self.ended, node) = false;
        Ok(format!("{} loses its power", node::name(node)))
    }

    /// At most two ways between the nodes are cut at a time: if all three are, both may serve, and which
    /// changes are the right ones nobody can say.
    fn pull(&mut self, bed: &mut Bed, cable: Cable, owner: NodeIndex) -> Result<String, BedError> {
        let is_lan = |cable: &Cable| matches!(cable, Cable::Lan(_));
        let mut ways = self.cut.iter().filter(|one| !is_lan(one)).count();
        ways += usize::from(self.cut.iter().any(is_lan));
        let is_new = !self.cut.iter().any(|one| *one == cable || (is_lan(one) && is_lan(&cable)));
        if is_new && ways == 2 {
            return Ok(format!("{cable:?} stays"));
        }
        self.cut.push(cable);
        bed.plug(|plugs| match cable {
            Cable::Crossover => plugs.crossover = false,
            Cable::Serial => plugs.serial = false,
            Cable::Lan(Owner) => *Plugs::of(&mut plugs.lan, owner) = false,
            Cable::Lan(Other) => *Plugs::of(&mut plugs.lan, owner.other()) = false,
        })?;
        Ok(format!("{cable:?} is pulled"))
    }

    fn plug_all(&mut self, bed: &mut Bed) -> Result<(), BedError> {
        self.cut.clear();
        bed.plug(|plugs| (plugs.crossover, plugs.serial, plugs.lan) = (true, true, [true; 2]))
    }

    /// Fills the disk of a node to the last byte.
    fn fill(&mut self, bed: &Bed, node: NodeIndex) -> Result<String, BedError> {
        let path = bed.srv(node).join("ballast");
        let mut file = File::create(&path)?;
        self.ballast.push(path);
        let block = vec![1; 64 * 1024];
        let mut length = block.len();
        while length > 0 {
            match file.write_all(block.get(..length).unwrap_or_default()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => length /= 16,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(format!("the disk of {} is full", node::name(node)))
    }

    fn free(&mut self) {
        for path in self.ballast.drain(..) {
            // It is not there, or it stays full: then the pair does not become whole.
            let _ = fs::remove_file(path);
        }
    }

    /// Plugs everything in and frees the disks.
    pub(super) fn mend_cables(&mut self, bed: &mut Bed) -> Result<(), BedError> {
        self.free();
        self.plug_all(bed)
    }

    /// Lets a node go on; gives it power; starts its daemon again if it is not whole. What was done, in words.
    pub(super) fn mend_node(
        &mut self,
        bed: &mut Bed,
        node: NodeIndex,
    ) -> Result<Option<String>, BedError> {
        let ended = std::mem::take(Plugs::of(&mut self.ended, node));
        let name = node::name(node);
        if !bed.plugs().powered(node) {
            bed.power_on(node)?;
            return Ok(Some(format!("{name} gets power")));
        }
        if bed.processes(node)?.iter().any(|process| process.state == 'T') {
            bed.signal(node, Target::All, Signal::SIGCONT)?;
        }
        if !ended {
            return Ok(None);
        }
        // An orderly end may take as long as the last changes need; what is then still there is killed.
        let until = Instant::now() + limits::BED_VERB_WITHIN;
        let is_left = |bed: &Bed| -> Result<bool, BedError> {
            let all = bed.processes(node)?;
            Ok(all.iter().any(|process| process.comm == "clusterd-guard"))
        };
        while is_left(bed)? && Instant::now() < until {
            bed.watch_for(Duration::from_millis(50))?;
        }
        bed.kill(node)?;
        bed.start_processes(node)?;
        Ok(Some(format!("{name} is started again")))
    }

    /// Everybody is on duty again.
    pub(super) fn mend_duty(&mut self, bed: &Bed) -> Result<(), BedError> {
        if !std::mem::take(&mut self.off_duty) {
            return Ok(());
        }
        for node in NodeIndex::BOTH {
            bed.wait("a daemon to answer", limits::BED_WHOLE_WITHIN, || {
                bed.tell(node, &["online"]).map(drop).map_err(|error| error.to_string())
            })?;
        }
        Ok(())
    }
}

/// Whether a node would be off the LAN whose heart does not work: its kernel keeps the address until the lease ends, and
/// nobody can see that (excused from P1).
fn hides_an_address(
    bed: &Bed,
    blow: Blow,
    of: impl Fn(Who) -> NodeIndex,
) -> Result<bool, BedError> {
    if let Freeze(who, Target::All | Target::Heart) | Kill(who, Target::All) = blow {
        return Ok(bed.plugs().powered(of(who)) && !bed.plugs().lan_carries(of(who)));
    }
    let Pull(Cable::Lan(who)) = blow else { return Ok(false) };
    let processes = bed.processes(of(who))?;
    let works = processes.iter().any(|it| it.comm == "clusterd-heart" && it.state != 'T');
    Ok(bed.plugs().powered(of(who)) && !works)
}

/// What an administrator said, and what the daemon answered: it may refuse.
fn told(bed: &Bed, node: NodeIndex, verb: &[&str]) -> Result<String, BedError> {
    let words = format!("`{}` on {}", verb.join(" "), node::name(node));
    match bed.tell(node, verb) {
        Ok(_) => Ok(words),
        Err(error @ (BedError::Refused(_) | BedError::Late(_))) => Ok(format!("{words}: {error}")),
        Err(error) => Err(error),
    }
}
