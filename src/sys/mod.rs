//! The only room with `unsafe`: thin wrappers over system calls that no crate offers safely. Each
//! block says why it is sound.

pub mod packet;
pub mod packet_options;
pub mod tty;
