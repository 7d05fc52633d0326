//! The right to serve: the one function that grants it. Nothing else leads to a claim.

use std::time::Duration;

use serde::Serialize;

use crate::beat::UNSENT_UNKNOWN_S;
use crate::core::evidence::reach::Proof;
use crate::core::io::disk::Generation;

/// What is known of the peer, as far as the right depends on it.
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
        /// Its last word was that this node may claim.
        told_may_claim: bool,
        /// Time since the silence was found.
        waited: Duration,
    },
    /// It said goodbye, or its guard said its last will: it held nothing then, and its disk does not say
    /// that it is alone.
    Ended,
    /// It is heard, and has granted this node's want.
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
    /// Whole, at rest, and of the newest generation known.
    Whole,
    /// Whole once what was acknowledged is applied; or the worker has not yet said.
    Settling,
    /// Half of a synchronisation.
    Incomplete,
    /// Whole, of a generation before the newest.
    Behind,
    /// Never synchronised.
    Never,
    /// Whole, of the newest generation, and older than `max_behind` allows.
    Stale {
        /// Age in s of what it lacks; [`UNSENT_UNKNOWN_S`]: not known.
        age_s: u16,
    },
    /// Neither contains what the peer served nor is contained in it.
    Forked,
}

/// Everything that the decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The administrator put this node into standby mode.
    pub standby: bool,
    /// This node is about to end.
    pub ending: bool,
    /// The LAN carrier.
    pub lan_carrier: bool,
    /// It came back so lately that the peer may still serve, trusting that there is none here.
    pub lan_carrier_new: bool,
    /// Whether the LAN was reached lately.
    #[serde(skip)]
    pub reach: Proof,
    /// The peer.
    pub peer: PeerWord,
    /// What the mirrored trees here are worth.
    pub copy: Copy,
    /// The generation to claim with, if one is on disk.
    pub intent: Option<Generation>,
    /// The administrator accepts to serve with what is here.
    pub accept_loss: bool,
    /// The trees are served after `boot_patience` though the peer may have served after what they hold.
    pub serves_unsure: bool,
    /// The trees have been served before, by whomever.
    pub has_history: bool,
    /// Patience after a start.
    pub boot_patience: Duration,
    /// Silence that means death.
    pub dead_after: Duration,
}

/// The right to serve, granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// The generation to serve in.
    pub generation: Generation,
    /// Whether the LAN must be probed first. Not when the peer itself has just released.
    pub probe: bool,
    /// Whether the trees are at rest; a claim waits for that.
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
    /// Never heard is not dead.
    #[error("the peer has not been heard; waiting {} s more for it", .0.as_secs() + 1)]
    Patience(Duration),
    /// The trees are in the middle of a synchronisation, or not there.
    #[error(
        "the trees here are incomplete: `clusterd status` says why; `clusterd move` with `--accept-loss` serves \
         them anyway"
    )]
    CopyIncomplete,
    /// The trees are older than what was served since.
    #[error(
        "the trees here are older than what the peer has served since; bring the peer back, or `clusterd move` with `--accept-loss`"
    )]
    CopyBehind,
    /// The trees were never synchronised.
    #[error(
        "the trees here were never synchronised; bring the peer back, or `clusterd move` with `--accept-loss`"
    )]
    CopyNever,
    /// The trees lack what the peer had not sent for too long.
    #[error("{}", stale_text(*.0))]
    CopyStale(u16),
    /// The peer served something that these trees do not contain.
    #[error(
        "the peer served trees that do not contain what is here; bring the peer back, or `clusterd move` with `--accept-loss`"
    )]
    CopyForked,
    /// Nobody was heard since the start, and the peer may have served after what is here.
    #[error(
        "the peer may have served something newer than the trees here, and was not heard since this node's start; bring the peer back, or `clusterd move` with `--accept-loss` serves what is here"
    )]
    Unsure,
    /// The generation is not yet durable.
    #[error("the generation to claim with is not yet on disk")]
    NoIntent,
}

/// Grants the right to serve, or says why not.
///
/// # Errors
/// The first reason that stands against it.
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
        // Only `dead_after` of hearing nothing is waited for even by a node that was alone, and even
        // if the administrator accepts a loss of data: two owners is not a loss of data.
        PeerWord::NeverHeard { alone, waited } => {
            let hurry = alone || accepted;
            // Data outlive their servers: who comes first after a power cut may be who left first (P3).
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
