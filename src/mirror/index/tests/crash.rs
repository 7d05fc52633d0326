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

/// P3: what the copy here is, and which directories its roots are, outlives the index.
#[test]
fn p3_a_damaged_index_is_set_aside_and_the_worth_of_the_copy_stays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("index.redb");
    let copy = CopyState { complete: true, of: Some(GENERATION), ..CopyState::default() };
    let position = Position { generation: GENERATION, commit: 7 };
    let index = Index::open(dir.path()).unwrap();
    index.set_copy(&copy).unwrap();
    index.set_root_id(TREE, (5, 6)).unwrap();
    index.commit(&[put("one", file(1))], Some(position), &[], true).unwrap();
    drop(index);
    let sound = std::fs::read(&path).unwrap();

    let noise: Vec<u8> = (0..sound.len()).map(|place| (place * 37 / 5) as u8).collect();
    let damages: [(&str, Option<&[u8]>); 5] = [
        ("emptied", Some(&[])),
        ("cut in half", Some(&sound[..sound.len() / 2])),
        ("cut at a page", Some(&sound[..4096])),
        ("noise", Some(&noise)),
        ("gone", None),
    ];
    for (what, left) in damages {
        match left {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let (index, told) = Index::open_or_rebuild(dir.path()).unwrap();
        let told = told.unwrap_or_else(|| panic!("{what}: nothing is told"));
        assert!(told.contains(path.to_str().unwrap()), "{what}: {told}");
        assert!(index.is_empty().unwrap(), "{what}");
        assert_eq!(index.copy().unwrap(), copy, "{what}");
        assert_eq!(index.position().unwrap().map(|it| it.generation), Some(GENERATION), "{what}");
        assert_eq!(index.root_id(TREE).unwrap(), Some((5, 6)), "{what}");
        drop(index);
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let aside = names.filter(|name| name.to_string_lossy().starts_with("index.redb.damaged-"));
        assert_eq!(aside.count(), 1, "{what}: the newest one is kept");
        // It is told once.
        assert_eq!(Index::open_or_rebuild(dir.path()).unwrap().1, None, "{what}");
    }
}

/// P3: an index set back without the file beside it is not worth more than that says, nor the reverse.
#[test]
fn p3_an_index_and_its_file_that_disagree_count_as_the_lesser() {
    let dir = tempfile::tempdir().unwrap();
    let (path, beside) = (dir.path().join("index.redb"), dir.path().join("copy"));
    let newer = Generation { number: GENERATION.number + 1, ..GENERATION };
    let owned = |of| CopyState { complete: true, of: Some(of), ..CopyState::default() };
    let index = Index::open(dir.path()).unwrap();
    index.set_copy(&owned(GENERATION)).unwrap();
    drop(index);
    let before = [&path, &beside].map(|path| std::fs::read(path).unwrap());
    let index = Index::open(dir.path()).unwrap();
    index.set_copy(&owned(newer)).unwrap();
    drop(index);
    let after = [&path, &beside].map(|path| std::fs::read(path).unwrap());
    for (index_bytes, file_bytes) in [(&before[0], &after[1]), (&after[0], &before[1])] {
        std::fs::write(&path, index_bytes).unwrap();
        std::fs::write(&beside, file_bytes).unwrap();
        let index = Index::open(dir.path()).unwrap();
        assert_eq!(index.copy().unwrap(), owned(GENERATION));
    }
    // Without the file, or with garbage in it, a whole index is believed.
    for garbage in [Some(b"garbage".as_slice()), None] {
        std::fs::write(&path, &after[0]).unwrap();
        match garbage {
            Some(bytes) => std::fs::write(&beside, bytes).unwrap(),
            None => std::fs::remove_file(&beside).unwrap(),
        }
        assert_eq!(Index::open(dir.path()).unwrap().copy().unwrap(), owned(newer));
    }
}

/// A disk that is full for a while costs nothing but that while.
#[test]
fn a_store_that_was_refused_a_write_is_opened_again() {
    use nix::mount::{MsFlags, mount, umount};

    let dir = tempfile::tempdir().unwrap();
    let small = Some("size=3m");
    mount(Some("none"), dir.path(), Some("tmpfs"), MsFlags::empty(), small).expect("needs root");
    let state = dir.path().join("web");
    let index = Index::open(&state).unwrap();
    index.commit(&[put("before", file(1))], None, &[], true).unwrap();
    let fill = dir.path().join("fill");
    let mut filler = std::fs::File::create(&fill).unwrap();
    while filler.write_all(&[0; 4096]).is_ok() {}
    let mut number = 0;
    let refused = loop {
        number += 1;
        let changes: Vec<_> = (0..2000).map(|n| put(&format!("d{number}/f{n}"), file(n))).collect();
        if let Err(error) = index.commit(&changes, None, &[], true) {
            break error;
        }
        assert!(number < 1000, "the disk is never full");
    };
    let cause = index.broken().unwrap();
    assert!(cause.contains("index.redb"), "{cause}");
    assert!(!refused.to_string().is_empty());
    assert!(index.commit(&[put("x", file(1))], None, &[], true).is_err());
    std::fs::remove_file(&fill).unwrap();
    drop(filler);
    assert_eq!(index.reopen().unwrap(), None);
    assert_eq!(index.broken(), None);
    index.commit(&[put("after", file(2))], None, &[], true).unwrap();
    assert!(index.get(&key("before")).unwrap().is_some());
    drop(index);
    umount(dir.path()).unwrap();
}
