use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::config::{Config, GroupIndex, NodeIndex};
use crate::control::event::{Kind, Record, Told};
use crate::core::{DiskState, ServiceDuty, ServiceWord};
use crate::daemon::channel::{HeartChannel, pair};
use crate::daemon::config_slots::ConfigSlot;

/// An event that says `text`.
pub(super) fn record(text: &str) -> Record {
    let told = Told { kind: Kind::Start, group: None, text: text.to_owned(), evidence: [].into() };
    Record { time: "2026-01-01T00:00:00.000Z".to_owned(), node: "serv1".to_owned(), told }
}

fn config(notify_exec: &Path) -> Config {
    let node = |name: &str, number: u8| {
        format!("[node.{name}]\naddress = \"203.0.113.{number}\"\nlan = \"a\"\ncrossover = \"b\"\n")
    };
    let text = format!(
        "[cluster]\nname = \"c\"\nkey = \"/k\"\n{}{}[notify]\nexec = {notify_exec:?}\n\
         [group.web]\nprefer = \"serv1\"\naddress = [\"203.0.113.50/24\"]\n",
        node("serv1", 11),
        node("serv2", 12)
    );
    crate::config::parse(&text, "test").unwrap()
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
        config: config(&exec),
        config_file: state_dir.join("clusterd.toml"),
        me: NodeIndex::Lower,
        keys: (&[7; 32]).into(),
        run_dir: state_dir.join("run"),
        state_dir: state_dir.clone(),
        record: Some(recording.clone()),
        channel: WorkerChannel::new(worker),
        lock: std::fs::File::open("/dev/null").unwrap().into(),
        config_slots: ConfigSlots::create(&ConfigSlot {
            config: config(&exec),
            keys: (&[7; 32]).into(),
        })
        .unwrap(),
    };
    let thread = std::thread::spawn(move || work(inherited));
    let mut heart = HeartChannel::new(heart);
    let disk = heart.hello(1, Duration::from_secs(60)).unwrap();
    assert_eq!(disk, DiskState::default());
    heart.send(&ToWorker::Ready);
    let group = GroupIndex(0);
    heart.send(&ToWorker::Services { group, order: 7, duty: ServiceDuty::Run });
    heart.send(&ToWorker::Persist { write: 1, state: DiskState { alone: true, ..disk } });
    heart.send(&ToWorker::RecordInput("an input".to_owned()));
    heart.send(&ToWorker::Log { level: log::Level::Info, text: "a line".to_owned() });
    heart.send(&ToWorker::Tell(record("an event")));
    assert!(heart.flush());
    let begin = std::time::Instant::now();
    // A group without services runs all of them.
    loop {
        match heart.receive().unwrap() {
            Some(ToHeart::Services { report, .. }) if report.word == ServiceWord::Done => {
                assert_eq!(report.order, 7);
                break;
            }
            _ => assert!(begin.elapsed() < Duration::from_secs(60)),
        }
        std::thread::yield_now();
    }
    drop(heart);
    thread.join().unwrap().unwrap();
    assert!(Store::new(&state_dir).load().unwrap().alone);
    assert_eq!(std::fs::read_to_string(recording).unwrap(), "an input\n");
    let line = serde_json::to_string(&record("an event")).unwrap() + "\n";
    assert_eq!(std::fs::read_to_string(state_dir.join("events.jsonl")).unwrap(), line);
    assert_eq!(std::fs::read_to_string(notified).unwrap(), line);
}
