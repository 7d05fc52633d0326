//! A conflict on its way from one node's store to the other's: the tree is written by its owner alone.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat, renameat};
use nix::sys::stat::Mode;
use nix::sys::statvfs::fstatvfs;
use nix::unistd::symlinkat;
use serde::{Deserialize, Serialize};

use super::{ABOUT, About, ConflictError, FILE, Id, Store, write_about_as};
use crate::limits;
use crate::mirror::meta;
use crate::mirror::staging_area::{self, errno};

/// A conflict that travels; the bytes of a file follow it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// What is known of it.
    pub about: About,
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// Where a symlink leads.
    pub target: Option<Vec<u8>>,
}

/// Gives the next bytes of a parcel's file.
pub type Source<'a> = dyn FnMut() -> Result<Vec<u8>, String> + 'a;

impl Store {
    /// A conflict as it travels, and its file.
    ///
    /// # Errors
    /// There is none, it is of a kind that does not travel, or the system refused.
    pub fn pack(&self, id: &str) -> Result<(Parcel, Option<File>), ConflictError> {
        let failed = |error: Errno| self.failed(id, error);
        let unknown = || ConflictError::Unknown(id.to_owned());
        let about = self.get(id).map_err(failed)?.ok_or_else(unknown)?;
        let mut parcel = Parcel { about, bytes: 0, target: None };
        if !parcel.about.has_file {
            return Ok((parcel, None));
        }
        let directory = staging_area::directory(self.directory.as_fd(), id).map_err(failed)?;
        match parcel.about.kind.as_str() {
            "file" => {
                let flags =
                    OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
                let file =
                    File::from(openat(&directory, FILE, flags, Mode::empty()).map_err(failed)?);
                parcel.bytes = file.metadata().map_err(|error| failed(errno(&error)))?.len();
                Ok((parcel, Some(file)))
            }
            "symlink" => {
                let target = readlinkat(&directory, FILE).map_err(failed)?;
                parcel.target = Some(target.into_vec());
                Ok((parcel, None))
            }
            other => Err(ConflictError::Failed(format!(
                "{} is a {other}, which is not sent to the other node: move the group to the node that \
                 keeps it, and restore it there",
                parcel.about.place()
            ))),
        }
    }

    /// Puts a parcel into this store, durably. Returns its id here.
    ///
    /// # Errors
    /// It is none that this store could have made, there is no room for it, or the system refused.
    pub fn unpack(&self, parcel: &Parcel, next: &mut Source<'_>) -> Result<String, ConflictError> {
        let Parcel { about, .. } = parcel;
        let damaged = || ConflictError::Failed("the other node sent something else".to_owned());
        let is_ours = about.tree == self.tree.display().to_string()
            && about.rel_path().is_some()
            && parcel.bytes <= limits::FILE_BYTES_MAX;
        let mut id = Id::read(&about.id).filter(|_| is_ours).ok_or_else(damaged)?;
        let failed = |error: Errno| self.failed(&about.id, error);
        self.has_room(parcel.bytes)?;
        while staging_area::stat_at(self.directory.as_fd(), id.to_string().as_str())
            .map_err(failed)?
            .is_some()
        {
            id = id.next();
        }
        let id = id.to_string();
        self.finish_new().map_err(failed)?;
        let new =
            staging_area::made_directory(self.directory.as_fd(), &self.new).map_err(failed)?;
        if about.has_file {
            self.unpack_file(&new, parcel, next)?;
        }
        let about = About { id: id.clone(), ..about.clone() };
        write_about_as(new.as_fd(), ABOUT, &about).map_err(failed)?;
        nix::unistd::syncfs(&self.directory).map_err(failed)?;
        renameat(&self.directory, self.new.as_str(), &self.directory, id.as_str())
            .map_err(failed)?;
        nix::unistd::fsync(&self.directory).map_err(failed)?;
        Ok(id)
    }

    fn unpack_file(
        &self,
        new: &OwnedFd,
        parcel: &Parcel,
        next: &mut Source<'_>,
    ) -> Result<(), ConflictError> {
        let Parcel { about, bytes, target } = parcel;
        let failed = |error: Errno| self.failed(&about.id, error);
        if let Some(target) = target {
            symlinkat(target.as_slice(), new, FILE).map_err(failed)?;
        } else {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let mode = Mode::S_IRUSR | Mode::S_IWUSR;
            let file = File::from(openat(new, FILE, flags, mode).map_err(failed)?);
            let in_file = |error: std::io::Error| failed(errno(&error));
            let mut at = 0u64;
            while at < *bytes {
                let some = next().map_err(ConflictError::Failed)?;
                let end = at.saturating_add(some.len() as u64);
                if some.is_empty() || end > *bytes {
                    return Err(ConflictError::Failed("the other node sent other bytes".into()));
                }
                // What was a hole may be one again.
                if some.iter().any(|&byte| byte != 0) {
                    file.write_all_at(&some, at).map_err(in_file)?;
                }
                at = end;
            }
            file.set_len(*bytes).map_err(in_file)?;
        }
        meta::set_at(new, FILE.as_bytes(), &about.metadata())
            .map_err(|error| ConflictError::Failed(format!("{}: {error}", about.place())))
    }

    /// As much as staging leaves free must be free afterwards, too.
    pub(super) fn has_room(&self, bytes: u64) -> Result<(), ConflictError> {
        let disk = fstatvfs(&self.directory)
            .map_err(|error| ConflictError::Failed(error.desc().to_owned()))?;
        let of_blocks = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
        let part = of_blocks(disk.blocks()) / limits::STAGE_RESERVE_PART;
        let reserve = limits::STAGE_RESERVE_BYTES.min(part);
        if of_blocks(disk.blocks_available()) < bytes.saturating_add(reserve) {
            return Err(ConflictError::Failed(format!(
                "no room: {bytes} bytes are needed on {}, beside {reserve} that stay free",
                self.tree.display()
            )));
        }
        Ok(())
    }
}

/// The pieces of a file in which it travels; it is read while others may write to it.
pub fn pieces(file: &File, bytes: u64) -> impl Iterator<Item = Result<Vec<u8>, String>> + '_ {
    let size = limits::PARCEL_PIECE_BYTES;
    let starts = std::iter::successors(Some(0u64), move |at| at.checked_add(size));
    starts.take_while(move |at| *at < bytes).map(move |at| {
        let length = size.min(bytes - at);
        let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
        file.read_exact_at(&mut piece, at).map_err(|error| error.to_string())?;
        Ok(piece)
    })
}
