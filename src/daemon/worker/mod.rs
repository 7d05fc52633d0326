//! The worker: everything that may block. It does what the heart asks, and decides nothing.
//!
//! ```text
//!                        +-> persister   state.json, standby          -> link
//! link -> this thread ---+-> keeper      events.jsonl, standard error
//!                        +-> notifier    notify.exec
//!                        +-> recorder    run --record FILE
//!                        +-> supervisor  services, one for each group    -> link
//!                        +-> engine      mirrored trees, the same         -> link
//!                        +-> clients     their connections               -> link
//! ```
//! Each arrow is bounded, so this thread never waits for a disk or a program. When the link ends, heart
//! and guard are gone or done: the threads finish what they have, within a deadline.

mod clients;
pub mod events;
mod mirrors;
pub mod notify;
pub mod persist;
pub mod record;
mod service_manager;
mod services;

use std::sync::Arc;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use nix::sys::signal::Signal;

use self::clients::Clients;
use self::events::{Keeper, Kept};
use self::mirrors::{Mirrors, Pair};
use self::notify::Notifier;
use self::persist::{Inbox, Store};
use self::record::Recorder;
use self::services::Supervisors;
use super::link::{ToHeart, ToWorker, WorkerLink};
use super::logger;
use super::start::{StartError, WorkerInherits, system};
use crate::limits;
use crate::sys::{process, realtime};

/// Becomes the worker, until the link ends.
///
/// # Errors
/// A thread could not be started.
pub fn run(inherited: WorkerInherits) -> Result<(), StartError> {
    logger::install("worker", limits::LOG_PATIENCE);
    end_on_panic();
    nix::sys::prctl::set_name(c"clusterd-work")
        .map_err(|error| system("name the process")(error.into()))?;
    process::keep_from_children().map_err(system("keep descriptors from services"))?;
    // It ends when the heart has ended, whoever is told to end first.
    process::shrug_off(&[Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP])
        .map_err(system("handle signals"))?;
    if let Err(error) = realtime::be_ordinary() {
        log::warn!("protection from the out-of-memory killer could not be given back: {error}");
    }
    work(inherited)
}

fn work(inherited: WorkerInherits) -> Result<(), StartError> {
    let WorkerInherits { config, me, key, run_dir, state_dir, record, link, lock: _lock } =
        inherited;
    let link = Arc::new(link);
    let (done, all_done) = bounded::<()>(0);
    let threads = || {
        let inbox = Arc::new(Inbox::default());
        let (store, to_heart, work) =
            (Store::new(&state_dir), Arc::clone(&link), Arc::clone(&inbox));
        spawn("persister", &done, move || persist::run(&store, &work, &to_heart))?;
        let (keeper, kept) = Keeper::new();
        let events_dir = state_dir.clone();
        spawn("keeper", &done, move || events::run(&events_dir, &kept))?;
        let supervisors = services::begin(&config, me, &run_dir, &link, &done)?;
        let pair = Pair { config: &config, me, key: &key, state_dir: &state_dir };
        let mirrors = mirrors::begin(&pair, &link, &done)?;
        let clients = clients::begin(&config, me, &key, &link, &done)?;
        let notifier = config.notify_exec.map(|exec| {
            let (notifier, events) = Notifier::new();
            spawn("notifier", &done, move || notify::run(&exec, &events)).map(|()| notifier)
        });
        let recorder = record.map(|file| {
            let (recorder, lines) = Recorder::new();
            spawn("recorder", &done, move || record::run(&file, &lines)).map(|()| recorder)
        });
        let (notifier, recorder) = (notifier.transpose()?, recorder.transpose()?);
        Ok(Desks { inbox, keeper, supervisors, mirrors, clients, notifier, recorder })
    };
    let desks = threads().map_err(system("start a thread"))?;
    drop(done);
    serve(&link, &desks);
    desks.inbox.close();
    desks.end();
    if all_done.recv_timeout(limits::WORKER_DRAIN_PATIENCE) == Err(RecvTimeoutError::Timeout) {
        log::warn!("ending with work undone: a disk or notify.exec is too slow");
    }
    Ok(())
}

/// Where messages of the heart go.
struct Desks {
    inbox: Arc<Inbox>,
    keeper: Keeper,
    supervisors: Supervisors,
    mirrors: Mirrors,
    clients: Clients,
    notifier: Option<Notifier>,
    recorder: Option<Recorder>,
}

fn serve(link: &WorkerLink, desks: &Desks) {
    if let Err(error) = link.send(&ToHeart::WorkerStarted) {
        log::warn!("the heart could not be told of this worker: {error}");
    }
    let mut malformed = |error| log::warn!("a message of the heart was dropped: {error}");
    loop {
        match link.receive(&mut malformed) {
            Ok(Some(message)) => desks.take(link, message),
            Ok(None) => return,
            Err(error) => {
                log::error!("the link to the heart failed: {error}");
                return;
            }
        }
    }
}

impl Desks {
    /// No more messages will come.
    fn end(self) {
        self.mirrors.end();
        self.clients.end();
    }

    fn take(&self, link: &WorkerLink, message: ToWorker) {
        match message {
            ToWorker::Hello { nonce } => self.inbox.hello(nonce),
            ToWorker::Ready => {
                if let Err(error) = service_manager::ready() {
                    log::warn!("the service manager could not be told: {error}");
                }
            }
            ToWorker::Persist { write, state } => self.inbox.persist(write, state),
            ToWorker::Services { group, order, duty } => self.supervisors.order(group, order, duty),
            ToWorker::Mirror { group, order, duty, peer } => {
                self.mirrors.order(link, group, order, duty, peer);
            }
            ToWorker::Clients { group, duty } => self.clients.order(group, duty),
            ToWorker::Tickle { group } => self.clients.tickle(group),
            ToWorker::Sync { request, group } => self.mirrors.sync(link, group, request),
            ToWorker::Tell(record) => {
                if let Some(notifier) = &self.notifier {
                    notifier.push(record.clone());
                }
                self.keeper.push(Kept::Event(record));
            }
            ToWorker::Log { level, text } => self.keeper.push(Kept::Log { level, text }),
            ToWorker::RecordInput(line) => {
                if let Some(recorder) = &self.recorder {
                    recorder.push(line);
                }
            }
        }
    }
}

/// Starts a thread that holds `done` until its end.
fn spawn(
    name: &str,
    done: &Sender<()>,
    body: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let done = done.clone();
    let body = move || {
        body();
        drop(done);
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

/// A worker that lost a thread is of no use: better it ends, and the guard starts a whole one.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}

#[cfg(test)]
mod tests;
