//! What the guard does with addresses when the heart is gone: it sends deletions that were built in
//! advance and looks whether they worked. It parses nothing of ours and allocates nothing.

use std::io;
use std::net::IpAddr;

use super::netlink::{Change, is_gone};
use super::route_socket::RouteSocket;

/// One RTM_DELADDR request for each of these addresses on the LAN interface, to be kept ready in the
/// page that heart and guard share. The guard sends each with [`delete_all`].
pub fn deletions(addresses: &[IpAddr], lan_index: u32) -> Vec<Vec<u8>> {
    (1u32..)
        .zip(addresses)
        .map(|(sequence, &ip)| {
            let mut request = Vec::new();
            Change::Remove { index: lan_index, ip }.build(sequence, &mut request);
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
