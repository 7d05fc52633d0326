//! Mirror: one tree is brought over a veth "crossover" to another namespace, changed in the ways of the
//! list, and brought over again: time, bytes on the wire, memory.
//!
//! | file | subject |
//! | --- | --- |
//! | `contender` | who brings trees over |
//! | `pair` | clusterd: a pair in the bed, as a contender |
//! | `rsync` | rsync's daemon, as a contender |
//! | `work` | what is done to the tree |
//! | `meter` | bytes on the wire, memory |

mod contender;
mod meter;
mod pair;
mod rsync;
mod work;

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clusterd_bed::BedError;
use clusterd_bed::judge::differences;

use crate::table::{Goal, Table};
use crate::{BenchError, Measured, Setting, Size, say};
use contender::{Brought, Contender};
use work::{Change, Field, Work};

/// How large the tree is.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Regular files.
    pub files: usize,
    /// Bytes in them.
    pub bytes: u64,
}

impl Scale {
    fn of(size: Size) -> Scale {
        match size {
            Size::Quick => Scale { files: 2_000, bytes: 200_000_000 },
            Size::Usual => Scale { files: 10_000, bytes: 1_000_000_000 },
            Size::Full => Scale { files: 50_000, bytes: 6_300_000_000 },
        }
    }
}

/// Differences that are shown of one work.
const SHOWN_MAX: usize = 5;
/// What clusterd may have resident, in MB.
const MEMORY_GOAL: Goal = Goal::AtMost(48.0);

struct Tables {
    time: Table,
    whole: Table,
    wire: Table,
    memory: Table,
    failed: usize,
}

/// Measures one contender after the other; what one cannot do does not keep the next from it.
///
/// # Errors
/// There is no room.
pub fn run(setting: &Setting) -> Result<Measured, BenchError> {
    let scale = Scale::of(setting.size);
    require_room(&std::env::temp_dir(), scale)?;
    let size = format!("{} files, {} MB", scale.files, scale.bytes / 1_000_000);
    let title = |what| format!("Mirror: {what}; {size}: median (maximum)");
    let mut tables = Tables {
        time: Table::new(&title(
            "time from the end of the change until the replica is the same, in ms",
        )),
        whole: Table::new(&title("time from the beginning of the change, in ms")),
        wire: Table::new(&title("IP packets on the crossover, both ways, in kB")),
        memory: Table::new(&title("most memory (RSS), in MB")),
        failed: 0,
    };
    let mut stopped = false;
    for start in contender::ALL {
        let done = start(setting)
            .and_then(|mut contender| measure(contender.as_mut(), setting, scale, &mut tables));
        match done {
            Ok(()) => {}
            Err(BenchError::Bed(BedError::Stopped)) => {
                stopped = true;
                break;
            }
            Err(error) => tables.note_failure(&error.to_string()),
        }
    }
    tables.time.note(
        "Until the contender says that it is done; caches are warm. clusterd: `sync --wait`, so all is \
         durable on both nodes; the first copy and the restart of the replica's daemon count from the \
         moment at which both daemons hear each other; the small file until its name leads to the new \
         content. rsync runs with `-aHAXS --delete --numeric-ids --modify-window=-1` to its daemon, starts \
         when the change is over, and syncs nothing to disk.",
    );
    tables.whole.note("rsync starts when the change is over; clusterd mirrors while it goes on.");
    tables.memory.note(
        "clusterd: the peaks (VmHWM) of both nodes' `clusterd-work`, added. rsync: all its processes of both \
         sides at the same moment.",
    );
    let Tables { time, whole, wire, memory, failed } = tables;
    let end = match (stopped, failed) {
        (true, _) => Err(BedError::Stopped.into()),
        (false, 0) => Ok(()),
        (false, failed) => Err(BenchError::Failed(failed)),
    };
    Ok(Measured { tables: vec![time, whole, wire, memory], plot: None, end })
}

fn measure(
    contender: &mut dyn Contender,
    setting: &Setting,
    scale: Scale,
    tables: &mut Tables,
) -> Result<(), BenchError> {
    let name = contender.name();
    say(&format!("mirror: {name}: the tree is made"));
    let [tree, replica] = contender.trees();
    let mut field = Field::make(&tree, scale)?;
    for work in Work::ALL {
        if !contender.can(work) {
            continue;
        }
        let what = work.name(scale);
        let rounds = work.rounds(setting.rounds);
        say(&format!("mirror: {name}, {rounds} x {what}"));
        for _ in 0..rounds {
            if setting.stop.load(Ordering::SeqCst) {
                return Err(BedError::Stopped.into());
            }
            match one(contender, &mut field, work) {
                Ok(seen) => tables.put(&what, name, work, scale, &seen),
                Err(BenchError::Bed(BedError::Stopped)) => return Err(BedError::Stopped.into()),
                // The next work may show more.
                Err(error) => {
                    tables.fail(&what, name, &error.to_string());
                    break;
                }
            }
        }
        let differences = differences(&tree, &replica)?;
        if !differences.is_empty() {
            let shown = differences.iter().take(SHOWN_MAX).map(|line| format!("`{line}`"));
            let shown = shown.collect::<Vec<_>>().join(", ");
            let why = format!("{} names are not the same: {shown}", differences.len());
            tables.fail(&what, name, &why);
        }
    }
    Ok(())
}

/// One work, measured.
struct Seen {
    change: Change,
    /// Time that the change itself took.
    changing: Duration,
    brought: Brought,
    wire: u64,
}

fn one(contender: &mut dyn Contender, field: &mut Field, work: Work) -> Result<Seen, BenchError> {
    contender.prepare()?;
    // What was written before this work is nobody's cost.
    field.write_back()?;
    let wire_before = contender.wire_bytes()?;
    let begin = Instant::now();
    let change = field.apply(work)?;
    let end = Instant::now();
    let brought = contender.bring_over(work, &change, end)?;
    let wire = contender.wire_bytes()?.saturating_sub(wire_before);
    Ok(Seen { change, changing: end - begin, brought, wire })
}

impl Tables {
    fn put(&mut self, what: &str, name: &str, work: Work, scale: Scale, seen: &Seen) {
        let Seen { change, changing, brought: Brought { took, memory }, wire } = seen;
        self.time.put(what, name, milliseconds(*took), false);
        self.whole.put(what, name, milliseconds(*changing + *took), false);
        self.wire.put(what, name, *wire as f64 / 1e3, false);
        self.memory.put(what, name, *memory as f64 / 1e6, false);
        self.time.ask(what, work.time_goal());
        self.wire.ask(what, work.wire_goal(scale, change));
        self.memory.ask(what, Some(MEMORY_GOAL));
    }

    fn fail(&mut self, what: &str, name: &str, why: &str) {
        for table in [&mut self.time, &mut self.whole, &mut self.wire, &mut self.memory] {
            table.fail(what, name);
        }
        self.note_failure(&format!("{name}, {what}: {why}"));
    }

    fn note_failure(&mut self, what: &str) {
        say(&format!("mirror: FAILED: {what}"));
        self.time.note(&format!("FAILED: {what}"));
        self.failed += 1;
    }
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
