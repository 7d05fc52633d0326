//! Checks: whether a service does its work. Each has a deadline; what it learns beyond well or not is
//! only for people.

use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use super::cancellation::Cancellation;
use super::run::{End, Environment, Script, saying};
use crate::config::{Check, Probe};
use crate::sys::process::Exit;

/// Asks once. `Err`: why it is not well, in words.
pub(super) fn ask(
    check: &Check,
    environment: &Environment,
    cancel: &Cancellation,
) -> Result<(), String> {
    match &check.probe {
        Probe::Http(url) => http(url, check.timeout),
        Probe::Tcp(address) => TcpStream::connect_timeout(address, check.timeout)
            .map(drop)
            .map_err(|error| format!("{address}: {error}")),
        Probe::Exec(program) => exec(program, check.timeout, environment, cancel),
    }
}

/// The status line is enough: the body is not read, redirects are an answer, proxies are not asked.
fn http(url: &str, timeout: Duration) -> Result<(), String> {
    let config = ureq::Agent::config_builder()
        .timeout_global(Some(timeout))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("clusterd/", env!("CARGO_PKG_VERSION")))
        .build();
    match config.new_agent().get(url).call() {
        Ok(answer) if (200..400).contains(&answer.status().as_u16()) => Ok(()),
        Ok(answer) => Err(format!("{url} answers {}", answer.status())),
        Err(error) => Err(format!("{url}: {error}")),
    }
}

fn exec(
    program: &Path,
    patience: Duration,
    environment: &Environment,
    cancel: &Cancellation,
) -> Result<(), String> {
    let ran = Script { program, argument: None, environment, patience }.run(cancel);
    let what = match ran.end {
        End::Exit(Exit::Status(0)) => return Ok(()),
        End::Exit(exit) => format!("{} {exit}", program.display()),
        End::TooLong => format!("{} took longer than {patience:?}", program.display()),
        End::Pulled | End::Dropped => format!("{} was interrupted", program.display()),
        End::NotRun(error) => format!("{} cannot be run: {error}", program.display()),
    };
    Err(saying(&what, &ran.words))
}

#[cfg(test)]
mod tests;
