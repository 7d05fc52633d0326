//! The room against a real kernel: each test in network namespaces of its own (needs root).

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::config::{GroupIndex, Nic, ServiceAddress};

mod clients;
mod lan;
mod leases;
mod losses;
mod macs;

const WEB: GroupIndex = GroupIndex(0);
const MAIL: GroupIndex = GroupIndex(1);
/// Far longer than anything here takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `test` in a thread with a network namespace of its own; the namespace ends with it.
fn in_namespace<R: Send>(test: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            run("ip link set lo up");
            test()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}");
}

/// `lan0` and `cross0`, each with its far end in the same namespace.
fn cables() {
    for (near, far) in [("lan0", "lan1"), ("cross0", "cross1")] {
        run(&format!("ip link add {near} type veth peer name {far}"));
        run(&format!("ip link set {far} up"));
        run(&format!("ip link set {near} up"));
    }
}

fn address(text: &str) -> ServiceAddress {
    let (ip, prefix) = text.split_once('/').unwrap();
    ServiceAddress { ip: ip.parse().unwrap(), prefix: prefix.parse().unwrap() }
}

fn setup() -> NetSetup {
    NetSetup {
        lan: "lan0".into(),
        redundant: None,
        crossover: "cross0".into(),
        groups: vec![
            group(&["192.0.2.50/24", "2001:db8::50/64"], None),
            group(&["192.0.2.60/24"], None),
        ],
    }
}

fn group(addresses: &[&str], mac: Option<[u8; 6]>) -> GroupSetup {
    let addresses = addresses.iter().map(|text| address(text)).collect();
    GroupSetup { addresses, nic: Nic::Lan, mac }
}

fn ips(group: GroupIndex) -> Vec<IpAddr> {
    setup().groups[usize::from(group.0)].addresses.iter().map(|address| address.ip).collect()
}

struct Net {
    handle: NetHandle,
    replies: Receiver<NetReply>,
}

impl Net {
    fn start(setup: NetSetup) -> Net {
        let (sender, replies) = bounded(1000);
        let handle = start(setup, sender, Box::new(|| {}), || {}).unwrap();
        Net { handle, replies }
    }

    fn ask(&self, request: NetRequest) {
        self.handle.request(request).unwrap();
    }

    /// Waits for the first reply that `wanted` accepts; returns those before it.
    fn wait(&self, wanted: impl Fn(&NetReply) -> bool) -> Vec<NetReply> {
        let deadline = Instant::now() + PATIENCE;
        let mut before = Vec::new();
        loop {
            match self.replies.recv_deadline(deadline) {
                Ok(reply) if wanted(&reply) => return before,
                Ok(reply) => before.push(reply),
                Err(_) => panic!("never came; before it: {before:?}"),
            }
        }
    }

    fn expect(&self, reply: NetReply) -> Vec<NetReply> {
        self.wait(|other| *other == reply)
    }

    fn claim(&self, group: GroupIndex, claim: u32) {
        self.ask(NetRequest::Claim { group, claim });
        self.expect(NetReply::Held { group, claim });
    }
}

/// Waits until `condition` holds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn held(ips: &[IpAddr]) -> bool {
    any_held(&mut RouteSocket::open().unwrap(), ips).unwrap()
}
