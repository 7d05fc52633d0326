//! The pair's keys: one, and while it is changed a newer one beside the one that still counts.
//!
//! ```text
//!   Settled    one key
//!      | the file has a new one
//!   Waiting    accepts both, sends with the old one
//!      | the peer was heard with the new one
//!   Switched   accepts both, sends with the new one
//!      | the peer has answered what was sent so
//!   Agreed     the same; the peer sends with the new one, too
//!      | the file has the new one alone
//!   Settled
//! ```
//! A node sends with nothing that its peer is not known to accept, and drops nothing that its peer may still send
//! with. Both only need what was heard: whoever sends with a key accepts it, and who has read the new one sends with it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::key::Key;
use crate::limits::KEY_BYTES;

/// The newest key, or what is made of it, and while it is changed the same of the key before it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ring<T> {
    /// Of the newest key.
    pub newest: T,
    /// Of the one before it, which is still accepted.
    pub before: Option<T>,
}

/// The keys of a key file.
pub type KeyRing = Ring<Key>;

/// How far a change of the key is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    /// There is one key.
    #[default]
    Settled,
    /// This node has a new key, and does not know that the peer has it.
    Waiting,
    /// The peer has it, and this node sends with it; the peer may not know that yet.
    Switched,
    /// Both send with the new key; the old one is still accepted here.
    Agreed,
}

impl KeyState {
    /// Whether the peer is known to have the newest key.
    pub fn peer_has_newest(self) -> bool {
        match self {
            KeyState::Settled | KeyState::Waiting => false,
            KeyState::Switched | KeyState::Agreed => true,
        }
    }
}

/// Why a running daemon refuses a key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The newest key in use is not in it.
    #[error(
        "it does not contain this daemon's newest key; `clusterd key rotate` changes the key of a running pair; to use \
         this file anyway restart clusterd on this node, in standby mode first"
    )]
    Foreign,
    /// The peer may still use a key that is not in it, or may not accept the one that this node would use.
    #[error(
        "the other node is not known to use this daemon's newest key, so the older one must stay; copy this node's key \
         file to the other node and run `clusterd reload` there"
    )]
    Early,
}

impl<T> Ring<T> {
    /// What is made of each.
    pub fn map<U>(&self, make: impl Fn(&T) -> U) -> Ring<U> {
        Ring { newest: make(&self.newest), before: self.before.as_ref().map(make) }
    }

    /// What to send with.
    pub fn sending(&self, peer_has_newest: bool) -> &T {
        match &self.before {
            Some(before) if !peer_has_newest => before,
            Some(_) | None => &self.newest,
        }
    }

    /// What is accepted, the newest first.
    pub fn all(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.newest).chain(&self.before)
    }
}

impl KeyRing {
    /// Whether a running daemon may go on with `new`.
    ///
    /// # Errors
    /// The two nodes might not understand each other then.
    pub fn may_become(&self, new: &KeyRing, state: KeyState) -> Result<(), RingError> {
        if new == self {
            return Ok(());
        }
        if !new.all().any(|key| *key == self.newest) {
            return Err(RingError::Foreign);
        }
        match state {
            KeyState::Settled | KeyState::Agreed => Ok(()),
            KeyState::Waiting | KeyState::Switched => Err(RingError::Early),
        }
    }

    /// As in the key file: the newest, then the one before it.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.all().flatten().copied().collect()
    }

    /// From the bytes of a key file; `None`: there are not one or two keys, or one is all zero.
    pub fn from_bytes(bytes: &[u8]) -> Option<KeyRing> {
        let (newest, rest) = bytes.split_first_chunk::<KEY_BYTES>()?;
        let before = match rest {
            [] => None,
            rest => Some(Key::try_from(rest).ok()?),
        };
        let ring = KeyRing { newest: *newest, before };
        ring.all().all(|key| key.iter().any(|&byte| byte != 0)).then_some(ring)
    }
}

impl From<&Key> for KeyRing {
    fn from(key: &Key) -> KeyRing {
        Ring { newest: *key, before: None }
    }
}

/// The keys in use, for threads that go on while they are changed.
#[derive(Clone, Debug)]
pub struct SharedRing(Arc<Mutex<InUse>>);

#[derive(Debug)]
struct InUse {
    ring: KeyRing,
    peer_has_newest: bool,
}

impl SharedRing {
    /// These are in use from now on.
    pub fn set_ring(&self, ring: &KeyRing) {
        let mut in_use = self.in_use();
        in_use.peer_has_newest &= ring.newest == in_use.ring.newest;
        in_use.ring = *ring;
    }

    /// Whether the peer is known to have the newest.
    pub fn set_peer_has_newest(&self, has: bool) {
        self.in_use().peer_has_newest = has;
    }

    /// What is accepted.
    pub fn ring(&self) -> KeyRing {
        self.in_use().ring
    }

    /// What to send with.
    pub fn sending(&self) -> Key {
        let in_use = self.in_use();
        *in_use.ring.sending(in_use.peer_has_newest)
    }

    fn in_use(&self) -> MutexGuard<'_, InUse> {
        // Whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<&KeyRing> for SharedRing {
    fn from(ring: &KeyRing) -> SharedRing {
        SharedRing(Arc::new(Mutex::new(InUse { ring: *ring, peer_has_newest: false })))
    }
}

impl From<&Key> for SharedRing {
    fn from(key: &Key) -> SharedRing {
        SharedRing::from(&KeyRing::from(key))
    }
}

impl From<&SharedRing> for SharedRing {
    fn from(ring: &SharedRing) -> SharedRing {
        ring.clone()
    }
}

/// No key is ever printed.
impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.before.is_some() { "two keys" } else { "one key" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ring(newest: u8, before: Option<u8>) -> KeyRing {
        let before = match before {
            Some(byte) => Some([byte; KEY_BYTES]),
            None => None,
        };
        KeyRing { newest: [newest; KEY_BYTES], before }
    }

    #[test]
    fn a_file_has_one_key_or_two() {
        for ring in [ring(1, None), ring(1, Some(2))] {
            assert_eq!(KeyRing::from_bytes(&ring.to_bytes()), Some(ring));
        }
        let zero = [[1; KEY_BYTES], [0; KEY_BYTES]].concat();
        for bad in [&[1; 31][..], &[1; 33], &[1; 63], &[1; 96], &[], &[0; 32], &zero] {
            assert_eq!(KeyRing::from_bytes(bad), None);
        }
    }

    #[test]
    fn what_the_peer_may_need_stays() {
        let (early, foreign) = (Err(RingError::Early), Err(RingError::Foreign));
        use KeyState::{Agreed, Settled, Switched, Waiting};
        for (old, new, state, expected) in [
            // A change, from its begin to its end.
            (ring(1, None), ring(1, None), Settled, Ok(())),
            (ring(1, None), ring(2, Some(1)), Settled, Ok(())),
            (ring(2, Some(1)), ring(2, Some(1)), Waiting, Ok(())),
            (ring(2, Some(1)), ring(2, None), Waiting, early),
            (ring(2, Some(1)), ring(2, None), Switched, early),
            (ring(2, Some(1)), ring(2, None), Agreed, Ok(())),
            // The other node ended it and began another.
            (ring(2, Some(1)), ring(3, Some(2)), Agreed, Ok(())),
            (ring(2, Some(1)), ring(3, Some(2)), Switched, early),
            // The file of a node that has not ended it.
            (ring(2, None), ring(2, Some(1)), Settled, Ok(())),
            // Nothing takes it back, and nothing else slips in.
            (ring(2, Some(1)), ring(1, None), Agreed, foreign),
            (ring(2, Some(1)), ring(1, Some(2)), Waiting, early),
            (ring(2, Some(1)), ring(3, Some(1)), Agreed, foreign),
            (ring(1, None), ring(2, None), Settled, foreign),
        ] {
            assert_eq!(old.may_become(&new, state), expected, "{old:?} {new:?} {state:?}");
        }
    }
}
