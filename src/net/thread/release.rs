//! Releases: what is there of a group is deleted until a look finds nothing.

use std::io;

use super::Worker;
use crate::config::GroupIndex;
use crate::limits::NET_TRIES;
use crate::net::addresses::Hold;
use crate::net::netlink::{Address, Change};
use crate::net::request::NetReply;

impl Worker {
    /// Deletes the interfaces of the groups that are being released, and what a look finds of them,
    /// until it finds nothing.
    pub(super) fn finish_releases(&mut self) {
        self.delete_what_is_released();
        if let Err(error) = self.virtual_links.loosen(&mut self.route) {
            self.outbox.fault(format!("settings on the LAN cannot be restored: {error}"));
        }
    }

    fn delete_what_is_released(&mut self) {
        for _ in 0..NET_TRIES {
            let gone = self.delete_virtual_links().unwrap_or_else(|error| {
                self.outbox.fault(format!("an interface of clusterd cannot be removed: {error}"));
                false
            });
            let found = match self.look() {
                Ok(found) => found,
                Err(error) => {
                    return self.outbox.fault(format!("a release cannot be verified: {error}"));
                }
            };
            let left = self.settle_releases(&found, gone);
            if left.is_empty() && gone {
                return;
            }
            if let Err(error) = self.route.change(&left) {
                self.outbox.fault(format!("a service address cannot be deleted: {error}"));
            }
        }
        self.outbox.fault(
            "a service address or an interface of clusterd comes back each time it is deleted: is it in the host's \
             network configuration?"
                .into(),
        );
    }

    /// Deletes the own interfaces of the groups that are being released; whether none is left.
    fn delete_virtual_links(&mut self) -> io::Result<bool> {
        if self.sweeping {
            return self.virtual_links.delete_all(&mut self.route);
        }
        let mut gone = true;
        for group in self.addresses.releasing() {
            gone &= self.virtual_links.delete(&mut self.route, group)?;
        }
        Ok(gone)
    }

    /// Answers the releases of which nothing was found, if no interface of ours is left either; returns
    /// the deletions for the others.
    fn settle_releases(&mut self, found: &[Address], gone: bool) -> Vec<Change> {
        let mut left = Vec::new();
        let deleting: Vec<GroupIndex> = self.addresses.deleting().collect();
        for group in deleting {
            let here = found.iter().filter(|address| self.addresses.is_doomed(group, address.ip));
            let before = left.len();
            left.extend(here.map(|&address| Change::Delete(address)));
            if left.len() > before {
                continue;
            }
            self.addresses.has_left(group);
            if let Hold::Releasing { asked } = self.addresses.hold(group)
                && gone
            {
                self.addresses.set(group, Hold::Free);
                if let Some(release) = asked {
                    self.outbox.put(NetReply::Released { group, release });
                }
            }
        }
        if let Some(change) = self.changed.filter(|_| !self.addresses.is_leaving()) {
            self.changed = None;
            self.outbox.put(NetReply::Trimmed { change });
        }
        if self.sweeping && left.is_empty() && gone {
            self.sweeping = false;
            self.outbox.put(NetReply::Swept);
        }
        left
    }
}
