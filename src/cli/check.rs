//! `check`: the config and the key file, never interfaces.

use std::process::ExitCode;

use super::{DONE, Globals, WRONG, fail, say};
use crate::config::{self, key};

/// Checks the config and the key file; says "configuration OK" with the digest and the warnings.
pub(super) fn run(globals: &Globals) -> ExitCode {
    let config = match globals.load_for_any_node() {
        Ok(config) => config,
        Err(status) => return status,
    };
    let is_one_of_them = config.node_index(&globals.node).is_some();
    if globals.node_is_given && !is_one_of_them {
        return fail(WRONG, &globals.no_such_node(&config));
    }
    if let Err(error) = key::read(&config.key_file) {
        return fail(WRONG, &error.to_string());
    }
    say(&format!("configuration OK, digest {}", hex(&config.digest)));
    for warning in config::warnings(&config) {
        say(&format!("warning: {warning}"));
    }
    if !is_one_of_them {
        say(&format!("warning: {}", globals.no_such_node(&config)));
    }
    ExitCode::from(DONE)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
