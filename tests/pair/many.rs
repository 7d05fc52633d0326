//! A group with as many addresses as a hundred: it moves and is taken over whole.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use clusterd::config::{NodeIndex, ServiceAddress};
use clusterd_bed::watcher::{TwoOwners, dump};
use clusterd_bed::{GROUP, node};

use crate::scene::Scene;

/// So many addresses, every other one of IPv6, the client's first.
fn addresses(count: u8) -> Vec<ServiceAddress> {
    let one = |number: u8| match number % 2 {
        0 => {
            // Behind the bed's own hosts.
            let ip = Ipv4Addr::new(203, 0, 113, 120 + number);
            ServiceAddress { ip: ip.into(), prefix: 24 }
        }
        _ => {
            let ip = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, number.into());
            ServiceAddress { ip: ip.into(), prefix: 64 }
        }
    };
    (0..count).map(one).collect()
}

/// Waits until a node's kernel has all of the group's addresses and the daemon says that it serves.
fn wait_all(scene: &Scene, to: NodeIndex, ips: &[IpAddr]) {
    scene.wait("all addresses to be held", || {
        let of = |node| {
            let held = dump(&scene.bed.wiring().seat(node).namespace, ips).expect("a dump");
            let mut times: BTreeMap<IpAddr, u32> = BTreeMap::new();
            held.iter().for_each(|(_, ip, _)| *times.entry(*ip).or_default() += 1);
            times
        };
        let (there, elsewhere) = (of(to), of(to.other()));
        let once = there.values().all(|times| *times == 1);
        if there.len() == ips.len() && once && elsewhere.is_empty() {
            return Ok(());
        }
        Err(format!("{} of {} there, {} elsewhere", there.len(), ips.len(), elsewhere.len()))
    });
    scene.wait_served_by(to);
}

fn pair(count: u8) -> (Scene, NodeIndex, Vec<IpAddr>) {
    let all = addresses(count);
    let ips = all.iter().map(|address| address.ip).collect();
    let mut scene = Scene::dark(|options| options.addresses = all);
    let owner = scene.power_on();
    (scene, owner, ips)
}

#[test]
fn p1_p2_a_group_with_a_hundred_addresses_moves_and_is_taken_over_whole() {
    let (mut scene, owner, ips) = pair(100);
    let mark = Instant::now();
    wait_all(&scene, owner, &ips);
    scene.tell(owner, &["move", GROUP, node::name(owner.other())]);
    wait_all(&scene, owner.other(), &ips);
    scene.whole();
    scene.bed.power_cut(owner.other()).expect("a power cut");
    wait_all(&scene, owner, &ips);
    scene.bed.power_on(owner.other()).expect("power");
    scene.whole();
    wait_all(&scene, owner, &ips);
    scene.bed.cross_check().expect("a watcher that sees");
    assert_eq!(scene.bed.watcher.two_owners_since(mark), TwoOwners::default());
    assert_eq!(scene.bed.watcher.missed(), 0);
}
