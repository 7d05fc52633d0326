//! Tells the service manager that the daemon is ready (sd_notify(3)): one datagram to the socket that
//! `NOTIFY_SOCKET` names. The unit needs `NotifyAccess=all`: the worker is not its main process.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// The name of the variable; programs that the daemon starts must not inherit it.
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// Says `READY=1`; does nothing without a service manager.
///
/// # Errors
/// The socket does not take it.
pub fn ready() -> io::Result<()> {
    match std::env::var_os(NOTIFY_SOCKET) {
        Some(name) => send(&name, b"READY=1\n"),
        None => Ok(()),
    }
}

fn send(name: &OsStr, state: &[u8]) -> io::Result<()> {
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state, &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_heard_by_both_kinds_of_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let named = UnixDatagram::bind(&path).unwrap();
        let name = format!("clusterd-test-{}", std::process::id());
        let unnamed =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for (socket, name) in [(named, path.into_os_string()), (unnamed, format!("@{name}").into())]
        {
            send(&name, b"READY=1\n").unwrap();
            let mut buffer = [0; 32];
            assert_eq!(socket.recv(&mut buffer).unwrap(), 8);
        }
        send(OsStr::new("/nonexistent"), b"READY=1\n").unwrap_err();
    }
}
