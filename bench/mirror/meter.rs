//! What a contender costs: bytes on the crossover, memory of its processes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clusterd::sys::ns::Namespace;
use clusterd_bed::processes;

use crate::BenchError;

/// Time between two looks at the processes' memory: one look costs some hundredths of this.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Bytes of IPv6 packets that a node's crossover interface sent and received until now. Heartbeats are no
/// IP.
///
/// # Errors
/// The counters can't be read.
pub fn ipv6_bytes(namespace: &Namespace) -> Result<u64, BenchError> {
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev_snmp6/eth1");
    let text = namespace.run(read)??;
    octets_v6(&text).ok_or_else(|| std::io::Error::other("eth1 has no IPv6 counters").into())
}

/// Bytes of IPv4 packets that a namespace sent and received until now.
///
/// # Errors
/// The counters can't be read.
pub fn ipv4_bytes(namespace: &Namespace) -> Result<u64, BenchError> {
    let text = namespace.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat"))??;
    octets_v4(&text).ok_or_else(|| std::io::Error::other("there are no IPv4 counters").into())
}

/// A name and a number a line.
fn octets_v6(text: &str) -> Option<u64> {
    let value = |name| {
        let line = text.lines().find(|line| line.split_ascii_whitespace().next() == Some(name))?;
        line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Some(value("Ip6InOctets")? + value("Ip6OutOctets")?)
}

/// A line of names and a line of numbers, both begin with "IpExt:".
fn octets_v4(text: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt:"));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_ascii_whitespace().zip(numbers.split_ascii_whitespace());
    let values = pairs.by_ref().filter(|(name, _)| ["InOctets", "OutOctets"].contains(name));
    let values: Vec<u64> = values.map_while(|(_, number)| number.parse().ok()).collect();
    let [received, sent] = values.as_slice() else { return None };
    Some(received + sent)
}

/// Forgets the most memory that a process had resident until now (proc_pid_clear_refs(5)).
///
/// # Errors
/// The kernel refuses.
pub fn reset_peak(pid: i32) -> std::io::Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5")
}

/// The most memory that a process had resident since then.
///
/// # Errors
/// It has ended.
pub fn peak(pid: i32) -> std::io::Result<u64> {
    let bytes = status_bytes(pid, "VmHWM:");
    bytes.ok_or_else(|| std::io::Error::other(format!("process {pid} tells of no memory")))
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
    processes.into_iter().filter_map(|process| status_bytes(process.pid, "VmRSS:")).sum()
}

/// A line of /proc/PID/status that counts kB.
fn status_bytes(pid: i32, name: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::{octets_v4, octets_v6};

    #[test]
    fn counters_are_summed() {
        let text = "ifIndex \t11\nIp6InReceives\t2\nIp6InOctets \t100\nIp6OutOctets\t23\n";
        assert_eq!(octets_v6(text), Some(123));
        assert_eq!(octets_v6("Ip6InOctets 1"), None);
        let text = "TcpExt: A\nTcpExt: 7\nIpExt: InOctets B OutOctets\nIpExt: 100 9 23\n";
        assert_eq!(octets_v4(text), Some(123));
        assert_eq!(octets_v4("IpExt: InOctets\nIpExt: 1\n"), None);
    }
}
