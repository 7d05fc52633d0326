//! News of carriers, of the LAN interface and of reach hosts.

use crate::control::event::Kind;
use crate::core::evidence::carrier::CarrierNews;
use crate::core::group::role::Role;
use crate::core::io::event::Link;
use crate::core::io::time::Time;
use crate::core::talk::events::mac_text;
use crate::core::{Command, Core, Phase};

impl Core {
    /// A carrier was looked at or reported.
    pub(in crate::core) fn carrier(&mut self, now: Time, link: Link, up: bool) {
        match link {
            Link::Lan => {
                if self.evidence.reach.set_carrier(now, up) {
                    self.evidence.reach.suspect(now);
                    self.tell_carrier(now, link, up);
                    if up {
                        self.announce_all_again(now);
                        // No beat has reported a missing carrier before the first one.
                        if self.phase != Phase::Sweeping {
                            self.evidence.reach.carrier_is_back(now);
                        }
                    } else {
                        // The kernel reports one lost carrier per second, and a second one later.
                        self.look_at_carriers(now);
                    }
                }
            }
            Link::Crossover => {
                let news = self.evidence.crossover.report(now, up);
                self.far_end(now, link, news);
            }
            Link::Serial => {
                let news = self.evidence.modem.report(now, up);
                self.far_end(now, link, news);
            }
        }
    }

    /// An interface is set down on this node. The peer sees its own carrier lost and may take this node for dead. It is
    /// no sign that the peer is dead.
    pub(in crate::core) fn set_down(&mut self, now: Time, link: Link) {
        match link {
            // Told as a trouble, with its name.
            Link::Crossover => self.evidence.crossover.set_down(now),
            Link::Lan | Link::Serial => self.carrier(now, link, false),
        }
    }

    /// News of the far end of the crossover or of the serial line.
    fn far_end(&mut self, now: Time, link: Link, news: CarrierNews) {
        match news {
            CarrierNews::None => {}
            CarrierNews::Lost => {
                // Asks and probes go out while the second look is awaited; the kernel may report the LAN's loss late.
                self.look_at_carriers(now);
                self.stop_asking();
                self.evidence.reach.suspect(now);
                self.ask(now);
            }
            CarrierNews::Up => {
                // An interface gets its link-local address some time after its carrier.
                self.sync_missing_since = self.sync_missing_since.map(|_| now);
                self.tell_carrier(now, link, true);
            }
            CarrierNews::Confirmed(lost_at) => {
                self.tell_carrier(now, link, false);
                self.evidence.suspected_at.get_or_insert(lost_at);
            }
        }
    }

    /// The LAN interface's own MAC. If it changed, clients still write to the old one.
    pub(in crate::core) fn lan_mac_is(&mut self, now: Time, mac: [u8; 6]) {
        let before = self.lan_mac.replace(mac);
        if before.is_some_and(|before| before != mac) {
            self.announce_all_again(now);
            let text = format!("the LAN interface has another MAC now, {}", mac_text(mac));
            self.tell(Kind::Address, None, text);
        }
        self.compare_macs();
    }

    /// Cloned machines may have the same MAC: neither hears the other's ARP, and a switch delivers frames for one to
    /// the other.
    pub(in crate::core) fn compare_macs(&mut self) {
        let (Some(mac), Some(theirs)) = (self.lan_mac, self.peer_mac()) else { return };
        if std::mem::replace(&mut self.same_mac_told, mac == theirs) || mac != theirs {
            return;
        }
        let text = format!(
            "both nodes' LAN interfaces have the same MAC, {}: change one of them; until then a takeover after \
             silence waits for the peer's lease",
            mac_text(mac)
        );
        self.tell(Kind::Fault, None, text);
    }

    /// A reach host answered.
    pub(in crate::core) fn reach_answered(&mut self, now: Time, host: u8, round: u32) {
        let reached = self.evidence.reach.count(now) > 0;
        self.evidence.reach.answered(now, host, round);
        if !reached && self.evidence.reach.count(now) > 0 {
            self.announce_all_again(now);
        }
    }

    /// Announcements during an outage of the LAN reached nobody, and a dead switch need not drop the carrier.
    pub(in crate::core) fn announce_all_again(&mut self, now: Time) {
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            if let Role::Active(active) = &mut group.role {
                self.announce_again(now, active);
            }
        }
        self.groups = groups;
    }

    pub(in crate::core) fn look_at_carriers(&mut self, now: Time) {
        self.evidence.looked_at = now;
        self.out.push_back(Command::LookAtCarriers);
    }
}
