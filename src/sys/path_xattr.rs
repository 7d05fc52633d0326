//! Extended attributes of a path, for the trees of the bed (xattr(7)). Symlinks are not followed.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sets an attribute, whether it was there or not.
///
/// # Errors
/// As setxattr(2).
pub fn set(path: &Path, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = text(path)?;
    // SAFETY: both texts end with a NUL, `value` has as many bytes as are said, all are alive.
    checked(unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    })
}

/// Removes an attribute.
///
/// # Errors
/// As removexattr(2): ENODATA if it is not there.
pub fn remove(path: &Path, name: &CStr) -> io::Result<()> {
    let path = text(path)?;
    // SAFETY: both texts end with a NUL and are alive.
    checked(unsafe { libc::lremovexattr(path.as_ptr(), name.as_ptr()) })
}

/// Whether an attribute is there.
///
/// # Errors
/// As getxattr(2).
pub fn has(path: &Path, name: &CStr) -> io::Result<bool> {
    let path = text(path)?;
    // SAFETY: both texts end with a NUL and are alive; with a size of 0 nothing is written.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) };
    if length >= 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENODATA) => Ok(false),
        error => Err(error),
    }
}
