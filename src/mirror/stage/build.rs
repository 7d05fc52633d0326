//! Building one file's new content in the staging area: from chunks that are here, and from those that
//! the owner sends.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, copy_file_range, openat};
use nix::sys::stat::Mode;

use super::super::entry::{ChunkHash, Content};
use super::super::hash::hash_chunk;
use super::super::staging_area::errno;
use super::ahead::Ahead;

/// A file that is here and has chunks of the new content.
pub(super) struct Donor {
    pub(super) file: File,
    pub(super) content: Content,
    /// It is what the last common commit left: nobody here wrote it.
    pub(super) is_common: bool,
}

/// The bytes of chunk `index`: its offset and length.
pub(in crate::mirror) fn place(content: &Content, index: u32) -> (u64, u64) {
    let offset = u64::from(index).saturating_mul(content.chunk_bytes);
    (offset, content.chunk_bytes.min(content.size.saturating_sub(offset)))
}

/// Opens a staged file.
pub(in crate::mirror) fn open(directory: BorrowedFd<'_>, name: &str) -> Result<File, Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(directory, name, flags, Mode::empty()).map(File::from)
}

/// Makes the staged file in its full length, a hole.
pub(super) fn hole(
    directory: BorrowedFd<'_>,
    name: &str,
    content: &Content,
) -> Result<File, Errno> {
    let flags =
        OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    file.set_len(content.size).map_err(|error| errno(&error))?;
    Ok(file)
}

/// Makes the staged file, or goes on with the one that has what came `ahead`; copies what the donor has at the same place, and
/// proves each copy by its hash: somebody may be writing to the donor. Returns it with the chunks that
/// are still missing, rising.
pub(super) fn start(
    directory: BorrowedFd<'_>,
    name: &str,
    content: &Content,
    zeros: &ChunkHash,
    donor: Option<&Donor>,
    ahead: Option<&Ahead>,
) -> Result<(File, Vec<u32>), Errno> {
    let file = match ahead {
        None => hole(directory, name, content)?,
        Some(_) => {
            let file = open(directory, name)?;
            file.set_len(content.size).map_err(|error| errno(&error))?;
            file
        }
    };
    let ahead = ahead.map(|ahead| &ahead.chunks);
    let donor = donor.filter(|donor| donor.content.chunk_bytes == content.chunk_bytes);
    let (mut missing, mut buffer) = (Vec::new(), Vec::new());
    for (index, hash) in (0u32..).zip(&content.chunks) {
        let (offset, bytes) = place(content, index);
        match ahead.and_then(|ahead| ahead.get(&index)) {
            Some(came) if came == hash => continue,
            // Another one is there, which is written over.
            Some(_) => {
                missing.push(index);
                continue;
            }
            None if hash == zeros && bytes == content.chunk_bytes => continue,
            None => {}
        }
        let same = |donor: &&Donor| donor.content.chunks.get(index as usize) == Some(hash);
        let is_here = match donor.filter(same) {
            None => false,
            Some(donor) => match copy(&donor.file, &file, offset, bytes) {
                Ok(copied) => copied && hash_at(&file, offset, bytes, &mut buffer)? == *hash,
                Err(error @ (Errno::ENOSPC | Errno::EDQUOT)) => return Err(error),
                // A donor that cannot be read is none: the owner has every chunk.
                Err(_) => false,
            },
        };
        if !is_here {
            missing.push(index);
        }
    }
    Ok((file, missing))
}

/// The hash of a range of a staged file.
fn hash_at(file: &File, offset: u64, bytes: u64, buffer: &mut Vec<u8>) -> Result<ChunkHash, Errno> {
    buffer.resize(usize::try_from(bytes).map_err(|_| Errno::EFBIG)?, 0);
    file.read_exact_at(buffer, offset).map_err(|error| errno(&error))?;
    Ok(hash_chunk(buffer))
}

/// Copies a range within the file system: shared where it can share. `false`: the source ended.
pub(in crate::mirror) fn copy(
    from: &File,
    to: &File,
    offset: u64,
    bytes: u64,
) -> Result<bool, Errno> {
    let start = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let (mut read, mut written) = (start, start);
    let mut left = usize::try_from(bytes).map_err(|_| Errno::EFBIG)?;
    while left > 0 {
        match copy_file_range(from.as_fd(), Some(&mut read), to.as_fd(), Some(&mut written), left) {
            Ok(0) => return Ok(false),
            Ok(copied) => left = left.saturating_sub(copied),
            Err(Errno::EINTR) => (),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// Writes a chunk that the owner sent: what is in the file now, whatever was offered. `false` if it has
/// another length.
pub(super) fn write(
    file: &File,
    content: &mut Content,
    index: u32,
    bytes: &[u8],
) -> Result<bool, Errno> {
    let (offset, length) = place(content, index);
    let Some(hash) = content.chunks.get_mut(index as usize) else { return Ok(false) };
    if bytes.len() as u64 != length {
        return Ok(false);
    }
    *hash = hash_chunk(bytes);
    file.write_all_at(bytes, offset).map_err(|error| errno(&error))?;
    Ok(true)
}
