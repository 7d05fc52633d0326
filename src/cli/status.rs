//! `status`: the state of the pair on one screen, as this node sees it.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::print::{self, Tone, paint};
use super::{FAILED, Globals, NO_DAEMON};
use crate::config::ring::KeyState;
use crate::control::protocol::{Answer, Payload, Request};
use crate::control::socket::{self, AskError};
use crate::control::status::{
    Direction, Group, GroupState, Loop, Mirror, MirrorState, NodeState, PathState, PathStatus,
    PeerState, Standing, Status,
};
use crate::limits;

/// Time between two screens of `--watch`.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Shows the state; the exit status says how well the groups are served.
pub fn run(globals: &Globals, json: bool, watch: bool) -> ExitCode {
    loop {
        let (code, text) = match ask(globals) {
            Ok(status) => (status.standing().exit_status(), Ok(show(&status, json))),
            Err((code, why)) => (code, Err(why)),
        };
        if watch && !json && print::colours() {
            // Cursor home, clear the screen.
            print::line("\x1b[H\x1b[2J");
        }
        let seen = match text {
            Ok(text) => print::line(&text),
            Err(why) => {
                super::fail(code, &why);
                true
            }
        };
        if !watch || !seen {
            return ExitCode::from(code);
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

pub(super) fn ask(globals: &Globals) -> Result<Status, (u8, String)> {
    let patience = limits::CONTROL_STATUS_PATIENCE;
    match socket::ask(&globals.run_dir, &Request::Status {}, patience) {
        Ok(Answer::Ok(Payload::Status(status))) => Ok(*status),
        Ok(Answer::Ok(Payload::Text(text))) => Err((FAILED, text)),
        Ok(Answer::Refused(why) | Answer::Unknown(why)) => Err((FAILED, why)),
        Err(error @ AskError::NoDaemon { .. }) => Err((NO_DAEMON, error.to_string())),
        Err(error @ AskError::NotUnderstood { .. }) => Err((FAILED, error.to_string())),
    }
}

fn show(status: &Status, json: bool) -> String {
    if json {
        serde_json::to_string(status).unwrap_or_else(|error| error.to_string())
    } else {
        screen(status, print::colours())
    }
}

/// The screen for a person, without a final newline.
fn screen(status: &Status, colours: bool) -> String {
    let standing = status.standing();
    let tone = match standing {
        Standing::Redundant => Tone::Good,
        Standing::Single => Tone::Warn,
        Standing::Out => Tone::Bad,
    };
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        "cluster {}: {}",
        paint(&status.cluster, Tone::Bold, colours),
        paint(standing.text(), tone, colours)
    );
    if let Some(text) = key(status) {
        let _ = writeln!(out, "  {}", paint(&text, Tone::Warn, colours));
    }
    for trouble in &status.troubles {
        let _ = writeln!(out, "  {}", paint(trouble, Tone::Warn, colours));
    }
    node(&mut out, status, colours);
    peer(&mut out, status, colours);
    for group in &status.groups {
        self::group(&mut out, group, status, colours);
    }
    out.truncate(out.trim_end().len());
    out
}

/// How far a change of the key is, and what is to be done.
fn key(status: &Status) -> Option<String> {
    let peer = &status.peer.name;
    match status.key {
        KeyState::Settled => None,
        KeyState::Waiting | KeyState::Switched => Some(format!(
            "the key is being changed, and {peer} is not known to use the new one: `clusterd key rotate` says what to do"
        )),
        KeyState::Agreed => Some(
            "the key is being changed, and both nodes use the new one: run `clusterd key rotate --finish` on each"
                .to_owned(),
        ),
    }
}

fn node(out: &mut String, status: &Status, colours: bool) {
    let (word, tone) = match status.state {
        NodeState::Joining => ("joining", Tone::Warn),
        NodeState::Online => ("online", Tone::Good),
        NodeState::Standby => ("standby", Tone::Warn),
        NodeState::Stalled => ("stalled", Tone::Bad),
    };
    let _ = write!(
        out,
        "\nnode {}  {}  (this node, clusterd {}, longest gap {} ms)",
        paint(&status.node, Tone::Bold, colours),
        paint(word, tone, colours),
        status.version,
        status.worst_gap_ms
    );
    if !status.guarded {
        let _ = write!(out, "  {}", paint("UNGUARDED", Tone::Bad, colours));
    }
    out.push('\n');
    let _ = writeln!(out, "  {}", lateness(&status.r#loop));
    if status.reach.of > 0 {
        let _ = writeln!(out, "  reaches {} of {} hosts", status.reach.local, status.reach.of);
    }
}

/// How late the loop was, in one line: from each limit up.
fn lateness(all: &Loop) -> String {
    let happened = all.ranges().filter(|(.., count)| *count > 0);
    let parts: Vec<String> = happened
        .map(|(from_ms, below_ms, count)| match below_ms {
            Some(below_ms) => format!("<{below_ms} ms {count}"),
            None => format!(">={from_ms} ms {count}"),
        })
        .collect();
    let worst_ms = all.worst_us as f64 / 1000.0;
    format!("loop late: {}; worst {worst_ms:.1} ms", parts.join(", "))
}

fn peer(out: &mut String, status: &Status, colours: bool) {
    let peer = &status.peer;
    let (word, tone) = match peer.state {
        PeerState::Alive => ("alive", Tone::Good),
        PeerState::Suspect => ("suspect", Tone::Warn),
        PeerState::Dead if peer.ended => ("stopped", Tone::Warn),
        PeerState::Dead => ("dead", Tone::Bad),
        PeerState::Standby => ("standby", Tone::Warn),
        PeerState::Unknown => ("never heard", Tone::Warn),
    };
    let _ = write!(
        out,
        "node {}  {}",
        paint(&peer.name, Tone::Bold, colours),
        paint(word, tone, colours)
    );
    if peer.same_config == Some(false) {
        let _ = write!(out, "  {}", paint("ITS CONFIG FILE DIFFERS", Tone::Bad, colours));
    }
    out.push('\n');
    if status.reach.of > 0 && matches!(peer.state, PeerState::Alive | PeerState::Standby) {
        let _ = writeln!(out, "  reaches {} of {} hosts", status.reach.peer, status.reach.of);
    }
    for one in &peer.paths {
        path(out, one, colours);
    }
}

fn path(out: &mut String, path: &PathStatus, colours: bool) {
    let (word, tone) = match path.state {
        PathState::Up => ("up", Tone::Good),
        PathState::OneWay => ("one-way", Tone::Warn),
        PathState::Late => ("late", Tone::Warn),
        PathState::Silent => ("silent", Tone::Bad),
        PathState::Off => ("off", Tone::Dim),
    };
    // Padded before it is painted: colour codes have no width.
    let _ = write!(out, "  {:<9}  {}", path.name, paint(&format!("{word:<7}"), tone, colours));
    if path.state == PathState::Off {
        out.push('\n');
        return;
    }
    match path.heard_ms {
        Some(ms) => _ = write!(out, "  heard {ms} ms ago"),
        None => out.push_str("  never heard"),
    }
    if let Some(us) = path.rtt_us {
        let _ = write!(out, ", round trip {us} µs");
    }
    let _ = write!(out, ", {} lost", path.lost);
    if path.refused > 0 {
        let reasons: Vec<String> =
            path.refused_by.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let _ = write!(out, ", {} refused ({})", path.refused, reasons.join(", "));
    }
    if path.carrier == Some(false) {
        let _ = write!(out, ", {}", paint("no carrier", Tone::Bad, colours));
    }
    out.push('\n');
}

fn group(out: &mut String, group: &Group, status: &Status, colours: bool) {
    let served_here = group.state == GroupState::Active;
    let owner = match &group.owner {
        Some(owner) => format!("owner {}", paint(owner, Tone::Bold, colours)),
        None => paint("no owner known", Tone::Bad, colours),
    };
    let (word, tone) = match group.state {
        GroupState::Active => ("active", Tone::Good),
        GroupState::Passive => ("passive", Tone::Dim),
        GroupState::Starting => ("starting", Tone::Warn),
        GroupState::Stopping => ("stopping", Tone::Warn),
        GroupState::Failed => ("failed", Tone::Bad),
        GroupState::Blocked => ("blocked", Tone::Bad),
    };
    let _ = writeln!(
        out,
        "\ngroup {}  {owner}, {} on {}, generation {}",
        paint(&group.name, Tone::Bold, colours),
        paint(word, tone, colours),
        status.node,
        group.generation
    );
    if !group.why.is_empty() {
        let _ = writeln!(out, "  {}", group.why);
    }
    for address in &group.addresses {
        let _ = write!(out, "  {}", address.address);
        if address.held {
            let _ = write!(out, "  held, lease {} ms", address.lease_ms);
        } else if served_here {
            let _ = write!(out, "  {}", paint("not held", Tone::Bad, colours));
        }
        out.push('\n');
    }
    for service in &group.services {
        let tone = match service.state.as_str() {
            "running" => Tone::Good,
            "failed" => Tone::Bad,
            _ => Tone::Dim,
        };
        let state = paint(&service.state, tone, colours);
        let _ = writeln!(out, "  {}  {state}, check {}", service.name, service.check);
    }
    mirror(out, &group.mirror, colours);
}

fn mirror(out: &mut String, mirror: &Mirror, colours: bool) {
    let (word, tone) = match mirror.state {
        MirrorState::Off => return,
        MirrorState::InSync => ("in sync", Tone::Good),
        MirrorState::Syncing => ("syncing", Tone::Warn),
        MirrorState::Behind => ("behind", Tone::Bad),
        MirrorState::Paused => ("paused", Tone::Warn),
        MirrorState::Conflict => ("conflict", Tone::Bad),
        MirrorState::Blocked => ("blocked", Tone::Bad),
    };
    let direction = match mirror.direction {
        Direction::Out => ", sending",
        Direction::In => ", receiving",
        Direction::None => "",
    };
    let word = paint(word, tone, colours);
    let _ = write!(out, "  mirror  {word}{direction}, commit {}", mirror.commit);
    if mirror.pending_files > 0 {
        let (files, bytes) = (mirror.pending_files, mirror.pending_bytes);
        let _ = write!(out, ", {files} names ({bytes} bytes) wait");
    }
    if mirror.rate > 0 {
        let _ = write!(out, ", {} KB/s", mirror.rate / 1000);
    }
    if mirror.conflicts > 0 {
        let kept = format!("{} in the conflict store", mirror.conflicts);
        let _ = write!(out, ", {}", paint(&kept, Tone::Warn, colours));
    }
    out.push('\n');
    if !mirror.why.is_empty() {
        let _ = writeln!(out, "    {}", mirror.why);
    }
    if !mirror.conflicts_crowded.is_empty() {
        let _ = writeln!(out, "    {}", paint(&mirror.conflicts_crowded, Tone::Warn, colours));
    }
    for path in &mirror.skipped {
        let _ = writeln!(out, "    {}: {path}", paint("not mirrored", Tone::Warn, colours));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Status {
        serde_json::from_str(
            r#"{"cluster":"office","node":"serv1","state":"online","version":"0.1.0",
            "incarnation":"a1","guarded":true,"worst_gap_ms":3,
            "troubles":["crossover: eth1 has no carrier"],"loop":{"lateness":[{"below_ms":1,"count":900},{"below_ms":2,"count":0},
            {"below_ms":100,"count":7},{"below_ms":null,"count":1}],"worst_us":123456},
            "peer":{"name":"serv2","state":"alive","incarnation":"b2","same_config":true,"paths":[
            {"name":"crossover","state":"up","carrier":true,"heard_ms":12,"rtt_us":180,"lost":0,
             "refused":0,"refused_by":{}},
            {"name":"serial","state":"off","carrier":null,"heard_ms":null,"rtt_us":null,"lost":0,
             "refused":0,"refused_by":{}},
            {"name":"lan","state":"silent","carrier":false,"heard_ms":900,"rtt_us":null,"lost":4,
             "refused":2,"refused_by":{"bad-tag":2}}]},
            "reach":{"local":2,"peer":1,"of":2},
            "groups":[{"name":"web","state":"active","in_service":true,"owner":"serv1","redundant":true,"generation":7,"why":"at home",
            "addresses":[{"address":"203.0.113.50/24","held":true,"lease_ms":1800}],
            "services":[],"mirror":{"state":"off","why":"","direction":"none","commit":0,
            "pending_files":0,"pending_bytes":0,"rate":0,"conflicts":0,"fuzzy":0,"skipped":[]}}]}"#,
        )
        .unwrap()
    }

    #[test]
    fn the_screen_in_a_pipe() {
        let expected = "\
cluster office: in service with redundancy
  crossover: eth1 has no carrier

node serv1  online  (this node, clusterd 0.1.0, longest gap 3 ms)
  loop late: <1 ms 900, <100 ms 7, >=100 ms 1; worst 123.5 ms
  reaches 2 of 2 hosts
node serv2  alive
  reaches 1 of 2 hosts
  crossover  up       heard 12 ms ago, round trip 180 µs, 0 lost
  serial     off    
  lan        silent   heard 900 ms ago, 4 lost, 2 refused (bad-tag 2), no carrier

group web  owner serv1, active on serv1, generation 7
  at home
  203.0.113.50/24  held, lease 1800 ms";
        assert_eq!(screen(&sample(), false), expected);
    }

    #[test]
    fn what_is_wrong_is_said_aloud() {
        let mut status = sample();
        status.guarded = false;
        status.peer.same_config = Some(false);
        status.peer.state = PeerState::Dead;
        let group = status.groups.first_mut().unwrap();
        group.owner = None;
        group.state = GroupState::Blocked;
        group.in_service = false;
        let text = screen(&status, false);
        for word in ["NOT in service", "UNGUARDED", "DIFFERS", "dead", "no owner known", "blocked"]
        {
            assert!(text.contains(word), "{word} in {text}");
        }
    }

    #[test]
    fn colours_change_no_word() {
        let status = sample();
        let mut plain = String::new();
        let mut code = false;
        for letter in screen(&status, true).chars() {
            match (code, letter) {
                (false, '\x1b') => code = true,
                (true, 'm') => code = false,
                (true, _) => {}
                (false, letter) => plain.push(letter),
            }
        }
        assert_eq!(plain, screen(&status, false));
    }

    #[test]
    fn json_has_the_contracts_fields() {
        let value: serde_json::Value = serde_json::from_str(&show(&sample(), true)).unwrap();
        let at = |pointer: &str| value.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/state"), "online");
        assert_eq!(at("/peer/paths/0/name"), "crossover");
        assert_eq!(at("/peer/paths/2/refused"), 2);
        assert_eq!(at("/reach/of"), 2);
        assert_eq!(at("/groups/0/addresses/0/lease_ms"), 1800);
        assert_eq!(at("/groups/0/mirror/state"), "off");
    }
}
