//! The groups' mirrors: orders of the heart to the engines, what they tell back to the heart, and the
//! links of the peer to the group that they are for.

use std::io;
use std::net::Ipv6Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::spawn;
use super::stores::StoreDesk;
use crate::config::{Config, Group, GroupIndex, NodeIndex};
use crate::control::event::Kind;
use crate::core::{MirrorDuty, MirrorTerms, PeerSync};
use crate::daemon::channel::{ToHeart, WorkerChannel};
use crate::limits;
use crate::mirror::conflict::remote;
use crate::mirror::engine::{Dial, Engine, Handle, Setup, Telling, Ways, decline};
use crate::mirror::proto::{self, ToReceiver};
use crate::mirror::transport::{Dialler, Incoming, Listener, Places, Secret};

/// The engines of the groups that have a mirror, and the door for the peer's links.
pub(super) struct Mirrors {
    engines: Vec<Option<Handle>>,
    /// Links of the peer come in as long as this lives.
    listener: Option<Listener>,
    /// This node's own address for them, as the listener last said.
    own: Arc<Mutex<Option<Ipv6Addr>>>,
    /// Engines are looked at as long as this lives.
    looking: Sender<()>,
}

/// What the worker knows of itself and the pair.
pub(super) struct Pair<'a> {
    pub(super) config: &'a Config,
    pub(super) me: NodeIndex,
    pub(super) secret: Secret,
    pub(super) state_dir: &'a Path,
}

/// Starts them. Nothing travels before the first order.
///
/// # Errors
/// No more threads or descriptors.
pub(super) fn begin(
    pair: &Pair<'_>,
    channel: &Arc<WorkerChannel>,
    done: &Sender<()>,
) -> io::Result<Mirrors> {
    let secret = pair.secret.clone();
    let mut engines: Vec<Option<Handle>> = Vec::new();
    let mut by_name = Vec::new();
    for (index, group) in pair.config.groups() {
        if group.mirror.is_empty() {
            engines.push(None);
            continue;
        }
        let channel = Arc::clone(channel);
        let handle = match Engine::new(setup(pair, group, &secret)) {
            Ok((engine, handle)) => {
                let tell = move |telling| tell(&channel, index, telling);
                spawn("mirror", done, move || engine.run(tell))?;
                by_name.push((group.name.clone(), handle.clone()));
                Some(handle)
            }
            Err(why) => {
                tell(
                    &channel,
                    index,
                    Telling::Note(Kind::Fault, format!("nothing is mirrored: {why}")),
                );
                None
            }
        };
        engines.push(handle);
    }
    let (looking, over) = bounded::<()>(0);
    look_at(&engines, &over, channel, done)?;
    let own = Arc::new(Mutex::new(None));
    let listener = match by_name.as_slice() {
        [] => None,
        [_, ..] => Some(listen(pair, secret, by_name, channel, &own)?),
    };
    Ok(Mirrors { engines, listener, own, looking })
}

/// Looks at the engines now and then, until the other end of `over` is gone: one that a file system holds
/// cannot tell it.
fn look_at(
    engines: &[Option<Handle>],
    over: &Receiver<()>,
    channel: &Arc<WorkerChannel>,
    done: &Sender<()>,
) -> io::Result<()> {
    let (engines, over, channel) = (engines.to_vec(), over.clone(), Arc::clone(channel));
    spawn("mirror-look", done, move || {
        while over.recv_timeout(limits::MIRROR_LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
            let now = Instant::now();
            for (index, engine) in (0u8..).map(GroupIndex).zip(&engines) {
                if let Some(engine) = engine {
                    engine.look(now, |telling| tell(&channel, index, telling));
                }
            }
        }
    })
}

fn setup(pair: &Pair<'_>, group: &Group, secret: &Secret) -> Setup {
    Setup {
        cluster: pair.config.cluster.clone(),
        node: pair.config.node(pair.me).name.clone(),
        me: pair.me,
        group: group.name.clone(),
        trees: group.mirror.clone(),
        state: pair.state_dir.join("mirror").join(&group.name),
        dial: dial(pair, secret.clone()),
    }
}

fn dial(pair: &Pair<'_>, secret: Secret) -> Dial {
    let (me, peer) = (pair.config.node(pair.me), pair.config.node(pair.me.other()));
    let dialler = Dialler {
        secret,
        interface: me.crossover.clone(),
        lan: peer.address,
        own_lan: me.address,
        port: limits::SYNC_PORT,
        patience: limits::DIAL_PATIENCE,
    };
    Arc::new(move |peer: PeerSync, ways| match ways {
        Ways::All => dialler.connect(peer.crossover).map_err(|error| error.to_string()),
        Ways::Crossover => dialler.over_crossover(peer.crossover),
    })
}

fn listen(
    pair: &Pair<'_>,
    secret: Secret,
    engines: Vec<(String, Handle)>,
    channel: &Arc<WorkerChannel>,
    own: &Arc<Mutex<Option<Ipv6Addr>>>,
) -> io::Result<Listener> {
    let (me, peer) = (pair.config.node(pair.me), pair.config.node(pair.me.other()));
    let places = Places {
        crossover: me.crossover.clone(),
        lan: me.address,
        peer_lan: peer.address,
        port: limits::SYNC_PORT,
    };
    let stores = StoreDesk::new(pair.config, &me.name);
    let arrived = move |incoming: Incoming| {
        if let Some(group) = remote::group_of(&incoming.hello) {
            return stores.take(&group, incoming);
        }
        match group_of(&incoming.hello) {
            Some(group) => match engines.iter().find(|(name, _)| *name == group) {
                Some((_, engine)) => engine.arrived(incoming),
                None => decline(
                    incoming,
                    &format!("the group {group} has no mirror in the config here"),
                ),
            },
            None => log::warn!("a mirror link was closed: its first message was not understood"),
        }
    };
    let (channel, own) = (Arc::clone(channel), Arc::clone(own));
    let changed = move |address| {
        *own.lock().unwrap_or_else(PoisonError::into_inner) = address;
        send(&channel, &ToHeart::SyncAddress(address));
    };
    Listener::start(secret, places, arrived, changed)
}

fn group_of(hello: &[u8]) -> Option<String> {
    match proto::decode::<ToReceiver>(hello).ok()?.message {
        ToReceiver::Hello { group, .. } => Some(group),
        ToReceiver::AskBuckets
        | ToReceiver::AskListing { .. }
        | ToReceiver::Offer { .. }
        | ToReceiver::Data { .. }
        | ToReceiver::Close { .. }
        | ToReceiver::Withdraw { .. }
        | ToReceiver::Ping
        | ToReceiver::Verify { .. }
        | ToReceiver::Drop { .. }
        | ToReceiver::Lineage { .. }
        | ToReceiver::Ahead { .. }
        | ToReceiver::Conflict { .. } => None,
    }
}

fn tell(channel: &WorkerChannel, group: GroupIndex, telling: Telling) {
    let message = match telling {
        Telling::Report(report) => ToHeart::Mirror { group, report },
        Telling::Note(kind, text) => ToHeart::Note { group, kind, text },
        Telling::Synced { request, outcome } => ToHeart::Synced { request, outcome },
    };
    send(channel, &message);
}

fn send(channel: &WorkerChannel, message: &ToHeart) {
    if let Err(error) = channel.send(message) {
        log::warn!("the heart could not be told of a mirror: {error}");
    }
}

impl Mirrors {
    /// What a group's mirror shall do from now on. Never waits.
    pub(super) fn order(
        &self,
        channel: &WorkerChannel,
        group: GroupIndex,
        order: u32,
        duty: MirrorDuty,
        peer: PeerSync,
        terms: MirrorTerms,
    ) {
        if let Some(engine) = self.engine(group) {
            engine.order(order, duty, peer, terms);
        }
        // A new heart orders first of all, and knows nothing of what was said to the one before.
        let own = *self.own.lock().unwrap_or_else(PoisonError::into_inner);
        send(channel, &ToHeart::SyncAddress(own));
    }

    /// A person has said that the trees here are the ones to keep.
    pub(super) fn approve(&self, group: GroupIndex) {
        if let Some(engine) = self.engine(group) {
            engine.approve();
        }
    }

    /// An operator's `sync`. Never waits.
    pub(super) fn sync(&self, channel: &WorkerChannel, group: GroupIndex, request: u64) {
        match self.engine(group) {
            Some(engine) => engine.sync(request),
            None => {
                let outcome = Err("the mirror does not work; see `clusterd status`".to_owned());
                send(channel, &ToHeart::Synced { request, outcome });
            }
        }
    }

    fn engine(&self, group: GroupIndex) -> Option<&Handle> {
        self.engines.get(usize::from(group.0)).and_then(Option::as_ref)
    }

    /// Ends the engines and the listener.
    pub(super) fn end(self) {
        let Mirrors { engines, listener, own: _, looking } = self;
        drop(looking);
        for engine in engines.into_iter().flatten() {
            engine.end();
        }
        drop(listener);
    }
}
