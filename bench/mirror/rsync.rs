//! rsync as it is meant for this: a daemon on the replica's side, chroot, symlinks as they are.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clusterd::config::NodeIndex;
use clusterd::sys::ns::Namespace;
use clusterd_bed::limits;
use clusterd_bed::wiring::{Plugs, Wiring, interface_indexes};
use clusterd_bed::{BedError, processes};

use super::contender::{Brought, Contender};
use super::meter;
use super::work::{Change, Work};
use crate::scratch::Scratch;
use crate::{BenchError, Setting};

const SOURCE: NodeIndex = NodeIndex::Lower;
const REPLICA: NodeIndex = NodeIndex::Upper;
/// Addresses on the crossover, which the bed leaves without (TEST-NET-1).
const SOURCE_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const REPLICA_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2));
/// rsync's own (IANA).
const PORT: u16 = 873;
/// A run that takes longer hangs.
const RUN_WITHIN: Duration = Duration::from_secs(600);
const PUSH: [&str; 4] = ["-aHAXS", "--delete", "--numeric-ids", "--modify-window=-1"];

/// The two namespaces, and the daemon.
pub struct Rsync {
    daemon: Child,
    wiring: Wiring,
    files: Scratch,
    stop: &'static AtomicBool,
}

impl Rsync {
    /// Wires two namespaces and starts the daemon in one.
    ///
    /// # Errors
    /// The wiring, or the daemon does not answer.
    pub fn start(setting: &Setting) -> Result<Rsync, BenchError> {
        // What its daemon forks comes to this process, which buries it.
        nix::sys::prctl::set_child_subreaper(true).map_err(BedError::from)?;
        let files = Scratch::new("rsync")?;
        let mut wiring = Wiring::new(false, false)?;
        wiring.apply(Plugs { power: [true; 2], ..wiring.plugs() })?;
        for (node, ip) in [(SOURCE, SOURCE_IP), (REPLICA, REPLICA_IP)] {
            let (_, crossover) = interface_indexes(node);
            wiring.seat(node).links.add_address(crossover, ip, 24)?;
        }
        let [tree, replica] = ["tree", "replica"].map(|name| files.path().join(name));
        fs::create_dir(&tree)?;
        fs::create_dir(&replica)?;
        let config = files.path().join("rsyncd.conf");
        let text = format!(
            "use chroot = yes\nmunge symlinks = no\nuid = 0\ngid = 0\nread only = no\n\
             lock file = {dir}/lock\nlog file = {dir}/log\n[tree]\npath = {replica}\n",
            dir = files.path().display(),
            replica = replica.display(),
        );
        fs::write(&config, text)?;
        let mut command = Command::new("rsync");
        command.args(["--daemon", "--no-detach", "--config"]).arg(&config);
        command.arg(format!("--address={REPLICA_IP}")).arg(format!("--port={PORT}"));
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = wiring.seat(REPLICA).namespace.run(|| command.spawn())??;
        let rsync = Rsync { daemon, wiring, files, stop: setting.stop };
        rsync.wait_for_daemon()?;
        Ok(rsync)
    }

    /// Those of the tree and of the replica.
    fn namespaces(&self) -> [&Namespace; 2] {
        [SOURCE, REPLICA].map(|node| &self.wiring.seat(node).namespace)
    }

    fn run(&self, work: Work) -> Result<(), BenchError> {
        let [tree, _] = self.trees();
        let mut command = Command::new("rsync");
        command.args(PUSH).args(match work {
            Work::Proved => ["--checksum"].as_slice(),
            Work::PatchHelped => ["--inplace"].as_slice(),
            Work::FirstCopy
            | Work::Unchanged
            | Work::Restart
            | Work::OneSmall
            | Work::Rewrite
            | Work::Patch
            | Work::Insert
            | Work::Append
            | Work::NewAndDeleted
            | Work::RenameDir
            | Work::Metadata
            | Work::Create => [].as_slice(),
        });
        // The slash: what is in it.
        command.arg(tree.join("")).arg(format!("rsync://{REPLICA_IP}:{PORT}/tree/"));
        let words = self.files.path().join("client.log");
        let log = File::create(&words)?;
        command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut child = self.wiring.seat(SOURCE).namespace.run(|| command.spawn())??;
        let deadline = Instant::now() + RUN_WITHIN;
        let failure = loop {
            match child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(_) => {
                    let words = fs::read_to_string(&words)?;
                    return Err(BenchError::Peer { program: "rsync", words });
                }
                None if self.stop.load(Ordering::SeqCst) => break BedError::Stopped,
                None if Instant::now() > deadline => break BedError::Late("rsync to end".into()),
                None => std::thread::sleep(limits::BED_ASK_EVERY),
            }
        };
        child.kill()?;
        child.wait()?;
        Err(failure.into())
    }

    fn wait_for_daemon(&self) -> Result<(), BenchError> {
        let deadline = Instant::now() + limits::BED_SOON;
        let to = SocketAddr::new(REPLICA_IP, PORT);
        let connect = || TcpStream::connect_timeout(&to, limits::BED_STATUS_WITHIN);
        loop {
            match self.wiring.seat(SOURCE).namespace.run(connect)? {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() > deadline => {
                    return Err(BenchError::Peer { program: "rsync", words: error.to_string() });
                }
                Err(_) => std::thread::sleep(limits::BED_LOOK_EVERY),
            }
        }
    }
}

impl Contender for Rsync {
    fn name(&self) -> &'static str {
        "rsync"
    }

    fn trees(&self) -> [PathBuf; 2] {
        ["tree", "replica"].map(|name| self.files.path().join(name))
    }

    fn can(&self, _: Work) -> bool {
        true
    }

    fn prepare(&self) -> Result<(), BenchError> {
        Ok(())
    }

    fn bring_over(&mut self, work: Work, _: &Change, end: Instant) -> Result<Brought, BenchError> {
        let (took, memory) = meter::most_memory(self.namespaces(), || {
            self.run(work)?;
            Ok(end.elapsed())
        });
        took.map(|took| Brought { took, memory })
    }

    /// All of them are rsync's.
    fn wire_bytes(&self) -> Result<u64, BenchError> {
        let [tree, _] = self.namespaces();
        meter::ipv4_bytes(tree)
    }
}

impl Drop for Rsync {
    fn drop(&mut self) {
        for namespace in self.namespaces() {
            // A namespace can't hold back a SIGKILL; if it does, there is nobody left to tell.
            let _ = processes::kill_all(namespace);
        }
        // It was buried already.
        let _ = self.daemon.try_wait();
    }
}
