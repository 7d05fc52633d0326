//! The key file: 32 random bytes that both nodes share and nobody else can read; while the key is changed, the new
//! one and the one before it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::ring::{KeyRing, Ring};
use crate::limits::KEY_BYTES;

/// The pair's key.
pub type Key = [u8; KEY_BYTES];

/// Why a key file was refused, or could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It could not be opened or read.
    #[error("key file {}: {source}; make it with `clusterd keygen` and copy it to both nodes", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a directory, a device, a pipe.
    #[error("key file {}: it is not a regular file; make it with `clusterd keygen`", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// It belongs to another user than root.
    #[error("key file {0}: it belongs to user {uid}, not to root; run `chown root {0}`", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        uid: u32,
    },
    /// Group or others have a permission on it.
    #[error("key file {0}: its mode is {mode:04o} and others than root may use it; run `chmod 600 {0}`", path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It does not have 32 or 64 bytes.
    #[error("key file {}: it has {bytes} bytes, not 32 (or 64 while the key is changed); make it with `clusterd keygen`", path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// How many it has.
        bytes: u64,
    },
    /// The bytes of a key are all zero, as after a crash before they were on disk.
    #[error("key file {}: the bytes of a key are all zero; make a new one with `clusterd keygen`", path.display())]
    Zero {
        /// The file.
        path: PathBuf,
    },
    /// A new one would replace one that is there.
    #[error("{}: it exists and is not overwritten; remove it first, or name another file", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A new one could not be written.
    #[error("{}: cannot make the key: {source}", path.display())]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Reads the keys: a regular file of exactly one or two that belongs to root and is closed to all others.
pub fn read(path: &Path) -> Result<KeyRing, KeyError> {
    let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
    let path_buf = || path.to_owned();
    // Without O_NONBLOCK a pipe in its place would stop us here.
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
        .map_err(unreadable)?;
    let about = file.metadata().map_err(unreadable)?;
    if !about.is_file() {
        return Err(KeyError::NotAFile { path: path_buf() });
    }
    if about.uid() != 0 {
        return Err(KeyError::Owner { path: path_buf(), uid: about.uid() });
    }
    let mode = about.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(KeyError::Mode { path: path_buf(), mode });
    }
    let sizes = [KEY_BYTES, 2 * KEY_BYTES];
    let Some(size) = sizes.into_iter().find(|size| *size as u64 == about.len()) else {
        return Err(KeyError::Size { path: path_buf(), bytes: about.len() });
    };
    let mut bytes = vec![0; size];
    file.read_exact(&mut bytes).map_err(unreadable)?;
    KeyRing::from_bytes(&bytes).ok_or_else(|| KeyError::Zero { path: path_buf() })
}

/// A random key that follows `ring`, with its newest beside it.
pub fn next(ring: &KeyRing) -> io::Result<KeyRing> {
    Ok(Ring { newest: random()?, before: Some(ring.newest) })
}

/// Puts other keys into the key file: whole and durable, or the file is as it was.
pub fn replace(path: &Path, ring: &KeyRing) -> Result<(), KeyError> {
    let not_written = |source| KeyError::NotWritten { path: path.to_owned(), source };
    let write = || {
        // What a link names is replaced, not the link.
        let path = path.canonicalize()?;
        let mut new = path.clone().into_os_string();
        new.push(".new");
        let new = PathBuf::from(new);
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&ring.to_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &path)?;
        sync_dir(&path)
    };
    write().map_err(not_written)
}

fn random() -> io::Result<Key> {
    let mut key: Key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(key)
}

/// Writes a new random key to a new file, mode 0600, and makes it durable.
pub fn generate(path: &Path) -> Result<(), KeyError> {
    let not_written = |source| KeyError::NotWritten { path: path.to_owned(), source };
    let key = random().map_err(not_written)?;
    let created = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = created.map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.to_owned() },
        _ => not_written(source),
    })?;
    let written = file.write_all(&key).and_then(|()| file.sync_all()).and_then(|()| sync_dir(path));
    written.map_err(|source| {
        // Half a key is worse than none; if it cannot be removed either, the first error says more.
        let _ = std::fs::remove_file(path);
        not_written(source)
    })
}

/// The new name is durable only when its directory is.
fn sync_dir(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}
