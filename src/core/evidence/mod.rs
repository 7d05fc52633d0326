//! Evidence: who is heard, what silence proves, and what the LAN says.

pub(super) mod cable;
pub(super) mod carrier;
pub(super) mod flap_damping;
pub(super) mod judge;
pub(super) mod lan;
pub(super) mod numbers;
pub(super) mod path;
pub(super) mod peer;
pub(super) mod probe;
pub(super) mod reach;
pub(super) mod silence;
pub(super) mod stall;
pub(super) mod timing;

use crate::core::io::time::Time;
use carrier::CarrierWatch;
use path::PathWatch;
use peer::Peer;
use reach::Reach;
use timing::Pace;

/// What this node knows about its peer and the LAN, and from what.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The heartbeat's times in effect.
    pub pace: Pace,
    /// Each path.
    pub paths: [PathWatch; 3],
    /// The peer, over all paths.
    pub peer: Peer,
    /// The crossover's carrier.
    pub crossover: CarrierWatch,
    /// The serial line's modem lines.
    pub modem: CarrierWatch,
    /// The LAN interface's carrier, and who answers there.
    pub reach: Reach,
    /// When the last look at the carriers was commanded.
    pub looked_at: Time,
    /// Since when every path has been late, or a carrier has been lost.
    pub suspected_at: Option<Time>,
    /// When this node's last long stall ended.
    pub woke_at: Option<Time>,
}
