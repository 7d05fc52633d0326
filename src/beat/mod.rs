//! Heartbeats: what they say (`message`), how they look on the wire and are authenticated (`frame`,
//! `serial_frame`), and the three paths they travel (`crossover`, `serial`, `lan`).

pub mod message;

pub use message::{Ask, Beat, DropReason, GroupBeat, NodeState, Path, PathSet, Stance};
