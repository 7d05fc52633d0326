//! Heartbeats: what they say (`message`), how they look on the wire and are authenticated (`codec`,
//! which chooses between `frame` and `serial_frame`), and the three paths they travel (`crossover`,
//! `serial` with the byte stuffing of `line`, `lan`), held together by `paths`. `will`: what the guard
//! sends in their place when the heart is dead.

mod buffer;
pub mod codec;
mod crossover;
mod fields;
mod frame;
mod lan;
mod line;
pub mod message;
pub mod paths;
mod serial;
mod serial_frame;
#[cfg(test)]
mod tests;
mod will;

pub use buffer::FrameBuffer;
pub use codec::{Codec, Session};
pub use message::{Ask, Beat, DropReason, GroupBeat, Path, PathSet, Stance};
pub use paths::{Paths, Unsent};
pub use serial::serial_interval;
pub use will::Farewell;
