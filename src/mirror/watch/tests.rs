//! The same for both kinds, with real files.

mod random;

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::mirror::entry::RelPath;

const TREE: TreeId = TreeId(4);
const SOON: Duration = Duration::from_secs(20);

/// A watched root with a place beside it that is not watched.
struct Bed {
    _dir: tempfile::TempDir,
    root: PathBuf,
    outside: PathBuf,
    watch: Watch,
}

impl Bed {
    fn new(kind: &str, prepare: &dyn Fn(&Path)) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let (root, outside) = (dir.path().join("root"), dir.path().join("root-not"));
        fs::create_dir(&root).unwrap();
        fs::create_dir(&outside).unwrap();
        prepare(&root);
        let trees = [(TREE, root.clone())];
        let watch = match kind {
            "fanotify" => Watch::new(&trees),
            _ => Watch::by_directory(&trees),
        };
        let watch = watch.unwrap();
        assert_eq!(watch.kind(), kind);
        Bed { _dir: dir, root, outside, watch }
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    fn drain(&mut self) -> Drained {
        self.watch.drain(1_000_000).unwrap()
    }

    /// Drains; checks that these names are told, and that nothing is told but them.
    #[track_caller]
    fn names(&mut self, names: &[&str]) -> Drained {
        let drained = self.drain();
        let mut expected: Vec<_> = names.iter().map(|name| key(name)).collect();
        expected.sort();
        assert_eq!(drained.all(), expected, "{}", self.watch.kind());
        assert!(!drained.lost);
        drained
    }
}

impl Drained {
    /// Names and directories.
    fn all(&self) -> Vec<Key> {
        let mut all = [self.names.clone(), self.directories.clone()].concat();
        all.sort();
        all
    }
}

fn for_both(prepare: &dyn Fn(&Path), test: impl Fn(&mut Bed)) {
    for kind in ["fanotify", "inotify"] {
        let mut bed = Bed::new(kind, prepare);
        assert_eq!(bed.drain(), Drained::default(), "{kind}");
        test(&mut bed);
    }
}

fn key(path: &str) -> Key {
    key_of(path.as_bytes())
}

fn key_of(path: &[u8]) -> Key {
    Key { tree: TREE, path: RelPath::new(path).unwrap() }
}

fn nothing(_: &Path) {}

fn with_file(root: &Path) {
    fs::create_dir(root.join("d")).unwrap();
    fs::write(root.join("d/f"), "old").unwrap();
}

#[test]
fn a_write_is_told_before_the_file_is_closed() {
    for_both(&with_file, |bed| {
        let mut file = fs::OpenOptions::new().append(true).open(bed.at("d/f")).unwrap();
        bed.names(&[]);
        file.write_all(b"more").unwrap();
        bed.names(&["d/f"]);
        file.write_all(b"more").unwrap();
        bed.names(&["d/f"]);
        file.set_len(2).unwrap();
        bed.names(&["d/f"]);
        drop(file);
        bed.names(&["d/f"]);
        bed.names(&[]);
    });
}

#[test]
fn every_change_tells_its_name() {
    for_both(&with_file, |bed| {
        fs::write(bed.at("new"), "x").unwrap();
        bed.names(&["", "new"]);
        fs::set_permissions(bed.at("d/f"), fs::Permissions::from_mode(0o600)).unwrap();
        bed.names(&["d/f"]);
        fs::set_permissions(bed.at("d"), fs::Permissions::from_mode(0o700)).unwrap();
        bed.names(&["d"]);
        fs::set_permissions(&bed.root, fs::Permissions::from_mode(0o700)).unwrap();
        bed.names(&[""]);
        std::os::unix::fs::chown(bed.at("d/f"), Some(1), Some(1)).unwrap();
        bed.names(&["d/f"]);
        let set = std::process::Command::new("touch").arg(bed.at("d/f")).status().unwrap();
        assert!(set.success());
        bed.names(&["d/f"]);
        symlink("f", bed.at("d/l")).unwrap();
        bed.names(&["d", "d/l"]);
        fs::hard_link(bed.at("d/f"), bed.at("h")).unwrap();
        let told = bed.drain().all();
        assert!(told.contains(&key("h")) && told.contains(&key("")), "{told:?}");
        fs::rename(bed.at("d/f"), bed.at("d/g")).unwrap();
        bed.names(&["d", "d/f", "d/g"]);
        fs::remove_file(bed.at("d/g")).unwrap();
        bed.names(&["d", "d/g"]);
        fs::remove_file(bed.at("d/l")).unwrap();
        fs::remove_dir(bed.at("d")).unwrap();
        bed.names(&["", "d", "d/l"]);
    });
}

#[test]
fn names_of_any_bytes_are_told_as_they_are() {
    for_both(&nothing, |bed| {
        let names = [b"\xff\xfe".as_slice(), b"a\nb", b"x (deleted)", b"...", &[b'n'; 255]];
        for name in names {
            fs::create_dir(bed.at(OsStr::from_bytes(name))).unwrap();
            bed.drain();
            fs::write(bed.at(OsStr::from_bytes(name)).join("f"), "x").unwrap();
            let told = bed.drain().all();
            assert!(told.contains(&key_of(&[name, b"/f"].concat())), "{told:?}");
        }
    });
}

#[test]
fn what_happens_outside_is_not_told() {
    for_both(&with_file, |bed| {
        fs::write(bed.outside.join("f"), "x").unwrap();
        fs::create_dir(bed.outside.join("d")).unwrap();
        fs::rename(bed.outside.join("d"), bed.outside.join("e")).unwrap();
        assert_eq!(bed.drain(), Drained::default());
        // Out: its name is told, what follows is not.
        fs::rename(bed.at("d"), bed.outside.join("out")).unwrap();
        bed.names(&["", "d"]);
        fs::write(bed.outside.join("out/f"), "y").unwrap();
        fs::write(bed.outside.join("out/g"), "y").unwrap();
        assert_eq!(bed.drain(), Drained::default());
    });
}

#[test]
fn a_directory_that_moved_is_to_be_walked_and_told_by_its_new_path() {
    for_both(&with_file, |bed| {
        fs::rename(bed.at("d"), bed.at("e")).unwrap();
        assert_eq!(bed.names(&["", "d", "e"]).subtrees, vec![key("d"), key("e")]);
        fs::write(bed.at("e/f"), "x").unwrap();
        bed.names(&["e/f"]);
        // In from outside, with directories in it.
        fs::create_dir_all(bed.outside.join("in/deep/er")).unwrap();
        fs::write(bed.outside.join("in/deep/er/f"), "x").unwrap();
        bed.drain();
        fs::rename(bed.outside.join("in"), bed.at("e/in")).unwrap();
        assert_eq!(bed.names(&["e", "e/in"]).subtrees, vec![key("e/in")]);
        fs::write(bed.at("e/in/deep/er/f"), "y").unwrap();
        bed.names(&["e/in/deep/er/f"]);
        // One that was renamed above it, and back again before the drain.
        fs::rename(bed.at("e"), bed.at("x")).unwrap();
        fs::write(bed.at("x/in/deep/er/f"), "z").unwrap();
        fs::rename(bed.at("x"), bed.at("e")).unwrap();
        fs::write(bed.at("e/in/deep/er/g"), "z").unwrap();
        assert!(bed.drain().subtrees.contains(&key("e")));
        fs::write(bed.at("e/in/deep/er/g"), "zz").unwrap();
        bed.names(&["e/in/deep/er/g"]);
    });
}

#[test]
fn a_directory_that_took_the_place_of_another_is_to_be_walked() {
    for_both(&with_file, |bed| {
        fs::remove_dir_all(bed.at("d")).unwrap();
        fs::create_dir(bed.at("d")).unwrap();
        assert!(bed.drain().subtrees.contains(&key("d")));
        fs::rename(bed.at("d"), bed.outside.join("d")).unwrap();
        assert_eq!(bed.names(&["", "d"]).subtrees, vec![key("d")]);
        // One walk is enough for all that were in it.
        fs::create_dir_all(bed.at("d/e/f")).unwrap();
        bed.drain();
        fs::remove_dir_all(bed.at("d")).unwrap();
        assert_eq!(bed.drain().subtrees, vec![key("d")]);
    });
}

#[test]
fn directories_and_a_file_made_at_once_are_all_told() {
    for_both(&nothing, |bed| {
        fs::create_dir_all(bed.at("a/b/c/d")).unwrap();
        fs::write(bed.at("a/b/c/d/f"), "x").unwrap();
        let drained = bed.drain();
        let path = key("a/b/c/d/f");
        let told = drained.names.contains(&path)
            || drained.subtrees.iter().any(|top| path.path.is_within(&top.path));
        assert!(told, "{drained:?}");
        fs::write(bed.at("a/b/c/d/f"), "y").unwrap();
        bed.names(&["a/b/c/d/f"]);
    });
}

#[test]
fn a_root_that_moves_is_lost_and_watched_where_it_is() {
    let mut bed = Bed::new("fanotify", &with_file);
    let moved = bed.outside.join("moved");
    fs::rename(&bed.root, &moved).unwrap();
    fs::write(moved.join("d/f"), "x").unwrap();
    assert!(bed.drain().lost);
    fs::write(moved.join("d/f"), "y").unwrap();
    bed.names(&["d/f"]);

    let mut bed = Bed::new("inotify", &with_file);
    fs::rename(&bed.root, bed.outside.join("moved")).unwrap();
    fs::create_dir(bed.outside.join("moved/new")).unwrap();
    bed.drain();
    fs::write(bed.outside.join("moved/new/f"), "x").unwrap();
    bed.names(&["new", "new/f"]);
}

#[test]
fn a_root_that_is_deleted_is_lost_and_one_that_is_missing_an_error() {
    for_both(&nothing, |bed| {
        fs::remove_dir(&bed.root).unwrap();
        // The descriptor keeps the inode: the name is told, or the whole is lost.
        let drained = bed.drain();
        assert!(drained.lost || drained.names == vec![key("")], "{drained:?}");
        for make in [Watch::new, Watch::by_directory] {
            let error = make(&[(TREE, bed.root.clone())]).unwrap_err();
            assert!(matches!(&error, WatchError::Path { path, .. } if *path == bed.root));
        }
    });
}

#[test]
fn two_roots_on_one_file_system_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let trees: Vec<_> = [1, 2].map(|n| (TreeId(n), dir.path().join(n.to_string()))).into();
    for (_, path) in &trees {
        fs::create_dir(path).unwrap();
    }
    for make in [Watch::new, Watch::by_directory] {
        let mut watch = make(&trees).unwrap();
        for (tree, path) in &trees {
            fs::write(path.join("f"), "x").unwrap();
            let told = watch.drain(100).unwrap().names;
            assert!(told.contains(&Key { tree: *tree, path: RelPath::new(b"f").unwrap() }));
            assert!(told.iter().all(|key| key.tree == *tree), "{told:?}");
        }
    }
}

#[test]
fn more_than_asked_for_is_lost() {
    for_both(&nothing, |bed| {
        for number in 0..20 {
            fs::write(bed.at(number.to_string()), "x").unwrap();
        }
        let drained = bed.watch.drain(10).unwrap();
        assert!(drained.lost && drained.all().len() == 10, "{drained:?}");
        assert_eq!(bed.drain(), Drained::default());
    });
}

#[test]
fn an_overflow_is_lost_and_the_watch_goes_on() {
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    let mut bed = Bed::new("inotify", &with_file);
    // Each file makes more than one event.
    for number in 0..limit {
        File::create(bed.at(format!("d/{number}"))).unwrap();
    }
    fs::create_dir_all(bed.at("later/deep")).unwrap();
    assert!(bed.drain().lost);
    fs::write(bed.at("later/deep/f"), "x").unwrap();
    bed.names(&["later/deep", "later/deep/f"]);

    // The other queue has no limit.
    let mut bed = Bed::new("fanotify", &with_file);
    for number in 0..limit {
        File::create(bed.at(format!("d/{number}"))).unwrap();
    }
    let drained = bed.drain();
    assert!(!drained.lost);
    assert_eq!(drained.all().len(), limit + 1);
}

#[test]
fn a_writer_without_end_keeps_nobody_in_a_drain() {
    for_both(&with_file, |bed| {
        let stop = AtomicBool::new(false);
        let path = bed.at("d");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Names that differ, so that events are not merged.
                    let path = path.join((number % 5000).to_string());
                    let file =
                        OpenOptions::new().write(true).create(true).truncate(false).open(path);
                    file.unwrap().write_all(b"x").unwrap();
                }
            });
            let (mut drains, deadline) = (0, Instant::now() + SOON);
            while drains < 20 && Instant::now() < deadline {
                drains += usize::from(!bed.drain().all().is_empty());
            }
            stop.store(true, Ordering::Relaxed);
            assert_eq!(drains, 20);
        });
    });
}

/// The kernel says ENOMEM of a directory that is gone while another file gets its inode number.
#[test]
fn directories_that_come_and_go_elsewhere_lose_nothing() {
    let mut bed = Bed::new("fanotify", &nothing);
    std::thread::scope(|scope| {
        let maker = scope.spawn(|| {
            for number in 0..6_000 {
                let path = bed.outside.join(number.to_string());
                fs::create_dir(&path).unwrap();
                drop(File::create(path.join("f")).unwrap());
                fs::remove_dir_all(&path).unwrap();
            }
        });
        let mut drains = 0;
        while !maker.is_finished() {
            assert!(!bed.watch.drain(100).unwrap().lost);
            drains += 1;
        }
        assert!(drains > 10, "only {drains} drains meanwhile");
    });
}

#[test]
fn waiting_ends_with_an_event() {
    for_both(&with_file, |bed| {
        if bed.watch.kind() == "inotify" {
            assert!(!bed.watch.wait(Duration::ZERO).unwrap());
        }
        let path = bed.at("d/f");
        std::thread::scope(|scope| {
            scope.spawn(|| fs::write(&path, "x").unwrap());
            let deadline = Instant::now() + SOON;
            let mut told = Vec::new();
            // The file system has other users: what wakes may be about something else.
            while told.is_empty() && Instant::now() < deadline {
                if bed.watch.wait(SOON).unwrap() {
                    told = bed.watch.drain(100).unwrap().names;
                }
            }
            assert_eq!(told, vec![key("d/f")]);
        });
    });
}

/// An overlay refuses the mark; a bind mount shows a tree under another path than its file system does.
#[test]
fn overlays_and_bind_mounts_are_watched() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        path
    };
    let (memory, bound, real) = (at("memory"), at("bound"), at("real"));
    // A thread has its own mounts, which end with it.
    let test = move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();

        mount(Some("none"), &memory, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        for name in ["lower", "upper", "work", "merged"] {
            fs::create_dir(memory.join(name)).unwrap();
        }
        fs::write(memory.join("lower/f"), "x").unwrap();
        let mut options = OsString::from("lowerdir=");
        for (word, name) in [("", "lower"), (",upperdir=", "upper"), (",workdir=", "work")] {
            options.push(word);
            options.push(memory.join(name));
        }
        let merged = memory.join("merged");
        let options = Some(options.as_os_str());
        mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), options).unwrap();
        let mut watch = Watch::new(&[(TREE, merged.clone())]).unwrap();
        assert_eq!(watch.kind(), "inotify");
        fs::write(merged.join("f"), "y").unwrap();
        assert!(watch.drain(100).unwrap().names.contains(&key("f")));

        mount(Some(&real), &bound, none, MsFlags::MS_BIND, none).unwrap();
        let mut watch = Watch::new(&[(TREE, bound.clone()), (TreeId(5), real.clone())]).unwrap();
        assert_eq!(watch.kind(), "fanotify");
        fs::create_dir(real.join("d")).unwrap();
        fs::write(real.join("d/f"), "x").unwrap();
        let told = watch.drain(100).unwrap().names;
        for tree in [TREE, TreeId(5)] {
            assert!(told.contains(&Key { tree, ..key("d/f") }), "{told:?}");
        }
    };
    std::thread::spawn(test).join().unwrap();
}
