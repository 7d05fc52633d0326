use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};

use nix::sched::{CloneFlags, unshare};

use super::campaign::Campaign;
use super::*;
use crate::core::Tickled;
use crate::limits::{CONNECTIONS_MAX, TICKLE_AFTER, TICKLE_BURST, TICKLE_GAP};
use crate::net::clients::{Connection, Shared};

const WEB: GroupIndex = GroupIndex(0);
/// Far longer than anything here takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(60);

fn list(count: usize, at: Instant) -> Shared {
    // Of addresses that are not here: nothing is sent.
    let one = Connection {
        service: "192.0.2.50:80".parse().unwrap(),
        client: "192.0.2.7:9".parse().unwrap(),
    };
    Shared { connections: vec![one; count], at }
}

#[test]
fn only_the_newest_order_counts() {
    let orders = vec![Order::default(); 2];
    let notes = Mutex::new(Notes { orders, ..Notes::default() });
    let board =
        Arc::new(Board { notes, bell: EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap() });
    let clients = Clients { board: Arc::clone(&board) };
    let take = || board.take().unwrap().0.into_iter().map(|order| (order.duty, order.tickle));
    clients.order(WEB, ClientDuty::Yield);
    clients.order(WEB, ClientDuty::Share);
    clients.tickle(WEB);
    clients.order(GroupIndex(1), ClientDuty::Share);
    clients.tickle(GroupIndex(1));
    clients.order(GroupIndex(1), ClientDuty::Leave);
    let taken: Vec<_> = take().collect();
    assert_eq!(taken, [(Some(ClientDuty::Share), true), (Some(ClientDuty::Leave), false)]);
    assert!(take().all(|order| order == (None, false)));
    clients.end();
    assert!(board.take().is_none());
}

#[test]
fn a_campaign_goes_at_its_pace_and_ends() {
    let begin = Instant::now();
    let list = list(CONNECTIONS_MAX, begin);
    let mut campaign = Campaign::begin(begin);
    let (mut times, mut outcomes) = (Vec::new(), Vec::new());
    while let Some(at) = campaign.next_at() {
        times.push(at - begin);
        outcomes.extend(campaign.work(at, Some(&list)));
    }
    let bursts = CONNECTIONS_MAX / TICKLE_BURST;
    assert_eq!(times.len(), bursts * (1 + TICKLE_AFTER.len()));
    assert!(times[bursts - 1] <= Duration::from_millis(200), "{:?}", times[bursts - 1]);
    assert_eq!(times[bursts], times[bursts - 1], "the round at 50 ms follows at once");
    assert!(times[bursts + 1..2 * bursts].is_sorted());
    assert_eq!(times[4 * bursts], TICKLE_AFTER[3]);
    assert!(times.windows(2).all(|pair| pair[1] >= pair[0]));
    assert!(times[bursts + 1] - times[bursts] == TICKLE_GAP);
    let [outcome] = outcomes.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!((outcome.known, outcome.told), (CONNECTIONS_MAX, 0));
    assert!(outcome.refused.is_some());
}

#[test]
fn a_list_that_comes_after_the_takeover_is_used_at_once() {
    let begin = Instant::now();
    let mut campaign = Campaign::begin(begin);
    assert!(campaign.work(begin, None).is_none());
    let ms = Duration::from_millis(1);
    assert!(campaign.work(begin + ms, None).is_none());
    let late = list(3, begin + 2 * ms);
    assert_eq!(campaign.work(begin + 3 * ms, Some(&late)).unwrap().known, 3);
    // Not again before its time, and told once.
    let rounds = campaign.next_at().unwrap();
    assert_eq!(rounds, begin + TICKLE_AFTER[1]);
    assert!(campaign.work(rounds - ms, Some(&late)).is_none());
    assert_eq!(campaign.next_at(), Some(rounds));
    assert!(campaign.work(rounds, Some(&late)).is_none());
    assert_eq!(campaign.next_at(), Some(begin + TICKLE_AFTER[2]));
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{command}");
}

struct Node {
    desk: Desk,
    told: Receiver<Tickled>,
}

impl Node {
    fn new(me: NodeIndex) -> Node {
        let node = |name: &str, number: u8| {
            format!(
                "[node.{name}]\naddress = \"192.0.2.1{number}\"\nlan = \"lo\"\n\
                 crossover = \"cross{number}\"\n"
            )
        };
        let text = format!(
            "[cluster]\nname = \"c\"\nkey = \"/k\"\n{}{}\
             [group.web]\nprefer = \"serv1\"\naddress = [\"192.0.2.50/24\", \"2001:db8::50/64\"]\n",
            node("serv1", 1),
            node("serv2", 2)
        );
        let config = crate::config::parse(&text, "test").unwrap();
        let (sender, told) = channel();
        let tell = Box::new(move |_, tickled| sender.send(tickled).unwrap());
        let codec = Codec::new(&[7; 32], &config, me);
        Node { desk: Desk::new(&config, me, codec, tell).unwrap(), told }
    }

    fn order(&mut self, duty: ClientDuty, tickle: bool) {
        self.desk.obey(Instant::now(), WEB, Order { duty: Some(duty), tickle });
    }
}

/// Lets both work until that is so.
fn until(nodes: &mut [Node; 2], what: &str, mut so: impl FnMut(&[Node; 2]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so(nodes) {
        assert!(Instant::now() < deadline, "never: {what}");
        for node in nodes.iter_mut() {
            node.desk.work(Instant::now());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Two nodes' desks on one kernel: whom the tickles are for is connected and alive.
#[test]
fn lists_travel_tickles_hurt_nobody_who_is_alive_and_what_is_left_is_closed() {
    let test = || {
        unshare(CloneFlags::CLONE_NEWNET).expect("this test needs root");
        run("ip link set lo up");
        run("ip link add cross1 type veth peer name cross2");
        for command in [
            "ip link set cross1 up",
            "ip link set cross2 up",
            "ip address add 192.0.2.50/32 dev lo",
            "ip address add 192.0.2.7/32 dev lo",
            "ip address add 2001:db8::50/128 dev lo nodad",
            "ip address add 2001:db8::7/128 dev lo nodad",
        ] {
            run(command);
        }
        let mut open = Vec::new();
        for (ip, from) in [("192.0.2.50", "192.0.2.7"), ("2001:db8::50", "2001:db8::7")] {
            let listener = TcpListener::bind((ip, 0)).unwrap();
            for _ in 0..100 {
                let client = connect(listener.local_addr().unwrap(), from);
                open.push((client, listener.accept().unwrap().0));
            }
        }
        let mut nodes = NodeIndex::BOTH.map(Node::new);
        nodes[0].order(ClientDuty::Share, false);
        let known = |nodes: &[Node; 2]| nodes[1].desk.known(WEB);
        until(&mut nodes, "the peer to know", |nodes| known(nodes) == 200);

        // The other takes over.
        nodes[0].order(ClientDuty::Leave, false);
        nodes[1].order(ClientDuty::Share, true);
        let mut told = None;
        until(&mut nodes, "the campaign to end", |nodes| {
            told = told.or_else(|| nodes[1].told.try_recv().ok());
            told.is_some() && known(nodes) == 0
        });
        let told = told.unwrap();
        assert_eq!((told.known, told.told), (200, 200));
        for (client, server) in &open {
            (&*client).write_all(b"x").unwrap();
            (&*server).read_exact(&mut [0]).unwrap();
        }
        // And the first one is told that this one serves.
        nodes[1].order(ClientDuty::Leave, false);
        nodes[0].order(ClientDuty::Yield, false);
        for (client, server) in &open {
            let ends = [client, server].map(|mut end| end.read(&mut [0]).unwrap_err().kind());
            assert_eq!(ends, [ErrorKind::ConnectionReset, ErrorKind::ConnectionAborted]);
        }
        // Its last words name all of them.
        until(&mut nodes, "the last words", |nodes| known(nodes) == 200);
    };
    std::thread::spawn(test).join().unwrap();
}

fn connect(to: SocketAddr, from: &str) -> TcpStream {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket,
    };
    use std::os::fd::AsRawFd;
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let client = socket(family, SockType::Stream, SockFlag::empty(), None).unwrap();
    let from = SocketAddr::new(from.parse().unwrap(), 0);
    bind(client.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    connect(client.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    client.into()
}
