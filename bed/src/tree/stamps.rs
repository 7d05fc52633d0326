//! A writer whose order of writes can be checked: it stamps files with a number, then a manifest with
//! the same number, for ever. A copy of the directory in which the manifest is newer than a file is a
//! state that the directory never had.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::limits;

const MANIFEST: &str = "manifest";
/// Lines in a file, all equal: so it is longer than a page, and half a write is seen.
const LINES: usize = 300;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A new file is written and moved over the old one.
    Rename,
    /// The file is overwritten.
    InPlace,
}

/// A directory that is stamped.
#[derive(Debug)]
pub struct Stamper {
    dir: PathBuf,
    how: How,
    number: u64,
}

impl Stamper {
    /// Stamps in `dir`, which must be there; goes on where an earlier one ended.
    ///
    /// # Errors
    /// What is there can't be read, or was stamped in a wrong order.
    pub fn new(dir: &Path, how: How) -> Result<Stamper, StampError> {
        let number = check_stamps(dir)?.unwrap_or(0);
        Ok(Stamper { dir: dir.to_path_buf(), how, number })
    }

    /// Stamps every file, then the manifest, with the next number, which is returned.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn stamp(&mut self) -> io::Result<u64> {
        self.number += 1;
        for place in 0..limits::STAMPED_FILES {
            self.write(&name(place), LINES)?;
        }
        self.write(MANIFEST, 1)?;
        Ok(self.number)
    }

    fn write(&self, name: &str, lines: usize) -> io::Result<()> {
        let path = self.dir.join(name);
        let bytes = format!("{:020}\n", self.number).repeat(lines);
        match self.how {
            How::Rename => {
                let new = self.dir.join(format!("{name}.new"));
                File::create(&new)?.write_all(bytes.as_bytes())?;
                fs::rename(&new, &path)
            }
            How::InPlace => File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?
                .write_all_at(bytes.as_bytes(), 0),
        }
    }

    /// Stamps on a thread of its own, with a pause after each round, until the value that is returned is
    /// dropped or finished.
    ///
    /// # Errors
    /// No thread.
    pub fn start(mut self, pause: Duration) -> io::Result<Stamping> {
        let stop = Arc::new(AtomicBool::new(false));
        let number = Arc::new(AtomicU64::new(self.number));
        let (stop_thread, number_thread) = (Arc::clone(&stop), Arc::clone(&number));
        let thread = std::thread::Builder::new().name("bed-stamper".into()).spawn(move || {
            while !stop_thread.load(Ordering::SeqCst) {
                number_thread.store(self.stamp()?, Ordering::SeqCst);
                std::thread::sleep(pause);
            }
            Ok(())
        })?;
        Ok(Stamping { stop, number, thread: Some(thread) })
    }
}

/// A stamper that runs.
#[derive(Debug)]
pub struct Stamping {
    stop: Arc<AtomicBool>,
    number: Arc<AtomicU64>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Stamping {
    /// The number with which everything was stamped last.
    pub fn number(&self) -> u64 {
        self.number.load(Ordering::SeqCst)
    }

    /// Ends it; the last number.
    ///
    /// # Errors
    /// What stopped it before.
    pub fn finish(mut self) -> io::Result<u64> {
        self.end()?;
        Ok(self.number())
    }

    fn end(&mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("the stamper panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Stamping {
    fn drop(&mut self) {
        // Who wants to know how it ended calls `finish`.
        let _ = self.end();
    }
}

/// What is wrong with a stamped directory.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// It can't be read.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file that the manifest names is not there.
    #[error("the manifest is of {manifest}, but {file} is not there")]
    Missing {
        /// The manifest's number.
        manifest: u64,
        /// Which file.
        file: String,
    },
    /// A file is older than the manifest that names it.
    #[error("the manifest is of {manifest}, but {file} of {number}")]
    Older {
        /// The manifest's number.
        manifest: u64,
        /// Which file.
        file: String,
        /// The file's number.
        number: u64,
    },
    /// A file is not what any write left.
    #[error("{file} is half of a write: {lines} lines, from {first} to {last}")]
    Torn {
        /// Which file.
        file: String,
        /// Its lines.
        lines: usize,
        /// Its lowest number.
        first: u64,
        /// Its highest number.
        last: u64,
    },
}

/// Checks a stamped directory, or a copy of one in which nobody writes now: the manifest's number, or
/// `None` if there is no manifest.
///
/// # Errors
/// The manifest is newer than a file that it names, or a file was torn.
pub fn check_stamps(dir: &Path) -> Result<Option<u64>, StampError> {
    let Some(manifest) = read(dir, MANIFEST, 1)? else { return Ok(None) };
    for place in 0..limits::STAMPED_FILES {
        let file = name(place);
        match read(dir, &file, LINES)? {
            None => return Err(StampError::Missing { manifest, file }),
            Some(number) if number < manifest => {
                return Err(StampError::Older { manifest, file, number });
            }
            Some(_) => {}
        }
    }
    Ok(Some(manifest))
}

/// The number in a file, `None` if it is not there.
fn read(dir: &Path, name: &str, expected: usize) -> Result<Option<u64>, StampError> {
    let path = dir.join(name);
    let text = match fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StampError::Io { path, error }),
    };
    // What is no number counts as the oldest.
    let numbers: Vec<u64> = text.lines().map(|line| line.parse().unwrap_or(0)).collect();
    let (first, last) = (numbers.iter().min().copied(), numbers.iter().max().copied());
    match (first, last) {
        (Some(first), Some(last)) if first == last && numbers.len() == expected => Ok(Some(first)),
        _ => Err(StampError::Torn {
            file: name.to_owned(),
            lines: numbers.len(),
            first: first.unwrap_or(0),
            last: last.unwrap_or(0),
        }),
    }
}

fn name(place: usize) -> String {
    format!("stamped-{place:02}")
}
