//! Puts and deletes within one transaction, with the sums of digests that follow from them.

use std::collections::BTreeMap;

use redb::{ReadableTable, Table, WriteTransaction};

use super::{DIGESTS, ENTRIES, Index, IndexError, SUMS, rows};
use crate::limits;
use crate::mirror::entry::{Digest, Key, Kind, Stored};

/// The tables of a transaction while they are changed.
pub(super) struct Editor<'t> {
    index: &'t Index,
    entries: Table<'t, &'static [u8], &'static [u8]>,
    digests: Table<'t, &'static [u8], &'static Digest>,
    sums: Table<'t, u16, u128>,
    changed: BTreeMap<u8, u128>,
}

impl<'t> Editor<'t> {
    pub(super) fn new(
        index: &'t Index,
        write: &'t WriteTransaction,
    ) -> Result<Editor<'t>, IndexError> {
        Ok(Editor {
            index,
            entries: write.open_table(ENTRIES).map_err(|error| index.fault(error))?,
            digests: write.open_table(DIGESTS).map_err(|error| index.fault(error))?,
            sums: write.open_table(SUMS).map_err(|error| index.fault(error))?,
            changed: BTreeMap::new(),
        })
    }

    pub(super) fn put(&mut self, key: &Key, stored: &Stored) -> Result<(), IndexError> {
        match stored.entry.as_ref().map(|entry| &entry.kind) {
            Some(Kind::Dir) | None => {}
            Some(Kind::File(_) | Kind::Symlink { .. } | Kind::Link { .. }) => {
                self.delete_below(key)?;
            }
        }
        let (row, digest) = (rows::row(key), stored.digest(key));
        let value = self.index.encode(stored)?;
        self.entries
            .insert(row.as_slice(), value.as_slice())
            .map_err(|error| self.index.fault(error))?;
        let old = self
            .digests
            .insert(rows::in_bucket(&row).as_slice(), &digest)
            .map_err(|error| self.index.fault(error))?
            .map(|old| *old.value());
        self.shift(rows::bucket(&row), old, Some(digest))
    }

    pub(super) fn delete(&mut self, key: &Key) -> Result<(), IndexError> {
        self.delete_below(key)?;
        self.delete_row(&rows::row(key))
    }

    fn delete_below(&mut self, key: &Key) -> Result<(), IndexError> {
        let span = rows::below(key);
        loop {
            let mut found = Vec::new();
            {
                let range = self.entries.range::<&[u8]>(span.bounds());
                let range = range.map_err(|error| self.index.fault(error))?;
                for item in range.take(limits::INDEX_DELETE_ROWS) {
                    let (row, _) = item.map_err(|error| self.index.fault(error))?;
                    found.push(row.value().to_vec());
                }
            }
            if found.is_empty() {
                return Ok(());
            }
            for row in found {
                self.delete_row(&row)?;
            }
        }
    }

    fn delete_row(&mut self, row: &[u8]) -> Result<(), IndexError> {
        self.entries.remove(row).map_err(|error| self.index.fault(error))?;
        let old = self
            .digests
            .remove(rows::in_bucket(row).as_slice())
            .map_err(|error| self.index.fault(error))?
            .map(|old| *old.value());
        self.shift(rows::bucket(row), old, None)
    }

    fn shift(
        &mut self,
        bucket: u8,
        minus: Option<Digest>,
        plus: Option<Digest>,
    ) -> Result<(), IndexError> {
        let number = |digest: Option<Digest>| digest.map_or(0, u128::from_le_bytes);
        let sum = match self.changed.get(&bucket) {
            Some(sum) => *sum,
            None => {
                let sum = self.sums.get(u16::from(bucket));
                sum.map_err(|error| self.index.fault(error))?.map_or(0, |sum| sum.value())
            }
        };
        self.changed.insert(bucket, sum.wrapping_sub(number(minus)).wrapping_add(number(plus)));
        Ok(())
    }

    /// Writes the sums; without it they would not fit the entries.
    pub(super) fn finish(mut self) -> Result<(), IndexError> {
        for (bucket, sum) in &self.changed {
            self.sums.insert(u16::from(*bucket), *sum).map_err(|error| self.index.fault(error))?;
        }
        Ok(())
    }
}
