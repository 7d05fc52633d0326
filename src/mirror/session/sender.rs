//! The owner's end of a session.
//!
//! ```text
//!  Down ──Linked──▶ Greeting ──digests differ──▶ AwaitingBuckets ▶ ComparingBuckets ─┐
//!   ▲                  │ equal                                                       │ for each that
//!   │                  ▼                                                             ▼ differs
//!   │ Cut, Hang      Ready ◀──────────── none is left ── AwaitingListing ◀▶ ComparingListing
//!   │ (anywhere)       │  ▲
//!   │          barrier │  │ Walked
//!   │                  ▼  │
//!   │                 Walking
//!   │  Ready ──dirty──▶ Gathering ──Offer──▶ Offered ──Need──▶ Streaming ──Close──▶ Closed
//!   │   ▲                 ▲  (empty: Ready)                                           │ Acked
//!   │   │                 └───────────────────── the series goes on ──────────────────┤
//!   │   └── Recording ◀──Applied── Applying ◀────────────── it was the last batch ────┘
//!   └─ Troubled ◀── the peer or this node cannot; after a while Ready again
//! ```

use std::collections::VecDeque;

use super::offer::{self, Measure};
use crate::core::{Generation, Time};
use crate::limits;
use crate::mirror::entry::{Digest, Key};
use crate::mirror::proto::{self, Envelope, Op, ToReceiver, ToSender, Trouble, Wanted};

/// What happens to a sender.
#[derive(Clone, Debug)]
pub enum Event {
    /// There is a new link to the peer; nothing of an earlier one is heard any more.
    Linked,
    /// The link is gone, or there could be none: why, in words. Not after [`Command::Hang`].
    Cut(String),
    /// The peer says this.
    Heard(Envelope<ToSender>),
    /// Answer to [`Command::Walk`]: every name that differs from the index is marked dirty.
    Walked {
        /// Digest of this node's index.
        digest: Digest,
    },
    /// Answer to [`Command::CompareBuckets`]: the buckets that differ.
    Differ(Vec<u16>),
    /// Answer to [`Command::CompareListing`].
    Compared,
    /// Answer to [`Command::Gather`].
    Gathered(Gathered),
    /// Answer to [`Command::Stream`]: all was sent.
    Sent,
    /// Answer to [`Command::Stream`]: a file no longer has the bytes that were offered.
    Changed,
    /// Answer to [`Command::Record`]: the index is committed.
    Recorded,
    /// Answer to any command: it could not be done here; why, in words.
    Failed(String),
    /// Something changed in the trees, and is marked.
    Dirty,
    /// [`Command::Done`] is wanted for everything written before now. Numbers rise, from 1.
    Barrier(u64),
    /// Time has passed.
    Tick,
}

/// A batch as it was gathered.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// The changes, within [`limits::BATCH_OPS_MAX`] and [`limits::BATCH_OFFER_BYTES_MAX`].
    pub ops: Vec<Op>,
    /// Names changed while they were read, round after round.
    pub fuzzy: bool,
    /// Of what was dirty when the series began, something is left for another batch.
    pub more: bool,
}

/// What is to be done for a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send this.
    Say(Envelope<ToReceiver>),
    /// Bring the dirty marks in line with the disk; with `sync` after a syncfs(2), and thoroughly: what
    /// was written before this command must not be missed.
    Walk {
        /// For a barrier.
        sync: bool,
    },
    /// Find the buckets whose digests differ from these of the peer.
    CompareBuckets(Vec<Digest>),
    /// Mark every name of this bucket dirty that the peer has otherwise than the index, or only one of
    /// them has: the next `Gather` offers it even if it is as in the index.
    CompareListing {
        /// Which bucket.
        bucket: u16,
        /// All that the peer has in it.
        entries: Vec<(Key, Digest)>,
    },
    /// Make the next batch of changes. Batch 0 begins a series: whatever was gathered and not recorded
    /// before is dirty again, and everything dirty now belongs to the series.
    Gather {
        /// Number of the batch.
        batch: u32,
    },
    /// Read these chunks of the batch and send each as `Data`, in this order. No `Close`. If the link
    /// breaks, the answer is [`Event::Cut`]. May look for messages meanwhile: see
    /// [`Sender::is_streaming`].
    Stream {
        /// The chunks.
        wanted: Vec<Wanted>,
    },
    /// Make what was gathered of this series the index: the peer has it, durable and applied.
    Record {
        /// Number of the series.
        series: u64,
        /// Files in the peer's conflict store.
        conflicts: u64,
    },
    /// All barriers up to this one are kept.
    Done(u64),
    /// Close the link: why, in words. There may be another one after [`limits::MIRROR_RETRY`].
    Hang(String),
    /// How it is now, for `status`; told when it changes.
    State(SenderState),
}

/// How a sender is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SenderState {
    /// The peer has everything but what changed a moment ago.
    InSync,
    /// Changes travel.
    Syncing,
    /// The peer is not reached or cannot take more; why, in words.
    Behind(String),
    /// A root is missing or foreign, a disk refuses, or the peer does; why, in words.
    Blocked(String),
}

#[derive(Debug)]
enum State {
    Down,
    /// Hello was said and a walk is under way: both digests are awaited.
    Greeting {
        own: Option<Digest>,
        peer: Option<Digest>,
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
    /// Number of the series that is under way, or else of the next one.
    series: u64,
    /// Something is marked that no series under way has.
    dirty: bool,
    /// Since when something has waited.
    waits_since: Option<Time>,
    /// Withdrawals in a row.
    withdrawn: u32,
    /// A `Pong` must come until then.
    pong_by: Option<Time>,
    /// The newest barrier that was asked for, whose walk is done, that the series under way keeps, and
    /// that is kept.
    asked: u64,
    walked: u64,
    covered: u64,
    kept: u64,
    told: Option<SenderState>,
    hangs: u64,
    out: VecDeque<Command>,
}

impl Sender {
    /// A sender of a generation, not linked yet. `trees`: the paths as configured. `next_series`: one
    /// more than the newest commit that the index knows.
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
            withdrawn: 0,
            pong_by: None,
            asked: 0,
            walked: 0,
            covered: 0,
            kept: 0,
            told: None,
            hangs: 0,
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
            Event::Sent => {
                if let State::Streaming { batch, last } = self.state {
                    self.close(now, batch, last);
                }
            }
            Event::Changed => self.changed(now),
            Event::Recorded => {
                if matches!(self.state, State::Recording) {
                    self.withdrawn = 0;
                    self.over(now);
                }
            }
            Event::Failed(why) => self.failed(now, why),
            Event::Dirty => {
                self.dirty = true;
                self.advance(now);
            }
            Event::Barrier(id) => {
                self.asked = self.asked.max(id);
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
            State::Ready { ping_at } => Some(ping_at).filter(|_| self.pong_by.is_none()),
            State::Greeting { until, .. }
            | State::AwaitingBuckets { until }
            | State::AwaitingListing { until, .. }
            | State::Offered { until, .. }
            | State::Closed { until, .. }
            | State::Applying { until }
            | State::Troubled { until } => Some(until),
        };
        [state, self.pong_by, self.moment_over_at()].into_iter().flatten().min()
    }

    /// Whether a [`Command::Stream`] is still to go on. No more after the peer said that the series is
    /// void, which it may say in the middle; then the command is not answered.
    pub fn is_streaming(&self) -> bool {
        matches!(self.state, State::Streaming { .. })
    }

    /// How many links were closed for what the peer said or did not say.
    pub fn hangs(&self) -> u64 {
        self.hangs
    }

    fn linked(&mut self, now: Time) {
        self.leave();
        let until = now + limits::MIRROR_WORK_PATIENCE;
        self.state = State::Greeting { own: None, peer: None, until };
        let (group, trees) = (self.group.clone(), self.trees.clone());
        self.say(ToReceiver::Hello { version: proto::VERSION, group, trees });
        // While the peer walks too.
        self.out.push_back(Command::Walk { sync: false });
    }

    fn hang(&mut self, why: String) {
        self.hang_with(why.clone(), SenderState::Behind(why));
    }

    fn hang_with(&mut self, why: String, state: SenderState) {
        self.hangs += 1;
        self.out.push_back(Command::Hang(why));
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
            self.state = State::Down;
        }
    }

    /// What is under way is over without success: its names are dirty again.
    fn void(&mut self) {
        self.series += 1;
        self.dirty = true;
    }

    fn heard(&mut self, now: Time, envelope: Envelope<ToSender>) {
        if matches!(self.state, State::Down) {
            return;
        }
        let Envelope { generation, message } = envelope;
        // A refusal changes nothing, and mostly speaks of another generation.
        if generation != self.generation && !matches!(message, ToSender::Refuse { .. }) {
            return self.hang("the peer speaks of another generation of the group".into());
        }
        match message {
            ToSender::Welcome { digest, names: _ } => self.welcomed(now, digest),
            ToSender::Refuse { why } => {
                let state = SenderState::Blocked(format!("the peer refuses: {why}"));
                self.hang_with(why, state);
            }
            ToSender::Buckets { digests } => self.told_buckets(digests),
            ToSender::Listing { bucket, entries, more } => {
                self.listed(now, bucket, entries, more);
            }
            ToSender::Need { series, batch, wanted } => self.needed(now, series, batch, wanted),
            ToSender::Acked { series, batch } => self.acked(now, series, batch),
            ToSender::Applied { series, conflicts } => self.applied(series, conflicts),
            ToSender::Trouble(trouble) => self.troubled(now, trouble),
            ToSender::Pong => {
                if self.pong_by.take().is_none() {
                    self.out_of_turn("Pong");
                }
            }
        }
    }

    fn out_of_turn(&mut self, what: &str) {
        self.hang(format!("the peer said {what} out of turn"));
    }

    /// What the peer says of a series that was given up crossed our own word on the way.
    fn unless_stale(&mut self, series: u64, what: &str) {
        if series >= self.series {
            self.out_of_turn(what);
        }
    }

    fn welcomed(&mut self, now: Time, digest: Digest) {
        if let State::Greeting { peer: peer @ None, .. } = &mut self.state {
            *peer = Some(digest);
            self.compare_digests(now);
        } else {
            self.out_of_turn("Welcome");
        }
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

    fn compare_digests(&mut self, now: Time) {
        let State::Greeting { own: Some(own), peer: Some(peer), .. } = &self.state else { return };
        if own == peer {
            self.tell(SenderState::Syncing);
            return self.ready(now);
        }
        self.state = State::AwaitingBuckets { until: now + limits::MIRROR_ANSWER_PATIENCE };
        self.tell(SenderState::Syncing);
        self.say(ToReceiver::AskBuckets);
    }

    fn told_buckets(&mut self, digests: Vec<Digest>) {
        if matches!(self.state, State::AwaitingBuckets { .. }) && digests.len() == limits::BUCKETS {
            self.state = State::ComparingBuckets;
            self.out.push_back(Command::CompareBuckets(digests));
        } else {
            self.out_of_turn("Buckets");
        }
    }

    /// Asks for the last of these buckets.
    fn ask_listing(&mut self, now: Time, mut todo: Vec<u16>) {
        let Some(bucket) = todo.pop() else { return self.ready(now) };
        let until = now + limits::MIRROR_ANSWER_PATIENCE;
        self.state = State::AwaitingListing { bucket, todo, entries: Vec::new(), until };
        self.say(ToReceiver::AskListing { bucket });
    }

    fn listed(&mut self, now: Time, which: u16, mut new: Vec<(Key, Digest)>, more: bool) {
        let State::AwaitingListing { bucket, todo, entries, until } = &mut self.state else {
            return self.out_of_turn("Listing");
        };
        if which != *bucket || entries.len() + new.len() > limits::LISTED_NAMES_MAX {
            return self.out_of_turn("a Listing of another bucket, or without an end,");
        }
        entries.append(&mut new);
        if more {
            *until = now + limits::MIRROR_ANSWER_PATIENCE;
            return;
        }
        let (entries, todo) = (std::mem::take(entries), std::mem::take(todo));
        self.state = State::ComparingListing { todo };
        self.out.push_back(Command::CompareListing { bucket: which, entries });
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
        if self.asked > self.walked {
            self.state = State::Walking { barrier: self.asked };
            self.out.push_back(Command::Walk { sync: true });
        } else if self.dirty {
            self.dirty = false;
            self.covered = self.walked;
            self.waits_since.get_or_insert(now);
            self.gather(0);
        } else {
            self.waits_since = None;
            self.tell(SenderState::InSync);
        }
    }

    fn gather(&mut self, batch: u32) {
        self.state = State::Gathering { batch };
        self.out.push_back(Command::Gather { batch });
    }

    fn gathered(&mut self, now: Time, gathered: Gathered) {
        let State::Gathering { batch } = self.state else { return };
        let Gathered { ops, fuzzy, more } = gathered;
        if batch == 0 && ops.is_empty() && !more {
            return self.over(now);
        }
        let (series, last, measures) = (self.series, !more, offer::measures(&ops));
        let until = now + limits::MIRROR_WORK_PATIENCE;
        self.state = State::Offered { batch, last, measures, until };
        self.say(ToReceiver::Offer { series, batch, last, fuzzy, ops });
    }

    fn needed(&mut self, now: Time, series: u64, batch: u32, wanted: Vec<Wanted>) {
        let State::Offered { batch: mine, last, measures, .. } = &self.state else {
            return self.unless_stale(series, "Need");
        };
        if (series, batch) != (self.series, *mine) {
            return self.unless_stale(series, "Need");
        }
        let last = *last;
        if let Err(why) = offer::check_need(&wanted, measures) {
            self.hang(format!("the peer sent {why}"));
        } else if wanted.is_empty() {
            self.close(now, batch, last);
        } else {
            self.state = State::Streaming { batch, last };
            self.out.push_back(Command::Stream { wanted });
        }
    }

    fn close(&mut self, now: Time, batch: u32, last: bool) {
        let (series, until) = (self.series, now + limits::MIRROR_WORK_PATIENCE);
        self.state = State::Closed { batch, last, until };
        self.say(ToReceiver::Close { series, batch });
    }

    fn acked(&mut self, now: Time, series: u64, acked: u32) {
        let State::Closed { batch, last, .. } = self.state else {
            return self.unless_stale(series, "Acked");
        };
        if (series, acked) != (self.series, batch) {
            return self.unless_stale(series, "Acked");
        }
        if last {
            self.state = State::Applying { until: now + limits::MIRROR_WORK_PATIENCE };
            return;
        }
        // A backlog of several batches moves: whatever was wrong before is not any more.
        self.tell(SenderState::Syncing);
        match batch.checked_add(1) {
            Some(next) => self.gather(next),
            None => self.hang("a series without an end".into()),
        }
    }

    fn applied(&mut self, series: u64, conflicts: u64) {
        if matches!(self.state, State::Applying { .. }) && series == self.series {
            self.state = State::Recording;
            self.out.push_back(Command::Record { series, conflicts });
        } else {
            self.unless_stale(series, "Applied");
        }
    }

    /// The series is applied and recorded, or there was nothing to send.
    fn over(&mut self, now: Time) {
        self.series += 1;
        if self.covered > self.kept {
            self.kept = self.covered;
            self.out.push_back(Command::Done(self.kept));
        }
        let since = self.waits_since.take();
        self.ready(now);
        if self.told != Some(SenderState::InSync) {
            // More waits already, but only since a moment ago if this took no longer.
            let quick = since.is_none_or(|since| now.since(since) < limits::MIRROR_MOMENT);
            self.tell(if quick { SenderState::InSync } else { SenderState::Syncing });
        }
    }

    fn changed(&mut self, now: Time) {
        if !self.is_streaming() {
            return;
        }
        self.withdraw();
        self.withdrawn += 1;
        if self.withdrawn < limits::MIRROR_WITHDRAWALS_MAX {
            return self.ready(now);
        }
        self.withdrawn = 0;
        self.pause(now);
        self.tell(SenderState::Behind("files change faster than they can be sent".into()));
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
            State::Greeting { .. } | State::ComparingBuckets | State::ComparingListing { .. } => {
                return self.hang_with(why.clone(), SenderState::Blocked(why));
            }
            State::Gathering { .. } | State::Streaming { .. } => {
                self.withdraw();
                self.pause(now);
            }
            State::Walking { .. } => self.pause(now),
            State::Recording => {
                self.void();
                self.pause(now);
            }
            State::Down
            | State::AwaitingBuckets { .. }
            | State::AwaitingListing { .. }
            | State::Ready { .. }
            | State::Offered { .. }
            | State::Closed { .. }
            | State::Applying { .. }
            | State::Troubled { .. } => return,
        }
        self.tell(SenderState::Blocked(why));
    }

    /// The peer could not do what it was asked for.
    fn troubled(&mut self, now: Time, trouble: Trouble) {
        let state = match &trouble {
            Trouble::NoRoom { .. } => SenderState::Behind(format!("the peer has {trouble}")),
            Trouble::Root(_) | Trouble::Failed(_) => {
                SenderState::Blocked(format!("on the peer: {trouble}"))
            }
        };
        match self.state {
            State::Greeting { peer: None, .. }
            | State::AwaitingBuckets { .. }
            | State::AwaitingListing { .. } => self.hang_with(trouble.to_string(), state),
            State::Offered { .. }
            | State::Streaming { .. }
            | State::Closed { .. }
            | State::Applying { .. } => {
                self.void();
                self.pause(now);
                self.tell(state);
            }
            State::Greeting { .. } | State::ComparingBuckets | State::ComparingListing { .. } => {
                self.out_of_turn("Trouble");
            }
            // It crossed a withdrawal: what it speaks of is given up already.
            State::Down
            | State::Ready { .. }
            | State::Walking { .. }
            | State::Gathering { .. }
            | State::Recording
            | State::Troubled { .. } => {}
        }
    }

    fn tick(&mut self, now: Time) {
        let waited = |until: Time| until <= now;
        if self.pong_by.is_some_and(waited) {
            return self.hang("the peer does not answer".into());
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
                if waited(ping_at) && self.pong_by.is_none() {
                    self.pong_by = Some(now + limits::MIRROR_ANSWER_PATIENCE);
                    self.state = State::Ready { ping_at: now + limits::MIRROR_PING_EVERY };
                    self.say(ToReceiver::Ping);
                }
            }
            State::Greeting { until, .. } => self.hang_after(now, until, "to greet"),
            State::AwaitingBuckets { until } | State::AwaitingListing { until, .. } => {
                self.hang_after(now, until, "to tell what it has");
            }
            State::Offered { until, .. } => self.hang_after(now, until, "to stage a batch"),
            State::Closed { until, .. } => self.hang_after(now, until, "to make a batch durable"),
            State::Applying { until } => self.hang_after(now, until, "to apply a series"),
            State::Troubled { until } => {
                if waited(until) {
                    self.ready(now);
                }
            }
        }
    }

    fn hang_after(&mut self, now: Time, until: Time, what: &str) {
        if until <= now {
            self.hang(format!("the peer takes too long {what}"));
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
