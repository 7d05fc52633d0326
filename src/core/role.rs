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
//!    │                               cut off, two owners
//!    └─────────── right lost, want dropped, address held or in conflict
//! ```
//! A node that hears its peer claims only what the peer granted, and a node grants only what it does
//! not hold: `Passive { granted }` is a promise that stands until the peer drops that want, serves,
//! or dies.

use super::disk::Generation;
use super::probe::Probe;
use super::time::Time;
use crate::config::{GroupIndex, NodeIndex};
use crate::control::event::Kind;
use crate::limits;

/// The role of this node in one group.
#[derive(Clone, Debug, PartialEq)]
pub enum Role {
    /// Holds nothing.
    Passive {
        /// The peer's want that this node has promised not to cross.
        granted: Option<u16>,
    },
    /// Holds nothing and asks the living peer to be let.
    Wanting {
        /// Number of the want.
        want: u16,
        /// Since when.
        since: Time,
        /// The peer was seen serving during this want: its grant then means that it released.
        served: bool,
    },
    /// Has the right, and asks the LAN whether anybody still holds an address.
    Probing {
        /// Number of the want, shown to the peer meanwhile.
        want: u16,
        /// By the peer's grant, or else by its silence.
        granted: bool,
        /// The probe.
        probe: Probe,
    },
    /// Serves: a claim was commanded and no release since.
    Active(Active),
    /// A release was commanded and not yet verified.
    Releasing {
        /// For the peer that wants it, or else for nobody.
        handover: bool,
        /// When to command it again.
        repeat_at: Time,
    },
}

/// What an owner keeps.
#[derive(Clone, Debug, PartialEq)]
pub struct Active {
    /// In this generation.
    pub generation: Generation,
    /// Number of the claim that counts.
    pub claim: u32,
    /// The kernel has all addresses.
    pub held: bool,
    /// Since when it has been held, for the first time.
    pub held_since: Option<Time>,
    /// The lease began or was last renewed then (the command's time, so it lasts at least that long).
    pub leased_at: Time,
    /// A claim or renewal was commanded then and is not yet acknowledged.
    pub asked_at: Option<Time>,
    /// When to renew.
    pub renew_at: Time,
    /// How many announcements of the burst are done.
    pub announced: usize,
    /// When to announce next.
    pub announce_at: Time,
    /// Overslept: asking who owns before renewing.
    pub check: Option<Check>,
    /// Ready to hand over, and why.
    pub offer: Option<Offer>,
    /// The peer was away at some time since the claim: an automatic failback is due when it is back.
    pub peer_was_away: bool,
    /// The peer was seen serving too.
    pub contested: bool,
    /// The event to tell once the addresses are held.
    pub tell: Option<(Kind, String)>,
}

/// An owner that overslept finds out whether it still is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Since when.
    pub since: Time,
    /// Silence until then means: still the owner.
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

/// Why an owner would hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// The administrator's standby mode.
    Standby,
    /// This node ends, or its guard is gone.
    Ending,
    /// Its LAN carrier is lost.
    NoCarrier,
    /// It reaches no reach host, and the peer does.
    NotReached,
    /// `clusterd move`, until the given time.
    Moved {
        /// When the offer ends.
        until: Time,
    },
    /// Home again, until the given time.
    Failback {
        /// When the offer ends.
        until: Time,
    },
}

impl Offer {
    /// For the event's text.
    pub fn reason(self) -> &'static str {
        match self {
            Offer::Standby => "this node goes to standby mode",
            Offer::Ending => "this node's daemon ends",
            Offer::NoCarrier => "its LAN interface lost its carrier",
            Offer::NotReached => "it reaches no reach host and the peer does",
            Offer::Moved { .. } => "the administrator asked for it",
            Offer::Failback { .. } => "the group goes home",
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
    /// Where it is at home.
    pub prefer: NodeIndex,
    /// The role of this node.
    pub role: Role,
    /// Why it is so, in words.
    pub why: String,
    /// May this node serve it, as far as it depends on this node itself?
    pub able: bool,
    /// A claim failed or met a conflict: not tried again before then, and why.
    pub blocked: Option<(Time, String)>,
    /// After a handover this node does not ask for the group again before then.
    pub yield_until: Time,
    /// Number of the newest release.
    pub release: u32,
    /// When the peer's kernel last answered a probe for it.
    pub answered_at: Option<Time>,
    /// Since when the peer has been offering it.
    pub offered_at: Option<Time>,
    /// Since when nobody has served or wanted it while this node could.
    pub unserved_since: Option<Time>,
    /// The administrator accepts a loss, until then.
    pub accept_loss_until: Option<Time>,
    /// When the next automatic failback may be offered.
    pub failback_at: Time,
    /// How often an address was deleted by somebody else.
    pub lost_addresses: u64,
    /// When a foreign deletion, holder or addition was last told.
    pub meddling_told_at: Option<Time>,
    /// The reason of a waiting or refused claim that was last told, without its numbers.
    pub refusal_told: Option<String>,
}

impl GroupState {
    /// A group of which nothing is held.
    pub fn new(index: GroupIndex, name: &str, prefer: NodeIndex) -> GroupState {
        GroupState {
            index,
            name: name.to_string(),
            prefer,
            role: Role::Passive { granted: None },
            why: "just started".to_string(),
            able: false,
            blocked: None,
            yield_until: Time(0),
            release: 0,
            answered_at: None,
            offered_at: None,
            unserved_since: None,
            accept_loss_until: None,
            failback_at: Time(0),
            lost_addresses: 0,
            meddling_told_at: None,
            refusal_told: None,
        }
    }

    /// Whether an address of it may be on this node by this node's own command.
    pub fn may_hold(&self) -> bool {
        match self.role {
            Role::Active(_) | Role::Releasing { .. } => true,
            Role::Passive { .. } | Role::Wanting { .. } | Role::Probing { .. } => false,
        }
    }
}
