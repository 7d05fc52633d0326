//! The heart's third thread: what the loop must not wait for. A serial line's driver may take seconds to open the
//! device, to close it and to tell its modem lines (USB adapters wait for each answer up to 5 s); a socket of raw
//! frames is closed when the kernel's RCU says so, and an ICMPv6 socket may need the rtnl lock for it.
//!
//! Of each question there is one on the way at most; its answer is taken in the loop, and nobody waits for it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use serialport::TTYPort;

use crate::beat::Serial;
use crate::config::SerialLine;
use crate::core::Time;
use crate::limits;
use crate::sys::tty;

/// A serial line's driver, which may be slow.
pub trait Driver: Send {
    /// Opens the line.
    ///
    /// # Errors
    /// No such device, not permitted, or refused.
    fn open(&mut self) -> io::Result<Serial>;

    /// Whether the far end shows at the modem lines; `None`: cable or driver cannot tell.
    fn far_end_shows(&mut self, port: &TTYPort) -> Option<bool>;
}

impl Driver for SerialLine {
    fn open(&mut self) -> io::Result<Serial> {
        Serial::open(self)
    }

    fn far_end_shows(&mut self, port: &TTYPort) -> Option<bool> {
        tty::far_end_shows(port)
    }
}

enum Order {
    OpenLine,
    LookAtLine(Arc<TTYPort>),
    Drop(Box<dyn Send>),
}

/// What came of it.
pub enum Done {
    /// The line was opened, or not.
    LineOpened(io::Result<Box<Serial>>),
    /// See [`Driver::far_end_shows`].
    FarEnd(Option<bool>),
}

/// The loop's end. When it is dropped the thread ends, with what it is at.
pub struct Aside {
    orders: Sender<Order>,
    done: Receiver<Done>,
    /// Since when the line is being opened, and looked at.
    opening: Option<Time>,
    looking: Option<Time>,
    /// That the driver is slow was told.
    told: bool,
    /// What had to be dropped in the loop.
    in_the_loop: u64,
}

impl Aside {
    /// Starts the thread `clusterd-aside`. `on_start` runs first in it; `wake` is called after each answer.
    ///
    /// # Errors
    /// There can be no thread.
    pub fn start(
        mut driver: Option<Box<dyn Driver>>,
        wake: impl Fn() + Send + 'static,
        on_start: impl FnOnce() + Send + 'static,
    ) -> io::Result<Aside> {
        let (orders, todo) = crossbeam_channel::bounded(limits::ASIDE_ORDERS_MAX);
        // Two questions, one of each on the way: there is always room.
        let (answer, done) = crossbeam_channel::bounded(2);
        let thread = std::thread::Builder::new().name("clusterd-aside".into());
        thread.stack_size(limits::HEART_THREAD_STACK_BYTES).spawn(move || {
            on_start();
            for order in todo {
                let done = match (order, &mut driver) {
                    (Order::OpenLine, Some(driver)) => {
                        Done::LineOpened(driver.open().map(Box::new))
                    }
                    (Order::LookAtLine(port), Some(driver)) => {
                        Done::FarEnd(driver.far_end_shows(&port))
                    }
                    (Order::OpenLine | Order::LookAtLine(_), None) => continue,
                    (Order::Drop(what), _) => {
                        drop(what);
                        continue;
                    }
                };
                if answer.try_send(done).is_ok() {
                    wake();
                }
            }
        })?;
        let (opening, looking) = (None, None);
        Ok(Aside { orders, done, opening, looking, told: false, in_the_loop: 0 })
    }

    /// Opens the serial line, unless that is under way.
    pub fn open_line(&mut self, now: Time) {
        if self.opening.is_none() && self.orders.try_send(Order::OpenLine).is_ok() {
            self.opening = Some(now);
        }
    }

    /// Asks the modem lines, unless that is under way.
    pub fn look_at_line(&mut self, now: Time, port: Arc<TTYPort>) {
        if self.looking.is_none() && self.orders.try_send(Order::LookAtLine(port)).is_ok() {
            self.looking = Some(now);
        }
    }

    /// Drops something that may have to wait for it.
    pub fn drop(&mut self, what: impl Send + 'static) {
        if let Err(TrySendError::Full(order) | TrySendError::Disconnected(order)) =
            self.orders.try_send(Order::Drop(Box::new(what)))
        {
            self.in_the_loop += 1;
            drop(order);
        }
    }

    /// The next answer, if there is one.
    pub fn done(&mut self) -> Option<Done> {
        let done = self.done.try_recv().ok()?;
        match done {
            Done::LineOpened(_) => self.opening = None,
            Done::FarEnd(_) => self.looking = None,
        }
        self.told &= self.opening.is_some() || self.looking.is_some();
        Some(done)
    }

    /// For how long the driver has not answered, when that becomes long.
    pub fn newly_slow(&mut self, now: Time) -> Option<Duration> {
        let since = [self.opening, self.looking].into_iter().flatten().min()?;
        let waited = now.since(since);
        let is_news = waited >= limits::LINE_PATIENCE && !std::mem::replace(&mut self.told, true);
        is_news.then_some(waited)
    }

    /// What had to be dropped in the loop, because too much else was waiting.
    pub fn dropped_in_the_loop(&self) -> u64 {
        self.in_the_loop
    }
}

#[cfg(test)]
mod tests;
