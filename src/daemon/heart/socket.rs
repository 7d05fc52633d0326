//! State of one of the heart's sockets.
//!
//! ```text
//!   open --error--> closed --REOPEN_EVERY after the last opening--> open
//! ```

use std::io;

use crate::core::Time;
use crate::limits;

/// State of one socket, or of the pair of the LAN watch or the echo.
#[derive(Debug)]
pub struct PathSocket {
    /// As events and the log call it.
    name: &'static str,
    pub open: bool,
    /// Something may be waiting to be read.
    pub ready: bool,
    /// When it was opened, or that was tried; `None`: not yet, or long ago.
    opened_at: Option<Time>,
    /// It failed since it last worked: already told.
    told: bool,
}

impl PathSocket {
    pub fn new(name: &'static str) -> PathSocket {
        PathSocket { name, open: false, ready: false, opened_at: None, told: false }
    }

    pub fn opened(&mut self, now: Time) {
        (self.open, self.ready, self.opened_at) = (true, true, Some(now));
    }

    pub fn not_opened(&mut self, now: Time, error: &io::Error) {
        self.opened_at = Some(now);
        self.failed(error);
    }

    /// Closed to be opened at once.
    pub fn close(&mut self, reason: &io::Error) {
        self.failed(reason);
        self.opened_at = None;
    }

    /// To be opened again at once, though nothing is wrong with it.
    pub fn renew(&mut self) {
        (self.open, self.ready, self.opened_at) = (false, false, None);
    }

    /// It was read without an error; `more`: frames are left.
    pub fn read(&mut self, more: bool) {
        self.ready = more;
    }

    pub fn sent(&mut self, result: io::Result<()>) {
        match result {
            Ok(()) => self.works(),
            Err(error) => self.failed(&error),
        }
    }

    /// Told once, until it works again.
    pub fn failed(&mut self, error: &io::Error) {
        self.open = false;
        self.ready = false;
        if !self.told {
            log::warn!("{}: {error}; trying again every second", self.name);
            self.told = true;
        }
    }

    pub fn works(&mut self) {
        if self.told {
            log::info!("{}: works again", self.name);
            self.told = false;
        }
    }

    pub fn may_reopen(&self, now: Time) -> bool {
        let rested = |opened_at| now.since(opened_at) >= limits::REOPEN_EVERY;
        !self.open && self.opened_at.is_none_or(rested)
    }
}
