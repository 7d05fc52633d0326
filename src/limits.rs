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

/// Requests that may wait for the netlink thread: per group a claim, a renewal, a release and one
/// spare, and a few for sweep and carriers.
pub const NET_REQUESTS_MAX: usize = 4 * GROUPS_MAX + 8;
/// Longest wait for an answer of the kernel on a netlink socket. It answers inside the send itself;
/// a dump may wait for the rtnl lock, 80 ms seen.
pub const NETLINK_ANSWER_DEADLINE: Duration = Duration::from_millis(500);
/// Room for one netlink datagram, in bytes: the kernel cuts its dumps to 32 KiB.
pub const NETLINK_DATAGRAM_BYTES: usize = 32 * 1024;
/// Receive buffer of the netlink monitor, in bytes: some thousand changes between two looks.
pub const NETLINK_MONITOR_BYTES: usize = 1024 * 1024;
/// Datagrams of the monitor read in one turn, so that a flood of changes cannot hold up a renewal.
pub const NETLINK_MONITOR_BURST: usize = 256;
/// Requests sent in one netlink datagram, so that their answers fit the default receive buffer.
pub const NETLINK_PIPELINE: usize = 32;
/// How often something that should settle at once is tried again: an interrupted dump, an address
/// that is put back while it is deleted.
pub const NET_TRIES: usize = 3;
/// Time until a release that could not be finished is tried again.
pub const RELEASE_RETRY: Duration = Duration::from_millis(50);
/// Longest sleep of the netlink thread when nothing happens.
pub const NET_REST: Duration = Duration::from_secs(1);
/// How long the netlink thread waits for room in the queue of its answers before it drops one.
pub const NET_REPLY_DEADLINE: Duration = Duration::from_secs(1);
/// The netlink thread tells the same fault again after this time.
pub const NET_FAULT_AGAIN: Duration = Duration::from_secs(10);
/// Longest part of a LAN frame that is looked at, in bytes: ARP has 42, ND with one option 86.
pub const LAN_FRAME_BYTES: usize = 256;
