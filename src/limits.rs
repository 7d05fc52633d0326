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

/// Longest config file, in bytes: a hundred times a real one; keeps a wrong path from filling memory.
pub const CONFIG_BYTES_MAX: usize = 256 * 1024;
/// Longest piece of a config line that an error shows, in characters: two lines of a terminal.
pub const CONFIG_EXCERPT_CHARS_MAX: usize = 160;
/// Longest name of a cluster, node or group, in bytes: as long as Linux lets a host name be.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest name of a network interface, in bytes: the kernel's `IFNAMSIZ` less its ending zero.
pub const INTERFACE_BYTES_MAX: usize = 15;
/// Shortest interval between heartbeats: the serial line needs 5 ms for each.
pub const INTERVAL_MIN: Duration = Duration::from_millis(10);
/// Longest interval between heartbeats: beyond it no takeover is quick.
pub const INTERVAL_MAX: Duration = Duration::from_secs(1);
/// Fewest intervals in `dead_after`: with less, one late heartbeat would be a death.
pub const DEAD_AFTER_INTERVALS_MIN: u32 = 2;
/// Longest `dead_after`: ten of the longest intervals.
pub const DEAD_AFTER_MAX: Duration = Duration::from_secs(10);
/// Longest `boot_patience`: both servers' slowest boot, with a file system check.
pub const BOOT_PATIENCE_MAX: Duration = Duration::from_secs(3600);
/// Longest `stable_for`: one day.
pub const STABLE_FOR_MAX: Duration = Duration::from_secs(86_400);

/// Default speed of the serial line, in bits a second: the most that every UART does.
pub const SERIAL_BAUD: u32 = 115_200;
/// Speeds that Linux has a name for (`termios.h`), in bits a second.
pub const SERIAL_BAUDS: [u32; 21] = [
    1_200, 1_800, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 500_000,
    576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000, 4_000_000,
];
/// Bits on the line for one byte: start, eight of data, stop (8N1).
pub const SERIAL_BITS_PER_BYTE: u32 = 10;
/// Bytes around a stuffed serial heartbeat at most: delimiters, stuffing and check.
pub const SERIAL_OVERHEAD_BYTES: usize = 8;
/// Heartbeats take at most one part in so many of the serial line: asks and answers need the rest.
pub const SERIAL_SHARE: u32 = 2;

/// Size of the pair's key, in bytes: what keyed BLAKE3 takes.
pub const KEY_BYTES: usize = 32;
