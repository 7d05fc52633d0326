//! The mailbox of an engine, and who puts something into it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError};

use super::look::Look;
use super::{Input, Telling, decline};
use crate::core::{MirrorDuty, MirrorTerms, PeerSync};
use crate::mirror::transport::Incoming;

/// What was ordered and not yet read; the newest order replaces the one before.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub order: Option<(u32, MirrorDuty, PeerSync, MirrorTerms)>,
    pub syncs: Vec<u64>,
    pub approved: bool,
    pub over: bool,
}

/// The other end of an engine.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) mail: Arc<Mutex<Mail>>,
    pub(super) inbox: Sender<Input>,
    pub(super) look: Look,
}

impl Handle {
    /// Orders a duty; it replaces one that was not begun.
    pub fn order(&self, order: u32, duty: MirrorDuty, peer: PeerSync, terms: MirrorTerms) {
        lock(&self.mail).order = Some((order, duty, peer, terms));
        self.wake();
    }

    /// A person has said that the trees here are the ones to keep.
    pub fn approve(&self) {
        lock(&self.mail).approved = true;
        self.wake();
    }

    /// Asks for everything written until now to be on the peer.
    pub fn sync(&self, request: u64) {
        lock(&self.mail).syncs.push(request);
        self.wake();
    }

    /// A link of the owner. Declined if the engine does not keep up.
    pub fn arrived(&self, link: Incoming) {
        match self.inbox.try_send(Input::Arrived(Box::new(link))) {
            Err(TrySendError::Full(Input::Arrived(link))) => {
                decline(*link, "it is busy with another task for this group");
            }
            Ok(()) | Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }

    /// Looks whether the engine gets on; tells if a file system holds it. Call it about once a second.
    pub fn look(&self, now: Instant, mut tell: impl FnMut(Telling)) {
        self.look.look(now, &mut tell);
    }

    /// Ends the engine.
    pub fn end(&self) {
        lock(&self.mail).over = true;
        self.wake();
    }

    fn wake(&self) {
        // A full inbox wakes it, too.
        let _ = self.inbox.try_send(Input::Wake);
    }
}

pub(super) fn lock(mail: &Mutex<Mail>) -> MutexGuard<'_, Mail> {
    // A panic ends the process: there is no poison.
    mail.lock().unwrap_or_else(PoisonError::into_inner)
}
