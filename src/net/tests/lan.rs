//! Two hosts on one cable: what one asks and announces, the other one's kernel answers.

use std::net::Ipv6Addr;

use super::*;

/// Runs `far` in a second namespace, joined to that of `near` by a cable; both see it as `lan0`. The cable goes
/// with the first namespace: both last until `far` has ended.
fn two_hosts(near: impl FnOnce() + Send, far: impl FnOnce(Receiver<()>) + Send) {
    let (tell_thread, far_thread) = bounded::<i32>(1);
    let (tell_wired, wired) = bounded::<()>(1);
    let (finish, finished) = bounded::<()>(1);
    let (leave, left) = bounded::<()>(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            in_namespace(move || {
                tell_thread.send(nix::unistd::gettid().as_raw()).unwrap();
                wired.recv().unwrap();
                run("ip link set lan0 up");
                far(finished);
                drop(leave);
            });
        });
        in_namespace(move || {
            let thread = far_thread.recv().unwrap();
            run(&format!("ip link add lan0 type veth peer name lan0 netns {thread}"));
            run("ip link set lan0 up");
            tell_wired.send(()).unwrap();
            near();
            drop(finish);
            left.recv().expect_err("nothing is sent");
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
    let other: Ipv6Addr = "2001:db8::99".parse().unwrap();
    let (tell_mac, far_mac) = bounded::<[u8; 6]>(1);
    two_hosts(
        move || {
            run("ip address add 192.0.2.11/24 dev lan0");
            run("ip address add 2001:db8::11/64 dev lan0 nodad");
            let mac = far_mac.recv_timeout(PATIENCE).unwrap();
            let mut watch = LanWatch::open(interface_index("lan0").unwrap(), true).unwrap();
            assert_ne!(watch.mac(), mac);
            assert_eq!(watch.fds().count(), 2);
            let local = ["192.0.2.11".parse().unwrap(), "2001:db8::11".parse().unwrap()];
            for (ip, from) in ips(WEB).into_iter().zip(local) {
                let is_answer = |seen| matches!(seen, Seen::Answer { ip: of, mac: at, .. } if (of, at) == (ip, mac));
                let own = watch.mac();
                let is_ours = |seen| seen == Seen::Answer { ip, mac, to: own };
                see(&mut watch, |watch| watch.probe(ip).unwrap(), is_answer);
                see(&mut watch, |watch| watch.ask(ip, from).unwrap(), is_ours);
            }
            // What the far host announces and probes for comes unasked.
            for ip in ["192.0.2.77".parse().unwrap(), "2001:db8::77".parse().unwrap()] {
                let uses = |seen| {
                    seen == Seen::Uses { ip, mac }
                        || matches!(seen, Seen::Answer { ip: of, .. } if ip.is_ipv6() && of == ip)
                };
                see(&mut watch, |_| {}, uses);
            }
            for ip in ["192.0.2.99".parse().unwrap(), other.into()] {
                see(&mut watch, |_| {}, |seen| seen == Seen::Probe { ip, mac });
            }
            // Our own frames are never seen.
            watch.announce("192.0.2.11".parse().unwrap(), watch.mac()).unwrap();
            let mac = watch.mac();
            let own = |seen: Seen| matches!(seen, Seen::Answer { mac: m, .. } | Seen::Uses { mac: m, .. } if m == mac);
            watch.receive(1000, &mut |seen| assert!(!own(seen))).unwrap();
        },
        move |finished| {
            run("ip address add 192.0.2.50/32 dev lan0");
            run("ip address add 2001:db8::50/128 dev lan0 nodad");
            run("ip route add 192.0.2.0/24 dev lan0");
            run("ip -6 route add 2001:db8::/64 dev lan0");
            let watch = LanWatch::open(interface_index("lan0").unwrap(), true).unwrap();
            tell_mac.send(watch.mac()).unwrap();
            let pause = Duration::from_millis(10);
            while finished.recv_timeout(pause) == Err(crossbeam_channel::RecvTimeoutError::Timeout)
            {
                watch.announce("192.0.2.77".parse().unwrap(), watch.mac()).unwrap();
                watch.announce("2001:db8::77".parse().unwrap(), watch.mac()).unwrap();
                watch.probe("192.0.2.99".parse().unwrap()).unwrap();
                watch.probe(other.into()).unwrap();
            }
        },
    );
}

/// A question to a group's MAC alone reaches the macvlan that has it, for both kinds of addresses.
#[test]
fn p1_an_own_mac_answers_for_itself() {
    const MAC: [u8; 6] = [2, 0, 0x5e, 0, 0, 0x32];
    two_hosts(
        move || {
            let mut watch = LanWatch::open(interface_index("lan0").unwrap(), true).unwrap();
            for ip in ips(WEB) {
                let is_answer =
                    |seen| matches!(seen, Seen::Answer { ip: of, mac: MAC, .. } if of == ip);
                see(&mut watch, |watch| watch.probe_at(ip, MAC).unwrap(), is_answer);
            }
        },
        move |finished| {
            run(
                "ip link add clusterd0 link lan0 address 02:00:5e:00:00:32 type macvlan mode bridge",
            );
            run("ip link set clusterd0 up");
            run("ip address add 192.0.2.50/32 dev clusterd0");
            run("ip address add 2001:db8::50/128 dev clusterd0 nodad");
            run("ip route add 192.0.2.0/24 dev lan0");
            run("ip -6 route add 2001:db8::/64 dev lan0");
            finished.recv_timeout(PATIENCE).ok();
        },
    );
}

/// What NICs hold back of multicast they let through: for all nodes, and for each service address; the netlink thread
/// joins, also when an address comes later, or the interface.
#[test]
fn p4_multicast_for_service_addresses_is_let_through() {
    in_namespace(|| {
        cables();
        let joined = |group: &str| {
            let shown = Command::new("ip").args(["maddr", "show", "dev", "lan0"]).output().unwrap();
            // The kernel's own memberships are counted beside.
            String::from_utf8(shown.stdout).unwrap().contains(&format!("link  {group}"))
        };
        std::fs::write("/proc/sys/net/ipv6/conf/lan0/disable_ipv6", "1").unwrap();
        let net = Net::start(setup());
        for group in ["33:33:00:00:00:01", "33:33:ff:00:00:50"] {
            until("it is joined", || joined(group));
        }
        assert!(!joined("33:33:ff:00:00:99"));
        let addresses = vec![address("192.0.2.50/24"), address("2001:db8::99/64")];
        net.ask(NetRequest::Addresses { group: WEB, addresses, change: 1 });
        until("it is joined", || joined("33:33:ff:00:00:99"));
        until("the other is left", || !joined("33:33:ff:00:00:50"));
        // By the same index, so that only the news tells.
        let index = interface_index("lan0").unwrap();
        run("ip link del lan0");
        run(&format!("ip link add lan0 index {index} type veth peer name lan1"));
        run("ip link set lan0 up");
        until("it is joined", || joined("33:33:ff:00:00:99"));
    });
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
            let watch = LanWatch::open(interface_index("lan0").unwrap(), true).unwrap();
            let pause = Duration::from_millis(10);
            while finished.recv_timeout(pause) == Err(crossbeam_channel::RecvTimeoutError::Timeout)
            {
                for ip in ips(WEB) {
                    watch.announce(ip, watch.mac()).unwrap();
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
            let mut watch = LanWatch::open(interface_index("lan0").unwrap(), true).unwrap();
            let peer: Ipv6Addr = "2001:db8::12".parse().unwrap();
            let is_peer = |seen| matches!(seen, Seen::Answer { ip, .. } | Seen::Uses { ip, .. } if ip == IpAddr::V6(peer));
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

/// The near host asks hosts behind the far one, which answers for them, in IPv4 and IPv6.
#[test]
fn hosts_beyond_the_lan_answer_the_round_that_asked_them() {
    let hosts: [std::net::IpAddr; 2] =
        ["198.51.100.1".parse().unwrap(), "2001:db8:f::1".parse().unwrap()];
    let (tell_ready, ready) = bounded::<()>(1);
    two_hosts(
        move || {
            run("ip address add 192.0.2.11/24 dev lan0");
            run("ip address add 2001:db8::11/64 dev lan0 nodad");
            ready.recv_timeout(PATIENCE).unwrap();
            let own = "192.0.2.11".parse().unwrap();
            let mut echo = Echo::open(interface_index("lan0").unwrap(), own, &hosts).unwrap();
            let mut other = Echo::open(interface_index("lan0").unwrap(), own, &hosts).unwrap();
            assert_eq!(echo.fds().count(), 2);
            run("ip route add 198.51.100.0/24 via 192.0.2.1");
            run("ip route add 2001:db8:f::/64 via 2001:db8::1");
            for round in [7, 70_000] {
                let mut answered = Vec::new();
                until("both to answer", || {
                    for host in hosts {
                        // IPv6 begins a moment after the carrier.
                        let _ = echo.ask(host, round);
                    }
                    echo.receive(100, &mut |host, round| answered.push((host, round))).unwrap();
                    hosts.iter().all(|host| answered.contains(&(*host, round)))
                });
            }
            // The kernel's filter keeps what answers another socket away.
            other.receive(100, &mut |host, _| panic!("{host} was not asked")).unwrap();
            for echo in [&echo, &other] {
                assert_eq!(echo.refused(), crate::net::echo::EchoRefused::default());
            }
            assert!(
                Echo::open(interface_index("lan0").unwrap(), "192.0.2.12".parse().unwrap(), &hosts)
                    .is_err()
            );
        },
        move |finished| {
            run("ip address add 192.0.2.1/24 dev lan0");
            run("ip address add 2001:db8::1/64 dev lan0 nodad");
            run("ip address add 198.51.100.1/32 dev lo");
            run("ip address add 2001:db8:f::1/128 dev lo");
            tell_ready.send(()).unwrap();
            let _ = finished.recv();
        },
    );
}
