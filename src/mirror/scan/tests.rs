use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, setfsuid};
use proptest::prelude::*;

use super::*;

fn path(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap()
}

fn none() -> Excludes {
    Excludes::new(&[]).unwrap()
}

fn walk(dir: &Path, excludes: &Excludes) -> (Vec<Found>, Summary) {
    let root = Root::open(dir).unwrap();
    let mut walk = Walk::new(&root, excludes).unwrap();
    let found: Vec<_> = walk.by_ref().collect();
    assert_eq!(found.len() as u64, walk.summary().names);
    (found, walk.summary().clone())
}

fn names(found: &[Found]) -> Vec<String> {
    found.iter().map(|found| found.path.to_string()).collect()
}

fn touch(path: &Path) {
    fs::write(path, "").unwrap();
}

#[test]
fn in_the_order_of_keys() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["a/b/c", "a.b", "a0", "b"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
    }
    touch(&dir.path().join("a/file"));
    symlink("a", dir.path().join("a-link")).unwrap();
    let (found, summary) = walk(dir.path(), &none());
    let expected = [".", "a", "a-link", "a.b", "a/b", "a/b/c", "a/file", "a0", "b"];
    assert_eq!(names(&found), expected);
    assert!(found.is_sorted_by_key(|found| found.path.clone()));
    assert_eq!(found[2].sort, Sort::Symlink);
    assert_eq!(found[6].sort, Sort::File);
    let root = Root::open(dir.path()).unwrap();
    for found in &found {
        let quick = meta::quick(&root, &found.path).unwrap();
        assert_eq!(quick, Some((found.seen, found.sort)));
    }
    assert_eq!(summary, Summary { names: 9, ..Summary::default() });
    assert!(!summary.blocks_deleting(&path(b"a/gone")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any tree is walked whole and in order.
    #[test]
    fn whole_and_sorted(paths in prop::collection::vec(
        prop::collection::vec(prop::collection::vec(prop_oneof![Just(b'a'), Just(b'.'), Just(b'-'), Just(b'0'), Just(0xff), Just(b'\n')], 1..4), 1..5), 0..12)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut expected = std::collections::BTreeSet::from([RelPath::root()]);
        for components in paths {
            let Ok(path) = RelPath::new(&components.join(&b'/')) else { continue };
            fs::create_dir_all(dir.path().join(OsStr::from_bytes(path.as_bytes()))).unwrap();
            let mut above = Some(path);
            while let Some(path) = above {
                above = path.parent();
                expected.insert(path);
            }
        }
        let (found, _) = walk(dir.path(), &none());
        let found: Vec<_> = found.into_iter().map(|found| found.path).collect();
        prop_assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn excluded_names_are_not_shown() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["cache/deep", "skip/deep", "www/tmp"] {
        fs::create_dir_all(dir.path().join(name)).unwrap();
        touch(&dir.path().join(name).join("file"));
    }
    nix::unistd::mkfifo(&dir.path().join("skip/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let excludes = ["cache/**", "skip", "**/tmp/"].map(str::to_owned);
    let (found, summary) = walk(dir.path(), &Excludes::new(&excludes).unwrap());
    assert_eq!(names(&found), [".", "cache", "www"]);
    assert_eq!(summary.others.count, 0);
}

#[test]
fn other_kinds_are_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    nix::unistd::mkfifo(&dir.path().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let (found, summary) = walk(dir.path(), &none());
    assert_eq!(names(&found), ["."]);
    let mut others = summary.others.first.clone();
    others.sort();
    let expected = [(path(b"fifo"), "fifo".into()), (path(b"socket"), "socket".into())];
    assert_eq!(others, expected);
    assert!(!summary.blocks_deleting(&path(b"fifo")));
}

#[test]
fn a_thousand_deep() {
    let dir = tempfile::tempdir().unwrap();
    let deepest = ["d"; 1000].join("/");
    fs::create_dir_all(dir.path().join(&deepest)).unwrap();
    let (found, summary) = walk(dir.path(), &none());
    assert_eq!(found.len(), 1001);
    assert_eq!(found.last().unwrap().path, path(deepest.as_bytes()));
    assert_eq!(summary.unknown.count, 0);
}

#[test]
fn deeper_than_a_path_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let name = "x".repeat(255);
    // Made from the deepest, which no single call could name.
    let mut handle = fs::File::open(dir.path()).unwrap();
    for _ in 0..18 {
        let all = nix::sys::stat::Mode::S_IRWXU;
        nix::sys::stat::mkdirat(&handle, name.as_str(), all).unwrap();
        let flags = nix::fcntl::OFlag::O_RDONLY;
        let opened = nix::fcntl::openat(&handle, name.as_str(), flags, all).unwrap();
        handle = opened.into();
    }
    let (found, summary) = walk(dir.path(), &none());
    // 16 components of 255 bytes with their slashes are 4095 bytes.
    assert_eq!(found.len(), 17);
    assert_eq!(summary.others.count, 1);
    assert!(summary.others.first[0].1.contains("longer than the system allows"));
}

/// Without the rights of root, as a disk that cannot be read: nothing below is taken for deleted.
#[test]
fn what_cannot_be_read_is_not_gone() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["closed", "open", "unsearchable"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        touch(&dir.path().join(name).join("file"));
    }
    let mode = |name: &str, bits| {
        fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(bits)).unwrap();
    };
    mode("closed", 0o700);
    mode("unsearchable", 0o744);
    let (found, summary) = thread::scope(|scope| {
        let walk = scope.spawn(|| {
            // For this thread only.
            setfsuid(Uid::from_raw(65534));
            walk(dir.path(), &none())
        });
        walk.join().unwrap()
    });
    assert_eq!(names(&found), [".", "closed", "open", "open/file", "unsearchable"]);
    assert_eq!(summary.unknown.count, 2);
    for (name, blocked) in [
        (b"closed/file".as_slice(), true),
        (b"closed/gone/deep", true),
        (b"unsearchable/file", true),
        (b"open/gone", false),
        (b"closed-not", false),
    ] {
        assert_eq!(summary.blocks_deleting(&path(name)), blocked, "{}", path(name));
    }
}

#[test]
fn too_much_unknown_blocks_everything() {
    let mut summary = Summary::default();
    for n in 0..=WALK_LISTED_MAX {
        assert!(!summary.blocks_deleting(&path(b"elsewhere")));
        summary.unknown.add(path(format!("closed{n}").as_bytes()), "closed");
    }
    assert!(summary.blocks_deleting(&path(b"elsewhere")));
    assert_eq!(summary.unknown.first.len(), WALK_LISTED_MAX);
}

#[test]
fn a_tree_that_goes_away_under_the_walk() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    for name in ["a", "b", "c"] {
        fs::create_dir_all(tree.join(name)).unwrap();
        touch(&tree.join(name).join("file"));
    }
    let excludes = none();
    let root = Root::open(&tree).unwrap();
    let mut walk = Walk::new(&root, &excludes).unwrap();
    assert_eq!(walk.next().unwrap().path, RelPath::root());
    assert_eq!(walk.next().unwrap().path, path(b"a"));
    // A directory that is gone is no mystery, nor is one that is another thing now.
    fs::remove_dir_all(tree.join("b")).unwrap();
    fs::remove_dir_all(tree.join("c")).unwrap();
    symlink("/etc", tree.join("c")).unwrap();
    let rest: Vec<_> = walk.by_ref().map(|found| found.path.to_string()).collect();
    assert_eq!(rest, ["a/file", "b", "c"]);
    assert_eq!(walk.summary().unknown.count, 0);
    // A root that is gone is.
    let mut walk = Walk::new(&root, &excludes).unwrap();
    fs::remove_dir_all(&tree).unwrap();
    assert_eq!(walk.by_ref().count(), 1);
    assert!(walk.summary().blocks_deleting(&path(b"a/file")));
}

/// On a thread with mounts of its own.
#[test]
fn mounts_are_told_and_not_entered() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["tmpfs", "bind", "origin", "file"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        touch(&dir.path().join(name).join("below"));
    }
    let here = |name: &str| dir.path().join(name);
    let thread = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let nothing: Option<&str> = None;
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(nothing, "/", nothing, private, nothing).unwrap();
        mount(nothing, &here("tmpfs"), Some("tmpfs"), MsFlags::empty(), nothing).unwrap();
        touch(&here("tmpfs/file"));
        // The same file system, and a single file.
        mount(Some(&here("origin")), &here("bind"), nothing, MsFlags::MS_BIND, nothing).unwrap();
        let (from, to) = (here("origin/below"), here("file/below"));
        mount(Some(&from), &to, nothing, MsFlags::MS_BIND, nothing).unwrap();

        let (found, summary) = walk(dir.path(), &none());
        assert_eq!(names(&found), [".", "file", "origin", "origin/below"]);
        let unknown: Vec<_> = summary.unknown.first.iter().map(|(path, _)| path.clone()).collect();
        assert_eq!(summary.unknown.count, 3, "{unknown:?}");
        for name in [b"tmpfs/file".as_slice(), b"tmpfs", b"bind/below", b"file/below"] {
            assert!(summary.blocks_deleting(&path(name)));
            let root = Root::open(dir.path()).unwrap();
            let look = meta::look(&root, &path(name));
            assert!(matches!(look, Err(TreeError::Elsewhere(_))), "{}", path(name));
            assert!(matches!(root.open_file(&path(name)), Err(TreeError::Elsewhere(_))));
        }
        let excludes = ["tmpfs", "bind", "file/*"].map(str::to_owned);
        let (_, summary) = walk(dir.path(), &Excludes::new(&excludes).unwrap());
        assert_eq!(summary.unknown.count, 0);
        let root = Root::open(&here("bind")).unwrap();
        assert!(root.is_mount_point().unwrap());
        for name in ["tmpfs", "bind", "file/below"] {
            umount2(&here(name), MntFlags::MNT_DETACH).unwrap();
        }
    };
    thread::scope(|scope| scope.spawn(thread).join().unwrap());
}
