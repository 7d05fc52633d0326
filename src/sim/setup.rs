//! The pair that a seed draws.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::rng::Rng;
use crate::config::{Config, Failback, NodeIndex};

/// What varies between drawn pairs.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Time between heartbeats.
    pub interval: Duration,
    /// Silence that kills.
    pub dead_after: Duration,
    /// Patience after a start.
    pub boot_patience: Duration,
    /// Reach hosts.
    pub reach_hosts: u8,
    /// A null-modem line.
    pub serial: bool,
    /// The groups: at home where, by itself or not, stable for how long.
    pub groups: Vec<(NodeIndex, Failback, Duration)>,
    /// A paused machine's clock stands still, too (else it counts the pause).
    pub clock_stops_in_pause: bool,
}

impl Setup {
    /// Default times, one group that stays where it is.
    pub fn plain(rng: &mut Rng) -> Setup {
        Setup {
            interval: Duration::from_millis(50),
            dead_after: Duration::from_millis(150),
            boot_patience: Duration::from_secs(5),
            reach_hosts: rng.pick(&[0, 1, 2, 3]),
            serial: true,
            groups: vec![(NodeIndex::Lower, Failback::Manual, Duration::from_secs(2))],
            clock_stops_in_pause: rng.chance(300),
        }
    }

    /// Any sensible pair.
    pub fn any(rng: &mut Rng) -> Setup {
        let interval_ms = rng.pick(&[50, 50, 50, 20, 100]);
        let dead_after_ms = interval_ms * rng.pick(&[3, 3, 3, 2, 5]);
        let groups = (0..rng.pick(&[1, 1, 1, 2, 3]))
            .map(|_| {
                (
                    rng.pick(&NodeIndex::BOTH),
                    rng.pick(&[Failback::Manual, Failback::Auto]),
                    Duration::from_secs(rng.between(1, 4)),
                )
            })
            .collect();
        Setup {
            interval: Duration::from_millis(interval_ms),
            dead_after: Duration::from_millis(dead_after_ms),
            boot_patience: Duration::from_secs(rng.pick(&[5, 5, 5, 5, 5, 5, 4, 8, 60])),
            serial: rng.chance(800),
            groups,
            ..Setup::plain(rng)
        }
    }

    /// The config file of that pair.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "[cluster]\nname = \"simulated\"\nkey = \"/etc/clusterd/cluster.key\"\n\n",
        );
        for (number, name) in [(11, "serv1"), (12, "serv2")] {
            let _ = writeln!(
                text,
                "[node.{name}]\naddress = \"192.0.2.{number}\"\nlan = \"eth0\"\ncrossover = \"eth1\""
            );
            if self.serial {
                text.push_str("serial = \"/dev/ttyS0\"\n");
            }
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "[heartbeat]\ninterval = \"{}ms\"\ndead_after = \"{}ms\"\nboot_patience = \"{}s\"\n",
            self.interval.as_millis(),
            self.dead_after.as_millis(),
            self.boot_patience.as_secs()
        );
        if self.reach_hosts > 0 {
            let hosts: Vec<String> =
                (1..=self.reach_hosts).map(|host| format!("\"192.0.2.{host}\"")).collect();
            let _ = writeln!(text, "[reach]\nhosts = [{}]\n", hosts.join(", "));
        }
        for (number, (prefer, failback, stable_for)) in self.groups.iter().enumerate() {
            let _ = writeln!(
                text,
                "[group.g{number}]\nprefer = \"{}\"\nfailback = \"{}\"\nstable_for = \"{}s\"\n\
                 address = [\"192.0.2.{}/24\"]\n",
                match prefer {
                    NodeIndex::Lower => "serv1",
                    NodeIndex::Upper => "serv2",
                },
                match failback {
                    Failback::Auto => "auto",
                    Failback::Manual => "manual",
                },
                stable_for.as_secs(),
                50 + number
            );
        }
        text
    }

    /// The same, checked.
    pub fn config(&self) -> Arc<Config> {
        match crate::config::parse(&self.text(), "simulated") {
            Ok(config) => Arc::new(config),
            Err(errors) => panic!("{errors}"),
        }
    }
}
