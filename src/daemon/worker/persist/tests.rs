use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::NodeIndex;
use crate::core::{Generation, GroupDisk};
use crate::daemon::channel::{HeartChannel, pair};

fn state(number: u32) -> DiskState {
    let generation = Generation { number, owner: NodeIndex::Upper, id: 0xffff_fff0 };
    let group = GroupDisk { served: Some(generation), trees: true, ..GroupDisk::default() };
    let groups = [("web".to_owned(), group)].into();
    DiskState { alone: true, groups, standby: false, node: None }
}

#[test]
fn a_fresh_node_never_served_and_what_is_saved_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    assert_eq!(store.load().unwrap(), DiskState::default());
    store.save(&state(7)).unwrap();
    assert_eq!(store.load().unwrap(), state(7));
    let mode = std::fs::metadata(&store.state).unwrap().permissions().mode();
    assert_eq!(mode & 0o777 & !0o640, 0);
}

#[test]
fn the_lock_file_is_the_standby_mode() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    store.save(&DiskState { standby: true, ..state(1) }).unwrap();
    assert!(store.standby.exists());
    store.save(&DiskState { standby: true, ..state(2) }).unwrap();
    assert_eq!(store.load().unwrap(), DiskState { standby: true, ..state(2) });
    // The administrator's own hand, while the daemon is down.
    std::fs::remove_file(&store.standby).unwrap();
    assert_eq!(store.load().unwrap(), state(2));
    std::fs::write(&store.standby, "").unwrap();
    assert!(store.load().unwrap().standby);
    store.save(&state(3)).unwrap();
    assert!(!store.standby.exists());
}

#[test]
fn a_crash_at_any_point_of_a_write_leaves_the_old_or_the_new_state() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    store.save(&state(1)).unwrap();
    let whole = std::fs::read(&store.state).unwrap();
    for length in [0, 1, whole.len() / 2, whole.len()] {
        // Died while writing, or before renaming.
        std::fs::write(&store.temporary, &whole[..length]).unwrap();
        assert_eq!(store.load().unwrap(), state(1));
    }
    store.save(&state(2)).unwrap();
    assert_eq!(store.load().unwrap(), state(2));
    assert!(!store.temporary.exists());
}

#[test]
fn a_state_that_cannot_be_understood_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    store.save(&state(1)).unwrap();
    let whole = std::fs::read(&store.state).unwrap();
    let other_format = br#"{"format":2,"state":{"alone":false,"standby":false,"groups":{}}}"#;
    for bad in [&b""[..], b"null", &whole[..whole.len() - 3], other_format] {
        std::fs::write(&store.state, bad).unwrap();
        let error = store.load().unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("good copy"), "{error}");
    }
    std::fs::remove_file(&store.state).unwrap();
    std::fs::create_dir(&store.state).unwrap();
    assert!(matches!(store.load(), Err(StoreError::System { .. })));
}

#[test]
fn only_the_newest_waiting_write_reaches_the_disk_and_its_number_is_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let (heart, worker) = pair().unwrap();
    let (mut heart, worker) = (HeartChannel::new(heart), WorkerChannel::new(worker));
    let inbox = Inbox::default();
    for write in 1..=5 {
        inbox.persist(write, state(write as u32));
    }
    inbox.close();
    run(&Store::new(directory.path()), &inbox, &worker);
    assert_eq!(heart.receive().unwrap(), Some(ToHeart::Persisted { write: 5 }));
    assert_eq!(heart.receive().unwrap(), None);
    assert_eq!(Store::new(directory.path()).load().unwrap(), state(5));
}

#[test]
fn a_failing_disk_is_told_once_and_tried_again_until_it_works() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path().join("state");
    let (heart, worker) = pair().unwrap();
    let (mut heart, worker) = (HeartChannel::new(heart), WorkerChannel::new(worker));
    let inbox = Arc::new(Inbox::default());
    let (thread_inbox, store) = (Arc::clone(&inbox), Store::new(&state_dir));
    let thread = std::thread::spawn(move || run(&store, &thread_inbox, &worker));
    inbox.persist(1, state(1));
    let failed = next(&mut heart);
    assert!(matches!(&failed, ToHeart::PersistFailed { error } if error.contains("state")));
    inbox.persist(2, state(2));
    std::fs::create_dir(&state_dir).unwrap();
    assert_eq!(next(&mut heart), ToHeart::Persisted { write: 2 });
    inbox.close();
    thread.join().unwrap();
}

#[test]
fn a_new_heart_gets_the_disk_and_nothing_that_the_old_one_still_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let state_dir = directory.path().join("state");
    let (heart, worker) = pair().unwrap();
    let (mut heart, worker) = (HeartChannel::new(heart), WorkerChannel::new(worker));
    let inbox = Arc::new(Inbox::default());
    let (thread_inbox, store) = (Arc::clone(&inbox), Store::new(&state_dir));
    let thread = std::thread::spawn(move || run(&store, &thread_inbox, &worker));
    inbox.persist(1, state(1));
    assert!(matches!(next(&mut heart), ToHeart::PersistFailed { .. }));
    inbox.hello(77);
    let disk = Ok(DiskState::default());
    assert_eq!(next(&mut heart), ToHeart::HelloAck { nonce: 77, disk });
    std::fs::create_dir(&state_dir).unwrap();
    inbox.persist(2, state(2));
    assert_eq!(next(&mut heart), ToHeart::Persisted { write: 2 });
    inbox.close();
    thread.join().unwrap();
    assert_eq!(Store::new(&state_dir).load().unwrap(), state(2));
}

fn next(heart: &mut HeartChannel) -> ToHeart {
    let begin = std::time::Instant::now();
    loop {
        if let Some(message) = heart.receive().unwrap() {
            return message;
        }
        assert!(begin.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
}

proptest! {
    #[test]
    fn random_bytes_in_the_state_file_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..300)
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path());
        std::fs::write(&store.state, bytes).unwrap();
        prop_assert!(store.load().is_err());
    }
}

#[test]
fn a_state_of_format_1_is_read_and_written_as_ever() {
    let frozen = include_str!("../../../../tests/state/format-1.json");
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path());
    std::fs::write(&store.state, frozen).unwrap();
    assert_eq!(store.load().unwrap(), state(7));
    store.save(&state(7)).unwrap();
    assert_eq!(std::fs::read_to_string(&store.state).unwrap(), frozen);
    std::fs::write(&store.state, frozen.replacen("\"format\": 1", "\"format\": 2", 1)).unwrap();
    assert!(store.load().unwrap_err().to_string().contains("format 2, expected 1"));
}
