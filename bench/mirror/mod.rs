//! Mirror: one tree is brought over a veth "crossover" to another namespace, changed in the ways of the
//! list, and brought over again: time, bytes on the wire, memory.
//!
//! | file | subject |
//! | --- | --- |
//! | `contender` | who brings trees over |
//! | `rsync` | rsync's daemon, as a contender |
//! | `work` | what is done to the tree |
//! | `meter` | bytes on the wire, memory |

mod contender;
mod meter;
mod rsync;
mod work;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clusterd::bed::BedError;
use clusterd::bed::judge::differences;

use crate::table::Table;
use crate::{BenchError, Setting, say};
use contender::Contender;
use work::{Field, Work};

/// How large the tree is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Regular files.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

/// Ends in some minutes.
const USUAL: Scale = Scale { files: 50_000, bytes: 1_000_000_000 };
/// With `--full`.
const FULL: Scale = Scale { files: 50_000, bytes: 6_300_000_000 };

/// Differences that are shown of one work.
const SHOWN_MAX: usize = 5;

struct Tables {
    time: Table,
    wire: Table,
    memory: Table,
}

/// Times, bytes and memory.
///
/// # Errors
/// No room, a contender or the judge failed, or somebody asked to stop.
pub fn run(setting: &Setting) -> Result<Vec<Table>, BenchError> {
    let scale = if setting.full { FULL } else { USUAL };
    require_room(&std::env::temp_dir(), scale)?;
    let size = format!("{} files, {} MB", scale.files, scale.bytes / 1_000_000);
    let title = |what| format!("Mirror: {what}; {size}: median (maximum)");
    let mut tables = Tables {
        time: Table::new(&title("time until the replica is the same, in ms")),
        wire: Table::new(&title("on the wire, both ways, in kB")),
        memory: Table::new(&title("most memory (RSS) of all processes at once, in MB")),
    };
    for contender in Contender::all() {
        measure(contender(setting)?, setting, scale, &mut tables)?;
    }
    tables.time.note(
        "From the end of the change until the contender says that it is done; caches are warm. rsync \
         runs with `-aHAXS --delete --numeric-ids --modify-window=-1` to its daemon and syncs nothing to \
         disk.",
    );
    tables.time.note(contender::MISSING);
    Ok(vec![tables.time, tables.wire, tables.memory])
}

fn measure(
    contender: Contender,
    setting: &Setting,
    scale: Scale,
    tables: &mut Tables,
) -> Result<(), BenchError> {
    let name = contender.name();
    say(&format!("mirror: {name}: the tree is made"));
    let [tree, replica] = contender.trees();
    let mut field = Field::make(&tree, scale)?;
    for work in Work::ALL {
        let rounds = if work == Work::FirstCopy { 1 } else { setting.rounds };
        for round in 1..=rounds {
            if setting.stop.load(Ordering::SeqCst) {
                return Err(BedError::Stopped.into());
            }
            let what = work.name(scale);
            say(&format!("mirror: {name}, round {round}: {what}"));
            let wire_before = contender.wire_bytes()?;
            field.apply(work)?;
            let mark = Instant::now();
            let ((done, took), memory) = meter::most_memory(contender.namespaces(), || {
                let done = contender.bring_over(work);
                (done, mark.elapsed())
            });
            done?;
            let wire = contender.wire_bytes()? - wire_before;
            tables.time.put(&what, name, milliseconds(took), false);
            tables.wire.put(&what, name, wire as f64 / 1e3, false);
            tables.memory.put(&what, name, memory as f64 / 1e6, false);
        }
        for line in differences(&tree, &replica)?.iter().take(SHOWN_MAX) {
            tables.time.note(&format!("{name}, {}, NOT THE SAME: `{line}`", work.name(scale)));
        }
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Two trees, and what a contender stages.
fn require_room(dir: &Path, scale: Scale) -> Result<(), BenchError> {
    const MB: u64 = 1_000_000;
    let disk = nix::sys::statvfs::statvfs(dir).map_err(BedError::from)?;
    let (free, need) = (disk.blocks_available() * disk.fragment_size() / MB, 3 * scale.bytes / MB);
    if free < need {
        return Err(BenchError::Room { dir: dir.to_path_buf(), free, need });
    }
    Ok(())
}
