//! What the engine is doing: nothing, sending, or taking in.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::connection::Connection;
use super::crash::OwnerMark;
use super::incoming::Incoming;
use super::outgoing::{self, Outgoing};
use super::owner::{Obstacle, Owner, watch_thread};
use super::settle::Settler;
use super::walk;
use super::{Engine, Input, Telling, decline, lock, report};
use crate::control::status::{Direction, MirrorState};
use crate::core::{MirrorDuty, PeerSync, Time};
use crate::limits;
use crate::mirror::proto::{self, Envelope, ToReceiver, ToSender, Trouble};
use crate::mirror::session::receiver;
use crate::mirror::session::sender::{self, SenderState};
use crate::mirror::transport::{Link, LinkPath, against_links};

/// What the engine is doing.
pub(super) enum Mode {
    /// Nothing travels.
    Idle {
        /// What was acknowledged is applied; else why not yet.
        settled: Result<(), String>,
        /// When to look again.
        look_at: Instant,
    },
    /// This node owns the trees.
    Out(Box<Owner>),
    /// The peer does.
    In(Box<Incoming>),
}

/// What is shown of a mode.
pub(super) struct Shown {
    pub(super) state: MirrorState,
    pub(super) why: String,
    pub(super) direction: Direction,
    pub(super) still: bool,
    pub(super) drained: bool,
    pub(super) fuzzy: u64,
    pub(super) bytes: u64,
    pub(super) pending_bytes: u64,
    /// Names that cannot be mirrored at the moment, here or on the peer, and why.
    pub(super) stuck: Vec<String>,
}

impl Mode {
    /// Nothing yet.
    pub(super) fn idle(now: Instant) -> Mode {
        Mode::Idle { settled: Err("not looked at yet".to_owned()), look_at: now }
    }

    /// When the session has something to do.
    pub(super) fn session_deadline(&self) -> Option<Time> {
        match self {
            Mode::Idle { .. } => None,
            Mode::Out(owner) => owner.outgoing.as_ref().ok()?.next_deadline(),
            Mode::In(incoming) => incoming.next_deadline(),
        }
    }

    /// When something else is due. `path`: of the link, if there is one.
    pub(super) fn due(&self, path: Option<LinkPath>, peer: PeerSync) -> Option<Instant> {
        match self {
            Mode::Idle { look_at, .. } => Some(*look_at),
            Mode::Out(owner) => {
                let begin = owner.outgoing.as_ref().err().map(|(_, at)| *at);
                let look = match path {
                    None => Some(owner.dial.next_at).filter(|_| !owner.dial.under_way),
                    Some(LinkPath::Lan) => owner.detour.due().filter(|_| peer.crossover.is_some()),
                    Some(LinkPath::Crossover) => None,
                };
                let rest = owner.outgoing.as_ref().ok().and_then(Outgoing::rest_over_at);
                [begin, look, rest, Some(owner.rescan_at)].into_iter().flatten().min()
            }
            Mode::In(_) => None,
        }
    }

    /// For the report. `differ`: names of the copy here that somebody changed.
    pub(super) fn shown(
        &self,
        connection: &Connection,
        roots: &Result<(), String>,
        differ: u64,
    ) -> Shown {
        let nothing = Shown {
            state: MirrorState::Paused,
            why: String::new(),
            direction: Direction::None,
            still: false,
            drained: false,
            fuzzy: 0,
            bytes: 0,
            pending_bytes: 0,
            stuck: Vec::new(),
        };
        match self {
            Mode::Idle { settled, .. } => match (settled, roots) {
                (Err(why), _) => Shown { why: why.clone(), ..nothing },
                (Ok(()), Err(why)) => {
                    Shown { state: MirrorState::Blocked, why: why.clone(), still: true, ..nothing }
                }
                (Ok(()), Ok(())) => Shown {
                    why: "no node owns the group; nothing is mirrored".to_owned(),
                    still: true,
                    ..nothing
                },
            },
            Mode::Out(owner) => owner.shown(connection, nothing),
            Mode::In(incoming) => {
                let taken = &incoming.taken;
                if let Some(why) = &taken.disputed {
                    let (state, why) = (MirrorState::Conflict, why.clone());
                    return Shown { state, why, direction: Direction::In, ..nothing };
                }
                let (state, why) = match (&taken.trouble, connection.path()) {
                    (Some(Trouble::NoRoom { .. } | Trouble::NoInodes { .. }), _) => {
                        (MirrorState::Behind, None)
                    }
                    (Some(Trouble::Root(_) | Trouble::Failed(_) | Trouble::Damaged(_)), _) => {
                        (MirrorState::Blocked, None)
                    }
                    (None, None) => {
                        let mut why = "the owner has no session with this node".to_owned();
                        if let Some(ended) = &taken.ended {
                            why.push_str(": the last one ended: ");
                            why.push_str(ended);
                        }
                        if let Some(against) = against_links() {
                            why.push_str("; ");
                            why.push_str(&against);
                        }
                        (MirrorState::Behind, Some(why))
                    }
                    (None, Some(_)) if taken.whole && differ > 0 => {
                        (MirrorState::Syncing, Some(report::restoring(differ, "on this node")))
                    }
                    (None, Some(_)) if taken.whole && !taken.busy => (MirrorState::InSync, None),
                    (None, Some(_)) => (MirrorState::Syncing, None),
                };
                let why = why.or(taken.trouble.as_ref().map(ToString::to_string));
                let why = why.unwrap_or_default();
                Shown { state, why, direction: Direction::In, bytes: taken.bytes, ..nothing }
            }
        }
    }
}

impl Engine {
    /// An operator's `sync`.
    pub(super) fn sync(&mut self, request: u64, tell: &mut dyn FnMut(Telling)) {
        let barrier = self.with_owner(|owner, now, around| {
            let outgoing = owner.outgoing.as_mut().map_err(|(why, _)| why.clone())?;
            let barrier = outgoing.barrier(now, true, around);
            owner.syncs.push((request, barrier));
            Ok(())
        });
        let refused = barrier.unwrap_or_else(|| Err("this node does not own the group".to_owned()));
        if let Err(why) = refused {
            tell(Telling::Synced { request, outcome: Err(why) });
        }
    }

    /// Does what is due.
    pub(super) fn work(&mut self, tell: &mut dyn FnMut(Telling)) {
        if !self.index_works(tell) {
            return;
        }
        let now = Instant::now();
        if let Mode::Idle { look_at, .. } = &self.mode
            && now >= *look_at
        {
            self.settle();
        }
        self.begin_owner();
        self.look_at_replica();
        self.take_early_link();
        self.dial();
        self.look_for_crossover();
        self.rescan();
        self.look_again();
        self.send_ahead();
        self.tick();
        self.answer_syncs(tell);
        self.go_on_with_names();
    }

    fn tick(&mut self) {
        if self.mode.session_deadline().is_none_or(|at| at > self.now()) || !self.inbox.is_empty() {
            return;
        }
        self.feed_sender(sender::Event::Tick);
        self.feed_receiver(receiver::Event::Tick);
    }

    /// First what a claim waits for, and what nobody does when that is told.
    fn settle(&mut self) {
        let serves = self.settler.as_ref().is_some_and(Settler::lets_serve);
        let settled = if serves { self.finish() } else { self.bring() };
        self.look_at_roots();
        let is_open = self.settler.as_ref().is_some_and(Settler::is_open);
        // What is in the trees and not yet in the index, nobody changed.
        if settled.is_ok() && self.roots.is_ok() && !is_open {
            self.look_before_a_claim();
        }
        let wait = match &settled {
            Ok(()) if is_open => Duration::ZERO,
            Ok(()) => limits::MIRROR_RETRY,
            Err(_) => limits::SETTLE_RETRY,
        };
        self.unsettled = match &settled {
            Ok(()) => None,
            Err(_) => Some(self.unsettled.unwrap_or_else(Instant::now)),
        };
        self.mode = Mode::Idle { settled, look_at: Instant::now() + wait };
    }

    fn look_at_roots(&mut self) {
        let empty = self.trees.open(&self.index).and_then(|pass| pass.is_empty());
        self.empty = empty.as_ref().is_ok_and(|empty| *empty);
        self.roots = empty.map(drop).map_err(|fault| fault.to_string());
    }

    /// Whether it was tried for long enough to settle what was acknowledged: nothing waits for it then.
    pub(super) fn is_over(&self) -> bool {
        self.unsettled.is_some_and(|since| since.elapsed() >= limits::SETTLE_PATIENCE)
    }

    pub(super) fn settled(&mut self) -> Result<(), String> {
        let to_the_end = self.is_over();
        self.look_for_settler()?;
        let Some(settler) = &mut self.settler else { return Ok(()) };
        let settled = settler.settle(&self.trees, &self.index, to_the_end);
        settled.map_err(|trouble| trouble.to_string())
    }

    /// The trees become the commit, and may be written to.
    fn bring(&mut self) -> Result<(), String> {
        let to_the_end = self.is_over();
        self.look_for_settler()?;
        let Some(settler) = &mut self.settler else { return Ok(()) };
        let replica = RefCell::new(self.replica.as_mut());
        let look_up = || {
            if let Some(replica) = replica.borrow_mut().as_mut() {
                replica.sip();
            }
            false
        };
        let brought = settler
            .bring(&self.trees, &self.index, to_the_end, &look_up)
            .and_then(|()| settler.let_serve());
        brought.map_err(|trouble| trouble.to_string())
    }

    /// The rest, while no order waits.
    fn finish(&mut self) -> Result<(), String> {
        self.look_for_settler()?;
        let Some(settler) = &mut self.settler else { return Ok(()) };
        let mail = &self.mail;
        let finished = settler.finish(&self.trees, &self.index, &|| lock(mail).order.is_some());
        finished.map(drop).map_err(|trouble| trouble.to_string())
    }

    pub(super) fn begin_owner(&mut self) {
        let Mode::Out(owner) = &mut self.mode else { return };
        if !matches!(&owner.outgoing, Err((_, at)) if Instant::now() >= *at) {
            return;
        }
        let generation = owner.generation;
        let begun = self
            .settled()
            .and_then(|()| self.begin_generation())
            .and_then(|()| self.set_owned(generation).map_err(|error| error.to_string()))
            .and_then(|()| {
                let words = (self.setup.group.as_str(), self.setup.node.as_str());
                Outgoing::new(generation, words, &self.trees, &self.index)
            });
        self.look_at_roots();
        let Mode::Out(owner) = &mut self.mode else { return };
        match begun {
            Ok(outgoing) => {
                // Whoever let it serve took the trees as they are.
                if let Some(settler) = &self.settler
                    && let Err(trouble) = settler.stage.mend()
                {
                    log::warn!("{trouble}");
                }
                owner.watch = watch_thread(outgoing.hints().watch(), &self.to_self);
                // From now on changes here are the owner's.
                self.replica = None;
                owner.outgoing = Ok(outgoing);
            }
            Err(why) => owner.outgoing = Err((why, Instant::now() + limits::MIRROR_RETRY)),
        }
    }

    /// If this machine died as the owner, what that left empty is sent so that the peer keeps what it has.
    fn begin_generation(&mut self) -> Result<(), String> {
        let mark = OwnerMark::of(&self.setup.state);
        if mark.died().map_err(|error| error.to_string())? {
            let emptied = self.trees.open(&self.index).and_then(|pass| {
                walk::emptied(&pass, &self.index, &|| lock(&self.mail).order.is_some())
            });
            let differ = emptied.map_err(|fault| fault.to_string())?;
            if differ.names > 0 {
                self.news.emptied(&self.trees, &differ);
            }
        }
        mark.begin().map_err(|error| error.to_string())
    }

    /// A link of the owner that waits for its order, or for long enough.
    fn take_early_link(&mut self) {
        let Some((since, link)) = self.early.take() else { return };
        let hello = proto::decode::<ToReceiver>(&link.hello).map(|envelope| envelope.generation);
        let awaited = match (&self.mode, &hello) {
            (Mode::In(incoming), Ok(generation)) => incoming.generation() == *generation,
            (Mode::Idle { .. } | Mode::Out(_) | Mode::In(_), _) => false,
        };
        if awaited {
            self.linked_in(*link);
        } else if since.elapsed() < limits::MIRROR_EARLY_PATIENCE {
            self.early = Some((since, link));
        } else {
            let why = match &self.mode {
                Mode::Idle { .. } => "it does not know yet who owns the group",
                Mode::Out(_) => "it owns the group itself",
                Mode::In(_) => "it takes from another generation of the group",
            };
            decline(*link, why);
        }
    }

    fn linked_in(&mut self, link: crate::mirror::transport::Incoming) {
        let crate::mirror::transport::Incoming { hello, link, .. } = link;
        if let Err(why) = self.settler() {
            // The owner is told, or it would see nothing but links that end.
            self.refuse(link, &hello, &why);
            if let Mode::In(incoming) = &mut self.mode {
                incoming.taken.trouble = Some(Trouble::Root(why));
            }
            return;
        }
        if let Err(why) = self.connection.take(link, &self.to_self) {
            log::warn!("a mirror link could not be used: {why}");
            return;
        }
        self.feed_receiver(receiver::Event::Linked);
        self.heard(&hello);
    }

    fn refuse(&mut self, link: Link, hello: &[u8], why: &str) {
        let Ok(Envelope { generation, .. }) = proto::decode::<ToReceiver>(hello) else { return };
        if self.connection.take(link, &self.to_self).is_ok() {
            let message = ToSender::Refuse { why: why.to_owned() };
            // If it is not heard, the owner asks again.
            let _ = self.connection.say(&Envelope { generation, message });
            self.connection.close();
        }
    }

    /// The peer said something on the link.
    pub(super) fn heard(&mut self, bytes: &[u8]) {
        let malformed = match &self.mode {
            Mode::Idle { .. } => None,
            Mode::Out(_) => match proto::decode::<ToSender>(bytes) {
                Ok(envelope) => {
                    self.feed_sender(sender::Event::Heard(envelope));
                    None
                }
                Err(error) => Some(error),
            },
            Mode::In(_) => match proto::decode::<ToReceiver>(bytes) {
                Ok(envelope) => {
                    self.feed_receiver(receiver::Event::Heard(envelope));
                    None
                }
                Err(error) => Some(error),
            },
        };
        if let Some(error) = malformed {
            log::warn!("a mirror session was ended: {error}");
            self.connection.close();
            self.cut(&error.to_string());
        }
    }

    /// The link has ended.
    pub(super) fn cut(&mut self, why: &str) {
        self.feed_sender(sender::Event::Cut(format!("the session with the peer ended: {why}")));
        self.feed_receiver(receiver::Event::Cut);
        if let Mode::In(incoming) = &mut self.mode {
            incoming.taken.ended.get_or_insert_with(|| why.to_owned());
        }
    }

    /// The watch has something to tell.
    pub(super) fn hinted(&mut self, number: u64) {
        if let Some(replica) = &mut self.replica {
            replica.hinted(number);
        }
        let Mode::Out(owner) = &mut self.mode else { return };
        let Some(watch) = &mut owner.watch else { return };
        if watch.number == number {
            // It waits for this one word.
            let _ = watch.resume.try_send(());
            if let Ok(outgoing) = &mut owner.outgoing {
                outgoing.listen();
            }
            self.feed_sender(sender::Event::Dirty);
        }
    }

    /// Names that were told while a series was read wait for the next one, and nothing will tell of them once
    /// more.
    fn go_on_with_names(&mut self) {
        let Mode::Out(owner) = &mut self.mode else { return };
        let Ok(outgoing) = &mut owner.outgoing else { return };
        if !outgoing.take_absorbed() {
            return;
        }
        if self.index.waiting() > 0 || outgoing.told() > 0 {
            self.feed_sender(sender::Event::Dirty);
            // If that read something, too, it is looked at after what else has come. A full inbox
            // wakes as well.
            let _ = self.to_self.try_send(Input::Wake);
        }
    }

    fn rescan(&mut self) {
        let now = Instant::now();
        let Mode::Out(owner) = &mut self.mode else { return };
        if now < owner.rescan_at {
            return;
        }
        owner.rescan_at = now + limits::RESCAN_EVERY;
        let found = self.with_owner(|owner, _, around| {
            let outgoing = owner.outgoing.as_mut().ok()?;
            outgoing.rescan(around).ok()
        });
        if found.flatten().is_some_and(|differ| differ > 0) {
            self.feed_sender(sender::Event::Dirty);
        }
    }

    /// What rested is looked at again, and what nothing tells of.
    fn look_again(&mut self) {
        let Mode::Out(owner) = &self.mode else { return };
        let Ok(outgoing) = &owner.outgoing else { return };
        if outgoing.rest_over_at().is_none_or(|at| at > Instant::now()) {
            return;
        }
        let found = self.with_owner(|owner, _, around| {
            let outgoing = owner.outgoing.as_mut().ok()?;
            // A root that is away is told elsewhere.
            outgoing.look_again(&around).ok()
        });
        if found.flatten() == Some(true) {
            self.feed_sender(sender::Event::Dirty);
        }
    }

    /// A slice of a large file, if nothing else is to be done.
    fn send_ahead(&mut self) {
        let Mode::Out(owner) = &self.mode else { return };
        let waits = owner.outgoing.as_ref().is_ok_and(Outgoing::may_send_ahead);
        if !waits || !self.inbox.is_empty() {
            return;
        }
        self.with_owner(|owner, now, around| {
            if let Ok(outgoing) = &mut owner.outgoing {
                outgoing.send_ahead(now, around);
            }
        });
        // After what has come meanwhile. A full inbox wakes as well.
        let _ = self.to_self.try_send(Input::Wake);
    }

    fn answer_syncs(&mut self, tell: &mut dyn FnMut(Telling)) {
        let Mode::Out(owner) = &mut self.mode else { return };
        let Ok(outgoing) = &owner.outgoing else { return };
        let sent = &outgoing.sent;
        owner.syncs.retain(|(request, barrier)| {
            if sent.kept < *barrier {
                return true;
            }
            if let Some(first) = outgoing.stuck().next() {
                let count = outgoing.stuck().count();
                let why = format!(
                    "all is on the peer but for {count} names that cannot be mirrored now: {first}"
                );
                tell(Telling::Synced { request: *request, outcome: Err(why) });
                return false;
            }
            let text = format!("everything written before is on the peer: commit {}", sent.commit);
            tell(Telling::Synced { request: *request, outcome: Ok(text) });
            false
        });
    }

    pub(super) fn feed_sender(&mut self, event: sender::Event) {
        let was_linked = self.connection.is_open() || matches!(event, sender::Event::Cut(_));
        self.with_owner(|owner, now, around| {
            if let Ok(outgoing) = &mut owner.outgoing {
                outgoing.handle(now, event, around);
            }
        });
        if let Mode::Out(owner) = &mut self.mode {
            let in_sync = |outgoing: &Outgoing| outgoing.sent.state == Some(SenderState::InSync);
            if self.connection.is_open() {
                // A session that ends before it has come to anything is tried again less and less often.
                if owner.outgoing.as_ref().is_ok_and(in_sync) {
                    owner.dial.reached();
                }
            } else if was_linked && !owner.dial.under_way && owner.dial.next_at <= Instant::now() {
                let state = owner.outgoing.as_ref().ok().and_then(|it| it.sent.state.as_ref());
                let obstacle = Obstacle::ended(state);
                owner.dial.again(obstacle);
            }
        }
    }

    pub(super) fn with_owner<T>(
        &mut self,
        work: impl FnOnce(&mut Owner, Time, outgoing::Around<'_>) -> T,
    ) -> Option<T> {
        let now = self.now();
        let Mode::Out(owner) = &mut self.mode else { return None };
        let mail = self.mail.clone();
        let generation = owner.generation;
        let interrupted = move || match lock(&mail).order {
            None => false,
            Some((_, MirrorDuty::Out(new) | MirrorDuty::Drain(new), ..)) => new != generation,
            Some((_, MirrorDuty::Still | MirrorDuty::In(_), ..)) => true,
        };
        let approved = owner.approved;
        let around = outgoing::Around {
            approved,
            trees: &self.trees,
            index: &self.index,
            connection: &mut self.connection,
            skipped: &mut self.skipped,
            news: &mut self.news,
            interrupted: &interrupted,
        };
        Some(work(owner, now, around))
    }
}
