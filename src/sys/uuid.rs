//! The UUID of a file system: it stays when the device gets another number.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `FS_IOC_GETFSUUID`: _IOR(0x15, 0, struct fsuuid2), in linux/fs.h since 6.9; most file systems.
const FS_IOC_GETFSUUID: libc::c_ulong = 0x8011_1500;
/// `struct fsuuid2`: a length, then the UUID.
const FSUUID2_BYTES: usize = 17;
/// `XFS_IOC_FSGEOMETRY_V1`: _IOR('X', 100, struct xfs_fsop_geom_v1), in every XFS since 2.6.
const XFS_IOC_FSGEOMETRY_V1: libc::c_ulong = 0x8070_5864;
/// `struct xfs_fsop_geom_v1`, and where the UUID is in it.
const XFS_GEOMETRY_BYTES: usize = 112;
const XFS_UUID_AT: usize = 64;

/// By the call for all file systems, of any file on it that is open for reading.
///
/// # Errors
/// ENOTTY: the kernel or the file system does not know the call, or the file system has no UUID.
pub fn uuid(file: impl AsFd) -> io::Result<[u8; 16]> {
    let mut found = [0u8; FSUUID2_BYTES];
    // SAFETY: the call writes a struct fsuuid2, which is as long as `found`.
    let result =
        unsafe { libc::ioctl(file.as_fd().as_raw_fd(), FS_IOC_GETFSUUID as _, found.as_mut_ptr()) };
    nix::errno::Errno::result(result)?;
    let [length, uuid @ ..] = found;
    if usize::from(length) == uuid.len() {
        Ok(uuid)
    } else {
        Err(io::ErrorKind::InvalidData.into())
    }
}

/// By XFS's own call, which older kernels have, too.
///
/// # Errors
/// ENOTTY: it is not XFS.
pub fn xfs_uuid(file: impl AsFd) -> io::Result<[u8; 16]> {
    let mut geometry = [0u8; XFS_GEOMETRY_BYTES];
    // SAFETY: the call writes a struct xfs_fsop_geom_v1, which is as long as `geometry`.
    let result = unsafe {
        let fd = file.as_fd().as_raw_fd();
        libc::ioctl(fd, XFS_IOC_FSGEOMETRY_V1 as _, geometry.as_mut_ptr())
    };
    nix::errno::Errno::result(result)?;
    let uuid = geometry.get(XFS_UUID_AT..).and_then(<[u8]>::first_chunk);
    uuid.copied().ok_or_else(|| io::ErrorKind::InvalidData.into())
}
