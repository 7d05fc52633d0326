//! The only room with `unsafe`: thin wrappers over system calls that no crate offers safely. Each
//! block says why it is sound.

pub mod capabilities;
pub mod file;
pub mod notify;
pub mod ns;
pub mod packet;
pub mod packet_options;
pub mod page;
pub mod path_xattr;
pub mod pidfd;
pub mod process;
pub mod realtime;
pub mod rtnl;
pub mod sigbus;
pub mod stop;
pub mod tty;
pub mod uuid;
pub mod xattr;
