//! The standby side's end of a session.
//!
//! ```text
//!  Down ──Linked──▶ Linked ──Hello──▶ Opening ◀─Welcome, Lineage─▶ Ready ◀──▶ ReadingBuckets, ReadingListing
//!   ▲                 ▲── cannot ─────────┘                 │ ▲
//!   │ Cut, Disconnect                                 Offer │ │ Applied; Withdraw
//!   │ (anywhere)                                            ▼ │
//!   │     Void ◀── cannot ── Staging ──Need──▶ Filling ◀─Data─▶ Writing
//!   │      │ Offer of a new      ▲                │ Close
//!   │      │ series              │ Offer          ▼
//!   │      └──▶ Staging       Between ◀──Acked── Hardening ──Acked, last──▶ Applying ──▶ Ready
//!   │  Ready ──Verify──▶ Verifying ──Verified──▶ Ready
//!   └ (Linked ◀── cannot ── Opening, Reading..., Verifying, Applying)
//! ```

mod words;

use std::collections::VecDeque;

use super::offer::{self, Expected, Measure};
use crate::core::{Generation, Time};
use crate::limits;
use crate::mirror::entry::{Digest, Key};
use crate::mirror::proto::{
    self, Differ, Envelope, Op, Refused, ToReceiver, ToSender, Trouble, Wanted,
};
pub use words::{Command, Event};

#[derive(Clone, Copy, Debug)]
struct Batch {
    series: u64,
    batch: u32,
    last: bool,
}

#[derive(Debug)]
enum State {
    Down,
    Linked {
        until: Time,
    },
    Opening,
    Ready {
        until: Time,
    },
    ReadingBuckets,
    ReadingListing {
        bucket: u16,
    },
    Verifying {
        barrier: u64,
    },
    Staging {
        batch: Batch,
        measures: Vec<Measure>,
    },
    Filling {
        batch: Batch,
        expected: Expected,
        until: Time,
    },
    Writing {
        batch: Batch,
        expected: Expected,
    },
    Hardening {
        batch: Batch,
    },
    Between {
        series: u64,
        next: u32,
        until: Time,
    },
    Applying {
        series: u64,
    },
    /// Trouble was told; what the sender said before it heard that is ignored.
    Void {
        until: Time,
    },
}

/// The standby side's end of a session.
#[derive(Debug)]
pub struct Receiver {
    generation: Generation,
    group: String,
    trees: Vec<String>,
    state: State,
    /// The owner has said what its trees contain.
    descends: bool,
    /// The newest series that was offered on this link.
    newest: Option<u64>,
    disconnects: u64,
    out: VecDeque<Command>,
}

impl Receiver {
    /// A receiver of a generation, not linked yet. `trees`: the paths as configured.
    pub fn new(generation: Generation, group: String, trees: Vec<String>) -> Receiver {
        let (state, out) = (State::Down, VecDeque::new());
        Receiver {
            generation,
            group,
            trees,
            state,
            descends: false,
            newest: None,
            disconnects: 0,
            out,
        }
    }

    /// Takes in one event and decides.
    pub fn handle(&mut self, now: Time, event: Event) {
        match event {
            Event::Linked => {
                self.go_down();
                (self.newest, self.descends) = (None, false);
                self.state = State::Linked { until: now + limits::MIRROR_ANSWER_PATIENCE };
            }
            Event::Cut => self.go_down(),
            Event::Heard(envelope) => self.heard(now, envelope),
            Event::Opened { digest, commit, past } => {
                if matches!(self.state, State::Opening) {
                    self.ready(now);
                    self.say(ToSender::Welcome { digest, commit, past });
                }
            }
            Event::BucketsRead(digests) => {
                if matches!(self.state, State::ReadingBuckets) {
                    self.ready(now);
                    self.say(ToSender::Buckets { digests });
                }
            }
            Event::ListingRead { entries, more } => self.listing_read(now, entries, more),
            Event::Staged { wanted, refused } => self.staged(now, wanted, refused),
            Event::Written => self.written(now),
            Event::Durable => self.durable(now),
            Event::Applied { conflicts, unfinished } => {
                if let State::Applying { series } = self.state {
                    self.ready(now);
                    self.say(ToSender::Applied { series, conflicts, unfinished });
                }
            }
            Event::Verified(differ) => {
                if let State::Verifying { barrier } = self.state {
                    self.ready(now);
                    self.say_differ(differ);
                    self.say(ToSender::Verified { barrier });
                }
            }
            Event::Differs(differ) => {
                // Before the welcome a walk finds it.
                if !matches!(self.state, State::Down | State::Linked { .. } | State::Opening) {
                    self.say_differ(differ);
                }
            }
            Event::Failed(trouble) => self.failed(now, trouble),
            Event::Tick => self.tick(now),
        }
    }

    /// The next thing to do; `None` when there is nothing more.
    pub fn poll(&mut self) -> Option<Command> {
        self.out.pop_front()
    }

    /// When to call [`Receiver::handle`] with a tick, unless something else happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        match self.state {
            State::Down
            | State::Opening
            | State::ReadingBuckets
            | State::ReadingListing { .. }
            | State::Verifying { .. }
            | State::Staging { .. }
            | State::Writing { .. }
            | State::Hardening { .. }
            | State::Applying { .. } => None,
            State::Linked { until }
            | State::Ready { until }
            | State::Filling { until, .. }
            | State::Between { until, .. }
            | State::Void { until } => Some(until),
        }
    }

    /// How many links were closed from this end.
    pub fn disconnects(&self) -> u64 {
        self.disconnects
    }

    fn go_down(&mut self) {
        self.discard();
        self.state = State::Down;
    }

    /// Throws away what is staged, if the series is not durable in whole.
    fn discard(&mut self) {
        match self.state {
            State::Staging { .. }
            | State::Filling { .. }
            | State::Writing { .. }
            | State::Between { .. }
            | State::Hardening { batch: Batch { last: false, .. } } => {
                self.out.push_back(Command::Discard);
            }
            // Of the last batch it is not known whether it became durable; the next `Open` sees it.
            State::Hardening { batch: Batch { last: true, .. } }
            | State::Down
            | State::Linked { .. }
            | State::Opening
            | State::Ready { .. }
            | State::ReadingBuckets
            | State::ReadingListing { .. }
            | State::Verifying { .. }
            | State::Applying { .. }
            | State::Void { .. } => {}
        }
    }

    /// Ends the link and tells the peer why.
    fn refuse(&mut self, why: String) {
        self.disconnects += 1;
        self.say(ToSender::Refuse { why: why.clone() });
        self.out.push_back(Command::Disconnect(why));
        self.go_down();
    }

    fn ready(&mut self, now: Time) {
        // The owner may be reading large files for long before its next word.
        self.state = State::Ready { until: now + limits::MIRROR_WORK_PATIENCE };
    }

    fn heard(&mut self, now: Time, envelope: Envelope<ToReceiver>) {
        if matches!(self.state, State::Down) {
            return;
        }
        let Envelope { generation, message } = envelope;
        if generation != self.generation {
            let (theirs, mine) = (generation.number, self.generation.number);
            return self.refuse(format!("generation {theirs} is not the one of now, {mine}"));
        }
        match message {
            ToReceiver::Hello { version, group, trees } => {
                self.greeted(version, &group, &trees);
            }
            ToReceiver::AskBuckets => {
                if !matches!(self.state, State::Ready { .. }) {
                    return self.out_of_turn("AskBuckets");
                }
                self.state = State::ReadingBuckets;
                self.out.push_back(Command::ReadBuckets);
            }
            ToReceiver::AskListing { bucket } => {
                let known = usize::from(bucket) < limits::BUCKETS;
                if !known || !matches!(self.state, State::Ready { .. }) {
                    return self.out_of_turn("AskListing");
                }
                self.state = State::ReadingListing { bucket };
                self.out.push_back(Command::ReadListing { bucket, after: None });
            }
            ToReceiver::Offer { series, batch, last, fuzzy, ops } => {
                self.offered(Batch { series, batch, last }, fuzzy, ops);
            }
            ToReceiver::Data { op, chunk, bytes } => self.filled(op, chunk, bytes),
            ToReceiver::Drop { op } => self.dropped(op),
            ToReceiver::Close { series, batch } => self.closed(series, batch),
            ToReceiver::Withdraw { series } => self.withdrawn(now, series),
            ToReceiver::Ping => {
                if matches!(self.state, State::Ready { .. }) {
                    self.ready(now);
                }
                self.say(ToSender::Pong);
            }
            ToReceiver::Verify { barrier } => {
                if !matches!(self.state, State::Ready { .. }) {
                    return self.out_of_turn("Verify");
                }
                self.state = State::Verifying { barrier };
                self.out.push_back(Command::Verify);
            }
            ToReceiver::Lineage { lineage, disown } => {
                if !matches!(self.state, State::Ready { .. }) || !lineage.is_bounded() {
                    return self.out_of_turn("Lineage");
                }
                self.descends = true;
                if disown {
                    self.state = State::Opening;
                }
                self.out.push_back(Command::Adopt { lineage, disown });
            }
            ToReceiver::Ahead { key, chunk_bytes, chunk, bytes } => {
                match self.state {
                    State::Ready { .. } if self.descends => self.ready(now),
                    // It did not hear of the trouble yet.
                    State::Void { .. } if self.descends => {}
                    State::Down
                    | State::Linked { .. }
                    | State::Opening
                    | State::Ready { .. }
                    | State::ReadingBuckets
                    | State::ReadingListing { .. }
                    | State::Verifying { .. }
                    | State::Staging { .. }
                    | State::Filling { .. }
                    | State::Writing { .. }
                    | State::Hardening { .. }
                    | State::Between { .. }
                    | State::Applying { .. }
                    | State::Void { .. } => return self.out_of_turn("Ahead"),
                }
                self.out.push_back(Command::KeepAhead { key, chunk_bytes, chunk, bytes });
            }
            // The owner hangs up.
            ToReceiver::Conflict { why } => self.out.push_back(Command::Disputed(why)),
        }
    }

    fn out_of_turn(&mut self, what: &str) {
        self.refuse(format!("{what} out of turn"));
    }

    fn greeted(&mut self, version: u16, group: &str, trees: &[String]) {
        if !matches!(self.state, State::Linked { .. }) {
            self.out_of_turn("Hello");
        } else if version != proto::VERSION {
            let mine = proto::VERSION;
            self.refuse(format!("version {version} of the mirror's protocol, {mine} here"));
        } else if group != self.group || trees != self.trees {
            self.refuse("the config differs: copy the same file to both nodes".into());
        } else {
            self.state = State::Opening;
            self.out.push_back(Command::Open);
        }
    }

    fn listing_read(&mut self, now: Time, entries: Vec<(Key, Digest)>, more: bool) {
        let State::ReadingListing { bucket } = self.state else { return };
        let after = entries.last().map(|(key, _)| key.clone()).filter(|_| more);
        let more = after.is_some();
        self.say(ToSender::Listing { bucket, entries, more });
        if more {
            self.out.push_back(Command::ReadListing { bucket, after });
        } else {
            self.ready(now);
        }
    }

    fn offered(&mut self, batch: Batch, fuzzy: bool, ops: Vec<Op>) {
        let begins = batch.batch == 0 && self.newest.is_none_or(|newest| batch.series > newest);
        match &self.state {
            State::Ready { .. } | State::Void { .. } if begins && self.descends => {}
            // The owner heard of trouble that it had withdrawn from, and started again.
            State::Filling { .. } | State::Between { .. } if begins => {
                self.out.push_back(Command::Discard);
            }
            State::Between { series, next, .. }
                if (batch.series, batch.batch) == (*series, *next) => {}
            State::Down
            | State::Linked { .. }
            | State::Opening
            | State::Ready { .. }
            | State::ReadingBuckets
            | State::ReadingListing { .. }
            | State::Verifying { .. }
            | State::Staging { .. }
            | State::Filling { .. }
            | State::Writing { .. }
            | State::Hardening { .. }
            | State::Between { .. }
            | State::Applying { .. }
            | State::Void { .. } => return self.out_of_turn("Offer"),
        }
        if let Err(why) = offer::check(&ops, self.trees.len()) {
            return self.refuse(why);
        }
        let Batch { series, batch: number, last } = batch;
        self.newest = Some(series);
        self.state = State::Staging { batch, measures: offer::measures(&ops) };
        self.out.push_back(Command::Stage { series, batch: number, last, fuzzy, ops });
    }

    fn staged(&mut self, now: Time, wanted: Vec<Wanted>, refused: Vec<Refused>) {
        let State::Staging { batch, measures } = &self.state else { return };
        let (batch, expected) = (*batch, Expected::new(&wanted, measures));
        self.state = State::Filling { batch, expected, until: now + limits::MIRROR_DATA_PATIENCE };
        self.say(ToSender::Need { series: batch.series, batch: batch.batch, wanted, refused });
    }

    fn filled(&mut self, op: u32, chunk: u32, bytes: Vec<u8>) {
        if let State::Filling { batch, expected, .. } = &mut self.state {
            if let Err(why) = expected.take(op, chunk, bytes.len()) {
                return self.refuse(why);
            }
            self.state = State::Writing { batch: *batch, expected: std::mem::take(expected) };
            self.out.push_back(Command::Write { op, chunk, bytes });
        } else if !matches!(self.state, State::Void { .. }) {
            self.out_of_turn("Data");
        }
    }

    fn dropped(&mut self, op: u32) {
        if let State::Filling { batch, expected, .. } = &mut self.state {
            expected.drop_op(op);
            self.state = State::Writing { batch: *batch, expected: std::mem::take(expected) };
            self.out.push_back(Command::Drop { op });
        } else if !matches!(self.state, State::Void { .. }) {
            self.out_of_turn("Drop");
        }
    }

    fn written(&mut self, now: Time) {
        if let State::Writing { batch, expected } = &mut self.state {
            let until = now + limits::MIRROR_DATA_PATIENCE;
            let expected = std::mem::take(expected);
            self.state = State::Filling { batch: *batch, expected, until };
        }
    }

    fn closed(&mut self, series: u64, number: u32) {
        if let State::Filling { batch, expected, .. } = &self.state
            && expected.is_empty()
            && (batch.series, batch.batch) == (series, number)
        {
            let batch = *batch;
            self.state = State::Hardening { batch };
            self.out.push_back(Command::MakeDurable { last: batch.last });
        } else if !matches!(self.state, State::Void { .. }) {
            self.out_of_turn("Close");
        }
    }

    fn withdrawn(&mut self, now: Time, series: u64) {
        match &self.state {
            State::Filling { batch: Batch { series: mine, .. }, .. }
            | State::Between { series: mine, .. }
                if *mine == series =>
            {
                self.discard();
                self.ready(now);
            }
            // Nothing of it is here, or not any more.
            State::Ready { .. } | State::Void { .. } => {}
            State::Down
            | State::Linked { .. }
            | State::Opening
            | State::ReadingBuckets
            | State::ReadingListing { .. }
            | State::Verifying { .. }
            | State::Staging { .. }
            | State::Filling { .. }
            | State::Writing { .. }
            | State::Hardening { .. }
            | State::Between { .. }
            | State::Applying { .. } => self.out_of_turn("Withdraw"),
        }
    }

    fn durable(&mut self, now: Time) {
        let State::Hardening { batch } = self.state else { return };
        let Batch { series, batch, last } = batch;
        self.say(ToSender::Acked { series, batch });
        if last {
            self.state = State::Applying { series };
            self.out.push_back(Command::Apply);
        } else {
            let until = now + limits::MIRROR_WORK_PATIENCE;
            self.state = State::Between { series, next: batch.saturating_add(1), until };
        }
    }

    fn failed(&mut self, now: Time, trouble: Trouble) {
        match self.state {
            State::Opening
            | State::ReadingBuckets
            | State::ReadingListing { .. }
            | State::Verifying { .. }
            | State::Applying { .. } => {
                // The owner hangs up and comes again after a while. The next `Open` applies.
                self.state = State::Linked { until: now + limits::MIRROR_ANSWER_PATIENCE };
            }
            State::Staging { .. } | State::Writing { .. } | State::Hardening { .. } => {
                self.out.push_back(Command::Discard);
                self.state = State::Void { until: now + limits::MIRROR_WORK_PATIENCE };
            }
            State::Down
            | State::Linked { .. }
            | State::Ready { .. }
            | State::Filling { .. }
            | State::Between { .. }
            | State::Void { .. } => return,
        }
        self.say(ToSender::Trouble(trouble));
    }

    fn tick(&mut self, now: Time) {
        if self.next_deadline().is_some_and(|until| until <= now) {
            self.refuse("silence where something was due".into());
        }
    }

    fn say_differ(&mut self, differ: Differ) {
        if differ.names > 0 {
            self.say(ToSender::Differs(differ));
        }
    }

    fn say(&mut self, message: ToSender) {
        self.out.push_back(Command::Say(Envelope { generation: self.generation, message }));
    }
}
