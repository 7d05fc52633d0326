use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use super::*;
use crate::service::cancellation::cancellation;
use crate::service::run::tests::write_program;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(200);

fn asked(probe: Probe, timeout: Duration) -> Result<(), String> {
    let check = Check { probe, every: LONG, timeout, failures: 3 };
    let (_canceller, cancel) = cancellation().unwrap();
    ask(&check, &vec![("PATH".into(), "/usr/bin:/bin".into())], &cancel)
}

/// A server that gives one answer, and what it was asked.
fn server(answer: &'static str) -> (SocketAddr, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut buffer = [0; 1024];
        while !asked.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer).unwrap() {
                0 => break,
                length => asked.extend_from_slice(&buffer[..length]),
            }
        }
        // A client that has seen enough may be gone.
        let _ = stream.write_all(answer.as_bytes());
        String::from_utf8(asked).unwrap()
    });
    (address, thread)
}

fn http_answered(answer: &'static str) -> Result<(), String> {
    let (address, thread) = server(answer);
    let outcome = asked(Probe::Http(format!("http://{address}/health?x=1")), LONG);
    let question = thread.join().unwrap();
    assert!(question.starts_with("GET /health?x=1 HTTP/1.1\r\n"), "{question}");
    outcome
}

#[test]
fn http_is_judged_by_its_status_alone() {
    http_answered("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n").unwrap();
    http_answered("HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    http_answered("HTTP/1.1 302 Found\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n")
        .unwrap();
    for bad in ["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 503 Service Unavailable\r\n\r\n"] {
        let why = http_answered(bad).unwrap_err();
        assert!(why.contains(&bad[9..12]), "{why}");
    }
    http_answered("SSH-2.0-OpenSSH\r\n\r\n").unwrap_err();
    http_answered("").unwrap_err();
}

#[test]
fn a_server_that_does_not_answer_is_not_well() {
    // The kernel accepts for it; nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    asked(Probe::Http(format!("http://{address}/")), SHORT).unwrap_err();
    asked(Probe::Tcp(address), LONG).unwrap();
    drop(listener);
    let why = asked(Probe::Tcp(address), LONG).unwrap_err();
    assert!(why.contains(&address.to_string()), "{why}");
    asked(Probe::Http(format!("http://{address}/")), LONG).unwrap_err();
}

#[test]
fn programs_are_judged_by_their_exit_status() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("check");
    let ask_with = |body: &str, timeout| {
        write_program(&program, body);
        asked(Probe::Exec(program.clone()), timeout)
    };
    ask_with("test $# = 0", LONG).unwrap();
    let why = ask_with("echo no disk; exit 2", LONG).unwrap_err();
    assert!(why.contains("ended with status 2, saying \"no disk\""), "{why}");
    let why = ask_with("sleep 1000", SHORT).unwrap_err();
    assert!(why.contains("took longer than 200ms"), "{why}");
    asked(Probe::Exec("/nonexistent".into()), LONG).unwrap_err();
}
