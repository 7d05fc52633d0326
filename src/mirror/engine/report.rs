//! What a group's mirror tells: the report for the core and `status`, and what the administrator is told.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::trees::Trees;
use crate::control::event::Kind;
use crate::control::status::MirrorState;
use crate::limits;
use crate::mirror::proto::Differ;

/// What a copy is that somebody changed, as long as it is not restored; `whose`: `here`, `on the peer`.
pub fn restoring(names: u64, whose: &str) -> String {
    format!("{names} names of the copy {whose} were changed there; being restored")
}

/// Paths that are not mirrored, with the reason: the first few, as the last walk found them.
#[derive(Clone, Debug, Default)]
pub struct Skipped {
    paths: Vec<String>,
}

impl Skipped {
    /// Another walk has ended.
    pub fn set(&mut self, paths: Vec<String>) {
        self.paths = paths;
    }

    /// The paths, with those that cannot be mirrored now before them.
    pub fn with(&self, stuck: &[String]) -> Vec<String> {
        let mut all = stuck.to_vec();
        all.truncate(limits::SKIPPED_SHOWN);
        let more = stuck.len() - all.len();
        if more > 0 {
            all.push(format!("and {more} more that cannot be mirrored now"));
        }
        all.extend_from_slice(&self.paths);
        all
    }
}

/// Bytes a second over the last seconds.
#[derive(Debug, Default)]
pub struct Rate {
    marks: VecDeque<(Instant, u64)>,
}

impl Rate {
    /// So many bytes have travelled in all by now. Returns the rate.
    pub fn at(&mut self, now: Instant, bytes: u64) -> u64 {
        self.marks.push_back((now, bytes));
        while let Some((then, _)) = self.marks.front()
            && now.duration_since(*then) > limits::RATE_SPAN
            && self.marks.len() > 1
        {
            self.marks.pop_front();
        }
        let Some((then, before)) = self.marks.front() else { return 0 };
        let span_ms = u64::try_from(now.duration_since(*then).as_millis()).unwrap_or(u64::MAX);
        let moved = bytes.saturating_sub(*before);
        moved.saturating_mul(1000).checked_div(span_ms).unwrap_or(0)
    }
}

/// Tells the administrator what has lasted: a state that comes and goes within a moment is no news.
#[derive(Debug)]
pub struct News {
    now: MirrorState,
    why: String,
    since: Instant,
    told: MirrorState,
    told_why: String,
    conflicts: Option<u64>,
    fuzzy_told_at: Option<Instant>,
    skipped: Vec<String>,
    /// A change of the copy that is not told yet, and when one was told.
    differs: Option<String>,
    differs_told_at: Option<Instant>,
}

impl News {
    /// Nothing is known.
    pub fn new(now: Instant) -> News {
        News {
            now: MirrorState::Paused,
            why: String::new(),
            since: now,
            told: MirrorState::Paused,
            told_why: String::new(),
            conflicts: None,
            fuzzy_told_at: None,
            skipped: Vec::new(),
            differs: None,
            differs_told_at: None,
        }
    }

    /// Somebody changed these names of a copy, `on this node` or `on the peer`. The newest word counts.
    pub fn differ(&mut self, trees: &Trees, differ: &Differ, whose: &str) {
        let Differ { names, .. } = differ;
        self.differs = Some(format!(
            "{names} names of the copy {whose} were changed by somebody there ({}): they go back to what \
             the owner has; what was written there is kept in the conflict store",
            shown(trees, differ)
        ));
    }

    /// The copy here may be served soon, and these names of it are not as the owner left them.
    pub fn differs_at_a_claim(&mut self, trees: &Trees, differ: &Differ) {
        let Differ { names, .. } = differ;
        self.differs_told_at = None;
        self.differs = Some(format!(
            "{names} names of the copy here were changed, made or deleted on this node, and not by the owner \
             ({}); they could not be restored. If this node takes over, it serves them as they are, and the \
             peer keeps its own in its conflict store",
            shown(trees, differ)
        ));
    }

    /// This machine died as the owner, and these files lost their content by it.
    pub fn emptied(&mut self, trees: &Trees, differ: &Differ) {
        let Differ { names, .. } = differ;
        self.differs_told_at = None;
        self.differs = Some(format!(
            "{names} files here are empty since the machine died ({}); the peer keeps the content from before \
             in its conflict store",
            shown(trees, differ)
        ));
    }

    /// What is to be told of a changed copy.
    pub fn differs(&mut self, now: Instant) -> Option<(Kind, String)> {
        if self.differs_due().is_none_or(|at| at > now) {
            return None;
        }
        self.differs_told_at = Some(now);
        self.differs.take().map(|text| (Kind::Mirror, text))
    }

    fn differs_due(&self) -> Option<Instant> {
        self.differs.as_ref()?;
        Some(self.differs_told_at.map_or(self.since, |at| at + limits::NEWS_DIFFER_EVERY))
    }

    /// How it is now; what is to be told of it.
    pub fn state(&mut self, now: Instant, state: MirrorState, why: &str) -> Option<(Kind, String)> {
        if self.now != state {
            (self.now, self.since) = (state, now);
        }
        why.clone_into(&mut self.why);
        if self.told == state && (self.told_why == why || state == MirrorState::InSync) {
            return None;
        }
        let lasts = match state {
            MirrorState::InSync => Duration::ZERO,
            MirrorState::Blocked | MirrorState::Conflict => limits::NEWS_BLOCKED_AFTER,
            MirrorState::Behind => limits::NEWS_BEHIND_AFTER,
            // The course of things.
            MirrorState::Off | MirrorState::Syncing | MirrorState::Paused => return None,
        };
        if now.duration_since(self.since) < lasts {
            return None;
        }
        self.told = state;
        why.clone_into(&mut self.told_why);
        let text = match state {
            MirrorState::InSync => "the mirror is in sync".to_owned(),
            MirrorState::Behind => format!("the mirror is behind: {why}"),
            MirrorState::Blocked => format!("nothing is mirrored: {why}"),
            MirrorState::Conflict => format!("the mirror waits for the administrator: {why}"),
            MirrorState::Off | MirrorState::Syncing | MirrorState::Paused => return None,
        };
        Some((Kind::Mirror, text))
    }

    /// When a state that is not told yet will have lasted long enough.
    pub fn due(&self) -> Option<Instant> {
        let lasts = match self.now {
            MirrorState::Blocked | MirrorState::Conflict => Some(limits::NEWS_BLOCKED_AFTER),
            MirrorState::Behind => Some(limits::NEWS_BEHIND_AFTER),
            MirrorState::InSync | MirrorState::Off | MirrorState::Syncing | MirrorState::Paused => {
                None
            }
        };
        let untold = self.told != self.now || self.told_why != self.why;
        let state = lasts.filter(|_| untold).map(|lasts| self.since + lasts);
        [state, self.differs_due()].into_iter().flatten().min()
    }

    /// So many files are in the conflict stores here.
    pub fn conflicts(&mut self, group: &str, conflicts: u64) -> Option<(Kind, String)> {
        let before = self.conflicts.replace(conflicts).unwrap_or(conflicts);
        let new = conflicts.checked_sub(before).filter(|new| *new > 0)?;
        let text = format!(
            "{new} files that were changed here and nowhere else went to the conflict store; look at \
             them with `clusterd conflicts {group} list` on this node"
        );
        Some((Kind::Conflict, text))
    }

    /// A commit was fuzzy.
    pub fn fuzzy(&mut self, now: Instant) -> Option<(Kind, String)> {
        let lately = |at: Instant| now.duration_since(at) < limits::NEWS_FUZZY_EVERY;
        if self.fuzzy_told_at.is_some_and(lately) {
            return None;
        }
        self.fuzzy_told_at = Some(now);
        let text =
            "files change faster than they can be read at one instant: each is whole on the \
                    peer, but some may be newer than others that were written before them"
                .to_owned();
        Some((Kind::Mirror, text))
    }

    /// These paths are not mirrored.
    pub fn skipped(&mut self, paths: &[String]) -> Option<(Kind, String)> {
        if self.skipped == paths {
            return None;
        }
        self.skipped = paths.to_vec();
        let first = paths.first()?;
        let more = match paths.len() {
            1 => String::new(),
            count => format!(", and {} more; see `clusterd status`", count - 1),
        };
        Some((Kind::Mirror, format!("not mirrored: {first}{more}")))
    }
}

/// The first of these names, with their places.
pub fn shown(trees: &Trees, differ: &Differ) -> String {
    let first: Vec<String> = differ.first.iter().map(|key| trees.place(key)).collect();
    let more = if differ.names > first.len() as u64 { ", ..." } else { "" };
    format!("{}{more}", first.join(", "))
}
