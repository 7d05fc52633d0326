//! The addresses in the kernel: requests to the netlink thread, and what is sealed for the
//! guard: the deletions, before anything is added, and the last will.

use std::net::IpAddr;

use crossbeam_channel::Receiver;

use crate::beat::Farewell;
use crate::config::{Config, GroupIndex, Mac, Nic, ServiceAddress};
use crate::daemon::guard::page::Page;
use crate::net::{self, GroupSetup, LinkInfo, NetHandle, NetReply, NetRequest, NetSetup};

/// Sends requests to the netlink thread without ever waiting.
pub struct AddressRequests {
    handle: NetHandle,
    replies: Receiver<NetReply>,
    setup: NetSetup,
    /// What each group is about to have, and what it had and may still be here: sealed, too.
    coming: Vec<Vec<ServiceAddress>>,
    leaving: Vec<Vec<ServiceAddress>>,
    /// The interfaces on the LAN: the first and the third.
    lan: Option<LinkInfo>,
    redundant: Option<LinkInfo>,
    /// Deletions that fit these, and all of those addresses, are sealed.
    sealed: bool,
    /// Those deletions, and the addresses that must not be left.
    deletions: Vec<Vec<u8>>,
    addresses: Vec<IpAddr>,
    /// The last will, as frames; empty: none may be said.
    will: Vec<Farewell>,
    /// Number of the newest change of addresses.
    change: u32,
    /// Requests that must not be lost and found the queue full: these, in every round, until sent.
    sweep_waits: bool,
    release_waits: Vec<Option<u32>>,
    change_waits: Vec<bool>,
}

impl AddressRequests {
    /// Takes over the netlink thread.
    pub fn new(handle: NetHandle, replies: Receiver<NetReply>, setup: NetSetup) -> AddressRequests {
        let groups = setup.groups.len();
        AddressRequests {
            addresses: ips(&setup.groups),
            handle,
            replies,
            setup,
            coming: vec![Vec::new(); groups],
            leaving: vec![Vec::new(); groups],
            lan: None,
            redundant: None,
            sealed: false,
            deletions: Vec::new(),
            will: Vec::new(),
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

    /// An interface on the LAN is this one now: seals the deletions that fit it.
    pub fn link_is(&mut self, nic: Nic, link: Option<LinkInfo>, page: &mut Page) {
        match nic {
            Nic::Lan => self.lan = link,
            Nic::Redundant => self.redundant = link,
        }
        self.seal_deletions(page);
    }

    /// The groups will have these addresses: seals what is here and what will be. To be called before the
    /// first of them is asked for.
    pub fn configured(&mut self, config: &Config, page: &mut Page) {
        for (leaving, group) in self.leaving.iter_mut().zip(&self.setup.groups) {
            unite(leaving, &group.addresses);
        }
        self.coming = config.groups.iter().map(|group| group.addresses.clone()).collect();
        self.seal_deletions(page);
    }

    /// What was taken out of the groups up to this change is gone.
    pub fn trimmed(&mut self, change: u32, page: &mut Page) {
        if change == self.change && !self.change_waits.contains(&true) {
            self.leaving.iter_mut().for_each(Vec::clear);
            self.seal_deletions(page);
        }
    }

    /// This is the last will now: seals it beside the deletions.
    pub fn will_is(&mut self, will: Vec<Farewell>, page: &mut Page) {
        if self.will == will {
            return;
        }
        self.will = will;
        if !self.seal(page) {
            self.sealed = false;
        }
    }

    /// Seals the deletion of all that a group has, is about to have, or had and may still have here.
    fn seal_deletions(&mut self, page: &mut Page) {
        self.sealed = false;
        let Some(lan) = self.lan else { return };
        let links: Vec<LinkInfo> = [Some(lan), self.redundant].into_iter().flatten().collect();
        let mut groups = self.setup.groups.clone();
        for (group, (coming, leaving)) in
            groups.iter_mut().zip(self.coming.iter().zip(&self.leaving))
        {
            unite(&mut group.addresses, coming);
            unite(&mut group.addresses, leaving);
        }
        self.deletions = net::deletions(&groups, &links);
        self.addresses = ips(&groups);
        self.sealed = self.seal(page);
    }

    fn seal(&self, page: &mut Page) -> bool {
        let sealed = page.seal(&self.deletions, &self.addresses, &self.will);
        if let Err(error) = &sealed {
            log::error!("{error}: no group can be served");
        }
        sealed.is_ok()
    }

    /// Adds a group's addresses.
    ///
    /// # Errors
    /// What is in the way; then nothing was asked.
    pub fn claim(&self, group: GroupIndex, claim: u32) -> Result<(), String> {
        if !self.sealed {
            let lan = &self.setup.lan;
            return Err(format!("there is no interface \"{lan}\""));
        }
        let request = NetRequest::Claim { group, claim };
        self.handle.request(request).map_err(|_| "the netlink thread is stuck".to_owned())
    }

    /// A group's addresses as they are in effect, and where each is: the interface and its own MAC, if it
    /// has one. What is about to be added is not among them.
    pub fn addresses(&self, group: GroupIndex) -> impl Iterator<Item = (Nic, Option<Mac>, IpAddr)> {
        let group = self.setup.groups.get(usize::from(group.0));
        group.into_iter().flat_map(|group| {
            group.addresses.iter().map(|address| (group.nic, group.mac.map(Mac), address.ip))
        })
    }

    /// A group has these addresses from now on.
    pub fn change(&mut self, group: GroupIndex, addresses: Vec<ServiceAddress>) {
        let place = usize::from(group.0);
        if let (Some(had), Some(waits)) =
            (self.setup.groups.get_mut(place), self.change_waits.get_mut(place))
        {
            had.addresses = addresses;
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
        for ((group, setup), waits) in groups.zip(&mut self.change_waits) {
            // Nothing is added that the guard does not know of.
            if *waits && self.sealed {
                let (addresses, change) = (setup.addresses.clone(), self.change);
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

fn ips(groups: &[GroupSetup]) -> Vec<IpAddr> {
    groups.iter().flat_map(|group| &group.addresses).map(|address| address.ip).collect()
}

/// Adds those that are not there yet.
fn unite(all: &mut Vec<ServiceAddress>, more: &[ServiceAddress]) {
    for address in more {
        if !all.iter().any(|known| known.ip == address.ip) {
            all.push(*address);
        }
    }
}
