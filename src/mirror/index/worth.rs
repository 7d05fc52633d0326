//! What the copy here is worth, kept beside the index: a damaged index must cost a comparison of the trees,
//! never the knowledge whether this node may serve, or which directories its roots are.
//!
//! `<dir>/copy` is postcard behind a checksum, and is exchanged as a whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{CopyState, Position};
use crate::core::Generation;
use crate::limits;
use crate::mirror::entry::TreeId;

/// The first bytes: what it is, and the version of what follows.
const MAGIC: &[u8] = b"clusterd copy 1\n";
const SUM_BYTES: usize = 32;

/// What is kept. The position's commit is the one at the time of writing: only its generation counts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Worth {
    pub(super) copy: CopyState,
    pub(super) position: Option<Position>,
    pub(super) roots: BTreeMap<TreeId, (u64, u64)>,
}

impl Worth {
    /// The generation that the trees belong to.
    pub(super) fn generation(&self) -> Option<Generation> {
        let taken = self.position.map(|position| position.generation);
        [self.copy.of, taken].into_iter().flatten().max_by_key(|generation| generation.number)
    }

    /// The lesser of the two: on disagreement nobody serves by the better word. The roots are those of
    /// either.
    pub(super) fn lesser(self, other: Worth) -> Worth {
        let number = |worth: &Worth| worth.generation().map(|generation| generation.number);
        let disagree = self.generation() != other.generation();
        let same_number = number(&self) == number(&other);
        let mut roots = other.roots.clone();
        roots.extend(&self.roots);
        let complete = self.copy.complete && other.copy.complete;
        let lesser = match (disagree, same_number) {
            // Two histories under one number: it is not known which one the trees have.
            (true, true) => Worth::default(),
            (true, false) if number(&other) < number(&self) => other,
            (true | false, _) => self,
        };
        Worth { copy: CopyState { complete, ..lesser.copy }, position: lesser.position, roots }
    }
}

/// What was kept; `None`: nothing was. What cannot be understood is an error, `InvalidData`.
pub(super) fn load(path: &Path) -> io::Result<Option<Worth>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(limits::COPY_BYTES_MAX).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let parsed = bytes.strip_prefix(MAGIC).and_then(|rest| {
        let (sum, content) = rest.split_at_checked(SUM_BYTES)?;
        if blake3::hash(content) != *sum.first_chunk::<SUM_BYTES>()? {
            return None;
        }
        postcard::from_bytes(content).ok()
    });
    parsed.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Keeps it: the one before is there until the new one is durable.
pub(super) fn save(path: &Path, worth: &Worth) -> io::Result<()> {
    let content = postcard::to_allocvec(worth).map_err(io::Error::other)?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&[MAGIC, blake3::hash(&content).as_bytes(), &content].concat())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeIndex;

    fn generation(number: u32, id: u32) -> Generation {
        Generation { number, owner: NodeIndex::Lower, id }
    }

    fn owned(number: u32, id: u32) -> Worth {
        let copy =
            CopyState { complete: true, of: Some(generation(number, id)), ..CopyState::default() };
        Worth { copy, position: None, roots: [(TreeId(0), (1, 2))].into() }
    }

    #[test]
    fn what_was_kept_comes_back_and_garbage_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        assert_eq!(load(&path).unwrap(), None);
        save(&path, &owned(7, 1)).unwrap();
        assert_eq!(load(&path).unwrap(), Some(owned(7, 1)));
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x10;
            fs::write(&path, bytes).unwrap();
            assert_eq!(load(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{place}");
            fs::write(&path, &whole[..place]).unwrap();
            assert_eq!(load(&path).unwrap_err().kind(), io::ErrorKind::InvalidData, "{place}");
        }
    }

    #[test]
    fn p3_on_disagreement_the_lesser_word_counts() {
        let lesser = |one: Worth, other: Worth| one.lesser(other).generation();
        assert_eq!(lesser(owned(7, 1), owned(7, 1)), Some(generation(7, 1)));
        assert_eq!(lesser(owned(7, 1), owned(6, 2)), Some(generation(6, 2)));
        assert_eq!(lesser(owned(6, 2), owned(7, 1)), Some(generation(6, 2)));
        assert_eq!(lesser(owned(7, 1), Worth::default()), None);
        assert_eq!(lesser(owned(7, 1), owned(7, 2)), None);
        let incomplete = Worth { copy: CopyState::default(), ..owned(7, 1) };
        assert!(!owned(7, 1).lesser(incomplete).copy.complete);
    }
}
