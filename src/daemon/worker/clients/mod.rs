//! The groups' clients: who is connected, told to the peer while this node serves; who was connected to
//! the peer, told of the takeover when this node serves instead (see [`crate::net::clients`]).
//!
//! | file | subject |
//! | --- | --- |
//! | `desk` | the thread's work |
//! | `campaign` | the tickles of one takeover |

mod campaign;
mod desk;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

use self::desk::Desk;
use super::spawn;
use crate::config::{Config, Group, GroupIndex, NodeIndex};
use crate::core::ClientDuty;
use crate::daemon::channel::{ToHeart, WorkerChannel};
use crate::net::clients::{Codec, Wire};

/// The way to the thread.
pub(super) struct Clients {
    board: Arc<Board>,
}

/// What the thread has not yet read: of each group the newest order only. An old one must not be carried
/// out: what it would close may be alive again.
struct Board {
    notes: Mutex<Notes>,
    bell: EventFd,
}

#[derive(Default)]
struct Notes {
    orders: Vec<Order>,
    /// The groups' addresses, if they are others than before.
    addresses: Option<Vec<Vec<IpAddr>>>,
    ending: bool,
}

/// The newest order of each group; the groups' addresses, if they are others than before.
type News = (Vec<Order>, Option<Vec<Vec<IpAddr>>>);

#[derive(Clone, Copy, Default)]
struct Order {
    duty: Option<ClientDuty>,
    tickle: bool,
}

/// Starts the thread. Nothing is done before the first order but to listen.
///
/// # Errors
/// No more threads, descriptors or random numbers.
pub(super) fn begin(
    config: &Config,
    me: NodeIndex,
    codec: Codec,
    channel: &Arc<WorkerChannel>,
    done: &Sender<()>,
) -> io::Result<Clients> {
    let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
    let orders = vec![Order::default(); config.groups.len()];
    let board = Arc::new(Board { notes: Mutex::new(Notes { orders, ..Notes::default() }), bell });
    let channel = Arc::clone(channel);
    let tell = move |group, tickled| {
        if let Err(error) = channel.send(&ToHeart::Tickled { group, tickled }) {
            log::warn!("the heart could not be told of tickled clients: {error}");
        }
    };
    let mut desk = Desk::new(config, me, codec, Box::new(tell))?;
    let in_thread = Arc::clone(&board);
    spawn("clients", done, move || {
        while let Some((orders, addresses)) = in_thread.take() {
            let now = Instant::now();
            if let Some(addresses) = addresses {
                desk.set_addresses(&addresses);
            }
            for (group, order) in (0u8..).map(GroupIndex).zip(orders) {
                desk.obey(now, group, order);
            }
            let next = desk.work(now);
            in_thread.wait(desk.wire(), next);
        }
    })?;
    Ok(Clients { board })
}

impl Clients {
    /// What shall be done for a group from now on. Never waits.
    pub(super) fn order(&self, group: GroupIndex, duty: ClientDuty) {
        self.board.note(|notes| {
            if let Some(order) = notes.orders.get_mut(usize::from(group.0)) {
                let tickle = order.tickle && duty == ClientDuty::Share;
                *order = Order { duty: Some(duty), tickle };
            }
        });
    }

    /// Lets the clients of the owner before find out. Never waits.
    pub(super) fn tickle(&self, group: GroupIndex) {
        self.board.note(|notes| {
            if let Some(order) = notes.orders.get_mut(usize::from(group.0)) {
                order.tickle = true;
            }
        });
    }

    /// Another config is in effect. Never waits.
    pub(super) fn configured(&self, config: &Config) {
        let addresses = config.groups.iter().map(Group::ips).collect();
        self.board.note(|notes| notes.addresses = Some(addresses));
    }

    /// Ends the thread.
    pub(super) fn end(self) {
        self.board.note(|notes| notes.ending = true);
    }
}

impl Board {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, change: impl FnOnce(&mut Notes)) {
        change(&mut self.notes());
        // Only a counter at its end refuses; then the thread is awake anyway.
        let _ = self.bell.write(1);
    }

    /// The new orders and addresses; `None`: the end.
    fn take(&self) -> Option<News> {
        let _ = self.bell.read();
        let mut notes = self.notes();
        let orders = notes.orders.iter_mut().map(std::mem::take).collect();
        let addresses = notes.addresses.take();
        (!notes.ending).then_some((orders, addresses))
    }

    /// Waits for an order, a frame, or that time.
    fn wait(&self, wire: Option<&Wire>, next: Option<Instant>) {
        let timeout = next.map_or(PollTimeout::NONE, |next| {
            let left = next.saturating_duration_since(Instant::now());
            // poll(2) counts whole milliseconds: one more, or the last one would be spent spinning.
            let left = if left.is_zero() { left } else { left + Duration::from_millis(1) };
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        let mut fds = vec![PollFd::new(self.bell.as_fd(), PollFlags::POLLIN)];
        fds.extend(wire.map(|wire| PollFd::new(wire.as_fd(), PollFlags::POLLIN)));
        // Interrupted or not: what there is to do is found by looking.
        let _ = poll(&mut fds, timeout);
    }
}
