//! What the kernel and the LAN report about a group's addresses.

use std::net::IpAddr;

use super::role::{Drain, Draining, GroupState, Rival, Role};
use super::step::Side;
use crate::beat::Stance;
use crate::control::event::Kind;
use crate::core::evidence::carrier::FarEnd;
use crate::core::io::disk::Generation;
use crate::core::io::event::Holder;
use crate::core::io::time::Time;
use crate::core::{Command, Core};
use crate::limits;

/// The leases were renewed.
pub(in crate::core) fn renewed(group: &mut GroupState, claim: u32) {
    if let Role::Active(active) = &mut group.role
        && active.claim == claim
        && let Some(asked_at) = active.asked_at.take()
    {
        active.leased_at = asked_at;
    }
}

impl Core {
    pub(in crate::core) fn held(&mut self, now: Time, group: &mut GroupState, claim: u32) {
        let Role::Active(active) = &mut group.role else { return };
        if active.claim != claim {
            return;
        }
        active.leased_at = active.asked_at.take().unwrap_or(active.leased_at);
        active.held = true;
        let begins = !active.has_begun();
        active.held_since.get_or_insert(now);
        active.announced = 0;
        active.announce_at = now;
        let generation = active.generation;
        let tell = active.tell.take();
        if begins {
            self.begin_generation(group, generation);
        }
        if let Some((kind, why)) = tell {
            let text = format!("serving, generation {}: {why}", generation.number);
            self.tell(kind, Some(&group.name), text);
        }
    }

    /// A generation begins with its address. One whose claim the kernel refused never was: it must not outrank a
    /// generation of the peer's that served (P3).
    fn begin_generation(&mut self, group: &mut GroupState, generation: Generation) {
        (group.handing, group.handed) = (None, None);
        self.disk.set_forked(&group.name, false);
        let newest = self.disk.served(&group.name);
        // The peer may have begun one meanwhile: then this node serves on in a newer one, or gives way.
        if newest.is_none_or(|newest| newest.number < generation.number) {
            self.disk.serve(&group.name, generation, group.duties.has_mirror());
        }
    }

    /// The kernel refuses some of the addresses; the others are served.
    pub(in crate::core) fn addresses_refused(
        &mut self,
        group: &mut GroupState,
        refused: Vec<IpAddr>,
        error: &str,
    ) {
        let text = if refused.is_empty() {
            "the kernel accepts all service addresses again".to_string()
        } else {
            let ips: Vec<String> = refused.iter().map(IpAddr::to_string).collect();
            format!(
                "the kernel refuses {}; the other addresses are served ({error})",
                ips.join(", ")
            )
        };
        group.refused = refused;
        self.tell(Kind::Address, Some(&group.name), text);
    }

    pub(in crate::core) fn hold_failed(
        &mut self,
        now: Time,
        group: &mut GroupState,
        claim: u32,
        error: &str,
    ) {
        let Role::Active(active) = &mut group.role else { return };
        if active.claim != claim {
            return;
        }
        active.asked_at = None;
        if active.held {
            let text = format!("the kernel did not renew an address: {error}; claiming it again");
            self.tell(Kind::Address, Some(&group.name.clone()), text);
            return self.put_back(now, group);
        }
        let why = format!("the kernel refused a service address: {error}");
        self.tell(Kind::Fault, Some(&group.name.clone()), why.clone());
        group.blocked = Some((now + limits::BLOCKED_RETRY, why.clone()));
        group.role = self.release(now, group, false, &why);
    }

    pub(in crate::core) fn released(&mut self, group: &mut GroupState, release: u32) {
        let Role::Releasing { handover, drain, .. } = group.role else { return };
        if group.release != release {
            return;
        }
        self.beat_now = true;
        if let Some(Drain { generation, patience, let_go }) = drain {
            group.role =
                Role::Draining(Draining { generation, until: self.now + patience, let_go });
            return;
        }
        let wants = match self.side(group) {
            Side::Says(Stance::Wanting(want)) => Some(want),
            Side::Says(_) | Side::Dead | Side::Unknown => None,
        };
        let granted = wants.filter(|_| handover && self.disk.surely_not_alone());
        group.role = Role::Passive { granted };
    }

    /// Commands a release with a new number; only the answer to the newest one counts.
    pub(in crate::core) fn command_release(&mut self, group: &mut GroupState) {
        group.release = group.release.wrapping_add(1);
        self.out.push_back(Command::Release { group: group.index, release: group.release });
    }

    pub(in crate::core) fn address_seen(
        &mut self,
        now: Time,
        group: &mut GroupState,
        holder: Holder,
    ) {
        // A machine on the LAN that pretends to have the address must not keep both nodes from serving: an address that
        // was served before is served again, and defended.
        if let Holder::Stranger(_) = holder
            && !group.may_hold()
            && group.conflicts.are_spent(now)
            && self.disk.served(&group.name).is_some()
        {
            return;
        }
        match &mut group.role {
            Role::Probing { .. } => group.lan.seen(now, holder, true),
            Role::Active(active) => {
                if let (Some(adding), None) = (&mut group.adding, active.check)
                    && adding.seen(now, holder)
                {
                    return;
                }
                if let (Some(check), Holder::Peer | Holder::PeerAnnounces) =
                    (&mut active.check, holder)
                {
                    check.answered = true;
                    return;
                }
                if let Rival::Asked(probe) = &mut group.rival {
                    probe.seen(now, holder, true);
                }
                // Not for each frame at once: two machines that defend one address would flood the LAN. Against a
                // stranger this node defends it no more often than it reports it (RFC 5227, 2.4).
                let soon = now + limits::ANNOUNCE_GAP;
                let text = match holder {
                    // The kernel answers a probe.
                    Holder::PeerProbes => return,
                    Holder::Peer | Holder::PeerAnnounces => {
                        active.announced = 0;
                        active.announce_at = active.announce_at.min(soon);
                        "the peer was seen with a service address; announcing again".to_string()
                    }
                    Holder::Stranger(mac) => {
                        let told_at = group.meddling_told_at;
                        if told_at.is_none_or(|at| now.since(at) >= limits::LATE_TOLD_EVERY) {
                            active.announce_at = active.announce_at.min(soon);
                        }
                        format!(
                            "another machine ({}) uses a service address; announcing again; remove the address \
                             from that machine",
                            crate::core::talk::events::mac_text(mac)
                        )
                    }
                };
                self.tell_meddling(now, group, text);
            }
            Role::Passive { .. } | Role::Wanting { .. } => {
                // The kernel of a heart that is only late answers, too.
                let counts =
                    !self.evidence.peer.is_alive() || (self.evidence.far_end(now) > FarEnd::Kept);
                group.lan.seen(now, holder, counts);
            }
            Role::Releasing { .. } | Role::Draining(_) => {}
        }
    }

    pub(in crate::core) fn address_lost(&mut self, now: Time, group: &mut GroupState) {
        let Role::Active(active) = &group.role else { return };
        if !active.held {
            return;
        }
        if now.since(active.leased_at) >= limits::LEASE {
            // Nobody removed it: its lease ran out.
            return self.put_back(now, group);
        }
        group.lost_addresses += 1;
        let config = self.config.groups.get(usize::from(group.index.0));
        let what = match config.and_then(|config| config.mac) {
            None => "a service address was deleted here",
            Some(_) => "a service address, or its interface, was changed or deleted here",
        };
        let text = format!("{what}, not by clusterd (time {}); put back", group.lost_addresses);
        self.tell_meddling(now, group, text);
        self.put_back(now, group);
    }

    /// An address that this node should hold is gone. If the peer is not heard or the lease had run out, the peer may
    /// have claimed it meanwhile: then the group is released, and claimed again with a probe.
    pub(in crate::core) fn put_back(&mut self, now: Time, group: &mut GroupState) {
        let Role::Active(active) = &mut group.role else { return };
        if !self.evidence.peer.is_alive() || now.since(active.leased_at) >= limits::LEASE {
            let why = "the address is gone and the peer may have it; probing first";
            group.role = self.release(now, group, false, why);
            return;
        }
        active.held = false;
        active.asked_at = None;
        active.renew_at = now;
    }

    pub(in crate::core) fn address_found(&mut self, now: Time, group: &mut GroupState) {
        match group.role {
            // This node's own, or about to be removed and probed again.
            Role::Active(_) | Role::Releasing { .. } => return,
            Role::Passive { .. }
            | Role::Wanting { .. }
            | Role::Probing { .. }
            | Role::Draining(_) => {}
        }
        self.command_release(group);
        let text = "a service address was put on this node, not by clusterd; deleted".to_string();
        self.tell_meddling(now, group, text);
    }

    pub(in crate::core) fn tell_meddling(
        &mut self,
        now: Time,
        group: &mut GroupState,
        text: String,
    ) {
        let recently = |at: Time| now.since(at) < limits::LATE_TOLD_EVERY;
        if group.meddling_told_at.is_some_and(recently) {
            return;
        }
        group.meddling_told_at = Some(now);
        self.tell(Kind::Address, Some(&group.name), text);
    }
}
