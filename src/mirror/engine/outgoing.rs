//! The owner's side of a group: doing what the session's sender says.

use std::collections::{BTreeMap, HashSet};
use std::time::Instant;

use super::ahead::Ahead;
use super::batch::Batch;
use super::brake::Brake;
use super::connection::Connection;
use super::gather::{Chunks, Gather, Series};
use super::hints::Hints;
use super::judge::{Here, Judged, is_as_recorded, judge};
use super::refusals::Refusals;
use super::report::{News, Skipped};
use super::rest::Rests;
use super::trees::{Fault, Trees};
use crate::core::{Generation, Time};
use crate::limits;
use crate::mirror::entry::{Digest, Entry, Key, Kind};
use crate::mirror::hash;
use crate::mirror::index::{Index, IndexError, Position};
use crate::mirror::proto::{Change, Differ, Envelope, Op, Past, Refused, ToReceiver, Wanted};
use crate::mirror::session::sender::{Command, Event, Gathered, Sender, SenderState};

/// What the owner's side reports.
#[derive(Clone, Debug, Default)]
pub struct Sent {
    /// How the sender is.
    pub state: Option<SenderState>,
    /// Barriers up to this one are kept.
    pub kept: u64,
    /// Newest commit that the peer has.
    pub commit: u64,
    /// Commits whose names changed while they were read.
    pub fuzzy: u64,
    /// Files in the peer's conflict store.
    pub peer_conflicts: u64,
    /// Bytes of content that were sent.
    pub bytes: u64,
}

/// The owner's side of a group in one generation.
pub struct Outgoing {
    generation: Generation,
    sender: Sender,
    hints: Hints,
    series: Series,
    batch: Batch,
    forced: HashSet<Key>,
    rests: Rests,
    /// Large files that are sent before their series.
    ahead: Ahead,
    /// When the last turn of theirs ended.
    sliced_at: Instant,
    /// What must not go without a person's word, and the end of the backlog when it was given.
    brake: Brake,
    meant: u64,
    /// What the peer cannot take.
    refusals: Refusals,
    barrier: u64,
    /// The peer has a commit of this node's that was under way and is not on record here: the trees have it, unless
    /// they lost what was not durable when the machine died.
    unrecorded: bool,
    /// For what a person is told.
    group: String,
    node: String,
    /// The peer had everything at some time since this began.
    was_in_sync: bool,
    /// What the watch told was read since this was last asked.
    absorbed: bool,
    /// Parts of the backlog before this one go before the walk of a barrier, which finds all at once.
    owed: u64,
    /// What is reported.
    pub sent: Sent,
}

/// What the owner's side works with.
pub struct Around<'a> {
    /// The trees.
    pub trees: &'a Trees,
    /// The last common commit.
    pub index: &'a Index,
    /// The link, if there is one.
    pub connection: &'a mut Connection,
    /// What is not mirrored.
    pub skipped: &'a mut Skipped,
    /// What the administrator is told.
    pub news: &'a mut News,
    /// Whether an order waits that ends this.
    pub interrupted: &'a dyn Fn() -> bool,
    /// A person has said that the trees here are the ones to keep.
    pub approved: bool,
}

impl Outgoing {
    /// Begins; the first walk is the sender's to ask for.
    ///
    /// # Errors
    /// The trees cannot be watched, or the index fails; in words.
    pub fn new(
        generation: Generation,
        (group, node): (&str, &str),
        trees: &Trees,
        index: &Index,
    ) -> Result<Outgoing, String> {
        let words = |error: IndexError| error.to_string();
        let commit = index.position().map_err(words)?.map_or(0, |position| position.commit);
        let next_series = index.newest_commit().map_err(words)?.saturating_add(1);
        let hints = Hints::new(trees).map_err(|error| error.to_string())?;
        let sender = Sender::new(generation, group.to_owned(), trees.names(), next_series);
        Ok(Outgoing {
            generation,
            sender,
            hints,
            series: Series::default(),
            batch: Batch::default(),
            forced: HashSet::new(),
            rests: Rests::default(),
            ahead: Ahead::default(),
            sliced_at: Instant::now(),
            brake: Brake::default(),
            meant: 0,
            refusals: Refusals::default(),
            barrier: 0,
            unrecorded: false,
            group: group.to_owned(),
            node: node.to_owned(),
            was_in_sync: false,
            absorbed: false,
            owed: 0,
            sent: Sent { commit, ..Sent::default() },
        })
    }

    /// To wait on.
    pub fn hints(&self) -> &Hints {
        &self.hints
    }

    /// Whether the peer had everything at some time since it was last known to be another one.
    pub fn was_in_sync(&self) -> bool {
        self.was_in_sync
    }

    /// The peer has started again: nothing shows what it has.
    pub fn peer_is_new(&mut self) {
        self.was_in_sync = false;
    }

    /// Whether a batch is on its way.
    pub fn is_sending(&self) -> bool {
        !self.batch.ops.is_empty()
    }

    /// Whether what the watch told was read since this was last asked.
    pub fn take_absorbed(&mut self) -> bool {
        std::mem::take(&mut self.absorbed)
    }

    /// Bytes of the batch that is under way.
    pub fn pending_bytes(&self) -> u64 {
        let size = |op: &Op| match &op.change {
            Change::Put(entry) => match &entry.kind {
                Kind::File(content) => content.size,
                Kind::Dir | Kind::Symlink { .. } | Kind::Link { .. } => 0,
            },
            Change::Delete => 0,
        };
        self.batch.ops.iter().map(size).sum()
    }

    /// Looks for changes that nothing told of. Returns how many names differ.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn rescan(&mut self, around: Around<'_>) -> Result<u64, Fault> {
        let pass = around.trees.open(around.index)?;
        let skip = |key: &Key| self.series.has(key);
        let walked = self.hints.walk(&pass, around.index, &skip, around.interrupted)?;
        around.skipped.set(walked.skipped);
        Ok(walked.differ)
    }

    /// Asks for a barrier: everything written until now on the peer; with `sync` on the disk here, too. Its
    /// number.
    pub fn barrier(&mut self, now: Time, sync: bool, around: Around<'_>) -> u64 {
        self.listen();
        self.owed = self.hints.backlog().end();
        self.barrier += 1;
        let owes = self.owes();
        self.handle(now, Event::Barrier { id: self.barrier, sync, owes }, around);
        self.barrier
    }

    /// Whether something is left of what a barrier was asked for that need not be looked for.
    fn owes(&self) -> bool {
        self.hints.backlog().has_before(self.owed)
    }

    /// A person has said that what goes is meant to go.
    pub fn approve(&mut self) {
        self.listen();
        self.meant = self.hints.backlog().end();
        self.brake.approve();
    }

    /// Reads what the watch tells.
    pub fn listen(&mut self) {
        // What comes of an error is known when a series is read: it meets it again.
        if let Err(error) = self.hints.listen() {
            log::debug!("{error}");
        }
    }

    /// Names that were told and are not marked yet.
    pub fn told(&self) -> usize {
        self.hints.backlog().len()
    }

    /// When a name that rests is to be looked at again, one that the peer refused is to be offered again, or
    /// what is written from outside the trees is to be looked at.
    pub fn rest_over_at(&self) -> Option<Instant> {
        let due = [self.rests.due(), self.refusals.due(), self.hints.outer_at()];
        due.into_iter().flatten().min()
    }

    /// Marks the names that have rested for long enough, those that are offered to the peer again, and those
    /// that were written to from outside the trees. Returns whether there are any.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn look_again(&mut self, around: &Around<'_>) -> Result<bool, Fault> {
        let now = Instant::now();
        let woken = self.wake(Rests::take_due, around.index)? | self.offer_again(around)?;
        let outer = self.hints.outer_at().is_some_and(|at| at <= now);
        if !outer {
            return Ok(woken);
        }
        // Also if the trees cannot be opened: soon is early enough.
        self.hints.put_off_outer(limits::OUTER_LOOK_EVERY);
        let outside = self.hints.look_outside(&around.trees.open(around.index)?, around.index)?;
        Ok(woken || outside)
    }

    fn wake(
        &mut self,
        which: impl FnOnce(&mut Rests, Instant) -> Vec<Key>,
        index: &Index,
    ) -> Result<bool, IndexError> {
        let names = which(&mut self.rests, Instant::now());
        index.mark(&names)?;
        Ok(!names.is_empty())
    }

    /// Marks what the peer could not take, when it is time to offer it again.
    fn offer_again(&mut self, around: &Around<'_>) -> Result<bool, IndexError> {
        let (names, all) = self.refusals.take_due(Instant::now());
        around.index.mark(&names)?;
        if all {
            around.trees.places().iter().try_for_each(|(tree, _)| around.index.mark_tree(*tree))?;
        }
        Ok(all || !names.is_empty())
    }

    /// The names that rest.
    pub fn rests(&self) -> &Rests {
        &self.rests
    }

    /// Whether no series is under way: a change of the link costs nothing now.
    pub fn is_between_series(&self) -> bool {
        self.sender.is_between_series()
    }

    /// Why names cannot be mirrored at the moment, each with its path: they cannot be read here, or the peer
    /// cannot take them.
    pub fn stuck(&self) -> impl Iterator<Item = &str> {
        self.rests.reasons().chain(self.refusals.reasons())
    }

    /// When something is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.sender.next_deadline()
    }

    /// Takes in one event, and does what comes of it.
    pub fn handle(&mut self, now: Time, event: Event, mut around: Around<'_>) {
        let begun = Instant::now();
        if matches!(event, Event::Linked | Event::Cut(_)) {
            self.ahead.clear();
        }
        self.sender.handle(now, event);
        while let Some(command) = self.sender.poll() {
            if let Some(answer) = self.perform(command, &mut around) {
                self.sender.handle(now + begun.elapsed(), answer);
            }
        }
    }

    fn perform(&mut self, command: Command, around: &mut Around<'_>) -> Option<Event> {
        let done = match command {
            Command::Say(envelope) => {
                return around.connection.say(&envelope).err().map(Event::Cut);
            }
            Command::Walk { sync } => self.walk(sync, around),
            Command::Judge { past, commit } => self.judge(past, commit, around),
            Command::CompareBuckets(theirs) => compare_buckets(&theirs, around.index),
            Command::CompareListing { bucket, entries } => {
                self.compare_listing(bucket, &entries, around.index)
            }
            Command::Gather { batch } => {
                if batch == 0
                    && let Err(why) = self.take_turns(around)
                {
                    return Some(Event::Cut(why));
                }
                self.gather(batch, around)
            }
            Command::Begin { series } => {
                let position = Position { generation: self.generation, commit: series };
                let begun = around.index.begin_commit(position);
                return begun.err().map(|error| Event::Failed(error.to_string()));
            }
            Command::Stream { wanted } => return self.stream(&wanted, around),
            Command::LeaveOut(refused) => {
                let now = Instant::now();
                for Refused { key, why, soon } in refused {
                    if soon {
                        self.series.leave(&key, true);
                        self.series.leave_out(key);
                        continue;
                    }
                    let why = format!("on the peer, {}: {why}", around.trees.place(&key));
                    self.refusals.add(&key, why, now);
                    self.series.leave_out(key);
                }
                return None;
            }
            Command::Record { series, conflicts } => self.record(series, conflicts, around),
            Command::Done(barrier) => {
                self.sent.kept = barrier;
                return None;
            }
            Command::Tell(differ) => {
                around.news.differ(around.trees, &differ, "on the peer");
                return None;
            }
            Command::Disconnect(why) => {
                log::warn!("a mirror session was ended: {why}");
                around.connection.close();
                return None;
            }
            Command::State(state) => {
                self.was_in_sync |= state == SenderState::InSync;
                self.sent.state = Some(state);
                return None;
            }
        };
        Some(done.unwrap_or_else(|fault| Event::Failed(fault.to_string())))
    }

    fn walk(&mut self, sync: bool, around: &mut Around<'_>) -> Result<Event, Fault> {
        let pass = around.trees.open(around.index)?;
        if sync {
            pass.sync()?;
        }
        // A barrier wants everything, also what a series before this walk has put to rest.
        self.wake(Rests::wake, around.index)?;
        self.refusals.wake(Instant::now());
        self.offer_again(around)?;
        let skip = |key: &Key| self.series.has(key);
        let walked = self.hints.walk(&pass, around.index, &skip, around.interrupted)?;
        around.skipped.set(walked.skipped);
        Ok(Event::Walked { digest: around.index.digest()? })
    }

    /// Whether the peer's trees may be replaced by what is here.
    fn judge(&mut self, past: Past, commit: u64, around: &mut Around<'_>) -> Result<Event, Fault> {
        let lineage = around.index.lineage()?;
        let here = Here {
            generation: self.generation,
            position: around.index.position()?,
            lineage: &lineage,
            approved: around.approved,
            group: &self.group,
            node: &self.node,
        };
        let Judged { verdict, unrecorded, set_back } = judge(here, past, commit);
        self.unrecorded = unrecorded;
        if let Some(why) = set_back {
            around.news.set_back(why);
        }
        Ok(Event::Judged { verdict, lineage })
    }

    fn compare_listing(
        &mut self,
        bucket: u16,
        theirs: &[(Key, Digest)],
        index: &Index,
    ) -> Result<Event, Fault> {
        let theirs: BTreeMap<&Key, &Digest> = theirs.iter().map(|(key, it)| (key, it)).collect();
        let mut differ: Vec<Key> = Vec::new();
        let mut ours: HashSet<Key> = HashSet::new();
        let mut after: Option<Key> = None;
        loop {
            let (part, more) =
                index.bucket_listing(bucket, after.as_ref(), limits::LISTING_ENTRIES_MAX)?;
            after = part.last().map(|(key, _)| key.clone());
            for (key, digest) in part {
                if theirs.get(&key) != Some(&&digest) {
                    differ.push(key.clone());
                }
                ours.insert(key);
            }
            if !more {
                break;
            }
        }
        differ.extend(theirs.into_keys().filter(|key| !ours.contains(*key)).cloned());
        index.mark(&differ)?;
        self.forced.extend(differ);
        Ok(Event::Compared)
    }

    fn gather(&mut self, batch: u32, around: &mut Around<'_>) -> Result<Event, Fault> {
        if batch == 0 {
            around.index.give_back();
            self.refusals.give_back(Instant::now());
            self.series = Series::default();
            self.brake.begin(Instant::now());
        }
        let pass = around.trees.open(around.index)?;
        let mut gather = Gather {
            pass: &pass,
            index: around.index,
            hints: &mut self.hints,
            forced: &self.forced,
            rests: &mut self.rests,
            ahead: &mut self.ahead,
            interrupted: around.interrupted,
        };
        self.batch = gather.batch(&mut self.series)?;
        let mut newer = Differ::default();
        for op in &mut self.batch.ops {
            let stored = around.index.get(&op.key)?;
            let newer_there =
                self.unrecorded && self.forced.contains(&op.key) && is_as_recorded(op, &stored);
            if newer_there {
                newer.add(&op.key);
            }
            // Without an entry: somebody changed or deleted it while this node was the standby side.
            op.keep = newer_there || stored.as_ref().is_some_and(|stored| stored.entry.is_none());
            self.brake.count(op, stored.is_some_and(|stored| stored.entry.is_some()));
        }
        if newer.names > 0 {
            around.news.lacks(around.trees, &newer);
        }
        if !self.batch.more {
            let remedy = format!("`clusterd sync {} --from {}`", self.group, self.node);
            self.brake.check(&pass, around.index, &remedy)?;
        }
        self.absorbed = true;
        let Batch { ops, fuzzy, more, .. } = &self.batch;
        if batch == 0 && ops.is_empty() && !more {
            // Nothing differs but how some names look here.
            let series = std::mem::take(&mut self.series);
            let (forced, rests) = (&mut self.forced, &mut self.rests);
            series.record(around.trees, around.index, None, forced, rests)?;
        }
        let (ops, fuzzy, more, ahead) = (ops.clone(), *fuzzy, *more, !self.ahead.is_empty());
        let owes = self.owes();
        Ok(Event::Gathered(Gathered { ops, fuzzy, more, ahead, owes }))
    }

    /// Whether a large file waits, and the peer for whatever comes next.
    pub fn may_send_ahead(&self) -> bool {
        !self.ahead.is_empty() && self.sender.is_ready()
    }

    /// Sends the next slice of a large file.
    pub fn send_ahead(&mut self, now: Time, mut around: Around<'_>) {
        match self.slice(&mut around) {
            Ok(true) => self.handle(now, Event::Dirty, around),
            Ok(false) => {}
            Err(why) => self.handle(now, Event::Cut(why), around),
        }
    }

    /// Where something always changes the peer never waits for what comes next: large files have as much of the
    /// time as the series of the others.
    fn take_turns(&mut self, around: &mut Around<'_>) -> Result<(), String> {
        let begun = Instant::now();
        let turn = begun.duration_since(self.sliced_at).min(limits::AHEAD_TURN_MAX);
        while !self.ahead.is_empty() && !(around.interrupted)() {
            if self.slice(around)? || begun.elapsed() >= turn {
                break;
            }
        }
        self.sliced_at = Instant::now();
        Ok(())
    }

    /// True: a file is there.
    fn slice(&mut self, around: &mut Around<'_>) -> Result<bool, String> {
        let Outgoing { generation, ahead, sent, .. } = self;
        match around.trees.open(around.index) {
            Ok(pass) => ahead.slice(&pass, around.index, |message, bytes| {
                sent.bytes += bytes;
                around.connection.say(&Envelope { generation: *generation, message })
            }),
            // It is told when a series is read.
            Err(_) => {
                ahead.clear();
                Ok(true)
            }
        }
    }

    /// Sends what is wanted of the batch, as it was read when the batch was gathered if that was kept. Else
    /// it is sent as it is now, and both sides take note of that.
    fn stream(&mut self, wanted: &[Wanted], around: &mut Around<'_>) -> Option<Event> {
        let pass = match around.trees.open(around.index) {
            Ok(pass) => pass,
            Err(fault) => return Some(Event::Failed(fault.to_string())),
        };
        let mut dropped = false;
        for want in wanted {
            let begun = Instant::now();
            let place = usize::try_from(want.op).unwrap_or(usize::MAX);
            let Some(Op { key, change: Change::Put(entry), .. }) = self.batch.ops.get(place) else {
                return Some(Event::Failed(
                    "the peer asks for content that no file has".to_owned(),
                ));
            };
            let Kind::File(content) = entry.kind.clone() else {
                return Some(Event::Failed(
                    "the peer asks for content that no file has".to_owned(),
                ));
            };
            let key = key.clone();
            let none = Chunks::new();
            let kept = self.batch.contents.remove(&want.op).unwrap_or(none);
            let file = self.batch.files.remove(&want.op);
            let file = file.or_else(|| pass.of(&key)?.1.open_file(&key.path).ok());
            for &chunk in &want.chunks {
                if (around.interrupted)() {
                    return Some(Event::Failed(Fault::Interrupted.to_string()));
                }
                let bytes = match (kept.get(&chunk), &file) {
                    (Some(bytes), _) => Some(bytes.clone()),
                    (None, Some(file)) => {
                        hash::chunk(file, chunk, content.chunk_bytes, content.size).ok()
                    }
                    (None, None) => None,
                };
                let Some(bytes) = bytes else {
                    dropped = true;
                    if let Err(end) = self.drop_change(want.op, &key, around) {
                        return Some(end);
                    }
                    break;
                };
                let hash = hash::hash_chunk(&bytes);
                if content.chunks.get(chunk as usize) != Some(&hash) {
                    self.series.amend(&key, chunk, hash);
                }
                self.sent.bytes += bytes.len() as u64;
                if let Err(end) = self.say(ToReceiver::Data { op: want.op, chunk, bytes }, around) {
                    return Some(end);
                }
            }
            self.series.add_cost(&key, begun.elapsed());
        }
        Some(Event::Sent { dropped })
    }

    /// A file cannot be read any more: the peer keeps what it has at this name, and at those that were to
    /// become links of it.
    fn drop_change(&mut self, op: u32, key: &Key, around: &mut Around<'_>) -> Result<(), Event> {
        let links_here = |other: &Op| match &other.change {
            Change::Put(Entry { kind: Kind::Link { to }, .. }) => {
                other.key.tree == key.tree && *to == key.path
            }
            Change::Put(_) | Change::Delete => false,
        };
        let links = (0u32..).zip(&self.batch.ops).filter(|(_, other)| links_here(other));
        let mut gone: Vec<(u32, Key)> =
            links.map(|(place, other)| (place, other.key.clone())).collect();
        gone.push((op, key.clone()));
        for (op, key) in gone {
            let done = self.series.drop_change(&key, around.index);
            done.map_err(|error| Event::Failed(error.to_string()))?;
            self.say(ToReceiver::Drop { op }, around)?;
        }
        Ok(())
    }

    fn say(&mut self, message: ToReceiver, around: &mut Around<'_>) -> Result<(), Event> {
        let envelope = Envelope { generation: self.generation, message };
        around.connection.say(&envelope).map_err(Event::Cut)
    }

    fn record(&mut self, commit: u64, conflicts: u64, around: &Around<'_>) -> Result<Event, Fault> {
        let position = Position { generation: self.generation, commit };
        let done = std::mem::take(&mut self.series);
        self.refusals.free(|key| done.has(key) && !done.leaves_out(key));
        let whole = !self.hints.backlog().has_before(self.meant);
        self.brake.passed(Instant::now(), whole);
        self.ahead.free(|key| done.has(key));
        self.sent.fuzzy += u64::from(done.is_fuzzy());
        let (forced, rests) = (&mut self.forced, &mut self.rests);
        done.record(around.trees, around.index, Some(position), forced, rests)?;
        self.batch = Batch::default();
        self.unrecorded = false;
        self.sent.commit = commit;
        self.sent.peer_conflicts = conflicts;
        Ok(Event::Recorded)
    }
}

fn compare_buckets(theirs: &[Digest], index: &Index) -> Result<Event, Fault> {
    let ours = index.bucket_digests()?;
    let differ = (0u16..).zip(ours.iter().zip(theirs)).filter(|(_, (ours, theirs))| ours != theirs);
    Ok(Event::Differ(differ.map(|(bucket, _)| bucket).collect()))
}
