//! The judge must see each kind of difference, or an empty list proves nothing.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::process::Command;

use super::*;
use crate::tree::set_mtime;
use clusterd::sys::path_xattr;

/// Two trees that are the same, with what the changes below need.
fn twins() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let dir = tempfile::tempdir().expect("a directory");
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::create_dir_all(a.join("sub")).expect("a");
    for name in ["file", "sub/other", "names"] {
        fs::write(a.join(name), name).expect("a file");
        path_xattr::set(&a.join(name), c"user.x", b"1").expect("an attribute");
    }
    fs::hard_link(a.join("names"), a.join("sub/names")).expect("a link");
    fs::write(a.join("twin-1"), "same").expect("a file");
    fs::write(a.join("twin-2"), "same").expect("a file");
    symlink("file", a.join("symlink")).expect("a symlink");
    for name in ["file", "sub/other", "names", "twin-1", "twin-2", "symlink", "sub", ""] {
        set_mtime(&a.join(name), 1_000_000_000, 123_456_789).expect("a time");
    }
    let copied = Command::new("cp").arg("-a").args([&a, &b]).status().expect("cp runs");
    assert!(copied.success());
    (dir, a, b)
}

/// An ACL that gives user 7 everything.
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 7, 7), (4, 4, u32::MAX), (0x10, 7, u32::MAX), (0x20, 4, u32::MAX)];
    let words = entries.iter().flat_map(|(tag, rights, id)| {
        [tag.to_le_bytes().as_slice(), &rights.to_le_bytes(), &id.to_le_bytes()].concat()
    });
    2u32.to_le_bytes().into_iter().chain(words).collect()
}

/// The list after `change` to the second tree. Times are put back where the change would move them.
fn seen(change: impl FnOnce(&Path)) -> String {
    let (_dir, a, b) = twins();
    change(&b);
    for dir in ["sub", ""] {
        set_mtime(&b.join(dir), 1_000_000_000, 123_456_789).expect("a time");
    }
    differences(&a, &b).expect("judged").join("\n")
}

fn put_time_back(path: &Path) {
    set_mtime(path, 1_000_000_000, 123_456_789).expect("a time");
}

#[test]
fn the_same_is_the_same() {
    assert_eq!(seen(|_| {}), "");
}

#[test]
fn every_kind_of_difference_is_seen() {
    let content = seen(|b| {
        fs::write(b.join("file"), "FILE").expect("written");
        put_time_back(&b.join("file"));
    });
    assert_eq!(content, ">fc........ file", "same size, same time");
    let nanosecond = seen(|b| set_mtime(&b.join("file"), 1_000_000_000, 123_456_790).expect("set"));
    assert_eq!(nanosecond, ".f..t...... file");
    let of_symlink = seen(|b| set_mtime(&b.join("symlink"), 1_000_000_000, 0).expect("set"));
    assert_eq!(of_symlink, ".L..t...... symlink -> file");
    let mode = seen(|b| {
        fs::set_permissions(b.join("file"), Permissions::from_mode(0o4644)).expect("set");
    });
    assert_eq!(mode, ".f...p..... file");
    let owner = seen(|b| lchown(b.join("file"), Some(54_321), Some(54_322)).expect("set"));
    assert_eq!(owner, ".f....og... file");
    let xattr = seen(|b| path_xattr::set(&b.join("file"), c"user.x", b"2").expect("set"));
    assert_eq!(xattr, ".f........x file");
    let trusted = seen(|b| path_xattr::set(&b.join("sub"), c"trusted.y", b"2").expect("set"));
    assert_eq!(trusted, ".d........x sub/");
    let acl = seen(|b| {
        let file = b.join("file");
        path_xattr::set(&file, c"system.posix_acl_access", &acl()).expect("set");
    });
    assert!(acl.contains("a. file"), "{acl}");
    let extra = seen(|b| drop(File::create(b.join("extra")).expect("made")));
    assert_eq!(extra, "*deleting   extra");
    let missing = seen(|b| fs::remove_file(b.join("sub/other")).expect("removed"));
    assert_eq!(missing, ">f+++++++++ sub/other");
    let target = seen(|b| {
        fs::remove_file(b.join("symlink")).expect("removed");
        symlink("sub/", b.join("symlink")).expect("a symlink");
        put_time_back(&b.join("symlink"));
    });
    assert!(target.starts_with("cLc"), "{target}");
    let kind = seen(|b| {
        fs::remove_file(b.join("file")).expect("removed");
        fs::create_dir(b.join("file")).expect("made");
    });
    assert!(kind.contains(">f+++++++++ file"), "{kind}");
}

#[test]
fn hard_links_are_seen_both_ways() {
    let copy = |b: &Path, from: &str, to: &str| {
        fs::remove_file(b.join(to)).expect("removed");
        let (from, to) = (b.join(from), b.join(to));
        let copied = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
        assert!(copied.success());
    };
    let parted = seen(|b| copy(b, "names", "sub/names"));
    assert!(parted.starts_with("hf"), "{parted}");
    let joined = seen(|b| {
        fs::remove_file(b.join("twin-2")).expect("removed");
        fs::hard_link(b.join("twin-1"), b.join("twin-2")).expect("a link");
    });
    assert!(joined.starts_with("hf") && joined.ends_with("second tree only)"), "{joined}");
}

#[test]
fn times_of_directories_are_seen() {
    let (_dir, a, b) = twins();
    set_mtime(&b.join("sub"), 1_000_000_000, 0).expect("set");
    assert_eq!(differences(&a, &b).expect("judged"), [".d..t...... sub/"]);
    put_time_back(&b.join("sub"));
    set_mtime(&b, 1_000_000_000, 0).expect("set");
    assert_eq!(differences(&a, &b).expect("judged"), [".d..t...... ./"]);
}

#[test]
fn a_missing_root_is_no_empty_tree() {
    let (_dir, a, b) = twins();
    assert!(matches!(differences(&a, &b.join("nowhere")), Err(JudgeError::Root { .. })));
}
