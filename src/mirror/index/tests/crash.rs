//! What a crash or a failing disk leaves.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::process::{Command, Stdio};

use super::*;

#[test]
fn a_journal_that_was_torn_is_read_up_to_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dirty");
    let index = Index::open(dir.path()).unwrap();
    index.mark(&[key("one"), key("two")]).unwrap();
    drop(index);
    let whole = std::fs::read(&path).unwrap();
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).unwrap();
        let index = Index::open(dir.path()).unwrap();
        let expected = if length * 2 < whole.len() { vec![] } else { vec![key("one")] };
        assert_eq!(index.dirty(9), expected, "{length} of {}", whole.len());
        // What is marked now is not hidden by the half.
        index.mark(&[key("three")]).unwrap();
        drop(index);
        assert!(Index::open(dir.path()).unwrap().dirty(9).contains(&key("three")));
    }
}

#[test]
fn damage_is_an_error_with_a_remedy_and_never_an_empty_index() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let index = Index::open(dir.path()).unwrap();
    let changes: Vec<_> = (0..500).map(|n| put(&format!("f{n}"), file(n))).collect();
    index.commit(&changes, None, &[], true).unwrap();
    let digest = index.digest().unwrap();
    drop(index);
    let sound = std::fs::read(&path).unwrap();

    for length in [0, 1, 100, 4096] {
        std::fs::write(&path, &sound[..length]).unwrap();
        let error = Index::open(dir.path()).unwrap_err();
        assert!(matches!(error, IndexError::Damaged { .. }), "{length}: {error:?}");
        assert!(error.to_string().contains("move the file away"), "{error}");
    }
    std::fs::write(&path, b"no database at all, but long enough to be looked at").unwrap();
    assert!(matches!(Index::open(dir.path()), Err(IndexError::Damaged { .. })));

    // A flipped byte is an error, or was nothing that counts.
    let mut refused = 0;
    for place in (0..sound.len()).step_by(sound.len() / 64) {
        std::fs::write(&path, &sound).unwrap();
        let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.seek(SeekFrom::Start(place as u64)).unwrap();
        file.read_exact(&mut byte).unwrap();
        file.seek(SeekFrom::Start(place as u64)).unwrap();
        file.write_all(&[!byte[0]]).unwrap();
        drop(file);
        match Index::open(dir.path()) {
            Ok(index) => {
                assert_eq!(index.digest().unwrap(), digest, "byte {place}");
                assert_eq!(index.iter_tree(TREE).filter(|row| row.is_ok()).count(), 500);
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 0);
}

/// Ends the writer below by a signal, as a crash would.
const WRITER: &str = "CLUSTERD_TEST_INDEX_WRITER";

/// The state after so many commits of the writer.
fn after(commits: u32) -> BTreeMap<Key, Stored> {
    let mut model = BTreeMap::new();
    for number in 1..=commits {
        for (key, stored) in writer_changes(number) {
            apply(&mut model, &key, stored);
        }
    }
    model
}

fn writer_changes(number: u32) -> Vec<(Key, Option<Stored>)> {
    let path = format!("d{}/f{}", number % 7, number % 31);
    let gone = format!("d{}", number % 5);
    let removal = (number.is_multiple_of(11)).then(|| delete(&gone));
    removal.into_iter().chain([put("all", file(number)), put(&path, file(number))]).collect()
}

/// Not a test by itself: the process that `a_killed_writer_leaves_a_prefix_of_its_commits` kills.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(WRITER) else { return };
    let index = Index::open(Path::new(&dir)).unwrap();
    for number in 1.. {
        index.mark(&[key(&format!("dirty{number}"))]).unwrap();
        let position = Position { generation: GENERATION, commit: u64::from(number) };
        let durable = number % 8 == 0;
        index.commit(&writer_changes(number), Some(position), &[], durable).unwrap();
        println!("\nwrote {number} {durable}");
    }
}

#[test]
fn a_killed_writer_leaves_a_prefix_of_its_commits() {
    for round in 1..=8u32 {
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "mirror::index::tests::crash::writer", "--nocapture"])
            .env(WRITER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut marked, mut durable) = (0, 0);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            let Some(rest) = line.strip_prefix("wrote ") else { continue };
            let (number, was_durable) = rest.split_once(' ').unwrap();
            marked = number.parse().unwrap();
            if was_durable == "true" {
                durable = marked;
            }
            // A different moment each round; what it wrote until the signal is still read.
            if marked == 13 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(marked >= 13 * round);

        let index = Index::open(dir.path()).unwrap();
        let commits = index.position().unwrap().map_or(0, |position| position.commit) as u32;
        assert!(commits >= durable, "{commits} of {durable} durable");
        let rows: BTreeMap<_, _> = index.iter_tree(TREE).map(|row| row.unwrap()).collect();
        let expected = after(commits);
        assert_eq!(rows, expected);
        assert_eq!(index.bucket_digests().unwrap(), digests_of(&expected));
        let dirty = index.dirty(usize::MAX);
        for number in 1..=marked {
            assert!(dirty.contains(&key(&format!("dirty{number}"))), "{number} of {marked}");
        }
    }
}
