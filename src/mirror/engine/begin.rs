//! From a group's place in the worker to its running engine: the index is opened, as long as that takes.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::look::Look;
use super::trees::Trees;
use super::{Engine, Handle, Input, Mail, Setup, Telling, decline, lock};
use crate::control::event::Kind;
use crate::control::status::{Mirror, MirrorState};
use crate::core::{MirrorReport, Unsent};
use crate::limits;
use crate::mirror::index::Index;
use crate::mirror::progress;

/// An engine that has not begun.
pub struct Beginning {
    pub(super) setup: Setup,
    pub(super) trees: Trees,
    pub(super) mail: Arc<Mutex<Mail>>,
    pub(super) inbox: Receiver<Input>,
    pub(super) to_self: Sender<Input>,
    pub(super) look: Look,
}

/// The index cannot be used: nothing is known of the trees here until it can.
pub(super) fn unusable(why: &str) -> MirrorReport {
    MirrorReport {
        order: 0,
        still: false,
        drained: false,
        complete: false,
        known: false,
        copy_of: None,
        commit: 0,
        ready_for: None,
        empty: false,
        in_sync: false,
        unsent: Unsent::Unknown,
        stuck: 0,
        held: "trees whose index cannot be used".to_owned(),
        status: Mirror { state: MirrorState::Blocked, why: why.to_owned(), ..Mirror::off() },
    }
}

impl Beginning {
    pub(super) fn new(setup: Setup) -> Result<(Beginning, Handle), String> {
        let trees = Trees::new(&setup.trees).map_err(|error| error.to_string())?;
        let mail = Arc::new(Mutex::new(Mail::default()));
        let (to_self, inbox) = bounded(limits::MIRROR_INBOX_MAX);
        let look = Look::default();
        let handle = Handle { mail: mail.clone(), inbox: to_self.clone(), look: look.clone() };
        Ok((Beginning { setup, trees, mail, inbox, to_self, look }, handle))
    }

    /// Opens the index and works until it is ended. What goes wrong is told, and tried again.
    pub fn run(self, mut tell: impl FnMut(Telling)) {
        self.look.watch_this_thread();
        let mut pause = limits::INDEX_AGAIN_MIN;
        let mut told = String::new();
        loop {
            progress::at(&self.setup.state);
            let opened = Index::open_or_rebuild(&self.setup.state);
            progress::idle();
            let why = match opened {
                Ok((index, found)) => {
                    if let Some(found) = found {
                        tell(Telling::Note(Kind::Fault, found));
                    }
                    return Engine::with(self, index).run(tell);
                }
                Err(error) => error.to_string(),
            };
            self.look.tell(unusable(&why), &mut tell);
            if told != why {
                tell(Telling::Note(Kind::Fault, format!("nothing is mirrored: {why}")));
                why.clone_into(&mut told);
            }
            if self.wait(pause, &why, &mut tell) {
                return;
            }
            pause = (pause * 2).min(limits::MIRROR_RETRY);
        }
    }

    /// Waits, and answers everybody why. True: it is ended.
    fn wait(&self, pause: Duration, why: &str, tell: &mut dyn FnMut(Telling)) -> bool {
        let until = Instant::now() + pause;
        loop {
            let syncs = {
                let mut mail = lock(&self.mail);
                if mail.over {
                    return true;
                }
                std::mem::take(&mut mail.syncs)
            };
            for request in syncs {
                tell(Telling::Synced { request, outcome: Err(why.to_owned()) });
            }
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Input::Arrived(link)) => decline(*link, why),
                // The newest order is in the mail.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return false,
                Err(RecvTimeoutError::Disconnected) => return true,
            }
        }
    }
}
