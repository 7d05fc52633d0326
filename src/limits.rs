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

/// A claim that waited this long for the kernel is given up: the process was stopped meanwhile. The
/// kernel's rtnl lock was never seen to be held for half of it.
pub const CLAIM_AGE_MAX: Duration = Duration::from_millis(200);
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
/// The heart's patience with the worker for the first state from disk; below [`HEART_START_PATIENCE`].
pub const HELLO_PATIENCE: Duration = Duration::from_secs(4);
/// The worker's patience with a heart that does not read: the guard replaces such a heart sooner.
pub const LINK_SEND_PATIENCE: Duration = Duration::from_secs(1);

/// Looks for addresses in one round of the guard: one that deletes, one that finds nothing, one to spare.
pub const GUARD_LOOKS_A_ROUND: usize = 3;

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
/// Heartbeats take at most one part in so many of the serial line: asks and answers need the rest.
pub const SERIAL_SHARE: u32 = 3;

/// Size of the pair's key, in bytes: what keyed BLAKE3 takes.
pub const KEY_BYTES: usize = 32;

/// Longest sleep of the heart's loop: five of them are the guard's deadline. More than the default
/// interval, so that at rest the beats alone wake the heart.
pub const ROUND_MAX: Duration = Duration::from_millis(60);
/// Frames that the heart reads from one socket before it looks at the others again: a flood of bad
/// frames costs about 2 µs each, so a round stays far below a millisecond.
pub const FRAMES_A_ROUND: usize = 64;
/// Answers of the netlink thread and of the worker that the heart takes in one round.
pub const MESSAGES_A_ROUND: usize = 64;
/// Answers of the netlink thread that may wait for the heart.
pub const NET_REPLIES_MAX: usize = 1024;
/// An answer of a reach host counts for a question at most this old: hosts are asked once a second.
pub const REACH_ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A socket that failed is opened again at most this often.
pub const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// The heart's patience with the worker at its own end: the last events should be kept.
pub const LEAVE_PATIENCE: Duration = Duration::from_millis(200);
/// Time between two looks at what can wait: idle administrators, counts.
pub const KEEP_HOUSE_EVERY: Duration = Duration::from_secs(1);

/// The guard looks at the heart's tick this often: [`TICK_DEADLINE`] is 15 looks.
pub const GUARD_ROUND: Duration = Duration::from_millis(20);
/// A new heart's time until its first tick: reading its state from a slow disk, opening its sockets.
pub const HEART_START_PATIENCE: Duration = Duration::from_secs(5);
/// After SIGKILL, the guard waits this long for the heart's exit before it deletes addresses anyway.
pub const EXIT_PATIENCE: Duration = Duration::from_millis(100);
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
pub const STACK_TOUCHED_BYTES: usize = 256 * 1024;
/// Heap that is touched in advance and never given back, in bytes.
pub const HEAP_TOUCHED_BYTES: usize = 2 * 1024 * 1024;

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
// ---- the decision core ----

/// A round of the loop later than this is a stall. Noise of a loaded machine reaches 15 ms.
pub const STALL_MIN: Duration = Duration::from_millis(25);
/// A second look at a lost carrier comes after this: a glitch of the PHY is over by then.
pub const CARRIER_SECOND_LOOK: Duration = Duration::from_millis(5);
/// Least time for which an ask must be unanswered, after the crossover's carrier was lost, to make a
/// path silent. Ten times the scheduling noise of an idle host.
pub const ASK_PATIENCE_MIN: Duration = Duration::from_millis(20);
/// ... and in measured round trips, if that is longer.
pub const ASK_PATIENCE_ROUND_TRIPS: u32 = 4;
/// Answers to asks and introductions on one path are at least this far apart.
pub const ANSWER_GAP: Duration = Duration::from_millis(4);
/// How long a gap in the sender's loop is remembered as its worst recent one.
pub const GAP_MEMORY: Duration = Duration::from_secs(10);
/// A sender's worst gap is heeded up to this: else a sick node could delay its own replacement.
pub const GAP_HEEDED_MAX: Duration = Duration::from_millis(500);
/// One-way is told if it lasts for this many intervals: at every start one side is heard first.
pub const ONE_WAY_TOLD_AFTER_INTERVALS: u32 = 3;
/// Frames that the key does not fit, with none that it fits, after which two keys are suspected.
pub const MISFITS_TOLD_AFTER: u64 = 20;
/// That a node waits for its peer after a start is told after this: mostly it is there by then.
pub const PATIENCE_TOLD_AFTER: Duration = Duration::from_secs(1);
/// A path's late warnings are at least this far apart.
pub const LATE_TOLD_EVERY: Duration = Duration::from_secs(10);

/// Reach hosts are asked this often at rest.
pub const REACH_EVERY: Duration = Duration::from_secs(1);
/// ... and this often when anything is suspected.
pub const REACH_BURST_EVERY: Duration = Duration::from_millis(20);
/// How long a burst lasts after the last suspicion.
pub const REACH_BURST: Duration = Duration::from_millis(500);
/// Rounds without any answer after which the LAN counts as not reached.
pub const REACH_ROUNDS: u32 = 3;
/// The last of those rounds must be this old: a loaded host answers late.
pub const REACH_PATIENCE: Duration = Duration::from_millis(30);
/// A reach host's answer counts in `status` and beats for this long: two rounds at rest and a margin.
pub const REACH_MEMORY: Duration = Duration::from_millis(2_500);
/// Reach that a claim rests on, outside any suspicion, is not older than this.
pub const REACH_FRESH: Duration = Duration::from_millis(1_500);

/// A generation above this is no count of owners but damage: nobody learns it.
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

/// A want that the peer does not answer is dropped after this, and made anew.
pub const WANT_PATIENCE: Duration = Duration::from_secs(1);
/// How long the better placed node is given to want a group that nobody serves: a heart that has just
/// started knows its reach within a tenth of this.
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

/// An operator's request that waits for the other node is answered after this at the latest.
pub const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
/// Requests that wait at the same time.
pub const REQUESTS_MAX: usize = 16;
/// An orderly end hands everything over within this, or releases it.
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
/// Longest a verb that a daemon of the bed must carry out may take: more than it waits itself.
pub const BED_VERB_WITHIN: Duration = Duration::from_secs(15);
/// The bed's serial line moves bytes this often: a 16550 with its FIFO hands over no finer.
pub const BED_LINE_TICK: Duration = Duration::from_micros(500);
/// Bytes that the bed's serial line remembers at each end: about four seconds of heartbeats.
pub const BED_LINE_HEARD_BYTES: usize = 4096;
/// Longest outage promised for a single fault that the peer can be sure of.
pub const OUTAGE_MAX: Duration = Duration::from_millis(250);
/// Tests allow so many times the promised outage: they show that it works, the demo how fast. A noisy
/// machine may hold everything up for tens of ms.
pub const OUTAGE_SLACK: u32 = 4;
/// Longest outage promised when the heart is killed or frozen: the guard's deadline, and a takeover.
pub const OUTAGE_HEART_MAX: Duration = Duration::from_millis(900);
/// Longest outage promised when only the kernel is left to end the lease: [`LEASE`], [`LEASE_GRACE`],
/// and a takeover.
pub const OUTAGE_LEASE_MAX: Duration = Duration::from_millis(3500);
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
/// Room for what the guard hands to a child: a config in normal form and a few paths, as JSON.
pub const LAUNCH_BYTES_MAX: usize = 4 * CONFIG_BYTES_MAX;

/// Longest path below a mirrored root, in bytes: PATH_MAX without its NUL.
pub const PATH_BYTES_MAX: usize = 4095;
/// Longest name in a directory, in bytes: NAME_MAX.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Shortest chunk of a file's content, in bytes: BLAKE3 is at its fastest from 64 KiB up, and a changed
/// byte costs one chunk on the wire.
pub const CHUNK_BYTES_MIN: u64 = 256 * 1024;
/// Chunks in one file: their hashes (128 KiB) fit in one message.
pub const CHUNKS_MAX: u64 = 4096;
/// Parts into which an index is divided for comparing: one digest each is 4 KiB.
pub const BUCKETS: usize = 256;
/// Longest mirror message, in bytes: one chunk of a file of 64 GiB (16 MiB), with its header.
pub const MIRROR_MESSAGE_BYTES_MAX: usize = 17 * 1024 * 1024;
/// Changes in one batch: bounds what both sides keep in memory of it.
pub const BATCH_OPS_MAX: usize = 2048;
/// Bytes of one batch's `Offer`: stays below [`MIRROR_MESSAGE_BYTES_MAX`] with the largest single op.
pub const BATCH_OFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// TCP port of mirror sessions, on the crossover's link-local address and on the LAN: `ha-cluster`.
pub const SYNC_PORT: u16 = 694;

/// Files that the bed's stamper stamps in each round: enough that a copy which takes them one by one is
/// caught between two, few enough for some hundred rounds a second.
pub const STAMPED_FILES: usize = 50;
