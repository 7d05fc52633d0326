//! Two hearts in two network namespaces with real cables between them, each with a stand-in for its
//! worker (needs root).

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use nix::sys::pthread::{Pthread, pthread_kill, pthread_self};
use nix::sys::signal::Signal;

use super::aside::Aside;
use super::*;
use crate::beat::{Codec, Paths};
use crate::control::event::Kind;
use crate::control::protocol::Request;
use crate::control::socket;
use crate::control::status::{GroupState, PathState, PathStatus, Standing, Status};
use crate::core::{Command as Effect, DiskState};
use crate::daemon::channel::{self, ToWorker, WorkerChannel};
use crate::daemon::config_slots::ConfigSlot;
use crate::daemon::inherit::HeartInherits;
use crate::net::LinkInfo;
use crate::sim::replay::replay;
use crate::sys::rtnl::HeldRtnl;

/// Far longer than anything here takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"
    [cluster]
    name = "office"
    key = "/etc/clusterd/cluster.key"
    [node.serv1]
    address = "203.0.113.11"
    lan = "eth0"
    crossover = "eth1"
    [node.serv2]
    address = "203.0.113.12"
    lan = "eth0"
    crossover = "eth1"
    [heartbeat]
    dead_after = "400ms"
    boot_patience = "1s"
    [group.web]
    prefer = "serv1"
    address = ["203.0.113.50/24", "2001:db8::50/64"]
"#;

fn shell(command: &str) -> String {
    let output = Command::new("sh").args(["-ec", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A thread in a network namespace of its own, which does what it is told and ends with this value.
struct Host {
    work: Option<mpsc::Sender<Box<dyn FnOnce() + Send>>>,
    thread: Option<JoinHandle<()>>,
    tid: i32,
}

impl Host {
    fn new() -> Host {
        let (work, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests need root");
            tell.send(nix::unistd::gettid().as_raw()).unwrap();
            for job in jobs {
                job();
            }
        });
        Host { work: Some(work), thread: Some(thread), tid: told.recv().unwrap() }
    }

    /// Runs `job` there and waits for it.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        let job = move || tell.send(job()).unwrap();
        self.work.as_ref().unwrap().send(Box::new(job)).unwrap();
        told.recv().unwrap()
    }

    fn holds(&self) -> bool {
        let seen = self.run(|| shell("ip -o addr"));
        let (four, six) = (seen.contains("203.0.113.50/32"), seen.contains("2001:db8::50/128"));
        assert_eq!(four, six, "both or none: {seen}");
        four
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.work.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Two hosts with a crossover and a LAN cable between them.
fn hosts() -> [Host; 2] {
    let hosts = [Host::new(), Host::new()];
    let [one, two] = &hosts;
    let tid = two.tid;
    one.run(move || {
        shell(&format!("ip link add eth0 type veth peer name eth0 netns {tid}"));
        shell(&format!("ip link add eth1 type veth peer name eth1 netns {tid}"));
    });
    for (host, address) in [(one, "203.0.113.11"), (two, "203.0.113.12")] {
        host.run(move || {
            shell(&format!(
                "ip link set lo up; ip addr add {address}/24 dev eth0
                 ip link set eth0 up; ip link set eth1 up"
            ));
        });
    }
    hosts
}

/// A heart in a thread of its own, started in the namespace of a host.
struct Beating {
    run_dir: PathBuf,
    thread: JoinHandle<Result<(), BeginError>>,
    pthread: Pthread,
    guard: Option<std::io::PipeWriter>,
    events: mpsc::Receiver<crate::control::event::Record>,
    recorded: mpsc::Receiver<String>,
    page: Page,
}

impl Beating {
    fn start(host: &Host, name: &str, disk: DiskState) -> Beating {
        let config = crate::config::parse(CONFIG, "test.toml").unwrap();
        let me = config.node_index(name).unwrap();
        let run_dir = std::env::temp_dir().join(format!("clusterd-heart-{name}-{}", host.tid));
        std::fs::create_dir_all(&run_dir).unwrap();
        let page = Page::create().unwrap();
        let (heart_end, worker_end) = channel::pair().unwrap();
        let (guard_read, guard) = io::pipe().unwrap();
        let (tell, events) = mpsc::channel();
        let (record, recorded) = mpsc::channel();
        std::thread::spawn(move || {
            let worker = WorkerChannel::new(worker_end);
            while let Ok(Some(message)) = worker.receive(&mut |error| panic!("{error}")) {
                match message {
                    ToWorker::Hello { nonce } => {
                        let disk = Ok(disk.clone());
                        worker.send(&ToHeart::HelloAck { nonce, disk }).unwrap();
                    }
                    ToWorker::Persist { write, .. } => {
                        // A heart that just ended needs no answer.
                        let _ = worker.send(&ToHeart::Persisted { write });
                    }
                    ToWorker::Tell(record) => {
                        eprintln!("{} {} {}", record.time, record.node, record.told.text);
                        let _ = tell.send(record);
                    }
                    ToWorker::Log { level, text } => eprintln!("{level} {text}"),
                    ToWorker::RecordInput(line) => {
                        let _ = record.send(line);
                    }
                    ToWorker::Ready
                    | ToWorker::Services { .. }
                    | ToWorker::Mirror { .. }
                    | ToWorker::Reread { .. }
                    | ToWorker::Configured
                    | ToWorker::PeerHasNewest(_)
                    | ToWorker::Clients { .. }
                    | ToWorker::Tickle { .. }
                    | ToWorker::Approve { .. }
                    | ToWorker::Sync { .. } => {}
                }
            }
        });
        let inherits = HeartInherits {
            me,
            keys: (&[7; 32]).into(),
            run_dir: run_dir.clone(),
            record: Some(CONFIG.to_owned()),
            page: Page::open(page.as_fd().try_clone_to_owned().unwrap()).unwrap(),
            channel: HeartChannel::new(heart_end),
            guard: guard_read.into(),
            lock: std::fs::File::open("/dev/null").unwrap().into(),
            config_slots: ConfigSlots::create(&ConfigSlot {
                config: config.clone(),
                keys: (&[7; 32]).into(),
            })
            .unwrap(),
            config,
        };
        let (thread, pthread) = host.run(|| {
            let (tell, told) = mpsc::channel();
            let thread = std::thread::spawn(move || {
                tell.send(pthread_self()).unwrap();
                run(inherits)
            });
            (thread, told.recv().unwrap())
        });
        Beating { run_dir, thread, pthread, guard: Some(guard), events, recorded, page }
    }

    fn status(&self) -> Option<Status> {
        match socket::ask(&self.run_dir, &Request::Status {}, PATIENCE) {
            Ok(Answer::Ok(Payload::Status(status))) => Some(*status),
            _ => None,
        }
    }

    fn group(&self) -> Option<GroupState> {
        self.status()?.groups.first().map(|group| group.state)
    }

    fn wait_for_event(&self, kind: Kind) {
        loop {
            if self.events.recv_timeout(PATIENCE).unwrap().told.kind == kind {
                return;
            }
        }
    }

    /// Ends in order by what `end` does to it. Its recording leads a core to the same end.
    fn end(mut self, end: impl FnOnce(&mut Beating)) {
        end(&mut self);
        wait_for("the heart's end", || self.thread.is_finished().then_some(()));
        self.thread.join().unwrap().unwrap();
        std::fs::remove_dir_all(&self.run_dir).unwrap();
        // The worker's stand-in ends with the channel, and the queue with it.
        let recorded: Vec<String> = self.recorded.iter().collect();
        let commands = replay(recorded.iter().map(String::as_str)).unwrap();
        assert_eq!(commands.last().map(|(_, command)| command), Some(&Effect::Exit));
    }
}

#[test]
fn p1_p2_two_hearts_have_one_owner_and_hand_over_in_order() {
    let hosts = hosts();
    let [one, two] = &hosts;
    let mut hearts = [
        (one, Beating::start(one, "serv1", DiskState::default())),
        (two, Beating::start(two, "serv2", DiskState::default())),
    ];
    let redundant = |heart: &Beating| {
        let status = heart.status()?;
        let up = |path: &PathStatus| path.state == PathState::Up || path.name == "serial";
        let all_up = status.peer.paths.iter().all(up);
        (status.standing() == Standing::Redundant && all_up).then_some(status)
    };
    let status = wait_for("redundancy as both see it", || {
        redundant(&hearts[1].1)?;
        redundant(&hearts[0].1)
    });
    if status.groups[0].owner.as_deref() == Some("serv2") {
        hearts.reverse();
    }
    let [(one, first), (two, second)] = hearts;
    assert_eq!(first.group(), Some(GroupState::Active));
    assert_eq!(second.group(), Some(GroupState::Passive));
    assert!(one.holds() && !two.holds());
    assert!(first.page.ticks() > 0);

    let ask = |request| socket::ask(&first.run_dir, &request, PATIENCE).unwrap();
    let unknown = ask(Request::Move { group: "mail".into(), node: None, accept_loss: false });
    assert!(matches!(unknown, Answer::Unknown(_)), "{unknown:?}");
    let moved = ask(Request::Move { group: "web".into(), node: None, accept_loss: false });
    assert!(matches!(moved, Answer::Ok(Payload::Text(_))), "{moved:?}");
    assert!(two.holds() && !one.holds());

    // The owner's guard dies while the peer can serve: it hands over and ends.
    second.end(|heart| drop(heart.guard.take()));
    wait_for("the other serves", || (first.group() == Some(GroupState::Active)).then_some(()));
    assert!(one.holds() && !two.holds());
    first.wait_for_event(Kind::PeerDead);

    // Asked to end: nothing is left behind.
    first.end(|heart| pthread_kill(heart.pthread, Signal::SIGTERM).unwrap());
    assert!(!one.holds());
}

#[test]
fn a_lone_heart_serves_and_puts_back_what_others_delete() {
    let [one, _two] = hosts();
    one.run(|| shell("ip addr add 203.0.113.50/32 dev eth0"));
    let alone = DiskState { alone: true, ..DiskState::default() };
    let heart = Beating::start(&one, "serv1", alone);
    wait_for("it serves", || (heart.group() == Some(GroupState::Active)).then_some(()));
    assert!(one.holds());
    one.run(|| shell("ip addr del 203.0.113.50/32 dev eth0"));
    heart.wait_for_event(Kind::Address);
    wait_for("it holds it again", || {
        one.run(|| shell("ip -o addr")).contains("203.0.113.50/32").then_some(())
    });
    // Unguarded and alone it goes on serving, and says so.
    let mut heart = heart;
    drop(heart.guard.take());
    wait_for("it says so", || heart.status().filter(|status| !status.guarded));
    assert!(one.holds());
    heart.end(|heart| pthread_kill(heart.pthread, Signal::SIGTERM).unwrap());
    assert!(!one.holds());
}

#[test]
fn a_vanished_lan_interface_is_found_again() {
    let [one, _two] = hosts();
    let alone = DiskState { alone: true, ..DiskState::default() };
    let heart = Beating::start(&one, "serv1", alone);
    wait_for("it serves", || (heart.group() == Some(GroupState::Active)).then_some(()));
    one.run(|| shell("ip link del eth0"));
    wait_for("it serves no more", || (heart.group() != Some(GroupState::Active)).then_some(()));
    one.run(|| {
        shell(
            "ip link add eth0 type veth peer name far; ip link set far up
             ip addr add 203.0.113.11/24 dev eth0; ip link set eth0 up",
        )
    });
    wait_for("it serves again", || (heart.group() == Some(GroupState::Active)).then_some(()));
    assert!(one.holds());
    heart.end(|heart| pthread_kill(heart.pthread, Signal::SIGTERM).unwrap());
}

/// Whatever of it waited for the lock would keep the loop from beating.
#[test]
fn p4_nothing_that_the_loop_opens_or_closes_waits_for_the_rtnl_lock() {
    let [one, _two] = hosts();
    one.run(|| {
        let reach = "[reach]\nhosts = [\"198.51.100.1\", \"2001:db8:f::1\"]";
        let config = crate::config::parse(&format!("{CONFIG}{reach}"), "test.toml").unwrap();
        let me = config.node_index("serv1").unwrap();
        let [lan, crossover] = ["eth0", "eth1"].map(|name| {
            let mut route = crate::net::RouteSocket::open().unwrap();
            let found = route.interface(name).unwrap().unwrap();
            LinkInfo { index: found.index, mac: found.mac.unwrap(), ipv4: None }
        });
        let poll = Poll::new().unwrap();
        let paths =
            Paths::new(&config, me, Codec::new(&[7; 32], &config.cluster, config.group_tags(), me));
        let aside = Aside::start(None, || {}, || {}).unwrap();
        let registry = poll.registry().try_clone().unwrap();
        let mut sockets = Sockets::new(&config, me, paths, registry, FIRST_SOCKET, aside);
        let held = HeldRtnl::take().unwrap();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            sockets.link_is(Nic::Lan, Some(&lan));
            sockets.crossover_is(Some(&crossover));
            sockets.reopen(Time(1));
            let open = [Path::Crossover, Path::Lan].map(|path| sockets.is_ready(path));
            let far = LinkInfo { index: lan.index, mac: [2; 6], ipv4: None };
            // Another MAC: all that is on it is opened again.
            sockets.link_is(Nic::Lan, Some(&far));
            sockets.reopen(Time(2));
            sockets.link_is(Nic::Lan, None);
            sockets.crossover_is(None);
            tell.send(open).unwrap();
        });
        let open = told.recv_timeout(Duration::from_secs(10));
        drop(held);
        thread.join().unwrap();
        assert_eq!(open, Ok([true; 2]), "it waits for the lock");
    });
}

#[test]
fn p4_a_flood_of_bad_frames_hurts_nobody() {
    let [one, two] = hosts();
    let first = Beating::start(&one, "serv1", DiskState::default());
    let second = Beating::start(&two, "serv2", DiskState::default());
    wait_for("redundancy", || {
        first.status().filter(|status| status.standing() == Standing::Redundant)
    });
    let before = [first.status().unwrap(), second.status().unwrap()];
    two.run(|| {
        let crossover = crate::sys::packet::PacketSocket::open(
            crate::net::interface_index("eth1").unwrap(),
            0x88b5,
        )
        .unwrap();
        let lan = std::net::UdpSocket::bind("203.0.113.12:0").unwrap();
        for round in 0..20_000u32 {
            let mut frame = [round as u8; 200];
            frame[..6].fill(0xff);
            frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
            frame[14..18].copy_from_slice(&round.to_le_bytes());
            // A full queue drops it, which is as good.
            let _ = crossover.send(&frame);
            let _ = lan.send_to(&frame, "203.0.113.11:694");
        }
    });
    let after = [first.status().unwrap(), second.status().unwrap()];
    let refused = |status: &Status| status.peer.paths.iter().map(|path| path.refused).sum::<u64>();
    assert!(refused(&after[0]) >= refused(&before[0]) + 1000, "{:?}", after[0].peer.paths);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!(after.standing(), Standing::Redundant);
        assert_eq!(after.groups[0].owner, before.groups[0].owner);
        assert_eq!(after.groups[0].generation, before.groups[0].generation);
    }
    second.end(|heart| pthread_kill(heart.pthread, Signal::SIGTERM).unwrap());
    first.end(|heart| pthread_kill(heart.pthread, Signal::SIGTERM).unwrap());
}
