//! `check --hardware`: what of this host and its LAN a takeover rests on. It asks, as the daemon does, and changes
//! nothing; the daemon may run meanwhile.
//!
//! The LAN's silence proves that nobody has an address only where an answer would have come. So the addresses are
//! asked for in both forms that the daemon uses, and so is the other node's own address, which is there whether
//! anything is served or not. What that means, `words` says.

mod words;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::Globals;
use crate::config::{Config, Mac, Nic, NodeIndex};
use crate::control::protocol::{Answer, Payload, Request};
use crate::control::socket;
use crate::core::AskAs;
use crate::limits;
use crate::net::{LanWatch, RouteSocket, Seen, interface_index};
use words::{Asked, Found, Path};

/// Sentences, those that need no deed first.
pub(super) struct Findings {
    pub well: Vec<String>,
    pub warnings: Vec<String>,
}

/// Looks, and says what it found.
///
/// # Errors
/// The kernel cannot be asked; in words.
pub(super) fn look(globals: &Globals, config: &Config, me: NodeIndex) -> Result<Findings, String> {
    let node = config.node(me);
    let held = held().map_err(|error| format!("this host's addresses cannot be read: {error}"))?;
    let mut found = Found { paths: paths(globals), ..Found::default() };
    let third = node.redundant.as_ref().filter(|_| config.uses_redundant());
    for (nic, name) in [(Nic::Lan, Some(&node.lan)), (Nic::Redundant, third)] {
        let Some(name) = name else { continue };
        let mut asked = questions(config, me, nic, &held);
        match Asker::open(config, name) {
            Ok(mut asker) => {
                asker.ask(node.address, &mut asked).map_err(|error| {
                    format!("no probe can be sent on {name}: {error}; is it up?")
                })?;
                found.asked.extend(asked);
                // A socket does not hear what this node itself sends.
                if asker.watch.refused().own > 0 {
                    found.doubled.push((name.clone(), Mac(asker.watch.mac())));
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                found.missing.push(name.clone());
            }
            Err(error) => {
                return Err(format!("no probe can be sent on {name}: {error}; run this as root"));
            }
        }
    }
    if let Err(error) = interface_index(&node.crossover) {
        match error.raw_os_error() {
            Some(libc::ENODEV) => found.missing.push(node.crossover.clone()),
            _ => return Err(format!("{} cannot be looked at: {error}", node.crossover)),
        }
    }
    Ok(words::findings(config, me, &found))
}

/// The addresses of this host.
fn held() -> io::Result<Vec<IpAddr>> {
    let mut held = Vec::new();
    RouteSocket::open()?.addresses(&mut |address| held.push(address.ip))?;
    Ok(held)
}

/// What the daemon has measured on its paths, if it runs.
fn paths(globals: &Globals) -> Vec<Path> {
    let asked = socket::ask(&globals.run_dir, &Request::Status {}, limits::CHECK_PATIENCE);
    let Ok(Answer::Ok(Payload::Status(status))) = asked else { return Vec::new() };
    let paths = status.peer.paths.into_iter().filter(|path| path.name != "serial");
    let measured = paths.filter_map(|path| {
        Some(Path { name: path.name, round_trip: Duration::from_micros(path.rtt_us?) })
    });
    measured.collect()
}

/// What to ask on an interface: the other node's own address, and what is served there.
fn questions(config: &Config, me: NodeIndex, nic: Nic, held: &[IpAddr]) -> Vec<Asked> {
    let peer = config.node(me.other());
    let own = Asked { group: None, nic, ip: peer.address, ..Asked::default() };
    let groups = config.groups.iter().filter(|group| group.nic == nic);
    let served = groups.flat_map(|group| {
        group.addresses.iter().map(|address| Asked {
            group: Some(group.name.clone()),
            nic,
            ip: address.ip,
            mac: group.mac,
            here: held.contains(&address.ip),
            ..Asked::default()
        })
    });
    std::iter::once(own).chain(served).collect()
}

/// Asks on one interface.
struct Asker {
    watch: LanWatch,
    poll: Poll,
}

impl Asker {
    fn open(config: &Config, interface: &str) -> io::Result<Asker> {
        let services = config.groups.iter().flat_map(|group| &group.addresses).map(|one| one.ip);
        let own = config.nodes.iter().map(|node| node.address);
        let ipv6 = services.chain(own).any(|ip| ip.is_ipv6());
        let watch = LanWatch::open(interface_index(interface)?, ipv6)?;
        let poll = Poll::new()?;
        for fd in watch.fds() {
            poll.registry().register(&mut SourceFd(&fd), Token(0), Interest::READABLE)?;
        }
        Ok(Asker { watch, poll })
    }

    /// Asks for all of them so many times in each form.
    fn ask(&mut self, own: IpAddr, asked: &mut [Asked]) -> io::Result<()> {
        for ask_as in [AskAs::Nobody, AskAs::ThisNode] {
            for _ in 0..limits::CHECK_ASKS {
                self.round(own, ask_as, asked)?;
            }
        }
        Ok(())
    }

    fn round(&mut self, own: IpAddr, ask_as: AskAs, asked: &mut [Asked]) -> io::Result<()> {
        let mut waiting: BTreeMap<IpAddr, Instant> = BTreeMap::new();
        for question in asked.iter().filter(|question| !question.here) {
            let from = (ask_as == AskAs::ThisNode).then_some(own);
            let from = from.filter(|from| from.is_ipv4() == question.ip.is_ipv4());
            waiting.insert(question.ip, Instant::now());
            match from {
                Some(from) => self.watch.ask(question.ip, from)?,
                None => self.watch.probe(question.ip)?,
            }
            if let Some(Mac(mac)) = question.mac {
                self.watch.probe_at(question.ip, mac)?;
            }
        }
        let end = Instant::now() + limits::CHECK_ASK_PATIENCE;
        let mut events = Events::with_capacity(4);
        while !waiting.is_empty() {
            let Some(left) = end.checked_duration_since(Instant::now()) else { break };
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let mut answers = Vec::new();
            let now = Instant::now();
            while self.watch.receive(limits::FRAMES_A_ROUND, &mut |seen| match seen {
                Seen::Answer { ip, mac, .. } => answers.push((ip, mac)),
                Seen::Uses { .. } | Seen::Probe { .. } => {}
            })? {
                if Instant::now() >= end {
                    break;
                }
            }
            for (ip, mac) in answers {
                let Some(sent) = waiting.remove(&ip) else { continue };
                for question in asked.iter_mut().filter(|question| question.ip == ip) {
                    question.answered(ask_as, Mac(mac), now.saturating_duration_since(sent));
                }
            }
        }
        Ok(())
    }
}
