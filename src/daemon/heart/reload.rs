//! A reload: the worker reads the config file and offers what it says, the core takes it in or not.

use super::Heart;
use crate::core::{Event, Time};
use crate::daemon::link::ToWorker;
use crate::limits;

/// A reload under way: its number, and when it was asked for.
#[derive(Debug, Default)]
pub struct Reload(Option<(u64, Time)>);

impl Heart {
    /// SIGHUP: has the file read. One at a time: the worker must not write what is being read here.
    pub(super) fn begin_reload(&mut self) {
        let now = self.clock.now();
        if self.reload.0.is_some_and(|(_, at)| now.since(at) < limits::RELOAD_PATIENCE) {
            let error = "another reload is under way; try again".to_owned();
            return self.handle(Event::ReloadFailed { error });
        }
        let (incarnation, ..) = self.core.session();
        let nonce = incarnation ^ now.0;
        self.reload = Reload(Some((nonce, now)));
        self.worker.send(&ToWorker::Reread { nonce });
    }

    /// A worker has started: what the one before was asked for does not come.
    pub(super) fn reload_lost(&mut self) {
        if self.reload.0.take().is_some() {
            let error = "the worker process was restarted; try again".to_owned();
            self.handle(Event::ReloadFailed { error });
        }
    }

    /// The file was read, or could not be.
    pub(super) fn offered(&mut self, nonce: u64, error: Option<String>) {
        if self.reload.0.take_if(|(asked, _)| *asked == nonce).is_none() {
            log::info!("the config file was read for nobody: the answer came late");
            return;
        }
        let read = match error {
            Some(error) => Err(error),
            None => self.shelf.offered().map_err(|error| error.to_string()),
        };
        match read {
            Ok(config) => self.handle(Event::Reload { config: Box::new(config) }),
            Err(error) => self.handle(Event::ReloadFailed { error }),
        }
    }

    /// The core has taken another config in.
    pub(super) fn configured(&mut self) {
        // First for a heart after this one: what it does not know it would not delete.
        if let Err(error) = self.shelf.accept() {
            log::error!("a restarted heart will begin with the config before: {error}");
        }
        self.config = self.core.config().clone();
        self.page.set_end_patience(limits::HEART_END_PATIENCE + self.config.hand_over_time());
        self.hands.configured(&self.config, &mut self.page);
        self.senses.configured(&self.config);
        self.wires.configured(&self.config, self.clock.now());
        self.worker.send(&ToWorker::Configured);
    }
}
