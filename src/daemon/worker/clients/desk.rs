//! What the clients' thread does: looks, shares, takes in, tickles, closes.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::IpAddr;
use std::time::Instant;

use super::Order;
use super::campaign::{Campaign, Outcome};
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::core::{ClientDuty, Tickled};
use crate::limits::{
    CONNECTIONS_MAX, REOPEN_EVERY, SHARE_BURST, SHARE_EVERY, SHARE_FRAMES_A_ROUND, SHARE_GAP,
    SHARE_LOOK_SHARE, SHARE_QUEUE_MAX, SHARE_TOLD_EVERY,
};
use crate::net::clients::{Codec, Connection, DiagSocket, Found, States, Table, Wire};

/// Tells the heart what became of an order to tickle.
pub(super) type Tell = Box<dyn FnMut(GroupIndex, Tickled) + Send>;

/// Everything that the thread keeps.
pub(super) struct Desk {
    tell: Tell,
    codec: Codec,
    table: Table,
    groups: Vec<Group>,
    /// Random at every start: numbers start again.
    epoch: u64,
    number: u64,
    diag: Option<DiagSocket>,
    look_at: Instant,
    interface: String,
    wire: Option<Wire>,
    reopen_at: Instant,
    /// Frames on their way.
    frames: VecDeque<Vec<u8>>,
    say_at: Instant,
    counts: BTreeMap<&'static str, u64>,
    counts_told_at: Option<Instant>,
}

struct Group {
    index: GroupIndex,
    ips: Vec<IpAddr>,
    duty: ClientDuty,
    campaign: Option<Campaign>,
}

impl Desk {
    /// For node `me`.
    ///
    /// # Errors
    /// No random numbers.
    pub(super) fn new(
        config: &Config,
        me: NodeIndex,
        codec: Codec,
        tell: Tell,
    ) -> io::Result<Desk> {
        let now = Instant::now();
        let groups = config.groups().map(|(index, group)| Group {
            index,
            ips: group.ips(),
            duty: ClientDuty::Leave,
            campaign: None,
        });
        Ok(Desk {
            tell,
            codec,
            table: Table::new(config.groups.len()),
            groups: groups.collect(),
            epoch: getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?,
            number: 0,
            diag: None,
            look_at: now,
            interface: config.node(me).crossover.clone(),
            wire: None,
            reopen_at: now,
            frames: VecDeque::new(),
            say_at: now,
            counts: BTreeMap::new(),
            counts_told_at: None,
        })
    }

    /// The socket that brings frames, if it is open.
    pub(super) fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    /// How many connections of the peer are known.
    #[cfg(test)]
    pub(super) fn known(&self, group: GroupIndex) -> usize {
        self.table.shared(group).map_or(0, |list| list.connections.len())
    }

    /// The groups have these addresses from now on.
    pub(super) fn set_addresses(&mut self, groups: &[Vec<IpAddr>]) {
        self.codec.set_addresses(groups);
        for (group, ips) in self.groups.iter_mut().zip(groups) {
            group.ips.clone_from(ips);
        }
    }

    /// Carries out what is new.
    pub(super) fn obey(&mut self, now: Instant, index: GroupIndex, order: Order) {
        let Some(group) = self.groups.get_mut(usize::from(index.0)) else { return };
        if let Some(duty) = order.duty.filter(|duty| *duty != group.duty) {
            group.duty = duty;
            match duty {
                ClientDuty::Leave => group.campaign = None,
                ClientDuty::Share => self.look_at = now,
                ClientDuty::Yield => {
                    group.campaign = None;
                    let ips = group.ips.clone();
                    self.yield_all(index, &ips);
                }
            }
        }
        if order.tickle
            && let Some(group) = self.groups.get_mut(usize::from(index.0))
            && group.duty == ClientDuty::Share
        {
            group.campaign = Some(Campaign::begin(now));
        }
    }

    /// Does what is due; when there is something to do next, if nothing happens before.
    pub(super) fn work(&mut self, now: Instant) -> Option<Instant> {
        if self.wire.is_none() && now >= self.reopen_at {
            self.reopen_at = now + REOPEN_EVERY;
            self.wire = match Wire::open(&self.interface) {
                Ok(wire) => Some(wire),
                Err(error) => {
                    log::debug!("{}: connections are not shared: {error}", self.interface);
                    None
                }
            };
        }
        self.hear(now);
        self.tickle(now);
        let sharing = self.groups.iter().any(|group| group.duty == ClientDuty::Share);
        // What the last look found goes first.
        if sharing && now >= self.look_at && self.frames.is_empty() {
            self.look(now);
        }
        self.say(now);
        self.tell_counts(now);
        let campaigns = self.groups.iter().filter_map(|group| group.campaign.as_ref()?.next_at());
        campaigns
            .chain(sharing.then_some(self.look_at))
            .chain((!self.frames.is_empty()).then_some(self.say_at))
            .chain(self.wire.is_none().then_some(self.reopen_at))
            .min()
    }

    /// Takes in what the peer shares.
    fn hear(&mut self, now: Instant) {
        self.table.age(now);
        for _ in 0..SHARE_FRAMES_A_ROUND {
            let Some(wire) = &mut self.wire else { return };
            let refused = match wire.receive() {
                Ok(Some(frame)) => frame
                    .and_then(|frame| self.codec.decode(frame))
                    .and_then(|part| self.table.take(now, part)),
                Ok(None) => return,
                Err(error) => {
                    log::debug!("{}: {error}", self.interface);
                    self.wire = None;
                    return;
                }
            };
            if let Err(refusal) = refused {
                self.count(refusal.name(), 1);
            }
        }
    }

    fn tickle(&mut self, now: Instant) {
        for group in &mut self.groups {
            let Some(campaign) = &mut group.campaign else { continue };
            let outcome = campaign.work(now, self.table.shared(group.index));
            if campaign.next_at().is_none() {
                group.campaign = None;
                self.table.forget(group.index);
            }
            let Some(Outcome { known, told, list_at, refused }) = outcome else { continue };
            if let Some(error) = refused {
                log::warn!("{} clients were not told of the takeover: {error}", known - told);
            }
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let list_age_ms = now.saturating_duration_since(list_at).as_millis() as u64;
            (self.tell)(
                group.index,
                Tickled { known: count(known), told: count(told), list_age_ms },
            );
        }
    }

    /// Looks who is connected to the groups that this node serves, and queues that for the peer.
    fn look(&mut self, now: Instant) {
        let served = |group: &&Group| group.duty == ClientDuty::Share;
        let served: Vec<(GroupIndex, Vec<IpAddr>)> = self
            .groups
            .iter()
            .filter(served)
            .map(|group| (group.index, group.ips.clone()))
            .collect();
        let ips: Vec<IpAddr> = served.iter().flat_map(|(_, ips)| ips).copied().collect();
        let mut lists: Vec<Vec<Connection>> = served.iter().map(|_| Vec::new()).collect();
        let mut over = 0;
        let begin = Instant::now();
        let looked = self.find(&ips, States::AWAITED, &mut |Found { connection, .. }| {
            let (ours, theirs) = (connection.service.ip(), connection.client.ip());
            let place = served.iter().position(|(_, ips)| ips.contains(&ours));
            match place.and_then(|place| lists.get_mut(place)) {
                // A program of this node's own ends with the node.
                Some(_) if ips.contains(&theirs) => {}
                Some(list) if list.len() < CONNECTIONS_MAX => list.push(connection),
                Some(_) => over += 1,
                None => {}
            }
        });
        self.look_at = now + SHARE_EVERY.max(begin.elapsed() * SHARE_LOOK_SHARE);
        self.count("over-limit", over);
        if looked {
            for ((group, _), list) in served.into_iter().zip(lists) {
                self.share(group, &list);
            }
        }
    }

    /// Calls `each` for the sockets of these addresses; false: the kernel did not name them all.
    fn find(&mut self, ips: &[IpAddr], states: States, each: &mut dyn FnMut(Found)) -> bool {
        let mut search = || {
            let diag = match self.diag.take() {
                Some(diag) => self.diag.insert(diag),
                None => self.diag.insert(DiagSocket::open()?),
            };
            diag.connections(ips, states, each)
        };
        match search() {
            Ok(()) => true,
            Err(error) => {
                log::debug!("the kernel does not say who is connected: {error}");
                self.diag = None;
                self.count("looks-failed", 1);
                false
            }
        }
    }

    fn share(&mut self, group: GroupIndex, connections: &[Connection]) {
        self.number += 1;
        let frames = self.codec.encode(group, self.epoch, self.number, connections);
        if self.frames.len() + frames.len() > SHARE_QUEUE_MAX {
            self.count("queue-full", frames.len() as u64);
            return;
        }
        self.frames.extend(frames);
    }

    /// The peer serves. It is told once more who was connected here, for those who came after the last
    /// look; then these sockets are closed, each by its cookie, so never one that comes later.
    fn yield_all(&mut self, group: GroupIndex, ips: &[IpAddr]) {
        let (mut found, mut over) = (Vec::new(), 0);
        let looked = self.find(ips, States::OPEN, &mut |one| {
            if found.len() < CONNECTIONS_MAX { found.push(one) } else { over += 1 }
        });
        self.count("over-limit", over);
        if !looked || found.is_empty() {
            return;
        }
        let connections: Vec<Connection> = found.iter().map(|found| found.connection).collect();
        self.share(group, &connections);
        let Some(diag) = &mut self.diag else { return };
        for one in &found {
            if let Err(error) = diag.close(one) {
                log::debug!("connections of the former owner stay open: {error}");
                return;
            }
        }
    }

    /// Sends what is queued, a burst at a time.
    fn say(&mut self, now: Instant) {
        if now < self.say_at || self.frames.is_empty() {
            return;
        }
        self.say_at = now + SHARE_GAP;
        for _ in 0..SHARE_BURST {
            let Some(frame) = self.frames.pop_front() else { return };
            if self.wire.as_ref().is_none_or(|wire| wire.send(&frame).is_err()) {
                self.count("unsent", 1);
            }
        }
    }

    fn count(&mut self, name: &'static str, more: u64) {
        if more > 0 {
            *self.counts.entry(name).or_default() += more;
        }
    }

    /// Logs what was dropped and why, now and then.
    fn tell_counts(&mut self, now: Instant) {
        let recently = |at: Instant| now.saturating_duration_since(at) < SHARE_TOLD_EVERY;
        if self.counts.is_empty() || self.counts_told_at.is_some_and(recently) {
            return;
        }
        self.counts_told_at = Some(now);
        let counts = std::mem::take(&mut self.counts);
        let words: Vec<String> =
            counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        log::info!("lists of clients' connections: {}", words.join(", "));
    }
}
