//! Linux-HA heartbeat 3 in the bed, without a resource manager (its "v1 style"): broadcast on the crossover,
//! unicast on the LAN, the serial line, and `ipfail` with the gateway as ping node.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use clusterd::config::NodeIndex;
use clusterd_bed::limits;
use clusterd_bed::wiring::{REACH_HOSTS, node_addresses};
use clusterd_bed::{Bed, BedError, NAMES, node};
use nix::unistd::Pid;

use super::pair::{HOME, Peer, file};
use crate::BenchError;

/// How a node is started, see there.
const START: &str = include_str!("heartbeat.sh");
/// What the process is called that decides.
const MASTER: &str = "heartbeat: master control process";

/// How fast its heart beats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As it comes: a beat a second, dead after 30.
    Default,
    /// A beat every 100 ms, dead after 500.
    Fast,
}

impl Pace {
    fn beat(self) -> Duration {
        match self {
            Pace::Default => Duration::from_secs(1),
            Pace::Fast => Duration::from_millis(100),
        }
    }

    fn dead_after(self) -> Duration {
        match self {
            Pace::Default => Duration::from_secs(30),
            Pace::Fast => Duration::from_millis(500),
        }
    }

    fn config(self, bed: &Bed, node: NodeIndex) -> String {
        let times = match self {
            // `deadping` is 30 s, too.
            Pace::Default => "",
            Pace::Fast => {
                "keepalive 100ms\nwarntime 250ms\ndeadtime 500ms\ninitdead 1000ms\ndeadping 500ms\n"
            }
        };
        let [gateway, _] = REACH_HOSTS;
        format!(
            "logfacility none\nlogfile /var/lib/heartbeat/ha-log\n{times}auto_failback off\n\
             rtprio {realtime}\nudpport 694\nbaud {baud}\nserial {serial}\nbcast eth1\n\
             ucast eth0 {peer}\nnode {nodes}\nping {gateway}\n\
             respawn hacluster /usr/libexec/heartbeat/ipfail\n",
            // As the daemon that it is measured beside: above the bed's own threads.
            realtime = limits::BED_PRIORITY + 1,
            baud = limits::SERIAL_BAUD,
            serial = bed.line().device(node).display(),
            peer = node_addresses(node.other()).0,
            nodes = NAMES.join(" "),
        )
    }
}

impl Peer for Pace {
    fn name(&self) -> &'static str {
        match self {
            Pace::Default => "heartbeat default",
            Pace::Fast => "heartbeat 100 ms",
        }
    }

    /// `ipfail` takes a few beats more than a death, the scripts up to a second.
    fn patience(&self) -> Duration {
        self.dead_after() + 10 * self.beat() + Duration::from_secs(1)
    }

    fn settles_in(&self) -> Duration {
        2 * self.beat()
    }

    fn daemon(&self, bed: &Bed, node: NodeIndex) -> Result<Command, BenchError> {
        fs::write(file(bed, node, "ha.cf"), self.config(bed, node))?;
        let resource = format!("{} IPaddr2::{}/32/eth0\n", node::name(HOME), bed.address());
        fs::write(file(bed, node, "haresources"), resource)?;
        // It refuses keys that others can read.
        let mut options = File::options();
        let keys = options.write(true).create(true).truncate(true).mode(0o600);
        keys.open(file(bed, node, "authkeys"))?.write_all(b"auth 1\n1 sha1 bed\n")?;
        let [.., host] = node_addresses(node).0.octets();
        let mut daemon = Command::new("unshare");
        daemon.args(["--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]);
        daemon.args(["--propagation", "private", "sh", "-c", START, "sh"]);
        daemon.arg(file(bed, node, "")).arg(node::name(node)).arg(format!("198.51.100.{host}/24"));
        Ok(daemon)
    }

    fn ailment(&self, bed: &Bed) -> Option<String> {
        NodeIndex::BOTH.into_iter().find_map(|node| self.ailment_of(bed, node))
    }

    fn log(&self, bed: &Bed, node: NodeIndex) -> PathBuf {
        file(bed, node, "lib").join("ha-log")
    }

    fn heart(&self, bed: &Bed, node: NodeIndex) -> Result<Pid, BenchError> {
        for process in bed.processes(node)? {
            // One that has ended in the meantime is not the one.
            let words = fs::read(format!("/proc/{}/cmdline", process.pid)).unwrap_or_default();
            if words.starts_with(MASTER.as_bytes()) {
                return Ok(Pid::from_raw(process.pid));
            }
        }
        Err(BedError::Late(format!("a \"{MASTER}\" on {}", node::name(node))).into())
    }

    fn master(&self, bed: &Bed, node: NodeIndex) -> Result<Pid, BenchError> {
        self.heart(bed, node)
    }

    fn move_away(&self, bed: &Bed, owner: NodeIndex) -> Result<(), BenchError> {
        let output = self.inside(bed, owner, "/usr/share/heartbeat/hb_standby all")?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(BenchError::Peer { program: "hb_standby", words })
    }

    /// With `auto_failback off` the address stays where it is.
    fn allow_back(&self, _: &Bed, _: NodeIndex) -> Result<(), BenchError> {
        Ok(())
    }
}

impl Pace {
    /// Runs a shell command where a node's heartbeat runs.
    fn inside(self, bed: &Bed, node: NodeIndex, line: &str) -> Result<Output, BenchError> {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.heart(bed, node)?.to_string());
        command.args(["--mount", "--uts", "--pid", "--net", "sh", "-c", line]);
        Ok(command.output()?)
    }

    /// Asks it for its peer, its links, its ping node, and whether resources are on the move.
    fn ailment_of(self, bed: &Bed, node: NodeIndex) -> Option<String> {
        let name = node::name(node);
        let peer = node::name(node.other());
        let serial = bed.line().device(node).display();
        let [gateway, _] = REACH_HOSTS;
        let questions = [
            ("rscstatus".to_owned(), ["all", "local", "foreign", "none"].as_slice()),
            (format!("nodestatus {peer}"), &["active"]),
            (format!("nodestatus {gateway}"), &["ping"]),
            (format!("hblinkstatus {peer} eth1"), &["up"]),
            (format!("hblinkstatus {peer} eth0"), &["up"]),
            (format!("hblinkstatus {peer} {serial}"), &["up"]),
        ];
        let script: String =
            questions.iter().map(|(question, _)| format!("cl_status {question}\n")).collect();
        let output = match self.inside(bed, node, &script) {
            Ok(output) => output,
            Err(error) => return Some(error.to_string()),
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let mut answers = text.lines();
        questions.iter().find_map(|(question, expected)| {
            let answer = answers.next().unwrap_or("nothing").trim();
            let well = expected.contains(&answer);
            (!well).then(|| format!("{name} says of {question}: {answer}"))
        })
    }
}
