//! The times of the heartbeat that are in effect. Two nodes that do not have the same config (one was
//! reloaded, the other not yet) keep to both: each beats as often as either config asks for, and waits
//! for the other as long as either allows. So no reload, in whatever order, makes a death.

use std::time::Duration;

use crate::beat::Path;
use crate::config::{Config, Heartbeat, NodeIndex};
use crate::limits;

/// The times in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// This node beats this often.
    pub sends: Duration,
    /// The peer's beats come at least this often.
    pub expects: Duration,
    /// Silence after which the peer is dead.
    pub dead_after: Duration,
    /// Silence after which the peer may find this node dead.
    pub dead_to_peer_after: Duration,
}

impl Pace {
    /// Both nodes keep to the same config.
    pub fn of(times: Heartbeat) -> Pace {
        Pace {
            sends: times.interval,
            expects: times.interval,
            dead_after: times.dead_after,
            dead_to_peer_after: times.dead_after,
        }
    }

    /// The peer may keep to what was in effect, or to these times.
    pub fn or(self, times: Heartbeat) -> Pace {
        Pace {
            sends: self.sends.min(times.interval),
            expects: self.expects.max(times.interval),
            dead_after: self.dead_after.max(times.dead_after),
            dead_to_peer_after: self.dead_to_peer_after.min(times.dead_after),
        }
    }

    /// The interval of the peer's heartbeats on a path, and this node's send divisor (every Nth round).
    pub fn on(self, path: Path, config: &Config, me: NodeIndex) -> (Duration, u32) {
        // A slow serial line carries a heartbeat every Nth round.
        let rounds = |interval: Duration| {
            let slowest = match (path, &config.node(me).serial) {
                (Path::Serial, Some(line)) => {
                    let interval = interval.max(limits::SERIAL_INTERVAL_MIN);
                    crate::beat::serial_interval(line.baud, interval)
                }
                (Path::Crossover | Path::Serial | Path::Lan, _) => interval,
            };
            let rounds = slowest.as_micros().div_ceil(interval.as_micros().max(1));
            u32::try_from(rounds).unwrap_or(u32::MAX)
        };
        (self.expects * rounds(self.expects), rounds(self.sends))
    }
}
