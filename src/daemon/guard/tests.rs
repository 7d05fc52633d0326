//! A real guard with a stand-in for the heart, each a process, in a network namespace of their own. The
//! stand-ins are this test program again: the ignored tests below do nothing unless they are started by
//! the others.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child as Started, Command, ExitStatus};

use nix::sys::signal::kill;
use nix::unistd::{Pid, gettid};

use super::*;
use crate::beat::Farewell;
use crate::config::{self, Config, NodeIndex};
use crate::daemon::channel;
use crate::net::{RouteSocket, any_held};
use crate::sys::packet::PacketSocket;
use crate::sys::process::take_inherited;

const DIRECTORY: &str = "CLUSTERD_TEST_GUARD";
const DESCRIPTORS: &str = "CLUSTERD_TEST_GUARD_FDS";
const ADDRESSES: [&str; 2] = ["192.0.2.50", "2001:db8::50"];

/// This program as that stand-in. The test program's main thread must not die of a signal that is meant
/// for the stand-in, which runs in another.
fn stand_in(name: &str) -> [OsString; 7] {
    let test = format!("daemon::guard::tests::{name}");
    let exe = std::env::current_exe().unwrap().into_os_string();
    let [env, mask] = ["/usr/bin/env", "--block-signal=TERM,HUP"].map(OsString::from);
    let [ignored, shown, exact] = ["--ignored", "--nocapture", "--exact"].map(OsString::from);
    [env, mask, exe, ignored, shown, exact, test.into()]
}

fn ip(arguments: &str) -> String {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn append(path: &Path, line: &str) {
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    std::io::Write::write_all(&mut file, format!("{line}\n").as_bytes()).unwrap();
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// The guard in its own network namespace, with a link named `one`.
#[test]
#[ignore = "a process that the other tests start"]
fn stand_in_guard() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    ip("link add one type veth peer name two");
    ip("link set one up");
    ip("link set two up");
    let page = Page::create().unwrap();
    let (heart_end, worker_end) = channel::pair().unwrap();
    let (alive_read, alive) = std::io::pipe().unwrap();
    let page_copy = page.as_fd().try_clone_to_owned().unwrap();
    let numbers = format!("{} {}", page_copy.as_raw_fd(), alive_read.as_raw_fd());
    let extra = [(DESCRIPTORS.into(), numbers.into())];
    let inherited = vec![page_copy, alive_read.into(), heart_end];
    let argv = stand_in("stand_in_heart");
    let heart = Program::new(Path::new(&argv[0]), &argv, &extra, inherited).unwrap();
    let workers = directory.join("workers");
    let body = format!("echo $$ >>{}; cat <&{}", workers.display(), worker_end.as_raw_fd());
    let argv = ["sh".into(), "-c".into(), body.into()];
    let worker = Program::new(Path::new("/bin/sh"), &argv, &[], vec![worker_end]).unwrap();
    let network = format!("/proc/{}/task/{}/ns/net", std::process::id(), gettid());
    std::fs::write(directory.join("network.new"), network).unwrap();
    std::fs::rename(directory.join("network.new"), directory.join("network")).unwrap();
    page.set_end_patience(limits::HEART_END_PATIENCE);
    let last_will = LastWill::open(&config(), NodeIndex::Lower);
    let status = run(Guarded { page, heart, worker, last_will, alive: alive.into() }).unwrap();
    std::process::exit(i32::from(status == ExitCode::FAILURE));
}

/// A heart that holds two addresses without a lease, ticks, and hands over on SIGTERM.
#[test]
#[ignore = "a process that the other tests start"]
fn stand_in_heart() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let numbers = std::env::var(DESCRIPTORS).unwrap();
    let mut inherited =
        numbers.split(' ').map(|number| take_inherited(number.parse().unwrap()).unwrap());
    let mut page = Page::open(inherited.next().unwrap()).unwrap();
    let alive = inherited.next().unwrap();
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGTERM);
    wanted.thread_block().unwrap();
    let signals = SignalFd::with_flags(&wanted, SfdFlags::SFD_NONBLOCK).unwrap();

    let before = ip("-brief address");
    let clean = ADDRESSES.iter().all(|address| !before.contains(address));
    append(&directory.join("hearts"), &format!("{} {clean}", std::process::id()));
    let mode = std::fs::read_to_string(directory.join("mode")).unwrap();
    if mode == "refuses" {
        std::process::exit(i32::from(HEART_REFUSES));
    }
    if mode == "holds nothing" {
        loop {
            page.tick();
            std::thread::sleep(limits::GUARD_ROUND);
        }
    }
    let will = will(page.heart());
    // The second address is in the list only: the guard finds it by its look.
    let sealed = ADDRESSES.map(|address| address.parse().unwrap());
    page.seal(&[deletion(Ipv4Addr::new(192, 0, 2, 50))], &sealed, &[will]).unwrap();
    ip("address add 192.0.2.50/32 dev one");
    ip("address add 2001:db8::50/128 dev one nodad");
    loop {
        if mode != "ticks not" {
            page.tick();
        }
        let mut fds = [PollFd::new(alive.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, PollTimeout::from(5u8)).unwrap() == 1 {
            append(&directory.join("orphans"), "");
            std::process::exit(0);
        }
        if signals.read_signal().unwrap().is_some() && mode != "hangs" {
            ip("address flush dev one");
            std::process::exit(0);
        }
    }
}

fn config() -> Config {
    let node = |name: &str, address: &str| {
        format!("[node.{name}]\naddress = \"{address}\"\nlan = \"lan\"\ncrossover = \"one\"\n")
    };
    let nodes = [node("serv1", "192.0.2.1"), node("serv2", "192.0.2.2")].concat();
    let text = format!(
        "[cluster]\nname = \"guard\"\nkey = \"/k\"\n{nodes}\
         [group.web]\nprefer = \"serv1\"\naddress = [\"192.0.2.50/24\"]\n"
    );
    config::parse(&text, "guard.toml").unwrap()
}

/// A will for the crossover that names its heart.
fn will(heart: u64) -> Farewell {
    let index = nix::net::if_::if_nametoindex("one").unwrap();
    let family = (libc::AF_PACKET as u16).to_ne_bytes();
    let ethertype = limits::CROSSOVER_ETHERTYPE.to_be_bytes();
    let to = [&family[..], &ethertype, &index.to_ne_bytes(), &[0; 12]].concat();
    let frame = [&[0xff; 12][..], &ethertype, &heart.to_be_bytes(), &[0; 60]].concat();
    Farewell { path: crate::beat::Path::Crossover, to, frame }
}

/// The far end of the crossover: the heart that each will names, and whether an address was there still.
struct FarEnd {
    said: std::sync::mpsc::Receiver<(u64, bool)>,
    _stop: std::sync::mpsc::Sender<()>,
}

impl FarEnd {
    fn of(bed: &Bed) -> FarEnd {
        let network = std::fs::File::open(bed.lines("network").pop().unwrap()).unwrap();
        let (say, said) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (open, opened) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            nix::sched::setns(network, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let cable = PacketSocket::open(
                crate::net::interface_index("two").unwrap(),
                limits::CROSSOVER_ETHERTYPE,
            )
            .unwrap();
            let mut kernel = RouteSocket::open().unwrap();
            let ips = ADDRESSES.map(|address| address.parse().unwrap());
            open.send(()).unwrap();
            let mut buffer = [0; 200];
            while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let Some(_) = cable.receive(&mut buffer).unwrap() else {
                    std::thread::sleep(Duration::from_micros(100));
                    continue;
                };
                let heart = u64::from_be_bytes(buffer[14..22].try_into().unwrap());
                say.send((heart, any_held(&mut kernel, &ips).unwrap())).unwrap();
            }
        });
        opened.recv().unwrap();
        FarEnd { said, _stop: stop }
    }

    fn next(&self) -> (u64, bool) {
        self.said.recv_timeout(Duration::from_secs(60)).expect("a last will")
    }
}

/// RTM_DELADDR for `address` on the interface `one` (rtnetlink(7)).
fn deletion(address: Ipv4Addr) -> Vec<u8> {
    let index = nix::net::if_::if_nametoindex("one").unwrap();
    let mut message = Vec::new();
    message.extend(32u32.to_ne_bytes());
    message.extend(libc::RTM_DELADDR.to_ne_bytes());
    message.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([libc::AF_INET as u8, 32, 0, 0]);
    message.extend(index.to_ne_bytes());
    message.extend(8u16.to_ne_bytes());
    message.extend(libc::IFA_LOCAL.to_ne_bytes());
    message.extend(address.octets());
    message
}

struct Bed {
    directory: tempfile::TempDir,
    guard: Started,
}

impl Bed {
    fn start(mode: &str) -> Bed {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("mode"), mode).unwrap();
        let [env, arguments @ ..] = stand_in("stand_in_guard");
        let guard = Command::new(env)
            .args(arguments)
            .env(DIRECTORY, directory.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        Bed { directory, guard }
    }

    /// What the next heart does.
    fn mode(&self, mode: &str) {
        std::fs::write(self.directory.path().join("mode"), mode).unwrap();
    }

    fn lines(&self, file: &str) -> Vec<String> {
        lines(&self.directory.path().join(file))
    }

    fn pid(line: &str) -> Pid {
        Pid::from_raw(line.split(' ').next().unwrap().parse().unwrap())
    }

    fn signal_newest(&self, file: &str, signal: Signal) {
        kill(Bed::pid(self.lines(file).last().unwrap()), signal).unwrap();
    }

    fn signal_guard(&self, signal: Signal) {
        kill(Pid::from_raw(self.guard.id() as i32), signal).unwrap();
    }

    fn held(&self) -> usize {
        let Some(network) = self.lines("network").pop() else { return 0 };
        let network = format!("--net={network}");
        let arguments = [&network, "ip", "-brief", "address"];
        let output = Command::new("nsenter").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let shown = String::from_utf8(output.stdout).unwrap();
        ADDRESSES.iter().filter(|address| shown.contains(**address)).count()
    }

    /// Waits until `count` hearts were started and the newest holds both addresses.
    fn until_held_by(&self, count: usize) {
        until(|| self.lines("hearts").len() == count && self.held() == 2);
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until(|| {
            status = self.guard.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        for line in self.lines("hearts").iter().chain(&self.lines("workers")) {
            let pid = Bed::pid(line);
            // Only what is still ours: numbers are used again.
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let ours = format!("{DIRECTORY}={}", self.directory.path().display());
            if environment.split(|byte| *byte == 0).any(|pair| pair == ours.as_bytes()) {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
    }
}

fn until(mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never came to this");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn p1_a_killed_hearts_addresses_are_gone_before_the_next_heart_begins() {
    let bed = Bed::start("holds");
    for count in 1..=2 {
        bed.until_held_by(count);
        bed.signal_newest("hearts", Signal::SIGKILL);
    }
    bed.until_held_by(3);
    assert!(bed.lines("hearts").iter().all(|line| line.ends_with(" true")), "an unclean start");
}

#[test]
fn p1_a_frozen_heart_is_killed_and_loses_its_addresses() {
    let bed = Bed::start("holds");
    bed.until_held_by(1);
    bed.signal_newest("hearts", Signal::SIGSTOP);
    let frozen = Instant::now();
    until(|| bed.held() == 0 || bed.lines("hearts").len() == 2);
    println!("the addresses of the frozen heart were gone after {:?}", frozen.elapsed());
    bed.until_held_by(2);
    assert!(bed.lines("hearts").iter().all(|line| line.ends_with(" true")), "an unclean start");
}

#[test]
fn p1_a_last_will_is_said_once_when_no_address_is_left() {
    for signal in [Signal::SIGKILL, Signal::SIGSTOP] {
        let bed = Bed::start("holds");
        bed.until_held_by(1);
        let far_end = FarEnd::of(&bed);
        bed.mode("holds nothing");
        bed.signal_newest("hearts", signal);
        assert_eq!(far_end.next(), (1, false), "the heart, and whether an address was left");
        // The next heart has sealed no will; the one before's is said no more.
        until(|| bed.lines("hearts").len() == 2);
        bed.signal_newest("hearts", Signal::SIGKILL);
        bed.mode("holds");
        bed.until_held_by(3);
        bed.signal_newest("hearts", Signal::SIGKILL);
        assert_eq!(far_end.next().0, 3);
    }
}

#[test]
fn a_heart_that_never_ticks_is_replaced() {
    let bed = Bed::start("ticks not");
    until(|| bed.lines("hearts").len() == 2);
    assert!(bed.lines("hearts").iter().all(|line| line.ends_with(" true")), "an unclean start");
}

#[test]
fn asked_to_end_the_guard_ends_heart_and_worker_in_order() {
    let mut bed = Bed::start("holds");
    bed.until_held_by(1);
    bed.signal_guard(Signal::SIGHUP);
    bed.signal_guard(Signal::SIGTERM);
    assert_eq!(bed.wait().code(), Some(0));
    assert_eq!(bed.lines("hearts").len(), 1);
    let worker = Bed::pid(&bed.lines("workers")[0]);
    assert!(kill(worker, None).is_err(), "the worker outlived the guard");
}

#[test]
fn a_heart_that_does_not_hand_over_is_killed_and_cleaned_up() {
    let mut bed = Bed::start("hangs");
    bed.until_held_by(1);
    let far_end = FarEnd::of(&bed);
    bed.signal_guard(Signal::SIGTERM);
    assert_eq!(bed.wait().code(), Some(1));
    assert_eq!(bed.lines("hearts").len(), 1);
    assert_eq!(far_end.next(), (1, false), "its last will");
}

#[test]
fn a_heart_that_refuses_to_start_ends_the_daemon() {
    let mut bed = Bed::start("refuses");
    assert_eq!(bed.wait().code(), Some(1));
    assert_eq!(bed.lines("hearts").len(), 1);
}

#[test]
fn a_dead_worker_is_restarted_and_moves_nothing() {
    let bed = Bed::start("holds");
    bed.until_held_by(1);
    for count in 1..=2 {
        until(|| bed.lines("workers").len() == count);
        bed.signal_newest("workers", Signal::SIGKILL);
    }
    until(|| bed.lines("workers").len() == 3);
    assert_eq!((bed.lines("hearts").len(), bed.held()), (1, 2));
}

#[test]
fn the_heart_learns_of_the_guards_death() {
    let bed = Bed::start("holds");
    bed.until_held_by(1);
    bed.signal_guard(Signal::SIGKILL);
    until(|| bed.lines("orphans").len() == 1);
}

#[test]
fn restarts_are_quick_once_and_then_ever_slower() {
    let mut now = Instant::now();
    let mut restarts = Restarts::new(now);
    assert!(restarts.may_start(now));
    assert!(restarts.may_start(now), "at once the first time");
    let mut waits = Vec::new();
    for _ in 0..8 {
        let ended = now;
        while !restarts.may_start(now) {
            now += Duration::from_millis(10);
        }
        waits.push((now - ended).as_millis());
    }
    assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
    now += limits::RESTART_FORGIVEN_AFTER;
    assert!(restarts.may_start(now), "forgiven");
}
