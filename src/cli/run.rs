//! `run`: the daemon in the foreground, and the hidden verbs by which its processes are started.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{FAILED, Globals, WRONG, fail};
use crate::config::key;
use crate::daemon::start::{self, Settings};
use crate::daemon::{inherit, worker};
use crate::service::holder;

/// Runs the daemon until it is told to end (SIGTERM).
pub(super) fn run(globals: &Globals, record: Option<PathBuf>) -> ExitCode {
    let (config, me) = match globals.load_config() {
        Ok(loaded) => loaded,
        Err(status) => return status,
    };
    let keys = match key::read(&config.key_file) {
        Ok(keys) => keys,
        Err(error) => return fail(WRONG, &error.to_string()),
    };
    let (run_dir, state_dir) = (globals.run_dir.clone(), globals.state_dir.clone());
    let config_file = globals.config.clone();
    match start::run(Settings { config, config_file, me, keys, run_dir, state_dir, record }) {
        Ok(never) => match never {},
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

/// The worker's process, with what the guard left it.
pub(super) fn work(descriptors: &[RawFd]) -> ExitCode {
    match inherit::inherit_worker(descriptors).and_then(worker::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &format!("worker: {error}")),
    }
}

/// The parent of a service's processes.
pub(super) fn hold(record: &Path, program: &Path) -> ExitCode {
    match holder::run(record, program) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, &format!("hold {}: {error}", program.display())),
    }
}
