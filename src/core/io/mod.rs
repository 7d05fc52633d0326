//! What goes in and out of the core, and what must be on disk first.

pub(super) mod command;
pub(super) mod disk;
pub(super) mod durable;
pub(super) mod event;
pub(super) mod time;
