//! Two cores in a simulated world, and the replay of recorded runs.

pub mod replay;
