//! A flag that Ctrl-C and its like set, so that a program ends on its own way out (signal(7)).

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static ASKED: AtomicBool = AtomicBool::new(false);

extern "C" fn ask(_signal: libc::c_int) {
    ASKED.store(true, Ordering::SeqCst);
}

/// From now on SIGINT, SIGTERM and SIGHUP do nothing but set the flag that is returned. Programs that
/// are started afterwards have the default again: execve(2) takes handlers away.
///
/// # Errors
/// As sigaction(2).
pub fn by_signal() -> io::Result<&'static AtomicBool> {
    let action = SigAction::new(SigHandler::Handler(ask), SaFlags::SA_RESTART, SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler only stores to an atomic, which is safe at any point (signal-safety(7)).
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(&ASKED)
}
