//! A node of the bed: its files, how its processes are started, and how its daemon is asked.

use std::fs::{self, File};
use std::io::Read;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::serial_line::SerialLine;
use super::wiring::node_addresses;
use super::{BedError, CLUSTER, GROUP, NAMES, Options, SECOND_GROUP};
use crate::limits;
use clusterd::config::NodeIndex;
use clusterd::control::status::Status;
use clusterd::sys::ns::Namespace;

/// A node's name.
pub fn name(node: NodeIndex) -> &'static str {
    let [lower, upper] = NAMES;
    match node {
        NodeIndex::Lower => lower,
        NodeIndex::Upper => upper,
    }
}

/// The bed's directory: config, key, and one directory for each node. Removed with this value.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Makes a private directory below the one for temporary files and fills it.
    ///
    /// # Errors
    /// It can't be written.
    pub fn new(options: &Options, line: &SerialLine) -> Result<Files, BedError> {
        /// Beds of one process need different names.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir =
            std::env::temp_dir().join(format!("clusterd-bed-{}-{number}", std::process::id()));
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let files = Files { dir };
        let mut key = [0u8; 32];
        getrandom::fill(&mut key).map_err(|error| std::io::Error::other(error.to_string()))?;
        let key_file = files.dir.join("cluster.key");
        std::io::Write::write_all(
            &mut File::options().write(true).create_new(true).mode(0o600).open(&key_file)?,
            &key,
        )?;
        let config = config_text(options, line, &key_file, &files.seen_srv());
        fs::write(files.config(), config)?;
        for node in NodeIndex::BOTH {
            fs::create_dir_all(files.srv(node))?;
        }
        fs::create_dir(files.seen_srv())?;
        Ok(files)
    }

    /// A node's own content of the directory for files.
    pub fn srv(&self, node: NodeIndex) -> PathBuf {
        self.dir.join(name(node)).join("srv")
    }

    /// Where both nodes see it.
    pub fn seen_srv(&self) -> PathBuf {
        self.dir.join("srv")
    }

    /// The config file of both nodes.
    pub fn config(&self) -> PathBuf {
        self.dir.join("clusterd.toml")
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What can't be removed stays in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn config_text(options: &Options, line: &SerialLine, key: &Path, srv: &Path) -> String {
    let mut text =
        format!("[cluster]\nname = \"{CLUSTER}\"\nkey = {:?}\n", key.display().to_string());
    for node in NodeIndex::BOTH {
        let (v4, v6) = node_addresses(node);
        let address = if options.ipv6 { IpAddr::V6(v6) } else { IpAddr::V4(v4) };
        text += &format!(
            "\n[node.{}]\naddress = \"{address}\"\nlan = \"eth0\"\ncrossover = \"eth1\"\n\
             serial = {{ device = {:?}, baud = {} }}\n",
            name(node),
            line.device(node).display().to_string(),
            limits::SERIAL_BAUD,
        );
        if options.redundant {
            text += "redundant = \"eth2\"\n";
        }
    }
    let hosts = listed(&options.reach);
    text += &format!("\n[heartbeat]\n{}\n\n[reach]\nhosts = [{hosts}]\n", options.heartbeat);
    let mut groups = vec![(GROUP, NodeIndex::Lower, &options.addresses, &options.group)];
    if !options.second_addresses.is_empty() {
        let second = (&options.second_addresses, &options.second_group);
        groups.push((SECOND_GROUP, NodeIndex::Upper, second.0, second.1));
    }
    for (group, prefer, addresses, lines) in groups {
        text += &format!(
            "\n[group.{group}]\nprefer = \"{}\"\naddress = [{}]\n{}\n",
            name(prefer),
            listed(addresses),
            lines.replace("{srv}", &srv.display().to_string()),
        );
    }
    text
}

/// The values of a list in the config file.
fn listed(values: &[impl std::fmt::Display]) -> String {
    values.iter().map(|value| format!("\"{value}\"")).collect::<Vec<String>>().join(", ")
}

/// A node's files, and the processes that were started there.
#[derive(Debug)]
pub struct Node {
    children: Vec<Child>,
    name: &'static str,
    config: PathBuf,
    dir: PathBuf,
}

impl Node {
    /// Node `node` of the bed with these files.
    pub fn new(node: NodeIndex, files: &Files) -> Node {
        let name = name(node);
        Node { children: Vec::new(), name, config: files.config(), dir: files.dir.join(name) }
    }

    /// The config file, the same of both nodes. It is read when a daemon starts.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What its daemon and its service wrote to stderr.
    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Its daemon's events, one JSON object a line.
    pub fn events(&self) -> PathBuf {
        self.state_dir().join("events.jsonl")
    }

    /// Its own directory, outside of what it serves.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its daemon's control socket is.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    fn state_dir(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// Starts its service and its daemon in `namespace`. They are in process groups of their own, so
    /// that Ctrl-C reaches only who is in charge of the bed.
    ///
    /// # Errors
    /// The program can't be run.
    pub fn start(&mut self, namespace: &Namespace, options: &Options) -> Result<(), BedError> {
        let mut responder = Command::new(&options.demo);
        responder.args(["bed-responder", "--name", self.name]);
        for ip in options.ips() {
            responder.arg("--address").arg(ip.to_string());
        }
        let mut daemon = Command::new(&options.exe);
        daemon.arg("run");
        self.add_places(&mut daemon);
        for mut command in [responder, daemon] {
            let log = File::options().append(true).create(true).open(self.log())?;
            command.process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
            self.children.push(namespace.run(|| command.spawn())??);
        }
        self.bury();
        Ok(())
    }

    /// Takes note of the children that have ended, so that no zombie is left.
    pub fn bury(&mut self) {
        // An error: it was waited for elsewhere.
        self.children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Runs a verb of `clusterd` that speaks to this node's daemon.
    ///
    /// # Errors
    /// It can't be run, takes longer than `within`, or somebody asked to stop.
    pub fn ask(
        &self,
        options: &Options,
        verb: &[&str],
        within: Duration,
    ) -> Result<Output, BedError> {
        let mut command = Command::new(&options.exe);
        command.args(verb);
        self.add_places(&mut command);
        run_within(command, within, options.stop)
    }

    /// What its daemon says, if it answers.
    pub fn status(&self, options: &Options) -> Option<Status> {
        let output = self.ask(options, &["status", "--json"], limits::BED_STATUS_WITHIN).ok()?;
        serde_json::from_slice(&output.stdout).ok()
    }

    fn add_places(&self, command: &mut Command) {
        command.arg("--config").arg(&self.config).args(["--node", self.name]);
        command.arg("--run-dir").arg(self.run_dir());
        command.arg("--state-dir").arg(self.state_dir());
    }
}

/// Runs a program to its end.
fn run_within(
    mut command: Command,
    within: Duration,
    stop: &AtomicBool,
) -> Result<Output, BedError> {
    let deadline = Instant::now() + within;
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    // A pipe holds 64 KiB: somebody must read while it runs.
    let (stdout, stderr) = (read_all(child.stdout.take()), read_all(child.stderr.take()));
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(limits::BED_ASK_EVERY),
        }
        let failure = match stop.load(Ordering::SeqCst) {
            true => BedError::Stopped,
            false if Instant::now() > deadline => BedError::Late(format!("{command:?} to end")),
            false => continue,
        };
        child.kill()?;
        child.wait()?;
        return Err(failure);
    };
    let read = |thread: JoinHandle<std::io::Result<Vec<u8>>>| {
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked")))
    };
    Ok(Output { status, stdout: read(stdout)?, stderr: read(stderr)? })
}

fn read_all(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<std::io::Result<Vec<u8>>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            pipe.read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    })
}
