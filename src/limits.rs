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

/// Longest request on the control socket, in bytes: names are at most 64 bytes, three in a request.
pub const CONTROL_REQUEST_BYTES_MAX: usize = 4096;
/// Longest answer that a client of the control socket reads, in bytes: 128 addresses need about 16 KiB.
pub const CONTROL_ANSWER_BYTES_MAX: usize = 1 << 20;
/// Connections to the control socket at one time: a few administrators and a monitor.
pub const CONTROL_CONNECTIONS_MAX: usize = 16;
/// A control connection that neither asks nor reads its answer for this long is closed.
pub const CONTROL_IDLE: Duration = Duration::from_secs(10);
/// How long `status` waits for its answer: many times what a healthy heart needs.
pub const CONTROL_STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// How long a wish waits for its answer; a planned move needs far less than a lease.
pub const CONTROL_WISH_PATIENCE: Duration = Duration::from_secs(30);
