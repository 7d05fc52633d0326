//! The service of the bed: says on UDP and HTTP which node it runs on.
//!
//! It binds the service addresses themselves, before the node holds them (IP_FREEBIND, ip(7)), so an
//! answer always comes from the address that was asked.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

use crate::limits;
use clusterd::sys::realtime;

/// Longest a client may take to send its request or take the answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Answers on `addresses` as node `name` until the process ends.
///
/// # Errors
/// A port is taken or may not be bound.
pub fn serve(name: &str, addresses: &[IpAddr]) -> io::Result<()> {
    let mut sockets = Vec::new();
    for &address in addresses {
        let udp = UdpSocket::from(open(SocketAddr::new(address, limits::BED_UDP_PORT), false)?);
        let tcp = TcpListener::from(open(SocketAddr::new(address, limits::BED_HTTP_PORT), true)?);
        sockets.push((udp, tcp));
    }
    std::thread::scope(|scope| {
        for (udp, tcp) in &sockets {
            scope.spawn(|| echo(udp, name));
            scope.spawn(|| http(tcp, name));
        }
    });
    Ok(())
}

fn open(address: SocketAddr, stream: bool) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let kind = if stream { SockType::Stream } else { SockType::Datagram };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    setsockopt(&fd, sockopt::IpFreebind, &true)?;
    bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &SockaddrStorage::from(address))?;
    if stream {
        listen(&fd, Backlog::MAXCONN)?;
    }
    Ok(fd)
}

/// Sends each datagram back with the node's name behind it.
fn echo(socket: &UdpSocket, name: &str) {
    // Without the right to real time the machine's noise is measured too.
    let _ = realtime::set_thread_priority(limits::BED_PRIORITY);
    let mut buffer = [0u8; super::client::NUMBER_BYTES];
    loop {
        // An error belongs to an earlier answer (ICMP); the next question may come.
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer.get(..length).unwrap_or_default().to_vec();
            answer.extend_from_slice(name.as_bytes());
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn http(listener: &TcpListener, name: &str) {
    for stream in listener.incoming().flatten() {
        // A client that went away hurts only itself.
        let _ = answer(stream, name);
    }
}

fn answer(mut stream: TcpStream, name: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let _ = stream.read(&mut [0u8; 1024])?;
    write!(stream, "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n{name}\n")
}
