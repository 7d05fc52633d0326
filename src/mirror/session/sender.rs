//! The owner's end of a session.
//!
//! ```text
//!  Down ──Linked──▶ Greeting ──may be, differ──▶ AwaitingBuckets ▶ ComparingBuckets ─┐
//!   ▲                  │ equal                                                       │ for each that
//!   │                  ▼                                                             ▼ differs
//!   │ Cut, Disconnect Ready ◀──────────── none is left ── AwaitingListing ◀▶ ComparingListing
//!   │ (anywhere)       │  ▲
//!   │          barrier │  │ Walked
//!   │                  ▼  │
//!   │                 Walking
//!   │  Ready ──dirty──▶ Gathering ──Offer──▶ Offered ──Need──▶ Streaming ──Close──▶ Closed
//!   │   ▲                 ▲  (empty: Ready)                                           │ Acked
//!   │   │                 └───────────────────── the series goes on ──────────────────┤
//!   │   └── Recording ◀──Applied── Applying ◀────────────── it was the last batch ────┘
//!   │          └── a barrier is covered ──▶ Verifying ──Verified──▶ Ready
//!   │  Ready ──the copy was changed on the peer──▶ AwaitingBuckets ▶ ...
//!   └─ Troubled ◀── the peer or this node cannot; after a while Ready again
//! ```

mod peer;
mod restore;
mod words;

use std::collections::VecDeque;

use super::offer::{self, Measure};
use crate::core::{Generation, Time};
use crate::limits;
use crate::mirror::entry::{Digest, Key};
use crate::mirror::proto::{self, Envelope, ToReceiver};
use restore::Restore;
pub use words::{Command, Event, Gathered, SenderState, Verdict};

#[derive(Debug)]
enum State {
    Down,
    /// Hello was said and a walk is under way: both digests are awaited, and whether the peer's trees may be
    /// replaced.
    Greeting {
        own: Option<Digest>,
        peer: Option<Digest>,
        judged: bool,
        until: Time,
    },
    AwaitingBuckets {
        until: Time,
    },
    ComparingBuckets,
    AwaitingListing {
        bucket: u16,
        todo: Vec<u16>,
        entries: Vec<(Key, Digest)>,
        until: Time,
    },
    ComparingListing {
        todo: Vec<u16>,
    },
    Ready {
        ping_at: Time,
    },
    Walking {
        barrier: u64,
    },
    Gathering {
        batch: u32,
    },
    Offered {
        batch: u32,
        last: bool,
        measures: Vec<Measure>,
        until: Time,
    },
    Streaming {
        batch: u32,
        last: bool,
    },
    Closed {
        batch: u32,
        last: bool,
        until: Time,
    },
    Applying {
        until: Time,
    },
    Recording,
    /// Everything is applied; the peer looks whether somebody changed its copy since.
    Verifying {
        barrier: u64,
        until: Time,
    },
    /// Begins the next series at `until`.
    Troubled {
        until: Time,
    },
}

/// The owner's end of a session.
#[derive(Debug)]
pub struct Sender {
    generation: Generation,
    group: String,
    trees: Vec<String>,
    state: State,
    /// Number of the series that is under way, or else of the next one, and of the commit that it becomes.
    series: u64,
    /// Something is marked that no series under way has.
    dirty: bool,
    /// Since when something has waited.
    waits_since: Option<Time>,
    /// A series was applied over this link: the peer's copy is of this generation.
    adopted: bool,
    /// Changes of the series under way were dropped; and how many series in a row had such.
    dropped: bool,
    drops: u32,
    /// Large files are on their way that a later series will have.
    ahead: bool,
    /// What somebody changed on the peer, until it is restored.
    restore: Restore,
    /// A `Pong` must come until then.
    pong_by: Option<Time>,
    /// The newest barrier that was asked for, that wants a syncfs(2), whose walk is done, that the series
    /// under way keeps, after whose series the peer looked at its copy, and that is kept.
    asked: u64,
    asked_sync: u64,
    /// What was known to have changed when a barrier was asked for is still to be sent: its walk waits.
    owes: bool,
    walked: u64,
    covered: u64,
    verified: u64,
    kept: u64,
    told: Option<SenderState>,
    disconnects: u64,
    out: VecDeque<Command>,
}

impl Sender {
    /// A sender of a generation, not linked yet. `trees`: the paths as configured. `next_series`: one
    /// more than the newest commit that was recorded or begun here.
    pub fn new(
        generation: Generation,
        group: String,
        trees: Vec<String>,
        next_series: u64,
    ) -> Sender {
        Sender {
            generation,
            group,
            trees,
            state: State::Down,
            series: next_series,
            dirty: true,
            waits_since: None,
            adopted: false,
            dropped: false,
            drops: 0,
            ahead: false,
            restore: Restore::default(),
            pong_by: None,
            asked: 0,
            asked_sync: 0,
            owes: false,
            walked: 0,
            covered: 0,
            verified: 0,
            kept: 0,
            told: None,
            disconnects: 0,
            out: VecDeque::new(),
        }
    }

    /// Takes in one event and decides.
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Linked => self.linked(now),
            Event::Cut(why) => self.go_down(SenderState::Behind(why)),
            Event::Heard(envelope) => self.heard(now, envelope),
            Event::Walked { digest } => self.walked(now, digest),
            Event::Judged { verdict, lineage } => self.judged(now, verdict, lineage),
            Event::Differ(buckets) => {
                if matches!(self.state, State::ComparingBuckets) {
                    self.ask_listing(now, buckets);
                }
            }
            Event::Compared => {
                if let State::ComparingListing { todo } = &mut self.state {
                    let todo = std::mem::take(todo);
                    self.ask_listing(now, todo);
                }
            }
            Event::Gathered(gathered) => self.gathered(now, gathered),
            Event::Sent { dropped } => {
                if let State::Streaming { batch, last } = self.state {
                    self.dropped |= dropped;
                    self.close(now, batch, last);
                }
            }
            Event::Recorded => {
                if matches!(self.state, State::Recording) {
                    self.adopted = true;
                    self.series += 1;
                    self.over(now);
                }
            }
            Event::Failed(why) => self.failed(now, why),
            Event::Dirty => {
                self.dirty = true;
                self.advance(now);
            }
            Event::Barrier { id, sync, owes } => {
                self.asked = self.asked.max(id);
                self.owes = owes;
                self.dirty |= owes;
                if sync {
                    self.asked_sync = self.asked_sync.max(id);
                }
                self.advance(now);
            }
            Event::Tick => self.tick(now),
        }
        self.note_moment(now);
    }

    /// The next thing to do; `None` when there is nothing more.
    pub fn poll(&mut self) -> Option<Command> {
        self.out.pop_front()
    }

    /// When to call [`Sender::handle`] with a tick, unless something else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        let state = match self.state {
            State::Down
            | State::ComparingBuckets
            | State::ComparingListing { .. }
            | State::Walking { .. }
            | State::Gathering { .. }
            | State::Streaming { .. }
            | State::Recording => None,
            State::Ready { ping_at } => {
                let ping_at = Some(ping_at).filter(|_| self.pong_by.is_none());
                [ping_at, self.restore_at()].into_iter().flatten().min()
            }
            State::Greeting { until, .. }
            | State::AwaitingBuckets { until }
            | State::AwaitingListing { until, .. }
            | State::Offered { until, .. }
            | State::Closed { until, .. }
            | State::Applying { until }
            | State::Verifying { until, .. }
            | State::Troubled { until } => Some(until),
        };
        [state, self.pong_by, self.moment_over_at()].into_iter().flatten().min()
    }

    /// Whether a [`Command::Stream`] is still to go on. No more after the peer said that the series is
    /// void, which it may say in the middle; then the command is not answered.
    pub fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming { .. })
    }

    /// Whether the peer waits for whatever comes next.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. }) && self.adopted
    }

    /// Whether no series is under way: a change of the link costs nothing now.
    pub fn is_between_series(&self) -> bool {
        matches!(self.state, State::Ready { .. } | State::Troubled { .. })
    }

    /// How many links were closed from this end.
    pub fn disconnects(&self) -> u64 {
        self.disconnects
    }

    fn linked(&mut self, now: Time) {
        self.leave();
        self.adopted = false;
        let until = now + limits::MIRROR_WORK_PATIENCE;
        self.state = State::Greeting { own: None, peer: None, judged: false, until };
        let (group, trees) = (self.group.clone(), self.trees.clone());
        self.say(ToReceiver::Hello { version: proto::VERSION, group, trees });
        // While the peer walks too.
        self.out.push_back(Command::Walk { sync: false });
    }

    fn disconnect(&mut self, why: String) {
        self.disconnect_with(why.clone(), SenderState::Behind(why));
    }

    fn disconnect_with(&mut self, why: String, state: SenderState) {
        self.disconnects += 1;
        self.out.push_back(Command::Disconnect(why));
        self.go_down(state);
    }

    fn go_down(&mut self, state: SenderState) {
        self.leave();
        self.tell(state);
    }

    fn leave(&mut self) {
        if !matches!(self.state, State::Down) {
            self.void();
            self.pong_by = None;
            // The next session compares anyway, and no answer of this one comes any more.
            self.restore.forget();
            self.verified = self.kept;
            self.state = State::Down;
        }
    }

    /// What is under way is over without success: its names are dirty again.
    fn void(&mut self) {
        self.series += 1;
        self.dirty = true;
    }

    fn walked(&mut self, now: Time, digest: Digest) {
        if let State::Greeting { own, .. } = &mut self.state {
            *own = Some(digest);
            self.compare_digests(now);
        } else if let State::Walking { barrier } = self.state {
            self.walked = barrier;
            self.dirty = true;
            self.ready(now);
        }
    }

    fn ready(&mut self, now: Time) {
        self.state = State::Ready { ping_at: now + limits::MIRROR_PING_EVERY };
        self.advance(now);
    }

    /// Begins what waits, if nothing is under way.
    fn advance(&mut self, now: Time) {
        if !matches!(self.state, State::Ready { .. }) {
            return;
        }
        if self.asked > self.walked && !self.owes {
            self.state = State::Walking { barrier: self.asked };
            self.out.push_back(Command::Walk { sync: self.asked_sync > self.walked });
        } else if self.restore_at().is_some_and(|at| at <= now) {
            self.restore.begins(now, self.barrier());
            self.dirty = true;
            self.ask_buckets(now);
        } else if self.dirty {
            self.dirty = false;
            self.dropped = false;
            self.covered = self.walked;
            self.waits_since.get_or_insert(now);
            self.gather(0);
        } else {
            if self.ahead {
                return self.tell(SenderState::Syncing);
            }
            self.waits_since = None;
            if !self.restore.is_open() {
                self.tell(SenderState::InSync);
            }
        }
    }

    /// When the copies are compared again, because the peer's was changed there: soon if somebody waits for
    /// it, but a program that writes there all the time must not keep both busy.
    fn restore_at(&self) -> Option<Time> {
        self.restore.due(self.barrier())
    }

    /// A barrier that waits.
    fn barrier(&self) -> Option<u64> {
        (self.asked > self.kept).then_some(self.asked)
    }

    fn gather(&mut self, batch: u32) {
        self.state = State::Gathering { batch };
        self.out.push_back(Command::Gather { batch });
    }

    fn gathered(&mut self, now: Time, gathered: Gathered) {
        let State::Gathering { batch } = self.state else { return };
        let Gathered { ops, fuzzy, more, ahead, owes } = gathered;
        (self.ahead, self.owes) = (ahead, owes);
        self.dirty |= owes;
        // The first series of a link is sent even if nothing differs: the peer learns that it has the
        // whole of this generation.
        if batch == 0 && ops.is_empty() && !more && self.adopted {
            return self.over(now);
        }
        let (series, last, measures) = (self.series, !more, offer::measures(&ops));
        let until = now + limits::MIRROR_WORK_PATIENCE;
        self.state = State::Offered { batch, last, measures, until };
        self.say(ToReceiver::Offer { series, batch, last, fuzzy, ops });
        if last {
            // While the peer looks at the offer.
            self.out.push_back(Command::Begin { series });
        }
    }

    fn close(&mut self, now: Time, batch: u32, last: bool) {
        let (series, until) = (self.series, now + limits::MIRROR_WORK_PATIENCE);
        self.state = State::Closed { batch, last, until };
        self.say(ToReceiver::Close { series, batch });
    }

    /// The series is applied and recorded, or there was nothing to send.
    fn over(&mut self, now: Time) {
        let again = self.dropped && self.drops < limits::MIRROR_DROPS_MAX;
        if again {
            // What a barrier wants of them comes with the next one.
            self.drops += 1;
            self.dirty = true;
        }
        // What the peer told of first goes back to what it was.
        if !again && !self.ahead && self.covered > self.kept && !self.restore.waits() {
            if self.verified < self.covered {
                let (barrier, until) = (self.covered, now + limits::MIRROR_WORK_PATIENCE);
                self.state = State::Verifying { barrier, until };
                return self.say(ToReceiver::Verify { barrier });
            }
            self.drops = 0;
            self.kept = self.covered;
            self.out.push_back(Command::Done(self.kept));
        }
        self.restore.series_is_over();
        let restores = self.restore.is_open();
        let since = self.waits_since.take();
        self.ready(now);
        if self.told != Some(SenderState::InSync) && !restores && !self.ahead {
            // More waits already, but only since a moment ago if this took no longer.
            let quick = since.is_none_or(|since| now.since(since) < limits::MIRROR_MOMENT);
            self.tell(if quick { SenderState::InSync } else { SenderState::Syncing });
        }
    }

    fn withdraw(&mut self) {
        let series = self.series;
        self.say(ToReceiver::Withdraw { series });
        self.void();
    }

    fn pause(&mut self, now: Time) {
        self.state = State::Troubled { until: now + limits::MIRROR_RETRY };
    }

    /// This node could not do what was commanded.
    fn failed(&mut self, now: Time, why: String) {
        match self.state {
            // In `Recording` the peer has what the index here has not: they must be compared again.
            State::Greeting { .. }
            | State::ComparingBuckets
            | State::ComparingListing { .. }
            | State::Offered { .. }
            | State::Recording => {
                return self.disconnect_with(why.clone(), SenderState::Blocked(why));
            }
            State::Gathering { .. } | State::Streaming { .. } => {
                self.withdraw();
                self.pause(now);
            }
            State::Walking { .. } => self.pause(now),
            State::Down
            | State::AwaitingBuckets { .. }
            | State::AwaitingListing { .. }
            | State::Ready { .. }
            | State::Closed { .. }
            | State::Applying { .. }
            | State::Verifying { .. }
            | State::Troubled { .. } => return,
        }
        self.tell(SenderState::Blocked(why));
    }

    fn tick(&mut self, now: Time) {
        let waited = |until: Time| until <= now;
        if self.pong_by.is_some_and(waited) {
            return self.disconnect("the peer does not answer".into());
        }
        match self.state {
            State::Down
            | State::ComparingBuckets
            | State::ComparingListing { .. }
            | State::Walking { .. }
            | State::Gathering { .. }
            | State::Streaming { .. }
            | State::Recording => {}
            State::Ready { ping_at } => {
                if self.restore_at().is_some_and(waited) {
                    self.advance(now);
                } else if waited(ping_at) && self.pong_by.is_none() {
                    self.pong_by = Some(now + limits::MIRROR_ANSWER_PATIENCE);
                    self.state = State::Ready { ping_at: now + limits::MIRROR_PING_EVERY };
                    self.say(ToReceiver::Ping);
                }
            }
            State::Greeting { until, .. } => self.disconnect_after(now, until, "to greet"),
            State::AwaitingBuckets { until } | State::AwaitingListing { until, .. } => {
                self.disconnect_after(now, until, "to tell what it has");
            }
            State::Offered { until, .. } => self.disconnect_after(now, until, "to stage a batch"),
            State::Closed { until, .. } => {
                self.disconnect_after(now, until, "to make a batch durable")
            }
            State::Applying { until } => self.disconnect_after(now, until, "to apply a series"),
            State::Verifying { until, .. } => {
                self.disconnect_after(now, until, "to look at its copy")
            }
            State::Troubled { until } => {
                if waited(until) {
                    self.ready(now);
                }
            }
        }
    }

    fn disconnect_after(&mut self, now: Time, until: Time, what: &str) {
        if until <= now {
            self.disconnect(format!("the peer takes too long {what}"));
        }
    }

    fn say(&mut self, message: ToReceiver) {
        self.out.push_back(Command::Say(Envelope { generation: self.generation, message }));
    }

    fn tell(&mut self, state: SenderState) {
        if self.told.as_ref() != Some(&state) {
            self.told = Some(state.clone());
            self.out.push_back(Command::State(state));
        }
    }

    /// When what waits has waited for more than a moment, if that is still to be told.
    fn moment_over_at(&self) -> Option<Time> {
        let in_sync = self.told == Some(SenderState::InSync);
        self.waits_since.filter(|_| in_sync).map(|since| since + limits::MIRROR_MOMENT)
    }

    fn note_moment(&mut self, now: Time) {
        if self.moment_over_at().is_some_and(|at| at <= now) {
            self.tell(SenderState::Syncing);
        }
    }
}
