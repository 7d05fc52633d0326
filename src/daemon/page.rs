//! The page that heart and guard share: the heart's tick, and what to delete should the heart die.
//!
//! The layout is [`Words`]. A slot's payload: addresses, 16 bytes each (IPv4 mapped into IPv6), then
//! the netlink messages, each after its length as u32, little-endian.
//!
//! The heart writes the slot that is not the newest: sequence 0, payload, checksum, and last the new
//! sequence, which seals it. A slot that was torn by the heart's death has sequence 0 or a checksum
//! that does not fit; then the other one is the newest. The guard understands nothing of the messages.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use crate::limits::SEALED_BYTES_MAX;
use crate::sys::page::{SharedWords, SlotWords, Words};

const ADDRESS_BYTES: usize = 16;

/// The deletions do not fit into the page. The config's limits make this impossible.
#[derive(Debug, thiserror::Error)]
#[error(
    "{needed} bytes of deletions do not fit into the {SEALED_BYTES_MAX} bytes of the shared page"
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

    /// Makes the page ready for the next heart (the guard, while none runs). What was sealed stays.
    pub fn begin_heart(&self) {
        self.words().ticks.store(0, Ordering::Release);
        self.words().heart.fetch_add(1, Ordering::AcqRel);
    }

    /// Seals what the guard must do if the heart dies: send these netlink messages, until none of
    /// these addresses is left on the host. To be called before the first of them is added.
    ///
    /// # Errors
    /// More than fits; then nothing has changed.
    pub fn seal(&mut self, deletions: &[Vec<u8>], addresses: &[IpAddr]) -> Result<(), TooLarge> {
        let payload = encode(deletions, addresses)?;
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
        let size = payload.len() as u64 | (addresses.len() as u64) << 32;
        slot.size.store(size, Ordering::Relaxed);
        slot.checksum.store(checksum(sequence, size, &payload), Ordering::Relaxed);
        slot.sequence.store(sequence, Ordering::Release);
        Ok(())
    }

    /// Copies the newest sealed slot that is whole; `None`: nothing was ever sealed. Allocates nothing.
    pub fn sealed<'a>(&self, into: &'a mut Sealed) -> Option<&'a Sealed> {
        self.newest(into)?;
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
    sequence: u64,
}

impl Sealed {
    /// Room for one slot.
    #[must_use]
    pub fn new() -> Sealed {
        let payload = vec![0; SEALED_BYTES_MAX].into_boxed_slice();
        Sealed { payload, bytes: 0, addresses: 0, sequence: 0 }
    }

    /// The addresses that must not be left, IPv4 mapped into IPv6.
    pub fn addresses(&self) -> &[[u8; ADDRESS_BYTES]] {
        let (all, _) = self.filled().as_chunks::<ADDRESS_BYTES>();
        all.get(..self.addresses).unwrap_or_default()
    }

    /// The netlink messages, in their order.
    pub fn deletions(&self) -> impl Iterator<Item = &[u8]> {
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
        let expected = slot.checksum.load(Ordering::Relaxed);
        let (bytes, addresses) = ((size & 0xffff_ffff) as usize, (size >> 32) as usize);
        if sequence == 0 || bytes > SEALED_BYTES_MAX || addresses > bytes / ADDRESS_BYTES {
            return false;
        }
        let (filled, _) = self.payload.as_chunks_mut::<8>();
        for (to, word) in filled.iter_mut().zip(&slot.payload).take(bytes.div_ceil(8)) {
            *to = word.load(Ordering::Relaxed).to_le_bytes();
        }
        fence(Ordering::Acquire);
        (self.sequence, self.bytes, self.addresses) = (sequence, bytes, addresses);
        slot.sequence.load(Ordering::Relaxed) == sequence
            && checksum(sequence, size, self.filled()) == expected
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

fn encode(deletions: &[Vec<u8>], addresses: &[IpAddr]) -> Result<Vec<u8>, TooLarge> {
    let mut payload = Vec::new();
    for &ip in addresses {
        payload.extend_from_slice(&address_bytes(ip));
    }
    for message in deletions {
        let Ok(length) = u32::try_from(message.len()) else {
            return Err(TooLarge { needed: message.len() });
        };
        payload.extend_from_slice(&length.to_le_bytes());
        payload.extend_from_slice(message);
    }
    if payload.len() > SEALED_BYTES_MAX {
        return Err(TooLarge { needed: payload.len() });
    }
    Ok(payload)
}

fn checksum(sequence: u64, size: u64, payload: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&sequence.to_le_bytes());
    hasher.update(&size.to_le_bytes());
    hasher.update(payload);
    let hash = hasher.finalize();
    hash.as_bytes().first_chunk::<8>().map_or(0, |first| u64::from_le_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page_with(deletions: &[&[u8]], addresses: &[&str]) -> Page {
        let mut page = Page::create().unwrap();
        seal(&mut page, deletions, addresses);
        page
    }

    fn seal(page: &mut Page, deletions: &[&[u8]], addresses: &[&str]) {
        let deletions: Vec<_> = deletions.iter().map(|bytes| bytes.to_vec()).collect();
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        page.seal(&deletions, &addresses).unwrap();
    }

    fn deletions(page: &Page) -> Option<Vec<Vec<u8>>> {
        let mut sealed = Sealed::new();
        Some(page.sealed(&mut sealed)?.deletions().map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn an_empty_page_has_nothing_sealed() {
        assert_eq!(deletions(&Page::create().unwrap()), None);
    }

    #[test]
    fn what_is_sealed_is_read_by_another_mapping() {
        let page = page_with(&[b"one", b"", b"three"], &["192.0.2.1", "2001:db8::1"]);
        let other = Page::open(page.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let mut sealed = Sealed::new();
        let seen = other.sealed(&mut sealed).unwrap();
        assert_eq!(seen.deletions().collect::<Vec<_>>(), [&b"one"[..], b"", b"three"]);
        let expected: Vec<_> = ["192.0.2.1", "2001:db8::1"]
            .map(|ip| address_bytes(ip.parse().unwrap()))
            .into_iter()
            .collect();
        assert_eq!(seen.addresses(), expected);
    }

    #[test]
    fn a_torn_slot_leaves_the_one_before() {
        let tears: [fn(&SlotWords); 4] = [
            |slot| slot.sequence.store(0, Ordering::SeqCst),
            |slot| _ = slot.size.fetch_xor(1 << 3, Ordering::SeqCst),
            |slot| _ = slot.checksum.fetch_xor(1, Ordering::SeqCst),
            |slot| _ = slot.payload[0].fetch_xor(1 << 40, Ordering::SeqCst),
        ];
        for tear in tears {
            let mut page = page_with(&[b"first"], &[]);
            seal(&mut page, &[b"second"], &[]);
            assert_eq!(deletions(&page).unwrap(), [b"second"]);
            tear(&page.words().slots[1]);
            assert_eq!(deletions(&page).unwrap(), [b"first"]);
            // The next seal must not overwrite the only whole slot.
            seal(&mut page, &[b"third"], &[]);
            assert_eq!(deletions(&page).unwrap(), [b"third"]);
            tear(&page.words().slots[1]);
            assert_eq!(deletions(&page).unwrap(), [b"first"]);
        }
    }

    #[test]
    fn the_limits_of_the_config_fit() {
        let mut page = Page::create().unwrap();
        let addresses = [IpAddr::from([0xffu16; 8]); crate::limits::ADDRESSES_MAX];
        let deletions = vec![vec![7; 96]; crate::limits::ADDRESSES_MAX];
        page.seal(&deletions, &addresses).unwrap();
        page.seal(&[vec![0; SEALED_BYTES_MAX]], &[]).unwrap_err();
        assert_eq!(self::deletions(&page).unwrap(), deletions);
    }

    #[test]
    fn readers_never_see_a_mixture() {
        let mut page = page_with(&[&[0; 2000]], &[]);
        let reader = Page::open(page.as_fd().try_clone_to_owned().unwrap()).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let (mut sealed, mut newest) = (Sealed::new(), 0);
                    while !done.load(Ordering::Relaxed) {
                        // Both slots can be overtaken during one slow read: the guard, which reads
                        // only when the heart is dead or looks again, would read once more.
                        let Some(seen) = reader.sealed(&mut sealed) else { continue };
                        let message = seen.deletions().next().unwrap().to_vec();
                        assert!(message.iter().all(|byte| Some(byte) == message.first()));
                        newest = newest.max(seen.sequence);
                    }
                    assert!(newest > 0);
                });
            }
            for round in 0..2000u32 {
                page.seal(&[vec![round as u8; 2000]], &[]).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn ticks_count_from_each_heart_anew() {
        let page = Page::create().unwrap();
        page.begin_heart();
        page.tick();
        page.tick();
        assert_eq!((page.ticks(), page.heart()), (2, 1));
        assert!(page.since_tick() < Duration::from_secs(60));
        page.begin_heart();
        assert_eq!((page.ticks(), page.heart()), (0, 2));
    }

    #[test]
    fn a_foreign_file_is_no_page() {
        let file = std::fs::File::open("/dev/null").unwrap();
        Page::open(file.into()).unwrap_err();
    }
}
