//! Which group is claimed, and how that compares with the addresses that the kernel has. No socket
//! in here: the thread looks, this judges.
//!
//! ```text
//!            claim               release, sweep             a look finds none
//!   Free ------------> Claimed ------------------> Releasing -----------------> Free
//!    ^                  | ^  |                        ^  |
//!    '--- refused ------' '--' claim again            |  '-- claim --> Claimed
//!   Free ------------- release, sweep ----------------'
//! ```

use std::net::IpAddr;
use std::time::Instant;

use super::netlink::{Address, host_prefix};
use super::request::GroupSetup;
use crate::config::GroupIndex;

/// What this node wants with a group's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// None of them should be here.
    Free,
    /// Being deleted, until a look finds none.
    Releasing {
        /// Somebody waits for the answer of this release.
        asked: Option<u32>,
    },
    /// Leased on the interface of that index.
    Claimed {
        /// Number of the claim.
        claim: u32,
        /// Index of the interface on which it was claimed.
        index: u32,
        /// When the last renewal that was acknowledged had been sent: the kernel's lease ends at
        /// least one lease after it.
        leased_at: Instant,
    },
}

/// What a look says about one group that was not so before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Claimed, but one of its addresses is not there, or its interface is not as it should be.
    Lost(GroupIndex),
    /// Not claimed, but one of its addresses is there.
    Found(GroupIndex),
    /// Claimed, and another copy of the address, without our lease, is there as well.
    Stray(Address),
}

#[derive(Debug)]
struct Group {
    ips: Vec<IpAddr>,
    /// Its addresses no more, and not yet seen to be gone.
    leaving: Vec<IpAddr>,
    /// Those that the kernel refuses to lease, while it leases others of the claim.
    refused: Vec<IpAddr>,
    hold: Hold,
    told_lost: bool,
    told_found: bool,
}

/// All groups.
#[derive(Debug)]
pub struct Addresses {
    groups: Vec<Group>,
}

impl Addresses {
    /// All groups free.
    pub fn new(groups: &[GroupSetup]) -> Addresses {
        let group = |group: &GroupSetup| Group {
            ips: group.addresses.iter().map(|address| address.ip).collect(),
            leaving: Vec::new(),
            refused: Vec::new(),
            hold: Hold::Free,
            told_lost: false,
            told_found: false,
        };
        Addresses { groups: groups.iter().map(group).collect() }
    }

    fn indexed(&self) -> impl Iterator<Item = (GroupIndex, &Group)> {
        (0u8..).map(GroupIndex).zip(&self.groups)
    }

    /// The addresses of all groups.
    pub fn all_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.groups.iter().flat_map(|group| &group.ips).copied()
    }

    /// The group's addresses; none for a group that does not exist.
    pub fn ips(&self, group: GroupIndex) -> &[IpAddr] {
        self.groups.get(usize::from(group.0)).map_or(&[], |group| &group.ips)
    }

    /// Those that the kernel refuses.
    pub fn refused(&self, group: GroupIndex) -> &[IpAddr] {
        self.groups.get(usize::from(group.0)).map_or(&[], |group| &group.refused)
    }

    /// The kernel refuses these now; whether that is news.
    pub fn refuse(&mut self, group: GroupIndex, refused: &[IpAddr]) -> bool {
        let Some(group) = self.groups.get_mut(usize::from(group.0)) else { return false };
        let news = group.refused != refused;
        group.refused = refused.to_vec();
        news
    }

    /// Those of the group's that a claim has.
    pub fn claimed(&self, group: GroupIndex) -> Vec<IpAddr> {
        let all = self.ips(group).iter().copied();
        all.filter(|ip| !self.refused(group).contains(ip)).collect()
    }

    /// What is wanted with the group.
    pub fn hold(&self, group: GroupIndex) -> Hold {
        self.groups.get(usize::from(group.0)).map_or(Hold::Free, |group| group.hold)
    }

    /// Sets what is wanted with the group; what is told about it starts again.
    pub fn set(&mut self, group: GroupIndex, hold: Hold) {
        if let Some(group) = self.groups.get_mut(usize::from(group.0)) {
            group.hold = hold;
            if !matches!(hold, Hold::Claimed { .. }) {
                group.refused.clear();
            }
            group.told_lost = false;
            group.told_found = false;
        }
    }

    /// Sets all groups to be deleted. A release that was asked for stays asked for.
    pub fn release_all(&mut self) {
        for group in &mut self.groups {
            let asked = match group.hold {
                Hold::Releasing { asked } => asked,
                Hold::Free | Hold::Claimed { .. } => None,
            };
            group.hold = Hold::Releasing { asked };
        }
    }

    /// Sets the group's addresses; returns those that it did not have.
    pub fn change(&mut self, group: GroupIndex, ips: Vec<IpAddr>) -> Vec<IpAddr> {
        let Some(group) = self.groups.get_mut(usize::from(group.0)) else { return Vec::new() };
        let new = ips.iter().copied().filter(|ip| !group.ips.contains(ip)).collect();
        let before = std::mem::replace(&mut group.ips, ips);
        group.leaving.extend(before);
        group.leaving.retain(|ip| !group.ips.contains(ip));
        new
    }

    /// The groups that are being deleted.
    pub fn releasing(&self) -> impl Iterator<Item = GroupIndex> {
        self.indexed()
            .filter(|(_, group)| matches!(group.hold, Hold::Releasing { .. }))
            .map(|(index, _)| index)
    }

    /// The groups of which something is being deleted: all of them, or what they have no more.
    pub fn deleting(&self) -> impl Iterator<Item = GroupIndex> {
        let deletes = |group: &Group| {
            matches!(group.hold, Hold::Releasing { .. }) || !group.leaving.is_empty()
        };
        self.indexed().filter(move |(_, group)| deletes(group)).map(|(index, _)| index)
    }

    /// Whether this address of the group is being deleted.
    pub fn is_doomed(&self, group: GroupIndex, ip: IpAddr) -> bool {
        self.groups.get(usize::from(group.0)).is_some_and(|group| {
            let released = matches!(group.hold, Hold::Releasing { .. });
            group.leaving.contains(&ip) || (released && group.ips.contains(&ip))
        })
    }

    /// What the group has no more is gone from this host.
    pub fn has_left(&mut self, group: GroupIndex) {
        if let Some(group) = self.groups.get_mut(usize::from(group.0)) {
            group.leaving.clear();
        }
    }

    /// Whether something that a group has no more may still be here.
    pub fn is_leaving(&self) -> bool {
        self.groups.iter().any(|group| !group.leaving.is_empty())
    }

    /// The group that an address belongs to, or did until it is gone.
    pub fn group_of(&self, ip: IpAddr) -> Option<GroupIndex> {
        let has = |group: &Group| group.ips.contains(&ip) || group.leaving.contains(&ip);
        self.indexed().find(|(_, group)| has(group)).map(|(index, _)| index)
    }

    /// Whether news that this address is there can be of interest: it is a service address, and not
    /// the one that our own claims and renewals bring.
    pub fn is_unexpected(&self, address: &Address) -> bool {
        match self.group_of(address.ip).map(|group| self.hold(group)) {
            None | Some(Hold::Releasing { .. }) => false,
            Some(Hold::Free) => true,
            Some(Hold::Claimed { index, .. }) => !is_ours(address, index),
        }
    }

    /// Whether news that this address is gone can be of interest: it is claimed.
    pub fn is_missed(&self, address: &Address) -> bool {
        self.group_of(address.ip)
            .is_some_and(|group| matches!(self.hold(group), Hold::Claimed { .. }))
    }

    /// Compares with what a look found (service addresses only); `is_broken` says of which groups the
    /// interface is not as it should be. Each state is told once, until it has changed.
    pub fn compare(
        &mut self,
        found: &[Address],
        is_broken: impl Fn(GroupIndex) -> bool,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (number, group) in (0u8..).map(GroupIndex).zip(&mut self.groups) {
            let mine = || found.iter().filter(|address| group.ips.contains(&address.ip));
            let (lost, appeared) = match group.hold {
                Hold::Releasing { .. } => (false, false),
                Hold::Free => (false, mine().next().is_some()),
                Hold::Claimed { index, .. } => {
                    findings.extend(
                        mine()
                            .filter(|address| !is_ours(address, index))
                            .map(|&a| Finding::Stray(a)),
                    );
                    let claimed = group.ips.iter().filter(|ip| !group.refused.contains(ip));
                    let claimed: Vec<IpAddr> = claimed.copied().collect();
                    (is_broken(number) || !all_leased(&claimed, found, index), false)
                }
            };
            if lost && !group.told_lost {
                findings.push(Finding::Lost(number));
            }
            if appeared && !group.told_found {
                findings.push(Finding::Found(number));
            }
            group.told_lost = lost;
            group.told_found = appeared;
        }
        findings
    }
}

/// Whether this is the copy of a service address that a claim on that interface makes.
pub fn is_ours(address: &Address, index: u32) -> bool {
    address.index == index && address.prefix == host_prefix(address.ip) && address.far == address.ip
}

/// Whether every one of `ips` is on the interface as a claim makes it, with a lease that ends.
pub fn all_leased(ips: &[IpAddr], found: &[Address], index: u32) -> bool {
    ips.iter().all(|&ip| {
        found
            .iter()
            .any(|address| address.ip == ip && is_ours(address, index) && !address.permanent)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Nic, ServiceAddress};

    const GROUP: GroupIndex = GroupIndex(0);

    fn addresses() -> Addresses {
        let ip = "192.0.2.50".parse().unwrap();
        let addresses = vec![ServiceAddress { ip, prefix: 24 }];
        Addresses::new(&[GroupSetup { addresses, nic: Nic::Lan, mac: None }])
    }

    fn found(index: u32, prefix: u8, permanent: bool) -> Address {
        let ip = "192.0.2.50".parse().unwrap();
        Address { ip, far: ip, index, prefix, permanent }
    }

    fn claim(addresses: &mut Addresses) {
        let leased_at = Instant::now();
        addresses.set(GROUP, Hold::Claimed { claim: 1, index: 2, leased_at });
    }

    #[test]
    fn a_loss_is_told_once_and_again_after_it_was_repaired() {
        let mut addresses = addresses();
        claim(&mut addresses);
        assert_eq!(addresses.compare(&[], |_| false), [Finding::Lost(GROUP)]);
        assert_eq!(addresses.compare(&[], |_| false), []);
        assert_eq!(addresses.compare(&[found(2, 32, false)], |_| false), []);
        assert_eq!(addresses.compare(&[], |_| false), [Finding::Lost(GROUP)]);
    }

    #[test]
    fn a_broken_interface_is_a_loss() {
        let mut addresses = addresses();
        claim(&mut addresses);
        let here = [found(2, 32, false)];
        assert_eq!(addresses.compare(&here, |group| group == GROUP), [Finding::Lost(GROUP)]);
        assert_eq!(addresses.compare(&here, |group| group == GROUP), []);
        assert_eq!(addresses.compare(&here, |_| false), []);
    }

    #[test]
    fn an_address_without_end_is_not_our_lease() {
        let mut addresses = addresses();
        claim(&mut addresses);
        assert_eq!(addresses.compare(&[found(2, 32, true)], |_| false), [Finding::Lost(GROUP)]);
    }

    #[test]
    fn a_copy_beside_the_claim_is_a_stray() {
        let mut addresses = addresses();
        claim(&mut addresses);
        let stray = found(3, 32, true);
        assert_eq!(
            addresses.compare(&[found(2, 32, false), stray], |_| false),
            [Finding::Stray(stray)]
        );
        assert!(addresses.is_unexpected(&stray));
        assert!(!addresses.is_unexpected(&found(2, 32, false)));
    }

    #[test]
    fn a_change_takes_out_and_puts_in() {
        let mut addresses = addresses();
        claim(&mut addresses);
        let [old, new]: [IpAddr; 2] = ["192.0.2.50", "192.0.2.51"].map(|ip| ip.parse().unwrap());
        assert_eq!(addresses.change(GROUP, vec![new]), [new]);
        assert!(addresses.is_doomed(GROUP, old) && !addresses.is_doomed(GROUP, new));
        assert!(addresses.deleting().eq([GROUP]) && addresses.is_leaving());
        // Still looked for, and not missed when it goes.
        assert_eq!(addresses.group_of(old), Some(GROUP));
        assert_eq!(addresses.compare(&[found(2, 32, false)], |_| false), [Finding::Lost(GROUP)]);
        // Back before it was gone: it stays.
        assert_eq!(addresses.change(GROUP, vec![old]), [old]);
        assert!(!addresses.is_doomed(GROUP, old) && addresses.is_doomed(GROUP, new));
        addresses.has_left(GROUP);
        assert!(addresses.deleting().next().is_none() && !addresses.is_leaving());
        assert_eq!(addresses.group_of(new), None);
    }

    #[test]
    fn an_address_that_appears_unclaimed_is_found_once() {
        let mut addresses = addresses();
        assert_eq!(addresses.compare(&[found(7, 24, true)], |_| false), [Finding::Found(GROUP)]);
        assert_eq!(addresses.compare(&[found(7, 24, true)], |_| false), []);
        addresses.set(GROUP, Hold::Releasing { asked: Some(1) });
        assert_eq!(addresses.compare(&[found(7, 24, true)], |_| false), []);
    }
}
