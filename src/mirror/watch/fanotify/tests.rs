use proptest::prelude::*;

use super::*;

/// An event as the kernel writes it: mask, and records of (type, handle, name).
fn event(mask: u64, records: &[(u8, &[u8], &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (kind, handle, name) in records {
        let length = FID_BYTES + handle.len() + name.len();
        body.extend([*kind, 0]);
        body.extend((length as u16).to_ne_bytes());
        body.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        body.extend((handle.len() as u32).to_ne_bytes());
        body.extend(9i32.to_ne_bytes());
        body.extend(*handle);
        body.extend(*name);
    }
    let mut bytes = Vec::new();
    bytes.extend(((METADATA_BYTES + body.len()) as u32).to_ne_bytes());
    bytes.extend([3, 0]);
    bytes.extend((METADATA_BYTES as u16).to_ne_bytes());
    bytes.extend(mask.to_ne_bytes());
    bytes.extend((-1i32).to_ne_bytes());
    bytes.extend(42i32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn place<'b>(handle: &[u8], name: &'b [u8]) -> Place<'b> {
    let directory = FileHandle::new(9, handle).unwrap();
    Place { file_system: [1, 2, 3, 4, 5, 6, 7, 8], directory, name }
}

#[test]
fn events_are_read_one_behind_the_other() {
    let bytes = [
        event(libc::FAN_MODIFY, &[(2, b"abcd", b"n\0\0\0"), (1, b"file", b"")]),
        event(libc::FAN_ATTRIB | libc::FAN_ONDIR, &[(3, b"dir", b"")]),
        event(libc::FAN_Q_OVERFLOW, &[]),
    ]
    .concat();
    let read: Vec<_> = Events(&bytes).map(|event| event.unwrap()).collect();
    let directory = MaskFlags::FAN_ATTRIB | MaskFlags::FAN_ONDIR;
    assert_eq!(
        read,
        vec![
            Event {
                mask: MaskFlags::FAN_MODIFY,
                process: 42,
                places: [place(b"abcd", b"n")].into_iter().collect()
            },
            Event {
                mask: directory,
                process: 42,
                places: [place(b"dir", b".")].into_iter().collect()
            },
            Event { mask: MaskFlags::FAN_Q_OVERFLOW, process: 42, places: ArrayVec::new() },
        ]
    );
}

#[test]
fn what_cannot_be_named_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Fanotify::new(&[(TreeId(0), dir.path().to_owned())]).unwrap().unwrap();
    let mut lost_after = |bytes: &[u8]| {
        let mut hints = Hints::new(9);
        for event in Events(bytes) {
            watch.hint(&event.unwrap(), &mut hints);
        }
        assert!(hints.names.is_empty() && hints.subtrees.is_empty());
        hints.lost
    };
    // Of a file whose name is not known; of a queue that overflowed.
    assert!(lost_after(&event(libc::FAN_MODIFY, &[(1, b"file", b"")])));
    assert!(lost_after(&event(libc::FAN_Q_OVERFLOW, &[])));
    // A file that lost one of its names.
    assert!(!lost_after(&event(libc::FAN_ATTRIB, &[(1, b"file", b"")])));
    // Of another file system.
    assert!(!lost_after(&event(libc::FAN_MODIFY, &[(2, b"abcd", b"n\0")])));
}

/// A name that this process and another one changed is told, whoever was first.
#[test]
fn what_this_process_does_is_not_told_if_so_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let mut watch = Fanotify::new(&[(TreeId(0), dir.path().to_owned())]).unwrap().unwrap();
    watch.ignore_own();
    let mut told = || {
        let mut hints = Hints::new(99);
        watch.drain(&mut hints).unwrap();
        assert!(!hints.lost);
        hints.names.into_iter().map(|key| key.path.to_string()).collect::<Vec<_>>()
    };
    let other = |name: &str| {
        let path = dir.path().join(name);
        let done =
            std::process::Command::new("sh").arg("-c").arg("echo x >> \"$0\"").arg(path).status();
        assert!(done.unwrap().success());
    };
    std::fs::write(dir.path().join("mine"), "x").unwrap();
    assert_eq!(told(), Vec::<String>::new());
    other("theirs");
    assert!(told().contains(&"theirs".to_owned()));
    std::fs::write(dir.path().join("both"), "x").unwrap();
    other("both");
    std::fs::rename(dir.path().join("both"), dir.path().join("renamed")).unwrap();
    let names = told();
    assert!(names.contains(&"both".to_owned()), "{names:?}");
    assert!(!names.contains(&"renamed".to_owned()), "{names:?}");
}

proptest! {
    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Events(&bytes).count() <= bytes.len());
    }

    #[test]
    fn no_damaged_event_does_harm(place in 0usize..80, value: u8) {
        let mut bytes = event(libc::FAN_MODIFY, &[(2, b"abcd", b"n\0\0\0"), (1, b"file", b"")]);
        bytes.extend(event(libc::FAN_MODIFY, &[]));
        if let Some(byte) = bytes.get_mut(place) {
            *byte = value;
        }
        prop_assert!(Events(&bytes).count() <= 3);
    }
}
