//! What the daemon tells and is told: the model of `status` and of events, and the control socket.

pub mod event;
pub mod protocol;
pub mod socket;
pub mod status;
pub mod wallclock;
