//! Changes a tree, as its users do: each step one seeded change of something that is there. Paths,
//! content, owners and modes come out the same for the same seed; times are those of the clock.

use std::ffi::CStr;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use super::fill;
use clusterd::sim::rng::Rng;
use clusterd::sys::path_xattr;

/// What is written at once at most, in bytes: more than one chunk of the mirror.
const WRITE_BYTES_MAX: u64 = 300_000;
/// Directories are not moved below paths longer than this, in bytes: far from PATH_MAX whatever is
/// below them.
const PARENT_BYTES_MAX: usize = 1000;
const MODES: [u32; 7] = [0o600, 0o644, 0o664, 0o755, 0o4755, 0o2755, 0o444];
const ATTRIBUTE: &CStr = c"user.churn";

/// One kind of change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A new file.
    Create,
    /// All of a file is written again, in place.
    Rewrite,
    /// Some bytes of a file are overwritten; its length stays.
    Overwrite,
    /// Something is added at a file's end.
    Append,
    /// A file is cut.
    Truncate,
    /// A file gets another name, maybe in another directory.
    RenameFile,
    /// The same with a directory and everything below it.
    RenameDir,
    /// A file is moved over another one.
    Replace,
    /// A file is deleted.
    Delete,
    /// Another mode.
    Chmod,
    /// Another owner.
    Chown,
    /// An extended attribute comes, changes or goes.
    Xattr,
    /// A new directory with a file in it.
    MakeDir,
    /// A file is replaced by a directory of its name.
    FileToDir,
    /// ... and back.
    DirToFile,
    /// A file gets one more name.
    Link,
    /// ... and loses it.
    Unlink,
}

impl Change {
    /// All of them.
    pub const ALL: [Change; 17] = [
        Change::Create,
        Change::Rewrite,
        Change::Overwrite,
        Change::Append,
        Change::Truncate,
        Change::RenameFile,
        Change::RenameDir,
        Change::Replace,
        Change::Delete,
        Change::Chmod,
        Change::Chown,
        Change::Xattr,
        Change::MakeDir,
        Change::FileToDir,
        Change::DirToFile,
        Change::Link,
        Change::Unlink,
    ];
}

/// A tree that is changed. Nobody else may add or remove names in it meanwhile.
#[derive(Debug)]
pub struct Churn {
    root: PathBuf,
    rng: Rng,
    steps: u64,
    names: Names,
}

/// What is there.
#[derive(Debug, Default)]
struct Names {
    /// Regular files.
    files: Vec<PathBuf>,
    /// Directories; the root is the first.
    dirs: Vec<PathBuf>,
    /// Directories that were files before.
    swapped: Vec<PathBuf>,
    /// Names that were added to files; they are in `files` too.
    links: Vec<PathBuf>,
}

impl Churn {
    /// Looks at the tree.
    ///
    /// # Errors
    /// It can't be read.
    pub fn new(root: &Path, seed: u64) -> io::Result<Churn> {
        let mut names = Names { dirs: vec![root.to_path_buf()], ..Names::default() };
        let mut next = 0;
        while let Some(dir) = names.dirs.get(next).cloned() {
            next += 1;
            let mut found = fs::read_dir(&dir)?.collect::<io::Result<Vec<_>>>()?;
            // The order of a directory is the file system's affair.
            found.sort_by_key(fs::DirEntry::file_name);
            for entry in found {
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    names.dirs.push(entry.path());
                } else if kind.is_file() {
                    names.files.push(entry.path());
                }
            }
        }
        Ok(Churn { root: root.to_path_buf(), rng: Rng::new(seed), steps: 0, names })
    }

    /// Makes one change, and says which and to what.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn step(&mut self) -> io::Result<(Change, PathBuf)> {
        let wanted = self.rng.one_of(&Change::ALL).copied();
        if let Some(wanted) = wanted
            && let Some(path) = self.make(wanted)?
        {
            return Ok((wanted, path));
        }
        // There is nothing that could change in this way.
        Ok((Change::Create, self.create()?))
    }

    /// Makes a change of that kind and says to what; `None`: nothing there can change so.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn make(&mut self, change: Change) -> io::Result<Option<PathBuf>> {
        self.steps += 1;
        match change {
            Change::Create => self.create().map(Some),
            Change::MakeDir => self.make_dir().map(Some),
            Change::RenameDir => self.rename_dir(),
            Change::DirToFile => self.dir_to_file(),
            Change::Unlink => {
                let Some(path) = self.rng.one_of(&self.names.links).cloned() else {
                    return Ok(None);
                };
                self.delete(path).map(Some)
            }
            Change::Rewrite
            | Change::Overwrite
            | Change::Append
            | Change::Truncate
            | Change::RenameFile
            | Change::Replace
            | Change::Delete
            | Change::Chmod
            | Change::Chown
            | Change::Xattr
            | Change::FileToDir
            | Change::Link => {
                let Some(path) = self.rng.one_of(&self.names.files).cloned() else {
                    return Ok(None);
                };
                self.change_file(change, path)
            }
        }
    }

    fn change_file(&mut self, change: Change, path: PathBuf) -> io::Result<Option<PathBuf>> {
        let seed = self.rng.number();
        let bytes = self.rng.below(WRITE_BYTES_MAX);
        let open = || File::options().write(true).open(&path);
        match change {
            Change::Rewrite => {
                let mut file = open()?;
                file.set_len(0)?;
                fill(&mut file, 0, bytes, seed)?;
            }
            Change::Overwrite => {
                let mut file = open()?;
                let size = file.metadata()?.size();
                let from = self.rng.below(size);
                fill(&mut file, from, bytes.min(size - from), seed)?;
            }
            Change::Append => {
                let mut file = open()?;
                let size = file.metadata()?.size();
                fill(&mut file, size, bytes, seed)?;
            }
            Change::Truncate => {
                let file = open()?;
                let size = file.metadata()?.size();
                file.set_len(self.rng.below(size))?;
            }
            Change::RenameFile => {
                let to = self.new_name("moved");
                fs::rename(&path, &to)?;
                self.names.moved(&path, &to);
            }
            Change::Replace => {
                let Some(over) = self.rng.one_of(&self.names.files).cloned() else {
                    return Ok(None);
                };
                let (from, to) = (fs::metadata(&path)?, fs::metadata(&over)?);
                // rename(2) between two names of one file does nothing.
                if (from.dev(), from.ino()) == (to.dev(), to.ino()) {
                    return Ok(None);
                }
                fs::rename(&path, &over)?;
                self.names.gone(&over);
                self.names.moved(&path, &over);
            }
            Change::Delete => return self.delete(path).map(Some),
            Change::Chmod => {
                let mode = self.rng.one_of(&MODES).copied().unwrap_or(0o600);
                fs::set_permissions(&path, Permissions::from_mode(mode))?;
            }
            Change::Chown => {
                let id = u32::try_from(self.rng.between(50_000, 60_000)).unwrap_or_default();
                lchown(&path, Some(id), Some(id + 1))?;
            }
            Change::Xattr => {
                if path_xattr::has(&path, ATTRIBUTE)? && self.rng.chance(500) {
                    path_xattr::remove(&path, ATTRIBUTE)?;
                } else {
                    path_xattr::set(&path, ATTRIBUTE, &seed.to_le_bytes())?;
                }
            }
            Change::FileToDir => {
                fs::remove_file(&path)?;
                self.names.gone(&path);
                self.new_dir(&path)?;
                self.names.swapped.push(path.clone());
            }
            Change::Link => {
                let to = self.new_name("link");
                fs::hard_link(&path, &to)?;
                self.names.files.push(to.clone());
                self.names.links.push(to);
            }
            Change::Create
            | Change::RenameDir
            | Change::MakeDir
            | Change::DirToFile
            | Change::Unlink => return Ok(None),
        }
        Ok(Some(path))
    }

    fn create(&mut self) -> io::Result<PathBuf> {
        let path = self.new_name("new");
        self.write_new(&path)?;
        Ok(path)
    }

    fn make_dir(&mut self) -> io::Result<PathBuf> {
        let path = self.new_name("dir");
        self.new_dir(&path)?;
        Ok(path)
    }

    fn new_dir(&mut self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)?;
        self.names.dirs.push(path.to_path_buf());
        self.write_new(&path.join("inside"))
    }

    fn write_new(&mut self, path: &Path) -> io::Result<()> {
        let (bytes, seed) = (self.rng.below(WRITE_BYTES_MAX), self.rng.number());
        fill(&mut File::create_new(path)?, 0, bytes, seed)?;
        self.names.files.push(path.to_path_buf());
        Ok(())
    }

    fn delete(&mut self, path: PathBuf) -> io::Result<PathBuf> {
        fs::remove_file(&path)?;
        self.names.gone(&path);
        Ok(path)
    }

    fn rename_dir(&mut self) -> io::Result<Option<PathBuf>> {
        let Some(from) = self.rng.one_of(&self.names.dirs).cloned() else { return Ok(None) };
        let to = self.new_name("moved-dir");
        if from == self.root || to.starts_with(&from) {
            return Ok(None);
        }
        fs::rename(&from, &to)?;
        self.names.moved(&from, &to);
        Ok(Some(to))
    }

    fn dir_to_file(&mut self) -> io::Result<Option<PathBuf>> {
        let Some(path) = self.rng.one_of(&self.names.swapped).cloned() else { return Ok(None) };
        fs::remove_dir_all(&path)?;
        self.names.gone(&path);
        self.write_new(&path)?;
        Ok(Some(path))
    }

    /// A path that is not there, in some directory.
    fn new_name(&mut self, what: &str) -> PathBuf {
        let dir = self
            .rng
            .one_of(&self.names.dirs)
            .cloned()
            .filter(|dir| dir.as_os_str().len() < PARENT_BYTES_MAX)
            .unwrap_or_else(|| self.root.clone());
        dir.join(format!("{what}-{}-{:08x}", self.steps, self.rng.number() >> 32))
    }
}

impl Names {
    fn lists(&mut self) -> [&mut Vec<PathBuf>; 4] {
        [&mut self.files, &mut self.dirs, &mut self.swapped, &mut self.links]
    }

    fn gone(&mut self, path: &Path) {
        for list in self.lists() {
            list.retain(|known| !known.starts_with(path));
        }
    }

    fn moved(&mut self, from: &Path, to: &Path) {
        for known in self.lists().into_iter().flatten() {
            if let Ok(rest) = known.strip_prefix(from) {
                *known = if rest.as_os_str().is_empty() { to.into() } else { to.join(rest) };
            }
        }
    }
}
