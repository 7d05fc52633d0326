//! The worker: everything that may block. It does what the heart asks, and decides nothing.
//!
//! ```text
//!                           +-> persister   state.json, standby          -> channel
//! channel -> this thread ---+-> keeper      events.jsonl, standard error
//!                           +-> notifier    notify.exec
//!                           +-> recorder    run --record FILE
//!                           +-> rereader    config and key file, anew       -> config slots, channel
//!                           +-> supervisor  services, one for each group    -> channel
//!                           +-> engine      mirrored trees, the same         -> channel
//!                           +-> clients     their connections               -> channel
//!                           alive           that this process runs           -> channel
//! ```
//! Each arrow is bounded, so this thread never waits for a disk or a program. When the channel ends, heart
//! and guard are gone or done: the threads finish what they have, within a deadline. So they do when the
//! config in effect changes what one of them works with: then the guard starts another worker.

mod clients;
pub mod events;
mod mirrors;
pub mod notify;
pub mod persist;
pub mod record;
mod reread;
mod service_manager;
mod services;
mod stores;

use std::sync::Arc;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use nix::sys::signal::Signal;

use self::clients::Clients;
use self::events::{Keeper, Kept};
use self::mirrors::{Mirrors, Pair};
use self::notify::Notifier;
use self::persist::{Inbox, Store};
use self::record::Recorder;
use self::reread::{Rereader, Source};
use self::services::Supervisors;
use super::channel::{ToHeart, ToWorker, WorkerChannel};
use super::config_slots::{ConfigSlot, ConfigSlots};
use super::inherit::WorkerInherits;
use super::logger;
use super::start::{StartError, system};
use crate::config::ring::SharedRing;
use crate::config::{Config, change};
use crate::limits;
use crate::mirror::transport::Secret;
use crate::net::clients::Codec;
use crate::sys::{process, realtime};

/// Becomes the worker, until the channel ends.
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
    let WorkerInherits {
        config,
        config_file,
        me,
        keys,
        run_dir,
        state_dir,
        record,
        channel,
        lock: _lock,
        config_slots,
    } = inherited;
    let config_slots = Arc::new(config_slots);
    let channel = Arc::new(channel);
    let (done, all_done) = bounded::<()>(0);
    let keys = SharedRing::from(&keys);
    let threads = || {
        let inbox = Arc::new(Inbox::default());
        let (store, to_heart, work) =
            (Store::new(&state_dir), Arc::clone(&channel), Arc::clone(&inbox));
        spawn("persister", &done, move || persist::run(&store, &work, &to_heart))?;
        let (keeper, kept) = Keeper::new();
        let events_dir = state_dir.clone();
        spawn("keeper", &done, move || events::run(&events_dir, &kept))?;
        let supervisors = services::begin(&config, me, &run_dir, &channel, &done)?;
        let secret = Secret::new(&keys, &config.cluster);
        let pair = Pair { config: &config, me, secret, state_dir: &state_dir };
        let mirrors = mirrors::begin(&pair, &channel, &done)?;
        let codec = Codec::new(&keys, &config, me);
        let clients = clients::begin(&config, me, codec, &channel, &done)?;
        let (rereader, asked) = Rereader::new();
        let (source, to_heart) = (
            Source { file: config_file, config_slots: Arc::clone(&config_slots) },
            Arc::clone(&channel),
        );
        // It may sit in a disk that hangs: nothing waits for its end.
        std::thread::Builder::new()
            .name("rereader".to_owned())
            .spawn(move || reread::run(&source, &asked, &to_heart))?;
        let to_heart = Arc::clone(&channel);
        // Until the process ends: nothing waits for it.
        std::thread::Builder::new().name("alive".to_owned()).spawn(move || say_alive(&to_heart))?;
        let notifier = config.notify_exec.clone().map(|exec| {
            let (notifier, events) = Notifier::new();
            spawn("notifier", &done, move || notify::run(&exec, &events)).map(|()| notifier)
        });
        let recorder = record.map(|file| {
            let (recorder, lines) = Recorder::new();
            spawn("recorder", &done, move || record::run(&file, &lines)).map(|()| recorder)
        });
        let (notifier, recorder) = (notifier.transpose()?, recorder.transpose()?);
        let keys = keys.clone();
        Ok(Desks {
            inbox,
            keeper,
            supervisors,
            mirrors,
            clients,
            rereader,
            notifier,
            recorder,
            keys,
        })
    };
    let desks = threads().map_err(system("start a thread"))?;
    drop(done);
    serve(&channel, &desks, &config_slots, config);
    desks.inbox.close();
    desks.end();
    if all_done.recv_timeout(limits::WORKER_DRAIN_PATIENCE) == Err(RecvTimeoutError::Timeout) {
        log::warn!("ending with work undone: a disk or notify.exec is too slow");
    }
    Ok(())
}

/// Says again and again that this process runs.
fn say_alive(channel: &WorkerChannel) {
    loop {
        // A heart that does not read is replaced, and the next one is told.
        let _ = channel.send(&ToHeart::Alive);
        std::thread::sleep(limits::WORKER_SAYS_EVERY);
    }
}

/// Where messages of the heart go.
struct Desks {
    inbox: Arc<Inbox>,
    keeper: Keeper,
    supervisors: Supervisors,
    mirrors: Mirrors,
    clients: Clients,
    rereader: Rereader,
    notifier: Option<Notifier>,
    recorder: Option<Recorder>,
    /// Used by the mirrors and the clients' thread.
    keys: SharedRing,
}

fn serve(channel: &WorkerChannel, desks: &Desks, config_slots: &ConfigSlots, mut config: Config) {
    if let Err(error) = channel.send(&ToHeart::WorkerStarted) {
        log::warn!("the heart could not be told of this worker: {error}");
    }
    let mut malformed = |error| log::warn!("a message of the heart was dropped: {error}");
    loop {
        match channel.receive(&mut malformed) {
            Ok(Some(message)) => {
                // A new heart may be ahead of this worker: the one before it may have died between
                // taking a config in and telling of it.
                let news = matches!(message, ToWorker::Configured | ToWorker::Hello { .. });
                let anew = news && is_over(config_slots, &mut config, &desks.keys);
                if news {
                    desks.clients.configured(&config);
                }
                desks.take(channel, message);
                if anew {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                log::error!("the channel to the heart failed: {error}");
                return;
            }
        }
    }
}

/// Takes note of the config and the keys in effect; true: threads of this worker were begun with something else.
fn is_over(config_slots: &ConfigSlots, config: &mut Config, keys: &SharedRing) -> bool {
    match config_slots.current() {
        Ok(ConfigSlot { config: new, keys: ring }) => {
            keys.set_ring(&ring);
            let change = change::compare(config, &new);
            *config = new;
            change.map_or(true, |change| change.worker)
        }
        Err(error) => {
            log::error!("the config in effect cannot be read, the previous one stays: {error}");
            false
        }
    }
}

impl Desks {
    /// No more messages will come.
    fn end(self) {
        self.mirrors.end();
        self.clients.end();
    }

    fn take(&self, channel: &WorkerChannel, message: ToWorker) {
        match message {
            ToWorker::Hello { nonce } => self.inbox.hello(nonce),
            ToWorker::Ready => {
                if let Err(error) = service_manager::ready() {
                    log::warn!("the service manager could not be told: {error}");
                }
            }
            ToWorker::Persist { write, state } => self.inbox.persist(write, state),
            ToWorker::Services { group, order, duty } => self.supervisors.order(group, order, duty),
            ToWorker::Mirror { group, order, duty, peer, terms } => {
                self.mirrors.order(channel, group, order, duty, peer, terms);
            }
            ToWorker::Clients { group, duty } => self.clients.order(group, duty),
            ToWorker::Tickle { group } => self.clients.tickle(group),
            ToWorker::Approve { group } => self.mirrors.approve(group),
            ToWorker::Sync { request, group } => self.mirrors.sync(channel, group, request),
            ToWorker::Reread { nonce } => self.rereader.ask(nonce),
            ToWorker::PeerHasNewest(has) => self.keys.set_peer_has_newest(has),
            // Looked at before.
            ToWorker::Configured => {}
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
