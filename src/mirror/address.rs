//! The link-local address by which the peer reaches this node over the crossover.

use std::fs;
use std::io;
use std::net::Ipv6Addr;

use crate::net::interface_index;

/// Each line an address of the thread's own network namespace: the address, its interface's index, the
/// prefix length, scope and flags, all in hexadecimal, and the interface's name (if6_seq_show() in
/// net/ipv6/addrconf.c). Unlike getifaddrs(3) it has the flags.
const TABLE: &str = "/proc/thread-self/net/if_inet6";

/// Flags of an address that cannot be used: IFA_F_TENTATIVE (duplicates are still looked for) and
/// IFA_F_DADFAILED (there is one), as in linux/if_addr.h.
const UNUSABLE: u8 = 0x40 | 0x08;

/// A link-local address and the interface that it is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkLocal {
    /// The address.
    pub address: Ipv6Addr,
    /// Index of the interface, which is the address's scope id.
    pub index: u32,
}

/// The link-local address of `interface`, a name or altname, that can be used now; the lowest one if it has several.
/// `None`: it has none, not yet, or is not there.
///
/// # Errors
/// The kernel's table cannot be read, or not be understood.
pub fn link_local(interface: &str) -> io::Result<Option<LinkLocal>> {
    let index = match interface_index(interface) {
        Ok(index) => index,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
        Err(error) => return Err(error),
    };
    match fs::read_to_string(TABLE) {
        Ok(table) => lowest(&table, index),
        // A kernel without IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn lowest(table: &str, index: u32) -> io::Result<Option<LinkLocal>> {
    let mut found: Option<LinkLocal> = None;
    for line in table.lines() {
        let (local, flags) = parse(line).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{TABLE} has the line `{line}`"))
        })?;
        let usable = local.index == index
            && local.address.is_unicast_link_local()
            && flags & UNUSABLE == 0
            && found.is_none_or(|other| local.address < other.address);
        if usable {
            found = Some(local);
        }
    }
    Ok(found)
}

fn parse(line: &str) -> Option<(LinkLocal, u8)> {
    let mut words = line.split_ascii_whitespace();
    let address = u128::from_str_radix(words.next()?, 16).ok()?.into();
    let index = u32::from_str_radix(words.next()?, 16).ok()?;
    let (_prefix, _scope) = (words.next()?, words.next()?);
    let flags = u8::from_str_radix(words.next()?, 16).ok()?;
    Some((LinkLocal { address, index }, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "\
fd000000000000000000000000000002 04 40 00 82     eth0
00000000000000000000000000000001 01 80 10 80       lo
fe8000000000000000fc00fffe000002 04 40 20 80     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
fe800000000000000000000000000001 04 40 20 c0     eth0
fe800000000000000000000000000002 04 40 20 88     eth0
fe80000000000000000000000000000a 1f 40 20 c0    cross
";

    #[test]
    fn the_lowest_that_is_ready() {
        let address = "fe80::fc:ff:fe00:1".parse().unwrap();
        assert_eq!(lowest(SHOWN, 4).unwrap(), Some(LinkLocal { address, index: 4 }));
        assert_eq!(lowest(SHOWN, 0).unwrap(), None);
        assert_eq!(lowest(SHOWN, 1).unwrap(), None);
        assert_eq!(lowest(SHOWN, 31).unwrap(), None, "tentative");
        let ready = SHOWN.replace("1f 40 20 c0", "1f 40 20 80");
        let address = "fe80::a".parse().unwrap();
        assert_eq!(lowest(&ready, 31).unwrap(), Some(LinkLocal { address, index: 31 }));
    }

    #[test]
    fn a_table_that_is_not_understood() {
        assert!(lowest("fe80000000000000000000000000000a 1f 40\n", 31).is_err());
        assert!(lowest("what 04 40 20 80 eth0\n", 4).is_err());
    }

    #[test]
    fn the_kernels_table_is_understood() {
        assert_eq!(link_local("no such one").unwrap(), None);
    }
}
