//! The tickles of one takeover: all clients at once, at a pace, and a few times again.

use std::time::Instant;

use crate::limits::{TICKLE_AFTER, TICKLE_BURST, TICKLE_GAP};
use crate::net::clients::{Connection, Shared, Tickler};

/// Clients are being told.
pub(super) struct Campaign {
    began: Instant,
    tickler: Tickler,
    /// Rounds that are done.
    rounds: usize,
    /// The round under way: whom it still has to tell.
    round: Option<Round>,
    next_at: Instant,
    /// Which list was used last.
    list_at: Option<Instant>,
    reported: bool,
}

struct Round {
    left: Vec<Connection>,
    known: usize,
    told: usize,
    list_at: Instant,
    refused: Option<String>,
}

/// What the first round with anybody in it came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Connections in the list.
    pub(super) known: usize,
    /// Clients that were sent something.
    pub(super) told: usize,
    /// When the list came.
    pub(super) list_at: Instant,
    /// Why others were not.
    pub(super) refused: Option<String>,
}

impl Campaign {
    pub(super) fn begin(now: Instant) -> Campaign {
        let tickler = Tickler::default();
        Campaign {
            began: now,
            tickler,
            rounds: 0,
            round: None,
            next_at: now,
            list_at: None,
            reported: false,
        }
    }

    /// When there is something to do next; `None`: all is done.
    pub(super) fn next_at(&self) -> Option<Instant> {
        (self.rounds <= TICKLE_AFTER.len()).then_some(self.next_at)
    }

    /// Does what is due. `list`: the newest; the old owner's last words may come after the takeover, and
    /// then the next round is due at once.
    pub(super) fn work(&mut self, now: Instant, list: Option<&Shared>) -> Option<Outcome> {
        let newest = list.map(|list| list.at);
        let news = self.round.is_none() && newest.is_some() && newest != self.list_at;
        if self.next_at().is_none_or(|at| now < at && !news) {
            return None;
        }
        if self.round.is_none() {
            self.list_at = newest;
        }
        let round = self.round.get_or_insert_with(|| Round {
            left: list.map(|list| list.connections.clone()).unwrap_or_default(),
            known: list.map_or(0, |list| list.connections.len()),
            told: 0,
            list_at: list.map_or(now, |list| list.at),
            refused: None,
        });
        let keep = round.left.len().saturating_sub(TICKLE_BURST);
        for connection in round.left.drain(keep..) {
            match self.tickler.send(&connection) {
                Ok(()) => round.told += 1,
                Err(error) => round.refused = Some(format!("{}: {error}", connection.client)),
            }
        }
        if !round.left.is_empty() {
            // A round that was late does not make the next ones late.
            self.next_at = now.max(self.next_at + TICKLE_GAP);
            return None;
        }
        let after = TICKLE_AFTER.get(self.rounds).copied().unwrap_or_default();
        self.next_at = now.max(self.began + after);
        self.rounds += 1;
        let Round { known, told, list_at, refused, .. } = self.round.take()?;
        if known == 0 || std::mem::replace(&mut self.reported, true) {
            return None;
        }
        Some(Outcome { known, told, list_at, refused })
    }
}
