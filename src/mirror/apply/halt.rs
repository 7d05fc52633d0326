//! Whether what was refused is refused to one name alone, or stops all of them.

use nix::errno::Errno;

use crate::mirror::entry::RelPath;
use crate::mirror::meta::SetError;
use crate::mirror::proto::Trouble;
use crate::mirror::stage::StagedTree;
use crate::mirror::staging_area::errno;
use crate::mirror::tree::TreeError;

/// Why a name is not where it should be.
#[derive(Debug)]
pub(in crate::mirror) enum Halt {
    /// It alone: why, in words.
    One(String),
    /// Its file system refuses everything, as far as can be told.
    Disk(Trouble),
    /// There is no going on.
    All(Trouble),
}

impl From<Trouble> for Halt {
    fn from(trouble: Trouble) -> Halt {
        Halt::All(trouble)
    }
}

/// What the system refused to do with a path of this tree.
pub(in crate::mirror) fn refused(
    tree: &StagedTree,
    path: &RelPath,
    doing: &str,
    error: Errno,
) -> Halt {
    match error {
        // Of the file system, the memory, the process: the next name fares no better.
        Errno::EROFS
        | Errno::ENOSPC
        | Errno::EDQUOT
        | Errno::ENOMEM
        | Errno::ENFILE
        | Errno::EMFILE
        | Errno::EINTR
        | Errno::ENODEV
        | Errno::ENXIO
        | Errno::ESTALE => Halt::Disk(tree.failed(path, doing, error)),
        error => Halt::One(format!("{doing}: {}{}", error.desc(), remedy(error))),
    }
}

/// What was refused of metadata. A full inode is no full disk.
pub(in crate::mirror) fn not_set(tree: &StagedTree, path: &RelPath, error: &SetError) -> Halt {
    let doing = format!("{} cannot be set", error.what);
    match errno(&error.source) {
        Errno::ENOSPC if error.what.starts_with("the attribute") => {
            Halt::One(format!("{doing}: this kind of file system has no room for it"))
        }
        error => refused(tree, path, &doing, error),
    }
}

/// What was refused on the way to a path.
pub(in crate::mirror) fn not_reached(tree: &StagedTree, path: &RelPath, error: TreeError) -> Halt {
    match error {
        error @ (TreeError::Missing(_) | TreeError::NotADirectory(_)) => {
            Halt::All(Trouble::Root(error.to_string()))
        }
        TreeError::Io { source, .. } => refused(tree, path, "refused", errno(&source)),
        TreeError::Elsewhere(_) => Halt::One("something is mounted there: unmount it".to_owned()),
        TreeError::Gone(_) => Halt::One("it is not there".to_owned()),
        error @ (TreeError::NotAFile(_) | TreeError::IsRoot(_)) => Halt::One(error.to_string()),
    }
}

fn remedy(error: Errno) -> &'static str {
    match error {
        Errno::EPERM | Errno::EACCES => "; is it, or its directory, immutable? See lsattr(1)",
        Errno::EBUSY | Errno::EXDEV => "; is something mounted there?",
        Errno::EOPNOTSUPP => {
            "; the file system cannot hold it: use the same kind, with the same mount options, on \
             both nodes"
        }
        _ => "",
    }
}
