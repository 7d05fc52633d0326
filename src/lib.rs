//! # clusterd: two Linux servers that look like one which does not go down
//!
//! This page is the map; `docs/ARCHITECTURE.md` has more. The rooms are listed from the top of the house to its
//! cellar: a room may use those below it, never those above (`tests/house` reads this list).
//!
//! Three processes run on each node (`daemon/`). The **guard** watches the other two, and takes the
//! service addresses away when the heart dies. The **heart** is one mio loop: heartbeats in,
//! decisions, heartbeats out; it never touches a disk, spawns a process or waits. The **worker** does
//! everything that can block or be large. Heart and worker speak over a socket pair. Guard and heart are a program of
//! their own, `clusterd-heart`, which links nothing of the rooms above `core` but `daemon`.
//!
//! Every decision is made in `core/`: plain state, no socket, file, clock, thread or log. It takes an
//! event and the time, and returns commands. The heart feeds it from the kernel; the simulator
//! (`sim/`) feeds the same code from a made-up world with made-up faults. One function,
//! `core::group::right::decide`, grants the right to serve; nothing else leads to a claim.
//!
//! A heartbeat's way in: `beat/` socket -> `beat::frame` (authentication) -> `daemon::heart` ->
//! `core::Core::handle`. A claim's way out: `Command::Claim` -> `daemon::heart` -> the netlink thread
//! in `net/` -> the kernel, with a lease that ends by itself if nobody renews it.
//!
//! What makes a pair on one machine, for demo, tests and bench, is a package of its own (`bed/`), and so is what measures
//! (`bench/`): neither is on a server.
//!
//! | room | subject |
//! | --- | --- |
//! | `cli` | the verbs as a person sees them |
//! | `daemon` | guard, heart, worker; how they are started |
//! | `sim` | two cores in a simulated world, with checkers that watch from outside |
//! | `service` | a group's services: started, checked, restarted, stopped |
//! | `mirror` | a group's trees, from their owner to the peer, as they change |
//! | `core` | decisions |
//! | `beat` | heartbeats: messages, frames, and the three paths they travel |
//! | `net` | the kernel's network: netlink, service addresses, ARP and ND |
//! | `control` | the control socket, what `status` and `events` say |
//! | `config` | the config file: schema, checks, errors that point at the line |
//! | `sys` | the only room with `unsafe` |
//! | `limits` | every constant with its unit and its reason |

pub mod beat;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod daemon;
pub mod limits;
pub mod mirror;
pub mod net;
pub mod service;
pub mod sim;
pub mod sys;
