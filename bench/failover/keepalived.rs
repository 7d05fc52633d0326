//! keepalived in the bed: each node's daemon a process of that node, VRRP over the LAN switch.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use clusterd::config::NodeIndex;
use clusterd_bed::limits;
use clusterd_bed::{Bed, BedError, node};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::pair::{HOME, Peer, file};
use crate::BenchError;

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
    fn interval(self) -> Duration {
        match self {
            Advert::Second => Duration::from_secs(1),
            Advert::Tenth => Duration::from_millis(100),
            Advert::Hundredth => Duration::from_millis(10),
        }
    }

    fn configure(self, bed: &Bed, node: NodeIndex, priority: u8) -> Result<(), BenchError> {
        let served = bed.served().iter().map(|one| format!("    {}/32 dev eth0\n", one.ip));
        let addresses: String = served.collect();
        let text = format!(
            "global_defs {{\n  router_id {name}\n  vrrp_version 3\n  vrrp_rt_priority {realtime}\n}}\n\
             vrrp_instance web {{\n  state BACKUP\n  interface eth0\n  virtual_router_id 50\n  \
             priority {priority}\n  advert_int {advert}\n  \
             virtual_ipaddress {{\n{addresses}  }}\n}}\n",
            name = node::name(node),
            // As the daemon that it is measured beside: above the bed's own threads.
            realtime = limits::BED_PRIORITY + 1,
            advert = self.interval().as_secs_f64(),
        );
        Ok(fs::write(file(bed, node, "keepalived.conf"), text)?)
    }

    /// Changes the priority of a daemon that runs.
    fn reconfigure(self, bed: &Bed, node: NodeIndex, priority: u8) -> Result<(), BenchError> {
        self.configure(bed, node, priority)?;
        kill(self.master(bed, node)?, Signal::SIGHUP).map_err(BedError::from)?;
        Ok(())
    }
}

/// Priorities: the home node's, the other's, and one that is lower than both.
const HIGH: u8 = 110;
const MIDDLE: u8 = 100;
const LOW: u8 = 50;

fn usual_priority(node: NodeIndex) -> u8 {
    if node == HOME { HIGH } else { MIDDLE }
}

impl Peer for Advert {
    fn name(&self) -> &'static str {
        match self {
            Advert::Second => "keepalived 1 s",
            Advert::Tenth => "keepalived 0.1 s",
            Advert::Hundredth => "keepalived 0.01 s",
        }
    }

    fn patience(&self) -> Duration {
        4 * self.interval()
    }

    /// It does not tell whether the standby node has heard the owner: two advertisements later it has.
    fn settles_in(&self) -> Duration {
        2 * self.interval() + limits::BED_WATCH / 2
    }

    fn daemon(&self, bed: &Bed, node: NodeIndex) -> Result<Command, BenchError> {
        self.configure(bed, node, usual_priority(node))?;
        let mut daemon = Command::new("keepalived");
        daemon.args(["--dont-fork", "--log-console", "--no-syslog", "--vrrp", "--use-file"]);
        daemon.arg(file(bed, node, "keepalived.conf"));
        daemon.arg("--pid").arg(file(bed, node, "keepalived.pid"));
        daemon.arg("--vrrp_pid").arg(file(bed, node, "vrrp.pid"));
        Ok(daemon)
    }

    /// Of a pair that looks whole, that the owner is the home node: it takes the address back.
    fn ailment(&self, bed: &Bed) -> Option<String> {
        let holders = bed.watcher.holders(bed.address());
        (holders != [HOME]).then(|| format!("held by {holders:?}"))
    }

    fn log(&self, bed: &Bed, node: NodeIndex) -> PathBuf {
        bed.node(node).log()
    }

    fn heart(&self, bed: &Bed, node: NodeIndex) -> Result<Pid, BenchError> {
        read_pid(bed, node, "vrrp.pid")
    }

    fn master(&self, bed: &Bed, node: NodeIndex) -> Result<Pid, BenchError> {
        read_pid(bed, node, "keepalived.pid")
    }

    fn move_away(&self, bed: &Bed, owner: NodeIndex) -> Result<(), BenchError> {
        self.reconfigure(bed, owner, LOW)
    }

    fn allow_back(&self, bed: &Bed, owner: NodeIndex) -> Result<(), BenchError> {
        self.reconfigure(bed, owner, usual_priority(owner))
    }
}

fn read_pid(bed: &Bed, node: NodeIndex, name: &str) -> Result<Pid, BenchError> {
    let text = fs::read_to_string(file(bed, node, name))?;
    let number = text.trim().parse().map_err(std::io::Error::other)?;
    Ok(Pid::from_raw(number))
}
