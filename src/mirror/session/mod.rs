//! The two ends of a mirror session, sans-io: the owner's [`sender::Sender`] and the standby side's
//! [`receiver::Receiver`]. Neither has a socket, file, clock, thread or log.
//!
//! Both are driven alike: `handle(now, event)`, then `poll()` until `None`, each command carried out
//! before the next is polled. A command that asks for work is answered by one event before anything
//! else is handled; an answer that comes when nobody waits for it any more is ignored. `Tick` is for
//! when `next_deadline()` has passed *and* nothing that was heard still waits: a deadline is only acted
//! upon then, so that long work on this side is never taken for silence of the other.
//!
//! A session belongs to one generation; for another one, make another. One series is under way at a
//! time. What is heard but does not fit ends the link, with a reason: after it both sides start again,
//! from the indexes, and whatever was not applied as a whole was not applied at all.
//!
//! | file | subject |
//! | --- | --- |
//! | `sender` | walk, compare, gather, offer, stream, record; barriers |
//! | `receiver` | open, stage, write, make durable, apply |
//! | `offer` | what a batch and a need must look like |

pub mod offer;
pub mod receiver;
pub mod sender;

#[cfg(test)]
mod tests;
