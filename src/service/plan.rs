//! What to do next with a group's services. Sans-io: takes `now`, orders and what jobs learned, and
//! returns the jobs to begin.
//!
//! ```text
//!             look               `start`           well once
//!  Unknown ─▶ Asking ─▶ Stopped ─────────▶ Starting ─────▶ Proving ─────▶ Running
//!                │        ▲                   │  ended badly, │  never well, │ failed, its processes
//!   cannot tell, │        │ done              │  interrupted  │  too late    │ ended
//!    or runs and │        │                   ▼               ▼              ▼
//!    is ordered  └──▶ Stopping ◀─────────── Broken ◀──────────┴──────────────┘
//!     to stop           │  ▲                              (from Proving and Running also by order)
//!            still runs ▼  │ after a while
//!                     StillRuns
//! ```
//! Runs at the first look: `Proving`. Services start in order, each when those before it run; they stop
//! in reverse, each when those behind it have stopped. A service that fails is stopped and started in
//! place, at once as often as `restarts` allows within a window, then at growing intervals.

mod slot;

use std::collections::VecDeque;
use std::time::Instant;

use crate::config::Service;
use crate::core::{ServiceDuty, ServiceReport, ServiceWord};
use slot::{Slot, State};

/// What is to be done about one service on another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Whether it is there from an earlier life.
    Look,
    /// Start it.
    Start,
    /// Stop it, kill what is left, and look whether that was all.
    Stop,
    /// Ask its check, or else its `status`.
    Check,
}

impl Task {
    /// What it has learned if it could not even begin.
    pub fn not_begun(self, why: String) -> Outcome {
        match self {
            Task::Look => Outcome::Looked(Found::Unclear(why)),
            Task::Start => Outcome::Started(Err(why)),
            Task::Stop => Outcome::Stopped(Err(why)),
            Task::Check => Outcome::Checked(Verdict::Bad(why)),
        }
    }
}

/// What a job learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Looked(Found),
    /// Whether it left processes that are held; or why it did not start.
    Started(Result<bool, String>),
    /// Or why it still runs.
    Stopped(Result<(), String>),
    Checked(Verdict),
}

/// What the first look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// It runs.
    Runs,
    /// It does not.
    Not,
    /// Neither: it must be stopped before anything else.
    Unclear(String),
}

/// What a check says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It does its work.
    Well,
    /// It does not, this time.
    Bad(String),
    /// It says itself that it does not run.
    Gone(String),
}

/// What the supervisor shall do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Begin a job; its outcome comes back with this number.
    Begin { service: usize, job: u64, task: Task },
    /// End that job soon: its outcome is still awaited.
    Interrupt { service: usize },
    /// Tell people.
    Note(String),
}

/// The services of one group.
#[derive(Debug)]
pub(super) struct Plan {
    slots: Vec<Slot>,
    order: u32,
    duty: ServiceDuty,
    actions: VecDeque<Action>,
    next_job: u64,
}

impl Plan {
    /// Under no order yet: nothing is done.
    pub fn new(services: &[Service]) -> Plan {
        Plan {
            slots: services.iter().map(Slot::new).collect(),
            order: 0,
            duty: ServiceDuty::Leave,
            actions: VecDeque::new(),
            next_job: 0,
        }
    }

    /// A new order, or the same again.
    pub fn order(&mut self, now: Instant, order: u32, duty: ServiceDuty) {
        let before = std::mem::replace(&mut self.duty, duty);
        self.order = order;
        for slot in &mut self.slots {
            if slot.wanted(before) != slot.wanted(duty) {
                slot.forgive();
            }
        }
        self.advance(now);
    }

    /// A job has ended. Jobs that nobody waits for any more are ignored.
    pub fn ended(&mut self, now: Instant, service: usize, job: u64, outcome: Outcome) {
        if let Some(slot) = self.slots.get_mut(service)
            && slot.job == Some(job)
        {
            slot.job = None;
            let note = slot.learn(now, outcome, slot.wanted(self.duty));
            self.actions.extend(note.map(Action::Note));
            self.advance(now);
        }
    }

    /// The processes of a service have ended, all of them.
    pub fn lost(&mut self, now: Instant, service: usize) {
        if let Some(slot) = self.slots.get_mut(service) {
            let note = slot.lose(now, slot.wanted(self.duty));
            self.actions.extend(note.map(Action::Note));
            self.advance(now);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Instant) {
        self.advance(now);
    }

    /// When to call [`Plan::tick`] at the latest, if nothing else happens. What was due before `now`,
    /// the time of the last call, waits for something else.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let deadlines = self.slots.iter().filter_map(|slot| slot.deadline(slot.wanted(self.duty)));
        deadlines.filter(|deadline| *deadline > now).min()
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn advance(&mut self, now: Instant) {
        let Plan { slots, duty, actions, next_job, .. } = self;
        let mut begin = |service, slot: &mut Slot, task| {
            *next_job += 1;
            slot.job = Some(*next_job);
            Action::Begin { service, job: *next_job, task }
        };
        for (service, slot) in slots.iter_mut().enumerate() {
            let wanted = slot.wanted(*duty);
            actions.extend(slot.expire(now, wanted).map(Action::Note));
            if slot.may_look(wanted) {
                actions.push_back(begin(service, slot, Task::Look));
            } else if slot.may_check(now, wanted) {
                actions.push_back(begin(service, slot, Task::Check));
            }
        }
        // Whether everything behind this one that shall stop has stopped.
        let mut clear = true;
        for (service, slot) in slots.iter_mut().enumerate().rev() {
            let wanted = slot.wanted(*duty);
            if slot.must_interrupt(wanted) {
                actions.push_back(Action::Interrupt { service });
            } else if slot.may_stop(now, wanted, clear) {
                actions.push_back(begin(service, slot, Task::Stop));
            }
            clear &= wanted != Some(false) || slot.state == State::Stopped;
        }
        // Whether all before this one run, and nothing is left to stop.
        let mut ready = clear;
        for (service, slot) in slots.iter_mut().enumerate() {
            let wanted = slot.wanted(*duty);
            if ready && slot.may_start(now, wanted) {
                actions.push_back(begin(service, slot, Task::Start));
            }
            ready &= wanted != Some(true) || slot.runs();
        }
    }

    /// How they are.
    pub fn report(&self) -> ServiceReport {
        let unsettled = self.slots.iter().filter(|slot| !slot.is_settled(slot.wanted(self.duty)));
        let reasons: Vec<String> = unsettled.map(Slot::why).collect();
        let has_failed = self.slots.iter().any(Slot::is_given_up);
        let word = match self.duty {
            ServiceDuty::Leave => ServiceWord::Unknown,
            ServiceDuty::Run if has_failed => ServiceWord::Failed,
            ServiceDuty::Run | ServiceDuty::Standby | ServiceDuty::End if reasons.is_empty() => {
                ServiceWord::Done
            }
            ServiceDuty::Run | ServiceDuty::Standby | ServiceDuty::End => ServiceWord::Changing,
        };
        let why = match word {
            ServiceWord::Unknown => "left as they are until it is known who serves".to_owned(),
            ServiceWord::Done => String::new(),
            ServiceWord::Changing | ServiceWord::Failed => reasons.join("; "),
        };
        let services = self.slots.iter().map(Slot::status).collect();
        ServiceReport { order: self.order, word, why, services }
    }
}

#[cfg(test)]
mod tests;
