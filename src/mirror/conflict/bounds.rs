//! How much a store holds, and for how long.
//!
//! What was written on one node alone is nowhere else: it stays for [`limits::CONFLICT_KEPT_FOR`], however
//! much that is. After that the oldest go while the store is larger than it should be, and all after
//! [`limits::CONFLICT_KEPT_FOR_MAX`]. If nothing may go yet, a person is told instead. Only of one path that
//! changes again and again not every version is kept: the first one of a day, and the newest.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::renameat;
use nix::sys::statvfs::{Statvfs, fstatvfs};
use nix::unistd::fsync;

use super::{ABOUT, About, FILE, Id, Store, Why, ids, write_about_as};
use crate::limits;
use crate::mirror::staging_area;

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Conflicts.
    pub count: u64,
    /// Bytes on disk that are free when they are gone: what still has a name in the tree counts nothing.
    pub bytes: u64,
}

/// What [`Store::tidy`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// How many had their time, and were removed.
    pub removed: u64,
    /// More of them wait: to be called again soon.
    pub more: bool,
    /// What is left is more than it should be, or the disk is nearly full: in words, for a person.
    pub crowded: Option<String>,
}

impl Store {
    /// Removes what had its time, the oldest first; not more than a moment's worth of it.
    ///
    /// # Errors
    /// The system refused.
    pub fn tidy(&self, now: SystemTime) -> Result<Tidied, Errno> {
        self.tidy_to(now, limits::CONFLICTS_MAX)
    }

    pub(super) fn tidy_to(&self, now: SystemTime, count_max: u64) -> Result<Tidied, Errno> {
        let disk = fstatvfs(&self.directory)?;
        let bytes_max = room(&disk) / limits::CONFLICT_ROOM_PART;
        let ids = ids(self.directory.as_fd())?;
        let weights = ids.iter().map(|id| self.bytes_of(id)).collect::<Result<Vec<_>, _>>()?;
        let mut left = Weight { count: ids.len() as u64, bytes: weights.iter().sum() };
        let mut tidied = Tidied::default();
        for (id, bytes) in ids.iter().zip(weights) {
            let is_large = left.count > count_max || left.bytes > bytes_max;
            let patience = match is_large {
                true => limits::CONFLICT_KEPT_FOR,
                false => limits::CONFLICT_KEPT_FOR_MAX,
            };
            if !is_older(id, now, patience) {
                // Those after it are younger, but for what a wrong clock has named.
                continue;
            }
            if tidied.removed >= limits::CONFLICT_TIDY_MAX {
                tidied.more = true;
                break;
            }
            staging_area::remove_all(self.directory.as_fd(), id.to_string().as_bytes())?;
            tidied.removed += 1;
            left.count = left.count.saturating_sub(1);
            left.bytes = left.bytes.saturating_sub(bytes);
        }
        if tidied.removed > 0 {
            fsync(&self.directory)?;
        }
        self.remove_half_made(now)?;
        tidied.crowded = self.crowded(left, count_max, bytes_max, &disk);
        Ok(tidied)
    }

    /// What a command that was killed left half made: one more name of what is in the tree, or a directory
    /// without anything.
    fn remove_half_made(&self, now: SystemTime) -> Result<(), Errno> {
        let prefix = format!("{}-", super::NEW);
        for name in staging_area::names(self.directory.as_fd())? {
            if !name.starts_with(prefix.as_bytes()) {
                continue;
            }
            let Some(stat) = staging_area::stat_at(self.directory.as_fd(), name.as_slice())? else {
                continue;
            };
            let changed = Duration::from_secs(u64::try_from(stat.st_ctime).unwrap_or_default());
            let age = now.duration_since(SystemTime::UNIX_EPOCH + changed).unwrap_or_default();
            if age > limits::CONFLICT_HALF_MADE_FOR {
                staging_area::remove_all(self.directory.as_fd(), &name)?;
            }
        }
        Ok(())
    }

    fn bytes_of(&self, id: &Id) -> Result<u64, Errno> {
        let file = format!("{id}/{FILE}");
        let found = staging_area::stat_at(self.directory.as_fd(), file.as_str())?;
        let alone = found.filter(|stat| stat.st_nlink == 1 || staging_area::is_directory(stat));
        Ok(alone.map_or(0, |stat| u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512)))
    }

    fn crowded(
        &self,
        left: Weight,
        count_max: u64,
        bytes_max: u64,
        disk: &Statvfs,
    ) -> Option<String> {
        let reserve = limits::STAGE_RESERVE_BYTES.min(room(disk) / limits::STAGE_RESERVE_PART);
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        let why = if left.count > count_max || left.bytes > bytes_max {
            let days = limits::CONFLICT_KEPT_FOR.as_secs() / (24 * 3600);
            format!("what is younger than {days} days is not removed automatically")
        } else if free <= reserve.saturating_mul(2) && left.bytes > reserve {
            "its disk is nearly full, and nothing is removed automatically for that".to_owned()
        } else {
            return None;
        };
        Some(format!(
            "the conflict store of {} holds {} files and directories, {} MB; {why}: restore or drop them",
            self.tree.display(),
            left.count,
            left.bytes / 1_000_000
        ))
    }

    /// Of each path that changed too often on a day: removes the versions between the first and the newest
    /// ones, and counts them. Returns how many.
    ///
    /// # Errors
    /// The system refused.
    pub(in crate::mirror) fn thin(&self, now: SystemTime) -> Result<u64, Errno> {
        let mut by_path: BTreeMap<(String, String), Vec<Id>> = BTreeMap::new();
        for id in ids(self.directory.as_fd())? {
            by_path.entry((id.day.clone(), id.path.clone())).or_default().push(id);
        }
        let mut removed = 0;
        let often = |ids: &Vec<Id>| ids.len() > limits::CONFLICT_VERSIONS_MAX;
        for ids in by_path.into_values().filter(often) {
            // Two paths may have one hash.
            let mut versions: BTreeMap<String, Vec<About>> = BTreeMap::new();
            for id in ids {
                if let Ok(Some(about)) = self.get(&id.to_string())
                    && is_version(&about)
                {
                    versions.entry(about.path_hex.clone()).or_default().push(about);
                }
            }
            for versions in versions.into_values() {
                removed += self.thin_versions(versions, now)?;
            }
        }
        Ok(removed)
    }

    fn thin_versions(&self, versions: Vec<About>, now: SystemTime) -> Result<u64, Errno> {
        let surplus = versions.len().saturating_sub(limits::CONFLICT_VERSIONS_MAX);
        // Their numbers count on within a second: none of one that goes on may become free.
        let is_over = |about: &&About| {
            Id::read(&about.id).is_some_and(|id| is_older(&id, now, limits::CONFLICT_SECOND_OVER))
        };
        let over = versions.iter().skip(1).take_while(is_over).count();
        let surplus = surplus.min(over);
        let (Some(gone), Some(next)) = (versions.get(1..=surplus), versions.get(surplus + 1))
        else {
            return Ok(0);
        };
        if gone.is_empty() {
            return Ok(0);
        }
        let counted = gone.iter().map(|about| about.versions_removed.saturating_add(1));
        let mut next = next.clone();
        next.versions_removed = counted.fold(next.versions_removed, u64::saturating_add);
        self.rewrite(&next)?;
        for about in gone {
            self.remove(&about.id)?;
        }
        Ok(gone.len() as u64)
    }

    /// Says something else about a conflict: the old words or the new ones, also after a crash.
    fn rewrite(&self, about: &About) -> Result<(), Errno> {
        const NEXT: &str = "about.next";
        let directory = staging_area::directory(self.directory.as_fd(), &about.id)?;
        write_about_as(directory.as_fd(), NEXT, about)?
            .sync_data()
            .map_err(|e| staging_area::errno(&e))?;
        renameat(&directory, NEXT, &directory, ABOUT)
    }
}

/// Size of a file system, in bytes.
fn room(disk: &Statvfs) -> u64 {
    disk.blocks().saturating_mul(disk.fragment_size())
}

/// Whether it was kept longer ago than this. Of a clock that was far off nothing is known.
fn is_older(id: &Id, now: SystemTime, than: Duration) -> bool {
    let earliest = SystemTime::UNIX_EPOCH + limits::CONFLICT_CLOCK_MIN;
    let time = id.time().filter(|time| *time > earliest);
    let age = time.and_then(|time| now.duration_since(time).ok());
    age.is_some_and(|age| age > than)
}

/// Whether it is one of the versions that somebody wrote on the standby side; a person's or a crash's are
/// no routine.
fn is_version(about: &About) -> bool {
    let is_routine = match about.why {
        Why::Changed | Why::Created | Why::Deleted | Why::Metadata => true,
        Why::Unordered | Why::Replaced => false,
    };
    is_routine && about.generation.is_some()
}
