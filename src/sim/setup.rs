//! The pair that a seed draws.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use super::rng::Rng;
use super::worker::{START_TIMEOUT, STOP_TIMEOUT};
use crate::config::{Config, Failback, Hash, NodeIndex, Service, Tree};
use crate::limits;

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
    /// It has modem lines, in cable and driver.
    pub modem_lines: bool,
    /// The groups.
    pub groups: Vec<GroupSetup>,
    /// A paused machine's clock is stalled, too (else it counts the pause).
    pub clock_stops_in_pause: bool,
    /// Another version of the config file, which one of the nodes may have.
    pub other: Option<Box<Setup>>,
}

/// The times of all versions of a pair's config file, as far as checkers go by them.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The longest.
    pub interval: Duration,
    /// The shortest and the longest.
    pub dead_after: (Duration, Duration),
    /// The shortest.
    pub boot_patience: Duration,
}

/// What varies between drawn groups.
#[derive(Clone, Copy, Debug)]
pub struct GroupSetup {
    /// At home where.
    pub prefer: NodeIndex,
    /// By itself or not.
    pub failback: Failback,
    /// Stable for how long.
    pub stable_for: Duration,
    /// With a mirrored tree.
    pub mirror: bool,
    /// With a service, warm or not.
    pub service: Option<bool>,
    /// How old may be what a copy lacks that is served by itself.
    pub max_behind: Duration,
}

impl GroupSetup {
    fn bare(prefer: NodeIndex, failback: Failback, stable_for: Duration) -> GroupSetup {
        GroupSetup {
            prefer,
            failback,
            stable_for,
            mirror: false,
            service: None,
            max_behind: limits::MAX_BEHIND,
        }
    }
}

impl Setup {
    /// Default times, one group that stays where it is.
    pub fn plain(rng: &mut Rng) -> Setup {
        Setup {
            interval: limits::INTERVAL,
            dead_after: limits::INTERVAL * limits::DEAD_AFTER_INTERVALS,
            boot_patience: Duration::from_secs(5),
            reach_hosts: rng.pick(&[0, 1, 2, 3]),
            serial: true,
            modem_lines: false,
            groups: vec![GroupSetup::bare(
                NodeIndex::Lower,
                Failback::Manual,
                Duration::from_secs(2),
            )],
            clock_stops_in_pause: rng.chance(300),
            other: None,
        }
    }

    /// Any sensible pair.
    pub fn any(rng: &mut Rng) -> Setup {
        let interval_ms = rng.pick(&[20, 20, 20, 10, 50, 100]);
        let dead_after_ms = interval_ms * rng.pick(&[3, 3, 3, 2, 5]);
        let groups = (0..rng.pick(&[1, 1, 1, 2, 3]))
            .map(|_| {
                GroupSetup::bare(
                    rng.pick(&NodeIndex::BOTH),
                    rng.pick(&[Failback::Manual, Failback::Auto]),
                    Duration::from_secs(rng.between(1, 4)),
                )
            })
            .collect();
        let serial = rng.chance(800);
        Setup {
            interval: Duration::from_millis(interval_ms),
            dead_after: Duration::from_millis(dead_after_ms),
            boot_patience: Duration::from_secs(rng.pick(&[5, 5, 5, 5, 5, 5, 4, 8, 60])),
            serial,
            modem_lines: serial && rng.chance(500),
            groups,
            ..Setup::plain(rng)
        }
    }

    /// The same with trees and services in most groups.
    pub fn furnished(mut self, rng: &mut Rng) -> Setup {
        for group in &mut self.groups {
            group.mirror = rng.chance(800);
            group.service = rng.pick(&[None, Some(false), Some(false), Some(true)]);
        }
        self
    }

    /// The same with trees in all groups, which may be behind for a second or a minute.
    pub fn mirrored(self, rng: &mut Rng) -> Setup {
        let mut setup = self.furnished(rng);
        for group in &mut setup.groups {
            group.mirror = true;
            group.max_behind = Duration::from_secs(rng.pick(&[0, 1, 2, 5, 60]));
        }
        setup
    }

    /// The same pair in the middle of a change: the other version of its config file has other times, homes
    /// and reach hosts.
    pub fn changing(mut self, rng: &mut Rng) -> Setup {
        let drawn = Setup::any(rng);
        let mut other = self.clone();
        (other.interval, other.dead_after) = (drawn.interval, drawn.dead_after);
        other.boot_patience = drawn.boot_patience;
        other.reach_hosts = rng.below(u64::from(self.reach_hosts) + 1) as u8;
        for group in &mut other.groups {
            group.prefer = rng.pick(&NodeIndex::BOTH);
            group.failback = rng.pick(&[Failback::Manual, Failback::Auto]);
            group.stable_for = Duration::from_secs(rng.between(1, 4));
        }
        self.other = Some(Box::new(other));
        self
    }

    /// How long a healthy pair may wait before it does what it is meant to do.
    pub fn patience(&self) -> Duration {
        let stable = self.groups.iter().map(|group| group.stable_for).max().unwrap_or_default();
        let patience = self.boot_patience + stable;
        self.other.as_ref().map_or(patience, |other| patience.max(other.patience()))
    }

    /// The times that a checker may go by.
    pub fn times(&self) -> Times {
        let mine = Times {
            interval: self.interval,
            dead_after: (self.dead_after, self.dead_after),
            boot_patience: self.boot_patience,
        };
        self.other.as_ref().map(|other| other.times()).map_or(mine, |other| Times {
            interval: mine.interval.max(other.interval),
            dead_after: (
                mine.dead_after.0.min(other.dead_after.0),
                mine.dead_after.1.max(other.dead_after.1),
            ),
            boot_patience: mine.boot_patience.min(other.boot_patience),
        })
    }

    /// Whether any group has trees or services.
    pub fn is_furnished(&self) -> bool {
        self.groups.iter().any(|group| group.mirror || group.service.is_some())
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
        for (number, group) in self.groups.iter().enumerate() {
            let GroupSetup { prefer, failback, stable_for, .. } = group;
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
            if group.max_behind != limits::MAX_BEHIND {
                let _ = writeln!(text, "max_behind = \"{}s\"", group.max_behind.as_secs());
            }
        }
        text
    }

    /// The same, checked.
    pub fn config(&self) -> Arc<Config> {
        match crate::config::parse(&self.text(), "simulated") {
            Ok(mut config) => {
                for (group, setup) in config.groups.iter_mut().zip(&self.groups) {
                    group.mirror.extend(setup.mirror.then(tree));
                    group.services.extend(setup.service.map(service));
                }
                Arc::new(config)
            }
            Err(errors) => panic!("{errors}"),
        }
    }
}

/// The config of a simulated tree.
fn tree() -> Tree {
    Tree {
        path: "/srv/tree".into(),
        exclude: Vec::new(),
        hash: Hash::Auto,
        max_delete_percent: 100,
    }
}

/// The config of a simulated service.
fn service(warm: bool) -> Service {
    Service {
        exec: "/etc/clusterd/service".into(),
        check: None,
        warm,
        start_timeout: START_TIMEOUT,
        stop_timeout: STOP_TIMEOUT,
        restarts: 0,
    }
}
