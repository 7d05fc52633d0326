//! Constants of the bed and of what it promises. They stand beside those of the product.

use std::time::Duration;

pub use clusterd::limits::*;

/// The bed's client asks this often, unless it is told otherwise: its outages are exact to this.
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
/// The bed's redundancy checker asks each daemon this often ...
pub const BED_POLL_EVERY: Duration = Duration::from_millis(150);
/// ... and waits no longer for an answer than this: a frozen daemon gives none.
pub const BED_POLL_WITHIN: Duration = Duration::from_millis(500);
/// Words of daemons that it remembers: some minutes of both.
pub const BED_WORDS_MAX: usize = 2000;
/// What a daemon said counts for this long (promise P6).
pub const BED_SAID_WITHIN: Duration = Duration::from_secs(1);
/// After something was done to the pair, what it says counts only from then on: twice `dead_after`, in which
/// it is noticed on both nodes.
pub const BED_SETTLES_WITHIN: Duration = Duration::from_millis(300);
/// The bed's serial line moves bytes this often: a 16550 hands over eight at a time, at 115 200 baud.
pub const BED_LINE_TICK: Duration = Duration::from_micros(694);
/// Bytes that the bed's serial line remembers at each end: about four seconds of heartbeats.
pub const BED_LINE_HEARD_BYTES: usize = 4096;
/// TCP port of the bed's web server, which listens on every address.
pub const BED_WEB_PORT: u16 = 8080;
/// Fetchers of the bed's web pages at the same time, so that one that waits in vain holds up nobody.
pub const BED_FETCHERS: usize = 4;
/// Each fetches this often: 200 pages a second together, one every 5 ms.
pub const BED_FETCH_EVERY: Duration = Duration::from_millis(20);
/// A page that takes longer is given up, and another one asked for: a lost SYN is repeated by the
/// kernel only after a second.
pub const BED_FETCH_WITHIN: Duration = Duration::from_millis(50);
/// Regular files of /usr/share/doc that the bed's site takes, at most ...
pub const BED_SITE_FILES_MAX: usize = 5000;
/// ... and bytes of all of them, and of one: a first copy is to take seconds.
pub const BED_SITE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// See [`BED_SITE_BYTES_MAX`].
pub const BED_SITE_FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest the bed waits for the first copy of its site, on a machine that is busy with other things.
pub const BED_COPY_WITHIN: Duration = Duration::from_secs(120);
/// With fewer files than this (a slim machine strips its documents) the site is filled up.
pub const BED_SITE_FILES_MIN: usize = 3000;
/// Pages of its own that the bed's writer writes, rewrites and deletes ...
pub const BED_PAGES: usize = 1000;
/// ... and documents of the site that it rewrites.
pub const BED_REWRITTEN: usize = 200;
/// Longest text of a page, in bytes: a few pages of memory, so that half a write would be seen.
pub const BED_PAGE_BYTES_MAX: u64 = 16 * 1024;
/// The bed's writer changes something this often.
pub const BED_WRITE_EVERY: Duration = Duration::from_millis(8);
/// The bed's writer waits so long between two calls of `sync --wait`.
pub const BED_SYNC_EVERY: Duration = Duration::from_millis(250);
/// Longest outage promised for a single fault that the peer can be sure of.
pub const OUTAGE_MAX: Duration = Duration::from_millis(250);
/// A client's idle connection ends within this after the new owner holds the addresses.
pub const CLIENT_KNOWS_MAX: Duration = Duration::from_millis(200);
/// The bed measures this often whether the machine itself is stalled ...
pub const BED_STALLS_EVERY: Duration = Duration::from_millis(2);
/// ... which it does when that takes so much longer: some ten times what a machine needs that does nothing else.
pub const BED_STALL_MIN: Duration = Duration::from_millis(1);
/// Stalls that it remembers, the oldest go first: minutes of a machine that does little else.
pub const BED_STALLS_MAX: usize = 100_000;
/// Longest outage promised for a handover over the serial line alone: each of its words waits for a beat.
pub const OUTAGE_SERIAL_MAX: Duration = Duration::from_millis(500);
/// Longest outage promised when only the kernel is left to end the lease: [`LEASE`], [`LEASE_GRACE`],
/// and a takeover.
pub const OUTAGE_LEASE_MAX: Duration = Duration::from_millis(3500);
/// Files that the bed's stamper stamps in each round: enough that a copy which takes them one by one is
/// caught between two, few enough for some hundred rounds a second.
pub const STAMPED_FILES: usize = 50;
/// The disk of each node in chaos: room for a conflict store that nobody empties for an hour.
pub const CHAOS_DISK_BYTES: u64 = 256 * 1024 * 1024;
/// Pages that the group's program writes in chaos: few, so that each is written, read and replaced often.
pub const CHAOS_PAGES: usize = 150;
/// Between two blows of chaos at least this ...
pub const CHAOS_GAP_MIN: Duration = Duration::from_millis(5);
/// ... and at most this: from before anybody notices the first to after all is settled.
pub const CHAOS_GAP_MAX: Duration = Duration::from_secs(3);
/// After the last blow the pair lives with them for this long at most.
pub const CHAOS_HOLD_MAX: Duration = Duration::from_secs(8);
/// A healed pair is whole and in sync within this, on a machine that is busy with other things.
pub const CHAOS_WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// `sync --wait` of a whole pair may take so long.
pub const CHAOS_SYNC_WITHIN: Duration = Duration::from_secs(30);
/// Of a thousand looks of the readers, so many come with a change by mistake on the other side: two a second.
pub const CHAOS_MISTAKES_PER_MILLE: u64 = 60;
/// What was changed on a node so shortly before or after it began to serve may have been no mistake.
pub const CHAOS_MISTAKE_SETTLES: Duration = Duration::from_secs(1);
