//! The guard: keeps the heart and the worker running, and takes the service addresses away when the
//! heart dies or no longer ticks. It parses nothing, decides nothing, touches no disk and, once it
//! runs, allocates nothing.
//!
//! ```text
//!            start                  SIGKILL: no first tick in time,
//!  Resting ---------> Running ----- no tick for TICK_DEADLINE ------> Killed
//!     ^                  |                                              |
//!     |                  | ends                                   ends, | or EXIT_PATIENCE is over:
//!     |                  v                                              v delete while waiting
//!     +-------------- Cleaning <----------------------------------------+
//!   no address left:     |
//!   the last will        |
//!                        | asked to end, handed over (status 0), or refused to start
//!                        v
//!                      Ended: the worker sees the end of its channel, drains and ends; so does the guard
//! ```
//! A heart is started only when the one before has ended and an address dump shows nothing of it, or
//! when every lease of it has run out. The last will tells the peer that it may claim at once: it is sent
//! once, when the heart's end was seen in time and a dump has shown that no address is left. Silence counts only while the guard itself was awake to hear.

pub mod last_will;
pub mod netlink;
pub mod page;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::HEART_REFUSES;
use crate::limits;
use crate::sys::process::{Child, Exit, Program};
use crate::sys::realtime::{self, Touched};
use last_will::LastWill;
use netlink::GuardNetlink;
use page::{Page, Sealed};

/// What the guard watches over.
#[derive(Debug)]
pub struct Guarded {
    /// Shared with the heart.
    pub page: Page,
    /// The heart's program, which inherits the page and its end of the channel.
    pub heart: Program,
    /// The worker's program, which inherits its end of the channel.
    pub worker: Program,
    /// What the heart's last will is sent with.
    pub last_will: LastWill,
    /// Writing end of the pipe whose end tells the heart that the guard is gone.
    pub alive: OwnedFd,
}

/// Becomes the guard, until the heart has ended in order.
///
/// # Errors
/// A system call that never fails on a working system; nothing was started.
pub fn run(guarded: Guarded) -> io::Result<ExitCode> {
    nix::sys::prctl::set_name(c"clusterd-guard")?;
    let mut guard = Guard::new(guarded)?;
    for warning in realtime::set_up(limits::GUARD_PRIORITY, Touched::Writable) {
        log::warn!("{warning}");
    }
    Ok(guard.live())
}

struct Guard {
    page: Page,
    /// SIGHUP came, and no heart that ticks was there to be told.
    reload_waits: bool,
    /// Dropped when the heart has ended for good: then the worker sees the end of its channel.
    programs: Option<(Program, Program)>,
    _alive: OwnedFd,
    signals: SignalFd,
    netlink: GuardNetlink,
    sealed: Sealed,
    last_will: LastWill,
    /// No heart is started before: the peer takes over.
    resting_until: Instant,
    heart: Heart,
    heart_restarts: Restarts,
    worker: Option<Child>,
    worker_restarts: Restarts,
    /// When it was asked to end.
    stopping: Option<Instant>,
    /// A heart of this guard has ticked.
    ever_ticked: bool,
    last_round: Instant,
    /// A child may have ended, a signal may have come.
    woken: bool,
}

enum Heart {
    /// None runs, and nothing of one is left.
    Resting,
    Running {
        child: Child,
        since: Instant,
        ticks: u64,
        silent: Duration,
    },
    /// SIGKILL was sent, the end is not seen yet.
    Killed {
        child: Child,
        since: Instant,
    },
    /// It has ended; its addresses may still be there.
    Cleaning {
        exit: Exit,
        since: Instant,
        /// Its end came in time: it has a will.
        will: bool,
    },
    Ended {
        since: Instant,
        status: u8,
    },
}

impl Guard {
    fn new(guarded: Guarded) -> io::Result<Guard> {
        let mut wanted = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            wanted.add(signal);
        }
        wanted.thread_block()?;
        let now = Instant::now();
        Ok(Guard {
            page: guarded.page,
            reload_waits: false,
            programs: Some((guarded.heart, guarded.worker)),
            _alive: guarded.alive,
            signals: SignalFd::with_flags(&wanted, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?,
            netlink: GuardNetlink::open()?,
            sealed: Sealed::new(),
            last_will: guarded.last_will,
            resting_until: now,
            heart: Heart::Resting,
            heart_restarts: Restarts::new(now),
            worker: None,
            worker_restarts: Restarts::new(now),
            stopping: None,
            ever_ticked: false,
            last_round: now,
            woken: true,
        })
    }

    fn live(&mut self) -> ExitCode {
        self.rehearse();
        loop {
            let now = Instant::now();
            let gap = now.saturating_duration_since(self.last_round);
            self.last_round = now;
            if self.woken {
                self.take_signals(now);
            }
            self.tend_worker(now);
            let heart = std::mem::replace(&mut self.heart, Heart::Resting);
            self.heart = self.tend_heart(heart, now, gap);
            if let Some(status) = self.end(now) {
                return ExitCode::from(status);
            }
            self.woken = self.wait();
        }
    }

    /// Sleeps until a child ends, a signal comes, or it is time to look at the tick; whether it may be one
    /// of the first two.
    fn wait(&self) -> bool {
        let heart = match &self.heart {
            Heart::Running { child, .. } | Heart::Killed { child, .. } => child.as_fd(),
            Heart::Resting | Heart::Cleaning { .. } | Heart::Ended { .. } => self.signals.as_fd(),
        };
        let worker = self.worker.as_ref().map_or(self.signals.as_fd(), Child::as_fd);
        let mut fds =
            [self.signals.as_fd(), heart, worker].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let timeout = PollTimeout::try_from(limits::GUARD_ROUND).unwrap_or(PollTimeout::ZERO);
        match poll(&mut fds, timeout) {
            Ok(ready) => ready > 0,
            Err(Errno::EINTR) => true,
            // Without poll the guard still looks at the tick in time.
            Err(_) => {
                std::thread::sleep(limits::GUARD_ROUND);
                true
            }
        }
    }

    fn take_signals(&mut self, now: Instant) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo == Signal::SIGHUP as u32 {
                self.reload_waits = true;
            } else if self.stopping.is_none() {
                log::info!("shutting down: the heart hands over");
                self.stopping = Some(now);
                if let Heart::Running { child, .. } = &self.heart {
                    child.signal(Signal::SIGTERM);
                }
            }
        }
    }

    fn tend_heart(&mut self, heart: Heart, now: Instant, gap: Duration) -> Heart {
        match heart {
            Heart::Resting => self.start_heart(now),
            Heart::Running { mut child, since, ticks, silent } => {
                if self.woken
                    && let Some(exit) = child.exit()
                {
                    return self.clean(exit, now, now, true);
                }
                let (now_ticks, before) = (self.page.ticks(), ticks);
                let silent = match now_ticks == before {
                    // What the guard itself overslept is not held against the heart.
                    true => silent + gap.min(2 * limits::GUARD_ROUND),
                    false => Duration::ZERO,
                };
                self.ever_ticked |= now_ticks > 0;
                // Before its first tick it does not yet know what the signal means.
                if now_ticks > 0 && std::mem::take(&mut self.reload_waits) {
                    child.signal(Signal::SIGHUP);
                }
                let overdue = match now_ticks {
                    0 => now.saturating_duration_since(since) > limits::HEART_START_PATIENCE,
                    _ => silent > limits::TICK_DEADLINE,
                };
                let too_slow = self.stopping.is_some_and(|asked| {
                    now.saturating_duration_since(asked) > self.page.end_patience()
                });
                if !overdue && !too_slow {
                    return Heart::Running { child, since, ticks: now_ticks, silent };
                }
                child.signal(Signal::SIGKILL);
                let pid = child.pid();
                if overdue {
                    self.page.note_hung(self.page.since_tick().max(silent));
                }
                if !overdue {
                    log::error!("the heart (process {pid}) did not end in time and was killed");
                } else if now_ticks == 0 {
                    log::error!("the heart (process {pid}) did not begin in time and was killed");
                } else {
                    let late_ms = self.page.since_tick().as_millis();
                    log::error!("the heart (process {pid}) did not tick for {late_ms} ms: killed");
                }
                Heart::Killed { child, since: now }
            }
            Heart::Killed { mut child, since } => {
                let late = now.saturating_duration_since(since) >= limits::EXIT_PATIENCE;
                if let Some(exit) = child.exit() {
                    return self.clean(exit, now, now, !late);
                }
                // It sits in the kernel, where a request may still be on its way: delete until it ends.
                if late {
                    self.delete_addresses();
                }
                Heart::Killed { child, since }
            }
            Heart::Cleaning { exit, since, will } => self.clean(exit, since, now, will),
            Heart::Ended { .. } => heart,
        }
    }

    fn start_heart(&mut self, now: Instant) -> Heart {
        if self.stopping.is_some() {
            return self.ended(now, 0);
        }
        let Some((program, _)) = &self.programs else { return Heart::Resting };
        if now < self.resting_until {
            return Heart::Resting;
        }
        self.last_will.let_go();
        if !self.heart_restarts.may_start(now) {
            return Heart::Resting;
        }
        self.page.begin_heart();
        match program.start() {
            Ok(child) => Heart::Running { child, since: now, ticks: 0, silent: Duration::ZERO },
            Err(error) => {
                log::error!("the heart cannot be started: {error}");
                Heart::Resting
            }
        }
    }

    /// Deletes what the ended heart left, says its will if it has one, and what comes next.
    fn clean(&mut self, exit: Exit, since: Instant, now: Instant, will: bool) -> Heart {
        let gone = self.delete_addresses();
        if !gone && now.saturating_duration_since(since) <= limits::LEASE + limits::LEASE_GRACE {
            return Heart::Cleaning { exit, since, will };
        }
        if !gone {
            log::error!("could not verify that the addresses are gone; every lease has run out");
        } else if will {
            self.say_will();
        }
        match exit {
            Exit::Status(0) => self.ended(now, 0),
            Exit::Status(status) if status == i32::from(HEART_REFUSES) && !self.ever_ticked => {
                self.ended(now, 1)
            }
            // A heart that had not begun held nothing that it could hand over.
            Exit::Status(_) | Exit::Signal(_) if self.stopping.is_some() => {
                let begun = self.page.ticks() > 0;
                if begun {
                    log::error!("the heart {exit} before it had handed over");
                }
                self.ended(now, u8::from(begun))
            }
            Exit::Status(_) | Exit::Signal(_) => {
                log::error!("the heart {exit}; its addresses are deleted, it is restarted");
                Heart::Resting
            }
        }
    }

    /// Looks once for nothing, as it does at a heart's death: what that takes is in memory then, and stays.
    fn rehearse(&mut self) {
        if let Err(error) = self.netlink.delete_found(&[]) {
            log::warn!("could not look for addresses: {error}");
        }
    }

    /// True: a look shows that none of the sealed addresses is on this host. Nothing sealed: nothing
    /// was ever added.
    fn delete_addresses(&mut self) -> bool {
        let Some(sealed) = self.page.sealed(&mut self.sealed) else { return true };
        for message in sealed.deletions() {
            if let Err(error) = self.netlink.send(message) {
                log::error!("a deletion could not be sent: {error}");
            }
        }
        // What the look finds it deletes, too; so look until it finds nothing.
        for _ in 0..limits::GUARD_LOOKS_A_ROUND {
            match self.netlink.delete_found(sealed.addresses()) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => log::error!("could not look for the addresses: {error}"),
            }
        }
        false
    }

    /// Tells the peer that this node holds no address. Only after a look has shown it.
    fn say_will(&mut self) {
        let Some(sealed) = self.page.sealed(&mut self.sealed) else { return };
        let sent = self.last_will.say(sealed.will());
        if sent > 0 {
            self.resting_until = Instant::now() + limits::WILL_REST;
            log::warn!("the heart's last will is sent on {sent} paths: the peer may take over");
        }
    }

    fn ended(&mut self, now: Instant, status: u8) -> Heart {
        self.programs = None;
        Heart::Ended { since: now, status }
    }

    fn tend_worker(&mut self, now: Instant) {
        if self.woken
            && let Some(exit) = self.worker.as_mut().and_then(Child::exit)
        {
            match exit {
                _ if self.programs.is_none() => {}
                Exit::Status(0) => {
                    log::info!("the worker restarts with another config");
                    self.worker_restarts = Restarts::new(now);
                }
                Exit::Status(_) | Exit::Signal(_) => {
                    log::error!("the worker {exit}; it is restarted");
                }
            }
            self.worker = None;
        }
        let Some((_, program)) = &self.programs else { return };
        if self.worker.is_none() && self.worker_restarts.may_start(now) {
            match program.start() {
                Ok(child) => self.worker = Some(child),
                Err(error) => log::error!("the worker cannot be started: {error}"),
            }
        }
    }

    /// The exit status, once all has ended.
    fn end(&self, now: Instant) -> Option<u8> {
        let Heart::Ended { since, status } = self.heart else { return None };
        match &self.worker {
            None => Some(status),
            Some(worker) => {
                if now.saturating_duration_since(since) > limits::WORKER_END_PATIENCE {
                    worker.signal(Signal::SIGKILL);
                }
                None
            }
        }
    }
}

/// When a child that keeps ending may be started again.
struct Restarts {
    started: Option<Instant>,
    not_before: Instant,
    delay: Duration,
}

impl Restarts {
    fn new(now: Instant) -> Restarts {
        Restarts { started: None, not_before: now, delay: Duration::ZERO }
    }

    /// Whether it may be started now; then it counts as started. At once the first time it ends,
    /// later each time after.
    fn may_start(&mut self, now: Instant) -> bool {
        if let Some(started) = self.started.take() {
            if now.saturating_duration_since(started) >= limits::RESTART_FORGIVEN_AFTER {
                self.delay = Duration::ZERO;
            }
            self.not_before = now + self.delay;
            self.delay = (2 * self.delay).clamp(limits::RESTART_AFTER, limits::RESTART_AFTER_MAX);
        }
        if now < self.not_before {
            return false;
        }
        self.started = Some(now);
        true
    }
}

#[cfg(test)]
mod tests;
