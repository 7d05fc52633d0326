use std::io::{Seek, Write};
use std::sync::atomic::AtomicBool;

use super::*;

const CHUNK: u64 = limits::CHUNK_BYTES_MIN;

fn hash_of(file: &File, how: Hash, threads_max: usize) -> Content {
    content(file, &seen_of(file).unwrap(), how, threads_max).unwrap()
}

fn file_with(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// Bytes that differ from place to place.
fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn every_length_by_every_way() {
    let chunk = CHUNK as usize;
    let unit = limits::HASH_UNIT_BYTES as usize;
    for length in [0, 1, 4095, chunk - 1, chunk, chunk + 1, 3 * chunk, unit, 2 * unit + 5] {
        let bytes = bytes(length);
        let file = file_with(&bytes);
        let expected = Content {
            size: length as u64,
            chunk_bytes: CHUNK,
            chunks: bytes.chunks(chunk).map(hash_chunk).collect(),
        };
        assert!(expected.is_consistent());
        for how in [Hash::Auto, Hash::Map, Hash::Read] {
            for threads_max in [0, 1, 3] {
                assert!(hash_of(&file, how, threads_max) == expected, "{length} {how:?}");
            }
        }
        for (index, hash) in (0..).zip(&expected.chunks) {
            let bytes = chunk_of(&file, index, &expected);
            assert_eq!(hash_chunk(&bytes), *hash);
        }
        assert!(chunk_of(&file, expected.chunks.len() as u32, &expected).is_empty());
    }
}

fn chunk_of(file: &File, index: u32, content: &Content) -> Vec<u8> {
    super::chunk(file, index, content.chunk_bytes, content.size).unwrap()
}

#[test]
fn holes_are_zeros() {
    // Large enough for longer chunks, and to be mapped by `auto`.
    let size = CHUNK * limits::CHUNKS_MAX + 5;
    let mut file = tempfile::tempfile().unwrap();
    file.set_len(size).unwrap();
    file.seek(io::SeekFrom::Start(CHUNK)).unwrap();
    file.write_all(b"island").unwrap();
    let read = hash_of(&file, Hash::Read, 2);
    assert!(read.is_consistent() && read.chunk_bytes == 2 * CHUNK);
    assert!(hash_of(&file, Hash::Auto, 2) == read);
    assert_eq!(read.chunks[1], hash_chunk(&vec![0; 2 * CHUNK as usize]));
    assert_eq!(read.chunks.last(), Some(&hash_chunk(&[0; 5])));
}

#[test]
fn a_file_that_is_not_as_seen_is_told() {
    let file = file_with(b"before");
    let seen = seen_of(&file).unwrap();
    for change in ["longer", "shorter", "other time"] {
        match change {
            "longer" => file.set_len(7).unwrap(),
            "shorter" => file.set_len(5).unwrap(),
            _ => file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap(),
        }
        let told = content(&file, &seen, Hash::Read, 1);
        assert!(matches!(told, Err(HashError::Changed)), "{change}");
    }
    let told = super::chunk(&file, 0, CHUNK, 100);
    assert!(matches!(told, Err(HashError::Changed)));
}

#[test]
fn a_file_that_cannot_be_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"content").unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(3 * limits::HASH_UNIT_BYTES).unwrap();
    for how in [Hash::Read, Hash::Map] {
        let told = content(&file, &seen_of(&file).unwrap(), how, 3);
        assert!(matches!(told, Err(HashError::Io(_))), "{how:?}");
    }
}

/// Truncated at any moment, a mapped file is told to have changed or has its right content; the process
/// lives.
#[test]
fn truncated_under_the_map() {
    let whole = bytes(8 * CHUNK as usize);
    let expected: Vec<_> = whole.chunks(CHUNK as usize).map(hash_chunk).collect();
    let file = file_with(&whole);
    let mut changed = 0;
    for round in 0..100 {
        let seen = seen_of(&file).unwrap();
        let go = AtomicBool::new(false);
        let told = thread::scope(|scope| {
            scope.spawn(|| {
                while !go.load(Ordering::Acquire) {
                    std::hint::spin_loop();
                }
                for _ in 0..round * 1000 {
                    std::hint::spin_loop();
                }
                file.set_len(CHUNK / 2).unwrap();
            });
            go.store(true, Ordering::Release);
            content(&file, &seen, Hash::Map, 1)
        });
        match told {
            Ok(content) => assert_eq!(content.chunks, expected),
            Err(HashError::Changed) => changed += 1,
            Err(HashError::Io(error)) => panic!("{error}"),
        }
        file.write_all_at(&whole, 0).unwrap();
    }
    assert!(changed > 0);
}

#[test]
fn write_back_says_where_mapped_stores_never_show() {
    // The stores themselves are tested where they can be made, in `sys`.
    let in_memory = nix::sys::memfd::memfd_create(c"test", nix::sys::memfd::MFdFlags::empty());
    assert!(!write_back(&File::from(in_memory.unwrap())).unwrap());
    assert!(write_back(&file_with(b"on a disk")).unwrap());
}
