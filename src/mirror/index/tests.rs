mod crash;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::config::NodeIndex;
use crate::limits;
use crate::mirror::entry::{Content, Entry, Kind, RelPath, Stamp};

const TREE: TreeId = TreeId(0);
const GENERATION: Generation = Generation { number: 3, owner: NodeIndex::Upper, id: 77 };

fn key(path: &str) -> Key {
    key_in(TREE, path)
}

fn key_in(tree: TreeId, path: &str) -> Key {
    Key { tree, path: RelPath::new(path.as_bytes()).unwrap() }
}

fn stored(kind: Kind, mark: u32) -> Stored {
    let mtime = Stamp { s: i64::from(mark), ns: 5 };
    let entry = Entry { kind, mode: 0o644, uid: 1, gid: 2, mtime, xattrs: vec![] };
    Stored { entry: Some(entry), seen: None }
}

fn file(mark: u32) -> Stored {
    stored(Kind::File(Content { size: 0, chunk_bytes: 256 * 1024, chunks: vec![] }), mark)
}

fn directory(mark: u32) -> Stored {
    stored(Kind::Dir, mark)
}

fn put(path: &str, stored: Stored) -> (Key, Option<Stored>) {
    (key(path), Some(stored))
}

fn delete(path: &str) -> (Key, Option<Stored>) {
    (key(path), None)
}

fn paths(rows: Rows<'_>) -> Vec<String> {
    rows.map(|row| row.unwrap().0.path.to_string()).collect()
}

/// A commit of nothing but these changes.
fn change(index: &Index, changes: &[(Key, Option<Stored>)]) {
    index.commit(changes, None, &[], false).unwrap();
}

#[test]
fn what_was_committed_is_there_after_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("state/www");
    let position = Position { generation: GENERATION, commit: 9 };
    let copy = CopyState { complete: true, of: Some(GENERATION), ..CopyState::default() };
    let digest = {
        let index = Index::open(&dir).unwrap();
        assert_eq!(index.position().unwrap(), None);
        assert_eq!(index.copy().unwrap(), CopyState::default());
        assert_eq!(index.root_id(TREE).unwrap(), None);
        assert!(index.is_empty().unwrap());
        index
            .commit(&[put("", directory(1)), put("a", file(2))], Some(position), &[], true)
            .unwrap();
        index.set_copy(&copy).unwrap();
        index.set_root_id(TREE, (1, 2)).unwrap();
        index.set_root_id(TreeId(1), (3, 4)).unwrap();
        index.mark(&[key("b"), key("c")]).unwrap();
        index.mark_tree(TreeId(7)).unwrap();
        index.digest().unwrap()
    };
    let index = Index::open(&dir).unwrap();
    assert_eq!(index.position().unwrap(), Some(position));
    assert_eq!(index.copy().unwrap(), copy);
    assert_eq!(index.root_id(TREE).unwrap(), Some((1, 2)));
    assert_eq!(index.root_id(TreeId(1)).unwrap(), Some((3, 4)));
    assert_eq!(index.get(&key("a")).unwrap(), Some(file(2)));
    assert_eq!(index.get(&key("b")).unwrap(), None);
    assert_eq!(index.len().unwrap(), 2);
    assert_eq!(index.digest().unwrap(), digest);
    assert_eq!(index.dirty(10), vec![key("b"), key("c")]);
    assert!(index.tree_dirty(TreeId(7)) && !index.tree_dirty(TREE));
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _index = Index::open(dir.path()).unwrap();
    assert!(matches!(Index::open(dir.path()), Err(IndexError::InUse { .. })));
}

#[test]
fn a_delete_takes_everything_below_and_nothing_beside() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let mut changes = vec![put("a", directory(1)), put("a-b", file(1)), put("a0", file(1))];
    // More than are collected at once.
    for number in 0..limits::INDEX_DELETE_ROWS + 10 {
        changes.push(put(&format!("a/{number}"), file(1)));
    }
    changes.push((key_in(TreeId(1), "a/b"), Some(file(1))));
    change(&index, &changes);
    change(&index, &[delete("a")]);
    assert_eq!(paths(index.iter_tree(TREE)), ["a-b", "a0"]);
    assert_eq!(paths(index.iter_tree(TreeId(1))), ["a/b"]);
    // The root is above everything, in its own tree.
    change(&index, &[delete("")]);
    assert_eq!(index.len().unwrap(), 1);
    change(&index, &[(key_in(TreeId(1), ""), None)]);
    assert_eq!(index.bucket_digests().unwrap(), vec![[0; 16]; limits::BUCKETS]);
}

#[test]
fn a_file_in_the_place_of_a_directory_has_nothing_below() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    change(&index, &[put("a", directory(1)), put("a/b", file(1)), put("a", directory(2))]);
    assert_eq!(paths(index.iter_tree(TREE)), ["a", "a/b"]);
    change(&index, &[put("a", file(3))]);
    assert_eq!(paths(index.iter_tree(TREE)), ["a"]);
}

#[test]
fn ranges_are_in_the_order_of_keys_and_go_on_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let target = vec![b'x'; 4000];
    let long = || stored(Kind::Symlink { target: target.clone() }, 1);
    // Several pieces.
    let number = 4 * limits::INDEX_ITER_BYTES / target.len();
    let changes: Vec<_> = (0..number).map(|n| put(&format!("d/{n:05}"), long())).collect();
    change(&index, &changes);
    change(&index, &[put("", directory(1)), put("d", directory(1)), put("d-", file(1))]);
    change(&index, &[(key_in(TreeId(255), "z"), Some(file(1)))]);

    let mut rows = index.below(&key("d"));
    let mut seen = 0;
    for expected in 0..number {
        let (key, _) = rows.next().unwrap().unwrap();
        assert_eq!(key.path.to_string(), format!("d/{expected:05}"));
        change(&index, &[(key, None)]);
        seen += 1;
    }
    assert!(rows.next().is_none());
    assert_eq!(seen, number);
    assert_eq!(paths(index.iter_tree(TREE)), [".", "d", "d-"]);
    assert_eq!(paths(index.below(&key(""))), ["d", "d-"]);
    assert_eq!(paths(index.iter_tree(TreeId(255))), ["z"]);
    assert_eq!(paths(index.below(&key_in(TreeId(255), ""))), ["z"]);
    assert!(paths(index.iter_tree(TreeId(9))).is_empty());
}

#[test]
fn names_of_any_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    for bytes in [b"\xff\xfe/\x01".as_slice(), b"a\nb", "ü".as_bytes(), &[b'n'; 255]] {
        let key = Key { tree: TREE, path: RelPath::new(bytes).unwrap() };
        change(&index, &[(key.clone(), Some(file(4)))]);
        assert_eq!(index.get(&key).unwrap(), Some(file(4)));
        let (listing, more) = index.bucket_listing(bucket_of(&key), None, 10).unwrap();
        assert!(listing.contains(&(key.clone(), file(4).digest(&key))) && !more);
    }
}

#[test]
fn what_was_seen_changes_no_digest() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    change(&index, &[put("a", file(1))]);
    let digest = index.digest().unwrap();
    let seen = Seen { ino: 1, nlink: 1, size: 0, mtime: Stamp::default(), ctime: Stamp::default() };
    index.set_seen(&[(key("a"), seen), (key("none"), seen)]).unwrap();
    assert_eq!(index.get(&key("a")).unwrap().unwrap().seen, Some(seen));
    assert_eq!(index.get(&key("none")).unwrap(), None);
    assert_eq!(index.digest().unwrap(), digest);
    // A put says again what is known.
    change(&index, &[put("a", file(1))]);
    assert_eq!(index.get(&key("a")).unwrap().unwrap().seen, None);
}

#[test]
fn a_bucket_is_listed_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    let changes: Vec<_> = (0..2000).map(|n| put(&format!("f{n}"), file(n))).collect();
    change(&index, &changes);
    let mut listed = Vec::new();
    for bucket in 0..limits::BUCKETS as u16 {
        let mut after = None;
        loop {
            let (part, more) = index.bucket_listing(bucket, after.as_ref(), 3).unwrap();
            assert!(part.len() <= 3 && part.iter().all(|(key, _)| bucket_of(key) == bucket));
            after = part.last().map(|(key, _)| key.clone());
            listed.extend(part);
            if !more {
                break;
            }
        }
    }
    listed.sort();
    let mut expected: Vec<_> = changes
        .iter()
        .map(|(key, stored)| (key.clone(), stored.as_ref().unwrap().digest(key)))
        .collect();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(index.bucket_listing(256, None, 3).unwrap(), (vec![], false));
}

/// The digests of this content, from scratch.
fn digests_of(model: &BTreeMap<Key, Stored>) -> Vec<Digest> {
    let mut sums = vec![0u128; limits::BUCKETS];
    for (key, stored) in model {
        let sum = &mut sums[usize::from(bucket_of(key))];
        *sum = sum.wrapping_add(u128::from_le_bytes(stored.digest(key)));
    }
    sums.into_iter().map(u128::to_le_bytes).collect()
}

fn apply(model: &mut BTreeMap<Key, Stored>, key: &Key, stored: Option<Stored>) {
    let keeps_below =
        matches!(&stored, Some(Stored { entry: Some(Entry { kind: Kind::Dir, .. }), .. }));
    let is_below =
        |other: &Key| other.tree == key.tree && other != key && other.path.is_within(&key.path);
    model.retain(|other, _| keeps_below || !is_below(other));
    match stored {
        Some(stored) => model.insert(key.clone(), stored),
        None => model.remove(key),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_history_leaves_what_a_map_would_hold(
        history in prop::collection::vec(
            prop::collection::vec((0u8..2, "(|[ab](/[ab0-]){0,3})", 0u8..3, 0u32..4), 0..6), 0..12),
        again in any::<prop::sample::Index>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut index = Index::open(dir.path()).unwrap();
        let mut model = BTreeMap::new();
        let reopen = again.index(history.len() + 1);
        for (number, commit) in history.into_iter().enumerate() {
            if number == reopen {
                drop(index);
                index = Index::open(dir.path()).unwrap();
            }
            let changes: Vec<_> = commit.into_iter().map(|(tree, path, what, mark)| {
                let stored = [None, Some(file(mark)), Some(directory(mark))][usize::from(what)].clone();
                (key_in(TreeId(tree), &path), stored)
            }).collect();
            index.commit(&changes, None, &[], number % 3 == 0).unwrap();
            for (key, stored) in changes {
                apply(&mut model, &key, stored);
            }
            prop_assert_eq!(index.bucket_digests().unwrap(), digests_of(&model));
            prop_assert_eq!(index.len().unwrap(), model.len() as u64);
        }
        let rows: Vec<_> = [TreeId(0), TreeId(1)].into_iter()
            .flat_map(|tree| index.iter_tree(tree).map(|row| row.unwrap())).collect();
        prop_assert_eq!(rows, model.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn indexes_with_the_same_content_have_the_same_digest() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = Index::open(one.path()).unwrap();
    let other = Index::open(other.path()).unwrap();
    change(&one, &[put("a", file(1)), put("b", file(2))]);
    change(&other, &[put("b", file(9)), put("c", file(3)), put("b", file(2)), put("a", file(1))]);
    assert_ne!(one.digest().unwrap(), other.digest().unwrap());
    change(&other, &[delete("c")]);
    assert_eq!(one.digest().unwrap(), other.digest().unwrap());
}

#[test]
fn a_name_marked_again_while_in_work_stays_dirty() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.mark(&[key("b"), key("a"), key("c"), key("a")]).unwrap();
    assert_eq!(index.dirty(2), vec![key("a"), key("b")]);
    assert_eq!(index.dirty(2), vec![key("c")]);
    assert_eq!((index.dirty(2), index.dirty_len()), (vec![], 3));
    index.mark(&[key("b")]).unwrap();
    index.commit(&[], None, &[key("a"), key("b")], false).unwrap();
    assert_eq!(index.dirty(9), vec![key("b")]);
    // Void: both that are in work wait again.
    index.give_back();
    assert_eq!(index.dirty(9), vec![key("b"), key("c")]);
    index.commit(&[], None, &[key("b"), key("c")], true).unwrap();
    assert_eq!(index.dirty_len(), 0);
    drop(index);
    assert_eq!(Index::open(dir.path()).unwrap().dirty_len(), 0);
}

#[test]
fn clean_names_come_back_after_a_crash_until_a_durable_commit() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.mark(&[key("a")]).unwrap();
    let taken = index.dirty(1);
    index.commit(&[put("a", file(1))], None, &taken, false).unwrap();
    let journal = std::fs::read(dir.path().join("dirty")).unwrap();
    index.commit(&[], None, &[], true).unwrap();
    assert!(!journal.is_empty());
    assert_eq!(std::fs::read(dir.path().join("dirty")).unwrap(), b"");
}

#[test]
fn too_many_names_make_their_tree_dirty() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.mark(&[key_in(TreeId(1), "kept")]).unwrap();
    let long = "n".repeat(200);
    let number = limits::DIRTY_BYTES_MAX / (limits::DIRTY_NAME_BYTES + long.len()) + 1;
    let keys: Vec<_> = (0..number).map(|n| key(&format!("{long}{n}"))).collect();
    index.mark(&keys).unwrap();
    assert!(index.tree_dirty(TREE) && !index.tree_dirty(TreeId(1)));
    assert_eq!(index.dirty_len(), 1);
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    assert!(index.tree_dirty(TREE));
    assert_eq!(index.dirty(9), vec![key_in(TreeId(1), "kept")]);
    // Its names are not kept until a walk begins: it will find them.
    index.mark(&[key("a")]).unwrap();
    assert_eq!(index.dirty_len(), 1);
    index.walk_begins(TREE);
    index.mark(&[key("a")]).unwrap();
    assert!(!index.tree_dirty(TREE));
    assert_eq!(index.dirty(9), vec![key("a")]);
}

#[test]
fn the_journal_does_not_grow_with_the_past() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.mark(&[key("stays")]).unwrap();
    assert_eq!(index.dirty(1).len(), 1);
    let length = || std::fs::metadata(dir.path().join("dirty")).unwrap().len();
    let long = "n".repeat(250);
    // With durable commits ...
    for round in 0..2000 {
        let key = key(&format!("{long}/{round}"));
        index.mark(std::slice::from_ref(&key)).unwrap();
        let taken = index.dirty(1);
        index.commit(&[], None, &taken, round % 100 == 0).unwrap();
        assert!(length() < 2 * limits::DIRTY_JOURNAL_BYTES_MIN, "{} at {round}", length());
    }
    // ... and without.
    for round in 0..40 {
        let keys: Vec<_> = (0..5000).map(|n| key(&format!("{long}/{round}/{n}"))).collect();
        index.mark(&keys).unwrap();
        let taken = index.dirty(5000);
        index.commit(&[], None, &taken, false).unwrap();
        assert!(length() <= limits::DIRTY_JOURNAL_BYTES_MAX, "{} at {round}", length());
    }
    drop(index);
    let index = Index::open(dir.path()).unwrap();
    assert!(index.dirty(usize::MAX).contains(&key("stays")));
}

#[test]
fn another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let index = Index::open(dir.path()).unwrap();
    index.set_meta(META_FORMAT, &(FORMAT + 1)).unwrap();
    drop(index);
    let error = Index::open(dir.path()).unwrap_err();
    assert!(matches!(error, IndexError::Format { found: 3, .. }), "{error:?}");
    assert!(error.to_string().contains("run the version that wrote it"), "{error}");
}

/// An index as the version before wrote it: table, key and value of each row.
const FORMAT_1: &str = include_str!("../../../tests/state/index-format-1.txt");

fn bytes_of(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn write_format_1(dir: &Path) {
    let database = Database::create(dir.join("index.redb")).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut entries = write.open_table(ENTRIES).unwrap();
        let mut digests = write.open_table(DIGESTS).unwrap();
        let mut sums = write.open_table(SUMS).unwrap();
        let mut meta = write.open_table(META).unwrap();
        for line in FORMAT_1.lines() {
            let row: Vec<&str> = line.split(' ').collect();
            let [table, key, value] = row[..] else { panic!("{line}") };
            let value = bytes_of(value);
            match table {
                "entries" => drop(entries.insert(&*bytes_of(key), &*value).unwrap()),
                "digests" => {
                    let digest: Digest = value.try_into().unwrap();
                    digests.insert(&*bytes_of(key), &digest).unwrap();
                }
                "sums" => {
                    let sum = u128::from_be_bytes(value.try_into().unwrap());
                    sums.insert(key.parse::<u16>().unwrap(), sum).unwrap();
                }
                "meta" => drop(meta.insert(&*key.replace('_', " "), &*value).unwrap()),
                other => panic!("{other}"),
            }
        }
    }
    write.commit().unwrap();
}

#[test]
fn an_index_of_format_1_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    write_format_1(dir.path());
    let position = Position { generation: GENERATION, commit: 9 };
    for _ in 0..2 {
        let (index, told) = Index::open_or_rebuild(dir.path()).unwrap();
        assert_eq!(told, None, "nothing is wrong with it");
        assert_eq!(index.meta::<u32>(META_FORMAT).unwrap(), Some(FORMAT));
        assert_eq!(index.position().unwrap(), Some(position));
        let copy = index.copy().unwrap();
        assert_eq!((copy.complete, copy.of, copy.ready_for), (true, Some(GENERATION), vec![]));
        let lineage = index.lineage().unwrap();
        assert!(lineage.contains(position), "{lineage:?}");
        assert_eq!(lineage.commit_of(GENERATION), 9);
        assert_eq!(index.root_id(TREE).unwrap(), Some((11, 22)));
        assert_eq!(index.get(&key("d/page")).unwrap(), Some(file(4)));
        assert_eq!(index.get(&key("d")).unwrap(), Some(directory(3)));
        // As one of today that has the same.
        let other = tempfile::tempdir().unwrap();
        let new = Index::open(other.path()).unwrap();
        change(&new, &[put("d", directory(3)), put("d/page", file(4))]);
        assert_eq!(index.digest().unwrap(), new.digest().unwrap());
        assert_eq!(index.bucket_digests().unwrap(), new.bucket_digests().unwrap());
    }
    // And it goes on.
    let index = Index::open(dir.path()).unwrap();
    let next = Position { commit: 10, ..position };
    index.commit(&[put("new", file(5))], Some(next), &[], true).unwrap();
    assert_eq!(index.lineage().unwrap().commit_of(GENERATION), 10);
}
