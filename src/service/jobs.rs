//! What a supervisor has done on other threads: each job from its begin to its end.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

use super::cancellation::{Cancellation, Cancelled, wait};
use super::check;
use super::hold::{self, Begin, Hold};
use super::plan::{Found, Outcome, Task, Verdict};
use super::run::{End, Environment, Ran, Script, saying};
use crate::config::Service;
use crate::limits::{
    CHECK_FIRST_EVERY, SERVICE_END_GRACE, SERVICE_KILL_PATIENCE, SERVICE_STATUS_PATIENCE,
};
use crate::sys::process::Exit;

/// A service with all that its jobs need.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub service: Service,
    pub record: PathBuf,
    pub environment: Environment,
    /// This program's own file: the holder is started from it.
    pub clusterd: PathBuf,
}

/// What a job learned.
#[derive(Debug)]
pub(super) struct Done {
    pub outcome: Outcome,
    /// The holder that holds the service, or is about to end.
    pub hold: Option<Hold>,
    /// For people.
    pub notes: Vec<String>,
}

impl From<Outcome> for Done {
    fn from(outcome: Outcome) -> Done {
        Done { outcome, hold: None, notes: Vec::new() }
    }
}

/// Does a job.
pub(super) fn run(task: Task, site: &Site, cancel: &Cancellation) -> Done {
    match task {
        Task::Look => look(site, cancel),
        Task::Start => start(site, cancel),
        Task::Stop => stop(site, cancel),
        Task::Check => Outcome::Checked(ask(site, cancel)).into(),
    }
}

/// What `status` says.
enum Says {
    Runs,
    Not(String),
    NoAnswer(String),
}

fn status(site: &Site, cancel: &Cancellation) -> Says {
    let Ran { end, words } = site.script("status", SERVICE_STATUS_PATIENCE).run(cancel);
    match end {
        End::Exit(Exit::Status(0)) => Says::Runs,
        End::Exit(Exit::Status(status)) => {
            Says::Not(saying(&format!("`status` ended with {status}"), &words))
        }
        End::Exit(exit @ Exit::Signal(_)) => Says::NoAnswer(format!("`status` {exit}")),
        End::TooLong => {
            let what = format!("`status` took longer than {SERVICE_STATUS_PATIENCE:?}");
            Says::NoAnswer(saying(&what, &words))
        }
        End::Pulled | End::Dropped => Says::NoAnswer("`status` was interrupted".to_owned()),
        End::NotRun(error) => Says::Not(format!("it cannot be run: {error}")),
    }
}

/// The first look: is it there from an earlier life?
fn look(site: &Site, cancel: &Cancellation) -> Done {
    let hold = Hold::find(&site.record);
    let found = match (status(site, cancel), &hold) {
        (Says::Runs, _) => Found::Runs,
        (Says::Not(_), None) => Found::Not,
        (Says::Not(why), Some(hold)) => {
            Found::Unclear(format!("process {} still holds some of it, but {why}", hold.pid))
        }
        (Says::NoAnswer(why), _) => Found::Unclear(why),
    };
    Done { outcome: Outcome::Looked(found), hold, notes: Vec::new() }
}

fn start(site: &Site, cancel: &Cancellation) -> Done {
    let begin = Begin {
        clusterd: &site.clusterd,
        record: &site.record,
        program: &site.service.exec,
        environment: &site.environment,
        patience: site.service.start_timeout,
    };
    let begun = begin.begin(cancel);
    Done { outcome: Outcome::Started(begun.held), hold: begun.hold, notes: Vec::new() }
}

/// `stop`, then the end of whatever it left, then the question whether that was all.
fn stop(site: &Site, cancel: &Cancellation) -> Done {
    let mut notes = Vec::new();
    let name = site.service.name();
    let Ran { end, words } = site.script("stop", site.service.stop_timeout).run(cancel);
    let said = match end {
        End::Exit(Exit::Status(0)) => String::new(),
        End::Exit(exit) => saying(&format!(", although `stop` {exit}"), &words),
        End::TooLong => {
            let what =
                format!("`stop` took longer than {:?} and was killed", site.service.stop_timeout);
            notes.push(format!("{name}: {}", saying(&what, &words)));
            format!("; {what}")
        }
        End::Pulled | End::Dropped => "; `stop` was interrupted".to_owned(),
        End::NotRun(error) => format!("; it cannot be run: {error}"),
    };
    let outcome = end_hold(site, cancel, &mut notes).and_then(|()| match gone(site, cancel) {
        Says::Not(_) => Ok(()),
        Says::Runs => Err(format!("`status` says that it still runs{said}")),
        Says::NoAnswer(why) => Err(format!("it is not known whether it has stopped: {why}{said}")),
    });
    Done { outcome: Outcome::Stopped(outcome), hold: None, notes }
}

/// What `status` says after a stop. What nobody holds may need a moment more to end.
fn gone(site: &Site, cancel: &Cancellation) -> Says {
    let deadline = Instant::now() + SERVICE_END_GRACE;
    loop {
        let says = status(site, cancel);
        let next = Instant::now() + CHECK_FIRST_EVERY;
        match says {
            Says::Runs if next < deadline && cancel.state() == Cancelled::None => {
                wait(&[cancel.as_fd()], Some(next));
            }
            Says::Runs | Says::Not(_) | Says::NoAnswer(_) => return says,
        }
    }
}

/// Kills what the holder still holds, if there is one. Where the holder of an earlier start is about to
/// end, nothing is left to kill.
fn end_hold(site: &Site, cancel: &Cancellation, notes: &mut Vec<String>) -> Result<(), String> {
    let Some(hold) = Hold::find(&site.record) else { return Ok(()) };
    if hold.wait(cancel, Some(SERVICE_END_GRACE)) {
        return Ok(());
    }
    hold.kill().map_err(|error| format!("its processes cannot be killed: {error}"))?;
    if !hold.wait(cancel, Some(SERVICE_KILL_PATIENCE)) {
        let pid = hold.pid;
        return Err(format!(
            "its processes do not end even after SIGKILL; their holder is process {pid}"
        ));
    }
    notes.push(format!("{}: what it left running after `stop` was killed", site.service.name()));
    Ok(())
}

fn ask(site: &Site, cancel: &Cancellation) -> Verdict {
    if let Err(error) = hold::bound_log(&site.record) {
        log::warn!("the log of {} cannot be kept short: {error}", site.service.name());
    }
    match &site.service.check {
        Some(check) => match check::ask(check, &site.environment, cancel) {
            Ok(()) => Verdict::Well,
            Err(why) => Verdict::Bad(why),
        },
        None => match status(site, cancel) {
            Says::Runs => Verdict::Well,
            Says::Not(why) => Verdict::Gone(why),
            Says::NoAnswer(why) => Verdict::Bad(why),
        },
    }
}

impl Site {
    fn script<'a>(&'a self, argument: &'a str, patience: std::time::Duration) -> Script<'a> {
        Script {
            program: &self.service.exec,
            argument: Some(argument),
            environment: &self.environment,
            patience,
        }
    }
}
