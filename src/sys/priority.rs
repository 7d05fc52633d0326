//! Real-time priority of the calling thread (sched(7)).

use std::io;

/// Puts the calling thread under SCHED_RR at `priority`, 1 to 99. Needs CAP_SYS_NICE.
///
/// # Errors
/// As sched_setscheduler(2).
pub fn real_time(priority: i32) -> io::Result<()> {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: `param` is live during the call; pid 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const param) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
