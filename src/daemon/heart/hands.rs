//! The heart's hands on the kernel's addresses: requests to the netlink thread, and the deletions that
//! are sealed for the guard before anything is added.

use std::net::IpAddr;

use crossbeam_channel::Receiver;

use crate::config::{Config, GroupIndex, ServiceAddress};
use crate::daemon::page::Page;
use crate::net::{self, LinkInfo, NetHandle, NetReply, NetRequest, NetSetup};

/// Sends requests to the netlink thread without ever waiting.
pub struct Hands {
    handle: NetHandle,
    replies: Receiver<NetReply>,
    setup: NetSetup,
    /// What the groups are about to have, and what they had and may still be here: sealed, too.
    coming: Vec<IpAddr>,
    leaving: Vec<IpAddr>,
    /// The LAN interface, and the one whose deletions are sealed.
    lan_index: Option<u32>,
    sealed_for: Option<u32>,
    /// Number of the newest change of addresses.
    change: u32,
    /// Requests that must not be lost and found the queue full: these, in every round, until sent.
    sweep_waits: bool,
    release_waits: Vec<Option<u32>>,
    change_waits: Vec<bool>,
}

impl Hands {
    /// Takes over the netlink thread.
    pub fn new(handle: NetHandle, replies: Receiver<NetReply>, setup: NetSetup) -> Hands {
        let groups = setup.groups.len();
        Hands {
            handle,
            replies,
            setup,
            coming: Vec::new(),
            leaving: Vec::new(),
            lan_index: None,
            sealed_for: None,
            change: 0,
            sweep_waits: false,
            release_waits: vec![None; groups],
            change_waits: vec![false; groups],
        }
    }

    /// The next answer, if there is one.
    pub fn reply(&self) -> Option<NetReply> {
        self.replies.try_recv().ok()
    }

    /// The LAN interface is this one now: seals the deletions that fit it.
    pub fn lan_is(&mut self, link: Option<LinkInfo>, page: &mut Page) {
        self.lan_index = link.map(|link| link.index);
        if self.lan_index != self.sealed_for {
            self.seal(page);
        }
    }

    /// The groups will have these addresses: seals what is here and what will be. To be called before the
    /// first of them is asked for.
    pub fn configured(&mut self, config: &Config, page: &mut Page) {
        self.leaving.extend(self.setup.groups.iter().flatten().map(|address| address.ip));
        let coming = config.groups.iter().flat_map(|group| &group.addresses);
        self.coming = coming.map(|address| address.ip).collect();
        self.seal(page);
    }

    /// What was taken out of the groups up to this change is gone.
    pub fn trimmed(&mut self, change: u32, page: &mut Page) {
        if change == self.change && !self.change_waits.contains(&true) {
            self.leaving.clear();
            self.seal(page);
        }
    }

    fn seal(&mut self, page: &mut Page) {
        self.sealed_for = None;
        let Some(index) = self.lan_index else { return };
        let held = self.setup.groups.iter().flatten().map(|address| address.ip);
        let held = held.chain(self.coming.iter().copied()).chain(self.leaving.iter().copied());
        let mut addresses = Vec::new();
        for ip in held {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        match page.seal(&net::deletions(&addresses, index), &addresses) {
            Ok(()) => self.sealed_for = Some(index),
            Err(error) => log::error!("{error}: no group can be served"),
        }
    }

    /// Adds a group's addresses.
    ///
    /// # Errors
    /// What is in the way; then nothing was asked.
    pub fn claim(&self, group: GroupIndex, claim: u32) -> Result<(), String> {
        if self.sealed_for.is_none() {
            let lan = &self.setup.lan;
            return Err(format!("there is no interface \"{lan}\""));
        }
        let request = NetRequest::Claim { group, claim };
        self.handle.request(request).map_err(|_| "the netlink thread is stuck".to_owned())
    }

    /// A group's addresses as they are in effect: what is about to be added is not among them.
    pub fn addresses(&self, group: GroupIndex) -> Vec<IpAddr> {
        let group = self.setup.groups.get(usize::from(group.0));
        group.into_iter().flatten().map(|address| address.ip).collect()
    }

    /// A group has these addresses from now on.
    pub fn change(&mut self, group: GroupIndex, addresses: Vec<ServiceAddress>) {
        let place = usize::from(group.0);
        if let (Some(had), Some(waits)) =
            (self.setup.groups.get_mut(place), self.change_waits.get_mut(place))
        {
            *had = addresses;
            *waits = true;
            self.change = self.change.wrapping_add(1);
        }
        self.ask_what_waits();
    }

    /// Asks for what may be lost if the queue is full, because it is asked again soon.
    pub fn try_ask(&self, request: NetRequest) {
        if self.handle.request(request).is_err() {
            log::debug!("a request was dropped: the netlink thread is stuck");
        }
    }

    /// Deletes every service address.
    pub fn sweep(&mut self) {
        self.sweep_waits = true;
        self.ask_what_waits();
    }

    /// Deletes a group's addresses.
    pub fn release(&mut self, group: GroupIndex, release: u32) {
        if let Some(waits) = self.release_waits.get_mut(usize::from(group.0)) {
            *waits = Some(release);
        }
        self.ask_what_waits();
    }

    /// Sends what waits for room in the queue. To be called in every round.
    pub fn ask_what_waits(&mut self) {
        if self.sweep_waits {
            self.sweep_waits = self.handle.request(NetRequest::Sweep).is_err();
        }
        let groups = (0u8..).map(GroupIndex).zip(&self.setup.groups);
        for ((group, addresses), waits) in groups.zip(&mut self.change_waits) {
            // Nothing is added that the guard does not know of.
            if *waits && self.sealed_for.is_some() {
                let (addresses, change) = (addresses.clone(), self.change);
                let request = NetRequest::Addresses { group, addresses, change };
                *waits = self.handle.request(request).is_err();
            }
        }
        for (group, waits) in (0u8..).map(GroupIndex).zip(&mut self.release_waits) {
            if let Some(release) = *waits
                && self.handle.request(NetRequest::Release { group, release }).is_ok()
            {
                *waits = None;
            }
        }
    }
}
