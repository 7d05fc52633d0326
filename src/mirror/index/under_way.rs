//! The commit that this owner's peer may get next: durable before the peer can have it.
//!
//! An owner records a commit when its peer has it. If the machine dies in between, the peer stands at a commit that
//! is not in the index here, though the trees here have it; a disk that was set back lacks that commit in both.
//! This record tells the two apart.
//!
//! `<dir>/under-way` is one block of a file, overwritten in place: a disk writes it as a whole, and no file system
//! has to note more than its bytes.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::limits;
use crate::mirror::lineage::Position;

/// The first bytes: what it is, and the version of what follows.
const MAGIC: &[u8; 16] = b"clusterd commit\n";
const SUM_BYTES: usize = 32;

/// The record.
#[derive(Debug)]
pub(super) struct UnderWay {
    path: PathBuf,
    file: File,
    position: Option<Position>,
}

impl UnderWay {
    /// Reads the record, or makes an empty one.
    pub(super) fn open(path: &Path) -> io::Result<UnderWay> {
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        let mut block = [0; limits::UNDER_WAY_BYTES];
        let position = match file.read_exact_at(&mut block, 0) {
            Ok(()) => read(&block),
            // It was never written.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
            Err(error) => return Err(error),
        };
        Ok(UnderWay { path: path.to_owned(), file, position })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The newest commit that was begun here; `None`: none, or the record was damaged.
    pub(super) fn position(&self) -> Option<Position> {
        self.position
    }

    /// This is the one from now on. Durable when it returns.
    pub(super) fn set(&mut self, position: Option<Position>) -> io::Result<()> {
        if position == self.position {
            return Ok(());
        }
        let is_new = self.file.metadata()?.len() == 0;
        self.file.write_all_at(&block(position)?, 0)?;
        self.file.sync_data()?;
        if is_new && let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        self.position = position;
        Ok(())
    }
}

fn block(position: Option<Position>) -> io::Result<[u8; limits::UNDER_WAY_BYTES]> {
    let mut block = [0; limits::UNDER_WAY_BYTES];
    let (content, sum) = block.split_at_mut(limits::UNDER_WAY_BYTES - SUM_BYTES);
    let (magic, rest) = content.split_at_mut(MAGIC.len());
    magic.copy_from_slice(MAGIC);
    postcard::to_slice(&position, rest).map_err(io::Error::other)?;
    sum.copy_from_slice(blake3::hash(content).as_bytes());
    Ok(block)
}

fn read(block: &[u8]) -> Option<Position> {
    let (content, sum) = block.split_at_checked(block.len().checked_sub(SUM_BYTES)?)?;
    if blake3::hash(content) != *sum.first_chunk::<SUM_BYTES>()? {
        return None;
    }
    let (position, _) = postcard::take_from_bytes(content.strip_prefix(MAGIC)?).ok()?;
    position
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeIndex;
    use crate::core::Generation;

    #[test]
    fn what_was_begun_comes_back_and_garbage_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("under-way");
        let generation = Generation { number: u32::MAX, owner: NodeIndex::Upper, id: u32::MAX };
        let position = Some(Position { generation, commit: u64::MAX });
        let mut record = UnderWay::open(&path).unwrap();
        assert_eq!(record.position(), None);
        record.set(position).unwrap();
        assert_eq!(UnderWay::open(&path).unwrap().position(), position);
        let whole = std::fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(UnderWay::open(&path).unwrap().position(), None, "{place}");
        }
        record.set(None).unwrap();
        assert_eq!(UnderWay::open(&path).unwrap().position(), None);
    }
}
