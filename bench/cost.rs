//! What processes cost: time on the processors, memory.

use std::fs;

/// Bytes in a MB.
const MEGA: f64 = 1e6;

/// What some processes have cost until now.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Time on the processors, in s.
    pub cpu_s: f64,
    /// Resident memory, added, in MB: shared pages count once for each process.
    pub rss_mb: f64,
    /// The same with a shared page divided among all that share it.
    pub pss_mb: f64,
}

/// What `pids` have cost until now.
///
/// # Errors
/// One of them has ended.
pub fn of(pids: &[i32]) -> std::io::Result<Cost> {
    let mut cost = Cost::default();
    for pid in pids {
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // Exact, where the times of /proc/PID/stat are in hundredths of a second.
            let text = match fs::read_to_string(task?.path().join("schedstat")) {
                // A thread that has ended since the list was made.
                Err(error) if has_ended(&error) => continue,
                text => text?,
            };
            cost.cpu_s += first_number(&text).ok_or_else(|| unreadable("schedstat"))? / 1e9;
        }
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let bytes = |name| kib(&text, name).ok_or_else(|| unreadable(name));
        cost.rss_mb += bytes("Rss:")? * 1024.0 / MEGA;
        cost.pss_mb += bytes("Pss:")? * 1024.0 / MEGA;
    }
    Ok(cost)
}

fn has_ended(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

fn unreadable(what: &str) -> std::io::Error {
    std::io::Error::other(format!("/proc tells nothing of {what}"))
}

fn first_number(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The number of the line that begins so, which counts kB.
fn kib(text: &str, name: &str) -> Option<f64> {
    first_number(text.lines().find_map(|line| line.strip_prefix(name))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn the_lines_of_proc_are_read() {
        let text =
            "55d4-7ffd ---p 0 00:00 0 [rollup]\nRss:  2048 kB\nPss:   512 kB\nPss_Dirty: 9 kB\n";
        assert_eq!((kib(text, "Rss:"), kib(text, "Pss:")), (Some(2048.0), Some(512.0)));
        assert_eq!(kib(text, "Swap:"), None);
    }

    #[test]
    fn work_costs_time() {
        let own = [i32::try_from(std::process::id()).expect("a pid")];
        let before = of(&own).expect("a cost");
        let begun = Instant::now();
        // However busy the machine is: until it has had that time.
        while of(&own).expect("a cost").cpu_s < before.cpu_s + 0.05 {
            assert!(begun.elapsed() < Duration::from_secs(60), "no time in a minute");
        }
        assert!(before.rss_mb > 0.5 && before.pss_mb <= before.rss_mb, "{before:?}");
    }
}
