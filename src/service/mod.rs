//! Services: a group's programs, started in order, checked, restarted in place, stopped in reverse.
//!
//! ```text
//!             orders        actions          PROGRAM stop, status; checks
//!   worker ─────────▶ supervisor ───▶ jobs ─────────────────────────────▶ run, check
//!          ◀─────────  │      ▲    (threads)   PROGRAM start
//!           reports,   ▼      │          └────────────────────▶ hold ═▶ holder ──▶ the service
//!           notes     plan  results                           (a process of its own: `clusterd hold`)
//! ```
//! The holder is the parent of everything that a service starts and stays as long as any of it lives
//! (PR_SET_CHILD_SUBREAPER): so the death of a service is noticed at once, and nothing can hide from a
//! kill. It outlives the worker; the next one finds it by its record in the run directory. A service
//! that another manager runs (`start` calls `systemctl`) leaves nothing to hold: then `status` and the
//! check tell.
//!
//! | file | subject |
//! | --- | --- |
//! | `plan` | what to do next, sans-io |
//! | `supervisor` | one thread for each group: orders in, reports out, jobs begun |
//! | `jobs` | look, start, stop, check: each from its begin to its end |
//! | `run` | one program run, with a deadline and its last words |
//! | `check` | HTTP, TCP, exec |
//! | `hold` | the worker's side of a holder |
//! | `holder` | the holder itself |
//! | `cancellation` | how a job on another thread is ended |
//! | `proc` | what /proc says about a process |

mod cancellation;
mod check;
mod hold;
pub mod holder;
mod jobs;
mod plan;
mod proc;
mod run;
mod supervisor;

pub use hold::strays;
pub use supervisor::{Setup, Supervisor, SupervisorEnd, Telling, own_program};
