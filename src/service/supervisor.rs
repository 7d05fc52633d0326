//! One thread for each group: does what the plan says, and tells how the services are.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, at, bounded, never, select};

use super::cancellation::{Canceller, cancellation};
use super::hold::{self, Hold};
use super::jobs::{self, Done, Site};
use super::plan::{Action, Found, Outcome, Plan, Task};
use super::run::Environment;
use crate::config::Service;
use crate::core::{ServiceDuty, ServiceReport};
use crate::limits::{SERVICE_NOTES_MAX, SERVICE_RESULTS_MAX, SERVICE_TELL_AGAIN};

/// What programs find in PATH: ours may be anything.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a supervisor must know.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Where records and logs are kept, in `services`; must not survive a reboot.
    pub run_dir: PathBuf,
    /// The file of this program, for the holders.
    pub clusterd: PathBuf,
    /// `CLUSTERD_CLUSTER` of the programs.
    pub cluster: String,
    /// `CLUSTERD_NODE` of the programs.
    pub node: String,
    /// `CLUSTERD_GROUP` of the programs.
    pub group: String,
    /// In the order in which they start.
    pub services: Vec<Service>,
}

/// What a supervisor tells.
#[derive(Clone, Debug, PartialEq)]
pub enum Telling {
    /// How the services are: after each order, and at every change.
    Report(ServiceReport),
    /// Something that people should know.
    Note(String),
}

/// The way to a supervisor's thread. When it is dropped, the thread ends and leaves the services as
/// they are.
#[derive(Debug)]
pub struct Supervisor {
    sender: Sender<(u32, ServiceDuty)>,
    /// To drop an order that was not yet taken.
    receiver: Receiver<(u32, ServiceDuty)>,
}

/// The thread's end of it.
#[derive(Debug)]
pub struct SupervisorEnd {
    orders: Receiver<(u32, ServiceDuty)>,
    setup: Setup,
}

impl Supervisor {
    /// A supervisor that has no order yet. Its thread is made by the caller, who calls
    /// [`SupervisorEnd::run`] on it.
    pub fn new(setup: Setup) -> (Supervisor, SupervisorEnd) {
        let (sender, receiver) = bounded(1);
        let end = SupervisorEnd { orders: receiver.clone(), setup };
        (Supervisor { sender, receiver }, end)
    }

    /// What the services shall do from now on. Never waits: of several orders the newest counts.
    pub fn order(&self, order: u32, duty: ServiceDuty) {
        let mut next = (order, duty);
        while let Err(TrySendError::Full(back)) = self.sender.try_send(next) {
            next = back;
            // Empty, if it was taken meanwhile.
            let _ = self.receiver.try_recv();
        }
    }
}

impl SupervisorEnd {
    /// The supervisor's thread, until the other end is dropped. `tell` says whether it could; if not,
    /// it is called again later.
    pub fn run(self, tell: impl FnMut(&Telling) -> bool) {
        let SupervisorEnd { orders, setup } = self;
        let (sender, news) = bounded(SERVICE_RESULTS_MAX);
        let mut desk = Desk {
            plan: Plan::new(&setup.services),
            places: setup.services.iter().map(|service| Place::new(&setup, service)).collect(),
            watches: Vec::new(),
            next_watch: 0,
            sender,
            teller: Teller { tell, told: None, notes: VecDeque::new() },
        };
        loop {
            let now = Instant::now();
            desk.plan.tick(now);
            while let Some(action) = desk.plan.poll() {
                desk.act(action);
            }
            let again = desk.teller.tell(&desk.plan, now);
            let deadline = [desk.plan.next_deadline(now), again].into_iter().flatten().min();
            let timer = deadline.map_or_else(never, at);
            select! {
                recv(orders) -> order => match order {
                    Ok((order, duty)) => {
                        desk.teller.told = None;
                        desk.plan.order(Instant::now(), order, duty);
                    }
                    Err(_) => return,
                },
                recv(news) -> news => if let Ok(news) = news {
                    desk.take(news);
                },
                recv(timer) -> _ => {}
            }
        }
    }
}

/// What other threads send.
#[derive(Debug)]
enum News {
    /// A job has ended.
    Ended { service: usize, job: u64, done: Done },
    /// The holder of this watch has ended, with everything that it held.
    Lost { service: usize, watch: u64 },
}

/// A service's part of the desk.
#[derive(Debug)]
struct Place {
    site: Site,
    /// The newest job, which may have ended.
    job: Option<Canceller>,
    /// The watch whose end means that the service is lost.
    held: Option<u64>,
}

impl Place {
    fn new(setup: &Setup, service: &Service) -> Place {
        let environment: Environment = [
            ("PATH", PATH),
            ("LANG", "C.UTF-8"),
            ("CLUSTERD_CLUSTER", &setup.cluster),
            ("CLUSTERD_NODE", &setup.node),
            ("CLUSTERD_GROUP", &setup.group),
        ]
        .map(|(name, value)| (name.into(), value.into()))
        .into();
        let site = Site {
            record: hold::record(&setup.run_dir, &setup.group, &service.exec),
            service: service.clone(),
            environment,
            clusterd: setup.clusterd.clone(),
        };
        Place { site, job: None, held: None }
    }
}

struct Desk<T> {
    plan: Plan,
    places: Vec<Place>,
    /// Shims that have not ended yet.
    watches: Vec<(u64, Canceller)>,
    next_watch: u64,
    sender: Sender<News>,
    teller: Teller<T>,
}

impl<T: FnMut(&Telling) -> bool> Desk<T> {
    fn act(&mut self, action: Action) {
        match action {
            Action::Begin { service, job, task } => {
                if let Err(error) = self.begin(service, job, task) {
                    let why = format!("no thread for it: {error}");
                    self.plan.ended(Instant::now(), service, job, task.not_begun(why));
                }
            }
            Action::Interrupt { service } => {
                if let Some(cancellation) =
                    self.places.get(service).and_then(|place| place.job.as_ref())
                {
                    cancellation.pull();
                }
            }
            Action::Note(text) => self.teller.note(text),
        }
    }

    fn begin(&mut self, service: usize, job: u64, task: Task) -> std::io::Result<()> {
        let Some(place) = self.places.get_mut(service) else { return Ok(()) };
        if task == Task::Stop {
            place.held = None;
        }
        let (hand, cancel) = cancellation()?;
        // A check that the plan no longer waits for must not go on beside what comes now.
        if let Some(before) = place.job.replace(hand) {
            before.pull();
        }
        let (site, sender) = (place.site.clone(), self.sender.clone());
        let body = move || {
            let done = jobs::run(task, &site, &cancel);
            // A supervisor that has gone needs no result.
            let _ = sender.send(News::Ended { service, job, done });
        };
        thread::Builder::new().name("service".to_owned()).spawn(body).map(drop)
    }

    fn take(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Ended { service, job, done: Done { outcome, hold, notes } } => {
                notes.into_iter().for_each(|note| self.teller.note(note));
                let holds =
                    matches!(outcome, Outcome::Looked(Found::Runs) | Outcome::Started(Ok(true)));
                if let Some(hold) = hold {
                    let watch = self.watch(service, hold);
                    if let Some(place) = self.places.get_mut(service)
                        && holds
                    {
                        place.held = watch;
                    }
                }
                self.plan.ended(now, service, job, outcome);
            }
            News::Lost { service, watch } => {
                self.watches.retain(|(number, _)| *number != watch);
                if let Some(place) = self.places.get_mut(service)
                    && place.held.take_if(|held| *held == watch).is_some()
                {
                    self.plan.lost(now, service);
                }
            }
        }
    }

    /// Waits for the holder's end on a thread of its own. `None`: no thread; then the check tells.
    fn watch(&mut self, service: usize, hold: Hold) -> Option<u64> {
        self.next_watch += 1;
        let watch = self.next_watch;
        let sender = self.sender.clone();
        let begun = cancellation().and_then(|(hand, cancel)| {
            let body = move || {
                if hold.wait(&cancel, None) {
                    // As above.
                    let _ = sender.send(News::Lost { service, watch });
                }
            };
            thread::Builder::new().name("hold".to_owned()).spawn(body).map(|_| hand)
        });
        match begun {
            Ok(hand) => {
                self.watches.push((watch, hand));
                Some(watch)
            }
            Err(error) => {
                log::error!("no thread to watch a service: {error}");
                None
            }
        }
    }
}

/// Tells what changed, until it is heard.
struct Teller<T> {
    tell: T,
    /// The report that was heard; `None`: none, or it must be told again.
    told: Option<ServiceReport>,
    notes: VecDeque<String>,
}

impl<T: FnMut(&Telling) -> bool> Teller<T> {
    fn note(&mut self, text: String) {
        if self.notes.len() >= SERVICE_NOTES_MAX
            && let Some(lost) = self.notes.pop_front()
        {
            log::error!("the heart does not listen; it was not told: {lost}");
        }
        self.notes.push_back(text);
    }

    /// Tells what there is; when to try again, if it was not heard.
    fn tell(&mut self, plan: &Plan, now: Instant) -> Option<Instant> {
        let again = Some(now + SERVICE_TELL_AGAIN);
        while let Some(text) = self.notes.pop_front() {
            let note = Telling::Note(text);
            if !(self.tell)(&note) {
                if let Telling::Note(text) = note {
                    self.notes.push_front(text);
                }
                return again;
            }
        }
        let report = plan.report();
        if self.told.as_ref() == Some(&report) {
            return None;
        }
        if !(self.tell)(&Telling::Report(report.clone())) {
            return again;
        }
        self.told = Some(report);
        None
    }
}

/// The file of this program, as the kernel keeps it: also after it was replaced by a newer one.
pub fn own_program() -> &'static Path {
    Path::new("/proc/self/exe")
}
