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
//! | `entry` | a file as the mirror sees it: names, metadata, content by hashes |
//! | `proto` | the messages of a session and their bytes |
//! | `session` | the two ends of a session, sans-io |
//! | `transport` | authenticated, encrypted links over TCP |
//! | `address` | the crossover interface's own address |

pub mod address;
pub mod entry;
pub mod proto;
pub mod session;
pub mod transport;
