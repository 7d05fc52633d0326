//! Every constant, with its unit and its reason: here those of the daemon, in `mirror` and `service` theirs.

mod mirror;
mod service;

use std::time::Duration;

pub use mirror::*;
pub use service::*;

/// Groups in one config: all of them fit in one heartbeat of [`BEAT_BYTES_MAX`].
pub const GROUPS_MAX: usize = 8;
/// Service addresses in one config; the page that heart and guard share has room for their deletions.
pub const ADDRESSES_MAX: usize = 128;
/// Reach hosts in one config: each is asked once a second, in bursts more often.
pub const REACH_HOSTS_MAX: usize = 8;

/// Longest heartbeat frame on crossover and LAN, in bytes. Far below any MTU: never fragmented.
pub const BEAT_BYTES_MAX: usize = 272;
/// Longest plain heartbeat on serial before stuffing, in bytes: 20 a second are 1 000 of 11 520 bytes/s.
pub const SERIAL_BEAT_BYTES_MAX: usize = 50;

/// Longest introduction on serial before stuffing, in bytes: a complete heartbeat with one group.
pub const INTRODUCTION_BYTES_MAX: usize = 128;
/// One in so many frames on serial is an introduction, whatever the peer seems to know: a peer that
/// lost what plain frames rest on understands the line again after half a second.
pub const INTRODUCE_EVERY: u32 = 10;
/// Introductions in a row on serial after a reload: without one the peer, where serial is all that is
/// left, hears nothing; three may get lost.
pub const DIGEST_INTRODUCTIONS: u32 = 4;
/// An echo may seem this much younger than the sender says: the session's time is a round of the
/// loop old, and two clocks drift apart by less than this in the 71 minutes that 32 bits of µs last.
pub const ECHO_SLACK: Duration = Duration::from_secs(2);
/// An echo that the peer kept for longer measures no round trip: the path works in one direction only, and two clocks
/// drift apart meanwhile (by 83 ms at most: chrony.conf(5) slews by 83 333 ppm).
pub const ECHO_HELD_MAX: Duration = Duration::from_secs(1);
/// A frame that is numbered below one that came so long ago was held back, and proves no life. More than a network path
/// is slower than another one.
pub const OLD_AFTER: Duration = Duration::from_secs(1);
/// Looks in a row for the end of a frame on the serial line that may bring nothing, each after twice the time of
/// the one before: 63 times a pulse's time together, 80 ms at 115 200 baud.
pub const TAIL_LOOKS_IN_VAIN: u32 = 6;

/// EtherType of heartbeats on the crossover: the first of IEEE's two for local use.
pub const CROSSOVER_ETHERTYPE: u16 = 0x88b5;
/// UDP port of heartbeats on the LAN: `ha-cluster` in IANA's list.
pub const LAN_PORT: u16 = 694;
/// SO_PRIORITY of heartbeats on the LAN: the highest that needs no privilege.
pub const LAN_PRIORITY: i32 = 6;

/// Limits of the counts of the loop's lateness in `status`, in ms: from what nobody feels to what costs
/// beats.
pub const LATENESS_BELOW_MS: [u64; 7] = [1, 2, 5, 10, 25, 50, 100];
/// Patience for a config file that is read again: a disk that spins up takes less.
pub const RELOAD_PATIENCE: Duration = Duration::from_secs(10);
/// Default time between two heartbeats on a path: where no carrier tells of a power cut, it is over within 60 ms.
pub const INTERVAL: Duration = Duration::from_millis(20);
/// Default silence after which a path is silent, in intervals: one lost heartbeat is no death, nor are two.
pub const DEAD_AFTER_INTERVALS: u32 = 3;
/// Shortest interval of heartbeats on serial: they need not be faster while the other paths work, and when those
/// fall silent the line is asked.
pub const SERIAL_INTERVAL_MIN: Duration = Duration::from_millis(50);
/// Default time that a node without a heard peer waits after its start: more than the boot times of two servers
/// differ, and more than the 50 s of spanning tree.
pub const BOOT_PATIENCE: Duration = Duration::from_secs(60);
/// Default time for which the preferred node must be well before an automatic failback.
pub const STABLE_FOR: Duration = Duration::from_secs(30);
/// Default age of the missing changes with which a copy is still served when its owner is gone. A working mirror is
/// some ms behind, one that catches up some seconds; an administrator may accept a minute without being asked.
pub const MAX_BEHIND: Duration = Duration::from_secs(60);
/// Missed intervals after which a path is late.
pub const LATE_AFTER_INTERVALS: u32 = 2;

/// A claim that waited this long for the kernel is given up, and reversed if the kernel has already done it: this
/// process was stopped, or another held the kernel's rtnl lock. The longest such wait seen was half of this.
pub const CLAIM_AGE_MAX: Duration = Duration::from_millis(200);
/// The kernel's lease on a service address (`valid_lft`, whole seconds).
pub const LEASE: Duration = Duration::from_secs(2);
/// The kernel may remove an expired address this much later (its garbage collector rounds up).
pub const LEASE_GRACE: Duration = Duration::from_secs(1);
/// Time between two renewals of the lease: six chances within one lease.
pub const RENEW_EVERY: Duration = Duration::from_millis(300);

/// Without a tick of the heart for this long, the guard kills it and deletes the addresses.
pub const TICK_DEADLINE: Duration = Duration::from_millis(300);

/// Longest request on the control socket, in bytes: names are at most 64 bytes, three in a request.
pub const CONTROL_REQUEST_BYTES_MAX: usize = 4096;
/// Longest answer that a client of the control socket reads, in bytes: 128 addresses need about 16 KiB.
pub const CONTROL_ANSWER_BYTES_MAX: usize = 1 << 20;
/// Connections to the control socket at one time: a few administrators and a monitor.
pub const CONTROL_CONNECTIONS_MAX: usize = 16;
/// A control connection that neither asks nor reads its answer for this long is closed.
pub const CONTROL_IDLE: Duration = Duration::from_secs(10);
/// The control socket is looked for in its run directory this often: it is back within seconds.
pub const CONTROL_LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long `status` waits for its answer: many times what a healthy heart needs.
pub const CONTROL_STATUS_PATIENCE: Duration = Duration::from_secs(2);
/// How long a wish waits for its answer; a planned move needs far less than a lease.
pub const CONTROL_WISH_PATIENCE: Duration = Duration::from_secs(30);
/// `sync --wait` looks this often how far the mirror is ...
pub const SYNC_LOOK_EVERY: Duration = Duration::from_millis(500);
/// ... tells it this often where that is no terminal ...
pub const SYNC_LINE_EVERY: Duration = Duration::from_secs(10);
/// ... and gives up when nothing has gone on for this long: a session that starts again takes less.
pub const SYNC_STUCK_PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait of a client for what may take as long as services or a first full copy do.
pub const CONTROL_LONG_PATIENCE: Duration = Duration::from_secs(24 * 3600);
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
/// How long the heart waits for the worker's first state from disk; below [`HEART_START_PATIENCE`].
pub const HELLO_PATIENCE: Duration = Duration::from_secs(4);
/// How long the worker waits for a heart that does not read: the guard replaces such a heart sooner.
pub const LINK_SEND_PATIENCE: Duration = Duration::from_secs(1);

/// The worker reports this often that it is alive.
pub const WORKER_SAYS_EVERY: Duration = Duration::from_secs(1);
/// A worker without a report for this time has stalled: two reports may be late, or lost by a full socket.
pub const WORKER_SILENT: Duration = Duration::from_secs(3);

/// Looks for addresses in one round of the guard: one that deletes, one that finds nothing, one to spare.
pub const GUARD_LOOKS_A_ROUND: usize = 3;

/// `check --hardware` asks this often for each address, in each form.
pub const CHECK_ASKS: usize = 5;
/// ... and waits so long for an answer: a network with such round trips is no LAN.
pub const CHECK_ASK_PATIENCE: Duration = Duration::from_millis(200);
/// ... and so long for a daemon, which may be gone.
pub const CHECK_PATIENCE: Duration = Duration::from_secs(2);
/// Longest config file, in bytes: a hundred times a real one; keeps a wrong path from filling memory.
pub const CONFIG_BYTES_MAX: usize = 256 * 1024;
/// Longest piece of a config line that an error shows, in characters: two lines of a terminal.
pub const CONFIG_EXCERPT_CHARS_MAX: usize = 160;
/// Longest name of a cluster, node or group, in bytes: as long as Linux lets a host name be.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest name of a network interface, in bytes: the kernel's `IFNAMSIZ` less its ending zero.
pub const INTERFACE_BYTES_MAX: usize = 15;
/// Longest other name of one (`altname`), in bytes: the kernel's `ALTIFNAMSIZ` less its ending zero.
pub const ALTNAME_BYTES_MAX: usize = 127;
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
/// Longest `max_behind`: heartbeats tell an age of up to 18 h.
pub const MAX_BEHIND_MAX: Duration = Duration::from_secs(65_000);
/// Trees that seem forked for this time are forked: an owner learns of another generation within a few heartbeats.
pub const FORK_SURE_AFTER: Duration = Duration::from_secs(3);
/// Time between two events that a group waits for the peer because its trees may be old.
pub const UNSURE_TOLD_EVERY: Duration = Duration::from_secs(900);

/// Default speed of the serial line, in bits a second: the most that every UART does.
pub const SERIAL_BAUD: u32 = 115_200;
/// Speeds that Linux has a name for (`termios.h`), in bits a second.
pub const SERIAL_BAUDS: [u32; 21] = [
    1_200, 1_800, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 500_000,
    576_000, 921_600, 1_000_000, 1_152_000, 1_500_000, 2_000_000, 2_500_000, 3_000_000, 4_000_000,
];
/// Bits on the line for one byte: start, eight of data, stop (8N1).
pub const SERIAL_BITS_PER_BYTE: u32 = 10;
/// Heartbeats take at most one part in so many of the serial line: asks and answers need the rest.
pub const SERIAL_SHARE: u32 = 3;

/// Size of the pair's key, in bytes: what keyed BLAKE3 takes.
pub const KEY_BYTES: usize = 32;

/// While the key is changed the new one is announced on crossover and LAN with one beat in so many: about once a
/// second at the default interval, so that the peer counts few frames that do not fit it.
pub const KEY_ANNOUNCED_EVERY: u32 = 50;
/// The peer is known to send with the new key only if it echoes a beat that was signed so for this long, in µs: what it
/// signed before has then left the slowest serial line.
pub const KEY_SETTLES_US: u64 = 1_000_000;

/// Longest sleep of the heart's loop: five of them are the guard's deadline. More than the default
/// interval, so that at rest the beats alone wake the heart.
pub const ROUND_MAX: Duration = Duration::from_millis(60);
/// A round that is due within one part in so many of the interval goes out with a beat that comes in, so
/// that two nodes come into step: less than the interval may be shortened without looking like a flood.
pub const ROUND_JOINS_SHARE: u32 = 5;
/// Frames that the heart reads from one socket before it looks at the others again: a flood of bad
/// frames costs about 2 µs each, so a round stays far below a millisecond.
pub const FRAMES_A_ROUND: usize = 64;
/// Answers of the netlink thread and of the worker that the heart takes in one round.
pub const MESSAGES_A_ROUND: usize = 64;
/// Answers of the netlink thread that may wait for the heart.
pub const NET_REPLIES_MAX: usize = 1024;
/// An answer of a reach host counts for a question at most this old: hosts are asked once a second.
pub const REACH_ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Longest packet of an echo reply that is read, in bytes: the longest IPv4 header, and more than what
/// was asked, to notice replies that are too long.
pub const ECHO_PACKET_BYTES: usize = 60 + 40;
/// A socket that failed is opened again at most this often.
pub const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// Orders that may wait for the heart's thread beside its loop: two questions, and what six sockets that fail once a
/// second leave in the seconds that a slow driver takes.
pub const ASIDE_ORDERS_MAX: usize = 64;
/// A serial line's driver is slow after this, which is told: a USB adapter that has hung answers nothing for 5 s.
pub const LINE_PATIENCE: Duration = Duration::from_secs(5);
/// The heart's patience with the worker at its own end: the last events should be kept.
pub const LEAVE_PATIENCE: Duration = Duration::from_millis(200);
/// Time between two looks at what can wait: idle administrators, counts.
pub const KEEP_HOUSE_EVERY: Duration = Duration::from_secs(1);

/// The guard looks at the heart's tick this often: [`TICK_DEADLINE`] is 3 looks. That a child ended is told
/// at once.
pub const GUARD_ROUND: Duration = Duration::from_millis(100);
/// A new heart's time until its first tick: reading its state from a slow disk, opening its sockets.
pub const HEART_START_PATIENCE: Duration = Duration::from_secs(5);
/// After SIGKILL, the guard waits this long for the heart's exit before it deletes addresses anyway.
pub const EXIT_PATIENCE: Duration = Duration::from_millis(100);
/// After a last will the heart is not started before this: the peer's three probes and its claim take a
/// fourth of it, and a heart that is heard in their middle would make the peer ask again.
pub const WILL_REST: Duration = Duration::from_millis(40);

/// The worker's time to write and notify what it was told before the end.
pub const WORKER_END_PATIENCE: Duration = Duration::from_secs(10);
/// What the worker itself grants its threads then: less, so that it ends by itself.
pub const WORKER_DRAIN_PATIENCE: Duration = Duration::from_secs(8);
/// A crashed child is restarted at once; if it crashes again, after this, doubled each time ...
pub const RESTART_AFTER: Duration = Duration::from_millis(100);
/// ... up to this: a fault that needs a person must not burn a processor.
pub const RESTART_AFTER_MAX: Duration = Duration::from_secs(5);
/// A child that ran this long is restarted at once again.
pub const RESTART_FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// The guard's patience with the kernel's answer to a dump of addresses.
pub const GUARD_DUMP_PATIENCE: Duration = Duration::from_millis(100);
/// Room for one datagram of a netlink dump: the kernel fills at most 32 KiB (netlink(7)).
pub const DUMP_BYTES_MAX: usize = 32 * 1024;
/// Real-time priority of the heart: above every ordinary process, below the kernel's own threads (50).
pub const HEART_PRIORITY: i32 = 30;
/// Real-time priority of the guard: it must run when a heart that spins does not let go.
pub const GUARD_PRIORITY: i32 = 31;
/// Stack that is touched in advance by a real-time process, in bytes: ours use a few KiB of it.
pub const STACK_TOUCHED_BYTES: usize = 64 * 1024;
/// Stack of the heart's other threads, in bytes: all of it counts as locked, whether it is used or not.
pub const HEART_THREAD_STACK_BYTES: usize = 256 * 1024;
/// Heap that is touched in advance and never given back, in bytes: spare, beside the 400 KiB that a heart uses.
pub const HEAP_TOUCHED_BYTES: usize = 128 * 1024;

/// Events that wait to be written or shown.
pub const KEEPER_EVENTS_MAX: usize = 1024;
/// Events that wait for `notify.exec`; the oldest are dropped, with a count.
pub const NOTIFY_EVENTS_MAX: usize = 1000;
/// Time limit of one `notify.exec`.
pub const NOTIFY_PATIENCE: Duration = Duration::from_secs(30);
/// Size at which `events.jsonl` becomes `events.jsonl.1`: months of a healthy pair.
pub const EVENTS_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Time between two attempts of a write that failed.
pub const PERSIST_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Longest `state.json` that is read, in bytes: a hundred times what the largest config needs.
pub const STATE_BYTES_MAX: u64 = 1024 * 1024;
/// The worker's log may wait this long for a standard error that nobody reads; the guard's never waits.
pub const LOG_PATIENCE: Duration = Duration::from_millis(100);
// ---- clients' TCP connections ----

/// EtherType of the lists of connections on the crossover: the second of IEEE's two for local use.
pub const SHARE_ETHERTYPE: u16 = 0x88b6;
/// Longest of those frames, in bytes, its Ethernet header not counted: below every MTU.
pub const SHARE_BYTES_MAX: usize = 1400;
/// Connections of one group that are shared: 640 KiB on either side. A server with more of them has
/// clients that are seldom idle, and those notice by themselves.
pub const CONNECTIONS_MAX: usize = 10_000;
/// An owner looks at its connections this often: what is younger has not been idle yet.
pub const SHARE_EVERY: Duration = Duration::from_secs(1);
/// ... and less often where one look takes more than this part of the time.
pub const SHARE_LOOK_SHARE: u32 = 50;
/// Frames sent at a time: 45 KB hold up a heartbeat by 4 ms on a crossover of 100 Mbit/s ...
pub const SHARE_BURST: usize = 32;
/// ... and the time until the next.
pub const SHARE_GAP: Duration = Duration::from_millis(10);
/// Frames that wait to be sent: the longest lists of all groups (IPv6, 35 in a frame), less than 4 MB.
pub const SHARE_QUEUE_MAX: usize = GROUPS_MAX * CONNECTIONS_MAX / 32;
/// Receive buffer for them, in bytes: a list of the greatest length that comes while the worker is busy.
pub const SHARE_RECEIVE_BYTES: usize = 2 * 1024 * 1024;
/// Frames that are read before anything else is looked at.
pub const SHARE_FRAMES_A_ROUND: usize = 256;
/// Another epoch of the peer counts once the present one has been silent for this long. A peer that
/// serves is heard every second; a restarted worker waits that long, a recording gets no turn.
pub const SHARE_EPOCH_SILENCE: Duration = Duration::from_secs(3);
/// A list is forgotten after this. It must outlive its sender for as long as this node cannot claim; a
/// client that uses TCP's keep-alive knows by itself after 2 h 11 min (Linux's default).
pub const SHARE_KEPT: Duration = Duration::from_secs(2 * 3600);
/// That frames were refused, or connections not shared, is logged at most this often.
pub const SHARE_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Tickles of a client: at once, then after these times. A first answer may go to the old owner's MAC,
/// and Linux answers such segments at most once in 500 ms: so one comes after that, and a late one.
pub const TICKLE_AFTER: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_millis(800),
    Duration::from_millis(2_000),
];
/// Segments sent at a time: a LAN of 100 Mbit/s is filled for 2 ms ...
pub const TICKLE_BURST: usize = 250;
/// ... and the time until the next: [`CONNECTIONS_MAX`] clients are told within 200 ms.
pub const TICKLE_GAP: Duration = Duration::from_millis(5);

// ---- the decision core ----

/// Steps of one group that one event may cause; every chain of roles is shorter.
pub const GROUP_STEPS_MAX: usize = 8;
/// Writes of the state that are remembered until they are durable; an older one is covered by every newer one.
pub const WRITES_UNDER_WAY_MAX: usize = 64;
/// A round of the loop later than this is a stall. Noise of a loaded machine reaches 15 ms.
pub const STALL_MIN: Duration = Duration::from_millis(25);
/// A second look at a lost carrier comes after this: a glitch of the PHY is over by then.
pub const CARRIER_SECOND_LOOK: Duration = Duration::from_millis(5);
/// A claim after silence waits for this time after the LAN carrier came back, unless the peer has reported that it
/// knows: an owner that does not know may still serve; see [`LAN_LOSS_TRUSTED`].
pub const LAN_SETTLES: Duration = Duration::from_secs(1);
/// How long to trust the peer's report of its own LAN loss. Half of [`LAN_SETTLES`], so that a slow release ends
/// before the peer may claim.
pub const LAN_LOSS_TRUSTED: Duration = Duration::from_millis(500);
/// After the loss of the crossover's carrier, an ask that is unanswered for at least this time makes a path silent.
/// Five times the scheduling noise of an idle host; the measured noise of a busy host is added.
pub const ASK_PATIENCE_MIN: Duration = Duration::from_millis(10);
/// ... and in measured round trips, if that is longer.
pub const ASK_PATIENCE_ROUND_TRIPS: u32 = 3;
/// An owner without LAN and crossover carrier releases the group if the serial line answers nothing for this time
/// after the crossover was lost. Shorter than [`ASK_PATIENCE_MIN`], the earliest claim of the peer.
pub const LET_GO_PATIENCE: Duration = Duration::from_millis(8);
/// ... or for so many round trips of a slow line: fewer than the peer waits for.
pub const LET_GO_ROUND_TRIPS: u32 = 2;
/// An urgent ask is repeated after this: three fall into the least patience.
pub const ASK_AGAIN_AFTER: Duration = Duration::from_micros(3_300);
/// A round of this node's own loop that is so late prolongs its patience with asks by as much.
pub const ASK_LATE_MIN: Duration = Duration::from_millis(1);
/// Numbers of pulses that are remembered until they are answered: those of one `dead_after`.
pub const ASKS_REMEMBERED: usize = 64;
/// While another path tells the same, one in so many rounds has a whole beat on serial: what it says is
/// half a second old there at most, and a change is told at once.
pub const LINE_BEAT_EVERY_ROUNDS: u32 = 10;
/// At rest the carriers are looked at this often, in case the kernel's news of one got lost; without reach hosts a
/// look is all that proves reach, so it is less than [`REACH_FRESH`]. What the kernel tells up to a second late
/// (`net/core/link_watch.c`) is looked for when a beat is overdue, and then, while a path is late, every round.
pub const CARRIER_LOOK_EVERY: Duration = Duration::from_secs(1);
/// ... and a beat that is overdue by one part in so many of the interval is looked after at once: more than
/// a loop's usual lateness.
pub const BEAT_OVERDUE_SHARE: u32 = 5;
/// The serial line's round trip is measured this often: 30 bytes of 11 520 a second, both ways.
pub const PULSE_EVERY: Duration = Duration::from_secs(1);
/// ... and this often until half of the following number are known.
pub const PULSE_EVERY_AT_FIRST: Duration = Duration::from_millis(100);
/// Round trips of pulses that are remembered.
pub const PULSES_REMEMBERED: usize = 16;
/// A path on which a beat got lost this recently is not judged by a missing answer. Of the 60 beats of
/// that time a path that loses one in ten loses none once in 500 times; and then the LAN is still asked.
pub const LOSS_MEMORY: Duration = Duration::from_secs(3);
/// Answers to asks and introductions on one path are at least this far apart: less than
/// [`ASK_AGAIN_AFTER`], so that each urgent ask is answered.
pub const ANSWER_GAP: Duration = Duration::from_millis(3);
/// How long a gap in the sender's loop is remembered as its worst recent one.
pub const GAP_MEMORY: Duration = Duration::from_secs(10);
/// A sender's worst gap is heeded up to this: else a sick node could delay its own replacement.
pub const GAP_HEEDED_MAX: Duration = Duration::from_millis(500);
/// One-way is told if it lasts for this many intervals: at every start one side is heard first.
pub const ONE_WAY_TOLD_AFTER_INTERVALS: u32 = 3;
/// Frames of another version, with none of this one, after which that is told.
pub const MISFITS_TOLD_AFTER: u64 = 20;
/// What is wrong with the paths is looked at this often ...
pub const TROUBLE_LOOK_EVERY: Duration = Duration::from_secs(2);
/// ... and told if it has lasted for this: a boot's backlog on the serial line and a plug that is put in do not.
pub const TROUBLE_TOLD_AFTER: Duration = Duration::from_secs(6);
/// Frames that a path refuses between two looks, all for one reason, that are no accident.
pub const TROUBLE_REFUSALS_MIN: u64 = 3;
/// That the heart before died is shown in `status` for this.
pub const HEART_DEATH_SHOWN: Duration = Duration::from_secs(3600);
/// A node reports that it waits for its peer this long after its start: usually the peer is there by then.
pub const PATIENCE_TOLD_AFTER: Duration = Duration::from_secs(1);
/// A path's late warnings are at least this far apart.
pub const LATE_TOLD_EVERY: Duration = Duration::from_secs(10);
/// Changes of one link's carrier, or of one path, that are told within [`CHANGES_TOLD_EVERY`]: a plug taken
/// out and put in again, twice. Of more only the newest state is told, once that time is over.
pub const CHANGES_TOLD_MAX: u32 = 4;
/// See [`CHANGES_TOLD_MAX`]; as rare as late warnings.
pub const CHANGES_TOLD_EVERY: Duration = LATE_TOLD_EVERY;

/// Reach hosts are asked this often at rest.
pub const REACH_EVERY: Duration = Duration::from_secs(1);
/// ... and this often when anything is suspected.
pub const REACH_BURST_EVERY: Duration = Duration::from_millis(20);
/// How long a burst lasts after the last suspicion.
pub const REACH_BURST: Duration = Duration::from_millis(500);
/// Rounds whose time is remembered: a burst and more.
pub const REACH_ROUNDS_KEPT: u32 = 32;
/// Rounds without any answer after which the LAN counts as not reached.
pub const REACH_ROUNDS: u32 = 3;
/// The last of those rounds must be this old: a loaded host answers late.
pub const REACH_PATIENCE: Duration = Duration::from_millis(30);
/// ... and twice the round trip of the quickest host besides, up to this: a host beyond the LAN answers
/// late. Longer waits would be felt in every takeover.
pub const REACH_PATIENCE_MAX: Duration = Duration::from_millis(500);
/// Automatic handovers of a group that a node may make within [`MOVES_WITHIN`] while it could serve on: it reaches
/// fewer hosts than the peer, or it fails back. Moves that clients need (a lost carrier, a failed service), requested
/// moves and takeovers from a dead node do not count. The other node may make as many: four in all.
pub const MOVES_MAX: usize = 2;
/// See [`MOVES_MAX`]: longer than any restart of a switch, short enough that nobody has to wait after a repair.
pub const MOVES_WITHIN: Duration = Duration::from_secs(600);
/// A node that no reach host answers any more hands over after this even when [`MOVES_MAX`] is used up.
pub const REACH_LOST_AGAIN: Duration = Duration::from_secs(60);
/// A reach host's answer counts in `status` and beats for this long: two rounds at rest and a margin.
pub const REACH_MEMORY: Duration = Duration::from_millis(2_500);
/// Reach that a claim rests on, outside any suspicion, is not older than this.
pub const REACH_FRESH: Duration = Duration::from_millis(1_500);

/// A generation above this is damage, not a count of owners: no node adopts it.
pub const GENERATION_LEARNED_MAX: u32 = 1 << 30;
/// Time between the three probes before a claim: ten times what a host on a LAN takes to answer.
pub const PROBE_GAP: Duration = Duration::from_millis(3);
/// Silent probes before a claim (RFC 5227 sends three).
pub const PROBES: u32 = 3;
/// Time between probes once the peer's kernel has answered.
pub const PROBE_WAIT_GAP: Duration = Duration::from_millis(25);
/// Silent probes in a row for this long prove that the peer's kernel lost an address it had.
pub const PROBE_WAIT: Duration = Duration::from_millis(300);
/// A claim that failed or was blocked is tried again after this.
pub const BLOCKED_RETRY: Duration = Duration::from_secs(2);
/// An owner that overslept asks and probes for at most this long before it renews.
pub const STALL_CHECK: Duration = Duration::from_millis(300);

/// A want that the peer does not answer is dropped after this, and repeated with a new number.
pub const WANT_PATIENCE: Duration = Duration::from_secs(1);
/// How long a node lets the better placed node want a group that nobody serves: a heart that has just started knows
/// its reach within a tenth of this.
pub const YIELD_PATIENCE: Duration = Duration::from_millis(300);
/// A release that the kernel has not confirmed is commanded again after this.
pub const RELEASE_REPEAT: Duration = Duration::from_millis(200);
/// Announcements after a claim: at once, then after these times; a switch or client may lose some.
pub const ANNOUNCE_AFTER: [Duration; 4] = [
    Duration::from_millis(20),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_millis(2_000),
];
/// Announcements because the peer was seen with an address are at least this far apart.
pub const ANNOUNCE_GAP: Duration = Duration::from_millis(20);
/// Slow refresh of the announcement, for clients with a stale ARP entry.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(30);

/// A probe's silence means nothing any more after this: the claim waited for the trees meanwhile. Longer than a
/// loaded machine holds the loop up.
pub const PROBE_VALID: Duration = Duration::from_millis(60);
/// A beat is sent, and is missed, so much later than planned on a loaded machine.
pub const BEAT_LATENESS: Duration = Duration::from_millis(10);
/// When only silence shows the peer's death, the LAN must be silent for at least this time, however short `dead_after`
/// is: six questions, and more than a loaded kernel takes to answer one.
pub const LAN_SILENCE_MIN: Duration = Duration::from_millis(18);
/// ... and for this many of the longest recent round trips of the LAN.
pub const LAN_SILENCE_ROUND_TRIPS: u32 = 3;
/// Round trips are remembered for this time, at most for twice as long: a LAN that is slow in bursts is slow again.
pub const LAN_MEMORY: Duration = Duration::from_secs(60);
/// This many late heartbeats in a row show a slow network rather than a peer that was late once ...
pub const BEATS_IN_A_ROW: usize = 3;
/// ... and this many late answers for an address: a kernel is late less often than a process.
pub const LAN_ASKS_IN_A_ROW: usize = 2;
/// The standby asks for the addresses that the peer serves this often at rest ...
pub const LAN_ASK_EVERY: Duration = Duration::from_secs(1);
/// ... and for the first time so soon after it has heard that the peer serves them.
pub const LAN_ASK_FIRST: Duration = Duration::from_millis(100);
/// Unanswered questions after which the other form is tried; after twice as many an event reports it.
pub const LAN_ASKS_A_FORM: u32 = 3;
/// A missing link-local address of the crossover is reported after this: it appears 2 s after the carrier.
pub const SYNC_ADDRESS_PATIENCE: Duration = Duration::from_secs(3);
/// How long an answer proves that silence would mean something: ten questions, of which a LAN that loses a third of
/// its frames answers at least one in 999 of 1 000 cases.
pub const LAN_PROVEN_FOR: Duration = Duration::from_secs(10);

/// How long an owner whose peer fell silent asks the LAN whether the peer serves, too: a kernel that has just woken
/// up, or is busy, answers late.
pub const RIVAL_ASKED_FOR: Duration = STALL_CHECK;
/// A peer that reports itself unable for this time was away: passing causes take less.
pub const AWAY_AFTER: Duration = Duration::from_secs(1);
/// Trees come to rest within this before a claim: what was acknowledged is on disk, and has only to be put in place.
pub const TREES_SETTLE_WITHIN: Duration = Duration::from_secs(10);
/// Added to the services' own start timeouts before services of which nothing is heard count as failed.
pub const SERVICES_START_SLACK: Duration = Duration::from_secs(5);
/// Added to the services' own stop timeouts before a handover goes on without their word.
pub const SERVICES_STOP_SLACK: Duration = Duration::from_secs(5);
/// Longest time that services which may write to mirrored trees wait for the new generation on disk. A busy disk takes
/// some 100 ms; one that takes longer hangs.
pub const RECORD_PATIENCE: Duration = Duration::from_secs(5);
/// A node on which a service failed does not take the group again before this, if the peer can.
pub const SERVICE_UNFIT: Duration = Duration::from_secs(300);
/// ... doubled each time in a row, at most this often: about a day.
pub const SERVICE_UNFIT_DOUBLED_MAX: u32 = 8;
/// Longest time for the last changes in an optional move: the service pauses meanwhile.
pub const DRAIN_PATIENCE: Duration = Duration::from_secs(2);
/// ... when the daemon shuts down or the node goes to standby mode: there is no hurry.
pub const DRAIN_PATIENCE_ENDING: Duration = Duration::from_secs(10);
/// ... when this node serves no client any more.
pub const DRAIN_PATIENCE_FAILED: Duration = Duration::from_secs(1);

/// An operator's request that waits for the other node is answered after this at the latest.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// Requests that wait at the same time.
pub const REQUESTS_MAX: usize = 16;
/// A shutdown hands everything over within this time, or releases it.
pub const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(2);
/// The guard kills a heart that was asked to end and has not after this: the heart's own patience,
/// its releases and goodbyes, and a margin.
pub const HEART_END_PATIENCE: Duration = Duration::from_secs(4);
/// Goodbyes are sent this many times on each path ...
pub const FAREWELLS: u32 = 3;
/// ... this far apart.
pub const FAREWELL_GAP: Duration = Duration::from_millis(15);
/// An automatic failback that the peer did not take is offered again after this.
pub const FAILBACK_RETRY: Duration = Duration::from_secs(60);
/// ... and an offer of any kind that is not taken is withdrawn after this, where it may be.
pub const OFFER_PATIENCE: Duration = Duration::from_secs(5);

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

/// What was dropped is told at most this often.
pub const COUNTS_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Room for what the guard hands to a child, as JSON: a few paths.
pub const LAUNCH_BYTES_MAX: usize = 64 * 1024;
/// Room for a checked config as JSON: every value is in it, with its name.
pub const CONFIG_SLOT_BYTES: usize = 4 * CONFIG_BYTES_MAX;
