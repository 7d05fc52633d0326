//! Another key for a running pair: whatever is done in whichever order, what is sent is read.

use super::*;
use crate::config::key::Key;
use crate::config::ring::{KeyRing, KeyState, RingError};
use crate::limits::{KEY_ANNOUNCED_EVERY, KEY_BYTES, KEY_SETTLES_US};

/// A node as far as its keys and its codec go.
struct Side {
    node: NodeIndex,
    /// What the key file holds: a restart begins with it.
    file: KeyRing,
    codec: Codec,
    incarnation: u64,
    /// The peer's incarnation as this node knows it, and when that sent what it was heard with last.
    knows: u64,
    echo_us: u64,
    sequence: u64,
}

/// What a beat was for the other node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Read,
    /// Of its two frames only the announcement was read.
    ReadAsAnnounced,
    Refused,
}

impl Side {
    fn new(node: NodeIndex, file: KeyRing) -> Side {
        let codec = Codec::new(file, CLUSTER, tags(), node);
        let incarnation = if node == NodeIndex::Lower { 1000 } else { 2000 };
        Side { node, file, codec, incarnation, knows: 0, echo_us: 0, sequence: 0 }
    }

    fn restart(&mut self) {
        self.codec = Codec::new(self.file, CLUSTER, tags(), self.node);
        self.incarnation += 1;
        (self.knows, self.echo_us, self.sequence) = (0, 0, 0);
    }

    fn state(&self) -> KeyState {
        self.codec.key_state(self.knows)
    }

    /// Writes the file and reads it, as far as it may.
    fn take(&mut self, file: KeyRing) -> Result<(), RingError> {
        self.file = file;
        self.codec.may_use(&file, self.knows)?;
        self.codec.set_ring(&file);
        Ok(())
    }

    fn begin(&mut self, key: Key) {
        let ring = *self.codec.ring();
        if ring.before.is_none() {
            self.take(KeyRing { newest: key, before: Some(ring.newest) }).unwrap();
        }
    }

    /// As `clusterd key rotate --finish`: what is refused leaves the file as it was.
    fn finish(&mut self) -> Result<(), RingError> {
        let ring = *self.codec.ring();
        self.take(KeyRing { before: None, ..ring }).inspect_err(|_| self.file = ring)
    }

    fn session(&self) -> Session {
        Session {
            my_incarnation: self.incarnation,
            peer_incarnation: self.knows,
            peer_digest: ITS_DIGEST,
            now_us: 60_000_000,
        }
    }

    fn beat(&mut self) -> Beat {
        self.sequence += 1;
        Beat {
            node: self.node,
            incarnation: self.incarnation,
            peer_incarnation: self.knows,
            sequence: self.sequence,
            // One a second.
            sent_us: self.sequence * KEY_SETTLES_US,
            echo_us: self.echo_us,
            ..sample()
        }
    }

    fn hear(&mut self, path: Path, frame: &[u8]) -> bool {
        let session = self.session();
        let heard = self.codec.decode_beat(path, frame, &session);
        if let Ok(beat) = &heard {
            (self.knows, self.echo_us) = (beat.incarnation, beat.sent_us);
        }
        assert!(heard.is_ok() || heard == Err(DropReason::BadTag), "{heard:?}");
        heard.is_ok()
    }

    fn say(&mut self, path: Path, to: &mut Side) -> Fate {
        let beat = self.beat();
        let first = encoded(&mut self.codec, path, &beat);
        let mut out = FrameBuffer::new();
        let announced = self.codec.announce(path, &beat, &mut out);
        let read = to.hear(path, &first);
        let read_as_announced = announced && to.hear(path, out.as_slice());
        match (read, read_as_announced) {
            (true, _) => Fate::Read,
            (false, true) => Fate::ReadAsAnnounced,
            (false, false) => Fate::Refused,
        }
    }
}

fn key(byte: u8) -> Key {
    [byte; KEY_BYTES]
}

fn pair() -> [Side; 2] {
    let file = KeyRing { newest: key(1), before: None };
    let [mut a, mut b] = [NodeIndex::Lower, NodeIndex::Upper].map(|node| Side::new(node, file));
    meet(&mut a, &mut b);
    [a, b]
}

fn meet(a: &mut Side, b: &mut Side) {
    for _ in 0..2 {
        a.say(Path::Lan, b);
        b.say(Path::Lan, a);
    }
    assert_eq!((a.knows, b.knows), (b.incarnation, a.incarnation));
}

#[test]
fn the_new_key_is_sent_with_once_the_peer_was_heard_with_it() {
    let [mut a, mut b] = pair();
    a.begin(key(2));
    assert_eq!((a.state(), b.state()), (KeyState::Waiting, KeyState::Settled));
    assert_eq!(a.finish(), Err(RingError::Early));
    for _ in 0..3 * KEY_ANNOUNCED_EVERY {
        assert_eq!((a.say(Path::Lan, &mut b), b.say(Path::Lan, &mut a)), (Fate::Read, Fate::Read));
    }
    assert_eq!(a.state(), KeyState::Waiting);
    b.take(a.file).unwrap();
    assert_eq!(b.finish(), Err(RingError::Early));
    // The first beat after a reload announces. Until the other has answered it may still send with the old key.
    assert_eq!(b.say(Path::Lan, &mut a), Fate::Read);
    assert_eq!((a.state(), b.state()), (KeyState::Switched, KeyState::Waiting));
    assert_eq!(a.finish(), Err(RingError::Early));
    assert_eq!(b.say(Path::Lan, &mut a), Fate::Read);
    assert_eq!((a.state(), b.state()), (KeyState::Switched, KeyState::Waiting));
    assert_eq!(a.say(Path::Lan, &mut b), Fate::Read);
    assert_eq!(b.say(Path::Lan, &mut a), Fate::Read);
    // What was signed with the old key may still be on a slow line.
    assert_eq!((a.state(), b.state()), (KeyState::Switched, KeyState::Switched));
    assert_eq!(a.finish(), Err(RingError::Early));
    assert_eq!(a.say(Path::Lan, &mut b), Fate::Read);
    assert_eq!(b.say(Path::Lan, &mut a), Fate::Read);
    assert_eq!((a.state(), b.state()), (KeyState::Agreed, KeyState::Switched));
    assert_eq!(a.say(Path::Lan, &mut b), Fate::Read);
    assert_eq!(b.state(), KeyState::Agreed);
    // What is recorded under the old key is still read, and moves nothing back.
    assert_eq!(b.take(KeyRing { newest: key(1), before: None }), Err(RingError::Foreign));
    a.finish().unwrap();
    for path in [Path::Crossover, Path::Lan] {
        assert_eq!((a.say(path, &mut b), b.say(path, &mut a)), (Fate::Read, Fate::Read));
    }
    b.finish().unwrap();
    assert_eq!((a.say(Path::Lan, &mut b), b.say(Path::Lan, &mut a)), (Fate::Read, Fate::Read));
    // Who knows only the old key is a stranger.
    let mut old = Side::new(NodeIndex::Lower, KeyRing { newest: key(1), before: None });
    assert_eq!(old.say(Path::Lan, &mut b), Fate::Refused);
}

/// Wills, plain frames and pulses are signed with what the addressed incarnation reads.
#[test]
fn all_that_is_sent_follows() {
    let [mut a, mut b] = pair();
    let mut out = FrameBuffer::new();
    for step in 0..4 {
        match step {
            1 => a.begin(key(2)),
            2 => b.take(a.file).unwrap(),
            3 => a.finish().unwrap(),
            _ => {}
        }
        meet(&mut a, &mut b);
        for (from, to) in [(0, 1), (1, 0)] {
            let [lower, upper] = [&mut a, &mut b];
            let (from, to) = if from < to { (lower, upper) } else { (upper, lower) };
            // The first frames on serial are introductions.
            for _ in 0..INTRODUCE_EVERY {
                assert_eq!(from.say(Path::Serial, to), Fate::Read);
            }
            let pulse = Pulse {
                kind: PulseKind::Ask,
                incarnation: from.incarnation,
                peer_incarnation: from.knows,
                number: from.sequence,
            };
            from.codec.encode_pulse(&pulse, &mut out);
            let session = to.session();
            let heard = to.codec.decode(Path::Serial, out.as_slice(), &session);
            assert_eq!(heard, Ok(Incoming::Pulse(pulse)));
            let will = Beat { will: true, ..from.beat() };
            from.codec.encode_will(Path::Crossover, &will, &mut out);
            assert!(to.hear(Path::Crossover, out.as_slice()), "step {step}");
        }
    }
}

/// What an attacker recorded of an incarnation that has ended does not change what is sent.
#[test]
fn replays_choose_no_key() {
    let [mut a, mut b] = pair();
    a.begin(key(2));
    b.take(a.file).unwrap();
    meet(&mut a, &mut b);
    let beat = b.beat();
    let recorded = encoded(&mut b.codec, Path::Lan, &beat);
    // It begins anew with a file that was set back; what is recorded is of the incarnation before.
    b.file = KeyRing { newest: key(1), before: None };
    b.restart();
    meet(&mut a, &mut b);
    assert_eq!(a.state(), KeyState::Waiting);
    let knows = a.knows;
    for _ in 0..3 {
        a.hear(Path::Lan, &recorded);
        a.knows = knows;
        assert_eq!(a.state(), KeyState::Waiting);
        assert_eq!(a.say(Path::Lan, &mut b), Fate::Read);
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(usize),
    /// The key file of this node is copied to the other, which reads it.
    Copy(usize),
    Finish(usize),
    Restart(usize),
    Say(usize, Path),
}

fn any_step() -> impl Strategy<Value = Step> {
    let path = prop::sample::select(vec![Path::Crossover, Path::Lan]);
    prop_oneof![
        1 => (0..2usize).prop_map(Step::Begin),
        2 => (0..2usize).prop_map(Step::Copy),
        2 => (0..2usize).prop_map(Step::Finish),
        1 => (0..2usize).prop_map(Step::Restart),
        6 => (0..2usize, path).prop_map(|(node, path)| Step::Say(node, path)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Changes begun on one node or on both, files copied at any time, restarts, an end on either: what a node sends
    /// to a peer that it knows is read. What a new heart sends to nobody may be refused, but then it reads the other.
    #[test]
    fn the_two_never_lose_each_other(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut sides = pair();
        let mut keys = 1;
        for step in steps {
            match step {
                Step::Begin(node) => {
                    keys += 1;
                    sides[node].begin(key(keys));
                }
                Step::Copy(from) => {
                    let file = sides[from].file;
                    // Refused, it stays on disk: the next restart takes it.
                    let _ = sides[1 - from].take(file);
                }
                Step::Finish(node) => {
                    if sides[node].codec.ring().before.is_some() {
                        let _ = sides[node].finish();
                    }
                }
                Step::Restart(node) => sides[node].restart(),
                Step::Say(from, path) => {
                    let [lower, upper] = &mut sides;
                    let (from, to) = if from == 0 { (lower, upper) } else { (upper, lower) };
                    let knew = from.knows != 0;
                    let fate = from.say(path, to);
                    if knew {
                        prop_assert_eq!(fate, Fate::Read);
                    } else if fate == Fate::Refused {
                        prop_assert_ne!(to.say(path, from), Fate::Refused);
                    }
                }
            }
        }
        // Whatever was done, one exchange brings them together.
        let [a, b] = &mut sides;
        meet(a, b);
    }
}
