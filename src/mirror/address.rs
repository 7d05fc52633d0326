//! This node's own link-local address on its crossover interface: where its mirror listens, and what its
//! heartbeats tell the peer.

use std::net::Ipv6Addr;

/// Flags of an address that cannot be used: tentative, or a duplicate (`linux/if_addr.h`).
const UNUSABLE: u32 = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED;

/// The link-local address of an interface; `None` while it has none that can be used: no such
/// interface, it is down, or its address is still being checked for duplicates.
pub fn link_local(interface: &str) -> Option<Ipv6Addr> {
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    find(&table, interface)
}

/// Looks through the kernel's table (net/ipv6/addrconf.c, `if6_seq_show`): address, interface's index,
/// prefix length, scope and flags in hex, and the interface's name.
fn find(table: &str, interface: &str) -> Option<Ipv6Addr> {
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let address = u128::from_str_radix(fields.next()?, 16).ok().map(Ipv6Addr::from_bits)?;
        let flags = u32::from_str_radix(fields.nth(3)?, 16).ok()?;
        let usable = address.is_unicast_link_local() && flags & UNUSABLE == 0;
        (usable && fields.next() == Some(interface)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_usable_link_local_address_of_that_interface_counts() {
        let table = "\
            00000000000000000000000000000001 01 80 10 80       lo\n\
            20010db8000000000000000000000007 03 40 00 80     eth1\n\
            fe8000000000000002163efffe000001 02 40 20 80     eth0\n\
            fe80000000000000000000000000000a 03 40 20 c0     eth1\n\
            fe80000000000000000000000000000b 03 40 20 88     eth1\n\
            broken\n\
            fe8000000000000002163efffe000002 03 40 20 80     eth1\n";
        let expected = Some("fe80::216:3eff:fe00:2".parse().unwrap());
        assert_eq!(find(table, "eth1"), expected);
        assert_eq!(find(table, "eth"), None);
        assert_eq!(find(table, "lo"), None);
        assert_eq!(find("", "eth1"), None);
    }

    #[test]
    fn the_kernels_own_table_is_understood() {
        assert_eq!(link_local("lo"), None);
        assert_eq!(link_local("no-such-one"), None);
    }
}
