//! Real-time set-up of guard and heart: scheduling, memory that never waits for a disk.

use std::ffi::c_ulong;
use std::io;

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits::{HEAP_TOUCHED_BYTES, STACK_TOUCHED_BYTES};

/// What is brought into memory at once. All else is locked as it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touched {
    /// All that is mapped, the whole program among it, but for its unwind tables.
    Everything,
    /// Stack, heap and other writable memory. For who runs beside another process of this program that
    /// has touched everything: what is missing here is in memory, and a fault costs µs and no disk.
    Writable,
}

/// Makes this process fit for deadlines: real-time priority, what it has touched locked, no further page
/// faults for its first stack and heap. What was refused (a container may do that) is returned as
/// sentences; the process works on without it.
pub fn set_up(priority: i32, touched: Touched) -> Vec<String> {
    let mut refused = Vec::new();
    let mut note = |what: &str, result: io::Result<()>| {
        if let Err(error) = result {
            refused.push(format!("{what}: {error}"));
        }
    };
    // Without the privilege the limit stays, and locking says whether it is enough.
    let unlimited = nix::sys::resource::RLIM_INFINITY;
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, unlimited, unlimited);
    note("memory that only the start needed could not be freed", let_go_of_start());
    // Pages are locked as they come (MCL_ONFAULT): nothing that is mapped and never touched costs memory.
    let flags = MlockAllFlags::MCL_CURRENT
        | MlockAllFlags::MCL_FUTURE
        | MlockAllFlags::from_bits_retain(libc::MCL_ONFAULT);
    note("memory could not be locked", lock_memory(flags));
    keep_heap();
    touch_stack();
    note("mapped memory could not be touched in advance", touch_mappings(touched));
    note(
        "protection from the out-of-memory killer was refused",
        std::fs::write("/proc/self/oom_score_adj", "-1000"),
    );
    note("timer slack could not be set", set_timer_slack());
    note("real-time priority was refused", set_thread_priority(priority));
    refused
}

/// Locks all memory, if that has no limit: under a limit the lock would succeed now, and an allocation
/// would fail later.
fn lock_memory(flags: MlockAllFlags) -> io::Result<()> {
    let (limit, _) = getrlimit(Resource::RLIMIT_MEMLOCK)?;
    if limit != nix::sys::resource::RLIM_INFINITY && !has_cap_ipc_lock()? {
        return Err(io::Error::other(
            "its size is limited; give CAP_IPC_LOCK or LimitMEMLOCK=infinity",
        ));
    }
    Ok(mlockall(flags)?)
}

/// Whether this process may lock as much as it likes (capabilities(7), bit 14 of `CapEff`).
fn has_cap_ipc_lock() -> io::Result<bool> {
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status")?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    Ok(bits & (1 << CAP_IPC_LOCK) != 0)
}

/// Gives the calling thread a real-time priority (SCHED_RR, 1 to 99). Its threads and children start
/// without one.
///
/// # Errors
/// Needs CAP_SYS_NICE or an RLIMIT_RTPRIO.
pub fn set_thread_priority(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority };
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `parameters` is alive; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Undoes what a child of a real-time process inherits and should not keep.
///
/// # Errors
/// /proc is not there.
pub fn be_ordinary() -> io::Result<()> {
    std::fs::write("/proc/self/oom_score_adj", "0")
}

/// Without real-time priority, timers may be late by 50 µs and more to save power.
fn set_timer_slack() -> io::Result<()> {
    const NANOSECOND: c_ulong = 1;
    Ok(nix::sys::prctl::set_timerslack(NANOSECOND)?)
}

fn touch_stack() {
    let mut stack = [0u8; STACK_TOUCHED_BYTES];
    std::hint::black_box(&mut stack).fill(1);
}

/// Grows the heap once, and tells the allocator to keep what it has. One heap for all threads: each further one reserves
/// 64 MB, which counts as locked. All threads here have the priority of this one: none waits for
/// a lesser one that holds the heap.
fn keep_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes plain numbers; these only change where memory is taken, and when it is given back.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1);
        libc::mallopt(libc::M_MMAP_MAX, 0);
    }
    drop(std::hint::black_box(vec![1u8; HEAP_TOUCHED_BYTES]));
}

/// Gives back what reading arguments and config has taken: free heap, and the program's own pages, which
/// come again from the kernel's cache as they are used.
fn let_go_of_start() -> io::Result<()> {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) only gives back what is free.
    unsafe {
        libc::malloc_trim(0);
    }
    advise_mappings(|rights, name| {
        (rights == "r-xp" && name.starts_with('/')).then_some(libc::MADV_DONTNEED)
    })
}

/// Faults in the program's own text and data, the libraries', stack and heap (madvise(2),
/// MADV_POPULATE_*, kernel 5.14).
fn touch_mappings(touched: Touched) -> io::Result<()> {
    advise_mappings(|rights, name| match (rights.starts_with("rw"), touched) {
        (true, Touched::Everything | Touched::Writable) => Some(libc::MADV_POPULATE_WRITE),
        // The loader and the unwinder have no work left in a program that beats.
        (false, Touched::Everything) if name.contains("/ld-") || name.contains("/libgcc_s") => None,
        (false, Touched::Everything) => Some(libc::MADV_POPULATE_READ),
        (false, Touched::Writable) => None,
    })
}

/// Where the program's unwind tables begin: they are the last of their mapping, and nothing reads them in a
/// program that ends at a panic, unless it shall tell from where it was called. `None`: there are none.
fn unwind_tables_at() -> Option<usize> {
    #[cfg(target_pointer_width = "64")]
    type Header = libc::Elf64_Phdr;
    #[cfg(target_pointer_width = "32")]
    type Header = libc::Elf32_Phdr;
    // SAFETY: getauxval(3) takes and gives plain numbers.
    let (at, count) = unsafe { (libc::getauxval(libc::AT_PHDR), libc::getauxval(libc::AT_PHNUM)) };
    if at == 0 {
        return None;
    }
    // SAFETY: the program's own headers, which the kernel has mapped with it for good.
    let headers = unsafe { std::slice::from_raw_parts(at as *const Header, count as usize) };
    let address =
        |kind| Some(headers.iter().find(|header| header.p_type == kind)?.p_vaddr as usize);
    let base = (at as usize).checked_sub(address(libc::PT_PHDR)?)?;
    base.checked_add(address(libc::PT_GNU_EH_FRAME)?)
}

/// Gives the kernel `advice` about this process's mappings, by their rights and names as in
/// /proc/self/maps. Only about such as can be read: others are reserves that nobody may touch; and not about
/// the unwind tables.
fn advise_mappings(advice: impl Fn(&str, &str) -> Option<libc::c_int>) -> io::Result<()> {
    let unwinding = unwind_tables_at();
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(rights)) = (words.next(), words.next()) else { continue };
        let name = words.nth(3).unwrap_or_default();
        // The kernel's own pages, and reserves of the allocator.
        if name.starts_with("[v") || !rights.starts_with('r') {
            continue;
        }
        let Some((start, end)) = range.split_once('-') else { continue };
        let (Ok(start), Ok(end)) =
            (usize::from_str_radix(start, 16), usize::from_str_radix(end, 16))
        else {
            continue;
        };
        let Some(advice) = advice(rights, name) else { continue };
        let end = match unwinding {
            Some(at) if (start..end).contains(&at) => at,
            Some(_) | None => end,
        };
        // SAFETY: neither advice changes content: populating faults pages in, and program text, which
        // nobody writes, comes again from its file. A range that was unmapped meanwhile is refused.
        let done = unsafe { libc::madvise(start as *mut libc::c_void, end - start, advice) };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_can_be_touched() {
        // Other tests map and unmap in the meantime.
        let touched = (0..1000).any(|_| touch_mappings(Touched::Everything).is_ok());
        assert!(touched);
        touch_stack();
    }

    #[test]
    fn a_threads_priority_is_its_own() {
        let thread = std::thread::spawn(|| {
            set_thread_priority(1).unwrap();
            let child = std::process::Command::new("cat").arg("/proc/self/stat").output().unwrap();
            let own = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            (own, String::from_utf8(child.stdout).unwrap())
        });
        let (own, child) = thread.join().unwrap();
        // Field 41 is the policy (proc_pid_stat(5)); fields count from behind the name.
        let policy = |stat: &str| {
            stat.rsplit(')').next().unwrap().split_whitespace().nth(38).map(str::to_owned)
        };
        assert_eq!(policy(&own).as_deref(), Some("2"));
        assert_eq!(policy(&child).as_deref(), Some("0"));
    }
}
