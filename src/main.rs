//! argv -> verb, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    clusterd::cli::run(std::env::args_os())
}
