//! The netlink thread and the guard's part against a real kernel.

use std::sync::Arc;

use super::*;
use crate::limits::{LEASE, LEASE_GRACE, RENEW_EVERY};
use crate::net::netlink::Change;

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
        let leased = shown.lines().find(|line| line.contains("2001:db8::50/128")).unwrap();
        assert!(!leased.contains("tentative"), "{leased}");

        // Through more than a lease, renewed as in life, nothing is lost.
        let end = Instant::now() + LEASE + LEASE_GRACE + RENEW_EVERY;
        while Instant::now() < end {
            net.ask(NetRequest::Renew { group: WEB, claim: 1 });
            let before = net.expect(NetReply::Renewed { group: WEB, claim: 1 });
            assert!(!before.contains(&NetReply::AddressLost { group: WEB }), "{before:?}");
            assert!(held(&ips(WEB)[..1]) && held(&ips(WEB)[1..]));
            std::thread::sleep(RENEW_EVERY);
        }
        net.ask(NetRequest::Release { group: WEB, release: 7 });
        let before = net.expect(NetReply::Released { group: WEB, release: 7 });
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
fn p1_addresses_that_change_while_they_are_claimed() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        net.claim(WEB, 1);
        let [kept, gone] = [ips(WEB)[0], ips(WEB)[1]];
        let new: IpAddr = "192.0.2.51".parse().unwrap();
        let addresses = vec![address("192.0.2.50/24"), address("192.0.2.51/24")];
        net.ask(NetRequest::Addresses { group: WEB, addresses, change: 1 });
        let before = net.expect(NetReply::Trimmed { change: 1 });
        assert!(!before.iter().any(|reply| matches!(reply, NetReply::AddressLost { .. })));
        assert!(held(&[kept]) && held(&[new]) && !held(&[gone]));
        // The lease goes on, for all of them.
        net.ask(NetRequest::Renew { group: WEB, claim: 1 });
        net.expect(NetReply::Renewed { group: WEB, claim: 1 });
        // A group that is not claimed here gets nothing.
        let addresses = vec![address("192.0.2.61/24")];
        net.ask(NetRequest::Addresses { group: MAIL, addresses, change: 2 });
        net.expect(NetReply::Trimmed { change: 2 });
        assert!(!held(&["192.0.2.61".parse().unwrap()]));
        net.ask(NetRequest::Release { group: WEB, release: 7 });
        net.expect(NetReply::Released { group: WEB, release: 7 });
        assert!(!held(&[kept, new]));
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
        net.ask(NetRequest::Release { group: WEB, release: 7 });
        net.expect(NetReply::Released { group: WEB, release: 7 });
    });
}

#[test]
fn a_foreign_address_is_told_and_goes_with_a_release() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        net.expect(NetReply::Carrier {
            lan: Some(true),
            crossover: Some(true),
            crossover_down: false,
        });
        run("ip address add 192.0.2.60/24 dev cross0");
        net.expect(NetReply::AddressFound { group: MAIL });
        net.ask(NetRequest::Release { group: MAIL, release: 7 });
        net.expect(NetReply::Released { group: MAIL, release: 7 });
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
        net.expect(NetReply::Carrier {
            lan: Some(true),
            crossover: Some(true),
            crossover_down: false,
        });
        run("ip link set cross1 down");
        net.expect(NetReply::Carrier {
            lan: Some(true),
            crossover: Some(false),
            crossover_down: false,
        });
        net.ask(NetRequest::LookAtCarriers);
        net.expect(NetReply::Carrier {
            lan: Some(true),
            crossover: Some(false),
            crossover_down: false,
        });
        run("ip link set cross1 up");
        net.expect(NetReply::Carrier {
            lan: Some(true),
            crossover: Some(true),
            crossover_down: false,
        });
        run("ip link set cross0 down");
        net.expect(NetReply::Carrier {
            lan: Some(true),
            crossover: Some(false),
            crossover_down: true,
        });
        run("ip link set cross0 up");
        net.expect(NetReply::Carrier {
            lan: Some(true),
            crossover: Some(true),
            crossover_down: false,
        });
        // An interface that is set down has no carrier, whatever its cable says.
        run("ip link set lan0 down");
        net.expect(NetReply::Carrier {
            lan: Some(false),
            crossover: Some(true),
            crossover_down: false,
        });
    });
}

#[test]
fn an_interface_may_vanish_come_back_and_be_renamed() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup());
        let is_link = |reply: &NetReply| matches!(reply, NetReply::Link(Nic::Lan, Some(_)));
        net.wait(is_link);
        net.claim(MAIL, 1);
        run("ip link del lan0");
        // The kernel takes the address away before the interface: a look in between sees only that.
        let lost = NetReply::AddressLost { group: MAIL };
        if !net.expect(NetReply::Link(Nic::Lan, None)).contains(&lost) {
            net.expect(lost);
        }
        net.ask(NetRequest::Claim { group: MAIL, claim: 2 });
        net.wait(|reply| matches!(reply, NetReply::HoldFailed { claim: 2, .. }));
        run("ip link add wrong0 index 77 type veth peer name lan1");
        run("ip link set lan1 up");
        run("ip link set wrong0 name lan0");
        net.wait(|reply| matches!(reply, NetReply::Link(_, Some(LinkInfo { index: 77, .. }))));
        run("ip link set lan0 address 02:00:00:00:00:07");
        let mac = [2, 0, 0, 0, 0, 7];
        let is_changed = |link: &LinkInfo| (link.index, link.mac) == (77, mac);
        net.wait(|reply| matches!(reply, NetReply::Link(_, Some(link)) if is_changed(link)));
        run("ip link set lan0 up");
        net.expect(NetReply::Carrier {
            lan: Some(true),
            crossover: Some(true),
            crossover_down: false,
        });
        net.claim(MAIL, 3);
        run("ip link set lan0 name away0");
        net.expect(NetReply::Link(Nic::Lan, None));
    });
}

#[test]
fn lost_news_is_made_good_by_a_look() {
    in_namespace(|| {
        cables();
        let (sender, replies) = bounded(1000);
        let mut worker = crate::net::thread::tests::worker(setup(), sender);
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
        let carrier =
            NetReply::Carrier { lan: Some(true), crossover: Some(false), crossover_down: false };
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
        let all = [ips(WEB), ips(MAIL)].concat();
        let lan = LinkInfo { index, mac: [2; 6], ipv4: None };
        let deletions = deletions(&setup().groups, &[lan]);
        assert_eq!(deletions.len(), 3);
        let mut socket = RouteSocket::open().unwrap();
        delete_all(&mut socket, deletions.iter().map(Vec::as_slice)).unwrap();
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
        let addresses: Vec<ServiceAddress> = (1..=crate::limits::ADDRESSES_MAX)
            .map(|n| address(&format!("10.0.0.{n}/24")))
            .collect();
        let group = GroupSetup { addresses, nic: Nic::Lan, mac: None };
        let net = Net::start(NetSetup { groups: vec![group], ..setup() });
        net.claim(WEB, 1);
        net.ask(NetRequest::Renew { group: WEB, claim: 1 });
        net.expect(NetReply::Renewed { group: WEB, claim: 1 });
        net.ask(NetRequest::Release { group: WEB, release: 7 });
        net.expect(NetReply::Released { group: WEB, release: 7 });
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

/// So many addresses, every other one of IPv6.
fn mixed(count: u8) -> Vec<ServiceAddress> {
    let one = |n: u8| match n % 2 {
        0 => address(&format!("10.0.0.{n}/24")),
        _ => address(&format!("2001:db8::{n:x}/64")),
    };
    (2..count + 2).map(one).collect()
}

/// Prints how long the frames of one address and of a hundred take; wants nothing.
#[test]
#[ignore = "measures"]
fn frames_for_one_and_for_a_hundred_addresses() {
    for count in [1u8, 100] {
        in_namespace(|| {
            cables();
            let ips: Vec<IpAddr> = mixed(count).iter().map(|address| address.ip).collect();
            let watch = LanWatch::open(interface_index("lan0").unwrap(), true).unwrap();
            let mut took: [Vec<Duration>; 2] = Default::default();
            for _ in 0..21 {
                let began = Instant::now();
                ips.iter().for_each(|ip| watch.probe(*ip).unwrap());
                took[0].push(began.elapsed());
                let began = Instant::now();
                ips.iter().for_each(|ip| watch.announce(*ip, watch.mac()).unwrap());
                took[1].push(began.elapsed());
            }
            for (what, took) in ["probe", "announcement"].iter().zip(&mut took) {
                took.sort();
                println!("{count} addresses: {what} median {:?}, worst {:?}", took[10], took[20]);
            }
        });
    }
}

/// Prints how long a claim takes with one address and with a hundred; wants nothing.
#[test]
#[ignore = "measures"]
fn claims_of_one_and_of_a_hundred_addresses() {
    for count in [1u8, 100] {
        in_namespace(|| {
            cables();
            let addresses = mixed(count);
            let group = GroupSetup { addresses, nic: Nic::Lan, mac: None };
            let net = Net::start(NetSetup { groups: vec![group], ..setup() });
            let mut took: [Vec<Duration>; 3] = Default::default();
            for claim in 0..21 {
                let asks = [
                    (NetRequest::Claim { group: WEB, claim }, NetReply::Held { group: WEB, claim }),
                    (
                        NetRequest::Renew { group: WEB, claim },
                        NetReply::Renewed { group: WEB, claim },
                    ),
                    (
                        NetRequest::Release { group: WEB, release: claim },
                        NetReply::Released { group: WEB, release: claim },
                    ),
                ];
                for ((request, reply), took) in asks.into_iter().zip(&mut took) {
                    let began = Instant::now();
                    net.ask(request);
                    net.expect(reply);
                    took.push(began.elapsed());
                }
            }
            for (what, took) in ["claim", "renewal", "release"].iter().zip(&mut took) {
                took.sort();
                println!("{count} addresses: {what} median {:?}, worst {:?}", took[10], took[20]);
            }
        });
    }
}

/// IPv6 is switched off on the interface, as hardening guides do, before or while the group is served.
#[test]
fn p2_an_address_that_the_kernel_refuses_takes_no_other_with_it() {
    in_namespace(|| {
        cables();
        let switch = |off| run(&format!("sysctl -qw net.ipv6.conf.lan0.disable_ipv6={off}"));
        let [v4, v6] = [ips(WEB)[0], ips(WEB)[1]];
        let refused = |refused: &[IpAddr]| {
            let refused = refused.to_vec();
            move |reply: &NetReply| matches!(reply, NetReply::Refused { group: WEB, refused: these, .. } if *these == refused)
        };
        let net = Net::start(setup());
        switch(1);
        net.ask(NetRequest::Claim { group: WEB, claim: 1 });
        let before = net.expect(NetReply::Held { group: WEB, claim: 1 });
        assert!(before.iter().any(refused(&[v6])), "{before:?}");
        assert!(held(&[v4]) && !held(&[v6]));
        switch(0);
        net.ask(NetRequest::Renew { group: WEB, claim: 1 });
        let before = net.expect(NetReply::Renewed { group: WEB, claim: 1 });
        assert!(before.iter().any(refused(&[])), "{before:?}");
        assert!(held(&[v4, v6]));
        switch(1);
        net.expect(NetReply::AddressLost { group: WEB });
        net.ask(NetRequest::Claim { group: WEB, claim: 2 });
        net.expect(NetReply::Held { group: WEB, claim: 2 });
        assert!(held(&[v4]) && !held(&[v6]));
        net.ask(NetRequest::Release { group: WEB, release: 3 });
        net.expect(NetReply::Released { group: WEB, release: 3 });
        assert!(!held(&[v4]));
    });
}
