//! The core by itself: small stories with two cores, paths that can be cut, and nothing else. Here is what
//! they are told with; the world with all its faults is in `sim`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::beat::{Beat, DropReason, PathSet, Pulse, Stance};
use crate::config::{self, GroupIndex};
use crate::control::status::{GroupState as Word, NodeState, PathState, PeerState};

mod arbitration;
mod basics;
mod clients;
mod copies;
mod corners;
mod duties;
mod ends;
mod held_back;
mod lan;
mod pulses;
mod reload;
mod storms;
mod transitions;
mod unsure;
mod wills;

const CONFIG: &str = r#"
[cluster]
name = "story"
key  = "/etc/clusterd/cluster.key"
[node.serv1]
address   = "203.0.113.11"
lan       = "eth0"
crossover = "eth1"
serial    = "/dev/ttyS0"
[node.serv2]
address   = "203.0.113.12"
lan       = "eth0"
crossover = "eth1"
serial    = "/dev/ttyS0"
[reach]
hosts = ["203.0.113.1", "203.0.113.2"]
[heartbeat]
interval      = "50ms"
dead_after    = "150ms"
boot_patience = "5s"
[group.web]
prefer  = "serv1"
address = ["203.0.113.50/24"]
"#;

const WEB: GroupIndex = GroupIndex(0);
const MS: Duration = Duration::from_millis(1);

/// One node: its core, and a kernel and disk that always work at once.
struct Station {
    core: Core,
    began: Time,
    powered: bool,
    /// Its heart was killed and the machine runs on: the crossover keeps its carrier.
    killed: bool,
    /// All its processes stand still: its kernel answers for the address.
    frozen: bool,
    holds: bool,
    disk: DiskState,
    /// What its guard has to say.
    will: Option<Beat>,
    answers: BTreeMap<u64, Result<String, String>>,
    told: Vec<(Kind, String)>,
    /// How often it took another config in, and the group's addresses as it was told last.
    configured: u32,
    addresses: Vec<config::ServiceAddress>,
    /// Its worker's newest orders.
    services_ordered: Option<(u32, ServiceDuty)>,
    mirror_ordered: Option<(u32, MirrorDuty)>,
    /// The terms of the newest order: what the trees are to be ready for, and what they began.
    mirror_terms: MirrorTerms,
    clients_ordered: Option<ClientDuty>,
    /// How often it was told to tickle.
    tickles: u32,
    /// Announcements of both nodes before its newest claim.
    announced_before: u32,
}

/// Two nodes; frames arrive after 100 µs, or never on a path that is cut.
struct Story {
    config: Arc<config::Config>,
    now: Time,
    nodes: [Station; 2],
    cut: PathSet,
    lan: [bool; 2],
    /// Reach hosts that do not answer a node.
    mute: Vec<(usize, u8)>,
    flying: Vec<(Time, usize, Event)>,
    recorded: Vec<(usize, Path, Beat)>,
    pulses: Vec<(usize, Pulse)>,
    both_held: Duration,
    incarnations: u64,
    /// What was commanded of either kernel, and whether it answers.
    renewals: u32,
    releases: u32,
    announced: u32,
    probes: u32,
    deaf_to_renewals: bool,
    deaf_to_releases: bool,
    crossover_keeps_carrier: bool,
    /// Nobody answers a probe.
    arp_cut: bool,
    /// A switch drops questions of this form.
    switch_drops: Option<AskAs>,
    /// What the LAN brings, it brings so late.
    lan_late: Duration,
    refuses_a_claim: bool,
    deaf_to_claims: bool,
    deaf_disk: bool,
    /// Whose looks at the LAN carrier bring nothing.
    blind: Option<usize>,
    /// Whose kernel answers nothing: its netlink thread waits for a lock.
    stuck: Option<usize>,
}

const A: usize = 0;
const B: usize = 1;

fn index(node: usize) -> NodeIndex {
    if node == A { NodeIndex::Lower } else { NodeIndex::Upper }
}

/// How often a node has told something that says this.
fn told(story: &Story, node: usize, text: &str) -> usize {
    story.nodes[node].told.iter().filter(|(_, told)| told.contains(text)).count()
}

impl Story {
    fn new() -> Story {
        Story::with(|_| {})
    }

    /// With what the config file gives the group besides its address.
    fn with(furnish: impl FnOnce(&mut config::Group)) -> Story {
        Story::edited(|config| furnish(&mut config.groups[0]))
    }

    /// With another config.
    fn edited(edit: impl FnOnce(&mut config::Config)) -> Story {
        let mut config = config::parse(CONFIG, "story.toml").expect("the config is good");
        edit(&mut config);
        let config = Arc::new(config);
        let station = |node: usize| Station {
            core: Core::new(
                config.clone(),
                index(node),
                node as u64 + 1,
                7 + node as u64,
                DiskState::default(),
                Time(0),
            ),
            began: Time(0),
            powered: true,
            killed: false,
            frozen: false,
            holds: false,
            disk: DiskState::default(),
            will: None,
            answers: BTreeMap::new(),
            told: Vec::new(),
            configured: 0,
            addresses: Vec::new(),
            services_ordered: None,
            mirror_ordered: None,
            mirror_terms: MirrorTerms::default(),
            clients_ordered: None,
            tickles: 0,
            announced_before: 0,
        };
        let nodes = [station(A), station(B)];
        let mut story = Story {
            config,
            now: Time(0),
            nodes,
            cut: PathSet::default(),
            lan: [true, true],
            mute: Vec::new(),
            flying: Vec::new(),
            recorded: Vec::new(),
            pulses: Vec::new(),
            both_held: Duration::ZERO,
            incarnations: 2,
            renewals: 0,
            releases: 0,
            announced: 0,
            probes: 0,
            deaf_to_renewals: false,
            deaf_to_releases: false,
            crossover_keeps_carrier: false,
            arp_cut: false,
            switch_drops: None,
            lan_late: Duration::ZERO,
            refuses_a_claim: false,
            deaf_to_claims: false,
            deaf_disk: false,
            blind: None,
            stuck: None,
        };
        story.drain(A);
        story.drain(B);
        story
    }

    fn local(&self, node: usize) -> Time {
        Time(self.now.0 - self.nodes[node].began.0)
    }

    fn give(&mut self, node: usize, event: Event) {
        if self.nodes[node].powered {
            let now = self.local(node);
            self.nodes[node].core.handle(now, event);
            self.drain(node);
        }
    }

    fn drain(&mut self, node: usize) {
        while let Some(command) = self.nodes[node].core.poll() {
            self.obey(node, command);
        }
    }

    fn obey(&mut self, node: usize, command: Command) {
        let of_kernel = matches!(
            command,
            Command::LookAtCarriers
                | Command::Claim { .. }
                | Command::Renew { .. }
                | Command::Release { .. }
        );
        if of_kernel && self.stuck == Some(node) {
            return;
        }
        match command {
            Command::Will { beat } => self.nodes[node].will = beat,
            Command::Sweep => {
                self.nodes[node].holds = false;
                self.give(node, Event::Swept);
            }
            Command::Send { path, beat } => {
                self.recorded.push((node, path, beat.clone()));
                let lan_cut = path == Path::Lan && !(self.lan[A] && self.lan[B]);
                if !self.cut.has(path) && !lan_cut {
                    let late = if path == Path::Lan { self.lan_late } else { Duration::ZERO };
                    let arrives = self.now + MS / 10 + late;
                    self.flying.push((arrives, 1 - node, Event::Heard { path, beat }));
                }
            }
            Command::Pulse(pulse) => {
                self.pulses.push((node, pulse));
                if !self.cut.has(Path::Serial) {
                    self.flying.push((self.now + MS / 10, 1 - node, Event::Pulsed(pulse)));
                }
            }
            Command::LookAtCarriers => {
                if self.blind != Some(node) {
                    let up = self.lan[node];
                    self.give(node, Event::Carrier { link: Link::Lan, up });
                }
                let other = &self.nodes[1 - node];
                let there = (other.powered || other.killed || other.frozen)
                    && !self.cut.has(Path::Crossover);
                let up = there || self.crossover_keeps_carrier;
                self.give(node, Event::Carrier { link: Link::Crossover, up });
            }
            Command::AskReach { round } => {
                for host in [0, 1] {
                    if self.lan[node] && !self.mute.contains(&(node, host)) {
                        self.give(node, Event::ReachAnswered { host, round });
                    }
                }
            }
            Command::Probe { group, ask_as } => {
                self.probes += 1;
                let far = &self.nodes[1 - node];
                let answered = (far.powered || far.frozen) && far.holds;
                let dropped = self.arp_cut || self.switch_drops == Some(ask_as);
                if answered && self.lan[A] && self.lan[B] && !dropped {
                    let seen = Event::AddressSeen { group, holder: Holder::Peer };
                    if self.lan_late.is_zero() {
                        return self.give(node, seen);
                    }
                    self.flying.push((self.now + self.lan_late * 2, node, seen));
                }
            }
            Command::Claim { group, claim } => {
                if self.deaf_to_claims {
                    return;
                }
                self.nodes[node].holds = true;
                self.nodes[node].announced_before = self.announced;
                if std::mem::take(&mut self.refuses_a_claim) {
                    let error = "no such device".to_string();
                    return self.give(node, Event::HoldFailed { group, claim, error });
                }
                self.give(node, Event::Held { group, claim });
                if let Some(will) = &self.nodes[node].will {
                    let served = self.nodes[node].core.disk.served("web").expect("it serves");
                    assert_eq!(
                        will.groups[0].generation, served.number,
                        "an old generation in the will"
                    );
                }
            }
            Command::Renew { group, claim } => {
                self.renewals += 1;
                if !self.deaf_to_renewals {
                    self.give(node, Event::Renewed { group, claim });
                }
            }
            Command::Release { group, release } => {
                self.releases = release;
                if self.deaf_to_releases {
                    return;
                }
                self.nodes[node].holds = false;
                self.give(node, Event::Released { group, release });
            }
            Command::Services { order, duty, .. } => {
                self.nodes[node].services_ordered = Some((order, duty));
            }
            Command::Mirror { order, duty, terms, .. } => {
                self.nodes[node].mirror_ordered = Some((order, duty));
                self.nodes[node].mirror_terms = terms;
            }
            Command::Clients { duty, .. } => self.nodes[node].clients_ordered = Some(duty),
            Command::Tickle { .. } => {
                assert!(self.nodes[node].holds, "tickled, not held");
                assert!(self.announced > self.nodes[node].announced_before, "not yet announced");
                assert_eq!(self.nodes[node].clients_ordered, Some(ClientDuty::Share));
                self.nodes[node].tickles += 1;
            }
            Command::Sync { .. } | Command::Approve { .. } => {}
            Command::Announce { .. } => {
                assert!(self.nodes[node].holds, "announced, not held");
                self.announced += 1;
            }
            Command::Persist { write, state } => {
                let will = &self.nodes[node].will;
                assert!(!state.alone || will.is_none(), "the disk will say alone: {will:?}");
                if self.deaf_disk {
                    return;
                }
                self.nodes[node].disk = state;
                self.give(node, Event::Persisted { write });
            }
            Command::Tell(told) => self.nodes[node].told.push((told.kind, told.text)),
            Command::Answer { request, outcome } => {
                self.nodes[node].answers.insert(request, outcome);
            }
            Command::Configured => self.nodes[node].configured += 1,
            Command::Addresses { addresses, .. } => self.nodes[node].addresses = addresses,
            Command::Exit => self.nodes[node].powered = false,
        }
    }

    /// Lets time pass.
    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        loop {
            let mut next = end;
            for station in self.nodes.iter().filter(|station| station.powered) {
                next = next.min(Time(station.core.next_deadline().0 + station.began.0));
            }
            for (at, ..) in &self.flying {
                next = next.min(*at);
            }
            let next = next.max(self.now);
            if self.nodes.iter().all(|station| station.powered && station.holds) {
                self.both_held += next.since(self.now);
            }
            self.now = next;
            let (arrived, flying) =
                std::mem::take(&mut self.flying).into_iter().partition(|(at, ..)| *at <= next);
            self.flying = flying;
            let arrived: Vec<(Time, usize, Event)> = arrived;
            for (_, node, event) in arrived {
                self.give(node, event);
            }
            for node in [A, B] {
                if self.nodes[node].core.next_deadline() <= self.local(node) {
                    self.give(node, Event::Tick);
                }
            }
            if next >= end {
                return;
            }
        }
    }

    fn power_cut(&mut self, node: usize) {
        self.nodes[node].powered = false;
        self.nodes[node].killed = false;
        self.nodes[node].holds = false;
    }

    /// Stops all processes of a node.
    fn freeze(&mut self, node: usize) {
        self.nodes[node].powered = false;
        self.nodes[node].frozen = true;
    }

    /// Kills the heart: its guard takes the address away and says the will, once.
    fn kill_heart(&mut self, node: usize) {
        self.power_cut(node);
        self.nodes[node].killed = true;
        if let Some(will) = self.nodes[node].will.take() {
            for path in Path::ALL {
                self.obey(node, Command::Send { path, beat: will.clone() });
            }
        }
    }

    fn power_on(&mut self, node: usize) {
        self.incarnations += 1;
        let station = &mut self.nodes[node];
        station.killed = false;
        station.will = None;
        station.began = Time(self.now.0.saturating_sub(1));
        let disk = station.disk.clone();
        let config = self.config.clone();
        station.core =
            Core::new(config, index(node), self.incarnations, self.incarnations, disk, Time(0));
        station.powered = true;
        self.drain(node);
    }

    fn status(&self, node: usize) -> crate::control::status::Status {
        self.nodes[node].core.status(self.local(node))
    }

    /// A pair that has settled: A, the preferred, serves.
    fn settled() -> Story {
        let mut story = Story::new();
        story.run(MS * 1_000);
        assert!(story.nodes[A].holds, "{:?}", story.status(A));
        assert!(!story.nodes[B].holds);
        story
    }

    /// How long it takes until `node` holds the address.
    fn time_until_held(&mut self, node: usize, at_most: Duration) -> Duration {
        let began = self.now;
        while !self.nodes[node].holds {
            assert!(self.now.since(began) < at_most, "{:?}", self.status(node));
            self.run(MS);
        }
        self.now.since(began)
    }
}

/// How many frames and pulses a node has refused for that reason, on all paths.
fn refused(story: &Story, node: usize, reason: &str) -> u64 {
    let paths = story.status(node).peer.paths;
    paths.iter().filter_map(|path| path.refused_by.get(reason)).sum()
}

/// The newest beat that a node sent on a path.
fn newest(story: &Story, node: usize, path: Path) -> Beat {
    let sent = story.recorded.iter().rev().find(|(from, on, _)| *from == node && *on == path);
    sent.expect("it sends").2.clone()
}
