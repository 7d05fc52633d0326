//! Network namespaces without names: each is held by a descriptor, so the kernel removes it when its
//! last holder ends, even if that was killed (network_namespaces(7)).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, alive as long as this value or a process or socket in it.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    id: (u64, u64),
    /// A mount namespace that goes with it.
    mounts: Option<File>,
}

impl Namespace {
    /// Makes a new, empty one. Needs CAP_SYS_ADMIN, or a user namespace of one's own.
    ///
    /// # Errors
    /// As unshare(2).
    pub fn new() -> io::Result<Namespace> {
        let file = thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET)?;
                File::open("/proc/thread-self/ns/net")
            });
            made.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        })?;
        let metadata = file.metadata()?;
        Ok(Namespace { file, id: (metadata.dev(), metadata.ino()), mounts: None })
    }

    /// Gives it a view of the file system of its own, in which the directory `what` is seen at `place`,
    /// an existing directory, too.
    ///
    /// # Errors
    /// As unshare(2) and mount(2).
    pub fn see(&mut self, what: &Path, place: &Path) -> io::Result<()> {
        let file = thread::scope(|scope| {
            let made = scope.spawn(|| {
                own_mounts()?;
                let nothing: Option<&str> = None;
                mount(Some(what), place, nothing, MsFlags::MS_BIND, nothing)?;
                File::open("/proc/thread-self/ns/mnt")
            });
            made.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        })?;
        self.mounts = Some(file);
        Ok(())
    }

    /// Moves the calling thread into it for good. What this thread starts or opens is in it too. Not
    /// for the main thread: by that one the whole process is found in [`Namespace::holds`].
    ///
    /// # Errors
    /// As setns(2).
    pub fn enter(&self) -> io::Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)?;
        if let Some(mounts) = &self.mounts {
            unshare(CloneFlags::CLONE_FS)?;
            setns(mounts, CloneFlags::CLONE_NEWNS)?;
        }
        Ok(())
    }

    /// Runs `work` on a thread of its own in the namespace. Sockets that it makes and processes that
    /// it starts stay there.
    ///
    /// # Errors
    /// As setns(2); or `work` panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter()?;
                Ok(work())
            });
            worker.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
        })
    }

    /// Whether the process `pid` lives in it. A process that has ended lives nowhere.
    pub fn holds(&self, pid: i32) -> bool {
        std::fs::metadata(format!("/proc/{pid}/ns/net"))
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.id)
    }
}

/// Runs `work` on a thread with a view of the file system of its own: what it mounts is seen only by it, and
/// by those whose view is made from there. It is gone with the last of them, also if they are killed.
///
/// # Errors
/// As unshare(2) and mount(2); or `work` panicked.
pub fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            own_mounts()?;
            Ok(work())
        });
        worker.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
    })
}

/// The calling thread's mounts are its own from now on.
fn own_mounts() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let nothing: Option<&str> = None;
    // What is mounted here must not be seen elsewhere.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing)?;
    Ok(())
}

/// Makes the calling process root of a user namespace of its own, so that it may make network
/// namespaces without being root (user_namespaces(7)). Only while the process has one thread.
///
/// # Errors
/// As unshare(2); some systems forbid it.
pub fn enter_user_namespace() -> io::Result<()> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

impl AsRawFd for Namespace {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}
