//! A reload: the worker reads the config file and the key file and offers what they say, the core takes the config in
//! or not, and the keys with it. How far a change of the key is, is noted here for all who must know.

use super::Heart;
use crate::core::{Event, Time};
use crate::daemon::channel::ToWorker;
use crate::daemon::config_slots::ConfigSlot;
use crate::limits;

/// A reload under way: its number, when it was asked for, and whom to answer.
#[derive(Debug, Default)]
pub struct Reload(Option<(u64, Time, Option<u64>)>);

impl Heart {
    /// Has the files read; `request`: who asked on the control socket. One at a time: the worker must not write what
    /// is being read here.
    pub(super) fn begin_reload(&mut self, request: Option<u64>) {
        let now = self.clock.now();
        if self.reload.0.is_some_and(|(_, at, _)| now.since(at) < limits::RELOAD_PATIENCE) {
            let error = "another reload is under way; try again".to_owned();
            return self.handle(Event::ReloadFailed { error, request });
        }
        let (incarnation, ..) = self.core.session();
        let nonce = incarnation ^ now.0;
        self.reload = Reload(Some((nonce, now, request)));
        self.worker.send(&ToWorker::Reread { nonce });
    }

    /// A worker has started: what the one before was asked for does not come.
    pub(super) fn reload_lost(&mut self) {
        if let Some((_, _, request)) = self.reload.0.take() {
            let error = "the worker process was restarted; try again".to_owned();
            self.handle(Event::ReloadFailed { error, request });
        }
    }

    /// The files were read, or could not be.
    pub(super) fn offered(&mut self, nonce: u64, error: Option<String>) {
        let Some((_, _, request)) = self.reload.0.take_if(|(asked, ..)| *asked == nonce) else {
            log::info!("the config file was read too late, nobody waits for the answer");
            return;
        };
        let read = error.map_or_else(|| self.read_offer(), Err);
        match read {
            Ok(ConfigSlot { config, keys }) => {
                let new_keys = keys != *self.sockets.ring();
                self.handle(Event::Reload { config: Box::new(config), new_keys, request });
            }
            Err(error) => self.handle(Event::ReloadFailed { error, request }),
        }
    }

    fn read_offer(&self) -> Result<ConfigSlot, String> {
        let offer = self.config_slots.offered().map_err(|error| error.to_string())?;
        let (_, peer_incarnation, _) = self.core.session();
        let may_use = self.sockets.may_use(&offer.keys, peer_incarnation);
        may_use
            .map_err(|error| format!("key file {}: {error}", offer.config.key_file.display()))?;
        Ok(offer)
    }

    /// The core has taken in what is offered.
    pub(super) fn configured(&mut self) {
        match self.config_slots.offered() {
            Ok(offer) => self.sockets.set_ring(&offer.keys),
            // It was whole when the core was told of it.
            Err(error) => log::error!("the keys before stay in use: {error}"),
        }
        // First for a heart after this one: what it does not know it would not delete.
        if let Err(error) = self.config_slots.accept() {
            log::error!("a restarted heart will use the previous config: {error}");
        }
        self.config = self.core.config().clone();
        self.page.set_end_patience(limits::HEART_END_PATIENCE + self.config.hand_over_time());
        self.addresses.configured(&self.config, &mut self.page);
        self.lan_events.configured(&self.config);
        self.sockets.configured(&self.config, self.clock.now());
        self.worker.send(&ToWorker::Configured);
        // What the guard would say may be signed with a key that goes; who sends is told in the next round.
        self.seal_will();
    }

    /// Tells what has changed with the keys. The guard first: its last will must be one that the peer reads.
    pub(super) fn note_keys(&mut self) {
        let (_, peer_incarnation, _) = self.core.session();
        let state = self.sockets.key_state(peer_incarnation);
        if state == self.key_state {
            return;
        }
        self.key_state = state;
        self.seal_will();
        self.tell_worker_of_keys();
        self.handle(Event::KeyIs { state });
    }

    /// Those who send for this node in the worker.
    pub(super) fn tell_worker_of_keys(&mut self) {
        self.worker.send(&ToWorker::PeerHasNewest(self.key_state.peer_has_newest()));
    }
}
