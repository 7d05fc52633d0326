//! The conflict stores of a group on this node: counted, and kept from growing without an end.

use std::time::{Instant, SystemTime};

use super::Setup;
use crate::config;
use crate::limits;
use crate::mirror::conflict::{Store, Tidied};
use crate::mirror::stage::Whose;

/// What is known of them.
#[derive(Debug)]
pub struct Kept {
    /// Files in them, or why they cannot be counted; and when that was.
    counted: Option<(Instant, Result<u64, String>)>,
    tidy_at: Instant,
    /// What a person must know of their size, in words.
    pub crowded: Option<String>,
}

impl Kept {
    /// Nothing is known.
    pub fn new(now: Instant) -> Kept {
        Kept { counted: None, tidy_at: now + limits::CONFLICT_TIDY_EVERY, crowded: None }
    }

    /// Files in the stores: counted now and then, as it costs a look at each store.
    pub fn count(&mut self, now: Instant, setup: &Setup) -> u64 {
        if let Some((at, counted)) = &self.counted
            && now.duration_since(*at) < limits::REPORT_EVERY
        {
            return *counted.as_ref().unwrap_or(&0);
        }
        let whose = whose(setup);
        let count = |tree: &config::Tree| {
            let path = tree.path.display();
            Store::count_of(&whose, &tree.path).map_err(|errno| format!("of {path}: {errno}"))
        };
        let counted = setup.trees.iter().map(count).sum();
        if let Err(why) = &counted
            && self.counted.as_ref().is_none_or(|(_, before)| *before != counted)
        {
            log::warn!("the conflict store cannot be read: {why}");
        }
        let shown = *counted.as_ref().unwrap_or(&0);
        self.counted = Some((now, counted));
        shown
    }

    /// When the stores are looked at again.
    pub fn due(&self) -> Instant {
        self.tidy_at
    }

    /// Removes what had its time, if that is due. Returns how many.
    pub fn tidy(&mut self, now: Instant, setup: &Setup) -> u64 {
        if now < self.tidy_at {
            return 0;
        }
        let (mut removed, mut more) = (0, false);
        let mut crowded = Vec::new();
        for tree in &setup.trees {
            match tidy(&whose(setup), tree) {
                Ok(tidied) => {
                    removed += tidied.removed;
                    more |= tidied.more;
                    crowded.extend(tidied.crowded);
                }
                Err(why) => log::warn!("the conflict store of {}: {why}", tree.path.display()),
            }
        }
        self.crowded = (!crowded.is_empty()).then(|| crowded.join("; "));
        self.tidy_at = now + if more { limits::REPORT_EVERY } else { limits::CONFLICT_TIDY_EVERY };
        removed
    }
}

fn tidy(whose: &Whose, tree: &config::Tree) -> Result<Tidied, String> {
    match Store::find(whose, &tree.path).map_err(|error| error.to_string())? {
        Some(store) => store.tidy(SystemTime::now()).map_err(|error| error.desc().to_owned()),
        None => Ok(Tidied::default()),
    }
}

fn whose(setup: &Setup) -> Whose {
    Whose { cluster: setup.cluster.clone(), group: setup.group.clone(), node: setup.node.clone() }
}
