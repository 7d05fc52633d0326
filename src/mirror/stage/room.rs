//! Room on the file systems of the trees: real blocks, inodes, and what stays free.

use nix::sys::statvfs::fstatvfs;

use super::StagedTree;
use crate::limits;
use crate::mirror::entry::{ChunkHash, Content};
use crate::mirror::proto::Trouble;
use crate::mirror::staging_area::failed;

/// What a file system has for a batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Bytes beyond the reserve; negative if that is touched already.
    pub(super) bytes: i128,
    /// What stays free, in bytes.
    pub(super) reserve: u64,
    /// Inodes beyond the reserve; `None`: the file system makes them as they are needed.
    pub(super) inodes: Option<i128>,
}

impl Room {
    pub(super) fn of(tree: &StagedTree) -> Result<Room, Trouble> {
        let stat = fstatvfs(tree.area.incoming()).map_err(|error| {
            failed(&tree.area.path().display(), "cannot read its free space", error)
        })?;
        let total = stat.blocks().saturating_mul(stat.fragment_size());
        let reserve = limits::STAGE_RESERVE_BYTES.min(total / limits::STAGE_RESERVE_PART);
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        let inodes = i128::from(stat.files_available()) - i128::from(limits::STAGE_RESERVE_INODES);
        Ok(Room {
            bytes: i128::from(free) - i128::from(reserve),
            reserve,
            inodes: (stat.files() > 0).then_some(inodes),
        })
    }

    pub(super) fn none(&self, tree: &StagedTree) -> Option<Trouble> {
        let path = || tree.path.display().to_string();
        let missing = |left: i128| u64::try_from(-left).ok().filter(|missing| *missing > 0);
        if let Some(needed) = missing(self.bytes) {
            return Some(Trouble::NoRoom { needed, reserve: self.reserve, path: path() });
        }
        let needed = self.inodes.and_then(missing)?;
        Some(Trouble::NoInodes { needed, path: path() })
    }
}

/// Looks again before bytes are written: others write there, too.
pub(super) fn keeps_reserve(tree: &StagedTree, bytes: u64) -> Result<(), Trouble> {
    let room = Room::of(tree)?;
    let room = Room { bytes: room.bytes - i128::from(bytes), inodes: None, ..room };
    room.none(tree).map_or(Ok(()), Err)
}

/// What this content takes on a disk, in bytes: chunks of zeros are holes.
pub(super) fn needs(content: &Content, zeros: &ChunkHash) -> u64 {
    let full = content.chunks.iter().filter(|hash| *hash != zeros).count() as u64;
    full.saturating_mul(content.chunk_bytes).min(content.size)
}

/// Whether room is all that is missing.
pub(super) fn is_room(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::NoRoom { .. } | Trouble::NoInodes { .. })
}
