//! What every test of the pair needs: a bed of its own, what the daemons say, and the promise that
//! nothing happens.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clusterd::config::{NodeIndex, ServiceAddress};
use clusterd::control::event::{Kind, Record};
use clusterd::control::status::{Group, PeerState, Status};
use clusterd::sys::ns::Namespace;
use clusterd_bed::limits;
use clusterd_bed::watcher::TwoOwners;
use clusterd_bed::{Bed, BedError, GROUP, Options, node};

/// Longest that anything is waited for; conditions end the waits sooner.
pub const SOON: Duration = Duration::from_secs(60);

/// One bed at a time: each measures.
pub fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The program under test.
pub fn options() -> Options {
    Options::new(PathBuf::from(env!("CARGO_BIN_EXE_clusterd")))
}

/// Nothing of the pair is IPv4: its own addresses, the group's, the reach hosts.
pub fn all_ipv6(options: &mut Options) {
    let ip = |text: &str| text.parse().expect("an address");
    options.ipv6 = true;
    options.addresses = vec![ServiceAddress { ip: ip("2001:db8::50"), prefix: 64 }];
    options.reach = ["2001:db8::1", "2001:db8::53"].map(ip).to_vec();
}

/// A bed; what the daemons logged is printed if its test fails.
pub struct Scene {
    pub bed: Bed,
    _alone: MutexGuard<'static, ()>,
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in NodeIndex::BOTH {
                let log = std::fs::read_to_string(self.bed.node(node).log()).unwrap_or_default();
                println!("--- log of {}\n{log}", node::name(node));
                println!("--- status of {0}\n{1:#?}", node::name(node), self.bed.status(node));
                for event in self.events(node) {
                    println!("{} {:?}: {}", event.time, event.told.kind, event.told.text);
                }
            }
        } else {
            let lies = self.bed.take_lies();
            assert!(lies.is_empty(), "{}", lies.join("\n"));
        }
    }
}

impl Scene {
    /// A bed whose nodes have no power yet.
    pub fn dark(change: impl FnOnce(&mut Options)) -> Scene {
        let alone = alone();
        let mut options = options();
        change(&mut options);
        Scene { bed: Bed::new(options).expect("a bed"), _alone: alone }
    }

    /// Powers both nodes on; the owner of the whole pair.
    pub fn power_on(&mut self) -> NodeIndex {
        for node in NodeIndex::BOTH {
            self.bed.power_on(node).expect("power");
        }
        self.whole()
    }

    /// A whole pair, and its owner.
    pub fn whole_pair() -> (Scene, NodeIndex) {
        let mut scene = Scene::dark(|_| {});
        let owner = scene.power_on();
        (scene, owner)
    }

    /// Waits until the pair is whole; its owner.
    pub fn whole(&self) -> NodeIndex {
        self.bed.wait_whole().expect("a whole pair")
    }

    /// Waits until `look` says `Ok`.
    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Result<T, String>) -> T {
        self.bed.wait(what, SOON, look).expect("it happens")
    }

    /// Waits until it is so.
    pub fn wait_until(&self, what: &str, mut is: impl FnMut() -> bool) {
        self.wait(what, || if is() { Ok(()) } else { Err("not yet".to_owned()) });
    }

    /// How long ago it was, without the time in which the machine itself was stalled.
    pub fn elapsed(&self, since: Instant) -> Duration {
        let now = Instant::now();
        now.duration_since(since).saturating_sub(self.bed.stalls.between(since, now))
    }

    /// What a node's daemon says. It must answer.
    pub fn status(&self, node: NodeIndex) -> Status {
        self.wait("a status", || self.bed.status(node).ok_or_else(|| "no answer".to_owned()))
    }

    /// What a node says of the one group.
    pub fn group(&self, node: NodeIndex) -> Group {
        let mut groups = self.status(node).groups.into_iter();
        groups.find(|group| group.name == "web").expect("the group")
    }

    /// Waits until a node says this of its peer.
    pub fn wait_peer(&self, node: NodeIndex, state: PeerState) {
        self.wait("what it says of its peer", || match self.bed.status(node) {
            Some(status) if status.peer.state == state => Ok(()),
            other => Err(format!("{:?}", other.map(|status| status.peer))),
        });
    }

    /// Waits until the client is served by that node.
    pub fn wait_served_by(&self, node: NodeIndex) {
        let mark = Instant::now();
        self.wait("the client to be served", || match self.bed.client.answer_since(mark) {
            Some(answer) if answer.from == node => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    /// Exit status of a verb, and what it printed on stdout and stderr.
    pub fn ask(&self, node: NodeIndex, verb: &[&str]) -> (i32, String, String) {
        let output = self.bed.ask(node, verb).expect("the verb ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        (output.status.code().expect("an exit"), text(&output.stdout), text(&output.stderr))
    }

    /// All events of a node, oldest first.
    pub fn events(&self, node: NodeIndex) -> Vec<Record> {
        let text = std::fs::read_to_string(self.bed.node(node).events()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until a node has told an event of this kind, after its first `skip` ones, that holds `text`.
    pub fn wait_event(&self, node: NodeIndex, skip: usize, kind: Kind, text: &str) -> Record {
        self.wait("an event", || {
            let events = self.events(node);
            let mut new = events.into_iter().skip(skip);
            new.find(|event| event.told.kind == kind && event.told.text.contains(text))
                .ok_or_else(|| format!("no {kind:?} with {text:?}"))
        })
    }

    /// The daemon's processes on a node: numbers in order.
    pub fn pids(&self, node: NodeIndex) -> Vec<i32> {
        let processes = self.bed.processes(node).expect("processes");
        let mut pids: Vec<i32> = processes.into_iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        pids
    }

    /// The one process of a node with this name.
    pub fn pid(&self, node: NodeIndex, comm: &str) -> Option<i32> {
        let processes = self.bed.processes(node).expect("processes");
        processes.into_iter().find(|process| process.comm == comm).map(|process| process.pid)
    }

    /// Does `work` with a whole pair, and wants that it hurts nobody: the group stays, the client is
    /// served, no path but those `allowed` changes its state, every process lives on.
    pub fn hurts_nobody(&mut self, allowed: &[&str], work: impl FnOnce(&mut Scene)) {
        let owner = self.whole();
        let before = NodeIndex::BOTH.map(|node| (self.pids(node), self.events(node).len()));
        let mark = Instant::now();
        work(self);
        assert_eq!(self.whole(), owner, "the group moved");
        self.bed.cross_check().expect("a watcher that sees");
        assert_eq!(self.bed.watcher.moves_since(mark), 0);
        assert_eq!(self.bed.watcher.two_owners_since(mark), TwoOwners::default());
        assert_eq!(self.bed.watcher.missed(), 0);
        let outage = self.bed.outage_since(mark);
        assert!(outage <= limits::OUTAGE_MAX, "an outage of {outage:?}");
        for (node, (pids, events)) in NodeIndex::BOTH.into_iter().zip(before) {
            assert_eq!(self.pids(node), pids, "a process of {} has ended", node::name(node));
            for event in self.events(node).into_iter().skip(events) {
                let excused = match event.told.kind {
                    // A loaded machine: some beat was late, and came.
                    Kind::Late | Kind::Stall => true,
                    Kind::Path => allowed.iter().any(|path| event.told.text.starts_with(path)),
                    Kind::Start
                    | Kind::Stop
                    | Kind::PeerAlive
                    | Kind::PeerDead
                    | Kind::PeerState
                    | Kind::Carrier
                    | Kind::Reach
                    | Kind::Takeover
                    | Kind::Switchover
                    | Kind::Failback
                    | Kind::Release
                    | Kind::Refused
                    | Kind::Address
                    | Kind::Standby
                    | Kind::Config
                    | Kind::Service
                    | Kind::Mirror
                    | Kind::Conflict
                    | Kind::Clients
                    | Kind::Fault => false,
                };
                assert!(excused, "{} told {event:?}", node::name(node));
            }
        }
    }

    /// How many frames a node has refused on a path, for this reason.
    pub fn refused(&self, node: NodeIndex, path: &str, reason: &str) -> u64 {
        let status = self.status(node);
        let path = status.peer.paths.iter().find(|one| one.name == path).expect("a path");
        assert_eq!(path.refused, path.refused_by.values().sum::<u64>(), "{path:?}");
        path.refused_by.get(reason).copied().unwrap_or(0)
    }

    /// Sends something bad, and wants it counted under this reason exactly so many times.
    pub fn is_refused(
        &self,
        node: NodeIndex,
        path: &str,
        reason: &str,
        times: u64,
        send: impl FnOnce(),
    ) {
        let before = self.refused(node, path, reason);
        send();
        self.wait("a frame to be refused", || match self.refused(node, path, reason) - before {
            count if count >= times => Ok(()),
            count => Err(format!("{path}: {count} of {times} as {reason}")),
        });
        assert_eq!(self.refused(node, path, reason) - before, times, "{path}: {reason}");
    }

    /// Tells a node's daemon to do something, which it must.
    pub fn tell(&self, node: NodeIndex, verb: &[&str]) -> String {
        self.bed.tell(node, verb).expect("it is done")
    }

    /// Moves the group there, if it is not there yet.
    pub fn move_to(&self, node: NodeIndex) {
        self.whole();
        self.tell(node, &["move", GROUP, node::name(node)]);
        self.wait_served_by(node);
    }

    /// Cuts the power of a node's machine in such a way that every cable keeps its carrier: its
    /// processes stand still, its kernel has forgotten the addresses.
    pub fn die_with_carrier(&self, node: NodeIndex) -> Result<(), BedError> {
        self.bed.freeze(node)?;
        let seat = self.bed.wiring().seat(node);
        let ips = [self.bed.address()];
        for (index, ip, prefix) in clusterd_bed::watcher::dump(&seat.namespace, &ips)? {
            seat.links.delete_address(index, ip, prefix)?;
        }
        Ok(())
    }
}

/// What `ip` says in a namespace; nothing if it refuses.
pub fn ip(namespace: &Namespace, arguments: &str) -> String {
    let run = || Command::new("ip").args(arguments.split(' ')).output().expect("ip");
    let output = namespace.run(run).expect("a namespace");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
