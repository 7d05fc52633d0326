//! What a receiver is told and what it asks for.

use crate::mirror::entry::{Digest, Key};
use crate::mirror::lineage::Lineage;
use crate::mirror::proto::{
    Differ, Envelope, Op, Past, Refused, ToReceiver, ToSender, Trouble, Wanted,
};

/// What happens to a receiver.
#[derive(Clone, Debug)]
pub enum Event {
    /// There is a new link from the peer; nothing of an earlier one is heard any more.
    Linked,
    /// The link is gone.
    Cut,
    /// The peer says this.
    Heard(Envelope<ToReceiver>),
    /// Answer to [`Command::Open`].
    Opened {
        /// Digest of this node's index.
        digest: Digest,
        /// Newest commit that the index knows, one that was begun here among them.
        commit: u64,
        /// Where the trees stand.
        past: Past,
    },
    /// Answer to [`Command::ReadBuckets`]: [`BUCKETS`](crate::limits::BUCKETS) digests.
    BucketsRead(Vec<Digest>),
    /// Answer to [`Command::ReadListing`].
    ListingRead {
        /// The next names, at most [`LISTING_ENTRIES_MAX`](crate::limits::LISTING_ENTRIES_MAX).
        entries: Vec<(Key, Digest)>,
        /// There are more after them.
        more: bool,
    },
    /// Answer to [`Command::Stage`].
    Staged {
        /// What is not here, in order of op and chunk.
        wanted: Vec<Wanted>,
        /// What cannot be done.
        refused: Vec<Refused>,
    },
    /// Answer to [`Command::Write`] and [`Command::Drop`].
    Written,
    /// Answer to [`Command::MakeDurable`].
    Durable,
    /// Answer to [`Command::Apply`].
    Applied {
        /// Files in the conflict store, in all.
        conflicts: u64,
        /// What could not be finished.
        unfinished: Vec<Refused>,
    },
    /// Answer to [`Command::Verify`]: the names that differ, all of them in no commit by now.
    Verified(Differ),
    /// Somebody changed the copy here: the names that differ, all of them in no commit by now.
    Differs(Differ),
    /// Answer to any command: it could not be done. Of a series that was not durable in whole, nothing
    /// counts any more; one that was stays, to be applied later.
    Failed(Trouble),
    /// Time has passed.
    Tick,
}

/// What is to be done for a receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send this.
    Say(Envelope<ToSender>),
    /// Check the roots, apply what an earlier session left durable in whole and discard what not, bring
    /// the index in line with the disk by a walk.
    Open,
    /// The copy that comes contains this. With `disown` nothing in the trees counts as common any more;
    /// answered as `Open` then, else not.
    Adopt {
        /// What it contains.
        lineage: Lineage,
        /// See above.
        disown: bool,
    },
    /// The owner does not replace the trees here by itself: why, in words.
    Disputed(String),
    /// Read the digests of all buckets.
    ReadBuckets,
    /// Read what is in a bucket.
    ReadListing {
        /// Which.
        bucket: u16,
        /// Begin behind this name.
        after: Option<Key>,
    },
    /// Prepare a batch beside the trees and find what is not here. Batch 0 begins a series.
    Stage {
        /// Number of the series.
        series: u64,
        /// Number of the batch.
        batch: u32,
        /// It is the last one.
        last: bool,
        /// As in `Offer`.
        fuzzy: bool,
        /// The changes; their form was checked.
        ops: Vec<Op>,
    },
    /// Write a chunk of the batch. Its place and length were checked; if its hash is not the one that was
    /// offered, it is the newer one.
    Write {
        /// Place of the op in its batch.
        op: u32,
        /// Place of the chunk in its file.
        chunk: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Nothing happens to this name after all: what is there stays.
    Drop {
        /// Place of the op in its batch.
        op: u32,
    },
    /// Make the batch durable. With `last` the series, too: from then on it is applied in any case,
    /// also after a crash.
    MakeDurable {
        /// The series ends with it.
        last: bool,
    },
    /// Apply the series that is durable in whole; again, if it was begun before.
    Apply,
    /// Look at every name that somebody here may have changed until now; what differs is in no commit.
    Verify,
    /// Keep this chunk for a later series, if there is room. Not answered.
    KeepAhead {
        /// Of which name.
        key: Key,
        /// Length of the file's chunks in bytes.
        chunk_bytes: u64,
        /// Place of the chunk in its file.
        chunk: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Throw away what was staged.
    Discard,
    /// Close the link: why, in words.
    Disconnect(String),
}
