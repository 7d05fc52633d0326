use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::*;
use crate::limits;

fn path(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap()
}

fn read(root: &Root, name: &[u8]) -> Result<String, TreeError> {
    let mut text = String::new();
    root.open_file(&path(name))?.read_to_string(&mut text).unwrap();
    Ok(text)
}

#[test]
fn a_root_is_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    assert!(matches!(Root::open(&dir.path().join("none")), Err(TreeError::Missing(_))));
    assert!(matches!(Root::open(&dir.path().join("file")), Err(TreeError::NotADirectory(_))));
    assert!(matches!(Root::open(&dir.path().join("file/x")), Err(TreeError::NotADirectory(_))));
    assert!(Root::open(dir.path()).is_ok());
}

#[test]
fn an_identity_is_that_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    fs::create_dir(&a).unwrap();
    let before = Root::open(&a).unwrap().identity();
    assert_eq!(before, Root::open(&a).unwrap().identity());
    // Moved it is the same, replaced it is not.
    fs::rename(&a, &b).unwrap();
    fs::create_dir(&a).unwrap();
    assert_eq!(before, Root::open(&b).unwrap().identity());
    assert_ne!(before, Root::open(&a).unwrap().identity());
    assert_ne!(before.fsid, Root::open(Path::new("/proc")).unwrap().identity().fsid);
}

/// An XFS in a file, on a loop device that is given back at the end.
struct Loop {
    device: String,
}

impl Loop {
    fn new(image: &Path) -> Loop {
        let out = Command::new("losetup").args(["--find", "--show"]).arg(image).output().unwrap();
        assert!(out.status.success(), "{out:?}");
        Loop { device: String::from_utf8(out.stdout).unwrap().trim().to_owned() }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", &["--detach", &self.device]);
    }
}

fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program).args(arguments).output().unwrap();
    assert!(out.status.success(), "{program} {arguments:?}: {out:?}");
}

/// After a boot a disk may have another number; the file system on it is the same. Needs root.
#[test]
fn an_xfs_is_known_by_its_uuid_on_whatever_device() {
    let dir = tempfile::tempdir().unwrap();
    let (image, mount) = (dir.path().join("image"), dir.path().join("mount"));
    fs::create_dir(&mount).unwrap();
    fs::File::create(&image).unwrap().set_len(400 << 20).unwrap();
    run("mkfs.xfs", &["-q", image.to_str().unwrap()]);
    let look = |device: &Loop| {
        let at = mount.to_str().unwrap();
        run("mount", &["-t", "xfs", &device.device, at]);
        fs::create_dir_all(mount.join("www")).unwrap();
        let root = Root::open(&mount.join("www"));
        let seen = root.map(|root| (root.identity(), root.identity_before()));
        run("umount", &[at]);
        seen.unwrap()
    };
    let first = Loop::new(&image);
    let (is, was) = look(&first);
    assert_eq!((is, was), look(&first));
    // Another device, as the first one is taken.
    let second = Loop::new(&image);
    let (now, now_before) = look(&second);
    assert_ne!(was, now_before, "it has another device number");
    assert_eq!(is, now);
    // Another file system at its place is another one.
    run("mkfs.xfs", &["-q", "-f", &second.device]);
    assert_ne!(is, look(&second).0);
    drop(first);
}

#[test]
fn mount_points_are_known() {
    let dir = tempfile::tempdir().unwrap();
    assert!(!Root::open(dir.path()).unwrap().is_mount_point().unwrap());
    assert!(Root::open(Path::new("/proc")).unwrap().is_mount_point().unwrap());
}

#[test]
fn symlinks_lead_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    fs::create_dir_all(tree.join("dir")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    fs::write(tree.join("dir/file"), "inside").unwrap();
    symlink(&outside, tree.join("out")).unwrap();
    symlink("dir", tree.join("in")).unwrap();
    symlink("dir/file", tree.join("link")).unwrap();
    symlink("/proc/self/cwd", tree.join("magic")).unwrap();
    let root = Root::open(&tree).unwrap();
    assert_eq!(read(&root, b"dir/file").unwrap(), "inside");
    for name in ["out/secret", "in/file", "magic/Cargo.toml", "none", "dir/file/x"] {
        let name = path(name.as_bytes());
        assert!(matches!(root.open_any(&name), Err(TreeError::Gone(_))), "{name}");
        assert!(matches!(root.open_file(&name), Err(TreeError::Gone(_))), "{name}");
    }
    for name in ["out", "in", "magic"] {
        let name = path(name.as_bytes());
        assert!(matches!(root.open_dir(&name), Err(TreeError::Gone(_))), "{name}");
        let inside = name.join(b"x").unwrap();
        assert!(matches!(root.open_parent(&inside), Err(TreeError::Gone(_))), "{name}");
        assert_eq!(file::stat(root.open_any(&name).unwrap()).unwrap().kind(), libc::S_IFLNK);
    }
    assert!(matches!(root.open_file(&path(b"link")), Err(TreeError::NotAFile(_))));
    assert!(matches!(root.open_file(&path(b"dir")), Err(TreeError::NotAFile(_))));
    assert!(matches!(root.open_parent(&RelPath::root()), Err(TreeError::IsRoot(_))));
    let name = path(b"dir/new");
    let (parent, name) = root.open_parent(&name).unwrap();
    assert_eq!(name, b"new");
    nix::sys::stat::mkdirat(&parent, name, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(tree.join("dir/new").is_dir());
}

#[test]
fn a_path_cannot_escape() {
    let dir = tempfile::tempdir().unwrap();
    for way in ["..", "../x", "a/../..", "/etc/passwd", "."] {
        assert!(RelPath::new(way.as_bytes()).is_err());
        // Nor if such bytes came so far.
        if way != "." {
            let handle = File::open(dir.path()).unwrap();
            assert!(open_below(&handle, way.as_bytes(), OFlag::empty()).is_err(), "{way}");
        }
    }
}

#[test]
fn a_fifo_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("fifo");
    nix::unistd::mkfifo(&name, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let root = Root::open(dir.path()).unwrap();
    assert!(matches!(root.open_file(&path(b"fifo")), Err(TreeError::NotAFile(_))));
}

#[test]
fn reading_leaves_the_access_time() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("file");
    fs::write(&name, "text").unwrap();
    let old = std::time::SystemTime::UNIX_EPOCH;
    File::open(&name).unwrap().set_times(fs::FileTimes::new().set_accessed(old)).unwrap();
    assert_eq!(read(&Root::open(dir.path()).unwrap(), b"file").unwrap(), "text");
    assert_eq!(fs::metadata(&name).unwrap().accessed().unwrap(), old);
}

/// While someone swaps a directory for a symlink to one outside again and again, nothing outside is
/// ever read.
#[test]
fn a_directory_swapped_for_a_symlink() {
    let dir = tempfile::tempdir().unwrap();
    let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
    fs::create_dir_all(tree.join("a")).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    fs::write(tree.join("a/file"), "inside").unwrap();
    symlink(&outside, tree.join("b")).unwrap();
    let root = Root::open(&tree).unwrap();
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (a, b) = (tree.join("a"), tree.join("b"));
            while !end.load(Ordering::Relaxed) {
                renameat2(AT_FDCWD, &a, AT_FDCWD, &b, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        let (mut inside, mut gone) = (0, 0);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while (inside < 500 || gone < 500) && std::time::Instant::now() < deadline {
            match read(&root, b"a/file") {
                Ok(text) => {
                    assert_eq!(text, "inside");
                    inside += 1;
                }
                Err(TreeError::Gone(_)) => gone += 1,
                Err(error) => panic!("{error}"),
            }
        }
        end.store(true, Ordering::Relaxed);
        assert!(inside > 0 && gone > 0, "{inside} {gone}");
    });
}

#[test]
fn names_of_any_bytes() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let longest = [b'x'; limits::FILE_NAME_BYTES_MAX];
    let root = Root::open(dir.path()).unwrap();
    for name in [b"\xff\xfe".as_slice(), b"a\nb", b"-rf", b" ", b"\\", b"...", &longest] {
        fs::write(dir.path().join(OsStr::from_bytes(name)), "here").unwrap();
        assert_eq!(read(&root, name).unwrap(), "here");
    }
}
