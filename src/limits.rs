//! Every constant, with its unit and its reason.

use std::time::Duration;

/// Groups in one config: all of them fit in one heartbeat of [`BEAT_BYTES_MAX`].
pub const GROUPS_MAX: usize = 8;
/// Service addresses in one config; the page that heart and guard share has room for their deletions.
pub const ADDRESSES_MAX: usize = 128;
/// Reach hosts in one config: each is asked once a second, in bursts more often.
pub const REACH_HOSTS_MAX: usize = 8;

/// Longest heartbeat frame on crossover and LAN, in bytes. Far below any MTU: never fragmented.
pub const BEAT_BYTES_MAX: usize = 256;
/// Longest plain heartbeat on serial before stuffing, in bytes: 20 a second are 960 of 11 520 bytes/s.
pub const SERIAL_BEAT_BYTES_MAX: usize = 48;

/// Longest introduction on serial before stuffing, in bytes: a complete heartbeat with one group.
pub const INTRODUCTION_BYTES_MAX: usize = 128;
/// One in so many frames on serial is an introduction, whatever the peer seems to know: a peer that
/// lost what plain frames rest on understands the line again after half a second.
pub const INTRODUCE_EVERY: u32 = 10;
/// Heartbeats use at most one part in so many of the serial line: asks and answers find it free.
pub const SERIAL_SHARE: u32 = 3;
/// Bits on the line for one byte, 8N1: start, eight data, stop.
pub const SERIAL_BITS_PER_BYTE: u32 = 10;
/// An echo may seem this much younger than the sender says: the session's time is a round of the
/// loop old, and two clocks drift apart by less than this in the 71 minutes that 32 bits of µs last.
pub const ECHO_SLACK: Duration = Duration::from_secs(2);

/// EtherType of heartbeats on the crossover: the first of IEEE's two for local use.
pub const CROSSOVER_ETHERTYPE: u16 = 0x88b5;
/// UDP port of heartbeats on the LAN: `ha-cluster` in IANA's list.
pub const LAN_PORT: u16 = 694;
/// SO_PRIORITY of heartbeats on the LAN: the highest that needs no privilege.
pub const LAN_PRIORITY: i32 = 6;

/// Default time between two heartbeats on a path.
pub const INTERVAL: Duration = Duration::from_millis(50);
/// Default silence after which a path is silent: three intervals.
pub const DEAD_AFTER: Duration = Duration::from_millis(150);
/// Default patience after a start without hearing anybody: a reboot of both takes less than this
/// difference between two servers' boot times, and spanning tree less than 50 s.
pub const BOOT_PATIENCE: Duration = Duration::from_secs(60);
/// Default time for which the preferred node must be well before an automatic failback.
pub const STABLE_FOR: Duration = Duration::from_secs(30);
/// Missed intervals after which a path is late.
pub const LATE_AFTER_INTERVALS: u32 = 2;

/// The kernel's lease on a service address (`valid_lft`, whole seconds).
pub const LEASE: Duration = Duration::from_secs(2);
/// The kernel may remove an expired address this much later (its garbage collector rounds up).
pub const LEASE_GRACE: Duration = Duration::from_secs(1);
/// Time between two renewals of the lease: six chances within one lease.
pub const RENEW_EVERY: Duration = Duration::from_millis(300);

/// Without a tick of the heart for this long, the guard kills it and takes the addresses away.
pub const TICK_DEADLINE: Duration = Duration::from_millis(300);
