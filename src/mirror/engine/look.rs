//! A look at an engine from another thread: one that sits in a file system which never answers can tell
//! nothing itself.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::Telling;
use super::begin::unusable;
use crate::control::event::Kind;
use crate::control::status::MirrorState;
use crate::core::MirrorReport;
use crate::mirror::progress::Progress;

/// What an engine is doing, and what it said last.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    progress: Progress,
    said: Arc<Mutex<Said>>,
}

#[derive(Debug, Default)]
struct Said {
    report: Option<MirrorReport>,
    /// The engine was found stuck since it said that.
    overruled: bool,
}

impl Look {
    /// The calling thread is the engine's.
    pub(super) fn watch_this_thread(&self) {
        self.progress.watch_this_thread();
    }

    /// Tells a report of the engine.
    pub(super) fn tell(&self, report: MirrorReport, tell: &mut dyn FnMut(Telling)) {
        let mut said = self.said();
        said.report = Some(report.clone());
        said.overruled = false;
        // Under the lock: a look at the same moment comes before it or after it.
        tell(Telling::Report(report));
    }

    /// Whether something else was told than the engine said last: it must say it again.
    pub(super) fn was_overruled(&self) -> bool {
        self.said().overruled
    }

    /// Looks whether the engine gets on. Of one that does not is told what it waits for: then nothing that
    /// it said counts any more.
    pub(super) fn look(&self, now: Instant, tell: &mut dyn FnMut(Telling)) {
        let Some((lasts, place)) = self.progress.stuck(now) else { return };
        let mut said = self.said();
        let why = format!(
            "the file system of {place} has not answered for {} s; nothing is mirrored until it does",
            lasts.as_secs()
        );
        let report = said.report.clone().unwrap_or_else(|| unusable(&why));
        let mut status = report.status.clone();
        (status.state, status.rate, status.why) = (MirrorState::Blocked, 0, why.clone());
        let (still, drained, complete, in_sync) = (false, false, false, false);
        tell(Telling::Report(MirrorReport { still, drained, complete, in_sync, status, ..report }));
        if !said.overruled {
            tell(Telling::Note(Kind::Fault, why));
        }
        said.overruled = true;
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // A panic ends the process: there is no poison.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::limits;
    use crate::mirror::progress;

    #[test]
    fn an_engine_that_does_not_get_on_is_told_once_and_ages() {
        let look = Look::default();
        look.watch_this_thread();
        let healthy = MirrorReport {
            complete: true,
            in_sync: true,
            status: crate::control::status::Mirror {
                state: MirrorState::InSync,
                ..unusable("").status
            },
            ..unusable("")
        };
        look.tell(healthy, &mut |_| {});
        let mut told = Vec::new();
        let begun = Instant::now();
        let late = begun + limits::MIRROR_STUCK_AFTER * 2;
        look.look(late, &mut |telling| told.push(telling));
        assert!(told.is_empty(), "it waits for work");

        progress::at(Path::new("/srv/www"));
        look.look(begun, &mut |telling| told.push(telling));
        assert!(told.is_empty(), "it has just begun");
        look.look(late, &mut |telling| told.push(telling));
        look.look(late + limits::MIRROR_STUCK_AFTER, &mut |telling| told.push(telling));
        let notes = told.iter().filter(|telling| matches!(telling, Telling::Note(..))).count();
        assert_eq!(notes, 1, "{told:?}");
        for telling in &told {
            let Telling::Report(report) = telling else { continue };
            assert_eq!(report.status.state, MirrorState::Blocked);
            assert!(!report.complete && !report.in_sync && !report.still);
            assert!(report.status.why.contains("/srv/www"), "{}", report.status.why);
        }
        assert!(look.was_overruled());
        progress::idle();
        told.clear();
        look.look(late, &mut |telling| told.push(telling));
        assert!(told.is_empty());
    }
}
