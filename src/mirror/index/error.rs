//! Why an index cannot be used, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::FORMAT;

/// Why the index cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Its directory or its file cannot be made or opened.
    #[error("{}: {source}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("{} is in use: another clusterd runs with the same state directory; stop it", path.display())]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// It is damaged.
    #[error(
        "{} is damaged ({why}): stop clusterd, move the file away and start again; both copies are then \
         compared in full, and without the common base nothing is deleted or merged",
        path.display()
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// Another version wrote it.
    #[error(
        "{} has format {found}, this clusterd knows {FORMAT}: run the version that wrote it, or move the \
         file away; both copies are then compared in full",
        path.display()
    )]
    Format {
        /// Which.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The store refused: mostly a full or failing disk.
    #[error("{}: {source}", path.display())]
    Store {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// It could not be opened again.
    #[error("{} is closed: {why}", path.display())]
    Closed {
        /// Which.
        path: PathBuf,
        /// What the store refused first.
        why: String,
    },
    /// The journal of dirty names could not be written. What was marked is marked, and what was committed
    /// is committed; only a crash would forget some marks, which the walk after it finds again.
    #[error("{}: {source}", path.display())]
    Journal {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What an error of the store means.
pub(super) fn fault(path: &Path, error: impl Into<redb::Error>) -> IndexError {
    let path = path.to_owned();
    match error.into() {
        redb::Error::DatabaseAlreadyOpen => IndexError::InUse { path },
        redb::Error::Corrupted(why) => IndexError::Damaged { path, why },
        // No database, or the beginning of one.
        redb::Error::Io(source)
            if matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            IndexError::Damaged { path, why: source.to_string() }
        }
        source => IndexError::Store { path, source: Box::new(source) },
    }
}
