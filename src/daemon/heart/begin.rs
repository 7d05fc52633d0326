//! From a started process to the first round of the heart.

use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;

use mio::unix::SourceFd;
use mio::{Interest, Poll, Waker};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use thiserror::Error;

use super::addresses::AddressRequests;
use super::aside::{Aside, Driver};
use super::clock::Clock;
use super::counts::Counts;
use super::lan_events::{LanEvents, setup};
use super::reload::Reload;
use super::sockets::Sockets;
use super::{FIRST_CONTROL, FIRST_SOCKET, GUARD, Heart, NET_THREAD, SIGNALS, WORKER};
use crate::beat::codec::Codec;
use crate::beat::paths::Paths;
use crate::config::NodeIndex;
use crate::config::ring::KeyState;
use crate::control::socket::Server;
use crate::core::{Core, Event, Time};
use crate::daemon::channel::{HelloError, ToWorker};
use crate::daemon::inherit::HeartInherits;
use crate::limits;
use crate::sim::replay::Header;
use crate::sys::capabilities;
use crate::sys::realtime::{self, Touched};

/// Why the heart cannot begin.
#[derive(Debug, Error)]
pub enum BeginError {
    /// The state on disk is not known: without it nothing may be claimed.
    #[error("{0}")]
    Hello(#[from] HelloError),
    /// The state on disk names owners by an order of the nodes that is another one in the config.
    #[error(
        "{name} now sorts {now} of the two nodes' names, and when its state was written it did not: what is on the \
         disk would count as the other node's; give the nodes names that sort as before, or, if the other node has \
         all that was served, move the state directory away and let its trees come anew"
    )]
    OtherNode {
        /// This node's name.
        name: String,
        /// Its place now.
        now: &'static str,
    },
    /// The control socket.
    #[error("the control socket in {run_dir} cannot be opened: {error}")]
    Control {
        /// The directory.
        run_dir: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// No random number.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// Something that never fails on a working system.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl BeginError {
    /// Trying again would change nothing.
    pub fn is_lasting(&self) -> bool {
        match self {
            BeginError::Hello(HelloError::Disk(_))
            | BeginError::OtherNode { .. }
            | BeginError::Control { .. } => true,
            BeginError::Hello(HelloError::Silent(_) | HelloError::Socket(_))
            | BeginError::Random(_)
            | BeginError::System(_) => false,
        }
    }
}

/// Becomes the heart, and returns when all is handed over.
///
/// # Errors
/// It could not begin, or its poll failed.
pub fn run(inherits: HeartInherits) -> Result<(), BeginError> {
    let HeartInherits {
        config,
        me,
        keys,
        run_dir,
        record,
        page,
        mut channel,
        guard,
        lock,
        config_slots,
    } = inherits;
    let config = Arc::new(config);
    nix::sys::prctl::set_name(c"clusterd-heart").map_err(io::Error::from)?;
    let signals = take_signals()?;
    // A second logger is refused; there is none.
    let _ = channel.install_logger(log::LevelFilter::Info);
    let disk = channel.hello(random()?, limits::HELLO_PATIENCE)?;
    if disk.node.is_some_and(|node| node != me) {
        let now = match me {
            NodeIndex::Lower => "first",
            NodeIndex::Upper => "second",
        };
        return Err(BeginError::OtherNode { name: config.node(me).name.clone(), now });
    }
    for warning in realtime::set_up(limits::HEART_PRIORITY, Touched::Everything) {
        log::warn!("{warning}");
    }
    // Before there is another thread: each has its own.
    if let Err(error) = capabilities::keep_few() {
        log::warn!("privileges could not be given up: {error}");
    }

    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), NET_THREAD)?);
    let setup = setup(&config, me);
    let (sender, replies) = crossbeam_channel::bounded(limits::NET_REPLIES_MAX);
    let wake = || {
        let waker = Arc::clone(&waker);
        move || {
            // The poll ends with the process; before that an eventfd cannot refuse.
            let _ = waker.wake();
        }
    };
    let on_start = || {
        // Refused for the whole process before: told there.
        let _ = realtime::set_thread_priority(limits::HEART_PRIORITY);
    };
    let handle = crate::net::start(setup.clone(), sender, Box::new(wake()), on_start)?;
    let codec = Codec::new(keys, &config.cluster, config.group_tags(), me);
    let paths = Paths::new(&config, me, codec);
    let registry = poll.registry().try_clone()?;
    let line = config.node(me).serial.clone();
    let driver = line.map(|line| Box::new(line) as Box<dyn Driver>);
    let aside = Aside::start(driver, wake(), on_start)?;
    let sockets = Sockets::new(&config, me, paths, registry, FIRST_SOCKET, aside);
    let server = Server::open(&run_dir, poll.registry(), FIRST_CONTROL)
        .map_err(|error| BeginError::Control { run_dir: run_dir.clone(), error })?;
    for (fd, token) in
        [(signals.as_raw_fd(), SIGNALS), (guard.as_raw_fd(), GUARD), (channel.as_raw_fd(), WORKER)]
    {
        poll.registry().register(&mut SourceFd(&fd), token, Interest::READABLE)?;
    }

    let clock = Clock::start();
    let (incarnation, seed) = (random()?, random()?);
    let now = clock.now();
    let recording = record.is_some();
    if let Some(config) = record {
        let header = Header { config, me, incarnation, seed, disk: disk.clone(), now };
        let line = serde_json::to_string(&header).map_err(io::Error::from)?;
        channel.send(&ToWorker::RecordInput(line));
    }
    let core = Core::new(Arc::clone(&config), me, incarnation, seed, disk, now);
    let heart_before = page.heart_before();
    let mut heart = Heart {
        lan_events: LanEvents::new(&config),
        addresses: AddressRequests::new(handle, replies, setup),
        will: None,
        config,
        me,
        clock,
        core,
        poll,
        page,
        sockets,
        worker: channel,
        worker_may_have_more: true,
        server,
        signals,
        config_slots,
        reload: Reload::default(),
        key_state: KeyState::default(),
        guard: Some(guard),
        recording,
        _lock: lock,
        ready_told: false,
        own_events: heart_before.map(|how| Event::HeartDied { how }).into_iter().collect(),
        house_kept_at: Time::default(),
        counts: Counts::default(),
        counts_told_at: Time::default(),
        leaving: false,
        frames: Vec::with_capacity(limits::FRAMES_A_ROUND),
        seen: Vec::with_capacity(limits::FRAMES_A_ROUND),
        echoed: Vec::with_capacity(limits::FRAMES_A_ROUND),
    };
    Ok(heart.live()?)
}

/// SIGTERM and SIGHUP come through a descriptor. A terminal's signals are for the guard alone, which passes on
/// what it means by them.
fn take_signals() -> io::Result<SignalFd> {
    let mut blocked = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
        blocked.add(signal);
    }
    blocked.thread_block()?;
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGTERM);
    wanted.add(Signal::SIGHUP);
    Ok(SignalFd::with_flags(&wanted, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Random and never 0.
fn random() -> Result<u64, BeginError> {
    Ok(getrandom::u64().map_err(BeginError::Random)?.max(1))
}
