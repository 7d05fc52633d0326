//! keepalived in the bed: each node's daemon a process of that node, VRRP over the LAN switch.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clusterd::bed::faults::Fault;
use clusterd::bed::watcher::TwoOwners;
use clusterd::bed::wiring::Plugs;
use clusterd::bed::{Bed, BedError, node};
use clusterd::config::NodeIndex;
use clusterd::limits;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::BenchError;

/// The node with the higher priority: the owner of a whole pair.
const OWNER: NodeIndex = NodeIndex::Lower;

/// How often the owner advertises itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advert {
    /// The default.
    Second,
    /// Ten a second.
    Tenth,
    /// As fast as VRRPv3 can.
    Hundredth,
}

impl Advert {
    /// All of them.
    pub const ALL: [Advert; 3] = [Advert::Second, Advert::Tenth, Advert::Hundredth];

    /// As it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Advert::Second => "keepalived 1 s",
            Advert::Tenth => "keepalived 0.1 s",
            Advert::Hundredth => "keepalived 0.01 s",
        }
    }

    fn interval(self) -> Duration {
        match self {
            Advert::Second => Duration::from_secs(1),
            Advert::Tenth => Duration::from_millis(100),
            Advert::Hundredth => Duration::from_millis(10),
        }
    }
}

/// What was seen of one fault.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Longest time without an answer since the fault.
    pub outage: Duration,
    /// Whether the client was served when the watch ended.
    pub served: bool,
    /// Moments with two owners.
    pub two_owners: TwoOwners,
    /// Whether there were two when the watch ended.
    pub still_two: bool,
}

/// An answer so long ago is one of now: a client that asks every millisecond is not always scheduled.
const RECENT: Duration = Duration::from_millis(100);

/// A pair under keepalived.
pub struct Keepalived {
    bed: Bed,
    exe: PathBuf,
    advert: Advert,
    children: Vec<Child>,
}

impl Keepalived {
    /// A pair in this bed, still without power. `exe`: the clusterd that has the responder.
    pub fn new(bed: Bed, exe: PathBuf, advert: Advert) -> Keepalived {
        Keepalived { bed, exe, advert, children: Vec::new() }
    }

    /// Tries `fault` on a fresh pair.
    ///
    /// # Errors
    /// The pair did not become whole, or the bed failed.
    pub fn try_one(&mut self, fault: Fault) -> Result<Seen, BenchError> {
        for node in NodeIndex::BOTH {
            self.power_on(node)?;
        }
        self.wait_whole()?;
        let mark = Instant::now();
        self.cause(fault)?;
        self.bed.watch_for(4 * self.advert.interval() + limits::BED_WATCH)?;
        let now = Instant::now();
        let recently = now.checked_sub(RECENT).unwrap_or(now);
        let seen = Seen {
            outage: self.bed.client.outage_since(mark),
            served: self.bed.client.answer_since(recently).is_some(),
            two_owners: self.bed.watcher.two_owners_since(mark),
            still_two: self.bed.watcher.holders(self.bed.address()).len() > 1,
        };
        if self.bed.watcher.missed() > 0 {
            return Err(BedError::Late("a watcher that misses nothing".into()).into());
        }
        for node in NodeIndex::BOTH {
            self.bed.power_cut(node)?;
        }
        // An error: it was buried by the power cut.
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
        self.bed.plug(|plugs| {
            *plugs =
                Plugs { crossover: true, serial: true, lan: [true; 2], switch: true, ..*plugs };
        })?;
        Ok(seen)
    }

    fn power_on(&mut self, node: NodeIndex) -> Result<(), BenchError> {
        self.bed.watcher.on(node);
        self.bed.plug(|plugs| *Plugs::of(&mut plugs.power, node) = true)?;
        let priority = if node == OWNER { 110 } else { 100 };
        self.configure(node, priority)?;
        let mut responder = Command::new(&self.exe);
        responder.args(["bed-responder", "--name", node::name(node), "--address"]);
        responder.arg(self.bed.address().to_string());
        let mut daemon = Command::new("keepalived");
        daemon.args(["--dont-fork", "--log-console", "--no-syslog", "--vrrp", "--use-file"]);
        daemon.arg(self.file(node, "keepalived.conf"));
        daemon.arg("--pid").arg(self.file(node, "keepalived.pid"));
        daemon.arg("--vrrp_pid").arg(self.file(node, "vrrp.pid"));
        for mut command in [responder, daemon] {
            let log = File::options().append(true).create(true).open(self.bed.node(node).log())?;
            command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            self.children.push(self.bed.wiring().seat(node).namespace.run(|| command.spawn())??);
        }
        Ok(())
    }

    fn configure(&self, node: NodeIndex, priority: u8) -> Result<(), BenchError> {
        let text = format!(
            "global_defs {{\n  router_id {name}\n  vrrp_version 3\n  vrrp_rt_priority {realtime}\n}}\n\
             vrrp_instance web {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 50\n  \
             priority {priority}\n  advert_int {advert}\n  \
             virtual_ipaddress {{\n    {address}/32 dev eth0\n  }}\n}}\n",
            name = node::name(node),
            // As the daemon that it is measured beside: above the bed's own threads.
            realtime = limits::BED_PRIORITY + 1,
            advert = self.advert.interval().as_secs_f64(),
            address = self.bed.address(),
        );
        Ok(fs::write(self.file(node, "keepalived.conf"), text)?)
    }

    /// A file in the node's directory, which goes with the bed.
    fn file(&self, node: NodeIndex, name: &str) -> PathBuf {
        self.bed.node(node).log().with_file_name(name)
    }

    /// Waits until the owner serves the client, and the other one has heard it.
    fn wait_whole(&self) -> Result<(), BenchError> {
        let whole = || {
            let holders = self.bed.watcher.holders(self.bed.address());
            let now = Instant::now();
            let recently = now.checked_sub(RECENT).unwrap_or(now);
            let answer = self.bed.client.answer_since(recently);
            match answer {
                Some(answer) if holders == [OWNER] && answer.from == OWNER => Ok(()),
                other => Err(format!("held by {holders:?}, the client hears {other:?}")),
            }
        };
        let name = self.advert.name();
        let result = self
            .bed
            .wait(name, limits::BED_WHOLE_WITHIN, whole)
            .and_then(|()| self.bed.watch_for(2 * self.advert.interval() + limits::BED_WATCH / 2))
            .and_then(|()| self.bed.wait(name, limits::BED_WHOLE_WITHIN, whole));
        match result {
            Err(BedError::Late(reason)) => {
                let log = fs::read_to_string(self.bed.node(OWNER).log()).unwrap_or_default();
                Err(BenchError::Peer { program: "keepalived", words: format!("{reason}\n{log}") })
            }
            other => Ok(other?),
        }
    }

    fn cause(&mut self, fault: Fault) -> Result<(), BenchError> {
        let bed = &mut self.bed;
        match fault {
            Fault::CrossoverCut => bed.plug(|plugs| plugs.crossover = false)?,
            Fault::SerialCut => bed.plug(|plugs| plugs.serial = false)?,
            Fault::BothCut => bed.plug(|plugs| (plugs.crossover, plugs.serial) = (false, false))?,
            Fault::OwnerLanCut => bed.plug(|plugs| *Plugs::of(&mut plugs.lan, OWNER) = false)?,
            Fault::SwitchDead => bed.plug(|plugs| plugs.switch = false)?,
            Fault::OwnerPower => bed.power_cut(OWNER)?,
            Fault::StandbyPower => bed.power_cut(OWNER.other())?,
            Fault::AllFrozen => bed.freeze(OWNER)?,
            Fault::AllKilled => bed.kill(OWNER)?,
            Fault::HeartKilled => self.signal("vrrp.pid", Signal::SIGKILL)?,
            Fault::HeartFrozen => self.signal("vrrp.pid", Signal::SIGSTOP)?,
            Fault::OrderlyStop => self.signal("keepalived.pid", Signal::SIGTERM)?,
            Fault::PlannedMove => {
                self.configure(OWNER, 50)?;
                self.signal("keepalived.pid", Signal::SIGHUP)?;
            }
        }
        Ok(())
    }

    /// Signals the owner's process whose number is in that file.
    fn signal(&self, pid_file: &str, signal: Signal) -> Result<(), BenchError> {
        let pid = read_pid(&self.file(OWNER, pid_file))?;
        // Never a process outside the bed, whatever the file says.
        if !self.bed.wiring().seat(OWNER).namespace.holds(pid.as_raw()) {
            return Err(BedError::Late(format!("{pid} of {pid_file} to run in the bed")).into());
        }
        kill(pid, signal).map_err(BedError::from)?;
        Ok(())
    }
}

fn read_pid(path: &Path) -> Result<Pid, BenchError> {
    let text = fs::read_to_string(path)?;
    let number = text.trim().parse().map_err(std::io::Error::other)?;
    Ok(Pid::from_raw(number))
}
