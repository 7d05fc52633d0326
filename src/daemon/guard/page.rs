//! The page that heart and guard share: the heart's tick, what to delete should the heart die, and its
//! last will: what the peer is told then.
//!
//! The layout is [`Words`]. A slot's payload: addresses, 16 bytes each (IPv4 mapped into IPv6), then
//! the netlink messages, then the farewells, each of these after its length as u32, little-endian. A
//! farewell is a byte for its path, a byte for the length of its destination, destination, frame.
//!
//! The heart writes the slot that is not the newest: sequence 0, payload, checksum, and last the new
//! sequence, which seals it. A slot that was torn by the heart's death has sequence 0 or a checksum
//! that does not fit; then the other one is the newest. The guard understands nothing of the messages and
//! the farewells. What one heart has sealed to be deleted holds for the next ones too; its will does not.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::beat::{Farewell, Path};
use crate::limits::SEALED_BYTES_MAX;
use crate::sys::page::{SharedWords, SlotWords, Words};

const ADDRESS_BYTES: usize = 16;

/// What is to be sealed does not fit into the page. The config's limits make this impossible.
#[derive(Debug, thiserror::Error)]
#[error(
    "{needed} bytes for the guard do not fit into the {SEALED_BYTES_MAX} bytes of the shared page"
)]
pub struct TooLarge {
    needed: usize,
}

/// The shared page, mapped. One process writes (the heart), the guard reads.
#[derive(Debug)]
pub struct Page {
    shared: SharedWords,
}

impl Page {
    /// Makes a new page (the guard, at its start).
    ///
    /// # Errors
    /// No memory, or too many open files.
    pub fn create() -> io::Result<Page> {
        Ok(Page { shared: SharedWords::create()? })
    }

    /// Maps the page that the guard made.
    ///
    /// # Errors
    /// The descriptor is not such a page.
    pub fn open(fd: OwnedFd) -> io::Result<Page> {
        Ok(Page { shared: SharedWords::open(fd)? })
    }

    /// The heart is alive: called once in every round of its loop.
    pub fn tick(&self) {
        self.words().ticked_at.store(boottime().as_nanos() as u64, Ordering::Relaxed);
        self.words().ticks.fetch_add(1, Ordering::Release);
    }

    /// Ticks of the current heart so far.
    pub fn ticks(&self) -> u64 {
        self.words().ticks.load(Ordering::Acquire)
    }

    /// Time since the newest tick.
    pub fn since_tick(&self) -> Duration {
        let ticked_at = Duration::from_nanos(self.words().ticked_at.load(Ordering::Acquire));
        boottime().saturating_sub(ticked_at)
    }

    /// How many hearts this guard has started, the current one included.
    pub fn heart(&self) -> u64 {
        self.words().heart.load(Ordering::Acquire)
    }

    /// Handing everything over may take this long from now on.
    pub fn set_end_patience(&self, patience: Duration) {
        let ms = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        self.words().end_patience_ms.store(ms, Ordering::Release);
    }

    /// A heart that was asked to end and has not after this is killed.
    pub fn end_patience(&self) -> Duration {
        Duration::from_millis(self.words().end_patience_ms.load(Ordering::Acquire))
    }

    /// The heart has missed its tick deadline and is killed (the guard).
    pub fn note_hung(&self, late: Duration) {
        let ms = u64::try_from(late.as_millis()).unwrap_or(u64::MAX);
        self.words().hung_ms.store(ms.max(1), Ordering::Release);
    }

    /// What became of the heart before this one, in words; `None`: this is the first. Asked once.
    pub fn heart_before(&self) -> Option<String> {
        let hung_ms = self.words().hung_ms.swap(0, Ordering::AcqRel);
        match hung_ms {
            _ if self.heart() < 2 => None,
            0 => Some("ended without being asked to".to_owned()),
            ms => Some(format!("was killed: it had stood still for {ms} ms")),
        }
    }

    /// Makes the page ready for the next heart (the guard, while none runs). What was sealed stays.
    pub fn begin_heart(&self) {
        self.words().ticks.store(0, Ordering::Release);
        self.words().heart.fetch_add(1, Ordering::AcqRel);
    }

    /// Seals what the guard must do if the heart dies: send these netlink messages, until none of
    /// these addresses is left on the host, and only then this will. To be called before the first of them
    /// is added.
    ///
    /// # Errors
    /// More than fits; then nothing has changed.
    pub fn seal(
        &mut self,
        deletions: &[Vec<u8>],
        addresses: &[IpAddr],
        will: &[Farewell],
    ) -> Result<(), TooLarge> {
        let payload = encode(deletions, addresses, will)?;
        let heart = self.heart();
        let mut newest = Sealed::new();
        let [a, b] = &self.words().slots;
        let (slot, sequence) = match self.newest(&mut newest) {
            Some(kept) if std::ptr::eq(kept, a) => (b, newest.sequence + 1),
            Some(_) => (a, newest.sequence + 1),
            None => (a, 1),
        };
        slot.sequence.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        for (word, bytes) in slot.payload.iter().zip(payload.chunks(8)) {
            let mut padded = [0; 8];
            for (to, from) in padded.iter_mut().zip(bytes) {
                *to = *from;
            }
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        let counts = (addresses.len() as u64) << 32 | (deletions.len() as u64) << 48;
        let size = payload.len() as u64 | counts;
        slot.size.store(size, Ordering::Relaxed);
        slot.heart.store(heart, Ordering::Relaxed);
        slot.checksum.store(checksum([sequence, size, heart], &payload), Ordering::Relaxed);
        slot.sequence.store(sequence, Ordering::Release);
        Ok(())
    }

    /// Copies the newest sealed slot that is whole; `None`: nothing was ever sealed. Allocates nothing.
    pub fn sealed<'a>(&self, into: &'a mut Sealed) -> Option<&'a Sealed> {
        self.newest(into)?;
        into.will_holds = into.heart == self.heart();
        Some(into)
    }

    fn newest(&self, into: &mut Sealed) -> Option<&SlotWords> {
        let [a, b] = &self.words().slots;
        let a_first = a.sequence.load(Ordering::Acquire) > b.sequence.load(Ordering::Acquire);
        let order = if a_first { [a, b] } else { [b, a] };
        order.into_iter().find(|slot| into.copy(slot))
    }

    fn words(&self) -> &Words {
        self.shared.words()
    }
}

impl AsFd for Page {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

/// A copy of a sealed slot, in memory that is allocated once.
#[derive(Debug)]
pub struct Sealed {
    payload: Box<[u8]>,
    bytes: usize,
    addresses: usize,
    deletions: usize,
    sequence: u64,
    heart: u64,
    /// It was sealed by the newest heart.
    will_holds: bool,
}

impl Sealed {
    /// Room for one slot.
    #[must_use]
    pub fn new() -> Sealed {
        let payload = vec![0; SEALED_BYTES_MAX].into_boxed_slice();
        Sealed {
            payload,
            bytes: 0,
            addresses: 0,
            deletions: 0,
            sequence: 0,
            heart: 0,
            will_holds: false,
        }
    }

    /// The addresses that must not be left, IPv4 mapped into IPv6.
    pub fn addresses(&self) -> &[[u8; ADDRESS_BYTES]] {
        let (all, _) = self.filled().as_chunks::<ADDRESS_BYTES>();
        all.get(..self.addresses).unwrap_or_default()
    }

    /// The netlink messages, in their order.
    pub fn deletions(&self) -> impl Iterator<Item = &[u8]> {
        self.parts().take(self.deletions)
    }

    /// The will of the newest heart: each farewell's path, destination and frame. Empty if that heart has
    /// sealed none: another one's says nothing of it.
    pub fn will(&self) -> impl Iterator<Item = (Path, &[u8], &[u8])> {
        let farewells = self.parts().skip(self.deletions).filter_map(|part| {
            let (&[path, length], rest) = part.split_first_chunk::<2>()?;
            let path = Path::ALL.into_iter().find(|one| one.index() == usize::from(path))?;
            let (to, frame) = rest.split_at_checked(usize::from(length))?;
            Some((path, to, frame))
        });
        farewells.take(if self.will_holds { usize::MAX } else { 0 })
    }

    fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.filled().get(self.addresses * ADDRESS_BYTES..).unwrap_or_default();
        std::iter::from_fn(move || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let (message, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = after;
            Some(message)
        })
    }

    /// Copies a slot; false if it is not whole.
    fn copy(&mut self, slot: &SlotWords) -> bool {
        let sequence = slot.sequence.load(Ordering::Acquire);
        let size = slot.size.load(Ordering::Relaxed);
        let heart = slot.heart.load(Ordering::Relaxed);
        let expected = slot.checksum.load(Ordering::Relaxed);
        let (bytes, addresses) = ((size & 0xffff_ffff) as usize, (size >> 32 & 0xffff) as usize);
        if sequence == 0 || bytes > SEALED_BYTES_MAX || addresses > bytes / ADDRESS_BYTES {
            return false;
        }
        let (filled, _) = self.payload.as_chunks_mut::<8>();
        for (to, word) in filled.iter_mut().zip(&slot.payload).take(bytes.div_ceil(8)) {
            *to = word.load(Ordering::Relaxed).to_le_bytes();
        }
        fence(Ordering::Acquire);
        (self.sequence, self.bytes, self.addresses) = (sequence, bytes, addresses);
        (self.heart, self.deletions) = (heart, (size >> 48) as usize);
        slot.sequence.load(Ordering::Relaxed) == sequence
            && checksum([sequence, size, heart], self.filled()) == expected
    }

    fn filled(&self) -> &[u8] {
        self.payload.get(..self.bytes).unwrap_or_default()
    }
}

impl Default for Sealed {
    fn default() -> Sealed {
        Sealed::new()
    }
}

/// An address as the page keeps it.
pub fn address_bytes(ip: IpAddr) -> [u8; ADDRESS_BYTES] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Time since boot, the time that the machine slept included.
pub fn boottime() -> Duration {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map(Duration::from).unwrap_or_default()
}

fn encode(
    deletions: &[Vec<u8>],
    addresses: &[IpAddr],
    will: &[Farewell],
) -> Result<Vec<u8>, TooLarge> {
    let mut payload = Vec::new();
    for &ip in addresses {
        payload.extend_from_slice(&address_bytes(ip));
    }
    let mut put = |pieces: &[&[u8]]| {
        let needed = pieces.iter().map(|piece| piece.len()).sum();
        let length = u32::try_from(needed).map_err(|_| TooLarge { needed })?;
        payload.extend_from_slice(&length.to_le_bytes());
        pieces.iter().for_each(|piece| payload.extend_from_slice(piece));
        Ok(())
    };
    for message in deletions {
        put(&[message])?;
    }
    for Farewell { path, to, frame } in will {
        let length = u8::try_from(to.len()).map_err(|_| TooLarge { needed: to.len() })?;
        put(&[&[path.index() as u8, length], to, frame])?;
    }
    if payload.len() > SEALED_BYTES_MAX {
        return Err(TooLarge { needed: payload.len() });
    }
    Ok(payload)
}

fn checksum(numbers: [u64; 3], payload: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(payload);
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests;
