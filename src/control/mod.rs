//! What the daemon tells and is told: the model of `status` and of events, and the control socket.

pub mod event;
pub mod status;
