//! What a node says: heartbeats in and out, its will, events and status.

pub(super) mod events;
pub(super) mod heard;
pub(super) mod incarnation;
pub(super) mod serial_budget;
pub(super) mod speak;
pub(super) mod status;
pub(super) mod trouble;
pub(super) mod will;
