use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::control::event::{Kind, Record, Told};
use crate::core::ServiceDuty;

fn channels() -> (HeartChannel, WorkerChannel) {
    let (heart, worker) = pair().unwrap();
    (HeartChannel::new(heart), WorkerChannel::new(worker))
}

fn next(worker: &WorkerChannel) -> Option<ToWorker> {
    worker.receive(&mut |error| panic!("{error}")).unwrap()
}

fn record(text: &str) -> Record {
    let told = Told {
        kind: Kind::Start,
        group: None,
        text: text.to_owned(),
        evidence: BTreeMap::from([("n".to_owned(), serde_json::json!(7))]),
    };
    Record { time: "2026-01-01T00:00:00.000Z".to_owned(), node: "serv1".to_owned(), told }
}

fn persist(write: u64) -> ToWorker {
    ToWorker::Persist {
        write,
        state: DiskState { alone: write.is_multiple_of(2), ..DiskState::default() },
    }
}

#[test]
fn messages_arrive_as_they_were_sent() {
    let (mut heart, worker) = channels();
    let all = [
        ToWorker::Ready,
        persist(3),
        ToWorker::Tell(record("started")),
        ToWorker::Log { level: log::Level::Warn, text: "line\nwith \"quotes\"".to_owned() },
        ToWorker::RecordInput("{}".to_owned()),
    ];
    for message in all {
        heart.send(&message);
        assert_eq!(next(&worker).unwrap(), message);
    }
    let back = ToHeart::PersistFailed { error: "no space left".to_owned() };
    worker.send(&back).unwrap();
    assert_eq!(heart.receive().unwrap(), Some(back));
    assert_eq!(heart.receive().unwrap(), None);
}

#[test]
fn a_worker_that_does_not_read_never_blocks_the_heart_nor_loses_the_newest_write() {
    let (mut heart, worker) = channels();
    let long = "x".repeat(30_000);
    for _ in 0..LINK_EVENTS_MAX + 50 {
        heart.send(&ToWorker::Tell(record(&long)));
    }
    for _ in 0..LINK_LINES_MAX + 50 {
        heart.send(&ToWorker::RecordInput(long.clone()));
    }
    for write in 1..=40 {
        heart.send(&persist(write));
    }
    assert!(!heart.flush());
    assert!(heart.dropped().events > 0 && heart.dropped().lines >= 50);
    let (mut newest, mut events) = (0, 0);
    while !heart.flush() {
        match next(&worker).unwrap() {
            ToWorker::Persist { write, .. } => newest = write,
            ToWorker::Tell(_) => events += 1,
            _ => {}
        }
    }
    assert_eq!(newest, 40);
    assert!(events >= LINK_EVENTS_MAX - 10);
}

#[test]
fn p2_a_worker_that_hung_learns_the_newest_orders() {
    let (mut heart, worker) = channels();
    let order = |order, duty| ToWorker::Services { group: GroupIndex(0), order, duty };
    let long = "x".repeat(30_000);
    heart.send(&ToWorker::Tell(record(&long)));
    while heart.flush() {
        heart.send(&ToWorker::Tell(record(&long)));
    }
    heart.send(&order(1, ServiceDuty::Run));
    heart.send(&ToWorker::Ready);
    heart.send(&order(2, ServiceDuty::Standby));
    for _ in 0..LINK_EVENTS_MAX * 2 {
        heart.send(&ToWorker::Tell(record(&long)));
    }
    let (mut orders, mut ready) = (Vec::new(), 0);
    while !heart.flush() {
        match next(&worker).unwrap() {
            ToWorker::Services { order, .. } => orders.push(order),
            ToWorker::Ready => ready += 1,
            _ => {}
        }
    }
    assert_eq!((orders, ready), (vec![2], 1));
}

#[test]
fn a_new_worker_gets_the_newest_unacknowledged_write_again() {
    let (mut heart, worker) = channels();
    for write in [1, 2] {
        heart.send(&persist(write));
        next(&worker);
    }
    worker.send(&ToHeart::Persisted { write: 1 }).unwrap();
    worker.send(&ToHeart::WorkerStarted).unwrap();
    assert_eq!(heart.receive().unwrap(), Some(ToHeart::Persisted { write: 1 }));
    assert_eq!(heart.receive().unwrap(), Some(ToHeart::WorkerStarted));
    assert_eq!(next(&worker), Some(persist(2)));
    worker.send(&ToHeart::Persisted { write: 2 }).unwrap();
    worker.send(&ToHeart::WorkerStarted).unwrap();
    while heart.receive().unwrap().is_some() {}
    heart.send(&ToWorker::Ready);
    assert_eq!(next(&worker), Some(ToWorker::Ready), "an acknowledged write is not sent again");
}

#[test]
fn hello_skips_what_was_meant_for_an_earlier_heart_and_asks_a_new_worker_again() {
    let (mut heart, worker) = channels();
    let disk = DiskState { standby: true, ..DiskState::default() };
    let old = ToHeart::HelloAck { nonce: 1, disk: Ok(DiskState::default()) };
    worker.send(&ToHeart::Persisted { write: 9 }).unwrap();
    worker.send(&old).unwrap();
    let answer = disk.clone();
    let thread = std::thread::spawn(move || {
        // The first worker reads the question and dies.
        assert_eq!(next(&worker), Some(ToWorker::Hello { nonce: 2 }));
        worker.send(&ToHeart::WorkerStarted).unwrap();
        assert_eq!(next(&worker), Some(ToWorker::Hello { nonce: 2 }));
        worker.send(&ToHeart::HelloAck { nonce: 2, disk: Ok(answer) }).unwrap();
    });
    assert_eq!(heart.hello(2, Duration::from_secs(30)).unwrap(), disk);
    thread.join().unwrap();
}

#[test]
fn hello_tells_why_there_is_no_state() {
    let (mut heart, worker) = channels();
    let error = heart.hello(5, Duration::from_millis(1)).unwrap_err();
    assert!(matches!(error, HelloError::Silent(_)));
    worker.send(&ToHeart::HelloAck { nonce: 5, disk: Err("bad state".to_owned()) }).unwrap();
    let error = heart.hello(5, Duration::from_secs(30)).unwrap_err();
    assert_eq!(error.to_string(), "bad state");
}

#[test]
fn both_ends_notice_that_the_other_is_gone_after_reading_what_it_said() {
    let (mut heart, worker) = channels();
    worker.send(&ToHeart::WorkerStarted).unwrap();
    heart.send(&ToWorker::Ready);
    drop(heart);
    assert_eq!(next(&worker), Some(ToWorker::Ready));
    assert_eq!(next(&worker), None);
    let (mut heart, worker) = channels();
    drop(worker);
    assert_eq!(heart.receive().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn nonsense_is_counted_and_skipped() {
    let (mut heart, worker) = channels();
    for bytes in [&b"{"[..], b"null", &[b' '; LINK_BYTES_MAX + 1]] {
        push(&worker.fd, bytes).unwrap();
    }
    worker.send(&ToHeart::WorkerStarted).unwrap();
    assert_eq!(heart.receive().unwrap(), Some(ToHeart::WorkerStarted));
    assert_eq!(heart.dropped().malformed, 3);
    heart.send(&ToWorker::RecordInput("y".repeat(LINK_BYTES_MAX)));
    assert_eq!(heart.dropped().oversized, 1);
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode::<ToWorker>(&bytes);
        let _ = decode::<ToHeart>(&bytes);
    }

    #[test]
    fn texts_come_back_as_they_were(text in ".{0,200}", write in any::<u64>()) {
        let message = ToWorker::Log { level: log::Level::Info, text: text.clone() };
        prop_assert_eq!(decode::<ToWorker>(&encode(&message).unwrap()).unwrap(), message);
        let message = ToHeart::HelloAck { nonce: write, disk: Err(text) };
        prop_assert_eq!(decode::<ToHeart>(&encode(&message).unwrap()).unwrap(), message);
    }
}
