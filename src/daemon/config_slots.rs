//! The config in effect with the pair's keys, and others that are offered, in memory that heart and worker share: a restarted
//! heart or worker begins with the one in effect, and reads no file.
//!
//! ```text
//! worker                          heart
//!   | writes the other slot         |
//!   |------------ Offered --------->|
//!   |                               | reads it; taken in: one write of one byte makes it the one in effect
//!   |<---------- Configured --------|
//! ```
//! The worker writes only when the heart has asked, and the heart asks for one at a time. A slot that was
//! torn by the worker's death has a hash that does not fit.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::config::ring::KeyRing;
use crate::limits::CONFIG_SLOT_BYTES;

/// Behind the byte that names the slot in effect.
const FIRST_SLOT: u64 = 8;
const HEAD_BYTES: usize = 8 + blake3::OUT_LEN;
const SLOT_BYTES: u64 = (HEAD_BYTES + CONFIG_SLOT_BYTES) as u64;

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigSlot {
    /// The config.
    pub config: Config,
    /// What the key file holds.
    pub keys: KeyRing,
}

/// The shared memory. Configs are checked ones, as JSON: who reads them needs no parser of files.
#[derive(Debug)]
pub struct ConfigSlots {
    file: File,
}

impl ConfigSlots {
    /// Makes one; this is in effect.
    ///
    /// # Errors
    /// No memory, or the config is too long.
    pub fn create(first: &ConfigSlot) -> io::Result<ConfigSlots> {
        let file = File::from(memfd_create(c"clusterd-config", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(FIRST_SLOT + 2 * SLOT_BYTES)?;
        let config_slots = ConfigSlots { file };
        config_slots.write(0, first)?;
        Ok(config_slots)
    }

    /// Takes over one that another process made.
    pub fn open(fd: OwnedFd) -> ConfigSlots {
        ConfigSlots { file: fd.into() }
    }

    /// What is in effect.
    ///
    /// # Errors
    /// The memory does not hold one.
    pub fn current(&self) -> io::Result<ConfigSlot> {
        self.read(self.slot()?)
    }

    /// Offers something else.
    ///
    /// # Errors
    /// It is too long.
    pub fn offer(&self, other: &ConfigSlot) -> io::Result<()> {
        self.write(1 - self.slot()?, other)
    }

    /// What is offered.
    ///
    /// # Errors
    /// None was, or not to its end.
    pub fn offered(&self) -> io::Result<ConfigSlot> {
        self.read(1 - self.slot()?)
    }

    /// The one that is offered is in effect from now on.
    ///
    /// # Errors
    /// Memory that cannot be written.
    pub fn accept(&self) -> io::Result<()> {
        self.file.write_all_at(&[1 - self.slot()?], 0)
    }

    /// The slot in effect: 0 or 1.
    fn slot(&self) -> io::Result<u8> {
        let mut slot = [0];
        self.file.read_exact_at(&mut slot, 0)?;
        let [slot] = slot;
        Ok(slot.min(1))
    }

    fn write(&self, slot: u8, slotted: &ConfigSlot) -> io::Result<()> {
        let bytes = serde_json::to_vec(slotted)?;
        if bytes.len() > CONFIG_SLOT_BYTES {
            let text =
                format!("with every value in effect it is longer than {CONFIG_SLOT_BYTES} bytes");
            return Err(io::Error::other(text));
        }
        let place = FIRST_SLOT + u64::from(slot) * SLOT_BYTES;
        let (length, hash) = ((bytes.len() as u64).to_le_bytes(), blake3::hash(&bytes));
        let head = [length.as_slice(), hash.as_bytes()];
        self.file.write_all_at(&bytes, place + HEAD_BYTES as u64)?;
        self.file.write_all_at(&head.concat(), place)
    }

    fn read(&self, slot: u8) -> io::Result<ConfigSlot> {
        let torn = || io::Error::other("the config in memory is not whole");
        let place = FIRST_SLOT + u64::from(slot) * SLOT_BYTES;
        let mut head = [0; HEAD_BYTES];
        self.file.read_exact_at(&mut head, place)?;
        let (length, hash) = head.split_first_chunk::<8>().ok_or_else(torn)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| torn())?;
        if length > CONFIG_SLOT_BYTES {
            return Err(torn());
        }
        let mut text = vec![0; length];
        self.file.read_exact_at(&mut text, place + HEAD_BYTES as u64)?;
        if blake3::hash(&text).as_bytes() != hash {
            return Err(torn());
        }
        serde_json::from_slice(&text).map_err(io::Error::from)
    }
}

impl AsFd for ConfigSlots {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// A config of that cluster, and keys that are its own.
    fn named(cluster: &str) -> ConfigSlot {
        let text = format!(
            "[cluster]\nname = \"{cluster}\"\nkey = \"/k\"\n\
             [node.a]\naddress = \"192.0.2.11\"\nlan = \"eth0\"\ncrossover = \"eth1\"\n\
             [node.b]\naddress = \"192.0.2.12\"\nlan = \"eth0\"\ncrossover = \"eth1\"\n\
             [group.g]\nprefer = \"a\"\naddress = [\"192.0.2.50/24\"]\n"
        );
        let key = *blake3::hash(cluster.as_bytes()).as_bytes();
        let keys = KeyRing { newest: key, before: (cluster.len() > 3).then_some([7; 32]) };
        ConfigSlot { config: config::parse(&text, "slotted").unwrap(), keys }
    }

    #[test]
    fn what_is_offered_is_in_effect_once_it_is_accepted() {
        let worker = ConfigSlots::create(&named("one")).unwrap();
        let heart = ConfigSlots::open(worker.as_fd().try_clone_to_owned().unwrap());
        heart.offered().unwrap_err();
        for (before, name) in [("one", "two"), ("two", "three"), ("three", "four")] {
            worker.offer(&named("never-accepted")).unwrap();
            worker.offer(&named(name)).unwrap();
            assert_eq!(heart.current().unwrap(), named(before));
            assert_eq!(heart.offered().unwrap(), named(name));
            heart.accept().unwrap();
            assert_eq!(worker.current().unwrap(), named(name));
        }
        let mut long = named("long");
        long.config.cluster = "x".repeat(CONFIG_SLOT_BYTES);
        worker.offer(&long).unwrap_err();
    }

    #[test]
    fn a_torn_offer_is_none() {
        let config_slots = ConfigSlots::create(&named("one")).unwrap();
        config_slots.offer(&named("another")).unwrap();
        config_slots
            .file
            .write_all_at(b"torn", FIRST_SLOT + SLOT_BYTES + HEAD_BYTES as u64)
            .unwrap();
        config_slots.offered().unwrap_err();
        assert_eq!(config_slots.current().unwrap(), named("one"));
    }
}
