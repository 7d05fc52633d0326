//! `events`: what happened and why, read from `<state-dir>/events.jsonl` and its predecessor. Works
//! without a daemon, and after it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use super::print::{self, Tone, paint};
use super::{FAILED, Globals, WRONG};
use crate::control::event::{Kind, Record};
use crate::control::wallclock;

/// Time between two looks of `--follow`.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Shows the events since `since` (RFC 3339, or an age such as `10m`), and with `follow` those to come.
pub fn run(globals: &Globals, follow: bool, json: bool, since: Option<String>) -> ExitCode {
    let since = match since.as_deref().map(|text| parse_since(text, SystemTime::now())) {
        None => String::new(),
        Some(Some(time)) => wallclock::format(time),
        Some(None) => {
            return super::fail(
                WRONG,
                "--since takes a time such as 2026-11-21T20:35:23Z or an age such as 10m, 2h or 1d",
            );
        }
    };
    let show = Show { since, json, colours: print::colours() };
    match keep_showing(&globals.state_dir, &show, follow) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let place = globals.state_dir.display();
            super::fail(FAILED, &format!("cannot read the events in {place}: {error}"))
        }
    }
}

/// Ends when all is shown, or with `follow` when nobody reads any more.
fn keep_showing(state_dir: &Path, show: &Show, follow: bool) -> io::Result<()> {
    // A directory that is not there or not readable is an error; one without events is not.
    std::fs::read_dir(state_dir)?;
    let current = state_dir.join("events.jsonl");
    if let Some(mut old) = Tail::open(&state_dir.join("events.jsonl.1"))?
        && !old.drain(|line| show.line(line))?
    {
        return Ok(());
    }
    let mut tail = Tail::open(&current)?;
    loop {
        if let Some(open) = &mut tail {
            // Looked at before it is read, so that nothing is written to it after the last read.
            let rotated = open.is_rotated()?;
            if !open.drain(|line| show.line(line))? {
                return Ok(());
            }
            if rotated {
                tail = None;
            }
        }
        if !follow {
            return Ok(());
        }
        if tail.is_none() {
            tail = Tail::open(&current)?;
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// A file that grows line by line.
pub struct Tail {
    path: PathBuf,
    inode: u64,
    reader: BufReader<File>,
    /// A line whose end is not written yet.
    partial: Vec<u8>,
}

impl Tail {
    /// `None` if there is no such file.
    pub fn open(path: &Path) -> io::Result<Option<Tail>> {
        match File::open(path) {
            Ok(file) => Ok(Some(Tail {
                path: path.to_owned(),
                inode: file.metadata()?.ino(),
                reader: BufReader::new(file),
                partial: Vec::new(),
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether another file, or none, has taken its name.
    fn is_rotated(&self) -> io::Result<bool> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => Ok(metadata.ino() != self.inode),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Gives every whole line that is there; stops with `false` as soon as `take` says `false`.
    pub fn drain(&mut self, mut take: impl FnMut(&str) -> bool) -> io::Result<bool> {
        loop {
            self.reader.read_until(b'\n', &mut self.partial)?;
            if !self.partial.ends_with(b"\n") {
                return Ok(true);
            }
            let go_on = take(String::from_utf8_lossy(&self.partial).trim_end());
            self.partial.clear();
            if !go_on {
                return Ok(false);
            }
        }
    }
}

/// What to show and how.
struct Show {
    /// Earliest time, in the events' own form; empty for all.
    since: String,
    json: bool,
    colours: bool,
}

impl Show {
    /// Shows one stored line; `false` if nobody reads any more. A line that is no event (a crash in
    /// the middle of a write) is shown as it is.
    fn line(&self, line: &str) -> bool {
        match serde_json::from_str::<Record>(line) {
            Ok(record) if record.time < self.since => true,
            Ok(record) if !self.json => print::line(&sentence(&record, self.colours)),
            Ok(_) => print::line(line),
            Err(_) if self.json || line.is_empty() => true,
            Err(_) => print::line(&format!("(damaged line) {line}")),
        }
    }
}

/// An event as a person reads it.
fn sentence(record: &Record, colours: bool) -> String {
    let told = &record.told;
    let tone = match told.kind {
        Kind::PeerDead
        | Kind::Refused
        | Kind::Address
        | Kind::Stall
        | Kind::Fault
        | Kind::Service
        | Kind::Conflict => Tone::Bad,
        Kind::Takeover
        | Kind::Late
        | Kind::Path
        | Kind::Carrier
        | Kind::Reach
        | Kind::Config
        | Kind::Mirror => Tone::Warn,
        Kind::Start | Kind::Stop | Kind::PeerAlive | Kind::PeerState | Kind::Standby => Tone::Good,
        Kind::Switchover | Kind::Failback | Kind::Release | Kind::Clients => Tone::Good,
    };
    let kind = serde_json::to_value(told.kind).unwrap_or_default();
    let kind = format!("{:<10}", kind.as_str().unwrap_or_default());
    let group = told.group.as_ref().map(|group| format!("{group}: ")).unwrap_or_default();
    let evidence: Vec<String> =
        told.evidence.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut text = format!(
        "{} {} {} {group}{}",
        paint(&record.time, Tone::Dim, colours),
        record.node,
        paint(&kind, tone, colours),
        told.text
    );
    if !evidence.is_empty() {
        text.push_str("\n    ");
        text.push_str(&paint(&evidence.join(" "), Tone::Dim, colours));
    }
    text
}

/// A moment: RFC 3339, or an age in whole seconds, minutes, hours or days before `now`.
fn parse_since(text: &str, now: SystemTime) -> Option<SystemTime> {
    let unit_s = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return wallclock::parse(text),
    };
    let count: u64 = text.get(..text.len() - 1)?.parse().ok()?;
    now.checked_sub(Duration::from_secs(count.checked_mul(unit_s)?))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::control::event::Told;

    fn record(time: &str) -> Record {
        Record {
            time: time.into(),
            node: "serv1".into(),
            told: Told {
                kind: Kind::PeerDead,
                group: None,
                text: "serv2 is dead".into(),
                evidence: [("lan".to_owned(), serde_json::json!(151))].into(),
            },
        }
    }

    #[test]
    fn an_event_reads_like_a_sentence() {
        assert_eq!(
            sentence(&record("2026-11-21T20:35:23.000Z"), false),
            "2026-11-21T20:35:23.000Z serv1 peer-dead  serv2 is dead\n    lan=151"
        );
    }

    #[test]
    fn since_takes_times_and_ages() {
        let now = wallclock::parse("2026-11-21T20:00:00Z").unwrap();
        let text = |since| parse_since(since, now).map(wallclock::format);
        assert_eq!(text("10m").as_deref(), Some("2026-11-21T19:50:00.000Z"));
        assert_eq!(text("2h").as_deref(), Some("2026-11-21T18:00:00.000Z"));
        assert_eq!(text("1d").as_deref(), Some("2026-11-20T20:00:00.000Z"));
        assert_eq!(
            text("2026-11-21T20:00:00.5+01:00").as_deref(),
            Some("2026-11-21T19:00:00.500Z")
        );
        for bad in ["", "m", "-5m", "5x", "yesterday", "99999999999999999999d", "ä"] {
            assert_eq!(text(bad), None, "{bad}");
        }
    }

    #[test]
    fn growth_partial_lines_and_rotation_are_followed() {
        let directory = std::env::temp_dir().join(format!("clusterd-tail-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join("events.jsonl");
        assert!(Tail::open(&path).unwrap().is_none());
        let mut file = File::create(&path).unwrap();
        let mut tail = Tail::open(&path).unwrap().unwrap();
        let seen = |tail: &mut Tail| {
            let mut lines = Vec::new();
            tail.drain(|line| {
                lines.push(line.to_owned());
                true
            })
            .unwrap();
            lines
        };
        file.write_all(b"one\ntw").unwrap();
        assert_eq!(seen(&mut tail), ["one"]);
        file.write_all(b"o\n").unwrap();
        assert!(!tail.is_rotated().unwrap());
        std::fs::rename(&path, directory.join("events.jsonl.1")).unwrap();
        file.write_all(b"three\n").unwrap();
        assert!(tail.is_rotated().unwrap());
        assert_eq!(seen(&mut tail), ["two", "three"]);
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
