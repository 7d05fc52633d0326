//! The netlink thread's answers on their way to the heart.

use std::time::Instant;

use crossbeam_channel::{Sender, TrySendError};

use super::request::NetReply;
use crate::limits::{NET_FAULT_AGAIN, NET_REPLY_DEADLINE};

/// The thread's answers to the heart.
pub(super) struct Outbox {
    replies: Sender<NetReply>,
    wake: Box<dyn Fn() + Send>,
    /// Answers that found no room in time.
    lost: u64,
    last_fault: Option<(String, Instant)>,
}

impl Outbox {
    pub(super) fn new(replies: Sender<NetReply>, wake: Box<dyn Fn() + Send>) -> Outbox {
        Outbox { replies, wake, lost: 0, last_fault: None }
    }

    /// Puts an answer into the queue. A heart that does not take its answers is frozen or gone, and
    /// has nothing to ask either: waiting for it delays nobody.
    pub(super) fn put(&mut self, reply: NetReply) {
        if self.lost > 0 {
            let lost = format!("{} answers of the netlink thread were lost", self.lost);
            if self.replies.try_send(NetReply::Fault(lost)).is_ok() {
                self.lost = 0;
            }
        }
        if let Err(TrySendError::Full(reply)) = self.replies.try_send(reply) {
            (self.wake)();
            if self.replies.send_timeout(reply, NET_REPLY_DEADLINE).is_err() {
                self.lost = self.lost.saturating_add(1);
            }
        }
        (self.wake)();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.lost == 0
    }

    /// Tells a fault; the same one again only after a while.
    pub(super) fn fault(&mut self, text: String) {
        let now = Instant::now();
        let known = self.last_fault.as_ref().is_some_and(|(last, told_at)| {
            *last == text && now.duration_since(*told_at) < NET_FAULT_AGAIN
        });
        if !known {
            self.last_fault = Some((text.clone(), now));
            self.put(NetReply::Fault(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_fault_is_told_once() {
        let (sender, replies) = crossbeam_channel::bounded(10);
        let mut outbox = Outbox::new(sender, Box::new(|| {}));
        for text in ["one", "one", "two", "two"] {
            outbox.fault(text.into());
        }
        let told: Vec<NetReply> = replies.try_iter().collect();
        assert_eq!(told, ["one", "two"].map(|text| NetReply::Fault(text.into())));
    }

    #[test]
    fn an_answer_that_found_no_room_is_counted_and_told() {
        let (sender, replies) = crossbeam_channel::bounded(2);
        let mut outbox = Outbox::new(sender, Box::new(|| {}));
        for _ in 0..3 {
            outbox.put(NetReply::Swept);
        }
        assert_eq!(replies.try_iter().count(), 2);
        outbox.put(NetReply::Swept);
        let told: Vec<NetReply> = replies.try_iter().collect();
        assert!(matches!(told.as_slice(), [NetReply::Fault(_), NetReply::Swept]), "{told:?}");
    }
}
