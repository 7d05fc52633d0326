//! What a process of the daemon leaves open for the next: the numbers of the descriptors are in the command line.
//!
//! ```text
//!                launch  lock  slots  page  channel's end  guard pipe   programs
//! guard             x      x     x                                      heart, clusterd   clusterd run ... --guard=A,B,C,D,E
//!   heart           x      x     x     x        x          reading end                    clusterd heart A B C D E F
//!   worker          x      x     x              x                                         clusterd work A B C D
//! ```
//! The launch is a memfd with what the processes must know, the slots one with config and keys; all were read from disk once:
//! a restarted heart needs no file, and meets no other config than the one in effect. The lock is kept by all three: a
//! second daemon must not come up while a heart without its guard still serves.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::ExitCode;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::channel::{self, HeartChannel, WorkerChannel};
use super::config_slots::{ConfigSlot, ConfigSlots};
use super::guard::last_will::LastWill;
use super::guard::page::Page;
use super::guard::{self, Guarded};
use super::start::{StartError, system};
use crate::config::{self, Config, NodeIndex, ring::KeyRing};
use crate::limits::{self, LAUNCH_BYTES_MAX};
use crate::sys::process::{Program, take_inherited};

/// The version of both programs.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Begins the word of the guard's command line that names its descriptors.
const GUARD_WORD: &str = "--guard=";

/// What all processes of the daemon must know.
#[derive(Debug, Serialize, Deserialize)]
pub struct Launch {
    /// Of the program that starts the daemon.
    pub version: String,
    /// Where a reload reads the config from; absolute.
    pub config_file: PathBuf,
    /// Which of its nodes this is.
    pub me: NodeIndex,
    /// What must not survive a reboot; absolute.
    pub run_dir: PathBuf,
    /// What must survive a reboot.
    pub state_dir: PathBuf,
    /// Where every input of the heart is recorded.
    pub record: Option<PathBuf>,
}

/// What a heart starts with.
#[derive(Debug)]
pub struct HeartInherits {
    /// The checked config.
    pub config: Config,
    /// Which of its nodes this is.
    pub me: NodeIndex,
    /// The pair's keys.
    pub keys: KeyRing,
    /// Where the control socket is made.
    pub run_dir: PathBuf,
    /// Every input is recorded: the config's text, for the recording's first line.
    pub record: Option<String>,
    /// Shared with the guard.
    pub page: Page,
    /// To the worker.
    pub channel: HeartChannel,
    /// Reading end of a pipe whose other end only the guard holds: at its end, the guard is gone.
    pub guard: OwnedFd,
    /// Keeps the state directory ours as long as this process lives.
    pub lock: OwnedFd,
    /// The config in effect, and one that is offered.
    pub config_slots: ConfigSlots,
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
    /// The pair's keys.
    pub keys: KeyRing,
    /// What must not survive a reboot; absolute.
    pub run_dir: PathBuf,
    /// What must survive a reboot.
    pub state_dir: PathBuf,
    /// Where every input of the heart is recorded.
    pub record: Option<PathBuf>,
    /// To the heart.
    pub channel: WorkerChannel,
    /// Keeps the state directory ours as long as this process lives.
    pub lock: OwnedFd,
    /// The config in effect, and where another is offered.
    pub config_slots: ConfigSlots,
}

/// The word that names these descriptors to the guard.
pub fn guard_word(inherited: &[OwnedFd]) -> OsString {
    let numbers: Vec<String> = inherited.iter().map(|fd| fd.as_raw_fd().to_string()).collect();
    format!("{GUARD_WORD}{}", numbers.join(",")).into()
}

/// The descriptors in a guard's word, if it is one.
pub fn guard_descriptors(word: &str) -> Option<Vec<RawFd>> {
    let numbers = word.strip_prefix(GUARD_WORD)?.split(',').map(str::parse);
    numbers.collect::<Result<_, _>>().ok()
}

/// Takes over what `clusterd run` left for the guard, prepares its children, and is the guard until the daemon has
/// ended.
///
/// # Errors
/// The descriptors are not these; the two programs are of different versions; nothing was started.
pub fn run_guard(descriptors: &[RawFd]) -> Result<ExitCode, StartError> {
    let [launched, lock, config_slots, heart_program, own_program] = inherit(descriptors)?;
    let launch = read_launch(&launched)?;
    if launch.version != VERSION {
        let versions = format!("clusterd is {}, clusterd-heart is {VERSION}", launch.version);
        return Err(StartError::Inherited(format!("{versions}: install both of one version")));
    }
    let config_slots = ConfigSlots::open(config_slots);
    let ConfigSlot { config, .. } = in_effect(&config_slots)?;
    let page = Page::create().map_err(system("share memory"))?;
    page.set_end_patience(config.hand_over_time() + limits::HEART_END_PATIENCE);
    let (heart_end, worker_end) = channel::pair().map_err(system("make a socket pair"))?;
    let (guard_read, guard_write) = io::pipe().map_err(system("make a pipe"))?;
    let for_heart = vec![
        copy(&launched)?,
        copy(&lock)?,
        copy(&config_slots)?,
        copy(&page)?,
        copy(&heart_end)?,
        OwnedFd::from(guard_read),
    ];
    let for_worker = vec![launched, lock, copy(&config_slots)?, copy(&worker_end)?];
    let prepared = system("prepare the child processes");
    let heart = child(heart_program, "heart", for_heart).map_err(&prepared)?;
    let worker = child(own_program, "work", for_worker).map_err(&prepared)?;
    drop((heart_end, worker_end));
    let last_will = LastWill::open(&config, launch.me);
    let guarded = Guarded { page, heart, worker, last_will, alive: guard_write.into() };
    guard::run(guarded).map_err(system("become the guard"))
}

/// Takes over what the guard left for a heart.
///
/// # Errors
/// The descriptors are not these.
pub fn inherit_heart(descriptors: &[RawFd]) -> Result<HeartInherits, StartError> {
    let [launched, lock, config_slots, page, channel, guard] = inherit(descriptors)?;
    let launch = read_launch(&launched)?;
    let config_slots = ConfigSlots::open(config_slots);
    let ConfigSlot { config, keys } = in_effect(&config_slots)?;
    Ok(HeartInherits {
        me: launch.me,
        keys,
        run_dir: launch.run_dir,
        record: launch.record.map(|_| config::normal::print(&config)),
        config,
        page: Page::open(page).map_err(|error| StartError::Inherited(error.to_string()))?,
        channel: HeartChannel::new(channel),
        guard,
        lock,
        config_slots,
    })
}

/// Takes over what the guard left for a worker.
///
/// # Errors
/// The descriptors are not these.
pub fn inherit_worker(descriptors: &[RawFd]) -> Result<WorkerInherits, StartError> {
    let [launched, lock, config_slots, channel] = inherit(descriptors)?;
    let Launch { version: _, config_file, me, run_dir, state_dir, record } =
        read_launch(&launched)?;
    let config_slots = ConfigSlots::open(config_slots);
    let ConfigSlot { config, keys } = in_effect(&config_slots)?;
    let channel = WorkerChannel::new(channel);
    Ok(WorkerInherits {
        config,
        config_file,
        me,
        keys,
        run_dir,
        state_dir,
        record,
        channel,
        lock,
        config_slots,
    })
}

fn in_effect(config_slots: &ConfigSlots) -> Result<ConfigSlot, StartError> {
    config_slots.current().map_err(|error| StartError::Inherited(error.to_string()))
}

fn inherit<const N: usize>(numbers: &[RawFd]) -> Result<[OwnedFd; N], StartError> {
    let taken: io::Result<Vec<_>> = numbers.iter().map(|&number| take_inherited(number)).collect();
    let taken = taken.map_err(|error| StartError::Inherited(error.to_string()))?;
    taken
        .try_into()
        .map_err(|taken: Vec<_>| StartError::Inherited(format!("{} descriptors", taken.len())))
}

/// A program of the daemon, in a role.
fn child(program: OwnedFd, role: &str, inherited: Vec<OwnedFd>) -> io::Result<Program> {
    let numbers = inherited.iter().map(|fd| fd.as_raw_fd().to_string().into());
    let argv: Vec<OsString> = ["clusterd".into(), role.into()].into_iter().chain(numbers).collect();
    Program::of_file(program, &argv, inherited)
}

/// Another descriptor of the same file.
///
/// # Errors
/// Too many are open.
pub fn copy(fd: &impl AsFd) -> Result<OwnedFd, StartError> {
    fd.as_fd().try_clone_to_owned().map_err(system("copy a descriptor"))
}

/// Puts a launch into memory of its own.
///
/// # Errors
/// No memory.
pub fn write(launch: &Launch) -> io::Result<OwnedFd> {
    let mut file = File::from(memfd_create(c"clusterd-launch", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(&serde_json::to_vec(launch)?)?;
    Ok(file.into())
}

/// Reads at fixed places: all processes share one file position.
fn read_launch(fd: &impl AsFd) -> Result<Launch, StartError> {
    let file = File::from(copy(fd)?);
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
    fn a_launch_can_be_read_again_and_again() {
        let content = Launch {
            version: VERSION.to_owned(),
            config_file: "/etc/clusterd/clusterd.toml".into(),
            me: NodeIndex::Upper,
            run_dir: "/run/clusterd".into(),
            state_dir: "/var/lib/clusterd".into(),
            record: Some("r".into()),
        };
        let fd = write(&content).unwrap();
        for _ in 0..2 {
            assert_eq!(read_launch(&fd).unwrap().record, content.record);
        }
    }

    #[test]
    fn the_guards_word_names_descriptors() {
        let fds = [File::open("/dev/null").unwrap().into()];
        let word = guard_word(&fds);
        assert_eq!(guard_descriptors(word.to_str().unwrap()), Some(vec![fds[0].as_raw_fd()]));
        assert_eq!(guard_descriptors("--guard=3,x"), None);
        assert_eq!(guard_descriptors("run"), None);
    }

    #[test]
    fn a_stranger_is_told_to_use_run() {
        let error = inherit_worker(&[999]).unwrap_err().to_string();
        assert!(error.contains("clusterd run"), "{error}");
    }
}
