//! A batch of a series, and how it is put together.

use std::collections::BTreeMap;
use std::fs::File;

use super::gather::Chunks;
use crate::limits;
use crate::mirror::entry::{ChunkHash, Entry, Key, Kind};
use crate::mirror::proto::{Change, Op};

/// A batch of a series.
#[derive(Debug, Default)]
pub struct Batch {
    /// The changes, by name.
    pub ops: Vec<Op>,
    /// Contents that are sent as they were read, by the place of their op: of small files, and of large
    /// ones what differs.
    pub contents: BTreeMap<u32, Chunks>,
    /// Files that more is sent of: open since they were read, whatever becomes of their names.
    pub files: BTreeMap<u32, File>,
    /// Names changed while they were read, round after round.
    pub fuzzy: bool,
    /// Something is left for another batch.
    pub more: bool,
}

/// A batch in the making; a name that is read again replaces what it was.
#[derive(Debug, Default)]
pub(super) struct Made {
    pub(super) ops: BTreeMap<Key, Change>,
    contents: BTreeMap<Key, Chunks>,
    files: BTreeMap<Key, File>,
    /// What the offer will take, about.
    bytes: usize,
}

impl Made {
    /// The name is this now.
    pub(super) fn put(&mut self, key: &Key, entry: Entry) {
        let chunks = match &entry.kind {
            Kind::File(content) => content.chunks.len(),
            Kind::Dir | Kind::Symlink { .. } | Kind::Link { .. } => 0,
        };
        if entry.kind != Kind::Dir {
            self.forget_below(key);
        }
        let xattrs: usize = entry.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.bytes += chunks * size_of::<ChunkHash>() + xattrs;
        self.bytes += limits::OP_BYTES + 2 * key.path.as_bytes().len();
        self.ops.insert(key.clone(), Change::Put(entry));
    }

    /// The name is gone.
    pub(super) fn delete(&mut self, key: &Key) {
        self.forget_below(key);
        self.bytes += limits::OP_BYTES + key.path.as_bytes().len();
        self.ops.insert(key.clone(), Change::Delete);
    }

    /// It is no directory any more: what was read below it in a round before went with it. Deletions
    /// stay: it may come back.
    fn forget_below(&mut self, key: &Key) {
        let below = self.ops.range(key.clone()..);
        let below = below.take_while(|(name, _)| {
            name.tree == key.tree && name.path.as_bytes().starts_with(key.path.as_bytes())
        });
        let put = below.filter(|(name, change)| {
            name.path.is_within(&key.path) && matches!(change, Change::Put(_))
        });
        let put: Vec<Key> = put.map(|(name, _)| name.clone()).collect();
        for name in put {
            self.forget(&name);
        }
    }

    /// What was read of a name is out of date.
    pub(super) fn forget(&mut self, key: &Key) {
        self.ops.remove(key);
        self.contents.remove(key);
        self.files.remove(key);
    }

    /// What was read of a file.
    pub(super) fn keep(&mut self, key: &Key, chunks: Chunks) {
        if !chunks.is_empty() {
            let bytes: usize = chunks.values().map(Vec::len).sum();
            self.bytes += bytes / limits::CONTENT_WEIGHT;
            self.contents.insert(key.clone(), chunks);
        }
    }

    /// A file whose content is not kept in whole.
    pub(super) fn hold(&mut self, key: &Key, file: File) {
        if self.files.len() < limits::HELD_FILES_MAX {
            self.files.insert(key.clone(), file);
        }
    }

    /// Bytes of contents that it has room for.
    pub(super) fn room(&self) -> usize {
        let left = (limits::BATCH_OFFER_BYTES_MAX / 2).saturating_sub(self.bytes);
        left.saturating_mul(limits::CONTENT_WEIGHT)
    }

    /// Whether the next change must wait for another batch.
    pub(super) fn is_full(&self) -> bool {
        self.ops.len() >= limits::BATCH_OPS_MAX || self.bytes >= limits::BATCH_OFFER_BYTES_MAX / 2
    }

    /// As it is sent.
    pub(super) fn batch(mut self, fuzzy: bool, more: bool) -> Batch {
        let (mut contents, mut files) = (BTreeMap::new(), BTreeMap::new());
        let mut ops = Vec::with_capacity(self.ops.len());
        for (place, (key, change)) in (0u32..).zip(self.ops) {
            if let Some(chunks) = self.contents.remove(&key) {
                contents.insert(place, chunks);
            }
            if let Some(file) = self.files.remove(&key) {
                files.insert(place, file);
            }
            ops.push(Op { key, change, keep: false });
        }
        Batch { ops, contents, files, fuzzy, more }
    }
}
