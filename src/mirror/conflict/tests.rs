use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::SystemTime;

use super::*;
use crate::mirror::fixture::{Pair, whose};

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
    let replaced = "replaced by a restore".to_owned();
    assert_eq!(pair.conflicts(), [("a".into(), replaced, Some(b"second".to_vec()))]);
}

#[test]
fn restore_to_a_free_name_needs_no_force() {
    let pair = with_conflict();
    let store = pair.store();
    fs::remove_file(pair.replica.join("a")).unwrap();
    let restored = store.restore(&only_id(&store), false).unwrap();
    let place = pair.replica.join("a").display().to_string();
    assert_eq!(restored, Restored { place, replaced: false });
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
fn ids_say_when_and_which_path_and_sort_by_it() {
    let path = RelPath::new(b"a").unwrap();
    let at = |time_ms| Id::new(time_ms, &path);
    assert!(at(1_795_293_323_999).to_string().starts_with("20261121-203523-"));
    assert!(at(1_795_293_323_999) < at(1_795_293_324_000));
    let mut last = at(1_795_293_323_999);
    for _ in 0..12 {
        assert_eq!(Id::read(&last.to_string()), Some(last.clone()));
        assert_eq!(last.path, at(0).path);
        assert!(last < last.next());
        last = last.next();
    }
    for bad in ["20261121-203523-0000000g", "20261121-203523-00000000-1", "x", "", ".", "new"] {
        assert_eq!(Id::read(bad), None, "{bad}");
    }
}

/// A pair whose owner deleted `d/e`, in which the replica had its own `d/e/f`.
fn with_deleted_directory() -> Pair {
    let mut pair = Pair::new();
    fs::create_dir_all(pair.owner.join("d/e")).unwrap();
    fs::write(pair.owner.join("d/e/f"), "first").unwrap();
    pair.sync();
    fs::write(pair.replica.join("d/e/f"), "mine").unwrap();
    fs::set_permissions(pair.replica.join("d/e"), fs::Permissions::from_mode(0o2710)).unwrap();
    chown(pair.replica.join("d/e"), Some(1234), Some(4321)).unwrap();
    fs::remove_dir_all(pair.owner.join("d")).unwrap();
    pair.sync();
    assert!(!pair.replica.join("d").exists());
    pair
}

#[test]
fn restore_makes_the_directories_above_as_they_were() {
    let pair = with_deleted_directory();
    let store = pair.store();
    store.restore(&only_id(&store), false).unwrap();
    assert_eq!(fs::read(pair.replica.join("d/e/f")).unwrap(), b"mine");
    let made = fs::metadata(pair.replica.join("d/e")).unwrap();
    // Who could not read the file before cannot do so now.
    assert_eq!((made.mode() & 0o7777, made.uid(), made.gid()), (0o2710, 1234, 4321));
    assert_eq!(fs::metadata(pair.replica.join("d")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(store.count().unwrap(), 0);
}

#[test]
fn directories_that_are_not_known_are_made_as_the_one_above() {
    let pair = with_deleted_directory();
    let store = pair.store();
    let id = only_id(&store);
    let about = About { parents: Vec::new(), ..store.get(&id).unwrap().unwrap() };
    fs::write(store.path().join(&id).join(ABOUT), serde_json::to_vec(&about).unwrap()).unwrap();
    fs::set_permissions(&pair.replica, fs::Permissions::from_mode(0o2700)).unwrap();
    chown(&pair.replica, Some(77), Some(78)).unwrap();
    store.restore(&id, false).unwrap();
    for made in ["d", "d/e"] {
        let made = fs::metadata(pair.replica.join(made)).unwrap();
        assert_eq!((made.mode() & 0o7777, made.uid(), made.gid()), (0o2700, 77, 78));
    }
}

#[test]
fn p4_restore_follows_no_link_out_of_the_tree() {
    let pair = with_deleted_directory();
    let (store, outside) = (pair.store(), tempfile::tempdir().unwrap());
    let id = only_id(&store);
    symlink(outside.path(), pair.replica.join("d")).unwrap();
    let refused = store.restore(&id, true).unwrap_err();
    assert!(matches!(refused, ConflictError::NoDirectory(..)), "{refused}");
    fs::remove_file(pair.replica.join("d")).unwrap();
    fs::create_dir(pair.replica.join("d")).unwrap();
    symlink(outside.path(), pair.replica.join("d/e")).unwrap();
    store.restore(&id, true).unwrap_err();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(store.count().unwrap(), 1);
    // A store that somebody has edited leads nowhere else.
    let mut about = store.get(&id).unwrap().unwrap();
    for path in ["../x", "/x", "d/../../x", ""] {
        about.path_hex = hex(path.as_bytes());
        fs::write(store.path().join(&id).join(ABOUT), serde_json::to_vec(&about).unwrap()).unwrap();
        let refused = store.restore(&id, true).unwrap_err();
        assert!(matches!(refused, ConflictError::Damaged(..)), "{path} {refused}");
    }
}

#[test]
fn metadata_are_restored_and_those_of_now_are_kept() {
    let mut pair = Pair::new();
    fs::write(pair.owner.join("a"), "same").unwrap();
    pair.sync();
    fs::set_permissions(pair.replica.join("a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(pair.owner.join("a"), fs::Permissions::from_mode(0o640)).unwrap();
    pair.sync();
    let store = pair.store();
    let id = only_id(&store);
    let refused = store.restore(&id, false).unwrap_err();
    assert!(matches!(refused, ConflictError::OtherMetadata(_)), "{refused}");
    store.restore(&id, true).unwrap();
    let mode = |path: &str| fs::metadata(pair.replica.join(path)).unwrap().mode() & 0o777;
    assert_eq!(mode("a"), 0o600);
    assert_eq!(store.list().unwrap().kept[0].mode, 0o640);
    store.restore(&only_id(&store), true).unwrap();
    assert_eq!(mode("a"), 0o640);
}

/// Where the inode gets no further name.
#[test]
fn a_copy_has_owner_mode_and_time_of_what_was_kept() {
    let here = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir_in("/dev/shm").expect("another file system");
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    assert_ne!(device(here.path()), device(elsewhere.path()), "a link would do");
    let path = elsewhere.path().join("f");
    fs::write(&path, "content").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    chown(&path, Some(12), Some(34)).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)).unwrap();
    let (parent, into) = (File::open(elsewhere.path()).unwrap(), File::open(here.path()).unwrap());
    let (name, path, why) = (b"f".as_slice(), &RelPath::new(b"f").unwrap(), Why::Changed);
    let look = &meta::look_at(&parent, name).unwrap().unwrap();
    let victim = Victim { parent: parent.as_fd(), name, path, look, why, parents: &[] };
    assert!(link(&victim, into.as_fd()).unwrap());
    let copy = meta::look_at(&into, FILE.as_bytes()).unwrap().unwrap();
    assert_eq!((copy.mode, copy.uid, copy.gid), (0o4755, 12, 34));
    assert_eq!(copy.seen.mtime, look.seen.mtime);
}

/// A pair whose replica wrote the same path so many times.
fn with_versions(count: usize) -> Pair {
    let mut pair = Pair::new();
    fs::write(pair.owner.join("log"), "the owner's").unwrap();
    pair.sync();
    for number in 0..count {
        fs::write(pair.replica.join("log"), format!("version {number}")).unwrap();
        fs::write(pair.owner.join("log"), format!("the owner's {number}")).unwrap();
        pair.sync();
    }
    pair
}

#[test]
fn of_a_path_that_changes_again_and_again_the_first_and_the_newest_versions_stay() {
    let max = limits::CONFLICT_VERSIONS_MAX;
    // If the day ends meanwhile there are twice as many.
    let pair = (0..2).map(|_| with_versions(max + 8)).find(|pair| {
        pair.store().list().unwrap().kept.iter().map(|about| &about.id[..8]).min()
            == pair.store().list().unwrap().kept.iter().map(|about| &about.id[..8]).max()
    });
    let store = pair.as_ref().unwrap().store();
    store.thin(std::time::SystemTime::now() + days(1)).unwrap();
    let kept = store.list().unwrap().kept;
    let content = |about: &About| fs::read_to_string(store.file_of(about).unwrap()).unwrap();
    assert_eq!(kept.len(), max);
    assert_eq!(content(&kept[0]), "version 0");
    for (number, about) in kept.iter().enumerate().skip(1) {
        assert_eq!(content(about), format!("version {}", number + 8));
    }
    assert_eq!(kept.iter().map(|about| about.versions_removed).sum::<u64>(), 8);
    assert!(kept[1].reason().contains("8 versions"), "{}", kept[1].reason());
}

fn days(days: u64) -> std::time::Duration {
    std::time::Duration::from_secs(days * 24 * 3600)
}

#[test]
fn nothing_goes_before_a_person_had_time_and_then_the_oldest() {
    let mut pair = Pair::new();
    for name in ["a", "b", "c"] {
        fs::write(pair.replica.join(name), format!("only here: {name}")).unwrap();
        fs::write(pair.owner.join(name), "the owner's").unwrap();
        pair.sync();
    }
    let store = pair.store();
    let names = || -> Vec<String> {
        store.list().unwrap().kept.into_iter().map(|about| about.path).collect()
    };
    let now = SystemTime::now();
    assert_eq!(store.tidy_to(now + days(364), 3).unwrap(), Tidied::default());
    let early = store.tidy_to(now + days(29), 1).unwrap();
    assert_eq!((early.removed, names().len()), (0, 3));
    let words = early.crowded.unwrap();
    assert!(words.contains("holds 3 files") && words.contains("30 days"), "{words}");
    let due = store.tidy_to(now + days(31), 1).unwrap();
    assert_eq!((due.removed, due.crowded), (2, None));
    assert_eq!(names().len(), 1);
    let due = store.tidy_to(now + days(366), 1).unwrap();
    assert_eq!((due.removed, names().len()), (1, 0));
}

#[test]
fn what_a_wrong_clock_has_named_is_not_taken_for_old() {
    let pair = with_conflict();
    let store = pair.store();
    let (id, path) = (only_id(&store), RelPath::new(b"a").unwrap());
    let wrong = Id::new(0, &path).to_string();
    fs::rename(store.path().join(id), store.path().join(&wrong)).unwrap();
    let tidied = store.tidy_to(SystemTime::now() + days(4000), 0).unwrap();
    assert_eq!((tidied.removed, store.count().unwrap()), (0, 1));
}

#[test]
fn what_a_killed_command_left_goes_after_a_day() {
    let pair = with_conflict();
    let store = pair.store();
    fs::create_dir(store.path().join("new-77-0")).unwrap();
    fs::write(store.path().join("new-77-0/file"), "half").unwrap();
    store.tidy(SystemTime::now()).unwrap();
    assert!(store.path().join("new-77-0").exists());
    store.tidy(SystemTime::now() + days(2)).unwrap();
    assert!(!store.path().join("new-77-0").exists());
    assert_eq!(store.count().unwrap(), 1);
}

#[test]
fn a_conflict_travels_with_everything_about_it() {
    let pair = with_deleted_directory();
    fs::create_dir(pair.owner.join("d")).unwrap();
    let store = pair.store();
    let id = only_id(&store);
    let (mut parcel, file) = store.pack(&id).unwrap();
    // The owner's tree has another path in this test.
    parcel.about.tree = pair.owner.display().to_string();
    let there = Store::open(&whose(), &pair.owner).unwrap();
    let file = file.unwrap();
    let mut pieces = carry::pieces(&file, parcel.bytes);
    let mut next = || pieces.next().unwrap_or_else(|| Err("no more".to_owned()));
    let taken = there.unpack(&parcel, &mut next).unwrap();
    assert_eq!(taken, id);
    there.restore(&taken, false).unwrap();
    assert_eq!(fs::read(pair.owner.join("d/e/f")).unwrap(), b"mine");
    let made = fs::metadata(pair.owner.join("d/e")).unwrap();
    assert_eq!((made.mode() & 0o7777, made.uid(), made.gid()), (0o2710, 1234, 4321));
    let time = |path: PathBuf| fs::metadata(path).unwrap().modified().unwrap();
    let kept = store.get(&id).unwrap().unwrap();
    assert_eq!(time(pair.owner.join("d/e/f")), time(store.file_of(&kept).unwrap()));
}

#[test]
fn p4_a_parcel_from_elsewhere_is_refused() {
    let pair = with_deleted_directory();
    let store = pair.store();
    let (parcel, _) = store.pack(&only_id(&store)).unwrap();
    let mut wrong = vec![parcel.clone(); 4];
    wrong[0].about.tree = "/etc".into();
    wrong[1].about.path_hex = hex(b"../../x");
    wrong[2].about.id = "../../x".into();
    wrong[3].bytes = limits::FILE_BYTES_MAX + 1;
    for wrong in wrong {
        let mut more = || Ok(vec![1; 10]);
        store.unpack(&wrong, &mut more).unwrap_err();
    }
    // More or fewer bytes than were announced.
    store.unpack(&parcel, &mut || Ok(vec![1; 10])).unwrap_err();
    store.unpack(&parcel, &mut || Err("ended".to_owned())).unwrap_err();
    assert_eq!(store.count().unwrap(), 1);
}
