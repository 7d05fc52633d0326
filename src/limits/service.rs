//! Constants of services and their checks.

use std::time::Duration;

/// Services in a group: their states fit many times into one message between worker and heart.
pub const SERVICES_MAX: usize = 16;
/// Default `start_timeout` and `stop_timeout` of a service: a database's recovery takes seconds.
pub const SERVICE_TIMEOUT: Duration = Duration::from_secs(60);
/// Shortest of them: a program needs some ms just to begin.
pub const SERVICE_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Longest of them: a recovery of a large database.
pub const SERVICE_TIMEOUT_MAX: Duration = Duration::from_secs(3600);
/// Default `restarts` of a service.
pub const SERVICE_RESTARTS: u32 = 3;
/// Most `restarts`: each is remembered for [`SERVICE_RESTARTS_WINDOW`].
pub const SERVICE_RESTARTS_MAX: u32 = 100;
/// Restarts are counted within this: a service that fails once a day is restarted each time.
pub const SERVICE_RESTARTS_WINDOW: Duration = Duration::from_secs(600);
/// A service that has used up its restarts is tried again after this, doubled each time ...
pub const SERVICE_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// ... up to this.
pub const SERVICE_AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);
/// Default time between two checks; also between two `status` where there is no check.
pub const CHECK_EVERY: Duration = Duration::from_secs(2);
/// Shortest time between two checks: a process each time.
pub const CHECK_EVERY_MIN: Duration = Duration::from_millis(100);
/// Longest time between two checks: rarer ones guard nothing.
pub const CHECK_EVERY_MAX: Duration = Duration::from_secs(3600);
/// Default patience of a check.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Shortest patience of a check: noise of a loaded machine reaches 15 ms.
pub const CHECK_TIMEOUT_MIN: Duration = Duration::from_millis(50);
/// Longest patience of a check.
pub const CHECK_TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// Default of failures in a row that mean that a service has failed; also of `status` without answer.
pub const CHECK_FAILURES: u32 = 3;
/// Most failures in a row.
pub const CHECK_FAILURES_MAX: u32 = 100;
/// A service that has just started is checked this often until it passes: it is in service that soon.
pub const CHECK_FIRST_EVERY: Duration = Duration::from_millis(100);
/// Patience with `status` of a service, which looks and does nothing else.
pub const SERVICE_STATUS_PATIENCE: Duration = Duration::from_secs(5);
/// After `stop`, what it told to end has this long before it is killed, or is said to run still.
pub const SERVICE_END_GRACE: Duration = Duration::from_secs(1);
/// Patience with the end of killed processes: longer takes only one that the kernel holds (a dead disk).
pub const SERVICE_KILL_PATIENCE: Duration = Duration::from_secs(5);
/// A service that still runs after its stop is stopped again after this.
pub const SERVICE_STOP_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A report that the heart did not take is sent again after this.
pub const SERVICE_TELL_AGAIN: Duration = Duration::from_secs(1);
/// Results of a group's jobs that may wait for its supervisor: more than ever run at one time.
pub const SERVICE_RESULTS_MAX: usize = 4 * SERVICES_MAX;
/// Notes of a group's supervisor that wait for the heart; the oldest are dropped, and logged.
pub const SERVICE_NOTES_MAX: usize = 64;
/// What is kept of a program's output, in bytes: its last lines say why it failed.
pub const SERVICE_WORDS_BYTES: usize = 2048;
/// What is quoted of it in events and `status`, in characters.
pub const SERVICE_WORDS_CHARS: usize = 240;
/// A service's log in the run directory is emptied beyond this size, in bytes: it is memory.
pub const SERVICE_LOG_BYTES_MAX: u64 = 1024 * 1024;
/// Time between two rounds of killing while a held process has not ended.
pub const HOLD_KILL_EVERY: Duration = Duration::from_millis(20);
/// A holder looks this often whether its record is still there: a cleaner of the run directory must not make
/// the next worker start a service twice.
pub const HOLD_LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest answer of a holder to its worker, in bytes: `started 255 held`.
pub const HOLD_ANSWER_BYTES_MAX: usize = 64;
/// Longest record of a holder, in bytes: two numbers and a path.
pub const HOLD_RECORD_BYTES_MAX: u64 = 8 * 1024;
