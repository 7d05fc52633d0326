use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::*;
use crate::control::event::{Kind, Record, Told};
use crate::core::DiskState;
use crate::daemon::link::{HeartLink, pair};

/// An event that says `text`.
pub(super) fn record(text: &str) -> Record {
    let told = Told { kind: Kind::Start, group: None, text: text.to_owned(), evidence: [].into() };
    Record { time: "2026-01-01T00:00:00.000Z".to_owned(), node: "serv1".to_owned(), told }
}

#[test]
fn a_worker_does_what_it_is_asked_and_ends_when_the_link_does() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path().to_owned();
    let [exec, notified, recording] =
        ["notify", "notified", "recording"].map(|n| state_dir.join(n));
    std::fs::write(&exec, format!("#!/bin/sh\ncat >>{}\n", notified.display())).unwrap();
    std::fs::set_permissions(&exec, std::fs::Permissions::from_mode(0o755)).unwrap();
    let (heart, worker) = pair().unwrap();
    let inherited = WorkerInherits {
        state_dir: state_dir.clone(),
        notify_exec: Some(exec),
        record: Some(recording.clone()),
        link: WorkerLink::new(worker),
        lock: std::fs::File::open("/dev/null").unwrap().into(),
    };
    let thread = std::thread::spawn(move || work(inherited));
    let mut heart = HeartLink::new(heart);
    let disk = heart.hello(1, Duration::from_secs(60)).unwrap();
    assert_eq!(disk, DiskState::default());
    heart.send(&ToWorker::Ready);
    heart.send(&ToWorker::Persist { write: 1, state: DiskState { alone: true, ..disk } });
    heart.send(&ToWorker::RecordInput("an input".to_owned()));
    heart.send(&ToWorker::Log { level: log::Level::Info, text: "a line".to_owned() });
    heart.send(&ToWorker::Tell(record("an event")));
    assert!(heart.flush());
    drop(heart);
    thread.join().unwrap().unwrap();
    assert!(Store::new(&state_dir).load().unwrap().alone);
    assert_eq!(std::fs::read_to_string(recording).unwrap(), "an input\n");
    let line = serde_json::to_string(&record("an event")).unwrap() + "\n";
    assert_eq!(std::fs::read_to_string(state_dir.join("events.jsonl")).unwrap(), line);
    assert_eq!(std::fs::read_to_string(notified).unwrap(), line);
}
