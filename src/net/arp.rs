//! ARP frames for IPv4 over Ethernet (RFC 826, RFC 5227).

use std::net::{IpAddr, Ipv4Addr};

use pnet::packet::arp::{
    ArpHardwareTypes, ArpOperation, ArpOperations, ArpPacket, MutableArpPacket,
};
use pnet::packet::ethernet::{EtherTypes, EthernetPacket, MutableEthernetPacket};
use pnet::packet::{MutablePacket, Packet};
use pnet::util::MacAddr;

use super::lan_watch::{Refused, Seen};

/// Length of an ARP frame, in bytes: 14 of Ethernet, 28 of ARP.
pub const FRAME_BYTES: usize = 42;

/// A request: who has `target`? `sender` 0.0.0.0 makes it a probe (RFC 5227, 2.1.1), which teaches
/// nobody anything; `sender` equal to `target` an announcement (RFC 5227, 2.3).
pub fn request(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> [u8; FRAME_BYTES] {
    frame(ArpOperations::Request, mac, sender, [0; 6], target)
}

/// An unasked reply that `ip` is at `mac`: for hosts that update only from replies. They expect the
/// same MAC as sender and target.
pub fn announcing_reply(mac: [u8; 6], ip: Ipv4Addr) -> [u8; FRAME_BYTES] {
    frame(ArpOperations::Reply, mac, ip, mac, ip)
}

fn frame(
    operation: ArpOperation,
    mac: [u8; 6],
    sender: Ipv4Addr,
    target_mac: [u8; 6],
    target: Ipv4Addr,
) -> [u8; FRAME_BYTES] {
    let mut bytes = [0; FRAME_BYTES];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut bytes) {
        ethernet.set_destination(MacAddr::broadcast());
        ethernet.set_source(MacAddr::from(mac));
        ethernet.set_ethertype(EtherTypes::Arp);
        if let Some(mut arp) = MutableArpPacket::new(ethernet.payload_mut()) {
            arp.set_hardware_type(ArpHardwareTypes::Ethernet);
            arp.set_protocol_type(EtherTypes::Ipv4);
            arp.set_hw_addr_len(6);
            arp.set_proto_addr_len(4);
            arp.set_operation(operation);
            arp.set_sender_hw_addr(MacAddr::from(mac));
            arp.set_sender_proto_addr(sender);
            arp.set_target_hw_addr(MacAddr::from(target_mac));
            arp.set_target_proto_addr(target);
        }
    }
    bytes
}

/// Reads a frame that another host sent.
///
/// # Errors
/// Why it says nothing.
pub fn read(bytes: &[u8]) -> Result<Seen, Refused> {
    let ethernet = EthernetPacket::new(bytes).ok_or(Refused::Short)?;
    let arp = ArpPacket::new(ethernet.payload()).ok_or(Refused::Short)?;
    let known = ethernet.get_ethertype() == EtherTypes::Arp
        && arp.get_hardware_type() == ArpHardwareTypes::Ethernet
        && arp.get_protocol_type() == EtherTypes::Ipv4
        && arp.get_hw_addr_len() == 6
        && arp.get_proto_addr_len() == 4;
    if !known {
        return Err(Refused::OtherProtocol);
    }
    let mac = arp.get_sender_hw_addr();
    if mac.is_multicast() || mac.is_broadcast() || mac.is_zero() {
        return Err(Refused::Malformed);
    }
    let sender = arp.get_sender_proto_addr();
    match arp.get_operation() {
        ArpOperations::Request if sender.is_unspecified() => {
            Ok(Seen::Probe { ip: IpAddr::V4(arp.get_target_proto_addr()), mac: mac.octets() })
        }
        // A reply to everybody is an announcement.
        ArpOperations::Reply
            if !sender.is_unspecified() && !ethernet.get_destination().is_broadcast() =>
        {
            let to = arp.get_target_hw_addr().octets();
            Ok(Seen::Answer { ip: IpAddr::V4(sender), mac: mac.octets(), to })
        }
        ArpOperations::Request | ArpOperations::Reply if !sender.is_unspecified() => {
            Ok(Seen::Uses { ip: IpAddr::V4(sender), mac: mac.octets() })
        }
        _ => Err(Refused::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(&bytes);
        }

        #[test]
        fn a_frame_with_any_byte_changed_never_panics(
            place in 0..FRAME_BYTES, value in any::<u8>(), length in 0..=FRAME_BYTES,
        ) {
            let mut frame = announcing_reply(MAC, Ipv4Addr::new(192, 0, 2, 1));
            frame[place] = value;
            let _ = read(&frame[..length]);
        }

        #[test]
        fn what_is_built_is_read_again(sender in 1u32.., target in any::<u32>()) {
            let (sender, target) = (Ipv4Addr::from(sender), Ipv4Addr::from(target));
            let uses = Ok(Seen::Uses { ip: sender.into(), mac: MAC });
            prop_assert_eq!(read(&request(MAC, sender, target)), uses);
            let mut reply = announcing_reply(MAC, sender);
            prop_assert_eq!(read(&reply), uses);
            reply[..6].copy_from_slice(&[2, 0, 0, 0, 0, 8]);
            prop_assert_eq!(read(&reply), Ok(Seen::Answer { ip: sender.into(), mac: MAC, to: MAC }));
            let probe = Ok(Seen::Probe { ip: target.into(), mac: MAC });
            prop_assert_eq!(read(&request(MAC, Ipv4Addr::UNSPECIFIED, target)), probe);
        }
    }

    #[test]
    fn the_bytes_of_a_probe_are_those_of_the_rfc() {
        let frame = request(MAC, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(192, 0, 2, 50));
        let mut expected = vec![0xff; 6];
        expected.extend(MAC);
        expected.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
        expected.extend(MAC);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 50]);
        assert_eq!(frame.as_slice(), expected);
    }

    #[test]
    fn a_sender_that_cannot_be_one_host_is_refused() {
        let ip = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(read(&announcing_reply([0xff; 6], ip)), Err(Refused::Malformed));
        assert_eq!(read(&announcing_reply([0; 6], ip)), Err(Refused::Malformed));
    }
}
