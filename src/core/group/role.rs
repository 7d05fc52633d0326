//! The role of this node in a group, and the group's part of the core's state.
//!
//! ```text
//!              able, and nobody serves                granted, after a probe
//!   Passive ──────────────────────────▶ Wanting ──────────────────────────▶ Probing
//!    ▲  ▲ │     (peer heard)               │ granted by who just released     │ clear
//!    │  │ └────────────────────────────────┼──────────────────────────────┐   │
//!    │  │   right by the peer's silence    └──────────────┐   to Probing ─┘   │
//!    │  │                                                 ▼                   ▼
//!    │  └── Released ──  Releasing ◀── handed over, ──  Active ◀──────────────┘
//!    │         │                     cut off, two owners  ▲
//!    │         ▼ the peer must get the last changes       │ not in time, and not urgent
//!    ├──── Draining ──────────────────────────────────────┘
//!    └─────────── right lost, want dropped, address held or in conflict
//! ```
//! A node that hears its peer claims only what the peer granted, and a node grants only what it does not hold: `Passive
//! { granted }` is a promise that stands until the peer drops that want, serves, or dies. A drain that ended because
//! the peer died continues when the peer is back and has not served.

use std::net::IpAddr;
use std::time::Duration;

use super::orders::Duties;
use super::reach_offer::Moves;
use crate::beat::Stance;
use crate::config::{Group, GroupIndex, NodeIndex};
use crate::control::event::Kind;
use crate::core::admin::reload::Adding;
use crate::core::evidence::lan::LanEvidence;
use crate::core::evidence::probe::Probe;
use crate::core::io::disk::Generation;
use crate::core::io::time::Time;
use crate::limits;

/// The role of this node in one group.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// Holds nothing.
    Passive {
        /// The peer's want that this node has promised not to cross.
        granted: Option<u16>,
    },
    /// Holds nothing and has requested the group from the living peer.
    Wanting {
        /// Number of the want.
        want: u16,
        /// Since when.
        since: Time,
        /// The peer was seen serving during this want: its grant then means that it released.
        served: bool,
    },
    /// Has the right to serve, and probes whether anybody still holds an address.
    Probing {
        /// Number of the want, shown to the peer meanwhile.
        want: u16,
        /// By the peer's grant; else by its silence.
        granted: bool,
    },
    /// Serves: a claim was commanded, and no release since.
    Active(Active),
    /// A release was commanded and not yet verified.
    Releasing {
        /// For the peer, which wants it; else for nobody.
        handover: bool,
        /// When to command it again.
        repeat_at: Time,
        /// Once released: the last changes of the trees that the peer must still get.
        drain: Option<Drain>,
    },
    /// Holds nothing any more; sends the last changes of the trees, then lets the peer claim.
    Draining(Draining),
}

/// How the last changes of the trees are sent in a handover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// The generation that ends.
    pub generation: Generation,
    /// Longest time for it.
    pub patience: Duration,
    /// After that time: let the peer claim anyway; else serve on here.
    pub let_go: bool,
}

/// A drain under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draining {
    /// The generation that ends.
    pub generation: Generation,
    /// When it has taken too long.
    pub until: Time,
    /// What then; see [`Drain::let_go`].
    pub let_go: bool,
}

/// The state of an owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    /// In this generation.
    pub generation: Generation,
    /// Number of the claim that counts.
    pub claim: u32,
    /// The kernel has all addresses.
    pub held: bool,
    /// When all addresses were held for the first time.
    pub held_since: Option<Time>,
    /// When the lease was last renewed (the command's time, so it lasts at least that long).
    pub leased_at: Time,
    /// When a claim or renewal was commanded that is not yet acknowledged.
    pub asked_at: Option<Time>,
    /// When to renew.
    pub renew_at: Time,
    /// Announcements of the burst that are done.
    pub announced: usize,
    /// When to announce next.
    pub announce_at: Time,
    /// After a stall: checking who owns the group before the lease is renewed.
    pub check: Option<Check>,
    /// Ready to hand over, and why.
    pub offer: Option<Offer>,
    /// The handover has begun: since when services are being stopped.
    pub stopping: Option<Time>,
    /// The peer released it before its services had stopped: services that must not run on both nodes wait.
    pub waits_for_peer: bool,
    /// This generation is on the disk, or the disk refused it, or had its time. Services that may write to the trees
    /// wait for that (P3): if the power failed before, their writes would belong to no generation.
    pub recorded: bool,
    /// Since when the peer has been unable to serve it.
    pub unable_since: Option<Time>,
    /// The peer was away since the claim: an automatic failback is due when it is back.
    pub peer_was_away: bool,
    /// The peer was seen serving too.
    pub contested: bool,
    /// Since when the peer has had the trees that this generation began with.
    pub peer_had_base_at: Option<Time>,
    /// The peer has named this generation: a later one of its own follows it.
    pub known_to_peer: bool,
    /// The peer served trees that do not contain what is served here (forked).
    pub forked: bool,
    /// An administrator chose the trees of this node.
    pub approved: bool,
    /// The event to report once the addresses are held.
    pub tell: Option<(Kind, String)>,
}

impl Active {
    /// Whether this generation has begun: the addresses were held. Before, its claim may still be refused.
    pub fn has_begun(&self) -> bool {
        self.held_since.is_some()
    }

    /// When this generation counts as recorded without the disk's acknowledgement.
    pub fn record_over_at(&self) -> Option<Time> {
        self.held_since.filter(|_| !self.recorded).map(|at| at + limits::RECORD_PATIENCE)
    }
}

/// Whether a peer that is not heard may be an owner, too: a machine that was paused does not know it, and serves on
/// when it resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// It is heard; its beats say what it does.
    Heard,
    /// It fell silent: one probe shows who has the addresses.
    Asked(Probe),
    /// Nobody had the addresses when it fell silent, or before this node claimed. If it shows them later, it began
    /// later or is no owner, and must release.
    None,
}

impl Rival {
    /// When to look again.
    pub fn next_at(&self) -> Option<Time> {
        match self {
            Rival::Asked(probe) => Some(probe.next_at()),
            Rival::Heard | Rival::None => None,
        }
    }
}

/// After a stall: the check whether this node still is the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Since when.
    pub since: Time,
    /// If nobody answers until then, it still is the owner.
    pub until: Time,
    /// When to probe next.
    pub probe_at: Time,
    /// Somebody answered for the address.
    pub answered: bool,
}

impl Check {
    /// Begins now.
    pub fn begin(now: Time) -> Check {
        Check { since: now, until: now + limits::STALL_CHECK, probe_at: now, answered: false }
    }
}

/// Why an owner offers the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// Standby mode.
    Standby,
    /// This node is ending, or its guard is gone.
    Ending,
    /// Its LAN carrier is lost.
    NoCarrier,
    /// It reaches no reach host, and the peer does.
    NotReached,
    /// It reaches fewer reach hosts than the peer.
    FewerReached,
    /// `clusterd move`, until the given time.
    Moved {
        /// When the offer ends.
        until: Time,
    },
    /// A service does not run here in spite of restarts; until the given time.
    ServiceFailed {
        /// When the offer ends.
        until: Time,
    },
    /// Failback, until the given time.
    Failback {
        /// When the offer ends.
        until: Time,
    },
}

impl Offer {
    /// Whether to wait until the peer has all except the last changes of the trees.
    pub fn waits_for_sync(self) -> bool {
        match self {
            Offer::FewerReached | Offer::Moved { .. } | Offer::Failback { .. } => true,
            Offer::Standby
            | Offer::Ending
            | Offer::NoCarrier
            | Offer::NotReached
            | Offer::ServiceFailed { .. } => false,
        }
    }

    /// Whether clients have no service already.
    pub fn serves_nobody(self) -> bool {
        match self {
            Offer::NoCarrier | Offer::NotReached => true,
            Offer::Standby
            | Offer::Ending
            | Offer::FewerReached
            | Offer::Moved { .. }
            | Offer::ServiceFailed { .. }
            | Offer::Failback { .. } => false,
        }
    }

    /// How long the last changes may take, and whether the peer may claim if they take longer: a move that was only
    /// requested is not worth a loss.
    pub fn drain_patience(self) -> (Duration, bool) {
        match self {
            Offer::FewerReached | Offer::Moved { .. } | Offer::Failback { .. } => {
                (limits::DRAIN_PATIENCE, false)
            }
            Offer::Standby | Offer::Ending => (limits::DRAIN_PATIENCE_ENDING, true),
            Offer::NoCarrier | Offer::NotReached | Offer::ServiceFailed { .. } => {
                (limits::DRAIN_PATIENCE_FAILED, true)
            }
        }
    }

    /// Whether it counts in the budget of moves between two living nodes: nobody requested it, and perhaps the owner
    /// could serve on.
    pub fn is_budgeted(self) -> bool {
        match self {
            Offer::NotReached | Offer::FewerReached | Offer::Failback { .. } => true,
            Offer::Standby
            | Offer::Ending
            | Offer::NoCarrier
            | Offer::Moved { .. }
            | Offer::ServiceFailed { .. } => false,
        }
    }

    /// For the event's text.
    pub fn reason(self) -> &'static str {
        match self {
            Offer::Standby => "this node goes to standby mode",
            Offer::Ending => "this node's daemon is shutting down",
            Offer::NoCarrier => "its LAN interface lost its carrier",
            Offer::NotReached => "it reaches no reach host and the peer does",
            Offer::FewerReached => "it reaches fewer reach hosts than the peer",
            Offer::Moved { .. } => "the administrator asked for it",
            Offer::ServiceFailed { .. } => "a service failed on this node",
            Offer::Failback { .. } => "the group returns to its preferred node",
        }
    }
}

/// The core's state of one group.
#[derive(Clone, Debug)]
pub struct GroupState {
    /// Its place in the config.
    pub index: GroupIndex,
    /// Its name.
    pub name: String,
    /// Its preferred node.
    pub prefer: NodeIndex,
    /// The role of this node.
    pub role: Role,
    /// Why it has this role, as text.
    pub why: String,
    /// Whether this node could serve it, by what depends on this node alone.
    pub able: bool,
    /// A claim failed or found a conflict: when to try again, and why it failed.
    pub blocked: Option<(Time, String)>,
    /// Recent claims that found another machine with the address.
    pub conflicts: Moves,
    /// A service did not run here: until then the peer is preferred.
    pub unfit_until: Option<Time>,
    /// How often in a row that happened.
    pub unfit_times: u32,
    /// It was released in standby mode though nobody else could serve it: this node may claim it again until the peer
    /// is heard.
    pub serves_on: bool,
    /// After a handover: when this node may request the group again.
    pub yield_until: Time,
    /// While this node serves it: whether a peer that is not heard may serve it, too.
    pub rival: Rival,
    /// Number of the newest release.
    pub release: u32,
    /// Since when a request of the peer has been waiting until the services here stop.
    pub letting_since: Option<Time>,
    /// What the LAN shows about its addresses.
    pub lan: LanEvidence,
    /// A drain that ended because the peer died: the peer still lacks the last changes of the trees.
    pub undrained: Option<Draining>,
    /// The generation that this node ended so that the peer can begin one, and the peer's incarnation.
    pub handing: Option<(Generation, Option<u64>)>,
    /// Such a generation, and the one that the peer began with its trees.
    pub handed: Option<(Generation, Generation)>,
    /// Since when the peer has served trees that seem not to contain this copy.
    pub fork_seen_at: Option<Time>,
    /// The last news of the peer's generation: which one, the age in s of its unsent changes, and when.
    pub told_unsent: Option<(Generation, u16, Time)>,
    /// When an event last said that a copy waits for the peer.
    pub unsure_told_at: Option<Time>,
    /// Since when the peer has been offering it.
    pub offered_at: Option<Time>,
    /// Since when nobody has served or requested it while this node could.
    pub unserved_since: Option<Time>,
    /// Until when the administrator accepts a loss.
    pub accept_loss_until: Option<Time>,
    /// When the next automatic failback may be offered.
    pub failback_at: Time,
    /// Recent automatic handovers.
    pub moves: Moves,
    /// How often somebody else deleted an address.
    pub lost_addresses: u64,
    /// When an event last reported a foreign deletion, holder or addition.
    pub meddling_told_at: Option<Time>,
    /// The peer served before this node's claim, and its clients have not been reset yet: they are once the addresses
    /// are announced, at this attempt or a later one.
    pub tickle: bool,
    /// Its stance in this node's beats, and whether its services run.
    pub says: Option<(Stance, bool)>,
    /// The worker's orders and reports.
    pub duties: Duties,
    /// Addresses that this kernel refuses while others are held.
    pub refused: Vec<IpAddr>,
    /// New addresses that it got while this node serves it, until they are leased.
    pub adding: Option<Adding>,
    /// The last reported reason of a waiting or refused claim, without its numbers.
    pub refusal_told: Option<String>,
}

impl GroupState {
    /// A group of which nothing is held.
    ///
    /// `orders`: where the numbers of orders begin; the worker may still report on orders of the heart before.
    pub fn new(index: GroupIndex, config: &Group, orders: u32) -> GroupState {
        GroupState {
            index,
            name: config.name.clone(),
            prefer: config.prefer,
            role: Role::Passive { granted: None },
            why: "just started".to_string(),
            able: false,
            blocked: None,
            conflicts: Moves::default(),
            unfit_until: None,
            unfit_times: 0,
            serves_on: false,
            yield_until: Time(0),
            rival: Rival::Heard,
            release: 0,
            letting_since: None,
            lan: LanEvidence::default(),
            undrained: None,
            handing: None,
            handed: None,
            fork_seen_at: None,
            told_unsent: None,
            unsure_told_at: None,
            offered_at: None,
            unserved_since: None,
            accept_loss_until: None,
            failback_at: Time(0),
            moves: Moves::default(),
            lost_addresses: 0,
            meddling_told_at: None,
            tickle: false,
            says: None,
            duties: Duties::new(config, orders),
            refused: Vec::new(),
            adding: None,
            refusal_told: None,
        }
    }

    /// Why it has this role, with the state of its services.
    pub fn explained(&self) -> String {
        let reported = self.duties.service_report().filter(|_| self.duties.has_services());
        match reported.map(|report| report.why.as_str()).filter(|why| !why.is_empty()) {
            Some(why) => format!("{}; {why}", self.why),
            None => self.why.clone(),
        }
    }

    /// Whether this node has not finished with it: an address may still be here by its own command, or its last changes
    /// are under way.
    pub fn may_hold(&self) -> bool {
        match self.role {
            Role::Active(_) | Role::Releasing { .. } | Role::Draining(_) => true,
            Role::Passive { .. } | Role::Wanting { .. } | Role::Probing { .. } => false,
        }
    }
}
