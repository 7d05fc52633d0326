//! What serial lines need beyond the `serialport` crate: its descriptor, borrowed, the length of the output
//! queue (tty_ioctl(4)), and from how much on poll(2) tells of input.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sys::termios::{SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};
use serialport::TTYPort;

nix::ioctl_read_bad!(
    /// The length of a terminal's output queue in bytes.
    tiocoutq,
    libc::TIOCOUTQ,
    libc::c_int
);

nix::ioctl_read_bad!(
    /// The states of a terminal's modem lines.
    tiocmget,
    libc::TIOCMGET,
    libc::c_int
);

/// Whether DSR or DCD is on, which a null-modem cable takes from the far end's DTR; `None` where the
/// driver has no such lines (a pseudo-terminal answers ENOTTY).
pub fn far_end_shows(port: &TTYPort) -> Option<bool> {
    let mut lines: libc::c_int = 0;
    // SAFETY: TIOCMGET writes one int, to a live one.
    unsafe { tiocmget(port.as_raw_fd(), &raw mut lines) }.ok()?;
    Some(lines & (libc::TIOCM_DSR | libc::TIOCM_CAR) != 0)
}

/// The port's descriptor, for calls that `serialport` does not have.
pub fn descriptor(port: &TTYPort) -> BorrowedFd<'_> {
    // SAFETY: the port owns this descriptor and closes it only when it is dropped; the borrow ends
    // before that.
    unsafe { BorrowedFd::borrow_raw(port.as_raw_fd()) }
}

/// From now on poll(2) tells of the line when so many bytes wait there. A read that does not block brings what
/// is there all the same (termios(3), VMIN; `n_tty_poll`, `n_tty_read`).
///
/// # Errors
/// As ioctl(2): EIO after a hang-up.
pub fn set_least_bytes(port: &TTYPort, least: u8) -> io::Result<()> {
    let line = descriptor(port);
    let mut settings = tcgetattr(line)?;
    for (place, value) in
        [(SpecialCharacterIndices::VMIN, least), (SpecialCharacterIndices::VTIME, 0)]
    {
        if let Some(setting) = settings.control_chars.get_mut(place as usize) {
            *setting = value;
        }
    }
    Ok(tcsetattr(line, SetArg::TCSANOW, &settings)?)
}

/// Bytes that were written and have not left the kernel's queue yet.
///
/// # Errors
/// As ioctl(2): EIO after a hang-up.
pub fn output_queue_bytes(port: &TTYPort) -> io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int, to a live one.
    unsafe { tiocoutq(port.as_raw_fd(), &raw mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}
