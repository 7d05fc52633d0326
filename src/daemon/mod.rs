//! The three processes and how they are started.
//!
//! `start` reads the config, takes the state directory, makes what the processes share and becomes the
//! `guard`, which starts the heart and the `worker` as children of its own. Heart and guard share a
//! `page`, heart and worker a `link`.

pub mod guard_netlink;
pub mod heart;
pub mod link;
pub mod logger;
pub mod page;
