//! A file's content, read once into a state that it had.
//!
//! What differs from the last commit is kept as it was read, so that what is sent is what was hashed. If
//! the file was written to meanwhile, it is read a second time: what is the same both times is what was
//! there at the moment between. That proves a file of which single pages are rewritten, and a log that
//! grows. What differs again is taken as it is then: nothing can be proven of a file that is written to
//! faster than it can be read.

use std::collections::BTreeMap;
use std::fs::File;

use crate::config::Hash;
use crate::limits;
use crate::mirror::entry::{ChunkHash, Content, Entry, Kind, Seen};
use crate::mirror::hash::{self, HashError};
use crate::mirror::meta;

/// Bytes of chunks, by their places.
pub type Chunks = BTreeMap<u32, Vec<u8>>;

/// What was read.
#[derive(Debug)]
pub struct Reading {
    /// By hashes.
    pub content: Content,
    /// The bytes of what differs from before, if they are few.
    pub kept: Chunks,
    /// Nobody wrote to it meanwhile.
    pub steady: bool,
    /// It is a state that the file had.
    pub whole: bool,
}

/// Whether a file is one chunk at most.
pub fn is_small(size: u64) -> bool {
    size <= limits::CHUNK_BYTES_MIN
}

/// Reads a file that was `seen` so: its first `seen.size` bytes. `before`: what the peer has of it. `keep`:
/// how many bytes may be kept.
///
/// # Errors
/// `Changed`: it is shorter by now. `Io`: it cannot be read.
pub fn read(
    file: &File,
    seen: &Seen,
    how: Hash,
    before: Option<&Entry>,
    keep: usize,
) -> Result<Reading, HashError> {
    let (size, chunk_bytes) = (seen.size, Content::chunk_bytes_for(seen.size));
    let mut kept = Chunks::new();
    if is_small(size) {
        let mut chunks = Vec::new();
        if size > 0 {
            let bytes = hash::chunk(file, 0, chunk_bytes, size)?;
            chunks.push(hash::hash_chunk(&bytes));
            kept.insert(0, bytes);
        }
        let steady = meta::seen_of(file)? == *seen;
        let content = Content { size, chunk_bytes, chunks };
        // Two readings are two calls: nobody knows whether one of them was torn.
        return Ok(Reading { content, kept, steady, whole: steady });
    }
    let mut chunks = hash::chunks(file, size, how, limits::HASH_THREADS)?;
    let before = before.and_then(|entry| match &entry.kind {
        Kind::File(content) if content.chunk_bytes == chunk_bytes => Some(&content.chunks),
        Kind::File(_) | Kind::Dir | Kind::Symlink { .. } | Kind::Link { .. } => None,
    });
    let differs = |place: usize, chunk: &ChunkHash| {
        before.and_then(|before| before.get(place)).is_none_or(|before| before != chunk)
    };
    let new: Vec<usize> = (0..)
        .zip(&chunks)
        .filter(|(place, hash)| differs(*place, hash))
        .map(|(at, _)| at)
        .collect();
    let few = new.len() as u64 * chunk_bytes <= keep as u64;
    let mut reread = |places: &[usize], chunks: &mut Vec<ChunkHash>| {
        for &place in places {
            let index = u32::try_from(place).unwrap_or(u32::MAX);
            let bytes = hash::chunk(file, index, chunk_bytes, size)?;
            if let Some(chunk) = chunks.get_mut(place) {
                *chunk = hash::hash_chunk(&bytes);
            }
            if few {
                kept.insert(index, bytes);
            }
        }
        Ok::<_, HashError>(())
    };
    if few {
        reread(&new, &mut chunks)?;
    }
    let steady = meta::seen_of(file)? == *seen;
    let mut whole = steady;
    if !steady {
        let again = hash::chunks(file, size, how, limits::HASH_THREADS)?;
        let torn = (0..).zip(chunks.iter().zip(&again)).filter(|(_, (one, two))| one != two);
        let torn: Vec<usize> = torn.map(|(place, _)| place).collect();
        whole = torn.is_empty();
        if few {
            reread(&torn, &mut chunks)?;
        } else {
            chunks = again;
        }
    }
    // What changed only in the second reading was not counted before.
    while kept.values().map(Vec::len).sum::<usize>() > keep && kept.pop_last().is_some() {}
    Ok(Reading { content: Content { size, chunk_bytes, chunks }, kept, steady, whole })
}

#[cfg(test)]
mod tests;
