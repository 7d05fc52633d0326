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
//! | `apply` | a staged series into the trees, again after a crash |
//! | `area` | the place beside a root, where nothing of ours is in the tree |
//! | `conflict` | what was written on this node and would have been replaced |
//! | `entry` | a file as the mirror sees it: names, metadata, content by hashes |
//! | `index` | what the last common commit left in the trees here, and which names are dirty since |
//! | `proto` | the messages of a session and their bytes |
//! | `stage` | taking in a series, whole and durable |
//! | `steps` | where a test can stop what is applied |
//! | `watch` | what the kernel says about changed names |

pub mod apply;
pub mod area;
pub mod conflict;
pub mod entry;
pub mod index;
pub mod proto;
pub mod stage;
pub mod steps;
pub mod watch;
