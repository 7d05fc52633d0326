//! Memory that heart and guard share, as words that are only ever touched atomically. What they mean
//! is `daemon::page`'s business.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use memmap2::{MmapOptions, MmapRaw};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::limits::SEALED_BYTES_MAX;

/// The whole page: 8-byte words in the machine's byte order, in this order, without gaps.
#[derive(Debug)]
#[repr(C)]
pub struct Words {
    /// Ticks of the current heart; 0: it has not begun.
    pub ticks: AtomicU64,
    /// CLOCK_BOOTTIME of the newest tick, in ns.
    pub ticked_at: AtomicU64,
    /// Number of the current heart, from 1.
    pub heart: AtomicU64,
    /// A heart that was asked to end and has not after so many ms is killed.
    pub end_patience_ms: AtomicU64,
    /// How long the heart before did not tick, in ms, before it was killed for that; 0: it was not.
    pub hung_ms: AtomicU64,
    /// Two slots, so that one is whole while the other is written.
    pub slots: [SlotWords; 2],
}

/// One slot.
#[derive(Debug)]
#[repr(C)]
pub struct SlotWords {
    /// Rises from seal to seal; 0: being written, or never sealed. Written last.
    pub sequence: AtomicU64,
    /// Bytes of payload that count, plus the number of addresses in it << 32, plus that of the deletions
    /// << 48.
    pub size: AtomicU64,
    /// Number of the heart that wrote it.
    pub heart: AtomicU64,
    /// First bytes of the BLAKE3 hash over sequence, size, heart and payload.
    pub checksum: AtomicU64,
    /// Addresses, deletions, farewells.
    pub payload: [AtomicU64; SEALED_BYTES_MAX / 8],
}

/// [`Words`] in a memfd, mapped shared.
#[derive(Debug)]
pub struct SharedWords {
    file: File,
    map: MmapRaw,
}

impl SharedWords {
    /// Makes a page, all zero. Its size can never change again (sealed, see memfd_create(2)), so no
    /// process can make another's access fault.
    ///
    /// # Errors
    /// No memory, or too many open files.
    pub fn create() -> io::Result<SharedWords> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = File::from(memfd_create(c"clusterd-page", flags)?);
        file.set_len(size_of::<Words>() as u64)?;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals()))?;
        SharedWords::map(file)
    }

    /// Maps the page that another process made.
    ///
    /// # Errors
    /// The descriptor is not such a memfd.
    pub fn open(fd: OwnedFd) -> io::Result<SharedWords> {
        let file = File::from(fd);
        let sealed = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS)?);
        if !sealed.contains(seals()) || file.metadata()?.len() != size_of::<Words>() as u64 {
            return Err(io::Error::other("not the shared page of this program"));
        }
        SharedWords::map(file)
    }

    fn map(file: File) -> io::Result<SharedWords> {
        let map = MmapOptions::new().populate().map_raw(&file)?;
        Ok(SharedWords { file, map })
    }

    /// The words.
    pub fn words(&self) -> &Words {
        // SAFETY: the mapping is page-aligned and lives as long as `self`; the memfd is sealed to the
        // size of `Words`, which consists of atomics only, for which every bit pattern is valid. No
        // process touches this memory in any other way than through them.
        unsafe { &*self.map.as_ptr().cast::<Words>() }
    }
}

impl AsFd for SharedWords {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn seals() -> SealFlag {
    SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL
}
