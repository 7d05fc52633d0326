//! The room against a real kernel: each test in network namespaces of its own (needs root).

use std::net::{IpAddr, Ipv6Addr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use nix::sched::{CloneFlags, unshare};

use super::netlink::Change;
use super::*;
use crate::config::{GroupIndex, ServiceAddress};
use crate::limits::{LEASE, LEASE_GRACE, RENEW_EVERY};

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
        crossover: "cross0".into(),
        groups: vec![
            vec![address("192.0.2.50/24"), address("2001:db8::50/64")],
            vec![address("192.0.2.60/24")],
        ],
    }
}

fn ips(group: GroupIndex) -> Vec<IpAddr> {
    setup().groups[usize::from(group.0)].iter().map(|address| address.ip).collect()
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

#[test]
fn a_claim_is_leased_renewed_and_released() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        net.claim(WEB, 1);
        assert!(held(&ips(WEB)) && !held(&ips(MAIL)));
        let shown = Command::new("ip").args(["address", "show", "lan0"]).output().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("192.0.2.50/32") && shown.contains("2001:db8::50/128"), "{shown}");
        assert!(!shown.contains("tentative") || !shown.contains("::50/128 scope global tentative"));

        // Through more than a lease, renewed as in life, nothing is lost.
        let end = Instant::now() + LEASE + LEASE_GRACE + RENEW_EVERY;
        while Instant::now() < end {
            net.ask(NetRequest::Renew { group: WEB, claim: 1 });
            let before = net.expect(NetReply::Renewed { group: WEB, claim: 1 });
            assert!(!before.contains(&NetReply::AddressLost { group: WEB }), "{before:?}");
            assert!(held(&ips(WEB)[..1]) && held(&ips(WEB)[1..]));
            std::thread::sleep(RENEW_EVERY);
        }
        net.ask(NetRequest::Release { group: WEB });
        let before = net.expect(NetReply::Released { group: WEB });
        assert_eq!(before, []);
        assert!(!held(&ips(WEB)));

        // A renewal that comes too late brings nothing back.
        net.ask(NetRequest::Renew { group: WEB, claim: 1 });
        net.wait(|reply| matches!(reply, NetReply::HoldFailed { group: WEB, claim: 1, .. }));
        assert!(!held(&ips(WEB)));
    });
}

#[test]
fn p1_without_renewals_the_kernel_takes_the_addresses_away() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        let start = Instant::now();
        net.claim(WEB, 1);
        until("the lease ended", || !held(&ips(WEB)));
        let lasted = start.elapsed();
        assert!(lasted >= LEASE, "{lasted:?}");
        // Half a second for a busy machine.
        assert!(lasted <= LEASE + LEASE_GRACE + Duration::from_millis(500), "{lasted:?}");
        net.expect(NetReply::AddressLost { group: WEB });
        // The peer may have it by now: a late renewal is refused.
        net.ask(NetRequest::Renew { group: WEB, claim: 1 });
        net.wait(|reply| matches!(reply, NetReply::HoldFailed { .. }));
        assert!(!held(&ips(WEB)));
        net.claim(WEB, 2);
    });
}

#[test]
fn p1_a_sweep_finds_every_address_on_every_interface() {
    in_namespace(|| {
        cables();
        run("ip address add 192.0.2.50/24 dev cross0");
        run("ip address add 192.0.2.50/32 dev lan0");
        run("ip address add 2001:db8::50/64 dev lan1 nodad");
        run("ip address add 192.0.2.60/16 dev lo");
        run("ip address add 192.0.2.11/24 dev lan0");
        let net = Net::start(setup());
        net.ask(NetRequest::Sweep);
        net.expect(NetReply::Swept);
        assert!(!held(&ips(WEB)) && !held(&ips(MAIL)));
        assert!(held(&["192.0.2.11".parse().unwrap()]), "the node's own address stays");
    });
}

#[test]
fn a_foreign_deletion_is_told_and_repaired_by_a_renewal() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        net.claim(WEB, 1);
        for foreign in ["192.0.2.50/32", "2001:db8::50/128"] {
            run(&format!("ip address del {foreign} dev lan0"));
            net.expect(NetReply::AddressLost { group: WEB });
            net.ask(NetRequest::Renew { group: WEB, claim: 1 });
            net.expect(NetReply::Renewed { group: WEB, claim: 1 });
            assert!(held(&ips(WEB)[..1]) && held(&ips(WEB)[1..]));
        }
        net.ask(NetRequest::Release { group: WEB });
        net.expect(NetReply::Released { group: WEB });
    });
}

#[test]
fn a_foreign_address_is_told_and_goes_with_a_release() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        net.expect(NetReply::Carrier { lan: Some(true), crossover: Some(true) });
        run("ip address add 192.0.2.60/24 dev cross0");
        net.expect(NetReply::AddressFound { group: MAIL });
        net.ask(NetRequest::Release { group: MAIL });
        net.expect(NetReply::Released { group: MAIL });
        assert!(!held(&ips(MAIL)));
    });
}

#[test]
fn p1_a_copy_without_lease_does_not_survive_beside_a_claim() {
    in_namespace(|| {
        cables();
        run("ip address add 192.0.2.50/24 dev lan0");
        run("ip address add 2001:db8::50/64 dev lan0 nodad");
        let net = Net::start(setup());
        net.claim(WEB, 1);
        run("ip address add 192.0.2.50/24 dev cross0");
        net.wait(|reply| matches!(reply, NetReply::Fault(_)));
        drop(net);
        // Nobody renews: what is left has no end.
        until("no copy is left", || !held(&ips(WEB)));
    });
}

#[test]
fn carriers_are_told_when_they_change_and_when_asked() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        net.expect(NetReply::Carrier { lan: Some(true), crossover: Some(true) });
        run("ip link set cross1 down");
        net.expect(NetReply::Carrier { lan: Some(true), crossover: Some(false) });
        net.ask(NetRequest::LookAtCarriers);
        net.expect(NetReply::Carrier { lan: Some(true), crossover: Some(false) });
        run("ip link set cross1 up");
        net.expect(NetReply::Carrier { lan: Some(true), crossover: Some(true) });
        // An interface that is set down has no carrier, whatever its cable says.
        run("ip link set lan0 down");
        net.expect(NetReply::Carrier { lan: Some(false), crossover: Some(true) });
    });
}

#[test]
fn an_interface_may_vanish_come_back_and_be_renamed() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        let is_link = |reply: &NetReply| matches!(reply, NetReply::LanLink(Some(_)));
        net.wait(is_link);
        net.claim(MAIL, 1);
        run("ip link del lan0");
        net.expect(NetReply::LanLink(None));
        net.expect(NetReply::AddressLost { group: MAIL });
        net.ask(NetRequest::Claim { group: MAIL, claim: 2 });
        net.wait(|reply| matches!(reply, NetReply::HoldFailed { claim: 2, .. }));
        run("ip link add wrong0 index 77 type veth peer name lan1");
        run("ip link set lan1 up");
        run("ip link set wrong0 name lan0");
        net.wait(|reply| matches!(reply, NetReply::LanLink(Some(LinkInfo { index: 77, .. }))));
        run("ip link set lan0 address 02:00:00:00:00:07");
        let mac = [2, 0, 0, 0, 0, 7];
        net.expect(NetReply::LanLink(Some(LinkInfo { index: 77, mac })));
        run("ip link set lan0 up");
        net.expect(NetReply::Carrier { lan: Some(true), crossover: Some(true) });
        net.claim(MAIL, 3);
        run("ip link set lan0 name away0");
        net.expect(NetReply::LanLink(None));
    });
}

#[test]
fn lost_news_is_made_good_by_a_look() {
    in_namespace(|| {
        cables();
        let (sender, replies) = bounded(1000);
        let mut worker = thread::tests::worker(setup(), sender);
        worker.serve(NetRequest::LookAtCarriers);
        worker.serve(NetRequest::Claim { group: WEB, claim: 1 });
        while worker.read_news() {}
        // Room for hardly any news, then a flood in which the one that matters is lost.
        nix::sys::socket::setsockopt(&worker.monitor, nix::sys::socket::sockopt::RcvBuf, &1)
            .unwrap();
        for number in 1..=40 {
            run(&format!("ip address add 198.51.100.{number}/32 dev lan0"));
        }
        run("ip link set cross1 down");
        run("ip address del 192.0.2.50/32 dev lan0");
        while replies.try_recv().is_ok() {}
        while worker.read_news() {}
        let told: Vec<NetReply> = replies.try_iter().collect();
        assert!(told.contains(&NetReply::AddressLost { group: WEB }), "{told:?}");
        let carrier = NetReply::Carrier { lan: Some(true), crossover: Some(false) };
        assert!(told.contains(&carrier), "{told:?}");
    });
}

#[test]
fn p1_the_guard_deletes_what_a_dead_heart_held() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        net.claim(WEB, 1);
        net.claim(MAIL, 1);
        let index = nix::net::if_::if_nametoindex("lan0").unwrap();
        let deletions = deletions(&setup(), index);
        assert_eq!(deletions.len(), 3);
        let mut socket = RouteSocket::open().unwrap();
        delete_all(&mut socket, deletions.iter().map(Vec::as_slice)).unwrap();
        let all = [ips(WEB), ips(MAIL)].concat();
        assert!(!any_held(&mut socket, &all).unwrap());
        // Again, and for an interface that is gone: nothing left to do is no error.
        delete_all(&mut socket, deletions.iter().map(Vec::as_slice)).unwrap();
        run("ip link del lan0");
        delete_all(&mut socket, deletions.iter().map(Vec::as_slice)).unwrap();
    });
}

#[test]
fn as_many_addresses_as_a_config_may_have() {
    in_namespace(|| {
        cables();
        let group: Vec<ServiceAddress> = (1..=crate::limits::ADDRESSES_MAX)
            .map(|n| address(&format!("10.0.0.{n}/24")))
            .collect();
        let net = Net::start(NetSetup { groups: vec![group], ..setup() });
        net.claim(WEB, 1);
        net.ask(NetRequest::Renew { group: WEB, claim: 1 });
        net.expect(NetReply::Renewed { group: WEB, claim: 1 });
        net.ask(NetRequest::Release { group: WEB });
        net.expect(NetReply::Released { group: WEB });
    });
}

#[test]
fn a_refusal_names_the_address_and_an_unknown_interface() {
    in_namespace(|| {
        let mut socket = RouteSocket::open().unwrap();
        let ip = "192.0.2.50".parse().unwrap();
        let error = socket.change(&[Change::Lease { index: 99, ip, create: true }]).unwrap_err();
        assert!(error.to_string().starts_with("192.0.2.50: "), "{error}");
        assert_eq!(socket.interface("nowhere").unwrap(), None);
    });
}

/// Runs `far` in a second namespace, joined to that of `near` by a cable; both see it as `lan0`.
fn two_hosts(near: impl FnOnce() + Send, far: impl FnOnce(Receiver<()>) + Send) {
    let (tell_thread, far_thread) = bounded::<i32>(1);
    let (tell_wired, wired) = bounded::<()>(1);
    let (finish, finished) = bounded::<()>(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            in_namespace(move || {
                tell_thread.send(nix::unistd::gettid().as_raw()).unwrap();
                wired.recv().unwrap();
                run("ip link set lan0 up");
                far(finished);
            });
        });
        in_namespace(move || {
            let thread = far_thread.recv().unwrap();
            run(&format!("ip link add lan0 type veth peer name lan0 netns {thread}"));
            run("ip link set lan0 up");
            tell_wired.send(()).unwrap();
            near();
            drop(finish);
        });
    });
}

/// Repeats `send` until `watch` sees what `wanted` accepts.
fn see(watch: &mut LanWatch, send: impl Fn(&LanWatch), wanted: impl Fn(Seen) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut found = false;
    while !found {
        assert!(Instant::now() < deadline, "never seen; refused: {:?}", watch.refused());
        send(watch);
        std::thread::sleep(Duration::from_millis(10));
        watch.receive(100, &mut |seen| found |= wanted(seen)).unwrap();
    }
}

/// The near host watches; the far one holds both addresses of the group (its kernel answers), probes
/// for another and announces.
#[test]
fn probes_answers_and_announcements_pass_between_two_hosts() {
    let v6: Ipv6Addr = "2001:db8::50".parse().unwrap();
    let other: Ipv6Addr = "2001:db8::99".parse().unwrap();
    let (tell_mac, far_mac) = bounded::<[u8; 6]>(1);
    two_hosts(
        move || {
            run("ip address add 192.0.2.11/24 dev lan0");
            run("ip address add 2001:db8::11/64 dev lan0 nodad");
            let mac = far_mac.recv_timeout(PATIENCE).unwrap();
            let mut watch = LanWatch::open("lan0", &[v6, other]).unwrap();
            assert_ne!(watch.mac(), mac);
            assert_eq!(watch.fds().count(), 2);
            let local = ["192.0.2.11".parse().unwrap(), "2001:db8::11".parse().unwrap()];
            for (ip, from) in ips(WEB).into_iter().zip(local) {
                let is_answer = |seen| seen == Seen::Answer { ip, mac };
                see(&mut watch, |watch| watch.probe(ip).unwrap(), is_answer);
                see(&mut watch, |watch| watch.ask(ip, from).unwrap(), is_answer);
            }
            // What the far host announces and probes for comes unasked.
            for ip in ["192.0.2.77".parse().unwrap(), "2001:db8::77".parse().unwrap()] {
                see(&mut watch, |_| {}, |seen| seen == Seen::Answer { ip, mac });
            }
            for ip in ["192.0.2.99".parse().unwrap(), other.into()] {
                see(&mut watch, |_| {}, |seen| seen == Seen::Probe { ip, mac });
            }
            // Our own frames are never seen.
            watch.announce("192.0.2.11".parse().unwrap()).unwrap();
            let mac = watch.mac();
            let own = |seen| matches!(seen, Seen::Answer { mac: m, .. } if m == mac);
            watch.receive(1000, &mut |seen| assert!(!own(seen))).unwrap();
        },
        move |finished| {
            run("ip address add 192.0.2.50/32 dev lan0");
            run("ip address add 2001:db8::50/128 dev lan0 nodad");
            run("ip route add 192.0.2.0/24 dev lan0");
            run("ip -6 route add 2001:db8::/64 dev lan0");
            let watch = LanWatch::open("lan0", &[v6]).unwrap();
            tell_mac.send(watch.mac()).unwrap();
            let pause = Duration::from_millis(10);
            while finished.recv_timeout(pause) == Err(crossbeam_channel::RecvTimeoutError::Timeout)
            {
                watch.announce("192.0.2.77".parse().unwrap()).unwrap();
                watch.announce("2001:db8::77".parse().unwrap()).unwrap();
                watch.probe("192.0.2.99".parse().unwrap()).unwrap();
                watch.probe(other.into()).unwrap();
            }
        },
    );
}

/// A neighbour's kernel believes an announcement of both kinds: its cache moves to the new MAC.
#[test]
fn an_announcement_moves_the_neighbours_cache() {
    two_hosts(
        || {
            run("ip address add 192.0.2.11/24 dev lan0");
            run("ip address add 2001:db8::11/64 dev lan0 nodad");
            for ip in ["192.0.2.50", "2001:db8::50"] {
                run(&format!("ip neigh add {ip} lladdr 02:00:00:00:00:99 nud stale dev lan0"));
            }
            for ip in ["192.0.2.50", "2001:db8::50"] {
                until("the cache moved", || {
                    let shown = Command::new("ip").args(["neigh", "show", ip]).output().unwrap();
                    let shown = String::from_utf8(shown.stdout).unwrap();
                    shown.contains("lladdr") && !shown.contains("02:00:00:00:00:99")
                });
            }
        },
        |finished| {
            let watch = LanWatch::open("lan0", &["2001:db8::50".parse().unwrap()]).unwrap();
            let pause = Duration::from_millis(10);
            while finished.recv_timeout(pause) == Err(crossbeam_channel::RecvTimeoutError::Timeout)
            {
                for ip in ips(WEB) {
                    watch.announce(ip).unwrap();
                }
            }
        },
    );
}

/// Traffic that is neither NS nor NA does not reach the socket.
#[test]
fn data_traffic_does_not_wake_the_watch() {
    two_hosts(
        || {
            run("ip address add 2001:db8::11/64 dev lan0 nodad");
            let mut watch = LanWatch::open("lan0", &["2001:db8::50".parse().unwrap()]).unwrap();
            let peer: Ipv6Addr = "2001:db8::12".parse().unwrap();
            let is_peer = |seen| matches!(seen, Seen::Answer { ip, .. } if ip == IpAddr::V6(peer));
            let from = "2001:db8::11".parse().unwrap();
            see(&mut watch, |watch| watch.ask(peer.into(), from).unwrap(), is_peer);
            let before = watch.refused();
            let socket = std::net::UdpSocket::bind("[2001:db8::11]:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            for _ in 0..100 {
                // Each comes back from the far host.
                socket.send_to(b"data", "[2001:db8::12]:9999").unwrap();
                socket.recv(&mut [0; 10]).unwrap();
            }
            watch.receive(1000, &mut |_| {}).unwrap();
            assert_eq!(watch.refused(), before);
        },
        |finished| {
            run("ip address add 2001:db8::12/64 dev lan0 nodad");
            let socket = std::net::UdpSocket::bind("[2001:db8::12]:9999").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            while finished.try_recv() == Err(crossbeam_channel::TryRecvError::Empty) {
                if let Ok((length, from)) = socket.recv_from(&mut [0; 10]) {
                    assert_eq!(length, 4);
                    socket.send_to(b"data", from).unwrap();
                }
            }
        },
    );
}

#[test]
fn a_full_queue_of_requests_refuses_and_an_ended_thread_says_so() {
    in_namespace(|| {
        cables();
        let (sender, replies) = bounded(0);
        let gate = Arc::new(std::sync::Barrier::new(2));
        let opened = Arc::clone(&gate);
        let handle = start(setup(), sender, Box::new(|| {}), move || {
            opened.wait();
        })
        .unwrap();
        for _ in 0..crate::limits::NET_REQUESTS_MAX {
            handle.request(NetRequest::LookAtCarriers).unwrap();
        }
        let refused = handle.request(NetRequest::LookAtCarriers).unwrap_err();
        assert_eq!(refused, thread::RequestRefused::Full);
        drop(replies);
        gate.wait();
    });
}
