//! Keys as rows of the database, and reading ranges of them piece by piece.
//!
//! A row is the tree's byte, then the path's: rows sort as keys do.

use std::ops::Bound;

use super::{ENTRIES, Index, IndexError};
use crate::limits;
use crate::mirror::entry::{Key, RelPath, Stored, TreeId};

/// The row of a key.
pub(super) fn row(key: &Key) -> Vec<u8> {
    [&[key.tree.0], key.path.as_bytes()].concat()
}

/// The key of a row; `None` if it is none.
pub(super) fn key(row: &[u8]) -> Option<Key> {
    let (tree, path) = row.split_first()?;
    Some(Key { tree: TreeId(*tree), path: RelPath::new(path).ok()? })
}

/// The bucket of a row.
pub(super) fn bucket(row: &[u8]) -> u8 {
    let [first, ..] = *blake3::hash(row).as_bytes();
    first
}

/// The row in the table that is sorted by bucket.
pub(super) fn in_bucket(row: &[u8]) -> Vec<u8> {
    [&[bucket(row)], row].concat()
}

/// A range of rows.
#[derive(Clone, Debug)]
pub(super) struct Span {
    from: Bound<Vec<u8>>,
    to: Bound<Vec<u8>>,
}

impl Span {
    /// As redb takes it.
    pub(super) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.from.as_ref().map(Vec::as_slice), self.to.as_ref().map(Vec::as_slice))
    }
}

/// All rows that begin with a byte end before this.
fn end_of(first: u8) -> Bound<Vec<u8>> {
    first.checked_add(1).map_or(Bound::Unbounded, |next| Bound::Excluded(vec![next]))
}

/// All rows of a tree.
pub(super) fn of_tree(tree: TreeId) -> Span {
    Span { from: Bound::Included(vec![tree.0]), to: end_of(tree.0) }
}

/// All rows below a directory, without its own.
pub(super) fn below(directory: &Key) -> Span {
    if directory.path.is_root() {
        return Span {
            from: Bound::Excluded(vec![directory.tree.0]),
            to: end_of(directory.tree.0),
        };
    }
    let row = row(directory);
    // '0' is the byte behind '/'.
    let to = Bound::Excluded([row.as_slice(), b"0"].concat());
    Span { from: Bound::Included([row.as_slice(), b"/"].concat()), to }
}

/// All rows of a bucket, in the table that is sorted by bucket, or those after a key of it.
pub(super) fn of_bucket(bucket: u8, after: Option<&Key>) -> Span {
    let from = match after {
        Some(after) => Bound::Excluded([[bucket].as_slice(), &row(after)].concat()),
        None => Bound::Included(vec![bucket]),
    };
    Span { from, to: end_of(bucket) }
}

/// A range of the index, in the order of keys. It ends after an error.
#[derive(Debug)]
pub struct Rows<'i> {
    index: &'i Index,
    span: Span,
    read: std::vec::IntoIter<(Key, Stored)>,
    ended: bool,
}

impl<'i> Rows<'i> {
    pub(super) fn new(index: &'i Index, span: Span) -> Rows<'i> {
        Rows { index, span, read: Vec::new().into_iter(), ended: false }
    }

    /// Reads the next piece, in a transaction that ends with it: a long one would keep every page that
    /// is written meanwhile from being freed.
    fn read_more(&mut self) -> Result<(), IndexError> {
        let index = self.index;
        let entries = index.read()?.open_table(ENTRIES).map_err(|error| index.fault(error))?;
        let (mut read, mut bytes) = (Vec::new(), 0);
        let mut last = None;
        for item in
            entries.range::<&[u8]>(self.span.bounds()).map_err(|error| index.fault(error))?
        {
            let (row, value) = item.map_err(|error| index.fault(error))?;
            let key = key(row.value());
            let key = key.ok_or_else(|| index.damaged("a name is none".to_owned()))?;
            bytes += row.value().len() + value.value().len();
            last = Some(row.value().to_vec());
            read.push((key, index.decode(value.value())?));
            if bytes >= limits::INDEX_ITER_BYTES {
                break;
            }
        }
        match last {
            Some(last) => self.span.from = Bound::Excluded(last),
            None => self.ended = true,
        }
        self.read = read.into_iter();
        Ok(())
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<(Key, Stored), IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.read.next() {
                return Some(Ok(row));
            }
            if self.ended {
                return None;
            }
            if let Err(error) = self.read_more() {
                self.ended = true;
                return Some(Err(error));
            }
        }
    }
}
