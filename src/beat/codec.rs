//! Beats to frames and back: keys, authentication, and what serial frames leave out.
//!
//! Whether a beat *counts* (incarnations, sequence) is the core's to say. What is refused here is no
//! frame of the peer's at all, or none that this path can carry.

use super::buffer::FrameBuffer;
use super::message::{Beat, DropReason, GroupBeat, Incoming, Path, Pulse, PulseKind};
use super::serial_frame::Heard;
use super::{frame, pulse, serial_frame};
use crate::config::key::Key;
use crate::config::ring::{KeyRing, KeyState, Ring, RingError};
use crate::config::{GroupTags, NodeIndex};
use crate::limits::{
    BEAT_BYTES_MAX, DIGEST_INTRODUCTIONS, INTRODUCE_EVERY, KEY_ANNOUNCED_EVERY, KEY_SETTLES_US,
};

/// Version of the frames, in the upper half of their first byte.
const VERSION: u8 = 3;

/// What a receiver knows of the two incarnations at the moment. Serial frames rest on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// This node's incarnation.
    pub my_incarnation: u64,
    /// The peer's current incarnation; 0: not known.
    pub peer_incarnation: u64,
    /// Digest of the config of that incarnation of the peer.
    pub peer_digest: [u8; 8],
    /// This node's time: µs since its incarnation began.
    pub now_us: u64,
}

/// Encodes and decodes the frames of one node of one pair.
///
/// # Plain frames and introductions on serial
/// A plain frame can be read only by a peer that knows my incarnation. So the line carries
/// introductions, which are complete, until the peer's current incarnation has echoed mine in any
/// frame on any path, and again while it does not; after that every tenth frame, every farewell and
/// every frame after one that could not be read is still one. A peer that restarted cannot read what
/// was meant for its old incarnation, nor I what it sends to mine: so both introduce themselves.
/// Nor can it read a plain frame under a digest that it does not know: after a reload the first frames
/// are introductions again.
///
/// # Two keys
/// While the key is changed ([`crate::config::ring`]) both are read. What is sent to an incarnation of the peer is
/// signed with the newest key once that incarnation was heard with it; once that echoes a beat that was signed so for a
/// second it is known to do likewise, and nothing that it signed before is on its way. Until it was heard the newest is *announced*: now and then, on crossover and LAN, a beat goes
/// out once more, signed with it. A peer that has it hears so that this node has it, too; for one that has not it is
/// one frame more that does not fit.
pub struct Codec {
    me: NodeIndex,
    tags: GroupTags,
    cluster: [u8; 8],
    cluster_name: String,
    ring: KeyRing,
    keys: Ring<Keys>,
    /// Beats until the newest key is announced again, by path.
    until_announced: [u32; 3],
    /// To which incarnation of the peer this node sends with the newest key, and from which time of its own on.
    newest_from: Option<(u64, u64)>,
    /// The highest number that this node asked with.
    asked: u64,
    /// The peer's incarnation that has echoed mine.
    knows_me: u64,
    plain_since_introduction: u32,
    /// The digest that this node said last, and introductions that are still due for it.
    digest: Option<[u8; 8]>,
    digest_untold: u32,
    /// Frames sent on serial, for the groups' turns.
    turn: usize,
    /// What was heard from the session's incarnation of the peer.
    heard: Heard,
    /// The same of the newest other one: the session learns of a new incarnation after the codec.
    /// Apart, so that frames replayed from an ended incarnation do not push the current one out.
    heard_other: Heard,
}

/// What is derived from one key of the pair, one for each use.
struct Keys {
    complete: [[u8; 32]; 3],
    plain: [u8; 32],
    pulse: [u8; 32],
}

impl Keys {
    fn derive(key: &Key, cluster: &str) -> Keys {
        let secret = [key.as_slice(), cluster.as_bytes()].concat();
        let complete_key = |path: Path| {
            let context = match path {
                Path::Crossover => "clusterd 1 heartbeat complete crossover",
                Path::Serial => "clusterd 1 heartbeat complete serial",
                Path::Lan => "clusterd 1 heartbeat complete lan",
            };
            blake3::derive_key(context, &secret)
        };
        Keys {
            complete: Path::ALL.map(complete_key),
            plain: blake3::derive_key("clusterd 1 heartbeat plain serial", &secret),
            pulse: blake3::derive_key("clusterd 1 pulse serial", &secret),
        }
    }

    fn complete(&self, path: Path) -> &[u8; 32] {
        let [crossover, serial, lan] = &self.complete;
        match path {
            Path::Crossover => crossover,
            Path::Serial => serial,
            Path::Lan => lan,
        }
    }
}

impl Codec {
    /// A codec for node `me` of `cluster` with the pair's keys and these groups.
    pub fn new(ring: impl Into<KeyRing>, cluster: &str, tags: GroupTags, me: NodeIndex) -> Codec {
        let hash = blake3::derive_key("clusterd 1 cluster name in heartbeats", cluster.as_bytes());
        let ring = ring.into();
        Codec {
            me,
            tags,
            cluster: hash.first_chunk().copied().unwrap_or_default(),
            cluster_name: cluster.to_owned(),
            ring,
            keys: ring.map(|key| Keys::derive(key, cluster)),
            until_announced: [0; 3],
            newest_from: None,
            asked: 0,
            knows_me: 0,
            plain_since_introduction: 0,
            digest: None,
            digest_untold: 0,
            turn: 0,
            heard: Heard::default(),
            heard_other: Heard::default(),
        }
    }

    /// Whether it may go on with these keys: the peer must understand what is sent then, and be understood.
    ///
    /// # Errors
    /// It might not be so.
    pub fn may_use(&self, ring: &KeyRing, peer_incarnation: u64) -> Result<(), RingError> {
        self.ring.may_become(ring, self.key_state(peer_incarnation))
    }

    /// Goes on with these keys, which it may ([`Codec::may_use`]).
    pub fn set_ring(&mut self, ring: &KeyRing) {
        if ring.newest != self.ring.newest {
            for heard in [&mut self.heard, &mut self.heard_other] {
                (heard.has_newest, heard.answers_newest) = (false, false);
            }
            self.newest_from = None;
        }
        self.ring = *ring;
        self.keys = ring.map(|key| Keys::derive(key, &self.cluster_name));
        self.until_announced = [0; 3];
    }

    /// The keys in use.
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// How far a change of the key is, with this incarnation of the peer.
    pub fn key_state(&self, peer_incarnation: u64) -> KeyState {
        let heard = [&self.heard, &self.heard_other];
        // Of incarnation 0, nobody, nothing was heard.
        let heard = heard.into_iter().find(|heard| heard.incarnation == peer_incarnation);
        let heard = heard.copied().unwrap_or_default();
        match (self.ring.before, heard.has_newest, heard.answers_newest) {
            (None, ..) => KeyState::Settled,
            (Some(_), false, _) => KeyState::Waiting,
            (Some(_), true, false) => KeyState::Switched,
            (Some(_), true, true) => KeyState::Agreed,
        }
    }

    /// What is sent to this incarnation of the peer is signed with these.
    fn keys_for(&self, peer_incarnation: u64) -> &Keys {
        self.keys.sending(self.key_state(peer_incarnation).peer_has_newest())
    }

    /// Notes from when on the peer is sent what is signed with the newest key: who answers that has read it.
    fn note_newest(&mut self, beat: &Beat) {
        let peer = beat.peer_incarnation;
        if self.key_state(peer) == KeyState::Waiting {
            self.newest_from.take_if(|(to, _)| *to == peer);
        } else if self.newest_from.is_none_or(|(to, _)| to != peer) {
            self.newest_from = Some((peer, beat.sent_us));
        }
    }

    /// Announces the newest key after `beat` has gone out on `path`: writes it once more, signed with that. `false`:
    /// nothing is to be announced now.
    pub fn announce(&mut self, path: Path, beat: &Beat, out: &mut FrameBuffer) -> bool {
        let waiting = self.key_state(beat.peer_incarnation) == KeyState::Waiting;
        // On serial a frame costs too much.
        if !waiting || path == Path::Serial {
            return false;
        }
        let Some(until) = self.until_announced.get_mut(path.index()) else { return false };
        if let Some(fewer) = until.checked_sub(1) {
            *until = fewer;
            return false;
        }
        *until = KEY_ANNOUNCED_EVERY;
        let key = self.keys.newest.complete(path);
        frame::encode(key, self.cluster, &self.tags, beat, &beat.groups, out);
        true
    }

    /// Writes `beat` as a frame for `path`: all groups on crossover and LAN, the next one on serial.
    pub fn encode(&mut self, path: Path, beat: &Beat, out: &mut FrameBuffer) {
        self.note_newest(beat);
        match path {
            Path::Crossover | Path::Lan => {
                let key = self.keys_for(beat.peer_incarnation).complete(path);
                frame::encode(key, self.cluster, &self.tags, beat, &beat.groups, out);
            }
            Path::Serial => {
                let group = self.next_group(beat);
                if self.digest.replace(beat.digest).is_some_and(|said| said != beat.digest) {
                    self.digest_untold = DIGEST_INTRODUCTIONS;
                }
                if self.introduces(beat) {
                    self.plain_since_introduction = 0;
                    self.digest_untold = self.digest_untold.saturating_sub(1);
                    let groups = group.map(std::slice::from_ref).unwrap_or_default();
                    let key = self.keys_for(beat.peer_incarnation).complete(path);
                    frame::encode(key, self.cluster, &self.tags, beat, groups, out);
                } else {
                    self.plain_since_introduction += 1;
                    let key = &self.keys_for(beat.peer_incarnation).plain;
                    serial_frame::encode(key, &self.tags, beat, group, out);
                }
            }
        }
    }

    /// Writes a pulse as a frame for the serial line.
    pub fn encode_pulse(&mut self, pulse: &Pulse, out: &mut FrameBuffer) {
        match pulse.kind {
            PulseKind::Ask => self.asked = self.asked.max(pulse.number),
            PulseKind::Answer | PulseKind::Life => {}
        }
        pulse::encode(&self.keys_for(pulse.peer_incarnation).pulse, pulse, out);
    }

    /// Writes a last will as a complete frame for `path`, with as many groups as there is room for. It may
    /// never be sent, so nobody loses a turn by it.
    pub fn encode_will(&self, path: Path, will: &Beat, out: &mut FrameBuffer) {
        let groups = match path {
            Path::Crossover | Path::Lan => will.groups.as_slice(),
            Path::Serial => will.groups.get(..1).unwrap_or_default(),
        };
        let key = self.keys_for(will.peer_incarnation).complete(path);
        frame::encode(key, self.cluster, &self.tags, will, groups, out);
    }

    fn next_group<'a>(&mut self, beat: &'a Beat) -> Option<&'a GroupBeat> {
        let place = self.turn.checked_rem(beat.groups.len())?;
        self.turn = self.turn.wrapping_add(1);
        beat.groups.get(place)
    }

    fn introduces(&self, beat: &Beat) -> bool {
        beat.peer_incarnation == 0
            || beat.peer_incarnation != self.knows_me
            || beat.farewell
            || self.digest_untold > 0
            || self.plain_since_introduction + 1 >= INTRODUCE_EVERY
    }

    /// Reads a frame that came on `path` (serial: without its stuffing).
    ///
    /// Of a plain serial frame, `lan_mac` is zero, and `echo_us` 0 also if the echo was too old to be
    /// restored (71 minutes).
    ///
    /// # Errors
    /// The first reason not to take it, in this order: size, version and kind, cluster, sender, tag,
    /// fields.
    pub fn decode(
        &mut self,
        path: Path,
        bytes: &[u8],
        session: &Session,
    ) -> Result<Incoming, DropReason> {
        if bytes.len() > BEAT_BYTES_MAX {
            return Err(DropReason::Oversized);
        }
        if self.heard.incarnation != session.peer_incarnation {
            self.heard_of(session.peer_incarnation);
        }
        let (peer, tags) = (self.me.other(), &self.tags);
        let (beat, with_newest) = match (*bytes.first().ok_or(DropReason::Truncated)?, path) {
            (frame::HEAD, _) => with_each(&self.keys, |keys| {
                frame::decode(keys.complete(path), self.cluster, tags, peer, bytes)
            })?,
            (serial_frame::HEAD, Path::Serial) => {
                let heard = &self.heard;
                let read = with_each(&self.keys, |keys| {
                    serial_frame::decode(&keys.plain, tags, peer, session, heard, bytes)
                });
                self.introduce_after(&read);
                read?
            }
            (pulse::ASK_HEAD | pulse::ANSWER_HEAD | pulse::LIFE_HEAD, Path::Serial) => {
                let heard = self.heard.sequence;
                let read = with_each(&self.keys, |keys| {
                    pulse::decode(&keys.pulse, session, heard, self.asked, bytes)
                });
                self.introduce_after(&read);
                return read.map(|(pulse, _)| Incoming::Pulse(pulse));
            }
            (head, _) if head >> 4 > VERSION => return Err(DropReason::UnknownVersion),
            (head, _) if (1..VERSION).contains(&(head >> 4)) => return Err(DropReason::OldVersion),
            _ => return Err(DropReason::Malformed),
        };
        if beat.peer_incarnation == session.my_incarnation {
            self.knows_me = beat.incarnation;
        } else if beat.incarnation == self.knows_me {
            // It had only answered an introduction, and does not know me yet.
            self.knows_me = 0;
        }
        let answers_newest = beat.peer_incarnation == session.my_incarnation
            && self.newest_from.is_some_and(|(to, from_us)| {
                to == beat.incarnation && beat.echo_us >= from_us + KEY_SETTLES_US
            });
        if beat.incarnation == self.heard.incarnation {
            self.heard.raise(&beat, with_newest, answers_newest);
        } else {
            self.heard_other.raise(&beat, with_newest, answers_newest);
        }
        Ok(Incoming::Beat(beat))
    }

    /// Perhaps the peer has restarted, or I have: after what could not be read it gets an introduction.
    fn introduce_after<T>(&mut self, read: &Result<T, DropReason>) {
        if read.is_err() {
            self.plain_since_introduction = INTRODUCE_EVERY;
        }
    }

    /// Follows the session to another incarnation of the peer.
    fn heard_of(&mut self, incarnation: u64) {
        self.heard = if self.heard_other.incarnation == incarnation {
            self.heard_other
        } else {
            Heard { incarnation, ..Heard::default() }
        };
    }
}

/// Reads with the newest key, and with the one before it what is only signed with another; `true`: it was the newest.
/// So what is forged costs two hashes at most, and one at rest.
fn with_each<T>(
    keys: &Ring<Keys>,
    read: impl Fn(&Keys) -> Result<T, DropReason>,
) -> Result<(T, bool), DropReason> {
    match (read(&keys.newest), &keys.before) {
        (Err(DropReason::BadTag), Some(before)) => read(before).map(|read| (read, false)),
        (read, _) => read.map(|read| (read, true)),
    }
}

/// Whether the first bytes of `expected` are `tag`, in a time that does not depend on where they
/// differ.
pub(super) fn tag_fits<const N: usize>(expected: &blake3::Hash, tag: &[u8; N]) -> bool {
    let mut bytes = *expected.as_bytes();
    match bytes.first_chunk_mut::<N>() {
        Some(first) => *first = *tag,
        None => return false,
    }
    blake3::Hash::from_bytes(bytes) == *expected
}
