//! What a contender costs: bytes on the crossover, memory of all its processes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clusterd::bed::processes;
use clusterd::sys::ns::Namespace;

use crate::BenchError;

/// Time between two looks at the processes' memory: one look costs some hundredths of this.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Bytes that a node's crossover interface sent and received until now.
///
/// # Errors
/// The counters can't be read.
pub fn crossover_bytes(namespace: &Namespace) -> Result<u64, BenchError> {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    sum(&text).ok_or_else(|| std::io::Error::other("eth1 has no counters").into())
}

/// "eth1:", bytes received, seven more numbers, bytes sent (proc_pid_net(5)).
fn sum(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("eth1:"))?;
    let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
    let received = numbers.next()?.ok()?;
    let sent = numbers.nth(7)?.ok()?;
    Some(received + sent)
}

/// Does `work`; its result, and the most bytes that the processes of both namespaces had resident at
/// one time.
pub fn most_memory<T>(namespaces: [&Namespace; 2], work: impl FnOnce() -> T) -> (T, u64) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut most = 0;
            while !done.load(Ordering::SeqCst) {
                most = most.max(namespaces.iter().map(|namespace| resident(namespace)).sum());
                std::thread::sleep(LOOK_EVERY);
            }
            most
        });
        let result = work();
        done.store(true, Ordering::SeqCst);
        (result, watcher.join().unwrap_or(0))
    })
}

/// A process that ends while it is looked at has no memory any more.
fn resident(namespace: &Namespace) -> u64 {
    let processes = processes::list(namespace).unwrap_or_default();
    processes
        .into_iter()
        .filter_map(|process| {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid)).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib * 1024)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::sum;

    #[test]
    fn counters_are_summed() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth1: 100 2 \
                    0 0 0 0 0 0 23 1 0 0 0 0 0 0\n";
        assert_eq!(sum(text), Some(123));
        assert_eq!(sum("eth0: 1 2"), None);
        assert_eq!(sum("eth1: 1 2"), None);
    }
}
