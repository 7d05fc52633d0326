//! The three processes and how they are started.

pub mod link;
pub mod page;
