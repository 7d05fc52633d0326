//! From a checked config to the daemon's processes.
//!
//! `clusterd run` does what can fail, and then becomes the guard: another program, `clusterd-heart`, which holds guard
//! and heart and nothing else, for both keep all of their program in locked memory. What it hands over is in `inherit`.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{self, Path, PathBuf};

use super::config_slots::{ConfigSlot, ConfigSlots};
use super::inherit::{self, Launch};
use crate::config::{Config, NodeIndex, ring::KeyRing};
use crate::sys::process;

/// The program of guard and heart; it lies beside this one.
const HEART_PROGRAM: &str = "clusterd-heart";

/// What `clusterd run` was asked to run.
#[derive(Debug)]
pub struct Settings {
    /// The checked config.
    pub config: Config,
    /// Where it was read from: SIGHUP has it read again.
    pub config_file: PathBuf,
    /// Which of its nodes this is.
    pub me: NodeIndex,
    /// The pair's keys.
    pub keys: KeyRing,
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
    /// The program of guard and heart is missing.
    #[error("cannot open {}, the program of guard and heart: {source}; install it beside clusterd", path.display())]
    HeartProgram {
        /// Where it should be.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
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

/// Starts the daemon in this process, which becomes the guard.
///
/// # Errors
/// Nothing was started.
pub fn run(settings: Settings) -> Result<Infallible, StartError> {
    for directory in [&settings.run_dir, &settings.state_dir] {
        make_directory(directory)?;
    }
    let lock = OwnedFd::from(take_lock(&settings.state_dir)?);
    // Both are opened once and executed by descriptor: an upgrade meanwhile mixes no versions.
    let own = std::env::current_exe().map_err(system("find this program"))?;
    let heart = own.with_file_name(HEART_PROGRAM);
    let heart_program =
        File::open(&heart).map_err(|source| StartError::HeartProgram { path: heart, source })?;
    let own_program = File::open("/proc/self/exe").map_err(system("open this program"))?;
    let config_slots =
        ConfigSlots::create(&ConfigSlot { config: settings.config, keys: settings.keys });
    let config_slots = config_slots.map_err(system("keep the config in memory"))?;
    let launch = Launch {
        version: inherit::VERSION.to_owned(),
        config_file: path::absolute(&settings.config_file).map_err(system("find the config"))?,
        me: settings.me,
        // Services are started in `/`.
        run_dir: path::absolute(&settings.run_dir).map_err(system("find the run directory"))?,
        state_dir: settings.state_dir,
        record: settings.record,
    };
    let launch = inherit::write(&launch).map_err(system("share memory"))?;
    let inherited =
        [launch, lock, inherit::copy(&config_slots)?, heart_program.into(), own_program.into()];
    let mut argv: Vec<OsString> = std::env::args_os().collect();
    argv.push(inherit::guard_word(&inherited));
    process::become_program(&inherited[3], &argv, &inherited).map_err(system("become the guard"))
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

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
}
