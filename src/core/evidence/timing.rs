//! The heartbeat times in effect. Until the configs match (one node was reloaded, the other not yet), both nodes use
//! the shorter interval and the longer timeout. So no order of reloads makes a node look dead.

use std::time::Duration;

use crate::beat::Path;
use crate::config::{Config, Heartbeat, NodeIndex};
use crate::limits;

/// The times in effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Interval of this node's beats.
    pub sends: Duration,
    /// Longest interval of the peer's beats.
    pub expects: Duration,
    /// Silence after which the peer is dead.
    pub dead_after: Duration,
    /// Silence after which the peer may find this node dead.
    pub dead_to_peer_after: Duration,
}

impl Pace {
    /// Both nodes have the same config.
    pub fn of(times: Heartbeat) -> Pace {
        Pace {
            sends: times.interval,
            expects: times.interval,
            dead_after: times.dead_after,
            dead_to_peer_after: times.dead_after,
        }
    }

    /// The peer may use the times that were in effect, or these.
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
