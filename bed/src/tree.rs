//! Trees of files as real servers have them, made from a seed: the same seed makes the same tree, to
//! the nanosecond. For tests, `demo` and bench.
//!
//! | file | subject |
//! | --- | --- |
//! | here | makes a tree with every kind of entry |
//! | `oddity` | what can be odd about a file |
//! | `churn` | changes a tree, as users do |
//! | `stamps` | a writer whose order of writes can be checked |

pub mod churn;
mod oddity;
pub mod stamps;
#[cfg(test)]
mod tests;

use std::ffi::{CStr, OsString};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;

pub use oddity::Oddity;
use oddity::{FOREIGN, PREFIXES, acl_bytes, capability};

use clusterd::sim::rng::Rng;
use clusterd::sys::path_xattr;

/// The directory below the root that holds a tenth of all files.
pub const WIDE: &str = "wide";
/// The directory below the root with others nested in it, [`DEEP_LEVELS`] deep.
pub const DEEP: &str = "deep";
/// How deep.
pub const DEEP_LEVELS: usize = 64;

/// Files in an ordinary directory, on average.
const FILES_IN_DIRECTORY: usize = 12;
/// One in so many files is large: all of them share what the small ones leave of the bytes.
const LARGE_EVERY: usize = 1000;
/// A small file has at most this many bytes.
const SMALL_BYTES_MAX: u64 = 64 * 1024;
/// Of a thousand files, so many have a given oddity.
const ODD_PER_MILLE: u64 = 4;
/// Length of a hole, in bytes.
const HOLE_BYTES: u64 = 1024 * 1024;
/// 2000-01-01 and 2026-01-01, in seconds since 1970: most files are from between.
const USUAL_TIMES: (u64, u64) = (946_684_800, 1_767_225_600);

/// What tree to make.
#[derive(Clone, Copy, Debug)]
pub struct TreeSpec {
    /// Regular files; at least one of each [`Oddity`] is made in any case.
    pub files: usize,
    /// Bytes in them together, about.
    pub bytes: u64,
    /// What it is made from.
    pub seed: u64,
    /// With FIFOs and device nodes, which a mirror reports and does not carry.
    pub specials: bool,
}

/// Makes the tree in `root`, an empty directory whose own mode and time become part of it. Needs root
/// (owners, `trusted.` attributes) and a file system with extended attributes and ACLs.
///
/// # Errors
/// What the file system answers.
pub fn generate(root: &Path, spec: &TreeSpec) -> io::Result<()> {
    let mut maker = Maker { rng: Rng::new(spec.seed), dirs: Vec::new(), homes: vec![root.into()] };
    let mtime = maker.mtime();
    maker.dirs.push((root.into(), Dress { mode: 0o755, owner: None, acl: false, mtime }));
    let files = spec.files.max(Oddity::ALL.len() * 2);
    for number in 0..files / FILES_IN_DIRECTORY + 2 {
        let home = maker.home();
        let name = maker.name(number, &[]);
        let dir = maker.directory(home.join(name))?;
        maker.homes.push(dir);
    }
    let wide = maker.directory(root.join(WIDE))?;
    let mut deep = root.to_path_buf();
    for _ in 0..DEEP_LEVELS {
        deep = maker.directory(deep.join(DEEP))?;
    }
    maker.homes.push(deep);

    let large = files.div_ceil(LARGE_EVERY);
    let average = spec.bytes / files as u64;
    let most = (2 * average).clamp(2, SMALL_BYTES_MAX);
    let mut left = spec.bytes;
    for number in 0..files - large {
        let size = maker.size(most).min(left);
        left -= size;
        let home = if number % 10 == 9 { wide.clone() } else { maker.home() };
        maker.file(&home, number, size, spec)?;
    }
    for number in files - large..files {
        let home = maker.home();
        maker.file(&home, number, left / large as u64, spec)?;
    }
    if spec.specials {
        maker.specials(root)?;
    }
    // What was put into a directory moved its time, and would have inherited from it.
    for (dir, dress) in maker.dirs.iter().rev() {
        dress.put_on(dir)?;
    }
    Ok(())
}

/// Sets the time of the last modification, of a symlink its own.
///
/// # Errors
/// As utimensat(2).
pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: u32) -> io::Result<()> {
    let mtime = TimeSpec::new(seconds, i64::from(nanoseconds));
    Ok(utimensat(AT_FDCWD, path, &TimeSpec::UTIME_OMIT, &mtime, UtimensatFlags::NoFollowSymlink)?)
}

/// Overwrites `bytes` from `from` on with bytes that a seed determines.
///
/// # Errors
/// What the file system answers.
pub fn fill(file: &mut File, from: u64, bytes: u64, seed: u64) -> io::Result<()> {
    let mut source = blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof();
    let mut buffer = vec![0u8; 64 * 1024];
    file.seek(SeekFrom::Start(from))?;
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get_mut(..length).unwrap_or_default();
        source.fill(part);
        file.write_all(part)?;
        left -= length as u64;
    }
    Ok(())
}

/// What a directory gets when everything is in it.
#[derive(Debug)]
struct Dress {
    mode: u32,
    owner: Option<(u32, u32)>,
    acl: bool,
    mtime: (i64, u32),
}

impl Dress {
    fn put_on(&self, dir: &Path) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner {
            lchown(dir, Some(uid), Some(gid))?;
        }
        fs::set_permissions(dir, Permissions::from_mode(self.mode))?;
        if self.acl {
            path_xattr::set(dir, c"system.posix_acl_default", &acl_bytes())?;
        }
        set_mtime(dir, self.mtime.0, self.mtime.1)
    }
}

struct Maker {
    rng: Rng,
    /// Every directory, the root first, in the order in which they were made.
    dirs: Vec<(PathBuf, Dress)>,
    /// Where ordinary files go; the root is the first.
    homes: Vec<PathBuf>,
}

impl Maker {
    fn home(&mut self) -> PathBuf {
        self.rng.one_of(&self.homes).cloned().unwrap_or_default()
    }

    fn mode(&mut self, usual: &[u32]) -> u32 {
        self.rng.one_of(usual).copied().unwrap_or(0o700)
    }

    fn mtime(&mut self) -> (i64, u32) {
        let (first, last) = USUAL_TIMES;
        (self.rng.between(first, last).cast_signed(), self.nanoseconds())
    }

    fn nanoseconds(&mut self) -> u32 {
        u32::try_from(self.rng.below(1_000_000_000)).unwrap_or_default()
    }

    /// Every magnitude equally likely.
    fn size(&mut self, most: u64) -> u64 {
        let magnitude = self.rng.below(u64::from(most.ilog2()) + 1);
        self.rng.between(1 << magnitude, (2 << magnitude).min(most).max(1 << magnitude))
    }

    fn directory(&mut self, path: PathBuf) -> io::Result<PathBuf> {
        let mode = self.mode(&[0o755, 0o755, 0o750, 0o700]);
        let mtime = self.mtime();
        self.dressed(path, Dress { mode, owner: None, acl: false, mtime })
    }

    fn dressed(&mut self, path: PathBuf, dress: Dress) -> io::Result<PathBuf> {
        DirBuilder::new().create(&path)?;
        self.dirs.push((path.clone(), dress));
        Ok(path)
    }

    /// A name of its own: the number is in it.
    fn name(&mut self, number: usize, odd: &[Oddity]) -> OsString {
        let ending = self.rng.one_of(&["", ".html", ".eml", ".php", ".jpg", ".tar.gz", "~"]);
        let ending = ending.copied().unwrap_or_default();
        let usual = self.rng.one_of(&["index", "msg-", ".hidden", "Bild ", "größe", "a"]);
        let mut bytes = match PREFIXES.iter().find(|(oddity, _)| odd.contains(oddity)) {
            Some((_, prefix)) => prefix.to_vec(),
            None => usual.map(|text| text.as_bytes().to_vec()).unwrap_or_default(),
        };
        bytes.extend_from_slice(format!("{number}{ending}").as_bytes());
        if odd.contains(&Oddity::NameLong) {
            bytes.resize(crate::limits::FILE_NAME_BYTES_MAX, b'n');
        }
        OsString::from_vec(bytes)
    }

    fn file(&mut self, home: &Path, number: usize, size: u64, spec: &TreeSpec) -> io::Result<()> {
        // The first files are odd in one way each, so that every way is there.
        let odd: Vec<Oddity> = match Oddity::ALL.get(number) {
            Some(only) => vec![*only],
            None => {
                let mut odd = Oddity::ALL.to_vec();
                odd.retain(|_| self.rng.chance(ODD_PER_MILLE));
                odd
            }
        };
        let path = home.join(self.name(number, &odd));
        let size = if odd.contains(&Oddity::Empty) { 0 } else { size };
        let from = if odd.contains(&Oddity::Hole) { HOLE_BYTES } else { 0 };
        let mut file = File::create_new(&path)?;
        file.set_len(from + size)?;
        fill(&mut file, from, size, spec.seed ^ self.rng.number())?;
        let mode = self.mode(&[0o644, 0o644, 0o600, 0o640, 0o755]);
        file.set_permissions(Permissions::from_mode(mode))?;
        drop(file);
        let mut mtime = self.mtime();
        for oddity in odd {
            self.do_odd(oddity, &path, number, &mut mtime)?;
        }
        set_mtime(&path, mtime.0, mtime.1)
    }

    fn do_odd(
        &mut self,
        oddity: Oddity,
        path: &Path,
        number: usize,
        mtime: &mut (i64, u32),
    ) -> io::Result<()> {
        let mode = |mode| fs::set_permissions(path, Permissions::from_mode(mode));
        let beside = |what: &str| path.with_file_name(format!("{what}-{number}"));
        match oddity {
            // Done when it was made.
            Oddity::Empty
            | Oddity::Hole
            | Oddity::NameNotUtf8
            | Oddity::NameNewline
            | Oddity::NameDash
            | Oddity::NameLong
            | Oddity::NameShell => Ok(()),
            Oddity::Foreign => lchown(path, Some(FOREIGN.0), Some(FOREIGN.1)),
            Oddity::Setuid => mode(0o4755),
            Oddity::Setgid => mode(0o2755),
            Oddity::Sticky => mode(0o1644),
            Oddity::Locked => mode(0),
            Oddity::UserXattr => self.attribute(path, c"user.comment"),
            Oddity::TrustedXattr => self.attribute(path, c"trusted.origin"),
            Oddity::Acl => path_xattr::set(path, c"system.posix_acl_access", &acl_bytes()),
            Oddity::Capability => path_xattr::set(path, c"security.capability", &capability()),
            Oddity::HardLinks => {
                for link in 0..self.rng.between(1, 3) {
                    fs::hard_link(path, self.home().join(format!("link-{number}-{link}")))?;
                }
                Ok(())
            }
            Oddity::SymlinkDangling => {
                self.symlink(Path::new("../nothing/here"), beside("dangling"))
            }
            Oddity::SymlinkAbsolute => self.symlink(Path::new("/etc/hostname"), beside("absolute")),
            Oddity::SymlinkToDirectory => self.symlink(Path::new("."), beside("to-directory")),
            Oddity::EmptyDirectory => self.directory(beside("empty")).map(drop),
            Oddity::SetgidDirectory => {
                let mtime = self.mtime();
                let owner = Some(FOREIGN);
                self.dressed(beside("setgid"), Dress { mode: 0o2775, owner, acl: false, mtime })
                    .map(drop)
            }
            Oddity::AclDirectory => {
                let mtime = self.mtime();
                self.dressed(beside("acl"), Dress { mode: 0o755, owner: None, acl: true, mtime })
                    .map(drop)
            }
            Oddity::BeforeEpoch => {
                mtime.0 = -self.rng.between(1, USUAL_TIMES.0).cast_signed();
                Ok(())
            }
            Oddity::Future => {
                mtime.0 = self.rng.between(2 * USUAL_TIMES.1, 3 * USUAL_TIMES.1).cast_signed();
                Ok(())
            }
        }
    }

    fn attribute(&mut self, path: &Path, name: &CStr) -> io::Result<()> {
        let value: Vec<u8> =
            (0..self.rng.below(8)).flat_map(|_| self.rng.number().to_le_bytes()).collect();
        path_xattr::set(path, name, &value)
    }

    fn symlink(&mut self, target: &Path, path: PathBuf) -> io::Result<()> {
        symlink(target, &path)?;
        let (seconds, nanoseconds) = self.mtime();
        set_mtime(&path, seconds, nanoseconds)
    }

    fn specials(&mut self, root: &Path) -> io::Result<()> {
        let all = [
            ("fifo", SFlag::S_IFIFO, 0),
            // The numbers of /dev/null and of the first loop device (Documentation/admin-guide/devices.txt).
            ("character-device", SFlag::S_IFCHR, makedev(1, 3)),
            ("block-device", SFlag::S_IFBLK, makedev(7, 0)),
        ];
        for (name, kind, device) in all {
            let path = root.join(name);
            mknod(&path, kind, Mode::from_bits_truncate(0o600), device)?;
            let (seconds, nanoseconds) = self.mtime();
            set_mtime(&path, seconds, nanoseconds)?;
        }
        Ok(())
    }
}
