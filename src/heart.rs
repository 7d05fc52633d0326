//! The program of guard and heart, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    clusterd::daemon::heart_program::run(std::env::args_os())
}
