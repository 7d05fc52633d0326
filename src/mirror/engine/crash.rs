//! Whether this node's machine died while it owned the trees.
//!
//! What was overwritten just before, and not made durable, may then be empty: XFS has the new length and no
//! bytes. The peer has the content from before; it must not go for nothing.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A file that is there as long as this node owns the trees: it holds the kernel's boot id.
#[derive(Debug)]
pub(super) struct OwnerMark {
    path: PathBuf,
}

impl OwnerMark {
    /// In a group's state directory.
    pub(super) fn of(state: &Path) -> OwnerMark {
        OwnerMark { path: state.join("reign") }
    }

    /// Whether the last one ended with the machine.
    pub(super) fn died(&self) -> io::Result<bool> {
        match fs::read_to_string(&self.path) {
            Ok(then) => Ok(then != boot_id()?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// This node owns the trees now. Durable.
    pub(super) fn begin(&self) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new)?;
        file.write_all(boot_id()?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &self.path)?;
        self.path.parent().map_or(Ok(()), |state| fs::File::open(state)?.sync_all())
    }

    /// It ends in order, or the copy here is compared with another owner's.
    pub(super) fn end(&self) {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::warn!("{} cannot be removed: {error}", self.path.display());
            }
            Ok(()) | Err(_) => {}
        }
    }
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
}
