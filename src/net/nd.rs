//! Neighbour discovery frames: solicitations (NS) and advertisements (NA) (RFC 4861, RFC 4862).

use std::net::{IpAddr, Ipv6Addr};

use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::{
    MutableNeighborAdvertPacket, MutableNeighborSolicitPacket, NdpOptionTypes, NeighborAdvertFlags,
    NeighborAdvertPacket, NeighborSolicitPacket,
};
use pnet::packet::icmpv6::{Icmpv6Packet, Icmpv6Type, Icmpv6Types, MutableIcmpv6Packet, checksum};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::{Ipv6Packet, MutableIpv6Packet};
use pnet::packet::{MutablePacket, Packet};
use pnet::util::MacAddr;

use super::lan_watch::{Refused, Seen};

/// Every neighbour discovery packet has this hop limit, so none was forwarded (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
/// Length of Ethernet and IPv6 header, of NS and NA without options, and of one link-layer address
/// option, in bytes.
const HEADERS_BYTES: usize = 14 + 40;
const FIXED_BYTES: usize = 24;
const OPTION_BYTES: usize = 8;

/// All nodes of the link.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// The solicited-node multicast address of `ip` (RFC 4291, 2.7.1).
pub fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of an IPv6 multicast address (RFC 2464, 7).
pub fn multicast_mac(ip: Ipv6Addr) -> [u8; 6] {
    let [.., a, b, c, d] = ip.octets();
    [0x33, 0x33, a, b, c, d]
}

/// A solicitation as duplicate address detection sends it, from nobody (RFC 4862, 5.4.2): the holder
/// answers to all nodes, and nobody learns anything from it.
pub fn probe(mac: [u8; 6], target: Ipv6Addr) -> Vec<u8> {
    let source = Ipv6Addr::UNSPECIFIED;
    frame(mac, source, solicited_node(target), Icmpv6Types::NeighborSolicit, target, None)
}

/// A solicitation from an address of this host (RFC 4861, 4.3); the answer comes to it alone.
pub fn solicitation(mac: [u8; 6], source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let option = Some(NdpOptionTypes::SourceLLAddr.0);
    frame(mac, source, solicited_node(target), Icmpv6Types::NeighborSolicit, target, option)
}

/// An unasked advertisement that `ip` is at `mac`, overriding what hosts knew (RFC 4861, 7.2.6).
pub fn announcement(mac: [u8; 6], ip: Ipv6Addr) -> Vec<u8> {
    let option = Some(NdpOptionTypes::TargetLLAddr.0);
    frame(mac, ip, ALL_NODES, Icmpv6Types::NeighborAdvert, ip, option)
}

fn frame(
    mac: [u8; 6],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: Icmpv6Type,
    target: Ipv6Addr,
    mac_option: Option<u8>,
) -> Vec<u8> {
    let payload_bytes = FIXED_BYTES + if mac_option.is_some() { OPTION_BYTES } else { 0 };
    let mut bytes = vec![0; HEADERS_BYTES + payload_bytes];
    if let Some(option) = mac_option
        && let Some(tail) = bytes.get_mut(HEADERS_BYTES + FIXED_BYTES..)
    {
        let [a, b, c, d, e, f] = mac;
        tail.copy_from_slice(&[option, 1, a, b, c, d, e, f]);
    }
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut bytes) {
        ethernet.set_destination(MacAddr::from(multicast_mac(destination)));
        ethernet.set_source(MacAddr::from(mac));
        ethernet.set_ethertype(EtherTypes::Ipv6);
        if let Some(mut ip) = MutableIpv6Packet::new(ethernet.payload_mut()) {
            ip.set_version(6);
            ip.set_payload_length(u16::try_from(payload_bytes).unwrap_or(0));
            ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
            ip.set_hop_limit(HOP_LIMIT);
            ip.set_source(source);
            ip.set_destination(destination);
            fill(ip.payload_mut(), kind, target, source, destination);
        }
    }
    bytes
}

fn fill(
    payload: &mut [u8],
    kind: Icmpv6Type,
    target: Ipv6Addr,
    source: Ipv6Addr,
    destination: Ipv6Addr,
) {
    if kind == Icmpv6Types::NeighborAdvert {
        if let Some(mut advert) = MutableNeighborAdvertPacket::new(payload) {
            advert.set_flags(NeighborAdvertFlags::Override);
            advert.set_target_addr(target);
        }
    } else if let Some(mut solicit) = MutableNeighborSolicitPacket::new(payload) {
        solicit.set_target_addr(target);
    }
    if let Some(mut icmp) = MutableIcmpv6Packet::new(payload) {
        icmp.set_icmpv6_type(kind);
        let sum = checksum(&icmp.to_immutable(), &source, &destination);
        icmp.set_checksum(sum);
    }
}

/// Reads a frame that another host sent, with the checks of RFC 4861, 7.1.
///
/// # Errors
/// Why it says nothing.
pub fn read(bytes: &[u8]) -> Result<Seen, Refused> {
    let ethernet = EthernetPacket::new(bytes).ok_or(Refused::Short)?;
    let ip = Ipv6Packet::new(ethernet.payload()).ok_or(Refused::Short)?;
    if ethernet.get_ethertype() != EtherTypes::Ipv6
        || ip.get_version() != 6
        || ip.get_next_header() != IpNextHeaderProtocols::Icmpv6
    {
        return Err(Refused::OtherProtocol);
    }
    // The frame may carry padding behind the packet, which is no part of it.
    let length = usize::from(ip.get_payload_length());
    let rest = bytes.get(HEADERS_BYTES..).ok_or(Refused::Short)?;
    let payload = rest.get(..length).ok_or(Refused::Short)?;
    let icmp = Icmpv6Packet::new(payload).ok_or(Refused::Short)?;
    if !matches!(icmp.get_icmpv6_type(), Icmpv6Types::NeighborSolicit | Icmpv6Types::NeighborAdvert)
    {
        return Err(Refused::OtherProtocol);
    }
    let (source, destination) = (ip.get_source(), ip.get_destination());
    if ip.get_hop_limit() != HOP_LIMIT || icmp.get_icmpv6_code().0 != 0 || source.is_multicast() {
        return Err(Refused::Malformed);
    }
    if checksum(&icmp, &source, &destination) != icmp.get_checksum() {
        return Err(Refused::BadChecksum);
    }
    let options = payload.get(FIXED_BYTES..).ok_or(Refused::Short)?;
    let from = ethernet.get_source().octets();
    if icmp.get_icmpv6_type() == Icmpv6Types::NeighborAdvert {
        let advert = NeighborAdvertPacket::new(payload).ok_or(Refused::Short)?;
        let mac = mac_option(options, NdpOptionTypes::TargetLLAddr.0)?.unwrap_or(from);
        let (ip, mac) = one_host(advert.get_target_addr(), mac)?;
        return Ok(Seen::Answer { ip, mac, to: ethernet.get_destination().octets() });
    }
    let solicit = NeighborSolicitPacket::new(payload).ok_or(Refused::Short)?;
    let option = mac_option(options, NdpOptionTypes::SourceLLAddr.0)?;
    let target = solicit.get_target_addr();
    if !source.is_unspecified() {
        let (ip, mac) = one_host(source, option.unwrap_or(from))?;
        return Ok(Seen::Uses { ip, mac });
    }
    if target.is_multicast() || option.is_some() || destination != solicited_node(target) {
        return Err(Refused::Malformed);
    }
    Ok(Seen::Probe { ip: IpAddr::V6(target), mac: from })
}

fn one_host(ip: Ipv6Addr, mac: [u8; 6]) -> Result<(IpAddr, [u8; 6]), Refused> {
    if ip.is_multicast() || ip.is_unspecified() || mac[0] & 1 != 0 || mac == [0; 6] {
        return Err(Refused::Malformed);
    }
    Ok((IpAddr::V6(ip), mac))
}

/// The link-layer address option of that type, if there is one. An option's length counts eights of
/// bytes, and 0 is invalid. (The packet crate's own option reader overflows on hostile lengths.)
fn mac_option(mut options: &[u8], wanted: u8) -> Result<Option<[u8; 6]>, Refused> {
    while let [kind, eights, ..] = *options {
        let length = usize::from(eights) * OPTION_BYTES;
        let option = options.get(..length).filter(|option| !option.is_empty());
        let option = option.ok_or(Refused::Malformed)?;
        if kind == wanted
            && let [_, _, a, b, c, d, e, f] = *option
        {
            return Ok(Some([a, b, c, d, e, f]));
        }
        options = options.get(length..).unwrap_or(&[]);
    }
    if options.is_empty() { Ok(None) } else { Err(Refused::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn unicast() -> impl Strategy<Value = Ipv6Addr> {
        (0u128..).prop_map(|bits| Ipv6Addr::from(bits >> 4 | 1 << 125))
    }

    /// A frame with its bytes changed by `edit` and its checksum made right again.
    fn edited(mut frame: Vec<u8>, edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        edit(&mut frame);
        let address =
            |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
        let (source, destination) = (address(22), address(38));
        let mut icmp = MutableIcmpv6Packet::new(&mut frame[HEADERS_BYTES..]).unwrap();
        let sum = checksum(&icmp.to_immutable(), &source, &destination);
        icmp.set_checksum(sum);
        frame
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }

        /// With a right checksum the bytes get as far as the option reader.
        #[test]
        fn random_options_never_panic(
            options in proptest::collection::vec(any::<u8>(), 0..100), advert in any::<bool>(),
            ip in unicast(),
        ) {
            let frame = if advert { announcement(MAC, ip) } else { solicitation(MAC, ip, ip) };
            let frame = edited(frame, |frame| {
                frame.truncate(HEADERS_BYTES + FIXED_BYTES);
                frame.extend(&options);
                let length = (FIXED_BYTES + options.len()) as u16;
                frame[18..20].copy_from_slice(&length.to_be_bytes());
            });
            let result = read(&frame);
            prop_assert!(matches!(result, Ok(_) | Err(Refused::Malformed)), "{:?}", result);
        }

        #[test]
        fn any_flipped_bit_behind_the_header_is_refused(
            place in HEADERS_BYTES..HEADERS_BYTES + FIXED_BYTES, bit in 0..8u32, ip in unicast(),
        ) {
            let mut frame = announcement(MAC, ip);
            frame[place] ^= 1 << bit;
            prop_assert!(read(&frame).is_err());
        }

        #[test]
        fn a_cut_frame_is_refused(length in 0usize..86, ip in unicast()) {
            prop_assert!(read(&announcement(MAC, ip)[..length]).is_err());
        }

        #[test]
        fn what_is_built_is_read_again(from in unicast(), ip in unicast()) {
            let seen = Ok(Seen::Probe { ip: ip.into(), mac: MAC });
            prop_assert_eq!(read(&probe(MAC, ip)), seen);
            let seen = Ok(Seen::Uses { ip: from.into(), mac: MAC });
            prop_assert_eq!(read(&solicitation(MAC, from, ip)), seen);
            let to = [0x33, 0x33, 0, 0, 0, 1];
            let seen = Ok(Seen::Answer { ip: from.into(), mac: MAC, to });
            prop_assert_eq!(read(&announcement(MAC, from)), seen);
        }
    }

    #[test]
    fn a_forwarded_packet_is_refused() {
        let mut frame = announcement(MAC, "2001:db8::50".parse().unwrap());
        frame[21] = 254;
        assert_eq!(read(&frame), Err(Refused::Malformed));
    }

    #[test]
    fn padding_behind_the_packet_is_no_part_of_it() {
        let ip = "2001:db8::50".parse().unwrap();
        let mut frame = announcement(MAC, ip);
        frame.extend([0; 20]);
        assert_eq!(read(&frame), read(&announcement(MAC, ip)));
        assert!(read(&frame).is_ok());
    }

    #[test]
    fn multicast_addresses_are_those_of_the_rfcs() {
        let group = solicited_node("2001:db8::12:3456:789a".parse().unwrap());
        assert_eq!(group, "ff02::1:ff56:789a".parse::<Ipv6Addr>().unwrap());
        assert_eq!(multicast_mac(group), [0x33, 0x33, 0xff, 0x56, 0x78, 0x9a]);
    }
}
