//! From a checked config to three processes.
//!
//! `run` does what can fail, then becomes the guard. The guard's children are this same program, started
//! again with the numbers of the descriptors that they inherit:
//!
//! ```text
//!                launch   page   link's end   guard pipe   lock  shelf
//! heart             x       x        x        reading end    x      x    clusterd heart A B C D E F
//! worker            x                x                       x      x    clusterd work A B C D
//! guard                     x      both       writing end    x
//! ```
//! A launch is a memfd with what a child must know, the shelf one with the config, both read from disk
//! once: a restarted heart needs no file, and meets no other config than the one in effect. The lock is kept by all three: a
//! second daemon must not come up while a heart without its guard still serves.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{self, Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::guard::{self, Guarded};
use super::last_will::LastWill;
use super::link::{self, HeartLink, WorkerLink};
use super::logger;
use super::page::Page;
use super::shelf::Shelf;
use crate::config::{self, Config, NodeIndex, key::Key};
use crate::limits::{self, LAUNCH_BYTES_MAX};
use crate::sys::process::{Program, take_inherited};

/// What `clusterd run` was asked to run.
#[derive(Debug)]
pub struct Settings {
    /// The checked config.
    pub config: Config,
    /// Where it was read from: SIGHUP has it read again.
    pub config_file: PathBuf,
    /// Which of its nodes this is.
    pub me: NodeIndex,
    /// The pair's key.
    pub key: Key,
    /// Where the control socket will be.
    pub run_dir: PathBuf,
    /// What must survive a reboot.
    pub state_dir: PathBuf,
    /// Where every input of the heart is recorded.
    pub record: Option<PathBuf>,
}

/// Why the daemon, or one of its processes, cannot start. Each sentence names the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory is missing and cannot be made.
    #[error("cannot make the directory {}: {source}; make it, or name another", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock file cannot be opened.
    #[error("cannot open {}: {source}; is the file system writable?", path.display())]
    Lock {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another daemon uses the state directory.
    #[error("{} is in use by another clusterd (process {holder}); stop that one first, or name another --state-dir. If that process is gone, its heart serves on unguarded: end it in order with `pkill -TERM clusterd-heart`", path.display())]
    InUse {
        /// The state directory.
        path: PathBuf,
        /// What the lock file says.
        holder: String,
    },
    /// What the guard left for a child is not what it should be.
    #[error("this verb is for clusterd's own processes only ({0}); use `clusterd run`")]
    Inherited(String),
    /// Something that never fails on a working system.
    #[error("the system refused to {what}: {source}")]
    System {
        /// To do what.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
}

pub(super) fn system(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::System { what, source }
}

/// What the guard hands to a heart.
#[derive(Serialize, Deserialize)]
struct HeartLaunch {
    me: NodeIndex,
    key: Key,
    run_dir: PathBuf,
    record: bool,
}

/// What the guard hands to a worker.
#[derive(Serialize, Deserialize)]
struct WorkerLaunch {
    config_file: PathBuf,
    me: NodeIndex,
    key: Key,
    run_dir: PathBuf,
    state_dir: PathBuf,
    record: Option<PathBuf>,
}

/// What a heart starts with.
#[derive(Debug)]
pub struct HeartInherits {
    /// The checked config.
    pub config: Config,
    /// Which of its nodes this is.
    pub me: NodeIndex,
    /// The pair's key.
    pub key: Key,
    /// Where the control socket is made.
    pub run_dir: PathBuf,
    /// Every input is recorded: the config's text, for the recording's first line.
    pub record: Option<String>,
    /// Shared with the guard.
    pub page: Page,
    /// To the worker.
    pub link: HeartLink,
    /// Reading end of a pipe whose other end only the guard holds: at its end, the guard is gone.
    pub guard: OwnedFd,
    /// Keeps the state directory ours as long as this process lives.
    pub lock: OwnedFd,
    /// The config in effect, and one that is offered.
    pub shelf: Shelf,
}

/// What a worker starts with.
#[derive(Debug)]
pub struct WorkerInherits {
    /// The checked config.
    pub config: Config,
    /// Where a reload reads it from.
    pub config_file: PathBuf,
    /// Which of its nodes this is.
    pub me: NodeIndex,
    /// The pair's key.
    pub key: Key,
    /// What must not survive a reboot; absolute.
    pub run_dir: PathBuf,
    /// What must survive a reboot.
    pub state_dir: PathBuf,
    /// Where every input of the heart is recorded.
    pub record: Option<PathBuf>,
    /// To the heart.
    pub link: WorkerLink,
    /// Keeps the state directory ours as long as this process lives.
    pub lock: OwnedFd,
    /// The config in effect, and where another is offered.
    pub shelf: Shelf,
}

/// Starts the daemon in this process, which becomes the guard. Returns when it has ended.
///
/// # Errors
/// Nothing was started.
pub fn run(settings: Settings) -> Result<ExitCode, StartError> {
    logger::install("guard", Duration::ZERO);
    for directory in [&settings.run_dir, &settings.state_dir] {
        make_directory(directory)?;
    }
    let lock = OwnedFd::from(take_lock(&settings.state_dir)?);
    let page = Page::create().map_err(system("share memory"))?;
    let (heart_end, worker_end) = link::pair().map_err(system("make a socket pair"))?;
    let (guard_read, guard_write) = io::pipe().map_err(system("make a pipe"))?;

    page.set_end_patience(settings.config.hand_over_time() + limits::HEART_END_PATIENCE);
    let last_will = LastWill::open(&settings.config, settings.me);
    let shelf = Shelf::create(&config::normal::print(&settings.config));
    let shelf = shelf.map_err(system("keep the config in memory"))?;
    let worker_launch = launch(&WorkerLaunch {
        config_file: path::absolute(&settings.config_file).map_err(system("find the config"))?,
        me: settings.me,
        key: settings.key,
        // Services are started in `/`.
        run_dir: path::absolute(&settings.run_dir).map_err(system("find the run directory"))?,
        state_dir: settings.state_dir,
        record: settings.record.clone(),
    });
    let heart_launch = launch(&HeartLaunch {
        me: settings.me,
        key: settings.key,
        run_dir: settings.run_dir,
        record: settings.record.is_some(),
    });
    let copy = |fd: &dyn AsFd| fd.as_fd().try_clone_to_owned();
    let prepare = || {
        let for_heart = vec![
            heart_launch?,
            copy(&page)?,
            copy(&heart_end)?,
            OwnedFd::from(guard_read),
            copy(&lock)?,
            copy(&shelf)?,
        ];
        let for_worker = vec![worker_launch?, copy(&worker_end)?, lock, copy(&shelf)?];
        Ok((child("heart", for_heart)?, child("work", for_worker)?))
    };
    let (heart, worker) = prepare().map_err(system("prepare the child processes"))?;
    drop((heart_end, worker_end));
    let alive = guard_write.into();
    guard::run(Guarded { page, heart, worker, last_will, alive })
        .map_err(system("become the guard"))
}

/// Takes over what the guard left for a heart: launch, page, link, guard pipe, lock, shelf.
///
/// # Errors
/// The descriptors are not these.
pub fn inherit_heart(descriptors: &[RawFd]) -> Result<HeartInherits, StartError> {
    let [launch, page, link, guard, lock, shelf] = inherit(descriptors)?;
    let launch: HeartLaunch = read_launch(launch)?;
    let shelf = Shelf::open(shelf);
    let config = in_effect(&shelf)?;
    nix::sys::prctl::set_name(c"clusterd-heart")
        .map_err(|error| system("name the process")(error.into()))?;
    Ok(HeartInherits {
        config: parse(&config)?,
        me: launch.me,
        key: launch.key,
        run_dir: launch.run_dir,
        record: launch.record.then_some(config),
        page: Page::open(page).map_err(|error| StartError::Inherited(error.to_string()))?,
        link: HeartLink::new(link),
        guard,
        lock,
        shelf,
    })
}

/// Takes over what the guard left for a worker: launch, link, lock, shelf.
///
/// # Errors
/// The descriptors are not these.
pub fn inherit_worker(descriptors: &[RawFd]) -> Result<WorkerInherits, StartError> {
    let [launch, link, lock, shelf] = inherit(descriptors)?;
    let WorkerLaunch { config_file, me, key, run_dir, state_dir, record } = read_launch(launch)?;
    let (shelf, link) = (Shelf::open(shelf), WorkerLink::new(link));
    let config = parse(&in_effect(&shelf)?)?;
    Ok(WorkerInherits {
        config,
        config_file,
        me,
        key,
        run_dir,
        state_dir,
        record,
        link,
        lock,
        shelf,
    })
}

fn in_effect(shelf: &Shelf) -> Result<String, StartError> {
    shelf.current().map_err(|error| StartError::Inherited(error.to_string()))
}

fn parse(config: &str) -> Result<Config, StartError> {
    config::parse(config, "the config in effect")
        .map_err(|error| StartError::Inherited(error.to_string()))
}

fn inherit<const N: usize>(numbers: &[RawFd]) -> Result<[OwnedFd; N], StartError> {
    let taken: io::Result<Vec<_>> = numbers.iter().map(|&number| take_inherited(number)).collect();
    let taken = taken.map_err(|error| StartError::Inherited(error.to_string()))?;
    taken
        .try_into()
        .map_err(|taken: Vec<_>| StartError::Inherited(format!("{} descriptors", taken.len())))
}

fn make_directory(path: &Path) -> Result<(), StartError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(path)
        .map_err(|source| StartError::Directory { path: path.to_owned(), source })
}

/// Locks `<state-dir>/lock` (flock(2): it belongs to the open file, whoever inherits it) and writes this
/// process's number into it, for the one who finds it locked.
fn take_lock(state_dir: &Path) -> Result<File, StartError> {
    let path = state_dir.join("lock");
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o640);
    let refused = |source| StartError::Lock { path: path.clone(), source };
    let mut file = options.open(&path).map_err(refused)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            // Only for the sentence: without it, the sentence says less.
            let _ = Read::by_ref(&mut file).take(20).read_to_string(&mut holder);
            let holder = holder.trim().to_owned();
            return Err(StartError::InUse { path: state_dir.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(refused(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(refused)?;
    Ok(file)
}

/// This program again, in another role.
fn child(role: &str, inherited: Vec<OwnedFd>) -> io::Result<Program> {
    let numbers = inherited.iter().map(|fd| fd.as_raw_fd().to_string().into());
    let argv: Vec<OsString> = ["clusterd".into(), role.into()].into_iter().chain(numbers).collect();
    Program::new(Path::new("/proc/self/exe"), &argv, &[], inherited)
}

fn launch(content: &impl Serialize) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"clusterd-launch", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(content)?)?;
    Ok(file.into())
}

/// Reads at fixed places: all children share one file position.
fn read_launch<T: DeserializeOwned>(fd: OwnedFd) -> Result<T, StartError> {
    let file = File::from(fd);
    let mut bytes = vec![0; LAUNCH_BYTES_MAX];
    let mut length = 0;
    let read = loop {
        match file.read_at(bytes.get_mut(length..).unwrap_or_default(), length as u64) {
            Ok(0) => break serde_json::from_slice(bytes.get(..length).unwrap_or_default()),
            Ok(more) => length += more,
            Err(error) => return Err(StartError::Inherited(error.to_string())),
        }
    };
    read.map_err(|error| StartError::Inherited(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_directory_has_one_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = directory.path().join("a/b");
        make_directory(&state_dir).unwrap();
        make_directory(&state_dir).unwrap();
        let first = take_lock(&state_dir).unwrap();
        let error = take_lock(&state_dir).unwrap_err().to_string();
        assert!(error.contains(&format!("(process {})", std::process::id())), "{error}");
        // A heart that outlives its guard keeps the lock.
        let inherited = first.as_fd().try_clone_to_owned().unwrap();
        drop(first);
        take_lock(&state_dir).unwrap_err();
        drop(inherited);
        take_lock(&state_dir).unwrap();
    }

    #[test]
    fn a_launch_can_be_read_again_and_again() {
        let content = WorkerLaunch {
            config_file: "/etc/clusterd/clusterd.toml".into(),
            me: NodeIndex::Upper,
            key: [7; 32],
            run_dir: "/run/clusterd".into(),
            state_dir: "/var/lib/clusterd".into(),
            record: Some("r".into()),
        };
        let fd = launch(&content).unwrap();
        for _ in 0..2 {
            let read: WorkerLaunch = read_launch(fd.try_clone().unwrap()).unwrap();
            assert_eq!(read.record, content.record);
        }
    }

    #[test]
    fn a_stranger_is_told_to_use_run() {
        let error = inherit_worker(&[999]).unwrap_err().to_string();
        assert!(error.contains("clusterd run"), "{error}");
    }
}
