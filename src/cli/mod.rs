//! The verbs as a person sees them.

pub mod demo;
