//! Who listens on a TCP port of this host, for the one who cannot.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// Sockets in the state LISTEN, in the tables of the thread's own network namespace (tcp4_seq_show() in
/// net/ipv4/tcp_ipv4.c).
const TABLES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
const LISTEN: &str = "0A";

/// The process that listens there, in words; `None`: nobody that can be seen.
pub(super) fn of_port(port: u16) -> Option<String> {
    let tables = TABLES.iter().filter_map(|table| fs::read_to_string(table).ok());
    let inodes: Vec<u64> = tables.flat_map(|table| listeners(&table, port)).collect();
    let processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let holder = pids.into_iter().find(|pid| holds(*pid, &inodes))?;
    let name = fs::read_to_string(format!("/proc/{holder}/comm")).unwrap_or_default();
    Some(format!("process {holder} ({})", name.trim_end()))
}

/// Inodes of the sockets that listen on this port.
fn listeners(table: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, local_port) = fields.get(1)?.rsplit_once(':')?;
        let listens =
            u16::from_str_radix(local_port, 16) == Ok(port) && fields.get(3) == Some(&LISTEN);
        listens.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    table.lines().filter_map(inode).collect()
}

fn holds(pid: u32, inodes: &[u64]) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    descriptors.filter_map(Result::ok).any(|descriptor| {
        let target = fs::metadata(descriptor.path());
        // Only a socket's inode has this number on the file system of sockets.
        target.is_ok_and(|it| {
            it.mode() & libc::S_IFMT == libc::S_IFSOCK && inodes.contains(&it.ino())
        })
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let words = of_port(port).unwrap();
        assert!(words.starts_with(&format!("process {} (", std::process::id())), "{words}");
        drop(listener);
        assert_eq!(of_port(port), None);
    }
}
