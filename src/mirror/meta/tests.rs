use std::ffi::CStr;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Instant;

use nix::sys::stat::Mode as NixMode;

use super::*;

fn path(bytes: &[u8]) -> RelPath {
    RelPath::new(bytes).unwrap()
}

fn look_at(dir: &Path, name: &str) -> Look {
    look(&Root::open(dir).unwrap(), &path(name.as_bytes())).unwrap().unwrap()
}

fn entry(kind: Kind) -> Entry {
    Entry {
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Stamp { s: 1_000_000_000, ns: 123_456_789 },
        xattrs: Vec::new(),
    }
}

fn of_file() -> Kind {
    Kind::File(super::super::entry::Content { size: 0, chunk_bytes: 1, chunks: Vec::new() })
}

/// What a look must show after `set` of this entry.
fn assert_is(look: &Look, entry: &Entry) {
    assert_eq!((look.mode, look.uid, look.gid), (entry.mode, entry.uid, entry.gid));
    assert_eq!(look.seen.mtime, entry.mtime);
    assert_eq!(look.xattrs, entry.xattrs);
}

fn attribute(name: &str, value: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (name.as_bytes().to_vec(), value.to_vec())
}

/// An ACL as in linux/posix_acl_xattr.h: owner, user 1000, group, mask, others.
fn acl(user: u16, mask: u16) -> Vec<u8> {
    let none = u32::MAX;
    let entries =
        [(0x01, 6, none), (0x02, user, 1000), (0x04, 4, none), (0x10, mask, none), (0x20, 4, none)];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend(u16::to_le_bytes(tag));
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// A file capability as in linux/capability.h: version 2, cap_net_raw.
fn capability() -> Vec<u8> {
    let words: [u32; 5] = [0x0200_0001, 1 << 13, 0, 0, 0];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let here = |name: &str| dir.path().join(name);
    fs::create_dir(here("dir")).unwrap();
    fs::write(here("file"), "seven b").unwrap();
    fs::hard_link(here("file"), here("again")).unwrap();
    symlink(b"target\xff".as_slice().to_os(), here("link")).unwrap();
    nix::unistd::mkfifo(&here("fifo"), NixMode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(here("socket")).unwrap();
    fs::set_permissions(here("file"), fs::Permissions::from_mode(0o4751)).unwrap();
    for (name, what) in [
        ("dir", What::Dir),
        ("file", What::File),
        ("link", What::Symlink(b"target\xff".to_vec())),
        ("fifo", What::Other("fifo")),
        ("socket", What::Other("socket")),
    ] {
        let look = look_at(dir.path(), name);
        assert_eq!(look.what, what);
        let metadata = fs::symlink_metadata(here(name)).unwrap();
        assert_eq!(look.seen.ino, metadata.ino());
        assert_eq!(look.seen.size, metadata.len());
        assert_eq!(look.seen.mtime.s, metadata.mtime());
        assert_eq!(i64::from(look.seen.mtime.ns), metadata.mtime_nsec());
        assert_eq!(look.seen.ctime.s, metadata.ctime());
        assert_eq!(i64::from(look.seen.ctime.ns), metadata.ctime_nsec());
        let root = Root::open(dir.path()).unwrap();
        let (seen, _) = quick(&root, &path(name.as_bytes())).unwrap().unwrap();
        assert_eq!(seen, look.seen);
        assert_eq!(seen_of(root.open_any(&path(name.as_bytes())).unwrap()).unwrap(), seen);
    }
    assert_eq!(look_at(dir.path(), "file").mode, 0o4751);
    assert_eq!(look_at(dir.path(), "file").seen.nlink, 2);
    assert_eq!(look_at(dir.path(), "link").mode, 0);
    let root = Root::open(dir.path()).unwrap();
    for name in ["none", "file/below", "link/below", "dir/none"] {
        assert_eq!(look(&root, &path(name.as_bytes())).unwrap(), None);
        assert_eq!(quick(&root, &path(name.as_bytes())).unwrap(), None);
    }
}

trait ToOs {
    fn to_os(&self) -> &std::ffi::OsStr;
}

impl ToOs for [u8] {
    fn to_os(&self) -> &std::ffi::OsStr {
        std::os::unix::ffi::OsStrExt::from_bytes(self)
    }
}

#[test]
fn everything_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    let root = Root::open(dir.path()).unwrap();
    let long = vec![b'x'; 3000];
    for (name, kind) in [("file", of_file()), ("dir", Kind::Dir)] {
        let mut wanted = entry(kind);
        wanted.mode = 0o6674;
        (wanted.uid, wanted.gid) = (4_000_000_000, 12345);
        wanted.xattrs = vec![
            attribute("security.capability", &capability()),
            attribute("system.posix_acl_access", &acl(6, 7)),
            attribute("trusted.t", b"\0\xff"),
            attribute("user.empty", b""),
            attribute("user.long", &long),
        ];
        if name == "dir" {
            wanted.xattrs.remove(0);
            wanted.xattrs.insert(1, attribute("system.posix_acl_default", &acl(5, 5)));
        }
        set(root.open_any(&path(name.as_bytes())).unwrap(), &wanted).unwrap();
        assert_is(&look_at(dir.path(), name), &wanted);
        // Again: the same. Then replaced, removed, and another owner.
        set_at(File::open(dir.path()).unwrap(), name.as_bytes(), &wanted).unwrap();
        assert_is(&look_at(dir.path(), name), &wanted);
        wanted.mode = 0o4755;
        wanted.uid = 7;
        wanted.xattrs = vec![attribute("user.empty", b"not now")];
        set_at(File::open(dir.path()).unwrap(), name.as_bytes(), &wanted).unwrap();
        assert_is(&look_at(dir.path(), name), &wanted);
    }
}

#[test]
fn an_open_file_can_be_set_too() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    let mut wanted = entry(of_file());
    wanted.mode = 0o4711;
    wanted.uid = 1;
    wanted.xattrs = vec![attribute("security.capability", &capability())];
    set(&file, &wanted).unwrap();
    assert_is(&look_at(dir.path(), "file"), &wanted);
}

#[test]
fn a_symlink_is_set_itself() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let before = look_at(dir.path(), "file");
    let mut wanted = entry(Kind::Symlink { target: b"file".to_vec() });
    wanted.mode = 0;
    (wanted.uid, wanted.gid) = (17, 18);
    set_at(File::open(dir.path()).unwrap(), b"link", &wanted).unwrap();
    assert_is(&look_at(dir.path(), "link"), &wanted);
    assert_eq!(look_at(dir.path(), "file").seen, before.seen);
}

#[test]
fn times_to_the_nanosecond_and_before_1970() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    let accessed = fs::metadata(dir.path().join("file")).unwrap().accessed().unwrap();
    for (s, ns) in [(-1, 999_999_999), (-86_400 * 365, 1), (0, 0), (0, 1), (4_000_000_000, 7)] {
        let mut wanted = entry(of_file());
        wanted.mtime = Stamp { s, ns };
        set(&file, &wanted).unwrap();
        assert_is(&look_at(dir.path(), "file"), &wanted);
    }
    assert_eq!(fs::metadata(dir.path().join("file")).unwrap().accessed().unwrap(), accessed);
    for special in [libc::UTIME_NOW, libc::UTIME_OMIT, 1_000_000_000] {
        let mut wanted = entry(of_file());
        wanted.mtime.ns = special as u32;
        assert_eq!(set(&file, &wanted).unwrap_err().what, "the time");
    }
}

#[test]
fn what_belongs_to_the_host_stays() {
    for name in [
        "security.selinux",
        "security.ima",
        "security.evm",
        "security.SMACK64",
        "system.nfs4_acl",
        "btrfs.compression",
        "user",
    ] {
        assert!(!travels(name.as_bytes()), "{name}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    // Any `security.*` name may be set by root where no module claims it.
    xattr::set(&file, c"security.clusterd_test", b"label").unwrap();
    assert!(look_at(dir.path(), "file").xattrs.is_empty());
    set(&file, &entry(of_file())).unwrap();
    let label = xattr::get(&file, c"security.clusterd_test").unwrap();
    assert_eq!(label.as_deref(), Some(b"label".as_slice()));
    for name in ["security.clusterd_test", "user.\0", "nonsense"] {
        let mut wanted = entry(of_file());
        wanted.xattrs = vec![attribute(name, b"")];
        assert!(set(&file, &wanted).is_err());
    }
}

#[test]
fn a_refusal_names_the_part_and_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    symlink("nowhere", dir.path().join("link")).unwrap();
    let mut wanted = entry(of_file());
    wanted.xattrs = vec![attribute("user.a", b"")];
    let root = Root::open(dir.path()).unwrap();
    let error = set(root.open_any(&path(b"link")).unwrap(), &wanted).unwrap_err();
    assert!(error.to_string().starts_with("the mode could not be set: "), "{error}");
    let error = set_at(File::open(dir.path()).unwrap(), b"none", &wanted).unwrap_err();
    assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
}

/// A file that has just changed is not settled; left alone it becomes so.
#[test]
fn a_look_settles() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !look_at(dir.path(), "file").settled {
        assert!(Instant::now() < deadline);
    }
    let now = Duration::from(clock_gettime(ClockId::CLOCK_REALTIME).unwrap());
    let mut stat = file::stat(File::open(dir.path()).unwrap()).unwrap();
    for (s, ns, settled) in [
        (now.as_secs() as i64 + 100, 1, false),
        (now.as_secs() as i64, 0, false),
        (now.as_secs() as i64 - 100, 0, true),
        (now.as_secs() as i64 - 1, 1, true),
        (-5, 3, true),
    ] {
        stat.ctime = (s, ns);
        assert_eq!(is_settled(&seen(&stat), now), settled, "{s} {ns}");
    }
}

#[test]
fn many_attributes_and_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let file = File::create(dir.path().join("file")).unwrap();
    // More than the first room for names.
    let mut wanted = entry(of_file());
    wanted.xattrs = (0..60).map(|n| attribute(&format!("user.a-long-name-{n:02}"), b"")).collect();
    set(&file, &wanted).unwrap();
    assert_is(&look_at(dir.path(), "file"), &wanted);
    assert_eq!(xattr::get(&file, c"user.none").unwrap(), None);
    let none: &CStr = c"user.none";
    assert!(xattr::remove(&file, none).is_err());
}

/// What ext4 and XFS really show of a time that they cannot hold.
#[test]
fn a_time_that_the_file_system_cannot_hold_is_no_change() {
    let stamp = |s, ns| Stamp { s, ns };
    for (here, meant, is_held) in [
        (stamp(5, 7), stamp(5, 7), true),
        (stamp(5, 0), stamp(5, 7), true),
        (stamp(5, 7), stamp(5, 0), false),
        (stamp(5, 0), stamp(6, 0), false),
        (stamp(2_147_483_647, 0), stamp(2_524_608_000, 500_000_000), true),
        (stamp(2_147_483_647, 0), stamp(2_147_483_646, 0), false),
        (stamp(2_147_483_647, 1), stamp(2_524_608_000, 0), false),
        (stamp(15_032_385_535, 0), stamp(16_725_225_600, 0), true),
        (stamp(-2_147_483_648, 0), stamp(-2_524_521_600, 0), true),
        (stamp(-2_147_483_648, 0), stamp(0, 0), false),
    ] {
        assert_eq!(is_held_time(here, meant), is_held, "{here:?} {meant:?}");
    }
}
