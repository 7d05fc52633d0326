//! News: what the kernel reports, and the looks that follow from it.

use super::Worker;
use crate::net::addresses::Finding;
use crate::net::netlink::{Body, Change};
use crate::net::request::NetReply;

impl Worker {
    /// Reads what the kernel reports. News only says where to look; the look decides. Returns whether
    /// there may be more.
    pub(in crate::net) fn read_news(&mut self) -> bool {
        let of = |worker: &Worker| {
            let crossover = &worker.crossover;
            (worker.lan_carrier(), crossover.carrier(), crossover.is_down())
        };
        let carriers = of(self);
        let unlooked = std::mem::take(&mut self.unlooked);
        let (mut look_at_addresses, mut look_at_links) = (unlooked, unlooked);
        let mut look_at_own = unlooked;
        let result = {
            let Worker {
                monitor, addresses, lan, redundant, crossover, virtual_links, ears, ..
            } = self;
            monitor.read(&mut |body| match &body {
                Body::Address(address) => look_at_addresses |= addresses.is_unexpected(address),
                Body::AddressGone(address) => look_at_addresses |= addresses.is_missed(address),
                Body::Interface(_) | Body::InterfaceGone(_) => {
                    if let Body::InterfaceGone(index) = &body {
                        ears.forget(*index);
                    }
                    look_at_links |= lan.news(&body) | crossover.news(&body);
                    look_at_links |= redundant.as_mut().is_some_and(|one| one.news(&body));
                    look_at_own |= virtual_links.news(&body);
                }
                Body::Overrun => {
                    (look_at_addresses, look_at_links, look_at_own) = (true, true, true);
                }
                Body::Answer(_) | Body::Done(_) | Body::Other => {}
            })
        };
        let more = result.unwrap_or_else(|error| {
            // News was lost: nothing is known, so look at everything.
            (look_at_addresses, look_at_links, look_at_own) = (true, true, true);
            if error.raw_os_error() != Some(libc::ENOBUFS) {
                self.outbox.fault(format!("news from the kernel was lost: {error}"));
            }
            false
        });
        if look_at_links {
            let (lan, crossover) = self.look_at_links();
            self.unlooked |= lan.is_none() || crossover.is_none();
        }
        self.tell_links();
        if carriers != of(self) {
            self.outbox.put(NetReply::Carrier {
                lan: Some(self.lan_carrier()),
                crossover: Some(self.crossover.carrier()),
                crossover_down: self.crossover.is_down(),
            });
        }
        if look_at_own && let Err(error) = self.virtual_links.look(&mut self.route) {
            self.unlooked = true;
            self.outbox.fault(format!("own interfaces cannot be looked at: {error}"));
        }
        if look_at_addresses || look_at_own {
            self.compare();
        }
        more
    }

    fn compare(&mut self) {
        let found = match self.look() {
            Ok(found) => found,
            Err(error) => {
                self.unlooked = true;
                return self.outbox.fault(format!("addresses cannot be looked at: {error}"));
            }
        };
        let virtual_links = &self.virtual_links;
        for finding in self.addresses.compare(&found, |group| virtual_links.is_broken(group)) {
            match finding {
                Finding::Lost(group) => self.outbox.put(NetReply::AddressLost { group }),
                Finding::Found(group) => self.outbox.put(NetReply::AddressFound { group }),
                Finding::Stray(address) => {
                    let (ip, prefix, index) = (address.ip, address.prefix, address.index);
                    let deleted = self.route.change(&[Change::Delete(address)]);
                    self.unlooked |= deleted.is_err();
                    self.outbox.fault(match deleted {
                        Ok(()) => format!(
                            "somebody added {ip}/{prefix} on interface {index} while it was \
                             served; that copy had no lease and was deleted"
                        ),
                        Err(error) => format!("a second copy of it cannot be deleted: {error}"),
                    });
                }
            }
        }
    }
}
