//! What a series leaves on disk beside its staged files: a record of each batch, and at the end the
//! manifest. Each is postcard with 32 bytes of BLAKE3 behind it.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::super::entry::Seen;
use super::super::proto::Op;
use super::super::staging_area::errno;
use crate::core::Generation;
use crate::limits;

/// What the manifest says: the series is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The owner's generation.
    pub generation: Generation,
    /// The series.
    pub series: u64,
    /// The commit that the trees are at when it is applied.
    pub commit: u64,
    /// Each file is whole, but the whole may never have existed at one instant.
    pub fuzzy: bool,
    /// So many batches.
    pub batches: u32,
    /// The trees' paths, in order: a config that was changed since means others.
    pub trees: Vec<Vec<u8>>,
    /// When it was complete, in milliseconds since 1970.
    pub time_ms: u64,
}

impl Manifest {
    /// The name of its directories.
    pub(in crate::mirror) fn name(&self) -> String {
        name(self.generation, self.series)
    }
}

/// The name of a series' directories.
pub(super) fn name(generation: Generation, series: u64) -> String {
    format!("{}-{:08x}-{series}", generation.number, generation.id)
}

/// An op with what was prepared for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::mirror) struct StagedOp {
    pub(in crate::mirror) op: Op,
    pub(in crate::mirror) how: How,
    /// The chunks that a patch has.
    pub(in crate::mirror) patch: BTreeSet<u32>,
}

/// What was prepared for an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::mirror) enum How {
    /// Nothing: a directory that is there, a link, a deletion.
    Plain,
    /// The whole file, the symlink, or the empty directory, of this inode number.
    Staged { ino: u64 },
    /// The file that is there has the content: its metadata are set in place. It has not changed since
    /// if it is still seen so; `None`: that cannot be told.
    InPlace { base: Option<Seen> },
    /// The chunks in which it differs lie in a file of this inode number; they are written into the file
    /// that is there, if it is still seen so.
    Patch { base: Seen, ino: u64 },
    /// Nothing happens to this name: it cannot be done here, or the owner could not read it to the end.
    Dropped,
}

impl How {
    /// Whether something lies in the staging area.
    pub(in crate::mirror) fn is_staged(self) -> bool {
        match self {
            How::Staged { .. } | How::Patch { .. } => true,
            How::Plain | How::InPlace { .. } | How::Dropped => false,
        }
    }
}

/// Writes a record whole and durable, but for its name: the directory is synced by the caller.
pub(super) fn write<T: Serialize>(
    directory: BorrowedFd<'_>,
    name: &str,
    record: &T,
) -> Result<(), Errno> {
    let mut bytes = postcard::to_allocvec(record).map_err(|_| Errno::EINVAL)?;
    bytes.extend_from_slice(blake3::hash(&bytes).as_bytes());
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(directory, "new", flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(|error| errno(&error))?;
    renameat(directory, "new", directory, name)
}

/// Reads a record; `None` if there is none of that name. EBADMSG: it is damaged.
pub(super) fn read<T: DeserializeOwned>(
    directory: BorrowedFd<'_>,
    name: &str,
) -> Result<Option<T>, Errno> {
    let file = match openat(directory, name, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(limits::STAGED_RECORD_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| errno(&error))?;
    let (record, hash) = bytes.split_last_chunk::<32>().ok_or(Errno::EBADMSG)?;
    if blake3::hash(record).as_bytes() != hash {
        return Err(Errno::EBADMSG);
    }
    postcard::from_bytes(record).map(Some).map_err(|_| Errno::EBADMSG)
}

/// The name of a batch's record.
pub(super) fn batch_name(batch: u32) -> String {
    format!("batch-{batch}")
}

/// The name of the manifest. Where it is, the series will be applied, whatever happens.
pub(super) const READY: &str = "ready";

/// The name of the record that the trees are at the commit, and others may write to them.
pub(super) const BROUGHT: &str = "brought";

/// The name of the record of the ops whose files may be patched in part.
pub(super) const PATCHED: &str = "patched";

/// The name of the record that the trees are not the state of a commit.
pub(super) const BROKEN: &str = "broken";

/// Makes the names in a directory durable.
pub(super) fn sync(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    nix::unistd::fsync(directory.as_fd())
}
