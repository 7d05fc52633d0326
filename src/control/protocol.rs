//! The words on the control socket: one JSON line asks, one JSON line answers, then it is closed.
//!
//! | asked | answered |
//! | --- | --- |
//! | `{"verb":"status"}` | `{"ok":{…}}`, the object of `status --json` |
//! | `{"verb":"reload"}` | `{"ok":"what was done"}` |
//! | `{"verb":"standby","node":"serv1"}`, `online` alike | `{"ok":"what was done"}` |
//! | `{"verb":"move","group":"web","node":null,"accept_loss":false}` | `{"ok":"what was done"}` |
//! | `{"verb":"sync","group":"web","wait":true}` | `{"ok":"what was done"}`, with `wait` when it is done |
//! | something that may not be | `{"refused":"why"}` |
//! | a group or node that is not configured | `{"unknown":"which, and which there are"}` |

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::status::Status;
use crate::limits;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// The whole state of this node.
    Status {},
    /// Read the config file and the key file again.
    Reload {},
    /// Put a node into standby mode.
    Standby {
        /// Its name; the node that is asked if left out.
        #[serde(default)]
        node: Option<String>,
    },
    /// Take a node out of standby mode.
    Online {
        /// Its name; the node that is asked if left out.
        #[serde(default)]
        node: Option<String>,
    },
    /// Move a group.
    Move {
        /// Its name.
        group: String,
        /// Where to; to the node that does not own it if left out.
        #[serde(default)]
        node: Option<String>,
        /// Serve it with what that node has, even if something newer may exist elsewhere.
        #[serde(default)]
        accept_loss: bool,
    },
    /// Mirror a group now.
    Sync {
        /// Its name.
        group: String,
        /// Answer when everything written before is on the peer.
        #[serde(default)]
        wait: bool,
        /// The node whose trees are the ones to keep.
        #[serde(default)]
        from: Option<String>,
    },
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Done, or here it is.
    Ok(Payload),
    /// Not done, and why.
    Refused(String),
    /// It names a group or node that does not exist.
    Unknown(String),
}

/// What a good answer carries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Payload {
    /// The state of the node.
    Status(Box<Status>),
    /// What was done, in words.
    Text(String),
}

/// Why a line is no request.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadRequest {
    /// Longer than [`limits::CONTROL_REQUEST_BYTES_MAX`].
    #[error("the request is longer than {} bytes", limits::CONTROL_REQUEST_BYTES_MAX)]
    Oversized,
    /// No request of this protocol.
    #[error("the request cannot be parsed: {0}")]
    Malformed(String),
}

/// Reads a request from one line, with or without its newline.
///
/// # Errors
/// The line is too long, no JSON, or no request.
pub fn parse(line: &[u8]) -> Result<Request, BadRequest> {
    if line.len() > limits::CONTROL_REQUEST_BYTES_MAX {
        return Err(BadRequest::Oversized);
    }
    serde_json::from_slice(line).map_err(|error| BadRequest::Malformed(error.to_string()))
}

/// One line of JSON with its newline.
///
/// # Errors
/// Never for the types of this file; serde_json's signature has one.
pub fn line<T: Serialize>(message: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_documented_lines_are_understood() {
        assert_eq!(parse(br#"{"verb":"status"}"#), Ok(Request::Status {}));
        assert_eq!(
            parse(b"{\"verb\":\"standby\",\"node\":\"serv1\"}\n"),
            Ok(Request::Standby { node: Some("serv1".into()) })
        );
        assert_eq!(parse(br#"{"verb":"online"}"#), Ok(Request::Online { node: None }));
        assert_eq!(
            parse(br#"{"verb":"move","group":"web","node":null,"accept_loss":false}"#),
            Ok(Request::Move { group: "web".into(), node: None, accept_loss: false })
        );
    }

    #[test]
    fn wrong_lines_are_refused_with_a_reason() {
        let long = vec![b' '; limits::CONTROL_REQUEST_BYTES_MAX + 1];
        assert_eq!(parse(&long), Err(BadRequest::Oversized));
        for bad in [
            &b""[..],
            b"status",
            b"{}",
            br#"{"verb":"halt"}"#,
            br#"{"verb":"move"}"#,
            br#"{"verb":"move","group":7}"#,
            br#"{"verb":"move","group":"web","force":true}"#,
            br#"{"verb":"status"}{"verb":"status"}"#,
        ] {
            assert!(matches!(parse(bad), Err(BadRequest::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn answers_look_as_documented() {
        let text = |answer: &Answer| String::from_utf8(line(answer).unwrap()).unwrap();
        assert_eq!(text(&Answer::Ok(Payload::Text("done".into()))), "{\"ok\":\"done\"}\n");
        assert_eq!(text(&Answer::Refused("no".into())), "{\"refused\":\"no\"}\n");
        assert_eq!(text(&Answer::Unknown("x".into())), "{\"unknown\":\"x\"}\n");
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn every_request_survives_the_line(
            group in ".{0,40}", node in proptest::option::of(".{0,40}"), accept_loss: bool
        ) {
            let request = Request::Move { group, node, accept_loss };
            prop_assert_eq!(parse(&line(&request).unwrap()), Ok(request));
        }
    }
}
