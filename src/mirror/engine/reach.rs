//! Reaching the peer: the attempts of an owner, and the way back to the crossover.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::mode::Mode;
use super::outgoing::Outgoing;
use super::owner::{Detour, Obstacle};
use super::{Engine, Input, Ways, spawn};
use crate::limits;
use crate::mirror::session::sender;
use crate::mirror::transport::{Link, LinkPath};

impl Engine {
    /// Looks for the peer, if there is no link.
    pub(super) fn dial(&mut self) {
        let Mode::Out(owner) = &mut self.mode else { return };
        let due = owner.outgoing.is_ok() && !self.connection.is_open() && !owner.dial.under_way;
        if !due || Instant::now() < owner.dial.next_at {
            return;
        }
        owner.dial.attempt += 1;
        let (attempt, peer) = (owner.dial.attempt, self.peer);
        let (dial, inbox) = (self.setup.dial.clone(), self.to_self.clone());
        let started = spawn("mirror-dial", move || {
            let link = dial(peer, Ways::All).map(Box::new);
            // The engine may have ended.
            let _ = inbox.send(Input::Dialled { attempt, link });
        });
        match started {
            Ok(()) => owner.dial.under_way = true,
            Err(why) => owner.dial.again(Obstacle::unreached(&why)),
        }
    }

    /// While the session goes over the LAN and the crossover's heartbeats pass: looks whether the crossover
    /// connects, and goes back to it.
    pub(super) fn look_for_crossover(&mut self) {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let now = Instant::now();
        let on_detour =
            self.connection.path() == Some(LinkPath::Lan) && self.peer.crossover.is_some();
        let Mode::Out(owner) = &mut self.mode else { return };
        if !on_detour {
            owner.detour = Detour::new(now);
            return;
        }
        if let Some(since) = owner.detour.open_since {
            let between = owner.outgoing.as_ref().is_ok_and(Outgoing::is_between_series);
            if between || now.duration_since(since) >= limits::CROSSOVER_CHANGE_PATIENCE {
                log::info!("the crossover connects again: the mirror goes back to it");
                self.change_over();
            }
            return;
        }
        if owner.detour.under_way.is_some() || now < owner.detour.next_at {
            return;
        }
        owner.detour.next_at = now + limits::CROSSOVER_AGAIN_EVERY;
        let attempt = NUMBERS.fetch_add(1, Ordering::Relaxed);
        let (dial, inbox, peer) = (self.setup.dial.clone(), self.to_self.clone(), self.peer);
        let started = spawn("mirror-dial", move || {
            let reached = dial(peer, Ways::Crossover).map(drop);
            // The engine may have ended.
            let _ = inbox.send(Input::Probed { attempt, reached });
        });
        match started {
            Ok(()) => owner.detour.under_way = Some(attempt),
            Err(why) => owner.detour.why = Some(why),
        }
    }

    /// An attempt to reach the peer over the crossover has ended.
    pub(super) fn probed(&mut self, attempt: u64, reached: Result<(), String>) {
        let Mode::Out(owner) = &mut self.mode else { return };
        if owner.detour.under_way != Some(attempt) {
            return;
        }
        owner.detour.under_way = None;
        match reached {
            Ok(()) => owner.detour.open_since = Some(Instant::now()),
            Err(why) => owner.detour.why = Some(why),
        }
    }

    /// Ends the session and begins another one at once: what was not acknowledged is sent again.
    pub(super) fn change_over(&mut self) {
        self.connection.close();
        self.cut("it uses another path now");
        if let Mode::Out(owner) = &mut self.mode {
            owner.dial.reached();
            owner.dial.next_at = Instant::now();
        }
    }

    /// An attempt to reach the peer has ended.
    pub(super) fn dialled(&mut self, attempt: u64, link: Result<Box<Link>, String>) {
        let Mode::Out(owner) = &mut self.mode else { return };
        if owner.dial.attempt != attempt {
            return;
        }
        owner.dial.under_way = false;
        let taken = link.and_then(|link| self.connection.take(*link, &self.to_self));
        match taken {
            Ok(()) => self.feed_sender(sender::Event::Linked),
            Err(why) => owner.dial.again(Obstacle::unreached(&why)),
        }
    }
}
