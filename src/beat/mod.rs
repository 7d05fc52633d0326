//! Heartbeats: what they say (`message`), how they look on the wire and are authenticated (`codec`,
//! which chooses between `frame`, `serial_frame` and `pulse`; `copy`: a group's trees), and the three paths they travel (`crossover`,
//! `serial` with the byte stuffing of `cobs`, `lan`), held together by `paths`. `will`: what the guard
//! sends in their place when the heart is dead.

mod buffer;
mod cobs;
pub mod codec;
pub mod copy;
mod crossover;
mod fields;
mod frame;
#[cfg(test)]
mod frozen;
mod lan;
pub mod message;
pub mod paths;
mod pulse;
mod serial;
mod serial_frame;
#[cfg(test)]
mod tests;
mod will;

pub use buffer::FrameBuffer;
pub use codec::{Codec, Session};
pub use copy::{Approx, CommitBeat, CopyBeat, CopyDetail, Holds, UNSENT_UNKNOWN_S};
pub use message::{
    Ask, Beat, DropReason, GroupBeat, GroupBeats, Incoming, Path, PathSet, Pulse, PulseKind, Stance,
};
pub use paths::{Closed, Paths, Unsent};
pub use serial::{Serial, frame_time, pulse_time, serial_interval};
pub use will::Farewell;
