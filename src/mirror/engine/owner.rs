//! The owner's role: the sending side, the attempts to reach the peer, and who waits for what.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::outgoing::Outgoing;
use super::role::Shown;
use super::{Input, report, spawn};
use crate::control::status::{Direction, MirrorState};
use crate::core::Generation;
use crate::limits;
use crate::mirror::session::sender::SenderState;
use crate::mirror::transport::LinkPath;
use crate::mirror::watch::Watch;

/// The owner's role.
pub(super) struct Owner {
    pub(super) generation: Generation,
    /// `Err`: it cannot begin yet: why, and when to try again.
    pub(super) outgoing: Result<Outgoing, (String, Instant)>,
    pub(super) watch: Option<WatchThread>,
    /// Number of the barrier of a `Drain` order.
    pub(super) drain: Option<u64>,
    /// Requests, with the barrier that each waits for.
    pub(super) syncs: Vec<(u64, u64)>,
    pub(super) dial: Dialling,
    pub(super) rescan_at: Instant,
}

/// The attempts to reach the peer.
pub(super) struct Dialling {
    pub(super) attempt: u64,
    pub(super) under_way: bool,
    pub(super) failed: u32,
    pub(super) next_at: Instant,
    pub(super) why: String,
}

/// A thread that waits for the watch.
pub(super) struct WatchThread {
    pub(super) number: u64,
    /// It waits for this before it looks again.
    pub(super) resume: Sender<()>,
    pub(super) told: bool,
}

impl Owner {
    pub(super) fn shown(&self, path: Option<LinkPath>, nothing: Shown) -> Shown {
        let nothing = Shown { direction: Direction::Out, ..nothing };
        let outgoing = match &self.outgoing {
            Ok(outgoing) => outgoing,
            Err((why, _)) => {
                return Shown { state: MirrorState::Blocked, why: why.clone(), ..nothing };
            }
        };
        let sent = &outgoing.sent;
        let (state, why) = match (&sent.state, path) {
            (_, None) | (None, _) => {
                let why = match self.dial.why.as_str() {
                    "" => "connecting to the peer".to_owned(),
                    why => format!("the peer is not reached: {why}"),
                };
                let state =
                    if self.dial.failed == 0 { MirrorState::Syncing } else { MirrorState::Behind };
                (state, why)
            }
            (Some(SenderState::InSync), Some(LinkPath::Crossover)) => {
                (MirrorState::InSync, String::new())
            }
            (Some(SenderState::InSync), Some(LinkPath::Lan)) => {
                (MirrorState::InSync, "over the LAN: the crossover does not connect".to_owned())
            }
            (Some(SenderState::Syncing), Some(_)) => (MirrorState::Syncing, String::new()),
            (Some(SenderState::Restoring(names)), Some(_)) => {
                (MirrorState::Syncing, report::restoring(*names, "on the peer"))
            }
            (Some(SenderState::Behind(why)), Some(_)) => (MirrorState::Behind, why.clone()),
            (Some(SenderState::Blocked(why)), Some(_)) => (MirrorState::Blocked, why.clone()),
        };
        let drained = self.drain.is_some_and(|barrier| sent.kept >= barrier);
        let pending_bytes = outgoing.pending_bytes();
        Shown {
            state,
            why,
            drained,
            fuzzy: sent.fuzzy,
            bytes: sent.bytes,
            pending_bytes,
            ..nothing
        }
    }
}

impl Owner {
    pub(super) fn new(generation: Generation) -> Owner {
        let now = Instant::now();
        Owner {
            generation,
            outgoing: Err(("not begun yet".to_owned(), now)),
            watch: None,
            drain: None,
            syncs: Vec::new(),
            dial: Dialling {
                attempt: 0,
                under_way: false,
                failed: 0,
                next_at: now,
                why: String::new(),
            },
            rescan_at: now + limits::RESCAN_EVERY,
        }
    }
}

impl Dialling {
    pub(super) fn again(&mut self, why: &str) {
        let wait = limits::DIAL_AGAIN_MIN * 2u32.saturating_pow(self.failed.min(10));
        self.failed = self.failed.saturating_add(1);
        self.next_at = Instant::now() + wait.min(limits::MIRROR_RETRY);
        why.clone_into(&mut self.why);
    }

    pub(super) fn reached(&mut self) {
        self.failed = 0;
        self.why.clear();
    }
}

/// Waits for the watch, so that the engine can wait for everything at once.
pub(super) fn watch_thread(watch: &Watch, inbox: &Sender<Input>) -> Option<WatchThread> {
    static NUMBERS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let number = NUMBERS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let fd = match watch.as_fd().try_clone_to_owned() {
        Ok(fd) => fd,
        Err(error) => {
            log::error!(
                "the watch over the trees cannot be waited for: {error}; only rescans find changes"
            );
            return None;
        }
    };
    let (resume, resumed) = bounded(1);
    let inbox = inbox.clone();
    let started = spawn("mirror-watch", move || wait_for(&fd, number, &inbox, &resumed));
    if let Err(why) = started {
        log::error!(
            "the watch over the trees cannot be waited for: {why}; only rescans find changes"
        );
        return None;
    }
    Some(WatchThread { number, resume, told: false })
}

fn wait_for(fd: &OwnedFd, watch: u64, inbox: &Sender<Input>, resumed: &Receiver<()>) {
    let look_up = PollTimeout::try_from(Duration::from_secs(1)).unwrap_or(PollTimeout::MAX);
    loop {
        let ready = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], look_up);
        if !ready.is_ok_and(|count| count > 0) {
            if resumed.try_recv() == Err(TryRecvError::Disconnected) {
                return;
            }
            continue;
        }
        if inbox.send(Input::Hint { watch }).is_err() || resumed.recv().is_err() {
            return;
        }
    }
}
