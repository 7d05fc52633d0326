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

/// A serial line whose driver may have modem lines.
pub trait ModemLines {
    /// The lines that are on, as `TIOCM_*` bits (tty_ioctl(4)).
    ///
    /// # Errors
    /// The driver has none (ENOTTY; a pseudo-terminal), or the device is gone.
    fn modem_lines(&self) -> io::Result<libc::c_int>;
}

impl ModemLines for TTYPort {
    fn modem_lines(&self) -> io::Result<libc::c_int> {
        let mut lines: libc::c_int = 0;
        // SAFETY: TIOCMGET writes one int, to a live one.
        unsafe { tiocmget(self.as_raw_fd(), &raw mut lines) }?;
        Ok(lines)
    }
}

/// Whether DSR or DCD is on, which a null-modem cable takes from the far end's DTR; `None`: nobody can tell. A
/// cable of three wires shows neither, ever.
pub fn far_end_shows(line: &impl ModemLines) -> Option<bool> {
    let lines = line.modem_lines().ok()?;
    Some(lines & (libc::TIOCM_DSR | libc::TIOCM_CAR) != 0)
}

/// The port's descriptor, for calls that `serialport` does not have.
pub fn descriptor(port: &TTYPort) -> BorrowedFd<'_> {
    // SAFETY: the port owns this descriptor and closes it only when it is dropped; the borrow ends
    // before that.
    unsafe { BorrowedFd::borrow_raw(port.as_raw_fd()) }
}

/// From now on poll(2) tells of the line when so many bytes wait there. A read that does not block brings what
/// is there anyway (termios(3), VMIN; `n_tty_poll`, `n_tty_read`).
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A UART with these lines on, or what its driver answers instead.
    struct Fake(Result<libc::c_int, i32>);

    impl ModemLines for Fake {
        fn modem_lines(&self) -> io::Result<libc::c_int> {
            self.0.map_err(io::Error::from_raw_os_error)
        }
    }

    #[test]
    fn the_far_end_shows_at_dsr_or_dcd_and_nowhere_else() {
        let own = libc::TIOCM_DTR | libc::TIOCM_RTS;
        for shows in [libc::TIOCM_DSR, libc::TIOCM_CAR, libc::TIOCM_DSR | libc::TIOCM_CAR] {
            assert_eq!(far_end_shows(&Fake(Ok(own | shows))), Some(true), "{shows:#x}");
        }
        for other in [0, libc::TIOCM_CTS, libc::TIOCM_RI] {
            assert_eq!(far_end_shows(&Fake(Ok(own | other))), Some(false), "{other:#x}");
        }
        for error in [libc::ENOTTY, libc::EIO, libc::ENODEV] {
            assert_eq!(far_end_shows(&Fake(Err(error))), None);
        }
    }
}
