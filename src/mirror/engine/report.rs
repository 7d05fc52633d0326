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

/// How long a state lasts until it is told, if it stands against the mirror: the graver, the sooner.
fn patience(state: MirrorState) -> Option<Duration> {
    match state {
        MirrorState::Blocked | MirrorState::Conflict => Some(limits::NEWS_BLOCKED_AFTER),
        MirrorState::Behind => Some(limits::NEWS_BEHIND_AFTER),
        MirrorState::InSync | MirrorState::Off | MirrorState::Syncing | MirrorState::Paused => None,
    }
}

/// Tells the administrator what has lasted: a state that comes and goes within a moment is no news. One that
/// comes back within a short time has lasted all the while: each new attempt hides it for a moment.
#[derive(Debug)]
pub struct News {
    now: MirrorState,
    why: String,
    since: Instant,
    /// When it was seen last, and whether something that weighs less is seen since.
    seen_at: Instant,
    hidden: bool,
    told: MirrorState,
    /// The reasons that were told of it, and when each was seen last: attempts may fail in turns for two.
    told_whys: Vec<(String, Instant)>,
    conflicts: Option<u64>,
    /// So many of them are not told yet, and when some were told.
    new_conflicts: u64,
    conflicts_told_at: Option<Instant>,
    crowded_told_at: Option<Instant>,
    fuzzy_told_at: Option<Instant>,
    skipped: Vec<String>,
    /// A change of the copy that is not told yet, and when one was told.
    differs: Option<String>,
    differs_told_at: Option<Instant>,
    /// What is to be told of a disk that was set back.
    set_back: Option<String>,
}

impl News {
    /// Nothing is known.
    pub fn new(now: Instant) -> News {
        News {
            now: MirrorState::Paused,
            why: String::new(),
            since: now,
            seen_at: now,
            hidden: false,
            told: MirrorState::Paused,
            told_whys: Vec::new(),
            conflicts: None,
            new_conflicts: 0,
            conflicts_told_at: None,
            crowded_told_at: None,
            fuzzy_told_at: None,
            skipped: Vec::new(),
            differs: None,
            differs_told_at: None,
            set_back: None,
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

    /// The peer has the commit that was under way, and the trees here lack these names of it.
    pub fn lacks(&mut self, trees: &Trees, differ: &Differ) {
        let Differ { names, .. } = differ;
        self.set_back(format!(
            "{names} names here are as they were before the last commit ({}): this disk lost the newer ones when the \
             machine died; they are served so, and the peer keeps the newer ones in its conflict store",
            shown(trees, differ)
        ));
    }

    /// A disk was set back.
    pub fn set_back(&mut self, text: String) {
        self.set_back = Some(text);
    }

    /// What is to be told of that.
    pub fn take_set_back(&mut self) -> Option<(Kind, String)> {
        self.set_back.take().map(|text| (Kind::Mirror, text))
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
        self.hidden = self.may_come_back(now, state);
        if self.hidden {
            return None;
        }
        if self.now != state {
            (self.now, self.since) = (state, now);
        }
        self.seen_at = now;
        why.clone_into(&mut self.why);
        if self.told == state && (state == MirrorState::InSync || self.is_told(now)) {
            return None;
        }
        let lasts = match state {
            MirrorState::InSync => Some(Duration::ZERO),
            MirrorState::Blocked | MirrorState::Conflict | MirrorState::Behind => patience(state),
            // The course of things.
            MirrorState::Off | MirrorState::Syncing | MirrorState::Paused => None,
        };
        if lasts.is_none_or(|lasts| now.duration_since(self.since) < lasts) {
            return None;
        }
        if self.told != state {
            self.told_whys.clear();
        }
        self.told = state;
        self.told_whys.push((self.why.clone(), now));
        let text = match state {
            MirrorState::InSync => "the mirror is in sync".to_owned(),
            MirrorState::Behind => format!("the mirror is behind: {why}"),
            MirrorState::Blocked => format!("nothing is mirrored: {why}"),
            MirrorState::Conflict => format!("the mirror waits for the administrator: {why}"),
            MirrorState::Off | MirrorState::Syncing | MirrorState::Paused => return None,
        };
        Some((Kind::Mirror, text))
    }

    /// Whether the reason is one that was told and has stood since, as far as was seen.
    fn is_told(&mut self, now: Instant) -> bool {
        self.told_whys.retain(|(_, at)| now.duration_since(*at) < limits::NEWS_BACK_WITHIN);
        let told = self.told_whys.iter_mut().find(|(why, _)| *why == self.why);
        told.map(|(_, at)| *at = now).is_some()
    }

    /// Whether this only hides for a moment what stood against the mirror lately: an attempt that has not
    /// yet failed.
    fn may_come_back(&self, now: Instant, state: MirrorState) -> bool {
        let Some(graver) = patience(self.now) else { return false };
        let weighs_less = match state {
            MirrorState::Behind | MirrorState::Blocked | MirrorState::Conflict => {
                patience(state).is_some_and(|lasts| lasts > graver)
            }
            MirrorState::Syncing | MirrorState::Paused => true,
            // It is over.
            MirrorState::InSync | MirrorState::Off => false,
        };
        weighs_less && now.duration_since(self.seen_at) < limits::NEWS_BACK_WITHIN
    }

    /// When a state that is not told yet will have lasted long enough.
    pub fn due(&self) -> Option<Instant> {
        let state = match patience(self.now) {
            Some(_) if self.hidden => Some(self.seen_at + limits::NEWS_BACK_WITHIN),
            Some(lasts) if self.told != self.now => Some(self.since + lasts),
            Some(_) | None => None,
        };
        [state, self.differs_due(), self.conflicts_due()].into_iter().flatten().min()
    }

    /// So many files are in the conflict stores here. The first ones are told at once, and what comes then
    /// now and then, with its number.
    pub fn conflicts(
        &mut self,
        now: Instant,
        group: &str,
        conflicts: u64,
    ) -> Option<(Kind, String)> {
        let before = self.conflicts.replace(conflicts).unwrap_or(conflicts);
        self.new_conflicts += conflicts.saturating_sub(before);
        if self.conflicts_due().is_none_or(|at| at > now) {
            return None;
        }
        self.conflicts_told_at = Some(now);
        let new = std::mem::take(&mut self.new_conflicts);
        let text = format!(
            "{new} files that exist nowhere else went to the conflict store here, which holds {conflicts} now; \
             `clusterd conflicts {group} list` shows them, and why, on either node"
        );
        Some((Kind::Conflict, text))
    }

    fn conflicts_due(&self) -> Option<Instant> {
        let told = self.conflicts_told_at.map(|at| at + limits::NEWS_CONFLICTS_EVERY);
        (self.new_conflicts > 0).then(|| told.unwrap_or(self.since))
    }

    /// A conflict store is larger than it should be: why nothing is done about it, in words.
    pub fn crowded(&mut self, now: Instant, why: &str) -> Option<(Kind, String)> {
        let lately = |at: Instant| now.duration_since(at) < limits::NEWS_CROWDED_EVERY;
        if why.is_empty() || self.crowded_told_at.is_some_and(lately) {
            return None;
        }
        self.crowded_told_at = Some(now);
        Some((Kind::Conflict, why.to_owned()))
    }

    /// So many conflicts had their time.
    pub fn removed(count: u64) -> Option<(Kind, String)> {
        let days = limits::CONFLICT_KEPT_FOR.as_secs() / (24 * 3600);
        let text = format!(
            "{count} of the oldest files were removed from the conflict store: they were kept for more than \
             {days} days"
        );
        (count > 0).then_some((Kind::Conflict, text))
    }

    /// A commit was fuzzy.
    pub fn fuzzy(&mut self, now: Instant) -> Option<(Kind, String)> {
        let lately = |at: Instant| now.duration_since(at) < limits::NEWS_FUZZY_EVERY;
        if self.fuzzy_told_at.is_some_and(lately) {
            return None;
        }
        self.fuzzy_told_at = Some(now);
        let text =
            "files change faster than one consistent state can be read: each file is whole on the peer, but their \
             order of writing is not kept"
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

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "/srv/www is not the directory that was mirrored before";

    /// What is told of states that are seen at these ms, each until the next one.
    fn told(seen: &[(u64, MirrorState, &str)], until_ms: u64) -> Vec<String> {
        let begun = Instant::now();
        let mut news = News::new(begun);
        let mut told = Vec::new();
        for ms in (0..until_ms).step_by(10) {
            let now = seen.iter().rev().find(|(from, ..)| *from <= ms);
            let (_, state, why) = now.copied().unwrap_or((0, MirrorState::Paused, ""));
            let now = begun + Duration::from_millis(ms);
            told.extend(news.state(now, state, why).map(|(_, text)| text));
            // What is due does something, or the engine would look all the time.
            assert!(news.due().is_none_or(|due| due > now), "{ms}: {news:?}");
        }
        told
    }

    #[test]
    fn a_state_that_comes_back_has_lasted() {
        let mut seen = Vec::new();
        // A session that looks for some moments, and fails: at each attempt again.
        for attempt in 0..10 {
            seen.push((attempt * 5000, MirrorState::Syncing, ""));
            seen.push((attempt * 5000 + 300, MirrorState::Blocked, ROOT));
            seen.push((attempt * 5000 + 500, MirrorState::Behind, "the owner has no session"));
        }
        assert_eq!(told(&seen, 50_000), [format!("nothing is mirrored: {ROOT}")]);
        seen.push((50_000, MirrorState::InSync, ""));
        assert_eq!(told(&seen, 60_000).len(), 2, "and that it is over");
    }

    #[test]
    fn reasons_that_take_turns_are_told_once_each() {
        let mut seen = Vec::new();
        for attempt in 0..20 {
            let why = if attempt % 2 == 0 { ROOT } else { "the peer refuses" };
            seen.push((attempt * 2000, MirrorState::Blocked, why));
        }
        assert_eq!(told(&seen, 40_000).len(), 2);
    }

    #[test]
    fn what_comes_and_goes_once_is_not_told() {
        let seen = [
            (0, MirrorState::Syncing, ""),
            (1000, MirrorState::Blocked, ROOT),
            (1500, MirrorState::Syncing, ""),
            (5000, MirrorState::Behind, "the session ended"),
            (9000, MirrorState::Syncing, ""),
            (12_000, MirrorState::InSync, ""),
        ];
        assert_eq!(told(&seen, 40_000), ["the mirror is in sync"]);
    }

    #[test]
    fn another_state_that_stays_is_told_in_its_time() {
        let seen = [
            (0, MirrorState::Blocked, ROOT),
            (2000, MirrorState::Behind, "the peer is not reached"),
        ];
        let told = told(&seen, 60_000);
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[1].contains("not reached"), "{told:?}");
    }

    /// Of a program that writes to the copy all day.
    #[test]
    fn conflicts_are_told_at_once_and_then_now_and_then_with_their_number() {
        let begun = Instant::now();
        let mut news = News::new(begun);
        let mut told = Vec::new();
        assert_eq!(news.conflicts(begun, "web", 5), None, "they were there before");
        for step in 0..1200u64 {
            let now = begun + Duration::from_millis(step * 500);
            told.extend(news.conflicts(now, "web", 6 + step).map(|(_, text)| text));
        }
        // Ten minutes.
        assert!((10..=11).contains(&told.len()), "{told:#?}");
        assert!(told[0].starts_with("1 files"), "{told:#?}");
        let number = |text: &String| text.split(' ').next().unwrap().parse::<u64>().unwrap();
        let sum: u64 = told.iter().map(number).sum();
        assert_eq!(sum + news.new_conflicts, 1200);
        assert!(news.due().is_some_and(|at| at > begun));
    }

    #[test]
    fn a_crowded_store_is_told_once_a_day() {
        let begun = Instant::now();
        let mut news = News::new(begun);
        assert_eq!(news.crowded(begun, ""), None);
        assert!(news.crowded(begun, "full").is_some());
        assert_eq!(news.crowded(begun + Duration::from_secs(3600), "full"), None);
        assert!(news.crowded(begun + limits::NEWS_CROWDED_EVERY, "full").is_some());
    }
}
