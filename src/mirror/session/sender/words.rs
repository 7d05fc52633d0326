//! What a sender is told and what it asks for.

use crate::mirror::entry::{Digest, Key};
use crate::mirror::lineage::Lineage;
use crate::mirror::proto::{Differ, Envelope, Op, Past, Refused, ToReceiver, ToSender, Wanted};

/// What happens to a sender.
#[derive(Clone, Debug)]
pub enum Event {
    /// There is a new link to the peer; nothing of an earlier one is heard any more.
    Linked,
    /// The link is gone, or there could be none: why, in words. Not after [`Command::Disconnect`].
    Cut(String),
    /// The peer says this.
    Heard(Envelope<ToSender>),
    /// Answer to [`Command::Walk`]: every name that differs from the index is marked dirty.
    Walked {
        /// Digest of this node's index.
        digest: Digest,
    },
    /// Answer to [`Command::Judge`].
    Judged {
        /// May the peer's trees be replaced?
        verdict: Verdict,
        /// What the trees here contain.
        lineage: Lineage,
    },
    /// Answer to [`Command::CompareBuckets`]: the buckets that differ.
    Differ(Vec<u16>),
    /// Answer to [`Command::CompareListing`].
    Compared,
    /// Answer to [`Command::Gather`].
    Gathered(Gathered),
    /// Answer to [`Command::Stream`]: all was sent.
    Sent {
        /// But for changes that were dropped: their names are dirty still.
        dropped: bool,
    },
    /// Answer to [`Command::Record`]: the index is committed.
    Recorded,
    /// Answer to any command: it could not be done here; why, in words.
    Failed(String),
    /// Something changed in the trees, and is marked.
    Dirty,
    /// [`Command::Done`] is wanted for everything written before now. Numbers rise, from 1.
    Barrier {
        /// Its number; a higher one includes the lower ones.
        id: u64,
        /// After a syncfs(2): it shall be on this node's disk, too.
        sync: bool,
        /// Names wait that were told before now: their series come before the walk of this barrier.
        owes: bool,
    },
    /// Time has passed.
    Tick,
}

/// Whether the peer's trees may be replaced by what is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What is here contains them, or nothing is in them.
    Follows,
    /// It does not, and a person has said that they may be replaced: all of it is kept first.
    Approved,
    /// It does not: a person must decide. Why, and what to do.
    Conflict(String),
}

/// A batch as it was gathered.
#[derive(Clone, Debug, Default)]
pub struct Gathered {
    /// The changes, within [`BATCH_OPS_MAX`](crate::limits::BATCH_OPS_MAX) and [`BATCH_OFFER_BYTES_MAX`](crate::limits::BATCH_OFFER_BYTES_MAX).
    pub ops: Vec<Op>,
    /// Names changed while they were read, round after round.
    pub fuzzy: bool,
    /// Of what was dirty when the series began, something is left for another batch.
    pub more: bool,
    /// Large files that were dirty then are on their way, and come with a later series: `Dirty` says when.
    pub ahead: bool,
    /// Names that a barrier waits for are left for another series.
    pub owes: bool,
}

/// What is to be done for a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send this.
    Say(Envelope<ToReceiver>),
    /// Bring the dirty marks in line with the disk; with `sync` after a syncfs(2), and thoroughly: what
    /// was written before this command must not be missed.
    Walk {
        /// A barrier asks for it.
        sync: bool,
    },
    /// Find out whether the peer's trees, which stand there, may be replaced.
    Judge {
        /// Where they stand.
        past: Past,
        /// Newest commit that the peer knows of.
        commit: u64,
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
    /// The peer may soon have this series as a commit of the same number: note that the trees here have what it brings,
    /// durably, before anything else is sent.
    Begin {
        /// Number of the series.
        series: u64,
    },
    /// Read these chunks of the batch and send each as `Data`, in this order; or `Drop` a change that
    /// cannot be read any more. No `Close`. If the link breaks, the answer is [`Event::Cut`]. May look for messages meanwhile: see
    /// [`Sender::is_streaming`](super::Sender::is_streaming).
    Stream {
        /// The chunks.
        wanted: Vec<Wanted>,
    },
    /// The peer cannot take these names of the series, each for a reason of its own: they are not in what
    /// is recorded, and are offered again after a while.
    LeaveOut(Vec<Refused>),
    /// Make what was gathered of this series the index: the peer has it, durable and applied.
    Record {
        /// Number of the series.
        series: u64,
        /// Files in the peer's conflict store.
        conflicts: u64,
    },
    /// All barriers up to this one are kept.
    Done(u64),
    /// Tell the administrator: somebody changed the peer's copy.
    Tell(Differ),
    /// Close the link: why, in words. There may be another one after [`MIRROR_RETRY`](crate::limits::MIRROR_RETRY).
    Disconnect(String),
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
    /// So many names of the peer's copy were changed there, and go back to what they were.
    Restoring(u64),
    /// The peer is not reached or cannot take more; why, in words.
    Behind(String),
    /// A root is missing or foreign, a disk refuses, or the peer does; why, in words.
    Blocked(String),
    /// A person must decide whose trees are kept; why, in words.
    Conflict(String),
}
