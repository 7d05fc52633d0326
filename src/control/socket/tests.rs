//! The server runs in a thread of the test, with a real poll loop; clients are real sockets.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream as Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mio::{Events, Poll};

use super::*;
use crate::control::protocol::Payload;

struct Running {
    directory: PathBuf,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<Counts>>,
}

impl Running {
    /// A server that answers `status` with a text, refuses `standby`, and never answers `move`.
    /// `hurry` makes its clock run faster, so that idle limits come soon.
    fn start(name: &str, hurry: u32) -> Running {
        let directory =
            std::env::temp_dir().join(format!("clusterd-control-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let end = Arc::new(AtomicBool::new(false));
        let mut poll = Poll::new().unwrap();
        let mut server = Server::open(&directory, poll.registry(), 100).unwrap();
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            let started = Instant::now();
            let mut events = Events::with_capacity(8);
            while !ended.load(Ordering::Relaxed) {
                poll.poll(&mut events, Some(Duration::from_millis(5))).unwrap();
                let now = started + started.elapsed() * hurry;
                for event in &events {
                    assert!(server.owns(event.token()));
                    match server.ready(event.token(), poll.registry(), now) {
                        Some((number, Request::Status {})) => {
                            let text = "x".repeat(300_000);
                            server.answer(number, &Answer::Ok(Payload::Text(text)), now);
                        }
                        Some((number, Request::Standby { .. } | Request::Online { .. })) => {
                            server.answer(number, &Answer::Refused("no".into()), now);
                        }
                        Some((
                            _,
                            Request::Reload {} | Request::Move { .. } | Request::Sync { .. },
                        ))
                        | None => {}
                    }
                }
                server.keep_house(poll.registry(), now);
            }
            server.counts()
        });
        Running { directory, end, thread: Some(thread) }
    }

    fn connect(&self) -> Client {
        let client = Client::connect(path(&self.directory)).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    fn stop(mut self) -> Counts {
        self.end.store(true, Ordering::Relaxed);
        let counts = self.thread.take().unwrap().join().unwrap();
        fs::remove_dir_all(&self.directory).unwrap();
        counts
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

fn move_web() -> Request {
    Request::Move { group: "web".into(), node: None, accept_loss: false }
}

#[test]
fn a_long_answer_arrives_whole_and_a_refusal_as_well() {
    let running = Running::start("whole", 1);
    let answer = ask(&running.directory, &Request::Status {}, PATIENCE).unwrap();
    assert_eq!(answer, Answer::Ok(Payload::Text("x".repeat(300_000))));
    let answer = ask(&running.directory, &Request::Standby { node: None }, PATIENCE).unwrap();
    assert_eq!(answer, Answer::Refused("no".into()));
    assert_eq!(running.stop(), Counts::default());
}

#[test]
fn bad_requests_are_refused_and_counted() {
    let running = Running::start("bad", 1);
    let refused = |bytes: &[u8]| {
        let mut client = running.connect();
        let _ = client.write_all(bytes);
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer);
        assert!(answer.starts_with("{\"refused\":"), "{answer}");
    };
    refused(b"what\n");
    refused(&[b'x'; limits::CONTROL_REQUEST_BYTES_MAX + 1]);
    let counts = running.stop();
    assert_eq!((counts.malformed, counts.oversized), (1, 1));
}

#[test]
fn too_many_idle_and_vanished_clients_cost_nothing() {
    let running = Running::start("idle", 200);
    let waiting = {
        let mut client = running.connect();
        client.write_all(&protocol::line(&move_web()).unwrap()).unwrap();
        client
    };
    let crowd: Vec<Client> =
        (0..limits::CONTROL_CONNECTIONS_MAX + 3).map(|_| running.connect()).collect();
    for mut client in crowd {
        let end = client.read(&mut [0]);
        assert!(matches!(end, Ok(0) | Err(_)), "closed by the server, idle or one too many");
    }
    // The one that waits for its answer is older than all of them and still there.
    waiting.set_nonblocking(true).unwrap();
    assert_eq!((&waiting).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(waiting);
    assert!(ask(&running.directory, &Request::Status {}, PATIENCE).is_ok());
    let counts = running.stop();
    assert!(counts.idle > 0 && counts.too_many > 0, "{counts:?}");
    assert_eq!(counts.hung_up, 1);
}

#[test]
fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let running = Running::start("stale", 1);
    let poll = Poll::new().unwrap();
    let second = Server::open(&running.directory, poll.registry(), 0);
    assert_eq!(second.err().map(|error| error.kind()), Some(ErrorKind::AddrInUse));
    let directory = running.directory.clone();
    running.stop();
    fs::create_dir_all(&directory).unwrap();
    drop(UnixListener::bind(path(&directory)).unwrap());
    Server::open(&directory, poll.registry(), 0).unwrap();
    let mode = fs::metadata(path(&directory)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_run_directory_that_vanishes_comes_back_with_its_socket() {
    let running = Running::start("vanished", 1);
    let answers = || ask(&running.directory, &Request::Status {}, PATIENCE).is_ok();
    assert!(answers());
    for _ in 0..2 {
        fs::remove_dir_all(&running.directory).unwrap();
        assert!(!answers());
        let deadline = Instant::now() + PATIENCE;
        while !answers() {
            assert!(Instant::now() < deadline, "the socket does not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
        let mode = fs::metadata(path(&running.directory)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
    }
    running.stop();
}

#[test]
fn nobody_there_is_told_with_the_remedy() {
    let nowhere = std::env::temp_dir().join("clusterd-control-nowhere");
    let error = ask(&nowhere, &Request::Status {}, PATIENCE).unwrap_err();
    assert!(matches!(&error, AskError::NoDaemon { .. }));
    assert!(error.to_string().contains("clusterd run"), "{error}");
}

#[test]
fn a_daemon_that_never_answers_does_not_hold_the_caller() {
    let running = Running::start("mute", 1);
    let error = ask(&running.directory, &move_web(), Duration::from_millis(50)).unwrap_err();
    assert!(
        matches!(error, AskError::NoDaemon { error, .. } if error.kind() == ErrorKind::TimedOut)
    );
    running.stop();
}
