//! One service: its state, and what may come next.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Found, Outcome, Verdict};
use crate::config::Service;
use crate::control::status;
use crate::core::ServiceDuty;
use crate::limits;

/// See the picture in [`super`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Unknown,
    Asking,
    Stopped,
    /// `start` runs; all of this must be over at `until`.
    Starting {
        until: Instant,
        interrupted: bool,
    },
    /// It is asked until it is well, next at `next`.
    Proving {
        until: Instant,
        next: Instant,
    },
    /// It is asked again at `next`.
    Running {
        next: Instant,
    },
    Broken,
    Stopping,
    /// Its stop did not work; the next at `next`.
    StillRuns {
        next: Instant,
    },
}

#[derive(Debug)]
pub(super) struct Slot {
    service: Service,
    pub state: State,
    /// The job that is under way.
    pub job: Option<u64>,
    /// Why it failed last, in words; empty: it did not.
    why: String,
    /// Bad verdicts in a row.
    bad: u32,
    /// It was well since it runs.
    proved: bool,
    /// When it failed, within the window.
    failures: VecDeque<Instant>,
    /// It is not started before.
    not_before: Option<Instant>,
    /// How much later the next time.
    patience: Duration,
    /// It failed more often than it may be restarted, and does not run since.
    given_up: bool,
    /// People were told that it failed, and not yet that it runs again.
    told: bool,
}

impl Slot {
    pub fn new(service: &Service) -> Slot {
        Slot {
            service: service.clone(),
            state: State::Unknown,
            job: None,
            why: String::new(),
            bad: 0,
            proved: false,
            failures: VecDeque::new(),
            not_before: None,
            patience: limits::SERVICE_AGAIN_AFTER,
            given_up: false,
            told: false,
        }
    }

    /// Whether it shall run; `None`: it is left alone.
    pub fn wanted(&self, duty: ServiceDuty) -> Option<bool> {
        match duty {
            ServiceDuty::Leave => None,
            ServiceDuty::Run => Some(true),
            ServiceDuty::Standby => Some(self.service.warm),
            ServiceDuty::End => Some(false),
        }
    }

    /// Another order: what failed under the last one does not count.
    pub fn forgive(&mut self) {
        self.failures.clear();
        self.not_before = None;
        self.patience = limits::SERVICE_AGAIN_AFTER;
        self.given_up = false;
        self.told = false;
        if self.state != State::Broken {
            self.why.clear();
        }
    }

    /// What the job under way has learned. Returns what people should know.
    pub fn learn(
        &mut self,
        now: Instant,
        outcome: Outcome,
        wanted: Option<bool>,
    ) -> Option<String> {
        match (self.state, outcome) {
            (State::Asking, Outcome::Looked(Found::Runs)) => {
                self.prove(now, now + self.service.start_timeout)
            }
            (State::Asking, Outcome::Looked(Found::Not)) => self.become_stopped(),
            (State::Asking, Outcome::Looked(Found::Unclear(why))) => {
                self.state = State::Broken;
                self.why = why;
                None
            }
            (State::Starting { until, .. }, Outcome::Started(Ok(_))) => self.prove(now, until),
            // Ended by an order: no fault of its own.
            (State::Starting { interrupted: true, .. }, Outcome::Started(Err(why))) => {
                self.state = State::Broken;
                self.why = why;
                None
            }
            (State::Starting { .. }, Outcome::Started(Err(why))) => self.fail(now, why, wanted),
            (State::Proving { .. } | State::Running { .. }, Outcome::Checked(verdict)) => {
                self.judge(now, verdict, wanted)
            }
            (State::Stopping, Outcome::Stopped(Ok(()))) => self.become_stopped(),
            (State::Stopping, Outcome::Stopped(Err(why))) => {
                self.state = State::StillRuns { next: now + limits::SERVICE_STOP_AGAIN_AFTER };
                let is_news = why != self.why;
                // It can neither be used nor be started again.
                self.given_up |= wanted == Some(true);
                self.told = true;
                let note = format!("{} cannot be stopped: {why}", self.service.name());
                self.why = why;
                is_news.then_some(note)
            }
            // A job is never under way in another state than the one that it was begun in.
            (
                State::Unknown
                | State::Asking
                | State::Stopped
                | State::Starting { .. }
                | State::Proving { .. }
                | State::Running { .. }
                | State::Broken
                | State::Stopping
                | State::StillRuns { .. },
                Outcome::Looked(_)
                | Outcome::Started(_)
                | Outcome::Stopped(_)
                | Outcome::Checked(_),
            ) => None,
        }
    }

    /// All its processes have ended.
    pub fn lose(&mut self, now: Instant, wanted: Option<bool>) -> Option<String> {
        match self.state {
            State::Proving { .. } | State::Running { .. } => {
                self.fail(now, "all its processes have ended".to_owned(), wanted)
            }
            State::Unknown
            | State::Asking
            | State::Stopped
            | State::Starting { .. }
            | State::Broken
            | State::Stopping
            | State::StillRuns { .. } => None,
        }
    }

    /// What has taken too long.
    pub fn expire(&mut self, now: Instant, wanted: Option<bool>) -> Option<String> {
        match self.state {
            State::Proving { until, .. } if now >= until => {
                let what =
                    format!("it did not pass its check within {:?}", self.service.start_timeout);
                let why = match self.why.as_str() {
                    "" => what,
                    last => format!("{what}: {last}"),
                };
                self.fail(now, why, wanted)
            }
            State::Unknown
            | State::Asking
            | State::Stopped
            | State::Starting { .. }
            | State::Proving { .. }
            | State::Running { .. }
            | State::Broken
            | State::Stopping
            | State::StillRuns { .. } => None,
        }
    }

    fn prove(&mut self, now: Instant, until: Instant) -> Option<String> {
        self.state = State::Proving { until, next: now };
        self.why.clear();
        self.bad = 0;
        self.proved = false;
        None
    }

    fn become_stopped(&mut self) -> Option<String> {
        self.state = State::Stopped;
        None
    }

    fn judge(&mut self, now: Instant, verdict: Verdict, wanted: Option<bool>) -> Option<String> {
        let (every, failures) = match &self.service.check {
            Some(check) => (check.every, check.failures),
            None => (limits::CHECK_EVERY, limits::CHECK_FAILURES),
        };
        match (verdict, self.state) {
            (Verdict::Well, _) => {
                self.state = State::Running { next: now + every };
                self.bad = 0;
                self.proved = true;
                self.given_up = false;
                self.why.clear();
                let was_told = std::mem::replace(&mut self.told, false);
                was_told.then(|| format!("{} runs again", self.service.name()))
            }
            (Verdict::Bad(why) | Verdict::Gone(why), State::Proving { until, .. }) => {
                self.state = State::Proving { until, next: now + limits::CHECK_FIRST_EVERY };
                self.why = why;
                None
            }
            (Verdict::Gone(why), _) => self.fail(now, why, wanted),
            (Verdict::Bad(why), _) => {
                self.bad += 1;
                if self.bad >= failures {
                    let times = self.bad;
                    return self.fail(
                        now,
                        format!("its check failed {times} times: {why}"),
                        wanted,
                    );
                }
                self.state = State::Running { next: now + every };
                None
            }
        }
    }

    /// It does not do its work.
    fn fail(&mut self, now: Instant, why: String, wanted: Option<bool>) -> Option<String> {
        self.state = State::Broken;
        self.job = None;
        let name = self.service.name();
        self.why = why;
        let why = &self.why;
        match wanted {
            // It is stopped anyway.
            Some(false) => return None,
            None => return Some(format!("{name} failed: {why}; not restarted for now")),
            Some(true) => {}
        }
        self.failures
            .retain(|then| now.saturating_duration_since(*then) < limits::SERVICE_RESTARTS_WINDOW);
        if self.failures.is_empty() {
            self.patience = limits::SERVICE_AGAIN_AFTER;
        }
        self.failures.push_back(now);
        let restarts = self.service.restarts;
        self.told = true;
        if self.failures.len() <= restarts as usize {
            self.not_before = Some(now);
            let count = self.failures.len();
            return Some(format!("{name} failed: {why}; restart {count} of {restarts}"));
        }
        self.not_before = Some(now + self.patience);
        self.patience = (2 * self.patience).min(limits::SERVICE_AGAIN_AFTER_MAX);
        let was_given_up = std::mem::replace(&mut self.given_up, true);
        (!was_given_up).then(|| {
            let window_min = limits::SERVICE_RESTARTS_WINDOW.as_secs() / 60;
            format!(
                "{name} failed: {why}; it was restarted {restarts} times in {window_min} minutes and is now \
                 retried at growing intervals"
            )
        })
    }

    pub fn may_look(&mut self, wanted: Option<bool>) -> bool {
        let may = self.state == State::Unknown && wanted.is_some();
        if may {
            self.state = State::Asking;
        }
        may
    }

    /// A check changes nothing, so it is asked also while the service is left alone.
    pub fn may_check(&self, now: Instant, wanted: Option<bool>) -> bool {
        match self.state {
            State::Proving { next, .. } | State::Running { next } => {
                self.job.is_none() && now >= next && wanted != Some(false)
            }
            State::Unknown
            | State::Asking
            | State::Stopped
            | State::Starting { .. }
            | State::Broken
            | State::Stopping
            | State::StillRuns { .. } => false,
        }
    }

    /// A start that is no longer wanted is ended, once.
    pub fn must_interrupt(&mut self, wanted: Option<bool>) -> bool {
        match self.state {
            State::Starting { until, interrupted: false } if wanted == Some(false) => {
                self.state = State::Starting { until, interrupted: true };
                true
            }
            State::Unknown
            | State::Asking
            | State::Stopped
            | State::Starting { .. }
            | State::Proving { .. }
            | State::Running { .. }
            | State::Broken
            | State::Stopping
            | State::StillRuns { .. } => false,
        }
    }

    /// `clear`: all behind it have stopped that shall. One that failed is stopped without asking for
    /// the others: it is started again in place.
    pub fn may_stop(&mut self, now: Instant, wanted: Option<bool>, clear: bool) -> bool {
        let may = match (self.state, wanted) {
            (State::Proving { .. } | State::Running { .. }, Some(false)) => clear,
            (State::Broken, Some(wanted)) => clear || wanted,
            (State::StillRuns { next }, Some(wanted)) => (clear || wanted) && now >= next,
            (
                State::Unknown
                | State::Asking
                | State::Stopped
                | State::Starting { .. }
                | State::Proving { .. }
                | State::Running { .. }
                | State::Broken
                | State::Stopping
                | State::StillRuns { .. },
                _,
            ) => false,
        };
        if may {
            self.state = State::Stopping;
        }
        may
    }

    /// If those before it run.
    pub fn may_start(&mut self, now: Instant, wanted: Option<bool>) -> bool {
        let is_due = self.not_before.is_none_or(|time| now >= time);
        let may = self.state == State::Stopped && wanted == Some(true) && is_due;
        if may {
            let until = now + self.service.start_timeout;
            self.state = State::Starting { until, interrupted: false };
        }
        may
    }

    pub fn deadline(&self, wanted: Option<bool>) -> Option<Instant> {
        match self.state {
            State::Proving { until, .. } if self.job.is_some() => Some(until),
            State::Proving { until, next } => Some(until.min(next)),
            State::Running { next } if self.job.is_none() => Some(next),
            State::Stopped if wanted == Some(true) => self.not_before,
            State::StillRuns { next } if wanted.is_some() => Some(next),
            State::Unknown
            | State::Asking
            | State::Stopped
            | State::Starting { .. }
            | State::Running { .. }
            | State::Broken
            | State::Stopping
            | State::StillRuns { .. } => None,
        }
    }

    pub fn runs(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    pub fn is_given_up(&self) -> bool {
        self.given_up
    }

    pub fn is_settled(&self, wanted: Option<bool>) -> bool {
        match wanted {
            None => true,
            Some(true) => self.runs(),
            Some(false) => self.state == State::Stopped,
        }
    }

    /// Its state in a few words, for the report.
    pub fn why(&self) -> String {
        let status::Service { name, state, .. } = self.status();
        match self.why.as_str() {
            "" => format!("{name} is {state}"),
            why => format!("{name} is {state}: {why}"),
        }
    }

    pub fn status(&self) -> status::Service {
        let state = match self.state {
            State::Unknown | State::Asking => "unknown",
            State::Stopped if self.given_up => "failed",
            State::Stopped => "stopped",
            State::Starting { .. } | State::Proving { .. } => "starting",
            State::Running { .. } => "running",
            State::Broken | State::StillRuns { .. } => "failed",
            State::Stopping => "stopping",
        };
        let check = match (&self.service.check, self.state) {
            (None, _) => "none",
            (Some(_), State::Proving { .. }) => "waiting",
            (Some(_), State::Running { .. }) if self.bad == 0 => "ok",
            (Some(_), State::Running { .. }) => "failing",
            (Some(_), _) => "none",
        };
        status::Service {
            name: self.service.name(),
            state: state.to_owned(),
            check: check.to_owned(),
        }
    }
}
