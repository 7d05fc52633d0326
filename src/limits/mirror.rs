//! Constants of mirrors.

use std::time::Duration;

use super::{CONFIG_BYTES_MAX, GROUPS_MAX};

/// Longest path below a mirrored root, in bytes: PATH_MAX without its NUL.
pub const PATH_BYTES_MAX: usize = 4095;
/// Longest name in a directory, in bytes: NAME_MAX.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Shortest chunk of a file's content, in bytes: BLAKE3 is at its fastest from 64 KiB up, and a changed
/// byte costs one chunk on the wire.
pub const CHUNK_BYTES_MIN: u64 = 256 * 1024;
/// Chunks in one file: their hashes (128 KiB) fit in one message.
pub const CHUNKS_MAX: u64 = 4096;
/// Longest file that is mirrored, in bytes: its chunks fit into messages.
pub const FILE_BYTES_MAX: u64 = CHUNKS_MAX * 16 * 1024 * 1024;
/// Parts into which an index is divided for comparing: one digest each is 4 KiB.
pub const BUCKETS: usize = 256;
/// Longest mirror message, in bytes: one chunk of a file of 64 GiB (16 MiB), with its header.
pub const MIRROR_MESSAGE_BYTES_MAX: usize = 17 * 1024 * 1024;
/// Changes in one batch: bounds what both sides keep in memory of it.
pub const BATCH_OPS_MAX: usize = 2048;
/// Bytes of one batch's `Offer`: stays below [`MIRROR_MESSAGE_BYTES_MAX`] with the largest single op.
pub const BATCH_OFFER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What a change costs in an offer beside its path, hashes and attributes, in bytes.
pub const OP_BYTES: usize = 64;
/// Bytes of a small file's content weigh this much less than those of an offer: they are kept in memory
/// until they are sent, up to 32 MiB of them.
pub const CONTENT_WEIGHT: usize = 16;
/// Names above which one syncfs(2) writes back what is dirty, instead of a call for each file.
pub const SYNCFS_ABOVE: usize = 64;
/// Times that a file is read again because it changed meanwhile; then it is taken as it is.
pub const FILE_READS_MAX: u32 = 3;
/// Rounds in which a commit's names may change while they are read; then it is fuzzy. Each round has only
/// what changed in the one before: if reading is quicker than writing, a handful is enough.
pub const COMMIT_ROUNDS_MAX: u32 = 24;
/// ... and at most this long after its first round: others wait.
pub const COMMIT_ROUNDS_FOR: Duration = Duration::from_millis(300);
/// A file that took this long to read is read once in a series: what is written to it meanwhile is for
/// the next one.
pub const COSTLY_READ: Duration = Duration::from_millis(10);
/// A costly file that is written to all the time rests up to this many times what it took: it gets a
/// ninth of a processor and of the link.
pub const HOT_PAUSE_FACTOR: u32 = 8;
/// Bytes of one file of several chunks that are kept from reading until they are sent, so that they are
/// sent as they were read.
pub const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Files of one batch that are kept open until they are sent.
pub const HELD_FILES_MAX: usize = 64;
/// Names that cannot be read, kept in mind singly: more are a disk that fails.
pub const STUCK_MAX: usize = 1000;
/// A name that cannot be read is tried again after this ...
pub const STUCK_PAUSE_MIN: Duration = Duration::from_secs(5);
/// ... and at most this, each time twice as long as before.
pub const STUCK_PAUSE_MAX: Duration = Duration::from_secs(300);
/// Walks that look for other names of a file, and looks at names that are written to from outside the
/// tree, take a twentieth of the time.
pub const LINKS_LOOK_FACTOR: u32 = 20;
/// Names that may be written to from outside the tree are looked at no more often than this.
pub const OUTER_LOOK_EVERY: Duration = Duration::from_secs(5);
/// Threads that hash one large file of the owner: its services need the processors, too.
pub const HASH_THREADS: usize = 2;
/// Names marked at a time by a walk.
pub const WALK_MARKS: usize = 4096;
/// Names after which a walk looks whether it is still wanted.
pub const WALK_LOOKS_UP: u64 = 1024;
/// Paths that are not mirrored, as shown by `status`.
pub const SKIPPED_SHOWN: usize = 20;
/// Names that the watch may tell of before they are read: a rename tells two, and 50 000 of them must be no single series.
/// More, and the trees are walked, and all that differs is one.
pub const HINTS_MAX: usize = 250_000;
/// A name that the watch reported is read no sooner than this: fewer names than one series holds arrive in it.
pub const HINT_PAUSE: Duration = Duration::from_millis(2);
/// Names that a series takes of many: a takeover waits until they are renamed, 60 us each.
pub const SERIES_NAMES: usize = 1000;
/// A series with fewer names beside the trees is brought into them as soon as it is packed: that costs a sync.
pub const PACK_NAMES_MIN: usize = 64;
/// Names that are read before the watch is listened to again.
pub const READS_LISTEN_AFTER: usize = 32;
/// Names that are shown of those that somebody changed in the copy on the standby side.
pub const DIFFER_SHOWN: usize = 3;
/// The copy is looked at this often while something is told of it, and compared again at most this often ...
pub const RESTORE_PAUSE_MIN: Duration = Duration::from_secs(1);
/// ... and after this pause at last, if somebody changes it all the time: each time what is written there
/// goes to the conflict store, two files a minute.
pub const RESTORE_PAUSE_MAX: Duration = Duration::from_secs(30);
/// The copy on the standby side is walked this much after the watch began, if no session did it.
pub const REPLICA_WALK_AFTER: Duration = Duration::from_secs(5);
/// Bytes that one look at the copy reads, beside a session that waits: a second. What is beyond is judged
/// by size, owner, mode, times and attributes.
pub const REPLICA_HASH_BYTES_MAX: u64 = 1 << 30;
/// Changes of the copy are told this often.
pub const NEWS_DIFFER_EVERY: Duration = Duration::from_secs(60);
/// What waits for a mirror's engine: messages of the link mostly, each up to a chunk long.
pub const MIRROR_INBOX_MAX: usize = 4;
/// A mirror's engine looks up this often, whatever it waits for.
pub const MIRROR_LOOK_UP: Duration = Duration::from_secs(5);
/// A link of the owner may come this much before the order to take from it.
pub const MIRROR_EARLY_PATIENCE: Duration = Duration::from_secs(2);
/// What was acknowledged and could not be applied is tried again after this: a takeover may wait for it.
pub const SETTLE_RETRY: Duration = Duration::from_millis(250);
/// Time for one way of reaching the peer: a connection and a handshake take a thousandth of it.
pub const DIAL_PATIENCE: Duration = Duration::from_secs(2);
/// The first pause between two attempts to reach the peer; each is twice as long as the one before.
pub const DIAL_AGAIN_MIN: Duration = Duration::from_millis(50);
/// All trees are walked this often, for what no event tells: stores through a mapping.
pub const RESCAN_EVERY: Duration = Duration::from_secs(600);
/// Progress is reported this often.
pub const REPORT_EVERY: Duration = Duration::from_millis(500);
/// The rate in `status` is over this time.
pub const RATE_SPAN: Duration = Duration::from_secs(2);
/// A mirror that is blocked is told after this ...
pub const NEWS_BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// ... one that is behind after this: a peer's restart takes less ...
pub const NEWS_BEHIND_AFTER: Duration = Duration::from_secs(10);
/// ... one that is seen again after at most this has lasted meanwhile: some attempts fit into it (see
/// [`MIRROR_RETRY`]) ...
pub const NEWS_BACK_WITHIN: Duration = Duration::from_secs(15);
/// ... and fuzzy commits this often.
pub const NEWS_FUZZY_EVERY: Duration = Duration::from_secs(600);
/// TCP port of mirror sessions, on the crossover's link-local address and on the LAN: `ha-cluster`.
pub const SYNC_PORT: u16 = 694;

/// Room on a file system that staging leaves free, in bytes: for what is served from it meanwhile ...
pub const STAGE_RESERVE_BYTES: u64 = 64 * 1024 * 1024;
/// ... but at most this part of the file system: one of 60 MB keeps 3.
pub const STAGE_RESERVE_PART: u64 = 20;
/// Inodes that staging leaves free: for what is served meanwhile, and for the places of our own.
pub const STAGE_RESERVE_INODES: u64 = 16;
/// Words about a name that cannot be mirrored, in bytes: with [`BATCH_OPS_MAX`] of them and the longest
/// paths a message stays below [`MIRROR_MESSAGE_BYTES_MAX`].
pub const REFUSED_WHY_BYTES_MAX: usize = 300;
/// A name that the peer could not take is offered again after this ...
pub const STUCK_RETRY_MIN: Duration = Duration::from_secs(1);
/// ... then after twice as long, up to this: an obstacle that is gone heals in so many seconds.
pub const STUCK_RETRY_MAX: Duration = Duration::from_secs(15);
/// What a whole file system refuses (read-only, full) is tried again for this long while an acknowledged
/// series is to be applied. Then it is left open, so that nothing hangs on it for ever: the copy is then
/// not whole, and an administrator decides.
pub const SETTLE_PATIENCE: Duration = Duration::from_secs(10);
/// Default `max_delete`: any share of a tree's names may be deleted at once. Programs may delete what they want.
pub const MAX_DELETE_PERCENT: u8 = 100;
/// Fewer names than this are no mass deletion, whatever share of a small tree they are.
pub const MASS_DELETE_NAMES_MIN: i64 = 10;
/// Deletions within this time are counted together.
pub const MASS_DELETE_FOR: Duration = Duration::from_secs(60);
/// Looks that are remembered of what a series replaces or removes, until that is judged: 6 MB. Beyond it,
/// it is judged by its content.
pub const REPLACED_SEEN_MAX: usize = 1 << 16;
/// A file of which the peer lacks so much is sent ahead of its series, while smaller ones go on: 0.3 s of a
/// gigabit cable.
pub const AHEAD_BYTES_MIN: u64 = 32 << 20;
/// Bytes that are sent ahead until other changes are looked for: some 20 ms of that cable.
pub const AHEAD_SLICE_BYTES: u64 = 2 << 20;
/// Longest that other changes wait for large files that are sent ahead, where something always changes.
pub const AHEAD_TURN_MAX: Duration = Duration::from_millis(500);
/// Files that wait to be sent ahead, or of which something came: others go with their series.
pub const AHEAD_FILES_MAX: usize = 16;
/// A file that changes meanwhile is sent ahead this often; then it goes with its series, however long that takes.
pub const AHEAD_ROUNDS_MAX: u32 = 3;
/// Smaller files are rebuilt and exchanged by a rename, whatever changed in them: that costs little.
pub const PATCH_FILE_BYTES_MIN: u64 = 1 << 20;
/// Bytes that one series writes into files of the trees: a claim waits for them, some 20 ms.
pub const PATCH_SERIES_BYTES_MAX: u64 = 16 << 20;
/// Names after which what follows an applied series looks whether an order waits: some ms.
pub const FINISH_LOOKS_UP: usize = 64;
/// How long a directory's handle is used for the names in it before its path is resolved again: long enough for
/// hundreds of names, and as short as the time between a look and a rename.
pub const PARENT_HANDLE_FOR: Duration = Duration::from_millis(5);
/// Up to this many files or directories are synced one by one, more by syncfs(2): 1 000 small files take
/// 123 ms or 35 ms, but syncfs also waits for what others wrote.
pub const SYNC_EACH_MAX: usize = 16;
/// Threads that hash a file which is in the way of a new one: the owner waits, both cores may work.
pub const TAKE_IN_HASH_THREADS: usize = 2;
/// Longest record of a staged batch that is read, in bytes: an offer and a few bytes for each op.
pub const STAGED_RECORD_BYTES_MAX: u64 = 2 * MIRROR_MESSAGE_BYTES_MAX as u64;
/// Changes of an applied series in one transaction of the index: bounds what is kept in memory of it.
pub const APPLY_CHANGES_MAX: usize = 2048;
/// Longest `about.json` in a conflict store, in bytes: extended attributes of 1 MiB in hex, a path.
pub const CONFLICT_ABOUT_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// A conflict is kept for at least this long, whatever space it takes: longer than a holiday ...
pub const CONFLICT_KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// ... and at most for this long: nobody needs it after that.
pub const CONFLICT_KEPT_FOR_MAX: Duration = Duration::from_secs(365 * 24 * 3600);
/// Conflicts in one store above which old ones go, and a person is told: a list that can still be read, and
/// a directory that is read in some milliseconds.
pub const CONFLICTS_MAX: u64 = 10_000;
/// ... or as soon as they take this part of their file system: what is served from it needs the rest.
pub const CONFLICT_ROOM_PART: u64 = 10;
/// Versions of one path that are kept of a day: what a person wrote by mistake again and again, but not
/// what a program writes all night.
pub const CONFLICT_VERSIONS_MAX: usize = 16;
/// After this long no other version of a path is kept under the same second.
pub const CONFLICT_SECOND_OVER: Duration = Duration::from_secs(2);
/// Conflicts that are removed at a time because they had their time: some milliseconds, as a takeover may
/// wait for it.
pub const CONFLICT_TIDY_MAX: u64 = 100;
/// The store is looked at this often, and for the first time after this: until then a clock that was wrong
/// at the start of the machine is right, by which ages are told.
pub const CONFLICT_TIDY_EVERY: Duration = Duration::from_secs(600);
/// What an administrator's command left half made when it was killed goes after this.
pub const CONFLICT_HALF_MADE_FOR: Duration = Duration::from_secs(24 * 3600);
/// A conflict of an earlier time than this since 1970 was named by a wrong clock: 2025.
pub const CONFLICT_CLOCK_MIN: Duration = Duration::from_secs(1_735_689_600);
/// A conflict's file travels in pieces of this length, in bytes: each is a message.
pub const PARCEL_PIECE_BYTES: u64 = 1024 * 1024;
/// Conflicts in one message of a list: with the longest paths it stays below [`MIRROR_MESSAGE_BYTES_MAX`].
pub const STORE_PAGE: usize = 256;
/// Patience for an answer about a conflict store: a large file is read from a busy disk, or synced.
pub const STORE_ANSWER_PATIENCE: Duration = Duration::from_secs(120);
/// A client of the conflict store that asks nothing for this long is disconnected.
pub const STORE_IDLE_MAX: Duration = Duration::from_secs(300);
/// Links for the conflict stores at a time: one for each of a few administrators; with one more the oldest
/// ends.
pub const STORE_LINKS_MAX: usize = 4;
/// New conflicts are told this often at most, with their number.
pub const NEWS_CONFLICTS_EVERY: Duration = Duration::from_secs(60);
/// A store that is too large is told this often.
pub const NEWS_CROWDED_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Longest file that says what a copy is worth, in bytes: a few numbers for each of eight trees.
pub const COPY_BYTES_MAX: u64 = 64 * 1024;
/// Length of the record of the commit that is under way, in bytes: what a disk writes at once or not at all.
pub const UNDER_WAY_BYTES: usize = 512;
/// An index whose disk refused something is opened again after this, then after twice as long each time, up
/// to [`MIRROR_RETRY`].
pub const INDEX_AGAIN_MIN: Duration = Duration::from_millis(250);
/// A file system that has not answered one call for this long is told: busy disks take a second or two.
pub const MIRROR_STUCK_AFTER: Duration = Duration::from_secs(10);
/// Engines are looked at this often for that.
pub const MIRROR_LOOK_EVERY: Duration = Duration::from_secs(1);
/// Memory of an index's page cache, in bytes: its upper levels and the pages of a batch. The rest is in
/// the kernel's cache. Filling an index costs a third less with 12 MiB than with 4; all of a worker with
/// 50 000 files shall stay below 48.
pub const INDEX_CACHE_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of rows that an index reads at once while it is iterated; one row more may be above it.
pub const INDEX_ITER_BYTES: usize = 256 * 1024;
/// Names below a deleted directory that are collected before they are removed from the index.
pub const INDEX_DELETE_ROWS: usize = 1024;
/// Bytes of dirty names that are kept, [`DIRTY_NAME_BYTES`] and the path for each: 80 000 names of usual
/// length. Beyond it a tree is dirty as a whole: walking it costs less than the list.
pub const DIRTY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a dirty name costs beside its path, in bytes: its share of the set and the heap.
pub const DIRTY_NAME_BYTES: usize = 48;
/// Length of the journal of dirty names at which it is rewritten even between durable commits, in bytes.
pub const DIRTY_JOURNAL_BYTES_MAX: u64 = 2 * DIRTY_BYTES_MAX as u64;
/// Length below which the journal is not rewritten while names are dirty, in bytes.
pub const DIRTY_JOURNAL_BYTES_MIN: u64 = 256 * 1024;
/// Buffer for the kernel's events, in bytes: a thousand of them.
pub const WATCH_BUFFER_BYTES: usize = 64 * 1024;
/// Directories whose path is remembered by handle: the busy ones; one more costs 7 us.
pub const WATCH_PATHS_MAX: usize = 8192;
/// How long a directory handle that fails with ENOMEM is retried, because the error may have another cause: up to
/// 4 ms beside two busy writers, and 50 ms on a loaded machine. A wait in vain happens once per drain.
pub const WATCH_NUMBER_REUSED: Duration = Duration::from_millis(250);

/// Extended attributes of one name, values and names together, in bytes: ext4 holds a few KiB; more is
/// refused by name, so that a change always fits into one message.
pub const XATTRS_BYTES_MAX: usize = 1024 * 1024;
/// The first times that file systems can hold, in seconds since 1970: 32 bits with a sign (ext4, XFS).
pub const FILE_TIMES_FIRST: [i64; 1] = [-0x8000_0000];
/// The last ones: 32 bits with a sign (ext4 with inodes of 128 bytes, XFS without `bigtime`), without one
/// (NFS 3), ext4's 34 bits (2446), XFS with `bigtime` (2486).
pub const FILE_TIMES_LAST: [i64; 4] = [0x7fff_ffff, 0xffff_ffff, 0x3_7fff_ffff, 16_299_260_424];
/// A change time this far back is final: whatever changes later shows another one. Kernels before 6.13
/// stamp with the newest tick, at most 10 ms old (HZ 100); twice that.
pub const CTIME_FINAL_AFTER: Duration = Duration::from_millis(20);
/// ... where the time is a whole second: the file system may know no finer (ext3, or 2 s on FAT).
pub const CTIME_COARSE_FINAL_AFTER: Duration = Duration::from_secs(3);
/// Bytes read at once for hashing: BLAKE3 is at its fastest, and they stay in a core's own cache.
pub const HASH_READ_BYTES: usize = 256 * 1024;
/// Bytes of a file that one thread hashes at a time: mapped, they are one window. Long enough that
/// mapping and handing out cost nothing, short enough to be shared out evenly.
pub const HASH_UNIT_BYTES: u64 = 16 * 1024 * 1024;
/// Names of one sort that a walk lists; all are counted.
pub const WALK_LISTED_MAX: usize = 1000;
/// `hash = "auto"` maps files from this length up, in bytes.
pub const HASH_MAP_BYTES_MIN: u64 = 1 << 30;

/// A mirror's link that failed, and anything that either side could not do, is tried again after this:
/// soon enough that a freed disk or a replugged cable is felt at once, rare enough to cost nothing.
pub const MIRROR_RETRY: Duration = Duration::from_secs(5);
/// An idle sender pings this often: five of them fit in [`MIRROR_ANSWER_PATIENCE`].
pub const MIRROR_PING_EVERY: Duration = Duration::from_secs(2);
/// Patience for an answer that needs no work but a read of the index.
pub const MIRROR_ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Patience while the other side walks, hashes, stages or applies: 4 TiB at 200 MB/s take 6 h. Dead
/// hosts and cut cables are noticed by TCP, dead processes by the kernel; this is for a stuck one.
pub const MIRROR_WORK_PATIENCE: Duration = Duration::from_secs(6 * 3600);
/// Patience for the next chunk of a batch: the largest one (16 MiB) from a disk at 1 MB/s takes 17 s.
pub const MIRROR_DATA_PATIENCE: Duration = Duration::from_secs(60);
/// A mirror is in sync until a change has waited for this long: `a moment ago` in `status`.
pub const MIRROR_MOMENT: Duration = Duration::from_secs(1);
/// Series in a row that a barrier does not count because a file became shorter while it was sent: what
/// was in it before the barrier does not exist any more.
pub const MIRROR_DROPS_MAX: u32 = 3;
/// Names in one `Listing`: with the longest paths they stay below [`MIRROR_MESSAGE_BYTES_MAX`].
pub const LISTING_ENTRIES_MAX: usize = 4096;
/// Names that a sender takes of one bucket: 67 million in all buckets, about 30 MB at a time.
pub const LISTED_NAMES_MAX: usize = 1 << 18;

/// A peer that takes or gives nothing in the middle of a frame (64 KiB) for this long is gone; so is one
/// whose kernel acknowledges nothing (TCP_USER_TIMEOUT, which also counts a closed window: a standby's
/// disk may hold up one chunk for some seconds).
pub const MIRROR_STALL_MAX: Duration = Duration::from_secs(20);
/// An idle link is probed by TCP after this, and as often again.
pub const MIRROR_KEEPALIVE: Duration = Duration::from_secs(2);
/// A handshake and the first message take at most this: ten thousand round trips.
pub const MIRROR_HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);
/// The first bytes of a connection take at most this: they are sent with the connection.
pub const MIRROR_FIRST_BYTES_PATIENCE: Duration = Duration::from_secs(2);
/// Connections from privileged ports that have not said who they are, at one time and for each way in: one
/// for each group. For one more, the oldest that is silent is dropped.
pub const MIRROR_HALF_OPEN_MAX: usize = GROUPS_MAX;
/// The same from other ports: only a worker without CAP_NET_BIND_SERVICE, or without a free port, dials
/// from them.
pub const MIRROR_HALF_OPEN_UNPRIVILEGED_MAX: usize = 4;
/// A connection that was dropped is shown by `status` for this long: longer than the peer's pauses.
pub const DROPPED_SHOWN: Duration = Duration::from_secs(60);
/// Connections that the kernel keeps for the listener until it takes them: it takes them at once.
pub const MIRROR_BACKLOG: i32 = 64;
/// Source ports for dialling: only root binds below 1024, and IANA has given these to nobody who could
/// miss one. Several for each group, as a port rests for a minute after its connection.
pub const MIRROR_SOURCE_PORTS: std::ops::RangeInclusive<u16> = 914..=952;
/// A session that goes over the LAN although the crossover's heartbeats pass: the crossover is tried again
/// this often ...
pub const CROSSOVER_AGAIN_EVERY: Duration = Duration::from_secs(15);
/// ... and when it answers, the session changes over between two series, or after this: a long series
/// over the LAN takes longer than starting it again over the crossover.
pub const CROSSOVER_CHANGE_PATIENCE: Duration = Duration::from_secs(20);

/// The listener looks this often whether an interface or its address came, changed or went.
pub const MIRROR_LISTEN_EVERY: Duration = Duration::from_secs(1);
/// All mirrors of a node together take this much of the LAN, in bytes a second: less than a tenth of
/// 1 Gbit/s, so that clients do not feel that the crossover is down.
pub const LAN_MIRROR_BYTES_PER_S: u64 = 10_000_000;
/// ... after a burst of this, in bytes: a small change goes at once. 26 ms of the pace.
pub const LAN_MIRROR_BURST_BYTES: u64 = 256 * 1024;

/// Generations that a copy of the trees is known to contain: more than a year of daily moves. Of an older one the
/// administrator decides.
pub const ANCESTORS_MAX: usize = 400;
/// Generations that are on record with the trees before they begin: one for each start of the daemon.
pub const READY_FOR_MAX: usize = 16;
/// Mirrored trees in a group: each has a watch and a root that is known by heart.
pub const TREES_MAX: usize = 8;
/// Globs in one tree's `exclude`: every name is held against all of them.
pub const EXCLUDES_MAX: usize = 64;
/// Longest first message of a link, in bytes: the trees' paths, which fit into a config, and some words.
pub const MIRROR_HELLO_BYTES_MAX: usize = CONFIG_BYTES_MAX + 4096;
/// What a link reads or writes at once, in bytes: four of its frames, so that a system call costs little
/// beside encrypting them, and both stay in a core's own cache.
pub const LINK_BUFFER_BYTES: usize = 4 * (2 + 65_535);
