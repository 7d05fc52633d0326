//! A pair of the bed under another program: how it is started, made whole, hurt and looked at.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd_bed::faults::Fault;
use clusterd_bed::limits;
use clusterd_bed::wiring::Plugs;
use clusterd_bed::{Bed, BedError, node};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Contestant, Seen};
use crate::BenchError;

/// The node at which the service address is at home.
pub const HOME: NodeIndex = NodeIndex::Lower;
/// An answer so long ago is one of now: a client that asks every millisecond is not always scheduled.
const RECENT: Duration = Duration::from_millis(100);
/// Of a log that explains a failure, so many characters at the end.
const LOG_SHOWN: usize = 2000;

/// A program that moves a service address between two nodes.
pub trait Peer: Send {
    /// As it is shown.
    fn name(&self) -> &'static str;

    /// What it has not done so long after a fault it won't do any more.
    fn patience(&self) -> Duration;

    /// A pair that looks whole is whole when it still does so after this.
    fn settles_in(&self) -> Duration;

    /// Writes its files for a node, and says how it is started there.
    ///
    /// # Errors
    /// The files can't be written.
    fn daemon(&self, bed: &Bed, node: NodeIndex) -> Result<Command, BenchError>;

    /// What it says is not well with the pair.
    fn ailment(&self, bed: &Bed) -> Option<String>;

    /// Where it writes what happens, besides the node's log.
    fn log(&self, bed: &Bed, node: NodeIndex) -> PathBuf;

    /// The process of a node that decides and holds the address.
    ///
    /// # Errors
    /// There is none.
    fn heart(&self, bed: &Bed, node: NodeIndex) -> Result<Pid, BenchError>;

    /// The process of a node that is told to end.
    ///
    /// # Errors
    /// There is none.
    fn master(&self, bed: &Bed, node: NodeIndex) -> Result<Pid, BenchError>;

    /// Moves the address away from its owner, as an administrator would.
    ///
    /// # Errors
    /// It can't be told so.
    fn move_away(&self, bed: &Bed, owner: NodeIndex) -> Result<(), BenchError>;

    /// Allows that node to have it again.
    ///
    /// # Errors
    /// It can't be told so.
    fn allow_back(&self, bed: &Bed, owner: NodeIndex) -> Result<(), BenchError>;
}

/// A file in the node's directory, which goes with the bed.
pub fn file(bed: &Bed, node: NodeIndex, name: &str) -> PathBuf {
    bed.node(node).log().with_file_name(name)
}

/// A pair under such a program.
pub struct Pair {
    bed: Bed,
    /// The program that has the responder.
    demo: PathBuf,
    peer: Box<dyn Peer>,
    children: Vec<Child>,
}

impl Pair {
    /// A pair in this bed, still without power.
    pub fn new(bed: Bed, demo: PathBuf, peer: Box<dyn Peer>) -> Pair {
        Pair { bed, demo, peer, children: Vec::new() }
    }

    fn power_on(&mut self, node: NodeIndex) -> Result<(), BenchError> {
        self.bed.line().flush(node)?;
        self.bed.watcher.on(node);
        self.bed.plug(|plugs| *Plugs::of(&mut plugs.power, node) = true)?;
        let mut responder = Command::new(&self.demo);
        responder.args(["bed-responder", "--name", node::name(node), "--address"]);
        responder.arg(self.bed.address().to_string());
        let daemon = self.peer.daemon(&self.bed, node)?;
        for mut command in [responder, daemon] {
            let log = File::options().append(true).create(true).open(self.bed.node(node).log())?;
            command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            self.children.push(self.bed.wiring().seat(node).namespace.run(|| command.spawn())??);
        }
        Ok(())
    }

    fn power_cut(&mut self, node: NodeIndex) -> Result<(), BenchError> {
        self.bed.power_cut(node)?;
        // An error: it was buried by the power cut.
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        Ok(())
    }

    /// Waits until one node serves the client, and the program says on both that all is well.
    fn wait_whole(&self) -> Result<NodeIndex, BedError> {
        let name = self.peer.name();
        let within = limits::BED_WHOLE_WITHIN + self.peer.patience();
        let deadline = Instant::now() + within;
        loop {
            let owner = self.bed.wait(name, within, || self.owner())?;
            self.bed.watch_for(self.peer.settles_in())?;
            match self.owner() {
                Ok(still) if still == owner => return Ok(owner),
                Err(reason) if Instant::now() > deadline => return Err(BedError::Late(reason)),
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// The one owner of a whole pair, or why it is not whole.
    fn owner(&self) -> Result<NodeIndex, String> {
        let holders = self.bed.watcher.holders(self.bed.address());
        let answer = self.bed.client.answer_since(recently());
        match (holders.as_slice(), answer) {
            ([owner], Some(answer)) if answer.from == *owner => {
                match self.peer.ailment(&self.bed) {
                    None => Ok(*owner),
                    Some(ailment) => Err(ailment),
                }
            }
            (holders, answer) => Err(format!("held by {holders:?}, the client hears {answer:?}")),
        }
    }

    fn cause(&mut self, fault: Fault, owner: NodeIndex) -> Result<(), BenchError> {
        let bed = &mut self.bed;
        match fault {
            Fault::CrossoverCut => bed.plug(|plugs| plugs.crossover = false)?,
            Fault::SerialCut => bed.plug(|plugs| plugs.serial = false)?,
            Fault::BothCut => bed.plug(|plugs| (plugs.crossover, plugs.serial) = (false, false))?,
            Fault::OwnerLanCut => bed.plug(|plugs| *Plugs::of(&mut plugs.lan, owner) = false)?,
            Fault::SwitchDead => bed.plug(|plugs| plugs.switch = false)?,
            Fault::OwnerPower => bed.power_cut(owner)?,
            Fault::OwnerPowerUnseen => {
                bed.plug(|plugs| plugs.between = true)?;
                bed.power_cut(owner)?;
            }
            Fault::StandbyPower => bed.power_cut(owner.other())?,
            Fault::AllFrozen => bed.freeze(owner)?,
            Fault::AllKilled => bed.kill(owner)?,
            Fault::HeartKilled => {
                signal(bed, owner, self.peer.heart(bed, owner)?, Signal::SIGKILL)?
            }
            Fault::HeartFrozen => {
                signal(bed, owner, self.peer.heart(bed, owner)?, Signal::SIGSTOP)?
            }
            Fault::OrderlyStop => {
                signal(bed, owner, self.peer.master(bed, owner)?, Signal::SIGTERM)?;
            }
            Fault::PlannedMove => self.peer.move_away(bed, owner)?,
        }
        Ok(())
    }

    fn undo(&mut self, fault: Fault, owner: NodeIndex) -> Result<(), BenchError> {
        let hurt = match fault {
            Fault::CrossoverCut
            | Fault::SerialCut
            | Fault::BothCut
            | Fault::OwnerLanCut
            | Fault::SwitchDead => None,
            Fault::PlannedMove => {
                self.peer.allow_back(&self.bed, owner)?;
                None
            }
            Fault::OwnerPower
            | Fault::OwnerPowerUnseen
            | Fault::AllFrozen
            | Fault::AllKilled
            | Fault::HeartKilled
            | Fault::HeartFrozen
            | Fault::OrderlyStop => Some(owner),
            Fault::StandbyPower => Some(owner.other()),
        };
        // Nothing that still runs there knows that it should stop: the machine is switched off and on.
        if let Some(node) = hurt {
            self.power_cut(node)?;
            self.power_on(node)?;
        }
        self.bed.plug(|plugs| {
            *plugs = Plugs {
                crossover: true,
                serial: true,
                lan: [true; 2],
                switch: true,
                between: false,
                ..*plugs
            };
        })?;
        Ok(())
    }
}

impl Contestant for Pair {
    fn bed(&self) -> &Bed {
        &self.bed
    }

    /// If the pair does not become whole by itself, both nodes start again.
    fn make_whole(&mut self) -> Result<NodeIndex, BenchError> {
        if self.bed.plugs().power == [true; 2] {
            match self.wait_whole() {
                Err(BedError::Late(_)) => {}
                other => return Ok(other?),
            }
        }
        for node in NodeIndex::BOTH {
            self.power_cut(node)?;
        }
        for node in NodeIndex::BOTH {
            self.power_on(node)?;
        }
        match self.wait_whole() {
            Err(BedError::Late(reason)) => {
                let logs = [self.bed.node(HOME).log(), self.peer.log(&self.bed, HOME)];
                let tails: String = logs.iter().map(|log| tail(log)).collect();
                let words = format!("{reason}\n{tails}");
                Err(BenchError::Peer { program: self.peer.name(), words })
            }
            other => Ok(other?),
        }
    }

    fn try_one(&mut self, fault: Fault) -> Result<Seen, BenchError> {
        let owner = self.make_whole()?;
        let began = Instant::now();
        self.cause(fault, owner)?;
        self.bed.watch_for(self.peer.patience() + limits::BED_WATCH)?;
        let seen = Seen {
            began,
            outage: self.bed.client.outage_since(began),
            served: self.bed.client.answer_since(recently()).is_some(),
            two_owners: self.bed.watcher.two_owners_since(began).total,
            still_two: self.bed.watcher.holders(self.bed.address()).len() > 1,
            moves: self.bed.watcher.moves_since(began),
            broken: Vec::new(),
        };
        if self.bed.watcher.missed() > 0 {
            return Err(BedError::Late("a watcher that misses nothing".into()).into());
        }
        self.undo(fault, owner)?;
        Ok(seen)
    }
}

/// Signals a process of a node, and never one outside the bed, whatever a file said.
fn signal(bed: &Bed, node: NodeIndex, pid: Pid, signal: Signal) -> Result<(), BenchError> {
    if !bed.wiring().seat(node).namespace.holds(pid.as_raw()) {
        return Err(BedError::Late(format!("process {pid} to run in the bed")).into());
    }
    kill(pid, signal).map_err(BedError::from)?;
    Ok(())
}

/// The end of a log, if there is one.
fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let tail: Vec<char> = text.chars().rev().take(LOG_SHOWN).collect();
    tail.into_iter().rev().collect()
}

fn recently() -> Instant {
    let now = Instant::now();
    now.checked_sub(RECENT).unwrap_or(now)
}
