//! The files of the site: those of /usr/share/doc, as on any Debian; where they were stripped, made ones.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::limits;
use crate::tree::{TreeSpec, generate};

/// Where real documents are found.
const SOURCE: &str = "/usr/share/doc";
/// Where they go, and where made files go, below the root.
const DOCUMENTS: &str = "doc";
const MADE: &str = "made";
/// Made files have so many bytes, on average; the seed is any.
const MADE_BYTES: u64 = 8 * 1024;
const MADE_SEED: u64 = 1;

/// What was put there.
#[derive(Debug, Default)]
pub(super) struct Filled {
    /// Regular files.
    pub files: usize,
    /// Those that can be asked for without an escape in the URL, and the hashes of their content.
    pub documents: BTreeMap<String, blake3::Hash>,
}

/// Fills an empty root.
pub(super) fn fill(root: &Path) -> io::Result<Filled> {
    let mut copy = Copy { filled: Filled::default(), bytes: 0 };
    copy.directory(Path::new(SOURCE), root, PathBuf::from(DOCUMENTS))?;
    let mut filled = copy.filled;
    if filled.files < limits::BED_SITE_FILES_MIN {
        let files = limits::BED_SITE_FILES_MIN - filled.files;
        let bytes = files as u64 * MADE_BYTES;
        let made = root.join(MADE);
        fs::create_dir(&made)?;
        generate(&made, &TreeSpec { files, bytes, seed: MADE_SEED, specials: false })?;
        filled.files += files;
    }
    Ok(filled)
}

struct Copy {
    filled: Filled,
    bytes: u64,
}

impl Copy {
    /// Copies directories, regular files and symlinks as they are, as far as there is room.
    fn directory(&mut self, from: &Path, root: &Path, to: PathBuf) -> io::Result<()> {
        fs::create_dir(root.join(&to))?;
        let entries = match fs::read_dir(from) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let (from, to) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.directory(&from, root, to)?;
            } else if kind.is_symlink() {
                symlink(fs::read_link(&from)?, root.join(&to))?;
            } else if kind.is_file() && self.has_room(entry.metadata()?.len()) {
                let content = fs::read(&from)?;
                fs::write(root.join(&to), &content)?;
                self.filled.files += 1;
                self.bytes += content.len() as u64;
                if let Some(name) = to.to_str().filter(|name| name.bytes().all(is_plain)) {
                    self.filled.documents.insert(name.to_owned(), blake3::hash(&content));
                }
            }
        }
        Ok(())
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.filled.files < limits::BED_SITE_FILES_MAX
            && bytes <= limits::BED_SITE_FILE_BYTES_MAX
            && self.bytes + bytes <= limits::BED_SITE_BYTES_MAX
    }
}

/// Stands for itself in the path of a URL (RFC 3986, section 3.3).
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~+".contains(&byte)
}
