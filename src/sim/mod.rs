//! Two cores in a simulated world, with checkers that watch from outside.
//!
//! | file | subject |
//! | --- | --- |
//! | `replay` | recorded runs of a core: what `run --record` writes, and their replay |
//! | `world`, `life`, `work`, `wire` | the world: its clock, machines and processes, rounds, frames |
//! | `node`, `kernel`, `disk`, `backup`, `network`, `pair` | its parts |
//! | `worker`, `mirror`, `client` | services and mirrored trees, and who writes to them |
//! | `setup`, `faults`, `rng` | what a seed draws |
//! | `apply_faults` | how each fault begins and ends |
//! | `run`, `single`, `slow` | a run with a mix of faults that must heal; with exactly one fault; on a slow LAN |
//! | `checkers` | who believes no core |
//! | `trace`, `recording`, `report` | what is left of a run |
//!
//! `CLUSTERD_SIM_SEED=N cargo test --lib sim::tests::one_seed -- --nocapture` shows a run line by line.

#[cfg(test)]
mod apply_faults;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod checkers;
#[cfg(test)]
mod client;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod life;
#[cfg(test)]
mod mirror;
#[cfg(test)]
mod network;
#[cfg(test)]
mod node;
#[cfg(test)]
mod pair;
#[cfg(test)]
mod recording;
pub mod replay;
#[cfg(test)]
mod report;
pub mod rng;
#[cfg(test)]
mod run;
#[cfg(test)]
mod setup;
#[cfg(test)]
mod single;
#[cfg(test)]
mod slow;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod wire;
#[cfg(test)]
mod work;
#[cfg(test)]
mod worker;
#[cfg(test)]
mod world;
