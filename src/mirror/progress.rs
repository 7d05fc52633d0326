//! What a thread of a mirror waits for in a file system, where another thread can see it. A file system
//! that never answers (a dead NFS server, FUSE, a frozen disk) holds the thread that asks it, which can
//! then tell nothing itself.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits;

/// What one thread waits for.
#[derive(Clone, Debug, Default)]
pub struct Progress(Arc<Mutex<Step>>);

#[derive(Debug, Default)]
struct Step {
    /// `None`: it waits for no file system.
    since: Option<Instant>,
    place: PathBuf,
}

thread_local! {
    static MINE: RefCell<Progress> = RefCell::new(Progress::default());
}

impl Progress {
    /// The calling thread is the one that is looked at.
    pub fn watch_this_thread(&self) {
        MINE.replace(self.clone());
    }

    /// The calling thread's, for threads that help it.
    pub fn current() -> Progress {
        MINE.with_borrow(Clone::clone)
    }

    /// Another piece of the same step is done.
    pub fn goes_on(&self) {
        let mut step = self.step();
        step.since = step.since.map(|_| Instant::now());
    }

    /// How long a file system has not answered, if that is too long; and the path that it was asked for.
    pub fn stuck(&self, now: Instant) -> Option<(Duration, String)> {
        let step = self.step();
        let lasts = now.saturating_duration_since(step.since?);
        (lasts >= limits::MIRROR_STUCK_AFTER).then(|| (lasts, step.place.display().to_string()))
    }

    fn step(&self) -> MutexGuard<'_, Step> {
        // A panic ends the process: there is no poison.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The calling thread asks the file system of this path now.
pub fn at(place: &Path) {
    MINE.with_borrow(|mine| {
        let mut step = mine.step();
        step.since = Some(Instant::now());
        step.place.clear();
        step.place.push(place);
    });
}

/// The calling thread waits for no file system.
pub fn idle() {
    MINE.with_borrow(|mine| mine.step().since = None);
}

/// Does something that waits for something else than a file system, such as the peer.
pub fn elsewhere<T>(work: impl FnOnce() -> T) -> T {
    let was = MINE.with_borrow(|mine| mine.step().since.take());
    let done = work();
    MINE.with_borrow(|mine| mine.step().since = was.map(|_| Instant::now()));
    done
}
