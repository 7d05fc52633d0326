//! The heart's hands on the kernel's addresses: requests to the netlink thread, and what is sealed for the
//! guard: the deletions, before anything is added, and the last will.

use std::net::IpAddr;

use crossbeam_channel::Receiver;

use crate::beat::Farewell;
use crate::config::{GroupIndex, Nic};
use crate::daemon::page::Page;
use crate::net::{self, LinkInfo, NetHandle, NetReply, NetRequest, NetSetup};

/// Sends requests to the netlink thread without ever waiting.
pub struct Hands {
    handle: NetHandle,
    replies: Receiver<NetReply>,
    setup: NetSetup,
    addresses: Vec<IpAddr>,
    /// The interfaces on the LAN: the first and the third.
    lan: Option<LinkInfo>,
    redundant: Option<LinkInfo>,
    /// Deletions that fit these are sealed.
    sealed: bool,
    /// Those deletions.
    deletions: Vec<Vec<u8>>,
    /// The last will, as frames; empty: none may be said.
    will: Vec<Farewell>,
    /// Requests that must not be lost and found the queue full: these, in every round, until sent.
    sweep_waits: bool,
    release_waits: Vec<Option<u32>>,
}

impl Hands {
    /// Takes over the netlink thread.
    pub fn new(handle: NetHandle, replies: Receiver<NetReply>, setup: NetSetup) -> Hands {
        let addresses = setup.groups.iter().flat_map(|group| &group.addresses);
        Hands {
            addresses: addresses.map(|address| address.ip).collect(),
            release_waits: vec![None; setup.groups.len()],
            handle,
            replies,
            setup,
            lan: None,
            redundant: None,
            sealed: false,
            deletions: Vec::new(),
            will: Vec::new(),
            sweep_waits: false,
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
        self.sealed = false;
        let Some(lan) = self.lan else { return };
        let links: Vec<LinkInfo> = [Some(lan), self.redundant].into_iter().flatten().collect();
        self.deletions = net::deletions(&self.setup, &links);
        self.sealed = self.seal(page);
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
        for (group, waits) in (0u8..).map(GroupIndex).zip(&mut self.release_waits) {
            if let Some(release) = *waits
                && self.handle.request(NetRequest::Release { group, release }).is_ok()
            {
                *waits = None;
            }
        }
    }
}
