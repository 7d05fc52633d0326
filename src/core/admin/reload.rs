//! Another config for a running core. It takes effect at once and as a whole, or not at all, and changes no role. A new
//! address of a group that this node serves is probed first.

use std::net::IpAddr;

use crate::config::ring::KeyState;
use crate::config::{Config, ServiceAddress, change};
use crate::control::event::Kind;
use crate::core::evidence::probe::{Patience, Probe, Verdict};
use crate::core::evidence::timing::Pace;
use crate::core::group::role::{GroupState, Role};
use crate::core::io::event::Holder;
use crate::core::io::time::Time;
use crate::core::{Command, Core, Phase};
use crate::limits;

/// New addresses of a group that is served here; nobody else may have them.
#[derive(Clone, Debug)]
pub struct Adding {
    /// Which addresses.
    pub ips: Vec<IpAddr>,
    probe: Probe,
    not_before: Time,
}

impl Adding {
    /// Somebody was seen with one of the group's addresses; false: no probe is under way.
    pub fn seen(&mut self, now: Time, holder: Holder) -> bool {
        let asking = now >= self.not_before;
        if asking {
            self.probe.seen(now, holder, true);
        }
        asking
    }

    /// When it should be looked at again.
    pub fn next_at(&self) -> Time {
        self.probe.next_at().max(self.not_before)
    }
}

impl Core {
    /// The config in effect.
    pub fn config(&self) -> &std::sync::Arc<Config> {
        &self.config
    }

    /// Reports the result of a reload; if it failed, nothing has changed.
    pub(in crate::core) fn reloaded(
        &mut self,
        outcome: Result<String, String>,
        request: Option<u64>,
    ) {
        let failed = |error| format!("not reloaded, nothing was changed: {error}");
        let outcome = outcome.map_err(failed);
        let (Ok(text) | Err(text)) = &outcome;
        self.tell(Kind::Config, None, text.clone());
        self.out.extend(request.map(|request| Command::Answer { request, outcome }));
    }

    /// The progress of a change of the key. That the peer has the new one is reported once, not at each of its
    /// restarts.
    pub(in crate::core) fn key_is(&mut self, state: KeyState) {
        self.key_state = state;
        match state {
            KeyState::Settled => self.key_agreed_told = false,
            KeyState::Waiting | KeyState::Switched => {}
            KeyState::Agreed if self.key_agreed_told => {}
            KeyState::Agreed => {
                self.key_agreed_told = true;
                let text = "both nodes have the new key and send with it; the old one is accepted \
                            until `clusterd key rotate --finish` on each";
                self.tell(Kind::Config, None, text.to_owned());
            }
        }
    }

    /// Applies another config as a whole, or nothing of it. `new_keys`: the key file has changed, too.
    pub(in crate::core) fn reload(
        &mut self,
        now: Time,
        new: Config,
        new_keys: bool,
    ) -> Result<String, String> {
        if self.is_ending() || self.phase != Phase::Running {
            return Err("this daemon is starting or ending".to_owned());
        }
        let mut keys = change::compare(&self.config, &new).map(|change| change.keys).map_err(|fixed| {
            format!(
                "these cannot change while the daemon runs: {}; restart clusterd on this node, standby first",
                fixed.join(", ")
            )
        })?;
        if new_keys {
            keys.push("the key file".to_owned());
        }
        if keys.is_empty() {
            return Ok("reloaded: nothing has changed".to_owned());
        }
        let old = std::mem::replace(&mut self.config, std::sync::Arc::new(new));
        self.out.push_back(Command::Configured);
        self.evidence.reach.set_hosts(now, &old.reach_hosts, &self.config.reach_hosts);
        self.keep_to(self.evidence.pace.or(self.config.heartbeat));
        let mut groups = std::mem::take(&mut self.groups);
        for group in &mut groups {
            self.reload_group(now, group, &old);
        }
        self.groups = groups;
        self.beat_now = true;
        if let Some(digest) = self
            .evidence
            .peer
            .last()
            .filter(|_| self.evidence.peer.is_alive())
            .map(|beat| beat.digest)
        {
            self.compare_configs(digest);
        }
        Ok(format!("reloaded: {} changed", keys.join(", ")))
    }

    fn reload_group(&mut self, now: Time, group: &mut GroupState, old: &Config) {
        let place = usize::from(group.index.0);
        let (Some(was), Some(is)) = (old.groups.get(place), self.config.groups.get(place)) else {
            return;
        };
        group.duties.set_patience(is);
        let adding = group.adding.take().map_or_else(Vec::new, |adding| adding.ips);
        let had =
            |ip: IpAddr| was.addresses.iter().any(|one| one.ip == ip) && !adding.contains(&ip);
        let (kept, added): (Vec<ServiceAddress>, Vec<ServiceAddress>) =
            is.addresses.iter().partition(|one| had(one.ip));
        if was.addresses == is.addresses && adding.is_empty() {
            return;
        }
        if added.is_empty() || !matches!(group.role, Role::Active(_)) {
            // They are probed at the next claim.
            let addresses = is.addresses.clone();
            self.out.push_back(Command::Addresses { group: group.index, addresses });
            return;
        }
        self.out.push_back(Command::Addresses { group: group.index, addresses: kept });
        let ips = added.iter().map(|one| one.ip).collect();
        group.adding = Some(Adding { ips, probe: Probe::new(now, false), not_before: now });
    }

    /// Leases what was added once nobody on the LAN has it.
    pub(in crate::core) fn step_adding(&mut self, now: Time, group: &mut GroupState) {
        let Some(mut adding) = group.adding.take() else { return };
        let Some(config) = self.config.groups.get(usize::from(group.index.0)) else { return };
        let all = Command::Addresses { group: group.index, addresses: config.addresses.clone() };
        if !matches!(group.role, Role::Active(_)) {
            return self.out.push_back(all);
        }
        while now >= adding.not_before {
            let why = match adding.probe.verdict(now, Patience::SHORT, true) {
                Verdict::Wait => break,
                Verdict::Send => {
                    self.ask_lan(group);
                    continue;
                }
                Verdict::Clear if adding.probe.is_stale(now) => {
                    adding.probe.begin_anew(now);
                    continue;
                }
                Verdict::Clear => {
                    self.out.push_back(all);
                    if let Role::Active(active) = &mut group.role {
                        active.announced = 0;
                        active.announce_at = now + limits::ANNOUNCE_GAP;
                    }
                    let text = format!("serving {}, too", list(&adding.ips));
                    return self.tell(Kind::Address, Some(&group.name), text);
                }
                Verdict::Held => "the peer's kernel answers for it".to_string(),
                Verdict::Conflict(mac) => {
                    let mac = crate::core::talk::events::mac_text(mac);
                    format!("another machine ({mac}) has it; remove it from that machine")
                }
            };
            let text = format!("not yet serving {}: {why}", list(&adding.ips));
            self.tell_meddling(now, group, text);
            let again = now + limits::BLOCKED_RETRY;
            adding.probe = Probe::new(again, false);
            adding.not_before = again;
        }
        group.adding = Some(adding);
    }

    /// Both nodes are known to have the same config, or the peer is not heard: this config's times apply.
    pub(in crate::core) fn settle_pace(&mut self) {
        let exact = Pace::of(self.config.heartbeat);
        let same = self.evidence.peer.last().is_some_and(|beat| beat.digest == self.config.digest);
        if self.evidence.pace != exact && (same || !self.evidence.peer.is_alive()) {
            self.keep_to(exact);
        }
    }

    fn keep_to(&mut self, pace: Pace) {
        if self.evidence.pace == pace {
            return;
        }
        self.evidence.pace = pace;
        for watch in &mut self.evidence.paths {
            let (interval, rounds) = pace.on(watch.path, &self.config, self.me);
            watch.keep_to(interval, rounds, pace.dead_after);
        }
        // With a shorter interval the next round may be due now.
        self.round_at = self.round_at.min(self.now + pace.sends);
    }

    /// Reports once that the two nodes' configs differ, and once that they match again.
    pub(in crate::core) fn compare_configs(&mut self, digest: [u8; 8]) {
        let differ = digest != self.config.digest;
        if std::mem::replace(&mut self.configs_differ, differ) == differ {
            return;
        }
        let text = if differ {
            "the two nodes have different config files; copy one over the other and reload both (SIGHUP)"
        } else {
            "the two nodes have the same config again"
        };
        self.tell(Kind::Config, None, text.to_string());
    }
}

fn list(ips: &[IpAddr]) -> String {
    let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
    ips.join(", ")
}
