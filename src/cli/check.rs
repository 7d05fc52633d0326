//! `check`: the config and the key file, and only with `--hardware` interfaces and the LAN.

use std::process::ExitCode;

use super::{DONE, FAILED, Globals, WRONG, fail, hardware, say};
use crate::config::{self, key};

/// Checks the config and the key file; says "configuration OK" with the digest and the warnings.
pub(super) fn run(globals: &Globals, with_hardware: bool) -> ExitCode {
    let config = match globals.load_for_any_node() {
        Ok(config) => config,
        Err(status) => return status,
    };
    let me = config.node_index(&globals.node);
    let must_be_one = globals.node_is_given || with_hardware;
    if must_be_one && me.is_none() {
        return fail(WRONG, &globals.no_such_node(&config));
    }
    if let Err(error) = key::read(&config.key_file) {
        return fail(WRONG, &error.to_string());
    }
    say(&format!("configuration OK, digest {}", hex(&config.digest)));
    for warning in config::warnings(&config) {
        say(&format!("warning: {warning}"));
    }
    let Some(me) = me else {
        say(&format!("warning: {}", globals.no_such_node(&config)));
        return ExitCode::from(DONE);
    };
    if with_hardware {
        match hardware::look(globals, &config, me) {
            Ok(found) => {
                found.well.iter().for_each(|sentence| say(sentence));
                found.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
            }
            Err(error) => return fail(FAILED, &error),
        }
    }
    ExitCode::from(DONE)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
