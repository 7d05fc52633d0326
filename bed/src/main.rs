//! argv -> demo, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    clusterd_bed::demo::run(std::env::args_os())
}
