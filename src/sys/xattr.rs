//! Extended attributes of the file behind a handle (xattr(7)). The calls go through the handle's path in
//! /proc, because those on descriptors refuse `O_PATH` handles.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;

use super::file::path_of;

/// First room for names or a value, in bytes: nearly all fit.
const ROOM_BYTES: usize = 1024;
/// Longest list of names and longest value that the kernel gives, in bytes: XATTR_LIST_MAX and
/// XATTR_SIZE_MAX of linux/limits.h.
const ROOM_BYTES_MAX: usize = 65536;

/// The names of all attributes, in no order. None where the file system has no attributes.
///
/// # Errors
/// As listxattr(2).
pub fn list(handle: impl AsFd) -> io::Result<Vec<CString>> {
    let path = link(&handle)?;
    let names = read(|buffer| {
        // SAFETY: the path ends with a NUL; the buffer is live and its true size is given.
        unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    });
    let names = match names {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    Ok(names
        .split_inclusive(|&byte| byte == 0)
        .filter_map(|name| CStr::from_bytes_with_nul(name).ok())
        .map(CStr::to_owned)
        .collect())
}

/// The value of an attribute; `None` if there is none of that name.
///
/// # Errors
/// As getxattr(2).
pub fn get(handle: impl AsFd, name: &CStr) -> io::Result<Option<Vec<u8>>> {
    let path = link(&handle)?;
    let value = read(|buffer| {
        let room = buffer.as_mut_ptr().cast();
        // SAFETY: path and name end with a NUL; the buffer is live and its true size is given.
        unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), room, buffer.len()) }
    });
    match value {
        Err(error) if error.raw_os_error() == Some(libc::ENODATA) => Ok(None),
        value => value.map(Some),
    }
}

/// Adds or replaces an attribute.
///
/// # Errors
/// As setxattr(2).
pub fn set(handle: impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    let path = link(&handle)?;
    // SAFETY: path and name end with a NUL; the value is live and its true size is given.
    let result = unsafe {
        libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Removes an attribute.
///
/// # Errors
/// As removexattr(2).
pub fn remove(handle: impl AsFd, name: &CStr) -> io::Result<()> {
    let path = link(&handle)?;
    // SAFETY: path and name end with a NUL.
    let result = unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn link(handle: &impl AsFd) -> io::Result<CString> {
    CString::new(path_of(handle).into_os_string().into_vec()).map_err(io::Error::other)
}

/// What `call` writes into a buffer; a second time with the largest one if the first was too small.
fn read(call: impl Fn(&mut [u8]) -> isize) -> io::Result<Vec<u8>> {
    let mut small = [0; ROOM_BYTES];
    if let Ok(length) = usize::try_from(call(&mut small)) {
        return Ok(small.get(..length).unwrap_or_default().to_vec());
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() != Some(libc::ERANGE) {
        return Err(error);
    }
    let mut large = vec![0; ROOM_BYTES_MAX];
    let length = usize::try_from(call(&mut large)).map_err(|_| io::Error::last_os_error())?;
    large.truncate(length);
    Ok(large)
}
