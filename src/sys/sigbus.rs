//! Files hashed through a mapping. When a file is truncated under its mapping, or its disk fails, an
//! access raises SIGBUS, which by default kills the process (mmap(2)). Here it does not.

use std::fs::File;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memmap2::{MmapOptions, MmapRaw};
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// The mapped range that a thread reads now.
struct Watched {
    start: AtomicUsize,
    /// 0: none.
    end: AtomicUsize,
    faulted: AtomicBool,
}

thread_local! {
    // Constant and without a destructor: plain memory that a signal handler may touch at any time.
    static WATCHED: Watched = const {
        Watched {
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            faulted: AtomicBool::new(false),
        }
    };
}

/// A part of a file, mapped for reading.
#[derive(Debug)]
pub struct Window {
    map: MmapRaw,
}

impl Window {
    /// Maps `length` bytes from `offset`. The first window of the process sets the handler of SIGBUS.
    ///
    /// # Errors
    /// As mmap(2); ENODEV where the file system cannot map. Nothing to map: EINVAL.
    pub fn new(file: &File, offset: u64, length: usize) -> io::Result<Window> {
        static HANDLED: OnceLock<Result<(), Errno>> = OnceLock::new();
        (*HANDLED.get_or_init(handle_faults))?;
        if length == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let map = MmapOptions::new().offset(offset).len(length).map_raw_read_only(file)?;
        Ok(Window { map })
    }

    /// The BLAKE3 hashes of the window's pieces of `piece` bytes, the last one as long as is left.
    /// `None` if a part of it could not be read: the file is shorter now, or its disk failed.
    ///
    /// The mapped bytes are seen by BLAKE3 only and never become a slice elsewhere: others may write
    /// the file at any time.
    pub fn hashes(&self, piece: usize) -> Option<Vec<[u8; 32]>> {
        let (start, length) = (self.map.as_ptr().addr(), self.map.len());
        WATCHED.with(|watched| {
            watched.faulted.store(false, Ordering::SeqCst);
            watched.start.store(start, Ordering::SeqCst);
            watched.end.store(start + length, Ordering::SeqCst);
            // SAFETY: the mapping is alive and readable over its whole length; what cannot be read is
            // replaced by zeros in the handler. Another process may change the bytes meanwhile:
            // BLAKE3 only computes with them, no address or branch depends on their value, and the
            // caller finds the change by the file's times.
            let bytes = unsafe { std::slice::from_raw_parts(self.map.as_ptr(), length) };
            let hashes = bytes.chunks(piece.max(1)).map(|part| *blake3::hash(part).as_bytes());
            let hashes = hashes.collect();
            watched.end.store(0, Ordering::SeqCst);
            (!watched.faulted.load(Ordering::SeqCst)).then_some(hashes)
        })
    }
}

fn handle_faults() -> Result<(), Errno> {
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_ONSTACK;
    let action = SigAction::new(SigHandler::SigAction(on_fault), flags, SigSet::empty());
    // SAFETY: the handler makes system calls and touches atomics only (signal-safety(7)).
    unsafe { sigaction(Signal::SIGBUS, &action) }.map(|_| ())
}

/// Maps zeros from the fault to the end of the thread's window, so that the access goes on. One page
/// at a time would fault again for each. Any other SIGBUS is as deadly as ever.
extern "C" fn on_fault(
    _signal: libc::c_int,
    info: *mut libc::siginfo_t,
    _context: *mut libc::c_void,
) {
    // SAFETY: the kernel gives a live siginfo_t; the address is set for faults, which have a positive
    // code.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    let patched = code > 0
        && WATCHED.with(|watched| {
            let (start, end) =
                (watched.start.load(Ordering::SeqCst), watched.end.load(Ordering::SeqCst));
            if !(start..end).contains(&address) {
                return false;
            }
            watched.faulted.store(true, Ordering::SeqCst);
            zeros(address, end)
        });
    if !patched {
        // SAFETY: plain system calls. A fault happens again when the handler returns, now with the
        // default action; a signal that was sent is sent again.
        unsafe {
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
            if code <= 0 {
                libc::raise(libc::SIGBUS);
            }
        }
    }
}

/// Replaces the pages from that of `address` up to `end`. The interrupted code's errno stays.
fn zeros(address: usize, end: usize) -> bool {
    let errno = Errno::last_raw();
    // SAFETY: sysconf of a constant; mmap replaces pages of this thread's own window only, which stays
    // mapped until the window is dropped, and unmaps all of it then.
    let mapped = unsafe {
        let page_bytes = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(4096);
        let from = address & !(page_bytes - 1);
        libc::mmap(
            from as *mut libc::c_void,
            end - from,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    Errno::set_raw(errno);
    mapped != libc::MAP_FAILED
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    const BYTES: usize = 1 << 20;

    fn file() -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(BYTES as u64).unwrap();
        file
    }

    #[test]
    fn a_file_cut_under_its_window_is_told() {
        let file = file();
        let window = Window::new(&file, 0, BYTES).unwrap();
        assert_eq!(window.hashes(BYTES / 2).unwrap().len(), 2);
        file.set_len(BYTES as u64 / 2).unwrap();
        assert_eq!(window.hashes(BYTES), None);
        file.set_len(0).unwrap();
        assert_eq!(window.hashes(4096), None);
        // The process and other windows are well.
        file.set_len(BYTES as u64).unwrap();
        let again = Window::new(&file, 0, BYTES).unwrap();
        assert_eq!(again.hashes(BYTES), Some(vec![*blake3::hash(&vec![0; BYTES]).as_bytes()]));
    }

    #[test]
    fn nothing_cannot_be_mapped() {
        assert!(Window::new(&file(), 0, 0).is_err());
    }

    /// Runs one of the tests below alone in a process of its own and returns the signal it died of.
    fn dies_of(test: &str) -> Option<i32> {
        let program = std::env::current_exe().unwrap();
        let name = format!("sys::sigbus::tests::{test}");
        let mut child = Command::new(program);
        child.args(["--exact", &name, "--ignored"]).output().unwrap().status.signal()
    }

    #[test]
    fn other_faults_still_kill() {
        assert_eq!(dies_of("fault_outside"), Some(libc::SIGBUS));
        assert_eq!(dies_of("sent"), Some(libc::SIGBUS));
    }

    #[test]
    #[ignore = "dies: run by `other_faults_still_kill` in a process of its own"]
    fn fault_outside() {
        let (file, other) = (file(), file());
        let window = Window::new(&file, 0, BYTES).unwrap();
        assert!(window.hashes(BYTES).is_some());
        let map = MmapOptions::new().len(BYTES).map_raw_read_only(&other).unwrap();
        other.set_len(0).unwrap();
        // SAFETY: the address is mapped; that the access faults is what is tested.
        unsafe { map.as_ptr().read_volatile() };
    }

    #[test]
    #[ignore = "dies: run by `other_faults_still_kill` in a process of its own"]
    fn sent() {
        assert!(Window::new(&file(), 0, BYTES).unwrap().hashes(BYTES).is_some());
        nix::sys::signal::raise(Signal::SIGBUS).unwrap();
    }
}
