//! The heart's netlink thread: requests in, answers out. Any request can wait for the kernel's rtnl
//! lock, so nothing else in the heart may make one.

mod ears;
mod links;
mod news;
mod release;

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use self::ears::Ears;
use super::addresses::{Addresses, Hold, all_leased, is_ours};
use super::carrier::Watched;
use super::netlink::{Address, Change};
use super::outbox::Outbox;
use super::request::{LinkInfo, NetReply, NetRequest, NetSetup};
use super::route_socket::{Monitor, RouteSocket};
use super::virtual_links::VirtualLinks;
use crate::config::{GroupIndex, Nic, ServiceAddress};
use crate::limits::{
    CLAIM_AGE_MAX, HEART_THREAD_STACK_BYTES, LEASE, NET_REQUESTS_MAX, NET_REST, NET_TRIES,
    RELEASE_RETRY,
};

/// A request that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestRefused {
    /// Too many requests wait.
    #[error("the netlink thread does not keep up: {NET_REQUESTS_MAX} requests are waiting")]
    Full,
    /// The thread is gone.
    #[error("the netlink thread has ended; restart the heart")]
    Ended,
}

/// The heart's end. When it is dropped the thread ends; addresses stay until their lease ends.
pub struct NetHandle {
    requests: Sender<Asked>,
    shared: Arc<Shared>,
}

/// A request, and when it was made.
struct Asked {
    at: Instant,
    request: NetRequest,
}

impl Asked {
    /// A claim that waited while this process was stopped rests on a right that may have ended, and
    /// the peer may have the address by now. (A renewal looks at its lease.)
    fn is_stale(&self) -> bool {
        let leases = match self.request {
            NetRequest::Claim { .. } | NetRequest::Addresses { .. } => true,
            NetRequest::Sweep
            | NetRequest::LookAtCarriers
            | NetRequest::Renew { .. }
            | NetRequest::Release { .. } => false,
        };
        leases && self.at.elapsed() > CLAIM_AGE_MAX
    }
}

struct Shared {
    bell: EventFd,
    end: AtomicBool,
}

impl NetHandle {
    /// Hands a request to the thread. Never blocks.
    ///
    /// # Errors
    /// See [`RequestRefused`].
    pub fn request(&self, request: NetRequest) -> Result<(), RequestRefused> {
        self.requests.try_send(Asked { at: Instant::now(), request }).map_err(
            |error| match error {
                TrySendError::Full(_) => RequestRefused::Full,
                TrySendError::Disconnected(_) => RequestRefused::Ended,
            },
        )?;
        self.shared.ring();
        Ok(())
    }
}

impl Drop for NetHandle {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        self.shared.ring();
    }
}

impl Shared {
    fn ring(&self) {
        // It fails only when the counter is full: then the bell is ringing already.
        let _ = self.bell.write(1);
    }
}

/// Starts the thread `clusterd-net` in the caller's network namespace. `on_start` runs first in it
/// (real-time priority). `wake` is called after each answer that was put into `replies`.
///
/// # Errors
/// A socket could not be opened: CAP_NET_ADMIN is needed.
pub fn start(
    setup: NetSetup,
    replies: Sender<NetReply>,
    wake: Box<dyn Fn() + Send>,
    on_start: impl FnOnce() + Send + 'static,
) -> io::Result<NetHandle> {
    let (requests, incoming) = crossbeam_channel::bounded(NET_REQUESTS_MAX);
    let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let shared = Arc::new(Shared { bell, end: AtomicBool::new(false) });
    let mut worker = Worker::open(setup, incoming, replies, wake, Arc::clone(&shared))?;
    let thread = std::thread::Builder::new().name("clusterd-net".into());
    thread.stack_size(HEART_THREAD_STACK_BYTES).spawn(move || {
        on_start();
        worker.run();
    })?;
    Ok(NetHandle { requests, shared })
}

/// The thread's state.
pub(super) struct Worker {
    requests: Receiver<Asked>,
    waiting: VecDeque<Asked>,
    outbox: Outbox,
    shared: Arc<Shared>,
    route: RouteSocket,
    pub(super) monitor: Monitor,
    addresses: Addresses,
    /// On which interface each group is held.
    nics: Vec<Nic>,
    virtual_links: VirtualLinks,
    /// A sweep was asked for and has not been answered.
    sweeping: bool,
    /// A look that news asked for has failed: everything is to be looked at.
    unlooked: bool,
    /// The newest change of addresses, if it has not been answered.
    changed: Option<u32>,
    lan: Watched,
    redundant: Option<Watched>,
    crossover: Watched,
    ears: Ears,
    /// The interfaces were looked at: before that nothing is known of them.
    looked: bool,
    /// What was told of the interfaces; `None`: nothing yet.
    told_lan: Option<Option<LinkInfo>>,
    told_redundant: Option<Option<LinkInfo>>,
    told_crossover: Option<Option<LinkInfo>>,
}

impl Worker {
    fn open(
        setup: NetSetup,
        requests: Receiver<Asked>,
        replies: Sender<NetReply>,
        wake: Box<dyn Fn() + Send>,
        shared: Arc<Shared>,
    ) -> io::Result<Worker> {
        Ok(Worker {
            requests,
            waiting: VecDeque::with_capacity(NET_REQUESTS_MAX),
            outbox: Outbox::new(replies, wake),
            shared,
            // News first: what happens after the first look must not be missed.
            monitor: Monitor::open()?,
            route: RouteSocket::open()?,
            addresses: Addresses::new(&setup.groups),
            nics: setup.groups.iter().map(|group| group.nic).collect(),
            virtual_links: VirtualLinks::new(&setup.groups),
            sweeping: false,
            unlooked: false,
            changed: None,
            lan: Watched::new(setup.lan),
            redundant: setup.redundant.map(Watched::new),
            crossover: Watched::new(setup.crossover),
            ears: Ears::default(),
            looked: false,
            told_lan: None,
            told_redundant: None,
            told_crossover: None,
        })
    }

    fn run(&mut self) {
        self.look_at_carriers();
        while !self.shared.end.load(Ordering::Relaxed) {
            let more = self.read_news();
            match self.next_request() {
                Some(asked) if asked.is_stale() => self.refuse_stale(asked.request),
                Some(asked) => self.serve_asked(asked),
                None if more => {}
                None => self.rest(),
            }
        }
    }

    /// Sleeps until something comes in. A release that could not be finished is tried again, and so is a
    /// look that failed, with the next news.
    pub(super) fn rest(&mut self) {
        let deletes = self.addresses.deleting().next().is_some();
        let unfinished = self.sweeping || deletes || self.changed.is_some();
        let longest = if unfinished || self.unlooked { RELEASE_RETRY } else { NET_REST };
        let timeout = PollTimeout::try_from(longest).unwrap_or(PollTimeout::ZERO);
        let mut fds = [
            PollFd::new(self.shared.bell.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => self.outbox.fault(format!("poll failed in the netlink thread: {errno}")),
        }
        // Empties the bell; that it may not have rung is no error.
        let _ = self.shared.bell.read();
        if unfinished {
            self.finish_releases();
        }
    }

    /// The next request: a renewal if one waits, else the oldest. A renewal may overtake a release of
    /// its group: the release still comes last.
    fn next_request(&mut self) -> Option<Asked> {
        while self.waiting.len() < NET_REQUESTS_MAX {
            let Ok(request) = self.requests.try_recv() else { break };
            self.waiting.push_back(request);
        }
        let renewal =
            self.waiting.iter().position(|asked| matches!(asked.request, NetRequest::Renew { .. }));
        self.waiting.remove(renewal.unwrap_or(0))
    }

    fn refuse_stale(&mut self, request: NetRequest) {
        match request {
            NetRequest::Claim { group, claim } => {
                let error = "this process stalled after the claim was decided".to_owned();
                self.outbox.put(NetReply::HoldFailed { group, claim, error });
            }
            // What is new is leased with the next claim or renewal, if there is one.
            NetRequest::Addresses { group, addresses, change } => {
                self.change(group, addresses, change);
                self.finish_releases();
            }
            NetRequest::Sweep
            | NetRequest::LookAtCarriers
            | NetRequest::Renew { .. }
            | NetRequest::Release { .. } => self.serve(request),
        }
    }

    /// Takes note of a group's addresses; returns those that it did not have.
    fn change(
        &mut self,
        group: GroupIndex,
        addresses: Vec<ServiceAddress>,
        change: u32,
    ) -> Vec<IpAddr> {
        self.changed = Some(change);
        let ips = addresses.into_iter().map(|address| address.ip).collect();
        let new = self.addresses.change(group, ips);
        self.listen();
        new
    }

    /// Leases what is new in a group, if that is claimed and its lease has not ended.
    fn add(&mut self, group: GroupIndex, new: &[IpAddr]) -> Result<(), String> {
        let index = match self.addresses.hold(group) {
            Hold::Claimed { index, leased_at, .. } if leased_at.elapsed() < LEASE => index,
            Hold::Claimed { .. } | Hold::Free | Hold::Releasing { .. } => return Ok(()),
        };
        let leases = new.iter().map(|&ip| Change::Lease { index, ip, create: true });
        let leases: Vec<Change> = leases.collect();
        let begun = Instant::now();
        self.route.change(&leases).map_err(|error| error.to_string())?;
        if begun.elapsed() > CLAIM_AGE_MAX {
            return Err("the kernel took too long".into());
        }
        let found = self.look().map_err(|error| error.to_string())?;
        let strays = found.iter().filter(|one| new.contains(&one.ip) && !is_ours(one, index));
        let strays: Vec<Change> = strays.map(|&address| Change::Delete(address)).collect();
        self.route.change(&strays).map_err(|error| error.to_string())
    }

    pub(super) fn serve(&mut self, request: NetRequest) {
        self.serve_asked(Asked { at: Instant::now(), request });
    }

    fn serve_asked(&mut self, Asked { at, request }: Asked) {
        match request {
            NetRequest::Sweep => {
                self.addresses.release_all();
                self.sweeping = true;
                self.finish_releases();
            }
            NetRequest::LookAtCarriers => self.look_at_carriers(),
            NetRequest::Claim { group, claim } => match self.claim(group, claim, at) {
                Ok(()) => self.outbox.put(NetReply::Held { group, claim }),
                Err(error) => {
                    self.addresses.set(group, Hold::Releasing { asked: None });
                    self.finish_releases();
                    self.outbox.put(NetReply::HoldFailed { group, claim, error });
                }
            },
            NetRequest::Renew { group, claim } => match self.renew(group, claim) {
                Ok(()) => self.outbox.put(NetReply::Renewed { group, claim }),
                Err(error) => self.outbox.put(NetReply::HoldFailed { group, claim, error }),
            },
            NetRequest::Addresses { group, addresses, change } => {
                let kept: Vec<IpAddr> = self.addresses.ips(group).to_vec();
                let new = self.change(group, addresses, change);
                if let Err(error) = self.add(group, &new) {
                    // What is served goes on; what could not be added is not ours.
                    let ips = self.addresses.ips(group).iter();
                    let without = ips.copied().filter(|ip| kept.contains(ip)).collect();
                    self.addresses.change(group, without);
                    let leaving = new.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
                    self.outbox.fault(format!("{leaving} cannot be added: {error}"));
                }
                self.finish_releases();
            }
            NetRequest::Release { group, release } => {
                self.addresses.set(group, Hold::Releasing { asked: Some(release) });
                self.finish_releases();
            }
        }
    }

    /// Claims what was decided at that time. What the kernel does too late is taken back by whoever called: the right
    /// that it rests on may have ended meanwhile, and the peer may have the address.
    fn claim(&mut self, group: GroupIndex, claim: u32, decided_at: Instant) -> Result<(), String> {
        let in_time = |what: &str| match decided_at.elapsed() > CLAIM_AGE_MAX {
            true => Err(format!("the kernel took too long to {what}")),
            false => Ok(()),
        };
        let (parent, lan) = (self.parent(group)?, self.on_lan());
        let Worker { virtual_links, route, outbox, .. } = self;
        let mut fault = |text| outbox.fault(text);
        let index = virtual_links.make(route, group, parent, &lan, &mut fault)?;
        in_time("make its interface")?;
        let mut trouble = String::from("it was not there after it had been added");
        for _ in 0..NET_TRIES {
            let leased_at = Instant::now();
            self.addresses.set(group, Hold::Claimed { claim, index, leased_at });
            self.lease(group, index, true)?;
            in_time("add the address")?;
            let found = self.look().map_err(|error| error.to_string())?;
            let ips = self.addresses.ips(group);
            let strays: Vec<Change> = found
                .iter()
                .filter(|address| ips.contains(&address.ip) && !is_ours(address, index))
                .map(|&address| Change::Delete(address))
                .collect();
            if strays.is_empty() && all_leased(&self.addresses.claimed(group), &found, index) {
                return Ok(());
            }
            // Another copy of the address would outlive the lease.
            if let Err(error) = self.route.change(&strays) {
                trouble = format!("another copy of it could not be deleted: {error}");
            }
        }
        Err(trouble)
    }

    fn renew(&mut self, group: GroupIndex, claim: u32) -> Result<(), String> {
        let index = self.virtual_links.place(group, self.parent(group)?)?;
        let leased_at = match self.addresses.hold(group) {
            Hold::Claimed { claim: held, index: on, leased_at } if held == claim && on == index => {
                leased_at
            }
            Hold::Claimed { .. } | Hold::Free | Hold::Releasing { .. } => {
                return Err("this claim is not held any more".into());
            }
        };
        let now = Instant::now();
        // The kernel would put back an address that has expired, and the peer may have it by now.
        if now.duration_since(leased_at) >= LEASE {
            return Err("the lease had ended before it could be renewed".into());
        }
        self.lease(group, index, false)?;
        // This thread may have stood in that call until after the lease had ended: then the address was
        // put back, and the peer may have it.
        if leased_at.elapsed() >= LEASE {
            self.addresses.set(group, Hold::Releasing { asked: None });
            self.finish_releases();
            return Err("the lease had ended before the kernel acknowledged its renewal".into());
        }
        self.addresses.set(group, Hold::Claimed { claim, index, leased_at: now });
        Ok(())
    }

    /// Asks the kernel for the leases of all the group's addresses. One that it refuses (IPv6 switched off) is told,
    /// and asked for again with each renewal; the others are served.
    fn lease(&mut self, group: GroupIndex, index: u32, create: bool) -> Result<(), String> {
        let before = self.addresses.refused(group);
        let leases = self.addresses.ips(group).iter().map(|&ip| {
            let create = create || before.contains(&ip);
            Change::Lease { index, ip, create }
        });
        let leases: Vec<Change> = leases.collect();
        let refusals = self.route.change_each(&leases).map_err(|error| error.to_string())?;
        let why = refusals.values().next().map(ToString::to_string);
        match why {
            Some(error) if refusals.len() == leases.len() => return Err(error),
            Some(_) | None => {}
        }
        let ips = self.addresses.ips(group).iter().enumerate();
        let refused = ips.filter(|(place, _)| refusals.contains_key(place)).map(|(_, &ip)| ip);
        let refused: Vec<IpAddr> = refused.collect();
        if self.addresses.refuse(group, &refused) {
            let error = why.unwrap_or_default();
            self.outbox.put(NetReply::Refused { group, refused, error });
        }
        Ok(())
    }

    /// Every service address on any interface of this host.
    fn look(&mut self) -> io::Result<Vec<Address>> {
        let mut found = Vec::new();
        let addresses = &self.addresses;
        self.route.addresses(&mut |address| {
            if addresses.group_of(address.ip).is_some() && !found.contains(address) {
                found.push(*address);
            }
        })?;
        Ok(found)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A worker that runs in the caller's own thread.
    pub(in crate::net) fn worker(setup: NetSetup, replies: Sender<NetReply>) -> Worker {
        let (_, requests) = crossbeam_channel::bounded(1);
        let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK).unwrap();
        let shared = Arc::new(Shared { bell, end: AtomicBool::new(false) });
        Worker::open(setup, requests, replies, Box::new(|| {}), shared).unwrap()
    }

    /// Serves a request that was made at that time.
    pub(in crate::net) fn serve_since(worker: &mut Worker, request: NetRequest, at: Instant) {
        worker.serve_asked(Asked { at, request });
    }

    /// Makes the lease of a claimed group as old as if it began then.
    pub(in crate::net) fn lease_began(worker: &mut Worker, group: GroupIndex, at: Instant) {
        let Hold::Claimed { claim, index, .. } = worker.addresses.hold(group) else {
            panic!("not claimed")
        };
        worker.addresses.set(group, Hold::Claimed { claim, index, leased_at: at });
    }

    /// Nothing is kept of what is over.
    pub(in crate::net) fn assert_idle(worker: &Worker) {
        assert!(worker.waiting.is_empty() && worker.outbox.is_empty());
        assert!(!worker.sweeping && !worker.unlooked && worker.changed.is_none());
        assert!(worker.addresses.deleting().next().is_none());
        assert!(worker.virtual_links.are_gone());
    }

    fn quiet_worker() -> (Worker, Sender<Asked>) {
        let setup = NetSetup {
            lan: "nowhere0".into(),
            redundant: None,
            crossover: "nowhere1".into(),
            groups: Vec::new(),
        };
        let (sender, requests) = crossbeam_channel::bounded(NET_REQUESTS_MAX);
        let (replies, _) = crossbeam_channel::bounded(1);
        let mut worker = worker(setup, replies);
        worker.requests = requests;
        (worker, sender)
    }

    #[test]
    fn renewals_go_first() {
        let (mut worker, sender) = quiet_worker();
        let renew = NetRequest::Renew { group: GroupIndex(1), claim: 4 };
        for request in [NetRequest::Sweep, NetRequest::LookAtCarriers, renew.clone()] {
            sender.try_send(Asked { at: Instant::now(), request }).unwrap();
        }
        let order: Vec<NetRequest> =
            std::iter::from_fn(|| worker.next_request()).map(|asked| asked.request).collect();
        assert_eq!(order, [renew, NetRequest::Sweep, NetRequest::LookAtCarriers]);
    }

    #[test]
    fn p1_a_claim_that_waited_too_long_is_not_made() {
        let claim = NetRequest::Claim { group: GroupIndex(0), claim: 1 };
        let asked = |request, age| Asked { at: Instant::now().checked_sub(age).unwrap(), request };
        assert!(!asked(claim.clone(), CLAIM_AGE_MAX / 2).is_stale());
        assert!(asked(claim, CLAIM_AGE_MAX * 2).is_stale());
        let change =
            NetRequest::Addresses { group: GroupIndex(0), addresses: Vec::new(), change: 1 };
        assert!(asked(change, CLAIM_AGE_MAX * 2).is_stale());
        let release = NetRequest::Release { group: GroupIndex(0), release: 1 };
        assert!(!asked(release, CLAIM_AGE_MAX * 2).is_stale(), "a release is never too late");
    }
}
