//! The messages of a mirror session, and their bytes.
//!
//! ```text
//! owner (Sender)                              standby side (Receiver)
//!   | Hello{group, trees}                       |
//!   |------------------------------------------>|   refused: Refuse, and the end
//!   |                Welcome{digest, past, ...} |
//!   |<------------------------------------------|
//!   | Lineage{...}                              |   or Conflict, and the end: a person must decide
//!   |------------------------------------------>|   (disown: another Welcome)
//!   |  -- digests differ: --                    |
//!   | AskBuckets                                |
//!   |------------------------------------------>|
//!   |                          Buckets{digests} |
//!   |<------------------------------------------|
//!   | AskListing{bucket}  ...                   |
//!   |------------------------------------------>|
//!   |                Listing{entries, more} ... |
//!   |<------------------------------------------|
//!   |  -- then, for each batch of a series: --  |
//!   | Offer{series, batch, last, ops}           |
//!   |------------------------------------------>|
//!   |                 Need{series, batch, ...}  |
//!   |<------------------------------------------|
//!   | Data ... Data, Close                      |
//!   |------------------------------------------>|   staged and durable:
//!   |                   Acked{series, batch}    |
//!   |<------------------------------------------|   after the last batch: applied
//!   |                        Applied{series}    |
//!   |<------------------------------------------|
//!   |  -- at a barrier, when all is applied: -- |
//!   | Verify{barrier}                           |
//!   |------------------------------------------>|
//!   |                         Verified{barrier} |
//!   |<------------------------------------------|
//! ```
//! `Differs` comes at any time after `Welcome`: somebody changed the copy on the standby side. The owner
//! then asks for the buckets again, and sends what differs.
//!
//! Every message carries the generation that it belongs to; one of another generation is refused. A
//! message is postcard (a stable, documented format) behind its length; the transport below encrypts.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::entry::{Digest, Entry, Key};
use super::lineage::{Lineage, Position};
use crate::core::Generation;
use crate::limits;

/// Version of this protocol: refused if it differs.
pub const VERSION: u16 = 3;

/// A message with its generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<M> {
    /// The owner's generation of the group.
    pub generation: Generation,
    /// What is said.
    pub message: M,
}

/// What happens to a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// It becomes this, whatever was there.
    Put(Entry),
    /// It goes away, with everything below it.
    Delete,
}

/// One change of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    /// Which name.
    pub key: Key,
    /// What happens to it.
    pub change: Change,
    /// The owner has it so by nobody's order: what is replaced or deleted by this goes to the conflict
    /// store, also if it is what the last common commit left.
    pub keep: bool,
}

/// From the owner to the standby side.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToReceiver {
    /// Begins a session.
    Hello {
        /// [`VERSION`].
        version: u16,
        /// Name of the group.
        group: String,
        /// The trees' paths as configured, in order: both sides must mean the same.
        trees: Vec<String>,
    },
    /// Asks for the digests of all buckets.
    AskBuckets,
    /// Asks for everything in one bucket.
    AskListing {
        /// Number of the bucket, below [`limits::BUCKETS`].
        bucket: u16,
    },
    /// A batch of changes: what it will be, by hashes. A series is applied as one commit.
    Offer {
        /// Number of the series and of the commit that it becomes. It rises from attempt to attempt, also from session to
        /// session and from generation to generation.
        series: u64,
        /// Number of the batch within the series, from 0.
        batch: u32,
        /// The series ends with this batch.
        last: bool,
        /// Names changed while they were read, round after round: each file is whole, but the whole
        /// may never have existed at one instant.
        fuzzy: bool,
        /// The changes.
        ops: Vec<Op>,
    },
    /// A chunk that was needed. It may be another one than was offered: the file changed meanwhile, and
    /// this is what is there now.
    Data {
        /// Place of the op in its batch.
        op: u32,
        /// Place of the chunk in its file.
        chunk: u32,
        /// Its bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// All needed chunks of the batch were sent.
    Close {
        /// Series.
        series: u64,
        /// Batch.
        batch: u32,
    },
    /// What was staged of this series is void: this node cannot go on with it.
    Withdraw {
        /// Series.
        series: u64,
    },
    /// Are you there? Answered by `Pong`.
    Ping,
    /// Is the copy as the last commit left it? Answered by `Verified`, after `Differs` if it is not.
    Verify {
        /// Number of the barrier.
        barrier: u64,
    },
    /// A change of the batch is not to be made: its file cannot be read any more. What is there stays.
    Drop {
        /// Place of the op in its batch.
        op: u32,
    },
    /// What the owner's trees contain: the copy that follows from this session will contain it, too.
    Lineage {
        /// See [`Lineage`].
        lineage: Lineage,
        /// The receiver's trees have another history, and a person has said that they may be replaced:
        /// nothing there counts as common any more, so that what is replaced is kept. Answered by another
        /// `Welcome`.
        disown: bool,
    },
    /// The owner does not replace the receiver's trees by itself: why, in words. The end.
    Conflict {
        /// Why, and what to do.
        why: String,
    },
    /// A chunk of a large file that a later series will have, while smaller ones go on. Not answered, and
    /// nothing rests on it: what did not come is asked for then.
    Ahead {
        /// Which name.
        key: Key,
        /// Length of the file's chunks in bytes.
        chunk_bytes: u64,
        /// Place of the chunk in its file.
        chunk: u32,
        /// Its bytes.
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
}

/// Names of the copy on the standby side that somebody changed, made or deleted there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differ {
    /// How many.
    pub names: u64,
    /// The first few, at most [`limits::DIFFER_SHOWN`].
    pub first: Vec<Key>,
}

impl Differ {
    /// One more.
    pub fn add(&mut self, key: &Key) {
        self.names = self.names.saturating_add(1);
        if self.first.len() < limits::DIFFER_SHOWN {
            self.first.push(key.clone());
        }
    }

    /// These, too.
    pub fn extend(&mut self, more: &Differ) {
        let room = limits::DIFFER_SHOWN.saturating_sub(self.first.len());
        self.first.extend(more.first.iter().take(room).cloned());
        self.names = self.names.saturating_add(more.names);
    }
}

/// The chunks that are needed of one op.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Place of the op in its batch.
    pub op: u32,
    /// Places of the chunks in its file, rising.
    pub chunks: Vec<u32>,
}

/// A name that the standby side cannot bring to where the owner has it, for a reason of its own: everything
/// else goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which name.
    pub key: Key,
    /// Why, in words, at most [`limits::REFUSED_WHY_BYTES_MAX`].
    pub why: String,
    /// It fits when the deletions of this series have made room: it comes with the next one.
    pub soon: bool,
}

impl Refused {
    /// With as many words as may be said.
    pub fn new(key: Key, mut why: String) -> Refused {
        let end = (0..=limits::REFUSED_WHY_BYTES_MAX).rev().find(|&end| why.is_char_boundary(end));
        why.truncate(end.unwrap_or(0));
        Refused { key, why, soon: false }
    }
}

/// Why the standby side cannot go on now. It tries again by itself, or when asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Trouble {
    /// Not enough room for the series.
    #[error(
        "no room: {needed} bytes more are needed on {path}, of which {reserve} stay free for what is \
         served from there"
    )]
    NoRoom {
        /// How many, in bytes, `reserve` among them.
        needed: u64,
        /// What is never taken, in bytes.
        reserve: u64,
        /// Where.
        path: String,
    },
    /// Not enough inodes for the series.
    #[error("no inodes: room for {needed} more files is needed on {path}; there may be bytes free")]
    NoInodes {
        /// How many.
        needed: u64,
        /// Where.
        path: String,
    },
    /// A tree's root is missing, or is not the one that was mirrored before.
    #[error("{0}")]
    Root(String),
    /// The file system refused.
    #[error("{0}")]
    Failed(String),
    /// The record of what was acknowledged cannot be read.
    #[error("{0}")]
    Damaged(String),
}

/// Where the receiver's trees stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The newest commit in them; `None`: they were never synchronised.
    pub position: Option<Position>,
    /// There is no name in them.
    pub empty: bool,
}

/// From the standby side to the owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSender {
    /// The session stands.
    Welcome {
        /// Digest of the whole index of the standby side, as its trees are now.
        digest: Digest,
        /// Newest commit that it knows of, one that it began itself as an owner among them: the owner counts on from
        /// there.
        commit: u64,
        /// Where its trees stand.
        past: Past,
    },
    /// No session: the reason, in words.
    Refuse {
        /// Why.
        why: String,
    },
    /// The digests of all buckets, in order.
    Buckets {
        /// [`limits::BUCKETS`] of them.
        digests: Vec<Digest>,
    },
    /// What is in one bucket.
    Listing {
        /// Which.
        bucket: u16,
        /// Names with the digests of their entries.
        entries: Vec<(Key, Digest)>,
        /// More of the same bucket follows.
        more: bool,
    },
    /// The chunks that are not on the standby side.
    Need {
        /// Series.
        series: u64,
        /// Batch.
        batch: u32,
        /// Only ops that need something.
        wanted: Vec<Wanted>,
        /// What cannot be done, in order: it is left out.
        refused: Vec<Refused>,
    },
    /// The batch is durable. After the last one the series will be applied, whatever happens.
    Acked {
        /// Series.
        series: u64,
        /// Batch.
        batch: u32,
    },
    /// The series is applied.
    Applied {
        /// Series.
        series: u64,
        /// Files that went to the conflict store, in all.
        conflicts: u64,
        /// What could not be finished, at most [`limits::BATCH_OPS_MAX`]: it is as it was.
        unfinished: Vec<Refused>,
    },
    /// It cannot be done now; the series, if there was one, is void.
    Trouble(Trouble),
    /// Answer to `Ping`.
    Pong,
    /// Somebody changed the copy: the index here says so by now. Compare again.
    Differs(Differ),
    /// Answer to `Verify`: what differed was told before.
    Verified {
        /// Number of the barrier.
        barrier: u64,
    },
    /// No session now, and one later by itself: the reason, in words.
    NotNow {
        /// Why.
        why: String,
    },
}

/// Why bytes are no message.
#[derive(Debug, thiserror::Error)]
pub enum BadMessage {
    /// Longer than [`limits::MIRROR_MESSAGE_BYTES_MAX`].
    #[error("a mirror message of {0} bytes is too long")]
    TooLong(usize),
    /// No message of this protocol.
    #[error("a mirror message was not understood: {0}")]
    Malformed(#[from] postcard::Error),
}

/// The bytes of a message, without its length.
///
/// # Errors
/// It is too long.
pub fn encode<M: Serialize>(envelope: &Envelope<M>) -> Result<Vec<u8>, BadMessage> {
    let bytes = postcard::to_allocvec(envelope)?;
    if bytes.len() > limits::MIRROR_MESSAGE_BYTES_MAX {
        return Err(BadMessage::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// The message in these bytes; all of them must belong to it.
///
/// # Errors
/// They are too many, or no message.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<Envelope<M>, BadMessage> {
    if bytes.len() > limits::MIRROR_MESSAGE_BYTES_MAX {
        return Err(BadMessage::TooLong(bytes.len()));
    }
    match postcard::take_from_bytes(bytes)? {
        (envelope, []) => Ok(envelope),
        (_, _) => Err(BadMessage::Malformed(postcard::Error::DeserializeBadEncoding)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeIndex;

    /// What travels in version 3, for ever: whoever changes a message changes [`VERSION`], too. A peer
    /// of any version must be able to read the greeting, to refuse it by name.
    #[test]
    fn messages_of_version_3() {
        let hello = ToReceiver::Hello {
            version: VERSION,
            group: "web".to_owned(),
            trees: vec!["/srv/www".to_owned()],
        };
        for (message, frozen) in [
            (hello, "07010500030377656201082f7372762f777777"),
            (ToReceiver::AskListing { bucket: 258 }, "070105028202"),
            (ToReceiver::Close { series: 300, batch: 2 }, "07010505ac0202"),
            (ToReceiver::Ping, "07010507"),
            (ToReceiver::Verify { barrier: 300 }, "07010508ac02"),
            (ToReceiver::Drop { op: 300 }, "07010509ac02"),
        ] {
            let generation = Generation { number: 7, owner: NodeIndex::Upper, id: 5 };
            let envelope = Envelope { generation, message };
            let bytes = encode(&envelope).unwrap();
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, frozen, "{:?}: other bytes, and still version 3", envelope.message);
            assert_eq!(decode::<ToReceiver>(&bytes).unwrap(), envelope);
        }
    }
}
