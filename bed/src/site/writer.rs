//! The writer: a program of the group, which changes the site all the while on the node that serves.
//! It writes new pages, rewrites pages and documents, deletes pages, each change whole by a rename, and
//! has them synchronised now and then as a careful program would.
//!
//! What it does goes to a journal outside the site. A change is in it *before* it is made, so that no
//! version can be anywhere that the journal does not know; it was made for sure if the next line was
//! written. See [`super::ledger`] for who reads it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::time::{ClockId, clock_gettime};

use super::ledger::{Change, Line};
use super::page::Page;
use super::{JOURNAL, NAMES, PAGES, PID};
use crate::GROUP;
use crate::limits;
use clusterd::control::protocol::{Answer, Request};
use clusterd::control::socket;
use clusterd::sim::rng::Rng;

/// Its process name.
pub const COMM: &str = "bed-writer";
/// Where a page is made before it is moved to its place.
const NEW: &str = ".new-page";
/// Of a thousand changes of a page that is there, so many delete it.
const DELETED_PER_MILLE: u64 = 100;

/// Writes below `tree` until `stop` becomes true. `dir`: for the journal; `run_dir`: the daemon's.
///
/// # Errors
/// What the file system answers.
pub fn write(tree: &Path, dir: &Path, run_dir: &Path, stop: &AtomicBool) -> io::Result<()> {
    nix::sys::prctl::set_name(c"bed-writer")?;
    let names = fs::read_to_string(dir.join(NAMES))?;
    let names: Vec<String> = names.lines().map(str::to_owned).collect();
    let journal = Arc::new(File::options().append(true).create(true).open(dir.join(JOURNAL))?);
    put(&journal, &Line::Start)?;
    let made = Arc::new(AtomicU64::new(0));
    {
        let (run_dir, journal, made) = (run_dir.to_owned(), journal.clone(), made.clone());
        // It ends with the process: a call may take as long as the peer is away.
        std::thread::Builder::new()
            .name("bed-sync".into())
            .spawn(move || synchronise(&run_dir, &journal, &made))?;
    }
    // Only now: who started it waits for this.
    fs::write(dir.join(PID), format!("{}\n", std::process::id()))?;
    let mut writer = Writer { tree, journal: &journal, rng: Rng::new(clock()?) };
    while !stop.load(Ordering::SeqCst) {
        if let Some(name) = writer.rng.one_of(&names).cloned() {
            match writer.change(name) {
                Ok(number) => made.store(number, Ordering::SeqCst),
                // The disk is full: the change was not made. As after a start of the writer, nobody takes
                // it for sure.
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    put(&journal, &Line::Start)?;
                }
                Err(error) => return Err(error),
            }
        }
        std::thread::sleep(limits::BED_WRITE_EVERY);
    }
    put(&journal, &Line::End)
}

/// Nanoseconds of the clock that both nodes share, being one machine: versions of both can be compared.
fn clock() -> io::Result<u64> {
    let time = std::time::Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    u64::try_from(time.as_nanos()).map_err(io::Error::other)
}

/// One line, in one piece: two threads write.
fn put(mut journal: &File, line: &Line) -> io::Result<()> {
    journal.write_all(format!("{line}\n").as_bytes())
}

/// Has everything synchronised, again and again, and notes what was made before each call that
/// succeeded. Calls that are refused are for lack of a peer, or of a group that is in service here.
fn synchronise(run_dir: &Path, journal: &File, made: &AtomicU64) {
    let request = Request::Sync { group: GROUP.to_owned(), wait: true, from: None };
    loop {
        let before = made.load(Ordering::SeqCst);
        let answer = socket::ask(run_dir, &request, limits::CONTROL_LONG_PATIENCE);
        if matches!(answer, Ok(Answer::Ok(_))) && put(journal, &Line::Safe(before)).is_err() {
            // Without a journal the writer ends, too.
            return;
        }
        std::thread::sleep(limits::BED_SYNC_EVERY);
    }
}

struct Writer<'a> {
    tree: &'a Path,
    journal: &'a File,
    rng: Rng,
}

impl Writer<'_> {
    /// Makes one change; its number.
    fn change(&mut self, name: String) -> io::Result<u64> {
        let path = self.tree.join(&name);
        let found = match fs::read(&path) {
            Ok(bytes) => Some(Page::read(&bytes).map_or(0, |page| page.number)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let number = clock()?;
        let previous = found.unwrap_or(0);
        let page = Page { name, number };
        if found.is_some() && page.name.starts_with(PAGES) && self.rng.chance(DELETED_PER_MILLE) {
            put(self.journal, &Line::Change(Change { page, previous, is_delete: true }))?;
            fs::remove_file(path)?;
            return Ok(number);
        }
        let length = self.rng.below(limits::BED_PAGE_BYTES_MAX);
        let bytes = page.bytes(usize::try_from(length).unwrap_or_default());
        put(self.journal, &Line::Change(Change { page, previous, is_delete: false }))?;
        let new = self.tree.join(NEW);
        fs::write(&new, bytes)?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(new, path)?;
        Ok(number)
    }
}
