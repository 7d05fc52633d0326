//! Large files are sent ahead of their series, a slice at a time: small files do not wait behind them.
//!
//! ```text
//!   dirty, and the peer lacks much of it ──▶ waits ── slices, between the series of the others ──▶ there:
//!                                                        the next series has it, and asks for what changed
//! ```
//! Until it is there, what was written after it may reach the peer before it: the series in between are
//! *fuzzy*, and the mirror is not in sync. A barrier waits for it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;

use super::trees::Pass;
use crate::limits;
use crate::mirror::entry::{ChunkHash, Content, Entry, Key, Kind, Seen};
use crate::mirror::hash;
use crate::mirror::index::Index;
use crate::mirror::meta::{self, Look};
use crate::mirror::proto::ToReceiver;

/// The files that are sent ahead.
#[derive(Debug, Default)]
pub struct Ahead {
    waiting: VecDeque<Key>,
    under_way: Option<Large>,
    there: BTreeMap<Key, There>,
}

/// A file that is read and sent.
#[derive(Debug)]
struct Large {
    key: Key,
    file: File,
    seen: Seen,
    content: Content,
    /// What the peer has of it.
    before: Vec<ChunkHash>,
}

/// A file that was sent.
#[derive(Debug)]
struct There {
    content: Content,
    /// It looked so from the beginning to the end: this is its content.
    seen: Option<Seen>,
    rounds: u32,
}

impl Ahead {
    /// Nothing that was sent counts any more.
    pub fn clear(&mut self) {
        *self = Ahead::default();
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.under_way.is_none()
    }

    /// Whether a file is on its way.
    pub fn holds(&self, key: &Key) -> bool {
        self.under_way.as_ref().is_some_and(|large| large.key == *key) || self.waiting.contains(key)
    }

    /// The content of a file that was sent, if it looks as it did then.
    pub fn content(&self, key: &Key, look: &Look) -> Option<Content> {
        let there = self.there.get(key).filter(|there| there.seen == Some(look.seen))?;
        look.settled.then(|| there.content.clone())
    }

    /// Puts a file off, if it is to be sent first: `before` is what the peer has of it, `content` what it is
    /// now, if that is known.
    pub fn puts_off(
        &mut self,
        key: &Key,
        seen: &Seen,
        before: Option<&Entry>,
        content: Option<&Content>,
    ) -> bool {
        if seen.nlink > 1 || seen.size < limits::AHEAD_BYTES_MIN {
            return false;
        }
        let chunk_bytes = Content::chunk_bytes_for(seen.size);
        let of_entry = before.and_then(|entry| match &entry.kind {
            Kind::File(content) => Some(content),
            Kind::Dir | Kind::Symlink { .. } | Kind::Link { .. } => None,
        });
        let there = self.there.get(key);
        let known = [of_entry, there.map(|there| &there.content)];
        let known = known.into_iter().flatten().filter(|known| known.chunk_bytes == chunk_bytes);
        let known: Vec<&Content> = known.collect();
        let lacks = match content {
            Some(content) => {
                let is_there = |(place, hash): &(usize, &ChunkHash)| {
                    known.iter().any(|known| known.chunks.get(*place) == Some(*hash))
                };
                let lacks = content.chunks.iter().enumerate().filter(|chunk| !is_there(chunk));
                (lacks.count() as u64).saturating_mul(chunk_bytes)
            }
            // What it has grown by, at least.
            None => {
                let longest = known.iter().map(|known| known.size).max();
                seen.size.saturating_sub(longest.unwrap_or(0))
            }
        };
        let rounds = there.map_or(0, |there| there.rounds);
        let puts_off = lacks >= limits::AHEAD_BYTES_MIN
            && rounds < limits::AHEAD_ROUNDS_MAX
            && self.waiting.len() < limits::AHEAD_FILES_MAX;
        if puts_off {
            self.waiting.push_back(key.clone());
        }
        puts_off
    }

    /// A series has these: what was known of them is needed no more.
    pub fn free(&mut self, is_taken: impl Fn(&Key) -> bool) {
        self.there.retain(|key, _| !is_taken(key));
    }

    /// Sends the next slice. True: a file is there, or cannot be sent so; a series is to look at it.
    ///
    /// # Errors
    /// Those of `say`.
    pub fn slice<E>(
        &mut self,
        pass: &Pass<'_>,
        index: &Index,
        mut say: impl FnMut(ToReceiver, u64) -> Result<(), E>,
    ) -> Result<bool, E> {
        if self.under_way.is_none() {
            let Some(key) = self.waiting.pop_front() else { return Ok(false) };
            self.under_way = Large::open(pass, index, key);
        }
        let Some(large) = &mut self.under_way else { return Ok(true) };
        let mut left = limits::AHEAD_SLICE_BYTES;
        while let Ok(chunk) = u32::try_from(large.content.chunks.len()) {
            let Content { size, chunk_bytes, .. } = large.content;
            if u64::from(chunk).saturating_mul(chunk_bytes) >= size {
                break;
            }
            if left == 0 {
                return Ok(false);
            }
            let Ok(bytes) = hash::chunk(&large.file, chunk, chunk_bytes, size) else {
                // It is shorter now, or cannot be read: the series tells which.
                self.under_way = None;
                return Ok(true);
            };
            left = left.saturating_sub(bytes.len() as u64);
            let hash = hash::hash_chunk(&bytes);
            large.content.chunks.push(hash);
            let is_there = large.before.get(chunk as usize) == Some(&hash);
            // Of zeros nothing needs to come.
            if !is_there && bytes.iter().any(|&byte| byte != 0) {
                let (key, count) = (large.key.clone(), bytes.len() as u64);
                say(ToReceiver::Ahead { key, chunk_bytes, chunk, bytes }, count)?;
            }
        }
        if let Some(Large { key, file, seen, content, .. }) = self.under_way.take() {
            let same = meta::seen_of(&file).is_ok_and(|now| now == seen);
            let rounds = self.there.get(&key).map_or(0, |there| there.rounds);
            let there = There { content, seen: same.then_some(seen), rounds: rounds + 1 };
            if self.there.len() >= limits::AHEAD_FILES_MAX {
                self.there.pop_first();
            }
            self.there.insert(key, there);
        }
        Ok(true)
    }
}

impl Large {
    fn open(pass: &Pass<'_>, index: &Index, key: Key) -> Option<Large> {
        let (_, root) = pass.of(&key)?;
        let file = root.open_file(&key.path).ok()?;
        // Stores through a mapping move its times before it is read, or after.
        hash::write_back(&file).ok()?;
        let seen = meta::seen_of(&file).ok()?;
        let chunk_bytes = Content::chunk_bytes_for(seen.size);
        let entry = index.get(&key).ok().flatten().and_then(|stored| stored.entry);
        let before = match entry.map(|entry| entry.kind) {
            Some(Kind::File(content)) if content.chunk_bytes == chunk_bytes => content.chunks,
            Some(Kind::File(_) | Kind::Dir | Kind::Symlink { .. } | Kind::Link { .. }) | None => {
                Vec::new()
            }
        };
        let content = Content { size: seen.size, chunk_bytes, chunks: Vec::new() };
        Some(Large { key, file, seen, content, before })
    }
}
