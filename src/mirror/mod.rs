//! Mirroring: a group's trees, from their owner to the peer, as they change.
//!
//! ```text
//!   owner                                                     standby side
//!   watch ──names──▶ gather ──ops──▶ session::Sender ═TCP═▶ session::Receiver ──▶ stage ──▶ apply
//!     scan ──┘        ▲ │                                          │              conflict ◀──┘
//!          index ─────┘ └── hash                                   └── index
//! ```
//! One thread for each group (`engine`) joins these parts. The two sessions are sans-io: they take
//! `now` and events and return what to do. The index of each node is what the last common commit left
//! in its trees; what differs from it was changed here since.
//!
//! | file | subject |
//! | --- | --- |
//! | `address` | the crossover interface's own address |
//! | `apply` | a staged series into the trees, again after a crash |
//! | `staging_area` | the place beside a root, where nothing of ours is in the tree |
//! | `conflict` | what was written on this node and would have been replaced |
//! | `engine` | the thread of a group: duty in, report out; everything below joined |
//! | `entry` | a file as the mirror sees it: names, metadata, content by hashes |
//! | `exclude` | the globs of what is not mirrored |
//! | `hash` | content by its chunks, read or mapped |
//! | `index` | what the last common commit left in the trees here, and which names are dirty since |
//! | `lineage` | what a copy contains: generations and commits |
//! | `meta` | a look at a name: owner, mode, times, attributes; and setting them |
//! | `progress` | what a thread waits for in a file system, for whoever looks from another one |
//! | `proto` | the messages of a session and their bytes |
//! | `scan` | a walk over everything below a root |
//! | `session` | the two ends of a session, sans-io |
//! | `stage` | taking in a series, whole and durable |
//! | `crash_points` | where a test can stop what is applied |
//! | `transport` | authenticated, encrypted links over TCP |
//! | `tree` | a root's handle: paths that cannot leave it |
//! | `watch` | what the kernel says about changed names |

pub mod address;
pub mod apply;
pub mod conflict;
pub mod crash_points;
pub mod engine;
pub mod entry;
pub mod exclude;
#[cfg(test)]
mod fixture;
pub mod hash;
pub mod index;
pub mod lineage;
pub mod meta;
pub mod progress;
pub mod proto;
pub mod scan;
pub mod session;
pub mod stage;
pub mod staging_area;
pub mod transport;
pub mod tree;
pub mod watch;
