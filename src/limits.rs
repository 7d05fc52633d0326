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
/// Room for sealed deletions in the page that heart and guard share, in bytes: [`ADDRESSES_MAX`] times
/// 16 bytes of address, 4 of length and a message of at most 96 (RTM_DELADDR for IPv6 has 64), doubled.
pub const SEALED_BYTES_MAX: usize = 24 * 1024;
/// Longest message between heart and worker, in bytes: a status of all groups takes a tenth of it, and
/// a default socket buffer (208 KiB) holds three.
pub const LINK_BYTES_MAX: usize = 64 * 1024;
/// Events that the heart keeps while the worker does not read: more than any failure makes.
pub const LINK_EVENTS_MAX: usize = 256;
/// Log and recorder lines that the heart keeps while the worker does not read.
pub const LINK_LINES_MAX: usize = 1024;
/// The heart's patience with the worker for the first state from disk.
pub const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// The worker's patience with a heart that does not read: the guard replaces such a heart sooner.
pub const LINK_SEND_PATIENCE: Duration = Duration::from_secs(1);
