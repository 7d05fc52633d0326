//! Events: one sentence each, with its evidence.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::beat::Path;
use crate::control::event::{Kind, Told};
use crate::control::status::PathState;
use crate::core::evidence::flap_damping;
use crate::core::group::role::GroupState;
use crate::core::{Command, Core, Link, Time};
use crate::limits;

/// A MAC as people write it.
pub(in crate::core) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A past time in words.
pub(in crate::core) fn age_text(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

fn carrier_text(link: Link, up: bool) -> &'static str {
    match (link, up) {
        (Link::Lan, true) => "the LAN interface has a carrier",
        (Link::Lan, false) => "the LAN interface lost its carrier",
        (Link::Crossover, true) => "the crossover interface has a carrier",
        (Link::Crossover, false) => "the crossover interface lost its carrier",
        (Link::Serial, true) => "the serial line's far end is on (DSR or DCD)",
        (Link::Serial, false) => "the serial line's far end is off (DSR and DCD)",
    }
}

impl Core {
    /// Where this node accepts mirror sessions on the crossover.
    pub(in crate::core) fn sync_address_is(&mut self, now: Time, address: Option<Ipv6Addr>) {
        self.sync_missing_since = match address {
            None => self.sync_missing_since.or(Some(now)),
            Some(_) => None,
        };
        self.sync_missing_told &= address.is_none();
        self.sync_address = address;
    }

    /// Reports once that the mirror cannot use the crossover because there is no IPv6 on it.
    pub(in crate::core) fn tell_missing_sync_address(&mut self, now: Time) {
        let mirrors = self.groups.iter().any(|group| group.duties.has_mirror());
        let long = |at: Time| now.since(at) >= limits::SYNC_ADDRESS_PATIENCE;
        let missing = self.sync_missing_since.is_some_and(long);
        let carrier = self.evidence.crossover.up() == Some(true);
        if self.sync_missing_told || !(mirrors && missing && carrier) {
            return;
        }
        self.sync_missing_told = true;
        let device = &self.config.node(self.me).crossover;
        let text = format!(
            "{device}, the crossover, has no IPv6 link-local address, so the trees are mirrored over the LAN; \
             is IPv6 switched off there (sysctl net.ipv6.conf.{device}.disable_ipv6)?"
        );
        self.tell(Kind::Mirror, None, text);
    }

    /// Reports an event with everything that is known about the peer and the LAN now.
    pub(in crate::core) fn tell(&mut self, kind: Kind, group: Option<&str>, text: String) {
        self.tell_with(kind, group, text, &[]);
    }

    /// The same, with further evidence.
    pub(in crate::core) fn tell_with(
        &mut self,
        kind: Kind,
        group: Option<&str>,
        text: String,
        more: &[(&str, Value)],
    ) {
        let mut evidence = self.everything_known();
        evidence.extend(more.iter().map(|(name, value)| ((*name).to_string(), value.clone())));
        let group = group.map(str::to_string);
        self.out.push_back(Command::Tell(Told { kind, group, text, evidence }));
    }

    /// Reports that a claim is refused or waits; the same reason with other numbers is reported once.
    pub(in crate::core) fn tell_refusal(
        &mut self,
        group: &mut GroupState,
        refusal: &impl ToString,
    ) {
        let text = refusal.to_string();
        let without_numbers: String =
            text.chars().filter(|letter| !letter.is_ascii_digit()).collect();
        if group.refusal_told.as_ref() == Some(&without_numbers) {
            return;
        }
        group.refusal_told = Some(without_numbers);
        self.tell(Kind::Refused, Some(&group.name), format!("not served here: {text}"));
    }

    /// Reports that a path is late, and how much time was left.
    pub(in crate::core) fn tell_late(&mut self, path: Path, silence: Duration, left: Duration) {
        let (name, ms, left_ms) = (path.name(), silence.as_millis(), left.as_millis());
        let text =
            format!("{name} is late: {ms} ms of silence, {left_ms} ms before it counted as silent");
        self.tell(Kind::Late, None, text);
    }

    /// Reports the state of a path, and how many changes before it were not reported.
    pub(in crate::core) fn tell_path(&mut self, path: Path, is: PathState, untold: u64) {
        let what = match is {
            PathState::Up => "is up both ways",
            PathState::OneWay => "is one-way: the peer does not hear this node on it",
            PathState::Silent => "is silent",
            // `late` has its own event; `off` never changes.
            PathState::Late | PathState::Off => return,
        };
        let text = flap_damping::after_untold(format!("{} {what}", path.name()), untold);
        self.tell_with(Kind::Path, None, text, &[("now", json!(is))]);
    }

    /// Reports that a link's carrier has changed: at once, or while it flaps only now and then.
    pub(in crate::core) fn tell_carrier(&mut self, now: Time, link: Link, up: bool) {
        let told = self.carriers_told.iter_mut().find(|(one, _)| *one == link);
        if told.is_some_and(|(_, told)| told.changed(now, up)) {
            self.tell_carrier_is(link, up, 0);
        }
    }

    fn tell_carrier_is(&mut self, link: Link, up: bool, untold: u64) {
        let text = flap_damping::after_untold(carrier_text(link, up).to_string(), untold);
        let now = if up { "up" } else { "down" };
        self.tell_with(Kind::Carrier, None, text, &[("now", json!(now))]);
    }

    /// Reports the carriers whose last changes were not reported. It has no deadline of its own: the next tick is soon
    /// enough.
    pub(in crate::core) fn tell_untold_carriers(&mut self, now: Time) {
        let mut told = self.carriers_told;
        for (link, one) in &mut told {
            if let Some((up, untold)) = one.take_due(now) {
                self.tell_carrier_is(*link, up, untold);
            }
        }
        self.carriers_told = told;
    }

    fn everything_known(&self) -> BTreeMap<String, Value> {
        let now = self.now;
        let gap = self.evidence.peer.worst_gap();
        let hears = self.evidence.peer.hears();
        let paths: BTreeMap<&str, Value> = self
            .evidence
            .configured()
            .map(|watch| {
                let heard_ms = watch.counted_at.map(|at| now.since(at).as_millis() as u64);
                let state = watch.state(now, gap, hears.has(watch.path));
                (watch.path.name(), json!({ "state": state, "heard_ms": heard_ms }))
            })
            .collect();
        let peer = self.evidence.peer.last();
        BTreeMap::from([
            ("paths".to_string(), json!(paths)),
            ("crossover_carrier".to_string(), json!(self.evidence.crossover.up())),
            ("serial_modem_lines".to_string(), json!(self.evidence.modem.up())),
            ("lan_carrier".to_string(), json!(self.evidence.reach.carrier())),
            ("reach".to_string(), json!(self.evidence.reach.count(now))),
            ("reach_of".to_string(), json!(self.evidence.reach.hosts())),
            ("peer_reach".to_string(), json!(peer.map(|beat| beat.reach))),
            ("peer_state".to_string(), json!(peer.map(|beat| beat.state))),
        ])
    }
}
