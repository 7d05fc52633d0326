//! A walk over everything below a root.
//!
//! Names come in the order of [`Key`](super::entry::Key), so that a walk and an index can be merged as
//! they stream: what the index has and the walk has not may be gone. Before it is taken for deleted:
//! - the root must be the same as before, after the walk as well ([`Root::identity`]);
//! - [`Summary::blocks_deleting`] must not say so;
//! - it must not be excluded (the config may have changed since);
//! - [`quick`](super::meta::quick) must not find it: it may have come after its directory was read.
//!
//! What a name shows is as of the moment when its directory was read.

use std::ffi::CString;
use std::io;

use nix::dir::Dir;
use nix::errno::Errno;

use super::entry::{RelPath, Seen};
use super::exclude::Excludes;
use super::meta::{self, Sort};
use super::tree::{Root, TreeError};
use crate::limits::WALK_LISTED_MAX;
use crate::sys::file;

/// A name that a walk met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its path.
    pub path: RelPath,
    /// A directory, a regular file or a symlink; others are in the [`Summary`].
    pub sort: Sort,
    /// To be compared with what was seen before.
    pub seen: Seen,
}

/// Names with a word about each: the first ones, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// At most [`WALK_LISTED_MAX`].
    pub first: Vec<(RelPath, String)>,
    /// All.
    pub count: u64,
}

impl Listed {
    fn add(&mut self, path: RelPath, word: impl Into<String>) {
        self.count += 1;
        if self.first.len() < WALK_LISTED_MAX {
            self.first.push((path, word.into()));
        }
    }

    fn is_whole(&self) -> bool {
        self.first.len() as u64 == self.count
    }
}

/// What a walk did not show. Complete when the walk has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Names that were shown.
    pub names: u64,
    /// Directories and names that could not be read, mount points and subvolumes, with the reason:
    /// nothing is known of what is there and below.
    pub unknown: Listed,
    /// Names of kinds that are not mirrored, with the kind.
    pub others: Listed,
}

impl Summary {
    /// Whether it must not be concluded that this name is gone, though it was not shown.
    pub fn blocks_deleting(&self, path: &RelPath) -> bool {
        !self.unknown.is_whole()
            || self.unknown.first.iter().any(|(unknown, _)| path.is_within(unknown))
    }
}

/// The walk: an iterator over the names. One directory is open at a time, and only while its names are
/// read; in memory are the names of the directories from the root to the one that was read last.
#[derive(Debug)]
pub struct Walk<'a> {
    root: &'a Root,
    excludes: &'a Excludes,
    levels: Vec<Level>,
    summary: Summary,
}

#[derive(Debug)]
struct Level {
    directory: RelPath,
    steps: std::vec::IntoIter<Step>,
}

/// Ordered by `name`. A directory has two steps: `a` is shown, `a/` descends. Between them is what sorts
/// between a directory and its content, such as `a.b`.
#[derive(Debug)]
struct Step {
    name: Vec<u8>,
    /// `None`: descend.
    shows: Option<(Sort, Seen)>,
}

impl<'a> Walk<'a> {
    /// Begins a walk. The root itself is the first name.
    ///
    /// # Errors
    /// `TreeError::Missing` or `Io`.
    pub fn new(root: &'a Root, excludes: &'a Excludes) -> Result<Walk<'a>, TreeError> {
        let mut walk = Walk { root, excludes, levels: Vec::new(), summary: Summary::default() };
        let Some((seen, sort)) = meta::quick(root, &RelPath::root())? else {
            return Err(TreeError::Missing(root.place(&RelPath::root())));
        };
        let mut top = Vec::new();
        add_steps(&mut top, Vec::new(), sort, seen);
        walk.push(RelPath::root(), top);
        Ok(walk)
    }

    /// Begins a walk over a directory below the root, which is the first name. One that is not there any
    /// more shows nothing.
    ///
    /// # Errors
    /// `TreeError::Elsewhere` or `Io`.
    pub fn below(
        root: &'a Root,
        excludes: &'a Excludes,
        directory: &RelPath,
    ) -> Result<Walk<'a>, TreeError> {
        let mut walk = Walk { root, excludes, levels: Vec::new(), summary: Summary::default() };
        if let (Some((seen, sort)), Some(parent)) =
            (meta::quick(root, directory)?, directory.parent())
            && !excludes.matches(directory, sort == Sort::Dir)
        {
            let mut top = Vec::new();
            add_steps(&mut top, directory.name().to_vec(), sort, seen);
            walk.push(parent, top);
        }
        Ok(walk)
    }

    /// What was not shown until now.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    fn push(&mut self, directory: RelPath, steps: Vec<Step>) {
        self.levels.push(Level { directory, steps: steps.into_iter() });
    }

    /// Reads the names of a directory and what they are. One that has gone meanwhile has none; but a
    /// root that has gone does not mean that everything was deleted.
    fn descend(&mut self, directory: RelPath) {
        let mut steps = Vec::new();
        match self.read(&directory, &mut steps) {
            Ok(()) => {}
            Err(TreeError::Gone(_)) if !directory.is_root() => {}
            Err(error) => self.summary.unknown.add(directory.clone(), error.to_string()),
        }
        steps.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        self.push(directory, steps);
    }

    /// Adds the steps of what was read before an error, too.
    fn read(&mut self, directory: &RelPath, steps: &mut Vec<Step>) -> Result<(), TreeError> {
        let root = self.root;
        let failed = |error: io::Error| root.io_error(directory, error);
        let opened = Dir::from_fd(root.open_dir(directory)?.into());
        let mut opened = opened.map_err(|errno| failed(errno.into()))?;
        let mut names = Vec::new();
        let end = opened.iter().try_for_each(|entry| {
            names.push(entry?.file_name().to_owned());
            Ok::<_, Errno>(())
        });
        for name in names {
            if !matches!(name.to_bytes(), b"." | b"..") {
                self.meet(directory, &opened, name, steps);
            }
        }
        end.map_err(|errno| failed(errno.into()))?;
        // One that was removed reads as if it were empty.
        match file::stat(&opened).map_err(failed)?.nlink {
            0 => Err(TreeError::Gone(root.place(directory))),
            _ => Ok(()),
        }
    }

    /// Looks at one name of a directory.
    fn meet(&mut self, directory: &RelPath, opened: &Dir, name: CString, steps: &mut Vec<Step>) {
        let Ok(path) = directory.join(name.to_bytes()) else {
            let name = name.to_bytes().escape_ascii();
            let word = format!("{name} in it: a path longer than the system allows");
            return self.summary.others.add(directory.clone(), word);
        };
        self.root.is_asked();
        let stat = match file::stat_at(opened, &name) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                let error = self.root.io_error(&path, error);
                return self.summary.unknown.add(path, error.to_string());
            }
        };
        let sort = meta::sort(&stat);
        if self.excludes.matches_itself(&path, sort == Sort::Dir) {
            return;
        }
        if self.root.is_foreign(&stat) {
            let error = TreeError::Elsewhere(self.root.place(&path));
            return self.summary.unknown.add(path, error.to_string());
        }
        match sort {
            Sort::Other(word) => self.summary.others.add(path, word),
            Sort::Dir | Sort::File | Sort::Symlink => {
                add_steps(steps, name.into_bytes(), sort, meta::seen(&stat));
            }
        }
    }
}

fn add_steps(steps: &mut Vec<Step>, name: Vec<u8>, sort: Sort, seen: Seen) {
    let inside = (sort == Sort::Dir).then(|| [&name, b"/".as_slice()].concat());
    steps.push(Step { name, shows: Some((sort, seen)) });
    steps.extend(inside.map(|name| Step { name, shows: None }));
}

impl Iterator for Walk<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            let level = self.levels.last_mut()?;
            let Some(step) = level.steps.next() else {
                self.levels.pop();
                continue;
            };
            let name = step.name.strip_suffix(b"/").unwrap_or(&step.name);
            // Was joined when it was met, so it can be.
            let Ok(path) = level.directory.join(name) else { continue };
            match step.shows {
                None => self.descend(path),
                Some((sort, seen)) => {
                    self.summary.names += 1;
                    return Some(Found { path, sort, seen });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
