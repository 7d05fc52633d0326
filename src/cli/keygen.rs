//! `keygen`: a new key for a pair.

use std::path::Path;
use std::process::ExitCode;

use super::{DONE, FAILED, fail, say};
use crate::config::key;

/// Makes the key file; an existing one is never overwritten.
pub(super) fn run(file: &Path) -> ExitCode {
    match key::generate(file) {
        Ok(()) => {
            say(&format!("{}: new key; copy it to both nodes", file.display()));
            ExitCode::from(DONE)
        }
        Err(error) => fail(FAILED, &error.to_string()),
    }
}
