//! The verbs as a person sees them: the command line is read here, each verb has its own file.
//!
//! Exit status: 0 done, 1 refused or failed, 2 wrong usage or config, 3 no daemon answers; `status`
//! has its own.

mod check;
mod conflicts;
mod demo;
pub mod events;
mod globals;
mod hardware;
mod key;
mod keygen;
#[cfg(test)]
mod man;
pub mod print;
mod run;
mod status;
mod sync;
mod wish;

use std::ffi::OsString;
use std::io::Write;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use globals::GlobalArgs;
pub use globals::Globals;

/// Exit status: done.
pub const DONE: u8 = 0;
/// Exit status: refused or failed, the reason is on stderr.
pub const FAILED: u8 = 1;
/// Exit status: wrong usage or config.
pub const WRONG: u8 = 2;
/// Exit status: no daemon answers.
pub const NO_DAEMON: u8 = 3;

/// Two Linux servers that look like one which does not go down.
#[derive(Debug, Parser)]
#[command(name = "clusterd", version, max_term_width = 100, subcommand_value_name = "VERB")]
#[command(subcommand_help_heading = "Verbs")]
struct Arguments {
    #[command(flatten)]
    globals: GlobalArgs,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon in the foreground
    Run {
        /// Record every input of the decision core, to replay it in a test
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },
    /// Check the config file and the key file
    Check {
        /// Also check this host's interfaces, whether its LAN answers ARP probes, and how fast
        #[arg(long)]
        hardware: bool,
    },
    /// Write a new key to a new file, mode 0600
    Keygen {
        /// The file to make
        file: PathBuf,
    },
    /// Change the pair's key while both nodes serve
    Key(key::KeyArgs),
    /// Read the config file and the key file again, and report the result
    Reload,
    /// Show the pair on one screen
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        /// Update the screen until interrupted
        #[arg(long)]
        watch: bool,
    },
    /// Show what happened, and why
    Events {
        /// Wait for new events and show them
        #[arg(long)]
        follow: bool,
        /// Print one JSON object per line
        #[arg(long)]
        json: bool,
        /// Show events from this time on, or of this age at most
        #[arg(long, value_name = "T")]
        since: Option<String>,
    },
    /// Put a node into standby mode: it may own no group, also after a reboot
    Standby {
        /// Which node; without it, this one
        #[arg(value_name = "NODE")]
        who: Option<String>,
    },
    /// Take a node out of standby mode
    Online {
        /// Which node; without it, this one
        #[arg(value_name = "NODE")]
        who: Option<String>,
    },
    /// Move a group; returns when the new owner serves
    Move {
        /// The group
        group: String,
        /// Where to; without it, to the other node
        #[arg(value_name = "NODE")]
        to: Option<String>,
        /// Serve the new owner's copy of the trees even if it may not be the newest
        #[arg(long)]
        accept_loss: bool,
    },
    /// Run a whole pair on this one machine and pull each plug in turn: see clusterd-demo(1)
    #[command(disable_help_flag = true)]
    Demo {
        /// What `clusterd-demo` takes
        #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Write a commented config and a key (not supported yet)
    Init(Later),
    /// Mirror a group now
    Sync {
        /// The group
        group: String,
        /// Wait until everything written before the call is durable and applied on the peer
        #[arg(long)]
        wait: bool,
        /// Give up after this time, such as 30s or 5m
        #[arg(long, value_name = "T", requires = "wait")]
        timeout: Option<String>,
        /// Replace the other node's trees with those of NODE, which must serve the group; what is replaced goes to
        /// the other node's conflict store
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
    },
    /// Compare a group's content on both nodes (not supported yet)
    Verify(Later),
    /// List, show, restore or drop what is in a group's conflict stores
    Conflicts(conflicts::ConflictsArgs),
    /// Predict what each single failure would do to this config (not supported yet)
    Drill(Later),
    // Processes of the daemon.
    /// The process that may block, a child of `run`
    #[command(hide = true)]
    Work(Inherited),
    /// The parent of a service's processes, started by the worker
    #[command(hide = true)]
    Hold {
        /// Where it says who it is
        record: PathBuf,
        /// What it starts
        program: PathBuf,
    },
}

/// Descriptors that a parent process left open for this one.
#[derive(Debug, clap::Args)]
struct Inherited {
    descriptors: Vec<RawFd>,
}

/// Whatever follows a verb that is not built yet.
#[derive(Debug, clap::Args)]
struct Later {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _rest: Vec<OsString>,
}

/// Does what the command line says; the first of `arguments` is the program's own name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        // Help and version are no errors; clap knows where each is printed and that wrong usage is 2.
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { WRONG } else { DONE });
        }
    };
    match Globals::try_from(arguments.globals) {
        Ok(globals) => dispatch(&globals, arguments.verb),
        Err(reason) => fail(WRONG, &reason),
    }
}

fn dispatch(globals: &Globals, verb: Verb) -> ExitCode {
    match verb {
        Verb::Check { hardware } => check::run(globals, hardware),
        Verb::Keygen { file } => keygen::run(&file),
        Verb::Key(args) => key::run(globals, &args),
        Verb::Reload => wish::reload(globals),
        Verb::Run { record } => run::run(globals, record),
        Verb::Status { json, watch } => status::run(globals, json, watch),
        Verb::Events { follow, json, since } => events::run(globals, follow, json, since),
        Verb::Standby { who } => wish::standby(globals, who),
        Verb::Online { who } => wish::online(globals, who),
        Verb::Move { group, to, accept_loss } => wish::move_group(globals, group, to, accept_loss),
        Verb::Demo { arguments } => demo::run(&arguments),
        Verb::Work(inherited) => run::work(&inherited.descriptors),
        Verb::Hold { record, program } => run::hold(&record, &program),
        Verb::Init(_) => later("init"),
        Verb::Sync { group, wait, timeout, from } => {
            sync::run(globals, &group, wait, timeout.as_deref(), from)
        }
        Verb::Verify(_) => later("verify"),
        Verb::Conflicts(args) => conflicts::run(globals, args),
        Verb::Drill(_) => later("drill"),
    }
}

fn later(verb: &str) -> ExitCode {
    fail(WRONG, &format!("{verb}: not supported yet"))
}

/// Prints a line on stdout. A reader that went away is not an error of ours.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Prints the reason on stderr, and gives the exit status.
pub(crate) fn fail(status: u8, reason: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "clusterd: {reason}");
    ExitCode::from(status)
}

/// As [`fail`], for errors that begin with a file's name, as compilers' do.
fn fail_as_is(status: u8, errors: &dyn std::error::Error) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{errors}");
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
