//! The right to serve: the one function that grants it. Nothing else leads to a claim.

use std::time::Duration;

use serde::Serialize;

use crate::beat::UNSENT_UNKNOWN_S;
use crate::core::evidence::reach::Proof;
use crate::core::io::disk::Generation;

/// What is known about the peer, as far as the right to serve depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerWord {
    /// Nothing heard since the start.
    NeverHeard {
        /// The disk says that the peer was gone or in standby mode.
        alone: bool,
        /// Time since the start.
        waited: Duration,
    },
    /// It was heard, and has been silent on every path since.
    Silent {
        /// Its last beat allowed this node to claim.
        told_may_claim: bool,
        /// Time since the silence was found.
        waited: Duration,
    },
    /// It sent a farewell, or its guard sent the last will: it held nothing then, and its disk does not say `alone`.
    Ended,
    /// It is heard, and has granted this node's request.
    Granted {
        /// It has just released the group for this.
        released: bool,
    },
    /// It is heard, and has not granted anything.
    Heard,
}

/// What this node's copy of a group's trees is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Copy {
    /// The group has no mirror.
    NotNeeded,
    /// Complete, at rest, and of the newest generation known.
    Whole,
    /// Complete once what was acknowledged is applied; or the worker has not reported yet.
    Settling,
    /// In the middle of a synchronisation.
    Incomplete,
    /// Complete, of an earlier generation than the newest.
    Behind,
    /// Never synchronised.
    Never,
    /// Complete, of the newest generation, and older than `max_behind` allows.
    Stale {
        /// Age in s of the changes that it lacks; [`UNSENT_UNKNOWN_S`]: unknown.
        age_s: u16,
    },
    /// Both nodes served trees, and neither copy contains the other.
    Forked,
}

/// All the evidence for the decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The administrator put this node into standby mode.
    pub standby: bool,
    /// This node is ending.
    pub ending: bool,
    /// The LAN carrier.
    pub lan_carrier: bool,
    /// It came back so recently that the peer may still serve because it had been lost.
    pub lan_carrier_new: bool,
    /// Whether a reach host answered recently.
    #[serde(skip)]
    pub reach: Proof,
    /// The peer.
    pub peer: PeerWord,
    /// What this node's copy is worth.
    pub copy: Copy,
    /// The generation to claim with, if one is on disk.
    pub intent: Option<Generation>,
    /// The administrator accepts a loss: this node may serve its copy as it is.
    pub accept_loss: bool,
    /// `when_unsure = "serve"`: serve the trees after `boot_patience` although the peer may have served later.
    pub serves_unsure: bool,
    /// The trees were served before, by either node.
    pub has_history: bool,
    /// `boot_patience`.
    pub boot_patience: Duration,
    /// `dead_after`.
    pub dead_after: Duration,
}

/// The right to serve, granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The generation to serve in.
    pub generation: Generation,
    /// Whether to probe the LAN first; not if the peer itself has just released.
    pub probe: bool,
    /// Whether the trees are at rest; a claim waits until they are.
    pub settled: bool,
}

/// Why there is no right to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Standby mode.
    #[error("this node is in standby mode; `clusterd online` ends that")]
    Standby,
    /// Ending.
    #[error("this node is shutting down")]
    Ending,
    /// No LAN carrier.
    #[error("the LAN interface has no carrier")]
    NoCarrier,
    /// The LAN carrier is too new.
    #[error("the LAN interface's carrier came back a moment ago")]
    CarrierNew,
    /// No reach host answers.
    #[error("no reach host answers")]
    NotReached,
    /// The answers are still awaited.
    #[error("the reach hosts have not yet answered")]
    ReachUnknown,
    /// The peer lives and has not agreed.
    #[error("the peer is alive and has not granted it")]
    NotGranted,
    /// The peer was never heard: that is not death.
    #[error("the peer has not been heard; waiting {} s more for it", .0.as_secs() + 1)]
    Patience(Duration),
    /// The trees are in the middle of a synchronisation, or missing.
    #[error(
        "the trees here are incomplete: `clusterd status` says why; `clusterd move` with `--accept-loss` serves \
         them anyway"
    )]
    CopyIncomplete,
    /// The trees are of an earlier generation than the newest.
    #[error(
        "the trees here are older than what the peer has served since; bring the peer back, or `clusterd move` with `--accept-loss`"
    )]
    CopyBehind,
    /// The trees were never synchronised.
    #[error(
        "the trees here were never synchronised; bring the peer back, or `clusterd move` with `--accept-loss`"
    )]
    CopyNever,
    /// The trees lack changes that are older than `max_behind`.
    #[error("{}", stale_text(*.0))]
    CopyStale(u16),
    /// The copies are forked.
    #[error(
        "the peer served trees that do not contain what is here; bring the peer back, or `clusterd move` with `--accept-loss`"
    )]
    CopyForked,
    /// The peer was not heard since the start, and may have served later than this copy.
    #[error(
        "the peer may have served something newer than the trees here, and was not heard since this node's start; bring the peer back, or `clusterd move` with `--accept-loss` serves what is here"
    )]
    Unsure,
    /// The generation is not yet durable.
    #[error("the generation to claim with is not yet on disk")]
    NoIntent,
}

/// Grants the right to serve, or refuses it with the reason.
///
/// # Errors
/// The first reason against it.
pub fn decide(evidence: &Evidence) -> Result<Right, Refusal> {
    if evidence.standby {
        return Err(Refusal::Standby);
    }
    if evidence.ending {
        return Err(Refusal::Ending);
    }
    if !evidence.lan_carrier {
        return Err(Refusal::NoCarrier);
    }
    match evidence.reach {
        Proof::Reached => {}
        Proof::NotReached => return Err(Refusal::NotReached),
        Proof::Unknown => return Err(Refusal::ReachUnknown),
    }
    let settled = match evidence.copy {
        Copy::NotNeeded | Copy::Whole => true,
        Copy::Settling => false,
        Copy::Incomplete | Copy::Behind | Copy::Never | Copy::Stale { .. } | Copy::Forked
            if evidence.accept_loss =>
        {
            true
        }
        Copy::Incomplete => return Err(Refusal::CopyIncomplete),
        Copy::Behind => return Err(Refusal::CopyBehind),
        Copy::Never => return Err(Refusal::CopyNever),
        Copy::Stale { age_s } => return Err(Refusal::CopyStale(age_s)),
        Copy::Forked => return Err(Refusal::CopyForked),
    };
    let patience = |waited: Duration, needed: Duration| match needed.saturating_sub(waited) {
        Duration::ZERO => Ok(()),
        left => Err(Refusal::Patience(left)),
    };
    let accepted = evidence.accept_loss;
    let released = match evidence.peer {
        PeerWord::Granted { released } => released,
        PeerWord::Heard => return Err(Refusal::NotGranted),
        PeerWord::Ended => false,
        // Even a node that was alone waits for `dead_after`, and so does one whose administrator accepts a loss of
        // data: two owners is not a loss of data.
        PeerWord::NeverHeard { alone, waited } => {
            let hurry = alone || accepted;
            // The first node to start after a power cut may be the one that stopped first (P3).
            let mirrored = evidence.copy != Copy::NotNeeded && evidence.has_history;
            if !hurry && mirrored && !evidence.serves_unsure {
                return Err(Refusal::Unsure);
            }
            patience(waited, if hurry { evidence.dead_after } else { evidence.boot_patience })?;
            false
        }
        PeerWord::Silent { .. } if evidence.lan_carrier_new => return Err(Refusal::CarrierNew),
        PeerWord::Silent { told_may_claim, waited } => {
            if !told_may_claim && !accepted {
                patience(waited, evidence.boot_patience)?;
            }
            false
        }
    };
    let generation = evidence.intent.ok_or(Refusal::NoIntent)?;
    Ok(Right { generation, probe: !released, settled })
}

fn stale_text(age_s: u16) -> String {
    let age = match age_s {
        UNSENT_UNKNOWN_S => "by an unknown time".to_owned(),
        age_s => format!("by {age_s} s or more"),
    };
    format!(
        "the copy here is behind the peer's {age}: more than `max_behind` allows; bring the peer \
         back, or `clusterd move` with `--accept-loss`"
    )
}
