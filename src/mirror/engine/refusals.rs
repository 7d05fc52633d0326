//! Names that the peer cannot take, each for a reason of its own: offered again after a while, so that it
//! heals by itself when the obstacle is gone.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::limits;
use crate::mirror::entry::Key;

/// The names that the peer refused.
#[derive(Debug, Default)]
pub struct Refusals {
    names: BTreeMap<Key, Refusal>,
    /// More were refused than are remembered one by one: a walk finds them.
    more: Option<Instant>,
}

#[derive(Debug)]
struct Refusal {
    /// With its path.
    why: String,
    pause: Duration,
    /// `None`: it is on its way once more.
    again_at: Option<Instant>,
}

impl Refusals {
    /// The peer refused it: `why` has its path.
    pub fn add(&mut self, key: &Key, why: String, now: Instant) {
        let before = self.names.get(key).map(|refusal| refusal.pause * 2);
        if before.is_none() && self.names.len() >= limits::STUCK_MAX {
            self.more.get_or_insert(now + limits::STUCK_RETRY_MAX);
            return;
        }
        let pause = before.unwrap_or(limits::STUCK_RETRY_MIN).min(limits::STUCK_RETRY_MAX);
        let refusal = Refusal { why, pause, again_at: Some(now + pause) };
        self.names.insert(key.clone(), refusal);
    }

    /// These names are on the peer, or are no more.
    pub fn free(&mut self, is_done: impl Fn(&Key) -> bool) {
        self.names.retain(|key, _| !is_done(key));
    }

    /// When something is to be offered again.
    pub fn due(&self) -> Option<Instant> {
        self.names.values().filter_map(|refusal| refusal.again_at).chain(self.more).min()
    }

    /// Names to be offered again, and whether everything is to be walked.
    pub fn take_due(&mut self, now: Instant) -> (Vec<Key>, bool) {
        let all = self.more.take_if(|at| *at <= now).is_some();
        let is_due = |refusal: &Refusal| refusal.again_at.is_some_and(|at| at <= now);
        let due = self.names.iter_mut().filter(|(_, refusal)| is_due(refusal));
        let names = due.map(|(key, refusal)| {
            refusal.again_at = None;
            key.clone()
        });
        (names.collect(), all)
    }

    /// A barrier wants everything: what waits is due now.
    pub fn wake(&mut self, now: Instant) {
        for at in self.names.values_mut().filter_map(|refusal| refusal.again_at.as_mut()) {
            *at = now.min(*at);
        }
    }

    /// What was on its way is void: it is offered again.
    pub fn give_back(&mut self, now: Instant) {
        for refusal in self.names.values_mut() {
            refusal.again_at.get_or_insert(now + refusal.pause);
        }
    }

    /// Why, each with its path.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        let more = self.more.map(|_| "on the peer, more names than are remembered");
        self.names.values().map(|refusal| refusal.why.as_str()).chain(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::entry::{RelPath, TreeId};

    fn key(path: &str) -> Key {
        Key { tree: TreeId(0), path: RelPath::new(path.as_bytes()).unwrap() }
    }

    #[test]
    fn what_is_refused_is_offered_less_and_less_often_until_it_is_taken() {
        let (mut refusals, mut now) = (Refusals::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            refusals.add(&key("a"), "a: immutable".into(), now);
            let due = refusals.due().unwrap();
            pauses.push(due - now);
            assert!(refusals.take_due(now).0.is_empty());
            assert_eq!(refusals.take_due(due), (vec![key("a")], false));
            assert_eq!(refusals.due(), None, "it is on its way");
            now = due;
        }
        assert!(pauses.is_sorted() && pauses.last() == Some(&limits::STUCK_RETRY_MAX));
        refusals.free(|_| true);
        assert_eq!((refusals.reasons().count(), refusals.due()), (0, None));
    }

    #[test]
    fn more_than_are_remembered_are_found_by_a_walk() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        for number in 0..=limits::STUCK_MAX {
            refusals.add(&key(&format!("{number}")), "bad".into(), now);
        }
        assert_eq!(refusals.reasons().count(), limits::STUCK_MAX + 1);
        let later = now + limits::STUCK_RETRY_MAX;
        let (names, all) = refusals.take_due(later);
        assert!(all && names.len() == limits::STUCK_MAX);
    }
}
