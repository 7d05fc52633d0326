//! `reload`, `standby`, `online` and `move`: what an administrator asks of the pair.

use std::process::ExitCode;
use std::time::Duration;

use super::{DONE, FAILED, Globals, NO_DAEMON, WRONG};
use crate::control::protocol::{Answer, Payload, Request};
use crate::control::socket::{self, AskError};
use crate::limits;

/// Puts a node into standby mode: this one if none is named.
pub fn standby(globals: &Globals, node: Option<String>) -> ExitCode {
    wish(globals, &Request::Standby { node })
}

/// Takes a node out of standby mode: this one if none is named.
pub fn online(globals: &Globals, node: Option<String>) -> ExitCode {
    wish(globals, &Request::Online { node })
}

/// Has the config file and the key file read again.
pub fn reload(globals: &Globals) -> ExitCode {
    wish(globals, &Request::Reload {})
}

/// Moves a group, and returns when its new owner serves.
pub fn move_group(
    globals: &Globals,
    group: String,
    node: Option<String>,
    accept_loss: bool,
) -> ExitCode {
    wish(globals, &Request::Move { group, node, accept_loss })
}

fn wish(globals: &Globals, request: &Request) -> ExitCode {
    let answer = socket::ask(&globals.run_dir, request, patience(request));
    let (code, text) = outcome(answer);
    if code == DONE {
        super::say(&text);
        return ExitCode::from(DONE);
    }
    super::fail(code, &text)
}

/// Longest time for the answer: slow services and a first full copy take theirs, and the daemon itself
/// says when it gives up.
pub(super) fn patience(request: &Request) -> Duration {
    match request {
        Request::Status {}
        | Request::Reload {}
        | Request::Standby { .. }
        | Request::Online { .. } => limits::CONTROL_WISH_PATIENCE,
        Request::Move { .. } | Request::Sync { .. } => limits::CONTROL_LONG_PATIENCE,
    }
}

/// Exit status and what to say.
pub(super) fn outcome(answer: Result<Answer, AskError>) -> (u8, String) {
    match answer {
        Ok(Answer::Ok(Payload::Text(text))) => (DONE, text),
        Ok(Answer::Ok(Payload::Status(_))) => {
            (FAILED, "the daemon gave an unexpected answer".into())
        }
        Ok(Answer::Refused(why)) => (FAILED, why),
        Ok(Answer::Unknown(what)) => (WRONG, what),
        Err(error @ AskError::NoDaemon { .. }) => (NO_DAEMON, error.to_string()),
        Err(error @ AskError::NotUnderstood { .. }) => (FAILED, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_are_those_of_the_contract() {
        let code = |answer| outcome(answer).0;
        assert_eq!(code(Ok(Answer::Ok(Payload::Text("done".into())))), 0);
        assert_eq!(code(Ok(Answer::Refused("no".into()))), 1);
        assert_eq!(code(Ok(Answer::Unknown("no group \"x\"".into()))), 2);
        let error = std::io::ErrorKind::NotFound.into();
        assert_eq!(code(Err(AskError::NoDaemon { path: "x".into(), error })), 3);
    }
}
