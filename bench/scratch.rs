//! A directory of this run, removed with everything in it when it is dropped.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The directory.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one below the directory for temporary files. A name is used once in a run.
    ///
    /// # Errors
    /// It can't be made.
    pub fn new(name: &str) -> io::Result<Scratch> {
        let dir = format!("clusterd-bench-{}-{name}", std::process::id());
        let dir = std::env::temp_dir().join(dir);
        fs::DirBuilder::new().mode(0o700).create(&dir)?;
        Ok(Scratch(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            crate::say(&format!("{} is left behind: {error}", self.0.display()));
        }
    }
}
