//! clusterd as a contender: a real pair in the bed, with one mirrored tree.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd::control::protocol::{Answer, Payload, Request};
use clusterd::control::socket;
use clusterd::control::status::{GroupState, MirrorState, PeerState, Status};
use clusterd_bed::limits;
use clusterd_bed::node::name;
use clusterd_bed::processes::{self, Target};
use clusterd_bed::{Bed, BedError, GROUP, Options};
use nix::sys::signal::Signal;

use super::contender::{Brought, Contender};
use super::meter;
use super::work::{Change, Work};
use crate::table::OURS;
use crate::{BenchError, Setting};

/// The preferred node: it owns the group.
const OWNER: NodeIndex = NodeIndex::Lower;
const REPLICA: NodeIndex = NodeIndex::Upper;
/// The process that mirrors.
const WORKER: &str = "clusterd-work";
/// What takes longer hangs.
const BRING_WITHIN: Duration = Duration::from_secs(600);

/// The pair.
pub struct Pair {
    bed: Bed,
    stop: &'static AtomicBool,
}

impl Pair {
    /// Makes a bed with an empty tree on both nodes, which are without power.
    ///
    /// # Errors
    /// The bed could not be made.
    pub fn start(setting: &Setting) -> Result<Pair, BenchError> {
        let mut options = Options::new(setting.exe.clone());
        options.stop = setting.stop;
        options.unchecked = true;
        options.group = "mirror = [\"{srv}/www\"]".to_owned();
        let pair = Pair { bed: Bed::new(options)?, stop: setting.stop };
        for tree in pair.trees() {
            fs::create_dir(tree)?;
        }
        Ok(pair)
    }

    fn workers(&self) -> Result<Vec<i32>, BenchError> {
        let mut pids = Vec::new();
        for node in NodeIndex::BOTH {
            let processes = self.bed.processes(node)?.into_iter();
            pids.extend(processes.filter(|one| one.comm == WORKER).map(|one| one.pid));
        }
        Ok(pids)
    }

    fn sync(&self) -> Result<(), BenchError> {
        let verb = ["sync", GROUP, "--wait"];
        let output = self.bed.ask_within(OWNER, &verb, BRING_WITHIN)?;
        if output.status.success() {
            return Ok(());
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(BedError::Refused(words).into())
    }

    /// Ends a node's daemon in order and starts it again.
    fn restart(&mut self, node: NodeIndex) -> Result<(), BenchError> {
        self.bed.signal(node, Target::Guard, Signal::SIGTERM)?;
        self.bed.wait("the daemon to end", limits::BED_EFFECT_WITHIN, || {
            let processes = self.bed.processes(node).map_err(|error| error.to_string())?;
            match processes.into_iter().find(|one| processes::is_of_daemon(&one.comm)) {
                Some(process) => Err(format!("{} runs", process.comm)),
                None => Ok(()),
            }
        })?;
        self.bed.kill(node)?;
        Ok(self.bed.start_processes(node)?)
    }

    /// Waits until both daemons are up and the owner serves: boot is no mirroring.
    fn wait_up(&self) -> Result<(), BenchError> {
        self.wait_states("both daemons to be up", |owner, replica| {
            let alive = [owner, replica].iter().all(|status| status.peer.state == PeerState::Alive);
            alive && owner.groups.iter().all(|group| group.state == GroupState::Active)
        })
    }

    fn wait_in_sync(&self) -> Result<(), BenchError> {
        self.wait_states("the mirror to be in sync", |owner, replica| {
            let groups = owner.groups.iter().chain(&replica.groups);
            groups.into_iter().all(|group| group.mirror.state == MirrorState::InSync)
        })
    }

    /// Waits until what both daemons say is as wanted.
    fn wait_states(
        &self,
        what: &str,
        wanted: impl Fn(&Status, &Status) -> bool,
    ) -> Result<(), BenchError> {
        self.wait(what, || {
            let said = |status: Option<&Status>| match status {
                Some(status) => format!("{:?}, {:?}", status.peer.state, status.groups),
                None => "nothing".to_owned(),
            };
            let (owner, replica) = (self.status(OWNER), self.status(REPLICA));
            match (&owner, &replica) {
                (Some(owner), Some(replica)) if wanted(owner, replica) => Ok(()),
                _ => Err(format!(
                    "{} says {}; {} says {}",
                    name(OWNER),
                    said(owner.as_ref()),
                    name(REPLICA),
                    said(replica.as_ref())
                )),
            }
        })
    }

    /// A file is whole when it has its time: it comes by a rename.
    fn wait_visible(&self, change: &Change) -> Result<(), BenchError> {
        let [tree, replica] = self.trees();
        for path in &change.rewritten {
            let there = replica.join(path.strip_prefix(&tree).unwrap_or(path));
            let wanted = fs::metadata(path)?.modified()?;
            self.wait("the file to be on the replica", || {
                match fs::metadata(&there).and_then(|metadata| metadata.modified()) {
                    Ok(time) if time == wanted => Ok(()),
                    Ok(_) => Err(format!("{} is another one", there.display())),
                    Err(error) => Err(format!("{}: {error}", there.display())),
                }
            })?;
        }
        Ok(())
    }

    /// As [`Bed::wait`], but exact to a millisecond.
    fn wait(&self, what: &str, look: impl Fn() -> Result<(), String>) -> Result<(), BenchError> {
        let deadline = Instant::now() + BRING_WITHIN;
        loop {
            match look() {
                Ok(()) => return Ok(()),
                Err(_) if self.stop.load(Ordering::SeqCst) => return Err(BedError::Stopped.into()),
                Err(reason) if Instant::now() > deadline => {
                    return Err(BedError::Late(format!("{what}: {reason}")).into());
                }
                Err(_) => std::thread::sleep(limits::BED_ASK_EVERY),
            }
        }
    }

    /// Without a process for each question: what is measured runs beside.
    fn status(&self, node: NodeIndex) -> Option<Status> {
        let run_dir = self.bed.node(node).run_dir();
        match socket::ask(&run_dir, &Request::Status {}, limits::BED_STATUS_WITHIN).ok()? {
            Answer::Ok(Payload::Status(status)) => Some(*status),
            Answer::Ok(Payload::Text(_)) | Answer::Refused(_) | Answer::Unknown(_) => None,
        }
    }
}

impl Contender for Pair {
    fn name(&self) -> &'static str {
        OURS
    }

    fn trees(&self) -> [PathBuf; 2] {
        [OWNER, REPLICA].map(|node| self.bed.srv(node).join("www"))
    }

    /// `verify` is not built yet.
    fn can(&self, work: Work) -> bool {
        work != Work::Proved
    }

    /// From here on memory is measured again.
    fn prepare(&self) -> Result<(), BenchError> {
        Ok(self.workers()?.into_iter().try_for_each(meter::reset_peak)?)
    }

    fn bring_over(
        &mut self,
        work: Work,
        change: &Change,
        end: Instant,
    ) -> Result<Brought, BenchError> {
        let took = match work {
            Work::FirstCopy => {
                for node in NodeIndex::BOTH {
                    self.bed.power_on(node)?;
                }
                self.wait_up()?;
                let up = Instant::now();
                self.sync()?;
                up.elapsed()
            }
            Work::Restart => {
                self.restart(REPLICA)?;
                self.wait_up()?;
                let up = Instant::now();
                self.wait_in_sync()?;
                up.elapsed()
            }
            Work::OneSmall => {
                self.wait_visible(change)?;
                let took = end.elapsed();
                self.sync()?;
                took
            }
            Work::Unchanged
            | Work::Proved
            | Work::Rewrite
            | Work::Patch
            | Work::PatchHelped
            | Work::Insert
            | Work::Append
            | Work::NewAndDeleted
            | Work::RenameDir
            | Work::Metadata
            | Work::Create => {
                self.sync()?;
                end.elapsed()
            }
        };
        let memory = self.workers()?.into_iter().map(meter::peak).sum::<std::io::Result<u64>>()?;
        Ok(Brought { took, memory })
    }

    fn wire_bytes(&self) -> Result<u64, BenchError> {
        meter::ipv6_bytes(&self.bed.wiring().seat(OWNER).namespace)
    }
}
