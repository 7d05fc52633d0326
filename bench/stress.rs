//! Stress: a machine that is loaded to the limit must not lead to a takeover.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd::sys::ns::Namespace;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::failover::keepalived::Advert;
use crate::failover::{Contender, Contestant};
use crate::scratch::Scratch;
use crate::table::{Goal, Table};
use crate::{BenchError, Measured, Setting, say};

/// Who must stand it, at the same time.
const CONTENDERS: [Contender; 2] = [Contender::Clusterd, Contender::Keepalived(Advert::Hundredth)];
/// What the machine does besides.
const LOAD: [&str; 6] = ["--cpu", "8", "--vm", "2", "--io", "2"];
/// Of a hundred frames that come over clusterd's crossover so many are lost.
const LOSS_PERCENT: u32 = 30;
/// The bed's client remembers five minutes: its longest outage is looked at more often than that.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// The load, as long as this value lives.
struct Load {
    child: Child,
    /// Its temporary files.
    _dir: Scratch,
}

impl Load {
    /// It lasts `time` and a minute at most, even if nobody is left to end it.
    fn start(time: Duration) -> Result<Load, BenchError> {
        let dir = Scratch::new("stress")?;
        let mut command = Command::new("stress-ng");
        command.args(LOAD).arg("--temp-path").arg(dir.path()).process_group(0);
        command.arg("--timeout").arg(format!("{}s", time.as_secs() + 60));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Load { child: command.spawn()?, _dir: dir })
    }

    /// # Errors
    /// It has ended by itself.
    fn check(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                Err(BenchError::Peer { program: "stress-ng", words: status.to_string() })
            }
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // Its workers are in its group and die with it; one that is gone already needs nothing.
        let _ = killpg(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// Loses frames that come in by a node's crossover, before any socket has seen them.
fn lose(namespace: &Namespace) -> Result<(), BenchError> {
    let rules = format!(
        "table netdev loss {{\nchain in {{\ntype filter hook ingress device \"eth1\" priority 0;\n\
         numgen random mod 100 < {LOSS_PERCENT} drop\n}}\n}}\n"
    );
    let output = namespace.run(|| Command::new("nft").arg(rules).output())??;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(BenchError::Peer { program: "nft", words })
}

/// What was seen of one pair.
struct Watched {
    contender: Contender,
    pair: Box<dyn Contestant>,
    outage: Duration,
}

/// Moves, two owners and outages under load.
///
/// # Errors
/// No pair became whole, or a program is missing.
pub fn run(setting: &Setting) -> Result<Measured, BenchError> {
    let mut pairs = Vec::new();
    for contender in CONTENDERS {
        say(&format!("stress: {}", contender.name()));
        let mut pair = contender.pair(setting, |_| {})?;
        pair.make_whole()?;
        pairs.push(Watched { contender, pair, outage: Duration::ZERO });
    }
    for Watched { contender, pair, .. } in &pairs {
        if *contender == Contender::Clusterd {
            for node in NodeIndex::BOTH {
                lose(&pair.bed().wiring().seat(node).namespace)?;
            }
        }
    }
    let mark = Instant::now();
    let end = watch(&mut pairs, Duration::from_secs(60) * setting.minutes);
    let minutes = mark.elapsed().as_secs_f64() / 60.0;
    let mut table = Table::new(&format!(
        "Stress: {minutes:.1} minutes of stress-ng {} on the machine",
        LOAD.join(" ")
    ));
    for Watched { contender, pair, outage } in &pairs {
        let (name, bed) = (contender.name(), pair.bed());
        let two_owners = bed.watcher.two_owners_since(mark);
        if bed.watcher.missed() > 0 {
            table.note(&format!("{name}: the watcher lost messages, there may have been more."));
        }
        table.put("moves of the address", name, bed.watcher.moves_since(mark) as f64, false);
        table.put("times with two owners", name, two_owners.moments as f64, false);
        table.put("time with two owners, s", name, two_owners.total.as_secs_f64(), false);
        table.put("longest outage at the client, ms", name, outage.as_secs_f64() * 1000.0, false);
        if *contender == Contender::Clusterd {
            for (node, text) in NodeIndex::BOTH.into_iter().zip(["serv1", "serv2"]) {
                let Some(status) = bed.status(node) else {
                    table.note(&format!("{text} of {name} does not answer."));
                    continue;
                };
                let row = format!("longest gap in the loop of {text}, ms");
                table.put(&row, name, status.worst_gap_ms as f64, false);
                for (from_ms, below_ms, count) in status.r#loop.ranges() {
                    let late = match below_ms {
                        Some(below_ms) => format!("{from_ms} to {below_ms} ms"),
                        None => format!("{from_ms} ms and more"),
                    };
                    let row = format!("what was due in the loop of {text}, late by {late}");
                    table.put(&row, name, count as f64, false);
                }
                for path in &status.peer.paths {
                    let row = format!("beats missed by {text} on {}", path.name);
                    table.put(&row, name, path.lost as f64, false);
                }
            }
        }
    }
    for row in ["moves of the address", "times with two owners", "time with two owners, s"] {
        table.ask(row, Some(Goal::Never));
    }
    table.note(&format!(
        "Both pairs at the same time. Of clusterd's frames {LOSS_PERCENT} % are lost on the crossover, both ways; \
         keepalived has its only path whole, and real-time priority as clusterd. The client and the \
         service that it asks have real-time priority, too: an outage is nobody's at the address."
    ));
    Ok(Measured { tables: vec![table], plot: None, end })
}

fn watch(pairs: &mut [Watched], time: Duration) -> Result<(), BenchError> {
    let mut load = Load::start(time)?;
    let until = Instant::now() + time;
    loop {
        let mark = Instant::now();
        let left = until.saturating_duration_since(mark);
        if left.is_zero() {
            return Ok(());
        }
        say(&format!("stress: {:.0} s left", left.as_secs_f64()));
        let mut stopped = Ok(());
        if let Some(first) = pairs.first() {
            stopped = first.pair.bed().watch_for(left.min(LOOK_EVERY));
        }
        for Watched { pair, outage, .. } in pairs.iter_mut() {
            *outage = (*outage).max(pair.bed().client.outage_since(mark));
        }
        stopped?;
        load.check()?;
    }
}
