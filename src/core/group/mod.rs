//! A group: its state machine, the right to serve it, and the worker's orders.

pub(super) mod address;
pub(super) mod claim;
pub(super) mod copy;
pub(super) mod handover;
pub(super) mod order;
pub(super) mod orders;
pub(super) mod owner;
pub(super) mod reach_offer;
pub(super) mod right;
pub(super) mod role;
pub(super) mod stall_check;
pub(super) mod step;
pub(super) mod worker;
