//! Clients' connections, as a real kernel knows them.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};
use std::os::fd::AsRawFd;

use super::*;
use crate::net::clients::{Connection, DiagSocket, Found, States, Tickler};
use crate::net::route_socket::loss::{self, Loss};

/// Both ends of a connection from that address to that listener.
fn connected(listener: &TcpListener, to: &str, from: &str) -> (TcpStream, TcpStream) {
    let to = SocketAddr::new(to.parse().unwrap(), listener.local_addr().unwrap().port());
    let from = SocketAddr::new(from.parse().unwrap(), 0);
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let client = socket(family, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(client.as_raw_fd(), &SockaddrStorage::from(from)).unwrap();
    connect(client.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    (listener.accept().unwrap().0, TcpStream::from(client))
}

fn found(ips: &[&str], states: States) -> Vec<Found> {
    let ips: Vec<IpAddr> = ips.iter().map(|ip| ip.parse().unwrap()).collect();
    let mut found = Vec::new();
    DiagSocket::open().unwrap().connections(&ips, states, &mut |one| found.push(one)).unwrap();
    found
}

fn addresses() {
    for ip in ["192.0.2.50/32", "192.0.2.60/32", "192.0.2.7/32"] {
        run(&format!("ip address add {ip} dev lo"));
    }
    for ip in ["2001:db8::50/128", "2001:db8::7/128"] {
        run(&format!("ip address add {ip} dev lo nodad"));
    }
}

#[test]
fn connections_to_service_addresses_are_found_and_others_are_not() {
    in_namespace(|| {
        addresses();
        let v4 = TcpListener::bind("0.0.0.0:0").unwrap();
        let both = TcpListener::bind("[::]:0").unwrap();
        let first = connected(&v4, "192.0.2.50", "192.0.2.7");
        let mapped = connected(&both, "192.0.2.50", "192.0.2.7");
        let second = connected(&both, "2001:db8::50", "2001:db8::7");
        let _other = connected(&v4, "192.0.2.60", "192.0.2.7");
        let ends = |(_, client): &(TcpStream, TcpStream)| Connection {
            service: client.peer_addr().unwrap(),
            client: client.local_addr().unwrap(),
        };
        let mut wanted = [ends(&first), ends(&mapped), ends(&second)];
        let seen = found(&["192.0.2.50", "2001:db8::50"], States::AWAITED);
        let mut seen: Vec<Connection> = seen.into_iter().map(|found| found.connection).collect();
        seen.sort_by_key(|one| (one.service, one.client));
        wanted.sort_by_key(|one| (one.service, one.client));
        assert_eq!(seen, wanted);
        // Both sides have closed: nobody waits any more.
        drop((first, mapped, second));
        until("they are gone", || found(&["192.0.2.50"], States::AWAITED).is_empty());
        // As many addresses as a config may have.
        let many: Vec<String> = (0..127).map(|host| format!("2001:db8::1:{host}")).collect();
        let mut many: Vec<&str> = many.iter().map(String::as_str).collect();
        many.push("192.0.2.60");
        assert_eq!(found(&many, States::AWAITED).len(), 1);
    });
}

#[test]
fn a_closed_connection_ends_for_both_and_no_other_does() {
    in_namespace(|| {
        addresses();
        let listener = TcpListener::bind("192.0.2.50:0").unwrap();
        let (mut ours, mut theirs) = connected(&listener, "192.0.2.50", "192.0.2.7");
        let (other, _client) = connected(&listener, "192.0.2.50", "192.0.2.7");
        let wanted = theirs.local_addr().unwrap();
        let all = found(&["192.0.2.50"], States::OPEN);
        assert_eq!(all.len(), 2);
        let one = all.iter().find(|found| found.connection.client == wanted).unwrap();
        let mut socket = DiagSocket::open().unwrap();
        socket.close(one).unwrap();
        assert_eq!(theirs.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(ours.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
        other.set_nonblocking(true).unwrap();
        assert_eq!((&other).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        // What was found before is another socket than what comes later with the same ends.
        socket.close(one).unwrap();
        assert_eq!(found(&["192.0.2.50"], States::OPEN).len(), 1);
    });
}

#[test]
fn a_look_that_lost_an_answer_says_so_and_the_next_is_whole() {
    in_namespace(|| {
        addresses();
        let listener = TcpListener::bind("192.0.2.50:0").unwrap();
        let _connected = connected(&listener, "192.0.2.50", "192.0.2.7");
        let ips = ["192.0.2.50".parse().unwrap()];
        for after in 0.. {
            loss::order(Some(Loss { after, times: 1, eats: true }));
            let mut seen = 0;
            let looked =
                DiagSocket::open().unwrap().connections(&ips, States::AWAITED, &mut |_| seen += 1);
            if loss::order(None).unwrap().times > 0 {
                assert!(after > 0 && looked.is_ok() && seen == 1);
                break;
            }
            assert_eq!(looked.unwrap_err().raw_os_error(), Some(libc::ENOBUFS));
            assert_eq!(found(&["192.0.2.50"], States::AWAITED).len(), 1);
        }
    });
}

#[test]
fn no_segment_leaves_for_an_address_that_is_not_here() {
    in_namespace(|| {
        addresses();
        let to = |service: &str, client: &str| {
            let service = SocketAddr::new(service.parse().unwrap(), 80);
            let client = SocketAddr::new(client.parse().unwrap(), 1000);
            Tickler::default().send(&Connection { service, client })
        };
        to("192.0.2.50", "192.0.2.7").unwrap();
        to("2001:db8::50", "2001:db8::7").unwrap();
        for (service, client) in [("192.0.2.51", "192.0.2.7"), ("2001:db8::51", "2001:db8::7")] {
            let refused = to(service, client).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable, "{refused}");
        }
    });
}
