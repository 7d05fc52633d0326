//! How a bed is made.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::BedError;
use super::wiring::REACH_HOSTS;
use crate::limits;
use clusterd::config::ServiceAddress;

const CLUSTERD: &str = "clusterd";
pub(crate) const DEMO: &str = "clusterd-demo";

fn in_path(program: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories).map(|path| path.join(program)).find(|path| path.exists())
}

/// How a bed is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `clusterd` to run.
    pub exe: PathBuf,
    /// The `clusterd-demo` that the nodes run beside it.
    pub demo: PathBuf,
    /// The service addresses of the group `web`; the client asks the first. Of 203.0.113.0/24 and
    /// 2001:db8::/64.
    pub addresses: Vec<ServiceAddress>,
    /// Those of a second group `mail`, which prefers the other node; empty: there is none.
    pub second_addresses: Vec<ServiceAddress>,
    /// The reach hosts.
    pub reach: Vec<IpAddr>,
    /// The nodes' own addresses, and so the heartbeats on the LAN, are IPv6.
    pub ipv6: bool,
    /// Both ends of a cable have the same ifindex: the kernel then tells of lost carriers as late as
    /// it does with real NICs (at most once a second).
    pub same_ifindex: bool,
    /// Each node has a third interface, on the LAN.
    pub redundant: bool,
    /// Lines for the config's `[heartbeat]` table, for example `interval = "20ms"`.
    pub heartbeat: String,
    /// Lines for the config's `[group.web]` table, and further tables of it. `{srv}` becomes the path of
    /// a directory that each node sees its own content of: see [`super::Bed::srv`].
    pub group: String,
    /// The client asks this often, and its outages are exact to this.
    pub ask_every: Duration,
    /// The same for `[group.mail]`.
    pub second_group: String,
    /// What each node sees its own content of is a file system of its own, of so many bytes, in memory.
    pub disk_bytes: Option<u64>,
    /// Nobody asks the daemons all the while whether they are redundant: what is measured is a pair at rest.
    pub unchecked: bool,
    /// When this becomes true, every wait ends with [`super::BedError::Stopped`].
    pub stop: &'static AtomicBool,
}

impl Options {
    /// The same for the program `clusterd-demo`, which runs the `clusterd` beside it, or the one in PATH.
    pub fn of_demo(demo: PathBuf) -> Options {
        let beside = demo.with_file_name(CLUSTERD);
        let exe = if beside.exists() { Some(beside) } else { in_path(CLUSTERD) };
        Options { demo, ..Options::new(exe.unwrap_or_else(|| CLUSTERD.into())) }
    }

    /// Whether both programs are there.
    pub(super) fn check_programs(&self) -> Result<(), BedError> {
        for (program, package) in [(&self.exe, "clusterd"), (&self.demo, "clusterd-bed")] {
            if !program.exists() {
                return Err(BedError::Missing(format!(
                    "{} is missing; `make install` brings it, `cargo build -p {package}` builds it",
                    program.display()
                )));
            }
        }
        Ok(())
    }

    /// One IPv4 service address, the default heartbeat; `clusterd-demo` is beside `clusterd`.
    pub fn new(exe: PathBuf) -> Options {
        static NEVER: AtomicBool = AtomicBool::new(false);
        let ip = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 50));
        Options {
            demo: exe.with_file_name(DEMO),
            exe,
            addresses: vec![ServiceAddress { ip, prefix: 24 }],
            second_addresses: Vec::new(),
            reach: REACH_HOSTS.map(IpAddr::V4).to_vec(),
            ipv6: false,
            same_ifindex: false,
            redundant: false,
            heartbeat: String::new(),
            group: String::new(),
            ask_every: limits::BED_ASK_EVERY,
            second_group: String::new(),
            disk_bytes: None,
            unchecked: false,
            stop: &NEVER,
        }
    }

    /// All service addresses.
    pub(super) fn ips(&self) -> Vec<IpAddr> {
        self.addresses.iter().chain(&self.second_addresses).map(|address| address.ip).collect()
    }
}
