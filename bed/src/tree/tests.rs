//! The generator makes what it says, twice the same; churn changes in every way; the stamps' check
//! sees what it is there for.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::Duration;

use super::churn::{Change, Churn};
use super::stamps::{How, StampError, Stamper, check_stamps};
use super::*;
use crate::judge::differences;
use crate::limits;

fn made(spec: TreeSpec) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    generate(dir.path(), &spec).expect("a tree");
    dir
}

const SMALL: TreeSpec = TreeSpec { files: 400, bytes: 4_000_000, seed: 7, specials: false };

/// Every path below `root`, and its metadata.
fn look(root: &Path) -> Vec<(PathBuf, fs::Metadata)> {
    let mut found = vec![(root.to_path_buf(), fs::symlink_metadata(root).expect("a root"))];
    let mut next = 0;
    while let Some((path, metadata)) = found.get(next).cloned() {
        next += 1;
        if metadata.is_dir() {
            for entry in fs::read_dir(path).expect("a directory") {
                let path = entry.expect("an entry").path();
                let metadata = fs::symlink_metadata(&path).expect("metadata");
                found.push((path, metadata));
            }
        }
    }
    found
}

#[test]
fn everything_is_there() {
    let tree = made(TreeSpec { specials: true, ..SMALL });
    let all = look(tree.path());
    let name = |path: &Path| path.file_name().unwrap_or_default().as_bytes().to_vec();
    let has = |path: &Path, attribute| path_xattr::has(path, attribute).expect("an attribute");
    let future = USUAL_TIMES.1.cast_signed() + 1;
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    let mut names_of: BTreeMap<u64, BTreeSet<&Path>> = BTreeMap::new();
    let (mut files, mut bytes) = (0, 0);
    for (path, metadata) in &all {
        let kind = metadata.file_type();
        let name = name(path);
        let mut note = |what, is: bool| is.then(|| seen.insert(what));
        note("no UTF-8", std::str::from_utf8(&name).is_err());
        note("newline", name.contains(&b'\n'));
        note("dash", name.starts_with(b"-"));
        note("255 bytes", name.len() == limits::FILE_NAME_BYTES_MAX);
        note("blank", name.starts_with(b" *?"));
        note("hidden", name.starts_with(b"."));
        note("nanoseconds", metadata.mtime_nsec() % 1000 != 0);
        note("before 1970", kind.is_file() && metadata.mtime() < 0);
        note("future", kind.is_file() && metadata.mtime() > future);
        note(
            "deep",
            path.components().filter(|part| part.as_os_str() == DEEP).count() == DEEP_LEVELS,
        );
        note("fifo", kind.is_fifo());
        note("character device", kind.is_char_device());
        note("block device", kind.is_block_device());
        if kind.is_symlink() {
            let target = fs::read_link(path).expect("a target");
            note("absolute symlink", target.is_absolute());
            note("dangling symlink", !path.exists());
            note("symlink to a directory", path.is_dir());
        } else if kind.is_dir() {
            note("empty directory", fs::read_dir(path).expect("a directory").next().is_none());
            note("setgid directory", metadata.mode() & 0o2000 != 0 && metadata.gid() == FOREIGN.1);
            note("default ACL", has(path, c"system.posix_acl_default"));
        } else if kind.is_file() {
            note("empty", metadata.len() == 0);
            note("hole", metadata.blocks() * 512 < metadata.len());
            note("foreign", (metadata.uid(), metadata.gid()) == FOREIGN);
            note("setuid", metadata.mode() & 0o4000 != 0);
            note("setgid", metadata.mode() & 0o2000 != 0);
            note("sticky", metadata.mode() & 0o1000 != 0);
            note("mode 0", metadata.mode() & 0o7777 == 0);
            note("user xattr", has(path, c"user.comment"));
            note("trusted xattr", has(path, c"trusted.origin"));
            note("ACL", has(path, c"system.posix_acl_access"));
            note("capability", has(path, c"security.capability"));
            let dirs = names_of.entry(metadata.ino()).or_default();
            if dirs.is_empty() {
                files += 1;
                bytes += metadata.len();
            }
            dirs.insert(path.parent().expect("a directory"));
            note("hard links in two directories", dirs.len() > 1);
        }
    }
    let expected = [
        "255 bytes",
        "ACL",
        "absolute symlink",
        "before 1970",
        "blank",
        "block device",
        "capability",
        "character device",
        "dangling symlink",
        "dash",
        "deep",
        "default ACL",
        "empty",
        "empty directory",
        "fifo",
        "foreign",
        "future",
        "hard links in two directories",
        "hidden",
        "hole",
        "mode 0",
        "nanoseconds",
        "newline",
        "no UTF-8",
        "setgid",
        "setgid directory",
        "setuid",
        "sticky",
        "symlink to a directory",
        "trusted xattr",
        "user xattr",
    ];
    let seen: Vec<&str> = seen.into_iter().collect();
    assert_eq!(seen, expected);
    assert_eq!(files, SMALL.files);
    let holes = HOLE_BYTES * 20;
    assert!((SMALL.bytes / 2..SMALL.bytes + holes).contains(&bytes), "{bytes} bytes");
    let wide = fs::read_dir(tree.path().join(WIDE)).expect("a directory").count();
    assert!(wide >= SMALL.files / 10 - 1, "{wide} files");
}

#[test]
fn a_seed_makes_one_tree() {
    let (first, second) = (made(SMALL), made(SMALL));
    assert_eq!(differences(first.path(), second.path()).expect("judged"), Vec::<String>::new());
    let other = made(TreeSpec { seed: 8, ..SMALL });
    assert!(!differences(first.path(), other.path()).expect("judged").is_empty());
}

#[test]
fn specials_come_only_when_asked_for() {
    let tree = made(SMALL);
    let plain = |metadata: &fs::Metadata| {
        metadata.is_dir() || metadata.is_file() || metadata.file_type().is_symlink()
    };
    assert!(look(tree.path()).iter().all(|(_, metadata)| plain(metadata)));
}

/// Everything that a seed determines in a churned tree: all but times and inodes.
fn state(root: &Path) -> BTreeMap<PathBuf, (u32, u32, Vec<u8>)> {
    look(root)
        .into_iter()
        .map(|(path, metadata)| {
            let content =
                if metadata.is_file() { fs::read(&path).expect("content") } else { vec![] };
            let path = path.strip_prefix(root).expect("below").to_path_buf();
            (path, (metadata.mode(), metadata.uid(), content))
        })
        .collect()
}

#[test]
fn churn_changes_in_every_way_and_by_its_seed() {
    let trees = [made(SMALL), made(SMALL)];
    let mut done = Vec::new();
    for tree in &trees {
        let mut churn = Churn::new(tree.path(), 3).expect("a tree");
        let mut steps = Vec::new();
        for _ in 0..600 {
            let (change, path) = churn.step().expect("a change");
            steps.push((change, path.strip_prefix(tree.path()).expect("below").to_path_buf()));
        }
        done.push(steps);
    }
    let [first, second] = &trees;
    assert_eq!(done.first(), done.last());
    assert_eq!(state(first.path()), state(second.path()));
    let kinds: BTreeSet<Change> = done.iter().flatten().map(|(change, _)| *change).collect();
    assert_eq!(kinds, BTreeSet::from(Change::ALL));
    assert_ne!(state(first.path()), state(made(SMALL).path()));
}

#[test]
fn churn_in_an_empty_tree_begins_with_a_file() {
    let tree = tempfile::tempdir().expect("a directory");
    let mut churn = Churn::new(tree.path(), 1).expect("a tree");
    assert_eq!(churn.make(Change::Delete).expect("no error"), None);
    for _ in 0..50 {
        churn.step().expect("a change");
    }
    assert!(look(tree.path()).len() > 1);
}

#[test]
fn stamps_are_in_order_and_a_planted_violation_is_seen() {
    for how in [How::Rename, How::InPlace] {
        let tree = tempfile::tempdir().expect("a directory");
        let dir = tree.path();
        assert_eq!(check_stamps(dir).expect("nothing yet"), None);
        let mut stamper = Stamper::new(dir, how).expect("a stamper");
        for number in 1..=3 {
            assert_eq!(stamper.stamp().expect("stamped"), number);
            assert_eq!(check_stamps(dir).expect("in order"), Some(number));
        }
        let (file, manifest) = (dir.join("stamped-17"), dir.join("manifest"));
        let (old_file, old_manifest) =
            (fs::read(&file).expect("a file"), fs::read(&manifest).expect("a manifest"));
        stamper.stamp().expect("stamped");

        let new_file = fs::read(&file).expect("a file");
        fs::write(&file, &old_file).expect("planted");
        match check_stamps(dir) {
            Err(StampError::Older { manifest: 4, file, number: 3 }) => {
                assert_eq!(file, "stamped-17")
            }
            other => panic!("{other:?}"),
        }
        fs::write(&manifest, old_manifest).expect("the older manifest");
        assert_eq!(check_stamps(dir).expect("files may be newer"), Some(3));

        let half = [new_file.split_at(6300 / 2).0, old_file.split_at(6300 / 2).1].concat();
        fs::write(&file, half).expect("planted");
        assert!(matches!(check_stamps(dir), Err(StampError::Torn { first: 3, last: 4, .. })));
        fs::write(&file, new_file.split_at(2100).0).expect("planted");
        assert!(matches!(check_stamps(dir), Err(StampError::Torn { lines: 100, .. })));
        fs::remove_file(&file).expect("planted");
        assert!(matches!(check_stamps(dir), Err(StampError::Missing { .. })));
    }
}

#[test]
fn a_stamper_runs_until_it_is_finished() {
    let tree = tempfile::tempdir().expect("a directory");
    let stamping = Stamper::new(tree.path(), How::Rename)
        .expect("a stamper")
        .start(Duration::ZERO)
        .expect("a thread");
    let deadline = std::time::Instant::now() + limits::BED_EFFECT_WITHIN;
    while stamping.number() < 3 {
        assert!(std::time::Instant::now() < deadline, "it stamps");
        std::thread::yield_now();
    }
    let last = stamping.finish().expect("finished");
    assert_eq!(check_stamps(tree.path()).expect("in order"), Some(last));
    let again = Stamper::new(tree.path(), How::Rename).expect("a stamper").stamp();
    assert_eq!(again.expect("stamped"), last + 1);
}
