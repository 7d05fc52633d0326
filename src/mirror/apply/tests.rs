use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use super::*;
use crate::mirror::entry::Stamp;
use crate::mirror::fixture::{GENERATION, Pair, TREE, key, snapshot};
use crate::mirror::proto::Op;

fn write(root: &Path, path: &str, content: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn set_mode(root: &Path, path: &str, mode: u32) {
    fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
}

/// An owner's tree with some of everything.
fn furnish(owner: &Path) {
    write(owner, "a.txt", "first");
    write(owner, "empty", "");
    write(owner, "d/e/f/deep", "deep");
    write(owner, "d/two", vec![7; 300_000]);
    write(owner, "becomes-file/x", "x");
    write(owner, "becomes-dir", "y");
    write(owner, "gone/one", "1");
    write(owner, "gone/sub/two", "2");
    write(owner, "mode-only", "same");
    write(owner, "linked/a", "many names");
    fs::hard_link(owner.join("linked/a"), owner.join("linked/b")).unwrap();
    fs::hard_link(owner.join("linked/a"), owner.join("d/linked")).unwrap();
    symlink("a.txt", owner.join("link")).unwrap();
    symlink("/nowhere/at/all", owner.join("d/broken")).unwrap();
    set_mode(owner, "d", 0o2750);
    set_mode(owner, "a.txt", 0o4711);
}

/// What the owner does next.
fn change(owner: &Path) {
    write(owner, "a.txt", "second");
    write(owner, "new/er/file", "new");
    // So many that they are packed.
    for number in 0..limits::PACK_NAMES_MIN {
        write(owner, &format!("new/many/{number}"), "new");
    }
    symlink("nowhere", owner.join("new/many/link")).unwrap();
    set_mode(owner, "new/many", 0o1751);
    fs::remove_dir_all(owner.join("becomes-file")).unwrap();
    write(owner, "becomes-file", "a file");
    fs::remove_file(owner.join("becomes-dir")).unwrap();
    write(owner, "becomes-dir/in/it", "z");
    fs::remove_dir_all(owner.join("gone")).unwrap();
    set_mode(owner, "mode-only", 0o600);
    fs::remove_file(owner.join("link")).unwrap();
    symlink("d", owner.join("link")).unwrap();
    write(owner, "linked/a", "changed by all its names");
    fs::remove_file(owner.join("linked/b")).unwrap();
    write(owner, "linked/b", "its own now");
    fs::rename(owner.join("d/e"), owner.join("e")).unwrap();
}

#[test]
fn every_kind_of_change_comes() {
    let mut pair = Pair::new();
    furnish(&pair.owner);
    assert_eq!(pair.sync(), Applied::default());
    change(&pair.owner);
    assert_eq!(pair.sync(), Applied::default());
    let [a, d] =
        ["linked/a", "d/linked"].map(|name| fs::metadata(pair.replica.join(name)).unwrap());
    assert_eq!((a.ino(), a.nlink()), (d.ino(), 2));
    assert!(pair.ops().is_empty());
}

#[test]
fn an_unchanged_file_is_seen_so_and_others_are_not() {
    let mut pair = Pair::new();
    write(&pair.owner, "a", "a");
    pair.sync();
    // In a directory that was made long enough ago, and again after the tick of the clock.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while pair.index().get(&key("a")).unwrap().unwrap().seen.is_none() {
        assert!(std::time::Instant::now() < until, "never seen as settled");
        for number in 0..2000 {
            write(&pair.owner, &format!("many/{number}"), "b");
        }
        pair.index().commit(&[(key("a"), None)], None, &[], true).unwrap();
        pair.sync();
    }
    let stored = pair.index().get(&key("a")).unwrap().unwrap();
    let (seen, _) = meta::quick(&pair.roots()[0], &key("a").path).unwrap().unwrap();
    assert_eq!(stored.seen, Some(seen));
}

/// What somebody writes on the replica.
fn meddle(replica: &Path) {
    write(replica, "a.txt", "mine");
    write(replica, "new/er/file", "made here too");
    write(replica, "becomes-file/x", "changed below");
    write(replica, "becomes-dir", "changed here");
    write(replica, "gone/sub/two", "changed, gone there");
    write(replica, "gone/sub/three", "made here");
    set_mode(replica, "mode-only", 0o666);
    fs::remove_file(replica.join("link")).unwrap();
    symlink("mine", replica.join("link")).unwrap();
    write(replica, "linked/b", "all names changed");
    fs::remove_dir_all(replica.join("d/e")).unwrap();
}

fn expected_conflicts() -> Vec<(String, String, Option<Vec<u8>>)> {
    let row = |path: &str, why: &str, content: &str| {
        (path.to_owned(), why.to_owned(), Some(content.as_bytes().to_vec()))
    };
    let metadata = "only owner, mode, times or attributes changed here";
    let mut rows = vec![
        row("a.txt", "changed here", "mine"),
        row("new/er/file", "created here", "made here too"),
        row("becomes-file/x", "deleted there", "changed below"),
        row("becomes-dir", "changed here", "changed here"),
        row("gone/sub/two", "deleted there", "changed, gone there"),
        row("gone/sub/three", "created here", "made here"),
        row("link", "changed here", "mine"),
        row("linked/a", "changed here", "all names changed"),
        row("linked/b", "changed here", "all names changed"),
        row("d/linked", "changed here", "all names changed"),
        ("mode-only".to_owned(), metadata.to_owned(), None),
    ];
    rows.sort();
    rows
}

#[test]
fn p3_what_was_written_on_the_replica_is_kept() {
    let mut pair = Pair::new();
    furnish(&pair.owner);
    pair.sync();
    meddle(&pair.replica);
    change(&pair.owner);
    let applied = pair.sync();
    assert_eq!(pair.conflicts(), expected_conflicts());
    assert_eq!(applied.conflicts, expected_conflicts().len() as u64);
}

/// Stops before each write in turn, opens everything again and applies again.
#[test]
fn p3_stopped_at_any_write_it_ends_the_same() {
    for (batch_ops, stride) in [(2048, 1), (3, 7)] {
        let mut stop = 0;
        loop {
            let mut pair = Pair::new();
            pair.batch_ops = batch_ops;
            furnish(&pair.owner);
            pair.sync();
            meddle(&pair.replica);
            change(&pair.owner);
            let ops = pair.ops();
            let ready = pair.take_in(&ops).unwrap();
            let stopped = pair.apply(&ready, &mut CrashPoints::until(stop));
            if stopped.is_ok() {
                assert!(stop > 60, "only {stop} writes");
                break;
            }
            pair.reopen();
            // A second crash, a little later.
            if let Some(ready) = pair.stage.recover().unwrap() {
                let _ = pair.apply(&ready, &mut CrashPoints::until(2));
                pair.reopen();
            }
            if let Some(ready) = pair.stage.recover().unwrap() {
                let applied = pair.apply(&ready, &mut CrashPoints::all()).unwrap();
                assert_eq!(applied.unfinished, Vec::new());
            }
            pair.assert_same();
            assert_eq!(pair.conflicts(), expected_conflicts(), "stopped at {stop}");
            stop += stride;
        }
    }
}

/// A takeover waits for the renames.
#[test]
fn a_new_directory_comes_in_by_one_rename() {
    let mut pair = Pair::new();
    write(&pair.owner, "old/0", "0");
    pair.sync();
    for number in 0..500 {
        write(&pair.owner, &format!("old/sub-{}/{number}", number % 7), number.to_string());
    }
    fs::hard_link(pair.owner.join("old/sub-0/0"), pair.owner.join("old/sub-1/link")).unwrap();
    fs::rename(pair.owner.join("old"), pair.owner.join("new")).unwrap();
    let ops = pair.ops();
    let ready = pair.take_in(&ops).unwrap();
    let mut crash_points = CrashPoints::until(20);
    let (roots, index) = (pair.roots(), pair.index());
    let mut brought = bring(&ready, &roots, index, &mut crash_points, false, &|| false).unwrap();
    assert_eq!(snapshot(&pair.replica), snapshot(&pair.owner));
    finish(&mut brought, &roots, index, &mut CrashPoints::all(), &|| false).unwrap().unwrap();
    assert!(pair.ops().is_empty() && pair.conflicts().is_empty());
}

/// The new directory cannot come in: somebody here has made one since, and serves from it.
#[test]
fn what_was_packed_comes_in_alone_if_its_directory_cannot() {
    let mut pair = Pair::new();
    write(&pair.owner, "other", "x");
    pair.sync();
    for number in 0..limits::PACK_NAMES_MIN {
        write(&pair.owner, &format!("new/{number}"), number.to_string());
        write(&pair.owner, &format!("new/sub/{number}"), number.to_string());
    }
    let ops = pair.ops();
    let ready = pair.take_in(&ops).unwrap();
    ready.set_brought().unwrap();
    write(&pair.replica, "new/mine", "mine");
    write(&pair.replica, "new/1", "mine");
    let applied = pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    assert_eq!(names(&applied), [key("new"), key("new/1")]);
    let read = |name| fs::read_to_string(pair.replica.join(name)).unwrap();
    assert_eq!((read("new/mine"), read("new/1")), ("mine".to_owned(), "mine".to_owned()));
    assert_eq!((read("new/2"), read("new/sub/2")), ("2".to_owned(), "2".to_owned()));
}

#[test]
fn what_was_committed_is_not_applied_again() {
    let mut pair = Pair::new();
    write(&pair.owner, "a", "first");
    let ops = pair.ops();
    let ready = pair.take_in(&ops).unwrap();
    // All writes but the last: the record stays.
    let mut stop = 0;
    while pair.index().position().unwrap().is_none() {
        assert!(pair.apply(&ready, &mut CrashPoints::until(stop)).is_err());
        stop += 1;
    }
    // This node became the owner, and works.
    write(&pair.replica, "a", "newer");
    pair.reopen();
    let ready = pair.stage.recover().unwrap().unwrap();
    pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    assert_eq!(fs::read(pair.replica.join("a")).unwrap(), b"newer");
    pair.assert_nothing_staged();
}

#[test]
fn the_peer_deleting_what_is_missing_here_is_no_conflict() {
    let mut pair = Pair::new();
    furnish(&pair.owner);
    pair.sync();
    fs::remove_dir_all(pair.owner.join("gone")).unwrap();
    fs::remove_dir_all(pair.replica.join("gone")).unwrap();
    assert_eq!(pair.sync().conflicts, 0);
}

#[test]
fn a_directory_that_was_taken_away_here_is_made_again() {
    let mut pair = Pair::new();
    furnish(&pair.owner);
    pair.sync();
    fs::remove_dir_all(pair.replica.join("d")).unwrap();
    fs::write(pair.owner.join("d/e/f/deep"), "deeper").unwrap();
    let ops = pair.ops();
    let ready = pair.take_in(&ops).unwrap();
    pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    let (owner, replica) = (snapshot(&pair.owner), snapshot(&pair.replica));
    for path in ["d/e/f/deep", "d/e/f", "d/e", "d"].map(|path| key(path).path) {
        assert_eq!(replica[&path], owner[&path], "{path}");
    }
}

#[test]
fn a_file_that_was_written_to_after_it_was_not_sent_is_unfinished() {
    let mut pair = Pair::new();
    write(&pair.owner, "a", "same");
    write(&pair.owner, "b", "other");
    pair.sync();
    set_mode(&pair.owner, "a", 0o600);
    write(&pair.owner, "b", "changed");
    let ops = pair.ops();
    let ready = pair.take_in(&ops).unwrap();
    write(&pair.replica, "a", "mine");
    let applied = pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    assert_eq!(names(&applied), [key("a")]);
    assert!(applied.unfinished[0].why.contains("changed here"), "{applied:?}");
    assert_eq!(fs::read(pair.replica.join("a")).unwrap(), b"mine");
    assert_eq!(pair.index().get(&key("a")).unwrap().unwrap().entry, None);
    assert_eq!(fs::read(pair.replica.join("b")).unwrap(), b"changed");
    assert_eq!(pair.index().position().unwrap().unwrap().commit, 2);
    // It differs, so the owner sends it again.
    assert_eq!(pair.sync().conflicts, 1);
    assert_eq!(pair.conflicts(), [("a".into(), "changed here".into(), Some(b"mine".to_vec()))]);
}

/// The names that could not become what they should.
fn names(applied: &Applied) -> Vec<Key> {
    applied.unfinished.iter().map(|refused| refused.key.clone()).collect()
}

/// Flags of chattr(1), taken off again.
struct Flag(std::path::PathBuf, &'static str);

impl Flag {
    fn set(path: std::path::PathBuf, flag: &'static str) -> Flag {
        chattr(&path, &format!("+{flag}"));
        Flag(path, flag)
    }
}

impl Drop for Flag {
    fn drop(&mut self) {
        chattr(&self.0, &format!("-{}", self.1));
    }
}

fn chattr(path: &Path, flag: &str) {
    assert!(Command::new("chattr").arg(flag).arg(path).status().unwrap().success());
}

/// Made immutable after it was acknowledged: it alone stays behind, and comes when that is over.
#[test]
fn what_cannot_be_applied_stops_nothing_else() {
    let mut pair = Pair::new();
    for name in ["a", "d/deep/x", "gone/one", "z"] {
        write(&pair.owner, name, "first");
    }
    pair.sync();
    write(&pair.replica, "a", "mine");
    for name in ["a", "d/deep/x", "d/deep/new", "z"] {
        write(&pair.owner, name, "second");
    }
    fs::remove_dir_all(pair.owner.join("gone")).unwrap();
    let ops = pair.ops();
    let ready = pair.take_in(&ops).unwrap();
    let flags = ["a", "d/deep", "gone/one"].map(|name| Flag::set(pair.replica.join(name), "i"));
    let applied = pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    // A directory goes, with an immutable file in it.
    let mut expected = vec![key("a"), key("d/deep"), key("d/deep/new"), key("d/deep/x")];
    expected.sort();
    assert_eq!(names(&applied), expected, "{applied:?}");
    assert!(applied.unfinished.iter().all(|one| one.why.contains("lsattr")), "{applied:?}");
    assert_eq!(fs::read(pair.replica.join("a")).unwrap(), b"mine");
    assert_eq!(fs::read(pair.replica.join("z")).unwrap(), b"second");
    assert!(!pair.replica.join("gone").exists());
    // Nothing is pending.
    pair.reopen();
    assert!(pair.stage.recover().unwrap().is_none());
    let [_a, _deep, gone] = flags;
    drop((_a, _deep));
    let left = Command::new("chattr").arg("-R").arg("-i").arg(pair.area()).status().unwrap();
    assert!(left.success());
    std::mem::forget(gone);
    assert_eq!(pair.sync().conflicts, 1);
}

#[test]
fn long_names_and_names_of_any_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let mut pair = Pair::new();
    let long = "n".repeat(255);
    write(&pair.owner, &format!("{long}/{long}/{long}"), "long");
    let odd = std::ffi::OsStr::from_bytes(b"odd \xff\n\x01");
    fs::write(pair.owner.join(odd), "odd").unwrap();
    symlink(odd, pair.owner.join("to-odd")).unwrap();
    pair.sync();
    fs::write(pair.replica.join(odd), "mine").unwrap();
    fs::remove_file(pair.owner.join(odd)).unwrap();
    fs::remove_dir_all(pair.owner.join(&long)).unwrap();
    assert_eq!(pair.sync().conflicts, 1);
}

#[test]
fn a_symlink_put_in_the_way_leads_nowhere() {
    let mut pair = Pair::new();
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "keep", "outside");
    write(&pair.owner, "d/keep", "inside");
    pair.sync();
    fs::remove_dir_all(pair.replica.join("d")).unwrap();
    symlink(outside.path(), pair.replica.join("d")).unwrap();
    write(&pair.owner, "d/keep", "changed");
    write(&pair.owner, "d/new", "new");
    fs::remove_file(pair.owner.join("d/keep")).unwrap();
    assert_eq!(pair.sync().conflicts, 1);
    assert_eq!(fs::read(outside.path().join("keep")).unwrap(), b"outside");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn later_batches_win_and_deletions_take_what_was_put_below() {
    let mut pair = Pair::new();
    pair.batch_ops = 1;
    write(&pair.owner, "d/old", "old");
    write(&pair.owner, "d/both", "1");
    pair.sync();
    let put = |pair: &Pair, path: &str| {
        let entry = snapshot(&pair.owner)[&key(path).path].clone();
        Op { key: key(path), change: Change::Put(entry), keep: false }
    };
    let delete = |path: &str| Op { key: key(path), change: Change::Delete, keep: false };
    fs::remove_file(pair.owner.join("d/old")).unwrap();
    write(&pair.owner, "d/both", "2");
    write(&pair.owner, "x", "x");
    let root = Op {
        key: Key { tree: TREE, path: RelPath::root() },
        change: Change::Put(snapshot(&pair.owner)[&RelPath::root()].clone()),
        keep: false,
    };
    let void = Op { key: key("d/void"), ..put(&pair, "x") };
    let ops = [
        void,
        delete("d"),
        put(&pair, "d"),
        delete("x"),
        put(&pair, "d/both"),
        put(&pair, "x"),
        root,
    ];
    write(&pair.owner, "d/void", "x");
    let ready = {
        let ready = pair.take_in(&ops).unwrap();
        fs::remove_file(pair.owner.join("d/void")).unwrap();
        ready
    };
    // Its removal moved the directory's time at the owner: not what this is about.
    let mtime = |entry: &Entry| TimeSpec::new(entry.mtime.s, entry.mtime.ns.into());
    let Change::Put(entry) = &ops[2].change else { panic!() };
    let directory = fs::File::open(pair.owner.join("d")).unwrap();
    futimens(&directory, &TimeSpec::UTIME_OMIT, &mtime(entry)).unwrap();
    assert_eq!(pair.apply(&ready, &mut CrashPoints::all()).unwrap().conflicts, 0);
    pair.assert_same();
}

#[test]
fn a_peer_that_makes_no_sense_is_refused() {
    let mut pair = Pair::new();
    write(&pair.owner, "a", "a");
    pair.sync();
    let good = snapshot(&pair.owner)[&key("a").path].clone();
    let put =
        |path: &str, entry: Entry| Op { key: key(path), change: Change::Put(entry), keep: false };
    let root = Key { tree: TREE, path: RelPath::root() };
    let stray = Key { tree: crate::mirror::entry::TreeId(9), path: key("a").path };
    let mut content = match &good.kind {
        Kind::File(content) => content.clone(),
        kind => panic!("{kind:?}"),
    };
    content.size += 1_000_000;
    let bad = [
        Op { key: root.clone(), change: Change::Delete, keep: false },
        Op { key: root, change: Change::Put(good.clone()), keep: false },
        Op { key: stray, change: Change::Delete, keep: false },
        put("a", Entry { kind: Kind::File(content), ..good.clone() }),
        put("a", Entry { kind: Kind::Symlink { target: b"a\0b".to_vec() }, ..good.clone() }),
        put("a", Entry { kind: Kind::Symlink { target: Vec::new() }, ..good.clone() }),
        put("a", Entry { kind: Kind::Link { to: key("a").path }, ..good.clone() }),
        put("a", Entry { mode: 0o170_777, ..good.clone() }),
        put("a", Entry { mtime: Stamp { s: 0, ns: 1_073_741_823 }, ..good.clone() }),
    ];
    let before = snapshot(&pair.replica);
    for op in bad {
        let trouble = pair.take_in(std::slice::from_ref(&op));
        assert!(matches!(trouble, Err(Trouble::Failed(_))), "{op:?}: {trouble:?}");
        pair.assert_nothing_staged();
    }
    // A link to what is not there, and a file below a file, change nothing but that.
    let orphan = put("b", Entry { kind: Kind::Link { to: key("none").path }, ..good.clone() });
    let ready = pair.take_in(&[orphan]).unwrap();
    assert_eq!(pair.apply(&ready, &mut CrashPoints::all()).unwrap().unfinished[0].key, key("b"));
    let below = put("a/b", Entry { kind: Kind::Symlink { target: b"x".to_vec() }, ..good });
    let ready = pair.take_in(&[below]).unwrap();
    assert_eq!(pair.apply(&ready, &mut CrashPoints::all()).unwrap().unfinished[0].key, key("a/b"));
    assert_eq!(snapshot(&pair.replica), before);
}

#[test]
fn what_is_kept_says_which_generation_replaced_it() {
    let mut pair = Pair::new();
    write(&pair.owner, "a", "first");
    pair.sync();
    write(&pair.replica, "a", "mine");
    write(&pair.owner, "a", "second");
    pair.sync();
    let kept = pair.store().list().unwrap().kept;
    let about = &kept[0];
    assert_eq!(about.generation, Some(GENERATION.number));
    assert_eq!((about.node.as_str(), about.group.as_str(), about.size), ("serv2", "web", 4));
    assert_eq!(about.tree, pair.replica.display().to_string());
}

/// The service runs when the trees are at the commit; what it writes is nobody's to replace, wherever the
/// rest was stopped.
#[test]
fn p3_what_was_written_after_a_takeover_stays_when_the_rest_is_done_again() {
    let mut stop = 0;
    loop {
        let mut pair = Pair::new();
        furnish(&pair.owner);
        pair.sync();
        meddle(&pair.replica);
        change(&pair.owner);
        let ops = pair.ops();
        let ready = pair.take_in(&ops).unwrap();
        let roots = pair.roots();
        let crash_points = &mut CrashPoints::all();
        let mut brought =
            bring(&ready, &roots, pair.index(), crash_points, false, &|| false).unwrap();
        let (owner, replica) = (snapshot(&pair.owner), snapshot(&pair.replica));
        assert_eq!(owner, replica, "all is there before the rest");
        brought.set_brought().unwrap();
        // Changed, made again where it was deleted, deleted, and only its mode.
        write(&pair.replica, "a.txt", "served");
        write(&pair.replica, "gone/again", "served");
        fs::remove_file(pair.replica.join("becomes-file")).unwrap();
        set_mode(&pair.replica, "mode-only", 0o640);
        let served = snapshot(&pair.replica);
        let stopped =
            finish(&mut brought, &roots, pair.index(), &mut CrashPoints::until(stop), &|| false);
        if stopped.is_err() {
            pair.reopen();
            let ready = pair.stage.recover().unwrap().unwrap();
            pair.apply(&ready, &mut CrashPoints::all()).unwrap();
        }
        assert_eq!(snapshot(&pair.replica), served, "stopped at {stop}");
        assert_eq!(pair.conflicts(), expected_conflicts(), "stopped at {stop}");
        pair.assert_nothing_staged();
        if stopped.is_ok() {
            assert!(stop > 20, "only {stop} writes");
            return;
        }
        stop += 3;
    }
}

/// An order may come at any time: the rest goes on when it is obeyed.
#[test]
fn the_rest_can_be_interrupted_again_and_again() {
    let mut pair = Pair::new();
    furnish(&pair.owner);
    pair.sync();
    meddle(&pair.replica);
    change(&pair.owner);
    let ops = pair.ops();
    let ready = pair.take_in(&ops).unwrap();
    let (roots, crash_points) = (pair.roots(), &mut CrashPoints::all());
    let mut brought = bring(&ready, &roots, pair.index(), crash_points, false, &|| false).unwrap();
    brought.set_brought().unwrap();
    write(&pair.replica, "a.txt", "served");
    let served = snapshot(&pair.replica);
    let mut pauses = 0;
    let applied = loop {
        let looks = std::cell::Cell::new(0);
        let interrupted = || looks.replace(looks.get() + 1) >= pauses;
        match finish(&mut brought, &roots, pair.index(), crash_points, &interrupted).unwrap() {
            Some(applied) => break applied,
            None => pauses += 1,
        }
    };
    assert!(pauses > 2, "only {pauses} places");
    assert_eq!((applied.unfinished, applied.broken), (Vec::new(), None));
    assert_eq!(snapshot(&pair.replica), served);
    assert_eq!(pair.conflicts(), expected_conflicts());
    pair.assert_nothing_staged();
}

/// A file of 4 MiB, other in each of its chunks.
fn large() -> Vec<u8> {
    (0..4u32 << 20).map(|place| (place >> 18) as u8).collect()
}

/// One changed block needs a block, not a copy of the file: it stays the same file.
#[test]
fn a_large_file_of_which_little_changed_is_patched() {
    let mut pair = Pair::new();
    let mut content = large();
    write(&pair.owner, "base", &content);
    pair.sync();
    settle(&mut pair, "base");
    let before = fs::metadata(pair.replica.join("base")).unwrap();
    content[1_000_000] = 77;
    content.extend_from_slice(b"appended");
    write(&pair.owner, "base", &content);
    set_mode(&pair.owner, "base", 0o604);
    let ops = pair.ops();
    let ready = pair.take_in(&ops).unwrap();
    let staged: u64 = walk(&pair.area().join("incoming")).iter().map(|meta| meta.blocks()).sum();
    assert!(staged * 512 <= 2 * 262_144 + 65_536, "{staged} blocks for two chunks");
    pair.apply(&ready, &mut CrashPoints::all()).unwrap();
    pair.assert_same();
    let after = fs::metadata(pair.replica.join("base")).unwrap();
    assert_eq!(after.ino(), before.ino());
    assert_eq!(pair.conflicts(), []);
}

/// P3: stopped anywhere, also in the middle of the file, it is whole when it was done again; and what
/// somebody changed here is kept, never mixed with what came.
#[test]
fn p3_a_patch_that_was_stopped_anywhere_is_whole_when_it_is_done_again() {
    let mut stop = 0;
    loop {
        let mut pair = Pair::new();
        let mut content = large();
        write(&pair.owner, "base", &content);
        write(&pair.owner, "mine", &content);
        write(&pair.owner, "small", "one");
        pair.sync();
        settle(&mut pair, "base");
        settle(&mut pair, "mine");
        for place in [0, 300_000, 4_000_000] {
            content[place] ^= 0xff;
        }
        for name in ["base", "mine"] {
            write(&pair.owner, name, &content);
        }
        write(&pair.owner, "small", "two");
        let ops = pair.ops();
        let ready = pair.take_in(&ops).unwrap();
        let mine = [&b"mine"[..], &large()[4..]].concat();
        write(&pair.replica, "mine", &mine);
        let stopped = pair.apply(&ready, &mut CrashPoints::until(stop));
        if stopped.is_err() {
            pair.reopen();
            let ready = pair.stage.recover().unwrap().unwrap();
            pair.apply(&ready, &mut CrashPoints::all()).unwrap();
        }
        assert!(fs::read(pair.replica.join("base")).unwrap() == content, "stopped at {stop}");
        assert!(fs::read(pair.replica.join("mine")).unwrap() == mine, "stopped at {stop}");
        let entry = pair.index().get(&key("mine")).unwrap().unwrap().entry;
        assert_eq!(entry, None, "in no commit; stopped at {stop}");
        // The owner sends it again: now it is replaced, and kept.
        pair.sync();
        let kept = pair.conflicts();
        assert_eq!(kept.len(), 1, "stopped at {stop}");
        assert!(kept[0].2.as_deref() == Some(&mine[..]), "stopped at {stop}");
        if stopped.is_ok() {
            assert!(stop > 8, "only {stop} writes");
            return;
        }
        stop += 1;
    }
}

fn walk(directory: &Path) -> Vec<fs::Metadata> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            found.extend(walk(&entry.path()));
        } else {
            found.push(meta);
        }
    }
    found
}

/// Waits until a file was last changed long enough ago for its look to prove its content.
fn settle(pair: &mut Pair, name: &str) {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let root = Root::open(&pair.replica).unwrap();
    while !meta::look(&root, &key(name).path).unwrap().unwrap().settled {
        assert!(std::time::Instant::now() < until, "never settled");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Runs a command that must succeed.
fn run(program: &str, arguments: &[&std::ffi::OsStr]) {
    let out = Command::new(program).args(arguments).output().unwrap();
    assert!(out.status.success(), "{program} {arguments:?}: {out:?}");
}

/// Copies of the owner's tree by other means, before anything was mirrored.
#[test]
fn p3_a_replica_that_was_seeded_before_makes_no_conflicts() {
    for (how, program, flags) in [
        ("links as links", "cp", "-aT"),
        ("links as links, by rsync", "rsync", "-aHAX"),
        ("links as files of their own", "rsync", "-aAX"),
    ] {
        let mut pair = Pair::new();
        furnish(&pair.owner);
        let owner = format!("{}/", pair.owner.display());
        run(program, &[flags.as_ref(), owner.as_ref(), pair.replica.as_ref()]);
        pair.sync();
        let mut kept = pair.conflicts();
        // rsync gives symlinks no times below a microsecond.
        kept.retain(|(path, _, content)| {
            content.is_some() || !["link", "d/broken"].contains(&path.as_str())
        });
        assert_eq!(kept, [], "{how}");
    }
}

/// ... and with other times: those are kept, and nothing else.
#[test]
fn a_seeded_replica_with_hard_links_and_other_times() {
    for flags in ["-rT", "-rT --preserve=links"] {
        let mut pair = Pair::new();
        write(&pair.owner, "linked/a", "many names");
        fs::hard_link(pair.owner.join("linked/a"), pair.owner.join("linked/b")).unwrap();
        let mut arguments: Vec<&std::ffi::OsStr> = flags.split(' ').map(str::as_ref).collect();
        arguments.extend([pair.owner.as_os_str(), pair.replica.as_os_str()]);
        run("cp", &arguments);
        pair.sync();
        let kept = pair.conflicts();
        assert!(!kept.is_empty(), "{flags}");
        assert!(kept.iter().all(|(_, _, content)| content.is_none()), "{flags}: {kept:?}");
    }
}
