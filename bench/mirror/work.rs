//! What is done to the tree before it is brought over: the works of the list, the same for every
//! contender.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use clusterd::sim::rng::Rng;
use clusterd_bed::tree::{TreeSpec, WIDE, fill, generate, set_mtime};

use super::Scale;
use crate::table::Goal;

/// The same tree and the same changes in every run.
const SEED: u64 = 1999;
/// One page of a file: what a database writes.
const BLOCK_BYTES: usize = 4096;
/// Blocks that are overwritten in the large file.
const BLOCKS: u64 = 100;
/// What is put in front of the other large file.
const INSERTED_BYTES: usize = 1 << 20;
/// Files up to this size are changed, renamed, deleted.
const SMALL_BYTES_MAX: u64 = 64 * 1024;

/// Bytes that are appended to each of some files.
const APPENDED_BYTES: usize = 1000;
/// Bytes in a new file that takes the place of another one.
const NEW_BYTES: usize = 4000;
/// Bytes in each of many new files.
const CREATED_BYTES: usize = 1000;
/// A file that is rewritten keeps its length, but has at least so many bytes.
const REWRITTEN_BYTES_MIN: usize = 100;
/// Files at which limits for bytes on the wire were set: they grow with the files.
const GOAL_FILES: f64 = 50_000.0;

/// What was done.
#[derive(Debug, Default)]
pub struct Change {
    /// Bytes of content that were written, and are new.
    pub bytes: u64,
    /// Files that were written again.
    pub rewritten: Vec<PathBuf>,
}

/// One change, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing is on the other side yet.
    FirstCopy,
    /// Nothing changed: is it the same?
    Unchanged,
    /// Nothing changed, and the replica's side knows nothing any more but what is on its disk.
    Restart,
    /// The same, with all content compared.
    Proved,
    /// One small file is written.
    OneSmall,
    /// A hundredth of the files is rewritten.
    Rewrite,
    /// Blocks are overwritten in a large file.
    Patch,
    /// The same, where a contender has an option for it.
    PatchHelped,
    /// Something is inserted at the front of a large file.
    Insert,
    /// Something is appended to a fiftieth of the files.
    Append,
    /// A hundredth of the files is new, as many are deleted.
    NewAndDeleted,
    /// A directory with a tenth of the files is renamed.
    RenameDir,
    /// Mode, owner and time of a fiftieth of the files.
    Metadata,
    /// A tenth of the files is made.
    Create,
}

impl Work {
    /// All of them. The first is first.
    pub const ALL: [Work; 14] = [
        Work::FirstCopy,
        Work::Unchanged,
        Work::Restart,
        Work::Proved,
        Work::OneSmall,
        Work::Rewrite,
        Work::Patch,
        Work::PatchHelped,
        Work::Insert,
        Work::Append,
        Work::NewAndDeleted,
        Work::RenameDir,
        Work::Metadata,
        Work::Create,
    ];

    /// What is done, in few words.
    pub fn name(self, scale: Scale) -> String {
        let (files, mb) = (scale.files, |bytes| bytes / 1_000_000);
        match self {
            Work::FirstCopy => "first full copy".into(),
            Work::Unchanged => "unchanged: is it the same?".into(),
            Work::Restart => "unchanged, after a restart".into(),
            Work::Proved => "unchanged, all content proved".into(),
            Work::OneSmall => "one small file, seen on the replica".into(),
            Work::Rewrite => format!("E1 {} files rewritten", files / 100),
            Work::Patch => format!("E2 {BLOCKS} x 4 KiB in {} MB", mb(large_bytes(scale))),
            Work::PatchHelped => {
                format!("E2 {BLOCKS} x 4 KiB in {} MB, rsync --inplace", mb(large_bytes(scale)))
            }
            Work::Insert => {
                format!("E3 1 MiB in front of {} MB", mb(front_bytes(scale)))
            }
            Work::Append => format!("E4 {} files appended to", files / 50),
            Work::NewAndDeleted => format!("E5 {0} new, {0} deleted", files / 100),
            Work::RenameDir => format!("E6 directory of {} renamed", files / 10),
            Work::Metadata => format!("E7 mode, owner, time of {}", files / 50),
            Work::Create => format!("{} files created", files / 10),
        }
    }
}

/// What is asked of clusterd.
impl Work {
    /// In ms, or times rsync's.
    pub fn time_goal(self) -> Option<Goal> {
        match self {
            Work::FirstCopy | Work::Insert => Some(Goal::Times(2.0)),
            Work::Unchanged => Some(Goal::AtMost(5.0)),
            Work::Proved => Some(Goal::Times(1.5)),
            Work::OneSmall => Some(Goal::AtMost(20.0)),
            Work::Rewrite => Some(Goal::Times(4.0)),
            Work::Restart | Work::Patch | Work::Metadata => Some(Goal::Times(5.0)),
            Work::PatchHelped | Work::Append | Work::NewAndDeleted => Some(Goal::Times(3.0)),
            Work::RenameDir => Some(Goal::Times(8.0)),
            // A third of lsyncd's, which does not run here.
            Work::Create => None,
        }
    }

    /// In kB, or times rsync's.
    pub fn wire_goal(self, scale: Scale, change: &Change) -> Option<Goal> {
        let for_files = |kb: f64| Some(Goal::AtMost(kb * scale.files as f64 / GOAL_FILES));
        match self {
            Work::Unchanged | Work::Restart => Some(Goal::AtMost(4.0)),
            Work::Rewrite => Some(Goal::AtMost(1.05 * change.bytes as f64 / 1e3)),
            Work::Patch | Work::PatchHelped => Some(Goal::AtMost(1200.0)),
            Work::Insert => Some(Goal::AtMost(1600.0)),
            Work::Append => Some(Goal::Times(2.0)),
            Work::NewAndDeleted => Some(Goal::Times(1.0)),
            Work::RenameDir => for_files(500.0),
            Work::Metadata => for_files(300.0),
            Work::FirstCopy | Work::Proved | Work::OneSmall | Work::Create => None,
        }
    }

    /// How often it is done and measured.
    pub fn rounds(self, usual: u32) -> u32 {
        /// Small and quick: many of them say more.
        const SMALL_ROUNDS: u32 = 50;
        match self {
            Work::FirstCopy => 1,
            Work::OneSmall => usual.max(SMALL_ROUNDS),
            Work::Unchanged
            | Work::Restart
            | Work::Proved
            | Work::Rewrite
            | Work::Patch
            | Work::PatchHelped
            | Work::Insert
            | Work::Append
            | Work::NewAndDeleted
            | Work::RenameDir
            | Work::Metadata
            | Work::Create => usual,
        }
    }
}

fn large_bytes(scale: Scale) -> u64 {
    scale.bytes * 10 / 63
}

fn front_bytes(scale: Scale) -> u64 {
    scale.bytes * 2 / 63
}

/// The tree, and which of its files are changed.
pub struct Field {
    root: PathBuf,
    scale: Scale,
    rng: Rng,
    /// Files with one name, small, not in the directory that is renamed.
    small: Vec<PathBuf>,
    wide: [PathBuf; 2],
    steps: u64,
}

impl Field {
    /// Makes the tree in `root`, which is empty.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn make(root: &Path, scale: Scale) -> io::Result<Field> {
        let bytes = scale.bytes - large_bytes(scale) - front_bytes(scale);
        generate(root, &TreeSpec { files: scale.files, bytes, seed: SEED, specials: false })?;
        for (name, bytes) in [("large", large_bytes(scale)), ("front", front_bytes(scale))] {
            fill(&mut File::create_new(root.join(name))?, 0, bytes, SEED)?;
        }
        let mut small = Vec::new();
        let mut dirs = vec![root.to_path_buf()];
        while let Some(dir) = dirs.pop() {
            let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
            entries.sort_by_key(fs::DirEntry::file_name);
            for entry in entries {
                let metadata = entry.metadata()?;
                if metadata.is_dir() && entry.file_name() != OsStr::new(WIDE) {
                    dirs.push(entry.path());
                } else if metadata.is_file()
                    && metadata.nlink() == 1
                    && metadata.len() < SMALL_BYTES_MAX
                {
                    small.push(entry.path());
                }
            }
        }
        Ok(Field {
            root: root.to_path_buf(),
            scale,
            rng: Rng::new(SEED),
            small,
            wide: [root.join(WIDE), root.join("wide-renamed")],
            steps: 0,
        })
    }

    /// Writes back what is dirty on its disk, which is also the replica's.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn write_back(&self) -> io::Result<()> {
        Ok(nix::unistd::syncfs(File::open(&self.root)?)?)
    }

    /// Does the work.
    ///
    /// # Errors
    /// What the file system answers.
    pub fn apply(&mut self, work: Work) -> io::Result<Change> {
        self.steps += 1;
        let mut change = Change::default();
        let files = self.scale.files;
        match work {
            Work::FirstCopy | Work::Unchanged | Work::Restart | Work::Proved => {}
            Work::OneSmall => self.rewrite(1, &mut change)?,
            Work::Rewrite => self.rewrite(files / 100, &mut change)?,
            Work::Patch | Work::PatchHelped => self.patch(&mut change)?,
            Work::Insert => {
                let path = self.root.join("front");
                let bytes = [self.bytes(INSERTED_BYTES), fs::read(&path)?].concat();
                change.bytes += INSERTED_BYTES as u64;
                fs::write(path, bytes)?;
            }
            Work::Append => {
                for path in self.pick(files / 50) {
                    let bytes = self.bytes(APPENDED_BYTES);
                    change.bytes += bytes.len() as u64;
                    File::options().append(true).open(path)?.write_all(&bytes)?;
                }
            }
            Work::NewAndDeleted => {
                for path in self.pick(files / 100) {
                    let new = path.with_file_name(format!("new-{}", self.rng.number()));
                    let bytes = self.bytes(NEW_BYTES);
                    change.bytes += bytes.len() as u64;
                    fs::write(&new, bytes)?;
                    fs::remove_file(&path)?;
                    self.small.retain(|known| *known != path);
                    self.small.push(new);
                }
            }
            Work::RenameDir => {
                let [from, to] = &self.wide;
                fs::rename(from, to)?;
                self.wide.reverse();
            }
            Work::Metadata => {
                for path in self.pick(files / 50) {
                    let number = u32::try_from(self.rng.below(1_000_000)).unwrap_or_default();
                    lchown(&path, Some(number), Some(number))?;
                    let mode = 0o600 + number % 0o200;
                    fs::set_permissions(&path, Permissions::from_mode(mode))?;
                    set_mtime(&path, 1_500_000_000, number)?;
                }
            }
            Work::Create => {
                let dir = self.root.join(format!("created-{}", self.steps));
                fs::create_dir(&dir)?;
                for number in 0..files / 10 {
                    let bytes = self.bytes(CREATED_BYTES);
                    change.bytes += bytes.len() as u64;
                    fs::write(dir.join(number.to_string()), bytes)?;
                }
            }
        }
        Ok(change)
    }

    fn rewrite(&mut self, count: usize, change: &mut Change) -> io::Result<()> {
        for path in self.pick(count) {
            let length = usize::try_from(fs::metadata(&path)?.len()).unwrap_or_default();
            let bytes = self.bytes(length.max(REWRITTEN_BYTES_MIN));
            change.bytes += bytes.len() as u64;
            fs::write(&path, bytes)?;
            change.rewritten.push(path);
        }
        Ok(())
    }

    fn patch(&mut self, change: &mut Change) -> io::Result<()> {
        let file = File::options().write(true).open(self.root.join("large"))?;
        for _ in 0..BLOCKS {
            let block = self.rng.below(large_bytes(self.scale) / BLOCK_BYTES as u64);
            file.write_all_at(&self.bytes(BLOCK_BYTES), block * BLOCK_BYTES as u64)?;
            change.bytes += BLOCK_BYTES as u64;
        }
        Ok(())
    }

    /// So many different small files.
    fn pick(&mut self, count: usize) -> Vec<PathBuf> {
        let mut left = count;
        let mut picked = Vec::with_capacity(count);
        for (place, path) in self.small.iter().enumerate() {
            // Each is taken with the chance that leaves anyway (Knuth, algorithm S).
            if self.rng.below((self.small.len() - place) as u64) < left as u64 {
                picked.push(path.clone());
                left -= 1;
            }
        }
        picked
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        let seed = self.rng.number().to_le_bytes();
        blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut bytes);
        bytes
    }
}
