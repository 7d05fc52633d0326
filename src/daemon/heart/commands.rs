//! Doing what the core says. Nothing here waits, and nothing is done that is not a command.

use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use super::Heart;
use crate::config::{Config, GroupIndex, Mac, Nic};
use crate::control::event::{Record, Told};
use crate::control::protocol::{Answer, Payload};
use crate::control::wallclock;
use crate::core::{AskAs, Command, Event, Time};
use crate::daemon::channel::{HeartChannel, ToWorker};
use crate::net::NetRequest;
use crate::sim::replay::Line;

impl Heart {
    /// Does one command.
    pub(super) fn perform(&mut self, command: Command) {
        match command {
            Command::Will { beat } => {
                self.will = beat;
                self.seal_will();
            }
            Command::Sweep => self.addresses.sweep(),
            Command::Send { path, mut beat } => {
                // The core knows no MAC of this node.
                beat.lan_mac = self.lan_events.own_mac();
                self.sockets.send(path, &beat);
                self.tell_ready();
            }
            Command::Pulse(pulse) => self.sockets.pulse(&pulse),
            Command::LookAtCarriers => {
                self.addresses.try_ask(NetRequest::LookAtCarriers);
                self.sockets.look_at_line(self.clock.now());
            }
            Command::AskReach { round } => {
                self.lan_events.asked(round, self.clock.now());
                let from = self.config.node(self.me).address;
                for &host in &self.config.reach_hosts {
                    if self.config.is_on_lan(host) {
                        self.sockets.ask(host, from);
                    } else {
                        self.sockets.echo(host, round);
                    }
                }
            }
            Command::Probe { group, ask_as } => {
                let from = self.config.node(self.me).address;
                let from = (ask_as == AskAs::ThisNode).then_some(from);
                let mut sent = true;
                for (nic, mac, address) in addresses(&self.config, group) {
                    sent &= self.sockets.probe(nic, mac, address, from);
                }
                if !sent {
                    self.own_events.push_back(Event::ProbeFailed { group });
                }
            }
            Command::Claim { group, claim } => {
                if let Err(error) = self.addresses.claim(group, claim) {
                    self.own_events.push_back(Event::HoldFailed { group, claim, error });
                }
            }
            Command::Renew { group, claim } => {
                self.addresses.try_ask(NetRequest::Renew { group, claim });
            }
            Command::Release { group, release } => self.addresses.release(group, release),
            Command::Announce { group } => {
                for (nic, mac, address) in self.addresses.addresses(group) {
                    self.sockets.announce(nic, mac, address);
                }
            }
            Command::Configured => self.configured(),
            Command::Addresses { group, addresses } => self.addresses.change(group, addresses),
            Command::Persist { write, state } => {
                self.worker.send(&ToWorker::Persist { write, state });
            }
            Command::Services { group, order, duty } => {
                self.worker.send(&ToWorker::Services { group, order, duty });
            }
            Command::Mirror { group, order, duty, peer, terms } => {
                self.worker.send(&ToWorker::Mirror { group, order, duty, peer, terms });
            }
            Command::Clients { group, duty } => {
                self.worker.send(&ToWorker::Clients { group, duty });
            }
            Command::Tickle { group } => self.worker.send(&ToWorker::Tickle { group }),
            Command::Approve { group } => self.worker.send(&ToWorker::Approve { group }),
            Command::Sync { request, group } => {
                self.worker.send(&ToWorker::Sync { request, group });
            }
            Command::Tell(told) => self.tell(told),
            Command::Answer { request, outcome } => {
                let answer = match outcome {
                    Ok(text) => Answer::Ok(Payload::Text(text)),
                    Err(why) => Answer::Refused(why),
                };
                self.server.answer(request, &answer, Instant::now());
            }
            Command::Exit => self.leaving = true,
        }
    }

    /// Seals the last will for the paths as they are open now.
    pub(super) fn seal_will(&mut self) {
        let will = self.will.as_ref().map(|will| self.sockets.farewells(will)).unwrap_or_default();
        self.addresses.will_is(will, &mut self.page);
    }

    fn tell(&mut self, told: Told) {
        let time = wallclock::format(SystemTime::now());
        let node = self.config.node(self.me).name.clone();
        self.worker.send(&ToWorker::Tell(Record { time, node, told }));
    }

    /// With the first beat, the daemon is up.
    fn tell_ready(&mut self) {
        if !self.ready_told {
            self.ready_told = true;
            self.worker.send(&ToWorker::Ready);
        }
    }
}

/// A group's addresses in the config, and on which interface each is.
fn addresses(
    config: &Config,
    group: GroupIndex,
) -> impl Iterator<Item = (Nic, Option<Mac>, IpAddr)> {
    let group = config.groups.get(usize::from(group.0));
    group.into_iter().flat_map(|group| {
        group.addresses.iter().map(move |address| (group.nic, group.mac, address.ip))
    })
}

/// One line of the recording; if the worker does not keep up it is dropped and counted.
pub(super) fn record(worker: &mut HeartChannel, now: Time, event: &Event) {
    if let Ok(line) = serde_json::to_string(&Line { now, event: event.clone() }) {
        worker.send(&ToWorker::RecordInput(line));
    }
}
