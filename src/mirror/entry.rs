//! A file as the mirror sees it. What is in an [`Entry`] travels and is compared; what is in [`Seen`]
//! is only true on one node, and tells whether a file must be looked at again.

use serde::{Deserialize, Serialize};

use crate::limits;

/// The place of a tree in the group's `mirror` list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TreeId(pub u8);

/// Why bytes are no path below a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// Absolute, or with an empty, `.` or `..` component, or a NUL byte.
    #[error("a path that does not stay below its root")]
    Escapes,
    /// Longer than PATH_MAX, or a component longer than NAME_MAX.
    #[error("a path longer than the system allows")]
    TooLong,
}

/// A path below a tree's root: bytes (names need not be UTF-8), components parted by single slashes.
/// Empty: the root itself. Never absolute, never with `.` or `..`: this is checked where one is made,
/// so also where one is decoded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct RelPath(Box<[u8]>);

impl RelPath {
    /// The root itself.
    pub fn root() -> RelPath {
        RelPath(Box::default())
    }

    /// Checks the bytes.
    ///
    /// # Errors
    /// They would not stay below a root, or are too long.
    pub fn new(bytes: &[u8]) -> Result<RelPath, BadPath> {
        if bytes.len() > limits::PATH_BYTES_MAX {
            return Err(BadPath::TooLong);
        }
        if !bytes.is_empty() {
            bytes.split(|&byte| byte == b'/').try_for_each(check_name)?;
        }
        Ok(RelPath(bytes.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root itself.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory that it is in; `None` for the root.
    pub fn parent(&self) -> Option<RelPath> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        Some(RelPath(self.0.get(..end).unwrap_or_default().into()))
    }

    /// The directories above it but for the root, the uppermost first.
    pub fn above(&self) -> Vec<RelPath> {
        let up = std::iter::successors(self.parent(), RelPath::parent);
        let mut found: Vec<RelPath> = up.filter(|path| !path.is_root()).collect();
        found.reverse();
        found
    }

    /// Its last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.0.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// The path of `name` in this directory.
    ///
    /// # Errors
    /// The name is none, or the whole is too long.
    pub fn join(&self, name: &[u8]) -> Result<RelPath, BadPath> {
        if self.is_root() {
            return RelPath::new(name);
        }
        check_name(name)?;
        let path = [&self.0, b"/".as_slice(), name].concat();
        match path.len() <= limits::PATH_BYTES_MAX {
            true => Ok(RelPath(path.into())),
            false => Err(BadPath::TooLong),
        }
    }

    /// Whether it is `directory` or below it.
    pub fn is_within(&self, directory: &RelPath) -> bool {
        directory.is_root()
            || self
                .0
                .strip_prefix(&*directory.0)
                .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
    }
}

/// Whether it may be one component of a path.
fn check_name(name: &[u8]) -> Result<(), BadPath> {
    if name.is_empty()
        || matches!(name, b"." | b"..")
        || name.iter().any(|byte| b"/\0".contains(byte))
    {
        return Err(BadPath::Escapes);
    }
    match name.len() <= limits::FILE_NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(BadPath::TooLong),
    }
}

impl TryFrom<Vec<u8>> for RelPath {
    type Error = BadPath;

    fn try_from(bytes: Vec<u8>) -> Result<RelPath, BadPath> {
        RelPath::new(&bytes)
    }
}

impl From<RelPath> for Vec<u8> {
    fn from(path: RelPath) -> Vec<u8> {
        path.0.into_vec()
    }
}

impl std::fmt::Display for RelPath {
    /// For events and errors: bytes that are not printable UTF-8 are escaped.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_root() {
            return f.write_str(".");
        }
        for part in self.0.utf8_chunks() {
            for letter in part.valid().chars() {
                if letter.is_control() {
                    write!(f, "{}", letter.escape_default())?;
                } else {
                    write!(f, "{letter}")?;
                }
            }
            for byte in part.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// One name in one tree. Ordered by tree, then path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Which tree.
    pub tree: TreeId,
    /// Which path below its root.
    pub path: RelPath,
}

/// A file time: seconds since 1970 and nanoseconds below a second.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    /// Seconds, negative before 1970.
    pub s: i64,
    /// Nanoseconds, below 10^9.
    pub ns: u32,
}

/// BLAKE3 of one chunk.
pub type ChunkHash = [u8; 32];

/// A regular file's content by its hashes. The last chunk may be shorter; an empty file has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Length in bytes.
    pub size: u64,
    /// Length of a chunk in bytes: [`Content::chunk_bytes_for`] of the size.
    pub chunk_bytes: u64,
    /// One hash for each chunk, in order.
    pub chunks: Vec<ChunkHash>,
}

impl Content {
    /// The chunk length for a file of `size`: 256 KiB, doubled until there are at most
    /// [`limits::CHUNKS_MAX`] of them.
    pub fn chunk_bytes_for(size: u64) -> u64 {
        let mut bytes = limits::CHUNK_BYTES_MIN;
        while size.div_ceil(bytes) > limits::CHUNKS_MAX {
            bytes *= 2;
        }
        bytes
    }

    /// Whether the numbers fit each other: checked for what a peer sent.
    pub fn is_consistent(&self) -> bool {
        self.chunk_bytes == Content::chunk_bytes_for(self.size)
            && self.chunks.len() as u64 == self.size.div_ceil(self.chunk_bytes)
    }
}

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A directory.
    Dir,
    /// A regular file.
    File(Content),
    /// A symbolic link; the target is bytes and never followed.
    Symlink {
        /// Where it points.
        target: Vec<u8>,
    },
    /// One more name of the regular file at `to` in the same tree. Of a file's names the lowest is the
    /// `File`, the others are `Link`s to it, with the same metadata.
    Link {
        /// The lowest name.
        to: RelPath,
    },
}

/// A name with everything that both nodes must agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with setuid, setgid and sticky: the low 12 bits. 0 for a symlink.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last modification.
    pub mtime: Stamp,
    /// Extended attributes (ACLs and capabilities among them), sorted by name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// 16 bytes of BLAKE3 over an entry with its key: what the two nodes compare.
pub type Digest = [u8; 16];

impl Entry {
    /// The digest of this entry under that key.
    pub fn digest(&self, key: &Key) -> Digest {
        let mut hasher = blake3::Hasher::new_derive_key("clusterd 2026 mirror entry");
        // Writing into a hasher cannot fail.
        let _ = postcard::to_io(&(key, self), &mut hasher);
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        digest
    }
}

/// What a look at a name shows on this node. Any change to the file changes one of these, but for
/// stores through a mapping (see `scan`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Inode number.
    pub ino: u64,
    /// Names of this inode.
    pub nlink: u64,
    /// Length in bytes.
    pub size: u64,
    /// Time of the last modification.
    pub mtime: Stamp,
    /// Time of the last change of anything.
    pub ctime: Stamp,
}

/// A name in the index.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// What the last common commit put there. `None`: it was changed or made here since, so that what
    /// is there is in no commit; it differs from whatever the peer has.
    pub entry: Option<Entry>,
    /// How it looked then on this node; `None`: not known, look again.
    pub seen: Option<Seen>,
}

impl Stored {
    /// The digest of what the index has under that key.
    pub fn digest(&self, key: &Key) -> Digest {
        match &self.entry {
            Some(entry) => entry.digest(key),
            None => {
                let mut hasher = blake3::Hasher::new_derive_key("clusterd 2026 mirror own change");
                // Writing into a hasher cannot fail.
                let _ = postcard::to_io(key, &mut hasher);
                let mut digest = [0; 16];
                hasher.finalize_xof().fill(&mut digest);
                digest
            }
        }
    }
}
