//! `sync`: mirrors a group now. With `--wait` it shows how far it is and why it still waits, and ends when
//! there is no hope.

use std::io::{IsTerminal, Write, stderr};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::wish::outcome;
use super::{DONE, FAILED, Globals, WRONG, status};
use crate::config;
use crate::control::protocol::Request;
use crate::control::socket;
use crate::control::status::{MirrorState, PeerState, Status};
use crate::limits;

/// Mirrors a group now; with `wait`, returns when everything written before is on the peer, when there is
/// no hope of that, or after `timeout`.
pub fn run(
    globals: &Globals,
    group: &str,
    wait: bool,
    timeout: Option<&str>,
    from: Option<String>,
) -> ExitCode {
    let timeout = match timeout.map(config::parse_duration).transpose() {
        Ok(timeout) => timeout,
        Err(why) => return super::fail(WRONG, &format!("--timeout {why}; write 30s or 5m")),
    };
    let (code, text) = wait_for(globals, group, wait, timeout, from);
    if code != DONE {
        return super::fail(code, &text);
    }
    super::say(&text);
    ExitCode::from(DONE)
}

/// Exit status, and what to say.
fn wait_for(
    globals: &Globals,
    group: &str,
    wait: bool,
    timeout: Option<Duration>,
    from: Option<String>,
) -> (u8, String) {
    let begun = Instant::now();
    let (answered, answer) = mpsc::channel();
    let (run_dir, request) =
        (globals.run_dir.clone(), Request::Sync { group: group.to_owned(), wait, from });
    let ask = move || {
        // Nobody listens any more if there was no hope.
        let _ = answered.send(socket::ask(&run_dir, &request, limits::CONTROL_LONG_PATIENCE));
    };
    if let Err(error) = thread::Builder::new().spawn(ask) {
        return (FAILED, format!("a thread could not be started: {error}"));
    }
    let mut line = Line::new();
    let mut stuck_since: Option<Instant> = None;
    let mut what = "the daemon has not reported its progress".to_owned();
    loop {
        let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
        let pause = left.unwrap_or(limits::SYNC_LOOK_EVERY).min(limits::SYNC_LOOK_EVERY);
        match answer.recv_timeout(pause) {
            Ok(answer) => return outcome(answer),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return (FAILED, "the request to the daemon was lost; try again".to_owned());
            }
        }
        // Whether a daemon is there at all, the request itself tells.
        if let Ok(status) = status::ask(globals) {
            let (now, seen) = (Instant::now(), look(&status, group));
            let since = match seen {
                Seen::Waits(_) => None,
                Seen::Stuck(_) | Seen::Hopeless(_) => Some(*stuck_since.get_or_insert(now)),
            };
            stuck_since = since;
            let lasts = |since: Instant| now.duration_since(since) >= limits::SYNC_STUCK_PATIENCE;
            match seen {
                Seen::Hopeless(why) => return (FAILED, why),
                Seen::Stuck(why) if since.is_some_and(lasts) => return (FAILED, why),
                Seen::Waits(why) | Seen::Stuck(why) => what = why,
            }
        }
        if left.is_some_and(|left| left.is_zero()) {
            let after_s = begun.elapsed().as_secs();
            return (FAILED, format!("not everything is on the peer after {after_s} s: {what}"));
        }
        line.show(&what, Instant::now());
    }
}

/// What the state of the pair means for who waits.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// It goes on, or will by itself: what is waited for.
    Waits(String),
    /// It does not go on; if that lasts, there is no hope.
    Stuck(String),
    /// It does not go on before somebody does something.
    Hopeless(String),
}

fn look(status: &Status, name: &str) -> Seen {
    let peer = &status.peer.name;
    let Some(group) = status.groups.iter().find(|group| group.name == name) else {
        return Seen::Stuck(format!("there is no group {name} any more"));
    };
    let mirror = &group.mirror;
    let moves = matches!(mirror.state, MirrorState::InSync | MirrorState::Syncing);
    match status.peer.state {
        PeerState::Dead => {
            return Seen::Hopeless(format!(
                "{peer} is dead: the changes are only on this node, and go to {peer} when it is back"
            ));
        }
        PeerState::Standby if !moves => {
            return Seen::Hopeless(format!(
                "{peer} is in standby mode and the mirror does not go on ({}); `clusterd online {peer}` \
                 first",
                mirror.why
            ));
        }
        PeerState::Unknown => return Seen::Stuck(format!("{peer} is not heard")),
        PeerState::Alive | PeerState::Suspect | PeerState::Standby => {}
    }
    match mirror.state {
        MirrorState::InSync | MirrorState::Syncing | MirrorState::Paused => {
            let left = match (mirror.pending_files, mirror.pending_bytes) {
                (0, 0) => "searching for changes".to_owned(),
                (files, bytes) => format!("{files} files to send, {} of them read", amount(bytes)),
            };
            let why = match mirror.why.as_str() {
                "" => String::new(),
                why => format!(" ({why})"),
            };
            Seen::Waits(format!("waiting for {peer}: {left}, {}/s{why}", amount(mirror.rate)))
        }
        MirrorState::Behind => Seen::Waits(format!("the mirror is behind: {}", mirror.why)),
        MirrorState::Blocked => Seen::Stuck(format!("nothing is mirrored: {}", mirror.why)),
        MirrorState::Conflict => {
            Seen::Stuck(format!("the mirror waits for the administrator: {}", mirror.why))
        }
        MirrorState::Off => Seen::Stuck(format!("{name} has no mirror")),
    }
}

/// Bytes for people.
fn amount(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{} kB", bytes / 1000),
        10_000_000..10_000_000_000 => format!("{} MB", bytes / 1_000_000),
        _ => format!("{} GB", bytes / 1_000_000_000),
    }
}

/// One line on standard error that is always new; where that is no terminal, a line now and then.
struct Line {
    terminal: bool,
    shown: Option<(Instant, String)>,
}

impl Line {
    fn new() -> Line {
        Line { terminal: stderr().is_terminal(), shown: None }
    }

    fn show(&mut self, what: &str, now: Instant) {
        let mut out = stderr();
        if self.terminal {
            // A reader that went away is not an error of ours.
            let _ = write!(out, "\r\x1b[K{what}");
            let _ = out.flush();
            self.shown = Some((now, what.to_owned()));
            return;
        }
        let due = self.shown.as_ref().is_none_or(|(at, shown)| {
            shown != what && now.duration_since(*at) >= limits::SYNC_LINE_EVERY
        });
        if due {
            let _ = writeln!(out, "{what}");
            self.shown = Some((now, what.to_owned()));
        }
    }
}

impl Drop for Line {
    /// What follows begins on a line of its own.
    fn drop(&mut self) {
        if self.terminal && self.shown.is_some() {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_short() {
        for (bytes, text) in [
            (0, "0 bytes"),
            (9_999, "9999 bytes"),
            (10_000, "10 kB"),
            (123_456_789, "123 MB"),
            (70_000_000_000, "70 GB"),
        ] {
            assert_eq!(amount(bytes), text);
        }
    }
}
