use std::fs;
use std::os::unix::fs::MetadataExt;

use super::*;
use crate::mirror::fixture::Pair;

/// A pair whose replica had its own idea of `a`.
fn with_conflict() -> Pair {
    let mut pair = Pair::new();
    fs::write(pair.owner.join("a"), "first").unwrap();
    pair.sync();
    fs::write(pair.replica.join("a"), "mine").unwrap();
    fs::write(pair.owner.join("a"), "second").unwrap();
    pair.sync();
    pair
}

fn only_id(store: &Store) -> String {
    let kept = store.list().unwrap().kept;
    assert_eq!(kept.len(), 1);
    kept[0].id.clone()
}

#[test]
fn a_kept_file_is_the_very_inode() {
    let mut pair = Pair::new();
    fs::write(pair.owner.join("a"), "first").unwrap();
    pair.sync();
    fs::write(pair.replica.join("a"), "mine").unwrap();
    let ino = fs::metadata(pair.replica.join("a")).unwrap().ino();
    fs::write(pair.owner.join("a"), "second").unwrap();
    pair.sync();
    let store = pair.store();
    let about = store.get(&only_id(&store)).unwrap().unwrap();
    assert_eq!(fs::metadata(store.file_of(&about).unwrap()).unwrap().ino(), ino);
    assert_eq!(store.count().unwrap(), 1);
    assert_eq!(pair.stage.conflicts().unwrap(), 1);
}

#[test]
fn restore_asks_first_and_keeps_what_is_there() {
    let pair = with_conflict();
    let store = pair.store();
    let id = only_id(&store);
    let refused = store.restore(&id, false).unwrap_err();
    assert!(matches!(refused, ConflictError::InTheWay(..)), "{refused}");
    assert_eq!(fs::read(pair.replica.join("a")).unwrap(), b"second");
    store.restore(&id, true).unwrap();
    assert_eq!(fs::read(pair.replica.join("a")).unwrap(), b"mine");
    assert!(store.get(&id).unwrap().is_none());
    assert_eq!(pair.conflicts(), [("a".into(), "changed here".into(), Some(b"second".to_vec()))]);
}

#[test]
fn restore_to_a_free_name_needs_no_force() {
    let pair = with_conflict();
    let store = pair.store();
    fs::remove_file(pair.replica.join("a")).unwrap();
    let place = store.restore(&only_id(&store), false).unwrap();
    assert_eq!(place, pair.replica.join("a").display().to_string());
    assert_eq!(fs::read(pair.replica.join("a")).unwrap(), b"mine");
    assert_eq!(store.count().unwrap(), 0);
}

#[test]
fn restore_over_a_directory_is_refused() {
    let pair = with_conflict();
    let store = pair.store();
    fs::remove_file(pair.replica.join("a")).unwrap();
    fs::create_dir(pair.replica.join("a")).unwrap();
    let refused = store.restore(&only_id(&store), true).unwrap_err();
    assert!(matches!(refused, ConflictError::Directory(_)), "{refused}");
    assert_eq!(store.count().unwrap(), 1);
}

#[test]
fn drop_removes_and_other_names_are_refused() {
    let pair = with_conflict();
    let store = pair.store();
    for bad in ["../../www/a", "", ".", "new", "20261121-000000-00000000"] {
        assert!(matches!(store.drop_kept(bad), Err(ConflictError::Unknown(_))), "{bad}");
        assert!(matches!(store.restore(bad, true), Err(ConflictError::Unknown(_))), "{bad}");
    }
    store.drop_kept(&only_id(&store)).unwrap();
    assert_eq!(store.count().unwrap(), 0);
    assert_eq!(fs::read(pair.replica.join("a")).unwrap(), b"second");
}

#[test]
fn a_damaged_about_hides_no_other() {
    let mut pair = with_conflict();
    fs::write(pair.replica.join("a"), "mine again").unwrap();
    fs::write(pair.owner.join("a"), "third").unwrap();
    pair.sync();
    let store = pair.store();
    let damaged = store.list().unwrap().kept[0].id.clone();
    fs::write(store.path().join(&damaged).join(ABOUT), "{").unwrap();
    let listing = store.list().unwrap();
    assert_eq!((listing.kept.len(), listing.damaged.clone()), (1, vec![damaged.clone()]));
    let refused = store.restore(&damaged, true).unwrap_err();
    assert!(matches!(refused, ConflictError::Damaged(..)), "{refused}");
}

#[test]
fn ids_say_when_and_sort_by_it() {
    let path = RelPath::new(b"a").unwrap();
    let at = |time_ms| id(&Occasion { time_ms, seed: "3-0-1".into(), generation: None }, &path);
    assert!(at(1_795_293_323_999).starts_with("20261121-203523-"));
    assert!(at(1_795_293_323_999) < at(1_795_293_324_000));
    assert!(is_id(&at(0)));
}
