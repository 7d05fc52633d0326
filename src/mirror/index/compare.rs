//! Digests, by which two nodes find what differs between their indexes without telling everything.
//!
//! A bucket's digest is the sum of its entries' digests: a change of one entry changes it without a look
//! at the others, and equal buckets have equal digests whatever their history.

use super::{DIGESTS, Index, IndexError, SUMS, rows};
use crate::limits;
use crate::mirror::entry::{Digest, Key};

/// The bucket that a key belongs to, below [`limits::BUCKETS`]: the first byte of a BLAKE3 of it.
pub fn bucket_of(key: &Key) -> u16 {
    u16::from(rows::bucket(&rows::row(key)))
}

impl Index {
    /// The digest of the whole: equal indexes have equal digests.
    ///
    /// # Errors
    /// The store fails.
    pub fn digest(&self) -> Result<Digest, IndexError> {
        let mut hasher = blake3::Hasher::new_derive_key("clusterd 2026 mirror index");
        hasher.update(&self.len()?.to_le_bytes());
        for digest in self.bucket_digests()? {
            hasher.update(&digest);
        }
        let mut digest = [0; 16];
        hasher.finalize_xof().fill(&mut digest);
        Ok(digest)
    }

    /// The digests of all buckets, in order: [`limits::BUCKETS`] of them.
    ///
    /// # Errors
    /// The store fails.
    pub fn bucket_digests(&self) -> Result<Vec<Digest>, IndexError> {
        let sums = self.read()?.open_table(SUMS).map_err(|error| self.fault(error))?;
        let mut digests = Vec::with_capacity(limits::BUCKETS);
        for bucket in (0..=u16::MAX).take(limits::BUCKETS) {
            let sum = sums.get(bucket).map_err(|error| self.fault(error))?;
            digests.push(sum.map_or(0, |sum| sum.value()).to_le_bytes());
        }
        Ok(digests)
    }

    /// Up to `max` names of a bucket with the digests of their entries, in order, beginning after `after`;
    /// and whether there are more.
    ///
    /// # Errors
    /// The store fails.
    pub fn bucket_listing(
        &self,
        bucket: u16,
        after: Option<&Key>,
        max: usize,
    ) -> Result<(Vec<(Key, Digest)>, bool), IndexError> {
        // Above the last bucket there is nothing.
        let Ok(bucket) = u8::try_from(bucket) else { return Ok((Vec::new(), false)) };
        let digests = self.read()?.open_table(DIGESTS).map_err(|error| self.fault(error))?;
        let span = rows::of_bucket(bucket, after);
        let mut listing = Vec::new();
        for item in digests.range::<&[u8]>(span.bounds()).map_err(|error| self.fault(error))? {
            if listing.len() >= max {
                return Ok((listing, true));
            }
            let (row, digest) = item.map_err(|error| self.fault(error))?;
            let key = row.value().get(1..).and_then(rows::key);
            let key = key.ok_or_else(|| self.damaged("a name is none".to_owned()))?;
            listing.push((key, *digest.value()));
        }
        Ok((listing, false))
    }
}
