//! The three processes and how they are started.
//!
//! `start` takes the state directory and becomes the `guard`, by executing the program `clusterd-heart`
//! (`heart_program`), which makes what the processes share and starts the heart and the `worker` as children of its own
//! (`inherit`). Heart and guard share a
//! `page`, heart and worker a `channel` and the `config_slots` with the config and the keys. When the heart is dead the
//! guard says its `last_will`.

pub mod channel;
pub mod config_slots;
pub mod guard;
pub mod heart;
pub mod heart_program;
pub mod inherit;
pub mod logger;
pub mod start;
pub mod worker;

/// Exit status by which a heart says that it must not start as things are (a state on disk that it cannot
/// read): restarting it would change nothing. `EX_CONFIG` of sysexits.h.
pub const HEART_REFUSES: u8 = 78;
