//! The judge of two trees: rsync, which has nothing in common with the mirror.
//!
//! It sees names, kinds, content, lengths, owners by number, modes, times of the last modification of
//! everything (directories and symlinks too) to the nanosecond, extended attributes, ACLs, symlink
//! targets, device numbers, and which names are of one file. It does not see holes (only the bytes
//! that they stand for), times of access or creation, attributes that only the kernel may set, and
//! inode flags (`chattr`).

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[cfg(test)]
mod tests;

/// Everything about files; nothing is changed, what is not the same is printed.
const COMPARE: [&str; 6] = [
    "-aHAXS",
    "--numeric-ids",
    "--modify-window=-1",
    "--dry-run",
    "--itemize-changes",
    // One list, so that names of one file are found wherever they are.
    "--no-inc-recursive",
];

/// Why two trees could not be judged.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// It is not there.
    #[error("rsync can't be run: {0}; install the package rsync")]
    NoRsync(io::Error),
    /// A root can't be found.
    #[error("{path}: {error}")]
    Root {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It could not compare.
    #[error("rsync failed: {0}")]
    Failed(String),
}

/// How `b` differs from `a`, one line for each name: what rsync(1) would change in `b`, as in its
/// `--itemize-changes`. Empty: they are the same. Names with odd bytes are escaped, so a name is one
/// line.
///
/// # Errors
/// rsync is missing, or could not read one of the trees.
pub fn differences(a: &Path, b: &Path) -> Result<Vec<String>, JudgeError> {
    let mut found = compare(a, b, &["--checksum", "--delete"])?;
    // It finds names that are one file in `a` and not in `b`. For the other way round it must be asked
    // the other way round; everything else it says then is known already.
    let back = compare(b, a, &[])?;
    found.extend(
        back.into_iter()
            .filter(|line| line.starts_with("hf"))
            .map(|line| format!("{line} (one file in the second tree only)")),
    );
    Ok(found)
}

fn compare(from: &Path, to: &Path, more: &[&str]) -> Result<Vec<String>, JudgeError> {
    let root = |path: &Path| match path.canonicalize() {
        // The slash means: what is in it, and itself.
        Ok(whole) => Ok(whole.join("")),
        Err(error) => Err(JudgeError::Root { path: path.to_path_buf(), error }),
    };
    let mut command = Command::new("rsync");
    command.args(COMPARE).args(more).arg("--").arg(root(from)?).arg(root(to)?);
    let output =
        command.env("LC_ALL", "C").stdin(Stdio::null()).output().map_err(JudgeError::NoRsync)?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(JudgeError::Failed(words));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}
