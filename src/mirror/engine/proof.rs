//! Whether what was read of a small file is what `seen` will stand for.
//!
//! A store through a mapping moves a file's times only if it makes a clean page dirty. So the order is:
//! read, look, write back, read again. If look and content are the same as in the first reading, every
//! store that comes later finds clean pages, and shows.

use super::trees::Pass;
use crate::config;
use crate::mirror::entry::{Entry, Key, Kind, Stored};
use crate::mirror::hash::{self, HashError};
use crate::mirror::meta;

/// What became of a file since it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It is the same, and any change from now on shows.
    Final,
    /// It looks the same, and has another content.
    Changed,
}

/// Reads a small file once more, after its dirty pages were written back: by a syncfs(2) just now, or
/// here. `None`: it looks otherwise, it cannot be told, or it is too young to tell.
pub(super) fn prove(pass: &Pass<'_>, key: &Key, stored: &Stored, synced: bool) -> Option<Proof> {
    let (_, root) = pass.of(key)?;
    let Some(Entry { kind: Kind::File(content), .. }) = &stored.entry else { return None };
    let look = meta::look(root, &key.path).ok()??;
    if stored.seen != Some(look.seen) {
        return None;
    }
    let file = root.open_file(&key.path).ok()?;
    if !synced {
        hash::write_back(&file).ok()?;
    }
    match hash::content(&file, &look.seen, config::Hash::Read, 1) {
        Ok(here) if here == *content => look.settled.then_some(Proof::Final),
        Ok(_) => Some(Proof::Changed),
        Err(HashError::Changed | HashError::Io(_)) => None,
    }
}
