//! The socket's place in the file system, looked after by a thread: the heart's loop must not wait for a
//! file system.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::path;
use crate::limits;
use crate::sys::realtime::set_thread_priority;

/// A look now and then whether the socket is still there.
#[derive(Debug)]
pub(super) struct Door {
    /// Listeners that replace the one before, or why there is none.
    news: Receiver<Result<UnixListener, String>>,
    /// The thread ends when this is dropped.
    _open: Sender<()>,
}

impl Door {
    /// Makes the socket; one that nobody listens on any more is replaced.
    pub(super) fn open(run_dir: &Path) -> io::Result<(Door, UnixListener)> {
        let listener = bind(run_dir)?;
        let mut known = identity(run_dir)?;
        let (told, news) = bounded(1);
        let (open, over) = bounded::<()>(0);
        let run_dir = run_dir.to_owned();
        let mut trouble = None;
        let look = move || {
            // It shares the heart's heap: nothing may keep it from giving a lock of that back.
            let _ = set_thread_priority(limits::HEART_PRIORITY);
            while over.recv_timeout(limits::CONTROL_LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if identity(&run_dir).is_ok_and(|there| there == known) {
                    continue;
                }
                let made = make_directory(&run_dir).and_then(|()| bind(&run_dir));
                let made = made.and_then(|listener| Ok((listener, identity(&run_dir)?)));
                let new = match made {
                    Ok((listener, identity)) => {
                        (known, trouble) = (identity, None);
                        Ok(listener)
                    }
                    Err(error) => {
                        let why = format!("{}: {error}", path(&run_dir).display());
                        if trouble.as_ref() == Some(&why) {
                            continue;
                        }
                        trouble = Some(why.clone());
                        Err(why)
                    }
                };
                if told.send(new).is_err() {
                    return;
                }
            }
        };
        let thread = thread::Builder::new().name("control-door".to_owned());
        thread.stack_size(limits::HEART_THREAD_STACK_BYTES).spawn(look)?;
        Ok((Door { news, _open: open }, listener))
    }

    /// A socket that was made because the one before had gone.
    pub(super) fn made_anew(&self) -> Option<UnixListener> {
        match self.news.try_recv().ok()? {
            Ok(listener) => {
                log::warn!(
                    "the control socket was missing from the run directory; it was created again"
                );
                Some(listener)
            }
            Err(why) => {
                log::error!("the control socket is missing and cannot be created again: {why}");
                None
            }
        }
    }
}

/// Listens in `run_dir`, mode 0660.
fn bind(run_dir: &Path) -> io::Result<UnixListener> {
    let path = path(run_dir);
    if UnixStream::connect(&path).is_ok() {
        let words = format!("another daemon answers on {}", path.display());
        return Err(io::Error::new(ErrorKind::AddrInUse, words));
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    listener.set_nonblocking(true)?;
    fs::set_permissions(&path, Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Which socket is there: its device and inode.
fn identity(run_dir: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path(run_dir)).map(|there| (there.dev(), there.ino()))
}

/// As the daemon's start makes it.
fn make_directory(run_dir: &PathBuf) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o750).create(run_dir)
}
