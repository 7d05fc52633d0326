//! Orders: what the engine is to do, with what this node's disk and a person say of it.

use std::time::Instant;

use super::crash::OwnerMark;
use super::incoming::Incoming;
use super::mode::Mode;
use super::owner::Owner;
use super::replica::Replica;
use super::{Engine, Telling};
use crate::core::{MirrorDuty, MirrorTerms, PeerSync};
use crate::limits;
use crate::mirror::transport::LinkPath;

impl Engine {
    /// A new order.
    pub(super) fn ordered(
        &mut self,
        order: u32,
        duty: MirrorDuty,
        peer: PeerSync,
        terms: MirrorTerms,
        tell: &mut dyn FnMut(Telling),
    ) {
        (self.order, self.duty, self.terms) = (order, duty, terms);
        self.record(terms);
        // Every order is answered: it may be of a new heart, which was told nothing yet.
        self.told = None;
        if self.peer != peer {
            // A session says what one incarnation of the peer has.
            let is_new = self.peer.incarnation != peer.incarnation;
            self.peer = peer;
            // Another way leads there now: the crossover is lost, or it is back.
            let by_crossover = self.connection.path().map(|path| path == LinkPath::Crossover);
            if by_crossover.is_some_and(|by_crossover| by_crossover != peer.crossover.is_some()) {
                self.change_over();
            }
            if is_new {
                if let Mode::Out(owner) = &mut self.mode
                    && let Ok(outgoing) = &mut owner.outgoing
                {
                    outgoing.peer_is_new();
                }
                self.connection.close();
                self.cut("the peer has restarted");
            }
            // It is there, and what stood in the way was there before it, or on another way.
            if let Mode::Out(owner) = &mut self.mode
                && peer.incarnation.is_some()
            {
                owner.dial.anew();
            }
        }
        let goes_on = match (&self.mode, duty) {
            (Mode::Idle { .. }, MirrorDuty::Still) => true,
            (Mode::Out(owner), MirrorDuty::Out(new) | MirrorDuty::Drain(new)) => {
                owner.generation == new
            }
            (Mode::In(incoming), MirrorDuty::In(new)) => incoming.generation() == new,
            (Mode::Idle { .. } | Mode::Out(_) | Mode::In(_), _) => false,
        };
        if !goes_on {
            self.leave("this node no longer owns the group", tell);
            self.mode = match duty {
                MirrorDuty::Still => Mode::idle(Instant::now()),
                MirrorDuty::Out(generation) | MirrorDuty::Drain(generation) => {
                    Mode::Out(Box::new(Owner::new(generation)))
                }
                MirrorDuty::In(generation) => {
                    OwnerMark::of(&self.setup.state).end();
                    self.replica.get_or_insert_with(|| Replica::new(&self.to_self));
                    let group = &self.setup.group;
                    Mode::In(Box::new(Incoming::new(generation, group, &self.trees)))
                }
            };
        }
        let drains = matches!(duty, MirrorDuty::Drain(_));
        if let Mode::Out(owner) = &mut self.mode {
            owner.approved |= terms.approved;
            owner.drain = owner.drain.filter(|_| drains);
        }
        if drains {
            self.begin_owner();
            let barrier = self.with_owner(|owner, now, around| {
                let outgoing = owner.outgoing.as_mut().ok()?;
                // Clients wait. The walk finds everything that those who wrote had written; what they
                // left in memory is on the peer's disk soon.
                Some(outgoing.barrier(now, false, around))
            });
            if let Mode::Out(owner) = &mut self.mode {
                owner.drain = owner.drain.or(barrier.flatten());
            }
        }
    }

    /// Puts on record with the trees what the order says of this node's generations: of the one that has begun
    /// with them, and of the next.
    pub(super) fn record(&mut self, terms: MirrorTerms) {
        let recorded = self.index.copy().and_then(|copy| {
            let mut new = copy.clone();
            // The index may be ahead of the heart's record: a crash came between the two.
            let began = terms.began.filter(|began| new.ready_for.contains(began));
            if began.map(|it| it.number) > new.of.map(|it| it.number) {
                new.of = began;
            }
            if let Some(intent) = terms.intent.filter(|intent| !new.ready_for.contains(intent)) {
                new.ready_for.push(intent);
                let surplus = new.ready_for.len().saturating_sub(limits::READY_FOR_MAX);
                new.ready_for.drain(..surplus);
            }
            if new == copy { Ok(()) } else { self.index.set_copy(&new) }
        });
        if let Err(error) = recorded {
            log::warn!("the next generation is not recorded with the trees: {error}");
        }
    }

    /// What a person had to say is said.
    pub(super) fn approve(&mut self) {
        if let Mode::Out(owner) = &mut self.mode {
            owner.approved = true;
            owner.dial.next_at = Instant::now();
            if let Ok(outgoing) = &mut owner.outgoing {
                outgoing.approve();
            }
        }
    }

    /// Does what is ordered from its beginning: nothing that was under way counts any more.
    pub(super) fn begin_anew(&mut self, why: &str, tell: &mut dyn FnMut(Telling)) {
        self.leave(why, tell);
        self.mode = Mode::idle(Instant::now());
        self.replica = None;
        self.ordered(self.order, self.duty, self.peer, self.terms, tell);
    }

    /// Ends what is under way; `why`: what those are told who wait for it.
    pub(super) fn leave(&mut self, why: &str, tell: &mut dyn FnMut(Telling)) {
        self.connection.close();
        if let Mode::Out(owner) = &mut self.mode {
            OwnerMark::of(&self.setup.state).end();
            for (request, _) in owner.syncs.drain(..) {
                tell(Telling::Synced { request, outcome: Err(why.to_owned()) });
            }
        }
    }
}
