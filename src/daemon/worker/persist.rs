//! What must survive: `state.json` and the lock file `standby` in the state directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::core::DiskState;
use crate::daemon::channel::{ToHeart, WorkerChannel};
use crate::limits::{PERSIST_AGAIN_AFTER, STATE_BYTES_MAX};

/// The format that this program reads and writes.
const FORMAT: u32 = 1;

/// `state.json`.
#[derive(Serialize, Deserialize)]
struct StateFile {
    format: u32,
    state: DiskState,
}

/// Why the state cannot be read or written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The system refused.
    #[error("{path}: {what}")]
    System {
        /// Which file or directory.
        path: String,
        /// What the system said.
        what: String,
    },
    /// It is there and makes no sense.
    #[error(
        "{path} cannot be parsed ({what}); restore a good copy, or, if the other node serves, remove the file: \
         this node then starts as one that has never served"
    )]
    Corrupt {
        /// Which file.
        path: String,
        /// What is wrong.
        what: String,
    },
}

/// The state directory.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    state: PathBuf,
    temporary: PathBuf,
    standby: PathBuf,
}

impl Store {
    /// The store in `directory`, which exists.
    pub fn new(directory: &Path) -> Store {
        Store {
            directory: directory.to_owned(),
            state: directory.join("state.json"),
            temporary: directory.join("state.json.new"),
            standby: directory.join("standby"),
        }
    }

    /// What is on disk. No file: a node that never served. `standby` is whether the lock file exists,
    /// whoever made it.
    ///
    /// # Errors
    /// The file is there and cannot be read or understood: nobody knows what this node may do.
    pub fn load(&self) -> Result<DiskState, StoreError> {
        let mut state = self.read_state()?;
        state.standby = match self.standby.symlink_metadata() {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(system(&self.standby)(error)),
        };
        Ok(state)
    }

    fn read_state(&self) -> Result<DiskState, StoreError> {
        let file = match File::open(&self.state) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(DiskState::default());
            }
            Err(error) => return Err(system(&self.state)(error)),
        };
        let mut bytes = Vec::new();
        file.take(STATE_BYTES_MAX).read_to_end(&mut bytes).map_err(system(&self.state))?;
        let corrupt = |what| StoreError::Corrupt { path: self.state.display().to_string(), what };
        let read: StateFile =
            serde_json::from_slice(&bytes).map_err(|error| corrupt(error.to_string()))?;
        match read.format {
            FORMAT => Ok(read.state),
            other => Err(corrupt(format!("format {other}, expected {FORMAT}"))),
        }
    }

    /// Makes `state` durable: at any moment, also after a power cut, the old or the new `state.json` is
    /// there whole.
    ///
    /// # Errors
    /// The disk refuses. Then the old state, the new one or its lock file alone may be there.
    pub fn save(&self, state: &DiskState) -> Result<(), StoreError> {
        let content = StateFile { format: FORMAT, state: state.clone() };
        let bytes = serde_json::to_vec_pretty(&content).map_err(io::Error::from);
        let bytes = bytes.map_err(system(&self.temporary))?;
        write_durably(&self.temporary, &bytes).map_err(system(&self.temporary))?;
        std::fs::rename(&self.temporary, &self.state).map_err(system(&self.state))?;
        if state.standby {
            // Whoever made it first: an existing lock stays as it is.
            match open_new(&self.standby).and_then(|lock| lock.sync_all()) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(system(&self.standby)(error));
                }
                Ok(()) | Err(_) => {}
            }
        } else {
            match std::fs::remove_file(&self.standby) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(system(&self.standby)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(system(&self.directory))
    }
}

fn system(path: &Path) -> impl Fn(io::Error) -> StoreError {
    let path = path.display().to_string();
    move |error| StoreError::System { path: path.clone(), what: error.to_string() }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o640);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn open_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)
}

/// What waits for the disk: only the newest write, and a new heart's question.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    persist: Option<(u64, DiskState)>,
    hello: Option<u64>,
    closed: bool,
}

impl Inbox {
    /// Asks for a write; it replaces one that was not begun.
    pub fn persist(&self, write: u64, state: DiskState) {
        self.change(|waiting| waiting.persist = Some((write, state)));
    }

    /// A new heart asks what is on disk.
    pub fn hello(&self, nonce: u64) {
        self.change(|waiting| waiting.hello = Some(nonce));
    }

    /// Nothing more will come.
    pub fn close(&self) {
        self.change(|waiting| waiting.closed = true);
    }

    fn change(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// What waits; if `retrying`, waits only until the time for another attempt.
    fn take(&self, retrying: bool) -> Waiting {
        let idle = |waiting: &mut Waiting| {
            waiting.persist.is_none() && waiting.hello.is_none() && !waiting.closed
        };
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut waiting = if retrying {
            let waited = self.changed.wait_timeout_while(waiting, PERSIST_AGAIN_AFTER, idle);
            waited.unwrap_or_else(PoisonError::into_inner).0
        } else {
            let waited = self.changed.wait_while(waiting, idle);
            waited.unwrap_or_else(PoisonError::into_inner)
        };
        let closed = waiting.closed;
        Waiting { closed, ..std::mem::take(&mut *waiting) }
    }
}

/// The persister's thread: writes, acknowledges, answers hearts, until the inbox is closed.
pub fn run(store: &Store, inbox: &Inbox, channel: &WorkerChannel) {
    let tell = |message: ToHeart| {
        if let Err(error) = channel.send(&message) {
            log::warn!("the heart could not be told about the disk: {error}");
        }
    };
    let mut pending: Option<(u64, DiskState)> = None;
    let mut failing: Option<StoreError> = None;
    loop {
        let waiting = inbox.take(pending.is_some());
        pending = waiting.persist.or(pending);
        if let Some((write, state)) = &pending {
            match store.save(state) {
                Ok(()) => {
                    tell(ToHeart::Persisted { write: *write });
                    pending = None;
                    failing = None;
                }
                Err(error) => {
                    if failing.as_ref() != Some(&error) {
                        log::error!("the state could not be written: {error}");
                        tell(ToHeart::PersistFailed { error: error.to_string() });
                    }
                    failing = Some(error);
                }
            }
        }
        if let Some(nonce) = waiting.hello {
            // What the heart before wanted was never acknowledged: the new one builds on the disk alone.
            pending = None;
            failing = None;
            tell(ToHeart::HelloAck {
                nonce,
                disk: store.load().map_err(|error| error.to_string()),
            });
        }
        if waiting.closed {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
