//! The owner's role: the sending side, the attempts to reach the peer, and who waits for what.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::connection::Connection;
use super::mode::Shown;
use super::outgoing::Outgoing;
use super::{Input, report, spawn};
use crate::control::status::{Direction, MirrorState};
use crate::core::{Generation, Unsent};
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
    /// A person has said that the trees here are the ones to keep.
    pub(super) approved: bool,
    /// Since when the peer lacks something.
    pub(super) unsent_since: Option<Instant>,
    /// Number of the barrier of a `Drain` order.
    pub(super) drain: Option<u64>,
    /// Requests, with the barrier that each waits for.
    pub(super) syncs: Vec<(u64, u64)>,
    pub(super) dial: Dialling,
    pub(super) detour: Detour,
    pub(super) rescan_at: Instant,
}

/// The attempts to reach the peer.
pub(super) struct Dialling {
    pub(super) attempt: u64,
    pub(super) under_way: bool,
    pub(super) failed: u32,
    pub(super) next_at: Instant,
    /// What came of the newest attempt or session, and how it began: a later obstacle must not hide the
    /// cause.
    newest: Obstacle,
    first: Obstacle,
}

/// What stands between this node and the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    pub(super) state: MirrorState,
    pub(super) why: String,
}

/// Looking whether the crossover connects again, while a session goes over the LAN.
pub(super) struct Detour {
    /// Number of the attempt that is under way.
    pub(super) under_way: Option<u64>,
    pub(super) next_at: Instant,
    /// What the newest attempt came to, if it failed.
    pub(super) why: Option<String>,
    /// It connects since: the session changes over.
    pub(super) open_since: Option<Instant>,
}

impl Detour {
    pub(super) fn new(now: Instant) -> Detour {
        let next_at = now + limits::CROSSOVER_AGAIN_EVERY;
        Detour { under_way: None, next_at, why: None, open_since: None }
    }

    /// When something is due.
    pub(super) fn due(&self) -> Option<Instant> {
        match (self.open_since, self.under_way) {
            (Some(since), _) => Some(since + limits::CROSSOVER_CHANGE_PATIENCE),
            (None, Some(_)) => None,
            (None, None) => Some(self.next_at),
        }
    }
}

/// A thread that waits for the watch.
pub(super) struct WatchThread {
    pub(super) number: u64,
    /// It waits for this before it looks again.
    pub(super) resume: Sender<()>,
    pub(super) told: bool,
}

impl Owner {
    pub(super) fn shown(&self, connection: &Connection, nothing: Shown) -> Shown {
        let nothing = Shown { direction: Direction::Out, ..nothing };
        let outgoing = match &self.outgoing {
            Ok(outgoing) => outgoing,
            Err((why, _)) => {
                return Shown { state: MirrorState::Blocked, why: why.clone(), ..nothing };
            }
        };
        let sent = &outgoing.sent;
        let (state, why) = match (&sent.state, connection.path()) {
            // It is asked again and again.
            (Some(SenderState::Conflict(why)), None) => (MirrorState::Conflict, why.clone()),
            (_, None) | (None, _) => self.dial.shown(),
            (Some(SenderState::InSync), Some(_)) if outgoing.stuck().next().is_some() => {
                let first = outgoing.stuck().next().unwrap_or_default();
                let count = match outgoing.stuck().count() {
                    1 => "a name".to_owned(),
                    count => format!("{count} names"),
                };
                let why =
                    format!("{count} cannot be mirrored now, the rest is on the peer: {first}");
                (MirrorState::Behind, why)
            }
            (Some(SenderState::InSync), Some(_)) if outgoing.rests().is_behind(Instant::now()) => {
                let why = "files that change constantly are sent at intervals";
                (MirrorState::Syncing, why.to_owned())
            }
            (Some(SenderState::InSync), Some(LinkPath::Crossover)) => {
                (MirrorState::InSync, String::new())
            }
            (Some(SenderState::InSync), Some(LinkPath::Lan)) => {
                let why =
                    self.detour.why.as_deref().or(connection.detour()).unwrap_or("not tried yet");
                let why = format!("over the LAN, because the crossover does not connect: {why}");
                (MirrorState::InSync, why)
            }
            (Some(SenderState::Syncing), Some(_)) => (MirrorState::Syncing, String::new()),
            (Some(SenderState::Restoring(names)), Some(_)) => {
                (MirrorState::Syncing, report::restoring(*names, "on the peer"))
            }
            (Some(SenderState::Behind(why)), Some(_)) => (MirrorState::Behind, why.clone()),
            (Some(SenderState::Blocked(why)), Some(_)) => (MirrorState::Blocked, why.clone()),
            (Some(SenderState::Conflict(why)), Some(_)) => (MirrorState::Conflict, why.clone()),
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
            stuck: outgoing.stuck().map(str::to_owned).collect(),
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
            approved: false,
            unsent_since: None,
            drain: None,
            syncs: Vec::new(),
            dial: Dialling {
                attempt: 0,
                under_way: false,
                failed: 0,
                next_at: now,
                newest: Obstacle::none(),
                first: Obstacle::none(),
            },
            detour: Detour::new(now),
            rescan_at: now + limits::RESCAN_EVERY,
        }
    }
}

impl Owner {
    /// What the peer does not have; `dirty`: so many names are known to have changed.
    pub(super) fn unsent(&mut self, now: Instant, dirty: u64) -> Unsent {
        let Ok(outgoing) = &self.outgoing else { return Unsent::Unknown };
        let in_sync = outgoing.sent.state == Some(SenderState::InSync);
        let nothing = dirty == 0 && self.watch.is_some() && !outgoing.is_sending();
        if !outgoing.was_in_sync() {
            return Unsent::Unknown;
        }
        if in_sync || nothing {
            self.unsent_since = None;
            return Unsent::Nothing;
        }
        let since = *self.unsent_since.get_or_insert(now);
        let age = now.duration_since(since);
        if age < limits::MIRROR_MOMENT {
            return Unsent::Nothing;
        }
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Unsent::Since { age_ms, files: dirty.max(1), bytes: outgoing.pending_bytes() }
    }
}

impl Obstacle {
    /// Nothing is known to stand in the way.
    fn none() -> Obstacle {
        Obstacle { state: MirrorState::Syncing, why: String::new() }
    }

    /// The peer was not reached.
    pub(super) fn unreached(why: &str) -> Obstacle {
        Obstacle { state: MirrorState::Behind, why: format!("the peer is not reached: {why}") }
    }

    /// The session ended as its sender says.
    pub(super) fn ended(state: Option<&SenderState>) -> Obstacle {
        match state {
            Some(SenderState::Blocked(why)) => {
                Obstacle { state: MirrorState::Blocked, why: why.clone() }
            }
            Some(SenderState::Behind(why)) => {
                Obstacle { state: MirrorState::Behind, why: why.clone() }
            }
            Some(SenderState::Conflict(why)) => {
                Obstacle { state: MirrorState::Conflict, why: why.clone() }
            }
            Some(SenderState::InSync | SenderState::Syncing | SenderState::Restoring(_)) | None => {
                let why = "the session with the peer ended".to_owned();
                Obstacle { state: MirrorState::Behind, why }
            }
        }
    }
}

impl Dialling {
    /// Something stands in the way; it is tried again after a pause that grows.
    pub(super) fn again(&mut self, obstacle: Obstacle) {
        let wait = limits::DIAL_AGAIN_MIN * 2u32.saturating_pow(self.failed.min(10));
        self.next_at = Instant::now() + wait.min(limits::MIRROR_RETRY);
        if self.failed == 0 {
            self.first = obstacle.clone();
        }
        self.failed = self.failed.saturating_add(1);
        self.newest = obstacle;
    }

    /// The peer has everything: whatever stood in the way does not any more.
    pub(super) fn reached(&mut self) {
        self.failed = 0;
    }

    /// It is tried at once, and then as for the first time.
    pub(super) fn anew(&mut self) {
        (self.failed, self.next_at) = (0, Instant::now());
    }

    fn shown(&self) -> (MirrorState, String) {
        let Dialling { failed, newest, first, .. } = self;
        if *failed == 0 {
            return (MirrorState::Syncing, "connecting to the peer".to_owned());
        }
        let why = match newest == first {
            true => newest.why.clone(),
            false => format!("{}; at first: {}", newest.why, first.why),
        };
        (newest.state, why)
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
                "the watch over the trees cannot be polled: {error}; only rescans find changes"
            );
            return None;
        }
    };
    let (resume, resumed) = bounded(1);
    let inbox = inbox.clone();
    let started = spawn("mirror-watch", move || wait_for(&fd, number, &inbox, &resumed));
    if let Err(why) = started {
        log::error!("the watch over the trees cannot be polled: {why}; only rescans find changes");
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
        // Who writes without end must not keep the engine from all else.
        std::thread::sleep(limits::HINT_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_cause_is_told_until_the_peer_has_everything() {
        let mut dial = Owner::new(crate::mirror::fixture::GENERATION).dial;
        assert_eq!(dial.shown().0, MirrorState::Syncing);
        let refused = SenderState::Blocked("the peer refuses: the config differs".to_owned());
        dial.again(Obstacle::ended(Some(&refused)));
        assert_eq!(
            dial.shown(),
            (MirrorState::Blocked, "the peer refuses: the config differs".into())
        );
        for _ in 0..3 {
            dial.again(Obstacle::unreached("over the LAN, 192.0.2.2 port 694: no route"));
            let (state, why) = dial.shown();
            assert_eq!(state, MirrorState::Behind);
            assert!(why.contains("192.0.2.2 port 694"), "{why}");
            assert!(why.contains("at first: the peer refuses: the config differs"), "{why}");
        }
        dial.reached();
        dial.again(Obstacle::ended(None));
        assert_eq!(dial.shown().1, "the session with the peer ended");
    }
}
