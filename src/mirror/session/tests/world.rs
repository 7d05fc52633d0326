//! The model: an owner with a disk, an index and dirty marks; a standby with a tree, a staging area and
//! a journal; a link whose messages really are bytes.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::config::NodeIndex;
use crate::core::{Generation, Time};
use crate::limits;
use crate::mirror::entry::{Content, Digest, Entry, Key, Kind, RelPath, Stamp, TreeId};
use crate::mirror::lineage::Lineage;
use crate::mirror::proto::{
    self, Change, Differ, Envelope, Op, Past, ToReceiver, ToSender, Trouble, Wanted,
};
use crate::mirror::session::receiver::{self, Receiver};
use crate::mirror::session::sender::{self, Gathered, Sender, SenderState, Verdict};

/// A tree: names with the number of the write that made them what they are.
pub type Tree = BTreeMap<Key, u64>;

/// Changes in one batch of the model.
const BATCH: usize = 2;
/// Names in one listing of the model.
const LISTING: usize = 2;

pub const GENERATION: Generation = Generation { number: 7, owner: NodeIndex::Lower, id: 99 };

/// Where the standby's trees stand, as far as the model goes.
pub const PAST: Past = Past { position: None, empty: true };

/// What can be made to fail once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Walk,
    Compare,
    Gather,
    Begin,
    Record,
    Change,
    Open,
    Stage,
    Write,
    Harden,
    Apply,
    Verify,
}

impl Fault {
    pub const ALL: [Fault; 12] = [
        Fault::Walk,
        Fault::Compare,
        Fault::Gather,
        Fault::Begin,
        Fault::Record,
        Fault::Change,
        Fault::Open,
        Fault::Stage,
        Fault::Write,
        Fault::Harden,
        Fault::Apply,
        Fault::Verify,
    ];
}

pub fn key(number: u8) -> Key {
    Key { tree: TreeId(number % 2), path: RelPath::new(format!("f{number}").as_bytes()).unwrap() }
}

/// The content that a write leaves; every seventh has two chunks.
fn bytes_of(write: u64) -> Vec<u8> {
    let copies = if write.is_multiple_of(7) { 300_000 / 8 } else { 1 };
    write.to_le_bytes().repeat(copies)
}

thread_local! {
    /// Hashing the large ones again and again takes most of a test's time.
    static ENTRIES: RefCell<BTreeMap<u64, Entry>> = const { RefCell::new(BTreeMap::new()) };
}

pub fn entry_of(write: u64) -> Entry {
    ENTRIES.with_borrow_mut(|known| known.entry(write).or_insert_with(|| make(write)).clone())
}

fn make(write: u64) -> Entry {
    let bytes = bytes_of(write);
    let chunk_bytes = Content::chunk_bytes_for(bytes.len() as u64);
    let chunks = bytes.chunks(chunk_bytes as usize).map(|chunk| *blake3::hash(chunk).as_bytes());
    let content = Content { size: bytes.len() as u64, chunk_bytes, chunks: chunks.collect() };
    let mtime = Stamp { s: write as i64, ns: 0 };
    Entry { kind: Kind::File(content), mode: 0o644, uid: 0, gid: 0, mtime, xattrs: Vec::new() }
}

fn content(op: &Op) -> Option<&Content> {
    match &op.change {
        Change::Put(Entry { kind: Kind::File(content), .. }) => Some(content),
        Change::Put(_) | Change::Delete => None,
    }
}

fn bucket_of(key: &Key) -> u16 {
    u16::from(key.path.as_bytes()[1] % 3)
}

fn buckets(tree: &Tree) -> Vec<Digest> {
    let mut sums = vec![0u128; limits::BUCKETS];
    for (key, &write) in tree {
        let digest = u128::from_le_bytes(entry_of(write).digest(key));
        let sum = &mut sums[usize::from(bucket_of(key))];
        *sum = sum.wrapping_add(digest);
    }
    sums.into_iter().map(u128::to_le_bytes).collect()
}

fn digest(tree: &Tree) -> Digest {
    let hash = blake3::hash(&buckets(tree).concat());
    *hash.as_bytes().first_chunk().unwrap()
}

fn listing(tree: &Tree, bucket: u16) -> impl Iterator<Item = (Key, Digest)> {
    tree.iter()
        .filter(move |(key, _)| bucket_of(key) == bucket)
        .map(|(key, &write)| (key.clone(), entry_of(write).digest(key)))
}

#[derive(Default)]
struct Owner {
    disk: Tree,
    index: Tree,
    dirty: BTreeSet<Key>,
    /// Names that differ on the peer: offered even if the index has them so.
    forced: BTreeSet<Key>,
    /// The series: all its changes, how many were offered, and the batch that was offered last.
    series: Vec<Op>,
    offered: usize,
    batch: Vec<Op>,
    /// It is noted that the peer may have it.
    begun: bool,
    /// Names whose changes were left out of the series.
    dropped: Vec<Key>,
}

#[derive(Default)]
struct Standby {
    tree: Tree,
    staged: Vec<Op>,
    chunks: BTreeSet<[u8; 32]>,
    batch: Vec<Op>,
    /// Places in `batch`.
    dropped: BTreeSet<usize>,
    journal: Option<Vec<Op>>,
    /// What somebody changed there, and the owner was not told.
    differ: Differ,
}

impl Standby {
    fn has(&self, chunk: &[u8; 32]) -> bool {
        let in_tree = |&write: &u64| match entry_of(write).kind {
            Kind::File(content) => content.chunks.contains(chunk),
            _ => false,
        };
        self.tree.values().any(in_tree)
    }

    fn discard(&mut self) {
        self.staged.clear();
        self.chunks.clear();
        self.dropped.clear();
    }

    fn redo(&mut self) {
        for op in self.journal.take().into_iter().flatten() {
            match op.change {
                Change::Put(entry) => self.tree.insert(op.key, entry.mtime.s as u64),
                Change::Delete => self.tree.remove(&op.key),
            };
        }
    }
}

/// What happens to the message of a number.
#[derive(Clone, Copy, Debug)]
pub enum Strike {
    Cut,
    RestartOwner,
    RestartStandby,
    Drop,
    Double,
    Swap,
    /// This bit of it flips.
    Flip(usize),
}

pub struct World {
    pub now: Time,
    pub sender: Sender,
    pub receiver: Receiver,
    owner: Owner,
    standby: Standby,
    linked: bool,
    to_receiver: VecDeque<Vec<u8>>,
    to_sender: VecDeque<Vec<u8>>,
    /// Messages that were delivered, or struck.
    pub delivered: usize,
    strike: Option<(usize, Strike)>,
    faults: BTreeSet<Fault>,
    writes: u64,
    /// The standby's first tree, then the owner's at the beginning of each series.
    wholes: Vec<Tree>,
    /// Each barrier with how many wholes there were before; those that are done, at most.
    barriers: BTreeMap<u64, usize>,
    pub done: u64,
    /// The tree is one of the wholes from here on.
    newest_sure: usize,
    pub told: Vec<SenderState>,
    /// Whether a bit was flipped, or somebody changed the standby's tree: then nothing is known of it.
    spoilt: bool,
    /// How often the standby was asked.
    pub verified: u32,
}

fn new_sender() -> Sender {
    Sender::new(GENERATION, "web".into(), trees(), 1)
}

fn new_receiver() -> Receiver {
    Receiver::new(GENERATION, "web".into(), trees())
}

pub fn trees() -> Vec<String> {
    vec!["/srv/www".into(), "/srv/mail".into()]
}

impl World {
    /// An owner and a standby with what an earlier life left on it.
    pub fn new(standby: Tree) -> World {
        World {
            now: Time(0),
            sender: new_sender(),
            receiver: new_receiver(),
            owner: Owner::default(),
            wholes: vec![standby.clone()],
            standby: Standby { tree: standby, ..Standby::default() },
            linked: false,
            to_receiver: VecDeque::new(),
            to_sender: VecDeque::new(),
            delivered: 0,
            strike: None,
            faults: BTreeSet::new(),
            writes: 1000,
            barriers: BTreeMap::new(),
            done: 0,
            newest_sure: 0,
            told: Vec::new(),
            spoilt: false,
            verified: 0,
        }
    }

    pub fn strike_at(&mut self, message: usize, strike: Strike) {
        self.strike = Some((message, strike));
    }

    pub fn fail_once(&mut self, fault: Fault) {
        self.faults.insert(fault);
    }

    /// Writes a file on the owner; `seen`: the watch tells.
    pub fn write(&mut self, name: u8, seen: bool) {
        self.writes += 1;
        self.owner.disk.insert(key(name), self.writes);
        self.mark(name, seen);
    }

    pub fn delete(&mut self, name: u8, seen: bool) {
        self.owner.disk.remove(&key(name));
        self.mark(name, seen);
    }

    /// Somebody writes on the standby; `seen`: it is told at once, else when the standby is asked.
    pub fn meddle(&mut self, name: u8, seen: bool) {
        self.spoilt = true;
        self.standby.tree.insert(key(name), 1_000_000 + u64::from(name));
        self.standby.differ.add(&key(name));
        if seen {
            let differ = std::mem::take(&mut self.standby.differ);
            self.receiver.handle(self.now, receiver::Event::Differs(differ));
        }
    }

    fn mark(&mut self, name: u8, seen: bool) {
        if seen {
            self.owner.dirty.insert(key(name));
            self.sender.handle(self.now, sender::Event::Dirty);
        }
    }

    pub fn barrier(&mut self) -> u64 {
        let id = self.barriers.keys().max().unwrap_or(&0) + 1;
        self.barriers.insert(id, self.wholes.len());
        self.sender.handle(self.now, sender::Event::Barrier { id, sync: true, owes: false });
        id
    }

    pub fn cut(&mut self) {
        self.break_link();
        self.sender.handle(self.now, sender::Event::Cut("pulled".into()));
        self.receiver.handle(self.now, receiver::Event::Cut);
    }

    pub fn restart_owner(&mut self) {
        self.break_link();
        self.receiver.handle(self.now, receiver::Event::Cut);
        let Owner { disk, index, .. } = std::mem::take(&mut self.owner);
        self.owner = Owner { disk, index, ..Owner::default() };
        self.sender = new_sender();
        self.told.clear();
        // Whoever waits for a barrier asks again.
        let asked = self.barriers.keys().max().copied();
        for id in asked.into_iter().filter(|&id| id > self.done) {
            self.sender.handle(self.now, sender::Event::Barrier { id, sync: true, owes: false });
        }
    }

    pub fn restart_standby(&mut self) {
        self.break_link();
        self.sender.handle(self.now, sender::Event::Cut("reset by peer".into()));
        let Standby { tree, journal, .. } = std::mem::take(&mut self.standby);
        self.standby = Standby { tree, journal, ..Standby::default() };
        self.receiver = new_receiver();
    }

    fn break_link(&mut self) {
        self.linked = false;
        self.to_receiver.clear();
        self.to_sender.clear();
    }

    /// Runs until nothing more happens by itself, and at least for `at_least`.
    pub fn settle(&mut self, at_least: Duration) {
        let until = self.now + at_least;
        for _ in 0..20_000 {
            if !self.step() && self.linked {
                let idle = self.told.last() == Some(&SenderState::InSync);
                if idle && self.now >= until {
                    return;
                }
                self.wait();
            } else if !self.linked {
                self.link();
            }
        }
        panic!("it does not settle: {:?}\n{:?}", self.sender, self.receiver);
    }

    /// So many steps, whatever they are.
    pub fn steps(&mut self, count: usize) {
        for _ in 0..count {
            if !self.linked {
                self.link();
            } else if !self.step() && self.linked {
                self.wait();
            }
        }
    }

    fn link(&mut self) {
        self.now = self.now + limits::MIRROR_RETRY;
        self.linked = true;
        self.sender.handle(self.now, sender::Event::Linked);
        self.receiver.handle(self.now, receiver::Event::Linked);
        self.work();
    }

    fn wait(&mut self) {
        let (ours, theirs) = (self.sender.next_deadline(), self.receiver.next_deadline());
        let next = [ours, theirs].into_iter().flatten().min();
        self.now = self.now.max(next.expect("nobody waits for anything"));
        self.sender.handle(self.now, sender::Event::Tick);
        self.receiver.handle(self.now, receiver::Event::Tick);
        self.work();
    }

    /// Delivers one message; `false`: there is none.
    fn step(&mut self) -> bool {
        self.work();
        if self.to_receiver.is_empty() && self.to_sender.is_empty() {
            return false;
        }
        self.now = self.now + Duration::from_millis(1);
        let number = self.delivered;
        self.delivered += 1;
        if let Some((at, strike)) = self.strike
            && at == number
        {
            self.strike = None;
            self.do_strike(strike);
        } else if let Some(bytes) = self.to_receiver.pop_front() {
            self.deliver_to_receiver(&bytes);
        } else if let Some(bytes) = self.to_sender.pop_front() {
            self.deliver_to_sender(&bytes);
        }
        self.work();
        true
    }

    fn do_strike(&mut self, strike: Strike) {
        let queue = match self.to_receiver.is_empty() {
            false => &mut self.to_receiver,
            true => &mut self.to_sender,
        };
        match strike {
            Strike::Cut => self.cut(),
            Strike::RestartOwner => self.restart_owner(),
            Strike::RestartStandby => self.restart_standby(),
            Strike::Drop => drop(queue.pop_front()),
            Strike::Double => {
                let first = queue.front().cloned();
                queue.extend(first);
            }
            Strike::Swap => queue.rotate_left(1),
            Strike::Flip(bit) => {
                self.spoilt = true;
                let message = queue.front_mut().unwrap();
                let byte = bit / 8 % message.len();
                message[byte] ^= 1 << (bit % 8);
            }
        }
    }

    fn deliver_to_receiver(&mut self, bytes: &[u8]) {
        match proto::decode::<ToReceiver>(bytes) {
            Ok(envelope) => self.receiver.handle(self.now, receiver::Event::Heard(envelope)),
            Err(_) => self.cut(),
        }
    }

    fn deliver_to_sender(&mut self, bytes: &[u8]) {
        match proto::decode::<ToSender>(bytes) {
            Ok(envelope) => self.sender.handle(self.now, sender::Event::Heard(envelope)),
            Err(_) => self.cut(),
        }
    }

    /// Carries out all commands.
    fn work(&mut self) {
        loop {
            if let Some(command) = self.sender.poll() {
                if let Some(answer) = self.send_work(command) {
                    self.sender.handle(self.now, answer);
                }
            } else if let Some(command) = self.receiver.poll() {
                if let Some(answer) = self.receive_work(command) {
                    self.receiver.handle(self.now, answer);
                }
            } else {
                return self.check();
            }
        }
    }

    fn send_work(&mut self, command: sender::Command) -> Option<sender::Event> {
        use sender::{Command, Event};
        let failed = |what: &str| Some(Event::Failed(what.into()));
        match command {
            Command::Say(envelope) => {
                self.send(&envelope);
                None
            }
            Command::Walk { sync: _ } if self.faults.remove(&Fault::Walk) => failed("walk"),
            Command::Walk { sync: _ } => {
                let Owner { disk, index, dirty, .. } = &mut self.owner;
                let names = disk.keys().chain(index.keys());
                dirty.extend(names.filter(|key| disk.get(key) != index.get(key)).cloned());
                Some(Event::Walked { digest: digest(index) })
            }
            Command::Judge { .. } => {
                let (verdict, lineage) = (Verdict::Follows, Lineage::default());
                Some(Event::Judged { verdict, lineage })
            }
            Command::CompareBuckets(_) if self.faults.remove(&Fault::Compare) => failed("compare"),
            Command::CompareBuckets(theirs) => {
                let ours = buckets(&self.owner.index);
                let differ = (0..).zip(ours.iter().zip(&theirs)).filter(|(_, (a, b))| a != b);
                Some(Event::Differ(differ.map(|(bucket, _)| bucket).collect()))
            }
            Command::CompareListing { bucket, entries } => {
                let ours: BTreeMap<_, _> = listing(&self.owner.index, bucket).collect();
                let theirs: BTreeMap<_, _> = entries.into_iter().collect();
                for key in ours.keys().chain(theirs.keys()) {
                    if ours.get(key) != theirs.get(key) {
                        self.owner.dirty.insert(key.clone());
                        self.owner.forced.insert(key.clone());
                    }
                }
                Some(Event::Compared)
            }
            Command::Gather { .. } if self.faults.remove(&Fault::Gather) => failed("gather"),
            Command::Gather { batch } => {
                self.owner.begun = false;
                Some(Event::Gathered(self.gather(batch)))
            }
            Command::Begin { .. } if self.faults.remove(&Fault::Begin) => failed("begin"),
            Command::Begin { .. } => {
                self.owner.begun = true;
                None
            }
            Command::Stream { wanted } => self.stream(&wanted),
            Command::LeaveOut(_) => None,
            Command::Record { .. } if self.faults.remove(&Fault::Record) => failed("record"),
            Command::Record { .. } => {
                let Owner { disk, index, dirty, forced, series, .. } = &mut self.owner;
                for op in series.drain(..) {
                    match op.change {
                        Change::Put(entry) => index.insert(op.key.clone(), entry.mtime.s as u64),
                        Change::Delete => index.remove(&op.key),
                    };
                    forced.remove(&op.key);
                    if disk.get(&op.key) == index.get(&op.key) {
                        dirty.remove(&op.key);
                    }
                }
                Some(Event::Recorded)
            }
            Command::Done(id) => {
                assert!(self.done < id, "barrier {id} after {}", self.done);
                self.done = id;
                let since = *self.barriers.range(..=id).map(|(_, since)| since).max().unwrap();
                self.newest_sure = self.newest_sure.max(since);
                None
            }
            Command::Disconnect(_) => {
                self.break_link();
                self.receiver.handle(self.now, receiver::Event::Cut);
                None
            }
            Command::Tell(_) => None,
            Command::State(state) => {
                assert_ne!(self.told.last(), Some(&state));
                self.told.push(state);
                None
            }
        }
    }

    /// A series is what is dirty at its beginning, as it is then.
    fn gather(&mut self, batch: u32) -> Gathered {
        let owner = &mut self.owner;
        if batch == 0 {
            let Owner { disk, index, dirty, forced, .. } = owner;
            let differs = |key: &&Key| forced.contains(*key) || disk.get(*key) != index.get(*key);
            let op = |key: &Key| {
                let put = |&write: &u64| Change::Put(entry_of(write));
                Op {
                    key: key.clone(),
                    change: disk.get(key).map_or(Change::Delete, put),
                    keep: false,
                }
            };
            owner.series = dirty.iter().filter(differs).map(op).collect();
            owner.offered = 0;
            owner.dropped.clear();
            self.wholes.push(self.standby_after(&self.owner.series));
        }
        let owner = &mut self.owner;
        let rest = &owner.series[owner.offered..];
        owner.batch = rest[..rest.len().min(BATCH)].to_vec();
        owner.offered += owner.batch.len();
        let more = owner.offered < owner.series.len();
        Gathered { ops: owner.batch.clone(), fuzzy: false, more, ahead: false, owes: false }
    }

    /// What the owner's names are after the series: what is not dirty is on the peer already.
    fn standby_after(&self, series: &[Op]) -> Tree {
        let mut tree = self.owner.index.clone();
        for op in series {
            match &op.change {
                Change::Put(entry) => tree.insert(op.key.clone(), entry.mtime.s as u64),
                Change::Delete => tree.remove(&op.key),
            };
        }
        tree
    }

    fn stream(&mut self, wanted: &[Wanted]) -> Option<sender::Event> {
        let fails = self.faults.remove(&Fault::Change);
        let mut dropped = Vec::new();
        for want in wanted {
            let op = &self.owner.batch[want.op as usize];
            let Change::Put(entry) = &op.change else { panic!("a deletion has no bytes") };
            let write = entry.mtime.s as u64;
            if fails || self.owner.disk.get(&op.key) != Some(&write) {
                dropped.push(op.key.clone());
                let message = ToReceiver::Drop { op: want.op };
                self.send(&Envelope { generation: GENERATION, message });
                continue;
            }
            let (bytes, step) = (bytes_of(write), content(op).unwrap().chunk_bytes as usize);
            for &chunk in &want.chunks {
                let bytes = bytes.chunks(step).nth(chunk as usize).unwrap().to_vec();
                let message = ToReceiver::Data { op: want.op, chunk, bytes };
                self.send(&Envelope { generation: GENERATION, message });
            }
        }
        if !dropped.is_empty() {
            let owner = &mut self.owner;
            let before = owner.series.len();
            owner.series.retain(|op| !dropped.contains(&op.key));
            owner.offered -= before - owner.series.len();
            owner.dropped.extend(dropped.iter().cloned());
            // What is dropped stays as it is there.
            let mut whole = self.standby_after(&self.owner.series);
            for key in &self.owner.dropped {
                match self.standby.tree.get(key) {
                    Some(&write) => whole.insert(key.clone(), write),
                    None => whole.remove(key),
                };
            }
            self.wholes.push(whole);
        }
        Some(sender::Event::Sent { dropped: !dropped.is_empty() })
    }

    fn send(&mut self, envelope: &Envelope<ToReceiver>) {
        if self.linked {
            self.to_receiver.push_back(proto::encode(envelope).unwrap());
        }
    }

    fn receive_work(&mut self, command: receiver::Command) -> Option<receiver::Event> {
        use receiver::{Command, Event};
        let failed = |what: &str| Some(Event::Failed(Trouble::Failed(what.into())));
        let standby = &mut self.standby;
        match command {
            Command::Say(envelope) => {
                if self.linked {
                    self.to_sender.push_back(proto::encode(&envelope).unwrap());
                }
                None
            }
            Command::Open if self.faults.remove(&Fault::Open) => {
                Some(Event::Failed(Trouble::Root("no root".into())))
            }
            Command::Open => {
                standby.discard();
                standby.redo();
                Some(Event::Opened { digest: digest(&standby.tree), commit: 0, past: PAST })
            }
            // Only a flipped bit asks for it here; the owner compares again.
            Command::Adopt { disown, .. } => disown.then(|| Event::Opened {
                digest: digest(&standby.tree),
                commit: 0,
                past: PAST,
            }),
            // Only a flipped bit disputes anything here, or sends a file ahead.
            Command::Disputed(_) | Command::KeepAhead { .. } => None,
            Command::ReadBuckets => Some(Event::BucketsRead(buckets(&standby.tree))),
            Command::ReadListing { bucket, after } => {
                let mut rest = listing(&standby.tree, bucket)
                    .filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
                let entries: Vec<_> = rest.by_ref().take(LISTING).collect();
                Some(Event::ListingRead { entries, more: rest.next().is_some() })
            }
            Command::Stage { .. } if self.faults.remove(&Fault::Stage) => {
                Some(Event::Failed(Trouble::NoRoom { needed: 1, reserve: 0, path: "/srv".into() }))
            }
            Command::Stage { batch, ops, .. } => {
                if batch == 0 {
                    assert!(standby.staged.is_empty(), "what was staged before was not discarded");
                    assert!(standby.journal.is_none(), "a series before the last one is applied");
                }
                let wanted = (0..).zip(&ops).map(|(op, change)| {
                    let chunks = content(change).map_or(&[][..], |content| &content.chunks);
                    let missing = (0..).zip(chunks).filter(|(_, chunk)| !standby.has(chunk));
                    Wanted { op, chunks: missing.map(|(chunk, _)| chunk).collect() }
                });
                let wanted = wanted.filter(|want| !want.chunks.is_empty()).collect();
                standby.batch = ops;
                Some(Event::Staged { wanted, refused: Vec::new() })
            }
            Command::Write { .. } if self.faults.remove(&Fault::Write) => failed("write"),
            Command::Write { op, chunk, bytes } => {
                let hash = *blake3::hash(&bytes).as_bytes();
                let offered = content(&standby.batch[op as usize]).unwrap().chunks[chunk as usize];
                if offered != hash {
                    return failed("not the bytes that were offered");
                }
                standby.chunks.insert(hash);
                Some(Event::Written)
            }
            Command::Drop { op } => {
                standby.dropped.insert(op as usize);
                Some(Event::Written)
            }
            Command::MakeDurable { .. } if self.faults.remove(&Fault::Harden) => failed("fsync"),
            Command::MakeDurable { last } => {
                let batch = std::mem::take(&mut standby.batch);
                let dropped = std::mem::take(&mut standby.dropped);
                let kept = (0..).zip(batch).filter(|(op, _)| !dropped.contains(op));
                let batch: Vec<Op> = kept.map(|(_, op)| op).collect();
                for chunk in batch.iter().filter_map(content).flat_map(|content| &content.chunks) {
                    assert!(standby.chunks.contains(chunk) || standby.has(chunk), "a hole");
                }
                standby.staged.extend(batch);
                if last {
                    assert!(self.owner.begun, "the owner's disk knows nothing of it");
                    standby.journal = Some(std::mem::take(&mut standby.staged));
                    standby.chunks.clear();
                }
                Some(Event::Durable)
            }
            Command::Apply if self.faults.remove(&Fault::Apply) => failed("apply"),
            Command::Apply => {
                assert!(standby.journal.is_some());
                standby.redo();
                Some(Event::Applied { conflicts: 0, unfinished: Vec::new() })
            }
            Command::Verify if self.faults.remove(&Fault::Verify) => failed("verify"),
            Command::Verify => {
                self.verified += 1;
                Some(Event::Verified(std::mem::take(&mut standby.differ)))
            }
            Command::Discard => {
                standby.discard();
                None
            }
            Command::Disconnect(_) => {
                self.break_link();
                self.sender.handle(self.now, sender::Event::Cut("hung up".into()));
                None
            }
        }
    }

    /// The standby's tree is a whole one, not older than the last barrier.
    fn check(&self) {
        let whole = self.wholes[self.newest_sure..].contains(&self.standby.tree);
        assert!(self.spoilt || whole, "{:?} is no whole", self.standby.tree);
    }

    /// Whether both have the same.
    pub fn agree(&self) -> bool {
        self.owner.disk == self.standby.tree && self.owner.index == self.standby.tree
    }

    pub fn standby_tree(&self) -> &Tree {
        &self.standby.tree
    }
}
