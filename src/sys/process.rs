//! Children of a process that must neither allocate nor wait: prepared in advance, started by fork and
//! exec, watched through a pidfd.

use std::convert::Infallible;
use std::ffi::{CStr, CString, OsString, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, kill, sigaction};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, execv};

use super::pidfd::PidFd;

/// A program with its arguments, environment and descriptors, ready to be started again and again
/// without allocating.
#[derive(Debug)]
pub struct Program {
    path: CString,
    argv: Texts,
    environment: Texts,
    inherited: Vec<OwnedFd>,
    /// The program itself, where the path names a descriptor.
    _file: Option<OwnedFd>,
}

/// Strings as execve(2) wants them. The pointers point into the strings' own heap memory, which stays
/// where it is when this struct moves.
#[derive(Debug)]
struct Texts {
    _strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Texts {
    fn new(strings: Vec<CString>) -> Texts {
        let ends_with = [std::ptr::null()];
        let pointers = strings.iter().map(|text| text.as_ptr()).chain(ends_with).collect();
        Texts { _strings: strings, pointers }
    }
}

impl Program {
    /// Prepares the program at `path` with `argv` (its first word is what `ps` shows as the program) in
    /// this process's environment plus `extra`. The child inherits `inherited` under their present numbers, and no other descriptor that is marked
    /// close-on-exec, which all of this program's are.
    ///
    /// # Errors
    /// A word with a NUL byte in it.
    pub fn new(
        path: &Path,
        argv: &[OsString],
        extra: &[(OsString, OsString)],
        inherited: Vec<OwnedFd>,
    ) -> io::Result<Program> {
        let text = |text: &OsString| CString::new(text.clone().into_vec()).map_err(io::Error::from);
        let argv = argv.iter().map(text).collect::<io::Result<Vec<_>>>()?;
        let environment = std::env::vars_os().chain(extra.iter().cloned()).map(|(name, value)| {
            let mut pair = name;
            pair.push("=");
            pair.push(value);
            text(&pair)
        });
        let environment = environment.collect::<io::Result<Vec<_>>>()?;
        let path = text(&path.as_os_str().to_owned())?;
        Ok(Program {
            path,
            argv: Texts::new(argv),
            environment: Texts::new(environment),
            inherited,
            _file: None,
        })
    }

    /// Prepares the program in an open file, as it was when it was opened. The rest is as with `new`.
    ///
    /// # Errors
    /// A word with a NUL byte in it.
    pub fn of_file(
        file: OwnedFd,
        argv: &[OsString],
        inherited: Vec<OwnedFd>,
    ) -> io::Result<Program> {
        let program = Program::new(&path_of(&file), argv, &[], inherited)?;
        Ok(Program { _file: Some(file), ..program })
    }

    /// Starts it in a process group of its own, with no signal blocked and none ignored (as `nohup` and a
    /// shell's `&` leave them), and does not wait for its exec (which reads a disk): if that fails, the child
    /// ends with status 127.
    ///
    /// # Errors
    /// No memory, or too many processes.
    pub fn start(&self) -> io::Result<Child> {
        let (argv, environment) = (&self.argv.pointers, &self.environment.pointers);
        // SAFETY: the child calls async-signal-safe functions only (see `exec`) and never returns.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: both arrays end with a null pointer, and they and their strings are alive.
            0 => unsafe { exec(&self.path, argv, environment, &self.inherited) },
            pid => Child::watch(Pid::from_raw(pid)),
        }
    }
}

/// The path by which this process and its children execute an open file.
fn path_of(file: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Becomes the program in an open file, which inherits these descriptors under their numbers.
///
/// # Errors
/// The file cannot be executed; this process is what it was, but the descriptors are not close-on-exec any more.
pub fn become_program(
    file: &OwnedFd,
    argv: &[OsString],
    inherited: &[OwnedFd],
) -> io::Result<Infallible> {
    for fd in inherited {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
    }
    let text = |text: &OsString| CString::new(text.clone().into_vec()).map_err(io::Error::from);
    let argv = argv.iter().map(text).collect::<io::Result<Vec<_>>>()?;
    let path = text(&path_of(file).into_os_string())?;
    Ok(execv(&path, &argv)?)
}

/// The standard signals (signal(7)); those above are real-time ones.
const SIGNALS: libc::c_int = 31;

/// # Safety
/// Only in a child between fork and exec; both arrays must end with a null pointer.
unsafe fn exec(
    path: &CStr,
    argv: &[*const c_char],
    environment: &[*const c_char],
    inherited: &[OwnedFd],
) -> ! {
    // SAFETY: only async-signal-safe system calls on plain values (signal-safety(7)); the caller
    // vouches for the arrays.
    unsafe {
        libc::setpgid(0, 0);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // Two of them cannot be changed, and need not be.
        for signal in 1..=SIGNALS {
            libc::signal(signal, libc::SIG_DFL);
        }
        for fd in inherited {
            libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0);
        }
        libc::execve(path.as_ptr(), argv.as_ptr(), environment.as_ptr());
        libc::_exit(127)
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Status(i32),
    /// By this signal.
    Signal(Signal),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "ended with status {status}"),
            Exit::Signal(signal) => write!(f, "was ended by {signal}"),
        }
    }
}

/// A child of this process.
#[derive(Debug)]
pub struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    exit: Option<Exit>,
}

impl Child {
    /// Watches a child of this process that was started in another way and is not yet waited for.
    ///
    /// # Errors
    /// It is no process, or there are too many open files.
    pub fn watch(pid: Pid) -> io::Result<Child> {
        let pidfd = PidFd::open(pid.as_raw())?.into();
        Ok(Child { pid, pidfd, exit: None })
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// How it ended; `None`: it runs. It has ended when its last thread has.
    pub fn exit(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, status)) => Some(Exit::Status(status)),
                Ok(WaitStatus::Signaled(_, signal, _)) => Some(Exit::Signal(signal)),
                // Not our child any more: somebody waited for it, so it has ended.
                Err(nix::errno::Errno::ECHILD) => Some(Exit::Status(127)),
                Ok(_) | Err(_) => None,
            };
        }
        self.exit
    }

    /// Sends it a signal, unless its end was already seen: then its number may be another's.
    pub fn signal(&self, signal: Signal) {
        if self.exit.is_none() {
            // The only possible error is that it has ended.
            let _ = kill(self.pid, signal);
        }
    }
}

impl AsFd for Child {
    /// Readable once it has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Makes these signals do nothing in this process. Programs that it starts get them as usual, unlike
/// with signals that are ignored or blocked.
///
/// # Errors
/// A signal that cannot be handled (SIGKILL, SIGSTOP).
pub fn shrug_off(signals: &[Signal]) -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::SA_RESTART, SigSet::empty());
    for &signal in signals {
        // SAFETY: the handler does nothing at all, so it is async-signal-safe.
        unsafe { sigaction(signal, &action)? };
    }
    Ok(())
}

/// Marks all descriptors but the standard three close-on-exec: ours are anyway, those that whoever
/// started the daemon left open are not.
///
/// # Errors
/// The kernel is older than 5.11 (close_range(2)).
pub fn keep_from_children() -> io::Result<()> {
    // SAFETY: nothing is closed here, and no pointers are taken.
    let done = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over a descriptor that the parent left open for this process under a known number.
///
/// # Errors
/// There is no such descriptor, its number is below 3 or above 66, or it was taken before.
pub fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let place = u32::try_from(number - 3).ok().filter(|place| *place < u64::BITS);
    let bit = 1 << place.ok_or(io::ErrorKind::InvalidInput)?;
    if TAKEN.fetch_or(bit, Ordering::SeqCst) & bit != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: fcntl with F_SETFD takes no pointers.
    if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and the parent left it there for this process to own; each only once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn shell(script: &str, inherited: Vec<OwnedFd>) -> Program {
        let argv = ["sh", "-c", script].map(OsString::from);
        let extra = [("GREETING".into(), "hello".into())];
        Program::new(Path::new("/bin/sh"), &argv, &extra, inherited).unwrap()
    }

    fn wait(child: &mut Child) -> Exit {
        let mut fds = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut fds, PollTimeout::from(30_000u16)).unwrap(), 1);
        child.exit().unwrap()
    }

    #[test]
    fn ends_are_seen_and_remembered() {
        let program = shell("exit 7", Vec::new());
        for _ in 0..2 {
            let mut child = program.start().unwrap();
            assert_eq!(wait(&mut child), Exit::Status(7));
            assert_eq!(child.exit(), Some(Exit::Status(7)));
        }
        let mut child = shell("sleep 1000", Vec::new()).start().unwrap();
        assert_eq!(child.exit(), None);
        child.signal(Signal::SIGKILL);
        assert_eq!(wait(&mut child), Exit::Signal(Signal::SIGKILL));
    }

    #[test]
    fn environment_and_descriptors_reach_the_child() {
        let (mut read, write) = std::io::pipe().unwrap();
        let script = format!("echo $GREETING >/proc/self/fd/{}", write.as_raw_fd());
        let mut child = shell(&script, vec![write.into()]).start().unwrap();
        assert_eq!(wait(&mut child), Exit::Status(0));
        let mut buffer = [0; 16];
        let length = std::io::Read::read(&mut read, &mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"hello\n");
    }

    #[test]
    fn a_program_that_does_not_exist_ends_with_127() {
        let path = Path::new("/nonexistent");
        let program = Program::new(path, &["x".into()], &[], Vec::new()).unwrap();
        assert_eq!(wait(&mut program.start().unwrap()), Exit::Status(127));
        Program::new(path, &["\0".into()], &[], Vec::new()).unwrap_err();
    }

    #[test]
    fn only_open_descriptors_can_be_taken_over() {
        take_inherited(0).unwrap_err();
        take_inherited(-1).unwrap_err();
        take_inherited(RawFd::MAX).unwrap_err();
    }
}
