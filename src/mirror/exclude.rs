//! What of a tree is not mirrored: globs relative to its root.
//!
//! `*` and `?` do not cross a slash, `**` does: `*.tmp` means those in the root, `**/*.tmp` those
//! everywhere. A pattern that matches a directory excludes everything below it; `cache/**` excludes
//! what is in `cache` and keeps the directory. One that ends with a slash matches directories only.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::entry::RelPath;

/// Why a pattern is refused.
#[derive(Debug, thiserror::Error)]
pub enum BadExclude {
    /// Empty, with a leading slash, or with an empty, `.` or `..` component.
    #[error(
        "`{0}` can never match: write the path as it is below the tree's root, without a leading slash, `.` or `..`"
    )]
    NeverMatches(String),
    /// No glob.
    #[error(transparent)]
    Glob(#[from] globset::Error),
}

/// The patterns of one tree.
#[derive(Clone, Debug)]
pub struct Excludes {
    any: GlobSet,
    directories: GlobSet,
}

impl Excludes {
    /// Reads the patterns.
    ///
    /// # Errors
    /// The first that is refused.
    pub fn new(patterns: &[String]) -> Result<Excludes, BadExclude> {
        let (mut any, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for pattern in patterns {
            let (path, set) = match pattern.strip_suffix('/') {
                Some(path) => (path, &mut directories),
                None => (pattern.as_str(), &mut any),
            };
            if path.split('/').any(|name| matches!(name, "" | "." | "..")) {
                return Err(BadExclude::NeverMatches(pattern.clone()));
            }
            set.add(GlobBuilder::new(path).literal_separator(true).build()?);
        }
        Ok(Excludes { any: any.build()?, directories: directories.build()? })
    }

    /// Whether this name is excluded, by itself or with a directory that it is in. The root never is.
    pub fn matches(&self, path: &RelPath, is_dir: bool) -> bool {
        let mut above = path.parent();
        self.matches_itself(path, is_dir)
            || std::iter::from_fn(|| {
                let directory = above.take()?;
                above = directory.parent();
                Some(directory)
            })
            .any(|directory| self.matches_itself(&directory, true))
    }

    /// As [`Excludes::matches`], where no directory above is excluded.
    pub(super) fn matches_itself(&self, path: &RelPath, is_dir: bool) -> bool {
        let name = Path::new(OsStr::from_bytes(path.as_bytes()));
        !path.is_root() && (self.any.is_match(name) || (is_dir && self.directories.is_match(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(bytes: &[u8]) -> RelPath {
        RelPath::new(bytes).unwrap()
    }

    fn excludes(patterns: &[&str]) -> Excludes {
        Excludes::new(&patterns.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn globs_are_relative_to_the_root() {
        let some = excludes(&["cache/**", "*.tmp", "**/*.bak", "build/", "a/*/c", "{x,y}[0-9]"]);
        for (name, is_dir, excluded) in [
            ("cache", true, false),
            ("cache/a", false, true),
            ("cache/a/b", false, true),
            ("www/cache/a", false, false),
            ("a.tmp", false, true),
            ("www/a.tmp", false, false),
            ("a.bak", false, true),
            ("www/deep/a.bak", false, true),
            ("build", true, true),
            ("build", false, false),
            ("build/a", false, true),
            ("a/b/c", false, true),
            ("a/b/c/d", false, true),
            ("a/b/b/c", false, false),
            ("x7", false, true),
            ("z7", false, false),
        ] {
            assert_eq!(some.matches(&path(name.as_bytes()), is_dir), excluded, "{name}");
        }
        assert!(!excludes(&["**", "*"]).matches(&RelPath::root(), true));
        assert!(excludes(&["**"]).matches(&path(b"a"), false));
        assert!(!excludes(&[]).matches(&path(b"a"), false));
    }

    #[test]
    fn names_need_not_be_text() {
        assert!(excludes(&["*.tmp"]).matches(&path(b"\xff\n.tmp"), false));
        assert!(excludes(&["a?"]).matches(&path(b"a\xff"), false));
        assert!(!excludes(&["a?"]).matches(&path(b"b\xff"), false));
    }

    #[test]
    fn what_can_never_match_is_refused() {
        for pattern in ["", "/", "/cache", "./a", "a/../b", "a//b", "a/.", "..", "a[", "{a"] {
            assert!(Excludes::new(&[pattern.to_owned()]).is_err(), "{pattern}");
        }
    }
}
