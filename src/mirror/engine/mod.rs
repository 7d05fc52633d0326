//! The thread of a group's mirror: duties in, reports out; in between it owns the index, the session, the
//! link and the watch.
//!
//! ```text
//!   order Out ──▶ Out: watch, dial the peer, send       ──┐
//!   order In  ──▶ In: wait for the owner's link, take in ─┼─▶ order Still ──▶ Idle: apply what was
//!                                                       ──┘                   acknowledged, then `still`
//! ```
//! The newest order counts. It is kept in a mailbox of one place, so that long work can look whether it
//! is still wanted.

mod ahead;
mod backlog;
mod batch;
mod begin;
mod brake;
mod connection;
mod crash;
mod gather;
mod hints;
mod incoming;
mod judge;
mod kept;
mod links;
mod look;
mod mail;
mod mode;
mod orders;
mod outgoing;
mod own;
mod owner;
mod proof;
mod reach;
mod refusals;
mod replica;
mod report;
mod rest;
mod settle;
mod standby;
mod trees;
mod walk;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

pub use self::begin::Beginning;
use self::connection::Connection;
pub use self::connection::decline;
use self::crash::OwnerMark;
use self::kept::Kept;
use self::look::Look;
pub use self::mail::Handle;
use self::mail::{Mail, lock};
use self::mode::Mode;
use self::replica::Replica;
use self::report::{News, Rate, Skipped};
use self::settle::Settler;
use self::trees::Trees;
use crate::config::{self, NodeIndex};
use crate::control::event::Kind;
use crate::control::status::{Direction, Mirror, MirrorState};
use crate::control::wallclock;
use crate::core::{Generation, MirrorDuty, MirrorReport, MirrorTerms, PeerSync, Time, Unsent};
use crate::limits;
use crate::mirror::index::{CopyState, Index, IndexError, Position};
use crate::mirror::progress;
use crate::mirror::stage::{Stage, Whose};
use crate::mirror::transport::{Incoming, Link};

/// Finds the peer. An error is in words, with the address and the port of each way.
pub type Dial = Arc<dyn Fn(PeerSync, Ways) -> Result<Link, String> + Send + Sync>;

/// By which ways the peer is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// The crossover first, then the LAN.
    All,
    /// The crossover alone.
    Crossover,
}

/// What an engine is made with.
pub struct Setup {
    /// Of the pair.
    pub cluster: String,
    /// This node's name.
    pub node: String,
    /// This node.
    pub me: NodeIndex,
    /// The group's name.
    pub group: String,
    /// Its trees as configured.
    pub trees: Vec<config::Tree>,
    /// Its directory in the state directory.
    pub state: PathBuf,
    /// Finds the peer.
    pub dial: Dial,
}

/// What an engine tells.
#[derive(Debug)]
pub enum Telling {
    /// How the mirror is; told when it changes.
    Report(MirrorReport),
    /// For the administrator.
    Note(Kind, String),
    /// A `sync` ended.
    Synced {
        /// Number of the request.
        request: u64,
        /// What was done, or why not.
        outcome: Result<String, String>,
    },
}

/// What wakes an engine.
#[derive(Debug)]
pub enum Input {
    /// Something is in the mailbox.
    Wake,
    /// A link of the owner for this group.
    Arrived(Box<Incoming>),
    /// The peer said this on a link.
    Heard {
        /// Number of the link.
        link: u64,
        /// The bytes of the message.
        bytes: Vec<u8>,
    },
    /// A link has ended.
    Ended {
        /// Number of the link.
        link: u64,
        /// Why, in words.
        why: String,
    },
    /// An attempt to reach the peer has ended.
    Dialled {
        /// Number of the attempt.
        attempt: u64,
        /// The link, or why there is none.
        link: Result<Box<Link>, String>,
    },
    /// An attempt to reach the peer over the crossover, beside a session over the LAN, has ended.
    Probed {
        /// Number of the attempt.
        attempt: u64,
        /// It was reached, or why not.
        reached: Result<(), String>,
    },
    /// The watch has something to tell.
    Hint {
        /// Number of the watch.
        watch: u64,
    },
}

/// The engine of one group.
pub struct Engine {
    setup: Setup,
    trees: Trees,
    index: Index,
    /// What was acknowledged, and the places beside the trees; `None`: nothing was looked for yet.
    settler: Option<Settler>,
    mail: Arc<Mutex<Mail>>,
    inbox: Receiver<Input>,
    to_self: Sender<Input>,
    started: Instant,

    order: u32,
    /// What is ordered.
    duty: MirrorDuty,
    terms: MirrorTerms,
    peer: PeerSync,
    mode: Mode,
    /// The copy here, while another node owns it or nobody does.
    replica: Option<Replica>,
    connection: Connection,
    /// A link that came before its order.
    early: Option<(Instant, Box<Incoming>)>,
    /// The roots are there, as far as was seen last; else why not.
    roots: Result<(), String>,
    /// Nothing to be mirrored is in them, as far as was seen last.
    empty: bool,
    /// Since when what was acknowledged cannot be applied.
    unsettled: Option<Instant>,
    skipped: Skipped,
    rate: Rate,
    news: News,
    kept: Kept,
    told: Option<(Instant, MirrorReport)>,
    /// Something else is to be told when it is time, or will be: a rate goes down.
    untold: bool,
    /// When the index may be opened again after its store refused something, and the pause after that.
    reopening: (Instant, Duration),
    look: Look,
}

impl Engine {
    /// An engine that has yet to begin, and its other end.
    ///
    /// # Errors
    /// A pattern of the config is none.
    #[expect(clippy::new_ret_no_self, reason = "it is one when its index is open")]
    pub fn new(setup: Setup) -> Result<(Beginning, Handle), String> {
        Beginning::new(setup)
    }

    fn with(beginning: Beginning, index: Index) -> Engine {
        let Beginning { setup, trees, mail, inbox, to_self, look } = beginning;
        let now = Instant::now();
        Engine {
            setup,
            trees,
            index,
            settler: None,
            mail,
            inbox,
            to_self,
            started: now,
            order: 0,
            duty: MirrorDuty::Still,
            terms: MirrorTerms::default(),
            peer: PeerSync::default(),
            mode: Mode::idle(now),
            replica: None,
            connection: Connection::default(),
            early: None,
            roots: Ok(()),
            empty: false,
            unsettled: None,
            skipped: Skipped::default(),
            rate: Rate::default(),
            news: News::new(now),
            kept: Kept::new(now),
            told: None,
            untold: false,
            reopening: (now, limits::INDEX_AGAIN_MIN),
            look,
        }
    }

    /// Works until it is ended.
    fn run(mut self, mut tell: impl FnMut(Telling)) {
        // What came while the index was opened.
        self.read_mail(&mut tell);
        loop {
            progress::at(self.place());
            self.work(&mut tell);
            self.report(&mut tell);
            let wait = self.wait();
            progress::idle();
            match self.inbox.recv_timeout(wait) {
                Ok(input) => {
                    progress::at(self.place());
                    self.take(input, &mut tell);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if lock(&self.mail).over {
                if matches!(self.mode, Mode::Out(_)) {
                    OwnerMark::of(&self.setup.state).end();
                }
                return;
            }
        }
    }

    /// What is named if a file system does not answer and nobody has said which one is asked.
    fn place(&self) -> &Path {
        self.setup.trees.first().map_or(self.setup.state.as_path(), |tree| tree.path.as_path())
    }

    fn now(&self) -> Time {
        let micros = self.started.elapsed().as_micros();
        Time(u64::try_from(micros).unwrap_or(u64::MAX))
    }

    /// How long nothing is due.
    fn wait(&self) -> Duration {
        if !self.inbox.is_empty() {
            return Duration::ZERO;
        }
        let now = Instant::now();
        let session = self.mode.session_deadline().map(|at| at.since(self.now()));
        let others = [
            self.mode.due(self.connection.path(), self.peer),
            self.replica.as_ref().filter(|_| matches!(self.mode, Mode::In(_))).map(Replica::due),
            self.early.as_ref().map(|(since, _)| *since + limits::MIRROR_EARLY_PATIENCE),
            self.news.due(),
            Some(self.kept.due()),
            self.index.broken().map(|_| self.reopening.0),
            self.told.as_ref().filter(|_| self.untold).map(|(at, _)| *at + limits::REPORT_EVERY),
        ];
        let others = others.into_iter().flatten().map(|at| at.saturating_duration_since(now));
        let soonest = session.into_iter().chain(others).min().unwrap_or(limits::MIRROR_LOOK_UP);
        // A deadline that has passed and does nothing must not make the loop spin.
        soonest.clamp(Duration::from_millis(1), limits::MIRROR_LOOK_UP)
    }

    fn take(&mut self, input: Input, tell: &mut dyn FnMut(Telling)) {
        match input {
            Input::Wake => {}
            Input::Arrived(link) => self.early = Some((Instant::now(), link)),
            Input::Heard { link, bytes } => {
                if self.connection.is(link) {
                    self.heard(&bytes);
                }
            }
            Input::Ended { link, why } => {
                if self.connection.is(link) {
                    self.connection.close();
                    self.cut(&why);
                }
            }
            Input::Dialled { attempt, link } => self.dialled(attempt, link),
            Input::Probed { attempt, reached } => self.probed(attempt, reached),
            Input::Hint { watch } => self.hinted(watch),
        }
        self.read_mail(tell);
    }

    fn read_mail(&mut self, tell: &mut dyn FnMut(Telling)) {
        let (order, syncs, approved) = {
            let mut mail = lock(&self.mail);
            let approved = std::mem::take(&mut mail.approved);
            (mail.order.take(), std::mem::take(&mut mail.syncs), approved)
        };
        if let Some((order, duty, peer, terms)) = order {
            self.ordered(order, duty, peer, terms, tell);
        }
        if approved {
            self.approve();
        }
        for request in syncs {
            self.sync(request, tell);
        }
    }

    /// Without the places beside the trees nothing was ever taken in, and there is nothing to settle.
    fn look_for_settler(&mut self) -> Result<(), String> {
        let used = self.setup.state.join("incoming").try_exists();
        if used.map_err(|error| error.to_string())? { self.settler() } else { Ok(()) }
    }

    fn settler(&mut self) -> Result<(), String> {
        if self.settler.is_none() {
            let stage = Stage::open(&self.setup.state, &self.whose(), &self.setup.trees)
                .map_err(|error| error.to_string())?;
            self.settler = Some(Settler::new(stage));
        }
        Ok(())
    }

    /// The commit that the trees here were brought to.
    fn position(&self) -> Result<Option<Position>, IndexError> {
        match self.settler.as_ref().and_then(Settler::position) {
            Some(position) => Ok(Some(position)),
            None => self.index.position(),
        }
    }

    /// What the trees here are: what is on disk says it, the newer of what was owned and what was taken.
    fn copy(&self) -> Result<Option<Generation>, IndexError> {
        let owned = self.index.copy()?.of;
        let taken = self.position()?.map(|position| position.generation);
        Ok([owned, taken].into_iter().flatten().max_by_key(|generation| generation.number))
    }

    /// Whether the trees here are what another owner sent, and not what this node had as owner.
    fn is_replica(&self) -> Result<bool, IndexError> {
        let owned = self.index.copy()?.of.map(|generation| generation.number);
        let taken = self.position()?.map(|position| position.generation.number);
        Ok(taken > owned)
    }

    fn set_owned(&self, generation: Generation) -> Result<(), IndexError> {
        let mut lineage = self.index.lineage()?;
        lineage.stand_at(Position { generation, commit: 0 });
        let copy =
            CopyState { complete: true, of: Some(generation), lineage, ..self.index.copy()? };
        self.index.set_copy(&copy)
    }

    fn report(&mut self, tell: &mut dyn FnMut(Telling)) {
        let now = Instant::now();
        if self.look.was_overruled() {
            self.told = None;
        }
        let (copy_of, fault) = match self.copy() {
            // What the store refused first is the cause of everything after it.
            Ok(copy_of) => (copy_of, self.index.broken()),
            Err(error) => (None, self.index.broken().or_else(|| Some(error.to_string()))),
        };
        let differ = self.replica.as_ref().map_or(0, Replica::open);
        let shown = self.mode.shown(&self.connection, &self.roots, differ);
        let broken = self.settler.as_ref().and_then(|settler| settler.stage.broken());
        let (state, why) = match (fault, &broken) {
            (Some(why), _) => (MirrorState::Blocked, why),
            (None, Some(why)) if shown.state != MirrorState::Syncing && !shown.why.is_empty() => {
                (MirrorState::Blocked, format!("the copy here is not whole: {why}"))
            }
            (None, _) => (shown.state, shown.why),
        };
        let short = self.settler.iter().flat_map(|settler| settler.stage.shortcomings());
        let stuck: Vec<String> = shown.stuck.iter().cloned().chain(short).collect();
        let skipped = self.skipped.with(&stuck);
        let rate = self.rate.at(now, shown.bytes);
        let removed = self.kept.tidy(now, &self.setup);
        let conflicts = self.kept.count(now, &self.setup);
        let position = self.position().ok().flatten();
        let told = match &self.mode {
            Mode::Out(owner) => owner.outgoing.as_ref().map_or(0, |outgoing| outgoing.told()),
            Mode::Idle { .. } | Mode::In(_) => 0,
        };
        let dirty = u64::try_from(self.index.dirty_len() + told).unwrap_or(u64::MAX);
        let unsent = match &mut self.mode {
            Mode::Out(owner) => owner.unsent(now, dirty),
            Mode::Idle { .. } | Mode::In(_) => Unsent::Unknown,
        };
        let mut lineage = self.index.lineage().unwrap_or_default();
        if let Some(position) = position {
            lineage.stand_at(position);
        }
        let report = MirrorReport {
            order: self.order,
            // What cannot be settled for long makes the copy worth less, and nobody waits for it.
            still: shown.still || (shown.direction == Direction::None && self.is_over()),
            drained: shown.drained,
            complete: self.roots.is_ok() && broken.is_none() && !self.is_over(),
            known: true,
            copy_of,
            commit: copy_of.map_or(0, |of| lineage.commit_of(of)),
            // A disk that does not take it is told elsewhere, and must not keep a group from being served.
            ready_for: self.terms.intent,
            empty: self.empty,
            unsent,
            stuck: u64::try_from(shown.stuck.len()).unwrap_or(u64::MAX),
            held: self.held(copy_of, position),
            in_sync: shown.direction == Direction::Out && state == MirrorState::InSync,
            status: Mirror {
                state,
                why: why.clone(),
                direction: shown.direction,
                commit: position.map_or(0, |position| position.commit),
                pending_files: dirty,
                pending_bytes: shown.pending_bytes,
                rate,
                conflicts,
                conflicts_crowded: self.kept.crowded.clone().unwrap_or_default(),
                fuzzy: shown.fuzzy,
                skipped,
            },
        };
        if let Some((kind, text)) = News::removed(removed) {
            tell(Telling::Note(kind, text));
        }
        self.tell_news(now, &report, tell);
        if self.is_news(now, &report) {
            self.told = Some((now, report.clone()));
            self.look.tell(report.clone(), tell);
        }
        self.untold = rate > 0 || self.told.as_ref().is_none_or(|(_, told)| *told != report);
    }

    /// The store of the index refused something, mostly as its disk is full: it is opened again, and what
    /// was under way starts again. Until then nothing is done. True: it works.
    fn index_works(&mut self, tell: &mut dyn FnMut(Telling)) -> bool {
        let now = Instant::now();
        let (due, pause) = self.reopening;
        if self.index.broken().is_none() {
            if now.saturating_duration_since(due) > limits::MIRROR_RETRY {
                self.reopening = (now, limits::INDEX_AGAIN_MIN);
            }
            return true;
        }
        if now < due {
            return false;
        }
        // A full disk may have room for the proof and not for what comes then: the pauses grow anyway.
        self.reopening = (now + pause, (pause * 2).min(limits::MIRROR_RETRY));
        self.connection.close();
        progress::at(self.index.path());
        match self.index.reopen() {
            Ok(found) => {
                log::info!("{} is open again", self.index.path().display());
                if let Some(found) = found {
                    tell(Telling::Note(Kind::Fault, found));
                }
                self.begin_anew("the index had to be opened again; try again", tell);
                true
            }
            Err(error) => {
                // `status` tells the cause, which came before.
                log::debug!("{error}");
                false
            }
        }
    }

    /// What is held here and of when, in words.
    fn held(&self, copy_of: Option<Generation>, position: Option<Position>) -> String {
        let Some(of) = copy_of else { return "trees that were never synchronised".to_owned() };
        let owner = if of.owner == self.setup.me { "this node" } else { "the peer" };
        let since = self.index.position_time_ms().ok().flatten().map(|ms| {
            let at = std::time::UNIX_EPOCH + Duration::from_millis(ms);
            format!(", last synchronised {}", wallclock::format(at))
        });
        let commit = position.map_or(0, |position| position.commit);
        format!(
            "generation {}, served by {owner}, commit {commit}{}",
            of.number,
            since.unwrap_or_default()
        )
    }

    fn whose(&self) -> Whose {
        Whose {
            cluster: self.setup.cluster.clone(),
            group: self.setup.group.clone(),
            node: self.setup.node.clone(),
        }
    }

    /// What changes what the core may do is told at once, numbers for people now and then.
    fn is_news(&self, now: Instant, report: &MirrorReport) -> bool {
        let Some((at, told)) = &self.told else { return true };
        let facts = |report: &MirrorReport| {
            let MirrorReport {
                order,
                still,
                drained,
                complete,
                known,
                copy_of,
                commit: _,
                ready_for,
                empty,
                in_sync,
                unsent,
                stuck,
                held: _,
                status,
            } = report;
            (
                *stuck,
                *order,
                *still,
                *drained,
                *complete,
                (*known, *copy_of),
                *in_sync,
                (*ready_for, *empty, std::mem::discriminant(unsent)),
                status.state,
                status.direction,
            )
        };
        facts(told) != facts(report)
            || (told != report && now.duration_since(*at) >= limits::REPORT_EVERY)
    }

    fn tell_news(&mut self, now: Instant, report: &MirrorReport, tell: &mut dyn FnMut(Telling)) {
        let fuzzy_before = self.told.as_ref().map_or(0, |(_, told)| told.status.fuzzy);
        let status = &report.status;
        let news = [
            self.news.take_set_back(),
            self.news.differs(now),
            self.news.state(now, status.state, &status.why),
            self.news.conflicts(now, &self.setup.group, status.conflicts),
            self.news.crowded(now, &status.conflicts_crowded),
            (status.fuzzy > fuzzy_before).then(|| self.news.fuzzy(now)).flatten(),
            self.news.skipped(&status.skipped),
        ];
        for (kind, text) in news.into_iter().flatten() {
            tell(Telling::Note(kind, text));
        }
    }
}

/// Starts a thread that ends by itself.
fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(body);
    started.map(drop).map_err(|error| format!("a thread could not be started: {error}"))
}

#[cfg(test)]
mod tests;
