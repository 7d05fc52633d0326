//! A file's content by its chunks. Small files are read, large ones can be mapped; large ones are shared
//! out to threads in units.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, fstatfs};

use super::entry::{ChunkHash, Content, Seen};
use super::meta::seen_of;
use super::progress::Progress;
use crate::config::Hash;
use crate::limits;
use crate::sys::file;
use crate::sys::sigbus::Window;

/// Why a file's content could not be told.
#[derive(Debug, thiserror::Error)]
pub enum HashError {
    /// It changed since it was seen, or while it was read: look again.
    #[error("the file changed while it was read")]
    Changed,
    /// It could not be read.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The content of `file`, which was `seen` so: it is the content that belongs to that look. Up to
/// `threads_max` threads share a large file, this one among them.
///
/// # Errors
/// `Changed`: the file is not as seen any more, before or after it was read. `Io`: it cannot be read.
pub fn content(
    file: &File,
    seen: &Seen,
    how: Hash,
    threads_max: usize,
) -> Result<Content, HashError> {
    if seen_of(file)? != *seen {
        return Err(HashError::Changed);
    }
    let plan = Plan::new(file, seen.size, how)?;
    let chunks = plan.run(threads_max)?;
    if seen_of(file)? != *seen {
        return Err(HashError::Changed);
    }
    Ok(Content { size: seen.size, chunk_bytes: plan.chunk_bytes, chunks })
}

/// The hashes of a file's first `size` bytes, whatever becomes of it meanwhile.
///
/// # Errors
/// `Changed`: it is shorter by now. `Io`: it cannot be read.
pub fn chunks(
    file: &File,
    size: u64,
    how: Hash,
    threads_max: usize,
) -> Result<Vec<ChunkHash>, HashError> {
    Plan::new(file, size, how)?.run(threads_max)
}

/// One chunk, for sending: `size` and `chunk_bytes` as in the file's [`Content`].
///
/// # Errors
/// `Changed`: the file is too short for it now. `Io`: it cannot be read.
pub fn chunk(file: &File, index: u32, chunk_bytes: u64, size: u64) -> Result<Vec<u8>, HashError> {
    let start = u64::from(index).saturating_mul(chunk_bytes);
    let length = size.saturating_sub(start).min(chunk_bytes);
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    read(file, &mut bytes, start)?;
    Ok(bytes)
}

/// The hash of a chunk's bytes.
pub fn hash_chunk(bytes: &[u8]) -> ChunkHash {
    *blake3::hash(bytes).as_bytes()
}

/// Writes a file's dirty pages back, to be called before it is looked at and hashed. Returns whether a
/// store through a shared mapping that comes later will move its times.
///
/// The kernel moves them when such a store makes a clean page dirty, and not when the page is dirty
/// already (file_update_time in the kernel's page_mkwrite): without write-back a file that was stored
/// to, hashed, and stored to again would look the same. Where there is nothing to write back to
/// (tmpfs), the times never move, and files that are kept mapped must be hashed again by time.
///
/// # Errors
/// As sync_file_range(2) and fdatasync(2).
pub fn write_back(file: &File) -> io::Result<bool> {
    let kind = fstatfs(file)?.filesystem_type();
    if kind == TMPFS_MAGIC {
        return Ok(false);
    }
    if kind == OVERLAYFS_SUPER_MAGIC {
        // The pages are the layer's: only fsync reaches them.
        file.sync_data()?;
    } else {
        // Times do not need durability: a journal's commit and a flush of the disk are saved.
        file::write_back(file)?;
    }
    Ok(true)
}

/// How a file is cut: into chunks, which are hashed one by one, and into units of whole chunks, which
/// are shared out.
struct Plan<'a> {
    file: &'a File,
    size: u64,
    chunk_bytes: u64,
    unit_bytes: u64,
    mapped: bool,
}

impl Plan<'_> {
    fn new(file: &File, size: u64, how: Hash) -> io::Result<Plan<'_>> {
        let chunk_bytes = Content::chunk_bytes_for(size);
        // Both are powers of two times the same: a unit is whole chunks.
        let unit_bytes = chunk_bytes.max(limits::HASH_UNIT_BYTES);
        let mapped = match how {
            Hash::Map => true,
            Hash::Read => false,
            Hash::Auto => {
                size >= limits::HASH_MAP_BYTES_MIN
                    && fstatfs(file)?.filesystem_type() != TMPFS_MAGIC
            }
        };
        Ok(Plan { file, size, chunk_bytes, unit_bytes, mapped })
    }

    fn run(&self, threads_max: usize) -> Result<Vec<ChunkHash>, HashError> {
        let units = self.size.div_ceil(self.unit_bytes);
        let next = AtomicU64::new(0);
        let progress = Progress::current();
        let work = || self.work(units, &next, &progress);
        let helpers = threads_max.min(usize::try_from(units).unwrap_or(usize::MAX)).max(1) - 1;
        let mut done = thread::scope(|scope| {
            // With fewer threads than wished it only takes longer.
            let spawn = |_| thread::Builder::new().spawn_scoped(scope, work).ok();
            let helpers: Vec<_> = (0..helpers).map_while(spawn).collect();
            let mut done = work()?;
            for helper in helpers {
                let panicked = |_| io::Error::other("a hashing thread panicked");
                done.append(&mut helper.join().map_err(panicked)??);
            }
            Ok::<_, HashError>(done)
        })?;
        done.sort_unstable_by_key(|(unit, _)| *unit);
        Ok(done.into_iter().flat_map(|(_, hashes)| hashes).collect())
    }

    /// Hashes unit after unit that nobody has taken yet.
    fn work(
        &self,
        units: u64,
        next: &AtomicU64,
        progress: &Progress,
    ) -> Result<Vec<(u64, Vec<ChunkHash>)>, HashError> {
        let mut done = Vec::new();
        let mut buffer = Vec::new();
        loop {
            let unit = next.fetch_add(1, Ordering::Relaxed);
            if unit >= units {
                return Ok(done);
            }
            let start = unit * self.unit_bytes;
            let end = (start + self.unit_bytes).min(self.size);
            // After an error nobody begins another one.
            let hashes = self
                .unit(start, end, &mut buffer)
                .inspect_err(|_| next.store(units, Ordering::Relaxed))?;
            progress.goes_on();
            done.push((unit, hashes));
        }
    }

    /// What cannot be mapped is read: that tells a shorter file from a bad disk.
    fn unit(
        &self,
        start: u64,
        end: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Vec<ChunkHash>, HashError> {
        match self.mapped.then(|| self.map_unit(start, end)).flatten() {
            Some(hashes) => Ok(hashes),
            None => self.read_unit(start, end, buffer),
        }
    }

    fn map_unit(&self, start: u64, end: u64) -> Option<Vec<ChunkHash>> {
        let length = usize::try_from(end - start).ok()?;
        let window = Window::new(self.file, start, length).ok()?;
        window.hashes(usize::try_from(self.chunk_bytes).ok()?)
    }

    fn read_unit(
        &self,
        start: u64,
        end: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<Vec<ChunkHash>, HashError> {
        let mut hashes = Vec::new();
        let mut hasher = blake3::Hasher::new();
        let mut at = start;
        while at < end {
            let chunk_end = (at + self.chunk_bytes).min(end);
            hasher.reset();
            while at < chunk_end {
                let length = (chunk_end - at).min(limits::HASH_READ_BYTES as u64);
                buffer.resize(length as usize, 0);
                read(self.file, buffer, at)?;
                hasher.update(buffer);
                at += length;
            }
            hashes.push(*hasher.finalize().as_bytes());
        }
        Ok(hashes)
    }
}

/// Fills `buffer` from `offset`.
fn read(file: &File, buffer: &mut [u8], offset: u64) -> Result<(), HashError> {
    file.read_exact_at(buffer, offset).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => HashError::Changed,
        _ => HashError::Io(error),
    })
}

#[cfg(test)]
mod tests;
