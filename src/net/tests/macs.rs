//! Groups with a MAC of their own against a real kernel.

use super::*;
use crate::limits::{LEASE, LEASE_GRACE};
use crate::net::link_messages::{Interface, Ipv4Conf};

const MAC: [u8; 6] = [2, 0, 0x5e, 0, 0, 0x32];
const OTHER_MAC: [u8; 6] = [2, 0, 0x5e, 0, 0, 0x33];
const NAME: &str = "clusterd0";

/// The usual groups, both with a MAC.
fn setup_with_macs() -> NetSetup {
    let mut setup = setup();
    for (group, mac) in setup.groups.iter_mut().zip([MAC, OTHER_MAC]) {
        group.mac = Some(mac);
    }
    setup
}

fn interface(name: &str) -> Option<Interface> {
    RouteSocket::open().unwrap().interface(name).unwrap()
}

fn settings(name: &str) -> Ipv4Conf {
    interface(name).unwrap().ipv4.unwrap()
}

fn shown(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Neither default nor what a claim makes of it: nothing else could bring it back.
fn odd_settings() {
    std::fs::write("/proc/sys/net/ipv4/conf/lan0/arp_announce", "1").unwrap();
}

const ODD: Ipv4Conf = Ipv4Conf { arp_ignore: 0, arp_announce: 1, rp_filter: 0 };
const STRICT: Ipv4Conf = Ipv4Conf { arp_ignore: 1, arp_announce: 2, rp_filter: 0 };

fn release(net: &Net, group: GroupIndex) {
    net.ask(NetRequest::Release { group, release: 7 });
    net.expect(NetReply::Released { group, release: 7 });
}

/// Whether `group`'s addresses are there, and the interface with its MAC.
fn is_held(group: GroupIndex, mac: [u8; 6]) -> bool {
    let made = interface(&format!("clusterd{}", group.0));
    let right = made.is_some_and(|made| made.mac == Some(mac) && made.up && made.carrier);
    right && ips(group).iter().all(|&ip| held(&[ip]))
}

#[test]
fn a_mac_comes_with_the_claim_and_goes_with_the_release() {
    in_namespace(|| {
        cables();
        odd_settings();
        let net = Net::start(setup_with_macs());
        net.claim(WEB, 1);
        assert!(is_held(WEB, MAC));
        let on_it = shown("address show dev clusterd0");
        assert!(on_it.contains("192.0.2.50/32") && on_it.contains("2001:db8::50/128"), "{on_it}");
        assert!(!on_it.contains("fe80"), "it speaks for nobody else: {on_it}");
        assert_eq!(settings("lan0"), STRICT);
        assert_eq!(settings(NAME), Ipv4Conf::VIRTUAL);
        let accepts = std::fs::read_to_string("/proc/sys/net/ipv6/conf/clusterd0/accept_ra");
        assert_eq!(accepts.unwrap().trim(), "0");

        net.claim(MAIL, 1);
        assert!(is_held(MAIL, OTHER_MAC));
        assert!(!shown("address show dev clusterd1").contains("inet6"));
        for claim in [WEB, MAIL] {
            net.ask(NetRequest::Renew { group: claim, claim: 1 });
            net.expect(NetReply::Renewed { group: claim, claim: 1 });
        }
        release(&net, WEB);
        assert!(interface(NAME).is_none() && !held(&ips(WEB)) && is_held(MAIL, OTHER_MAC));
        assert_eq!(settings("lan0"), STRICT, "the other group still needs it");
        release(&net, MAIL);
        assert!(interface("clusterd1").is_none() && !held(&ips(MAIL)));
        until("the settings are put back", || settings("lan0") == ODD);

        // A look in between, as in life, must not take what a claim made of them for their own.
        net.claim(WEB, 2);
        net.ask(NetRequest::LookAtCarriers);
        net.expect(NetReply::Carrier {
            lan: Some(true),
            crossover: Some(true),
            crossover_down: false,
        });
        release(&net, WEB);
        net.claim(WEB, 3);
        release(&net, WEB);
        until("the settings are put back again", || settings("lan0") == ODD);
    });
}

#[test]
fn p1_addresses_change_on_the_interface_with_the_mac() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup_with_macs());
        net.claim(WEB, 1);
        let addresses = vec![address("192.0.2.50/24"), address("192.0.2.51/24")];
        net.ask(NetRequest::Addresses { group: WEB, addresses, change: 1 });
        net.expect(NetReply::Trimmed { change: 1 });
        let on_it = shown("address show dev clusterd0");
        assert!(on_it.contains("192.0.2.50/32") && on_it.contains("192.0.2.51/32"), "{on_it}");
        assert!(!held(&["2001:db8::50".parse().unwrap()]));
        net.ask(NetRequest::Renew { group: WEB, claim: 1 });
        net.expect(NetReply::Renewed { group: WEB, claim: 1 });
        release(&net, WEB);
        assert!(interface(NAME).is_none());
        assert!(!held(&["192.0.2.51".parse().unwrap()]));
    });
}

#[test]
fn p1_a_leftover_is_swept_also_of_a_group_that_is_no_more() {
    in_namespace(|| {
        cables();
        run("ip link add link lan0 name clusterd0 type macvlan mode bridge");
        run("ip address add 192.0.2.50/32 dev clusterd0");
        run("ip link add link lan0 name clusterd7 type macvlan mode bridge");
        // Not ours, whatever it is called.
        run("ip link add clusterd3 type veth peer name far3");
        let net = Net::start(setup());
        net.ask(NetRequest::Sweep);
        net.expect(NetReply::Swept);
        assert!(interface(NAME).is_none() && interface("clusterd7").is_none());
        assert!(interface("clusterd3").is_some());
        assert!(!held(&ips(WEB)));
    });
}

/// Heart and guard are both killed: nobody put the settings back.
#[test]
fn the_next_heart_finds_the_settings_in_what_was_left() {
    in_namespace(|| {
        cables();
        odd_settings();
        let net = Net::start(setup_with_macs());
        net.claim(WEB, 1);
        drop(net);
        assert_eq!(settings("lan0"), STRICT);
        let net = Net::start(setup_with_macs());
        net.ask(NetRequest::Sweep);
        net.expect(NetReply::Swept);
        assert!(interface(NAME).is_none());
        until("the settings are put back", || settings("lan0") == ODD);
        net.claim(WEB, 1);
        release(&net, WEB);
        until("the settings are put back again", || settings("lan0") == ODD);
    });
}

#[test]
fn p1_without_renewals_the_addresses_go_and_a_sweep_takes_the_rest() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup_with_macs());
        let start = Instant::now();
        net.claim(WEB, 1);
        until("the lease ended", || !held(&ips(WEB)));
        let lasted = start.elapsed();
        assert!(lasted >= LEASE, "{lasted:?}");
        // Half a second for a busy machine.
        assert!(lasted <= LEASE + LEASE_GRACE + Duration::from_millis(500), "{lasted:?}");
        net.ask(NetRequest::Renew { group: WEB, claim: 1 });
        net.wait(|reply| matches!(reply, NetReply::HoldFailed { .. }));
        assert!(!held(&ips(WEB)));
        net.ask(NetRequest::Sweep);
        net.expect(NetReply::Swept);
        assert!(interface(NAME).is_none());
    });
}

#[test]
fn what_somebody_does_to_the_interface_is_told_and_put_right_by_the_next_claim() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup_with_macs());
        net.claim(WEB, 1);
        let deeds = [
            "ip link del clusterd0",
            "ip link set clusterd0 address 02:00:00:00:00:99",
            "ip link set clusterd0 down",
            "ip link set clusterd0 name away0",
        ];
        for (claim, deed) in (2..).zip(deeds) {
            let renewed = Instant::now();
            net.ask(NetRequest::Renew { group: WEB, claim: claim - 1 });
            net.expect(NetReply::Renewed { group: WEB, claim: claim - 1 });
            run(deed);
            net.expect(NetReply::AddressLost { group: WEB });
            let told = renewed.elapsed();
            assert!(told < LEASE, "{deed}: told after {told:?}, when the lease had ended");
            net.ask(NetRequest::Renew { group: WEB, claim: claim - 1 });
            net.wait(|reply| matches!(reply, NetReply::HoldFailed { .. }));
            if deed.ends_with("away0") {
                // It has the MAC, so that no second one can be made beside it.
                net.ask(NetRequest::Claim { group: WEB, claim });
                net.wait(|reply| matches!(reply, NetReply::HoldFailed { .. }));
                assert!(!held(&ips(WEB)), "nothing is half held");
                run("ip link del away0");
                net.claim(WEB, claim + 1);
            } else {
                net.claim(WEB, claim);
            }
            assert!(is_held(WEB, MAC), "{deed}");
        }
    });
}

#[test]
fn an_interface_of_somebody_else_with_that_name_is_not_taken() {
    in_namespace(|| {
        cables();
        run("ip link add clusterd0 type veth peer name far0");
        let net = Net::start(setup_with_macs());
        net.ask(NetRequest::Claim { group: WEB, claim: 1 });
        net.wait(|reply| match reply {
            NetReply::HoldFailed { error, .. } => error.contains("rename it"),
            _ => false,
        });
        assert!(interface(NAME).is_some() && !held(&ips(WEB)));
        assert_eq!(settings("lan0"), Ipv4Conf { arp_ignore: 0, arp_announce: 0, rp_filter: 0 });
        net.claim(MAIL, 1);
    });
}

#[test]
fn the_lan_interface_may_vanish_and_come_back() {
    in_namespace(|| {
        cables();
        let net = Net::start(setup_with_macs());
        net.claim(WEB, 1);
        run("ip link del lan0");
        net.expect(NetReply::AddressLost { group: WEB });
        net.ask(NetRequest::Claim { group: WEB, claim: 2 });
        net.wait(|reply| matches!(reply, NetReply::HoldFailed { claim: 2, .. }));
        run("ip link add lan0 index 77 type veth peer name lan1");
        run("ip link set lan1 up");
        run("ip link set lan0 up");
        net.wait(|reply| matches!(reply, NetReply::Link(_, Some(LinkInfo { index: 77, .. }))));
        net.claim(WEB, 3);
        assert!(is_held(WEB, MAC));
        release(&net, WEB);
    });
}

#[test]
fn p1_the_guard_deletes_the_interface_and_puts_the_settings_back() {
    in_namespace(|| {
        cables();
        odd_settings();
        let net = Net::start(setup_with_macs());
        let link = std::cell::Cell::new(None);
        net.wait(|reply| match reply {
            NetReply::Link(Nic::Lan, told) => {
                link.set(*told);
                true
            }
            _ => false,
        });
        net.claim(WEB, 1);
        net.claim(MAIL, 1);
        assert_eq!(settings("lan0"), STRICT);
        let deletions = deletions(&setup_with_macs().groups, &[link.get().unwrap()]);
        let mut socket = RouteSocket::open().unwrap();
        delete_all(&mut socket, deletions.iter().map(Vec::as_slice)).unwrap();
        assert!(interface(NAME).is_none() && interface("clusterd1").is_none());
        assert!(!held(&ips(WEB)) && !held(&ips(MAIL)));
        assert_eq!(settings("lan0"), ODD);
        // Again: nothing left to do is no error.
        delete_all(&mut socket, deletions.iter().map(Vec::as_slice)).unwrap();
    });
}
