//! `demo`: becomes another program, `clusterd-demo`. A server needs neither it nor what it is made of.

use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use super::{FAILED, fail};

const PROGRAM: &str = "clusterd-demo";

/// Becomes the demo; returns only if that is impossible.
pub(super) fn run(arguments: &[OsString]) -> ExitCode {
    let error = Command::new(found()).args(arguments).exec();
    fail(FAILED, &reason(&error))
}

/// Beside this program, as both are installed and built; else wherever PATH has it.
fn found() -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.as_deref().and_then(Path::parent).map(|directory| directory.join(PROGRAM));
    beside.filter(|path| path.exists()).unwrap_or_else(|| OsStr::new(PROGRAM).into())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => format!(
            "the demo is a program of its own, {PROGRAM}, which is neither beside clusterd nor in PATH: install it with \
             `make install`, or with `cargo install --locked --path bed` in clusterd's source"
        ),
        _ => format!("{PROGRAM} cannot be run: {error}"),
    }
}
