//! What travels: heartbeats, ARP, reach questions, and an attacker's replays.

use std::collections::VecDeque;
use std::rc::Rc;

use super::node::Frame;
use super::world::{Arp, Happening, World};
use crate::beat::{Beat, FrameBuffer, Path, Pulse};
use crate::config::{GroupIndex, NodeIndex};
use crate::core::Event;

/// Frames that the attacker remembers.
const REMEMBERED: usize = 512;

/// Ten bits at 115 200 a second, in µs.
const SERIAL_BYTE_US: u64 = 87;
/// Delimiters and stuffing of a frame on the serial line.
const SERIAL_OVERHEAD_BYTES: u64 = 4;
/// A frame that would wait longer for the serial line is not sent, in µs.
const SERIAL_WAIT_MAX_US: u64 = 12_000;

/// A frame under way on the serial line is noticed this often, in µs.
const LINE_SEEN_US: u64 = 2_000;

/// Somebody who records heartbeats and sends them again.
#[derive(Default)]
pub struct Attacker {
    /// Who was to get it, and the frame.
    seen: VecDeque<(NodeIndex, Frame)>,
    /// Longest time between two replays in µs, while active.
    pub every_us: Option<u64>,
    /// Only frames to this node.
    pub only_to: Option<NodeIndex>,
}

/// The MAC of a node's LAN interface.
pub fn mac(node: NodeIndex) -> [u8; 6] {
    match node {
        NodeIndex::Lower => [2, 0, 0, 0, 0, 1],
        NodeIndex::Upper => [2, 0, 0, 0, 0, 2],
    }
}

impl World {
    /// Sends a heartbeat on a path.
    pub(super) fn transmit(&mut self, from: NodeIndex, path: Path, mut beat: Beat) {
        let has_serial = self.setup.serial;
        let Some(heart) = &mut self.nodes[from].heart else { return };
        heart.said_farewell |= beat.farewell;
        if path == Path::Serial && !has_serial {
            return;
        }
        beat.lan_mac = mac(from);
        let mut buffer = FrameBuffer::new();
        heart.codec.encode(path, &beat, &mut buffer);
        self.carry(from, Frame { path, bytes: Rc::from(buffer.as_slice()) });
    }

    /// Sends a pulse on the serial line.
    pub(super) fn transmit_pulse(&mut self, from: NodeIndex, pulse: &Pulse) {
        let Some(heart) = self.nodes[from].heart.as_mut().filter(|_| self.setup.serial) else {
            return;
        };
        let mut buffer = FrameBuffer::new();
        heart.codec.encode_pulse(pulse, &mut buffer);
        self.carry(from, Frame { path: Path::Serial, bytes: Rc::from(buffer.as_slice()) });
    }

    /// Keeps the heart's last will ready for the guard.
    pub(super) fn seal_will(&mut self, index: NodeIndex, beat: Option<Beat>) {
        let has_serial = self.setup.serial;
        let node = &mut self.nodes[index];
        node.will.clear();
        let (Some(heart), Some(beat)) = (&node.heart, beat) else { return };
        for path in Path::ALL.into_iter().filter(|path| has_serial || *path != Path::Serial) {
            let mut buffer = FrameBuffer::new();
            heart.codec.encode_will(path, &beat, &mut buffer);
            node.will.push(Frame { path, bytes: Rc::from(buffer.as_slice()) });
        }
    }

    /// The guard says the last will, once.
    pub(super) fn say_will(&mut self, from: NodeIndex) {
        for frame in std::mem::take(&mut self.nodes[from].will) {
            self.trace.note(self.now_us, || {
                format!("{}'s last will on {:?}", self.name(from), frame.path)
            });
            self.carry(from, frame);
        }
    }

    /// Lets a frame travel.
    fn carry(&mut self, from: NodeIndex, frame: Frame) {
        let (to, path) = (from.other(), frame.path);
        if self.attacker.seen.len() == REMEMBERED {
            // Old ones are as interesting as new ones.
            let forgotten = self.rng.below(REMEMBERED as u64) as usize;
            self.attacker.seen.swap_remove_back(forgotten);
        }
        self.attacker.seen.push_back((to, frame.clone()));
        let way = *self.network.way(path, from);
        let copies = if self.rng.chance(way.doubled) { 2 } else { 1 };
        for _ in 0..copies {
            if !self.network.passes(path, from, &mut self.rng) {
                continue;
            }
            let mut frame = frame.clone();
            if self.rng.chance(way.damaged) {
                frame.bytes = self.damaged(&frame.bytes);
            }
            if let Some(arrives_us) = self.arrival_us(from, &frame, way.delay_us) {
                if path == Path::Serial {
                    // What is under way is seen to be.
                    let mut seen_us = self.now_us + LINE_SEEN_US;
                    while seen_us < arrives_us {
                        self.at(seen_us, Happening::LineBusy { node: to });
                        seen_us += LINE_SEEN_US;
                    }
                }
                self.at(arrives_us, Happening::Frame { node: to, frame });
            }
        }
    }

    /// When a frame sent now arrives. Frames overtake each other only where a fault delays them. The
    /// serial line takes them one after the other, byte by byte, and drops what would wait long.
    fn arrival_us(&mut self, from: NodeIndex, frame: &Frame, delay_us: u64) -> Option<u64> {
        let now_us = self.now_us;
        let mut more_us = self.rng.below(delay_us + 1);
        if frame.path == Path::Lan {
            more_us += self.network.lan.delay_us(now_us, from, &mut self.rng);
        }
        let fastest_us = match frame.path {
            Path::Crossover => self.rng.between(30, 120),
            Path::Lan => self.rng.between(50, 300),
            Path::Serial => (frame.bytes.len() as u64 + SERIAL_OVERHEAD_BYTES) * SERIAL_BYTE_US,
        };
        let last_us = &mut self.network.arrived_us[frame.path.index()][from];
        let arrives_us = match frame.path {
            Path::Crossover | Path::Lan if delay_us > 0 => now_us + fastest_us,
            Path::Crossover | Path::Lan => (now_us + fastest_us).max(*last_us),
            Path::Serial if *last_us > now_us + SERIAL_WAIT_MAX_US => return None,
            Path::Serial => now_us.max(*last_us) + fastest_us,
        };
        *last_us = arrives_us;
        Some(arrives_us + more_us)
    }

    /// The same bytes with a flipped bit, or cut short.
    fn damaged(&mut self, bytes: &[u8]) -> Rc<[u8]> {
        let mut bytes = bytes.to_vec();
        let place = self.rng.below(bytes.len() as u64) as usize;
        if self.rng.chance(800) {
            bytes[place] ^= 1 << self.rng.below(8);
        } else {
            bytes.truncate(place);
        }
        Rc::from(bytes)
    }

    /// A frame is under way on the serial line to this node.
    pub(super) fn line_is_busy(&mut self, index: NodeIndex) {
        if let Some(heart) = &mut self.nodes[index].heart
            && heart.core.is_asking()
        {
            heart.inbox.net.push_back(Event::LineBusy);
            self.wake_heart(index, 15);
        }
    }

    pub(super) fn frame_arrives(&mut self, index: NodeIndex, frame: Frame) {
        if let Some(heart) = &mut self.nodes[index].heart {
            heart.inbox.put_frame(frame);
            self.wake_heart(index, 15);
        }
    }

    /// Sends ARP about a group's addresses into the LAN, where the peer hears it.
    pub(super) fn send_arp(&mut self, from: NodeIndex, group: GroupIndex, kind: Arp) {
        if self.network.arp_passes(from, &mut self.rng) {
            let delay_us = match kind {
                Arp::Probe | Arp::Announcement => self.rng.between(30, 150),
                Arp::Answer => self.rng.between(60, 650),
            };
            let delay_us = delay_us + self.network.lan.delay_us(self.now_us, from, &mut self.rng);
            self.after(delay_us, Happening::Arp { node: from.other(), group, kind });
        }
    }

    pub(super) fn arp_arrives(&mut self, index: NodeIndex, group: GroupIndex, kind: Arp) {
        if kind == Arp::Probe && self.nodes[index].kernel.lease(group).is_some() {
            self.send_arp(index, group, Arp::Answer);
        }
        self.seen_on_lan(index, group, kind);
    }

    /// Asks every reach host once.
    pub(super) fn ask_reach(&mut self, index: NodeIndex, round: u32) {
        if let Some(heart) = &mut self.nodes[index].heart {
            heart.reach_round = round;
        }
        if !self.network.on_lan(index) {
            return;
        }
        for host in 0..self.setup.reach_hosts {
            let way = self.network.arp[index];
            let lost = self.rng.chance(way.loss) || self.rng.chance(way.loss);
            if self.network.hosts[usize::from(host)][index] == 0 && !lost {
                let delay_us = self.rng.between(200, 2_000);
                let late_us = self.network.lan.delay_us(self.now_us, index, &mut self.rng);
                let delay_us = delay_us + 2 * late_us;
                self.after(delay_us, Happening::Reach { node: index, host });
            }
        }
    }

    pub(super) fn reach_answers(&mut self, index: NodeIndex, host: u8) {
        if let Some(heart) = &mut self.nodes[index].heart {
            // An answer does not say which question it answers: it counts for the newest.
            let round = heart.reach_round;
            heart.inbox.put_lan(Event::ReachAnswered { host, round });
            self.wake_heart(index, 15);
        }
    }

    /// The attacker sends an old frame once more, and comes back if it is still active.
    pub(super) fn replay(&mut self) {
        let Some(every_us) = self.attacker.every_us else { return };
        if !self.attacker.seen.is_empty() {
            let place = self.rng.below(self.attacker.seen.len() as u64) as usize;
            let (mut to, frame) = self.attacker.seen[place].clone();
            if self.rng.chance(30) {
                to = to.other();
            }
            let wanted = self.attacker.only_to.is_none_or(|only| only == to);
            if wanted && self.nodes[to].powered && self.nodes[to].paused == 0 {
                self.frame_arrives(to, frame);
            }
        }
        let next_us = self.rng.between(every_us / 4, every_us);
        self.after(next_us, Happening::Replay);
    }
}
