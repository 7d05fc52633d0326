//! A bed: a real pair of daemons on this one machine, in network namespaces, with cables that can be
//! pulled, a serial line, power that can be cut, a client that measures, and a watcher of both nodes'
//! addresses. One bed for `clusterd demo`, tests and bench.
//!
//! | file | subject |
//! | --- | --- |
//! | `demo` | the program `clusterd-demo`: each fault in turn, a table; what the bed runs on its nodes |
//! | `limits` | its constants |
//! | `options` | how a bed is made |
//! | `wiring` | namespaces, cables, what is plugged in |
//! | `links` | links and addresses of one namespace |
//! | `serial_line` | the null-modem line |
//! | `node` | a node: its processes, its files, its power |
//! | `processes` | the processes of a namespace, signals to them |
//! | `responder` | the service that the client asks |
//! | `chaos` | faults by chance, writers on both sides, and what must never be |
//! | `client` | asks every millisecond |
//! | `stalls` | how long the machine itself was stalled |
//! | `watcher` | who held which address when |
//! | `faults` | the faults, what is promised for each, and how one is tried |
//! | `tree` | trees of files with everything that real servers have, changes, stamps |
//! | `redundancy` | whether the other node can take over whenever the pair says so |
//! | `judge` | whether two trees are the same: rsync says |
//! | `site` | a web site on the pair: nginx, thousands of files, a writer, a client that fetches |

pub mod chaos;
pub mod client;
pub mod demo;
pub mod faults;
pub mod judge;
pub mod limits;
pub mod links;
pub mod node;
mod options;
pub mod processes;
pub mod redundancy;
pub mod responder;
pub mod serial_line;
pub mod site;
pub mod stalls;
#[cfg(test)]
mod tests;
pub mod tree;
pub mod watcher;
pub mod wiring;

use std::collections::BTreeMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sys::signal::Signal;

use client::Client;
use clusterd::config::{NodeIndex, ServiceAddress};
use clusterd::control::status::{GroupState, PathState, PeerState, Standing, Status};
use clusterd::sys::ns;
use node::{Files, Node};
pub use options::Options;
use redundancy::Redundancy;
use serial_line::SerialLine;
use stalls::Stalls;
use watcher::Watcher;
use wiring::{Plugs, Wiring};

/// Why a bed could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BedError {
    /// No namespace could be made.
    #[error("no network namespace can be made: {0}; run as root")]
    Namespace(std::io::Error),
    /// A system call failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The kernel refused a link or an address.
    #[error("links: {0}")]
    Links(#[from] rtnetlink::Error),
    /// A netlink message could not be read.
    #[error("netlink: {0}")]
    Netlink(String),
    /// Something that was waited for did not happen; the text says what and how it is instead.
    #[error("waited in vain for {0}")]
    Late(String),
    /// A daemon refused to do what it was told.
    #[error("{0}")]
    Refused(String),
    /// A program that it takes is not installed; the text says what to do.
    #[error("{0}")]
    Missing(String),
    /// Two trees could not be compared.
    #[error("{0}")]
    Judge(#[from] judge::JudgeError),
    /// Somebody asked to stop.
    #[error("stopped")]
    Stopped,
}

impl From<nix::Error> for BedError {
    fn from(errno: nix::Error) -> BedError {
        BedError::Io(errno.into())
    }
}

/// The cluster of every bed.
pub const CLUSTER: &str = "bed";
/// The group of every bed, at home on the lower node.
pub const GROUP: &str = "web";
/// The second group, where there is one, at home on the upper node.
pub const SECOND_GROUP: &str = "mail";
/// The nodes' names, lower first.
pub const NAMES: [&str; 2] = ["serv1", "serv2"];

/// A pair. When it is dropped, its processes, files and namespaces are gone.
#[derive(Debug)]
pub struct Bed {
    // In the order in which they are dropped: first those who look at the rest.
    /// Asks the first service address.
    pub client: Client,
    /// Notes when the machine itself was stalled.
    pub stalls: Stalls,
    /// Notes who holds which address.
    pub watcher: Watcher,
    /// Asks both daemons whether they are redundant, unless [`Options::unchecked`].
    redundancy: Option<Redundancy>,
    nodes: [Node; 2],
    wiring: Wiring,
    line: SerialLine,
    options: Options,
    /// What the group should have, as its config file says now.
    served: Vec<ServiceAddress>,
    address: IpAddr,
    files: Files,
    /// The roots of the nodes' disks, if they have some, opened where they are mounted.
    disks: Option<[File; 2]>,
}

/// Each node sees its own content of the directory for files, in the same place.
fn see(wiring: &mut Wiring, files: &Files) -> Result<(), BedError> {
    for node in NodeIndex::BOTH {
        let namespace = &mut wiring.seat_mut(node).namespace;
        namespace.see(&files.srv(node), &files.seen_srv()).map_err(BedError::Namespace)?;
    }
    Ok(())
}

/// Mounts a new file system there.
fn disk(place: &Path, bytes: u64) -> std::io::Result<File> {
    let size = format!("size={bytes}");
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("bed"), place, Some("tmpfs"), flags, Some(size.as_str()))?;
    File::open(place)
}

impl Bed {
    /// Makes the wiring, starts client and watcher. Both nodes are without power.
    ///
    /// # Errors
    /// Not root, or a kernel without what it takes.
    pub fn new(options: Options) -> Result<Bed, BedError> {
        options.check_programs()?;
        let address = options
            .addresses
            .first()
            .map(|address| address.ip)
            .ok_or_else(|| std::io::Error::other("a bed needs a service address"))?;
        // Daemons whose guard was killed become children of this process, which can then bury them.
        nix::sys::prctl::set_child_subreaper(true)?;
        let mut wiring = Wiring::new(options.same_ifindex, options.redundant)?;
        let line = SerialLine::new(limits::SERIAL_BAUD)?;
        let files = Files::new(&options, &line)?;
        let disks = match options.disk_bytes {
            None => see(&mut wiring, &files).map(|()| None)?,
            Some(bytes) => Some(ns::apart(|| -> Result<[File; 2], BedError> {
                let lower = disk(&files.srv(NodeIndex::Lower), bytes)?;
                let upper = disk(&files.srv(NodeIndex::Upper), bytes)?;
                see(&mut wiring, &files)?;
                Ok([lower, upper])
            })??),
        };
        let watcher = Watcher::start(&wiring, options.ips())?;
        let names = NAMES.map(str::to_owned);
        let client = Client::start(&wiring.client, address, names, options.ask_every)?;
        let stalls = Stalls::start(&wiring.client)?;
        let nodes = NodeIndex::BOTH.map(|node| Node::new(node, &files));
        let redundancy = match options.unchecked {
            true => None,
            false => Some(Redundancy::start(nodes.each_ref())?),
        };
        let served = options.addresses.clone();
        Ok(Bed {
            client,
            stalls,
            watcher,
            redundancy,
            nodes,
            wiring,
            line,
            options,
            served,
            address,
            files,
            disks,
        })
    }

    /// A node.
    pub fn node(&self, node: NodeIndex) -> &Node {
        let [lower, upper] = &self.nodes;
        match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        }
    }

    /// A node's own content of the directory for files: there it is seen from here, and at
    /// [`Bed::seen_srv`] from the node.
    pub fn srv(&self, node: NodeIndex) -> PathBuf {
        let Some([lower, upper]) = &self.disks else { return self.files.srv(node) };
        let disk = match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        };
        // The way into another mount namespace (proc(5)), for other programs, too.
        PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), disk.as_raw_fd()))
    }

    /// How a tree below the nodes' directories for files differs, as rsync says it; empty: they are equal.
    ///
    /// # Errors
    /// As [`judge::differences`].
    pub fn differences(&self, root: &str) -> Result<Vec<String>, BedError> {
        let [lower, upper] = NodeIndex::BOTH.map(|node| self.files.srv(node).join(root));
        // A node's view has the disks of both.
        let namespace = &self.wiring.seat(NodeIndex::Lower).namespace;
        Ok(namespace.run(|| judge::differences(&lower, &upper))??)
    }

    /// Where each node sees its own content of the directory for files; `{srv}` in [`Options::group`].
    pub fn seen_srv(&self) -> PathBuf {
        self.files.seen_srv()
    }

    /// The group has these of its addresses from now on: its config was edited and taken in.
    pub fn serves(&mut self, addresses: &[ServiceAddress]) {
        self.served = addresses.to_vec();
    }

    /// The service addresses that the group should have.
    pub fn served(&self) -> &[ServiceAddress] {
        &self.served
    }

    /// The service address that the client asks.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Takes the redundancy lies that were found since the last time, each with its story, when every cut
    /// of an owner is decided.
    pub fn take_lies(&self) -> Vec<String> {
        self.redundancy.as_ref().map(Redundancy::take_lies).unwrap_or_default()
    }

    /// How many cuts of an owner whose group was said to be redundant were survived.
    pub fn survived(&self) -> u64 {
        self.redundancy.as_ref().map(Redundancy::survived).unwrap_or_default()
    }

    /// What a node's daemon said last, not longer ago than a question may take; for those who ask often.
    pub fn newest_word(&self, node: NodeIndex) -> Option<Status> {
        match &self.redundancy {
            Some(redundancy) => redundancy.newest(node),
            None => self.status(node),
        }
    }

    /// Something is done to the pair that the redundancy checker must know of.
    fn disturb(&self) {
        if let Some(redundancy) = &self.redundancy {
            redundancy.disturbed();
        }
    }

    /// The cables and namespaces.
    pub fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    /// The serial line.
    pub fn line(&self) -> &SerialLine {
        &self.line
    }

    /// What is plugged in now.
    pub fn plugs(&self) -> Plugs {
        self.wiring.plugs()
    }

    /// Pulls and plugs: changes what is plugged in.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn plug(&mut self, change: impl FnOnce(&mut Plugs)) -> Result<(), BedError> {
        let before = self.wiring.plugs();
        let mut plugs = before;
        change(&mut plugs);
        // A switch in the crossover changes nothing as long as both ends have power.
        if (Plugs { between: before.between, ..plugs }) != before {
            self.disturb();
        }
        self.line.set_carries(plugs.serial_carries());
        self.wiring.apply(plugs)
    }

    /// Gives a node power: its links come up, its service and its daemon start.
    ///
    /// # Errors
    /// The kernel refused a link, or `clusterd` could not be started.
    pub fn power_on(&mut self, node: NodeIndex) -> Result<(), BedError> {
        self.line.flush(node)?;
        self.watcher.on(node);
        self.plug(|plugs| *Plugs::of(&mut plugs.power, node) = true)?;
        self.start_processes(node)
    }

    /// Starts a node's service and daemon, after its processes have ended or been killed.
    ///
    /// # Errors
    /// `clusterd` could not be started.
    pub fn start_processes(&mut self, node: NodeIndex) -> Result<(), BedError> {
        self.disturb();
        let [lower, upper] = &mut self.nodes;
        let chosen = match node {
            NodeIndex::Lower => lower,
            NodeIndex::Upper => upper,
        };
        chosen.start(&self.wiring.seat(node).namespace, &self.options)
    }

    /// Cuts a node's power. Nobody there runs on, says goodbye or answers: its processes are stopped
    /// before its cables die, and its kernel's addresses are gone with it. Its files stay.
    ///
    /// # Errors
    /// The kernel refused, or a process would not end.
    pub fn power_cut(&mut self, node: NodeIndex) -> Result<(), BedError> {
        let claims = self.redundancy.as_ref().map(|redundancy| redundancy.claims(node));
        // Both within a moment: a kernel that goes on answering for a dead daemon is another fault.
        self.signal(node, processes::Target::All, Signal::SIGSTOP)?;
        // From now on it holds nothing: the other node may take over before the last cable is noted dead here.
        self.watcher.off(node);
        self.plug(|plugs| *Plugs::of(&mut plugs.power, node) = false)?;
        self.freeze(node)?;
        let seat = self.wiring.seat(node);
        processes::kill_all(&seat.namespace)?;
        // What its UART had not sent is gone.
        self.line.flush(node)?;
        for (index, ip, prefix) in watcher::dump(&seat.namespace, &self.options.ips())? {
            seat.links.delete_address(index, ip, prefix)?;
        }
        if let (Some(redundancy), Some(claims)) = (&self.redundancy, claims) {
            redundancy.was_cut(claims);
        }
        Ok(())
    }

    /// Stops all processes of a node at once; its kernel runs on.
    ///
    /// # Errors
    /// One would not stop.
    pub fn freeze(&self, node: NodeIndex) -> Result<(), BedError> {
        self.disturb();
        processes::freeze(&self.wiring.seat(node).namespace)
    }

    /// Kills all processes of a node, so that none of them sees another one die; its kernel runs on.
    ///
    /// # Errors
    /// One would not end.
    pub fn kill(&self, node: NodeIndex) -> Result<(), BedError> {
        self.freeze(node)?;
        processes::kill_all(&self.wiring.seat(node).namespace)
    }

    /// Runs a verb of `clusterd` that a node's daemon must carry out; what it printed.
    ///
    /// # Errors
    /// It was refused, or took too long: [`BedError::Refused`] with its own words.
    pub fn tell(&self, node: NodeIndex, verb: &[&str]) -> Result<String, BedError> {
        self.disturb();
        let output = self.ask(node, verb)?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(BedError::Refused(format!("{}: {words}", verb.join(" "))))
    }

    /// Runs a verb of `clusterd` with a node's places, in its namespace: exit status and all it printed.
    ///
    /// # Errors
    /// It can't be run, or takes longer than [`limits::BED_VERB_WITHIN`].
    pub fn ask(&self, node: NodeIndex, verb: &[&str]) -> Result<Output, BedError> {
        self.ask_within(node, verb, limits::BED_VERB_WITHIN)
    }

    /// The same for a verb that may take longer, such as `sync --wait`.
    ///
    /// # Errors
    /// It can't be run, takes longer than `within`, or somebody asked to stop.
    pub fn ask_within(
        &self,
        node: NodeIndex,
        verb: &[&str],
        within: Duration,
    ) -> Result<Output, BedError> {
        let seat = self.wiring.seat(node);
        let (node, options) = (self.node(node), &self.options);
        seat.namespace.run(|| node.ask(options, verb, within))?
    }

    /// The processes of a node.
    ///
    /// # Errors
    /// /proc can't be read.
    pub fn processes(&self, node: NodeIndex) -> Result<Vec<processes::Process>, BedError> {
        processes::list(&self.wiring.seat(node).namespace)
    }

    /// Sends a signal to processes of a node; how many there were.
    ///
    /// # Errors
    /// As kill(2).
    pub fn signal(
        &self,
        node: NodeIndex,
        target: processes::Target,
        signal: Signal,
    ) -> Result<usize, BedError> {
        self.disturb();
        processes::signal(&self.wiring.seat(node).namespace, target, signal)
    }

    /// What a node's daemon says, if it answers.
    pub fn status(&self, node: NodeIndex) -> Option<Status> {
        self.node(node).status(&self.options)
    }

    /// The node whose daemon serves the group `web`, if one says so.
    pub fn owner(&self) -> Option<NodeIndex> {
        self.owner_of(GROUP)
    }

    /// The node whose daemon serves this group, if one says so.
    pub fn owner_of(&self, name: &str) -> Option<NodeIndex> {
        NodeIndex::BOTH.into_iter().find(|node| {
            self.status(*node).is_some_and(|status| {
                let mut groups = status.groups.iter();
                groups.any(|group| group.name == name && group.state == GroupState::Active)
            })
        })
    }

    /// `None` if the pair is whole: both daemons answer, hear each other on every path, could both
    /// serve, agree on the owner of each group, and the client is served by that one. Else what is wrong.
    pub fn ailment(&self) -> Option<String> {
        let mut said = Vec::new();
        for node in NodeIndex::BOTH {
            let name = node::name(node);
            let Some(status) = self.status(node) else {
                return Some(format!("{name} does not answer"));
            };
            if status.peer.state != PeerState::Alive {
                return Some(format!("{name} says its peer is {:?}", status.peer.state));
            }
            if let Some(path) = status.peer.paths.iter().find(|path| path.state != PathState::Up) {
                return Some(format!("{name} says path {} is {:?}", path.name, path.state));
            }
            if status.standing() != Standing::Redundant {
                let groups = serde_json::to_string(&status.groups).unwrap_or_default();
                let standing = status.standing().text();
                return Some(format!("{name} says it is {standing}: {groups}"));
            }
            let owners = status.groups.into_iter().map(|group| (group.name, group.owner));
            said.push(owners.collect::<BTreeMap<_, _>>());
        }
        let now = Instant::now();
        let owners = match said.as_slice() {
            [first, second] if first == second => first,
            others => return Some(format!("the owners are said to be {others:?}")),
        };
        let (addresses, second_addresses) = (&self.served, &self.options.second_addresses);
        for (group, addresses) in [(GROUP, addresses), (SECOND_GROUP, second_addresses)] {
            for ServiceAddress { ip, .. } in addresses {
                let holders = self.watcher.holders(*ip).into_iter().map(node::name);
                let holders: Vec<String> = holders.map(str::to_owned).collect();
                let owner = owners.get(group).cloned().flatten();
                if holders.as_slice() != owner.as_slice() || owner.is_none() {
                    return Some(format!("{owner:?} should hold {ip}, {holders:?} do"));
                }
            }
        }
        let Some(owner) = owners.get(GROUP).cloned().flatten() else {
            return Some("the group has no owner".to_owned());
        };
        match self.client.answer_since(now.checked_sub(limits::BED_LOOK_EVERY).unwrap_or(now)) {
            Some(answer) if node::name(answer.from) == owner => None,
            Some(answer) => Some(format!("the client is served by {}", node::name(answer.from))),
            None => Some("the client gets no answer".to_owned()),
        }
    }

    /// Asks both kernels directly whether they hold what the watcher says.
    ///
    /// # Errors
    /// They do not: then the watcher proves nothing.
    pub fn cross_check(&self) -> Result<(), BedError> {
        for node in NodeIndex::BOTH {
            let dump = watcher::dump(&self.wiring.seat(node).namespace, &self.options.ips())?;
            for ip in self.options.ips() {
                let held = dump.iter().any(|(_, held, _)| *held == ip);
                if held != self.watcher.holders(ip).contains(&node) {
                    let name = node::name(node);
                    return Err(BedError::Late(format!(
                        "the watcher and the kernel of {name} to agree on {ip}: held is {held}"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Waits until the pair is whole, and returns the owner.
    ///
    /// # Errors
    /// It is not after [`limits::BED_WHOLE_WITHIN`]: what is wrong.
    pub fn wait_whole(&self) -> Result<NodeIndex, BedError> {
        self.wait("a whole pair", limits::BED_WHOLE_WITHIN, || match self.ailment() {
            None => Ok(()),
            Some(ailment) => Err(ailment),
        })?;
        self.owner().ok_or_else(|| BedError::Late("an owner".to_owned()))
    }

    /// Looks every [`limits::BED_LOOK_EVERY`] until `look` says `Ok`.
    ///
    /// # Errors
    /// [`BedError::Late`] with `what` and the last reason of `look`; [`BedError::Stopped`].
    pub fn wait<T>(
        &self,
        what: &str,
        within: Duration,
        mut look: impl FnMut() -> Result<T, String>,
    ) -> Result<T, BedError> {
        let deadline = Instant::now() + within;
        loop {
            if self.options.stop.load(Ordering::SeqCst) {
                return Err(BedError::Stopped);
            }
            match look() {
                Ok(value) => return Ok(value),
                Err(reason) if Instant::now() > deadline => {
                    return Err(BedError::Late(format!("{what}: {reason}")));
                }
                Err(_) => std::thread::sleep(limits::BED_LOOK_EVERY),
            }
        }
    }

    /// The client's longest outage since `mark`, without the machine's own stalls.
    pub fn outage_since(&self, mark: Instant) -> Duration {
        self.client.outage_beyond(&self.stalls, mark)
    }

    /// Lets time pass while nothing is expected to happen.
    ///
    /// # Errors
    /// [`BedError::Stopped`].
    pub fn watch_for(&self, time: Duration) -> Result<(), BedError> {
        let until = Instant::now() + time;
        self.wait("time to pass", time + limits::BED_SOON, || {
            if Instant::now() >= until { Ok(()) } else { Err("time stands still".to_owned()) }
        })
    }

    /// Asks the service by HTTP: the node that answers.
    pub fn fetch(&self) -> Option<String> {
        client::fetch(&self.wiring.client, self.address)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for node in NodeIndex::BOTH {
            // A namespace can't hold back a SIGKILL; if it does, there is nobody left to tell.
            let _ = processes::kill_all(&self.wiring.seat(node).namespace);
        }
        for node in &mut self.nodes {
            node.bury();
        }
    }
}
