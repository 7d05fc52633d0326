//! What the guard does with addresses when the heart is gone: it sends deletions that were built in
//! advance and looks whether they worked. It parses nothing of ours and allocates nothing.

use std::io;
use std::net::IpAddr;

use super::link_messages::{LinkChange, VirtualName};
use super::netlink::{Change, is_gone};
use super::request::{GroupSetup, LinkInfo};
use super::route_socket::RouteSocket;
use crate::config::GroupIndex;

/// The requests that take everything away, to be kept ready in the page that heart and guard share. The
/// guard sends each with [`delete_all`]: an RTM_DELLINK for the interface of each group with its own
/// MAC, an RTM_DELADDR for every other service address on the LAN interface, and where there are such
/// interfaces an RTM_SETLINK that gives those on the LAN their settings back. `links`: those on the
/// LAN, the LAN interface first.
pub fn deletions(groups: &[GroupSetup], links: &[LinkInfo]) -> Vec<Vec<u8>> {
    let mut changes = Vec::new();
    for (index, group) in (0u8..).map(GroupIndex).zip(groups) {
        if group.mac.is_some() {
            changes.push(Change::Link(LinkChange::Delete { name: VirtualName(index) }));
        } else if let Some(lan) = links.first() {
            let ips = group.addresses.iter().map(|address| address.ip);
            changes.extend(ips.map(|ip| Change::Remove { index: lan.index, ip }));
        }
    }
    if groups.iter().any(|group| group.mac.is_some()) {
        let set = |link: &LinkInfo| Some(LinkChange::Set { index: link.index, ipv4: link.ipv4? });
        changes.extend(links.iter().filter_map(set).map(Change::Link));
    }
    (1u32..)
        .zip(changes)
        .map(|(sequence, change)| {
            let mut request = Vec::new();
            change.build(sequence, &mut request);
            request
        })
        .collect()
}

/// Sends every deletion, even if one fails. An address that is not there counts as deleted.
///
/// # Errors
/// The last failure. Whatever is returned, only [`any_held`] tells whether they are gone.
pub fn delete_all<'a>(
    socket: &mut RouteSocket,
    deletions: impl IntoIterator<Item = &'a [u8]>,
) -> io::Result<()> {
    let mut result = Ok(());
    for deletion in deletions {
        match socket.send_built(deletion) {
            Ok(()) => {}
            Err(error) if error.raw_os_error().is_some_and(is_gone) => {}
            Err(error) => result = Err(error),
        }
    }
    result
}

/// Whether one of `ips` is on any interface of this host.
///
/// # Errors
/// The kernel could not be asked: then nothing is known.
pub fn any_held(socket: &mut RouteSocket, ips: &[IpAddr]) -> io::Result<bool> {
    let mut held = false;
    socket.addresses(&mut |address| held |= ips.contains(&address.ip))?;
    Ok(held)
}
