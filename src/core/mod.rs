//! Decisions. No socket, file, clock, thread or log in here; every method takes `now`.

pub mod command;
pub mod disk;
pub mod event;
pub mod time;

pub use command::Command;
pub use disk::{DiskState, Generation, GroupDisk};
pub use event::Event;
pub use time::Time;
