use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use super::*;
use crate::mirror::meta::seen_of;

const CHUNK: usize = limits::CHUNK_BYTES_MIN as usize;

fn file_of(bytes: &[u8]) -> (tempfile::TempDir, File) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, bytes).unwrap();
    (directory, OpenOptions::new().read(true).write(true).open(path).unwrap())
}

fn entry(content: Content) -> Entry {
    let (mode, uid, gid, mtime) = (0o644, 0, 0, crate::mirror::entry::Stamp::default());
    Entry { kind: Kind::File(content), mode, uid, gid, mtime, xattrs: Vec::new() }
}

fn read_it(file: &File, seen: &Seen, before: Option<&Entry>) -> Reading {
    read(file, seen, Hash::Read, before, limits::KEPT_BYTES_MAX).unwrap()
}

#[test]
fn what_differs_is_kept_as_it_was_read() {
    let (_directory, file) = file_of(&vec![1; 5 * CHUNK]);
    let before = entry(read_it(&file, &seen_of(&file).unwrap(), None).content);
    file.write_all_at(&[2], 3 * CHUNK as u64).unwrap();
    let read = read_it(&file, &seen_of(&file).unwrap(), Some(&before));
    assert!(read.steady && read.whole);
    // Whatever is written now.
    file.write_all_at(&[3], 3 * CHUNK as u64).unwrap();
    assert_eq!(read.kept.keys().collect::<Vec<_>>(), [&3]);
    assert_eq!(read.kept[&3][..2], [2, 1]);
    assert_eq!(read.content.chunks[3], hash::hash_chunk(&read.kept[&3]));
}

/// Two readings that agree prove what was there between them.
#[test]
fn a_log_that_grows_is_read_as_far_as_it_was() {
    let (_directory, file) = file_of(&vec![1; 3 * CHUNK + 100]);
    let seen = seen_of(&file).unwrap();
    file.write_all_at(b"more", 3 * CHUNK as u64 + 100).unwrap();
    let read = read_it(&file, &seen, None);
    assert!(!read.steady && read.whole);
    assert_eq!(read.content.size, seen.size);
    assert!(read.content.is_consistent());
}

#[test]
fn a_file_that_became_shorter_is_looked_at_again() {
    let (_directory, file) = file_of(&vec![1; 3 * CHUNK]);
    let seen = seen_of(&file).unwrap();
    file.set_len(CHUNK as u64).unwrap();
    let read = read(&file, &seen, Hash::Read, None, 0);
    assert!(matches!(read, Err(HashError::Changed)));
}
