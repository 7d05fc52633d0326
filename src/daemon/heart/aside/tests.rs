use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Instant;

use crossbeam_channel::bounded;

use super::*;

/// Far longer than anything here takes, so that a busy machine fails no test.
const PATIENCE: Duration = Duration::from_secs(30);

/// A driver that waits, as one of a USB adapter that has hung, until it may go on.
struct Slow {
    line: SerialLine,
    may: Receiver<()>,
}

impl Driver for Slow {
    fn open(&mut self) -> io::Result<Serial> {
        self.may.recv().map_err(io::Error::other)?;
        Serial::open(&self.line)
    }

    fn far_end_shows(&mut self, _: &TTYPort) -> Option<bool> {
        self.may.recv().ok()?;
        Some(true)
    }
}

/// Tells on which thread it was dropped.
struct Heavy(Sender<Option<String>>);

impl Drop for Heavy {
    fn drop(&mut self) {
        let name = std::thread::current().name().map(str::to_owned);
        // Whoever wanted to know may be gone.
        let _ = self.0.send(name);
    }
}

fn at_ms(ms: u64) -> Time {
    Time(ms * 1000)
}

/// A thread beside a loop, with a slow driver of a pseudo-terminal; what lets the driver go on; what rings when an
/// answer is there.
fn slow() -> (Aside, Sender<()>, Receiver<()>, nix::pty::OpenptyResult) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let device: PathBuf = nix::unistd::ttyname(&pty.slave).unwrap();
    let (let_go, may) = bounded(10);
    let (ring, rung) = bounded(10);
    let driver = Slow { line: SerialLine { device, baud: 115_200 }, may };
    let wake = move || ring.send(()).unwrap();
    (Aside::start(Some(Box::new(driver)), wake, || {}).unwrap(), let_go, rung, pty)
}

fn answer(aside: &mut Aside, rung: &Receiver<()>) -> Done {
    rung.recv_timeout(PATIENCE).unwrap();
    aside.done().unwrap()
}

/// Each question returns at once though its driver hangs; it is asked once, told once, and answered at last.
#[test]
fn p4_a_slow_driver_is_waited_for_beside_the_loop() {
    let (mut aside, let_go, rung, _pty) = slow();
    aside.open_line(at_ms(0));
    aside.open_line(at_ms(1000));
    assert!(aside.done().is_none());
    assert_eq!(aside.newly_slow(at_ms(4999)), None);
    assert_eq!(aside.newly_slow(at_ms(5000)), Some(Duration::from_secs(5)));
    assert_eq!(aside.newly_slow(at_ms(6000)), None, "told once");
    let_go.send(()).unwrap();
    let Done::LineOpened(Ok(line)) = answer(&mut aside, &rung) else { panic!("not opened") };
    assert_eq!(aside.newly_slow(at_ms(60_000)), None, "it has answered");

    aside.look_at_line(at_ms(70_000), line.port());
    aside.look_at_line(at_ms(71_000), line.port());
    assert!(aside.done().is_none());
    assert_eq!(aside.newly_slow(at_ms(75_000)), Some(Duration::from_secs(5)), "slow again");
    let_go.send(()).unwrap();
    assert!(matches!(answer(&mut aside, &rung), Done::FarEnd(Some(true))));
    // Each was asked once: nothing more comes.
    let_go.send(()).unwrap();
    let (tell, told) = bounded(1);
    aside.drop(Heavy(tell));
    told.recv_timeout(PATIENCE).unwrap();
    assert!(aside.done().is_none());
}

/// A line that is dropped while its driver still answers a question is closed by the last who has it: never the loop.
#[test]
fn p4_the_loop_never_closes_a_line() {
    let (mut aside, let_go, rung, _pty) = slow();
    aside.open_line(at_ms(0));
    let_go.send(()).unwrap();
    let Done::LineOpened(Ok(line)) = answer(&mut aside, &rung) else { panic!("not opened") };
    let port = Arc::downgrade(&line.port());
    let fd = line.port().as_raw_fd();
    aside.look_at_line(at_ms(1), line.port());
    aside.drop(line);
    let (tell, told) = bounded(1);
    aside.drop(Heavy(tell));
    assert!(told.try_recv().is_err() && port.upgrade().is_some(), "the driver is still at it");
    assert!(std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok());
    let_go.send(()).unwrap();
    assert!(matches!(answer(&mut aside, &rung), Done::FarEnd(Some(true))));
    let by = told.recv_timeout(PATIENCE).unwrap();
    assert_eq!(by.as_deref(), Some("clusterd-aside"));
    assert!(port.upgrade().is_none());
    assert_eq!(aside.dropped_in_the_loop(), 0);
}

/// A driver that hangs for good costs a bounded queue, and a count of what did not fit.
#[test]
fn what_waits_is_bounded() {
    let (mut aside, let_go, _rung, _pty) = slow();
    aside.open_line(at_ms(0));
    let until = Instant::now() + PATIENCE;
    while !aside.orders.is_empty() {
        assert!(Instant::now() < until, "it was never begun");
        std::thread::yield_now();
    }
    let (tell, told) = bounded(2 * limits::ASIDE_ORDERS_MAX);
    for _ in 0..limits::ASIDE_ORDERS_MAX + 1 {
        aside.drop(Heavy(tell.clone()));
    }
    assert_eq!(aside.dropped_in_the_loop(), 1);
    assert_ne!(told.try_recv().unwrap().as_deref(), Some("clusterd-aside"));
    drop(let_go);
}

/// The real driver of a pseudo-terminal has no modem lines; a device that is not there is told.
#[test]
fn what_the_kernels_driver_says_comes_back() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let device: PathBuf = nix::unistd::ttyname(&pty.slave).unwrap();
    let start = |device: PathBuf| {
        let (ring, rung) = bounded(10);
        let driver = Box::new(SerialLine { device, baud: 115_200 });
        (Aside::start(Some(driver), move || ring.send(()).unwrap(), || {}).unwrap(), rung)
    };
    let (mut aside, rung) = start(device);
    aside.open_line(at_ms(0));
    let Done::LineOpened(Ok(line)) = answer(&mut aside, &rung) else { panic!("not opened") };
    aside.look_at_line(at_ms(1), line.port());
    assert!(matches!(answer(&mut aside, &rung), Done::FarEnd(None)));
    let (mut aside, rung) = start("/dev/clusterd-no-such-line".into());
    aside.open_line(at_ms(0));
    let Done::LineOpened(Err(error)) = answer(&mut aside, &rung) else { panic!("opened") };
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}
