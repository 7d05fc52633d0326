//! The name of a conflict in its store: `20261121-203523-1c0ffee5`, when it was kept and which path; the
//! second one of a path within a second has `-2` after it.

use std::time::{Duration, UNIX_EPOCH};

use crate::control::wallclock;
use crate::mirror::entry::RelPath;

/// The parts of an id. They sort as they were kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    /// `20261121`
    pub(super) day: String,
    /// `203523`
    clock: String,
    number: u64,
    /// Eight hexadecimal digits of a hash of the path.
    pub(super) path: String,
}

impl Id {
    /// Of a path, kept at this time in milliseconds since 1970.
    pub(super) fn new(time_ms: u64, path: &RelPath) -> Id {
        let time = wallclock::format(UNIX_EPOCH + Duration::from_millis(time_ms));
        let digits: String = time.chars().filter(char::is_ascii_digit).collect();
        let (day, clock) = digits.split_at_checked(8).unwrap_or_default();
        let mut hasher = blake3::Hasher::new_derive_key("clusterd 2026 conflict id");
        let hash = hasher.update(path.as_bytes()).finalize().to_hex();
        Id {
            day: day.to_owned(),
            clock: clock.get(..6).unwrap_or_default().to_owned(),
            number: 1,
            path: hash.get(..8).unwrap_or_default().to_owned(),
        }
    }

    /// The next one of the same path and second.
    pub(super) fn next(&self) -> Id {
        Id { number: self.number.saturating_add(1), ..self.clone() }
    }

    /// Reads one; `None`: nothing of this name is ever opened.
    pub(super) fn read(text: &str) -> Option<Id> {
        let mut parts = text.split('-');
        let (day, clock, path) = (parts.next()?, parts.next()?, parts.next()?);
        let number = parts.next().map_or(Some(1), |number| number.parse().ok())?;
        let digits = |text: &str, length| {
            text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let is_one = digits(day, 8)
            && digits(clock, 6)
            && path.len() == 8
            && path.bytes().all(|byte| byte.is_ascii_hexdigit())
            && parts.next().is_none();
        let id = Id { day: day.into(), clock: clock.into(), number, path: path.into() };
        // There is one way to write it.
        (is_one && id.to_string() == text).then_some(id)
    }

    /// When it was kept, as the clock of this node said then.
    pub(super) fn time(&self) -> Option<std::time::SystemTime> {
        let part = |text: &str, at: usize, length| {
            text.get(at..at + length).map(str::to_owned).unwrap_or_default()
        };
        let Id { day, clock, .. } = self;
        wallclock::parse(&format!(
            "{}-{}-{}T{}:{}:{}Z",
            part(day, 0, 4),
            part(day, 4, 2),
            part(day, 6, 2),
            part(clock, 0, 2),
            part(clock, 2, 2),
            part(clock, 4, 2)
        ))
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Id { day, clock, number, path } = self;
        match number {
            1 => write!(f, "{day}-{clock}-{path}"),
            number => write!(f, "{day}-{clock}-{path}-{number}"),
        }
    }
}
