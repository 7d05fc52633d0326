//! The program `clusterd-heart`: guard and heart. It is started by `clusterd run` and by the guard alone.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::process::ExitCode;
use std::time::Duration;

use super::{HEART_REFUSES, heart, inherit, logger};

/// A role failed or could not begin.
const FAILED: u8 = 1;

/// Becomes what the command line says.
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<String> =
        arguments.skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    if let Some(descriptors) = words.last().and_then(|word| inherit::guard_descriptors(word)) {
        logger::install("guard", Duration::ZERO);
        return inherit::run_guard(&descriptors)
            .unwrap_or_else(|error| fail(FAILED, &format!("guard: {error}")));
    }
    let descriptors: Result<Vec<RawFd>, _> =
        words.iter().skip(1).map(|word| word.parse()).collect();
    match (words.first().map(String::as_str), descriptors) {
        (Some("heart"), Ok(descriptors)) => beat(&descriptors),
        (_, _) => fail(FAILED, "this program is started by `clusterd run`"),
    }
}

fn beat(descriptors: &[RawFd]) -> ExitCode {
    let inherited = match inherit::inherit_heart(descriptors) {
        Ok(inherited) => inherited,
        Err(error) => return fail(FAILED, &format!("heart: {error}")),
    };
    match heart::run(inherited) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let status = if error.is_lasting() { HEART_REFUSES } else { FAILED };
            fail(status, &format!("heart: {error}"))
        }
    }
}

fn fail(status: u8, reason: &str) -> ExitCode {
    eprintln!("clusterd: {reason}");
    ExitCode::from(status)
}
