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

/// The bed's client asks this often: its outages are exact to this.
pub const BED_ASK_EVERY: Duration = Duration::from_millis(1);
/// Answers that the bed's client remembers, the oldest go first: five minutes of one a millisecond.
pub const BED_ANSWERS_MAX: usize = 300_000;
/// Changes of service addresses that the bed's watcher remembers; more than that is no test any more.
pub const BED_INTERVALS_MAX: usize = 100_000;
/// Real-time priority of the bed's client, responder, watcher and serial line (1 to 99): below the
/// daemon's, above everything that is not real-time, or the machine's noise is what is measured.
pub const BED_PRIORITY: i32 = 5;
/// UDP port of the bed's responder (echo, RFC 862).
pub const BED_UDP_PORT: u16 = 7;
/// TCP port of the bed's responder.
pub const BED_HTTP_PORT: u16 = 80;
/// Longest the bed waits for a system call's work to show, such as the end of a killed process.
pub const BED_SOON: Duration = Duration::from_secs(5);
/// Longest the bed waits for a pair to be whole: both in agreement, every path up.
pub const BED_WHOLE_WITHIN: Duration = Duration::from_secs(30);
/// Longest the bed waits for the effect of a fault to show.
pub const BED_EFFECT_WITHIN: Duration = Duration::from_secs(10);
/// How long the bed watches that nothing (more) happens: ten times `dead_after`.
pub const BED_WATCH: Duration = Duration::from_millis(1500);
/// Time between two looks of the bed at something it waits for.
pub const BED_LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest a question to a daemon of the bed may take.
pub const BED_STATUS_WITHIN: Duration = Duration::from_secs(2);
/// The bed's serial line moves bytes this often: a 16550 with its FIFO hands over no finer.
pub const BED_LINE_TICK: Duration = Duration::from_micros(500);
/// Speed of the bed's serial line in bits a second.
pub const BED_BAUD: u32 = 115_200;
