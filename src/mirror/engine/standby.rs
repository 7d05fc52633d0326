//! The standby's role: the copy here, what somebody does to it, and what the owner sends.

use std::sync::Mutex;
use std::time::Instant;

use super::incoming;
use super::mode::Mode;
use super::replica::{self, Replica};
use super::trees::Fault;
use super::{Engine, Mail, lock};
use crate::core::{Generation, MirrorDuty};
use crate::mirror::proto::Trouble;
use crate::mirror::session::receiver;

impl Engine {
    /// Looks at what somebody may have changed here, and tells the owner.
    pub(super) fn look_at_replica(&mut self) {
        let Mode::In(incoming) = &self.mode else { return };
        let generation = incoming.generation();
        if self.replica.as_ref().is_none_or(|replica| replica.due() > Instant::now()) {
            return;
        }
        // What was acknowledged and is not in the trees yet, nobody changed. A session begins with that.
        let settled = if self.connection.is_open() { Ok(()) } else { self.settled() };
        let is_replica = self.is_replica().unwrap_or(false);
        let Some(replica) = &mut self.replica else { return };
        if settled.is_err() {
            return replica.again();
        }
        let mail = self.mail.clone();
        let interrupted = move || ends_taking_in(&mail, generation);
        let around =
            replica::Around { trees: &self.trees, index: &self.index, interrupted: &interrupted };
        match replica.look(&around) {
            Ok(false) => {}
            Ok(true) => {
                let differ = replica.differ().clone();
                // Else it is what this node had as owner, and could not send.
                if is_replica {
                    self.news.differ(&self.trees, &differ, "on this node");
                }
                self.feed_receiver(receiver::Event::Differs(differ));
            }
            Err(fault) => {
                replica.again();
                // The owner must not believe that its copy is here: a new session says what is wrong.
                if !matches!(fault, Fault::Interrupted) && self.connection.is_open() {
                    log::warn!("a mirror session was ended: {fault}");
                    self.connection.close();
                    self.cut(&fault.to_string());
                }
            }
        }
    }

    /// Compares the copy with the index, as the owner left it: it may be served soon. Nothing is restored any
    /// more; what differs is told, and the peer will keep what it has of it.
    pub(super) fn look_before_a_claim(&mut self) {
        if !self.is_replica().unwrap_or(false) {
            self.replica = None;
            return;
        }
        let replica = self.replica.get_or_insert_with(|| Replica::new(&self.to_self));
        let mail = self.mail.clone();
        let interrupted = move || {
            let order = lock(&mail).order;
            order.is_some_and(|(_, duty, ..)| duty != MirrorDuty::Still)
        };
        let around =
            replica::Around { trees: &self.trees, index: &self.index, interrupted: &interrupted };
        match replica.look(&around) {
            Ok(_) => {
                if let Some(differ) = replica.untold() {
                    self.news.differs_at_a_claim(&self.trees, &differ);
                }
            }
            // The claim must not wait for a name that cannot be read.
            Err(fault) => {
                replica.again();
                log::warn!("the copy here could not be compared with what the owner sent: {fault}");
            }
        }
    }

    pub(super) fn feed_receiver(&mut self, event: receiver::Event) {
        let now = self.now();
        let Mode::In(incoming) = &mut self.mode else { return };
        // Made before the link was taken.
        let Some(settler) = &mut self.settler else { return };
        let mail = self.mail.clone();
        let generation = incoming.generation();
        let interrupted = move || ends_taking_in(&mail, generation);
        let replica = self.replica.get_or_insert_with(|| Replica::new(&self.to_self));
        let around = incoming::Around {
            trees: &self.trees,
            index: &self.index,
            settler,
            connection: &mut self.connection,
            skipped: &mut self.skipped,
            replica,
            interrupted: &interrupted,
        };
        incoming.handle(now, event, around);
        if let Some(Trouble::Root(why)) = &incoming.taken.trouble {
            self.roots = Err(why.clone());
        } else if incoming.taken.whole {
            self.roots = Ok(());
        }
    }
}

/// Whether an order waits that ends the taking in of this generation.
fn ends_taking_in(mail: &Mutex<Mail>, generation: Generation) -> bool {
    match lock(mail).order {
        None => false,
        Some((_, MirrorDuty::In(new), ..)) => new != generation,
        Some((_, MirrorDuty::Still | MirrorDuty::Out(_) | MirrorDuty::Drain(_), ..)) => true,
    }
}
