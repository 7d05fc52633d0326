//! Names that are left alone for a while though they are dirty: what cannot be read, and what is written
//! to all the time and costs much to read. Everything else goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::limits;
use crate::mirror::entry::Key;

/// The names that rest.
#[derive(Debug, Default)]
pub struct Rests {
    names: BTreeMap<Key, Rest>,
    stuck: usize,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    pause: Duration,
    /// Why it cannot be read, with its path; `None`: it can.
    stuck: Option<String>,
    /// It is dirty since then, and to be looked at when the rest is over.
    wanted: Option<Instant>,
}

impl Rests {
    /// Whether a dirty name rests: then it is looked at later.
    pub fn holds(&mut self, key: &Key, now: Instant) -> bool {
        match self.names.get_mut(key) {
            Some(rest) if rest.until > now => {
                rest.wanted.get_or_insert(now);
                true
            }
            Some(_) | None => false,
        }
    }

    /// It cannot be read: `why` has its path. False: too many cannot, which is more than a bad file.
    #[must_use = "what is not kept in mind is not read again"]
    pub fn stick(&mut self, key: &Key, why: String, now: Instant) -> bool {
        let before = self.names.get(key).filter(|rest| rest.stuck.is_some());
        if before.is_none() && self.stuck >= limits::STUCK_MAX {
            return false;
        }
        let pause = before.map_or(limits::STUCK_PAUSE_MIN, |rest| rest.pause * 2);
        let pause = pause.min(limits::STUCK_PAUSE_MAX);
        self.stuck += usize::from(before.is_none());
        let rest = Rest { until: now + pause, pause, stuck: Some(why), wanted: Some(now) };
        self.names.insert(key.clone(), rest);
        true
    }

    /// Whether it took long to read a short while ago.
    pub fn is_hot(&self, key: &Key) -> bool {
        self.names.get(key).is_some_and(|rest| rest.stuck.is_none() && !rest.pause.is_zero())
    }

    /// How long a name is not looked at, if it is not.
    pub fn until(&self, key: &Key) -> Option<Instant> {
        self.names.get(key).map(|rest| rest.until)
    }

    /// It was read, or is gone.
    pub fn free(&mut self, key: &Key) {
        if self.names.get(key).is_some_and(|rest| rest.stuck.is_some()) {
            self.names.remove(key);
            self.stuck -= 1;
        }
    }

    /// It took so long to read and send. The first times it may change again soon after: the end of a
    /// long write comes at once.
    pub fn cost(&mut self, key: &Key, took: Duration, now: Instant) {
        let before = self.names.get(key).filter(|rest| rest.stuck.is_none());
        let pause = before.map_or(took, |rest| rest.pause * 2);
        let pause = pause.clamp(took, took * limits::HOT_PAUSE_FACTOR);
        let rest = Rest { until: now + pause, pause, stuck: None, wanted: None };
        self.names.insert(key.clone(), rest);
    }

    /// It waits for something that is done then.
    pub fn wait(&mut self, key: &Key, until: Instant) {
        let new = Rest { until, pause: Duration::ZERO, stuck: None, wanted: None };
        let rest = self.names.entry(key.clone()).or_insert(new);
        rest.until = rest.until.max(until);
        rest.wanted.get_or_insert(Instant::now());
    }

    /// What it waited for is done.
    pub fn go_on(&mut self, key: &Key) {
        let waits = |rest: &Rest| rest.stuck.is_none() && rest.pause.is_zero();
        if self.names.get(key).is_some_and(waits) {
            self.names.remove(key);
        }
    }

    /// When the next rest of a dirty name is over.
    pub fn due(&self) -> Option<Instant> {
        self.names.values().filter(|rest| rest.wanted.is_some()).map(|rest| rest.until).min()
    }

    /// The dirty names whose rest is over.
    pub fn take_due(&mut self, now: Instant) -> Vec<Key> {
        self.names.retain(|_, rest| {
            rest.wanted.is_some() || rest.stuck.is_some() || rest.until + rest.pause * 2 > now
        });
        let due = |rest: &Rest| rest.wanted.is_some() && rest.until <= now;
        let due = self.names.iter_mut().filter(|(_, rest)| due(rest));
        due.map(|(key, rest)| {
            rest.wanted = None;
            key.clone()
        })
        .collect()
    }

    /// All rests are over, once: a barrier wants everything. The dirty names.
    pub fn wake(&mut self, now: Instant) -> Vec<Key> {
        for rest in self.names.values_mut() {
            rest.until = rest.until.min(now);
        }
        self.take_due(now)
    }

    /// Whether a dirty name that can be read has rested for more than a moment.
    pub fn is_behind(&self, now: Instant) -> bool {
        let long = |since: Instant| now.duration_since(since) >= limits::MIRROR_MOMENT;
        self.names.values().any(|rest| rest.stuck.is_none() && rest.wanted.is_some_and(long))
    }

    /// Why names cannot be read, each with its path.
    pub fn reasons(&self) -> impl Iterator<Item = &str> {
        self.names.values().filter_map(|rest| rest.stuck.as_deref())
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
    fn what_cannot_be_read_is_tried_less_and_less_often_until_it_can() {
        let (mut rests, mut now) = (Rests::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert!(rests.stick(&key("a"), "a: bad".into(), now));
            assert!(rests.holds(&key("a"), now));
            let due = rests.due().unwrap();
            pauses.push(due - now);
            assert_eq!(rests.take_due(due), [key("a")]);
            assert!(!rests.holds(&key("a"), due));
            now = due;
        }
        assert!(pauses.is_sorted() && pauses.last() == Some(&limits::STUCK_PAUSE_MAX));
        assert_eq!((rests.stuck, rests.reasons().count()), (1, 1));
        rests.free(&key("a"));
        assert_eq!((rests.stuck, rests.reasons().count(), rests.due()), (0, 0, None));
    }

    #[test]
    fn what_costs_much_rests_longer_the_more_often_it_changes() {
        let (mut rests, mut now) = (Rests::default(), Instant::now());
        let took = Duration::from_millis(300);
        for times in [1, 2, 4, 8, 8] {
            rests.cost(&key("log"), took, now);
            assert_eq!(rests.due(), None, "nobody wants it");
            assert!(rests.holds(&key("log"), now));
            let due = rests.due().unwrap();
            assert_eq!(due - now, took * times);
            now = due;
            assert_eq!(rests.take_due(now), [key("log")]);
        }
        // It was quiet for long: forgotten.
        now += took * 100;
        assert!(rests.take_due(now).is_empty());
        rests.cost(&key("log"), took, now);
        assert!(rests.holds(&key("log"), now));
        assert_eq!(rests.due().unwrap() - now, took);
        assert_eq!(rests.wake(now), [key("log")], "a barrier waits for nobody's rest");
    }

    #[test]
    fn so_many_bad_names_are_a_bad_disk() {
        let (mut rests, now) = (Rests::default(), Instant::now());
        for number in 0..limits::STUCK_MAX {
            assert!(rests.stick(&key(&format!("{number}")), "bad".into(), now));
        }
        assert!(!rests.stick(&key("one more"), "bad".into(), now));
        assert!(rests.stick(&key("0"), "bad".into(), now), "known");
    }
}
